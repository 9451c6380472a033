#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# An installation works on its own: the program finds its model and clip without the sources, and a
# program of somebody else, in C or C++, builds against the library with pkg-config alone.
#     installed.sh PREFIX
set -eu
prefix=$(cd "$1" && pwd)
root=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/l2d-installed-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch"

"$prefix/bin/live2diff" --version
"$prefix/bin/live2diff" inspect >inspect.txt
"$prefix/bin/live2diff" run -q -i "$prefix/share/live2diff/clips/moose.mp4" -o out.mp4 \
    --size 64x64 --frames 9

pc=$(find "$prefix" -name live2diff.pc)
PKG_CONFIG_PATH=$(dirname "$pc")
export PKG_CONFIG_PATH
cp "$root/samples/still.c" "$root/samples/file_to_file.c" .
for sample in still file_to_file; do
    # shellcheck disable=SC2046
    cc -std=c11 -Wall -Wextra -Werror $sample.c -o $sample \
        $(pkg-config --cflags --libs live2diff)
done
ffmpeg -v error -f lavfi -i testsrc2=size=64x64 -frames:v 1 in.ppm
./still "$prefix/share/live2diff/models/paint-s" in.ppm out.ppm
cmp -s in.ppm out.ppm && { echo "still changed nothing" >&2; exit 1; }
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=25 -f lavfi -i sine -t 0.4 in.mp4
./file_to_file "$prefix/share/live2diff/models/paint-s" in.mp4 copy.mp4
ffprobe -v error -count_packets -show_entries stream=codec_type,nb_read_packets -of csv=p=0 \
    copy.mp4 >streams.txt
grep -q 'video,10' streams.txt
grep -q audio streams.txt

for cxx in clang++ g++; do
    command -v $cxx >/dev/null || continue
    # shellcheck disable=SC2046
    $cxx -std=c++11 -Wall -Wextra -Wpedantic -Werror "$root/tests/e2e/installed.cc" -o from_cxx \
        $(pkg-config --cflags --libs live2diff)
    ./from_cxx in.mp4
done
echo "installed: ok"
