"""A tiny LLaVA folder of transformers (float16), three samples, and what `bifocal probe --grad` must write for them:
probe/*. The same for a decoder alone (Qwen3, tied head) and the sample without pictures: probe_lm/*.

Nothing here comes from bifocal: ids and labels are laid out by hand after data/chat.h, pictures are padded and resized
with Pillow, and logits, loss and gradients are transformers' (fp32, eager). tests/cli/probe.sh compares.
"""
import json
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers.utils import logging

from small_llava import CASES, make_decoder, make_model, randomise, run_probe_inputs, table_name, tokenizer

OUT, ALONE = Path(__file__).parent / "probe", Path(__file__).parent / "probe_lm"
SIDE, MEAN, STD = 16, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
SAMPLES = [
    {"id": "0", "image": ["b.png", "a.png"], "conversations": [
        {"from": "human", "value": "<image>\n<image>\nare there two?"}, {"from": "gpt", "value": "yes"}]},
    {"id": "1", "image": "a.png", "conversations": [
        {"from": "human", "value": "<image>\nwhat is this?"}, {"from": "gpt", "value": "red"},
        {"from": "human", "value": "is it a circle?"}, {"from": "gpt", "value": "no"}]},
    {"id": "2", "conversations": [
        {"from": "human", "value": "what is blue?"}, {"from": "gpt", "value": "a small circle"}]},
]
LOGIT_ROWS = 32  # kept of the logits: the file stays small, and the loss sees the other rows
GRADIENTS = ["embed_tokens", "layers.0.self_attn.k_proj.weight", "layers.1.mlp.down_proj", "layers.1.input_layernorm",
             "language_model.model.norm", "multi_modal_projector.linear_1", "patch_embedding", "layers.0.self_attn.q_proj.bias", "class_embedding"]


def lay_out(words, sample, per_image):
    """vicuna_v1 with an empty system text: BOS USER: <image>..\\nq ASSISTANT:| a EOS, the answer and EOS supervised."""
    image = words.convert_tokens_to_ids("<image>")
    ids, labels = [words.bos_token_id], [-100]
    for human, gpt in zip(sample["conversations"][::2], sample["conversations"][1::2]):
        pieces = ("USER: " + human["value"] + " ASSISTANT:").split("<image>")
        for k, piece in enumerate(pieces):
            prompt = ([image] * per_image if k > 0 else []) + words.encode(piece, add_special_tokens=False)
            ids += prompt
            labels += [-100] * len(prompt)
        answer = words.encode(" " + gpt["value"], add_special_tokens=False) + [words.eos_token_id]
        ids += answer
        labels += answer
    return ids, labels


def pixels(path):
    """LLaVA's padding to a square with the mean colour, then CLIP's resize and normalisation."""
    image = Image.open(path).convert("RGB")
    side = max(image.size)
    square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in MEAN))
    square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    x = np.asarray(square.resize((SIDE, SIDE), Image.BICUBIC), dtype=np.float32) / 255.0
    return torch.from_numpy((x - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)


def packed(encoded):
    return {"input_ids": torch.tensor(sum((e[0] for e in encoded), []), dtype=torch.int32),
            "labels": torch.tensor(sum((e[1] for e in encoded), []), dtype=torch.int32),
            "cu_seqlens": torch.cumsum(torch.tensor([0] + [len(e[0]) for e in encoded]), 0).to(torch.int32)}


def write(out, tensors, model, words):
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "expected.safetensors")
    model.half().save_pretrained(out)
    words.save_pretrained(out)
    (out / "tokenizer_config.json").unlink()
    sizes = {p.name: p.stat().st_size for p in sorted(out.rglob("*")) if p.is_file()}
    print(sizes, sum(sizes.values()), "bytes;", len(tensors), "tensors of", len(tensors["input_ids"]), "tokens")


def make_alone(words):
    ALONE.mkdir(exist_ok=True)
    samples = [SAMPLES[2], {"conversations": SAMPLES[1]["conversations"][2:]}]
    (ALONE / "samples.jsonl").write_text("".join(json.dumps(sample) + "\n" for sample in samples))
    model = make_decoder("qwen3_tied", words, 1, dict(hidden_size=16, intermediate_size=24))
    randomise(model, torch.Generator().manual_seed(2), half=True)
    tensors = packed([lay_out(words, sample, 0) for sample in samples])
    logits, tensors["loss"] = run_probe_inputs(model, tensors)
    tensors["logits"] = logits[:LOGIT_ROWS // 2]
    tensors |= {"grad." + name: p.grad for name, p in model.named_parameters() if "layers.1." not in name}
    write(ALONE, tensors, model, words)


def main():
    logging.disable_progress_bar()
    (OUT / "images").mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(5)
    for name, size in (("a.png", (SIDE, SIDE)), ("b.png", (23, 12))):
        Image.fromarray(noise.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(OUT / "images" / name)
    with open(OUT / "samples.jsonl", "w") as out:
        out.writelines(json.dumps(sample) + "\n" for sample in SAMPLES)
    words = tokenizer(300)
    CASES["golden"] = CASES["qwen2_gqa_tied"][:2] + ((2, SIDE, 8), -2, "full", False)
    model = make_model("golden", words, 1, *[dict(hidden_size=16, intermediate_size=24)] * 2)
    randomise(model, torch.Generator().manual_seed(1), half=True)
    tensors = packed([lay_out(words, sample, model.config.image_seq_length) for sample in SAMPLES])
    tensors["pixel_values"] = torch.stack([pixels(OUT / "images" / name) for name in ("b.png", "a.png", "a.png")])
    logits, tensors["loss"] = run_probe_inputs(model, tensors)
    tensors["logits"] = logits[:LOGIT_ROWS]
    for name, p in model.named_parameters():
        if p.grad is not None and any(wanted in table_name(name) for wanted in GRADIENTS):
            tensors["grad." + table_name(name)] = p.grad
    write(OUT, tensors, model, words)
    make_alone(words)


if __name__ == "__main__":
    main()
