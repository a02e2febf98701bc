#!/usr/bin/env python3
"""Ids and labels of LLaVA's own preprocessing for generated conversations, for tests/data/test_chat_llava.c. Nothing of LLaVA is copied: its
functions are taken out of a checkout by their names and run.

  make_llava.py write LLAVA NEXT              writes llava/*.jsonl with the stand-in tokenizers of this folder
  make_llava.py compare LLAVA NEXT            the same under another transformers: how many rows differ from the files
  make_llava.py check LLAVA BIFOCAL MODEL [N] compares `bifocal data show` with LLaVA on N (2000) conversations with a tokenizer.model
                                              (the real one of Llama-2), legacy and not

LLAVA: a checkout of haotian-liu/LLaVA (c121f04); NEXT: of LLaVA-VL/LLaVA-NeXT. LLaVA pins transformers 4.37.2 (with tokenizers 0.15, protobuf
and sentencepiece), and that is what the files were written with: later ones read tokenizer.model in other ways.

A row: template, tokenizer, system (what LLaVA's template got; null = its own), images, limit (of tokens, a picture being ROWS of them; 0 = none),
sample, and what LLaVA gives: count, hash (FNV-1a of the ids, pictures as -200), spans (first and end of each run of labels that are not -100),
and for some the ids. `ours` instead of spans: LLaVA is wrong there; `why` says how, and `ours` is what bifocal does, supervised parts in [brackets].
"""
import ast
import copy
import importlib.util
import json
import random
import subprocess
import sys
import tempfile
import types
from pathlib import Path

import torch
import transformers

HERE = Path(__file__).parent
OUT = HERE / "llava"
ROWS, LIMIT = 5, 64
IMAGE = -200
PLACE = "<image>"


# ---- LLaVA's functions ----

def functions(path, names, scope):
    tree = ast.parse(Path(path).read_text())
    tree.body = [n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in names]
    for n in tree.body:
        n.returns = None
        for a in n.args.args:
            a.annotation = None
    exec(compile(tree, str(path), "exec"), scope)
    return scope


def module(path, name):
    spec = importlib.util.spec_from_file_location(name, path)
    m = importlib.util.module_from_spec(spec)
    sys.modules[name] = m
    spec.loader.exec_module(m)
    return m


def load_llava(root):
    conversation = module(Path(root) / "llava/conversation.py", "llava_conversation")
    scope = {"torch": torch, "transformers": transformers, "copy": copy, "conversation_lib": conversation, "IGNORE_INDEX": -100,
             "DEFAULT_IMAGE_TOKEN": PLACE, "IMAGE_TOKEN_INDEX": IMAGE, "IS_TOKENIZER_GREATER_THAN_0_14": True, "print": lambda *a: None}
    functions(Path(root) / "llava/mm_utils.py", {"tokenizer_image_token"}, scope)
    names = {"preprocess", "preprocess_multimodal", "preprocess_plain", "preprocess_v1", "preprocess_llama_2", "preprocess_mpt"}
    return types.SimpleNamespace(**functions(Path(root) / "llava/train/train.py", names, scope))


def load_next(root):
    scope = {"torch": torch, "copy": copy, "re": __import__("re"), "IGNORE_INDEX": -100, "DEFAULT_IMAGE_TOKEN": PLACE, "IMAGE_TOKEN_INDEX": IMAGE,
             "conversation_lib": types.SimpleNamespace(default_conversation=types.SimpleNamespace(version="qwen"))}
    names = {"preprocess_qwen", "preprocess_llama3", "preprocess_multimodal"}
    return types.SimpleNamespace(**functions(Path(root) / "llava/train/train.py", names, scope))


LLAVA_NAMES = {"plain": "plain", "vicuna_v1": "v1", "llava_v1": "llava_v1", "llama_2": "llava_llama_2", "mistral": "mistral_instruct", "mpt": "mpt"}


