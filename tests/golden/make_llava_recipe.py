"""LLaVA-1.5's training in plain PyTorch, for tests/cli/llava_recipe.sh: a tiny LLaVA (float16), samples, orders of samples, and the losses, learning
rates and final weights of five steps of each stage -> llava_recipe/*.

Nothing here comes from bifocal. What LLaVA's trainer does, by hand: samples in the order of torch's RandomSampler, filled up from its beginning to whole
steps (accelerate's even_batches); runs of two samples are the micro-batches of a device; text is cut to the limit with one id a picture, pictures are
expanded and all is cut again; rows are padded on the right; a micro-batch's loss is the mean over its supervised tokens and a step's gradient the mean of
theirs; no clipping; torch's AdamW, transformers' cosine schedule.
"""
import json
import math
import random
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from transformers import get_cosine_schedule_with_warmup
from transformers.utils import logging

from small_llava import CASES, WORDS, make_model, randomise, table_name, tokenizer

OUT = Path(__file__).parent / "llava_recipe"
SIDE, MEAN, STD = 16, [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
SAMPLES, STEP, MICRO, MOST, IMAGE = 37, 8, 2, 56, -200
# name: samples, template, fit, what is trained, rates by part, weight decay, warm-up ratio
RUNS = {
    "pretrain": ("captions", "plain", "crop", ["multi_modal_projector"], {"multi_modal_projector": 1e-2}, 0.0, 0.03),
    "finetune": ("talks", "vicuna_v1", "pad", ["multi_modal_projector", "language_model"],
                 {"multi_modal_projector": 2e-3, "language_model": 2e-3}, 0.1, 0.3),
    "tower": ("talks", "vicuna_v1", "pad", ["multi_modal_projector", "language_model", "vision_tower"],
              {"multi_modal_projector": 2e-3, "language_model": 1e-3, "vision_tower": 2e-4}, 0.0, 0.3),
}


def make_records(rng):
    text = lambda most: " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most)))
    pictures = [f"{i}.png" for i in range(6)]
    captions = [{"id": str(i), "image": rng.choice(pictures), "conversations": [
        {"from": "human", "value": text(5) + "\n<image>"}, {"from": "gpt", "value": text(9)}]} for i in range(SAMPLES)]
    talks = []
    for i in range(SAMPLES):
        picture = {} if i % 5 == 2 else {"image": rng.choice(pictures)}
        turns = []
        for k in range(rng.randint(1, 3)):  # three turns are longer than MOST
            place = "<image>\n{}" if rng.random() < 0.5 else "{}\n<image>"
            turns.append({"from": "human", "value": (place if picture and k == 0 else "{}").format(text(9) + "?")})
            turns.append({"from": "gpt", "value": text(7)})
        talks.append({"id": str(i)} | picture | {"conversations": turns})
    return {"captions": captions, "talks": talks}


def lay_out(words, record, template, rows):
    """Ids and labels; a picture is one id until the text is cut, as in LLaVA's collator, then `rows`, and all is cut again."""
    encode = lambda text: words.encode(text, add_special_tokens=False) if text else []
    turns = [turn["value"] for turn in record["conversations"]]
    ids, labels = [words.bos_token_id], [-100]

    def put(new, supervised):
        ids.extend(new)
        labels.extend(new if supervised else [-100] * len(new))

    if template == "plain":
        put([IMAGE], False)
        put(encode(turns[1] + "\n"), True)
    else:
        for human, gpt in zip(turns[::2], turns[1::2]):
            if "<image>" in human:
                put(encode("USER: ") + [IMAGE], False)
                human = "\n" + human.replace("<image>", "").strip()
                put(encode(human + " ASSISTANT:"), False)
            else:
                put(encode("USER: " + human + " ASSISTANT:"), False)
            put(encode(" " + gpt) + [words.eos_token_id], True)
    ids, labels = ids[:MOST], labels[:MOST]
    if IMAGE in ids:
        at = ids.index(IMAGE)
        ids[at:at + 1] = [words.convert_tokens_to_ids("<image>")] * rows
        labels[at:at + 1] = [-100] * rows
    return ids[:MOST], labels[:MOST]


def pixels(name, fit):
    image = Image.open(OUT / "images" / name).convert("RGB")
    if fit == "pad":
        side = max(image.size)
        square = Image.new("RGB", (side, side), tuple(int(255 * m) for m in MEAN))
        square.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
        image = square
    short, long = min(image.size), max(image.size)
    size = (SIDE, int(SIDE * long / short)) if image.width <= image.height else (int(SIDE * long / short), SIDE)
    image = image.resize(size, Image.BICUBIC)
    left, top = (image.width - SIDE) // 2, (image.height - SIDE) // 2
    x = np.asarray(image.crop((left, top, left + SIDE, top + SIDE)), dtype=np.float32) / 255.0
    return torch.from_numpy((x - np.float32(MEAN)) / np.float32(STD)).permute(2, 0, 1)


def micro_loss(model, batch):
    """batch: (ids, labels, pixels or None) of a device's samples; padded, and the mean over the supervised tokens."""
    most = max(len(ids) for ids, _, _ in batch)
    ids = torch.zeros(len(batch), most, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, (tokens, targets, _) in enumerate(batch):
        ids[row, :len(tokens)], labels[row, :len(tokens)] = torch.tensor(tokens), torch.tensor(targets)
        mask[row, :len(tokens)] = 1
    pictures = [picture for _, _, picture in batch if picture is not None]
    extra = {"pixel_values": torch.stack(pictures)} if pictures else {}
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False, **extra).logits
    return torch.nn.functional.cross_entropy(logits[:, :-1].reshape(-1, logits.shape[-1]), labels[:, 1:].reshape(-1), ignore_index=-100)


def train(name, words, records):
    data, template, fit, trained, rates, decay, ratio = RUNS[name]
    model = make_tiny(words)
    samples = []
    for record in records[data]:
        picture = pixels(record["image"], fit) if "image" in record else None
        samples.append(lay_out(words, record, template, model.config.image_seq_length) + (picture,))
    order = torch.randperm(SAMPLES, generator=torch.Generator().manual_seed(42)).tolist()
    (OUT / f"{name}-order.txt").write_text("".join(f"{i}\n" for i in order))
    steps = math.ceil(SAMPLES / STEP)
    order += order[:steps * STEP - SAMPLES]

    groups = []
    for parameter_name, p in model.named_parameters():
        table = table_name(parameter_name)
        part = table.split(".")[0]
        p.requires_grad_(part in trained)
        if part in trained:
            plain = "norm" in table or "bias" in table  # of LLaVA's: no decay
            groups.append({"params": [p], "lr": rates[part], "weight_decay": 0.0 if plain else decay})
    optimizer = torch.optim.AdamW(groups, betas=(0.9, 0.999), eps=1e-8)
    schedule = get_cosine_schedule_with_warmup(optimizer, math.ceil(ratio * steps), steps)
    lines = []
    for step in range(steps):
        optimizer.zero_grad()
        total = 0.0
        for at in range(step * STEP, (step + 1) * STEP, MICRO):
            loss = micro_loss(model, [samples[i] for i in order[at:at + MICRO]]) / (STEP // MICRO)
            loss.backward()
            total += loss.item()
        for n, p in model.named_parameters():  # zero in mathematics; Adam makes steps of what rounding leaves
            if p.grad is not None and "vision_tower" in n and n.endswith("k_proj.bias"):
                p.grad.zero_()
        norm = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in model.parameters() if p.grad is not None))
        lines.append(f"{step + 1} {total:.9g} {optimizer.param_groups[0]['lr']:.9g} {norm:.9g}\n")
        optimizer.step()
        schedule.step()
    (OUT / f"{name}-losses.txt").write_text("".join(lines))
    after = {table_name(n): p.detach() for n, p in model.named_parameters() if p.requires_grad}
    kept = {n: p.contiguous() for n, p in after.items() if name != "tower" or "language_model" not in n}  # the decoder is in finetune's
    save_file(kept, OUT / f"{name}-final.safetensors")
    lengths = [len(s[0]) for s in samples]
    print(name, "".join(lines).split("\n")[-2], "lengths", min(lengths), max(lengths), "cut", lengths.count(MOST))


