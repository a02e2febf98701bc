"""`bifocal score` of POPE and MME against the scorers' own code, item by item and number by number:

    python check_score_yes_no.py PATH/bifocal --pope CHECKOUT --llava CHECKOUT --mme calculation.py --lmms CHECKOUT --vlmevalkit CHECKOUT [--golden FOLDER]

CHECKOUT: of github.com/RUCAIBox/POPE (with its history: both published versions are scored), haotian-liu/LLaVA, EvolvingLMMs-Lab/lmms-eval and
open-compass/VLMEvalKit; calculation.py is MME's. Their functions are loaded from there and nothing of them is kept here.
"""
import argparse
import contextlib
import io
import json
import os
import random
import re
import subprocess
import tempfile
from pathlib import Path

from score_common import PIECES, bifocal, compare, compare_metrics, functions, text, write_lines

SPLITS = ["random", "popular", "adversarial"]
SENTENCE = "\nAnswer the question using a single word or phrase."


def pope_rows(checkout, commit):
    rows = {}
    for split in SPLITS:
        blob = subprocess.run(["git", "-C", checkout, "show", f"{commit}:output/coco/coco_pope_{split}.json"], check=True, capture_output=True, text=True).stdout
        rows[split] = [json.loads(line) for line in blob.splitlines()]
    return rows


def official_pope(checkout, labels, answers, folder):
    """evaluate.py as it is, its two file names filled in; returns what it prints."""
    write_lines(folder / "labels", [{"label": x} for x in labels])
    write_lines(folder / "answers", [{"answer": x} for x in answers])
    source = (checkout / "evaluate.py").read_text() if (checkout / "evaluate.py").exists() else subprocess.run(
        ["git", "-C", checkout, "show", "HEAD:evaluate.py"], check=True, capture_output=True, text=True).stdout
    source = source.replace("ans_file = ''", f"ans_file = {str(folder / 'answers')!r}").replace("label_file = ''", f"label_file = {str(folder / 'labels')!r}")
    scope, out = {}, io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(source, scope)
    return scope


def llava_pope(checkout, labels, answers, folder):
    scope, out = functions(checkout / "llava/eval/eval_pope.py", ["eval_pope"], {"json": json}), io.StringIO()
    with contextlib.redirect_stdout(out):
        scope["eval_pope"]([{"text": a} for a in answers], write_lines(folder / "labels", [{"label": x} for x in labels]))
    return {k: float(v) for k, v in re.findall(r"^(\w[\w ]*): ([\d.e-]+)$", out.getvalue(), re.M)}


