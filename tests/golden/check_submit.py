"""`bifocal submit` against LLaVA's own scripts/convert_*_for_submission.py, on the same predictions:

    python check_submit.py PATH/bifocal --llava CHECKOUT [--count 2000]

CHECKOUT: of github.com/haotian-liu/LLaVA. Needs pandas, openpyxl and tqdm, as they do. JSON files must be equal as JSON, the table cell by cell (their
script also keeps the columns answer and split)."""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import pandas as pd

WORDS = ("yes no Yes none two ten a an the A aint ain't couldn'tve hes what's 3 3.5 2. 1,000 1,,000 U.S.A. 2:30 (left) [x] \"quoted\" what? no! yes; a_b <b> & "
         "&amp; dog's ?s ,s . ... -5 --  \uc774 \u65e5\u672c \u00e9 \u0130stanbul \U0001f600 \u2026 \u00a0 tab\tx new\nline").split(" ")


def text(rng):
    return rng.choice([" ", " ", ",", "", "-"]).join(rng.choice(WORDS) for _ in range(rng.randint(1, 5)))


def convert(llava, name, *arguments):
    """One of their scripts in a process of its own; of their package only m4c_evaluator is imported, which needs nothing else."""
    code = ("import sys, types, importlib.util as u, runpy\n"
            "for n in ('llava', 'llava.eval'): sys.modules[n] = types.ModuleType(n)\n"
            f"s = u.spec_from_file_location('llava.eval.m4c_evaluator', {str(llava / 'llava/eval/m4c_evaluator.py')!r})\n"
            "m = u.module_from_spec(s); sys.modules[s.name] = m; s.loader.exec_module(m)\n"
            f"sys.argv = {[name, *map(str, arguments)]!r}\n"
            f"runpy.run_path({str(llava / 'scripts' / name)!r}, run_name='__main__')\n")
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)


def lines(path, rows):
    Path(path).write_text("".join(json.dumps(row) + "\n" for row in rows))


def read_lines(path):
    return [json.loads(line) for line in open(path)]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("program", type=lambda p: os.path.abspath(p))
    parser.add_argument("--llava", type=lambda p: Path(p).resolve(), required=True)
    parser.add_argument("--count", type=int, default=2000)
    a = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)

        def submit(task, questions, out, *options):
            subprocess.run([a.program, "submit", task, "predictions.jsonl", "--questions", questions, "--out", out, *options], check=True)

        ids = rng.sample(range(10 ** 9), a.count)
        answers = [text(rng) for _ in ids]
        rows = [{"question_id": i, "prompt": "what?", "text": t, "answer_id": "x", "model_id": "m", "metadata": {}} for i, t in zip(ids, answers)]
        questions = [{"question_id": i, "image": f"p{i}.jpg", "text": "what?"} for i in rng.sample(ids, len(ids))]
        # VQAv2: test asks more than test-dev answers.
        os.makedirs("answers/test-dev/m")
        rest = [{"question_id": 10 ** 9 + i, "image": "x.jpg", "text": "?"} for i in range(50)]
        lines("llava_vqav2_mscoco_test2015.jsonl", rest[:25] + questions + rest[25:])
        lines("answers/test-dev/m/merge.jsonl", rows)
        lines("predictions.jsonl", rows)
        convert(a.llava, "convert_vqav2_for_submission.py", "--dir", ".", "--ckpt", "m", "--split", "test-dev")
        submit("vqav2", "llava_vqav2_mscoco_test2015.jsonl", "mine.json", "--missing")
        assert json.load(open("mine.json")) == json.load(open("answers_upload/test-dev/m.json"))
        print("vqav2:", len(json.load(open("mine.json"))), "rows equal")
        lines("questions.jsonl", questions)
        convert(a.llava, "convert_vizwiz_for_submission.py", "--annotation-file", "questions.jsonl", "--result-file", "predictions.jsonl",
                "--result-upload-file", "up/vizwiz.json")
        submit("vizwiz", "questions.jsonl", "vizwiz.json")
        assert json.load(open("vizwiz.json")) == json.load(open("up/vizwiz.json"))
        print("vizwiz:", len(questions), "rows equal")
        # SEED: numbers and texts as ids.
        data = {"question_type": {"Scene": 1}, "questions": [
            {"question_id": i if k % 2 else str(i), "question_type_id": 1, "data_type": rng.choice(["image", "video"]), "answer": "A"} for k, i in enumerate(ids)]}
        json.dump(data, open("seed.json", "w"))
        convert(a.llava, "convert_seed_for_submission.py", "--annotation-file", "seed.json", "--result-file", "predictions.jsonl", "--result-upload-file", "up/seed.jsonl")
        submit("seed", "seed.json", "seed.jsonl")
        assert read_lines("seed.jsonl") == read_lines("up/seed.jsonl")
        print("seed:", len(ids), "rows equal")
        # MMBench.
        table = pd.DataFrame([{"index": i, "question": f"what\tis \"{i}\"?\n{text(rng)}", "hint": None, "A": "one", "B": "2", "C": rng.choice(["three", None]), "D": rng.choice(["<4>", None]), "answer": "A",
                               "category": "c", "image": "aGk=" * 100, "source": "s", "l2-category": "l", "comment": None, "split": "dev"} for i in ids])
        table.to_csv("mmbench.tsv", sep="\t", index=False)
        convert(a.llava, "convert_mmbench_for_submission.py", "--annotation-file", "mmbench.tsv", "--result-dir", ".", "--upload-dir", "up", "--experiment", "predictions")
        theirs = pd.read_excel("up/predictions.xlsx", keep_default_na=False, dtype=str)
        for end, read in (("xlsx", pd.read_excel), ("tsv", lambda p, **k: pd.read_csv(p, sep="\t", **k)), ("csv", pd.read_csv)):
            submit("mmbench", "mmbench.tsv", "mine." + end)
            mine = read("mine." + end, keep_default_na=False, dtype=str)
            assert list(mine.columns) == ["index", "question", "A", "B", "C", "D", "prediction"] == list(theirs.columns)[:7], list(theirs.columns)
            differ = (mine != theirs[mine.columns]).any(axis=1)
            assert not differ.any(), (mine[differ].head(), theirs[differ].head())
            print(f"mmbench.{end}:", len(mine), "rows equal")


main()
