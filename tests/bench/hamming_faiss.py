"""hamming_faiss.py FOLDER DISTANCE [THREADS]: the pairs of bench_hamming (FOLDER/hashes.bin, pairs.bin) by faiss-cpu, with times as JSON lines.

IndexBinaryFlat and IndexBinaryMultiHash (16 hashes of 16 bits and one flip: exact within 31 bits) are asked for a part of the rows (share_run; the times are
for all). Both find each pair twice and each row itself."""
import json
import resource
import sys
import time

import faiss
import numpy as np

folder, distance, threads = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else 2
faiss.omp_set_num_threads(threads)
hashes = np.fromfile(f"{folder}/hashes.bin", dtype=np.uint8).reshape(-1, 32)
want = {(int(a), int(b)) for a, b in np.fromfile(f"{folder}/pairs.bin", dtype=np.uint32).reshape(-1, 2)}


def search(method, index, rows, build):
    wall, cpu = time.perf_counter(), time.process_time()
    found = set()
    for at in range(0, len(rows), 65536):
        part = rows[at : at + 65536]
        limits, _, other = index.range_search(hashes[part], distance + 1)  # faiss takes distances below the radius
        mine = np.repeat(part, np.diff(limits).astype(np.int64))
        found |= {(int(min(a, b)), int(max(a, b))) for a, b in zip(mine, other) if a != b}
    share = len(rows) / len(hashes)
    sampled = set(rows.tolist())
    right = found == {p for p in want if share == 1 or p[0] in sampled or p[1] in sampled}
    print(json.dumps({"method": method, "wall_s": round((time.perf_counter() - wall) / share + build[0], 2),
                      "cpu_s": round((time.process_time() - cpu) / share + build[1], 2), "share_run": share, "pairs": len(found), "same_pairs": right,
                      "peak_rss_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024}), flush=True)


print(json.dumps({"faiss": faiss.__version__, "hashes": len(hashes), "threads": threads}))
flat = faiss.IndexBinaryFlat(256)
flat.add(hashes)
search("faiss IndexBinaryFlat", flat, np.arange(0, len(hashes), max(1, len(hashes) // 5000)), (0, 0))
del flat
wall, cpu = time.perf_counter(), time.process_time()
multi = faiss.IndexBinaryMultiHash(256, 16, 16)
multi.nflip = 1
multi.add(hashes)
search("faiss IndexBinaryMultiHash 16x16, 1 flip", multi, np.arange(0, len(hashes), max(1, len(hashes) // 50000)), (time.perf_counter() - wall, time.process_time() - cpu))
