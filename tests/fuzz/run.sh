#!/usr/bin/env bash
# Runs fuzz targets on seeds made from the golden files, one after another:  run.sh BUILD SECONDS [TARGET]...
#   cmake -S . -B BUILD -DCMAKE_C_COMPILER=clang -DBIFOCAL_FUZZ=ON -DBIFOCAL_SANITIZE=ON -DBIFOCAL_WERROR=OFF -DBIFOCAL_CUDA=OFF
#   cmake --build BUILD --target fuzzers
# One line a target: executions, those a second, edges covered, and whether anything was found. Corpora and findings stay in BUILD/fuzz/TARGET.
set -u
build=$(realpath "${1:?build folder}") seconds=${2:?seconds a target}
shift 2
golden=$(realpath "$(dirname "$0")/../golden")
export BIFOCAL_TESTS=${golden%/golden} ASAN_OPTIONS=allocator_may_return_null=1
put() { mkdir -p "$1" && cat >"$1/$2"; } # put FOLDER NAME <BYTES
all() { # all FOLDER FILE...: copies under names of their own
  local folder=$1 n=0
  mkdir -p "$folder"
  for file in "${@:2}"; do
    cp "$file" "$folder/seed$((n += 1))"
  done
}
seeds() { # seeds TARGET FOLDER
  case $1 in
  tokenizer_json) all "$2" "$golden"/tokens/*/tokenizer.json "$golden"/tokenizer/{hf_digits,ours}.json "$golden"/probe/tokenizer.json ;;
  tokenizer_model) all "$2" "$golden"/tokens/*/tokenizer.model ;;
  safetensors) all "$2" "$golden"/layouts/{native,clip_open}/*.safetensors "$golden"/probe_clip/expected.safetensors ;;
  torch) all "$2" "$golden"/layouts/*/*.bin ;;
  index)
    all "$2" "$golden"/layouts/*/*.index.json
    printf '{"metadata":{"total_size":8},"weight_map":{"x":"a.safetensors","y":"b.safetensors"}}' | put "$2" small
    { printf '{"weight_map":{"y":"b.safetensors","x":"a.safetensors"}}\0' && cat "$golden"/layouts/native/model-00001-of-00002.safetensors; } | put "$2" two
    ;;
  config) all "$2" "$golden"/hf/*.json "$golden"/hf/*/config.json "$golden"/layouts/*/config.json "$golden"/probe*/config.json ;;
  open_clip) all "$2" "$golden"/*/*/open_clip_config.json ;;
  vocab)
    { cat "$golden"/tokens/clip/vocab.json && printf '\0' && cat "$golden"/tokens/clip/merges.txt; } | put "$2" clip
    printf '{"a":0,"b":1,"ab":2,"b</w>":3,"ab</w>":4,"<|endoftext|>":5}\0#version: 0.2\na b\na b</w>\n\0{"tokenizer_class":"CLIPTokenizer"}' | put "$2" small
    printf '{"a":0,"b":1,"ab":2,"<|endoftext|>":3}\0a b\n\0{"tokenizer_class":"GPT2Tokenizer","added_tokens_decoder":{"3":{"content":"<|endoftext|>","special":true}}}' |
      put "$2" gpt2
    ;;
  recipe)
    all "$2" "$golden"/../../configs/quickstart/*.yaml
    printf 'stage: lm\noutput: "${HOME}/x"\ndata: {shards: [a, b], max_tokens: 0}\n\0data.shards=[c]' | put "$2" set
    ;;
  chat)
    printf '\1{"conversations":[{"from":"human","value":"<image>\\nwhat?"},{"from":"gpt","value":"red"},{"from":"human","value":"x"}]}' | put "$2" talk
    printf '\1{"caption":"a small circle","image":"a.png"}' | put "$2" caption
    printf '\356{"id":1,"conversations":[{"from":"gpt","value":"\\u00e9<s>"},{"from":"human","value":"a <image> <image>"},{"from":"gpt","value":"no"}]}' |
      put "$2" two
    ;;
  adapter)
    for kind in hf lora rslora; do
      { cat "$golden/peft/$kind/adapter_config.json" && printf '\0' && cat "$golden/peft/$kind/adapter_model.safetensors"; } | put "$2" $kind
    done
    ;;
  order)
    printf '3\n1\n\n999\n' | put "$2" text
    printf '\223NUMPY\1\0\066\0{"descr": "<u4", "fortran_order": False, "shape": (2,), }\n\1\0\0\0\2\0\0\0' | tr '"' "'" | put "$2" npy
    ;;
  selection)
    { printf '{"format":"bifocal-selection","version":1,"samples":5,"kept":5,"shards":[{"digest":"0123456789abcdef0123456789abcdef","name":"a.h5","samples":3},'
      printf '{"digest":"f123456789abcdef0123456789abcdef","name":"b.h5","samples":2}],"steps":[{"verb":"dedup","parameters":{"a":1},"before":5,"after":4,'
      printf '"reasons":[{"name":"x","records":1}],"records":1,"xxh3":""},{"verb":"y","parameters":{},"before":4,"after":5,"reasons":[{"name":"z","records":1}],'
      printf '"records":1,"xxh3":""}]}\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\200\77\0\0\0\0\4\0\0\0\0\0\0\0'
      printf '\377\377\377\377\377\377\377\377\0\0\0\0\0\0\2\0'; } | put "$2" two
    all "$2" "$golden"/uids/*
    ;;
  column)
    note='{"format":"bifocal-column","version":1,"name":"c","of":"%s","method":"m","rows":%d,"width":%d,"type":"%s"}'
    { printf "$note" image 5 1 u32 && printf '\0\223NUMPY\1\0v\0%-117s\n01234567890123456789' "{'descr': '<u4', 'fortran_order': False, 'shape': (5,), }"; } | put "$2" u32
    { printf "$note" sample 3 2 f16 && printf '\0\223NUMPY\1\0v\0%-117s\n012345678901' "{'descr': '<f2', 'fortran_order': False, 'shape': (3, 2), }"; } | put "$2" f16
    { printf "$note" sample 3 1 text && printf '\0"a \\"b\\" \\u00e9"\nnull\n""\n'; } | put "$2" text
    printf '\223NUMPY\1\0v\0%-117s\n' "{'descr': [('f0', '<u8'), ('f1', '<u8')], 'fortran_order': False, 'shape': (0,), }" | put "$2" records
    ;;
  concepts)
    printf '0red\nred circle\na , b\ncaf\303\251\n\0a red circle, blue; caf\303\251!' | put "$2" few
    printf '1Red\nRED\nU.S\n  \n\0red\t12\nblue\t3\n' | put "$2" folded
    ;;
  scan)
    printf '{"a": [1, -2.5e3, true, null, "\\u00e9\\ud83d\\ude00\303\251"], "b": {"c": []}}' | put "$2" small
    all "$2" "$golden"/hf/llama.json "$golden"/layouts/native/*.index.json
    ;;
  tar) all "$2" "$golden"/tars/*.tar ;;
  image) all "$2" "$golden"/images/*.{jpg,png,webp} ;;
  *) echo "no seeds for $1" >&2 && return 1 ;;
  esac
}
[ $# -gt 0 ] || set -- safetensors index torch tokenizer_json tokenizer_model vocab config open_clip adapter recipe chat order selection column concepts scan image tar
status=0
for target; do
  folder=$build/fuzz/$target
  seeds "$target" "$folder/seeds" || exit 1
  mkdir -p "$folder/corpus" "$folder/found"
  "$build/tests/fuzz_$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2560 -max_len=65536 -artifact_prefix="$folder/found/" \
    -print_final_stats=1 "$folder/corpus" "$folder/seeds" >"$folder/log" 2>&1
  code=$?
  [ $code -eq 0 ] || status=1
  awk -v t="$target" -v code=$code '/^stat::number_of_executed_units/ { n = $2 } /^stat::average_exec_per_sec/ { s = $2 } / cov: / { for (i = 1; i < NF; i++) if ($i == "cov:") c = $(i + 1) }
    END { printf "| %s | %d | %d | %d | %s |\n", t, n, s, c, code == 0 ? "none" : "see the log" }' "$folder/log"
done
exit $status