def llava(code, tokenizer, template, system, sample, images, limit=0):
    """Ids (pictures as -200) and labels, with pictures expanded and cut at `limit` as LLaVA's collator and model do."""
    conv = code.conversation_lib.conv_templates[LLAVA_NAMES[template]].copy()
    if system is not None:
        conv.system = system
    code.conversation_lib.default_conversation = conv
    tokenizer.model_max_length = limit or 1 << 30
    sources = [copy.deepcopy(sample["conversations"])]
    if images:
        sources = code.preprocess_multimodal(sources, types.SimpleNamespace(is_multimodal=True, mm_use_im_start_end=False))
    out = code.preprocess(sources, tokenizer, has_image=images > 0)
    ids, labels = (list(map(int, out[k][0]))[:limit or None] for k in ("input_ids", "labels"))
    wide = ([], [])
    for i, label in zip(ids, labels):
        many = ROWS if i == IMAGE and limit else 1
        wide[0].extend([i] * many)
        wide[1].extend([label] * many)
    return wide[0][:limit or None], wide[1][:limit or None]


# ---- tokenizers ----

def llama(model, legacy):
    if int(transformers.__version__.split(".")[0]) < 5:
        t = transformers.LlamaTokenizer(str(model), legacy=legacy)
    else:
        folder = Path(tempfile.mkdtemp())
        (folder / "tokenizer.model").write_bytes(Path(model).read_bytes())
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": legacy, "bos_token": "<s>",
                                                                  "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True}))
        t = transformers.LlamaTokenizer.from_pretrained(folder, use_fast=False)
        t.legacy = legacy
    t.pad_token = t.unk_token
    return t


def byte_level(bos=True, headers=False):
    """ours.json, with BOS in front of a text or not; with the special tokens of Llama-3 behind the others."""
    root = json.loads((HERE / "tokenizer/ours.json").read_text())
    if headers:
        first = max(a["id"] for a in root["added_tokens"]) + 1
        for k, text in enumerate(HEADERS):
            root["added_tokens"].append({**root["added_tokens"][0], "id": first + k, "content": text})
    root["model"]["merges"] = [m if isinstance(m, str) else " ".join(m) for m in root["model"]["merges"]]  # as tokenizers 0.15 reads them
    root["post_processor"] = None
    if bos:
        text = "<|begin_of_text|>" if headers else "<s>"
        number = next(a["id"] for a in root["added_tokens"] if a["content"] == text)
        root["post_processor"] = {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": text, "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                                  "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 0}}],
                                  "special_tokens": {text: {"id": text, "ids": [number], "tokens": [text]}}}
    with tempfile.NamedTemporaryFile("w", suffix=".json", delete=False) as f:
        f.write(json.dumps(root))
    t = transformers.PreTrainedTokenizerFast(tokenizer_file=f.name, bos_token="<|begin_of_text|>" if headers else "<s>", eos_token="</s>",
                                             pad_token="<|im_end|>", additional_special_tokens=["<|im_start|>", "<|im_end|>"])
    t.legacy = True
    return t


