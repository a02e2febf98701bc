"""`bifocal` on pairs of SigLIP against transformers, and back:  python check_siglip.py PATH/bifocal [CASE]...

A small random SiglipModel with its SiglipTokenizer (spiece.model), or with Siglip2Tokenizer (tokenizer.json), is opened by `bifocal probe`:
ids and pixels must be those of the tokenizer (padded to the end, or in front) and of SiglipImageProcessor, embeddings, logits, loss and the
gradient of every parameter SiglipModel's (relative L2 of each tensor at most 1e-4). `bifocal train` trains two steps from that folder, and
draws one from scratch; transformers opens what it wrote, with the same results. `import` must not change a bit. Needs sentencepiece and
protobuf besides.
"""
import json
import random
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from transformers import AutoTokenizer, SiglipConfig, SiglipModel
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil
from transformers.utils import logging

from check_probe import bifocal, far
from make_siglip_tokens import siglip_tokenizer
from make_tokenizer import PARAGRAPHS
from small_clip import WORDS, make_pairs

LIMIT = 1e-4
# name: vision (width, MLP, layers, heads, side, patch), text (width, MLP, layers, heads, positions), tokenizer
CASES = {
    "base": ((48, 96, 2, 3, 32, 8), (32, 64, 2, 4, 64), "siglip"),
    "so400m": ((144, 96, 3, 2, 46, 14), (40, 72, 1, 2, 16), "siglip"),  # 72 numbers a head, a rest of 4 pixels
    "left": ((24, 40, 2, 2, 16, 8), (24, 40, 2, 2, 24), "siglip2"),
}
SHORT = [line for line in PARAGRAPHS if line.isascii()]


def siglip2_tokenizer(folder):
    """Gemma's kind of BPE, made by hand: characters, and a few merges."""
    from transformers import Siglip2Tokenizer
    specials = ["<pad>", "<eos>", "<bos>", "<unk>", "<mask>"]
    singles = sorted(set("▁" + "".join(WORDS + SHORT).lower().replace(" ", "")))
    merges, vocab = [], specials + [f"<0x{i:02X}>" for i in range(256)] + singles
    for a, b in (("t", "h"), ("th", "e"), ("▁", "a"), ("▁", "the"), ("i", "n"), ("o", "n"), ("e", "r")):
        merges.append((a, b))
        vocab.append(a + b)
    words = Siglip2Tokenizer(vocab={w: i for i, w in enumerate(vocab)}, merges=merges, model_max_length=64)
    words.save_pretrained(folder)
    return words


def make_model(case, vocab, seed):
    (vc, vi, vl, vh, side, patch), (tc, ti, tl, th, positions), _ = CASES[case]
    config = SiglipConfig(vision_config=dict(hidden_size=vc, intermediate_size=vi, num_hidden_layers=vl, num_attention_heads=vh,
                                             image_size=side, patch_size=patch),
                          text_config=dict(hidden_size=tc, intermediate_size=ti, num_hidden_layers=tl, num_attention_heads=th,
                                           max_position_embeddings=positions, vocab_size=vocab, projection_size=vc))
    model, generator = SiglipModel(config), torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * (0.2 if p.dim() > 1 else 0.1)
            shift = 1.0 if "norm" in name and name.endswith("weight") else {"logit_scale": 1.5, "logit_bias": -1.0}.get(name, 0.0)
            p.copy_(noise + shift)
    return model.eval()


def processed(case, words, data):
    side, positions, kind = CASES[case][0][4], CASES[case][1][4], CASES[case][2]
    pairs = [json.loads(line) for line in open(data / "pairs.jsonl")]
    texts = [p.get("caption", p.get("text")) for p in pairs]
    # Siglip2Tokenizer adds no end of a text by itself here; SigLIP 2's own files do it by their post-processor.
    if kind == "siglip2":
        rows = [words(t, add_special_tokens=False).input_ids[:positions - 1] + [words.eos_token_id] for t in texts]
        ids = torch.tensor([[words.pad_token_id] * (positions - len(r)) + r for r in rows])
    else:
        ids = words(texts, padding="max_length", truncation=True, max_length=positions, return_tensors="pt").input_ids
    images = SiglipImageProcessorPil(size={"height": side, "width": side})
    pixels = images([Image.open(data / "images" / p["image"]).convert("RGB") for p in pairs], return_tensors="pt").pixel_values
    return {"input_ids": ids.int(), "pixel_values": pixels.float()}


