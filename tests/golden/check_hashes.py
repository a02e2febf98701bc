#!/usr/bin/env python3
"""Compares `bifocal data hash` with imagehash, imagededup and PDQ, bit by bit.

  check_hashes.py --program build/bifocal [--pdq HASHER] [--make FOLDER] [FOLDER...]  compare on pictures of the folders and generated ones
  check_hashes.py --golden --pdq HASHER                      write tests/golden/hashes, from the packages alone

imagehash 4.3.2, imagededup 0.3.3 (its hashing module; torch is not needed), Pillow 13.0.0, SciPy 1.17.1, PyWavelets 1.8.0, pdqhash 0.2.8.
HASHER is pdq-photo-hasher of ThreatExchange's pdq/cpp, built with -Dcimg_use_jpeg -Dcimg_use_png; it decodes with the system's libjpeg as
bifocal does.
"""
import argparse
import collections
import io
import json
import pathlib
import subprocess
import sys
import types
import warnings
import zlib

import imagehash
import numpy as np
from PIL import Image

warnings.simplefilter("ignore")
for name, attribute in (("imagededup.methods.cnn", "CNN"), ("imagededup.utils.models", "CustomModel"),
                        ("imagededup.handlers.search.retrieval", "HashEval")):
    module = types.ModuleType(name)  # what needs torch, and hashing does not use
    setattr(module, attribute, None)
    if name.endswith("models"):
        module.DEFAULT_MODEL_NAME = ""
    sys.modules[name] = module
from imagededup.methods.hashing import AHash, DHash, PHash, WHash  # noqa: E402

GOLDEN = pathlib.Path(__file__).parent
DEDUP = {"ahash": AHash(verbose=False), "dhash": DHash(verbose=False), "phash": PHash(verbose=False), "whash": WHash(verbose=False)}
HASH = {"ahash": imagehash.average_hash, "dhash": imagehash.dhash, "phash": imagehash.phash, "whash": imagehash.whash}


def expected(path):
    """What the packages print; None where they cannot read the file."""
    out = {}
    try:
        with Image.open(path) as image:
            image.load()
            out["width"], out["height"] = image.size
            for name, function in HASH.items():
                out[name] = str(function(image))
    except Exception:
        return None
    for name, method in DEDUP.items():
        out[name + "_imagededup"] = method.encode_image(image_file=path)
    return out


