#!/usr/bin/env bash
# eval that is killed continues from its kept answers, on any number of ranks and with any batch, and ends with the bytes of a run that was not; torn
# and damaged lines are asked again, answers of another run are refused. BIFOCAL_KILLS = kills (default 6).
. "$(dirname "$0")/common.inc"
kills=${BIFOCAL_KILLS:-6}
RANDOM=${BIFOCAL_SEED:-7}
make_data 24
for stage in clip lm pretrain finetune; do
  run train $stage.yaml --set train.steps=150 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
for round in $(seq 40); do
  jq -c --arg r "$round" '., . + {question: "describe it", type: "talk"}, . + {question: "is it red? \("so " * ($r | tonumber))is it?"} |
    .question_id = "\(.question_id)-\($r)-\(.question[0:5])"' data/questions.jsonl
done >many.jsonl # 2,880
arguments=(out/finetune --questions many.jsonl --image-root data/images --max-new-tokens 24 --threads 1)
run eval "${arguments[@]}" --out whole.jsonl --summary whole.json >whole.log 2>&1 || { cat whole.log; fail "exit $?"; finish; }
absent 'whole.jsonl.*'
killed=0 widths=(1 2 4 3) batches=(7 64 1 16)
for try in $(seq 60); do
  n=${widths[try % 4]} batch=${batches[(try / 2) % 4]}
  [ $killed -ge "$kills" ] && batch=64
  setsid mpirun -n "$n" --oversubscribe --bind-to none "$program" eval "${arguments[@]}" --out again.jsonl --summary again.json --batch "$batch" >again.log 2>&1 &
  job=$!
  if [ $killed -lt "$kills" ]; then
    for wait in $(seq 300); do # until something is kept, and a little more
      [ -n "$(find . -maxdepth 1 -name "again.jsonl.part-$try-*" -size +2k)" ] && break
      kill -0 $job 2>/dev/null || break
      sleep 0.01
    done
    kill -0 $job 2>/dev/null && pkill -9 -s $job && killed=$((killed + 1))
    wait $job 2>/dev/null
    [ -e again.jsonl ] && { fail "done after $killed kills: the test is too short"; break; }
    sleep 0.1 # ranks whose mpirun is gone
  elif wait $job; then
    break
  else
    cat again.log
    fail "on $n ranks after $killed kills"
    break
  fi
done
cmp whole.jsonl again.jsonl || fail "other predictions after $killed kills"
[ "$(jq .answered_before again.json)" -gt 0 ] || fail "nothing was kept"
diff <(jq -S 'del(.seconds, .peak_rss_mib, .answered_before)' whole.json) <(jq -S 'del(.seconds, .peak_rss_mib, .answered_before)' again.json) || fail "other scores"
absent 'again.jsonl.*'
echo "killed $killed times in $try starts, then $(jq .answered_before again.json) of $(wc -l <many.jsonl) answers were there"

# What is kept, looked at: two ranks are stopped by a picture that is none.
head -n 200 many.jsonl >few.jsonl
arguments[2]=few.jsonl
cp -r data/images fewer && echo none >fewer/23.png
arguments[4]=fewer
eval_few() { run eval "${arguments[@]}" --overwrite --out few.out.jsonl --summary few.json "$@" >few.log 2>&1; }
LAUNCH=$two refused 65 "23.png: neither JPEG, PNG nor WebP" eval "${arguments[@]}" --out few.out.jsonl --batch 4
[ -e few.out.jsonl ] && fail "predictions of a run that failed"
kept=$(cat few.out.jsonl.part-1-* | grep -c '"prediction"')
[ "$kept" -gt 0 ] || fail "nothing is kept"
refused 65 "23.png: neither JPEG, PNG nor WebP" eval "${arguments[@]}" --out few.out.jsonl
# Damage: a torn end, a changed letter, something else.
part=$(ls -S few.out.jsonl.part-1-* | head -n 1)
before=$(cat few.out.jsonl.part-*-* | grep -c '"prediction"')
truncate -s -5 "$part"
sed -i '2s/prediction":"/prediction":"x/' "$part"
printf '\0\0\0\0\nno line\n' >>few.out.jsonl.part-1-1
cp data/images/23.png fewer/
mkdir kept && cp few.out.jsonl.part* kept/
# Another run is refused by what differs, and can be thrown away.
refused 64 "few.out.jsonl.part-1 & questions (there & --restart" eval "${arguments[@]}" --out few.out.jsonl --limit 100
refused 64 "decoding (there greedy, 24 new tokens, now greedy, 8 new tokens)" eval "${arguments[@]}" --out few.out.jsonl --max-new-tokens 8
refused 64 "fewer, image=shuffle" eval "${arguments[@]}" --out few.out.jsonl --ablate image=shuffle
refused 64 "checkpoint (there & prompts (there" eval out/pretrain "${arguments[@]:1}" --out few.out.jsonl --template plain
LAUNCH=$two refused 64 "few.out.jsonl.part-1 & --restart" eval "${arguments[@]}" --out few.out.jsonl --limit 100
eval_few --batch 7 || { cat few.log; fail "it does not go on: exit $?"; }
cmp few.out.jsonl <(head -n 200 whole.jsonl) || fail "predictions after damage"
again=$(jq .answered_before few.json)
[ "$again" -eq $((before - 2)) ] || fail "$again answers were taken, of $before with two damaged"
grep -q 'torn or damaged' few.log || fail "nothing is said of the damage"
absent 'few.out.jsonl.*'
cp kept/* .
eval_few --limit 100 --restart || { cat few.log; fail "--restart: exit $?"; }
[ "$(jq .answered_before few.json)" -eq 0 ] || fail "--restart took old answers"
cmp few.out.jsonl <(head -n 100 whole.jsonl) || fail "predictions after --restart"
absent 'few.out.jsonl.*'
# One run an output.
run eval out/finetune --questions many.jsonl --image-root data/images --max-new-tokens 24 --threads 1 --batch 1 --out busy.jsonl >busy.log 2>&1 &
job=$!
for wait in $(seq 500); do [ -s busy.jsonl.part-1-0 ] && break; sleep 0.01; done
refused 64 'busy.jsonl: another run is writing there' eval out/finetune --questions many.jsonl --image-root data/images --out busy.jsonl
kill -0 $job 2>/dev/null || fail "the first run was done before the second asked: the test is too short"
wait $job || { cat busy.log; fail "the run that was there first: exit $?"; }
cmp busy.jsonl whole.jsonl || fail "the run that was there first has other predictions"
absent 'busy.jsonl.*'
finish
