"""What transformers makes of the folders that `bifocal export` writes: every tensor found and equal to the bit.

    python check_layouts.py PROGRAM [FOLDER]      FOLDER: a LLaVA in any layout (golden/layouts/hf_old)
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import torch
from transformers import CLIPVisionModel, LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration

program = sys.argv[1]
source = sys.argv[2] if len(sys.argv) > 2 else str(Path(__file__).parent / "layouts" / "hf_old")
want = LlavaForConditionalGeneration.from_pretrained(source, dtype="auto").state_dict()


def check(name, kind, folder, prefix, **extra):
    model, info = kind.from_pretrained(folder, output_loading_info=True, dtype="auto", **extra)
    left = [n for n in info["unexpected_keys"] if "mm_projector" not in n]
    assert not info["missing_keys"] and not left and not info["mismatched_keys"], info
    got = model.state_dict()
    for n, t in got.items():
        w = want[prefix(n)]
        assert w.dtype == t.dtype and torch.equal(w, t), n
    print(f"{name}: {kind.__name__}, {len(got)} tensors equal")


with tempfile.TemporaryDirectory() as folder:
    for layout in ("hf", "hf-old", "llava"):
        subprocess.run([program, "export", "--format", layout, source, f"{folder}/{layout}"], check=True)
    for layout in ("hf", "hf-old"):
        check(layout, LlavaForConditionalGeneration, f"{folder}/{layout}", lambda n: n)
    check("llava, decoder", LlamaForCausalLM, f"{folder}/llava",
          lambda n: n if n.startswith("lm_head.") else "model.language_model." + n.removeprefix("model."),
          config=LlamaConfig.from_json_file(f"{folder}/llava/config.json"))
    check("llava, tower", CLIPVisionModel, f"{folder}/llava/vision_tower", lambda n: "model.vision_tower." + n.removeprefix("vision_model."))
