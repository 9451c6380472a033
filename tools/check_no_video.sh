#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds without video where FFmpeg, SDL2 and Criterion are not to be found, and tries what is left.
#     tools/check_no_video.sh BUILD_FOLDER
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$1"
build=$(cd "$1" && pwd)

# All that pkg-config knows here, without those.
rm -rf "$build/pc"
mkdir -p "$build/pc"
pkg-config --variable pc_path pkg-config | tr : '\n' | while read -r folder; do
    find "$folder" -maxdepth 1 -name '*.pc' 2>/dev/null || true
done | while read -r pc; do
    ln -sf "$pc" "$build/pc"
done
for hidden in libav libsw libpostproc sdl2 SDL2 fontconfig libmicrohttpd criterion; do
    rm -f "$build/pc/$hidden"*.pc
done
export PKG_CONFIG_LIBDIR="$build/pc"
unset PKG_CONFIG_PATH
for library in libavcodec libswscale sdl2 SDL2_ttf libmicrohttpd criterion; do
    if pkg-config --exists $library; then
        echo "check_no_video: $library is still to be found" >&2
        exit 1
    fi
done

cmake -S "$root" -B "$build" -G Ninja -DL2D_VIDEO=OFF -DL2D_WERROR=ON \
    -DCMAKE_BUILD_TYPE=Release >"$build/configure.log"
cmake --build "$build" >"$build/build.log" || { tail -n 20 "$build/build.log" >&2; exit 1; }
program=$build/tools/live2diff/live2diff
if ldd "$program" | grep -E 'libav|libsw|SDL'; then
    echo "check_no_video: the program is linked to these" >&2
    exit 1
fi

"$program" inspect >"$build/inspect.txt"
"$program" bench --size 64x64 --frames 2 >"$build/bench.txt"
for refused in "run -i a.mp4 -o b.mp4" "bench --input a.mp4"; do
    status=0
    # shellcheck disable=SC2086  # words
    "$program" $refused 2>"$build/said" || status=$?
    if [ $status -ne 1 ] || [ "$(wc -l <"$build/said")" -ne 1 ] ||
       ! grep -q 'this build has no video' "$build/said"; then
        echo "check_no_video: live2diff $refused: exit $status: $(cat "$build/said")" >&2
        exit 1
    fi
done
echo "check_no_video: ok"
