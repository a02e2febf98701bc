#!/usr/bin/env bash
# A pair of SigLIP from scratch, with a SentencePiece tokenizer: any number of ranks, accumulation, recomputation, dropped patches, a locked tower and a
# resume give the same; it scores; its tower becomes the encoder of a LLaVA, which trains, answers, and goes to other layouts and back.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden/tokens/siglip
make_data 60
sed -e 's/^  vit: .*/  vit: {family: siglip, hidden: 32, layers: 3, heads: 2, inner: 48, patch: 7, image: 30}/' -e 's/^  text: .*/  text: {hidden: 24, layers: 2, heads: 2, inner: 40, positions: 24}/' \
  -e '/^  projection/d' -e "s|tokenizer.json, image_fit: crop, max_tokens: 24|$golden|" -e 's|out/clip|out/siglip|' clip.yaml >siglip.yaml
again() { # again NAME LAUNCH... -- SETTINGS...
  local name=$1 launch=()
  shift
  while [ "$1" != -- ]; do launch+=("$1"); shift; done
  "${launch[@]}" "$program" train siglip.yaml --set output="out/$name" "${@:2}" >"$name.log" 2>&1 || { cat "$name.log"; fail "$name: exit $?"; finish; }
}
near() { "$tools/tool_st_diff" "$(weights "out/$1")" "$(weights "out/$2")" 1e-5 || fail "$2: other weights than $1"; }
same() { cmp -s "$(weights "out/$1")" "$(weights "out/$2")" || fail "$2: other weights than $1"; }
again siglip --
again recomputed -- --set train.recompute=yes
same siglip recomputed
again two $two -- --set batch.micro_samples=2
near siglip two
run train siglip.yaml --set output=out/resumed --set train.stop_after=9 >resumed.log 2>&1
[ $? -eq 75 ] || { cat resumed.log; fail "did not stop"; }
again resumed --
same siglip resumed
again drop -- --set clip.patch_dropout=0.5
cmp -s "$(weights out/siglip)" "$(weights out/drop)" && fail "patch dropout changes nothing"
again drop-two $two -- --set clip.patch_dropout=0.5
near drop drop-two
for lock in image text; do
  again $lock -- --set clip.lock=$lock
  run checkpoint diff out/$lock/step_00000016 out/$lock/step_00000020 >changed.txt 2>/dev/null
  [ "$(grep -c "^differs  *$([ $lock = image ] && echo vis || echo text)" changed.txt)" -eq 0 ] || fail "$lock is locked and changes: $(head -n 3 changed.txt)"
  grep -q logit_scale changed.txt && [ "$(wc -l <changed.txt)" -gt 30 ] || fail "$lock is locked, and the rest does not train: $(cat changed.txt)"
done

folder=$(dirname "$(weights out/siglip)")
[ "$(jq -r '[.architectures[0], .model_type, .vision_config.model_type, .vision_config.vision_use_head, .vision_config.layer_norm_eps, .text_config.model_type,
  .text_config.projection_size, .text_config.eos_token_id, .text_config.pad_token_id, .text_config.hidden_act, .bifocal_image_fit] | map(tostring) | join(" ")' "$folder/config.json")" = \
  "SiglipModel siglip siglip_vision_model true 1e-06 siglip_text_model 32 1 1 gelu_pytorch_tanh squash" ] || { cat "$folder/config.json"; fail "config.json"; }
[ "$(jq -rc '[.image_processor_type, .size, .image_mean, .image_std, .do_center_crop]' "$folder/preprocessor_config.json")" = \
  '["SiglipImageProcessor",{"height":30,"width":30},[0.5,0.5,0.5],[0.5,0.5,0.5],false]' ] || { cat "$folder/preprocessor_config.json"; fail "preprocessor_config.json"; }
cmp -s "$golden/spiece.model" "$folder/spiece.model" || fail "spiece.model is not the tokenizer's"
run checkpoint show "$folder" | grep -q 'SigLIP ViT, 30 px in patches of 7' || fail "checkpoint show"
again learnt -- --set train.steps=150 --set optimizer.lr=2e-3 --set train.checkpoint_every=0
run zeroshot out/learnt --image-root data/images --classes data/classes.txt --images data/labels.jsonl --summary zeroshot.json >zeroshot.log 2>&1 || { cat zeroshot.log; fail "zeroshot"; }
jq -e '.accuracy > 0.9' zeroshot.json >/dev/null || fail "zero-shot: $(cat zeroshot.json)"
run retrieval out/learnt --image-root data/images --pairs data/captions.jsonl --summary retrieval.json >retrieval.log 2>&1 || { cat retrieval.log; fail "retrieval"; }
run import "$folder" imported >import.log 2>&1 || { cat import.log; fail "import"; }
cmp -s "$folder/model.safetensors" imported/model.safetensors || fail "import changes the weights"

# A LLaVA with this tower: the patches of all, whatever is left of the picture's side.
run train lm.yaml >lm.log 2>&1 || { cat lm.log; fail "lm"; finish; }
sed -i 's|out/clip|out/siglip|; s/image_fit: pad, //' pretrain.yaml
sed -i 's/image_fit: pad, //; s|init: out/pretrain|init: out/pretrain, train_encoder: true|' finetune.yaml
for stage in pretrain finetune; do
  run train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage"; finish; }
done
llava=$(dirname "$(weights out/finetune)")
[ "$(jq -r '[.vision_config.model_type, .vision_feature_select_strategy, .image_seq_length, .bifocal_image_fit] | map(tostring) | join(" ")' "$llava/config.json")" = \
  "siglip_vision_model full 16 squash" ] || { cat "$llava/config.json"; fail "config.json of a LLaVA"; }
[ "$(jq -r '.num_additional_image_tokens' "$llava/processor_config.json")" = 0 ] || fail "processor_config.json"
run checkpoint diff out/pretrain "$llava" >changed.txt 2>/dev/null
grep -q '^differs .*vision.*layers\.1\.' changed.txt || fail "the encoder did not train"
grep -q '^differs .*vision.*\(layers\.2\.\|head\.\|post_layernorm\)' changed.txt && fail "what the feature layer leaves out changed"
run generate "$llava" --image "$(ls data/images/* | head -n 1)" --prompt "what is this?" --max-new 4 >generate.txt 2>generate.log || { cat generate.log; fail "generate"; }
run export "$llava" native --format llava >export.log 2>&1 && run import native back >>export.log 2>&1 || { cat export.log; fail "export and import"; }
cmp -s "$llava/model.safetensors" back/model.safetensors || fail "another LLaVA after export and import"
jq -e '.architectures[0] == "SiglipVisionModel"' native/vision_tower/config.json >/dev/null || fail "config.json of the exported tower"

refused 78 "set clip.loss: sigmoid" train siglip.yaml --set clip.loss=infonce --set output=out/none
refused 78 "reads texts of 24 tokens, all of them" train siglip.yaml --set data.max_tokens=12 --set output=out/none
refused 78 "width of the joint space" train siglip.yaml --set model.projection=16 --set output=out/none
refused 78 "a SigLIP tower has none" train pretrain.yaml --set model.feature_select=cls_patch --set output=out/none
mkdir broken && cp "$llava"/*.* broken/ && rm broken/MANIFEST.json
jq '.vision_feature_select_strategy = "default"' "$llava/config.json" >broken/config.json
refused 78 "a patch would be lost" generate broken --prompt x
leftovers
finish
