#!/usr/bin/env bash
# Bad data: what pack refuses, damaged shards, and bad samples that training leaves out alike on any number of ranks.
. "$(dirname "$0")/common.inc"
make_data 40
same_losses() { # same_losses RUN RUN STEPS
  paste <(losses "$1") <(losses "$2") | awk -v want="$3" '{ d = $2 - $5; if (d < 0) d = -d; if ($1 != $4 || !(d <= 1e-5 * $2)) bad = 1; n++ } END { exit bad || n != want }' ||
    { paste <(losses "$1") <(losses "$2"); fail "$1 and $2: losses differ"; }
}
short() { sed 's/^train: {steps: 20, checkpoint_every: 4/train: {steps: 8, checkpoint_every: 0/' "$1"; } # short RECIPE
for stage in clip lm; do run train $stage.yaml >$stage.log 2>&1 || { cat $stage.log; fail "$stage failed"; finish; }; done
for stage in clip pretrain; do short $stage.yaml >short-$stage.yaml; done

# Records that cannot be used: named with line and reason, and none of them reaches a shard.
mkdir pictures
cp data/images/[0-9].png pictures/
ln -s /etc/passwd pictures/link.png
head -c 100 pictures/1.png >pictures/cut.png
: >pictures/empty.png
base64 -d >pictures/huge.png <<<iVBORw0KGgoAAAANSUhEUgAA6mAAAOpgCAIAAAAPsOIVAAAADElEQVR4nGNgoAwAAABAAAG3NHzvAAAAAElFTkSuQmCC
base64 -d >pictures/huge.jpg <<</9j/wAARCOpg6mADAREAAhEAAxEA/9oADAMBAAIAAwAAPwAAAAAAAAAAAAAAAAAAAAAA/9k=
record() { printf '{"id":"%s","image":"%s","caption":"%s"}\n' "$1" "$2" "$3"; }
{
  for i in 0 1 2 3 4 5 6 7 8 9; do record $i $i.png "square $i"; done
  record up ../tokenizer.json x
  record far "$scratch/pictures/1.png" x
  record link link.png x
  record gone gone.png x
  record empty empty.png x
  record png huge.png x
  record jpg huge.jpg x
  record blank 1.png '  '
  echo '{"id":"torn","caption":"x"'
  echo '{"id":"nothing"}'
} >records.jsonl
refused 65 "10 of 20 records & are bad & out/bad/s-errors.jsonl" data pack --input records.jsonl --image-root pictures --out out/bad --prefix s
[ "$(ls -A out/bad)" = s-errors.jsonl ] || fail "a refused pack left $(ls -A out/bad)"
named() { grep -F "\"line\":$1," out/bad/s-errors.jsonl | grep -qF -- "$2" || { cat out/bad/s-errors.jsonl; fail "line $1 is not named with '$2'"; }; }
named 11 "must be relative, not empty and without '..'"
named 12 "must be relative"
named 13 'leaves the folder'
named 14 "there is no file 'gone.png'"
named 15 '0 bytes'
named 16 '60000x60000'
named 17 '60000x60000'
named 18 'the caption is empty'
named 19 'records.jsonl:19'
named 20 "neither 'conversations' nor a 'caption'"
refused 65 'records.jsonl: record 11 (line 11) & the pack is strict' data pack --input records.jsonl --image-root pictures --out out/strict --prefix s --strict
refused 74 "image root 'no-such' & check the path" data pack --input records.jsonl --image-root no-such --out out/none --prefix s
refused 74 'no-such.jsonl & check the path' data pack --input no-such.jsonl --out out/none --prefix s
absent 'out/strict/*' 'out/none/*'
# No room: a limit on the size of a file, and a full disk where one may be mounted.
full="data pack --input data/captions.jsonl --image-root data/images --prefix s"
(
  ulimit -f 8 # KiB
  refused 74 'ulimit -f' $full --out out/limit
  exit $failures
)
failures=$((failures + $?))
absent 'out/limit/*'
mkdir disk
if mount -t tmpfs -o size=12k none disk 2>/dev/null; then
  refused 74 'disk/full & No space left & free some space' $full --out disk/full
  [ -z "$(find disk -type f)" ] || fail "left on the full disk: $(find disk -type f)"
  umount disk
else
  echo "no tmpfs can be mounted here: a full disk is not tested"
fi
leftovers

