"""`bifocal score chair` against the authors' chair.py, caption by caption:

    python check_score_chair.py PATH/bifocal --chair CHECKOUT --pattern CHECKOUT [--count 10000] [--golden FOLDER]

CHECKOUT: of github.com/LisaAnne/Hallucination and clips/pattern (3.6). NLTK must be there with its data (punkt); the authors name 3.2.5. Their code is
made Python 3 on the way and nothing of it is kept here. --golden writes a small set, with synonyms of its own and what their code gave, for tests/eval/test_task_chair.c.
"""
import argparse
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import nltk

FILL = ("a an the of on in with and near two three some is are sitting standing holding next to large small old red white baby adult passenger toilet seat stop "
        "light traffic wine glass hot motor air cell teddy table's st. mr. e.g. p.m. u.s. cannot don't gonna wanna it's 3.5 5,000 10:30 etc. no. grass tennis dress news "
        "oxen sheepdogs mothers-in-law tv's ties cookies buses bus glass glasses people women men children knives scissors skis ski geese mice leaves potatoes").split()
MARKS = [" "] * 16 + [". ", ".", ", ", ",", " ,", "; ", ": ", ":", "! ", "? ", " (", ") ", ")", ' "', '" ', '."', '." ', ".' ", ".) ", "'", "' ", " '", "'s ", "'s", "'s, ",
                      "...", "... ", "..", "--", " - ", "-", "/", ".5", "\n", "  ", ",,", "' '", "''", "\u201c", "\u201d ", "\u2019s ", "\u2019 ", "\u00ab", "\u00bb. ", ".>", ".> ", "<", "&", "*", "\u00a0",
                      "``", "[", "]. ", "!\" ", ".\u201d ", ".\u2019 ", ".:", ".!", ".(", ".,", "$", "%", "\u2014"]


def plural(rng, word):
    return rng.choice([word, word, word, word + "s", word + "es", word[:-1] + "ies", word[:-1] + "ves", word.upper(), word.capitalize(), word + "'s", word + "'"])


def caption(rng, names):
    parts = []
    for _ in range(rng.randint(1, 14)):
        parts.append(plural(rng, rng.choice(names)) if rng.random() < 0.45 else rng.choice(FILL))
        parts.append(rng.choice(MARKS) if rng.random() < 0.6 else " ")
    return "".join(parts)


OWN = ("person, man, woman, people, child, rider\ncat, kitten\ndog, puppy, sheepdog\nbus, minibus\ntoilet\nchair, seat, stool\nwine glass\ntie, bow, bow tie\n"
       "motorcycle, scooter,  motor bike, motor cycle\nknife, knive\nskis, ski\ntrain, locomotive\ntraffic light, stop light\nhot dog\ncow, ox, oxen\n")


def official(checkout, pattern, home, folder, captions):
    source = (pattern / "pattern/text/en/inflect.py").read_text(encoding="utf-8")
    scope = {"re": re, "NOUN": "NN"}
    start = source.index("plural_prepositions = set((")
    exec(source[start:source.index("# Inflection rules", start)], scope)
    start = source.index("singular_rules = [")
    exec(source[start:source.index("#### VERB", start)], scope)
    code = (checkout / "utils/chair.py").read_text(encoding="utf-8").expandtabs(4)
    code = re.sub(r"^(\s*)print .*$", r"\1pass", code, flags=re.M)
    code = re.sub(r"^(from|import) .*$|^lemma = .*$|^ *sys\.stdout\.write\((?s:.*?)\)\)\s*$", "", code, flags=re.M)
    code = code[:code.index("if __name__")]
    module = {"os": os, "sys": sys, "json": json, "nltk": nltk, "singularize": scope["singularize"]}
    exec(code, module)
    before = os.getcwd()
    os.chdir(home)
    try:
        metrics = dict.fromkeys(["Bleu_1", "Bleu_2", "Bleu_3", "Bleu_4", "METEOR", "CIDEr", "SPICE", "ROUGE_L"], 0)
        file = folder / "generated.json"
        file.write_text(json.dumps({"overall": metrics, "imgToEval": {str(i): {"image_id": i, "caption": c, **metrics} for i, c in captions.items()}}))
        chair = module["CHAIR"](set(captions), str(folder))
        chair.get_annotations()
        return chair.compute_chair(str(file))
    finally:
        os.chdir(before)


