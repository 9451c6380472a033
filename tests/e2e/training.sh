#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The training recipe from pictures to a model that the program runs, each stage for seconds: not a
# good model, but every step of the way. Then the measures of tools/evaluate against known answers.
#     training.sh PROGRAM         needs python3-torch, python3-numpy, python3-opencv
set -eu
live2diff=$(realpath "$1")
python=${PYTHON:-python3}
root=$(cd "$(dirname "$0")/../.." && pwd)
data=$(mktemp -d "${TMPDIR:-/tmp}/l2d-training-XXXXXX")
trap 'rm -rf "$data"' EXIT

# Moments of generated clips, and two cut-outs. By its name, gradients6 is held out.
mkdir "$data/photos" "$data/stamps"
for source in mandelbrot testsrc2 gradients; do
    ffmpeg -v error -f lavfi -i "$source" -vf "fps=4,scale=256:256,setsar=1" -frames:v 6 \
        "$data/photos/$source%d.jpg"
done
ffmpeg -v error -f lavfi -i "testsrc2=size=96x96,format=rgba,colorchannelmixer=aa=.9" \
    -frames:v 2 "$data/stamps/stamp%d.png"

cd "$root/tools/train"
"$python" data.py --data "$data"
"$python" train_autoencoder.py --data "$data" --minutes .05 --batch 2 --crop 64
"$python" train_text.py --data "$data" --minutes .05 --batch 8
"$python" train_unet.py --data "$data" --stage image --minutes .05 --batch 3 --crop 64
"$python" train_unet.py --data "$data" --stage clip --minutes .05 --batch 1 --crop 64
"$python" train_unet.py --data "$data" --stage clip --minutes .1 --batch 1 --crop 64 |
    grep "resumed clip"
"$python" export.py --data "$data" --out "$data/model"
mkdir "$data/unpacked"
"$python" unpack.py --model "$data/model" --data "$data/unpacked"
"$python" export.py --data "$data/unpacked" --out "$data/again"
for part in unet vae text_encoder; do
    cmp "$data/model/$part.safetensors" "$data/again/$part.safetensors"
done
"$live2diff" inspect --load "$data/model"
"$live2diff" run -q -m "$data/model" -i "$root/samples/clips/moose.mp4" -o "$data/out.mp4" \
    --size 64x64 --frames 9 --steps 43,47/50
"$python" "$root/tools/evaluate" --self-check
