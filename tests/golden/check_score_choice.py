"""`bifocal score` of multiple choice (ScienceQA, MMBench, SEED-Bench) and of TextVQA from LLaVA's rows against the scorers' own code:

    python check_score_choice.py PATH/bifocal --llava CHECKOUT --lmms CHECKOUT --vlmevalkit CHECKOUT [--count 24000] [--golden FOLDER]

CHECKOUT: of haotian-liu/LLaVA, EvolvingLMMs-Lab/lmms-eval and open-compass/VLMEvalKit. Their functions are run from there and nothing of them is kept here.
"""
import argparse
import contextlib
import csv
import io
import json
import os
import random
import re
import runpy
import string
import sys
import tempfile
from pathlib import Path

from score_common import PIECES, bifocal, compare, compare_metrics, functions, text, write_lines

NOTHING = ("", "None", "nan")  # what pandas takes for no option
LETTERS = ("A B C D E F a b Z A. B. C, D: (A) (B). A) B). :C :D, :A) [B] *C* {D} A; B! #C The answer is A. The answer is B The answer is C, The answer is D\n The answer is E! the answer is A. I "
           "cannot determine the answer Cannot determine the answer Failed to obtain answer via API nan banana a dog . . the red car 네 é").split(" ")
FIXED = ["The answer is A.", "The answer is B. The answer is B.", "The answer is C\n", "The answer is AThe answer is B.", "The answer is \u00c9.", "The answer is D\u00e9", "A. cat", "A.cat", "B.", "F. x",
         "E", " A", "A ", "I think (C).", "A red dog is B", "B is what A thinks it is", "Sorry, I can't help with images of people yet.", "Z", "z", "Z.", "cat", "CAT or dog", "a cat", "\u0130stanbul"]


def answer_text(rng, options):
    kind = rng.random()
    if kind < 0.25:
        return rng.choice("ABCDE") + rng.choice(["", ".", ". ", ")", ":", ". " + rng.choice(options)])
    if kind < 0.4:
        return rng.choice(["The answer is ", "It is ", "", "Option "]) + rng.choice(options).upper() + rng.choice([".", "", "!"])
    if kind < 0.5:
        return rng.choice(FIXED)
    return text(rng, rng.choice([LETTERS, PIECES]), 6)


def quiet(script, argv):
    before, sys.argv, out = sys.argv, [str(script), *map(str, argv)], io.StringIO()
    with contextlib.redirect_stdout(out):
        scope = runpy.run_path(str(script), run_name="__main__")
    sys.argv = before
    return out.getvalue(), scope


def check_scienceqa(args, folder, rng):
    problems, rows = {}, []
    for i in range(args.count):
        options = [text(rng, most=2) for _ in range(rng.randint(2, 5))]
        problems[str(i)] = {"question": "?", "choices": options, "answer": rng.randrange(len(options)), "hint": rng.choice(["", "a hint"]), "image": rng.choice([None, "image.png"]),
                            "task": "closed choice", "grade": f"grade{rng.randint(1, 12)}", "subject": rng.choice(["natural science", "social science", "language science"]),
                            "split": rng.choice(["train", "test"])}
        letter = chr(65 + problems[str(i)]["answer"])
        right = [letter, f"{letter}. x", f"{letter}.", f"{letter}. ", f"The answer is {letter}.", f"So: The answer is {letter}\u00e9", f"The answer is {letter}\n", letter.lower()]
        rows.append({"question_id": str(i), "prompt": ("<image>\n" if problems[str(i)]["image"] else "") + "?",
                     "text": rng.choice(right) if rng.random() < 0.5 else answer_text(rng, options)})
    splits = {k: [i for i, p in problems.items() if p["split"] == k] for k in ("train", "test")}
    files = [folder / "problems.json", folder / "pid_splits.json"]
    files[0].write_text(json.dumps(problems))
    files[1].write_text(json.dumps(splits))
    rows = [r for r in rows if problems[r["question_id"]]["split"] == "test"]
    write_lines(folder / "sqa.jsonl", rows)
    said = {r["question_id"]: r["text"] for r in rows}
    printed, _ = quiet(args.llava / "llava/eval/eval_science_qa.py", ["--base-dir", folder, "--result-file", folder / "sqa.jsonl", "--output-file", folder / "o.json", "--output-result",
                                                                     folder / "r.json"])
    right = {x["question_id"] for x in json.loads((folder / "o.json").read_text())["correct"]}
    total, image = (float(x) for x in re.search(r"Accuracy: ([\d.]+)%, IMG-Accuracy: ([\d.]+)%", printed).groups())
    ours, metrics, _ = bifocal(args.program, "scienceqa", "llava", files, folder / "sqa.jsonl", folder)
    wrong = compare("ScienceQA llava", ours, {i: float(i in right) for i in said})
    wrong += compare_metrics("ScienceQA llava, printed", {k: round(v, 2) for k, v in metrics.items()}, {"accuracy": total, "IMG-accuracy": image, "accuracy/IMG": image})
    lmms = functions(args.lmms / "lmms_eval/tasks/scienceqa/utils.py", ["sqa_doc_to_target", "sqa_process_results"], {})["sqa_process_results"]
    ours, _, _ = bifocal(args.program, "scienceqa", "lmms", files, folder / "sqa.jsonl", folder)
    return wrong + compare("ScienceQA lmms", ours, {i: lmms(problems[i], [said[i].strip()])["exact_match"] for i in said})


