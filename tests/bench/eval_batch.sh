#!/usr/bin/env bash
# eval_batch.sh PROGRAM CHECKPOINT QUESTIONS IMAGE_ROOT [COUNT] [BATCH]: questions a second of batched decoding against one question at a time, both
# in one go and in turns (a busy machine slows both), checked to give the same answers. Defaults: 2000 questions, batch 64, three turns.
set -euo pipefail
program=$1 checkpoint=$2 questions=$3 root=$4 count=${5:-2000} batch=${6:-64}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
for turn in 1 2 3; do
  for b in 1 "$batch"; do
    "$program" eval "$checkpoint" --questions "$questions" --image-root "$root" --limit "$count" --batch "$b" --threads "${THREADS:-1}" --overwrite \
      --out "$scratch/$b.jsonl" --summary "$scratch/$turn-$b.json" >/dev/null 2>"$scratch/log" || { cat "$scratch/log"; exit 1; }
  done
  cmp "$scratch/1.jsonl" "$scratch/$batch.jsonl"
done
jq -n --argjson batch "$batch" '[inputs | .questions / .seconds] as $r | ([$r[0], $r[2], $r[4]] | max) as $one | ([$r[1], $r[3], $r[5]] | max) as $many |
  "same answers; best of 3 turns: batch 1 \($one | round) questions/s, batch \($batch) \($many | round) questions/s, ratio \($many / $one * 100 | round / 100)"' -r \
  "$scratch"/1-1.json "$scratch/1-$batch.json" "$scratch"/2-1.json "$scratch/2-$batch.json" "$scratch"/3-1.json "$scratch/3-$batch.json"
