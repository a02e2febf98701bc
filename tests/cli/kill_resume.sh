#!/usr/bin/env bash
# kill -9 of the whole job at random moments, restarted until done: losses of every step and final weights equal the uninterrupted run to the bit.
# BIFOCAL_KILLS = kills a stage and rank count (default 3; 20 for the full proof).
. "$(dirname "$0")/common.inc"
kills=${BIFOCAL_KILLS:-3}
steps=200
RANDOM=${BIFOCAL_SEED:-7}
make_data 60
for stage in clip lm pretrain finetune; do
  sed -i "s/^train: {steps: 20, checkpoint_every: 4/train: {steps: $steps, checkpoint_every: 7/" $stage.yaml
  ranks 1 train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage: the uninterrupted run failed"; finish; }
  for np in 1 2; do
    ranks $np train $stage.yaml --set output=out/$stage-whole$np >$stage.log 2>&1 || fail "$stage np $np: the uninterrupted run failed"
    again=$scratch/out/$stage-again$np # an absolute path, so that pkill finds this job and no other
    killed=0
    for try in $(seq 1 $((kills * 4 + 40))); do
      setsid mpirun -n $np --oversubscribe --bind-to none "$program" train $stage.yaml --set output=$again >$stage-again.log 2>&1 &
      job=$!
      if [ $killed -lt "$kills" ]; then
        sleep "0.$((RANDOM % 60 + 40))"
        if kill -0 $job 2>/dev/null; then
          pkill -9 -f "output=$again" 2>/dev/null && killed=$((killed + 1))
        fi
      fi
      if wait $job 2>/dev/null; then
        [ $killed -ge "$kills" ] && break
        rm -rf "$again" # done before it was killed often enough: begin again
      fi
    done
    [ -e "$again/metrics.jsonl" ] || fail "$stage np $np: no metrics"
    cmp <(losses out/$stage-whole$np) <(losses $again) >/dev/null || fail "$stage np $np: losses differ after $killed kills"
    [ "$(losses $again | wc -l)" -eq $steps ] || fail "$stage np $np: $(losses $again | wc -l) steps in the metrics, wanted $steps"
    [ $killed -ge "$kills" ] || fail "$stage np $np: $killed kills, wanted $kills"
    "$tools/tool_st_diff" "$(weights out/$stage-whole$np)" "$(weights $again)" 0 || fail "$stage np $np: weights differ"
    ls -d $again/*.tmp* 2>/dev/null && fail "$stage np $np: leftovers of a killed save"
    echo "$stage np $np: $killed kills in $try starts"
  done
done
finish