def scene(rng, w, h):
    """Smooth colours, edges, and some noise."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = []
    for c in range(3):
        v = 128 + 100 * np.sin(x / rng.uniform(3, 60) + c) * np.cos(y / rng.uniform(3, 60) - c)
        v += rng.uniform(0, 80) * ((x * rng.uniform(-1, 1) + y * rng.uniform(-1, 1)) > rng.uniform(0, w))
        planes.append(v + rng.normal(0, rng.uniform(0, 20), (h, w)))
    return np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)


def flat_things(rng, w, h):
    """Where many coefficients are equal but for rounding: plain, gradients, stripes, checks, white paper with a little on it."""
    y, x = np.mgrid[0:h, 0:w]
    kind = rng.integers(0, 9)
    v = rng.integers(0, 256)
    if kind == 0:
        a = np.full((h, w), v)
    elif kind == 1:
        a = x * 255 // max(w - 1, 1)
    elif kind == 2:
        a = y * 255 // max(h - 1, 1)
    elif kind == 3:
        a = ((x // 8 + y // 8) % 2) * 255
    elif kind == 4:
        a = np.minimum(x, w - 1 - x) * 255 // max(w // 2, 1)
    elif kind == 5:
        a = np.full((h, w), 255)
        a[h // 4:h // 2, w // 4:w // 3] = v
    elif kind == 6:
        a = (x % 16 < 8) * v
    elif kind == 7:
        a = np.full((h, w), v)
        a[rng.integers(0, h), rng.integers(0, w)] = 255 - v
    else:
        a = np.hypot(x - w / 2, y - h / 2)
    a = np.clip(a, 0, 255).astype(np.uint8)
    return np.stack([a, a if rng.integers(0, 2) else 255 - a, a], -1)


def generate(folder, count):
    """Pictures of every mode that is read, in many sizes."""
    rng = np.random.default_rng(1)
    folder.mkdir(parents=True, exist_ok=True)
    modes = ["rgb", "grey", "la", "rgba", "palette", "palette_alpha", "palette_one", "bit", "i16", "cmyk", "jpeg_grey", "jpeg", "jpeg_exif",
             "webp", "webp_alpha", "webp_lossless", "rgb_trns", "progressive"]
    for i in range(count):
        mode = modes[i % len(modes)]
        if i % 7 == 0:
            w, h = (int(v) for v in rng.integers(1, 40, 2))
        elif i % 7 == 1:
            w, h = int(rng.integers(1, 1400)), int(rng.integers(1, 1400))
        else:
            w, h = (int(v) for v in 2 ** rng.uniform(3, 10, 2))
        rgb = flat_things(rng, w, h) if i % 3 == 0 else scene(rng, w, h)
        image = Image.fromarray(rgb)
        alpha = Image.fromarray((rng.integers(0, 2, (h, w)) * rng.integers(0, 256)).astype(np.uint8))
        options, suffix = {}, "png"
        if mode == "grey":
            image = image.convert("L")
        elif mode == "la":
            image = image.convert("LA")
            image.putalpha(alpha)
        elif mode in ("rgba", "webp_alpha"):
            image.putalpha(alpha)
        elif mode.startswith("palette"):
            image = image.quantize(int(rng.integers(2, 257)))
            if mode == "palette_alpha":
                options["transparency"] = bytes(rng.integers(0, 256, 20, dtype=np.uint8))
            elif mode == "palette_one":
                options["transparency"] = 0
        elif mode == "bit":
            image = image.convert("1")
        elif mode == "i16":
            image = Image.fromarray(rgb[..., 0].astype(np.uint16) * int(rng.integers(1, 258)))
        elif mode == "rgb_trns":
            options["transparency"] = tuple(int(v) for v in rgb[0, 0])
        elif mode == "cmyk":
            image, suffix = image.convert("CMYK"), "jpg"
        elif mode in ("jpeg", "jpeg_grey", "jpeg_exif", "progressive"):
            suffix, options = "jpg", {"quality": int(rng.integers(20, 96)), "progressive": mode == "progressive"}
            if mode == "jpeg_grey":
                image = image.convert("L")
            if mode == "jpeg_exif":
                exif = Image.Exif()
                exif[274] = int(rng.integers(1, 9))
                options["exif"] = exif
        if mode.startswith("webp"):
            suffix, options = "webp", {"lossless": mode == "webp_lossless", "quality": 80}
        image.save(folder / f"{i:05d}_{mode}.{suffix}", **options)


def bits(a, b):
    return bin(int(a, 16) ^ int(b, 16)).count("1")


def compare(program, hasher, folders):
    paths = sorted(str(p) for f in folders for p in pathlib.Path(f).iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))
    run = subprocess.run([program, "data", "hash", *paths], capture_output=True, text=True)
    lines = [json.loads(line) for line in run.stdout.splitlines()]
    assert [line["file"] for line in lines] == paths, run.stderr
    wrong, checked, refused, modes = collections.Counter(), 0, 0, collections.Counter()
    for path, line in zip(paths, lines):
        want = expected(path)
        if want is None or "error" in line:
            refused += 1
            print(f"{path}: " + ("refused by both" if want is None and "error" in line else f"package {want}, bifocal {line}"))
            wrong["refused by one"] += not (want is None and "error" in line)
            continue
        with Image.open(path) as image:
            modes[f"{image.format} {image.mode}"] += 1
        checked += 1
        for key, value in want.items():
            if line[key] != value:
                wrong[key] += 1
                print(f"{path}: {key} is {line[key]}, must be {value}")
    print(f"{checked} pictures compared ({dict(modes)}), {refused} refused; wrong: {dict(wrong)}")
    ok = not wrong
    try:
        import pdqhash
        tally = collections.Counter()
        for path, line in zip(paths, lines):
            if "error" in line or min(line["width"], line["height"]) < 5:
                continue
            with Image.open(path) as image:
                vector, quality = pdqhash.compute(np.asarray(image.convert("RGB")))
            theirs = hexed(vector)
            size = "within 512" if max(line["width"], line["height"]) <= 512 else "above 512"
            good = "quality >= 50" if quality >= 50 else "quality < 50"
            tally[size, good, "equal" if theirs == line["pdq"] else "<= 4 bits" if bits(theirs, line["pdq"]) <= 4 else "more bits"] += 1
            tally[size, good, "other quality"] += quality != line["pdq_quality"]
        for key in sorted(tally):
            print("pdqhash (no 512 x 512):", *key, tally[key])
    except ImportError:
        print("pdqhash is not installed")
    if hasher:
        tally = collections.Counter()
        chosen = [(p, line) for p, line in zip(paths, lines) if "error" not in line and p.lower().endswith((".jpg", ".jpeg"))]
        for path, line in chosen:
            with Image.open(path) as image:
                if image.mode == "CMYK":
                    continue
            one = subprocess.run([hasher, path], capture_output=True, text=True)
            if one.returncode != 0:
                tally["the reference fails"] += 1
                continue
            theirs, quality = one.stdout.split(",")[:2]
            size = "within 512" if max(line["width"], line["height"]) <= 512 else "above 512"
            same = theirs == line["pdq"] and int(quality) == line["pdq_quality"]
            tally[size, "equal" if same else f"{bits(theirs, line['pdq'])} bits"] += 1
        for key in sorted(tally, key=str):
            print("C++ reference:", key, tally[key])
    return ok


def hexed(vector):
    return np.packbits(vector.astype(np.uint8)).tobytes().hex()


def golden(hasher):
    """Plain and symmetric pictures beside those of tests/golden/images, and what the packages and the reference make of all of them."""
    import pdqhash
    folder = GOLDEN / "hashes"
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(3)
    sizes = [(64, 64), (40, 90), (100, 100), (256, 256), (520, 33), (5, 200), (13, 7), (128, 300)]
    for i in range(18):
        w, h = sizes[i % len(sizes)]
        Image.fromarray(flat_things(rng, w, h)).convert("L" if i % 4 == 3 else "RGB").save(folder / f"plain{i:02d}.png", optimize=True)
    out = ["# file width height, a d p w of imagehash, a d p w of imagededup, PDQ and its quality by the C++ reference (- where it reads the",
           "# file otherwise), CRC-32 of its eight forms by pdqhash (- where its luma differs)"]
    names = sorted(p for p in (GOLDEN / "images").iterdir() if p.suffix in (".jpg", ".png", ".webp"))
    for path in names + sorted(folder.glob("*.png")):
        want = expected(path)
        if want is None:
            continue
        row = [f"{path.parent.name}/{path.name}", str(want["width"]), str(want["height"])]
        row += [want[k] for k in HASH] + [want[k + "_imagededup"] for k in HASH] + ["-", "-", "-"]
        with Image.open(path) as image:
            if image.mode in ("RGB", "L") and path.suffix != ".webp" and "16" not in path.name and "trns" not in path.name:
                one = subprocess.run([hasher, str(path)], capture_output=True, text=True)
                row[11:13] = one.stdout.split(",")[:2]
                if 5 <= min(image.size) and max(image.size) <= 512 and image.size != (64, 64):
                    forms, _ = pdqhash.compute_dihedral(np.asarray(image.convert("RGB")))
                    if hexed(forms[0]) == row[11]:
                        row[13] = f"{zlib.crc32(bytes.fromhex(''.join(hexed(form) for form in forms))):08x}"
        out.append(" ".join(row))
    (folder / "values.txt").write_text("\n".join(out) + "\n")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--program")
    parser.add_argument("--pdq")
    parser.add_argument("--make")
    parser.add_argument("--count", type=int, default=1080)
    parser.add_argument("--golden", action="store_true")
    parser.add_argument("folders", nargs="*")
    arguments = parser.parse_args()
    if arguments.golden:
        golden(arguments.pdq)
        return 0
    if arguments.make:
        generate(pathlib.Path(arguments.make), arguments.count)
    return 0 if compare(arguments.program, arguments.pdq, arguments.folders + ([arguments.make] if arguments.make else [])) else 1


if __name__ == "__main__":
    sys.exit(main())
