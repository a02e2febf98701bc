"""`bifocal score` of VQA-like tasks against the scorers' own code, item by item:

    python check_score_vqa.py PATH/bifocal --vqa CHECKOUT --llava CHECKOUT [--vlmevalkit CHECKOUT] [--count 20000] [--golden FOLDER] [--time]

CHECKOUT: of github.com/GT-Vision-Lab/VQA, haotian-liu/LLaVA and open-compass/VLMEvalKit. Their functions are loaded from there and nothing of them is kept
here. --golden writes a small set with the scores they gave, for tests/eval/test_task_vqa.c; --time scores 214,354 predictions with both.
"""
import argparse
import json
import os
import random
import re
import subprocess
import tempfile
import time
import types
from pathlib import Path

WORDS = ("yes no Yes NO none zero one two ten eleven a an the A The aint ain't arent couldnt've couldn'tve couldve didnt hes he's shes lets let's Im im Ive weve "
         "somebody'd somebodyd somebodyd've yall yall'd've y'alld've y'all'dve ow's'at 'ows'at twas 'twas ma'am maam whats what's wheres oclock "
         "red white blue-green t-shirt 3 3.5 2. .5 5. 1,000 10,000,000 1,,000 3,a 1.000.000 $5 50% e.g. U.S.A. u.s. 1/2 2:30 (left) [x] {y} \"quoted\" "
         "don't dont won't a_b <b> @home `tick` what? no! yes, yes; x\\y x=y x+y 日本 한국어 네 é É İstanbul ΑΣ ΑΣ. ΣΑΣ ß ẞ ǅ ﬁ １２ ３，０ ２． ٣.٤ ٣,٤ …  "
         "nbsp\u00a0space thin\u2009x \u3000wide \x1cfs tab\tx new\nline cr\rx vt\x0bx ' '' 's dog's dogs' '?s ',s a's ?s ,s . .. ... .a a. -5 -- - , ? ! ; / _").split(" ")


def text(rng):
    kind = rng.random()
    if kind < 0.35:
        return rng.choice(["yes", "no", "2", "red", "white", "tennis", "black and white", "1", "frisbee", "don't know"])
    if kind < 0.9:
        return rng.choice([" ", " ", "  ", ",", ", ", "-", "/", ".", "\n", "\t", ""]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 4)))
    if kind < 0.95:
        return "".join(rng.choice("ab.,? 1'sS-\u00e9\uac00\u0663!;/\n\t") for _ in range(rng.randint(0, 14)))
    return rng.choice(["", " ", "a", "A", "the", "." * 40, "1." * 40, ". " * 40, ",", "?"])


def changed(rng, answer):
    return rng.choice([answer, answer, answer, answer.upper(), answer + ".", answer + " ", "the " + answer, answer.replace(" ", ", "), answer + ","])


def questions(rng, count):
    for i in range(count):
        base = [text(rng) for _ in range(rng.randint(1, 4))]
        alike = rng.random() < 0.2
        answers = [base[0]] * 10 if alike else [changed(rng, rng.choice(base)) for _ in range(10)]
        prediction = changed(rng, rng.choice(base)) if rng.random() < 0.85 else text(rng)
        yield {"question_id": i, "image_id": i // 3, "question_type": f"type {i % 7}", "answer_type": rng.choice(["yes/no", "number", "other"]),
               "answers": [{"answer": a, "answer_confidence": "yes", "answer_id": k + 1} for k, a in enumerate(answers)]}, prediction


def python3(source):
    return re.sub(r"^(\s*)print (.+)$", r"\1pass", source, flags=re.M).expandtabs(4)


def official(checkout):
    scope = {}
    exec(python3((checkout / "PythonEvaluationTools/vqaEvaluation/vqaEval.py").read_text(encoding="utf-8")), scope)
    cls = scope["VQAEval"]
    cls.updateProgress = lambda self, progress: None

    def run(items):
        vqa = types.SimpleNamespace(qa={}, getQuesIds=lambda: [q["question_id"] for q, _ in items])
        vqa.qa = {q["question_id"]: {**q, "answers": [dict(a) for a in q["answers"]]} for q, _ in items}
        results = types.SimpleNamespace(qa={q["question_id"]: {"answer": p} for q, p in items})
        scorer = cls(vqa, results, n=2)
        scores = {}
        scorer.setEvalQA = lambda i, accuracy: scores.__setitem__(i, accuracy)
        scorer.evaluate()
        return scores, scorer.accuracy

    return run


def m4c(checkout):
    source = (checkout / "llava/eval/m4c_evaluator.py").read_text(encoding="utf-8").replace("from tqdm import tqdm", "tqdm = list")
    scope = {}
    exec(source, scope)
    evaluator = scope["TextVQAAccuracyEvaluator"]()

    def run(items):
        return {q["question_id"]: evaluator.eval_pred_list([{"pred_answer": p, "gt_answers": [a["answer"] for a in q["answers"]]}]) for q, p in items}, None

    return run


