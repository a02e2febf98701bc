#!/usr/bin/env bash
# `bifocal probe` on a folder written by transformers (golden/probe, float16): ids, labels, pixels, logits, loss and
# gradients are transformers' numbers (golden/make_probe.py), on any number of ranks and threads and on every
# instruction set; and what cannot be probed is named.
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
refused 64 'sample' run probe "$golden" --out x.safetensors
[ -e x.safetensors ] && fail "a refused probe left a file"
finish
