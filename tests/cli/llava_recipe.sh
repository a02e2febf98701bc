#!/usr/bin/env bash
# LLaVA-1.5's training to the letter: five steps of pretraining, of finetuning, and of finetuning with the tower, on 1, 2 and 4 ranks, against the same
# five steps in plain PyTorch with transformers (golden/llava_recipe, golden/make_llava_recipe.py). Losses within 1e-5, weights within 1e-5.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/llava_recipe
cp "$golden"/*-order.txt .
for data in captions talks; do
  run data pack --input "$golden/$data.jsonl" --image-root "$golden/images" --out "shards/$data" --prefix s >pack.log 2>&1 || { cat pack.log; fail "pack $data"; finish; }
done
# recipe NAME STAGE DATA FIT: what LLaVA's scripts say, in small. 37 samples, 8 a step, 2 a device's micro-batch.
recipe() {
  cat >"$1.yaml" <<Y
stage: $2
output: out/$1
threads: 1
model: {init: "$golden/model"}
data: {shards: [shards/$3], tokenizer: "$golden/model", system: "", image_fit: $4, max_tokens: 56, order: $1-order.txt, last: wrap}
batch: {samples: 8, micro_samples: 2, micro_tokens: 64, deal: order}
train: {epochs: 1, log_every: 0, loss: micro_mean}
optimizer:
  clip_norm: 0
Y
}
recipe pretrain pretrain captions crop
echo '  lr: 1e-2' >>pretrain.yaml
recipe finetune finetune talks pad
printf '  %s\n' 'lr: 2e-3' 'weight_decay: 0.1' 'warmup_ratio: 0.3' >>finetune.yaml
recipe tower finetune talks pad
printf '  %s\n' 'lr: 1e-3' 'projector_lr: 2e-3' 'encoder_lr: 2e-4' 'warmup_ratio: 0.3' >>tower.yaml
sed -i 's/model: {/model: {train_encoder: yes, /' tower.yaml

# close EXPECTED METRICS: every loss within 1e-5 relative, every norm within 1e-4.
close() {
  paste "$1" <(losses "$2") | awk '{ d = $2 - $6; n = $4 - $7; if (d < 0) d = -d; if (n < 0) n = -n
    if ($1 != $5 || !(d <= 1e-5 * $2) || !(n <= 1e-4 * $4)) { bad = 1; print } rows++ } END { exit bad || rows != 5 }'
}
for name in pretrain finetune tower; do
  for np in 1 2 4; do
    out=out/$name-$np
    ranks $np train $name.yaml --set output=$out >$name.log 2>&1 || { cat $name.log; fail "$name on $np ranks"; continue; }
    close "$golden/$name-losses.txt" $out || fail "$name on $np ranks: losses differ from PyTorch's"
    "$tools/tool_st_diff" "$golden/$name-final.safetensors" "$(weights $out)" 1e-5 part >diff.txt || { cat diff.txt; fail "$name on $np ranks: weights differ from PyTorch's"; }
    # Parts of a micro-batch that does not fit the token budget are still one micro-batch.
    if [ $np = 2 ]; then
      ranks 2 train $name.yaml --set output=$out-wide --set batch.micro_tokens=512 >$name.log 2>&1 || { cat $name.log; fail "$name with wide batches"; }
      "$tools/tool_st_diff" "$(weights $out)" "$(weights $out-wide)" 1e-5 >diff.txt || { cat diff.txt; fail "$name: the token budget changes numbers"; }
    fi
  done
done
# With its rate the tower moves, but not what lies behind the feature layer (-2): its last block and its last norm.
run checkpoint diff --json out/pretrain-1 out/tower-1 >diff.json 2>/dev/null
moved=$(jq -r '.changed[].name' diff.json | grep -c '^vision_tower')
[ "$moved" -gt 30 ] || { jq -c '.changed[].name' diff.json; fail "the tower did not move"; }
jq -r '.changed[].name' diff.json | grep -E 'encoder.layers.2|post_layernorm' && fail "what lies behind the feature layer moved"
run checkpoint diff --json out/pretrain-1 out/finetune-1 2>/dev/null | jq -r '.changed[].name' | grep '^vision_tower' && fail "a frozen tower moved"
# The mean over all tokens is another number.
run train finetune.yaml --set output=out/tokens --set train.loss=global_tokens >tokens.log 2>&1 || { cat tokens.log; fail "global_tokens"; }
close "$golden/finetune-losses.txt" out/tokens >/dev/null && fail "the comparison does not see another loss"
# LLaVA's own sampler, stopped in the middle: the same weights as without the stop, to the bit; on 2 ranks other samples than in the order of the file.
grouped="--set data.order= --set data.sampler=modality_length --set train.epochs=2"
ranks 2 train finetune.yaml $grouped --set output=out/whole >whole.log 2>&1 || { cat whole.log; fail "modality_length"; }
grep -q 'counted the words of 37 samples' whole.log && grep -q ' 10 steps' whole.log || { cat whole.log; fail "two epochs of 37 samples are not 10 steps"; }
ranks 2 train finetune.yaml $grouped --set output=out/parts --set train.stop_after=3 >parts.log 2>&1
ranks 2 train finetune.yaml $grouped --set output=out/parts >>parts.log 2>&1 || { cat parts.log; fail "modality_length resumed"; }
cmp -s "$(weights out/whole)" "$(weights out/parts)" || fail "modality_length: a resumed run has other weights"
# What is not an order is refused, and so is another order in the same folder.
printf '0\n37\n' >bad.txt
refused 65 'bad.txt: line 2 is sample 37, but there are 37 samples' train finetune.yaml --set output=out/bad --set data.order=bad.txt
printf '0\nfirst\n' >bad.txt
refused 65 "bad.txt:2: 'first' is not the number of a sample" train finetune.yaml --set output=out/bad --set data.order=bad.txt
tac finetune-order.txt >back.txt
run train finetune.yaml --set output=out/other --set train.stop_after=2 >other.log 2>&1
refused 78 'data.shards, data.selection, data.caption_column or data.order: not what the checkpoint' train finetune.yaml --set output=out/other --set data.order=back.txt
[ -z "$(ls -d out/bad/step_* 2>/dev/null)" ] || fail "a refused order left a checkpoint"
finish
