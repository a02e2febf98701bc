#!/usr/bin/env bash
# data pack of webdataset tars and of folders: formats of tar, statistics, ranks, resizing, appending, and what is left after failures and kills.
. "$(dirname "$0")/common.inc"
images=${BIFOCAL_TESTS:?folder of the tests}/golden/images
expect() { # expect CODE TEXT ARGUMENTS...: exit code, and a text somewhere in what is printed; LAUNCH comes before the program
  local code=$1 text=$2 status=0
  shift 2
  timeout 300 ${LAUNCH:-} "$program" "$@" >printed 2>&1 || status=$?
  [ $status -eq "$code" ] || { fail "$*: exit $status, not $code"; cat printed; }
  grep -qF -- "$text" printed || { fail "$*: '$text' is not in:"; cat printed; }
}
row() { grep -F -- "$2" "$1" | grep -qF -- "$3" || { fail "$1 has no row with '$2' and '$3'"; cat "$1"; }; } # row FILE TEXT TEXT
number() { "$program" data stats --json "${@:2}" | sed -n "s/^ *\"$1\": \([0-9]*\),*$/\1/p" | head -n 1; }    # number KEY SHARD...
good=(jpeg_420.jpg jpeg_422.jpg jpeg_444.jpg jpeg_cmyk.jpg jpeg_exif6.jpg jpeg_grey.jpg png_grey1.png webp_lossy.webp webp_exif6.webp)

# ---- the same samples in every format of tar that the system's program writes ----
mkdir members
n=0
for name in "${good[@]}"; do
  key=$(printf '%05d' $n)
  cp "$images/$name" "members/$key.${name##*.}"
  echo "caption $n" >"members/$key.txt"
  printf '{"uid": "%032d", "key": "%s", "similarity": NaN}' $n "$key" >"members/$key.json"
  n=$((n + 1))
done
for format in v7 ustar gnu posix; do
  tar --format=$format --sort=name -C members -cf $format.tar . || fail "tar --format=$format"
  expect 0 'packed 9 samples' data pack --input $format.tar --out formats --prefix $format --source s
  cmp formats/v7-00000.h5 formats/$format-00000.h5 || fail "$format gives another shard"
done
expect 0 'good' data verify formats
strings -n 20 formats/v7-00000.h5 | grep -q '00000000000000000000000000000008' || fail "the uid is not in the shard"
long=$(printf 'folder-of-some-length/%.0s' $(seq 12))$(printf 'n%.0s' $(seq 120)) # 384 characters
mkdir -p "long/${long%/*}" && cp members/00000.jpg "long/$long.jpg" && echo far >"long/$long.txt"
for format in gnu posix; do
  tar --format=$format -C long -cf long-$format.tar "$long.jpg" "$long.txt"
  expect 0 'packed 1 samples' data pack --input long-$format.tar --out formats --prefix long-$format --source s
done
cmp formats/long-gnu-00000.h5 formats/long-posix-00000.h5 || fail "long names give different shards"
strings -n 300 formats/long-gnu-00000.h5 | grep -qF "$long" || fail "the long name is not the id"
expect 0 'into 3 shards' data pack --input v7.tar --out formats --prefix cut --max-samples 4
gzip -k v7.tar
expect 65 'a compressed file; unpack it' data pack --input v7.tar.gz --format webdataset --out formats --prefix gz

# ---- img2dataset's folder: a tar and its statistics; any number of ranks ----
mkdir tars
for s in 0 1 2 3 4; do
  name=$(printf '%05d' $s)
  mkdir part
  for i in 0 1 2 3 4 5 6 7 8; do
    key=$(printf '%05d%04d' $s $i)
    file=$(ls members/0000$i.{jpg,png,webp} 2>/dev/null)
    cp "$file" "part/$key.${file##*.}"
    echo "photo $i of $s" >"part/$key.txt"
    printf '{"key": "%s"}' "$key" >"part/$key.json"
  done
  tar --sort=name -C part -cf "tars/$name.tar" .
  rm -r part
  printf '{"count": 10, "successes": 9, "failed_to_download": 1, "failed_to_resize": 0}' >"tars/${name}_stats.json"
  : >"tars/$name.parquet"
done
for np in 1 2 3 4; do
  LAUNCH="mpirun -n $np --oversubscribe --bind-to none" expect 0 'packed 45 samples' data pack --input tars --out ranks$np --prefix t --resize-short 20 --threads 2
  diff -r ranks1 ranks$np || fail "$np ranks pack otherwise than one"
