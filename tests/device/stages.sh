#!/usr/bin/env bash
# All four stages, and adapters with dropout, on the CUDA device beside the CPU: losses and gradient norms step by step and the final weights in fp32, losses in bf16; the policy
# of activations changes no bit; a run that stops and resumes equals the one that did not; gradients of a probe against transformers' numbers; the same
# answers. BIFOCAL_PROGRAM is either the program on a machine with a GPU (exit 77 = there is none) or the emulation's; BIFOCAL_DEVICE_RANKS=2 adds
# a run of two ranks, which on GPUs needs two of them.
. "$(dirname "$0")/../cli/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/probe
steps=${BIFOCAL_DEVICE_STEPS:-4}
probe() { run probe "$golden" "$golden/samples.jsonl" --image-root "$golden/images" --template vicuna_v1 --system "" --image-fit pad --grad --out "$@"; }
if ! probe open.safetensors --device cuda --precision fp32 >open.log 2>&1; then
  grep -q "no usable GPU\|built without CUDA" open.log && { echo "SKIPPED: $(tail -n 1 open.log)"; exit 77; }
  cat open.log; fail "probe on the CUDA device"; finish
fi
"$tools/tool_probe_diff" "$golden/expected.safetensors" open.safetensors 1e-5 >diff.txt || { cat diff.txt; fail "fp32 probe against transformers"; }
probe half.safetensors --device cuda --precision bf16 >half.log 2>&1 || { cat half.log; fail "probe in bf16"; }
"$tools/tool_probe_diff" "$golden/expected.safetensors" half.safetensors 5e-2 >diff.txt || { cat diff.txt; fail "bf16 probe against transformers"; }
"$tools/tool_probe_diff" "$golden/expected.safetensors" half.safetensors 1e-5 >diff.txt && fail "bf16 gave fp32's numbers: the precision has no effect"
clip=${golden}_clip
clip_probe() { # clip_probe LIMIT PRECISION
  run probe "$clip/hf" "$clip/pairs.jsonl" --image-root "$clip/images" --tokenizer "$BIFOCAL_TESTS/golden/tokens/clip" --grad \
    --device cuda --precision "$2" --out clip.safetensors >clip.log 2>&1 || { cat clip.log; fail "probe of a CLIP in $2"; }
  "$tools/tool_probe_diff" "$clip/expected.safetensors" clip.safetensors "$1" >diff.txt || { cat diff.txt; fail "probe of a CLIP in $2 against transformers"; }
}
clip_probe 1e-5 fp32
clip_probe 3e-1 bf16 # logits to 2 %, which the softmax of logits around 7 makes 19 % of the first layer's gradients

