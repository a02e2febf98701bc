#!/usr/bin/env bash
# What a LoRA run leaves: an adapter folder in PEFT's and LLaVA's files, from which the run goes on to the bit, and which every verb opens.
. "$(dirname "$0")/common.inc"
make_data 40
sed -i 's/steps: 20/steps: 8/' ./*.yaml
for stage in clip lm pretrain; do run train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage"; finish; }; done
cat >lora.yaml <<Y
stage: finetune
output: out/lora
threads: 1
model: {encoder: out/clip, decoder: out/lm, projector: out/pretrain}
lora: {rank: 4, alpha: 8, dropout: 0.05}
data: {shards: [shards/talks], validation: [shards/captions], tokenizer: tokenizer.json, template: vicuna_v1, system: "", image_fit: pad, max_tokens: 256}
batch: {samples: 8, micro_tokens: 1024}
train: {steps: 8, checkpoint_every: 4, validate_every: 8, log_every: 0}
optimizer: {lr: 1e-2, projector_lr: 1e-3, clip_norm: 1.0, warmup_ratio: 0.1}
Y
quiet() { run "$@" >quiet.log 2>&1 || { cat quiet.log; fail "$*"; }; }
validation() { sed -n 's/.*"validation_loss":\([^,}]*\).*/\1/p' "$1/metrics.jsonl" | tail -n 1; }
same_loss() { awk -v a="$(validation "$1")" -v b="$(validation "$2")" 'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= 2e-6 * a) }'; }
probe() { run probe "$1" data/conversations.jsonl --image-root data/images --threads 1 --out "$2" "${@:3}" >probe.log 2>&1 || { cat probe.log; fail "probe of $1"; }; }

quiet train lora.yaml
step=out/lora/step_00000008
for file in config.json adapter_config.json adapter_model.safetensors non_lora_trainables.bin preprocessor_config.json tokenizer.json; do
  [ -e $step/$file ] && jq -r '.files[].name' $step/MANIFEST.json | grep -qx $file || fail "no $file, or not in the manifest"
done
[ -e $step/model.safetensors ] && fail "frozen weights are saved"
base=$(realpath out/lm)/step_00000008 tower=$(realpath out/clip)/step_00000008
[ "$(jq -c '[.base_model_name_or_path, .r, .lora_alpha, .bias, .peft_type, (.target_modules | length)]' $step/adapter_config.json)" = "[\"$base\",4,8,\"none\",\"LORA\",7]" ] || { cat $step/adapter_config.json; fail "adapter_config.json"; }
[ "$(jq -r '[.architectures[0], .model_type, .mm_vision_tower, .bifocal_encoder, .mm_projector_type] | join(" ")' $step/config.json)" = "LlavaLlamaForCausalLM llava_llama $tower $tower mlp2x_gelu" ] || { cat $step/config.json; fail "config.json is not LLaVA's"; }
[ "$(grep -aoE 'base_model.model.model.mm_projector.[02].(weight|bias)' $step/non_lora_trainables.bin | sort | uniq | tr '\n' ' ')" = "base_model.model.model.mm_projector.0.bias base_model.model.model.mm_projector.0.weight base_model.model.model.mm_projector.2.bias base_model.model.model.mm_projector.2.weight " ] || fail "names in non_lora_trainables.bin"

# Without the projector that was trained beside the adapters a base that is a LLaVA would lend its own.
cp -r "$step" lost && rm lost/non_lora_trainables.bin lost/MANIFEST.json
refused 65 "lost/non_lora_trainables.bin is missing" export --format hf lost lost-merged
[ -e lost-merged ] && fail "a refused export left something"

# Stop and resume, with 2 ranks in between too.
quiet train lora.yaml --set output=out/stop --set train.steps=8 --set train.stop_after=0
run train lora.yaml --set output=out/half --set train.stop_after=3 >stop.log 2>&1; [ $? -eq 75 ] || { cat stop.log; fail "did not stop"; }
quiet train lora.yaml --set output=out/half
for file in adapter_model.safetensors non_lora_trainables.bin trainer/optimizer-0000-of-0001.safetensors; do
  cmp -s $step/$file out/half/step_00000008/$file || fail "a resumed run has another $file"
  cmp -s $step/$file out/stop/step_00000008/$file || fail "the same run again has another $file"
done
cmp -s <(losses out/lora) <(losses out/half) || fail "a resumed run has other losses"

# The recipe names a run, which became another one since: adapters do not go on upon other weights.
run train lora.yaml --set output=out/moved --set train.stop_after=3 >stop.log 2>&1; [ $? -eq 75 ] || { cat stop.log; fail "did not stop"; }
mv out/lm kept; quiet train lm.yaml --set seed=9
for LAUNCH in "" "$two"; do
  refused 78 "the frozen parts, here from $base and $tower, are not those the checkpoint in out/moved was trained on" train lora.yaml --set output=out/moved
