#!/usr/bin/env bash
# data recaption: texts are those of generate, do not depend on ranks, batch or order of shards, survive kill -9; undecodable pictures; selections; the
# column in training and pruning.
. "$(dirname "$0")/common.inc"
make_data 40
for stage in clip lm pretrain finetune; do # enough that the captions depend on the pictures
  run train $stage.yaml --set train.steps=120 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }
done
# Captions in several shards, one of them with a picture whose bytes are no picture; and conversations, some without a picture.
run data pack --input data/captions.jsonl --image-root data/images --out fresh --prefix c --max-samples 15 >pack.log 2>&1 || { cat pack.log; fail pack; finish; }
run data pack --input data/conversations.jsonl --image-root data/images --out fresh --prefix v >pack.log 2>&1 || { cat pack.log; fail pack; finish; }
offset=$(LC_ALL=C grep -obUaP '\x89PNG' fresh/c-00001.h5 | sed -n 4p | cut -d: -f1)
printf 'XXXX' | dd of=fresh/c-00001.h5 bs=1 seek="$((offset + 40))" conv=notrunc 2>/dev/null
options=(--prompt "what color is the square?" --max-new-tokens 12 --threads 1)
column() { cat "$1"/*.columns/caption-"${2:-new}".json "$1"/*.columns/caption-"${2:-new}".jsonl "$1"/*.columns/recaption-errors.jsonl; }
again() { rm -rf "$1" && cp -r fresh "$1"; }
again one
run data recaption out/finetune --name new "${options[@]}" --json one >one.json 2>one.log || { cat one.log; fail "exit $?"; finish; }
jq -e '.samples == 72 and .written == 71 and .bad == 1 and .kept == 0 and .columns == 4 and (.method | test("what color"))' one.json >/dev/null || fail "counts: $(cat one.json)"
column one >one.txt
absent 'one/*partial*' '*.tmp*'
[ "$(cat one/c-00001.columns/recaption-errors.jsonl | jq -r '[.column, .sample] | @tsv')" = $'caption-new\t3' ] || fail "errors: $(cat one/c-00001.columns/recaption-errors.jsonl)"
[ "$(sed -n 4p one/c-00001.columns/caption-new.jsonl)" = null ] || fail "an undecodable picture has a caption"
for shard in fresh/*.h5; do cmp "$shard" "one/${shard#*/}" || fail "the shard $shard changed"; done
[ "$(cat one/c-*.columns/caption-new.jsonl | sort -u | wc -l)" -gt 3 ] || fail "the captions hardly differ: this test would not see a wrong picture"
for k in 0 7; do
  said=$(run generate out/finetune --image data/images/$k.png --prompt "what color is the square?" --max-new-tokens 12 --threads 1)
  [ "$(jq -r . <(sed -n $((k + 1))p one/c-00000.columns/caption-new.jsonl))" = "$said" ] || fail "picture $k: not what generate says ($said)"
done
jq -e -s '[.[4], .[9]] == [null, null] and .[0] != null' one/v-00000.columns/caption-new.jsonl >/dev/null || fail "samples without a picture"
for n in 2 3; do
  again other
  ranks $n data recaption out/finetune --name new "${options[@]}" --batch $((n * 2)) other/v-00000.h5 other/c-00002.h5 other/c-00000.h5 other/c-00001.h5 >/dev/null 2>other.log ||
    { cat other.log; fail "$n ranks: exit $?"; }
  column other >other.txt
  cmp one.txt other.txt || fail "$n ranks: other captions"
done
again sampled
run data recaption out/finetune --name warm "${options[@]}" --temperature 1.5 --seed 3 sampled >/dev/null 2>&1 || fail "sampled: exit $?"
again other
ranks 2 data recaption out/finetune --name warm "${options[@]}" --temperature 1.5 --seed 3 --batch 3 other >/dev/null 2>&1 || fail "sampled on 2 ranks: exit $?"
cmp <(column sampled warm) <(column other warm) || fail "sampled captions depend on ranks or batch"
cmp -s sampled/c-00000.columns/caption-warm.jsonl one/c-00000.columns/caption-new.jsonl && fail "sampled as greedy"
# Killed in the middle, with a torn line, and begun again on other ranks.
"$tools/tool_fixture" big 900 && run data pack --input big/captions.jsonl --image-root big/images --out large --prefix l --max-samples 480 >pack.log 2>&1 ||
  { cat pack.log; fail pack; finish; }
