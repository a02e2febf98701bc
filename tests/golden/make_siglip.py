"""Numbers of tiny random models with SigLIP's towers from transformers (fp32, eager): networks/llava_siglip.safetensors, as make_networks.py
writes the others. Needs torch, transformers, safetensors:  python make_siglip.py <folder of this script>
"""
import os
import sys

import torch
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipVisionConfig

from make_networks import IMAGE_TOKEN, VOCAB, finish, inputs, packed, randomise, run_sequences

SIDE, PATCH = 18, 4  # 4 x 4 patches; the last two rows and columns of pixels are not seen


def pictures(generator):
    levels = torch.randint(0, 256, (3, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return levels, ((levels.float() / 255.0 - 0.5) / 0.5).permute(0, 3, 1, 2).contiguous()


def vision(layers):
    return dict(hidden_size=18, intermediate_size=20, num_hidden_layers=layers, num_attention_heads=3, image_size=SIDE, patch_size=PATCH)


def llava(folder):
    generator = torch.Generator().manual_seed(11)
    text = LlamaConfig(hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=VOCAB, max_position_embeddings=128,
                       num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5, attn_implementation="eager")
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=SiglipVisionConfig(**vision(3)), text_config=text, image_token_id=IMAGE_TOKEN, vision_feature_layer=-2,
        vision_feature_select_strategy="full", projector_hidden_act="gelu", attn_implementation="eager"))
    randomise(model, generator)
    rows = (SIDE // PATCH) ** 2
    images = [[3], [], [0, rows + 2]]
    ids, labels, image_row = packed([rows + 8, 5, 2 * rows + 6], generator, images, rows)
    levels, pixels = pictures(generator)
    tensors = run_sequences(model, ids, labels, pixels, images)
    finish(folder, "llava_siglip", model, tensors | inputs(ids, labels, image_row) | {"in.pixels": levels}, llava=True)


def main():
    folder = os.path.join(sys.argv[1], "networks")
    torch.manual_seed(0)
    llava(folder)


if __name__ == "__main__":
    main()
