#!/usr/bin/env bash
# `bifocal import` and `bifocal export` between the layouts of others (golden/layouts, golden/make_layouts.py): tensors stay equal to the bit.
. "$(dirname "$0")/common.inc"
layouts=${BIFOCAL_TESTS:?folder of the tests}/golden/layouts
says() { grep -qF -- "$1" "$2" || { fail "'$1' is not in:"; cat "$2"; }; }
convert() { run "$@" >convert.log 2>&1 || { cat convert.log; fail "$*"; }; }
# All tensors of both are the same to the bit, dtypes included.
same() { run checkpoint diff --json "$1" "$2" >diff.json 2>/dev/null; [ "$(jq -r '[(.compared > 0), (.only_a + .only_b + .shapes + .changed | length)] | map(tostring) | join(" ")' diff.json)" = "true 0" ] || { jq '{compared, only_a, only_b, shapes, changed}' diff.json; fail "$1 and $2 hold other tensors"; }; }

# Every layout in, to what transformers itself wrote.
convert import "$layouts/hf_old" old; same "$layouts/hf_old" old
convert import "$layouts/hf_new" new; same "$layouts/hf_old" new
convert import --tower "$layouts/tower" --image-token 20 "$layouts/native" native; same "$layouts/hf_old" native
convert import --tower "$layouts/tower" --image-token 20 "$layouts/native_bin" pickled; same "$layouts/hf_old" pickled
cmp -s old/model.safetensors pickled/model.safetensors || fail "torch.save and safetensors give two files"
convert import --projector "$layouts/stage1/mm_projector.bin" old mixed
convert import --projector "$layouts/stage1" new mixed2
cmp -s mixed/model.safetensors mixed2/model.safetensors || fail "a projector from a file and from its folder"
run checkpoint diff --json old mixed >diff.json 2>/dev/null
[ "$(jq -c '[.changed[] | .name, .b]' diff.json)" = '["multi_modal_projector.linear_1.bias","bf16 [16]","multi_modal_projector.linear_1.weight","bf16 [16, 16]","multi_modal_projector.linear_2.bias","bf16 [16]","multi_modal_projector.linear_2.weight","bf16 [16, 16]"]' ] || { cat diff.json; fail "another projector changes something else"; }
jq -e '[.changed[] | .relative_l2 > 0 and .relative_l2 < 0.004] | all' diff.json >/dev/null || fail "bf16 of the same numbers is further away than it can be"
cmp -s old/model.safetensors native/model.safetensors || fail "two sources of the same tensors give two files"
cmp -s old/model.safetensors new/model.safetensors || fail "two sources of the same tensors give two files"
[ "$(jq -r '[.image_token_index, .text_config.vocab_size, .vision_config.image_size, .torch_dtype, .bifocal_image_fit] | map(tostring) | join(" ")' native/config.json)" = "20 24 16 float16 pad" ] || { cat native/config.json; fail "config.json of an import"; }
[ "$(jq -r .vision_feature_layer native/config.json)" = -2 ] || fail "the feature layer of an import"
for folder in old new native; do run checkpoint verify $folder >/dev/null || fail "$folder is not good"; done

# Without a token for pictures there is a warning, and the number that says so.
run import --tower "$layouts/tower" "$layouts/native" blind >convert.log 2>&1 || { cat convert.log; fail "no token for pictures"; }
says 'names no token for pictures' convert.log
[ "$(jq .image_token_index blind/config.json)" = -1 ] || fail "the token of a model without one"
convert import --image-token 20 blind seeing; cmp -s seeing/config.json native/config.json || fail "the token afterwards"

