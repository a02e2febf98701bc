#!/usr/bin/env python3
"""Matching of 500,000 generated concepts in generated captions: bench_concepts, pyahocorasick, and a plain loop over the entries, in one run. The counts
of all entries must be equal before any time is printed.
    concepts_vs_python.py BENCH_CONCEPTS FOLDER [CAPTIONS]"""
import itertools
import json
import os
import random
import subprocess
import sys
import time

import ahocorasick

bench, folder, captions = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 300_000
os.makedirs(folder, exist_ok=True)
rng = random.Random(1)
syllables = ["".join(p) for p in itertools.product("bdfgklmnprstvz", "aeiou", ["", "n", "r", "s"])]
words = list(dict.fromkeys("".join(rng.choice(syllables) for _ in range(rng.choice([1, 2, 2, 3, 3, 3, 4]))) for _ in range(400_000)))
weights = list(itertools.accumulate(1 / (i + 10) for i in range(len(words))))
draw = lambda n: rng.choices(words, cum_weights=weights, k=n)
# About MetaCLIP's mixture: half single words, a fifth bigrams, the rest longer names.
entries = dict.fromkeys(words[:250_000])
while len(entries) < 350_000:
    entries[" ".join(draw(2))] = None
while len(entries) < 500_000:
    entries[" ".join(draw(rng.choice([2, 3, 3, 4])))] = None
entries = list(entries)
rng.shuffle(entries)
marks = [" "] * 18 + [", ", ". ", "-", "! "]
lines = []
for _ in range(captions):
    parts = draw(rng.randint(4, 14))
    if rng.random() < 0.3:
        parts.insert(rng.randrange(len(parts)), rng.choice(entries))
    lines.append("".join(w + rng.choice(marks) for w in parts).rstrip())
with open(f"{folder}/entries.json", "w") as f:
    json.dump(entries, f)
with open(f"{folder}/captions.txt", "w") as f:
    f.write("\n".join(lines) + "\n")
size = os.path.getsize(f"{folder}/captions.txt")

ours = json.loads(subprocess.run([bench, f"{folder}/entries.json", f"{folder}/captions.txt", f"{folder}/counts.tsv"], check=True, capture_output=True, text=True).stdout)


def spaced(text):
    text = " " + text + " "
    for mark in ",.;:?!`":
        text = text.replace(mark, " " + mark + " ")
    return text.replace("\t", " ").replace("\n", " ").replace("\r", " ")


start = time.process_time()
automaton = ahocorasick.Automaton()
for i, entry in enumerate(entries):
    automaton.add_word(" " + entry + " ", i)
automaton.make_automaton()
built = time.process_time() - start
counts = [0] * len(entries)
start = time.process_time()
for line in lines:
    for i in {i for _, i in automaton.iter(spaced(line))}:
        counts[i] += 1
theirs = time.process_time() - start
with open(f"{folder}/counts.tsv") as f:
    got = {name: int(count) for name, count in (line.rstrip("\n").split("\t") for line in f)}
wrong = sum(got[entry] != count for entry, count in zip(entries, counts))
assert wrong == 0, f"{wrong} entries have other counts"
assert ours["matches"] == sum(counts)
few = lines[:20]
padded = [" " + entry + " " for entry in entries]
start = time.process_time()
plain = [{i for i, entry in enumerate(padded) if entry in text} for text in map(spaced, few)]
loop = time.process_time() - start
assert plain == [{i for _, i in automaton.iter(spaced(line))} for line in few]
few_size = sum(len(line) + 1 for line in few)
print(f"{len(entries)} entries of {sum(map(len, entries)) / len(entries):.1f} bytes, {captions} captions, {size / 1e6:.1f} MB, {ours['matches']} matches; counts of all entries equal")
print(f"| | build s | MiB | MB/s | captions/s |\n|---|---|---|---|---|")
print(f"| bifocal | {ours['build_s']:.2f} | {ours['mib']:.0f} | {ours['mb_per_s']:.1f} | {captions / ours['s']:.0f} |")
print(f"| pyahocorasick | {built:.2f} | {automaton.get_stats()['total_size'] / 2**20:.0f} | {size / theirs / 1e6:.2f} | {captions / theirs:.0f} |")
print(f"| loop over the entries, Python | - | - | {few_size / loop / 1e6:.5f} | {len(few) / loop:.1f} |")
