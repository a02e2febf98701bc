#!/usr/bin/env python3
"""Writes tests/golden/images: small picture files of every kind bifocal reads, and what Pillow and CLIPImageProcessor make of them.

  decode.txt      file width height crc          crc: zlib CRC-32 of the RGB bytes after exif_transpose and convert("RGB")
  resize.txt      w h out_w out_h crc            Image.resize(BICUBIC) of pattern(w, h)
  crops.txt       w h x y box_w box_h size crc   crop(box) and resize((size, size), BICUBIC) of pattern(w, h)
  preprocess.txt  fit w h size crc_u8 crc_f32    fit crop|pad|squash; u8 [S, S, 3] and f32 [3, S, S] of pattern(w, h)
  files.txt       fit file size crc_u8 crc_f32   the same of a file, decoded as in decode.txt

Run with Pillow and transformers (PIL backend) installed; made with Pillow 13.0.0. The pictures come from fixed seeds.
"""
import io
import pathlib
import random
import struct
import warnings
import zlib

import numpy as np
from PIL import Image, ImageOps
from PIL.PngImagePlugin import PngInfo
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

warnings.simplefilter("ignore")
OUT = pathlib.Path(__file__).parent / "images"
rng = np.random.default_rng(7)
random.seed(7)


def photo(w, h, channels=3):
    """Smooth colours with an edge and some noise, so that every coder has work to do."""
    y, x = np.mgrid[0:h, 0:w].astype(float)
    planes = []
    for c in range(channels):
        v = 128 + 90 * np.sin(x / (5 + 3 * c) + c) * np.cos(y / (7 - c))
        v += 50 * ((x + y) > (w + h) / 2) + rng.normal(0, 6, (h, w))
        planes.append(v)
    a = np.clip(np.stack(planes, -1), 0, 255).astype(np.uint8)
    return a[:, :, 0] if channels == 1 else a


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(samples, depth, kind, interlace=False, palette=None, trns=None):
    """samples: [h, w, channels] integers. Every row has filter 0; Pillow's own files bring the other filters."""
    h, w, _ = samples.shape

    def rows(part):
        out = b""
        for row in part:
            flat = row.reshape(-1)
            if depth == 16:
                body = flat.astype(">u2").tobytes()
            elif depth == 8:
                body = flat.astype(np.uint8).tobytes()
            else:
                bits = "".join(format(int(v), f"0{depth}b") for v in flat)
                bits += "0" * (-len(bits) % 8)
                body = bytes(int(bits[i:i + 8], 2) for i in range(0, len(bits), 8))
            out += b"\0" + body
        return out

    if interlace:
        raw = b""
        for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
            part = samples[y0::dy, x0::dx]
            if part.size:
                raw += rows(part)
    else:
        raw = rows(samples)
    out = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", struct.pack(">IIBBBBB", w, h, depth, kind, 0, 0, int(interlace)))
    if palette is not None:
        out += chunk(b"PLTE", palette.astype(np.uint8).tobytes())
    if trns is not None:
        out += chunk(b"tRNS", trns)
    return out + chunk(b"IDAT", zlib.compress(raw, 9)) + chunk(b"IEND", b"")


def exif(value, big=False):
    e = ">" if big else "<"
    entry = struct.pack(e + "HHI", 274, 3, 1) + struct.pack(e + "HH", value, 0)
    return (b"MM\0*" if big else b"II*\0") + struct.pack(e + "I", 8) + struct.pack(e + "H", 1) + entry + b"\0\0\0\0"


def xmp(value):
    return f'<x:xmpmeta><rdf:Description tiff:Orientation="{value}"/></x:xmpmeta>'.encode()


def save(image, **options):
    buffer = io.BytesIO()
    image.save(buffer, **options)
    return buffer.getvalue()


files = {}

rgb = Image.fromarray(photo(45, 35))
for name, sub in (("444", 0), ("422", 1), ("420", 2)):
    files[f"jpeg_{name}.jpg"] = save(rgb, format="JPEG", quality=85, subsampling=sub)
    files[f"jpeg_{name}_progressive.jpg"] = save(rgb, format="JPEG", quality=70, subsampling=sub, progressive=True)
files["jpeg_grey.jpg"] = save(Image.fromarray(photo(33, 17, 1)), format="JPEG", quality=80)
files["jpeg_rgb.jpg"] = save(rgb, format="JPEG", quality=80, keep_rgb=True)
files["jpeg_restart.jpg"] = save(rgb, format="JPEG", quality=80, restart_marker_blocks=2)
files["jpeg_1x1.jpg"] = save(Image.fromarray(photo(1, 1)), format="JPEG")
files["jpeg_3x50.jpg"] = save(Image.fromarray(photo(3, 50)), format="JPEG", subsampling=2)
files["jpeg_big.jpg"] = save(Image.fromarray(photo(160, 120)), format="JPEG", quality=75)
cmyk = save(Image.fromarray(photo(30, 22, 4), mode="CMYK"), format="JPEG", quality=90)
files["jpeg_cmyk.jpg"] = cmyk
at = cmyk.index(b"Adobe") + 11
files["jpeg_ycck.jpg"] = cmyk[:at] + b"\2" + cmyk[at + 1:]
plain = files["jpeg_420.jpg"]
files["jpeg_trailing.jpg"] = plain + b"after the end" * 3
files["jpeg_stray.jpg"] = plain[:-2] + b"\0\0\0\0\0" + plain[-2:]
small = Image.fromarray(photo(19, 11))
for value in range(0, 10):
    files[f"jpeg_exif{value}.jpg"] = save(small, format="JPEG", exif=b"Exif\0\0" + exif(value, big=value % 2 == 0))
