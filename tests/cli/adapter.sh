#!/usr/bin/env bash
# LoRA adapters as PEFT and LLaVA leave them (golden/peft, golden/make_peft.py): merged by export, seen by checkpoint show, verify and diff.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden
layouts=$golden/layouts
quiet() { run "$@" >quiet.log 2>&1 || { cat quiet.log; fail "$*"; }; }
largest() { jq '[.changed[].relative_l2] | max // 0' "$1"; }

# PEFT on a decoder: the export holds what merge_and_unload gives, in float32 to 1e-6.
for name in lora rslora; do
  quiet export --format hf --base "$golden/peft/base" "$golden/peft/$name" "$name"
  "$tools/tool_st_diff" "$golden/peft/$name.safetensors" $name/model.safetensors 1e-6 || fail "$name merged is not what PEFT merges"
  quiet checkpoint verify $name
done
quiet checkpoint verify --base "$golden/peft/base" "$golden/peft/lora"
run checkpoint show --base "$golden/peft/base" "$golden/peft/lora" | grep -qF "LoRA of rank 4, alpha 8 (scale 2), 14 matrices, upon $golden/peft/base" || fail "checkpoint show of an adapter"

# The base by name: the adapter's folder can then be used as it is, here to see that it is its own export.
cp -r "$golden/peft/lora" own
sed -i "s#somebody/base#$golden/peft/base#" own/adapter_config.json
run checkpoint diff --json own lora >diff.json 2>/dev/null
[ "$(jq -c '[.compared, (.only_a + .only_b + .shapes + .changed | length)]' diff.json)" = "[21,0]" ] || { cat diff.json; fail "an adapter is not its export"; }
quiet import own own-merged
cmp -s own-merged/model.safetensors lora/model.safetensors || fail "import and export merge differently"

# LLaVA's: base, projector and tower from four files, in float16, and a tower that LLaVA adapted by mistake.
quiet export --format llava --base "$layouts/native" --tower "$layouts/tower" "$golden/peft/llava" llava
run checkpoint diff --json "$golden/peft/llava.safetensors" llava >diff.json 2>/dev/null
[ "$(jq -c '[.compared, (.only_a | length), (.shapes | length)]' diff.json)" = "[12,0,0]" ] || { cat diff.json; fail "tensors of a merged LLaVA"; }
awk -v x="$(largest diff.json)" 'BEGIN { exit !(x < 5e-4) }' || { cat diff.json; fail "rounded more than once: $(largest diff.json)"; }
quiet checkpoint verify llava
quiet export --format hf-old --base "$layouts/native" --tower "$layouts/tower" "$golden/peft/llava" old
quiet import llava back
run checkpoint diff --json old back >diff.json 2>/dev/null
[ "$(jq -c '.only_a + .only_b + .shapes + .changed' diff.json)" = "[]" ] || { cat diff.json; fail "two ways out of one adapter"; }
run checkpoint diff --json "$layouts/hf_old" old >diff.json 2>/dev/null
# 7 matrices of the decoder, one of the tower, 4 tensors of the projector
[ "$(jq '.changed | length' diff.json)" = 12 ] || { jq '[.changed[].name]' diff.json; fail "what an adapter changes"; }

refused 78 "is no folder here; name the base's folder by --base" export --format hf "$golden/peft/lora" no
mkdir -p a-run/step_00000001
refused 78 "of a run one of its step_* folders" export --format hf --base a-run "$golden/peft/lora" no
refused 78 "is no adapter" export --format hf --base "$golden/peft/base" "$golden/peft/base" no
refused 65 "which the base does not have & with its vision tower (--tower)" export --format hf --base "$layouts/native" "$golden/peft/llava" no
refused 65 "adapts model.layers.1.mlp.down_proj.weight, which the base does not have" export --format hf --base "$layouts/native" "$golden/peft/lora" no
[ -e no ] && fail "a refused export left a folder"
finish
