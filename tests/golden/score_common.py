"""What the scripts check_score_*.py share: functions of the scorers' own code, loaded from checkouts that are given; awkward texts; runs of bifocal."""
import ast
import json
import subprocess
from pathlib import Path


def functions(path, names, scope):
    """Defines the named functions, classes and constants of a source file in `scope`."""
    tree = ast.parse(Path(path).read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)) and node.name in names:
            found.append(node)
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.targets[0].id in names:
            found.append(node)
    missing = set(names) - {n.name if hasattr(n, "name") else n.targets[0].id for n in found}
    if missing:
        raise SystemExit(f"{path}: no {missing}")
    for node in found:
        node.decorator_list = []
        if isinstance(node, ast.FunctionDef):
            node.returns = None
            for a in node.args.args:
                a.annotation = None
    exec(compile(ast.Module(body=found, type_ignores=[]), str(path), "exec"), scope)
    return scope


PIECES = ("yes no Yes No YES NO not Not nope yeah y n Y N yes. no. Yes, No, yes, the not, I don't know none nothing noon eyes Noyes yesno 1,000 3.5 . , ; : ! ? ( ) [ ] \" ' - -- / \\ _ * "
          "A B C D E F A. B. (A) (B) A) B: the answer is The answer is A. The answer is B. The answer is C answer İstanbul é É 네 아니오 예 日本 Σ ΑΣ ß １２ ％ ٣ \u00a0 \u3000 \u2009 \u200b red white "
          "3 5% 0 0.0 -1 1e3 inf nan 1_000 +5 .5 5. 0x10 12,345 tennis racket two").split(" ")
JOINTS = [" ", " ", " ", "  ", ",", ", ", ".", ". ", "\n", "\t", "-", "/", "", " ,", " .", "\x1f", "\r\n"]


def text(rng, pieces=PIECES, most=4):
    kind = rng.random()
    if kind < 0.7:
        return rng.choice(JOINTS).join(rng.choice(pieces) for _ in range(rng.randint(1, most)))
    if kind < 0.9:
        return "".join(rng.choice(pieces) + rng.choice(JOINTS) for _ in range(rng.randint(1, most + 4)))
    if kind < 0.97:
        return "".join(rng.choice("yesnoYESNO., \t\n'-?!ABC\u00e9\uac00\u0663") for _ in range(rng.randint(0, 12)))
    return rng.choice(["", " ", ".", "..", "\n", ",", "No", "not", "no,", "n,o", "yes" * 40])


def bifocal(program, task, norm, references, predictions, folder, more=()):
    """Items by id and the metrics by name."""
    command = [program, "score", task, str(predictions)]
    for r in references:
        command += ["--references", str(r)]
    command += (["--norm", norm] if norm else []) + ["--items", str(folder / "items.jsonl"), "--json", *more]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(f"{' '.join(map(str, command))}: {done.stderr}")
    summary = json.loads(done.stdout)
    rows = [json.loads(line) for line in (folder / "items.jsonl").open(encoding="utf-8")]
    return {r["question_id"]: r for r in rows}, {m["name"]: m["value"] for m in summary["metrics"]}, summary


def compare(name, ours, theirs, show=None):
    """theirs: id to score (or to any value that `ours` maps to); prints and counts differences."""
    wrong = [i for i in theirs if ours[i]["score"] != theirs[i] and abs(ours[i]["score"] - theirs[i]) > 1e-12]
    print(f"{name}: {len(theirs)} items, {len(wrong)} differ; mean {sum(map(float, theirs.values())) / len(theirs):.4f}")
    for i in wrong[:8]:
        print("   ", i, repr(ours[i]["prediction"]), "compared", repr(ours[i]["compared"]), "references", ours[i]["references"], "ours", ours[i]["score"], "theirs", theirs[i],
              show(i) if show else "")
    return len(wrong) + (len(ours) != len(theirs))


def compare_metrics(name, metrics, wanted, tolerance=1e-9):
    wrong = {k: (metrics.get(k), v) for k, v in wanted.items() if metrics.get(k) is None or abs(metrics[k] - v) > tolerance * max(1.0, abs(v))}
    print(f"{name}: {len(wanted)} numbers, {len(wrong)} differ")
    for k, v in list(wrong.items())[:10]:
        print("   ", k, "ours, theirs:", v)
    return len(wrong)


def write_lines(path, rows):
    path.write_text("".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows), encoding="utf-8")
    return path
