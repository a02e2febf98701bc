#!/usr/bin/env bash
# dedup_recall.sh BIFOCAL PICTURES FOLDER [COUNT]: recall and false pairs of every method of data dedup by transform, on the JPEG files of a folder. Writes
# variants, shards and lists below FOLDER and prints the table. PYTHON names a Python with Pillow (default: python3).
set -eu
bifocal=$1 pictures=$2 folder=$3 count=${4:-1000000} here=$(dirname "$0")
mkdir -p "$folder"
"${PYTHON:-python3}" "$here/dedup_recall.py" make "$pictures" "$folder" "$count"
"$bifocal" data pack --input "$folder/originals.jsonl" --image-root "$pictures" --out "$folder/shards" --prefix originals --overwrite --quiet
"$bifocal" data pack --input "$folder/variants.jsonl" --image-root "$folder/variants" --out "$folder/shards" --prefix variants --overwrite --quiet
"$bifocal" data hash --quiet "$folder/shards"
lists=()
try() { # try NAME ARGUMENTS...
  local name=$1 against=()
  shift
  for shard in "$folder"/shards/originals-*.h5; do against+=(--against "$shard"); done
  "$bifocal" data leak --out "$folder/leak.sel" --list "$folder/$name.jsonl" --quiet "${against[@]}" "$@" "$folder"/shards/variants-*.h5 >/dev/null
  lists+=("$folder/$name.jsonl")
}
try exact --method exact
try pixels --method pixels
for method in ahash dhash phash whash ahash_imagededup dhash_imagededup phash_imagededup whash_imagededup; do
  for distance in 4 10; do
    try "$method-$distance" --method $method --distance $distance
  done
done
for distance in 31 36 48; do
  try "pdq-$distance" --method pdq --distance $distance
done
try pdq-36-dihedral --method pdq --dihedral
"${PYTHON:-python3}" "$here/dedup_recall.py" table "$folder" "${lists[@]}"
