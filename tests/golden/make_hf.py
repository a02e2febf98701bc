"""What transformers writes: hf/<case>.json (config.json of each family) and hf/<case>/ (config.json, model.safetensors), for tests/train/test_hf_*.c.

A weight is its number in the tensor times 2^-7 plus a whole number made from the name, so a test knows it from the name alone.
Needs torch and transformers (5.x):  python make_hf.py <folder of this script>
"""
import os
import sys

import torch
from transformers import (CLIPConfig, CLIPModel, CLIPVisionConfig, CLIPVisionModel, LlamaConfig, LlamaForCausalLM, LlavaConfig,
                          LlavaForConditionalGeneration, MistralConfig, Qwen2Config, Qwen3Config)

DECODER = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4, num_key_value_heads=2, vocab_size=24,
               max_position_embeddings=64)
VISION = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=16, patch_size=8, projection_dim=12)
TEXT = dict(hidden_size=12, intermediate_size=20, num_hidden_layers=1, num_attention_heads=2, vocab_size=24, max_position_embeddings=8,
            bos_token_id=22, eos_token_id=23, projection_dim=12)

folder = os.path.join(sys.argv[1], "hf")
os.makedirs(folder, exist_ok=True)


def save_config(case, config, architecture):
    config.architectures = [architecture]
    with open(os.path.join(folder, case + ".json"), "w") as f:
        f.write(config.to_json_string())


def save_model(case, model):
    with torch.no_grad():
        for name, p in model.named_parameters():
            words = name.split(".")  # what every layout shares: the last two words, the layer, and "encoder" for the vision tower
            start = sum(map(ord, "".join(words[-2:]))) + 1000 * sum(int(w) for w in words if w.isdigit()) + 5000 * ("encoder" in words)
            p.copy_((torch.arange(p.numel(), dtype=torch.float32) / 128 + start).reshape(p.shape))
    path = os.path.join(folder, case)
    model.save_pretrained(path)
    print(case, os.path.getsize(os.path.join(path, "model.safetensors")), "bytes")


save_config("llama", LlamaConfig(**DECODER, rms_norm_eps=1e-5, rope_theta=5e5, attention_bias=True), "LlamaForCausalLM")
save_config("mistral", MistralConfig(**DECODER, head_dim=6, sliding_window=32), "MistralForCausalLM")
save_config("qwen2", Qwen2Config(**DECODER, tie_word_embeddings=True, bos_token_id=3, eos_token_id=[4, 5]), "Qwen2ForCausalLM")
save_config("qwen3", Qwen3Config(**DECODER, head_dim=10, rope_theta=1e6), "Qwen3ForCausalLM")
save_config("clip", CLIPConfig(text_config=TEXT, vision_config=VISION, projection_dim=12), "CLIPModel")
save_model("clip_vision", CLIPVisionModel(CLIPVisionConfig(**VISION)))
save_model("llava", LlavaForConditionalGeneration(LlavaConfig(vision_config=CLIPVisionConfig(**VISION), text_config=LlamaConfig(**DECODER),
                                                              image_token_index=20, vision_feature_layer=-1,
                                                              vision_feature_select_strategy="full")))
