#!/usr/bin/env bash
# Installs, builds and runs every test. Ends with the line "N passed, N failed, N skipped". Usage: tests/run.sh [BUILD_DIR]
set -uo pipefail
cd "$(dirname "$0")/.."
build=${1:-build}
bash launch/packages.sh libcriterion-dev jq procps || exit 1
cmake -S . -B "$build" -G Ninja -DBIFOCAL_TESTS=ON >"$build.log" 2>&1 && cmake --build "$build" >>"$build.log" 2>&1 || { tail -n 40 "$build.log"; echo "0 passed, 1 failed, 0 skipped"; exit 1; }
rm -f "$build.log"
ctest --test-dir "$build" --output-on-failure | tee "$build/ctest.log"
summary=$(sed -n 's/.* tests passed, \([0-9]*\) tests failed out of \([0-9]*\).*/\1 \2/p' "$build/ctest.log")
read -r failed total <<<"${summary:-1 1}"
skipped=$(grep -c '\*\*\*Skipped' "$build/ctest.log")
echo "$((total - failed - skipped)) passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ] && [ "$total" -gt 0 ]