files["jpeg_xmp6.jpg"] = save(small, format="JPEG", xmp=xmp(6))
files["jpeg_exif3_xmp6.jpg"] = save(small, format="JPEG", exif=b"Exif\0\0" + exif(3), xmp=xmp(6))

for interlace in (False, True):
    tail = "_adam7" if interlace else ""
    for depth in (1, 2, 4, 8, 16):
        v = rng.integers(0, 2 ** depth, (13, 21, 1))
        if depth == 16:
            v[::2] %= 400
        files[f"png_grey{depth}{tail}.png"] = png(v, depth, 0, interlace)
        if depth < 16:
            table = rng.integers(0, 256, (2 ** depth, 3))
            alpha = rng.integers(0, 256, 2 ** depth).astype(np.uint8).tobytes()
            files[f"png_palette{depth}{tail}.png"] = png(v, depth, 3, interlace, table, alpha)
        if depth >= 8:
            for kind, name, channels in ((2, "rgb", 3), (4, "greyalpha", 2), (6, "rgba", 4)):
                v = rng.integers(0, 2 ** depth, (9, 14, channels))
                files[f"png_{name}{depth}{tail}.png"] = png(v, depth, kind, interlace)
v = rng.integers(0, 256, (9, 14, 1))
files["png_palette_short.png"] = png(v, 8, 3, palette=rng.integers(0, 256, (200, 3)))
files["png_palette_clear.png"] = png(v % 8, 8, 3, palette=rng.integers(0, 256, (8, 3)), trns=b"\xff\xff\0\xff")
files["png_grey_trns.png"] = png(v, 8, 0, trns=b"\0\7")
files["png_rgb_trns.png"] = png(rng.integers(0, 256, (9, 14, 3)), 8, 2, trns=b"\0\1\0\2\0\3")
files["png_1x1.png"] = png(np.array([[[9, 8, 7]]]), 8, 2, True)
files["png_photo.png"] = save(Image.fromarray(photo(40, 30)), format="PNG", optimize=True)
files["png_photo_alpha.png"] = save(Image.fromarray(photo(40, 30, 4)), format="PNG")
files["png_exif6.png"] = save(small, format="PNG", exif=exif(6))
late = files["png_exif6.png"]
at = late.index(b"eXIf") - 4
size = 12 + struct.unpack(">I", late[at:at + 4])[0]
files["png_exif6_late.png"] = late[:at] + late[at + size:-12] + late[at:at + size] + late[-12:]
body = b"Exif\0\0" + exif(8)
text = f"\nexif\n{len(body):8}\n" + body.hex()[:72] + "\n" + body.hex()[72:] + "\n"
for packed in (False, True):
    info = PngInfo()
    info.add_text("Raw profile type exif", text, zip=packed)
    files[f"png_raw8_{'z' if packed else 't'}text.png"] = save(small, format="PNG", pnginfo=info)
    info = PngInfo()
    info.add_itxt("XML:com.adobe.xmp", xmp(5).decode(), zip=packed)
    files[f"png_xmp5_{'packed' if packed else 'plain'}.png"] = save(small, format="PNG", pnginfo=info)

files["webp_lossy.webp"] = save(Image.fromarray(photo(45, 35)), format="WEBP", quality=80)
files["webp_lossless.webp"] = save(Image.fromarray(photo(31, 20)), format="WEBP", lossless=True)
files["webp_alpha.webp"] = save(Image.fromarray(photo(31, 20, 4)), format="WEBP", quality=70)
files["webp_alpha_lossless.webp"] = save(Image.fromarray(photo(21, 10, 4)), format="WEBP", lossless=True, exact=True)
files["webp_exif6.webp"] = save(small, format="WEBP", exif=exif(6))
files["webp_xmp3.webp"] = save(small, format="WEBP", xmp=xmp(3))
frames = [Image.fromarray(photo(24, 18)) for _ in range(3)]
files["webp_animated.webp"] = save(frames[0], format="WEBP", save_all=True, append_images=frames[1:], quality=60)
first = Image.new("RGBA", (24, 18), (0, 0, 0, 0))
first.paste(Image.fromarray(photo(10, 8)), (6, 4))
files["webp_animated_part.webp"] = save(first, format="WEBP", save_all=True, append_images=frames[1:], lossless=True)

OUT.mkdir(exist_ok=True)
for old in OUT.iterdir():
    old.unlink()
