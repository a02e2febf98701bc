#!/usr/bin/env bash
# Damaged shards and columns among good ones: each is named with the reason and left out, the work is done, and the exit code says it.
. "$(dirname "$0")/common.inc"
make_data 40
run data pack --input data/captions.jsonl --image-root data/images --out good --prefix g --max-samples 15 --quiet >/dev/null || fail pack
mkdir mixed
cp good/*.h5 mixed/
head -c 3000 good/g-00000.h5 >mixed/cut.h5
printf 'no shard at all' >mixed/text.h5
head -c 20000 /dev/urandom >mixed/noise.h5
: >mixed/empty.h5
bad=4
goes_on() { # goes_on ARGUMENTS...: exit 65, every bad shard named once
  local status=0
  ranks "$@" >printed 2>&1 || status=$?
  [ $status -eq 65 ] || { fail "$*: exit $status"; cat printed; }
  grep -q "done, but without $bad of" printed || { fail "$*: no verdict"; cat printed; }
  for name in cut text noise empty; do
    [ "$(grep -c "$name.h5" printed)" -eq 1 ] || { fail "$*: $name.h5 is not named once"; cat printed; }
  done
}
run data hash --quiet good || fail hash
for n in 1 2; do
  rm -rf mixed/*.columns
  goes_on $n data hash mixed
  for name in good/*.columns; do
    for column in "$name"/*.npy; do
      cmp "$column" "mixed/$(basename "$name")/$(basename "$column")" || fail "$column differs with bad shards beside it"
    done
  done
done
run data dedup --method pixels --match image --out good.sel --quiet good >/dev/null || fail dedup
goes_on 2 data dedup --method pixels --match image --out mixed.sel mixed
cmp good.sel mixed.sel || fail "a selection differs with bad shards beside the good ones"
goes_on 1 data prune --chars-min 1 --out p.sel mixed
goes_on 1 data stats mixed
# What wants every shard stops.
run data compact --from mixed.sel --out new --prefix n mixed >printed 2>&1 && fail "compact took bad shards"
grep -q 'leave them out' printed || { fail "compact does not say what to do"; cat printed; }
[ -z "$(ls new 2>/dev/null)" ] || fail "compact left something behind"
run data hash mixed/cut.h5 >printed 2>&1 && fail "nothing but a bad shard, and it went well"
run data hash mixed/nowhere.h5 >printed 2>&1
[ $? -eq 74 ] || fail "a missing shard is not told as missing"
# A damaged column: made anew by hash, refused by what reads it.
printf x | dd of=good/g-00000.columns/pixels.npy bs=1 seek=140 conv=notrunc status=none
run data dedup --method pixels --match image --out d.sel good >printed 2>&1 && fail "a damaged column was taken"
grep -q 'pixels' printed || cat printed
[ ! -e d.sel ] || fail "a selection stands there after a failure"
run data hash --quiet good 2>/dev/null || fail "hash does not make a damaged column anew"
run data dedup --method pixels --match image --out d.sel --quiet good >/dev/null || fail "the column is still damaged"
cmp good.sel d.sel || fail "the column is not what it was"
finish
