"""What a LoRA run writes, opened by PEFT and torch. Not run by ctest:

  python check_peft.py FOLDER [EXPORT]

FOLDER: a step_* folder of a run with lora.rank. torch.load(weights_only=True) reads non_lora_trainables.bin; PeftModel.from_pretrained puts the
adapter upon the base that adapter_config.json names (a decoder, or a LLaVA of transformers) without a missing or unexpected tensor. EXPORT: the same
folder by `bifocal export --format hf-old` (of a decoder alone, or of a LLaVA: then its decoder is compared); merge_and_unload gives its weights to 1e-6
in float32. Needs torch, transformers (5.x), peft, safetensors.
"""
import json
import sys
import warnings
from pathlib import Path

import torch
from peft import PeftModel
from peft.utils import load_peft_weights, set_peft_model_state_dict
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

folder = Path(sys.argv[1])
settings = json.loads((folder / "adapter_config.json").read_text())
whole = folder / "non_lora_trainables.bin"
if whole.exists():
    tensors = torch.load(whole, map_location="cpu", weights_only=True)
    for name, t in tensors.items():
        assert torch.isfinite(t.float()).all(), name
    mapped = torch.load(whole, map_location="cpu", weights_only=True, mmap=True)
    assert all(torch.equal(t, mapped[n]) for n, t in tensors.items())
    print(f"{whole.name}: {len(tensors)} tensors, the first {next(iter(tensors))} {tuple(next(iter(tensors.values())).shape)}")
base = AutoModelForCausalLM.from_pretrained(settings["base_model_name_or_path"], dtype=torch.float32)
with warnings.catch_warnings():
    warnings.simplefilter("error", UserWarning)  # PEFT warns of adapters for which it finds no weights
    model = PeftModel.from_pretrained(base, folder)
result = set_peft_model_state_dict(model, load_peft_weights(folder))
assert not result.unexpected_keys, result.unexpected_keys
adapted = [n for n, _ in model.named_parameters() if "lora_" in n]
assert len(adapted) == len(load_file(folder / "adapter_model.safetensors")), len(adapted)
print(f"PeftModel: {len(adapted)} factors, rank {settings['r']}")
if len(sys.argv) > 2:
    merged = model.merge_and_unload().state_dict()
    export = load_file(Path(sys.argv[2]) / "model.safetensors")
    worst, seen = 0.0, 0
    for name, t in merged.items():
        other = export.get(name, export.get("language_model." + name))
        if other is None:
            assert name == "lm_head.weight", name  # tied
            continue
        rows = min(len(t), len(other))  # a vocabulary that grew
        worst = max(worst, float((t[:rows] - other[:rows].float()).norm() / t.norm()))
        seen += 1
    print(f"{seen} tensors of the export, at most {worst:.2g} from merge_and_unload")
    assert worst <= 1e-6 and seen > 0
