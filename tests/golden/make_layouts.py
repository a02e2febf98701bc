"""One small random LLaVA and one CLIP (float16), stored as the programs of others store them, for tests/cli/convert.sh:

  layouts/hf_old/       transformers' save_pretrained (language_model.model.*)
  layouts/hf_new/       the names transformers has in memory (model.language_model.*)
  layouts/native/       LLaVA's authors: two safetensors shards with an index, the vision tower elsewhere
  layouts/native_bin/   the same by torch.save: two pytorch_model-*.bin with an index
  layouts/stage1/       what LLaVA's stage 1 leaves: mm_projector.bin and config.json
  layouts/tower/        the vision tower, CLIPVisionModel
  layouts/clip_hf/      CLIPModel
  layouts/clip_open/    the same CLIP in the names of OpenAI and open_clip: fused in_proj, transposed projections

Needs torch, transformers (5.x), safetensors:  python make_layouts.py <folder of this script>
"""
import json
import shutil
import sys
from pathlib import Path

import torch
from safetensors.torch import save_file
from transformers import (CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlavaConfig,
                          LlavaForConditionalGeneration)

DECODER = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, vocab_size=24,
               max_position_embeddings=64, rms_norm_eps=1e-5)
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8)
TEXT = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, vocab_size=24, max_position_embeddings=8,
            bos_token_id=22, eos_token_id=23)
OPEN_VISION = dict(hidden_size=16, intermediate_size=64, num_hidden_layers=1, num_attention_heads=2, image_size=16, patch_size=8)

root = Path(sys.argv[1]) / "layouts"
shutil.rmtree(root, ignore_errors=True)
generator = torch.Generator().manual_seed(5)


def fresh(name):
    (root / name).mkdir(parents=True)
    return root / name


def randomise(model, dtype):
    with torch.no_grad():
        for p in model.parameters():
            p.copy_(torch.randn(p.shape, generator=generator))
    return model.to(dtype).eval()


def write_json(path, value):
    path.write_text(json.dumps(value, indent=2) + "\n")


def in_two(folder, tensors, stem, suffix, save):
    """Two shards, cut in the middle of the list, and their index."""
    names = list(tensors)
    files = {}
    for i, part in enumerate((names[:len(names) // 2], names[len(names) // 2:])):
        file = f"{stem}-{i + 1:05d}-of-00002.{suffix}"
        save({n: tensors[n].clone() for n in part}, folder / file)
        files |= {n: file for n in part}
    size = sum(t.numel() * t.element_size() for t in tensors.values())
    write_json(folder / f"{stem}.{suffix}.index.json", {"metadata": {"total_size": size}, "weight_map": files})


def native_name(name):
    for old, new in (("model.language_model.", "model."), ("model.multi_modal_projector.linear_1.", "model.mm_projector.0."),
                     ("model.multi_modal_projector.linear_2.", "model.mm_projector.2.")):
        if name.startswith(old):
            return new + name[len(old):]
    return name


config = LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**DECODER), image_token_index=20)
model = randomise(LlavaForConditionalGeneration(config), torch.float16)
state = model.state_dict()
model.save_pretrained(fresh("hf_old"))
save_file({n: t.clone() for n, t in state.items()}, fresh("hf_new") / "model.safetensors", {"format": "pt"})
shutil.copy(root / "hf_old" / "config.json", root / "hf_new" / "config.json")

tower = CLIPVisionModel(CLIPVisionConfig(**VISION)).half()
prefix = "model.vision_tower."
print("tower:", tower.load_state_dict({n[len(prefix):]: t for n, t in state.items() if n.startswith(prefix)}))
tower.save_pretrained(fresh("tower"))

native = {native_name(n): t for n, t in state.items() if not n.startswith(prefix)}
native["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.tensor([1.0, 0.5])  # as files of 2023 have it
keys = {"architectures": ["LlavaLlamaForCausalLM"], "model_type": "llava", "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0,
        "hidden_act": "silu", "mm_hidden_size": 16, "mm_projector_type": "mlp2x_gelu", "mm_use_im_patch_token": False,
        "mm_use_im_start_end": False, "mm_vision_select_feature": "patch", "mm_vision_select_layer": -2, "image_aspect_ratio": "pad",
        "mm_vision_tower": "openai/clip-vit-large-patch14-336", "rope_scaling": None, "torch_dtype": "float16", "use_mm_proj": True} | DECODER
in_two(fresh("native"), native, "model", "safetensors", lambda t, path: save_file(t, path, {"format": "pt"}))
write_json(root / "native" / "config.json", keys)
in_two(fresh("native_bin"), native, "pytorch_model", "bin", torch.save)
write_json(root / "native_bin" / "config.json", keys)
torch.save({n: t.bfloat16() for n, t in native.items() if "mm_projector" in n}, fresh("stage1") / "mm_projector.bin")
write_json(root / "stage1" / "config.json", keys)

clip = randomise(CLIPModel(CLIPConfig(text_config=TEXT, vision_config=OPEN_VISION, projection_dim=12)), torch.float16)
clip.save_pretrained(fresh("clip_hf"))
hf = clip.state_dict()
names = {"logit_scale": "logit_scale", "visual_projection.weight": "visual.proj", "text_projection.weight": "text_projection",
         "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
         "text_model.embeddings.position_embedding.weight": "positional_embedding",
         "vision_model.embeddings.class_embedding": "visual.class_embedding",
         "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
         "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding"}
for end in ("weight", "bias"):
    names |= {f"text_model.final_layer_norm.{end}": f"ln_final.{end}", f"vision_model.pre_layrnorm.{end}": f"visual.ln_pre.{end}",
              f"vision_model.post_layernorm.{end}": f"visual.ln_post.{end}"}
opened = {new: hf[old].T if old.endswith("_projection.weight") else hf[old] for old, new in names.items()}
for side, block in (("text_model", "transformer"), ("vision_model", "visual.transformer")):
    old, new = f"{side}.encoder.layers.0.", f"{block}.resblocks.0."
    for end in ("weight", "bias"):
        opened[f"{new}attn.in_proj_{end}"] = torch.cat([hf[f"{old}self_attn.{p}_proj.{end}"] for p in "qkv"])
        for theirs, ours in (("attn.out_proj", "self_attn.out_proj"), ("ln_1", "layer_norm1"), ("ln_2", "layer_norm2"),
                             ("mlp.c_fc", "mlp.fc1"), ("mlp.c_proj", "mlp.fc2")):
            opened[f"{new}{theirs}.{end}"] = hf[f"{old}{ours}.{end}"]
save_file({n: t.contiguous().clone() for n, t in opened.items()}, fresh("clip_open") / "open_clip_model.safetensors", {"format": "pt"})
write_json(root / "clip_open" / "open_clip_config.json", {
    "model_cfg": {"embed_dim": 12, "quick_gelu": True,
                  "vision_cfg": {"image_size": 16, "layers": 1, "width": 16, "patch_size": 8,
                                 "head_width": 8},
                  "text_cfg": {"context_length": 8, "vocab_size": 24, "width": 16, "heads": 2, "layers": 1}},
    "preprocess_cfg": {"mean": [0.48145466, 0.4578275, 0.40821073], "std": [0.26862954, 0.26130258, 0.27577711]}})
for path in sorted(root.rglob("*")):
    if path.is_file():
        print(path.relative_to(root), path.stat().st_size)