done
LAUNCH=
rm -r out/lm; mv kept out/lm
quiet train lora.yaml --set output=out/moved
cmp -s $step/adapter_model.safetensors out/moved/step_00000008/adapter_model.safetensors || fail "resumed upon its own base, another adapter"

# The folder as a model, its exports, and a run that goes on from it: the same numbers.
quiet checkpoint verify $step
run checkpoint show out/lora >show.txt 2>&1; grep -qF "LoRA of rank 4, alpha 8 (scale 2), 14 matrices, upon $base" show.txt || { cat show.txt; fail "checkpoint show"; }
probe out/lora adapter.st
for format in hf hf-old llava; do
  quiet export --format $format out/lora "export-$format"
  quiet checkpoint verify "export-$format"
  probe "export-$format" "$format.st"
  "$tools/tool_probe_diff" adapter.st "$format.st" 0 >diff.txt || { cat diff.txt; fail "an export as $format is another model than the adapter"; }
done
probe out/pretrain before.st --template vicuna_v1 --system "" --image-fit pad
"$tools/tool_probe_diff" before.st adapter.st 1e-3 >/dev/null && fail "the adapter changes nothing"
quiet generate out/lora --image data/images/1.png --prompt "what color is the square?" --threads 1
sed 's#^model:.*#model: {init: out/lora}#; /^lora:/d' lora.yaml >on.yaml
quiet train on.yaml --set output=out/on --set train.steps=1 --set train.validate_every=1 --set optimizer.lr=1e-15 --set optimizer.projector_lr=1e-15
same_loss out/lora out/on || fail "merged weights have validation loss $(validation out/on), adapters $(validation out/lora)"
[ -e out/on/step_00000001/model.safetensors ] || fail "a run on merged weights is no whole model"

# Adapters upon adapters: a second LoRA run from the first.
quiet train lora.yaml --set output=out/second --set model.init=out/lora --set model.encoder=null --set model.decoder=null --set model.projector=null --set train.steps=1 \
  --set train.validate_every=1 --set optimizer.lr=1e-15 --set optimizer.projector_lr=1e-15
same_loss out/lora out/second || fail "a second adapter starts elsewhere"
[ "$(jq -r .base_model_name_or_path out/second/step_00000001/adapter_config.json)" = "$(realpath $step)" ] || fail "the base of the second adapter"
probe out/second second.st
"$tools/tool_probe_diff" adapter.st second.st 1e-6 >diff.txt || { cat diff.txt; fail "an adapter upon an adapter"; }

# A decoder alone.
sed '/llama:/d; s#^model:.*#model: {init: out/lm}#' lm.yaml >few.yaml
quiet train few.yaml --set output=out/lm-lora --set lora.rank=2 --set "lora.targets=[q_proj, down_proj]"
[ -e out/lm-lora/step_00000008/non_lora_trainables.bin ] && fail "a decoder alone has nothing but adapters"
quiet export --format hf out/lm-lora lm-merged
run checkpoint diff --json out/lm lm-merged >diff.json 2>/dev/null
[ "$(jq -c '[(.changed | length), (.only_a + .only_b + .shapes | length)]' diff.json)" = "[4,0]" ] || { cat diff.json; fail "what two targets in two layers change"; }

# A stock decoder, whose vocabulary grows: the folder says both sizes, and its export has the new rows.
sed 's/<image>/<other>/g' tokenizer.json >stock.json
grown() { run train lora.yaml --set output=out/grown --set data.tokenizer=stock.json --set train.steps=4 "$@" >grown.log 2>&1; }
grown --set train.stop_after=2; [ $? -eq 75 ] || { cat grown.log; fail "a grown run did not stop"; }
grown || { cat grown.log; fail "a grown run did not resume"; }
grown --set output=out/grown-whole || { cat grown.log; fail "a grown run"; }
cmp -s "$(weights out/grown)" "$(weights out/grown-whole)" || fail "a resumed run with a grown vocabulary differs"
[ "$(jq -c '[.vocab_size, .bifocal_vocab, .bifocal_classes, .image_token_index, .pad_token_id, .bifocal_pad_token_id]' out/grown/step_00000004/config.json)" = "[300,320,300,300,null,301]" ] ||
  { cat out/grown/step_00000004/config.json; fail "config.json of a grown vocabulary"; }
