#!/usr/bin/env bash
# Checkpoints and output folders in a bad state: damaged, misfitting, taken by another run, on a full disk.
. "$(dirname "$0")/common.inc"
make_data 40
for stage in clip lm; do run train $stage.yaml --set train.keep=3 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }; done
damage() { printf '\377\377\377\377' | dd of="$1" bs=1 seek="${2:-5000}" conv=notrunc 2>/dev/null; } # damage FILE [OFFSET]

# The newest checkpoint is damaged: it is named, the one before is used, and the run ends where the whole one ended, to the bit.
for np in 1 2; do
  for file in model.safetensors trainer/optimizer-0000-of-0001.safetensors trainer/state.json config.json MANIFEST.json; do
    [ $np -eq 2 ] && [ $file != model.safetensors ] && continue
    rm -rf out/hurt && cp -r out/lm out/hurt
    damage out/hurt/step_00000020/$file 100
    ranks $np train lm.yaml --set output=out/hurt --set train.keep=3 >hurt.log 2>&1 || { cat hurt.log; fail "np $np: a damaged $file ends the run"; }
    grep -q "warning: skipping checkpoint out/hurt/step_00000020: .*$file" hurt.log || { cat hurt.log; fail "np $np: the damaged $file is not named"; }
    grep -q 'resuming from out/hurt/step_00000016' hurt.log || { cat hurt.log; fail "np $np: step 16 was not used"; }
    [ $np -eq 2 ] || "$tools/tool_st_diff" "$(weights out/lm)" "$(weights out/hurt)" 0 >/dev/null || fail "$file: the repaired run ended elsewhere"
  done
done
# A file gone, and one cut short, are damage too.
rm -rf out/hurt && cp -r out/lm out/hurt
rm out/hurt/step_00000020/model.safetensors
truncate -s -1 out/hurt/step_00000016/trainer/optimizer-0000-of-0001.safetensors
run train lm.yaml --set output=out/hurt --set train.keep=3 >hurt.log 2>&1 || { cat hurt.log; fail "two damaged checkpoints end the run"; }
grep -q 'resuming from out/hurt/step_00000012' hurt.log || { cat hurt.log; fail "step 12 was not used"; }
# All damaged: nothing is overwritten, and nobody begins anew unasked; nor is such a run a source of weights.
rm -rf out/hurt && cp -r out/lm out/hurt
for step in out/hurt/step_*; do damage "$step/model.safetensors"; done
cp -r out/hurt before
for LAUNCH in '' "$two"; do
  refused 65 'out/hurt: none of its 3 checkpoints is whole & move the step_* folders away' train lm.yaml --set output=out/hurt
  refused 65 'out/hurt: none of its 3 checkpoints is whole' train pretrain.yaml --set model.decoder=out/hurt
  refused 65 'model.decoder: & out/hurt/step_00000020/model.safetensors is damaged' train pretrain.yaml --set model.decoder=out/hurt/step_00000020
done
LAUNCH=
for step in before/step_*; do diff -r "$step" "out/hurt/$(basename "$step")" >/dev/null || fail "a refused start changed ${step##*/}"; done
rm -rf out/hurt before

