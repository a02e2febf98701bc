"""`bifocal zeroshot`, `retrieval` and `linear-probe` against transformers:  python check_clip_eval.py PATH/bifocal

A small random CLIP and random pictures. Zero-shot and retrieval scores are counted again from transformers' embeddings, as CLIP_benchmark does (topk,
positives by a matrix); the linear probe's objective is minimised again by torch's L-BFGS in double.
"""
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

from small_llava import WORDS, randomise, tokenizer

ENV = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}


def bifocal(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        raise SystemExit(f"bifocal {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")


def embed(model, words, processor, folder, names, texts):
    with torch.no_grad():
        pixels = processor([Image.open(folder / n).convert("RGB") for n in names], return_tensors="pt")["pixel_values"]
        images = model.visual_projection(model.vision_model(pixels).pooler_output)
        rows = []
        for text in texts:
            ids = [words.bos_token_id] + words(text, add_special_tokens=False)["input_ids"] + [words.eos_token_id]
            rows.append(model.text_projection(model.text_model(torch.tensor([ids])).pooler_output))
    return torch.nn.functional.normalize(images, dim=-1), torch.nn.functional.normalize(torch.cat(rows), dim=-1)


def recall(scores, positive, k):
    top = torch.topk(scores, min(k, scores.shape[1]), dim=1).indices
    return (torch.gather(positive, 1, top).sum(1) > 0).double().mean().item()


def objective(x, y, classes, l2):
    w, b = torch.zeros(classes, x.shape[1], dtype=torch.double, requires_grad=True), torch.zeros(classes, dtype=torch.double, requires_grad=True)
    optimizer = torch.optim.LBFGS([w, b], max_iter=2000, tolerance_grad=1e-10, tolerance_change=1e-15, line_search_fn="strong_wolfe")

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(x.double() @ w.T + b, y) + 0.5 * l2 / len(y) * (w * w).sum()
        loss.backward()
        return loss
    optimizer.step(closure)
    return closure().item(), w.detach(), b.detach()


def main(program):
    torch.manual_seed(0)
    rng = random.Random(0)
    classes, templates = ["red circle", "green square", "blue", "two small things"], ["a picture of a {}", "{} on this picture", "there are {} and {}"]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch)
        words = tokenizer(320)
        common = dict(num_hidden_layers=2, num_attention_heads=2, intermediate_size=48, hidden_size=32)
        config = CLIPConfig(text_config=dict(common, vocab_size=len(words), max_position_embeddings=32, bos_token_id=words.bos_token_id,
                                             eos_token_id=words.eos_token_id, pad_token_id=1),
                            vision_config=dict(common, image_size=32, patch_size=8), projection_dim=16)
        model = randomise(CLIPModel(config), torch.Generator().manual_seed(1))
        model.save_pretrained(data / "clip")
        words.save_pretrained(data / "clip")
        processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
        labels, pairs, owner, captions = [], [], [], []
        for i in range(120):
            noise = np.random.default_rng(i).integers(0, 256, (rng.randrange(6, 12), rng.randrange(6, 12), 3), dtype=np.uint8)
            Image.fromarray(noise).resize((rng.randrange(33, 60), rng.randrange(33, 60)), Image.BILINEAR).save(data / f"{i}.png")
            labels.append(rng.randrange(4))
            texts = [" ".join(rng.choice(WORDS) for _ in range(rng.randrange(3, 7))) + f" {i}" for _ in range(rng.randrange(1, 6))]
            pairs.append(dict(image=f"{i}.png", captions=texts))
            captions += texts
            owner += [i] * len(texts)
        names = [f"{i}.png" for i in range(120)]
        lines = [json.dumps(dict(image=n, label=c)) for n, c in zip(names, labels)]
        (data / "classes.txt").write_text("\n".join(classes))
        (data / "templates.txt").write_text("\n".join(templates) + "\n")
        (data / "labels.jsonl").write_text("\n".join(lines))
        (data / "train.jsonl").write_text("\n".join(lines[:80]))
        (data / "test.jsonl").write_text("\n".join(lines[80:]))
        (data / "pairs.jsonl").write_text("\n".join(map(json.dumps, pairs)))
        prompts = [t.replace("{}", c) for c in classes for t in templates]
        images, rows = embed(model, words, processor, data, names, prompts + captions)
        rows, captions = rows[:len(prompts)], rows[len(prompts):]
        y = torch.tensor(labels)
        known = [data / "clip", "--image-root", data, "--image-fit", "crop", "--summary", data / "out.json"]

        bifocal(program, "zeroshot", *known, "--classes", data / "classes.txt", "--templates", data / "templates.txt", "--images", data / "labels.jsonl")
        got = json.loads((data / "out.json").read_text())
        weights = torch.nn.functional.normalize(rows.reshape(len(classes), len(templates), -1).mean(1), dim=-1)
        right = (images @ weights.T).argmax(1) == y
        per_class = np.mean([right[y == c].double().mean() for c in range(4)])
        print(f"zero-shot {got['accuracy']:.4f} per class {got['accuracy_per_class']:.4f}; transformers {right.double().mean():.4f} {per_class:.4f}")
        assert abs(got["accuracy"] - right.double().mean()) < 1e-9 and abs(got["accuracy_per_class"] - per_class) < 1e-9

        bifocal(program, "retrieval", *known, "--pairs", data / "pairs.jsonl")
        got = json.loads((data / "out.json").read_text())
        positive = (torch.tensor(owner)[:, None] == torch.arange(len(names))[None]).double() # [texts, images]
        scores = captions @ images.T
        for k in (1, 5, 10):
            want = recall(scores.T, positive.T, k), recall(scores, positive, k)
            ours = got["image_to_text"][f"recall@{k}"], got["text_to_image"][f"recall@{k}"]
            print(f"recall@{k} {ours}; transformers {want}")
            assert max(abs(a - b) for a, b in zip(want, ours)) < 1e-9

        for l2 in (0.01, 1.0, 100.0):
            bifocal(program, "linear-probe", *known, "--classes", data / "classes.txt", "--train", data / "train.jsonl", "--test", data / "test.jsonl",
                    "--l2", l2)
            got = json.loads((data / "out.json").read_text())
            want, w, b = objective(images[:80], y[:80], 4, l2)
            accuracy = ((images[80:].double() @ w.T + b).argmax(1) == y[80:]).double().mean().item()
            print(f"l2 {l2}: objective {got['objective']:.9f} accuracy {got['accuracy']:.3f}; torch in double {want:.9f} {accuracy:.3f}")
            assert abs(got["objective"] - want) < 1e-6 * want and abs(got["accuracy"] - accuracy) < 1e-9
    print("ok")


main(sys.argv[1])