def lmms(checkout):
    """lmms-eval's VQAv2 since its pull request 794: M4C's functions for punctuation and words, VQA's order of steps, at all times."""
    source = (checkout / "llava/eval/m4c_evaluator.py").read_text(encoding="utf-8").replace("from tqdm import tqdm", "tqdm = list")
    scope = {}
    exec(source, scope)
    p = scope["EvalAIAnswerProcessor"]()

    def norm(answer):
        return p.process_digit_article(p.process_punctuation(answer.replace("\n", " ").replace("\t", " ").strip()))

    def run(items):
        return {q["question_id"]: soft(norm(prediction), [norm(a["answer"]) for a in q["answers"]]) for q, prediction in items}, None

    return run


def soft(prediction, answers):
    shares = [min(1, float(sum(b == prediction for j, b in enumerate(answers) if j != i)) / 3) for i in range(len(answers))]
    return sum(shares) / len(shares)


def vlmevalkit(checkout):
    misc = (checkout / "vlmeval/smp/misc.py").read_text(encoding="utf-8")
    start = misc.index("def process_punctuation")
    end = misc.find("\ndef ", start + 1)
    scope = {"re": re}
    exec(misc[start:end], scope)
    source = (checkout / "vlmeval/dataset/utils/vqa_eval.py").read_text(encoding="utf-8")
    source = re.sub(r"^from vlmeval.*$|^import numpy.*$", "", source, flags=re.M)
    exec(source, scope)

    def run(items):
        norm = scope["process_answer"]
        return {q["question_id"]: soft(norm(p), [norm(a["answer"]) for a in q["answers"]]) for q, p in items}, None

    return run


def bifocal(program, task, norm, items, folder):
    (folder / "annotations.json").write_text(json.dumps({"info": {}, "annotations": [q for q, _ in items]}))
    (folder / "results.json").write_text(json.dumps([{"question_id": q["question_id"], "answer": p} for q, p in items], ensure_ascii=False))
    done = subprocess.run([program, "score", task, folder / "results.json", "--references", folder / "annotations.json", "--norm", norm, "--items",
                           folder / "items.jsonl", "--json"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    rows = [json.loads(line) for line in (folder / "items.jsonl").open(encoding="utf-8")]
    return {int(r["question_id"]): r for r in rows}, json.loads(done.stdout)


def compare(name, ours, theirs, items):
    wrong = [(q, p) for q, p in items if abs(ours[q["question_id"]]["score"] - theirs[q["question_id"]]) > 1e-12]
    print(f"{name}: {len(items)} items, {len(wrong)} differ; mean {sum(theirs.values()) / len(theirs):.4f}")
    for q, p in wrong[:10]:
        row = ours[q["question_id"]]
        print("   ", repr(p), "->", repr(row["compared"]), "ours", row["score"], "theirs", theirs[q["question_id"]], [a["answer"] for a in q["answers"]])
    return len(wrong)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--vqa", type=Path, required=True)
    parser.add_argument("--llava", type=Path, required=True)
    parser.add_argument("--vlmevalkit", type=Path)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--golden", type=Path)
    parser.add_argument("--time", action="store_true")
    args = parser.parse_args()
    rng = random.Random(7)
    items = list(questions(rng, args.count))
    scorers = {("vqav2", "official"): official(args.vqa), ("textvqa", "m4c"): m4c(args.llava), ("vqav2", "lmms"): lmms(args.llava)}
    if args.vlmevalkit:
        scorers["textvqa", "vlmevalkit"] = vlmevalkit(args.vlmevalkit)
    wrong = 0
    golden = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for (task, norm), run in scorers.items():
            theirs, accuracy = run(items)
            ours, summary = bifocal(args.program, task, norm, items, folder)
            wrong += compare(f"{task} {norm}", ours, theirs, items)
            golden[norm] = theirs
            if accuracy is not None:
                metrics = {m["name"]: round(m["value"], 2) for m in summary["metrics"]}
                expected = {"accuracy": accuracy["overall"], **{f"accuracy/{k}": v for part in ("perAnswerType", "perQuestionType") for k, v in accuracy[part].items()}}
                if metrics != expected:
                    wrong += 1
                    print("summaries differ:", {k: (metrics.get(k), v) for k, v in expected.items() if metrics.get(k) != v})
        if args.golden:
            few = [({**q, "answers": [{"answer": a["answer"]} for a in q["answers"]]}, p) for q, p in items[:200]]
            (args.golden / "annotations.json").write_text(json.dumps({"annotations": [q for q, _ in few]}, separators=(",", ":")))
            rows = [{"question_id": q["question_id"], "prediction": p, "scores": {n: s[q["question_id"]] for n, s in golden.items()}} for q, p in few]
            (args.golden / "predictions.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        if args.time:
            many = list(questions(rng, 214354))
            start = time.perf_counter()
            theirs, _ = scorers["vqav2", "official"](many)
            python = time.perf_counter() - start
            bifocal(args.program, "vqav2", "official", many, folder)
            best = 1e9
            for _ in range(5):
                start = time.perf_counter()
                subprocess.run([args.program, "score", "vqav2", folder / "results.json", "--references", folder / "annotations.json", "--norm", "official"], check=True,
                               stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
                best = min(best, time.perf_counter() - start)
            size = (folder / "annotations.json").stat().st_size
            print(f"214,354 predictions, annotations of {size / 1e6:.0f} MB: bifocal {best:.2f} s with reading its files, the official code {python:.1f} s without: {python / best:.0f}x")
    raise SystemExit(wrong > 0)


main()
