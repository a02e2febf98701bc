#!/usr/bin/env bash
# Embeddings, clusters and near pairs on the CUDA device beside the CPU's: the rows in fp32 and bf16 within rounding, then of one and the same columns the
# same clusters and pairs to the byte. The program may be one whose GPU is emulated. 77: no GPU.
. "$(dirname "$0")/../cli/common.inc"
make_data 24
run train clip.yaml --set train.steps=20 --set optimizer.lr=5e-3 --set train.checkpoint_every=0 >clip.log 2>&1 || { cat clip.log; fail "clip"; finish; }
run train lm.yaml --set train.steps=1 --set train.checkpoint_every=0 >lm.log 2>&1 && run train pretrain.yaml --set train.steps=1 --set train.checkpoint_every=0 >>lm.log 2>&1 ||
  { cat lm.log; fail "pretrain"; finish; }
pool=shards/captions columns=shards/captions/s-00000.columns
embed() { run data embed "$1" --name "$2" --device "$3" --precision "$4" --threads 1 --batch 10 $pool >"$2.log" 2>&1; }
embed out/clip gpu cuda fp32 || { grep -q 'no usable GPU\|built without CUDA' gpu.log && { cat gpu.log; exit 77; }; cat gpu.log; fail "embed on cuda"; finish; }
embed out/clip half cuda bf16 && embed out/clip cpu cpu fp32 && embed out/pretrain tower-gpu cuda fp32 && embed out/pretrain tower-cpu cpu fp32 ||
  { cat ./*.log; fail "embed"; finish; }
halves() { od -An -v -tu2 -w2 -j128 "$columns/$1.npy"; }
near() { # near A B MOST: the largest difference of two columns of halves
  paste <(halves "$1") <(halves "$2") | awk -v most="$3" '
    function number(h, e, f) { e = int(h / 1024) % 32; f = h % 1024; f = e == 0 ? f * 2 ^ -24 : (1024 + f) * 2 ^ (e - 25); return h >= 32768 ? -f : f }
    NF == 2 { d = number($1) - number($2); d = d < 0 ? -d : d; if (d > worst) worst = d; n++ }
    END { if (!(n > 300 && worst <= most)) { printf "%d numbers, largest difference %g\n", n, worst; exit 1 } }' || fail "$1 and $2 differ by more than $3"
}
near gpu.image cpu.image 0.0005
near gpu.text cpu.text 0.0005
near tower-gpu.image tower-cpu.image 0.0005
near half.image cpu.image 0.03
near half.text cpu.text 0.03
for device in cpu cuda; do
  run data cluster --name cpu --clusters 5 --device $device --threads 1 --overwrite --centroids $device.npy $pool >$device.log 2>&1 || { cat $device.log; fail "cluster on $device"; }
  cat $columns/cpu.cluster.* $columns/cpu.cluster_distance.* >$device.columns
  run data dedup --method embedding --name cpu --cosine 0.9 --match image --device $device --out $device.sel $pool >$device.log 2>&1 || { cat $device.log; fail "dedup on $device"; }
done
cmp cpu.npy cuda.npy && cmp cpu.columns cuda.columns || fail "other clusters on the GPU"
cmp cpu.sel cuda.sel || fail "other pairs on the GPU"
finish
