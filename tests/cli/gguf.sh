#!/usr/bin/env bash
# `bifocal export --format gguf`: what it refuses, that it leaves nothing behind then, and what it writes. The numbers in the files are checked by
# train/test_gguf.c, and against llama.cpp by golden/check_gguf.py.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden
gguf() { run export --format gguf "$@" >gguf.log 2>&1 || { cat gguf.log; fail "export --format gguf $*"; }; }
has() { grep -aqF -- "$1" "$2" || fail "'$1' is not in $2"; }
words() { # words NAME PRE_TOKENIZER [MODEL'S SETTINGS]
  mkdir -p "$1"
  jq -n --argjson pre "$2" --argjson more "${3:-{\}}" '{added_tokens: [{id: 0, content: "<unk>", special: true}, {id: 1, content: "<s>", special: true},
    {id: 2, content: "</s>", special: true}], pre_tokenizer: $pre, decoder: {type: "ByteLevel"},
    model: ({type: "BPE", vocab: {"<unk>": 0, "<s>": 1, "</s>": 2, "a": 3, "b": 4, "ab": 5}, merges: ["a b"]} + $more)}' >"$1/tokenizer.json"
}
bytes='{"type": "ByteLevel", "add_prefix_space": false}'
words gpt2 "$bytes"
cp -r "$golden/layouts/hf_old" llava; cp gpt2/tokenizer.json llava/; chmod -R u+w llava

# Both files, of each type; a folder of a run's kind and slashes at its end do not matter; the same input gives the same bytes.
gguf llava mini; [ "$(ls mini)" = "$(printf 'mini-F16.gguf\nmmproj-mini-F16.gguf')" ] || { ls mini; fail "the files of an export"; }
gguf --type bf16 llava/ b/mini/; gguf --type f32 llava wide
[ "$(ls b/mini wide | tr '\n' ' ')" = "b/mini: mini-BF16.gguf mmproj-mini-BF16.gguf  wide: mmproj-wide-F32.gguf wide-F32.gguf " ] || { ls b/mini wide; fail "other types"; }
gguf llava again/mini; cmp mini/mini-F16.gguf again/mini/mini-F16.gguf && cmp mini/mmproj-mini-F16.gguf again/mini/mmproj-mini-F16.gguf || fail "the same twice"
[ "$(stat -c %s wide/wide-F32.gguf)" -gt "$(stat -c %s mini/mini-F16.gguf)" ] || fail "F32 is not longer than F16"

# The template: of the folder, else of the training; BOS as that wants it.
has_not() { grep -aqF -- "$1" "$2" && fail "'$1' is in $2"; }
has_not tokenizer.chat_template mini/mini-F16.gguf
echo '{"chat_template": "of the folder", "model_max_length": 1000000000000000019884624838656}' >llava/tokenizer_config.json
gguf llava t1; has 'of the folder' t1/t1-F16.gguf
printf 'of a file' >llava/chat_template.jinja; gguf llava t2; has 'of a file' t2/t2-F16.gguf
rm llava/chat_template.jinja llava/tokenizer_config.json
jq '.bifocal_template = "vicuna_v1"' "$golden/layouts/hf_old/config.json" >llava/config.json
gguf llava t3; has 'A chat between a curious user' t3/t3-F16.gguf
has_not suppress_tokens t3/t3-F16.gguf # rows that training left out of the softmax are never to be drawn
jq '.bifocal_classes = 20' "$golden/layouts/hf_old/config.json" >llava/config.json; gguf llava t4; has tokenizer.ggml.suppress_tokens t4/t4-F16.gguf
jq '.bifocal_template = "vicuna_v1" | .text_config.eos_token_id = 20' "$golden/layouts/hf_old/config.json" >llava/config.json
refused 78 'its bos or eos is not below 6' export --format gguf llava no # a row of the model, but no token
cp "$golden/layouts/hf_old/config.json" llava/

# Pre-tokenizers by their patterns.
llama3='(?i:'"'"'s|'"'"'t|'"'"'re|'"'"'ve|'"'"'m|'"'"'ll|'"'"'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+'
split() { jq -n --arg p "$1" '{type: "Sequence", pretokenizers: [{type: "Split", pattern: {Regex: $p}, behavior: "Isolated", invert: false}, {type: "ByteLevel", add_prefix_space: false, use_regex: false}]}'; }
words three "$(split "$llama3")" '{"ignore_merges": true}'; words smaug "$(split "$llama3")"; words qwen "$(split "${llama3/\{1,3\}/}")"
words digits "{\"type\": \"Sequence\", \"pretokenizers\": [{\"type\": \"Digits\", \"individual_digits\": true}, $bytes]}"
words odd "$(split 'a+')"; words spaced '{"type": "ByteLevel", "add_prefix_space": true}'; words keeps "$bytes" '{"ignore_merges": true}'
for pair in gpt2:gpt-2 three:llama-bpe smaug:smaug-bpe qwen:qwen2 digits:smollm; do
  gguf --tokenizer "${pair%:*}" llava "pre-${pair%:*}"; has "${pair#*:}" "pre-${pair%:*}/pre-${pair%:*}-F16.gguf"
