"""Clusters, near pairs and the Vendi score of embeddings against others:  python check_cluster.py PATH/bifocal

20,000 tiny pictures get made-up embeddings of 64 numbers as columns (a few hundred directions of very different weight, near duplicates, some empty).
 - k-means: the mean distance of `data cluster` at most 2 % above that of faiss (spherical, 20 iterations, one start) and of scikit-learn's KMeans (k-means++)
 - near pairs: `data dedup --method embedding --all-pairs --group any`: who stays, by numpy's products of all pairs
 - Vendi score: `data stats --embeddings`, to 1e-9 of numpy's eigenvalues
Needs faiss-cpu, scikit-learn, xxhash, pillow.
"""
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import faiss
import numpy as np
import xxhash
from PIL import Image
from sklearn.cluster import KMeans

ENV = os.environ | {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
ROWS, WIDTH, CLUSTERS, SHARDS = 20000, 64, 100, 4


def bifocal(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, env=ENV)
    if done.returncode != 0:
        raise SystemExit(f"bifocal {' '.join(map(str, arguments))}\nexit {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def make_rows(random):
    centres = random.standard_normal((300, WIDTH))
    weights = 1 / np.arange(1, 301)
    x = centres[random.choice(300, ROWS, p=weights / weights.sum())] + 0.7 * random.standard_normal((ROWS, WIDTH))
    copies = random.choice(ROWS, 2000, replace=False)
    x[copies[:1000]] = x[copies[1000:]] + 0.1 * random.standard_normal((1000, WIDTH))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    x[random.choice(ROWS, 20, replace=False)] = 0
    return x.astype(np.float16)


def write_column(shard, name, rows, digest):
    folder = shard.with_suffix(".columns")
    folder.mkdir(exist_ok=True)
    np.save(folder / f"{name}.npy", rows)
    note = {"format": "bifocal-column", "version": 1, "name": name, "of": "image", "type": "f16", "method": "made up", "rows": len(rows),
            "width": rows.shape[1], "shard": digest, "xxh3": xxhash.xxh3_128_hexdigest((folder / f"{name}.npy").read_bytes())}
    (folder / f"{name}.json").write_text(json.dumps(note))


def mean_distance(unit, label, clusters):
    sums = np.zeros((clusters, WIDTH))
    np.add.at(sums, label, unit)
    sums /= np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30)
    return 1 - (unit * sums[label]).sum(1).mean()


def main(program):
    random = np.random.default_rng(3)
    with tempfile.TemporaryDirectory() as scratch:
        scratch = Path(scratch)
        (scratch / "images").mkdir()
        with open(scratch / "list.jsonl", "w") as out:
            for i in range(ROWS):
                Image.fromarray(np.frombuffer(i.to_bytes(3, "little"), np.uint8).reshape(1, 1, 3)).save(scratch / "images" / f"{i}.png")
                out.write(json.dumps({"id": str(i), "image": f"{i}.png", "caption": f"number {i}"}) + "\n")
        bifocal(program, "data", "pack", "--input", scratch / "list.jsonl", "--image-root", scratch / "images", "--out", scratch / "pool", "--prefix", "s",
                "--max-samples", ROWS // SHARDS, "--quiet")
        # The order of the pool is that of the shards' digests.
        bifocal(program, "data", "dedup", "--method", "exact", "--match", "image", "--out", scratch / "any.sel", scratch / "pool")
        shards = json.loads(bifocal(program, "data", "selection", "--json", scratch / "any.sel"))["shards"]
        rows = make_rows(random)
        for k, shard in enumerate(shards):
            write_column(scratch / "pool" / shard["name"], "clip.image", rows[k * ROWS // SHARDS:(k + 1) * ROWS // SHARDS], shard["digest"])
        x = rows.astype(np.float64)
        there = np.linalg.norm(x, axis=1) > 0
        unit = x[there] / np.linalg.norm(x[there], axis=1, keepdims=True)

        start = time.time()
        bifocal(program, "data", "cluster", "--clusters", CLUSTERS, "--iterations", 20, "--json", scratch / "c.json", scratch / "pool")
        took = time.time() - start
        ours = json.load(open(scratch / "c.json"))["distance"]
        label = np.concatenate([np.load(scratch / "pool" / Path(s["name"]).with_suffix(".columns") / "clip.cluster.npy") for s in shards])[there]
        again = mean_distance(unit, label, CLUSTERS)
        start = time.time()
        quantizer = faiss.Kmeans(WIDTH, CLUSTERS, niter=20, spherical=True, seed=1, max_points_per_centroid=ROWS)
        quantizer.train(unit.astype(np.float32))
        theirs = mean_distance(unit, quantizer.index.search(unit.astype(np.float32), 1)[1][:, 0], CLUSTERS)
        faiss_took = time.time() - start
        sklearn = mean_distance(unit, KMeans(CLUSTERS, n_init=1, max_iter=20, random_state=1).fit(unit).labels_, CLUSTERS)
        print(f"k-means, mean distance: {ours:.5f} (of its own labels {again:.5f}, {took:.2f} s), faiss {theirs:.5f} ({faiss_took:.2f} s), scikit-learn {sklearn:.5f}")
        if not (ours <= 1.02 * min(theirs, sklearn) and abs(again - ours) < 1e-4):
            raise SystemExit("k-means is worse")

        bifocal(program, "data", "dedup", "--method", "embedding", "--all-pairs", "--cosine", 0.97, "--match", "image", "--group", "any", "--keep", "first",
                "--out", scratch / "near.sel", scratch / "pool")
        kept = json.loads(bifocal(program, "data", "selection", "--json", scratch / "near.sel"))["kept"]
        # Ids are strings: "10" comes before "2".
        ids = np.concatenate([np.arange(ROWS)[k * ROWS // SHARDS:(k + 1) * ROWS // SHARDS] for k in range(SHARDS)])
        names = [f"{int(Path(s['name']).stem[2:]) * (ROWS // SHARDS) + i}" for s in shards for i in range(ROWS // SHARDS)]
        order = sorted(np.flatnonzero(there), key=lambda i: names[i])
        ranked = x[order] / np.linalg.norm(x[order], axis=1, keepdims=True)
        goes = 0
        for at in range(0, len(ranked), 1000):
            cosines = ranked[at:at + 1000] @ ranked.T
            cosines[np.arange(cosines.shape[1])[None] >= at + np.arange(len(cosines))[:, None]] = -1
            goes += int((cosines.max(1) >= 0.97).sum())
        print(f"near pairs: {kept} stay, by numpy {ROWS - goes}")
        if kept != ROWS - goes:
            raise SystemExit("near pairs differ")

        stats = json.loads(bifocal(program, "data", "stats", "--embeddings", "clip", "--json", scratch / "pool"))
        found = [v for v in walk(stats) if v[0] == "vendi"]
        values = np.linalg.eigvalsh(unit.T @ unit / len(unit))
        values = values[values > 0]
        score = float(np.exp(-(values * np.log(values)).sum()))
        print(f"Vendi score: {found}, by numpy {score!r}")
        if not found or not all(abs(v - score) <= 1e-9 * score for _, v in found):
            raise SystemExit("Vendi score differs")


def walk(value, name=""):
    """All numbers of a JSON value with their names."""
    if isinstance(value, dict):
        for k, v in value.items():
            yield from walk(v, k)
    elif isinstance(value, list):
        for v in value:
            yield from walk(v, name)
    elif isinstance(value, (int, float)):
        yield name, value


if __name__ == "__main__":
    main(sys.argv[1])
