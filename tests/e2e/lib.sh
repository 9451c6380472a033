# SPDX-License-Identifier: Apache-2.0
# What the end-to-end scripts share: a scratch folder, clips made by ffmpeg, and checks that say
# what they saw. Sourced with the program in $1; a script ends with `done_testing`.
set -u
program=$1
source_dir=$(cd "$(dirname "$0")/../.." && pwd)
scratch=$(mktemp -d "${TMPDIR:-/tmp}/l2d-e2e-XXXXXX")
trap 'rm -rf "$scratch"' EXIT
cd "$scratch" || exit 1
failures=0
small="--size 64x64 --seed 1"

fail() {
    echo "FAIL: $*" >&2
    failures=$((failures + 1))
}

pass() {
    echo "ok: $*"
}

is() {          # is WHAT GOT WANTED
    if [ "$2" = "$3" ]; then pass "$1"; else fail "$1: got '$2', wanted '$3'"; fi
}

at_most() {     # at_most WHAT NUMBER LIMIT
    if awk "BEGIN { exit !($2 <= $3) }"; then pass "$1: $2"; else fail "$1: $2 > $3"; fi
}

# l2d ARGUMENTS: must succeed; what it says is kept in $scratch/said.
l2d() {
    "$program" "$@" 2>said
    status=$?
    [ $status -eq 0 ] || fail "live2diff $*: exit $status: $(tail -n 1 said)"
}

# refuses WANTED_STATUS PATTERN ARGUMENTS: ends with that status and one line that matches.
refuses() {
    wanted=$1
    pattern=$2
    shift 2
    "$program" "$@" >refused.out 2>said </dev/null
    status=$?
    line=$(grep '^live2diff: ' said | grep -vE '^live2diff: (warning|gpu|engine|reader|writer):' |
           tail -n 1)
    lines=$(grep -cvE '^live2diff: (warning|gpu|engine|reader|writer):' said)
    if [ $status -ne "$wanted" ]; then
        fail "live2diff $*: exit $status, wanted $wanted: $(cat said)"
    elif [ "$lines" -ne 1 ]; then
        fail "live2diff $*: $lines lines instead of one: $(cat said)"
    elif ! echo "$line" | grep -qE -- "$pattern"; then
        fail "live2diff $*: '$line' does not match '$pattern'"
    else
        pass "$line"
    fi
}

# clip NAME FRAMES [ffmpeg output options]: 64x64, 25 fps, H.264.
clip() {
    name=$1
    frames=$2
    shift 2
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=64x64:rate=25" -frames:v "$frames" \
        -c:v libx264 -preset ultrafast -pix_fmt yuv420p "$@" "$name"
}

clip_with_sound() {     # clip_with_sound NAME SECONDS
    ffmpeg -v error -y -f lavfi -i "testsrc2=size=64x64:rate=25:duration=$2" \
        -f lavfi -i "sine=frequency=440:duration=$2" -c:v libx264 -preset ultrafast \
        -pix_fmt yuv420p -c:a aac -shortest "$1"
}

count_frames() {
    ffprobe -v error -select_streams v:0 -count_frames -show_entries stream=nb_read_frames \
        -of csv=p=0 "$1" | tr -d ,
}

frame_times() {
    ffprobe -v error -select_streams v:0 -show_entries frame=pts_time -of csv=p=0 "$1" |
        tr -d , | grep .
}

audio_times() {
    ffprobe -v error -select_streams a:0 -show_entries packet=pts_time -of csv=p=0 "$1" | tr -d ,
}

frame_hash() {
    ffmpeg -v error -i "$1" -map 0:v -f framemd5 - | grep -v '^#' | md5sum
}

frame_hashes() {
    ffmpeg -v error -i "$1" -map 0:v -f framemd5 - | grep -v '^#'
}

raw_video() {           # raw_video FILE [filter]: the pixels, on standard output
    ffmpeg -v error -i "$1" -map 0:v -vf "${2:-null}" -f rawvideo -pix_fmt yuv420p -
}

# Largest difference of two files' bytes, and their number: cmp prints octal.
max_difference() {
    if [ "$(wc -c <"$1")" != "$(wc -c <"$2")" ]; then
        echo 999
        return
    fi
    cmp -l "$1" "$2" | awk '
        function decimal(o) { return int(o / 100) * 64 + int(o / 10) % 10 * 8 + o % 10 }
        { d = decimal($2) - decimal($3); if (d < 0) d = -d; if (d > most) most = d }
        END { print most + 0 }'
}

# Largest difference of two lists of numbers, line by line; 999 if they differ in length.
max_distance() {
    if [ "$(wc -l <"$1")" != "$(wc -l <"$2")" ]; then
        echo 999
        return
    fi
    paste "$1" "$2" | awk '{ d = $1 - $2; if (d < 0) d = -d; if (d > most) most = d }
                           END { print most + 0 }'
}

done_testing() {
    echo "$failures failures"
    [ "$failures" -eq 0 ]
    exit
}