def check_mmbench(args, folder, rng):
    scope = {"string": string, "os": os, "pd": type("pd", (), {"isna": staticmethod(lambda x: False)}), "eval_logger": type("log", (), {"info": staticmethod(lambda *a: None)})}
    lmms = functions(args.lmms / "lmms_eval/tasks/mmbench/mmbench_evals.py", ["MMBench_Evaluator"], scope)["MMBench_Evaluator"]()
    vlm = functions(args.vlmevalkit / "vlmeval/utils/matching_util.py", ["can_infer_option", "can_infer_text", "can_infer"], {"string": string, "os": os, "cp": __import__("copy")})["can_infer"]
    table, said, groups = [], {}, {}
    for g in range(args.count // 3):
        options = [rng.choice(["cat", "dog", "a red car", "banana", "None", "", "two\nlines", "with \"quotes\"", "\ttab", text(rng, most=2)]) for _ in range(4)]
        for turn in range(rng.randint(1, 4)):
            index = g + turn * 1000000
            row = {"index": index, "question": text(rng), "hint": rng.choice(["", "a\thint", "\"x\""]), "image": "iVBORw0KGgo" * rng.randint(0, 30), **dict(zip("ABCD", options)),
                   "answer": rng.choice("ABCD"), "category": rng.choice(["color", "shape"]), "l2-category": rng.choice(["coarse", "fine"]), "split": "dev"}
            if turn:
                row |= {k: groups[g][0][k] for k in ("category", "l2-category")}
            table.append(row)
            groups.setdefault(g, []).append(row)
            said[index] = row["answer"] if rng.random() < 0.6 else answer_text(rng, [o or "x" for o in options])
    with (folder / "mmbench.tsv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, list(table[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(table)
    write_lines(folder / "mmbench.jsonl", [{"question_id": i, "round_id": 0, "prompt": "", "text": t} for i, t in said.items()])
    with (folder / "said.tsv").open("w", encoding="utf-8", newline="") as f:
        writer = csv.writer(f, delimiter="\t", lineterminator="\n")
        writer.writerows([["index", "question", "prediction"]] + [[i, "x", t] for i, t in said.items()])
    wrong = 0
    for norm in ("vlmevalkit", "lmms"):
        def infer(row):
            if norm == "vlmevalkit":
                return vlm(said[row["index"]], {k: row[k] for k in "ABCD" if row[k] not in NOTHING})
            return lmms.can_infer(said[row["index"]].strip(), {k: row[k] if row[k] not in NOTHING else "nan" for k in "ABCD"})
        hits = {r["index"]: float(infer(r) == r["answer"]) for r in table}
        circular = {g: min(hits[r["index"]] for r in rows) for g, rows in groups.items()}
        theirs = {str(i): circular[i] if i < 1000000 else h for i, h in hits.items()}
        for predictions in ("mmbench.jsonl", "said.tsv"):
            ours, metrics, _ = bifocal(args.program, "mmbench", norm, [folder / "mmbench.tsv"], folder / predictions, folder)
            wrong += compare(f"MMBench {norm} from {predictions}", ours, theirs)
            mean = lambda values: 100 * sum(values) / len(values)
            wanted = {"circular": mean(list(circular.values())), "vanilla": mean([hits[g] for g in groups])}
            for kind in ("category", "l2-category"):
                for value in {r[kind] for r in table}:
                    wanted[f"circular/{value}"] = mean([c for g, c in circular.items() if groups[g][0][kind] == value])
            wrong += compare_metrics(f"MMBench {norm}", metrics, wanted)
    return wrong


def check_seed(args, folder, rng):
    types = {"Scene Understanding": 1, "Instance Identity": 2, "Action Recognition": 10}
    questions, rows = [], []
    for i in range(args.count):
        options = [rng.choice(["cat", "a dog", "red", text(rng, most=2)]) for _ in range(4)]
        kind = rng.choice(list(types.values()))
        questions.append({"answer": rng.choice("ABCD"), **{f"choice_{c}": o for c, o in zip("abcd", options)}, "data_id": str(i // 2), "data_type": "video" if kind == 10 else "image",
                          "question": "?", "question_id": str(100 + i) if i % 2 else f"v{100 + i}", "question_type_id": kind})
        rows.append({"question_id": 100 + i if i % 2 else f"v{100 + i}", "prompt": "?", "text": questions[-1]["answer"] if rng.random() < 0.5 else answer_text(rng, options)})
    (folder / "SEED-Bench.json").write_text(json.dumps({"question_type": types, "questions": questions}))
    write_lines(folder / "seed.jsonl", rows)
    printed, _ = quiet(args.llava / "scripts/convert_seed_for_submission.py", ["--annotation-file", folder / "SEED-Bench.json", "--result-file", folder / "seed.jsonl",
                                                                              "--result-upload-file", folder / "upload.jsonl"])
    wanted = {{"Total accuracy": "accuracy", "image accuracy": "accuracy/image", "video accuracy": "accuracy/video"}.get(k, f"accuracy/{k}"): float(v)
              for k, v in re.findall(r"^(.+): ([\d.]+)%$", printed, re.M)}
    ours, metrics, _ = bifocal(args.program, "seed", "llava", [folder / "SEED-Bench.json"], folder / "seed.jsonl", folder)
    wrong = compare_metrics("SEED llava, printed", {k: round(v, 2) for k, v in metrics.items()}, wanted)
    scope = functions(args.lmms / "lmms_eval/tasks/seedbench/utils.py", ["seed_process_result", "seed_aggregation_result"], {})
    vlm = functions(args.vlmevalkit / "vlmeval/utils/matching_util.py", ["can_infer_option", "can_infer_text", "can_infer"], {"string": string, "os": os, "cp": __import__("copy")})["can_infer"]
    for norm in ("lmms", "vlmevalkit"):
        ours, _, _ = bifocal(args.program, "seed", norm, [folder / "SEED-Bench.json"], folder / "seed.jsonl", folder)
        theirs = {}
        for q, r in zip(questions, rows):
            if norm == "lmms":
                theirs[q["question_id"]] = scope["seed_aggregation_result"]([scope["seed_process_result"](q, [r["text"].strip()])["seed_all"]])
            else:
                theirs[q["question_id"]] = float(vlm(r["text"].strip(), {c.upper(): q[f"choice_{c}"] for c in "abcd"}) == q["answer"])
        wrong += compare(f"SEED {norm}", ours, theirs)
    return wrong


def check_textvqa(args, folder, rng):
    source = (args.llava / "llava/eval/m4c_evaluator.py").read_text(encoding="utf-8").replace("from tqdm import tqdm", "tqdm = list")
    exec(source, m4c := {})
    evaluator = m4c["TextVQAAccuracyEvaluator"]()
    processor = functions(args.llava / "llava/eval/eval_textvqa.py", ["prompt_processor"], {"re": re})["prompt_processor"]
    data, rows, theirs, seen = [], [], {}, set()
    sentence = "\nAnswer the question using a single word or phrase."
    while len(data) < args.count // 2:
        i = len(data)
        question = f"{text(rng, most=5)}?".replace("\n", " ").replace(" Short answer:", "")
        image = f"{i // 3:016x}"
        if (image, question.lower()) in seen:
            continue
        seen.add((image, question.lower()))
        answers = [rng.choice(["stop", "yes", "t-shirt", text(rng, most=2)])] * 6 + [text(rng, most=2) for _ in range(4)]
        prompt = rng.choice([question + sentence, f"{question}\nReference OCR token: a, b{sentence}", f"Reference OCR token: {text(rng, most=2)!r}\n{question}{sentence}",
                             f"OCR tokens: a, b. Question: {question} Short answer:"])
        data.append({"question_id": 34600 + i, "image_id": image, "question": question.swapcase() if question.swapcase().lower() == question.lower() else question, "answers": answers})
        said = rng.choice([answers[0], answers[-1], text(rng, most=2)])
        rows.append({"question_id": image, "prompt": prompt, "text": said})
        assert processor(prompt) == question.lower(), (prompt, question)
        theirs[str(34600 + i)] = evaluator.eval_pred_list([{"pred_answer": said, "gt_answers": answers}])
    rng.shuffle(rows)
    (folder / "TextVQA.json").write_text(json.dumps({"data": data}))
    write_lines(folder / "textvqa.jsonl", rows)
    ours, _, _ = bifocal(args.program, "textvqa", "m4c", [folder / "TextVQA.json"], folder / "textvqa.jsonl", folder)
    return compare("TextVQA from LLaVA's rows", ours, theirs)


def write_golden(args, rng):
    scope = {"string": string, "os": os, "cp": __import__("copy"), "pd": type("pd", (), {"isna": staticmethod(lambda x: False)}), "eval_logger": type("log", (), {"info": staticmethod(lambda *a: None)})}
    lmms = functions(args.lmms / "lmms_eval/tasks/mmbench/mmbench_evals.py", ["MMBench_Evaluator"], scope)["MMBench_Evaluator"]()
    vlm = functions(args.vlmevalkit / "vlmeval/utils/matching_util.py", ["can_infer_option", "can_infer_text", "can_infer"], scope)["can_infer"]
    front = functions(args.lmms / "lmms_eval/tasks/scienceqa/utils.py", ["sqa_doc_to_target", "sqa_process_results"], {})["sqa_process_results"]
    rows = []
    for k in range(250):
        options = dict(zip("ABCD", rng.sample(["cat", "dog", "a red car", "banana", "İz", "tree"], rng.randint(2, 4))))
        answer = FIXED[k] if k < len(FIXED) else answer_text(rng, list(options.values()))
        full = {c: options.get(c, "nan") for c in "ABCD"}
        rows.append({"text": answer, "options": options, "vlmevalkit": vlm(answer, dict(options)) or "", "lmms": lmms.can_infer(answer, full) or "",
                     "front": "".join(c for c in "ABCDE" if front({"choices": "ABCDE", "answer": "ABCDE".index(c)}, [answer])["exact_match"])})
    return rows


def llava_letters(args, rows, folder):
    """What eval_science_qa.py parses, five options."""
    problems = {str(i): {"question": "", "choices": list("abcde"), "answer": 0} for i in range(len(rows))}
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps({"test": list(problems)}))
    write_lines(folder / "g.jsonl", [{"question_id": str(i), "prompt": "<image>", "text": r["text"]} for i, r in enumerate(rows)])
    quiet(args.llava / "llava/eval/eval_science_qa.py", ["--base-dir", folder, "--result-file", folder / "g.jsonl", "--output-file", folder / "o.json", "--output-result", folder / "r.json"])
    out = json.loads((folder / "o.json").read_text())
    parsed = {x["question_id"]: x["parsed_ans"] for x in out["correct"] + out["incorrect"]}
    for i, r in enumerate(rows):
        r["llava"] = parsed[str(i)] if parsed[str(i)] in "ABCDE" else ""


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    for name in ("llava", "lmms", "vlmevalkit"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--count", type=int, default=24000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    rng = random.Random(3)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wrong = sum(check(args, folder, rng) for check in (check_scienceqa, check_mmbench, check_seed, check_textvqa))
        if args.golden:
            args.golden.mkdir(exist_ok=True)
            rows = write_golden(args, rng)
            llava_letters(args, rows, folder)
            write_lines(args.golden / "choice.jsonl", rows)
    raise SystemExit(wrong > 0)


main()