cp -r large before
run data recaption out/finetune --name new "${options[@]}" large >/dev/null 2>large.log || { cat large.log; fail "large: exit $?"; }
for _ in 1 2 3 4 5 6 7 8; do # a small model may be through before it is killed
  rm -rf killed && cp -r before killed
  "$program" data recaption out/finetune --name new "${options[@]}" --batch 1 killed >/dev/null 2>&1 &
  child=$!
  until [ -s killed/l-00000.columns/caption-new.partial-0.jsonl ] || [ -s killed/l-00001.columns/caption-new.partial-0.jsonl ] || ! kill -0 $child 2>/dev/null; do
    sleep 0.001
  done
  kill -9 $child 2>/dev/null
  wait $child 2>/dev/null
  kept=$(cat killed/*.columns/caption-new.partial-*.jsonl 2>/dev/null | grep -c -e '"text"')
  [ "$kept" -ge 1 ] && [ "$kept" -lt 900 ] && break
done
[ "$kept" -ge 1 ] && [ "$kept" -lt 900 ] || { fail "killed too early or too late: $kept captions"; finish; }
file=$(ls killed/*.columns/caption-new.partial-0.jsonl | tail -n 1)
printf '00000000 {"sample":1,"te' >>"$file"
refused 65 'holds captions of a run that did not end' data recaption out/finetune --name new "${options[@]}" --seed 5 --temperature 1 killed
ranks 2 data recaption out/finetune --name new "${options[@]}" --json killed >killed.json 2>killed.log || { cat killed.log; fail "going on: exit $?"; }
jq -e --argjson kept "$kept" '.kept == $kept and .written + .kept == 900' killed.json >/dev/null || fail "going on: $(cat killed.json), not $kept"
for shard in l-00000 l-00001; do
  cmp large/$shard.columns/caption-new.jsonl killed/$shard.columns/caption-new.jsonl || fail "a killed run gives other captions"
  cmp large/$shard.columns/caption-new.json killed/$shard.columns/caption-new.json || fail "a killed run gives another note"
done
absent 'killed/*/*partial*'
run data recaption out/finetune --name new "${options[@]}" --json killed >there.json 2>&1 || fail "there already: exit $?"
jq -e '.present == 2 and .written == 0 and .columns == 0' there.json >/dev/null || fail "there already: $(cat there.json)"
refused 65 'was made in another way & --overwrite' data recaption out/finetune --name new --max-new-tokens 3 --threads 1 killed
run data recaption out/finetune --name new --max-new-tokens 3 --threads 1 --overwrite killed >/dev/null 2>&1 || fail "overwrite: exit $?"
cmp -s large/l-00000.columns/caption-new.jsonl killed/l-00000.columns/caption-new.jsonl && fail "not overwritten"
# Two runs at once: the one that is stopped while the other ends finds its columns.
rm -rf killed && cp -r before killed
"$program" data recaption out/finetune --name new "${options[@]}" --batch 1 --json killed >slow.json 2>slow.log &
child=$!
until [ -n "$(ls killed/*.columns/caption-new.partial-0.jsonl 2>/dev/null)" ] || ! kill -0 $child 2>/dev/null; do sleep 0.001; done
kill -STOP $child
run data recaption out/finetune --name new "${options[@]}" killed >/dev/null 2>&1 || fail "beside another: exit $?"
kill -CONT $child
wait $child || fail "the slower of two: exit $? $(cat slow.log)"
jq -e '.present == 2 and .columns == 0' slow.json >/dev/null || fail "the slower of two: $(cat slow.json)"
cmp large/l-00000.columns/caption-new.jsonl killed/l-00000.columns/caption-new.jsonl || fail "two at once give other captions"
absent 'killed/*/*partial*'
# A selection; the column in pruning and training.
run data prune --out few.sel --image-side-min 25 one >/dev/null || fail "prune: exit $?"
again few
run data recaption out/finetune --name new "${options[@]}" --from few.sel --json few >few.json 2>&1 || fail "selection: exit $?"
[ "$(cat few/*.columns/caption-new.jsonl | grep -vc null)" -eq "$(jq .written few.json)" ] && [ "$(jq .samples few.json)" -lt 60 ] || fail "selection: $(cat few.json)"
run data prune --out column.sel --caption-column new --chars-min 8 --json one >column.json || fail "prune by the column: exit $?"
run data prune --out own.sel --chars-min 8 --json one >own.json || fail "prune: exit $?"
[ "$(jq .after column.json)" != "$(jq .after own.json)" ] || fail "--caption-column changes nothing"
grep -q "what color is the square" column.sel || fail "the selection does not say how the captions were made"
# Embeddings of the new captions: those of the same texts, where there are some.
mkdir alike && jq -s -c '.[0] as $own | .[1] as $new | range($own | length) | $own[.] + (if $new[.] == null then {} else {caption: $new[.]} end)' \
  <(head -n 15 data/captions.jsonl | jq -s .) <(jq -s . one/c-00000.columns/caption-new.jsonl) >alike.jsonl &&
  run data pack --input alike.jsonl --image-root data/images --out alike --prefix a >pack.log 2>&1 || { cat pack.log; fail "pack alike"; }
run data embed out/clip --text --threads 1 alike >embed.log 2>&1 && run data embed out/clip --text --caption-column caption-new --threads 1 one/c-00000.h5 >>embed.log 2>&1 ||
  { cat embed.log; fail "embed: exit $?"; }
cmp alike/a-00000.columns/clip.text.npy one/c-00000.columns/clip.text.npy || fail "embeddings of other texts than the column's"
grep -q 'texts of caption-new (bifocal recaption' one/c-00000.columns/clip.text.json || fail "the embedding does not say of which texts"
refused 65 'caption-none' data embed out/clip --text --name x --caption-column caption-none --threads 1 one
for way in clip pretrain; do
  for what in own column; do
    set -- --set data.shards=[one] --set output=out/$way-$what --set train.steps=6 --set train.checkpoint_every=3
    [ $what = column ] && set -- "$@" --set data.caption_column=caption-new
    [ $way = clip ] && [ $what = column ] && set -- "$@" --set data.caption_mix=0.5
    run train $way.yaml "$@" >train.log 2>&1 || { cat train.log; fail "$way on $what: exit $?"; }
    grep -q 'is not used' train.log && fail "$way on $what: $(cat train.log)"
  done
  [ "$(losses out/$way-own)" != "$(losses out/$way-column)" ] || fail "$way: the column changes nothing"
done
run train finetune.yaml --set data.shards=[one/v-00000.h5] --set data.caption_column=caption-new --set output=out/unused --set train.steps=1 \
  --set train.checkpoint_every=0 >unused.log 2>&1 && grep -q "column 'caption-new' is not used" unused.log || fail "a column that conversations do not take: $(cat unused.log)"
refused 78 'data.caption_column or data.order: not what the checkpoint' train pretrain.yaml "$@" --set data.caption_column=null
refused 78 'data.caption_mix is given' train clip.yaml --set data.caption_mix=0.5 --set output=out/x
refused 78 'is the name of no column' train clip.yaml --set data.caption_column=../c --set output=out/x
refused 65 'caption-none' train clip.yaml --set data.shards=[one] --set data.caption_column=caption-none --set output=out/x
refused 64 'name a checkpoint, --name and shards' data recaption out/finetune one
refused 64 "'65537' is more than 65536 at a time" data recaption out/finetune --name x --batch 65537 one
refused 64 'cannot name a column' data recaption out/finetune --name ../x one
refused 64 '' data recaption out/finetune --name x --temperature -1 one
finish
