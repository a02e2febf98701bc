#!/usr/bin/env bash
# The same global batch on 1, 2 and 4 ranks, with and without accumulation, text-only samples among the others: losses and weights after 20 steps agree
# within 1e-5 relative.
. "$(dirname "$0")/common.inc"
make_data 60
close() { # close A B: every loss within 1e-5 relative
  paste <(losses "$1") <(losses "$2") | awk '{ d = $2 - $5; if (d < 0) d = -d; if ($1 != $4 || !(d <= 1e-5 * $2)) bad = 1; n++ } END { exit bad || n != 20 }'
}
for stage in clip lm pretrain finetune; do
  run train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage: one process failed"; finish; }
  for np in 1 2 4; do
    for micro in 0 2; do
      other=out/$stage-$np-$micro
      ranks $np train $stage.yaml --set output=$other --set batch.micro_samples=$micro >$stage-$np.log 2>&1 || { cat $stage-$np.log; fail "$stage np $np micro $micro failed"; continue; }
      close out/$stage $other || fail "$stage np $np micro $micro: losses differ"
      "$tools/tool_st_diff" "$(weights out/$stage)" "$(weights $other)" 1e-5 || fail "$stage np $np micro $micro: weights differ"
    done
  done
done
finish
