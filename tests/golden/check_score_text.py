"""`bifocal score` of ChartQA, DocVQA, OCRBench and RefCOCO against the scorers' own code, item by item:

    python check_score_text.py PATH/bifocal --pix2struct CHECKOUT --qwen CHECKOUT --ocrbench CHECKOUT --lmms CHECKOUT --vlmevalkit CHECKOUT [--golden FOLDER]

CHECKOUT: of google-research/pix2struct, QwenLM/Qwen-VL (it holds the evaluation server's ANLS), Yuliang-Liu/MultimodalOCR, EvolvingLMMs-Lab/lmms-eval and
open-compass/VLMEvalKit. Their functions are run from there and nothing of them is kept here.
"""
import argparse
import ast
import contextlib
import io
import json
import random
import re
import tempfile
import types
from pathlib import Path

import numpy as np

from score_common import bifocal, compare, compare_metrics, functions, text, write_lines

NUMBERS = ("0 0.0 00 -0 1 14 14.7 14.0 13.3 100 95 94.99 105 105.01 5% 5 0.05 5%% 5 % 1e3 1000 1_000 1__0 _1 1_ inf -inf nan NaN infinity Infinit 0x10 .5 5. . - +5 ١٤ １４ 1４ 𝟏𝟒 १.५ 12,345 "
           "1.5e 1e+2 1e5000 \u00a05 5\u3000 \x1c5 5\n Yes yes YES no Orange Straße STRASSE İ ı").split(" ") + [" 14 ", "5 %", "%", "%%", ""]
LETTERS = ("CENTRE friend Friend x^2 \\frac{a}{b} ＡＢＣ ａｂｃ １２ ％ ｎｏ 　 é İ ß ﬁ ŉ ΐ ǰ ΑΣ 서울 a b the \t \n two\nlines $12.50 Tim's 12:30").split(" ")


def near(rng, value):
    """A text close to `value`."""
    kind = rng.random()
    with contextlib.suppress(ValueError):
        if kind < 0.5 and np.isfinite(float(value)):
            return repr(float(value) * rng.choice([1, 1.05, 0.95, 1.0500001, 0.9499999, 1.1, 0.96, -1, 0.01]))
    if kind < 0.6:
        return value.upper()
    if kind < 0.7:
        return f" {value}{rng.choice(['', ' ', '.', '%'])}"
    if kind < 0.8 and value:
        i = rng.randrange(len(value))
        return value[:i] + rng.choice(["", "x", "é", " "]) + value[i + 1:]
    return value if kind < 0.9 else text(rng, NUMBERS + LETTERS, 3)


