#!/bin/bash
# Every recipe in configs/ is read, and planned for its ranks beside folders that hold nothing but the config.json of the models it names.
. "$BIFOCAL_SOURCE/tests/cli/common.inc"
golden=$BIFOCAL_SOURCE/tests/golden/tokens
model() { mkdir -p "models/$1" && cat >"models/$1/config.json"; }
tokens() { cp "$golden/$2"/tokenizer* "models/$1/" 2>/dev/null || { mkdir -p "models/$1" && cp "$golden/$2"/* "models/$1/"; }; }

vicuna() { # name, width, layers, heads, inner
  model "$1" <<J
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": $2, "num_hidden_layers": $3, "num_attention_heads": $4, "intermediate_size": $5,
 "vocab_size": 32000, "max_position_embeddings": 4096, "rms_norm_eps": 1e-05, "bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 0}
J
  tokens "$1" llama
}
vicuna vicuna-7b-v1.5 4096 32 32 11008
vicuna vicuna-7b-v1.3 4096 32 32 11008
vicuna vicuna-13b-v1.5 5120 40 40 13824
model TinyLlama-1.1B-Chat-v1.0 <<J
{"architectures": ["LlamaForCausalLM"], "model_type": "llama", "hidden_size": 2048, "num_hidden_layers": 22, "num_attention_heads": 32, "num_key_value_heads": 4,
 "intermediate_size": 5632, "vocab_size": 32000, "max_position_embeddings": 2048, "rms_norm_eps": 1e-05, "bos_token_id": 1, "eos_token_id": 2}
J
tokens TinyLlama-1.1B-Chat-v1.0 llama
model Qwen2.5-0.5B-Instruct <<J
{"architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "hidden_size": 896, "num_hidden_layers": 24, "num_attention_heads": 14, "num_key_value_heads": 2,
 "intermediate_size": 4864, "vocab_size": 151936, "max_position_embeddings": 32768, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "tie_word_embeddings": true,
 "bos_token_id": 151643, "eos_token_id": 151645}
J
tokens Qwen2.5-0.5B-Instruct smollm2
for size in "" -336; do
  model clip-vit-large-patch14$size <<J
{"architectures": ["CLIPModel"], "model_type": "clip", "projection_dim": 768, "vision_config": {"model_type": "clip_vision_model", "hidden_size": 1024,
 "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "patch_size": 14, "image_size": ${size:+336}${size:-224}, "projection_dim": 768},
 "text_config": {"hidden_size": 768, "num_attention_heads": 12, "intermediate_size": 3072, "projection_dim": 768}}
J
  sed -i 's/336-336/336/' models/clip-vit-large-patch14$size/config.json
done
model siglip-so400m-patch14-384 <<J
{"architectures": ["SiglipModel"], "model_type": "siglip", "vision_config": {"model_type": "siglip_vision_model", "hidden_size": 1152, "num_hidden_layers": 27,
 "num_attention_heads": 16, "intermediate_size": 4304, "patch_size": 14, "image_size": 384}, "text_config": {"model_type": "siglip_text_model", "hidden_size": 1152,
 "num_hidden_layers": 27, "num_attention_heads": 16, "intermediate_size": 4304, "vocab_size": 32000}}
J
tokens clip-tokenizer clip
tokens siglip-tokenizer sp_unigram

# A stage 2 begins where its stage 1 ends: the folder of that run, as far as a plan looks at it.
stage1() { # folder of the run, decoder's folder, vision_config, patches select
  mkdir -p "$1"
  jq -n --slurpfile text "models/$2/config.json" --argjson vision "$3" --arg select "$4" \
    '{architectures: ["LlavaForConditionalGeneration"], model_type: "llava", text_config: $text[0], vision_config: $vision, image_token_index: 3,
      vision_feature_layer: -2, vision_feature_select_strategy: $select, tie_word_embeddings: ($text[0].tie_word_embeddings // false)}' >"$1/config.json"
}
clip336='{"model_type": "clip_vision_model", "hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "intermediate_size": 4096, "patch_size": 14, "image_size": 336}'
siglip=$(jq -c .vision_config models/siglip-so400m-patch14-384/config.json)
stage1 runs/llava-1.5-7b/pretrain vicuna-7b-v1.5 "$clip336" default
stage1 runs/llava-1.5-13b/pretrain vicuna-13b-v1.5 "$clip336" default
stage1 runs/llava-1-7b/pretrain vicuna-7b-v1.3 "${clip336/336/224}" default
stage1 runs/tinyllama-clip/pretrain TinyLlama-1.1B-Chat-v1.0 "$clip336" default
stage1 runs/qwen2.5-0.5b-siglip/pretrain Qwen2.5-0.5B-Instruct "$siglip" full

count=0
for recipe in $(cd "$BIFOCAL_SOURCE/configs" && find . -name '*.yaml' ! -path './quickstart/*' | sort); do
  path=$BIFOCAL_SOURCE/configs/$recipe
  run train "$path" --check >check.txt 2>&1 || fail "$recipe: $(cat check.txt)"
  n=$(sed -n 's/^# *Launch *mpirun -n \([0-9]*\) .*/\1/p' "$path")
  run train "$path" --plan --ranks "${n:-1}" >plan.txt 2>&1 || fail "$recipe: $(cat plan.txt)"
  [ -n "${BIFOCAL_SHOW_PLANS:-}" ] && { echo "== $recipe"; cat plan.txt; }
  grep -q 'blocks recomputed .* sum' plan.txt || fail "$recipe: no plan: $(cat plan.txt)"
  for key in What Data Launch Cost Expect; do
    grep -q "^# *$key " "$path" || fail "$recipe: its header does not say $key"
  done
  said=$(sed -n 's/^# *Memory *\([0-9]*\) GiB of each GPU with all activations kept, \([0-9]*\) with.*/\1 \2/p' "$path")
  planned=$(awk '$(NF - 1) == "sum" { printf "%s%.0f", n++ ? " " : "", $NF }' plan.txt)
  [ "$said" = "$planned" ] || fail "$recipe: its header says '$said' GiB, the plan '$planned'"
  count=$((count + 1))
done
[ "$count" -ge 16 ] || fail "only $count recipes"

# The parameters of stage 1, to the number.
run train "$BIFOCAL_SOURCE/configs/llava-1.5/7b-pretrain.yaml" --plan >plan.txt 2>&1
grep -q 'projector .* 20979712 ' plan.txt || fail "the projector of LLaVA-1.5 7B is not 20,979,712 parameters: $(cat plan.txt)"
run train "$BIFOCAL_SOURCE/configs/llava-1.5/13b-pretrain.yaml" --plan >plan.txt 2>&1
grep -q 'projector .* 31467520 ' plan.txt || fail "the projector of LLaVA-1.5 13B is not 31,467,520 parameters: $(cat plan.txt)"
ranks 2 train "$BIFOCAL_SOURCE/configs/llava-1.5/13b-pretrain.yaml" --plan >plan.txt 2>&1 && fail "a plan on two ranks"
seven=$BIFOCAL_SOURCE/configs/llava-1.5/7b-pretrain.yaml
refused 78 'data.max_tokens is 8192, but the model has only 4096 positions' train "$seven" --plan --set data.max_tokens=8192
refused 64 '--ranks: up to 1000000' train "$BIFOCAL_SOURCE/configs/clip/vit-l-14.yaml" --plan --ranks 4294967296
refused 64 '--ranks goes with --plan' train "$seven" --ranks 8
refused 64 'either --check or --plan' train "$seven" --check --plan
run train "$BIFOCAL_SOURCE/configs/clip/vit-l-14.yaml" --plan --ranks 7 >plan.txt 2>&1
[ $? -eq 78 ] || fail "pairs that do not divide: $(cat plan.txt)"
finish
