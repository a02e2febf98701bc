#!/usr/bin/env bash
# data embed: columns that do not depend on ranks, threads or batches; what is there is kept; pictures that cannot be decoded and samples without
# a text are rows of zeros with a reason; pairs, LLaVAs and their scores on the same pictures.
. "$(dirname "$0")/common.inc"
make_data 60
run train clip.yaml --set train.steps=40 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >clip.log 2>&1 || { cat clip.log; fail "clip"; finish; }
run train lm.yaml --set train.steps=2 --set train.checkpoint_every=0 >lm.log 2>&1 || { cat lm.log; fail "lm"; finish; }
run train pretrain.yaml --set train.steps=2 --set train.checkpoint_every=0 >pretrain.log 2>&1 || { cat pretrain.log; fail "pretrain"; finish; }
# Four shards, of which picture 7 is damaged behind its header, and a fifth of four samples with one picture, two of which say nothing.
cp -r data broken
printf 'xxxxxxxx' | dd of=broken/images/7.png bs=1 seek=60 conv=notrunc 2>/dev/null
run data pack --input broken/captions.jsonl --image-root broken/images --out pool --prefix s --max-samples 17 >pack.log 2>&1 || { cat pack.log; fail "pack"; finish; }
"$tools/tool_shard" pool/t-00000.h5 data/images/3.png '{"caption":"a white square"}' '{"conversations":[{"from":"human","value":"why?"}]}' '{"caption":"  "}' \
  '{"conversations":[{"from":"human","value":"<image>"},{"from":"gpt","value":"a white square"}]}' || fail "tool_shard"
