"""Small random CLIPs in the layouts of Hugging Face and open_clip (OpenAI's names), pairs of pictures and captions, and
transformers' numbers for them. Used by check_probe_clip.py and make_probe_clip.py. Needs torch, transformers, pillow, safetensors."""
import json
import random
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTokenizer
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

TOKENS = Path(__file__).parent / "tokens" / "clip"
VOCAB = len(json.loads((TOKENS / "vocab.json").read_text()))
# name: vision (width, MLP, layers, heads, side, patch), text (width, MLP, layers, heads, positions), joint width, activation,
# layout, sigmoid loss
CASES = {
    "b32": ((48, 96, 3, 4, 64, 32), (32, 64, 2, 4, 77), 24, "quick_gelu", "hf", False),
    "l14_gelu": ((32, 64, 2, 2, 56, 14), (48, 80, 3, 3, 40), 40, "gelu", "hf", False),
    "narrow": ((16, 40, 1, 1, 42, 14), (24, 24, 1, 3, 16), 8, "quick_gelu", "hf", False),
    "sigmoid": ((32, 64, 2, 2, 32, 8), (32, 64, 2, 2, 48), 16, "gelu", "hf", True),
    "open_clip": ((32, 128, 2, 4, 48, 16), (24, 96, 2, 3, 77), 20, "gelu", "safetensors", False),
    "openai": ((32, 128, 2, 4, 56, 14), (24, 96, 2, 3, 77), 20, "quick_gelu", "bin", False),
}
WORDS = "a photograph of the red ball two dogs running along the beach watching birds in the evening train child 42 people's water".split()


def make_clip(case, seed, half=False):
    (vc, vi, vl, vh, side, patch), (tc, ti, tl, th, positions), joint, act, layout, sigmoid = CASES[case]
    # eos_token_id 2 is what OpenAI's published files say; it means the largest id.
    eos = 2 if seed % 2 else VOCAB - 1
    text = dict(hidden_size=tc, intermediate_size=ti, num_hidden_layers=tl, num_attention_heads=th, max_position_embeddings=positions,
                vocab_size=VOCAB, hidden_act=act, bos_token_id=VOCAB - 2, eos_token_id=eos, pad_token_id=1)
    vision = dict(hidden_size=vc, intermediate_size=vi, num_hidden_layers=vl, num_attention_heads=vh, image_size=side, patch_size=patch,
                  hidden_act=act)
    model = CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=joint))
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * (0.2 if p.dim() > 1 else 0.1)
            value = noise + (1.0 if "norm" in name and name.endswith("weight") else 2.0 if name == "logit_scale" else 0.0)
            p.copy_(value.half().float() if half else value)
    return model.eval()


