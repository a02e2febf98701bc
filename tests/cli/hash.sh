#!/usr/bin/env bash
# bifocal data hash: JSON lines of files; columns of shards from any number of ranks and threads, resumed, with rows for what is damaged.
. "$(dirname "$0")/common.inc"
golden=${BIFOCAL_TESTS:?folder of the tests}/golden

# Files: the order of the command line, values as in the golden file, for any number of threads.
mapfile -t files < <(awk '!/^#/ {print $1}' "$golden/hashes/values.txt" | sed "s,^,$golden/,")
run data hash --threads 1 "${files[@]}" >one.jsonl || fail "files: exit $?"
run data hash --threads 3 "${files[@]}" >three.jsonl || fail "files, 3 threads: exit $?"
cmp -s one.jsonl three.jsonl || fail "threads change the lines"
awk '!/^#/ {print $2, $3, $4, $5, $6, $7, $9, $10}' "$golden/hashes/values.txt" >expected
hex='"([0-9a-f]{16})"'
sed -E "s/.*\"width\": ([0-9]+), \"height\": ([0-9]+), \"ahash\": $hex, \"dhash\": $hex, \"phash\": $hex, \"whash\": $hex, \
\"dhash_imagededup\": $hex, \"phash_imagededup\": $hex, \"pdq\": .*/\\1 \\2 \\3 \\4 \\5 \\6 \\7 \\8/" one.jsonl >got
cmp -s expected got || fail "lines differ from the golden file: $(diff expected got | head -4)"
run data hash --only pixels,phash "${files[0]}" |
  grep -qE '^\{"file": ".*", "width": [0-9]+, "height": [0-9]+, "phash": "[0-9a-f]{16}", "pixels": "[0-9a-f]{32}"\}$' || fail "--only"
[ "$(ranks 2 data hash "${files[0]}" "${files[1]}" | wc -l)" = 2 ] || fail "two ranks print the lines twice"

# Folders of pictures; files that are none.
mkdir pictures && cp "$golden"/images/jpeg_4*.jpg pictures/ && printf 'no picture' >pictures/b.jpg
head -c 500 "${files[1]}" >pictures/c.jpg
printf '\377' >"pictures/$(printf 'd\377').png"
run data hash pictures >lines 2>error
code=$?
[ $code = 65 ] || fail "broken pictures: exit $code"
[ "$(grep -c '"error": ' lines)" = 3 ] && [ "$(grep -c '"phash": ' lines)" = "$(ls pictures/jpeg_* | wc -l)" ] ||
  fail "broken pictures: $(cat lines)"
grep -q '3 of .* pictures cannot be decoded' error || fail "broken pictures: $(cat error)"
run data hash missing.png >lines 2>/dev/null
[ $? = 65 ] && grep -q '"error": ".*missing.png' lines || fail "a missing file: $(cat lines)"

# Shards: the same columns for any ranks and threads.
"$tools/tool_fixture" data 40 >/dev/null || fail "fixture"
pack() { run data pack --input data/captions.jsonl --image-root data/images --out "$1" --prefix s --max-samples 9 >/dev/null 2>&1; }
pack a && pack b || fail "pack"
run data hash --threads 1 a 2>log || fail "shards: $(cat log)"
ranks 3 data hash --threads 2 b 2>log || fail "3 ranks: $(cat log)"
diff -r a b >differences || fail "ranks change the columns: $(head -3 differences)"
for name in pixels ahash dhash phash whash ahash_imagededup dhash_imagededup phash_imagededup whash_imagededup pdq pdq_quality \
  pdq_dihedral mean_std caption_hash minhash; do
  [ -s "a/s-00000.columns/$name.npy" ] && [ -s "a/s-00000.columns/$name.json" ] || fail "no column $name"
done
[ -e a/s-00000.columns/hash-errors.jsonl ] && [ ! -s a/s-00000.columns/hash-errors.jsonl ] || fail "errors of good pictures"

# Row i is of image i: the values that the files themselves have.
mapfile -t packed < <(head -n 9 data/captions.jsonl | jq -r '"data/images/" + .image')
run data hash "${packed[@]}" >lines || fail "files of a shard"
for name in ahash dhash phash whash phash_imagededup; do
  [ "$(tail -c +129 "a/s-00000.columns/$name.npy" | od -An -v -w8 -tx8 | tr -d ' ')" = "$(jq -r ".$name" lines)" ] || fail "rows of $name are of other images"
done
[ "$(tail -c +129 a/s-00000.columns/pdq.npy | od -An -v -w32 -tx1 | tr -d ' ')" = "$(jq -r .pdq lines)" ] || fail "rows of pdq are of other images"

