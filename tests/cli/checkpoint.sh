#!/usr/bin/env bash
# `bifocal checkpoint show|diff|verify` on folders of transformers, on checkpoints of a run, and on damaged ones.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden
make_data 40
run train lm.yaml --set train.keep=2 >lm.log 2>&1 || { cat lm.log; fail "training failed"; finish; }
a=out/lm/step_00000016 b=out/lm/step_00000020
says() { grep -qF -- "$1" "$2" || { fail "'$1' is not in:"; cat "$2"; }; }

# show: a run's folder is its newest checkpoint.
run checkpoint show out/lm >show.txt || fail "show"
for text in "$b" 'kind                     decoder' 'vicuna_v1' 'tokenizer.json, 300 tokens' 'trainer/state.json' 'step                                                   20'; do says "$text" show.txt; done
run checkpoint show --json "$golden/hf/llava" >show.json || fail "show --json"
[ "$(jq -r '[.architecture.kind, .groups.encoder.tensors, .groups.decoder.elements, .dtypes.f32.tensors, .missing, .tokenizer] | map(tostring) | join(" ")' show.json)" = "llava 39 2736 55 0 null" ] || { cat show.json; fail "show --json"; }
run checkpoint show "$b/model.safetensors" >file.txt || fail "show of a file"
says 'one file, without a config.json' file.txt
refused 64 'name one folder' checkpoint show
refused 64 'wrong option' checkpoint diff --quick a b
refused 64 'name two folders' checkpoint diff a
refused 74 "cannot open 'nothing'" checkpoint show nothing

# diff: a folder with itself, two steps of a run, two architectures.
run checkpoint diff "$b" out/lm >same.txt || { cat same.txt; fail "a folder differs from itself"; }
says ' 0 differ, 0 of another shape, 0 only in A, 0 only in B' same.txt
run checkpoint diff "$a" "$b" >steps.txt 2>&1; [ $? -eq 65 ] || fail "two steps pass for the same"
says 'differs   model.layers.0.mlp.up_proj.weight  f32 [64, 32]  relative ' steps.txt
says ' 0 of another shape, 0 only in A, 0 only in B' steps.txt
run checkpoint diff --json "$golden/hf/llava" "$golden/hf/clip_vision" >kinds.json 2>kinds.log; [ $? -eq 65 ] || fail "two architectures pass for the same"
[ "$(jq -r '[(.only_a | length), (.only_b | length), .config["model_type"].a, .config["model_type"].b] | map(tostring) | join(" ")' kinds.json)" = "55 39 llava clip_vision_model" ] || { cat kinds.json; fail "diff --json of two architectures"; }

# verify: good ones, then each kind of damage.
run checkpoint verify "$a" "$b" "$golden/hf/llava" >good.txt || fail "good folders"
says "$b: good, 20 tensors, digests checked" good.txt
says 'llava: good, 55 tensors, no manifest' good.txt
hurt() { rm -rf hurt && cp -r "$b" hurt; }
hurt; printf '\001' | dd of=hurt/model.safetensors bs=1 seek=9000 conv=notrunc 2>/dev/null
run checkpoint verify "$a" hurt >bad.txt 2>bad.log; [ $? -eq 65 ] || fail "a wrong digest passes"
says 'hurt: bad: hurt/model.safetensors is damaged' bad.txt; says "$a: good" bad.txt; says '1 of 2 folders are not good' bad.log
hurt; rm hurt/MANIFEST.json
printf '\377\377\377\177' | dd of=hurt/model.safetensors bs=1 seek=$(($(stat -c %s hurt/model.safetensors) - 4)) conv=notrunc 2>/dev/null
run checkpoint verify hurt >bad.txt 2>&1; [ $? -eq 65 ] || fail "a NaN passes"
says 'holds 1 NaN and 0 infinite' bad.txt
run checkpoint verify --no-scan hurt >nan.txt || fail "--no-scan looks for NaN"
hurt; rm hurt/MANIFEST.json; truncate -s -8 hurt/model.safetensors
run checkpoint verify hurt >bad.txt 2>&1; [ $? -eq 65 ] || fail "a cut file passes"
says 'the file is cut or damaged' bad.txt
hurt; rm hurt/MANIFEST.json; sed -i 's/"num_hidden_layers": 2/"num_hidden_layers": 3/' hurt/config.json
run checkpoint verify hurt >bad.txt 2>&1; [ $? -eq 65 ] || fail "missing tensors pass"
says "9 of the architecture's 29 tensors are missing" bad.txt
# Of a run's folder the newest, also when it is the one that is damaged, or is not whole.
run checkpoint verify out/lm >good.txt || fail "a run's folder"
says "$b: good, 20 tensors, digests checked" good.txt
mkdir run && cp -r "$a" "$b" run/
printf '\001' | dd of="run/${b##*/}/model.safetensors" bs=1 seek=9000 conv=notrunc 2>/dev/null
run checkpoint verify run >bad.txt 2>&1; [ $? -eq 65 ] || fail "a run whose newest checkpoint is damaged passes"
says "run/${b##*/}/model.safetensors is damaged" bad.txt
rm "run/${b##*/}/MANIFEST.json"
run checkpoint verify run >bad.txt 2>&1; [ $? -eq 65 ] || fail "a run whose newest checkpoint has no manifest passes"
says 'the newest checkpoint, has no MANIFEST.json' bad.txt
rm -rf run/step_*
run checkpoint verify run >bad.txt 2>&1; [ $? -eq 65 ] || fail "an empty folder passes for a checkpoint"
says 'holds no config.json, and no step_* folder of a run' bad.txt
finish
