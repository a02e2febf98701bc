#!/usr/bin/env bash
# The dependency rules of ARCHITECTURE.md, checked on the includes, and rules of the tree.
set -u
cd "${BIFOCAL_SOURCE:-$(dirname "$0")/../..}"
failed=0
complain() { echo "lint: $*"; failed=1; }
# The rooms a room may include.
allowed() {
  case $1 in
    base) echo "base" ;;
    kernels) echo "base kernels" ;;
    data) echo "base data" ;;
    train) echo "base kernels data train" ;;
    eval) echo "base kernels data train eval" ;;
    launch) echo "base kernels data train eval launch" ;;
  esac
}
for room in base kernels data train eval launch; do
  ok=" $(allowed $room) "
  while IFS=: read -r file line include; do
    target=$(sed -E 's/.*"([a-z]+)\/.*/\1/' <<<"$include")
    [[ $ok == *" $target "* ]] || complain "$file:$line includes $target/, which $room may not"
  done < <(grep -HnE '^#include "[a-z]+/' $(ls $room/*.c $room/*.h $room/*.cu $room/*.cuh 2>/dev/null))
done
only() { # only HEADER ALLOWED_FILES_REGEX
  for file in $(grep -lE "^#include [<\"]$1" {base,kernels,data,train,eval,launch}/* 2>/dev/null); do
    [[ $file =~ $2 ]] || complain "$file includes $1; only files matching $2 may"
  done
}
only 'hdf5\.h' '^data/shard'
only 'yaml\.h' '^train/config'
only 'mpi\.h' '^train/comm_mpi'
only 'nccl\.h' '^train/comm_nccl'
only 'cuda' '_cuda\.cu$|^kernels/[a-z_]+\.cuh$|^train/comm_nccl'
grep -nE '\b(TODO|FIXME|XXX)\b' {base,kernels,data,train,eval,launch}/*.[ch] && complain "unfinished marks"
grep -nE '\b(exit|_exit|_Exit|abort)\(' {kernels,data,train,eval}/*.c | grep -v '^train/comm_' && complain "only launch/ and base/status.c may end the process"
for file in tests/mpi/test_*.c; do # ctest runs what the first lines list, and nothing else
  for name in $(sed -nE 's/^Test\(([a-z0-9_]+), *([a-z0-9_]+).*/\1\/\2/p' "$file"); do
    grep -qE "^// mpirun [0-9]+ $name\$" "$file" || complain "$file: no launch line for $name"
  done
done
[ "$(wc -l <README.md)" -le 200 ] || complain "README.md has more than 200 lines"
exit $failed
