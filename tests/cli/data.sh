#!/usr/bin/env bash
# data pack, verify and stats: exit codes, messages, and that every option named in the help is taken.
. "$(dirname "$0")/common.inc"
expect() { # expect CODE TEXT ARGUMENTS...: exit code, and a text somewhere in what is printed
  local code=$1 text=$2 status=0
  shift 2
  run "$@" >printed 2>&1 || status=$?
  [ $status -eq "$code" ] || { fail "$*: exit $status, not $code"; cat printed; }
  grep -qF -- "$text" printed || { fail "$*: '$text' is not in:"; cat printed; }
}
mkdir img
base64 -d >img/a.png <<<iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC
printf 'image,caption\na.png,a dot\na.png,"the same, again"\n' >in.csv
printf '[{"id":1,"caption":"words"},{"id":2,"image":"../in.csv","caption":"out"}]' >in.json
expect 0 'packed 2 samples (0 text only, 0 image only) and 1 images' data pack --input in.csv --image-root img --out out --prefix c
mkdir -p out/.c-packing-2000000000/x out/.c-packing-$$ # of a killed pack, and of one at work
expect 64 'is there already' data pack --input in.csv --image-root img --out out --prefix c
expect 0 'into 2 shards' data pack --input in.csv --image-root img --out out --prefix c --overwrite --max-samples 1 --format csv \
  --source dots --max-shard-mib 1 --max-image-mib 1 --max-pixels 100 --max-bad-share 0 --strict
expect 65 '1 of 2 records' data pack --input in.json --image-root img --out out --prefix j
expect 65 'the pack is strict' data pack --input in.json --image-root img --out out --prefix j --strict
expect 0 '1 of 2 records are bad' data pack --input in.json --image-root img --out out --prefix j --max-bad-share 0.5 --quiet
expect 74 'missing.json' data pack --input missing.json --out out --prefix m
expect 64 'are needed' data pack --input in.csv
expect 64 'max-samples must be an integer' data pack --max-samples -1
expect 64 'from 0 to 1' data pack --max-bad-share 2
expect 64 'not a format' data pack --format xml
expect 64 'wrong option' data pack --no-such-option
expect 0 'out/c-00001.h5: good' data verify out/*.h5
expect 0 'out/c-00001.h5: good' data verify out
expect 0 '"distinct_images": 1' data stats --json out
expect 0 'dots' data stats out/c-*.h5
expect 0 '"distinct_images": 1' data stats --json out/*.h5
cp out/c-00000.h5 bad.h5
truncate -s -1 bad.h5
expect 65 '1 of 2 shards are not good' data verify bad.h5 out/c-00000.h5
expect 65 'bad.h5' data stats bad.h5
expect 64 'at least one shard' data verify
expect 64 'at least one shard' data stats
[ ! -e out/.c-packing-2000000000 ] || fail "what a killed pack left is still there"
rmdir out/.c-packing-$$ || fail "the folder of a pack at work was removed"
for verb in pack verify stats; do
  expect 0 "usage: bifocal data $verb" data $verb --help
done
[ "$(ls -A out | tr '\n' ' ')" = "c-00000.h5 c-00001.h5 j-00000.h5 j-errors.jsonl " ] || fail "left in out: $(ls -A out)"
finish
