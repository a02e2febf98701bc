#!/usr/bin/env bash
# gpu.sh FOLDER [PART...]: everything there is to prove and measure on a GPU, as Markdown on standard output. FOLDER is a build folder, or what
# launch/bundle.sh made of one. PART: checks sanitize ops steps transformers (default: all but sanitize, which takes long).
# Nothing is timed unless the checks passed: every kernel against double precision in f32 and bf16, all stages beside the CPU (tests/device/stages.sh).
# Exit: 0 all passed, 1 something failed, 77 no GPU.
set -u
source=$(cd "$(dirname "$0")/../.." && pwd)
folder=$(cd "${1:?usage: gpu.sh FOLDER [PART...]}" && pwd) || exit 64
shift
parts=${*:-checks ops steps transformers}
for part in $parts; do
  case $part in checks | sanitize | ops | steps | transformers) ;; *) echo "gpu.sh: no part '$part'; they are checks sanitize ops steps transformers" >&2; exit 64 ;; esac
done
if [ -f "$folder/env.sh" ]; then . "$folder/env.sh"; bin=$folder/bin; tests=$folder/bin; else bin=$folder; tests=$folder/tests; fi
export BIFOCAL_PROGRAM=$bin/bifocal BIFOCAL_TOOLS=$tests BIFOCAL_TESTS=$source/tests OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
wanted() { [[ " $parts " == *" $1 "* ]]; }
passed=0 failed=0 skipped=0
check() { # check NAME COMMAND...
  local name=$1 log status=0
  shift
  log=$(mktemp)
  timeout 600 "$@" >"$log" 2>&1 || status=$?
  case $status in
    0) passed=$((passed + 1)) ;;
    77) skipped=$((skipped + 1)) ;;
    *) failed=$((failed + 1)); echo "FAILED ($status): $name"; tail -n 30 "$log" ;;
  esac
  rm -f "$log"
}
echo "# $(nvidia-smi --query-gpu=name,driver_version --format=csv,noheader 2>/dev/null | head -n 1 || true), $(date -u +%F), commit $(git -C "$source" rev-parse --short HEAD 2>/dev/null || echo "${BIFOCAL_COMMIT:-unknown}")"
if wanted checks; then
  for program in "$tests"/kernels_test_*; do
    case $program in *_test_device) continue ;; esac
    for dtype in f32 bf16; do check "$(basename "$program") $dtype" env BIFOCAL_TEST_DEVICE=cuda-$dtype "$program"; done
  done
  check "stages beside the CPU" bash "$source/tests/device/stages.sh"
  echo "checks: $passed passed, $failed failed, $skipped skipped"
  [ $failed -eq 0 ] || exit 1
  [ $passed -gt 0 ] || { echo "no usable GPU here: nothing was checked or timed"; exit 77; }
fi
if wanted sanitize; then
  command -v compute-sanitizer >/dev/null || { echo "sanitize: compute-sanitizer is not on the PATH"; exit 1; }
  for tool in memcheck racecheck; do
    for program in "$tests"/kernels_test_*; do
      case $program in *_test_device) continue ;; esac
      for dtype in f32 bf16; do
        check "$tool $(basename "$program") $dtype" env BIFOCAL_TEST_DEVICE=cuda-$dtype compute-sanitizer --tool $tool --target-processes all --error-exitcode 99 "$program" -j1
      done
    done
    check "$tool a step of stage 2" compute-sanitizer --tool $tool --error-exitcode 99 "$tests/bench_gpu_step" tiny-finetune cuda 1
    check "$tool a step of CLIP" compute-sanitizer --tool $tool --error-exitcode 99 "$tests/bench_gpu_step" tiny-clip cuda 1
  done
  echo "sanitize: $passed passed, $failed failed, $skipped skipped"
fi
if wanted ops; then
  printf '\n## Ops\n\n'
  "$tests/bench_gpu_ops" cuda || failed=$((failed + 1))
fi
if wanted steps; then
  printf '\n## Training steps, random weights\n\n```\n'
  for preset in llava-7b-pretrain llava-7b-finetune llava-0.3b-finetune clip-b32 clip-l14; do
    "$tests/bench_gpu_step" $preset cuda 2 || failed=$((failed + 1))
  done
  BIFOCAL_RECOMPUTE=1 "$tests/bench_gpu_step" llava-7b-finetune cuda 1 || failed=$((failed + 1))
  printf '```\n'
fi
if wanted transformers; then
  if python3 -c 'import torch, transformers; assert torch.cuda.is_available()' 2>/dev/null; then
    printf '\n## transformers in the same run\n\n'
    python3 "$source/tests/bench/gpu_transformers.py" "$bin/bifocal" "$source/tests/golden/probe" || failed=$((failed + 1))
  else
    echo "transformers: no PyTorch with CUDA here, left out"
  fi
fi
exit $((failed > 0))