def make_tiny(words):
    CASES["recipe"] = CASES["llama"][:2] + ((3, SIDE, 8), -2, "default", False)
    numbers = dict(hidden_size=8, intermediate_size=12)
    model = make_model("recipe", words, 1, numbers, numbers)
    return randomise(model, torch.Generator().manual_seed(2), half=True)


def main():
    logging.disable_progress_bar()
    (OUT / "images").mkdir(parents=True, exist_ok=True)
    rng, noise = random.Random(3), np.random.default_rng(3)
    for i in range(6):
        coarse = Image.fromarray(noise.integers(0, 256, (3, 4, 3), dtype=np.uint8))
        coarse.resize((rng.randint(12, 30), rng.randint(12, 30)), Image.NEAREST).save(OUT / "images" / f"{i}.png")
    records = make_records(rng)
    for name, rows in records.items():
        (OUT / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = tokenizer(300)
    model = make_tiny(words)
    model.half().save_pretrained(OUT / "model")
    words.save_pretrained(OUT / "model")
    (OUT / "model" / "tokenizer_config.json").unlink()
    for name in RUNS:
        train(name, words, records)
    sizes = {str(p.relative_to(OUT)): p.stat().st_size for p in sorted(OUT.rglob("*")) if p.is_file()}
    print(sizes, sum(sizes.values()), "bytes")


if __name__ == "__main__":
    main()
