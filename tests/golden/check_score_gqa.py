"""`bifocal score gqa` against the scorers' own code: every item, and every number that eval.py computes.

    python check_score_gqa.py PATH/bifocal --gqa eval.py --llava CHECKOUT --lmms CHECKOUT --vlmevalkit CHECKOUT [--count 20000] [--golden FOLDER]

eval.py is the one of GQA's download page. It and the functions of the checkouts (haotian-liu/LLaVA, EvolvingLMMs-Lab/lmms-eval, open-compass/VLMEvalKit)
are run from there and nothing of them is kept here.
"""
import argparse
import contextlib
import io
import json
import random
import runpy
import string
import sys
import tempfile
from pathlib import Path

import numpy as np

from score_common import PIECES, bifocal, compare, compare_metrics, functions, text, write_lines

WORDS = ["yes", "no", "red", "dark brown", "Coffee table", "t-shirt", "left", "U.S.A.", "é", "ΑΣ", "네", "2", "wood.", "", " blue", "color", "shape"]


def make(rng, count):
    questions, choices, predictions = {}, {}, {}
    for i in range(count):
        structural = rng.choice(["query", "query", "verify", "choose", "logical", "compare"])
        answer = rng.choice(["yes", "no"]) if structural in ("verify", "logical") else rng.choice(WORDS + [text(rng, most=1)])
        group = rng.choice([None, "color", "furniture", "vehicle", "group \u00e9"])
        operations = [{"operation": rng.choice(["select", "query", "exist", "choose name", "verify color", "filter color"]), "dependencies": [],
                       "argument": rng.choice(["name", "color", "exist", "table (123)", "?", ""])} for _ in range(rng.randint(1, 6))]
        questions[f"{i:08d}"] = {
            "semantic": operations, "entailed": [f"{rng.randrange(count):08d}" for _ in range(rng.randint(0, 3))] + ([f"{i:08d}"] if rng.random() < 0.5 else []),
            "equivalent": [f"{i:08d}"], "question": text(rng, most=6), "imageId": f"n{i // 4}", "isBalanced": rng.random() < 0.8,
            "groups": {"global": group, "local": "x"}, "answer": answer, "semanticStr": "", "annotations": {"answer": {}, "question": {}, "fullAnswer": {}},
            "types": {"structural": structural, "semantic": rng.choice(["attr", "cat", "global", "obj", "rel"]), "detailed": rng.choice(["existC", "twoCommon", "categoryThis"])},
            "fullAnswer": ""}
        choices[f"{i:08d}"] = {"valid": rng.sample(WORDS, 6), "plausible": rng.sample(WORDS, 3)}
        predictions[f"{i:08d}"] = rng.choice([answer, answer, answer + ".", answer.upper(), answer + "..", " " + answer, answer + "\n", rng.choice(WORDS), text(rng)])
    return questions, choices, predictions


def official(script, folder, predictions, consistency):
    (folder / "predictions.json").write_text(json.dumps([{"questionId": k, "prediction": v} for k, v in predictions.items()]))
    before, sys.argv = sys.argv, [str(script), "--questions", str(folder / "questions.json"), "--choices", str(folder / "choices.json"), "--predictions",
                                  str(folder / "predictions.json")] + (["--consistency"] if consistency else [])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        scope = runpy.run_path(str(script))
    sys.argv = before
    s = scope["scores"]
    wanted = {k: s[k] for k in ("accuracy", "binary", "open", "validity", "plausibility")} | {"distribution (lower is better)": s["distribution"]}
    if consistency:
        wanted["consistency"] = s["consistency"]
    for kind, name in (("accuracyPerStructuralType", "accuracy/{}"), ("accuracyPerSemanticType", "accuracy/{}"), ("accuracyPerLength", "accuracy/{} words"),
                       ("accuracyPerSteps", "accuracy/{} steps")):
        wanted |= {name.format(k): v[0] for k, v in s[kind].items()}
    return wanted


