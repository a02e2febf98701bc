"""`bifocal score caption` against coco-caption's own code: tokens item by item, CIDEr-D item by item, BLEU and ROUGE-L of the whole:

    python check_score_caption.py PATH/bifocal --pycocoevalcap FOLDER [--count 12000] [--golden FOLDER] [--results FILE] [--time]

FOLDER: the package pycocoevalcap (1.2 from PyPI: coco-caption for Python 3) with Stanford's tokenizer, which wants Java. Their code runs from there and
nothing of it is kept here. --golden writes a small set with what they made of it, for tests/eval/test_task_caption.c. --results: coco-caption's
captions_val2014_fakecap_results.json, whose 9,893 tokens its notebook publishes. --time scores 25,000 captions of 5,000 pictures with both.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

PLAIN = ("a an the man woman dog cat is on in sitting standing with of two three people street The Man Dog An In Two It And This group young boy girl holding "
         "red white black large small train bus tennis court baseball bat kitchen table next to near top playing riding wave surfboard horse field pizza").split()
AWKWARD = ("dog's man's men's dogs' it's isn't doesn't can't won't they're there's person's DON'T n't couldn't've he'd've I'd t-shirt black-and-white two-story cannot "
           "gonna Wanna gotta lemme gimme dunno 'tis 'twas y'all y'know d'you 'em '90s 90's '90 'til rock'n'roll o'clock O'Neil c'mon ma'am ol' goin' somethin' "
           "St. Mr. Mrs. Dr. U.S. u.s. a.m. p.m. no. No. art. fig. pp. etc. Inc. Co. Jan. Ave. ave. Blvd. Rd. Mass. mass. b. B. I I. A A. Ph.D. a.k.a. e.g. U.S.-born "
           "2 3 10 1/2 50's 1950's 5'10\" 2:30 :30 1,000 3.5 .5 5. 1.2.3 -5 +5 3-4 3-year-old 555-1234 (555) 555.555.1234 12/25/2014 24/7 31-1/2 # #1 #tag @ @home & && "
           "( ) [ ] { } (x) [x] \" ' `` '' ` ... .. .... . , ; : ! ? !! ?! !!! -- - --- ----- / w/ w/o and/or a/b/c $5 US$5 100% &amp; &lt; &quot; &nbsp; &#39; "
           "AT&T at&t R&B S&P-500 <b> </b> <a href=\"x\"> <3 < > << >> :) :( :-) ;) :D =) :P x:) ^_^ (-_-) x_x + = == * ** ~ ^ | \\ _ __ a_b _a_ dog.The a?b 5th 2nd "
           "dog.jpg 5.txt. a@b.com foo@bar www.foo.com/x foo.com http://a.b/c?d=e. 1920x1080 c++ c# -LRB- -foo foo- pro- anti-war").split(" ")
UNICODE = ("naïve café résumé Über ÀÉ 5° ½ ¼ 3½ ⅓ ⅛ “hello” ‘hello’ « » – — … • ™ © € £5 ¥ 5¢ 日本 한국어 강아지 ёлка Ελλάς ß 😀 👨‍👩‍👧 x² H₂O don’t it’s man’s O’Neil ’em dogs’ "
           "nb\u00a0sp thin\u2009x \u3000wide soft\u00adhyphen a‐b ´ ﬁ １２ ′ × ÷ · &eacute; caf&eacute;").split(" ")
SEPARATORS = [" "] * 14 + ["", "", " ,", ". ", ", ", "-", "/", ".", "'", '"', "  ", "_", ":", "&", "...", "!", "(", ")", "\t"]


def caption(rng):
    kind = rng.random()
    if kind < 0.45:
        return " ".join(rng.choice(PLAIN) for _ in range(rng.randint(4, 14))) + rng.choice([".", "", " .", ". ", "!"])
    if kind < 0.8:
        return "".join(rng.choice(PLAIN if rng.random() < 0.4 else AWKWARD) + rng.choice(SEPARATORS) for _ in range(rng.randint(1, 10)))
    if kind < 0.9:
        return "".join(rng.choice("aAbsSntTlvedoO019.,'\"-_/&;:()<>=[]{}@#$!?*+\\ ^~`|% 5") for _ in range(rng.randint(0, 14)))
    if kind < 0.99:
        return "".join(rng.choice(UNICODE if rng.random() < 0.4 else PLAIN) + rng.choice(SEPARATORS) for _ in range(rng.randint(1, 10)))
    return rng.choice(["", " ", ".", "dog", "...", "''"])


def changed(rng, text):
    words = text.split(" ")
    for _ in range(rng.randint(0, 3)):
        words[rng.randrange(len(words))] = rng.choice(PLAIN)
    return " ".join(words)


def pictures(rng, count):
    for i in range(count):
        references = [caption(rng)]
        while len(references) < rng.choice([1, 5, 5, 5, 6]):
            references.append(changed(rng, rng.choice(references)) if rng.random() < 0.6 else caption(rng))
        yield 1000 + 7 * i, references, changed(rng, rng.choice(references)) if rng.random() < 0.7 else caption(rng)


def official(folder, items):
    os.environ.update(LC_ALL="C.UTF-8", JAVA_TOOL_OPTIONS="-Dfile.encoding=UTF-8 -Dstdout.encoding=UTF-8")
    sys.path.insert(0, str(folder.resolve().parent))
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer
    tokenizer = PTBTokenizer()
    references = tokenizer.tokenize({i: [{"caption": c} for c in r] for i, r, _ in items})
    predictions = tokenizer.tokenize({i: [{"caption": p}] for i, _, p in items})
    bleu, _ = Bleu(4).compute_score(references, predictions, verbose=0)
    rouge, _ = Rouge().compute_score(references, predictions)
    cider, each = Cider().compute_score(references, predictions)
    metrics = {"CIDEr": 100 * cider, **{f"BLEU-{n + 1}": 100 * b for n, b in enumerate(bleu)}, "ROUGE-L": 100 * rouge}
    everything = [t for i, _, _ in items for t in references[i]]
    return everything, {i: p[0] for i, p in predictions.items()}, dict(zip(references, map(float, each))), {k: float(v) for k, v in metrics.items()}


def write(folder, items):
    annotations = [{"image_id": i, "id": 0, "caption": c} for i, r, _ in items for c in r]
    random.Random(1).shuffle(annotations)
    annotations.sort(key=lambda a: a["image_id"] % 5)  # not in the order of the images
    by_image = {i: iter(r) for i, r, _ in items}
    for k, a in enumerate(annotations):
        a.update(id=k, caption=next(by_image[a["image_id"]]))
    (folder / "captions.json").write_text(json.dumps({"images": [{"id": i} for i, _, _ in items], "annotations": annotations}))
    (folder / "results.json").write_text(json.dumps([{"image_id": i, "id": 9, "caption": p} for i, _, p in reversed(items)], ensure_ascii=False))


def bifocal(program, folder, *more):
    done = subprocess.run([program, "score", "caption", folder / "results.json", "--references", folder / "captions.json", "--items", folder / "items.jsonl", "--json", *more],
                          capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    rows = [json.loads(line) for line in (folder / "items.jsonl").open(encoding="utf-8")]
    return {int(r["question_id"]): r for r in rows}, {m["name"]: m["value"] for m in json.loads(done.stdout)["metrics"]}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--pycocoevalcap", type=Path, required=True)
    parser.add_argument("--count", type=int, default=12000)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--results", type=Path)
    parser.add_argument("--time", action="store_true")
    args = parser.parse_args()
    items = list(pictures(random.Random(11), args.count))
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write(folder, items)
        everything, tokens, cider, metrics = official(args.pycocoevalcap, items)
        ours, summary = bifocal(args.program, folder)
        odd = [(p, tokens[i], ours[i]["compared"]) for i, _, p in items if tokens[i] != ours[i]["compared"]]
        ascii_odd = [t for t in odd if t[0].isascii()]
        print(f"tokens: {len(items)} predictions ({sum(p.isascii() for _, _, p in items)} ASCII), {len(odd)} differ ({len(ascii_odd)} ASCII)")
        for text, theirs, mine in odd[:10]:
            print("   ", repr(text), "theirs", repr(theirs), "ours", repr(mine))
        far = [i for i, _, _ in items if abs(cider[i] - ours[i]["score"]) > 1e-9]
        print(f"CIDEr-D: {len(items)} items, {len(far)} differ by more than 1e-9")
        for name, value in metrics.items():
            print(f"{name}: theirs {value:.10f}, ours {summary[name]:.10f}")
            wrong += abs(value - summary[name]) > 1e-8
        wrong += len(odd) + len(far)
        flat = [(k, ["a dog"], c) for k, c in enumerate(c for _, r, _ in items for c in r)]
        write(folder, flat)
        ours, _ = bifocal(args.program, folder)
        odd = [(c, everything[k], ours[k]["compared"]) for k, _, c in flat if everything[k] != ours[k]["compared"]]
        print(f"tokens: {len(flat)} references, {len(odd)} differ")
        for text, theirs, mine in odd[:10]:
            print("   ", repr(text), "theirs", repr(theirs), "ours", repr(mine))
        wrong += len(odd)
        if args.golden:
            few = items[:40]
            write(args.golden, few)
            _, tokens, cider, metrics = official(args.pycocoevalcap, few)
            (args.golden / "expected.json").write_text(json.dumps({"metrics": metrics, "items": [{"id": i, "tokens": tokens[i], "cider": cider[i]} for i, _, _ in few]},
                                                                  ensure_ascii=False, indent=0))
        if args.results:
            rows = json.loads(args.results.read_text())
            write(folder, [(r["image_id"], [r["caption"], "a dog"], r["caption"]) for r in rows])
            _, summary = bifocal(args.program, folder)
            print(f"{args.results.name}: {summary['tokens']:.0f} tokens, published 9893")
            wrong += summary["tokens"] != 9893
        if args.time:
            rng = random.Random(3)
            plain = [(i, [" ".join(rng.choice(PLAIN) for _ in range(rng.randint(8, 14))) + "." for _ in range(5)], " ".join(rng.choice(PLAIN) for _ in range(10))) for i in range(5000)]
            write(folder, plain)
            start = time.perf_counter()
            official(args.pycocoevalcap, plain)
            theirs = time.perf_counter() - start
            command = [args.program, "score", "caption", folder / "results.json", "--references", folder / "captions.json"]
            best = 1e9
            for _ in range(5):
                start = time.perf_counter()
                subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
                best = min(best, time.perf_counter() - start)
            print(f"5,000 pictures, 25,000 references: bifocal {best:.2f} s with reading its files, coco-caption {theirs:.1f} s without: {theirs / best:.0f}x")
    raise SystemExit(wrong > 0)


main()