with open(OUT / "decode.txt", "w") as f:
    for name in sorted(files):
        (OUT / name).write_bytes(files[name])
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(files[name]))).convert("RGB")
        f.write(f"{name} {image.width} {image.height} {zlib.crc32(np.asarray(image).tobytes()):08x}\n")


def pattern(w, h):
    """The same in C: picture_pattern of tests/data/pictures.h."""
    i = np.arange(w * h * 3, dtype=np.uint32)
    x = (i * np.uint32(2654435761)) ^ ((i >> np.uint32(3)) * np.uint32(40503))
    return ((x >> np.uint32(21)) & np.uint32(255)).astype(np.uint8).reshape(h, w, 3)


sizes = [(1, 1, 1, 1), (1, 1, 7, 5), (1, 50, 3, 3), (50, 1, 3, 9), (7, 7, 1, 1), (1, 40, 1, 9), (40, 1, 9, 1), (33, 21, 33, 21),
         (33, 21, 33, 10), (33, 21, 10, 21), (33, 21, 33, 60), (33, 21, 60, 21), (640, 480, 448, 336), (480, 640, 336, 448),
         (100, 200, 50, 100), (100, 201, 50, 100), (89, 265, 64, 190), (300, 7, 11, 13), (7, 300, 13, 11), (500, 3, 2, 300),
         (11, 9, 400, 8), (256, 256, 336, 336), (31, 97, 30, 11)]
for _ in range(80):
    sizes.append(tuple(int(2 ** random.uniform(0, 7.5)) for _ in range(4)))
with open(OUT / "resize.txt", "w") as f:
    for w, h, ow, oh in sizes:
        e = Image.fromarray(pattern(w, h)).resize((ow, oh), Image.BICUBIC)
        f.write(f"{w} {h} {ow} {oh} {zlib.crc32(np.asarray(e).tobytes()):08x}\n")

cases = [(640, 480, 336), (480, 640, 336), (336, 336, 336), (336, 500, 336), (400, 336, 336), (200, 300, 224), (225, 224, 224),
         (1, 1, 14), (1, 9, 14), (9, 1, 14), (90, 301, 32), (301, 90, 32), (37, 53, 7), (53, 37, 33), (120, 10, 64), (64, 10, 64), (3, 64, 64),
         (5, 5, 1), (337, 335, 336), (335, 337, 336), (337, 336, 336), (335, 335, 336), (339, 336, 336), (227, 224, 224), (3000, 3, 14),
         (2, 1501, 28), (1, 2000, 16), (2000, 1, 16), (1021, 768, 224)]


def prepared(image, s):
    """fit, crc_u8, crc_f32 of every way to fit the picture."""
    side = max(image.size)
    padded = Image.new("RGB", (side, side), tuple(int(m * 255) for m in CLIPImageProcessorPil.image_mean))
    padded.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    for fit, ready in (("crop", image), ("pad", padded), ("squash", image.resize((s, s), Image.BICUBIC))):
        options = {"size": {"shortest_edge": s}, "crop_size": {"height": s, "width": s}}
        u8 = CLIPImageProcessorPil(**options, do_rescale=False, do_normalize=False)(ready, return_tensors="np")["pixel_values"][0]
        f32 = CLIPImageProcessorPil(**options)(ready, return_tensors="np")["pixel_values"][0]
        bytes_u8 = np.ascontiguousarray(u8.transpose(1, 2, 0)).astype(np.uint8).tobytes()
        yield fit, f"{zlib.crc32(bytes_u8):08x}", f"{zlib.crc32(f32.astype('<f4').tobytes()):08x}"


with open(OUT / "preprocess.txt", "w") as f:
    for w, h, s in cases:
        for fit, *crcs in prepared(Image.fromarray(pattern(w, h)), s):
            f.write(f"{fit} {w} {h} {s} {' '.join(crcs)}\n")
with open(OUT / "files.txt", "w") as f:
    for name in sorted(files):
        # As LLaVA opens a file. The array leaves Pillow's note of a transparent colour behind, which transformers 5 would paint white.
        image = ImageOps.exif_transpose(Image.open(io.BytesIO(files[name]))).convert("RGB")
        for fit, *crcs in prepared(Image.fromarray(np.asarray(image)), 14 if len(name) % 2 else 32):
            f.write(f"{fit} {name} {14 if len(name) % 2 else 32} {' '.join(crcs)}\n")
boxes = random.Random(11)
with open(OUT / "crops.txt", "w") as f:
    for _ in range(60):
        w, h = (int(2 ** boxes.uniform(2, 8)) for _ in range(2))
        box_w, box_h, s = boxes.randint(1, w), boxes.randint(1, h), boxes.choice((7, 32, 33, 64))
        x, y = boxes.randint(0, w - box_w), boxes.randint(0, h - box_h)
        e = Image.fromarray(pattern(w, h)).crop((x, y, x + box_w, y + box_h)).resize((s, s), Image.BICUBIC)
        f.write(f"{w} {h} {x} {y} {box_w} {box_h} {s} {zlib.crc32(np.asarray(e).tobytes()):08x}\n")
print(len(files), "files,", sum(p.stat().st_size for p in OUT.iterdir()), "bytes")
