#!/usr/bin/env python3
"""Time of `bifocal data hash` and of imagededup on the same pictures and cores; equality of every hash first.

  hash_vs_imagededup.py --program build/bifocal [--workers 2] [--rounds 3] FOLDER

Each round times, one after the other, imagededup's encode_images (its own pool of processes) and bifocal with as many threads, for each
hash alone and for the four together; the other load of the machine so falls on both alike. Wall time is the best of the rounds, CPU time
(user and system, children included) their mean. Python's start and imports are not counted, the start of bifocal is. Needs what
tests/golden/check_hashes.py needs.
"""
import argparse
import contextlib
import io
import json
import logging
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "golden"))
import check_hashes  # noqa: E402


def cpu():
    return sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))


def timed(work):
    wall, used = time.monotonic(), cpu()
    result = work()
    return time.monotonic() - wall, cpu() - used, result


def main():
    logging.disable(logging.WARNING)
    parser = argparse.ArgumentParser()
    parser.add_argument("--program", required=True)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("folder")
    arguments = parser.parse_args()
    suffixes = (".jpg", ".jpeg", ".png", ".webp")
    chosen = sorted(p.resolve() for p in pathlib.Path(arguments.folder).iterdir() if p.suffix.lower() in suffixes)
    with tempfile.TemporaryDirectory() as folder:
        for path in chosen:
            (pathlib.Path(folder) / path.name).symlink_to(path)

        def theirs(names):
            with contextlib.redirect_stderr(io.StringIO()):
                return {n: check_hashes.DEDUP[n].encode_images(image_dir=folder, num_enc_workers=arguments.workers) for n in names}

        def ours(names):
            command = [arguments.program, "data", "hash", "--threads", str(arguments.workers), folder]
            if names:
                command[3:3] = ["--only", ",".join(n + "_imagededup" for n in names)]
            return [json.loads(line) for line in subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()]

        methods = list(check_hashes.DEDUP)
        want, lines = theirs(methods), ours(None)
        for line in lines:
            for name in methods:
                assert line[name + "_imagededup"] == want[name][pathlib.Path(line["file"]).name], (line["file"], name)
        print(f"{len(lines)} pictures, every one of {len(lines) * len(methods)} hashes equal; {arguments.workers} workers\n")
        cases = [(n, [n], [n]) for n in methods] + [("the four", methods, methods), ("the four; bifocal: all its 11 values", methods, None)]
        times = {case[0]: ([], []) for case in cases}
        for _ in range(arguments.rounds):
            for title, names, only in cases:
                times[title][0].append(timed(lambda: theirs(names))[:2])
                times[title][1].append(timed(lambda: ours(only))[:2])
        print("| hashes | imagededup, s wall | bifocal, s wall | times | imagededup, s CPU | bifocal, s CPU | times |")
        print("|---|---|---|---|---|---|---|")
        for title, (a, b) in times.items():
            wall = [min(t[0] for t in side) for side in (a, b)]
            used = [sum(t[1] for t in side) / len(side) for side in (a, b)]
            print(f"| {title} | {wall[0]:.2f} | {wall[1]:.2f} | {wall[0] / wall[1]:.1f} "
                  f"| {used[0]:.2f} | {used[1]:.2f} | {used[0] / used[1]:.1f} |")


if __name__ == "__main__":
    main()
