"""Opens folders that bifocal wrote in transformers: no tensor missing, none left over, a forward pass, tokenizer and processor.

    tool_hf_models DIR tests/golden/tokenizer/ours.json      (built with the tests)
    python check_hf.py DIR/*                                 or the step_* folders of real runs
"""
import json
import os
import sys

import numpy as np
import torch
from PIL import Image
from safetensors import safe_open
from tokenizers import Tokenizer
from transformers import (AutoImageProcessor, AutoModelForCausalLM, AutoProcessor, AutoTokenizer, CLIPModel,
                          LlavaForConditionalGeneration, PreTrainedTokenizerFast)

CLASSES = {"clip": CLIPModel, "llava": LlavaForConditionalGeneration}


def check(folder):
    config = json.load(open(os.path.join(folder, "config.json")))
    kind = config["model_type"]
    model, info = CLASSES.get(kind, AutoModelForCausalLM).from_pretrained(folder, output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        assert not info.get(key), f"{folder}: {key}: {info[key]}"
    tied = config.get("tie_word_embeddings", False)
    with safe_open(os.path.join(folder, "model.safetensors"), "pt") as f:
        file_sum = sum(f.get_tensor(k).double().abs().sum() for k in f.keys())
        assert tied == (not any("lm_head" in k for k in f.keys())) or kind == "clip"
    model_sum = sum(p.double().abs().sum() for p in model.parameters())
    assert abs(file_sum - model_sum) < 1e-9 * file_sum, (file_sum, model_sum)
    done = ["weights"]

    if os.path.exists(os.path.join(folder, "tokenizer.json")):
        # For model_type qwen2 AutoTokenizer of transformers 5 insists on Qwen2Tokenizer, whatever tokenizer_config.json says, and cuts text
        # by Qwen's pattern: right for Qwen's own tokenizer, wrong for one of ours.
        tokenizer = (PreTrainedTokenizerFast if kind == "qwen2" else AutoTokenizer).from_pretrained(folder)
        text = "A red circle, isn't it?  12345\n\u00e9\u4e2d\t<image> done"
        want = Tokenizer.from_file(os.path.join(folder, "tokenizer.json")).encode(text, add_special_tokens=False).ids
        assert tokenizer(text, add_special_tokens=False).input_ids == want, "AutoTokenizer encodes otherwise than tokenizer.json"
        assert tokenizer.decode(want) == text
        done.append(f"tokenizer ({type(tokenizer).__name__}, bos {tokenizer.bos_token!r}, eos {tokenizer.eos_token!r})")
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (20, 30, 3), dtype=np.uint8))
    with torch.no_grad():
        if kind == "clip":
            pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values
            eos = config["text_config"]["eos_token_id"]
            out = model(input_ids=torch.tensor([[3, 4, eos]]), pixel_values=pixels).logits_per_image
        elif kind == "llava":
            pixels = AutoImageProcessor.from_pretrained(folder)(image, return_tensors="pt").pixel_values
            ids = [4] + [config["image_token_index"]] * config["image_seq_length"] + [5, 6]
            out = model(input_ids=torch.tensor([ids]), pixel_values=pixels).logits
            if os.path.exists(os.path.join(folder, "processor_config.json")):
                processor = AutoProcessor.from_pretrained(folder)
                done.append(type(processor).__name__)
                token = processor.image_token
                if processor.tokenizer.convert_tokens_to_ids(token) == config["image_token_index"]:
                    batch = processor(images=image, text=f"{token}\nwhat is it?", return_tensors="pt")
                    count = int((batch.input_ids == config["image_token_index"]).sum())
                    assert count == config["image_seq_length"], (count, config["image_seq_length"])
                    done.append("processor expands pictures as bifocal does")
        else:
            out = model(input_ids=torch.tensor([[1, 4, 5, 2]])).logits
    assert torch.isfinite(out).all()
    print(f"{folder}: {type(model).__name__} opens: {', '.join(done)}, forward")


for path in sys.argv[1:]:
    check(path)
