"""Numbers of tiny random models with SigLIP's towers from transformers (fp32, eager): networks/llava_siglip.safetensors and
networks/siglip.safetensors, as make_networks.py writes the others.

Needs torch, transformers, safetensors:  python make_siglip.py <folder of this script>
"""
import os
import sys

import torch
from transformers import LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, SiglipConfig, SiglipModel, SiglipVisionConfig

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


def pair(folder):
    """Texts of one length, padding included: nothing is masked."""
    generator = torch.Generator().manual_seed(12)
    positions = 12
    config = SiglipConfig(text_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                                           vocab_size=VOCAB,
                                           max_position_embeddings=positions, projection_size=18, bos_token_id=None, eos_token_id=1),
                          vision_config=vision(2), attn_implementation="eager")
    model = randomise(SiglipModel(config), generator)
    ids = [torch.randint(2, VOCAB, (positions,), generator=generator) for _ in range(3)]
    for seq, length in zip(ids, (4, positions, 7)):
        seq[length - 1:] = 1
    levels, pixels = pictures(generator)
    out = model(input_ids=torch.stack(ids), pixel_values=pixels)
    dimage, dtext = torch.randn(3, 18, generator=generator), torch.randn(3, 18, generator=generator)
    ((out.image_embeds * dimage).sum() + (out.text_embeds * dtext).sum()).backward()
    none = [torch.full_like(s, -1) for s in ids]
    finish(folder, "siglip", model, inputs(ids, none, none) | {
        "in.pixels": levels, "in.dimage": dimage, "in.dtext": dtext, "out.image": out.image_embeds.detach(),
        "out.text": out.text_embeds.detach()})


def main():
    folder = os.path.join(sys.argv[1], "networks")
    torch.manual_seed(0)
    llava(folder)
    pair(folder)


if __name__ == "__main__":
    main()