make_data 24
train() { local log=$1; shift; run train "$@" --set train.steps="$steps" --set train.checkpoint_every=0 >"$log.log" 2>&1 || { cat "$log.log"; fail "$*"; finish; }; }
# close A B TOLERANCE NORM: losses within TOLERANCE and gradient norms within NORM, relative, at every step
close() {
  paste <(losses "$1") <(losses "$2") | awk -v most="$3" -v norm="$4" -v steps="$steps" '
    function off(a, b) { return (a > b ? a - b : b - a) / (b > 0 ? b : 1) }
    { if ($1 != $4 || !(off($2, $5) <= most) || !(off($3, $6) <= norm)) bad = 1; n++ } END { exit bad || n != steps }'
}
show() { paste <(losses "$1") <(losses "$2"); }
sed -e 's/^output:.*/output: out\/lora/' -e 's/^model:.*/model: {init: out\/finetune}\nlora: {rank: 4, alpha: 8, dropout: 0.2}/' -e 's/lr: 1e-3/lr: 1e-2/' finetune.yaml >lora.yaml
for stage in clip lm pretrain finetune lora; do
  train $stage $stage.yaml
  train $stage-cuda $stage.yaml --set output=out/$stage-cuda --set device=cuda --set precision=fp32
  close out/$stage out/$stage-cuda 1e-5 1e-4 || { show out/$stage out/$stage-cuda; fail "$stage: fp32 losses differ from the CPU's"; }
  "$tools/tool_st_diff" "$(weights out/$stage)" "$(weights out/$stage-cuda)" 1e-4 || fail "$stage: fp32 weights differ from the CPU's"
  train $stage-bf16 $stage.yaml --set output=out/$stage-bf16 --set device=cuda
  close out/$stage out/$stage-bf16 2e-2 1e-1 || { show out/$stage out/$stage-bf16; fail "$stage: bf16 losses are far from the CPU's"; }
  cmp -s <(losses out/$stage-cuda) <(losses out/$stage-bf16) && fail "$stage: bf16 and fp32 have the same losses"
  train $stage-again $stage.yaml --set output=out/$stage-again --set device=cuda --set train.recompute=yes --set batch.micro_samples=0
  cmp -s <(losses out/$stage-bf16) <(losses out/$stage-again) || { show out/$stage-bf16 out/$stage-again; fail "$stage: recomputed activations change the losses"; }
  cmp -s "$(weights out/$stage-bf16)" "$(weights out/$stage-again)" || fail "$stage: recomputed activations change the weights"
  if [ $stage = clip ]; then # what only this stage has: part of the patches, and the other loss with its bias
    siglip="model.vit.family=siglip clip.loss=sigmoid model.projection=32 data.max_tokens=24" # the other towers
    for way in clip.patch_dropout=0.5 clip.loss=sigmoid "$siglip" "$siglip clip.patch_dropout=0.5"; do
      settings=$(printf -- '--set %s ' $way)
      train clip-way clip.yaml --set output=out/clip-way $settings
      train clip-way-cuda clip.yaml --set output=out/clip-way-cuda --set device=cuda --set precision=fp32 $settings
      close out/clip-way out/clip-way-cuda 1e-5 1e-4 || { show out/clip-way out/clip-way-cuda; fail "clip with $way: fp32 losses differ from the CPU's"; }
      rm -rf out/clip-way out/clip-way-cuda
    done
  fi
  # Stop in the middle, resume, and be where the other run was.
  run train $stage.yaml --set train.steps="$steps" --set train.checkpoint_every=0 --set output=out/$stage-stop --set device=cuda --set train.stop_after=2 >stop.log 2>&1
  [ $? -eq 75 ] || { cat stop.log; fail "$stage: did not stop"; }
  train $stage-stop $stage.yaml --set output=out/$stage-stop --set device=cuda
  cmp -s <(losses out/$stage-bf16) <(losses out/$stage-stop) || { show out/$stage-bf16 out/$stage-stop; fail "$stage: a resumed run has other losses"; }
  cmp -s "$(weights out/$stage-bf16)" "$(weights out/$stage-stop)" || fail "$stage: a resumed run has other weights"
  if [ "${BIFOCAL_DEVICE_RANKS:-1}" -gt 1 ]; then
    ranks "$BIFOCAL_DEVICE_RANKS" train $stage.yaml --set train.steps="$steps" --set train.checkpoint_every=0 --set output=out/$stage-ranks --set device=cuda \
      --set precision=fp32 --set batch.micro_samples=2 >$stage-ranks.log 2>&1 || { cat $stage-ranks.log; fail "$stage on $BIFOCAL_DEVICE_RANKS ranks"; continue; }
    close out/$stage out/$stage-ranks 1e-5 1e-4 || { show out/$stage out/$stage-ranks; fail "$stage: $BIFOCAL_DEVICE_RANKS ranks have other losses"; }
    "$tools/tool_st_diff" "$(weights out/$stage)" "$(weights out/$stage-ranks)" 1e-4 || fail "$stage: $BIFOCAL_DEVICE_RANKS ranks have other weights"
  fi
done
finish