done
expect 0 'packed 45 samples' data pack --input tars/*.tar --out alone --prefix t --resize-short 20 --threads 1
diff -r ranks1 alone || fail "without mpirun the shards differ"
[ "$(ls ranks1 | tr '\n' ' ')" = "t-00000.h5 t-00001.h5 t-00002.h5 t-00003.h5 t-00004.h5 " ] || fail "one shard a tar: $(ls ranks1)"
expect 0 'good' data verify ranks4
expect 0 '"tars": 45' data stats --json ranks1
# A tar that lost samples, statistics without a tar, a tar without statistics: rows and warnings; below the floor nothing is left.
cp -r tars odd
tar --sort=name -C members -cf odd/00001.tar ./00000.jpg ./00000.txt
rm odd/00003.tar odd/00004_stats.json
expect 0 'the statistics are there, but '"'00003.tar'"' is missing' data pack --input odd --out odd-out --prefix t
row odd-out/t-errors.jsonl '"input":"00001.tar"' 'tell of 9 successes, but 1 samples were read'
row odd-out/t-errors.jsonl '"input":"00003_stats.json"' 'is missing'
row odd-out/t-errors.jsonl '"input":"00004.tar"' 'has no statistics'
for launch in '' "$two"; do
  LAUNCH=$launch expect 65 'at least 70.00 % are wanted (--min-success)' data pack --input odd --out floor --prefix t --min-success 0.7
  [ "$(ls -A floor)" = t-errors.jsonl ] || fail "below the floor: $(ls -A floor)"
done
printf '{"count": 1000, "successes": 9}' >odd/00000_stats.json
printf '{"count": 1000, "successes": 9}' >odd/00002_stats.json
expect 65 '(0.95 %)' data pack --input odd --out floor --prefix t
cp -r tars told
for name in told/*_stats.json; do printf '{"count": 100, "successes": 1}' >"$name"; done
expect 65 'and 5 downloaded (1.00 %), of which 45 were packed (9.00 %); at least 5.00 %' data pack --input told --out floor --prefix t --min-success 0.05
expect 0 'its statistics tell of 1 successes, but 9 samples' data pack --input told --out floor --prefix t --min-success 0.01
# A damaged tar and samples that cannot be used: named by tar and key.
cp tars/00000.tar cut.tar
truncate -s 12000 cut.tar # within the second of nine samples
expect 65 'records' data pack --input cut.tar --out cut-out --prefix t
expect 0 'records are bad' data pack --input cut.tar tars/00001.tar --out cut-out --prefix t --max-bad-share 0.2
row cut-out/t-errors.jsonl '"input":"cut.tar"' 'cut short'
expect 0 'only a part of it was read: cut.tar: the file ends at byte 12000' data pack --input cut.tar tars/00001.tar --out cut-out --prefix w --max-bad-share 0.2
row cut-out/w-errors.jsonl '{"input":"cut.tar","reason":"only a part' 'cut short'
cat tars/00000.tar tars/00001.tar >joined.tar
expect 0 'more follows behind its end mark' data pack --input joined.tar --out cut-out --prefix j
row cut-out/j-errors.jsonl '{"input":"joined.tar","reason"' 'end mark'
mkdir bad
cp members/0000[01].* bad/
head -c 300 bad/00000.jpg >bad/cut.jpg
echo x >bad/cut.txt
echo x >bad/alone.txt
cp bad/00000.jpg bad/silent.jpg
tar --sort=name -C bad -cf bad.tar .
expect 0 '3 of 5 records are bad' data pack --input bad.tar --out bad-out --prefix t --max-bad-share 0.7
row bad-out/t-errors.jsonl '"key":"./cut"' cut.jpg
row bad-out/t-errors.jsonl '"key":"./alone"' 'no picture'
row bad-out/t-errors.jsonl '"key":"./silent"' 'no caption'
expect 0 '1 image only' data pack --input bad.tar --out bad-out --prefix i --max-bad-share 0.7 --image-only
expect 65 'bad.tar: record 3 (./alone) is bad and the pack is strict' data pack --input bad.tar --out bad-out --prefix s --strict
tar -C bad -cf outside.tar --transform 's|^\./|../../|' ./00000.jpg ./00000.txt 2>/dev/null # a name is never taken for a path
expect 0 'packed 1 samples' data pack --input outside.tar --out bad-out --prefix o

# ---- a folder of pictures ----
mkdir -p folder/b/deep folder/.hidden
cp "$images/jpeg_420.jpg" folder/b/one.jpg && printf '\xef\xbb\xbfa caption\r\n' >folder/b/one.txt
cp "$images/webp_lossy.webp" folder/b/deep/two.WEBP && echo second >folder/b/deep/two.txt
cp "$images/png_1x1.png" folder/a.png
cp "$images/png_1x1.png" folder/.hidden/x.png
echo nothing >folder/b/lonely.txt
ln -s /etc/passwd folder/out.png && echo out >folder/out.txt
ln -s / folder/everything
expect 0 '3 of 5 records are bad' data pack --input folder --out flat --prefix f --max-bad-share 0.6
row flat/f-errors.jsonl '"file":"a.png"' "there is no 'a.txt' beside it"
row flat/f-errors.jsonl '"file":"b/lonely.txt"' 'there is no picture of this name'
row flat/f-errors.jsonl '"file":"out.png"' 'leaves the folder'
expect 0 '"folder": 2' data stats --json flat
strings -n 8 flat/f-00000.h5 | grep -q '{"caption":"second"}{"caption":"a caption"}' || fail "captions of a folder"
strings -n 8 flat/f-00000.h5 | grep -q 'b/deep/two.WEBPb/one.jpg' || fail "ids of a folder"
for np in 2 3; do
  LAUNCH="mpirun -n $np --oversubscribe --bind-to none" expect 0 'packed 3 samples (0 text only, 1 image only)' data pack --input folder --format folder --out flat$np \
    --prefix f --max-bad-share 0.6 --image-only --max-samples 1
done
diff -r flat2 flat3 || fail "ranks pack a folder differently"

# ---- resizing ----
expect 0 'resized' data pack --input v7.tar --out resized --prefix r --resize-short 20 --quality 60
strings resized/r-00000.h5 | grep -q 'shorter side above 20: upright, bicubic to 20, JPEG quality 60' || fail "the shard does not say what was done"
expect 0 ', 0 of them resized' data pack --input v7.tar --out resized --prefix big --resize-short 5000 --source s
expect 0 good data verify resized
expect 65 'are the same shard' data stats resized/big-00000.h5 formats/v7-00000.h5 # no byte of small pictures was changed

# ---- appending ----
run data pack --input tars/00000.tar tars/00001.tar --out more --prefix t --quiet
before=$(stat -c '%n %i %y' more/*.h5)
expect 64 'is there already; choose another folder or prefix, --append' data pack --input tars --out more --prefix t
LAUNCH=$two expect 0 '; 18 were there already' data pack --input tars --out more --prefix t --append --skip-known
[ "$(stat -c '%n %i %y' more/t-0000[01].h5)" = "$before" ] || fail "appending touched shards that were there"
expect 0 'good' data verify more
[ "$(ls more | tr '\n' ' ')" = "t-00000.h5 t-00001.h5 t-00002.h5 t-00003.h5 t-00004.h5 " ] || fail "after appending: $(ls more)"
run data pack --input tars --out whole --prefix t --quiet
diff -r whole more || fail "a source that grew is packed otherwise than a whole one"
expect 0 'packed 0 samples' data pack --input tars --out more --prefix t --append --skip-known --resize-short 20
[ "$(ls more | wc -l)" -eq 5 ] || fail "nothing new, but $(ls more)"
expect 0 'into 1 shards' data pack --input tars/00000.tar --out more --prefix t --append
[ -e more/t-00005.h5 ] || fail "the next number was not taken"
printf '{"image":"jpeg_420.jpg","caption":"a"}\n{"image":"jpeg_422.jpg","caption":"a"}\nbad\n' >records.jsonl
expect 0 'packed 2 samples' data pack --input records.jsonl --image-root "$images" --out records --prefix r --max-bad-share 0.5
printf '{"image":"jpeg_444.jpg","caption":"a"}\n{"id":7,"image":"jpeg_444.jpg","caption":"a"}\n' >>records.jsonl
for i in 1 2; do # without an id the pictures count
  expect 0 "; $((2 * i)) were there already" data pack --input records.jsonl --image-root "$images" --out records --prefix r --max-bad-share 0.5 --append --skip-known
done
[ "$(number samples records)" -eq 4 ] || fail "skip-known: $(number samples records) samples"
[ "$(wc -l <records/r-errors.jsonl)" -eq 1 ] || fail "a known row stands twice in the list of errors"
expect 64 'not both' data pack --input tars --out more --prefix t --append --overwrite
expect 64 'only with append' data pack --input tars --out more --prefix t --skip-known

# ---- records on several ranks: as one process packs them ----
for i in $(seq 60); do # longer than what is read of the file at a time
  echo "{\"other\":\"$(printf 'x%.0s' $(seq 3000))\",\"id\":$i,\"image\":\"${good[i % 9]}\",\"caption\":\"number $i\"}"
  [ $((i % 20)) -ne 7 ] || echo '{"id":"broken"}'
done >many.jsonl
{ echo '[' && sed '$!s/$/,/' many.jsonl && echo ']'; } >many.json
for file in many.jsonl many.json; do
  for np in 1 2 4; do
    rm -rf many$np
    LAUNCH="mpirun -n $np --oversubscribe --bind-to none" expect 0 'packed 60 samples' data pack --input $file --image-root "$images" --out many$np --prefix m \
      --max-samples 7 --source s --max-bad-share 0.1
    diff -r many1 many$np || fail "$file: $np ranks pack otherwise than one"
  done
  [ "$(ls many1/*.h5 | wc -l)" -eq 9 ] || fail "$file: shards of 7 samples: $(ls many1)"
  row many1/m-errors.jsonl '"record":50' neither
done
expect 0 'packed 60 samples' data pack --input - --image-root "$images" --out stdin --prefix m --max-samples 7 --source s --max-bad-share 0.1 <many.jsonl
for shard in many1/*.h5; do cmp "$shard" "stdin/${shard##*/}" || fail "standard input gives another $shard"; done
LAUNCH=$two refused 64 'is read by one process only' data pack --input - --image-root "$images" --out stdin2 --prefix m
expect 65 'name one with --image-root' data pack --input many.jsonl --out hint --prefix m
expect 64 'belongs to a file of records' data pack --input tars --image-root "$images" --out hint --prefix m
expect 64 'only tars may be several inputs' data pack --input many.jsonl many.json --out hint --prefix m
expect 64 'is named twice' data pack --input v7.tar v7.tar --out hint --prefix m
expect 64 '--quality must be an integer from 1 to 100' data pack --input v7.tar --out hint --prefix m --resize-short 9 --quality 0
expect 64 '--min-success must be a number from 0 to 1' data pack --input v7.tar --out hint --prefix m --min-success 2
refused 74 'no-such.tar & check the path' data pack --input v7.tar no-such.tar --out hint --prefix m
LAUNCH=$two refused 74 'no-such.tar & check the path' data pack --input no-such.tar --out hint --prefix m
LAUNCH=$two refused 65 'the pack is strict' data pack --input cut.tar tars/00001.tar --out hint --prefix m --strict
absent 'hint/*.h5'

