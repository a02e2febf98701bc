#!/usr/bin/env python3
"""Writes tests/golden/tars: small tars by Python's tarfile in its three formats, and what webdataset and Pillow make of such sources.

  ustar.tar, gnu.tar, pax.tar   samples with odd names: deep, long, in UTF-8, capital endings, keys that come twice, members of no sample
  NAME.jsonl                    one line a sample as webdataset groups it: key, the sizes of its members by ending
  resize.txt                    file n quality w h crc: a picture of tests/golden/images turned upright, resized to a shorter side of n (BICUBIC)
                                and saved as JPEG by Pillow; crc: zlib CRC-32 of that JPEG's RGB bytes

Run with webdataset and Pillow; made with webdataset 1.0.2 and Pillow 13.0.0.
"""
import io
import json
import pathlib
import tarfile
import zlib

import webdataset
from PIL import Image, ImageOps

OUT = pathlib.Path(__file__).parent / "tars"
IMAGES = pathlib.Path(__file__).parent / "images"
tarfile.RECORDSIZE = 512  # no padding to 10 KiB


def png(width):
    data = io.BytesIO()
    Image.new("RGB", (width, 1), (width, 2, 3)).save(data, "png")
    return data.getvalue()


def members(long_names):
    """(name, bytes or None for a folder, or a string for a link)"""
    deep = "x/" + "long-folder-name/" * 7  # 121 characters: the prefix of ustar takes it
    yield "top", None
    yield "top/00000.png", png(3)
    yield "top/00000.txt", b"first"
    yield "top/00000.json", b'{"uid": "0123456789abcdef0123456789abcdef", "key": "00000", "similarity": NaN, "exif": "{\\"a\\": \\"\\\\u0000\\"}"}'
    yield "top/00001.JPG", (IMAGES / "jpeg_1x1.jpg").read_bytes()
    yield "top/00001.TXT", b"second\n"
    yield "__meta__.json", b"{}"
    yield "README", b"no ending"
    yield "a.b/c.d/key.png", png(5)
    yield "a.b/c.d/key.txt", "dots in folders, \u00e9".encode()
    yield "link.png", "top/00000.png"
    yield "two.png", png(6)
    yield "two.txt", b"one of two"
    yield "three.cls", b"7"
    yield "three.png", png(7)
    yield "three.txt", b"three"
    yield "two.png", png(8)
    yield "two.txt", b"two of two"
    yield deep + "n.seg.png", b"not the picture"
    yield deep + "n.png", png(9)
    yield deep + "n.txt", b"deep"
    if long_names:
        far = "y/" + "folder/" * 60 + "n" * 120
        yield far + ".png", png(10)
        yield far + ".txt", b"far"
        yield "\u00fc\u4e2d/\u0434.png", png(11)
        yield "\u00fc\u4e2d/\u0434.txt", b"utf-8 names"
    yield "last.json", b'{"key": "k9", "caption": "only in json"}'
    yield "last.webp", (IMAGES / "webp_lossless.webp").read_bytes()


def write(name, form, long_names):
    with tarfile.open(OUT / f"{name}.tar", "w", format=form) as tar:
        for member, data in members(long_names):
            info = tarfile.TarInfo(member)
            info.mtime = 1234567890.25 if form == tarfile.PAX_FORMAT and member == "top" else 1234567890
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif isinstance(data, str):
                info.type, info.linkname = tarfile.SYMTYPE, data
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    with open(OUT / f"{name}.tar", "rb") as stream, open(OUT / f"{name}.jsonl", "w") as out:
        files = webdataset.tariterators.tar_file_iterator(stream)
        for sample in webdataset.tariterators.group_by_keys({**f, "__url__": name} for f in files):
            sizes = {k: len(v) for k, v in sample.items() if not k.startswith("__")}
            out.write(json.dumps({"key": sample["__key__"], "sizes": sizes}) + "\n")


def resized():
    with open(OUT / "resize.txt", "w") as out:
        for path in sorted(IMAGES.iterdir()):
            for n, quality in ((20, 95), (7, 60)):
                try:
                    image = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
                except Exception:  # broken on purpose
                    break
                if min(image.size) <= n:
                    continue
                width, height = image.size
                size = (n, int(n * height / width)) if width <= height else (int(n * width / height), n)
                data = io.BytesIO()
                image.resize(size, Image.Resampling.BICUBIC).save(data, "jpeg", quality=quality)
                pixels = Image.open(data).convert("RGB")
                out.write(f"{path.name} {n} {quality} {size[0]} {size[1]} {zlib.crc32(pixels.tobytes()):08x}\n")


if __name__ == "__main__":
    write("ustar", tarfile.USTAR_FORMAT, False)
    write("gnu", tarfile.GNU_FORMAT, True)
    write("pax", tarfile.PAX_FORMAT, True)
    resized()
