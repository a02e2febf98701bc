#!/usr/bin/env bash
# A stock language model, whose tokenizer has no <image>, trained on pictures: the vocabulary grows once, is saved with its tokenizer, resumed, trained
# further, scored and exported; weights in several files.
. "$(dirname "$0")/common.inc"
make_data 24
sed 's/<image>/<other>/g' tokenizer.json >stock.json && rm tokenizer.json
grep -q '<other>' stock.json || fail "the tokenizer had no <image>"
stock=(--set data.tokenizer=stock.json --set train.steps=6)
tokens=$(jq '(.model.vocab | length) + ([.added_tokens[].content] - (.model.vocab | keys) | length)' stock.json)
rows=$(((tokens + 2 + 63) / 64 * 64))
train() { local stage=$1; shift; run train "$stage.yaml" "${stock[@]}" "$@" >"$stage.log" 2>&1; }
train clip || { cat clip.log; fail "clip"; }
train lm || { cat lm.log; fail "lm"; }
grep -q vocabulary: lm.log && fail "a text-only stage added tokens"
[ "$(jq .vocab_size out/lm/step_00000006/config.json)" -eq "$tokens" ] || fail "a decoder alone has $(jq .vocab_size out/lm/step_00000006/config.json) rows"

# Uninterrupted, stopped and resumed, and on two ranks: the same rows.
train pretrain || { cat pretrain.log; fail "pretrain"; finish; }
[ "$(grep -c "vocabulary: <image> $tokens and <pad> $((tokens + 1)) added to a tokenizer of $tokens; the embedding grows from $tokens to $rows rows, $tokens of them in the softmax" pretrain.log)" -eq 1 ] ||
  { cat pretrain.log; fail "the line of the growth"; }
status=0; train pretrain --set output=out/halved --set train.stop_after=3 || status=$?
[ $status -eq 75 ] || fail "stopping: exit $status"
train pretrain --set output=out/halved || { cat pretrain.log; fail "resume"; }
cmp "$(weights out/pretrain)" "$(weights out/halved)" || fail "resumed, it is another model"
ranks 2 train pretrain.yaml "${stock[@]}" --set output=out/two >two.log 2>&1 || { cat two.log; fail "two ranks"; }
"$tools/tool_st_diff" "$(weights out/pretrain)" "$(weights out/two)" 1e-5 || fail "two ranks: other weights"
train pretrain --set output=out/seed --set seed=9 || { cat pretrain.log; fail "another seed"; }
run checkpoint diff --json out/pretrain out/seed 2>/dev/null | jq -e '[.changed[].name] | any(endswith("embed_tokens.weight"))' >/dev/null ||
  fail "the new rows do not depend on the seed"

folder=out/pretrain/step_00000006
[ "$(jq -c '[.image_token_index, .pad_token_id, .text_config.vocab_size, .bifocal_classes]' $folder/config.json)" = "[$tokens,$((tokens + 1)),$rows,$tokens]" ] ||
  { cat $folder/config.json; fail "config.json"; }
[ "$(jq -c '[.added_tokens[] | select(.content == "<image>" or .content == "<pad>") | [.id, .content, .special]]' $folder/tokenizer.json)" = "[[$tokens,\"<image>\",true],[$((tokens + 1)),\"<pad>\",true]]" ] ||
  fail "the saved tokenizer: $(jq -c .added_tokens $folder/tokenizer.json)"
[ "$(jq -r .pad_token $folder/tokenizer_config.json)" = "<pad>" ] || fail "pad_token"
[ "$(echo 'a<image>b' | run tokenize --tokenizer $folder | jq ".[1]")" -eq "$tokens" ] || fail "the saved tokenizer does not find <image>"

run checkpoint show out/pretrain 2>&1 | grep -q "$rows tokens ($tokens in the softmax)" || fail "checkpoint show: $(run checkpoint show out/pretrain)"
[ -n "$(run generate out/lm --prompt "what is this?" --max-new-tokens 4 --threads 1 2>&1)" ] || fail "generate of a decoder alone"

# Further with the stock tokenizer; the rows of no class stay as they are.
train finetune || { cat finetune.log; fail "finetune"; finish; }
grep -q vocabulary: finetune.log && fail "a model that has grown grew again"
grep -q 'is not the tokenizer of' pretrain.log finetune.log && fail "the stock tokenizer passes for another's"
jq '.model.vocab |= with_entries(if .value == 7 then .value = 8 elif .value == 8 then .value = 7 else . end)' stock.json >swapped.json
run train finetune.yaml "${stock[@]}" --set data.tokenizer=swapped.json --set output=out/swapped --set train.steps=1 >swapped.log 2>&1 || { cat swapped.log; fail "another tokenizer is refused"; }
[ "$(grep -c "warning: data.tokenizer swapped.json is not the tokenizer of out/pretrain/step_00000006/tokenizer.json: of the $tokens ids that both have 2 name other tokens, the first is 7, " swapped.log)" -eq 1 ] ||
  { cat swapped.log; fail "the tokenizer of another model is not named"; }