# Resume: what is there stays, what is missing or of another method is made; --overwrite makes all.
touch -d '2001-01-01' a/*.columns/*
rm a/s-00001.columns/phash.*
sed -i 's/"method": "PDQ/"method": "old PDQ/' a/s-00002.columns/pdq.json
run data hash a 2>log || fail "resume: $(cat log)"
diff -r a b >differences || fail "after a resume: $(head -3 differences)"
[ "$(find a -name '*.npy' -newermt 2002-01-01 | sort | tr '\n' ' ')" = "a/s-00001.columns/phash.npy a/s-00002.columns/pdq.npy " ] ||
  fail "made again: $(find a -name '*.npy' -newermt 2002-01-01)"
run data hash --overwrite --only phash a 2>log
[ "$(find a -name 'phash.npy' -newermt 2002-01-01 | wc -l)" = "$(ls a/*.h5 | wc -l)" ] || fail "--overwrite"

# A column that is not whole is made again.
rm a/s-00000.columns/phash.npy && head -c 50 b/s-00001.columns/pdq.json >a/s-00001.columns/pdq.json
run data hash a 2>log || fail "columns that are not whole: $(cat log)"
grep -q 'phash.npy is gone' log && [ "$(grep -c 'counts as missing' log)" = 2 ] || fail "columns that are not whole: $(cat log)"
diff -r a b >differences || fail "columns that are not whole: $(head -3 differences)"

# Rows of pictures that were left out for their size are not taken for those of a run without that limit.
run data hash --max-pixels 1 a 2>log || fail "--max-pixels: $(cat log)"
[ -s a/s-00000.columns/hash-errors.jsonl ] || fail "--max-pixels 1 leaves nothing out"
run data hash a 2>log && cmp a/s-00000.columns/phash.npy b/s-00000.columns/phash.npy || fail "after --max-pixels: $(cat log)"

# Damage inside an image is a row with a reason, and nothing else changes.
at=$(LC_ALL=C grep -obUaP '\x89PNG|\xff\xd8\xff' a/s-00000.h5 | head -1 | cut -d: -f1)
printf 'damage' | dd of=a/s-00000.h5 bs=1 seek=$((at + 60)) conv=notrunc 2>/dev/null
rm -r a/s-00000.columns
run data hash a 2>log || fail "damage: $(cat log)"
errors=a/s-00000.columns/hash-errors.jsonl
[ "$(wc -l <$errors)" = 1 ] && grep -qE '^\{"image":0,"id":"[0-9a-f]{32}","error":".*checksum' $errors ||
  fail "damage: $(cat $errors)"
cmp a/s-00000.columns/phash.npy b/s-00000.columns/phash.npy >/dev/null && fail "a damaged picture has a hash"
[ "$(od -An -tu1 -j128 -N1 a/s-00000.columns/pdq_quality.npy | tr -d ' ')" = 255 ] || fail "quality of a damaged picture"

# What is refused.
for bad in "--only nothing a" "--threads 0 a" "a pictures" "--overwrite pictures" "--only minhash pictures" ""; do
  # shellcheck disable=SC2086
  run data hash $bad >/dev/null 2>error
  [ $? = 64 ] || fail "'$bad': $(cat error)"
done
# A picture that the memory cannot take (its header speaks of 2000 x 2000) is such a row too; the others get the hashes that they have.
mkdir large && cp data/images/1.png data/images/2.png large/ && cp "$golden/images/jpeg_grey.jpg" large/3.jpg
at=$(LC_ALL=C grep -obUaP '\xff\xc0' large/3.jpg | head -1 | cut -d: -f1)
printf '\x07\xd0\x07\xd0' | dd of=large/3.jpg bs=1 seek=$((at + 5)) conv=notrunc 2>/dev/null
for i in 1.png 2.png 3.jpg; do echo "{\"id\":\"$i\",\"image\":\"$i\",\"caption\":\"a picture\"}"; done >large.jsonl
run data pack --input large.jsonl --image-root large --out big --prefix s >log 2>&1 || fail "pack of a large picture: $(cat log)"
run data hash --memory-mib 60 big 2>log || fail "a large picture: $(cat log)"
errors=big/s-00000.columns/hash-errors.jsonl
[ "$(wc -l <$errors)" = 1 ] && grep -q '"error":"its 4000000 pixels need --memory-mib 8[0-9]; it was left out at 60"' $errors ||
  fail "a large picture: $(cat $errors)"
grep -q '1 pictures are too large for --memory-mib 60' log || fail "a large picture: $(cat log)"

rm -r b/*.columns
run data hash --memory-mib 1 b 2>error
[ $? = 71 ] && grep -q 'needs [0-9]* MiB' error && [ -z "$(ls -d b/*.columns 2>/dev/null)" ] || fail "memory: $(cat error)"
finish
