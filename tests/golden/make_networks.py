"""Numbers of tiny random models from transformers (fp32, eager): networks/<case>.safetensors for tests/train/test_networks_*.c.

A file holds w.<name> (weights, exactly representable in half precision), g.<name> (gradients; a missing one is zero), in.* and out.*.
Names are those of bifocal's table. Needs torch, transformers, safetensors:  python make_networks.py <folder of this script>
"""
import os
import sys

import torch
from safetensors.torch import save_file
from transformers import (CLIPConfig, CLIPModel, CLIPVisionConfig, LlamaConfig, LlamaForCausalLM, LlavaConfig,
                          LlavaForConditionalGeneration, MistralConfig, MistralForCausalLM, Qwen2Config, Qwen2ForCausalLM,
                          Qwen3Config, Qwen3ForCausalLM)

VOCAB, IMAGE_TOKEN = 64, 60
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
NAMES = [("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower.vision_model."),
         ("model.multi_modal_projector.", "multi_modal_projector."), ("lm_head.", "language_model.lm_head.")]


def table_name(name, llava):
    for old, new in NAMES if llava else []:
        if name.startswith(old):
            return new + name[len(old):]
    return name


def randomise(model, generator):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * (0.25 if p.dim() > 1 else 0.1)
            norm = "norm" in name and name.endswith("weight")
            p.copy_((noise + (1.0 if norm else 0.0)).half().float())
    return model.eval()


def finish(folder, case, model, tensors, llava=False):
    for name, p in model.named_parameters():
        tensors["w." + table_name(name, llava)] = p.detach().half()
        if p.grad is not None and p.grad.abs().max() > 0:
            tensors["g." + table_name(name, llava)] = p.grad.detach()
    path = os.path.join(folder, case + ".safetensors")
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, path)
    print(f"{case}: {os.path.getsize(path)} bytes, {sum(p.numel() for p in model.parameters())} parameters")


def packed(lengths, generator, images=None, tokens_per_image=0):
    """Ids, labels and image rows of sequences laid end to end. images[i]: start positions of the pictures of sequence i."""
    ids, labels, image_row, row = [], [], [], 0
    for i, length in enumerate(lengths):
        seq = torch.randint(0, IMAGE_TOKEN, (length,), generator=generator)
        label = torch.where(torch.rand(length, generator=generator) < 0.5, seq, torch.full_like(seq, -100))
        label[-1] = seq[-1]
        rows = torch.full((length,), -1)
        for start in images[i] if images else []:
            seq[start:start + tokens_per_image] = IMAGE_TOKEN
            label[start:start + tokens_per_image] = -100
            rows[start:start + tokens_per_image] = torch.arange(row, row + tokens_per_image)
            row += tokens_per_image
        ids.append(seq), labels.append(label), image_row.append(rows)
    return ids, labels, image_row


def run_sequences(model, ids, labels, pixels=None, images=None):
    """Each sequence alone; the loss is the mean over all supervised tokens."""
    total, count, logits, at = 0.0, 0, [], 0
    for i, (seq, label) in enumerate(zip(ids, labels)):
        extra = {}
        if images and images[i]:
            extra["pixel_values"] = pixels[at:at + len(images[i])]
            at += len(images[i])
        out = model(input_ids=seq[None], use_cache=False, **extra).logits[0]
        shifted = label[1:]
        total = total + torch.nn.functional.cross_entropy(out[:-1], shifted, ignore_index=-100, reduction="sum")
        count += int((shifted != -100).sum())
        logits.append(out.detach())
    loss = total / count
    loss.backward()
    return {"out.loss": loss.detach().reshape(1), "out.logits": torch.cat(logits)}


def inputs(ids, labels, image_row):
    lengths = torch.tensor([0] + [len(s) for s in ids])
    return {"in.ids": torch.cat(ids).int(), "in.labels": torch.cat(labels).int(), "in.image_row": torch.cat(image_row).int(),
            "in.cu_seqlens": torch.cumsum(lengths, 0).int()}


def decoder(folder, case, model, seed, lengths=(7, 1, 12)):
    generator = torch.Generator().manual_seed(seed)
    randomise(model, generator)
    ids, labels, image_row = packed(lengths, generator)
    tensors = run_sequences(model, ids, labels)
    finish(folder, case, model, tensors | inputs(ids, labels, image_row))


def pictures(generator):
    """Three pictures u8 [3, S, S, 3], and what CLIP's normalisation makes of them."""
    levels = torch.randint(0, 256, (3, 16, 16, 3), generator=generator, dtype=torch.uint8)
    return levels, ((levels.float() / 255.0 - torch.tensor(MEAN)) / torch.tensor(STD)).permute(0, 3, 1, 2).contiguous()


