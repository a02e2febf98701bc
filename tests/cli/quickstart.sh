#!/usr/bin/env bash
# launch/quickstart.sh with a stand-in for the program, the compiler and the network: a command that fails inside a phase stops the script, running it
# again continues, and summary.json has its keys.
. "$(dirname "$0")/common.inc"
source=${BIFOCAL_SOURCE:?folder of the sources}
mkdir -p tree/launch tree/build bin elsewhere/easy
cp "$source/launch/quickstart.sh" tree/launch
echo 'echo "packages $*" >>"$CALLS"' >tree/launch/packages.sh
echo 'echo "data $2" >>"$CALLS"' >tree/launch/easy_vqa.sh
printf '#!/bin/sh\necho "cmake $*" >>"$CALLS"\n' >bin/cmake
cat >tree/build/bifocal <<'END'
#!/usr/bin/env bash
echo "bifocal $*" >>"$CALLS"
[[ "$*" != ${FAIL:-nothing} ]] || { echo "stand-in: failed"; exit 65; }
[ "$1" != train ] || { name=$(basename "$2" .yaml); mkdir -p runs/quickstart/$name; echo '{"done":true,"peak_rss_mib":12.5}' >runs/quickstart/$name/metrics.jsonl; }
while [ $# -gt 0 ]; do
  [ "$1" != --summary ] || echo '{"accuracy":0.5,"accuracy_per_type":{"yes":1},"questions":7,"peak_rss_mib":99.25}' >"$2"
  shift
done
END
chmod +x bin/cmake tree/build/bifocal
export CALLS=$scratch/calls PATH=$scratch/bin:$PATH
quickstart() { (cd elsewhere && EASY_VQA_DIR=easy bash ../tree/launch/quickstart.sh) >quickstart.log 2>&1; }
calls() { grep -c "$1" "$CALLS"; }
# Each of these in turn: the script ends there with the code, and nothing after it is run.
for step in 'data pack *captions*' 'data verify*' 'data tokenizer*' 'train *clip*' 'eval *--blank*'; do
  : >"$CALLS"
  status=0
  FAIL=$step quickstart || status=$?
  [ $status -eq 65 ] || { fail "'$step' fails and the quickstart ends with $status"; cat quickstart.log; }
  [[ "$(tail -n 1 "$CALLS")" == "bifocal "$step ]] || fail "'$step' failed and this came after it: $(tail -n 1 "$CALLS")"
  [ ! -e tree/runs/quickstart/summary.json ] || fail "a summary after '$step' failed"
done
: >"$CALLS"
quickstart || { fail "exit $?"; cat quickstart.log; }
[ "$(calls 'bifocal train')" -eq 0 ] && [ "$(calls 'bifocal eval')" -eq 1 ] && [ "$(calls 'cmake --build')" -eq 1 ] || { fail "not what was left to do:"; cat "$CALLS"; }
grep -q "packages .*git" "$CALLS" && fail "git is installed though the data is in a folder"
jq -e '(keys == ["accuracy","accuracy_blank","accuracy_per_type","clip_zero_shot","cpu","peak_rss_mib","questions","seconds","threads"]) and .accuracy == 0.5
  and .accuracy_per_type == {yes: 1} and .peak_rss_mib == 99.25 and .threads > 0 and (.seconds | has("total") and has("finetune") and has("eval_blank"))' \
  tree/runs/quickstart/summary.json >/dev/null || { fail "summary.json:"; cat tree/runs/quickstart/summary.json; }
grep -q 'bifocal  *50 %' quickstart.log || { fail "the table:"; tail quickstart.log; }
# From the beginning: the data comes from the folder, wherever the script is started.
rm -r tree/runs
: >"$CALLS"
quickstart || { fail "exit $?"; cat quickstart.log; }
[ "$(calls "data $scratch/elsewhere/easy$")" -eq 1 ] && [ "$(calls 'bifocal train')" -eq 4 ] && [ "$(calls 'bifocal data pack')" -ge 3 ] || { fail "calls:"; cat "$CALLS"; }
finish