columns() { cat "$1"/*.columns/*.npy "$1"/*.columns/*.json "$1"/*.columns/*.jsonl 2>/dev/null | sha256sum; }
for n in 1 3; do
  cp -r pool "pool-$n"
  ranks $n data embed out/clip --threads 1 --batch $((2 + 9 * n)) "pool-$n" >embed-$n.log 2>&1 || { cat embed-$n.log; fail "embed on $n ranks"; finish; }
  ranks $n data embed out/pretrain --threads 2 --name tower "pool-$n" >tower-$n.log 2>&1 || { cat tower-$n.log; fail "a LLaVA on $n ranks"; finish; }
  [ "$(columns pool-1)" = "$(columns "pool-$n")" ] || fail "columns of $n ranks differ"
done
[ "$(ls pool-1/*.columns/clip.*.npy | wc -l)" -eq 10 ] || fail "columns: $(ls pool-1/*.columns)"
grep -q "embedded 61 pictures (1 of them zero) and 64 texts (2 zero): 10 columns of 16 numbers a row in 5 shards" embed-1.log || fail "$(cat embed-1.log)"
grep -q "embedded 61 pictures (1 of them zero) and 0 texts (0 zero): 5 columns of 32 numbers" tower-1.log || fail "$(cat tower-1.log)"
cat pool-1/*.columns/embed-errors.jsonl | jq -s -e '[.[] | [.column, .row]] | sort == [["clip.image", 7], ["clip.text", 1], ["clip.text", 2], ["tower.image", 7]]' \
  >/dev/null || fail "errors: $(cat pool-1/*.columns/embed-errors.jsonl)"
[ "$(jq -r .of pool-1/s-00000.columns/clip.text.json) $(jq -r .width pool-1/s-00000.columns/clip.text.json)" = "sample 16" ] || fail "clip.text.json"

# The score of what a selection keeps is that of the shards which hold only that.
run data prune --image-side-min 24 --out half.sel --quiet pool-1/s-*.h5 >/dev/null || fail "prune"
run data compact --from half.sel --out half --prefix h pool-1/s-*.h5 >compact.log 2>&1 || { cat compact.log; fail "compact"; }
kept=$(run data stats --embeddings clip --json --from half.sel pool-1/s-*.h5 | jq '.stages["1 prune"].vendi') all=$(run data stats --embeddings clip --json half | jq .vendi)
jq -n -e --argjson a "$kept" --argjson b "$all" '$a > 1 and ($a / $b - 1 | fabs) < 1e-9' >/dev/null || fail "Vendi score of what is kept: $kept, of its own shards: $all"

# Found again, made again where one is gone, refused where another method made it.
cp -r pool-1 again
rm again/s-00001.columns/clip.text.* again/s-00002.columns/clip.image.json
run data embed out/clip --text --image again >again.log 2>&1 || { cat again.log; fail "embed again"; }
grep -q ': 2 columns of .*; 8 columns were there' again.log || fail "$(cat again.log)"
[ "$(columns pool-1)" = "$(columns again)" ] || fail "columns made again differ"
LAUNCH=$two refused 65 '-0000 & clip.image was made in another way & give another --name, or --overwrite' data embed out/clip --image-fit pad again
run data embed out/clip --image --image-fit pad --overwrite again >pad.log 2>&1 || { cat pad.log; fail "overwrite"; }
cmp -s again/s-00000.columns/clip.text.npy pool-1/s-00000.columns/clip.text.npy || fail "--image touched the texts"
[ "$(cat again/*.columns/embed-errors.jsonl | wc -l)" -eq 4 ] || fail "errors of a column made again stand there twice"
printf 'x' | dd of=again/s-00003.columns/clip.image.json bs=1 seek=3 conv=notrunc 2>/dev/null
run data embed out/clip --image --image-fit pad again >pad.log 2>&1 || { cat pad.log; fail "a damaged column"; }
grep -q 's-00003.columns/clip.image.json.*counts as missing' pad.log || fail "a damaged column: $(cat pad.log)"
grep -q '1 columns of .*; 4 columns were there' pad.log || fail "$(cat pad.log)"

# Clusters: the same columns and centroids from any number of ranks and order of the shards, also when only assigned; the four colours are four
# clusters.
for n in 1 2 3; do
  cp -r pool-1 "clustered-$n"
  order=$([ $n -eq 2 ] && ls clustered-2/*.h5 | tac || echo "clustered-$n")
  # shellcheck disable=SC2086
  ranks $n data cluster --clusters 4 --threads 1 --centroids "c-$n.npy" --json "c-$n.json" $order >cluster-$n.log 2>&1 || { cat cluster-$n.log; fail "cluster on $n ranks"; finish; }
  ranks $n data cluster --of text --clusters 3 "clustered-$n" >text-$n.log 2>&1 || { cat text-$n.log; fail "cluster texts on $n ranks"; finish; }
  [ "$(columns clustered-1)" = "$(columns "clustered-$n")" ] || fail "clusters of $n ranks differ"
  cmp -s c-1.npy "c-$n.npy" || fail "centroids of $n ranks differ"
done
jq -e '.rows == 60 and .empty_rows == 1 and .used == 4 and (.sizes | sort) == [15, 15, 15, 15]' c-1.json >/dev/null || fail "clusters: $(cat c-1.json)"
ranks 2 data cluster --assign c-1.npy --centroids c-2.npy clustered-1 >assign.log 2>&1 || { cat assign.log; fail "assign"; }
cmp -s c-1.npy c-2.npy && grep -q '0 columns written, 10 were there' assign.log || fail "assigned to its own centroids: $(cat assign.log)"
LAUNCH=$two refused 65 'clip.cluster was made in another way & --overwrite' data cluster --clusters 2 clustered-1
run data cluster --clusters 2 clustered-1 2>&1 | grep -q 'k-means: pass' && fail "k-means ran before the refusal"
LAUNCH=$two refused 71 'takes & MiB a rank, and --memory-mib allows 1' data cluster --clusters 40 --memory-mib 1 clustered-1
refused 65 "no column 'none.image'; run bifocal data embed" data cluster --name none --clusters 4 clustered-1
refused 64 'either --clusters or --assign' data cluster clustered-1
refused 65 'centroids of 16 numbers; column tower.image has 32' data cluster --name tower --assign c-1.npy clustered-1

# Duplicates by embedding: of each colour one stays, and the picture without an embedding. One selection from any number of ranks and order of the
# shards; a cluster is a colour, so that comparing all pairs finds the same.
for n in 1 2 3; do
  order=$([ $n -eq 2 ] && ls clustered-1/*.h5 | tac || echo clustered-1)
  # shellcheck disable=SC2086
  ranks $n data dedup --method embedding --cosine 0.95 --match image --out "d-$n.sel" $order >dedup-$n.log 2>&1 || { cat dedup-$n.log; fail "dedup on $n ranks"; finish; }
  cmp -s d-1.sel "d-$n.sel" || fail "dedup: the selection of $n ranks differs"
done
run data selection --json d-1.sel >d.json || fail "selection"
jq -e '.kept == 5' d.json >/dev/null || fail "dedup keeps $(cat d.json)"
run data dedup --method embedding --cosine 0.95 --match image --all-pairs --group any --keep hard --out all.sel clustered-1 >all.log 2>&1 || { cat all.log; fail "all pairs"; }
run data selection --json all.sel | jq -e '.kept == 5' >/dev/null || fail "all pairs keep $(run data selection --json all.sel)"
run data leak --method embedding --cosine 0.95 --against clustered-1/s-00000.h5 --out leak.sel clustered-1/s-00001.h5 clustered-1/s-00002.h5 >leak.log 2>&1 || { cat leak.log; fail "leak"; }
run data selection --json leak.sel | jq -e '.kept == 0' >/dev/null || fail "leak keeps $(run data selection --json leak.sel)"
LAUNCH=$two refused 65 "no column 'clip.cluster'; run bifocal data cluster" data dedup --method embedding --match image --out x.sel pool-1
LAUNCH=$two refused 71 'takes & MiB a rank' data dedup --method embedding --match image --memory-mib 1 --out x.sel clustered-1
refused 64 'are for --method embedding' data dedup --cosine 0.9 --out x.sel clustered-1
refused 64 '--cosine is above 0 and at most 1' data dedup --method embedding --cosine 1.5 --out x.sel clustered-1
absent x.sel

refused 64 'is no CLIP or SigLIP pair' data embed out/pretrain --text again
refused 64 'is a decoder alone' data embed out/lm again
refused 64 "--name: 'a/b' cannot name a column" data embed out/clip --name a/b again
refused 64 "'a/b' is the name of no column" data embed out/clip --text --caption-column a/b again
refused 64 "'100000000' is more than 65536 at a time" data embed out/clip --batch 100000000 again
refused 64 'name a checkpoint and shards' data embed out/clip
refused 74 'gone.h5' data embed out/clip gone.h5
leftovers
finish