def check_pope(args, folder, rng):
    wrong = 0
    for commit, version in (("e3e3926", "the first version"), ("3df3ba1", "the second version")):
        rows = pope_rows(args.pope, commit)
        files, through, predictions = [], [], {}
        for split in SPLITS:
            files.append(write_lines(folder / f"coco_pope_{split}.json", rows[split]))
            for row in rows[split]:
                answer = rng.choice([row["label"], row["label"].capitalize(), "yes", "no"]) if rng.random() < 0.5 else text(rng)
                through.append({"question_id": len(through), "image": row["image"], "text": row["text"] + SENTENCE, "category": split})
                predictions[len(through) - 1] = answer
        files.append(write_lines(folder / "llava_pope_test.jsonl", through))
        rng.shuffle(shuffled := [{"question_id": i, "prompt": "", "text": a} for i, a in predictions.items()])
        answers = write_lines(folder / "answers.jsonl", shuffled)
        labels = [row["label"] for split in SPLITS for row in rows[split]]
        lmms = functions(args.lmms / "lmms_eval/tasks/pope/utils.py", ["pope_process_results"] + [f"pope_aggregate_{k}" for k in
                         ("accuracy", "precision", "recall", "f1_score", "yes_ratio")], {})
        vlm = functions(args.vlmevalkit / "vlmeval/smp/misc.py", ["process_punctuation"], {"re": re})
        functions(args.vlmevalkit / "vlmeval/dataset/utils/yorn.py", ["YOrN_Extraction"], vlm)
        for norm in ("official", "lmms", "vlmevalkit"):
            ours, metrics, summary = bifocal(args.program, "pope", norm, files, answers, folder)
            if version not in summary["notes"][0]:
                wrong += 1
                print("not recognised:", summary["notes"])
            theirs, wanted, f1s = {}, {}, []
            of = {split: [i for i, q in enumerate(through) if q["category"] == split] for split in SPLITS}
            if norm == "official":
                for split in SPLITS:
                    scope = official_pope(args.pope, [labels[i] for i in of[split]], [predictions[i] for i in of[split]], folder)
                    for i, p in zip(of[split], scope["pred_list"]):
                        theirs[str(i)] = float((p == 1) == (labels[i] == "yes"))
                    got = llava_pope(args.llava, [labels[i] for i in of[split]], [predictions[i] for i in of[split]], folder)
                    for k, v in (("accuracy", scope["acc"]), ("precision", scope["precision"]), ("recall", scope["recall"]), ("F1", scope["f1"]), ("yes ratio", scope["yes_ratio"]),
                                 ("F1", got["F1 score"]), ("yes ratio", got["Yes ratio"])):
                        wanted[f"{k}/{split}"] = 100 * v
                    f1s.append(scope["f1"])
                wanted["F1"] = 100 * sum(f1s) / 3
            elif norm == "lmms":
                results = [lmms["pope_process_results"]({"answer": labels[i], "question_id": i}, [predictions[i].strip()])["pope_accuracy"] for i in range(len(labels))]
                theirs = {str(r["question_id"]): r["score"] for r in results}
                for name, group in [("", results)] + [(f"/{s}", [results[i] for i in of[s]]) for s in SPLITS]:
                    for ours_name, k in (("accuracy", "accuracy"), ("precision", "precision"), ("recall", "recall"), ("F1" if name else "F1 of all together", "f1_score"),
                                         ("yes ratio", "yes_ratio")):
                        wanted[ours_name + name] = 100 * lmms[f"pope_aggregate_{k}"](group)
            else:
                found = [vlm["YOrN_Extraction"](predictions[i]) for i in range(len(labels))]
                theirs = {str(i): float(found[i].lower() == labels[i]) for i in range(len(labels))}
                for name, group in [("", range(len(labels)))] + [(f"/{s}", of[s]) for s in SPLITS]:
                    tp = sum(found[i] == "Yes" and labels[i] == "yes" for i in group)
                    said, are = sum(found[i] == "Yes" for i in group), sum(labels[i] == "yes" for i in group)
                    wanted["precision" + name], wanted["recall" + name] = 100 * tp / said, 100 * tp / are
                    wanted["accuracy" + name] = 100 * sum(theirs[str(i)] for i in group) / len(group)
            wrong += compare(f"POPE {commit} {norm}", ours, theirs)
            wrong += compare_metrics(f"POPE {commit} {norm}", metrics, wanted)
    return wrong


def mme_files(folder, rng, subtasks, pictures):
    """The release's folders, questions in LLaVA's form, and predictions."""
    rows, gold = [], {}
    for k, subtask in enumerate(subtasks):
        base = folder / "release" / subtask / ("questions_answers_YN" if k % 2 else ".")
        base.mkdir(parents=True)
        for n in range(pictures):
            name = f"{n:04d}" if k % 3 else f"tt{n:05d}"
            questions = [f"Is this {rng.choice(PIECES).strip()} {i} of {n}?{'  ' if rng.random() < 0.1 else ' '}Please answer yes or no." for i in range(2)]
            (base / f"{name}.txt").write_text("".join(f"{q}\t{a}\n" for q, a in zip(questions, ("Yes", "No"))), encoding="utf-8")
            for q, a in zip(questions, ("Yes", "No")):
                core = q.replace(" Please answer yes or no.", "").strip() if rng.random() < 0.5 else q
                said = a if rng.random() < 0.4 else text(rng).replace("\t", " ").replace("\n", " ").replace("\r", " ")
                rows.append({"question_id": f"{subtask}/{name}.{rng.choice(['jpg', 'png'])}", "prompt": core + SENTENCE, "text": said})
                gold[f"{subtask}/{name}\n{q.replace('Please answer yes or no.', '').strip()}"] = (subtask, f"{name}.txt", q, a, said)
    return rows, gold


class Metrics:
    """What calculation.py takes from scikit-learn and does not need for its score."""

    accuracy_score = staticmethod(lambda a, b: sum(x == y for x, y in zip(a, b)) / len(a))
    confusion_matrix = staticmethod(lambda a, b, labels: [[0, 0], [0, 0]])
    precision_score = recall_score = staticmethod(lambda a, b, average: 0.0)


