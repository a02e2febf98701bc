#!/usr/bin/env bash
# usage: open_7b.sh BUILD FOLDER
# Weights of the shape of LLaVA-1.5-7B in bf16 (14.1 GB in files of 5 GB, pseudo-random), below FOLDER, which needs 29 GB: how long they take to open, and
# how much memory to export and to load. The folder is removed at the end. Needs 15 GB of free memory for the table of the last line.
set -eu
build=$1 folder=$2/bifocal-7b
program=$build/bifocal tool=$build/tests/tool_big_model
mkdir "$folder"
trap 'rm -rf "$folder"' EXIT
cold() { find "$folder" -name '*.safetensors' -exec dd if={} iflag=nocache count=0 status=none \;; } # drops the files from the page cache
line() { jq -r --arg name "$1" '"| \($name) | \(.seconds) | \(.table / 1e9 * 100 | round / 100) | \(.anonymous / 1e9 * 100 | round / 100) | \(.peak / 1e9 * 100 | round / 100) |"'; }
seconds() { local start end; start=$(date +%s.%N); "$@" >/dev/null 2>&1; end=$(date +%s.%N); echo "$end $start" | awk '{ printf "%.2f", $1 - $2 }'; }
echo "made in $(seconds "$tool" make "$folder/model" 7b 5000000000) s: $(ls "$folder"/model/*.safetensors | wc -l) files, $(jq .metadata.total_size "$folder/model/model.safetensors.index.json") bytes"
sync
echo
echo '| | s | table GB | anonymous GB | peak with mapped pages GB |'
echo '|---|---|---|---|---|'
cold
echo "| bifocal checkpoint show, files not in memory | $(seconds "$program" checkpoint show "$folder/model") | | | |"
echo "| the same again | $(seconds "$program" checkpoint show "$folder/model") | | | |"
cold
"$tool" export "$folder/model" "$folder/out" 5000000000 | line 'export --format hf'
rm -r "$folder/out"
cold
"$tool" load "$folder/model" bf16 | line 'loaded into a bf16 table, files not in memory'
"$tool" load "$folder/model" bf16 | line 'the same again'
"$tool" grow 32000 4096 | line '64 new rows for a matrix [32000, 4096]'