def llava(checkout, folder, predictions):
    """What scripts/convert_gqa_for_eval.py makes of LLaVA's rows."""
    write_lines(folder / "rows.jsonl", [{"question_id": k, "text": v} for k, v in predictions.items()])
    script = checkout / "scripts/convert_gqa_for_eval.py"
    before, sys.argv = sys.argv, [str(script), "--src", str(folder / "rows.jsonl"), "--dst", str(folder / "converted.json")]
    runpy.run_path(str(script))
    sys.argv = before
    return {r["questionId"]: r["prediction"] for r in json.loads((folder / "converted.json").read_text())}


def is_list(text_of_answer, kind):
    return False


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    for name in ("gqa", "llava", "lmms", "vlmevalkit"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    rng = random.Random(5)
    lmms = functions(args.lmms / "lmms_eval/api/metrics.py", ["exact_match_hf_evaluate"], {"np": np, "string": string})["exact_match_hf_evaluate"]
    vlm = functions(args.vlmevalkit / "vlmeval/dataset/utils/vqa_eval.py", ["process_line"], {"istype": is_list})["process_line"]
    wrong = 0
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for count in (args.count, 120):
            questions, choices, predictions = make(rng, count)
            (folder / "questions.json").write_text(json.dumps(questions))
            (folder / "choices.json").write_text(json.dumps(choices))
            files = [folder / "questions.json", folder / "choices.json"]
            rows = write_lines(folder / "p.jsonl", [{"question_id": k, "text": v} for k, v in predictions.items()])
            balanced = [k for k, q in questions.items() if q["isBalanced"]]
            theirs = {"official": official(args.gqa, folder, predictions, True), "llava": official(args.gqa, folder, llava(args.llava, folder, predictions), True)}
            for norm in ("official", "llava", "lmms", "vlmevalkit"):
                ours, metrics, _ = bifocal(args.program, "gqa", norm, files, rows, folder)
                if norm in theirs:
                    wrong += compare_metrics(f"GQA {norm}", metrics, theirs[norm], 1e-12)
                else:
                    if norm == "lmms":
                        one = {k: float(lmms(predictions=[predictions[k].strip()], references=[questions[k]["answer"]], ignore_case=True, ignore_punctuation=True)["exact_match"]) for k in balanced}
                    else:
                        one = {k: vlm({"answer": questions[k]["answer"], "prediction": predictions[k]}, method="accuracy")["match"][0] for k in balanced}
                    wrong += compare(f"GQA {norm}", {k: ours[k] for k in balanced}, one)
                    theirs[norm] = {"accuracy": 100 * sum(one.values()) / len(one)}
                    wrong += compare_metrics(f"GQA {norm}", metrics, theirs[norm], 1e-12)
            few = {k: v for k, v in predictions.items() if questions[k]["isBalanced"]}
            (folder / "few.json").write_text(json.dumps([{"questionId": k, "prediction": v} for k, v in few.items()]))
            _, metrics, summary = bifocal(args.program, "gqa", "official", files[:1], folder / "few.json", folder)
            wanted = official(args.gqa, folder, predictions, False)
            wrong += compare_metrics("GQA official, balanced questions alone", metrics, {k: v for k, v in wanted.items() if k not in ("validity", "plausibility")}, 1e-12)
            if "consistency" in metrics or "validity" in metrics or "no consistency" not in summary["notes"][0]:
                wrong += 1
                print("numbers that cannot be had:", metrics.keys(), summary["notes"])
        if args.golden:
            args.golden.mkdir(exist_ok=True)
            for q in questions.values():
                for k in ("equivalent", "semanticStr", "annotations", "fullAnswer"):
                    q.pop(k)
                for o in q["semantic"]:
                    o.pop("dependencies")
            for name, value in (("questions.json", questions), ("choices.json", choices), ("wanted.json", theirs)):
                (args.golden / name).write_text(json.dumps(value, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")
            write_lines(args.golden / "predictions.jsonl", [{"question_id": k, "text": v} for k, v in predictions.items()])
    raise SystemExit(wrong > 0)


main()
