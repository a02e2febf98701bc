#!/usr/bin/env bash
# `bifocal probe` on folders written by transformers (golden/probe: LLaVA; probe_lm: a decoder; probe_clip: CLIP, also as open_clip
# stores it; all float16): ids, labels, pixels, logits, loss and gradients are transformers' numbers (golden/make_probe.py,
# make_probe_clip.py), on any number of ranks and threads and on every instruction set; and what cannot be probed is named.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/probe
options=(--template vicuna_v1 --system "" --image-fit pad --out)
probe() {
  run probe "$golden" "${samples:-$golden/samples.jsonl}" --image-root "${pictures:-$golden/images}" "${options[@]}" "$@"
}
same() { "$tools/tool_probe_diff" "$golden/expected.safetensors" "$1" 1e-5 >diff.txt || { cat diff.txt; fail "$2"; }; }

probe one.safetensors --grad --threads 1 >one.log 2>&1 || { cat one.log; fail "probe failed"; finish; }
same one.safetensors "one thread"
for isa in generic avx2; do
  BIFOCAL_ISA=$isa probe $isa.safetensors --grad --threads 2 >$isa.log 2>&1 || { cat $isa.log; fail "probe on $isa"; }
  same $isa.safetensors "BIFOCAL_ISA=$isa"
done
ranks 2 probe "$golden" "$golden/samples.jsonl" --image-root "$golden/images" "${options[@]}" two.safetensors --grad \
  --threads 1 >two.log 2>&1 || { cat two.log; fail "two ranks"; }
same two.safetensors "two ranks"
# Without gradients the file holds none and the loss is the same.
probe none.safetensors --threads 1 >none.log 2>&1 || fail "probe without --grad"
grep -q 'grad\.' none.safetensors && fail "gradients without --grad"
"$tools/tool_probe_diff" none.safetensors one.safetensors 0 >diff.txt || { cat diff.txt; fail "--grad changes the forward"; }
# A decoder alone, and a CLIP pair in two layouts; one of them under mpirun.
agrees() { # agrees EXPECTED NAME LIMIT
  "$tools/tool_probe_diff" "$1" "$2.safetensors" "$3" >diff.txt || { cat "$2.log" diff.txt; fail "$2"; }
}
lm=${golden}_lm clip=${golden}_clip
run probe "$lm" "$lm/samples.jsonl" --template vicuna_v1 --system "" --out lm.safetensors --grad >lm.log 2>&1
agrees "$lm/expected.safetensors" lm 1e-5
grep -q pixel_values lm.safetensors && fail "a decoder alone has pixels"
clip_probe() { probe_clip "$1" "$clip/pairs.jsonl" --image-root "$clip/images" "${@:2}"; }
probe_clip() { ${LAUNCH:-} "$program" probe "$clip/$1" "${@:2}" --tokenizer "$BIFOCAL_TESTS/golden/tokens/clip"; }
clip_probe hf --out hf.safetensors --grad >hf.log 2>&1
agrees "$clip/expected.safetensors" hf 1e-5
LAUNCH="timeout 300 mpirun -n 1 --oversubscribe --bind-to none" \
  clip_probe open_clip --out open.safetensors --grad --threads 1 >open.log 2>&1
agrees "$clip/expected.safetensors" open 1e-5
clip_probe hf --out forward.safetensors >forward.log 2>&1
grep -q 'grad\.' forward.safetensors && fail "gradients of CLIP without --grad"
agrees forward.safetensors hf 1e-6
clip_probe hf --out padded.safetensors --image-fit pad >padded.log 2>&1
"$tools/tool_probe_diff" "$clip/expected.safetensors" padded.safetensors 1e-5 >diff.txt && fail "a padded picture passed for a cropped one"
# A wrong answer must be seen: the padding of one picture done another way.
probe wrong.safetensors --grad --threads 1 --image-fit squash >wrong.log 2>&1
"$tools/tool_probe_diff" "$golden/expected.safetensors" wrong.safetensors 1e-5 >diff.txt &&
  fail "a squashed picture passed for a padded one"
# Refusals: a missing picture, a sample that does not parse, no samples.
refused() { # refused CODE WORDS ARGUMENTS...
  local code=$1 words=$2 status=0
  shift 2
  "$@" >refused.log 2>&1 || status=$?
  [ $status -eq "$code" ] && grep -q "$words" refused.log && return
  cat refused.log
  fail "exit $status, wanted $code and '$words'"
}
pictures=$scratch refused 65 'samples.jsonl:1.*b.png' probe x.safetensors
echo '{"id":"0","image":["a.png"' >broken.jsonl
samples=broken.jsonl refused 65 'broken.jsonl:1' probe x.safetensors
: >empty.jsonl
samples=empty.jsonl refused 65 'no samples' probe x.safetensors
refused 64 'a vision tower alone' run probe "$BIFOCAL_TESTS/golden/layouts/tower" "$clip/pairs.jsonl" --out x.safetensors
refused 65 'no pairs' probe_clip hf empty.jsonl --out x.safetensors
echo '{"image":"0.jpg"}' >broken.jsonl
refused 65 'broken.jsonl:1: a pair is' probe_clip hf broken.jsonl --image-root "$clip/images" --out x.safetensors
echo '{"image":"gone.jpg","text":"x"}' >broken.jsonl
refused 65 'broken.jsonl:1.*gone.jpg' probe_clip hf broken.jsonl --image-root "$clip/images" --out x.safetensors
refused 64 'sample' run probe "$golden" --out x.safetensors
[ -e x.safetensors ] && fail "a refused probe left a file"
finish
