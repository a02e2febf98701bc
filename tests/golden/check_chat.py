"""`bifocal chat` against transformers: every answer of conversations over several turns and pictures is what greedy generation gives
behind the prompt that the saved folder's own chat template makes (llama_2 and mistral: but the space that closes it).

    python check_chat.py PATH/bifocal FOLDER PICTURE... [--image-fit pad]

FOLDER: a LLaVA that bifocal saved (a step_* folder of a run). tests/cli/chat.sh makes small ones."""
import argparse
import json
import random
import subprocess
import tempfile
from pathlib import Path

import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoTokenizer, LlavaForConditionalGeneration

QUESTIONS = ["what color is the square?", "is it red?", "describe the picture", "and what else?", "what is in the image"]


def square(image, processor):
    side, fill = max(image.size), tuple(int(m * 255) for m in processor.image_mean)
    canvas = Image.new("RGB", (side, side), fill)
    canvas.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return canvas


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("folder")
    parser.add_argument("pictures", nargs="+")
    parser.add_argument("--image-fit", default="pad")
    parser.add_argument("--talks", type=int, default=20)
    parser.add_argument("--max-new-tokens", type=int, default=24)
    a = parser.parse_args()
    model = LlavaForConditionalGeneration.from_pretrained(a.folder, dtype=torch.float32)
    processor, tokenizer = AutoImageProcessor.from_pretrained(a.folder), AutoTokenizer.from_pretrained(a.folder)
    config = json.load(open(Path(a.folder) / "config.json"))
    image_id, rows = config["image_token_index"], config["image_seq_length"]
    rng, answers = random.Random(0), 0
    for _ in range(a.talks):
        lines = []
        for _ in range(rng.randint(1, 4)):
            lines += [f"/image {rng.choice(a.pictures)}"] * rng.choice([0, 0, 1, 1, 2]) + [rng.choice(QUESTIONS)]
        with tempfile.NamedTemporaryFile(suffix=".json") as saved:
            text = "\n".join(lines + [f"/save {saved.name}"]) + "\n"
            subprocess.run([a.program, "chat", a.folder, "--image-fit", a.image_fit, "--max-new-tokens", str(a.max_new_tokens)],
                           input=text, text=True, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            record = json.load(open(saved.name))[0]
        names = record.get("image", [])
        names = [names] if isinstance(names, str) else names
        messages = []
        for turn in record["conversations"]:
            if turn["from"] == "gpt":
                ids = tokenizer.apply_chat_template(messages, add_generation_prompt=True)
                ids = list(ids["input_ids"] if hasattr(ids, "keys") else ids)
                ids = [i for one in ids for i in ([one] * rows if one == image_id else [one])]
                shown = names[:ids.count(image_id) // rows]
                images = [Image.open(n).convert("RGB") for n in shown]
                images = [square(i, processor) if a.image_fit == "pad" else i for i in images]
                more = {"pixel_values": processor(images, return_tensors="pt").pixel_values} if images else {}
                ids = torch.tensor([ids])
                out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False,
                                     max_new_tokens=a.max_new_tokens, **more, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.eos_token_id)
                want = tokenizer.decode(out[0, ids.shape[1]:], skip_special_tokens=True).lstrip(" \n\t")
                assert turn["value"] in (want, want.removesuffix(" ")), (messages, want, turn["value"])
                answers += 1
            messages.append({"role": "user" if turn["from"] == "human" else "assistant", "content": turn["value"]})
    print(f"{a.talks} conversations, {answers} answers are transformers' own")


main()
