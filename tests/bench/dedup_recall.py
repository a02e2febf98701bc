"""dedup_recall.py make PICTURES FOLDER [COUNT]: variants of the pictures of a folder (Pillow), as JSON lines for bifocal data pack.
dedup_recall.py table FOLDER LIST...: recall and false pairs from the lists of bifocal data leak (each named METHOD-DISTANCE.jsonl), as a table in Markdown.

tests/bench/dedup_recall.sh runs both. A pair is an original and a variant; recall is the share of variants that match their own original, false pairs are
those of a variant and another original, as a share of all such pairs."""
import collections
import io
import json
import os
import sys

from PIL import Image, ImageDraw

TRANSFORMS = ["resize 75 %", "resize 50 %", "resize 25 %", "long side 224", "aspect 4:3", "q 95", "q 75", "q 50", "q 30", "PNG", "crop 5 %", "caption strip", "flip"]


def variant(picture, name):
    w, h = picture.size
    if name.startswith("resize"):
        share = int(name.split()[1]) / 100
        return picture.resize((max(8, round(w * share)), max(8, round(h * share))), Image.BICUBIC), 90
    if name.startswith("long side"):
        scale = 224 / max(w, h)
        return picture.resize((max(8, round(w * scale)), max(8, round(h * scale))), Image.LANCZOS), 90
    if name == "aspect 4:3":
        return picture.resize((400, 300), Image.BICUBIC), 90
    if name.startswith("q "):
        return picture, int(name.split()[1])
    if name == "PNG":
        return picture, None
    if name == "crop 5 %":
        return picture.crop((round(w * 0.025), round(h * 0.025), w - round(w * 0.025), h - round(h * 0.025))), 90
    if name == "caption strip":
        strip = picture.copy()
        draw = ImageDraw.Draw(strip)
        draw.rectangle((0, h - max(12, h // 10), w, h), fill=(0, 0, 0))
        draw.text((6, h - max(12, h // 10) + 2), "a caption that somebody wrote below", fill=(255, 255, 255))
        return strip, 90
    return picture.transpose(Image.FLIP_LEFT_RIGHT), 90


def make(pictures, folder, count):
    names = sorted(n for n in os.listdir(pictures) if n.lower().endswith((".jpeg", ".jpg")))[:count]
    os.makedirs(f"{folder}/variants", exist_ok=True)
    with open(f"{folder}/originals.jsonl", "w") as originals, open(f"{folder}/variants.jsonl", "w") as variants:
        for i, name in enumerate(names):
            originals.write(json.dumps({"id": f"{i}", "image": name, "caption": f"{i}"}) + "\n")
            picture = Image.open(f"{pictures}/{name}").convert("RGB")
            for k, transform in enumerate(TRANSFORMS):
                image, quality = variant(picture, transform)
                data = io.BytesIO()
                image.save(data, "PNG", compress_level=1) if quality is None else image.save(data, "JPEG", quality=quality)
                file = f"{i}-{k}.{'png' if quality is None else 'jpg'}"
                with open(f"{folder}/variants/{file}", "wb") as out:
                    out.write(data.getvalue())
                variants.write(json.dumps({"id": f"{i}/{k}", "image": file, "caption": f"{i}/{k}"}) + "\n")


def table(folder, lists):
    count = sum(1 for _ in open(f"{folder}/originals.jsonl"))
    rows = {}
    for path in lists:
        right, wrong = collections.Counter(), collections.Counter()
        for line in open(path):
            pair = json.loads(line)
            i, k = pair["sample"]["id"].split("/")
            (right if pair["other"]["id"] == i else wrong)[int(k)] += 1
        rows[os.path.basename(path).removesuffix(".jsonl")] = (right, wrong)
    every = count * (count - 1) * len(TRANSFORMS)
    print("| method and distance | " + " | ".join(TRANSFORMS) + " | false pairs | % of all | precision |\n" + "|---" * (len(TRANSFORMS) + 4) + "|")
    for name, (right, wrong) in rows.items():
        found, false = sum(right.values()), sum(wrong.values())
        recall = " | ".join(f"{100 * right[k] / count:.1f}" for k in range(len(TRANSFORMS)))
        print(f"| {name} | {recall} | {false} | {100 * false / every:.5f} | {100 * found / max(1, found + false):.1f} |")


if sys.argv[1] == "make":
    make(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1 << 30)
else:
    table(sys.argv[2], sys.argv[3:])