def check_chartqa(args, folder, rng):
    official = functions(args.pix2struct / "pix2struct/metrics.py", ["relaxed_correctness", "aggregate_metrics"], {"Optional": __import__("typing").Optional})
    lmms = functions(args.lmms / "lmms_eval/tasks/chartqa/utils.py", ["relaxed_correctness"], {})["relaxed_correctness"]
    vlm = functions(args.vlmevalkit / "vlmeval/dataset/utils/vqa_eval.py", ["relaxed_correctness", "process_line", "hit_calculate"],
                    {"np": np, "Optional": __import__("typing").Optional, "listinstr": lambda names, s: any(n in s for n in names), "istype": is_list})
    wrong, rows, said, files = 0, {}, {}, []
    for split in ("human", "augmented"):
        data = []
        for n in range(args.count // 2):
            label = rng.choice(NUMBERS + LETTERS + [text(rng, most=2)])
            data.append({"imgname": f"{n // 2}.png", "query": f"{text(rng, most=3)}?{n}".replace("\n", " "), "label": label})
            rows[f"{split}/{n}"] = data[-1]
            said[f"{split}/{n}"] = near(rng, label)
        files.append(folder / f"test_{split}.json")
        files[-1].write_text(json.dumps(data))
    by_id = write_lines(folder / "chartqa.jsonl", [{"question_id": i, "text": t} for i, t in said.items()])
    by_name = write_lines(folder / "chartqa_named.jsonl", [{"question_id": rows[i]["imgname"], "prompt": f"{rows[i]['query']}\nShort.", "text": t} for i, t in said.items()])
    for norm, rule in (("official", lambda a, p: official["relaxed_correctness"](a, p)), ("lmms", lambda a, p: lmms(p.strip(), a)),
                       ("vlmevalkit", lambda a, p: np.max(vlm["process_line"]({"answer": a, "prediction": p}, method="relaxed_accuracy")["match"]))):
        theirs = {i: float(rule(rows[i]["label"], t)) for i, t in said.items()}
        ours, metrics, _ = bifocal(args.program, "chartqa", norm, files, by_id, folder)
        wrong += compare(f"ChartQA {norm}", ours, theirs)
        wanted = {"relaxed accuracy/" + s: 100 * np.mean([v for i, v in theirs.items() if i.startswith(s)]) for s in ("human", "augmented")}
        if norm == "official":
            wanted["relaxed accuracy"] = official["aggregate_metrics"]([[r["label"]] for r in rows.values()], list(said.values()), official["relaxed_correctness"])
        wrong += compare_metrics(f"ChartQA {norm}", metrics, wanted)
        ours, _, _ = bifocal(args.program, "chartqa", norm, files, by_name, folder)
        wrong += compare(f"ChartQA {norm}, by picture and query", ours, theirs)
    return wrong


def is_list(value, kind):
    try:
        return isinstance(ast.literal_eval(value), kind)
    except Exception:
        return False


def tsv(path, rows):
    import csv
    with path.open("w", encoding="utf-8", newline="") as f:
        writer = csv.DictWriter(f, list(rows[0]), delimiter="\t", lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return path


def check_docvqa(args, folder, rng):
    server = functions(args.qwen / "eval_mm/infographicsvqa_eval.py", ["levenshtein_distance", "evaluate_method", "question_ids_to_exclude", "answer_types", "evidence_types",
                                                                     "reasoning_requirements"], {"json": json})
    lmms = functions(args.lmms / "lmms_eval/api/metrics.py", ["levenshtein_distance", "anls"], {})["anls"]
    vlm = functions(args.vlmevalkit / "vlmeval/dataset/utils/vqa_eval.py", ["levenshtein_distance", "anls_compute", "process_line", "hit_calculate"],
                    {"np": np, "listinstr": lambda names, s: any(n in s for n in names), "istype": is_list})
    data, said = [], {}
    for i in range(args.count):
        answers = [" ".join(rng.choice(LETTERS + NUMBERS) for _ in range(rng.randint(1, 4))) for _ in range(rng.randint(1, 3))]
        data.append({"questionId": 100 + i, "question": "?", "question_types": [rng.choice(["table/list", "layout"])], "image": f"documents/{i // 3}.png", "answers": answers, "data_split": "val"})
        t = rng.choice(answers)
        for _ in range(rng.randint(0, 4)):
            t = near(rng, t)
        said[100 + i] = t
    references = folder / "val_v1.0_withQT.json"
    references.write_text(json.dumps({"dataset_name": "docvqa", "dataset_split": "val", "data": data}))
    predictions = folder / "docvqa.json"
    predictions.write_text(json.dumps([{"questionId": i, "answer": t} for i, t in said.items()]))
    scored = server["evaluate_method"](references, predictions, types.SimpleNamespace(answer_types=False, anls_threshold=0.5))
    wrong = 0
    for norm in ("official", "lmms", "vlmevalkit"):
        if norm == "official":
            theirs = {k: v["score"] for k, v in scored["per_sample"].items()} if "per_sample" in scored else {}
            theirs = theirs or {str(k): v["score"] for k, v in next(v for v in scored.values() if isinstance(v, dict) and len(v) == len(data)).items()}
        elif norm == "lmms":
            theirs = {str(d["questionId"]): lmms(references=d["answers"], predictions=[said[d["questionId"]].strip()])["anls"] for d in data}
        else:
            theirs = {str(d["questionId"]): vlm["hit_calculate"]([vlm["process_line"]({"answer": repr(d["answers"]), "prediction": said[d["questionId"]]}, method="anls")], "DocVQA")[0] for d in data}
        theirs = {str(k): float(v) for k, v in theirs.items()}
        ours, metrics, _ = bifocal(args.program, "docvqa", norm, [references], predictions, folder)
        wrong += compare(f"DocVQA {norm}", ours, theirs)
        wrong += compare_metrics(f"DocVQA {norm}", metrics, {"ANLS": 100 * float(np.mean(list(theirs.values())))})
        if norm == "vlmevalkit":
            table = tsv(folder / "docvqa.tsv", [{"index": d["questionId"], "image": "x" * 100, "question": "?", "answer": repr(d["answers"])} for d in data])
            ours, _, _ = bifocal(args.program, "docvqa", norm, [table], predictions, folder)
            wrong += compare("DocVQA vlmevalkit, its table", ours, theirs)
    return wrong


def official_ocrbench(checkout):
    """The loop of example.py that fills in "result"."""
    tree = ast.parse((checkout / "OCRBench/example.py").read_text(encoding="utf-8"))
    loops = [n for n in ast.walk(tree) if isinstance(n, ast.For) and "data_type" in ast.dump(n.body[0])]
    code = compile(ast.Module(body=loops[:1], type_ignores=[]), "example.py", "exec")

    def run(data):
        exec(code, {"data": data})
        return data

    return run


def check_ocrbench(args, folder, rng):
    real = json.loads((args.ocrbench / "OCRBench/OCRBench/OCRBench.json").read_text())
    made = []
    for i in range(args.count):
        one = rng.choice(real)
        answers = rng.choice([one["answers"], [text(rng, LETTERS, 3), rng.choice(LETTERS)], " ".join(rng.choice(LETTERS) for _ in range(2))])
        made.append({**one, "id": i, "answers": answers})
    run = official_ocrbench(args.ocrbench)
    lmms = functions(args.lmms / "lmms_eval/tasks/ocrbench/utils.py", ["_fold_fullwidth_ascii", "ocrbench_process_results"], {})["ocrbench_process_results"]
    wrong = 0
    for name, data in (("the 1,000", real), ("generated", made)):
        for d in data:
            answers = d["answers"] if isinstance(d["answers"], list) else [d["answers"]]
            d["predict"] = rng.choice(["It says ", "", " ", "\n"]) + near(rng, rng.choice(answers).replace(" ", rng.choice([" ", "", "\n"]))) + rng.choice(["", ".", " \n", "　"])
        references = folder / "OCRBench.json"
        references.write_text(json.dumps([{k: v for k, v in d.items() if k != "predict"} for d in data]))
        own = folder / "ocrbench_own.json"
        own.write_text(json.dumps(data))
        by_place = write_lines(folder / "ocrbench.jsonl", [{"question_id": i, "text": d["predict"]} for i, d in enumerate(data)])
        scored = run(json.loads(own.read_text()))
        theirs = {f"{d['dataset_name']}/{d['id']}": float(d.get("result", 0)) for d in scored}
        for predictions in (own, by_place):
            ours, metrics, _ = bifocal(args.program, "ocrbench", "official", [references], predictions, folder)
            wrong += compare(f"OCRBench official, {name}, {predictions.name}", ours, theirs)
        if len(data) == 1000:
            with contextlib.redirect_stdout(out := io.StringIO()):
                tree = ast.parse((args.ocrbench / "OCRBench/example.py").read_text(encoding="utf-8"))
                scope = {"data": scored}
                parts = [n for n in ast.walk(tree) if (isinstance(n, ast.Assign) and getattr(n.targets[0], "id", "") in ("OCRBench_score", "AllDataset_score", "num_all")) or
                         (isinstance(n, ast.If) and "1000" in ast.dump(n.test) and "len" in ast.dump(n.test))]
                exec(compile(ast.Module(body=parts, type_ignores=[]), "example.py", "exec"), scope)
            printed = {k: float(v) for k, v in re.findall(r"^(.+?)\(Total \d+\): ?(\d+)$", out.getvalue(), re.M)}
            wanted = {("score" if k == "Final Score" else f"score/{k}"): v for k, v in printed.items()}
            wrong += compare_metrics("OCRBench official, printed", metrics, wanted)
        theirs = {f"{d['dataset_name']}/{d['id']}": float(lmms({"answer": d["answers"], "dataset": d["dataset_name"], "question_type": d["type"]}, [d["predict"].strip()])["ocrbench_accuracy"]["score"])
                  for d in data}
        ours, _, _ = bifocal(args.program, "ocrbench", "lmms", [references], own, folder)
        wrong += compare(f"OCRBench lmms, {name}", ours, theirs)
    return wrong


def box_text(rng, box):
    kind = rng.random()
    digits = rng.choice([1, 2, 3, 4])
    numbers = [f"{b:.{digits}f}" for b in box]
    if kind < 0.5:
        return rng.choice(["", "The box is ", "[1, 2] or "]) + "[" + rng.choice([", ", ",", ",  ", ",\n"]).join(numbers) + "]" + rng.choice(["", ".", " and [0.0, 0.0, 1.0, 1.0]"])
    if kind < 0.7:
        return "[ " + ", ".join(numbers) + " ]"
    if kind < 0.8:
        return rng.choice(["[0, 0, 0, 0]", "[0.5, 0.5, 0.5, 0.5]", "[1, 1, 0, 0]", "[-0.1, -.2, 0.5, 0.5]", "[0.1 , 0.2, 0.3, 0.4]", "[0.1, 0.2, 0.3]", "0.1, 0.2, 0.3, 0.4", "[1., 2, 3, 4]", "[٠.١, 0, 1, 1]",
                           "[0, 0, 1, 1", "[[0, 0, 1, 1]]", "[0,0,1,1]x", "", "[a, b, c, d]", "[1e-1, 0, 1, 1]"])
    return "no box"


def check_refcoco(args, folder, rng):
    lmms = functions(args.lmms / "lmms_eval/tasks/refcoco/utils_rec.py", ["parse_float_sequence_within", "compute_iou", "compute_accuracy", "compute_center_accuracy"], {"re": re})
    rows, said = [], []
    for i in range(args.count):
        w, h = rng.randint(50, 640), rng.randint(50, 640)
        x, y = rng.uniform(0, w * 0.8), rng.uniform(0, h * 0.8)
        box = [x, y, rng.uniform(1, w - x), rng.uniform(1, h - y)]
        rows.append({"question_id": str(i), "file_name": f"{i // 4}.jpg", "width": w, "height": h, "bbox": box, "answer": ["a"]})
        unit = [box[0] / w, box[1] / h, (box[0] + box[2]) / w, (box[1] + box[3]) / h]
        said.append(box_text(rng, [u + rng.gauss(0, 0.05) for u in unit]))
    references = write_lines(folder / "refcoco.jsonl", rows)
    predictions = write_lines(folder / "refcoco_said.jsonl", [{"question_id": str(i), "text": t} for i, t in enumerate(said)])
    truth = [[r["bbox"][0] / r["width"], r["bbox"][1] / r["height"], (r["bbox"][0] + r["bbox"][2]) / r["width"], (r["bbox"][1] + r["bbox"][3]) / r["height"]] for r in rows]
    boxes = [lmms["parse_float_sequence_within"](t) for t in said]
    ours, metrics, _ = bifocal(args.program, "refcoco", None, [references], predictions, folder, ["--box-space", "unit"])
    wrong = compare("RefCOCO", ours, {str(i): float(lmms["compute_accuracy"](t, b, 0.5)) for i, (t, b) in enumerate(zip(truth, boxes))})
    mean = lambda values: 100 * sum(values) / len(values)
    found = [b != [0, 0, 0, 0] for b in boxes]
    wanted = {f"accuracy@{k}": mean([lmms["compute_accuracy"](t, b, k) for t, b in zip(truth, boxes)]) for k in (0.1, 0.3, 0.5, 0.7, 0.9)}
    wanted |= {"mean IoU": mean([lmms["compute_iou"](t, b) for t, b in zip(truth, boxes)]), "centre": mean([f and lmms["compute_center_accuracy"](t, b) for f, t, b in zip(found, truth, boxes)])}
    wrong += compare_metrics("RefCOCO", metrics, wanted, 1e-9)
    # the same boxes in the other spaces, written with enough digits, score the same
    for space in ("1000", "999", "pixel", "unit,padded", "1000,padded", "999,padded", "pixel,padded"):
        other = []
        for r, b, f in zip(rows, boxes, found):
            side = max(r["width"], r["height"])
            scale = {"1000": 1000, "999": 999, "unit": 1}.get(space.split(",")[0])
            values = []
            for k, v in enumerate(b):
                own = (r["width"], r["height"])[k % 2]
                pixel = v * own + ((side - own) // 2 if "padded" in space else 0)
                values.append(pixel if scale is None else pixel / side * scale if "padded" in space else v * scale)
            other.append("[" + ", ".join(f"{v:.12f}" for v in values) + "]" if f else "none")
        write_lines(folder / "refcoco_other.jsonl", [{"question_id": str(i), "text": t} for i, t in enumerate(other)])
        theirs = {i: r["score"] for i, r in ours.items()}
        got, _, _ = bifocal(args.program, "refcoco", None, [references], folder / "refcoco_other.jsonl", folder, ["--box-space", space])
        wrong += compare(f"RefCOCO in {space}", got, theirs)
    return wrong + check_qwen(args, folder, rng)


def check_qwen(args, folder, rng):
    """Qwen-VL's script scores single floats; boxes at the border may differ, so a few thousandths away from it are asked for."""
    source = (args.qwen / "eval_mm/evaluate_grounding.py").read_text()
    pattern = re.compile(re.search(r"PATTERN = re.compile\(r'(.*)'\)", source).group(1))
    rows, said, theirs = [], [], {}
    for i in range(args.count):
        w, h = rng.randint(50, 640), rng.randint(50, 640)
        x1, y1 = rng.uniform(0, w * 0.8), rng.uniform(0, h * 0.8)
        box = [x1, y1, rng.uniform(x1 + 1, w), rng.uniform(y1 + 1, h)]
        noisy = [round(max(0, min(999, b / s * 999 + rng.gauss(0, 40)))) for b, s in zip(box, (w, h, w, h))]
        t = "<ref>x</ref><box>({},{}),({},{})</box>".format(*noisy)
        a, b = pattern.findall(t)[0]
        got = [float(v) / 999 * s for v, s in zip(a.split(",") + b.split(","), (w, h, w, h))]
        inter = max(0, min(got[2], box[2]) - max(got[0], box[0])) * max(0, min(got[3], box[3]) - max(got[1], box[1]))
        union = (got[2] - got[0]) * (got[3] - got[1]) + (box[2] - box[0]) * (box[3] - box[1]) - inter
        iou = inter / union if union > 0 else 0
        if abs(iou - 0.5) < 1e-4 or got[2] < got[0] or got[3] < got[1]:
            continue
        theirs[str(len(rows))] = float(iou >= 0.5)
        said.append({"question_id": len(rows), "text": t})
        rows.append({"image": f"{i}.jpg", "sent": "x", "bbox": box, "width": w, "height": h})
    references, predictions = write_lines(folder / "qwen.jsonl", rows), write_lines(folder / "qwen_said.jsonl", said)
    ours, _, _ = bifocal(args.program, "refcoco", None, [references], predictions, folder, ["--box-space", "999"])
    return compare("RefCOCO, Qwen-VL's form", ours, theirs)


def write_golden(args, rng):
    relaxed = functions(args.pix2struct / "pix2struct/metrics.py", ["relaxed_correctness"], {"Optional": __import__("typing").Optional})["relaxed_correctness"]
    lmms = functions(args.lmms / "lmms_eval/api/metrics.py", ["levenshtein_distance", "anls"], {})["anls"]
    vlm = functions(args.vlmevalkit / "vlmeval/dataset/utils/vqa_eval.py", ["levenshtein_distance", "anls_compute"], {})["anls_compute"]
    ocr = official_ocrbench(args.ocrbench)
    fold = functions(args.lmms / "lmms_eval/tasks/ocrbench/utils.py", ["_fold_fullwidth_ascii", "ocrbench_process_results"], {})["ocrbench_process_results"]
    rows = []
    for i in range(250):
        answer = rng.choice(NUMBERS + LETTERS) if i % 2 else " ".join(rng.choice(LETTERS) for _ in range(3))
        said = near(rng, near(rng, answer))
        distance = vlm(answer, said)
        formula = bool(i % 3 == 0)
        rows.append({"question_id": i, "answer": answer, "text": said, "relaxed": float(relaxed(answer, said)), "relaxed_lmms": float(relaxed(answer, said.strip())),
                     "anls": lmms(references=[answer], predictions=[said])["anls"], "anls_vlmevalkit": 0.0 if 1 - distance < 0.5 else 1 - distance, "formula": formula,
                     "ocr": float(ocr([{"type": "x", "dataset_name": "HME100k" if formula else "svt", "answers": answer, "predict": said}])[0].get("result", 0)) if said else float(answer.strip() == ""),
                     "ocr_lmms": float(fold({"answer": answer, "dataset": "HME100k" if formula else "svt", "question_type": "x"}, [said.strip()])["ocrbench_accuracy"]["score"])})
    return rows


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program")
    for name in ("pix2struct", "qwen", "ocrbench", "lmms", "vlmevalkit"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--count", type=int, default=20000)
    parser.add_argument("--golden", type=Path)
    args = parser.parse_args()
    rng = random.Random(9)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        wrong = sum(check(args, folder, rng) for check in (check_chartqa, check_docvqa, check_ocrbench, check_refcoco))
    if args.golden:
        args.golden.mkdir(exist_ok=True)
        write_lines(args.golden / "text.jsonl", write_golden(args, rng))
    raise SystemExit(wrong > 0)


main()
