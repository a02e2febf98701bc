#!/usr/bin/env bash
# From nothing to a VQA score: installs what is missing (apt), builds, gets easy-VQA, packs it into HDF5 shards, trains a CLIP pair, a decoder, stage 1 and
# stage 2, and scores the held-out test images. Everything lands in runs/quickstart/. Run it again after an interruption: it continues.
#   EASY_VQA_DIR=FOLDER   take the data from a folder (with train/ and test/) instead of downloading it
#   BIFOCAL_RANKS=N       ranks of the trainings and evaluations (default 1: one process that uses all cores)
set -euo pipefail
export LC_ALL=C # numbers with a point, whatever the user's language
data=${EASY_VQA_DIR:+$(realpath -e "$EASY_VQA_DIR")}
cd "$(dirname "$0")/.."
run=runs/quickstart
ranks=${BIFOCAL_RANKS:-1}
mkdir -p "$run"
phases=$run/phases.tsv
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

say() { printf '\n== %s\n' "$*"; }
# attempt NAME COMMAND...: runs it, and stops the script if any part of it fails; the seconds of all tries that came to an end add up.
attempt() {
  local name=$1 start=$EPOCHREALTIME status
  shift
  say "$name"
  set +e # "$@" || status=$? would switch off -e inside functions
  (set -e; "$@")
  status=$?
  set -e
  printf '%s\t%s\t%s\n' "$name" "$(awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.2f", b - a }')" \
    "$([ $status -eq 0 ] && echo 'done' || echo "exit $status")" >>"$phases"
  if [ $status -ne 0 ]; then
    echo "quickstart: phase $name ended with code $status; run the same command again to continue" >&2
    exit $status
  fi
}
# phase NAME COMMAND...: an attempt, unless one was successful before.
phase() {
  if grep -q "^$1	.*	done$" "$phases" 2>/dev/null; then
    say "$1: done before"
  else
    attempt "$@"
  fi
}
bifocal() { if [ "$ranks" -gt 1 ]; then mpirun -n "$ranks" --bind-to none --oversubscribe build/bifocal "$@"; else build/bifocal "$@"; fi; }
build() { cmake -S . -B build -G Ninja -DBIFOCAL_TESTS=OFF >"$run/build.log" 2>&1 && cmake --build build >>"$run/build.log" 2>&1 || { tail -n 30 "$run/build.log"; return 1; }; }
pack() {
  local images=$run/easy-vqa/data/train/images
  build/bifocal data pack --input "$run/easy-vqa/captions.jsonl" --image-root "$images" --out "$run/shards/captions" --prefix easy-vqa --overwrite
  build/bifocal data pack --input "$run/easy-vqa/dialogs.jsonl" --out "$run/shards/dialogs" --prefix easy-vqa --overwrite
  build/bifocal data pack --input "$run/easy-vqa/conversations.jsonl" --image-root "$images" --out "$run/shards/conversations" --prefix easy-vqa --overwrite
  build/bifocal data pack --input "$run/easy-vqa/validation.jsonl" --image-root "$images" --out "$run/shards/validation" --prefix easy-vqa --overwrite
  build/bifocal data verify "$run"/shards/*/*.h5
  build/bifocal data stats "$run"/shards/conversations/*.h5
  build/bifocal data tokenizer --vocab-size 360 --out "$run/tokenizer.json" "$run"/shards/captions/*.h5 "$run"/shards/conversations/*.h5
  build/bifocal data show --tokenizer "$run/tokenizer.json" --template vicuna_v1 --system "" --image-tokens 65 --index 0 "$run"/shards/conversations/*.h5
}
train() { bifocal train "configs/quickstart/$1.yaml"; }
score() {
  bifocal eval "$run/finetune" --questions "$run/easy-vqa/test_questions.jsonl" --image-root "$run/easy-vqa/data/test/images" --overwrite "$@"
}
zeroshot() {
  bifocal zeroshot "$run/clip" --classes "$run/easy-vqa/classes.txt" --images "$run/easy-vqa/test_labels.jsonl" \
    --image-root "$run/easy-vqa/data/test/images" --summary "$run/zeroshot.json"
}

fetch=() # what the download of easy-VQA needs
[ -n "$data" ] || python3 -m pip --version >/dev/null 2>&1 || fetch=(python3-pip git ca-certificates)
attempt packages bash launch/packages.sh jq unzip "${fetch[@]}"
attempt build build # each time: nothing to do, or the sources are newer
phase data bash launch/easy_vqa.sh "$run/easy-vqa" "$data"
phase pack pack
phase clip train clip
phase zeroshot zeroshot
phase lm train lm
phase pretrain train pretrain
phase finetune train finetune
phase eval score --out "$run/predictions.jsonl" --summary "$run/eval.json"
phase eval_blank score --blank --out "$run/predictions_blank.jsonl" --summary "$run/eval_blank.json"

seconds=$(awk -F'\t' '{ s[$1] += $2; t += $2 } END { printf "{"; for (k in s) printf "\"%s\": %.2f, ", k, s[k]; printf "\"total\": %.2f}", t }' "$phases")
peak=$(cat "$run"/{clip,lm,pretrain,finetune}/metrics.jsonl "$run"/{eval,eval_blank,zeroshot}.json | jq -s '[.[].peak_rss_mib | numbers] | max')
jq -n --slurpfile e "$run/eval.json" --slurpfile b "$run/eval_blank.json" --slurpfile z "$run/zeroshot.json" --argjson seconds "$seconds" \
  --argjson peak "$peak" --argjson threads "$(nproc)" --arg cpu "$(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1)" \
  '{accuracy: $e[0].accuracy, accuracy_blank: $b[0].accuracy, accuracy_per_type: $e[0].accuracy_per_type, clip_zero_shot: $z[0].accuracy,
    questions: $e[0].questions, seconds: $seconds, peak_rss_mib: $peak, threads: $threads, cpu: $cpu}' >"$run/summary.json.tmp"
mv "$run/summary.json.tmp" "$run/summary.json"

say "easy-VQA, all $(jq .questions "$run/summary.json") test questions"
jq -r 'def pct: (. * 1000 | round) / 10 | tostring + " %";
  ["majority answer", "37.3 %"], ["question only", "67.0 %"], ["small MLP", "80.9 %"], ["bifocal, blank images", (.accuracy_blank | pct)],
  ["bifocal", (.accuracy | pct)], (.accuracy_per_type | to_entries[] | ["  " + .key, (.value | pct)]), ["CLIP zero-shot, 24 classes", (.clip_zero_shot | pct)],
  ["total seconds", (.seconds.total | round | tostring)], ["peak memory of a process", (.peak_rss_mib | round | tostring) + " MiB"] | "\(.[0])\t\(.[1])"' \
  "$run/summary.json" | awk -F'\t' '{ printf "%-28s %10s\n", $1, $2 }'