def check_mme(args, folder, rng):
    wrong = 0
    scope = {name: getattr(Metrics, name) for name in ("accuracy_score", "confusion_matrix", "precision_score", "recall_score")}

    scope["os"] = os
    functions(args.mme, ["calculate_metrics", "eval_type_dict"], scope)
    subtasks = sum(scope["eval_type_dict"].values(), [])
    rows, gold = mme_files(folder, rng, subtasks, args.count // 28)
    answers = write_lines(folder / "mme.jsonl", rows)
    (folder / "results").mkdir()
    for subtask in subtasks:
        with (folder / "results" / f"{subtask}.txt").open("w", encoding="utf-8") as f:
            f.writelines("\t".join(v[1:]) + "\n" for v in gold.values() if v[0] == subtask)
    lmms = functions(args.lmms / "lmms_eval/tasks/mme/utils.py", ["parse_pred_ans"], {})
    vlm = functions(args.vlmevalkit / "vlmeval/smp/misc.py", ["process_punctuation"], {"re": re})
    functions(args.vlmevalkit / "vlmeval/dataset/utils/yorn.py", ["YOrN_Extraction"], vlm)
    calculator = scope["calculate_metrics"]()
    parse = {"official": lambda t: calculator.parse_pred_ans((t + "\n").lower()), "lmms": lambda t: lmms["parse_pred_ans"](t.strip()),
             "vlmevalkit": lambda t: vlm["YOrN_Extraction"](t).lower()}
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        calculator.process_result(str(folder / "results"))
    printed = dict(re.findall(r"^\t (\S+)  score: (\S+)$", out.getvalue(), re.M))
    totals = re.findall(r"^total score: (\S+)", out.getvalue(), re.M)
    for norm in parse:
        ours, metrics, _ = bifocal(args.program, "mme", norm, [folder / "release"], answers, folder)
        wrong += compare(f"MME {norm}", ours, {i: float(parse[norm](v[4]) == v[3].lower()) for i, v in gold.items()})
        if norm == "official":
            wanted = {f"score/{k}": float(v) for k, v in printed.items()} | {"perception": float(totals[0]), "cognition": float(totals[1])}
            wrong += compare_metrics("MME official, from LLaVA's rows", metrics, wanted)
            _, metrics, _ = bifocal(args.program, "mme", norm, [folder / "results"], folder / "results", folder)
            wrong += compare_metrics("MME official, from the scorer's folder", metrics, wanted)
    return wrong


def write_golden(args, rng):
    """Texts with what each parser made of them."""
    lmms = functions(args.lmms / "lmms_eval/tasks/mme/utils.py", ["parse_pred_ans"], {})
    pope = functions(args.lmms / "lmms_eval/tasks/pope/utils.py", ["pope_process_results"], {})
    vlm = functions(args.vlmevalkit / "vlmeval/smp/misc.py", ["process_punctuation"], {"re": re})
    functions(args.vlmevalkit / "vlmeval/dataset/utils/yorn.py", ["YOrN_Extraction"], vlm)
    calculator = functions(args.mme, ["calculate_metrics"], {})["calculate_metrics"]()
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        for _ in range(250):
            t = text(rng)
            said = pope["pope_process_results"]({"answer": "yes", "question_id": 0}, [t])["pope_accuracy"]["prediction"]
            rows.append({"text": t, "pope": "yes" if official_pope(args.pope, ["yes", "yes"], ["yes", t], Path(temporary))["pred_list"][1] else "no",
                         "exact": said if said in ("yes", "no") else "other", "prefix": calculator.parse_pred_ans(t.lower()), "prefix_lmms": lmms["parse_pred_ans"](t),
                         "words": {"Yes": "yes", "No": "no"}.get(vlm["YOrN_Extraction"](t), "other")})
    write_lines(args.golden / "yes_no.jsonl", rows)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    for name in ("pope", "llava", "mme", "lmms", "vlmevalkit"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--count", type=int, default=28000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    rng = random.Random(11)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wrong = check_pope(args, folder, rng) + check_mme(args, folder, rng)
    if args.golden:
        args.golden.mkdir(exist_ok=True)
        write_golden(args, rng)
    raise SystemExit(wrong > 0)


main()
