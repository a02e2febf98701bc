"""Writes shards with h5py, as a foreign program would: golden/shard_h5py.h5 (chunked bytes, compressed tables, an unknown column)
and golden/shard_h5py_contiguous.h5 (contiguous bytes behind a user block). The content equals write_shard() in data/test_shard.c."""
import pathlib

import h5py
import numpy as np
import xxhash

HERE = pathlib.Path(__file__).parent
SIZES = [1, 5000, 20001, 8, 33]


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def image(k):
    i = np.arange(SIZES[k])
    return ((i * 31 + i // 253 + k * 77 + 1) % 256).astype(np.uint8).tobytes()


def ends(parts):
    return np.cumsum([0] + [len(p) for p in parts]).astype("<u8")


def make(path, chunked):
    blob, offset = b"", []
    for k in range(5):
        blob += b"\0" * (-len(blob) % 8)
        offset.append(len(blob))
        blob += image(k)
    texts = ['{"caption":"one"}'.encode(), '{"conversations":[]}'.encode(), '{"caption":"café"}'.encode()]
    ids, sources = [b"a", b"", b"long id 3"], [b"alpha", b"beta"]
    digests = [xxhash.xxh3_128(image(k)).intdigest() for k in range(5)]
    columns = [
        ("image/bytes", np.frombuffer(blob, np.uint8)),
        ("image/offset", np.array(offset, "<u8")),
        ("image/size", np.array(SIZES, "<u8")),
        ("image/crc32c", np.array([crc32c(image(k)) for k in range(5)], "<u4")),
        ("image/width", np.arange(10, 15, dtype="<u4")),
        ("image/height", np.arange(20, 25, dtype="<u4")),
        ("image/format", np.array([1, 2, 3, 1, 2], np.uint8)),
        ("image/id", np.array([[d >> 64, d & (2**64 - 1)] for d in digests], "<u8")),
        ("sample/text/bytes", np.frombuffer(b"".join(texts), np.uint8)),
        ("sample/text/offset", ends(texts)),
        ("sample/image/offset", np.array([0, 1, 1, 4], "<u8")),
        ("sample/image/index", np.array([0, 4, 1, 2], "<u8")),
        ("sample/id/bytes", np.frombuffer(b"".join(ids), np.uint8)),
        ("sample/id/offset", ends(ids)),
        ("sample/source", np.array([0, 1, 0], "<u4")),
        ("source/bytes", np.frombuffer(b"".join(sources), np.uint8)),
        ("source/offset", ends(sources)),
    ]
    payload = xxhash.xxh3_128(b"".join(a.tobytes() for _, a in columns)).hexdigest()
    with h5py.File(path, "w", userblock_size=0 if chunked else 512) as f:
        f.attrs["format"] = np.bytes_("bifocal-shard")
        f.attrs["version"] = 1
        f.attrs["samples"] = np.uint32(3)
        f.attrs["images"] = 5
        f.attrs["payload_xxh3"] = np.bytes_(payload)
        for name, array in columns:
            options = {}
            if chunked:
                options = {"chunks": (10000,)} if name == "image/bytes" else {"compression": "gzip", "shuffle": True, "fletcher32": True}
            f.create_dataset(name, data=array, **options)
        f["image/phash"] = np.zeros(5, "<u8")
        f["notes"] = "a string column we do not know"


make(HERE / "shard_h5py.h5", True)
make(HERE / "shard_h5py_contiguous.h5", False)