def forward(program, folder, data, inputs):
    bifocal(program, "probe", folder, data / "pairs.jsonl", "--image-root", data / "images", "--out", data / "out", "--grad")
    probe, model = load_file(data / "out"), SiglipModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    for key, most in (("input_ids", 0), ("pixel_values", 0)):
        difference = (probe[key].double() - inputs[key].double()).abs().max().item()
        if not difference <= most:
            raise SystemExit(f"{folder}: {key} differ by {difference}\n{probe[key]}\n{inputs[key]}")
    out = model(input_ids=inputs["input_ids"].long(), pixel_values=inputs["pixel_values"], return_loss=True)
    out.loss.backward()
    want = {"image_embeds": out.image_embeds, "text_embeds": out.text_embeds, "logits_per_image": out.logits_per_image,
            "loss": out.loss.reshape(1)}
    worst, parameters = {k: far(probe[k], v.detach()) for k, v in want.items()}, dict(model.named_parameters())
    gradients = {}
    for name, p in parameters.items():
        ours, theirs = probe["grad." + name].reshape(p.shape), p.grad
        if name == "logit_scale":  # a sum of terms of both signs that may cancel
            gradients[name] = (ours - theirs).abs().item() / want["logits_per_image"].abs().mean().item()
        elif name.endswith("k_proj.bias"):  # zero but for rounding
            gradients[name] = max(ours.norm().item(), theirs.norm().item()) / parameters[name[:-4] + "weight"].grad.norm().item()
        elif name.endswith("in_proj_bias"):  # its middle third likewise
            c = len(theirs) // 3
            gradients[name] = max(far(ours[:c], theirs[:c]), far(ours[2 * c:], theirs[2 * c:]), ours[c:2 * c].norm().item())
        else:
            gradients[name] = far(ours, theirs)
    extra = sorted(k for k in probe if k.startswith("grad.") and k[5:] not in gradients)
    if extra:
        raise SystemExit(f"{folder}: gradients of nothing: {extra}")
    at = max(gradients, key=gradients.get)
    return worst | {f"{len(gradients)} gradients, {at}": gradients[at]}


def train(program, data, out, model, tokenizer, positions):
    if not (data / "shards").exists():
        bifocal(program, "data", "pack", "--input", data / "train.jsonl", "--image-root", data / "images", "--out", data / "shards",
                "--prefix", "s")
    recipe = data / "clip.yaml"
    recipe.write_text(f"""stage: clip
output: {out}
threads: 2
model: {model}
clip: {{loss: sigmoid, patch_dropout: 0.3}}
data: {{shards: [{data / 'shards'}], tokenizer: {tokenizer}, max_tokens: {positions}}}
batch: {{samples: 8, micro_tokens: 4096}}
train: {{steps: 2, checkpoint_every: 0, log_every: 0}}
optimizer: {{lr: 1.0e-3, warmup_steps: 1}}
""")
    bifocal(program, "train", recipe)
    return max(out.glob("step_*"))


def check(program, case, scratch):
    folder, data, seed = scratch / case, scratch / (case + ".data"), len(case)
    (vc, vi, vl, vh, side, patch), (tc, ti, tl, th, positions), kind = CASES[case]
    words = siglip2_tokenizer(folder) if kind == "siglip2" else siglip_tokenizer(folder, SHORT * 3)
    make_model(case, len(words), seed).save_pretrained(folder)
    make_pairs(data, 13, seed)
    with open(data / "pairs.jsonl", "a") as out:
        out.write(json.dumps({"image": "0.jpg",
                              "caption": "  Two  DOGS, on the beach!?\t (the dog's_ball) -- \u00c9T\u00c9 \u039f\u0394\u039f\u03a3.  "}) + "\n")
    lines = open(data / "pairs.jsonl").readlines()
    (data / "train.jsonl").write_text("".join(l.replace('"text"', '"caption"') for i, l in enumerate(lines) if i != 1))
    inputs = processed(case, words, data)
    scratch_model = (f"{{vit: {{family: siglip, hidden: {vc}, inner: {vi}, layers: {vl}, heads: {vh}, image: {side}, patch: {patch}}}, "
                     f"text: {{hidden: {tc}, inner: {ti}, layers: {tl}, heads: {th}, positions: {positions}}}}}")
    for what in ("from transformers", "imported", "trained from it", "from scratch"):
        place = folder
        if what == "imported":
            place = scratch / (case + ".imported")
            bifocal(program, "import", folder, place)
            a, b = load_file(folder / "model.safetensors"), load_file(place / "model.safetensors")
            if set(a) != set(b) or any(not torch.equal(a[k], b[k]) for k in a):
                raise SystemExit(f"{place}: other tensors")
        elif what != "from transformers":
            model = f"{{init: {folder}}}" if what == "trained from it" else scratch_model
            place = train(program, data, scratch / f"{case}.{what.split()[-1]}", model, folder, positions)
            if AutoTokenizer.from_pretrained(place)(" ".join(WORDS)).input_ids != words(" ".join(WORDS)).input_ids:
                raise SystemExit(f"{place}: AutoTokenizer gives other ids")
        worst = forward(program, place, data, inputs)
        ok = all(v <= LIMIT for v in worst.values())
        print(f"{case:8} {what:18}", "  ".join(f"{k} {v:.1e}" for k, v in worst.items()), "" if ok else "  <-- DIFFERS", flush=True)
        if not ok:
            return False
    return True


def main():
    torch.set_num_threads(2)
    random.seed(0), np.random.seed(0)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    cases = sys.argv[2:] or list(CASES)
    with tempfile.TemporaryDirectory() as scratch:
        results = [check(str(Path(sys.argv[1]).resolve()), case, Path(scratch)) for case in cases]
    raise SystemExit(0 if all(results) else 1)


if __name__ == "__main__":
    main()