done
gguf --tokenizer odd --pre deepseek-llm llava pre-odd; has deepseek-llm pre-odd/pre-odd-F16.gguf
for kind in odd spaced keeps; do refused 78 'none of the pre-tokenizers & --pre NAME' export --format gguf --tokenizer $kind llava no; done
# SentencePiece's kind: with legacy's space, without, as tokenizer.json; the vocabulary does not fit these models, so its end is left out.
for kind in llama_legacy llama llama_prepend; do gguf --tokenizer "$golden/tokens/$kind" llava "$kind"; has 'are left out' gguf.log; has '<0x0A>' "$kind/$kind-F16.gguf"; done
refused 78 'unigram' export --format gguf --tokenizer "$golden/tokens/sp_unigram" llava no
refused 78 'a normalizer but NFC' export --format gguf --tokenizer "$golden/tokens/behaviors" llava no
refused 78 'and llama.cpp has no other BPE' export --format gguf --tokenizer "$golden/tokens/metaspace_first" llava no
refused 64 '--pre names the pre-tokenizer of a byte-level tokenizer' export --format gguf --pre x --tokenizer "$golden/tokens/llama" llava no

# An adapter is merged: the same bytes as of the model that PEFT's merge gives.
gguf --type f32 --tokenizer gpt2 --base "$golden/peft/base" "$golden/peft/lora" merged/lora
run export --format hf --base "$golden/peft/base" "$golden/peft/lora" lora-hf >/dev/null 2>&1; gguf --type f32 --tokenizer gpt2 lora-hf plain/lora
cmp merged/lora/lora-F32.gguf plain/lora/lora-F32.gguf || fail "an adapter and its merged model give two files"
gguf --type f32 --tokenizer gpt2 "$golden/peft/base" base/lora; cmp -s base/lora/lora-F32.gguf plain/lora/lora-F32.gguf && fail "the adapter changed nothing"
gguf --tokenizer gpt2 --base "$golden/layouts/native" --tower "$golden/layouts/tower" "$golden/peft/llava" adapted; [ -f adapted/mmproj-adapted-F16.gguf ] || fail "a LLaVA of LoRA"

# Models that llama.cpp does not have, and wrong commands.
refused 64 "'mini' is there already" export --format gguf llava mini
refused 64 "--type must be f16, bf16 or f32, not 'q8'" export --format gguf --type q8 llava no
refused 64 'belong to --format gguf' export --format hf --type f16 llava no
refused 64 'name a source' export --format gguf llava
refused 65 'has no tokenizer' export --format gguf "$golden/layouts/hf_old" no
refused 78 'a CLIP pair' export --format gguf "$golden/layouts/clip_hf" no
refused 78 'a vision tower alone' export --format gguf "$golden/layouts/tower" no
refused 74 'none' export --format gguf --tokenizer none llava no
change() { cp "$golden/layouts/hf_old/config.json" llava/; jq "$1" "$golden/layouts/hf_old/config.json" >llava/config.json; }
change '.vision_feature_select_strategy = "full"'; refused 78 'the class token and the patches' export --format gguf llava no
change '.bifocal_projector = "mlp3x_gelu"'; refused 78 'its projector is mlp3x_gelu' export --format gguf llava no
change '.text_config.eos_token_id = null'; refused 78 'no eos_token_id' export --format gguf llava no
change '.text_config.intermediate_size = 25'; refused 65 'the architecture needs' export --format gguf llava no
change '.'
# A number beyond F16 in the second file: the first is not kept either. The projector is bf16 here, its last number becomes 3.4e38.
run import --projector "$golden/layouts/stage1" "$golden/layouts/hf_old" large >/dev/null 2>&1; cp gpt2/tokenizer.json large/
head=$((8 + $(od -An -tu8 -N8 large/model.safetensors)))
end=$(head -c $head large/model.safetensors | tail -c +9 | jq '.["multi_modal_projector.linear_2.weight"].data_offsets[1]')
printf '\x7f\x7f' | dd of=large/model.safetensors bs=1 seek=$((head + end - 2)) conv=notrunc status=none
refused 65 'tensor mm.2.weight holds 3.38953e+38 & --type bf16 or f32' export --format gguf large no
gguf --type bf16 large fits
compgen -G 'no*' >/dev/null && fail "a refused export left a folder"
leftovers
finish
