#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What to know of a new GPU, in ten minutes: builds without video and tests, measures, and leaves
# one folder of JSON, logs and summary.txt. Parts that fail or take too long are left out, with a
# line.
#     tools/bench/gpu.sh [-p PROGRAM] [-m MODEL] [-s WxH] [OUT]
# PROGRAM  a live2diff that is built already; else it is built in build/bench
# MODEL    default: a random one of SD1.5's size with Live2Diff's motion modules, made in OUT
# Needs a Vulkan driver, a C compiler, CMake, pkg-config, glslang and the small libraries of
# README's table; PyTorch for the random model and the comparison ($PYTHON, default python3).
set -eu
root=$(cd "$(dirname "$0")/../.." && pwd)
python=${PYTHON:-python3}
program= model= size=512x512
while getopts p:m:s: option; do
    case $option in
    p) program=$(cd "$(dirname "$OPTARG")" && pwd)/$(basename "$OPTARG") ;;
    m) model=$(cd "$OPTARG" && pwd) ;;
    s) size=$OPTARG ;;
    *) exit 2 ;;
    esac
done
shift $((OPTIND - 1))
out=${1:-$root/out/bench-$(date +%Y%m%d-%H%M%S)}
mkdir -p "$out"
out=$(cd "$out" && pwd)
began=$(date +%s)

# part NAME SECONDS COMMAND: its output in NAME.txt, its seconds and its end in parts.txt.
part() {
    name=$1
    limit=$2
    shift 2
    left=$((600 - ($(date +%s) - began)))
    [ "$limit" -le "$left" ] || limit=$left
    if [ "$limit" -le 0 ]; then
        echo "$name: left out: ten minutes are over" | tee -a "$out/parts.txt"
        return 1
    fi
    start=$(date +%s) status=0
    timeout "$limit" "$@" >"$out/$name.txt" 2>"$out/$name.err" || status=$?
    took=$(($(date +%s) - start))
    case $status in
    0) echo "$name: $took s" ;;
    124) echo "$name: stopped after $took s" ;;
    *) echo "$name: failed after $took s: $(tail -n 1 "$out/$name.err")" ;;
    esac | tee -a "$out/parts.txt"
    return $status
}

build() {
    cmake -S "$root" -B "$root/build/bench" -DL2D_VIDEO=OFF -DL2D_TESTS=OFF \
        -DCMAKE_BUILD_TYPE=Release
    cmake --build "$root/build/bench" -j "$(nproc)"
}

: >"$out/parts.txt"
if [ -z "$program" ]; then
    begin_build=$(date +%s)
    build >"$out/build.txt" 2>&1 || { tail -n 5 "$out/build.txt" >&2; exit 1; }
    echo "build: $(($(date +%s) - begin_build)) s" | tee -a "$out/parts.txt"
    program=$root/build/bench/tools/live2diff/live2diff
fi

# 1. The device.
part devices 20 "$program" devices
! command -v vulkaninfo >/dev/null || part vulkaninfo 20 vulkaninfo || true
! command -v nvidia-smi >/dev/null || part nvidia-smi 20 nvidia-smi -q || true

if [ -z "$model" ]; then
    model=$out/model
    part model 150 "$python" "$root/tools/bench/random_model" "$root/tests/data/sd15/model.json" \
        "$model" || { echo "gpu.sh: no model: name one with -m" >&2; exit 1; }
fi
bench() {       # bench NAME SECONDS OPTIONS
    name=$1
    limit=$2
    shift 2
    part "$name" "$limit" "$program" bench -m "$model" --size "$size" --json "$out/$name.json" "$@"
}
part inspect 20 "$program" inspect -m "$model" --size "$size" || true

# 2, 3. Kernels on the model's shapes beside the device's ceilings, and beside PyTorch's: what auto
# takes, then the tiers below.
bench kernels 90 --what kernels || true
[ ! -s "$out/kernels.json" ] || part torch-kernels 60 "$python" "$root/tools/bench/kernels" \
    "$out/kernels.json" --json "$out/torch-kernels.json" || true
for tier in 1 2; do
    bench "kernels-tier$tier" 40 --what kernels --tier "$tier" || true
done
# 5, 6. Waits and submissions are in kernels.json; the UNet; keys and values in both types.
bench unet 60 --what unet --frames 20 || true
bench unet-fp16-cache 60 --what unet --frames 20 --kv-cache fp16 || true
# Whole frames: D, and sizes.
bench frame 60 --frames 60 --steps 16,33/50 --profile || true
bench frame-chunks 60 --frames 64 --steps 16,33/50 --chunk 8 || true
bench frame-every-second 60 --frames 64 --steps 16,33/50 --draw-every 2 || true
bench frame-int8-weights 60 --frames 60 --steps 16,33/50 --weights int8 || true
bench frame-one-queue 60 --frames 60 --steps 16,33/50 --queues 1 || true
bench sweep 90 --frames 20 --what frame --sweep "$size/1,$size/4,256x256/2,768x512/2" || true
# 6. PyTorch on the same weights, in turn.
part peers 180 "$python" "$root/tools/bench/peers" --program "$program" --model "$model" \
    --size "$size" --rounds 3 --calls 10 --seconds 120 --json "$out/peers.json" || true

{
    cat "$out/devices.txt" "$out/parts.txt"
    for name in kernels torch-kernels unet unet-fp16-cache frame frame-chunks frame-every-second \
        frame-int8-weights frame-one-queue sweep peers kernels-tier1 kernels-tier2; do
        [ -s "$out/$name.txt" ] || continue
        printf '\n== %s\n' "$name"
        head -n 40 "$out/$name.txt"
    done
} >"$out/summary.txt"
[ "$model" != "$out/model" ] || rm -rf "$out/model"
echo "$out/summary.txt, after $(($(date +%s) - began)) s"
