"""`bifocal score llava-bench` and `mm-vet`, and `bifocal judge-requests`, against LLaVA's and MM-Vet's own scripts with a judge that replies from a list:

    python check_score_judge.py PATH/bifocal --llava CHECKOUT --mmvet CHECKOUT [--count 3000] [--golden FOLDER]

CHECKOUT: of github.com/haotian-liu/LLaVA and yuweihao/MM-Vet (which wants pandas and tqdm). Their scripts run from there, with a module openai of this
file's; nothing of them is kept here. --golden writes a small set with what they gave, for tests/eval/test_task_judge.c.
"""
import argparse
import contextlib
import csv
import io
import json
import random
import runpy
import subprocess
import sys
import tempfile
import types
from pathlib import Path

REVIEWS = ["8 6", "9 7.5", "10 10", "7.0 8", "8,6", "8, 6", "8 6 ", " 8 6", "8 6\r", "8\t6", "Assistant 1: 8", "8/10 6/10", "", "8", "8 6 7", "1e1 5", "+8 6", "8. .5", "-1 -1", "8  6",
           "8 six", "0 0", "9 9.25", "5,5"]
GRADES = ["0.0", "0.1", "0.4", "0.5", "0.7", "1.0", "1", "0", "0.5 ", "0.9\n", "0.3 because", ".5"]
BAD = ["1.5", "-0.1", "great", "", "0,5", "x 0.5"]
SKILLS = ["rec", "ocr", "know", "gen", "spat", "math"]


def fake_openai(reply):
    def create(**request):
        return reply(request["messages"])

    class Old(dict):
        pass

    module = types.ModuleType("openai")
    module.ChatCompletion = types.SimpleNamespace(create=lambda **r: {"choices": [{"message": {"content": create(**r)}}]})
    module.error = types.SimpleNamespace(RateLimitError=KeyboardInterrupt)
    message = lambda text: types.SimpleNamespace(model="judge", choices=[types.SimpleNamespace(message=types.SimpleNamespace(content=text))])
    module.OpenAI = lambda **_: types.SimpleNamespace(chat=types.SimpleNamespace(completions=types.SimpleNamespace(create=lambda **r: message(create(**r)))))
    module.RateLimitError = KeyboardInterrupt
    errors = types.ModuleType("openai._exceptions")
    errors.RateLimitError = KeyboardInterrupt
    sys.modules["openai"], sys.modules["openai._exceptions"] = module, errors