# CLIP in OpenAI's and open_clip's names: imported, and as the tower of a LLaVA.
convert import "$layouts/clip_open" clip; same "$layouts/clip_hf" clip
[ "$(jq -r '[.architectures[0], .vision_config.hidden_act, .vision_config.num_attention_heads, .text_config.eos_token_id, .bifocal_image_fit] | map(tostring) | join(" ")' clip/config.json)" = "CLIPModel quick_gelu 2 23 crop" ] || { cat clip/config.json; fail "config.json of a CLIP"; }
convert import --tower "$layouts/clip_open" old towered; convert import --tower "$layouts/clip_hf" old towered2
cmp -s towered/model.safetensors towered2/model.safetensors || fail "a tower in OpenAI's names is another"
run checkpoint verify towered clip >/dev/null || fail "towered or clip is not good"

# Out to every layout and in again.
for format in hf-old hf llava; do
  convert export --format $format old "out-$format"; same old "out-$format"
  convert import "out-$format" "back-$format"
  cmp -s old/model.safetensors "back-$format/model.safetensors" || fail "$format and back: other bytes"
  run checkpoint verify "out-$format" >/dev/null || fail "out-$format is not good"
done
diff <(jq -S 'del(.bifocal_image_fit)' old/config.json) <(jq -S . back-llava/config.json) >/dev/null || fail "llava and back: another config.json"
names() { head -c "$((8 + $(od -An -tu8 -N8 "$1")))" "$1" | tail -c +9 | jq -r 'keys[]'; }
names out-hf/model.safetensors >hf.txt; names "$layouts/hf_new/model.safetensors" | sed 's/model.vision_tower./&vision_model./' >want.txt
diff <(grep -v __metadata__ want.txt) <(grep -v __metadata__ hf.txt) || fail "--format hf has other names than transformers"
names out-llava/model.safetensors >llava.txt
diff <(cat <(names "$layouts/native/model-00001-of-00002.safetensors") <(names "$layouts/native/model-00002-of-00002.safetensors") | grep -v inv_freq | sort -u) llava.txt || fail "--format llava has other names than LLaVA's authors"
same "$layouts/tower" out-llava/vision_tower

# Refusals; none leaves a folder behind.
refused 65 'tensors are missing, the first is vision_tower.vision_model.embeddings.class_embedding of the encoder & --tower' import "$layouts/native" no
refused 64 "'old' is there already" import "$layouts/hf_old" old
refused 78 'is a vision tower alone' import "$layouts/tower" no
refused 78 'is no LLaVA' import --tower "$layouts/tower" "$layouts/clip_hf" no
refused 78 'for a LLaVA with a Llama, Mistral or Qwen2 decoder' export --format llava "$layouts/clip_hf" no
refused 78 'the image token 24 is not in' import --image-token 24 "$layouts/hf_old" no
refused 64 '--format must be' export old no
refused 64 "is not a token's id" import --image-token x old no
refused 64 'name a source' import old
refused 65 'holds no projector' import --projector "$layouts/tower" old no
refused 65 'holds no vision tower' import --tower "$layouts/clip_hf/../stage1" old no
cp -r "$layouts/native" hurt; rm hurt/model-00002-of-00002.safetensors
refused 74 'hurt/model.safetensors.index.json, which puts ' import hurt no
cp "$layouts/native/model-00001-of-00002.safetensors" hurt/model-00002-of-00002.safetensors
refused 65 'is both in' import hurt no
rm -r hurt; cp -r "$layouts/hf_old" hurt; sed -i 's/"intermediate_size": 24/"intermediate_size": 25/' hurt/config.json
refused 65 'the architecture needs' import hurt no
compgen -G 'no*' >/dev/null && fail "a refused import left a folder"
rm -r hurt; cp -r "$layouts/native" hurt; sed -i 's#"openai/clip-vit-large-patch14-336"#"."#' hurt/config.json
refused 78 "'mm_vision_tower' is ., which" import hurt no
cp -r "$layouts/native" hurt/self; sed -i 's#"mm_vision_tower": "[^"]*"#"mm_vision_tower": "self"#' hurt/config.json hurt/self/config.json
refused 78 "'mm_vision_tower' is self, which" import hurt no
finish