# ---- killed ----
for i in $(seq 400); do cp tars/00000.tar "$(printf 'tars/1%04d.tar' "$i")"; done
"$program" data pack --input tars --out killed --prefix k --resize-short 20 --threads 1 >/dev/null 2>&1 &
for i in $(seq 100); do [ -n "$(find killed -name '*.h5' 2>/dev/null)" ] && break; sleep 0.02; done
kill -9 $! && wait $! 2>/dev/null
[ -n "$(find killed -name 'unit-*')" ] || fail "the pack was not killed at work"
[ -z "$(ls killed)" ] || fail "a killed pack left $(ls killed)"
mkdir -p killed/.k-packing-2000000000 # as if it had been killed while names were given: one is, one is not yet
cp formats/v7-00000.h5 killed/k-00000.h5
cp formats/v7-00000.h5 killed/.k-packing-2000000000/unit-00000001-00000.h5
echo '{"overwrite":false,"names":{"unit-00000000-00000.h5":0,"unit-00000001-00000.h5":1}}' >killed/.k-packing-2000000000/publishing.json
expect 64 'k-00001.h5'"' is there already" data pack --input v7.tar --out killed --prefix k
cmp killed/k-00001.h5 formats/v7-00000.h5 || fail "the second name was not given"
mkdir killed/.k-packing-2000000000
echo '{"overwrite":false,"names":{"../x":0}}' >killed/.k-packing-2000000000/publishing.json
expect 65 'is damaged' data pack --input v7.tar --out killed --prefix k --append
rm -r killed/.k-packing-2000000000
cp -r killed replaced # two shards, which a killed pack was about to replace by one
mkdir replaced/.k-packing-2000000000
cp formats/v7-00000.h5 replaced/.k-packing-2000000000/unit-00000000-00000.h5
echo '{"overwrite":true,"names":{"unit-00000000-00000.h5":0}}' >replaced/.k-packing-2000000000/publishing.json
expect 0 'into 1 shards' data pack --input v7.tar --out replaced --prefix k --append
[ "$(ls -A replaced | tr '\n' ' ')" = "k-00000.h5 k-00001.h5 " ] || fail "after a kill while shards were replaced: $(ls -A replaced)"
(sleep 0 & exec sleep 60) & # a killed pack that nobody waited for
zombie=
for i in $(seq 50); do zombie=$(pgrep -P $! sleep) && grep -q ') Z' "/proc/$zombie/stat" && break; sleep 0.02; done
mkdir "killed/.k-packing-$zombie"
expect 0 'packed 9' data pack --input v7.tar --out killed --prefix k --append
kill $!
[ "$(ls -A killed | tr '\n' ' ')" = "k-00000.h5 k-00001.h5 k-00002.h5 " ] || fail "after kills: $(ls -A killed)"
leftovers
finish