def run_script(path, *arguments):
    out = io.StringIO()
    before = sys.argv
    sys.argv = [str(path), *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(io.StringIO()):
            runpy.run_path(str(path), run_name="__main__")
    finally:
        sys.argv = before
    return out.getvalue()


def lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")


def score(program, task, file, references, *more):
    done = subprocess.run([program, "score", task, file, "--references", references, "--json", *more], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return {m["name"]: m["value"] for m in json.loads(done.stdout)["metrics"]}


def requests(program, task, answers, references, *more):
    out = references.parent / "requests.jsonl"
    done = subprocess.run([program, "judge-requests", task, answers, "--references", references, "--out", out, *more], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return [json.loads(line)["messages"][-1]["content"] for line in out.open(encoding="utf-8")]


def llava(program, checkout, folder, rng, count):
    kinds = ["conv", "detail", "complex"]
    questions = [{"question_id": i, "image": f"{i // 3:03}.jpg", "category": rng.choice(kinds), "text": f"What is {i}?\nSay \"é\"."} for i in range(count)]
    lines(folder / "questions.jsonl", questions)
    lines(folder / "context.jsonl", [{"id": k, "image": f"{k:03}.jpg", "caption": rng.choice([f"scene {k}", [f"scene {k}", "more"]])} for k in range(count)])
    for name in ("reference", "model"):
        lines(folder / f"{name}.jsonl", [{"question_id": q["question_id"], "answer_id": f"{name}{q['question_id']}", "text": f"{name} says {q['question_id']}\n."} for q in questions])
    rules = {f"llava_bench_{k}": {"role": "Judged", "prompt": f"Compare them, {k}.\nTwo numbers."} for k in kinds}
    (folder / "rules.json").write_text(json.dumps(rules))
    asked = []

    def reply(messages):
        asked.append(messages[-1]["content"])
        return rng.choice(REVIEWS if rng.random() < 0.3 else REVIEWS[:5]) + rng.choice(["", "\nBoth are fine, 9 9.", "\n\n"])

    fake_openai(reply)
    reviews = folder / "reviews.jsonl"
    reviews.unlink(missing_ok=True)
    run_script(checkout / "llava/eval/eval_gpt_review_bench.py", "-q", folder / "questions.jsonl", "-c", folder / "context.jsonl", "-a", folder / "reference.jsonl",
               folder / "model.jsonl", "-r", folder / "rules.json", "-o", reviews)
    summary = run_script(checkout / "llava/eval/summarize_gpt_review.py", "-f", reviews)
    theirs = {}
    for row in summary.splitlines()[1:-1]:
        name, *numbers = row.rsplit(" ", 3)
        suffix = "" if name == "all" else "/" + name.removeprefix("llava_bench_")
        theirs |= {k + suffix: float(n) for k, n in zip(("relative", "reference", "model"), numbers)}
    texts = [json.loads(line) for line in reviews.open(encoding="utf-8")]
    for r in texts:
        del r["tuple"]
    lines(folder / "replies.jsonl", texts)
    wrong = 0
    for file in ("reviews.jsonl", "replies.jsonl"):
        ours = score(program, "llava-bench", folder / file, folder / "questions.jsonl")
        differ = {k: (v, ours[k]) for k, v in theirs.items() if abs(round(ours[k], 1) - v) > 1e-9}
        print(f"llava-bench {file}: {count} reviews, {len(theirs)} numbers, {len(differ)} differ", differ or "")
        wrong += len(differ)
    mine = requests(program, "llava-bench", folder / "model.jsonl", folder / "questions.jsonl", "--rules", folder / "rules.json", "--context", folder / "context.jsonl",
                    "--reference-answers", folder / "reference.jsonl")
    print(f"llava-bench requests: {len(mine)}, {sum(a != b for a, b in zip(mine, asked)) + abs(len(mine) - len(asked))} differ")
    return wrong + (mine != asked), theirs


def mm_vet(program, checkout, folder, rng, count):
    data = {f"v1_{i}": {"imagename": f"v1_{i}.jpg", "question": f"What, {i}?", "answer": rng.choice(["a<AND>b", "c <OR> d", "plain"]),
                        "capability": rng.sample(SKILLS, rng.choice([1, 1, 2, 3]))} for i in range(count)}
    (folder / "mm-vet.json").write_text(json.dumps(data))
    answers = {k: f"answer {k} | é" for k in data}
    (folder / "answers.json").write_text(json.dumps(answers))
    lines(folder / "answers.jsonl", [{"question_id": int(k[3:]), "text": a} for k, a in answers.items()])
    asked = []

    def reply(messages):
        asked.append(messages[-1]["content"])
        return rng.choice(BAD if rng.random() < 0.2 else GRADES)

    fake_openai(reply)
    for old in list(folder.glob("answers_*")):
        old.unlink()
    run_script(checkout / "mm-vet_evaluator.py", "--mmvet_path", folder, "--result_file", folder / "answers.json", "--result_path", folder, "--openai_api_key", "none", "--num_run", 3)
    grades = next(folder.glob("answers_*grade*.json"))
    theirs = {}
    for file, kind in (("cap-score", "capability"), ("cap-int-score", "integration")):
        rows = list(csv.DictReader(next(folder.glob(f"answers_*{file}*.csv")).open()))[0]
        for name, value in rows.items():
            if name in ("", "runs", "std", "total"):
                theirs |= {"total": float(value)} if name == "total" else {"spread of runs": float(value)} if name == "std" else {}
            else:
                theirs[f"{kind}/{'_'.join(sorted(name.split('_')))}"] = float(value)
    ours = score(program, "mm-vet", grades, folder / "mm-vet.json")
    differ = {k: (v, ours[k]) for k, v in theirs.items() if abs(ours[k] - v) > 0.0501}
    print(f"mm-vet: {count} questions, 3 runs, {len(theirs)} numbers, {len(differ)} differ", differ or "")
    source = (checkout / "mm-vet_evaluator.py").read_text(encoding="utf-8")
    scope = {}
    exec(source[source.index('prompt = """'):source.index("def arg_parser")], scope)
    (folder / "prompt.txt").write_text(scope["prompt"], encoding="utf-8")
    first, seen = [], set()
    for text in asked:  # the first question about each, not those asked again
        if text not in seen and not text.endswith("(digit): "):
            first.append(text)
            seen.add(text)
    wrong = 0
    for file in ("answers.json", "answers.jsonl"):
        mine = requests(program, "mm-vet", folder / file, folder / "mm-vet.json", "--rules", folder / "prompt.txt")
        wrong += mine != first
        print(f"mm-vet requests of {file}: {len(mine)}, {sum(a != b for a, b in zip(mine, first)) + abs(len(mine) - len(first))} differ")
    grades.rename(folder / "grades.json")
    return len(differ) + wrong, theirs


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    parser.add_argument("--llava", type=Path, required=True)
    parser.add_argument("--mmvet", type=Path, required=True)
    parser.add_argument("--count", type=int, default=3000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        wrong = llava(args.program, args.llava, Path(temporary), random.Random(1), args.count)[0]
        wrong += mm_vet(args.program, args.mmvet, Path(temporary), random.Random(2), args.count)[0]
    if args.golden:
        with tempfile.TemporaryDirectory() as temporary:
            folder = Path(temporary)
            expected = {"llava-bench": llava(args.program, args.llava, folder, random.Random(3), 30)[1], "mm-vet": mm_vet(args.program, args.mmvet, folder, random.Random(4), 20)[1]}
            for name in ("questions.jsonl", "context.jsonl", "reference.jsonl", "model.jsonl", "rules.json", "reviews.jsonl", "mm-vet.json"):
                (args.golden / name).write_bytes((folder / name).read_bytes())
            grades = json.loads((folder / "grades.json").read_text())
            (args.golden / "grades.json").write_text(json.dumps(grades))
            (args.golden / "expected.json").write_text(json.dumps(expected, indent=0))
    raise SystemExit(wrong > 0)


main()