def write(folder, rng, categories, names, count):
    images = [{"id": 11 + 3 * i} for i in range(count)]
    instances, captions = [], []
    for image in images:
        for _ in range(rng.choice([0, 1, 2, 4, 8])):
            instances.append({"segmentation": [[1.5, 2, 3]], "image_id": image["id"], "category_id": rng.randrange(len(categories)) + 1, "id": len(instances)})
        for _ in range(rng.choice([0, 1, 5])):
            captions.append({"image_id": image["id"], "id": len(captions), "caption": caption(rng, names)})
    head = {"info": {}, "licenses": []}
    empty = {**head, "images": [], "annotations": []}
    half = len(captions) // 2
    files = {"instances_val2014.json": {**head, "images": images, "annotations": instances, "categories": [{"id": i + 1, "name": c} for i, c in enumerate(categories)]},
             "instances_train2014.json": {**empty, "categories": [{"id": i + 1, "name": c} for i, c in enumerate(categories)]},
             "captions_val2014.json": {**head, "images": images, "annotations": captions[:half]}, "captions_train2014.json": {**empty, "annotations": captions[half:]}}
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content, separators=(",", ":")))
    return {image["id"]: caption(rng, names) for image in images if rng.random() < 0.9}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--chair", type=Path, required=True)
    parser.add_argument("--pattern", type=Path, required=True)
    parser.add_argument("--count", type=int, default=10000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    lines = [line.strip().split(", ") for line in (args.chair / "data/synonyms.txt").open(encoding="utf-8")]
    names = [w.strip() for line in lines for w in line]
    categories = [line[0] for line in lines]
    rng = random.Random(5)
    program, golden = os.path.abspath(args.program), args.golden
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        captions = write(folder, rng, categories, names, args.count)
        theirs = official(args.chair, args.pattern, args.chair, folder, captions)
        references = [x for f in ("instances_val2014.json", "captions_val2014.json", "captions_train2014.json") for x in ("--references", folder / f)]
        done = subprocess.run([program, "score", "chair", folder / "generated.json", *references, "--references", args.chair / "data/synonyms.txt", "--items",
                               folder / "items.jsonl", "--json"], capture_output=True, text=True)
        if done.returncode != 0:
            raise SystemExit(done.stderr)
        rows = {int(r["question_id"]): r for r in map(json.loads, (folder / "items.jsonl").open(encoding="utf-8")) if not r["missing"]}
        wrong = []
        for s in theirs["sentences"]:
            false = [node for _, node in s["mscoco_hallucinated_words"]]
            want = ", ".join(n + ("!" if n not in s["mscoco_gt_words"] else "") for n in s["mscoco_generated_words"])
            assert sum(w.endswith("!") for w in want.split(", ")) == len(false)
            if rows[s["image_id"]]["compared"] != want:
                wrong.append((s["caption"], want, rows[s["image_id"]]["compared"]))
        print(f"NLTK {nltk.__version__}: {len(captions)} captions, {len(wrong)} differ")
        for w in wrong[:15]:
            print("   ", *map(repr, w))
        metrics = {m["name"]: m["value"] for m in json.loads(done.stdout)["metrics"]}
        for name, key in (("CHAIR_i", "CHAIRi"), ("CHAIR_s", "CHAIRs")):
            print(f"{name}: theirs {100 * theirs['overall_metrics'][key]:.6f}, ours {metrics[name]:.6f}")
            wrong += [name] * (abs(100 * theirs["overall_metrics"][key] - metrics[name]) > 1e-9)
        if golden:
            folder = golden.resolve()
            lines = [line.split(", ") for line in OWN.splitlines()]
            captions = write(folder, rng, [line[0] for line in lines], [w.strip() for line in lines for w in line], 40)
            home = Path(temporary) / "home"
            (home / "data").mkdir(parents=True)
            (home / "data/synonyms.txt").write_text(OWN)
            theirs = official(args.chair.resolve(), args.pattern.resolve(), home, folder, captions)
            (folder / "synonyms.txt").write_text(OWN)
            (folder / "instances_train2014.json").unlink()
            expected = {"CHAIR_i": 100 * theirs["overall_metrics"]["CHAIRi"], "CHAIR_s": 100 * theirs["overall_metrics"]["CHAIRs"]}
            (folder / "expected.json").write_text(json.dumps({"metrics": expected, "captions": {str(s["image_id"]): s["mscoco_generated_words"] for s in theirs["sentences"]}},
                                                             separators=(",", ":")))
    raise SystemExit(len(wrong) > 0)


main()