# Folders of weights that do not fit: a missing tensor, a wrong shape, a wrong kind, no tokenizer, no end token.
copy() { rm -rf hf && mkdir hf && cp "$1"/step_00000020/*.json "$1"/step_00000020/model.safetensors hf && rm hf/MANIFEST.json; }
from_hf() { refused "$1" "$2" train pretrain.yaml --set model.decoder=hf; }
copy out/lm
LC_ALL=C sed -i 's/"model.norm.weight"/"model.norm.wEIGHt"/' hf/model.safetensors
from_hf 65 'hf: no tensor for & looked for as model.norm.weight & give a folder that holds it'
LAUNCH=$two from_hf 65 'hf: no tensor for & looked for as model.norm.weight & give a folder that holds it'
copy out/lm
sed -i 's/"intermediate_size": *64/"intermediate_size": 48/' hf/config.json
from_hf 65 'hf/model.safetensors & gate_proj.weight & 64 & 48'
stage1=${BIFOCAL_TESTS:?folder of the tests}/golden/layouts/stage1/mm_projector.bin
for LAUNCH in '' "$two"; do
  refused 65 'mm_projector.bin: tensor model.mm_projector.0.weight is bf16 [16, 16], the model needs f32 [32, 32]' train pretrain.yaml --set model.projector="$stage1"
done
LAUNCH=
copy out/lm
truncate -s -100 hf/model.safetensors
from_hf 65 'hf/model.safetensors'
copy out/lm
sed -i 's/"num_hidden_layers": *2/"num_hidden_layers": "two"/' hf/config.json
from_hf 65 'hf/config.json & num_hidden_layers'
copy out/lm
echo '{' >hf/config.json
from_hf 65 'hf/config.json'
refused 78 'model.decoder: out/clip/step_00000020 is a CLIP pair' train pretrain.yaml --set model.decoder=out/clip
refused 78 'model.encoder: out/lm/step_00000020 is a decoder alone' train pretrain.yaml --set model.encoder=out/lm
absent 'out/pretrain/step_*' 'out/pretrain/config.yaml'
leftovers

# The same folder with other settings, other data, another stage.
sum=$(cat out/lm/step_*/MANIFEST.json out/lm/config.yaml out/lm/metrics.jsonl | sha256sum)
refused 78 'out/lm/step_00000020 was made with other settings: optimizer.lr was 0.001 and is 0.002; & set another output' train lm.yaml --set optimizer.lr=2e-3
refused 78 'was made with other settings' train clip.yaml --set output=out/lm
refused 78 'data.shards, data.selection, data.caption_column or data.order: not what the checkpoint' train lm.yaml --set data.shards=[shards/captions]
LAUNCH=$two refused 78 'was made with other settings: seed was 42 and is 43' train lm.yaml --set seed=43
[ "$sum" = "$(cat out/lm/step_*/MANIFEST.json out/lm/config.yaml out/lm/metrics.jsonl | sha256sum)" ] || fail "a refused start changed the run"

# Two jobs in one folder: the second is refused; the first, asked to stop, saves and says how to go on (75).
"$program" train lm.yaml --set output=out/busy --set train.steps=1000000 --set train.checkpoint_every=0 >busy.log 2>&1 &
job=$!
for try in $(seq 100); do
  [ -s out/busy/metrics.jsonl ] && break
  sleep 0.1
done
refused 78 'out/busy: another run is writing to this folder' train lm.yaml --set output=out/busy
LAUNCH=$two refused 78 'out/busy: another run is writing to this folder' train lm.yaml --set output=out/busy
kill -TERM $job
status=0
wait $job || status=$?
[ $status -eq 75 ] || { cat busy.log; fail "a run asked to stop exits with $status, not 75"; }
grep -q 'bifocal: stopped after step .* saved; the same command continues' busy.log || { cat busy.log; fail "what a stopped run says"; }
LAUNCH=$two refused 75 'stopped after step 3 of 20 and saved' train lm.yaml --set output=out/brief --set train.stop_after=3
[ -d out/brief/step_00000003 ] || fail "no checkpoint of the stopped run"

# A full disk: the checkpoint is not committed, nothing half-written stays, the one before stays valid, and with room again the run ends where it should.
mkdir disk
if mount -t tmpfs -o size=700k none disk 2>/dev/null; then
  refused 74 'No space left & free some space' train lm.yaml --set output=disk/run --set train.keep=1 --set train.checkpoint_every=5 &&
    [ "$(grep -c 'training goes on with the previous checkpoint' refused.log)" -ge 1 ] || { cat refused.log; fail "a save that fails in the middle does not end the run"; }
  [ "$(cd disk/run && echo step_*)" = step_00000005 ] || fail "on the full disk: $(ls disk/run)"
  [ -z "$(find disk -name '*tmp*')" ] || fail "left on the full disk: $(find disk -name '*tmp*')"
  mount -o remount,size=8m disk
  run train lm.yaml --set output=disk/run --set train.keep=1 --set train.checkpoint_every=5 >disk.log 2>&1 || { cat disk.log; fail "the run does not continue"; }
  grep -q 'resuming from disk/run/step_00000005' disk.log || { cat disk.log; fail "step 5 was not used"; }
  "$tools/tool_st_diff" "$(weights out/lm)" "$(weights disk/run)" 0 >/dev/null || fail "the run on the full disk ended elsewhere"
  umount disk
else
  echo "no tmpfs can be mounted here: a full disk is not tested"
fi
# A folder that cannot be made.
refused 74 "cannot make the folder 'clip.yaml' & check the path" train lm.yaml --set output=clip.yaml/run
leftovers
finish
