"""Small random LLaVAs, their tokenizer, pictures and samples; and transformers' numbers for what `bifocal probe` ran.
Used by check_probe.py, make_probe.py and bench/step_vs_transformers.py. Needs torch, transformers, tokenizers, pillow, safetensors."""
import json
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (AutoModelForCausalLM, CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig,
                          PreTrainedTokenizerFast, Qwen2Config, Qwen3Config, SiglipVisionConfig)

SPECIALS = ["<s>", "</s>", "<image>"]
COMMON = dict(hidden_size=32, intermediate_size=48, num_hidden_layers=2, max_position_embeddings=512)
# What the table of bifocal calls the parameters of transformers 5.
NAMES = [("model.language_model.", "language_model.model."), ("model.vision_tower.", "vision_tower.vision_model."),
         ("model.multi_modal_projector.", "multi_modal_projector."), ("lm_head.", "language_model.lm_head.")]
# name: text configuration class, its numbers, (vision layers, image side, patch), feature layer, strategy, tied
CASES = {
    "llama": (LlamaConfig, dict(num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5),
              (3, 32, 8), -2, "default", False),
    "llama_gqa_tied": (LlamaConfig, dict(num_attention_heads=4, num_key_value_heads=2, rms_norm_eps=1e-6,
                                         rope_parameters={"rope_type": "default", "rope_theta": 5e5}),
                       (2, 56, 14), -1, "full", True),
    # Rotation scaled: the samples are longer than what the model is said to have begun with.
    "llama3": (LlamaConfig, dict(num_attention_heads=2, num_key_value_heads=1, head_dim=16, rope_parameters={
        "rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16}), (3, 32, 8), -2, "default", True),
    "llama_linear": (LlamaConfig, dict(num_attention_heads=2, num_key_value_heads=2, rope_parameters={
        "rope_type": "linear", "rope_theta": 1e4, "factor": 4.0}), (3, 32, 8), -2, "default", False),
    "qwen2": (Qwen2Config, dict(num_attention_heads=2, num_key_value_heads=2), (3, 48, 8), -2, "full", False),
    "qwen2_gqa_tied": (Qwen2Config, dict(num_attention_heads=4, num_key_value_heads=1),
                       (2, 42, 14), -1, "default", True),
    "qwen3": (Qwen3Config, dict(num_attention_heads=4, num_key_value_heads=2, head_dim=16),
              (3, 40, 8), -2, "full", False),
    "qwen3_tied": (Qwen3Config, dict(num_attention_heads=2, num_key_value_heads=1, head_dim=16),
                   (3, 56, 14), -2, "default", True),
    "mistral": (MistralConfig, dict(num_attention_heads=4, num_key_value_heads=2, head_dim=8, sliding_window=None),
                (4, 32, 8), -2, "default", False),
    "siglip": (LlamaConfig, dict(num_attention_heads=2, num_key_value_heads=2, rms_norm_eps=1e-5), (3, 34, 8), -2, "full", False),
    "siglip_last": (Qwen2Config, dict(num_attention_heads=4, num_key_value_heads=2), (2, 30, 14), -1, "full", True),
}
# Towers of SigLIP: without a class token, the side no multiple of the patch; as many as so400m's 72 numbers a head in the second.
SIGLIP = {"siglip": dict(hidden_size=36, num_attention_heads=3), "siglip_last": dict(hidden_size=144, vision_use_head=False)}
WORDS = ("what is the colour of a small square circle on this picture there are two red green blue things and yes no maybe "
         "it's 42").split()


def table_name(name):
    for old, new in NAMES:
        if name.startswith(old):
            return new + name[len(old):]
    raise SystemExit(f"{name}: a parameter whose name nobody expected")


def tokenizer(size, lines=None):
    rng = random.Random(1)
    template = "USER: ASSISTANT: A chat between a curious user and an assistant."
    lines = lines or [" ".join(rng.choice(WORDS) for _ in range(12)) for _ in range(100)] + [template] * 3
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    raw.train_from_iterator(lines, trainers.BpeTrainer(vocab_size=size - len(SPECIALS), show_progress=False,
                                                       initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    raw.add_special_tokens(SPECIALS)
    return PreTrainedTokenizerFast(tokenizer_object=raw, bos_token="<s>", eos_token="</s>",
                                   extra_special_tokens={"image_token": "<image>"})


def randomise(model, generator, half=False):
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=generator) * (0.2 if p.dim() > 1 else 0.1)
            value = noise + (1.0 if "norm" in name and name.endswith("weight") else 0.0)
            p.copy_(value.half().float() if half else value)
    return model.eval()


def make_model(case, words, seed, common=None, vision=None):
    kind, numbers, (layers, side, patch), feature, select, tied = CASES[case]
    # No padding token: torch.nn.Embedding(padding_idx) would hide the gradient of that row; bifocal, never padding, has it.
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": None}
    text = kind(**(COMMON | (common or {}) | numbers | ids), vocab_size=len(words), tie_word_embeddings=tied)
    numbers = dict(hidden_size=24, intermediate_size=40, num_hidden_layers=layers, num_attention_heads=2, image_size=side, patch_size=patch)
    if case in SIGLIP:
        tower = SiglipVisionConfig(**(numbers | SIGLIP[case]))
    else:
        tower = CLIPVisionConfig(**(numbers | (vision or {})), hidden_act="quick_gelu", layer_norm_eps=1e-5)
    config = LlavaConfig(vision_config=tower, text_config=text, image_token_id=words.convert_tokens_to_ids("<image>"),
                         vision_feature_layer=feature, vision_feature_select_strategy=select, projector_hidden_act="gelu", tie_word_embeddings=tied,
                         image_seq_length=(side // patch) ** 2 + (select == "full" and case not in SIGLIP))
    return randomise(LlavaForConditionalGeneration(config), torch.Generator().manual_seed(seed))


def make_decoder(case, words, seed, common=None):
    """The case's language model alone."""
    kind, numbers, *_, tied = CASES[case]
    ids = {"bos_token_id": words.bos_token_id, "eos_token_id": words.eos_token_id, "pad_token_id": None}
    config = kind(**(COMMON | (common or {}) | numbers | ids), vocab_size=len(words), tie_word_embeddings=tied)
    return randomise(AutoModelForCausalLM.from_config(config), torch.Generator().manual_seed(seed))


def make_samples(folder, count, seed, pictures=True):
    """count LLaVA records: text only, one picture, two pictures, several turns; PNG and JPEG of odd sizes."""
    rng, noise = random.Random(seed), np.random.default_rng(seed)
    folder = Path(folder)
    (folder / "images").mkdir(parents=True, exist_ok=True)
    text = lambda most: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))
    with open(folder / "samples.jsonl", "w") as out:
        for i in range(count):
            names = []
            for k in range((1, 0, 2, 1)[i % 4] if pictures else 0):
                coarse = noise.integers(0, 256, (rng.randint(3, 6), rng.randint(3, 6), 3), dtype=np.uint8)
                names.append(f"{i}_{k}.{'png' if (i + k) % 3 else 'jpg'}")
                picture = Image.fromarray(coarse).resize((rng.randint(20, 90), rng.randint(20, 90)), Image.BICUBIC)
                picture.save(folder / "images" / names[-1])
            turns = []
            for k in range(1 + (i % 4 == 3) * rng.randint(1, 2)):
                turns.append({"from": "human", "value": "<image>\n" * (len(names) if k == 0 else 0) + text(8) + "?"})
                turns.append({"from": "gpt", "value": text(5)})
            image = {} if not names else {"image": names[0] if len(names) == 1 else names}
            out.write(json.dumps({"id": str(i)} | image | {"conversations": turns}) + "\n")


def run_probe_inputs(model, probe, gradients=True):
    """transformers on the very inputs of a probe file, sequence by sequence: logits [T, V], loss; gradients are left in the model."""
    ids, labels, bounds = probe["input_ids"].long(), probe["labels"].long(), probe["cu_seqlens"].long().tolist()
    image = getattr(model.config, "image_token_id", None)  # a language model alone has none
    rows = model.config.image_seq_length if image is not None else 1
    logits, total, count, at = [], 0.0, 0, 0
    model.zero_grad()
    with torch.set_grad_enabled(gradients):
        for first, last in zip(bounds, bounds[1:]):
            seq, label = ids[first:last], labels[first:last]
            pictures, rest = divmod(int((seq == image).sum()) if image is not None else 0, rows)
            if rest:
                raise SystemExit(f"a sequence holds {rest} image rows too many for pictures of {rows}")
            extra = {"pixel_values": probe["pixel_values"][at:at + pictures]} if pictures else {}
            at += pictures
            out = model(input_ids=seq[None], use_cache=False, **extra).logits[0]
            total = total + torch.nn.functional.cross_entropy(out[:-1], label[1:], ignore_index=-100, reduction="sum")
            count += int((label[1:] != -100).sum())
            logits.append(out.detach())
        loss = total / count
    if gradients:
        loss.backward()
    if at != len(probe.get("pixel_values", [])):
        raise SystemExit(f"{len(probe['pixel_values'])} pictures, {at} used")
    return torch.cat(logits), loss.detach().reshape(1)
