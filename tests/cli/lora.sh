#!/usr/bin/env bash
# LoRA in the recipe: what trains and what stays, any number of ranks, resume, and the combinations that are refused.
. "$(dirname "$0")/common.inc"
make_data 40
sed -i 's/steps: 20/steps: 8/' ./*.yaml
for stage in clip lm pretrain; do run train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage"; finish; }; done
cat >lora.yaml <<Y
stage: finetune
output: out/lora
threads: 1
model: {init: out/pretrain}
lora: {rank: 4, alpha: 8, dropout: 0.05}
data: {shards: [shards/talks], tokenizer: tokenizer.json, template: vicuna_v1, system: "", image_fit: pad, max_tokens: 256}
batch: {samples: 8, micro_tokens: 1024}
train: {steps: 8, checkpoint_every: 4, log_every: 0}
optimizer: {lr: 1e-2, projector_lr: 1e-3, clip_norm: 1.0, warmup_ratio: 0.1}
Y
close() { # close A B: every loss within 1e-5 relative
  paste <(losses "$1") <(losses "$2") | awk '{ d = $2 - $5; if (d < 0) d = -d; if ($1 != $4 || !(d <= 1e-5 * $2)) bad = 1; n++ } END { exit bad || n != 8 }'
}
same() { cmp -s <(losses "$1") <(losses "$2") && "$tools/tool_st_diff" "$(weights "$1")" "$(weights "$2")" 0; }

run train lora.yaml >lora.log 2>&1 || { cat lora.log; fail "finetune with lora"; finish; }
# 2 layers x 4 x (32+32 + 2(32+16) + 32+32 + 3(32+64)) parameters in 28 matrices; the projector beside them; the rest stays.
grep -qE "^projector +4 +[0-9]+ +0\.001$" lora.log || fail "the projector does not train with its rate"
grep -qE "^lora +28 +4096 +0\.01$" lora.log || { grep -E "^(lora|decoder)" lora.log; fail "the adapters in the table"; }
grep -qE "^decoder +[0-9]+ +[0-9]+ +frozen$" lora.log || fail "the decoder is not frozen"
grep -q "^frozen tensors unchanged" lora.log || fail "frozen tensors changed"
first=$(losses out/lora | awk 'NR == 1 { print $2 }') last=$(losses out/lora | awk 'END { print $2 }')
awk -v a="$first" -v b="$last" 'BEGIN { exit !(b < a) }' || fail "nothing was learned: $first to $last"

# Any number of ranks and any grouping: with dropout too, since a mask belongs to a place in the order of samples.
for np in 1 2; do
  for rate in 0 0.05; do
    [ $np = 1 ] && [ $rate = 0.05 ] && continue
    ranks $np train lora.yaml --set output=out/lora-$np-$rate --set lora.dropout=$rate --set batch.micro_samples=3 >ranks.log 2>&1 || { cat ranks.log; fail "np $np dropout $rate"; }
  done
done
close out/lora-1-0 out/lora-2-0 || fail "without dropout 2 ranks have other losses than one"
"$tools/tool_st_diff" "$(weights out/lora-1-0)" "$(weights out/lora-2-0)" 1e-5 || fail "without dropout 2 ranks have other weights"
close out/lora out/lora-2-0.05 || fail "with dropout 2 ranks have other losses than one"
"$tools/tool_st_diff" "$(weights out/lora)" "$(weights out/lora-2-0.05)" 1e-5 || fail "with dropout 2 ranks have other weights"
close out/lora out/lora-1-0 && fail "dropout has no effect"

# Stop and resume, and blocks run again: the same bits.
run train lora.yaml --set output=out/stop --set train.stop_after=3 >stop.log 2>&1; [ $? -eq 75 ] || { cat stop.log; fail "did not stop"; }
run train lora.yaml --set output=out/stop >stop.log 2>&1 || { cat stop.log; fail "did not resume"; }
same out/lora out/stop || fail "a resumed run differs"
run train lora.yaml --set output=out/again --set train.recompute=yes >again.log 2>&1 || { cat again.log; fail "recompute"; }
same out/lora out/again || fail "recomputed activations change numbers"
refused 78 "lora.alpha was 8 and is 9" train lora.yaml --set output=out/stop --set lora.alpha=9

# A few targets, in the stages without pictures and without a decoder of their own.
sed '/llama:/d; s#^model:.*#model: {init: out/lm}#' lm.yaml >few.yaml
run train few.yaml --set output=out/lm-lora --set lora.rank=2 --set "lora.targets=[q_proj, down_proj]" >few.log 2>&1 || { cat few.log; fail "stage lm"; }
grep -qE "^lora +8 +640 " few.log && grep -qE "^decoder .* frozen$" few.log || { cat few.log; fail "two targets in stage lm"; }
run train pretrain.yaml --set output=out/pre-lora --set lora.rank=2 >few.log 2>&1 || { cat few.log; fail "stage pretrain"; }
grep -qE "^lora +28 " few.log || { cat few.log; fail "adapters in stage pretrain"; }

refused 78 "lora.targets names 'q' & lora.targets names k_proj twice" train lora.yaml --set "lora.targets=[q, k_proj, k_proj]"
refused 78 "adapters belong to a decoder that stays as it is" train lora.yaml --set model.train_decoder=yes
refused 78 "lora.rank is for decoders" train clip.yaml --set lora.rank=4
refused 78 "lora.dropout" train lora.yaml --set lora.dropout=1
leftovers
finish
