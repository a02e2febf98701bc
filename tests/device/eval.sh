#!/usr/bin/env bash
# Answers on the CUDA device beside the CPU's: greedy, by beams, sampled and ranked, of a small LLaVA (golden/probe) in fp32, batches with questions about
# the same picture and about none. The program may be one whose GPU is emulated. 77: no GPU.
. "$(dirname "$0")/../cli/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/probe
for i in $(seq 12); do
  jq -nc --argjson i "$i" '{question_id: $i, question: (["what is this?", "is it a circle?", "what colour is the small square there?"][$i % 3]),
    options: ["yes", "no", "a small circle", "it'"'"'s 42"]} + if $i % 4 == 0 then {} else {image: (["a.png", "b.png"][$i % 2])} end'
done >questions.jsonl
answer() { # answer NAME DEVICE OPTIONS...
  run eval "$golden" --questions questions.jsonl --image-root "$golden/images" --template vicuna_v1 --system "" --image-fit pad --device "$2" --precision fp32 \
    --max-new-tokens 6 --batch 5 --threads 1 --overwrite --out "$1.jsonl" "${@:3}" >"$1.log" 2>&1
}
answer first cuda || { grep -q 'no usable GPU\|built without CUDA' first.log && { cat first.log; exit 77; }; cat first.log; fail "greedy on cuda"; finish; }
for way in "" "--beams 3" "--temperature 0.8 --top-p 0.9" "--rank mean"; do
  for device in cpu cuda; do
    # shellcheck disable=SC2086
    answer $device $device $way || { cat $device.log; fail "$way on $device"; }
  done
  cmp cpu.jsonl cuda.jsonl || { diff cpu.jsonl cuda.jsonl | head -n 4; fail "'$way': other answers on the GPU"; }
done
# In bf16 the host reads the device's logits as the device does: the likeliest token, the first of equals.
for way in "" "--temperature 1 --top-k 1"; do
  # shellcheck disable=SC2086
  answer "half${#way}" cuda $way --precision bf16 || { cat "half${#way}.log"; fail "$way in bf16"; }
done
cmp half0.jsonl half25.jsonl || fail "bf16: the host chooses other tokens"
finish
