"""A tiny CLIP (float16) as transformers and as open_clip store it, four pairs, and what `bifocal probe --grad` must write for them: probe_clip/*.

Nothing here comes from bifocal: ids and pixels are CLIPTokenizer's and CLIPImageProcessor's, the rest CLIPModel's in float32. tests/cli/probe.sh
compares, with the tokenizer of tokens/clip.
"""
import shutil
from pathlib import Path

from safetensors.torch import save_file
from transformers.utils import logging

from small_clip import CASES, make_clip, make_pairs, processed, run_clip, save_clip

OUT = Path(__file__).parent / "probe_clip"
NUMBERS = ((16, 64, 1, 2, 16, 8), (16, 64, 1, 2, 12), 8, "quick_gelu")
GRADIENTS = ["logit_scale", "_projection", "position_embedding", "layer_norm1", "k_proj.weight", "class_embedding", "final_layer_norm"]


def main():
    logging.disable_progress_bar()
    shutil.rmtree(OUT, ignore_errors=True)
    CASES["hf"], CASES["open_clip"] = (*NUMBERS, "hf", False), (*NUMBERS, "safetensors", False)
    make_pairs(OUT, 4, seed=3, most=30)
    model = make_clip("hf", 1, half=True)
    tensors = processed("hf", OUT)
    tensors |= run_clip(model, tensors)
    tensors |= {"grad." + name: p.grad for name, p in model.named_parameters() if any(g in name for g in GRADIENTS)}
    save_file({k: v.contiguous() for k, v in tensors.items()}, OUT / "expected.safetensors")
    for case in ("hf", "open_clip"):
        save_clip(case, model.half(), OUT / case)
        for name in ("vocab.json", "merges.txt"):
            (OUT / case / name).unlink()
    sizes = {str(p.relative_to(OUT)): p.stat().st_size for p in sorted(OUT.rglob("*")) if p.is_file()}
    print(sizes, sum(sizes.values()), "bytes;", len(tensors), "tensors")


if __name__ == "__main__":
    main()
