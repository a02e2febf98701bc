#!/usr/bin/env bash
# curation_effect.sh PROGRAM EASY OUT [STEPS] [SEEDS]: what curation does to the CLIP trainer. EASY is what launch/easy_vqa.sh writes.
#
# The pool: easy-VQA's captions of 24 classes ("a teal circle"), spoiled as planted and known: 20 classes keep one picture in six (skew), 60 pictures of the
# four others stand there 15 times more (duplicates), and 35 % of the pictures have the caption of another class (mismatched). Curated in three steps without
# looking at what was planted: exact duplicates, then the CLIP score of a model trained on the spoiled pool itself, then balance of concepts. Each
# selection trains a CLIP from the same start for the same number of steps; all answer easy-VQA's 880 test pictures zero-shot.
# Prints the table that docs hold, and how much of what was planted the steps found.
set -euo pipefail
program=$(realpath "$1") easy=$(realpath "$2") out=$3 steps=${4:-300} seeds=${5:-"1 2 3"}
here=$(dirname "$(realpath "$0")")
mkdir -p "$out"
cd "$out"
jq -r 'select(.caption | test("shape$") | not) | select(.caption | split(" ") | length == 3) | [.image, .caption] | @tsv' "$easy/captions.jsonl" |
  awk -F'\t' '
    function draw(n) { r = (16807 * r) % 2147483647; return r % n }
    function put(id, image, caption) { printf "{\"id\":\"%s\",\"image\":\"%s\",\"caption\":\"%s\"}\n", id, image, caption }
    BEGIN { r = 20261121 }
    { image[NR] = $1; caption[NR] = $2; if (!($2 in seen)) { seen[$2] = 1; class[classes++] = $2 } }
    END {
      for (i = 1; i <= NR; i++) {
        c = caption[i]
        common = c == "a blue circle" || c == "a green rectangle" || c == "a red triangle" || c == "a black rectangle"
        if (!common && draw(6) != 0) continue
        name = "right"
        if (draw(100) < 35) { do w = class[draw(classes)]; while (w == c); c = w; name = "wrong" }
        put(name "-" i, image[i], c)
        if (common && copies < 60 && draw(4) == 0) { copies++; for (k = 1; k <= 15; k++) put("copy-" name "-" i "-" k, image[i], c) }
      }
    }' >pool.jsonl
sed -e 's/^a //' "$easy/classes.txt" >concepts.txt
"$program" data pack --input pool.jsonl --image-root "$easy/data/train/images" --out shards --prefix pool --overwrite --quiet
"$program" data tokenizer --vocab-size 300 --out tokenizer.json shards/pool-*.h5 2>/dev/null
train() { # train NAME SEED [SELECTION]
  rm -rf "run-$1-$2"
  "$program" train "$here/../../configs/quickstart/clip.yaml" --set "output=run-$1-$2" --set data.shards="[shards]" --set data.tokenizer=tokenizer.json \
    --set train.steps="$steps" --set train.checkpoint_every="$steps" --set seed="$2" ${3:+--set data.selection="$3"} >"train-$1-$2.log" 2>&1 ||
    { tail -5 "train-$1-$2.log"; exit 1; }
  "$program" zeroshot "run-$1-$2" --classes "$easy/classes.txt" --images "$easy/test_labels.jsonl" --image-root "$easy/data/test/images" \
    --summary "zeroshot-$1-$2.json" >/dev/null 2>&1
}
first=${seeds%% *}
for seed in $seeds; do train raw "$seed"; done
"$program" data hash --quiet shards
"$program" data embed "run-raw-$first" --name raw --quiet shards
"$program" data dedup --method exact --match both --out 1.sel --quiet shards >dedup.txt
"$program" data prune --from 1.sel --clip raw --clip-top 0.6 --out 2.sel --quiet shards >prune.txt
"$program" data balance --from 2.sel --by concepts --concepts concepts.txt --t 30 --out 3.sel --quiet shards >balance.txt
for seed in $seeds; do for k in 1 2 3; do train "$k" "$seed" "$k.sel"; done; done
kept() { "$program" data selection --list kept "$1" shards | jq -r .id; }
share() { grep -c "$1" || true; }
echo "| pool | samples | copies | mismatched | zero-shot, seeds $seeds | mean |"
echo "|---|---|---|---|---|---|"
row() { # row LABEL NAME IDS
  local values
  values=$(for seed in $seeds; do jq .accuracy "zeroshot-$2-$seed.json"; done)
  printf '| %s | %d | %d | %d | %s | %.1f %% |\n' "$1" "$(wc -l <"$3")" "$(share copy <"$3")" "$(share wrong <"$3")" \
    "$(awk '{ printf "%s%.1f", (NR > 1 ? ", " : ""), 100 * $1 }' <<<"$values")" "$(awk '{ s += 100 * $1 } END { print s / NR }' <<<"$values")"
}
jq -r .id pool.jsonl >0.ids
for k in 1 2 3; do kept "$k.sel" >"$k.ids"; done
row "as it is" raw 0.ids
row "exact duplicates gone" 1 1.ids
row "then the best 60 % by CLIP score" 2 2.ids
row "then concepts balanced" 3 3.ids
