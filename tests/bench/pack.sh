#!/usr/bin/env bash
# pack.sh PROGRAM TARS SCRATCH [TURNS]: how fast `data pack` reads a folder of webdataset tars, with and without making the pictures smaller, on one and
# two ranks, beside `cat` of the same tars into one file with a sync. Each in turns (a busy machine slows all); the best wall time and
# the processor time of that turn (user + system, all ranks). The shards of one and two ranks are compared.
set -euo pipefail
program=$(realpath "$1") tars=$(realpath "$2") scratch=$3 turns=${4:-5}
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
mkdir -p "$scratch" && cd "$scratch"
megabytes=$(cat "$tars"/*.tar | wc -c | awk '{ print $1 / 1e6 }')
TIMEFORMAT='%R %U %S'
measure() { # measure NAME COMMAND...
  rm -rf packed && { time "${@:2}" >log 2>&1; } 2>>"times-$1" || { cat log; exit 1; }
}
copy() { mkdir packed && cat "$tars"/*.tar >packed/all && sync packed/all; }
pack() { "${@:2}" "$program" data pack --input "$tars" --out packed --prefix p --threads 1 --resize-short "$1"; }
two="mpirun -n 2 --oversubscribe --bind-to none"
names=(cat stored-1 stored-2 to512-1 to512-2 to224-1 to224-2)
for name in "${names[@]}"; do rm -f "times-$name"; done
for _ in $(seq "$turns"); do
  measure cat copy
  for size in 0 512 224; do
    label=$([ $size -eq 0 ] && echo stored || echo to$size)
    measure "$label-1" pack $size
    sums=$(cat packed/*.h5 | sha256sum)
    measure "$label-2" pack $size $two
    [ "$(cat packed/*.h5 | sha256sum)" = "$sums" ] || { echo "$label: two ranks pack otherwise than one"; exit 1; }
  done
done
printf '| %s MB of tars | seconds | MB/s | processor seconds |\n|---|---|---|---|\n' "$megabytes"
for name in "${names[@]}"; do
  sort -n "times-$name" | head -n 1 | awk -v n="$name" -v m="$megabytes" '{ printf "| %s | %.2f | %.0f | %.2f |\n", n, $1, m / $1, $2 + $3 }'
done
rm -rf packed log times-*
