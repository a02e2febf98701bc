"""LoRA adapters on small random models, and what their merging gives, for tests/train/test_adapter.c and tests/cli/adapter.sh:

  peft/base/      a Llama (float32)
  peft/lora/      PEFT, all linear layers of the decoder, r 4, alpha 8      peft/lora.safetensors     every tensor of merge_and_unload
  peft/rslora/    PEFT, q and v, r 3, alpha 6, use_rslora, bfloat16         peft/rslora.safetensors
  peft/hf/        PEFT on layouts/hf_old as transformers 5 names it: decoder, projector and vision tower
                                                                            peft/hf.safetensors       what changed, merged in float32
  peft/llava/     as LLaVA saves LoRA on layouts/native: adapter_model.bin, non_lora_trainables.bin (projector), config.json; with the
                  adapter in the vision tower that LLaVA makes by mistake   peft/llava.safetensors    what changed, summed in float32

Tensors of the merged files have the names of the base's files. Needs torch, transformers (5.x), safetensors, peft and layouts/:
  python make_peft.py <folder of this script>
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import LlamaConfig, LlamaForCausalLM, LlavaForConditionalGeneration

here = Path(sys.argv[1])
root = here / "peft"
shutil.rmtree(root, ignore_errors=True)
root.mkdir()
generator = torch.Generator().manual_seed(7)
LINEAR = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


def draw(*shape):
    return torch.randn(shape, generator=generator)


def randomise(parameters):
    with torch.no_grad():
        for p in parameters:
            p.copy_(draw(*p.shape) * 0.5)


def forget_base(folder, **more):
    """The path of this machine would be in the file."""
    path = folder / "adapter_config.json"
    config = json.loads(path.read_text()) | {"base_model_name_or_path": "somebody/base"} | more
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (folder / "README.md").unlink(missing_ok=True)


def by_peft(model, name, dtype=torch.float32, **numbers):
    """An adapter with random factors in its folder; the model with it merged, in float32."""
    peft = get_peft_model(model, LoraConfig(lora_dropout=0.0, task_type="CAUSAL_LM", **numbers))
    factors = [p for n, p in peft.named_parameters() if "lora_" in n]
    randomise(factors)
    with torch.no_grad():
        for p in factors:
            p.copy_(p.to(dtype).float())
    peft.save_pretrained(root / name)
    file = root / name / "adapter_model.safetensors"
    save_file({n: t.to(dtype) for n, t in load_file(file).items()}, file, {"format": "pt"})
    forget_base(root / name)
    return {n: t.clone() for n, t in peft.merge_and_unload().state_dict().items()}


base = LlamaForCausalLM(LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                                    vocab_size=24, max_position_embeddings=64, rms_norm_eps=1e-5))
randomise(base.parameters())
base.save_pretrained(root / "base")
plain = {n: t.clone() for n, t in base.state_dict().items()}
save_file(by_peft(base, "lora", r=4, lora_alpha=8, target_modules=LINEAR), root / "lora.safetensors")
base.load_state_dict(plain)
save_file(by_peft(base, "rslora", torch.bfloat16, r=3, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "v_proj"]),
          root / "rslora.safetensors")

# On LLaVA as transformers 5 has it. The files of hf_old say language_model.model. for model.language_model.
llava = LlavaForConditionalGeneration.from_pretrained(here / "layouts" / "hf_old", dtype=torch.float32)
before = {n: t.clone() for n, t in llava.state_dict().items()}
merged = by_peft(llava, "hf", r=2, lora_alpha=4, target_modules=["q_proj", "linear_1"])
FILE = [("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower."),
        ("model.multi_modal_projector.", "multi_modal_projector."), ("lm_head.", "language_model.lm_head.")]
changed = {}
for name, tensor in merged.items():
    old, new = next(pair for pair in FILE if name.startswith(pair[0]))
    if not torch.equal(tensor, before[name]):
        changed[new + name[len(old):]] = tensor.contiguous()
save_file(changed, root / "hf.safetensors")

# As LLaVA's train.py leaves it: PEFT's names by hand, files by torch.save.
native = load_file(here / "layouts/native/model-00001-of-00002.safetensors") | load_file(here / "layouts/native/model-00002-of-00002.safetensors")
tower = load_file(here / "layouts/tower/model.safetensors")
rank, alpha = 4, 8
factors, merged = {}, {}


def adapt(weight, module, name):
    a, b = (draw(rank, weight.shape[1]) * 0.5).bfloat16(), (draw(weight.shape[0], rank) * 0.5).bfloat16()
    factors[f"base_model.model.{module}.lora_A.weight"] = a
    factors[f"base_model.model.{module}.lora_B.weight"] = b
    merged[name] = weight.float() + alpha / rank * (b.float() @ a.float())


for name, tensor in native.items():
    if any(name.endswith(f"{kind}.weight") for kind in LINEAR):
        adapt(tensor, name[:-len(".weight")], name)
for name, tensor in tower.items():
    if name.endswith("layers.1.self_attn.v_proj.weight"):
        full = "model.vision_tower.vision_tower.vision_model." + name.removeprefix("vision_model.")
        adapt(tensor, full[:-len(".weight")], full)
projector = {n: draw(*t.shape).bfloat16() for n, t in native.items() if "mm_projector" in n}
merged |= {n: t.float() for n, t in projector.items()}
folder = root / "llava"
folder.mkdir()
torch.save(factors, folder / "adapter_model.bin")
torch.save({f"base_model.model.{n}": t for n, t in projector.items()}, folder / "non_lora_trainables.bin")
config = json.loads((here / "layouts/native/config.json").read_text()) | {"architectures": ["LlamaForCausalLM"], "model_type": "llava_llama"}
(folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
LoraConfig(r=rank, lora_alpha=alpha, lora_dropout=0.05, task_type="CAUSAL_LM", target_modules=LINEAR).save_pretrained(folder)
forget_base(folder, inference_mode=True)
save_file({n: t.contiguous() for n, t in merged.items()}, root / "llava.safetensors")
for path in sorted(root.rglob("*")):
    if path.is_file():
        print(path.relative_to(root), path.stat().st_size)