run checkpoint diff --json out/pretrain out/finetune 2>/dev/null >diff.json
jq -e '.shapes == [] and ([.changed[].name] | any(endswith("embed_tokens.weight")))' diff.json >/dev/null || { cat diff.json; fail "finetune changed no embedding, or shapes"; }

# Scored with either tokenizer.
ask() { run generate "$1" "${@:2}" --image data/images/3.png --prompt "what color is the square?" --max-new-tokens 8 --threads 1 2>ask.log || { cat ask.log; fail "generate $*"; }; }
ask out/finetune >own; ask out/finetune --tokenizer stock.json >other
cmp own other || fail "the stock tokenizer gives another answer"
head -n 3 data/conversations.jsonl >samples.jsonl
run probe out/finetune samples.jsonl --image-root data/images --template vicuna_v1 --out probe.safetensors >probe.log 2>&1 || { cat probe.log; fail "probe"; }
[ "$(head -c "$((8 + $(od -An -tu8 -N8 probe.safetensors)))" probe.safetensors | tail -c +9 | jq '.logits.shape[1]')" -eq "$tokens" ] || fail "logits of rows that are no classes"

# A folder in the layout of LLaVA's authors, who have no <image>: opened, trained, and imported. The tower and the decoder as above, <other> as a stand-in.
lm=out/lm/step_00000006 clip=out/clip/step_00000006
mkdir bare && cp "$lm/model.safetensors" stock.json bare/ && mv bare/stock.json bare/tokenizer.json
jq '. + {architectures: ["LlavaLlamaForCausalLM"], model_type: "llava_llama", mm_vision_tower: "away/clip-vit-large-patch14-336", mm_projector_type: "mlp2x_gelu",
  mm_vision_select_layer: -2, image_aspect_ratio: "pad", pad_token_id: 0, tie_word_embeddings: true}' "$lm/config.json" >bare/config.json
import() { run import --tower "$clip" --projector $folder "$@" >import.log 2>&1 || { cat import.log; fail "import $*"; }; }
import bare grown
grep -q "embedding grows from $tokens to $rows rows" import.log || { cat import.log; fail "the line of an import's growth"; }
[ "$(jq -c '[.image_token_index, .text_config.vocab_size, .bifocal_classes]' grown/config.json)" = "[$tokens,$rows,$tokens]" ] || fail "an import's config.json"
run checkpoint verify grown >/dev/null || fail "the import is not good"
import --image-token 4 bare whole
run export --format llava whole native >/dev/null 2>&1 || fail "export --format llava"
jq 'del(.image_token_index)' native/config.json >config.json && mv config.json native/config.json
ask native >said
run import native back >/dev/null 2>&1 || fail "import of a whole native folder"
cmp back/model.safetensors grown/model.safetensors || fail "a native folder grows in another way"
ask back >said2; cmp said said2 || fail "a native folder answers otherwise than its import"
train finetune --set model.init=native --set output=out/native || { cat finetune.log; fail "finetune of a native folder"; }
grep -q "grows from $tokens to $rows rows" finetune.log || fail "a native folder did not grow"
[ "$(jq .bifocal_classes out/native/step_00000006/config.json)" -eq "$tokens" ] || fail "a native folder's classes"

# Weights in several files: the same tensors; a limit below the largest of them gives each its own.
for size in 30KB 1 1GiB; do
  run export --format hf-old --shard-size $size back "cut-$size" >/dev/null 2>&1 || fail "--shard-size $size"
  run checkpoint diff --json back "cut-$size" 2>/dev/null | jq -e '.compared > 0 and (.only_a + .only_b + .shapes + .changed == [])' >/dev/null || fail "--shard-size $size: other tensors"
  run export --format hf-old "cut-$size" "one-$size" >/dev/null 2>&1 || fail "from files of $size"
  cmp back/model.safetensors "one-$size/model.safetensors" || fail "$size and back"
done
[ -f cut-1GiB/model.safetensors ] && [ ! -f cut-1GiB/model.safetensors.index.json ] || fail "small weights were cut"
count=$(ls cut-30KB/model-*.safetensors | wc -l)
[ "$count" -gt 2 ] && [ -f "cut-30KB/model-00001-of-$(printf %05d "$count").safetensors" ] || { ls cut-30KB; fail "names of the files"; }
[ "$(jq '[.weight_map[]] | unique | length' cut-30KB/model.safetensors.index.json)" -eq "$count" ] || fail "the index does not name all files"
jq -e '.metadata.total_size == 4 * .metadata.total_parameters' cut-30KB/model.safetensors.index.json >/dev/null || fail "the index's metadata"
[ "$(jq '.weight_map | length' cut-1/model.safetensors.index.json)" -eq "$(ls cut-1/model-*.safetensors | wc -l)" ] || fail "--shard-size 1: not a file a tensor"
train finetune --set model.init=cut-30KB --set output=out/cut || { cat finetune.log; fail "training from several files"; }
for size in 0 x 5XB -1 5GBx 99999999TB; do refused 64 "--shard-size '$size' is not a size" export --format hf --shard-size $size back no; done
leftovers
finish
