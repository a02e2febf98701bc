#!/usr/bin/env bash
# bundle.sh BUILD OUT [--with-cuda]: the program of a build folder with the shared libraries it needs, for a machine where nothing is installed but
# glibc (as new as this one's) and, on a GPU, the driver. Also the build's GPU tests and benchmarks when they are there. CUDA's own libraries
# (cuBLASLt alone is half a gigabyte) come along only with --with-cuda; else the other machine's are used.
#   OUT/bifocal train recipe.yaml      OUT/run bench_gpu_ops     . OUT/env.sh; mpirun -n 2 bifocal ...
set -euo pipefail
case "${1:---help}" in -h | --help) sed -n '2,6s/^# \{0,1\}//p' "$0"; exit 0 ;; esac
[ $# -ge 2 ] || { echo "bundle.sh: usage: bundle.sh BUILD OUT [--with-cuda]" >&2; exit 64; }
build=$1 out=$2 cuda=${3:-}
case "$cuda" in '' | --with-cuda) ;; *) echo "bundle.sh: unknown option $cuda" >&2; exit 64 ;; esac
[ -x "$build/bifocal" ] || { echo "bundle.sh: $build/bifocal is not there; build it first" >&2; exit 65; }
[ ! -e "$out" ] || { echo "bundle.sh: $out exists already; name another folder" >&2; exit 65; }
work=$out.bundling-$$
trap 'rm -rf "$work"' EXIT
mkdir -p "$work/bin" "$work/lib" "$work/openmpi/plugins"
cp "$build/bifocal" "$work/bin/"
for program in "$build"/tests/kernels_test_* "$build"/tests/bench_gpu_* "$build"/tests/tool_*; do
  if [ -f "$program" ] && [ -x "$program" ]; then cp "$program" "$work/bin/"; fi
done
plugins=$(ompi_info --parsable --path pkglibdir 2>/dev/null | sed -n 's/^path:pkglibdir://p')
[ -d "$plugins" ] || { echo "bundle.sh: Open MPI's plugins were not found (ompi_info says '$plugins')" >&2; exit 65; }
cp "$plugins"/*.so "$work/openmpi/plugins/"
for tool in mpirun orted; do cp "$(readlink -f "$(command -v $tool)")" "$work/bin/$tool"; done
# glibc's own stay behind: they belong to the other machine's loader. So do the driver's.
keep='^(ld-linux.*|libc|libm|libpthread|libdl|librt|libutil|libresolv|libnss_.*|libanl|libcuda|libnvidia-.*)\.so'
cuda_libraries='^(libcudart|libcublas|libcublasLt|libnccl|libcudnn|libnvrtc)\.so'
ldd "$work"/bin/* "$work"/openmpi/plugins/*.so 2>/dev/null | awk '$2 == "=>" && $3 ~ /^\// { print $3 }' | sort -u | while read -r library; do
  name=$(basename "$library")
  [[ $name =~ $keep ]] && continue
  [[ -z $cuda && $name =~ $cuda_libraries ]] && continue
  cp -L "$library" "$work/lib/$name"
done
cat >"$work/env.sh" <<'S'
# Sourced: the programs of this folder and their libraries come first. A process without mpirun must not look for Open MPI's daemon.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PATH=$here/bin:$PATH LD_LIBRARY_PATH=$here/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}
export OMPI_MCA_mca_base_component_path=$here/openmpi/plugins OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_mca_base_component_show_load_errors=0
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 BIFOCAL_PROGRAM=$here/bin/bifocal BIFOCAL_TOOLS=$here/bin
S
printf '#!/usr/bin/env bash\n. "$(dirname "$0")/env.sh"\nexec "$@"\n' >"$work/run"
printf '#!/usr/bin/env bash\n. "$(dirname "$0")/env.sh"\nexec bifocal "$@"\n' >"$work/bifocal"
chmod +x "$work/run" "$work/bifocal"
mv -T "$work" "$out"
trap - EXIT
[ -n "$cuda" ] || ! ldd "$out/bin/bifocal" | grep -q libcublasLt || echo "CUDA's libraries stayed behind (--with-cuda brings them): the other machine needs a CUDA toolkit of this version"
echo "bundled $(ls "$out/bin" | wc -l) programs and $(ls "$out/lib" | wc -l) libraries, $(du -sm "$out" | cut -f1) MiB: $out"
