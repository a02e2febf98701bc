"""`bifocal data embed` against transformers:  python check_embed.py PATH/bifocal

Small random CLIP pairs (also in OpenAI's names), SigLIP pairs, LLaVAs with either tower and towers alone. Columns must be transformers' embeddings, scaled
to length 1 and rounded to halves: every number within 2^-12, which is half a unit in the last place below 1. Needs sentencepiece and protobuf besides.
"""
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPVisionConfig, CLIPVisionModel, SiglipVisionConfig, SiglipVisionModel
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

import check_siglip
import small_clip
import small_llava
from check_probe import bifocal
from make_siglip_tokens import siglip_tokenizer

LIMIT = 2.0 ** -12 + 1e-6


def pack(program, data):
    """Pairs with a caption, packed; the pairs are written back so that others read the same."""
    pairs = [json.loads(line) for line in open(data / "pairs.jsonl")]
    pairs = [p for p in pairs if p.get("caption", p.get("text"))]
    with open(data / "pairs.jsonl", "w") as out, open(data / "captions.jsonl", "w") as captions:
        for i, p in enumerate(pairs):
            out.write(json.dumps(p) + "\n")
            captions.write(json.dumps({"id": str(i), "image": p["image"], "caption": p.get("caption", p.get("text"))}) + "\n")
    bifocal(program, "data", "pack", "--input", data / "captions.jsonl", "--image-root", data / "images", "--out", data / "shards", "--prefix", "s")


def column(data, name):
    return np.load(data / "shards" / "s-00000.columns" / f"{name}.npy").astype(np.float64)


def compare(what, ours, theirs):
    theirs = torch.nn.functional.normalize(theirs.double(), dim=-1).numpy()
    difference = np.abs(ours - theirs).max()
    print(f"{what}: {ours.shape[0]} rows of {ours.shape[1]}, largest difference {difference:.2e}")
    if not (ours.shape == theirs.shape and difference <= LIMIT and np.abs(np.linalg.norm(ours, axis=1) - 1).max() < 1e-3):
        raise SystemExit(f"{what}: differs")


def pair(program, what, folder, data, model, inputs):
    bifocal(program, "data", "embed", folder, "--name", what, "--quiet", data / "shards")
    with torch.no_grad():
        extra = {"attention_mask": (torch.arange(inputs["input_ids"].shape[1])[None] < inputs["lengths"][:, None]).long()} if "lengths" in inputs else {}
        out = model(input_ids=inputs["input_ids"].long(), pixel_values=inputs["pixel_values"], **extra)
    compare(f"{what} pictures", column(data, f"{what}.image"), out.image_embeds)
    compare(f"{what} texts", column(data, f"{what}.text"), out.text_embeds)


def pixels(data, siglip, side):
    pictures = [Image.open(data / "images" / json.loads(line)["image"]).convert("RGB") for line in open(data / "pairs.jsonl")]
    if siglip:
        return SiglipImageProcessorPil(size={"height": side, "width": side})(pictures, return_tensors="pt").pixel_values
    return CLIPImageProcessorPil(size={"shortest_edge": side}, crop_size={"height": side, "width": side})(pictures, return_tensors="pt").pixel_values


def llava(program, case, folder, data):
    words = small_llava.tokenizer(400)
    model = small_llava.make_model(case, words, 3)
    model.save_pretrained(folder)
    words.save_pretrained(folder)
    siglip, layer, select = case in small_llava.SIGLIP, small_llava.CASES[case][3], small_llava.CASES[case][4]
    bifocal(program, "data", "embed", folder, "--name", case, "--quiet", *([] if siglip else ["--image-fit", "crop"]), data / "shards")
    with torch.no_grad():
        hidden = model.model.vision_tower(pixels(data, siglip, small_llava.CASES[case][2][1]), output_hidden_states=True).hidden_states[layer]
    compare(f"LLaVA {case}", column(data, f"{case}.image"), (hidden if select == "full" else hidden[:, 1:]).mean(1))


def tower(program, what, model, folder, data, side):
    small_llava.randomise(model, torch.Generator().manual_seed(4)).save_pretrained(folder)
    bifocal(program, "data", "embed", folder, "--name", what, "--quiet", data / "shards")
    with torch.no_grad():
        out = model(pixels(data, "siglip" in what, side), output_hidden_states=True)
    compare(f"tower {what}", column(data, f"{what}.image"), out.pooler_output if out.pooler_output is not None else out.hidden_states[-1].mean(1))


def main(program):
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        data = scratch / "data"
        small_clip.make_pairs(data, 23, 5)
        pack(program, data)
        for case in ("b32", "l14_gelu", "openai"):
            model = small_clip.make_clip(case, 7)
            small_clip.save_clip(case, model, scratch / case)
            pair(program, case, scratch / case, data, model, small_clip.processed(case, data))
        for case in check_siglip.CASES:
            folder = scratch / f"siglip_{case}"
            kind = check_siglip.CASES[case][2]
            words = check_siglip.siglip2_tokenizer(folder) if kind == "siglip2" else siglip_tokenizer(folder, check_siglip.SHORT * 3)
            model = check_siglip.make_model(case, len(words), 9)
            model.save_pretrained(folder)
            words.save_pretrained(folder)
            pair(program, f"siglip_{case}", folder, data, model, check_siglip.processed(case, words, data))
        for case in ("llama", "llama_gqa_tied", "siglip", "siglip_last"):
            llava(program, case, scratch / f"llava_{case}", data)
        shape = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=2, image_size=32, patch_size=8)
        tower(program, "clip_tower", CLIPVisionModel(CLIPVisionConfig(**shape)), scratch / "clip_tower", data, 32)
        tower(program, "siglip_tower", SiglipVisionModel(SiglipVisionConfig(**shape)), scratch / "siglip_tower", data, 32)
        tower(program, "siglip_headless", SiglipVisionModel(SiglipVisionConfig(**shape, vision_use_head=False)), scratch / "siglip_headless", data, 32)


if __name__ == "__main__":
    main(sys.argv[1])
