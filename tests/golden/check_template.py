#!/usr/bin/env python3
"""The chat templates that bifocal saves, rendered and tokenized by transformers, against `bifocal data show`.

  check_template.py TOOLS BIFOCAL          every template and place of pictures over the byte-level tokenizer of this folder, as text and as parts;
                                           writes llava/jinja.json, which a unit test holds the generator to
  check_template.py folder BIFOCAL FOLDER  a saved LLaVA: AutoTokenizer and AutoProcessor with a sample of several turns and two pictures
TOOLS: the folder of the built test tools."""
import json
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import transformers
from PIL import Image

import make_llava as m

TEMPLATES = ["plain", "vicuna_v1", "llava_v1", "llama_2", "llama_3", "mistral", "chatml", "qwen_2_5", "mpt", "chatml_direct"]


def show(bifocal, tokenizer, samples, *options):
    lines = "".join(json.dumps({**s, "image": ["x"] * n}) + "\n" for s, n in samples)
    done = subprocess.run([bifocal, "data", "show", "--tokenizer", tokenizer, "--json", *options, "-"], input=lines, capture_output=True, text=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def messages(sample, parts):
    out = []
    for turn in sample["conversations"]:
        role, value = {"human": "user", "gpt": "assistant"}[turn["from"]], turn["value"]
        if parts:
            pieces = value.split(m.PLACE) if role == "user" else [value]
            content = [{"type": "text", "text": pieces[0]}]
            for piece in pieces[1:]:
                content += [{"type": "image"}, {"type": "text", "text": piece}]
            value = [c for c in content if c.get("text") != ""] or [{"type": "text", "text": ""}]
        out.append({"role": role, "content": value})
    return out


def ids_of(t, *args, **kwargs):
    out = t.apply_chat_template(*args, **kwargs)
    return list(out["input_ids"] if hasattr(out, "keys") else out)


def templates(tools, bifocal):
    rng = random.Random(5)
    golden = {}
    for template in TEMPLATES:
        headers = template == "llama_3"
        t = m.byte_level(bos=False, headers=headers)
        path = t.backend_tokenizer
        with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as f:
            f.write(path.to_str())
        bos, eos = ("", "</s>") if template in ("mpt", "chatml_direct", "chatml", "qwen_2_5") else ("<s>", "</s>")
        for place in ("front", "keep", "llava_next"):
            jinja = subprocess.run([f"{tools}/tool_chat_template", template, place, bos, eos], capture_output=True, text=True, check=True).stdout
            golden[f"{template} {place}"] = jinja
            t.chat_template = jinja
            samples = []
            while len(samples) < 60:
                sample, _ = m.conversation(rng, 1 if template == "plain" else None)
                sample["conversations"] = sample["conversations"][sample["conversations"][0]["from"] == "gpt":]
                if rng.random() < 0.1 and template != "plain":
                    sample["conversations"][0]["value"] = ""
                # in one pass a white space at an answer's beginning may join the frame's newline; ours is cut there
                if any(c["from"] == "gpt" and c["value"][0].isspace() for c in sample["conversations"]):
                    continue
                samples.append((sample, sum(c["value"].count(m.PLACE) for c in sample["conversations"])))
            got = show(bifocal, f.name, samples, "--template", template, "--image-place", place, "--image-tokens", "1", "--bos", bos)
            for (sample, n), g in zip(samples, got):
                for parts in (False, True):
                    ids = ids_of(t, messages(sample, parts))
                    assert ids == g.get("ids"), (template, place, parts, sample, g.get("error"), t.decode(ids), g.get("text"))
                first = messages(sample, False)[:1]
                prompt = ids_of(t, first, add_generation_prompt=True)
                if len(sample["conversations"]) == 2:  # the prompt ends where the labels begin
                    assert g["ids"][:len(prompt)] == prompt and g["labels"][len(prompt)] != -100, (template, place, sample)
            own = t.apply_chat_template([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "q"}], tokenize=False)
            assert template == "plain" or "Be brief." in own and "helpful" not in own
        print(template, "equal on", 3 * 60, "conversations, as text and as parts")
    (m.OUT / "jinja.json").write_text(json.dumps(golden, indent=0) + "\n")


def folder(bifocal, path):
    config = json.loads((Path(path) / "config.json").read_text())
    sample = m.say("<image>\nWhat is it?", "A red circle.", "And here?\n<image>", "A square, I think.", "Sure?", "Yes.")
    rows = config["image_seq_length"]
    options = ["--template", config["bifocal_template"], "--image-place", config["bifocal_image_place"], "--image-tokens", str(rows)]
    if "bifocal_system" in config:
        options += ["--system", config["bifocal_system"]]
    want = show(bifocal, path, [(sample, 2)], *options)[0]["ids"]
    tokenizer = transformers.AutoTokenizer.from_pretrained(path)
    narrow = show(bifocal, path, [(sample, 2)], *options, "--image-tokens", "1")[0]["ids"]
    assert ids_of(tokenizer, messages(sample, False)) == narrow
    assert ids_of(tokenizer, messages(sample, True)) == narrow
    processor = transformers.AutoProcessor.from_pretrained(path)
    picture = Image.fromarray(np.zeros((20, 30, 3), np.uint8))
    talk = messages(sample, True)
    for turn in talk:
        turn["content"] = [{"type": "image", "image": picture} if c["type"] == "image" else c for c in turn["content"]]
    out = processor.apply_chat_template(talk, tokenize=True, return_dict=True)
    assert list(np.array(out["input_ids"]).reshape(-1)) == want, (tokenizer.decode(np.array(out["input_ids"]).reshape(-1)), tokenizer.decode(want))
    print(f"{path}: {config['bifocal_template']}: tokenizer and processor give the {len(want)} ids of bifocal, {2 * rows} of them of pictures")


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[1] == "folder":
        folder(sys.argv[2], sys.argv[3])
    elif len(sys.argv) == 3:
        templates(sys.argv[1], sys.argv[2])
    else:
        sys.exit(__doc__)
