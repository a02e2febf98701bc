#!/usr/bin/env bash
# What only stage clip has: random crops that depend neither on ranks, threads, cache nor resume; patch dropout; a locked tower.
. "$(dirname "$0")/common.inc"
make_data 60
crops="--set augment.scale=0.5 --set augment.flip=0.5"
again() { # again NAME LAUNCH... -- SETTINGS...: 20 steps into out/NAME
  local name=$1 launch=()
  shift
  while [ "$1" != -- ]; do launch+=("$1"); shift; done
  "${launch[@]}" "$program" train clip.yaml --set output="out/$name" "${@:2}" >"$name.log" 2>&1 || { cat "$name.log"; fail "$name: exit $?"; finish; }
}
same() { cmp -s "$(weights "out/$1")" "$(weights "out/$2")" || fail "$2: other weights than $1"; }
again fitted --
again crops -- $crops
cmp -s "$(weights out/fitted)" "$(weights out/crops)" && fail "crops change nothing"
again cached -- $crops --set data.cache_mib=64 --set data.threads=4 --set data.prefetch=5
same crops cached
again squeezed -- $crops --set data.cache_mib=1
same crops squeezed
status=0
run train clip.yaml --set output=out/resumed $crops --set train.stop_after=9 >resumed.log 2>&1 || status=$?
[ $status -eq 75 ] || { cat resumed.log; fail "stopped with $status, not 75"; }
again resumed -- $crops
same crops resumed
again two mpirun -n 2 --oversubscribe --bind-to none -- $crops
"$tools/tool_st_diff" "$(weights out/crops)" "$(weights out/two)" 1e-5 || fail "two ranks see other crops"
# Patches left out: the same ones on any number of ranks, with any accumulation, and after a resume.
drop="--set clip.patch_dropout=0.5"
again drop -- $drop
cmp -s "$(weights out/fitted)" "$(weights out/drop)" && fail "patch dropout changes nothing"
again drop-two mpirun -n 2 --oversubscribe --bind-to none -- $drop --set batch.micro_samples=3
"$tools/tool_st_diff" "$(weights out/drop)" "$(weights out/drop-two)" 1e-5 || fail "two ranks drop other patches"
run train clip.yaml --set output=out/drop-resumed $drop --set train.stop_after=9 >resumed.log 2>&1
again drop-resumed -- $drop
same drop drop-resumed
# Between two checkpoints of a run only the tower that is not locked has changed, and the scale.
for lock in image text; do
  again $lock -- --set clip.lock=$lock
  run checkpoint diff out/$lock/step_00000016 out/$lock/step_00000020 >changed.txt 2>/dev/null
  [ "$(grep -c "^differs  *\($([ $lock = image ] && echo vis || echo text)\)" changed.txt)" -eq 0 ] || fail "$lock is locked and changes: $(head -n 3 changed.txt)"
  [ "$(wc -l <changed.txt)" -gt 30 ] && grep -q 'logit_scale' changed.txt || fail "$lock is locked, and the rest does not train: $(cat changed.txt)"
  again $lock-two mpirun -n 2 --oversubscribe --bind-to none -- --set clip.lock=$lock --set batch.micro_samples=2
  "$tools/tool_st_diff" "$(weights out/$lock)" "$(weights out/$lock-two)" 1e-5 || fail "$lock locked: two ranks differ"
done
# Validation looks at whole pictures, and at all of each.
again validated -- $crops $drop --set data.validation='[shards/captions]' --set train.validate_every=20
sed -i '/^  [a-z]*: /d; s|^model:|model: {init: out/validated}|' clip.yaml
again plain -- --set data.validation='[shards/captions]' --set train.validate_every=20 --set optimizer.lr=1e-15 --set optimizer.weight_decay=0
loss() { jq -r '.validation_loss | numbers' "out/$1/metrics.jsonl" | tail -n 1; }
[ -n "$(loss plain)" ] && [ "$(loss plain)" = "$(loss validated)" ] || fail "validation loss $(loss validated), of the same weights $(loss plain)"
refused 78 'augment.scale is 1.5; it must be from 0 to 1' train clip.yaml --set augment.scale=1.5
refused 78 'augment.scale and augment.flip are for stage clip only' train lm.yaml --set augment.flip=0.5
finish