def open_names(state, layers):
    """Hugging Face's tensors under OpenAI's names: q, k and v fused, the projections transposed."""
    names = {"logit_scale": "logit_scale", "visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection",
             "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
             "text_model.embeddings.position_embedding.weight": "positional_embedding",
             "vision_model.embeddings.class_embedding": "visual.class_embedding",
             "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
             "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding"}
    for end in ("weight", "bias"):
        names |= {f"text_model.final_layer_norm.{end}": f"ln_final.{end}", f"vision_model.pre_layrnorm.{end}": f"visual.ln_pre.{end}",
                  f"vision_model.post_layernorm.{end}": f"visual.ln_post.{end}"}
    out = {new: state[old].T if old.endswith("_projection.weight") else state[old] for old, new in names.items()}
    for side, block, count in (("text_model", "transformer", layers[0]), ("vision_model", "visual.transformer", layers[1])):
        for i in range(count):
            old, new = f"{side}.encoder.layers.{i}.", f"{block}.resblocks.{i}."
            for end in ("weight", "bias"):
                out[f"{new}attn.in_proj_{end}"] = torch.cat([state[f"{old}self_attn.{p}_proj.{end}"] for p in "qkv"])
                for theirs, ours in (("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                                     ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
                    out[f"{new}{theirs}.{end}"] = state[f"{old}{ours}.{end}"]
    return {n: t.contiguous().clone() for n, t in out.items()}


def save_clip(case, model, folder, bias=None):
    """The folder as its layout wants it, with CLIP's tokenizer of two files."""
    (vc, vi, vl, vh, side, patch), (tc, ti, tl, th, positions), joint, act, layout, sigmoid = CASES[case]
    folder.mkdir(parents=True, exist_ok=True)
    if layout == "hf":
        model.save_pretrained(folder)
        if sigmoid:  # only bifocal writes a CLIP with a bias
            config = json.loads((folder / "config.json").read_text()) | {"bifocal_logit_bias": True}
            (folder / "config.json").write_text(json.dumps(config, indent=2))
            save_file(model.state_dict() | {"logit_bias": torch.tensor(bias)}, folder / "model.safetensors", {"format": "pt"})
    else:
        tensors = open_names(model.state_dict(), (tl, vl))
        if layout == "bin":
            torch.save(tensors, folder / "open_clip_pytorch_model.bin")
        else:
            save_file(tensors, folder / "open_clip_model.safetensors", {"format": "pt"})
        (folder / "open_clip_config.json").write_text(json.dumps({
            "model_cfg": {"embed_dim": joint, "quick_gelu": act == "quick_gelu",
                          "vision_cfg": {"image_size": side, "layers": vl, "width": vc, "patch_size": patch, "head_width": vc // vh},
                          "text_cfg": {"context_length": positions, "vocab_size": VOCAB, "width": tc, "heads": th, "layers": tl}},
            "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}}, indent=2))
    for name in ("vocab.json", "merges.txt"):
        shutil.copy(TOKENS / name, folder / name)


def make_pairs(folder, count, seed, most=90):
    """count pairs: PNG and JPEG of odd sizes; a caption that is empty, and one that is longer than any tower."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    with open(folder / "pairs.jsonl", "w") as out:
        for i in range(count):
            coarse = noise.integers(0, 256, (rng.randint(3, 6), rng.randint(3, 6), 3), dtype=np.uint8)
            name = f"{i}.{'png' if i % 3 else 'jpg'}"
            Image.fromarray(coarse).resize((rng.randint(20, most), rng.randint(20, most)), Image.BICUBIC).save(folder / "images" / name)
            words = 0 if i == 1 else 90 if i == 2 else rng.randint(1, 9)
            text = " ".join(rng.choice(WORDS) for _ in range(words))
            out.write(json.dumps({"image": name, ("text", "caption")[i % 2]: text}) + "\n")


def processed(case, data):
    """What CLIPProcessor gives for the pairs: ids, lengths, pixel values."""
    side, positions = CASES[case][0][4], CASES[case][1][4]
    pairs = [json.loads(line) for line in open(data / "pairs.jsonl")]
    words = CLIPTokenizer.from_pretrained(TOKENS)
    text = words([p.get("caption", p.get("text")) for p in pairs], padding=True, truncation=True, max_length=positions, return_tensors="pt")
    images = CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    pixels = images([Image.open(data / "images" / p["image"]).convert("RGB") for p in pairs], return_tensors="pt").pixel_values
    return {"input_ids": text.input_ids.int(), "lengths": text.attention_mask.sum(1).int(), "pixel_values": pixels.float()}


def run_clip(model, inputs, bias=None):
    """transformers on these inputs: embeddings, logits and loss; gradients are left in the model, and that of the bias is in the result."""
    model.zero_grad()
    mask = (torch.arange(inputs["input_ids"].shape[1])[None] < inputs["lengths"][:, None]).long()
    out = model(input_ids=inputs["input_ids"].long(), attention_mask=mask, pixel_values=inputs["pixel_values"], return_loss=True)
    logits, loss, extra = out.logits_per_image, out.loss, {}
    if bias is not None:  # the sigmoid loss, written out
        b = torch.tensor(bias, requires_grad=True)
        logits = logits + b
        sign = 2 * torch.eye(len(logits)) - 1
        loss = -torch.nn.functional.logsigmoid(sign * logits).sum() / len(logits)
        loss.backward()
        extra["grad.logit_bias"] = b.grad
    else:
        loss.backward()
    return {"image_embeds": out.image_embeds.detach(), "text_embeds": out.text_embeds.detach(), "logits_per_image": logits.detach(),
            "loss": loss.detach().reshape(1)} | extra