HEADERS = ["<|begin_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
LLAMA3 = ("{% for m in messages %}{{ (bos_token if loop.first else '') + '<|start_header_id|>' + m['role'] + '<|end_header_id|>\n\n' + "
          "m['content'] | trim + '<|eot_id|>' }}{% endfor %}")


# ---- conversations ----

WORDS = ["two", "dogs", "the cat", "1,250", "몇 마리", "있습니까?", "빛", "그림", "😀", "👩‍👩‍👧", "é", "don't", "ASSISTANT:x", "USER:", "[INST]", "</s", "a\nb", "\n\n",
         "  ", "\t", "###", "x = [1, 2]", "日本", "[0.12, 0.5, 0.9, 1.0]", "\u3000", "Answer with the letter.", "<img>", "(B)", "-", "\"q\""]


def text(rng, most, blank=False):
    while True:
        value = rng.choice(["", "", "", " ", "\n"]) + " ".join(rng.choice(WORDS) for _ in range(rng.randint(1, most))) + rng.choice(["", "", ".", " ", "\n"])
        if not any(s in value for s in (" ASSISTANT: ", "[/INST] ")) and (blank or value.strip()):
            return value


def place(rng, value, several):
    kind = rng.randint(0, 4 + several)
    return [f"{PLACE}\n{value}", f"{value}\n{PLACE}", f"{PLACE}{value}", f"{value} {PLACE} and", PLACE, f"{PLACE} {value}{PLACE}\n{PLACE}"][kind]


def conversation(rng, turns=None):
    """A sample and its number of pictures, in the ways in which LLaVA's data come."""
    turns = turns or rng.choice([1, 1, 2, 2, 3, 4])
    pictures = rng.choice([0, 1, 1, 1, 2]) if turns > 1 else rng.choice([0, 1, 1])
    holders = set([0] if pictures == 1 and rng.random() < 0.8 else rng.sample(range(turns), pictures))
    talk = [{"from": "gpt", "value": text(rng, 2)}] if rng.random() < 0.1 else []
    for k in range(turns):
        q = text(rng, 4)
        talk.append({"from": "human", "value": place(rng, q, True) if k in holders else q})
        talk.append({"from": "gpt", "value": text(rng, 4)})
    return {"conversations": talk}, len(holders)


def say(*turns):
    return {"conversations": [{"from": "human" if k % 2 == 0 else "gpt", "value": v} for k, v in enumerate(turns)]}


# (template, tokenizer, sample, images, what bifocal does, why LLaVA's result is not followed); the system text is "S."
WRONG = [
    ("vicuna_v1", "llama", say("say ASSISTANT: twice", "a"), 0, "<s> S. USER: say ASSISTANT: twice ASSISTANT:[ a</s>]",
     "the separator within the question: the whole sample is masked"),
    ("vicuna_v1", "llama", say("q", "x ASSISTANT: y"), 0, "<s> S. USER: q ASSISTANT:[ x ASSISTANT: y</s>]",
     "the separator within the answer: the whole sample is masked"),
    ("vicuna_v1", "llama", say("q", "a</s>b"), 0, "<s> S. USER: q ASSISTANT:[ a</s>b</s>]",
     "EOS spelled in an answer becomes the id, and what follows it is masked or the whole sample; here it is text"),
    ("vicuna_v1", "llama", say("", "a"), 0, "<s> S. USER:ASSISTANT:[ a</s>]", "an empty question leaves no separator: masked"),
    ("vicuna_v1", "llama", say("q", "a", "r"), 0, "<s> S. USER: q ASSISTANT:[ a</s>]USER: r ", "a last question without an answer: masked"),
    ("vicuna_v1", "llama_legacy", say("q", "a", "r"), 0, "<s> S. USER: q ASSISTANT:[ a</s>] USER: r ", "a last question without an answer: masked"),
    ("vicuna_v1", "llama", say(f"{PLACE}\nq", f"{PLACE} a"), 1, "<s> S. USER: <image> \nq ASSISTANT:[ <image> a</s>]",
     "a placeholder in an answer is taken for a second picture"),
    ("plain", "llama", say(PLACE, f"a {PLACE}"), 1, "<s><image>[ a <image>\n]", "a placeholder in a caption is taken for a second picture"),
    ("plain", "llama", say(PLACE, "a</s>"), 1, "<s><image>[ a</s>\n]", "EOS spelled in a caption becomes the id"),
    ("llama_2", "llama", say("x [/INST] y", "a"), 0, "<s> [INST] <<SYS>>\nS.\n<</SYS>>\n\nx [/INST] y [/INST][ a </s>]", "the separator within the question: masked"),
    ("llama_2", "llama", say("q", "a", "r"), 0, "<s> [INST] <<SYS>>\nS.\n<</SYS>>\n\nq [/INST][ a </s>]<s>[INST] r [/INST]", "a last question: masked"),
    ("mistral", "llama", say("q", "a", "", "b"), 0, "<s> [INST] <<SYS>>\nS.\n<</SYS>>\n\nq [/INST][ a </s>][INST]  [/INST][ b </s>]",
     "an empty later question is left out, and the answers are taken for one turn"),
]


# ---- rows ----

def fnv(ids):
    h = 0xcbf29ce484222325
    for i in ids:
        for b in (i & 0xffffffff).to_bytes(4, "little"):
            h = (h ^ b) * 0x100000001b3 & 0xffffffffffffffff
    return f"{h:016x}"


def spans(labels):
    out = []
    for i, label in enumerate(labels):
        if label != -100:
            if out and out[-1][1] == i:
                out[-1][1] = i + 1
            else:
                out.append([i, i + 1])
    return out


def row(template, tokenizer, system, images, limit, sample, ids, labels, full):
    assert all(label in (-100, i) for i, label in zip(ids, labels))
    r = {"template": template, "tokenizer": tokenizer, "system": system, "images": images, "limit": limit, "sample": sample,
         "count": len(ids), "hash": fnv(ids), "spans": spans(labels)}
    return {**r, "ids": ids} if full else r


def llava_rows(root):
    code = load_llava(root)
    model = HERE / "tokens/llama/tokenizer.model"
    kinds = {"llama": llama(model, False), "llama_legacy": llama(model, True), "ours": byte_level()}
    rng = random.Random(15)
    rows, masked = [], 0
    own = say(f"{PLACE}\nWhat is it?", "A cat.", "Where?", "On the mat.")
    for template in ("vicuna_v1", "llava_v1", "llama_2"):  # the templates' own system texts
        rows.append(row(template, "llama", None, 1, 0, own, *llava(code, kinds["llama"], template, None, own, 1), True))
    for n in range(230):
        sample, images = conversation(rng)
        name = rng.choice(["llama", "llama", "llama_legacy", "ours"])
        template = rng.choice(["vicuna_v1"] * 5 + ["llava_v1"] + ["llama_2"] * 2 + ["mistral"])
        limit = LIMIT if n % 7 == 0 else 0
        ids, labels = llava(code, kinds[name], template, "S.", sample, images, limit)
        if not spans(labels) and limit == 0:
            masked += 1
            print("LLaVA masks", template, name, json.dumps(sample, ensure_ascii=False))
        rows.append(row(template, name, "S.", images, limit, sample, ids, labels, n % 20 == 1))
    for n in range(40):
        sample = say(place(rng, "Describe it.", True), text(rng, 5))
        name = rng.choice(list(kinds))
        limit = 12 if n % 7 == 0 else 0
        rows.append(row("plain", name, None, 1, limit, sample, *llava(code, kinds[name], "plain", None, sample, 1, limit), n % 20 == 1))
    print(f"{len(rows)} rows, {masked} that LLaVA masks as a whole")
    assert masked == 0 or sys.argv[1] == "compare"
    for template, name, sample, images, ours, why in WRONG:
        try:
            ids, labels = llava(code, kinds[name], template, "S.", sample, images)
            given = "masked" if not spans(labels) else spans(labels)
        except (AssertionError, IndexError) as e:
            given = type(e).__name__
        rows.append({"template": template, "tokenizer": name, "system": "S.", "images": images, "limit": 0, "sample": sample, "why": why,
                     "ours": ours, "llava": given})
    bare = byte_level(bos=False)
    for _ in range(30):  # preprocess_mpt never counts the last <|im_end|>, so nothing survives its check
        sample, images = conversation(rng)
        for t in (bare, kinds["ours"]):
            assert not spans(llava(code, t, "mpt", "<|im_start|>system\nS.", sample, images)[1])
    return rows


def answers_only(ids, header, end):
    """The mask of what follows `header` up to and with `end`."""
    keep, open_ = [-100] * len(ids), False
    for i, v in enumerate(ids):
        if open_:
            keep[i] = v
            open_ = v != end
        open_ = open_ or ids[i + 1 - len(header):i + 1] == header and i + 1 >= len(header)
    return keep


def next_rows(root):
    code = load_next(root)
    rng = random.Random(16)
    rows = []
    for template, t in (("chatml", byte_level(bos=False)), ("llama_3", byte_level(headers=True))):
        t.chat_template = LLAMA3
        run, stop = (code.preprocess_qwen, "<|im_end|>") if template == "chatml" else (code.preprocess_llama3, "<|eot_id|>")
        head = "<|im_start|>assistant\n" if template == "chatml" else "<|start_header_id|>assistant<|end_header_id|>\n\n"
        header, end = t(head, add_special_tokens=False).input_ids, t.convert_tokens_to_ids(stop)
        for n in range(30):
            while True:
                sample, images = conversation(rng)
                answers = [c["value"] for c in sample["conversations"] if c["from"] == "gpt"]
                if template == "llama_3" or not any(a[0].isspace() for a in answers):  # chatml: ours cuts before the answer
                    break
            pictures = sum(c["value"].count(PLACE) for c in sample["conversations"])
            talk = code.preprocess_multimodal([copy.deepcopy(sample["conversations"])], types.SimpleNamespace(is_multimodal=True, mm_use_im_start_end=False))
            out = run(talk, t, has_image=True, system_message="S.")
            ids, theirs = (list(map(int, out[k][0])) for k in ("input_ids", "labels"))
            labels = answers_only(ids, header, end)
            assert all(b == a for a, b in zip(labels, theirs) if a != -100)  # ours is a part of theirs
            rows.append(row(template, "headers" if template == "llama_3" else "ours", "S.", pictures, 0, sample, ids, labels, n % 20 == 1))
    return rows


def dump(rows):
    return "".join(json.dumps(r, ensure_ascii=False, separators=(",", ":")) + "\n" for r in rows)


def check(root, bifocal, model, count):
    """The real vocabulary: bifocal's ids and labels against LLaVA's, every one."""
    code = load_llava(root)
    rng = random.Random(99)
    samples = [conversation(rng) for _ in range(count)]
    plain = [(say(place(rng, "Describe it.", True), text(rng, 5)), 1) for _ in range(count // 4)]
    for legacy in (False, True):
        t = llama(model, legacy)
        folder = Path(tempfile.mkdtemp())
        (folder / "tokenizer.model").write_bytes(Path(model).read_bytes())
        (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer", "legacy": legacy}))
        for template in ("vicuna_v1", "llava_v1", "llama_2", "mistral", "plain"):
            some = plain if template == "plain" else samples
            lines = "".join(json.dumps({**s, "image": ["x"] * n}, ensure_ascii=False) + "\n" for s, n in some)
            done = subprocess.run([bifocal, "data", "show", "--tokenizer", str(folder), "--template", template, "--image-tokens", "1", "--json", "-"],
                                  input=lines, capture_output=True, text=True)
            got = [json.loads(line) for line in done.stdout.splitlines()]
            assert len(got) == len(some), (len(got), len(some))
            wrong = masked = tokens = 0
            for (sample, images), g in zip(some, got):
                ids, labels = llava(code, t, template, None, sample, images)
                tokens += len(ids)
                if not spans(labels):
                    masked += 1
                elif (g.get("ids"), g.get("labels")) != (ids, labels):
                    wrong += 1
                    if wrong <= 2:
                        print(json.dumps(sample, ensure_ascii=False), g.get("error"), g.get("ids"), ids, spans(g.get("labels", [])), spans(labels), sep="\n  ")
            print(f"{template}, legacy {legacy}: {len(some)} conversations, {tokens} ids, {masked} masked by LLaVA, {wrong} differ")


def main():
    if len(sys.argv) > 4 and sys.argv[1] == "check":
        return check(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]) if len(sys.argv) > 5 else 2000)
    if len(sys.argv) != 4 or sys.argv[1] not in ("write", "compare"):
        sys.exit(__doc__)
    files = {"llava": llava_rows(sys.argv[2])}
    if int(transformers.__version__.split(".")[0]) < 5:  # LLaVA-NeXT's functions use what transformers 5 has taken out
        files["next"] = next_rows(sys.argv[3])
    OUT.mkdir(exist_ok=True)
    for name, rows in files.items():
        path = OUT / f"{name}.jsonl"
        if sys.argv[1] == "write":
            path.write_text(dump(rows))
            print(f"{path}: {len(rows)} rows, {path.stat().st_size} bytes")
        else:
            old = path.read_text().splitlines()
            new = dump(rows).splitlines()
            kinds = {}
            for a, b in zip(old, new):
                kinds.setdefault(json.loads(a)["tokenizer"], []).append(a == b)
            print(name, transformers.__version__, {k: f"{v.count(False)} of {len(v)} rows differ" for k, v in kinds.items()})


if __name__ == "__main__":
    main()