quiet export --format hf-old out/grown grown
[ "$(jq -c '[.text_config.vocab_size, .bifocal_classes, .image_token_index, .pad_token_id]' grown/config.json)" = "[320,300,300,301]" ] || { cat grown/config.json; fail "its export"; }
probe out/grown a.st; probe grown b.st
"$tools/tool_probe_diff" a.st b.st 0 >diff.txt || { cat diff.txt; fail "the export of a grown vocabulary is another model"; }

# A decoder that LLaVA's authors do not have: in transformers' names.
quiet train lm.yaml --set output=out/qwen3 --set model.llama.qk_norm=yes --set train.steps=1
quiet train lora.yaml --set output=out/third --set model.decoder=out/qwen3 --set train.steps=2
[ "$(jq -r .architectures[0] out/third/step_00000002/config.json)" = LlavaForConditionalGeneration ] || fail "the architecture of a Qwen3 adapter"
grep -qa 'base_model.model.model.language_model.layers.1.mlp.up_proj.lora_B.weight' out/third/step_00000002/adapter_model.safetensors || fail "names of a Qwen3 adapter"
quiet train lora.yaml --set output=out/third --set model.decoder=out/qwen3 --set train.steps=2
quiet export --format hf out/third third
probe out/third a.st; probe third b.st
"$tools/tool_probe_diff" a.st b.st 0 >diff.txt || { cat diff.txt; fail "the export of a Qwen3 adapter is another model"; }

# A tower that trains beside the adapters, from a folder and from scratch: it is in the folder too.
quiet train lora.yaml --set output=out/tower --set model.train_encoder=yes --set train.steps=2
quiet export --format hf-old out/tower tower
run checkpoint diff --json out/pretrain tower >diff.json 2>/dev/null
jq -e '[.changed[].name] | any(startswith("vision_tower.vision_model.encoder.layers.0."))' diff.json >/dev/null || { cat diff.json; fail "the trained tower is not in the export"; }
probe out/tower a.st; probe tower b.st
"$tools/tool_probe_diff" a.st b.st 0 >diff.txt || { cat diff.txt; fail "the export of a trained tower is another model"; }
sed 's/encoder: out.clip,/vit: {hidden: 32, layers: 2, heads: 2, inner: 64, patch: 8, image: 32}, train_encoder: yes, train_projector: yes,/; s/, projector: out.pretrain//' lora.yaml >scratch.yaml
quiet train scratch.yaml --set output=out/scratch --set train.steps=4 --set train.checkpoint_every=2
run train scratch.yaml --set output=out/scratch2 --set train.steps=4 --set train.stop_after=2 >stop.log 2>&1
quiet train scratch.yaml --set output=out/scratch2 --set train.steps=4
for file in adapter_model.safetensors non_lora_trainables.bin; do cmp -s out/scratch/step_00000004/$file out/scratch2/step_00000004/$file || fail "resumed from scratch, another $file"; done
[ "$(jq -r '[.architectures[0], .bifocal_encoder] | map(tostring) | join(" ")' out/scratch/step_00000004/config.json)" = "LlavaForConditionalGeneration null" ] || fail "a tower of no folder"
quiet export --format hf-old out/scratch scratch
probe out/scratch a.st; probe scratch b.st
"$tools/tool_probe_diff" a.st b.st 0 >diff.txt || { cat diff.txt; fail "the export of a tower from scratch is another model"; }

# Base or tower somewhere else.
cp -r $base moved-base; cp -r $tower moved-tower; mv out/lm away
refused 78 "is no folder here; name the base's folder by --base" probe $step data/conversations.jsonl --image-root data/images --out no.st
probe $step there.st --base moved-base
cmp -s adapter.st there.st || fail "another place of the base gives other numbers"
refused 78 "its base_model_name_or_path" train on.yaml --set output=out/on2
quiet train on.yaml --set output=out/on2 --set model.base=moved-base --set train.steps=1
mv out/clip away2
refused 65 "(bifocal_encoder), where there is none; name its folder by --tower" probe $step data/conversations.jsonl --image-root data/images --out no.st --base moved-base
probe $step there.st --base moved-base --tower moved-tower
cmp -s adapter.st there.st || fail "another place of the tower gives other numbers"
quiet train on.yaml --set output=out/on3 --set model.base=moved-base --set model.encoder=moved-tower --set train.steps=1
mv away out/lm; mv away2 out/clip

refused 78 "name it by model.init or model.decoder" train lm.yaml --set output=out/no --set lora.rank=2
refused 78 "model.base beside lora.rank" train lora.yaml --set output=out/no --set model.base=out/lm
refused 78 "model.base is the base of an adapter" train lm.yaml --set output=out/no --set model.base=out/lm
refused 78 "is no adapter" train on.yaml --set output=out/no --set model.init=out/pretrain --set model.base=out/lm
leftovers
finish
