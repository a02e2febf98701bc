#!/usr/bin/env bash
# data embed: columns that do not depend on ranks, threads or batches; what is there is kept; pictures that cannot be decoded and samples without
# a text are rows of zeros with a reason; pairs, LLaVAs and their scores on the same pictures.
. "$(dirname "$0")/common.inc"
make_data 60
run train clip.yaml --set train.steps=40 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >clip.log 2>&1 || { cat clip.log; fail "clip"; finish; }
run train lm.yaml --set train.steps=2 --set train.checkpoint_every=0 >lm.log 2>&1 || { cat lm.log; fail "lm"; finish; }
run train pretrain.yaml --set train.steps=2 --set train.checkpoint_every=0 >pretrain.log 2>&1 || { cat pretrain.log; fail "pretrain"; finish; }
# Four shards; picture 7 is damaged behind its header, and sample 11 only asks.
cp -r data broken
printf 'xxxxxxxx' | dd of=broken/images/7.png bs=1 seek=60 conv=notrunc 2>/dev/null
jq -c 'if .id == "11" then {id, image, conversations: [{from: "human", value: "<image>\nwhy?"}]} else . end' \
  data/captions.jsonl >broken/captions.jsonl
run data pack --input broken/captions.jsonl --image-root broken/images --out pool --prefix s --max-samples 17 >pack.log 2>&1 || { cat pack.log; fail "pack"; finish; }
columns() { cat "$1"/*.columns/*.npy "$1"/*.columns/*.json "$1"/*.columns/*.jsonl 2>/dev/null | sha256sum; }
for n in 1 3; do
  cp -r pool "pool-$n"
  ranks $n data embed out/clip --threads 1 --batch $((2 + 9 * n)) "pool-$n" >embed-$n.log 2>&1 || { cat embed-$n.log; fail "embed on $n ranks"; finish; }
  ranks $n data embed out/pretrain --threads 2 --name tower "pool-$n" >tower-$n.log 2>&1 || { cat tower-$n.log; fail "a LLaVA on $n ranks"; finish; }
  [ "$(columns pool-1)" = "$(columns "pool-$n")" ] || fail "columns of $n ranks differ"
done
[ "$(ls pool-1/*.columns/clip.*.npy | wc -l)" -eq 8 ] || fail "columns: $(ls pool-1/*.columns)"
grep -q "embedded 60 pictures (1 of them zero) and 60 texts (1 zero): 8 columns of 16 numbers a row in 4 shards" embed-1.log || fail "$(cat embed-1.log)"
grep -q "embedded 60 pictures (1 of them zero) and 0 texts (0 zero): 4 columns of 32 numbers" tower-1.log || fail "$(cat tower-1.log)"
cat pool-1/*.columns/embed-errors.jsonl | jq -s -e '[.[] | [.column, .row]] | sort == [["clip.image", 7], ["clip.text", 11], ["tower.image", 7]]' \
  >/dev/null || fail "errors: $(cat pool-1/*.columns/embed-errors.jsonl)"
[ "$(jq -r .of pool-1/s-00000.columns/clip.text.json) $(jq -r .width pool-1/s-00000.columns/clip.text.json)" = "sample 16" ] || fail "clip.text.json"

# Found again, made again where one is gone, refused where another method made it.
cp -r pool-1 again
rm again/s-00001.columns/clip.text.* again/s-00002.columns/clip.image.json
run data embed out/clip --text --image again >again.log 2>&1 || { cat again.log; fail "embed again"; }
grep -q ': 2 columns of .*; 6 columns were there' again.log || fail "$(cat again.log)"
[ "$(columns pool-1)" = "$(columns again)" ] || fail "columns made again differ"
LAUNCH=$two refused 65 's-0000 & clip.image was made in another way & give another --name, or --overwrite' data embed out/clip --image-fit pad again
run data embed out/clip --image --image-fit pad --overwrite again >pad.log 2>&1 || { cat pad.log; fail "overwrite"; }
cmp -s again/s-00000.columns/clip.text.npy pool-1/s-00000.columns/clip.text.npy || fail "--image touched the texts"
[ "$(cat again/*.columns/embed-errors.jsonl | wc -l)" -eq 3 ] || fail "errors of a column made again stand there twice"
printf 'x' | dd of=again/s-00003.columns/clip.image.json bs=1 seek=3 conv=notrunc 2>/dev/null
refused 65 's-00003.columns/clip.image.json' data embed out/clip --image --image-fit pad again
run data embed out/clip --image --image-fit pad --overwrite again >pad.log 2>&1 || { cat pad.log; fail "overwrite of a damaged column"; }
grep -q '1 columns of .*; 3 columns were there' pad.log || fail "$(cat pad.log)"

refused 64 'is no CLIP or SigLIP pair' data embed out/pretrain --text again
refused 64 'is a decoder alone' data embed out/lm again
refused 64 "--name: 'a/b' cannot name a column" data embed out/clip --name a/b again
refused 64 'name a checkpoint and shards' data embed out/clip
refused 74 'gone.h5' data embed out/clip gone.h5
leftovers
finish