def vision(layers):
    return dict(hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=2, image_size=16, patch_size=4,
                hidden_act="quick_gelu", layer_norm_eps=1e-5)


def llava(folder, case, text, layers, feature_layer, select, tied, seed):
    generator = torch.Generator().manual_seed(seed)
    model = LlavaForConditionalGeneration(LlavaConfig(
        vision_config=CLIPVisionConfig(**vision(layers)), text_config=text, image_token_id=IMAGE_TOKEN,
        vision_feature_layer=feature_layer, vision_feature_select_strategy=select, projector_hidden_act="gelu",
        tie_word_embeddings=tied, attn_implementation="eager"))
    randomise(model, generator)
    per_image = 16 if select == "default" else 17
    images = [[3], [], [0, per_image + 2]]
    ids, labels, image_row = packed([per_image + 8, 5, 2 * per_image + 6], generator, images, per_image)
    levels, pixels = pictures(generator)
    tensors = run_sequences(model, ids, labels, pixels, images)
    finish(folder, case, model, tensors | inputs(ids, labels, image_row) | {"in.pixels": levels}, llava=True)


def clip(folder, case, seed):
    generator = torch.Generator().manual_seed(seed)
    config = CLIPConfig(text_config=dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2,
                                         vocab_size=VOCAB, max_position_embeddings=12, hidden_act="quick_gelu", layer_norm_eps=1e-5,
                                         bos_token_id=62, eos_token_id=63, pad_token_id=63),
                        vision_config=vision(2), projection_dim=12, attn_implementation="eager")
    model = randomise(CLIPModel(config), generator)
    lengths = [4, 12, 7]
    ids = [torch.cat([torch.tensor([62]), torch.randint(0, 62, (n - 2,), generator=generator), torch.tensor([63])]) for n in lengths]
    padded = torch.full((len(ids), max(lengths)), 63)
    mask = torch.zeros_like(padded)
    for i, seq in enumerate(ids):
        padded[i, :len(seq)], mask[i, :len(seq)] = seq, 1
    levels, pixels = pictures(generator)
    out = model(input_ids=padded, attention_mask=mask, pixel_values=pixels)
    dimage, dtext = torch.randn(3, 12, generator=generator), torch.randn(3, 12, generator=generator)
    ((out.image_embeds * dimage).sum() + (out.text_embeds * dtext).sum()).backward()
    none = [torch.full_like(s, -1) for s in ids]
    finish(folder, case, model, inputs(ids, none, none) | {
        "in.pixels": levels, "in.dimage": dimage, "in.dtext": dtext, "out.image": out.image_embeds.detach(),
        "out.text": out.text_embeds.detach()})


def main():
    folder = os.path.join(sys.argv[1], "networks")
    os.makedirs(folder, exist_ok=True)
    torch.manual_seed(0)
    small = dict(hidden_size=16, intermediate_size=24, num_hidden_layers=2, vocab_size=VOCAB, max_position_embeddings=128,
                 attn_implementation="eager")
    clip(folder, "clip", 1)
    decoder(folder, "llama", LlamaForCausalLM(LlamaConfig(
        **small, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5, tie_word_embeddings=False)), 2)
    decoder(folder, "llama_gqa", LlamaForCausalLM(LlamaConfig(
        **small, num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True,
        attention_bias=True, rope_parameters={"rope_type": "default", "rope_theta": 500.0})), 3)
    decoder(folder, "mistral", MistralForCausalLM(MistralConfig(
        **small, num_attention_heads=4, num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=False, sliding_window=None)), 4)
    decoder(folder, "qwen2", Qwen2ForCausalLM(Qwen2Config(
        **small, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6, tie_word_embeddings=False)), 5)
    decoder(folder, "qwen3", Qwen3ForCausalLM(Qwen3Config(
        **small, num_attention_heads=4, num_key_value_heads=2, head_dim=8, rms_norm_eps=1e-6, tie_word_embeddings=True)), 6)
    # A turn of the four pairs takes 6.3, 20, 63 and 199 positions: less than 16 / 2, between, and twice more than 16 / 0.5.
    decoder(folder, "llama3", LlamaForCausalLM(LlamaConfig(
        **small, num_attention_heads=2, num_key_value_heads=1, rms_norm_eps=1e-5, tie_word_embeddings=True, rope_parameters={
            "rope_type": "llama3", "rope_theta": 100.0, "factor": 8.0, "low_freq_factor": 0.5, "high_freq_factor": 2.0,
            "original_max_position_embeddings": 16})), 9, (30, 1, 36))
    llava(folder, "llava_llama", LlamaConfig(**small, num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5), 3, -2,
          "default", False, 7)
    llava(folder, "llava_qwen2", Qwen2Config(**small, num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                                             tie_word_embeddings=True), 2, -1, "full", True, 8)


if __name__ == "__main__":
    main()