# Shards that are missing or cut. Nothing is trained; verify and stats name them too.
cp -r shards/captions cut
truncate -s -1000 cut/s-00000.h5
for LAUNCH in '' "$two"; do
  for stage in clip pretrain; do
    refused 65 'data.shards: & cut/s-00000.h5 & not a whole HDF5 file' train $stage.yaml --set data.shards=[cut]
    refused 74 'data.shards: & no-such.h5 & check the path' train $stage.yaml --set 'data.shards=[shards/captions, no-such.h5]'
  done
done
LAUNCH=
mkdir hollow
refused 65 'data.shards: & hollow: no shards' train clip.yaml --set data.shards=[hollow]
refused 65 '1 of 2 shards are not good' data verify cut/s-00000.h5 shards/captions/s-00000.h5
grep -q 'cut/s-00000.h5: .*not a whole' refused.log || fail "verify does not name the cut shard"
refused 65 'cut/s-00000.h5' data stats cut/s-00000.h5
absent 'out/pretrain/step_*'

# A flipped byte inside a picture: verify names it, training leaves it out and says so, alike on 1 and 2 ranks.
cp -r shards/captions flip
at=$(grep -abo IHDR flip/s-00000.h5 | sed -n 4p | cut -d: -f1)
printf '\377' | dd of=flip/s-00000.h5 bs=1 seek=$((at + 30)) conv=notrunc 2>/dev/null
cmp -s flip/s-00000.h5 shards/captions/s-00000.h5 && fail "no byte was flipped"
refused 65 'flip/s-00000.h5 & image 3: bytes do not match their checksum' data verify flip/s-00000.h5
for stage in clip pretrain; do
  for np in 1 2; do
    ranks $np train short-$stage.yaml --set data.shards=[flip] --set output=out/flip-$stage-$np >flip.log 2>&1 || { cat flip.log; fail "$stage np $np: a flipped byte ends the run"; }
    grep -q 'warning: flip/s-00000.h5:3: image 3: bytes do not match their checksum; sample skipped' flip.log || { cat flip.log; fail "$stage np $np: the bad sample is not named"; }
    grep -o '[0-9]* samples left out' flip.log >left-$np.txt
  done
  same_losses out/flip-$stage-1 out/flip-$stage-2 8
  cmp left-1.txt left-2.txt || fail "$stage: 1 and 2 ranks count bad samples differently"
done
# Pictures of a huge size by their header, one cut short, samples above the limit: the same.
{
  head -n 10 records.jsonl
  record png huge.png x
  record jpg huge.jpg x
  record cut cut.png x
  record long 1.png "a square, and many words more than anybody would want to read about it, for it is a long caption"
} >odd.jsonl
run data pack --input odd.jsonl --image-root pictures --out odd --prefix s --max-pixels 10000000000 >pack.log 2>&1 || { cat pack.log; fail "pack of odd pictures"; }
for stage in clip pretrain; do
  for np in 1 2; do
    ranks $np train short-$stage.yaml --set data.shards=[odd] --set data.truncate=no --set data.max_tokens=24 --set output=out/odd-$stage-$np --set batch.samples=4 \
      >odd.log 2>&1 || { cat odd.log; fail "$stage np $np: odd samples end the run"; }
    for reason in ':10: image 10 is 60000 x 60000, above the limit' ':11: image 11 is 60000 x 60000, above the limit' ':12: .*broken PNG' ':13: sample has .* tokens, limit 24'; do
      grep -q "warning: odd/s-00000.h5$reason.*; sample skipped" odd.log || { cat odd.log; fail "$stage np $np: '$reason' is not named"; }
    done
  done
  same_losses out/odd-$stage-1 out/odd-$stage-2 8
done
# Nothing usable at all: the run ends, it does not pretend to learn.
refused 65 'no usable sample for' train short-pretrain.yaml --set data.truncate=no --set data.max_tokens=8 --set output=out/idle
grep -q "nothing is supervised within the limit; sample skipped" refused.log || { cat refused.log; fail "the reason is not in the log"; }
LAUNCH=$two refused 65 'no usable sample for' train short-pretrain.yaml --set data.truncate=no --set data.max_tokens=8 --set output=out/idle2
refused 65 'pairs in a row cannot be used' train short-clip.yaml --set data.truncate=no --set data.max_tokens=4 --set output=out/idle3
absent 'out/idle*/step_*'
leftovers
finish
