#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The window on a screen of its own (Xvfb), with keys typed by xdotool: what it shows, and what the
# keys change, as the control server tells it. Exit status 77 where the two are missing.
. "$(dirname "$0")/lib.sh"
if ! command -v Xvfb >/dev/null || ! command -v xdotool >/dev/null; then
    echo "SKIPPED: no Xvfb or no xdotool (tools/setup --ci)" >&2
    exit 77
fi

Xvfb -displayfd 3 -screen 0 640x480x24 -nolisten tcp 3>display >/dev/null 2>&1 &
xvfb=$!
trap 'kill $xvfb 2>/dev/null; rm -rf "$scratch"' EXIT
for _ in $(seq 100); do [ -s display ] && break; sleep 0.1; done
DISPLAY=:$(cat display)
export DISPLAY

# A still, bright picture: what gets darker is what is written on it.
"$program" run --realtime -f lavfi -i color=white:size=64x64:rate=10 -o display --size 64x64 \
    --steps 43/50 --more-steps 43,47/50 --control 127.0.0.1:0 2>said &
pid=$!

# until SECONDS COMMAND...: whether it succeeds within that time
until_true() {
    left=$1
    shift
    while [ "$left" -gt 0 ]; do
        "$@" >/dev/null 2>&1 && return 0
        sleep 1
        left=$((left - 1))
    done
    return 1
}

address() { tr '\r' '\n' <said | grep -o '127\.0\.0\.1:[0-9]*' | head -n 1; }
value() { "$program" ctl -a "$(address)" --json | python3 -c "import json, sys
print(json.load(sys.stdin)['params']['$1'])"; }
has() { [ "$(value "$1")" = "$2" ]; }
expect() {
    if until_true 20 has "$1" "$2"; then pass "$1: $2"; else fail "$1: '$(value "$1")' not '$2'"; fi
}
frames_came() { "$program" ctl -a "$(address)" | grep -qE ', [1-9][0-9]* out'; }
brightness() {  # of the whole screen
    ffmpeg -v error -f x11grab -video_size 640x480 -i "$DISPLAY" -frames:v 1 -vf \
        scale=1:1:flags=area,format=gray -f rawvideo - | od -An -tu1 | tr -d ' '
}

until_true 120 frames_came || fail "no frame within two minutes: $(cat said)"
xdotool search --onlyvisible --name live2diff windowsize 640 480 windowmove 0 0 windowfocus
sleep 2
bright=$(brightness)
[ "${bright:-0}" -gt 30 ] || fail "the screen is dark: $bright"

xdotool key i h         # status and help: darker panels over the picture
sleep 2
darker=$(brightness)
[ "${darker:-255}" -lt "$bright" ] || fail "no text over the picture: $bright, then $darker"
xdotool key h

xdotool key Right
expect prompt "a van gogh painting"
xdotool key Return
sleep 1
xdotool key ctrl+u
xdotool type --delay 50 "neon lights q"     # letters, not keys
xdotool key Return
expect prompt "neon lights q"
sleep 3
dark=$(brightness)
xdotool key c           # the white source over the left half
brighter() { [ "$(brightness)" -gt $((dark + 20)) ]; }
until_true 10 brighter || fail "the source is not seen beside the picture: $dark, $(brightness)"
half=$(brightness)
xdotool mousemove 460 240 mousedown 1 mousemove 540 240 mouseup 1
wider() { [ "$(brightness)" -gt $((half + 10)) ]; }
until_true 10 wider || fail "the mouse does not move the line: $half, $(brightness)"
xdotool key c
as_before() { [ "$(brightness)" -lt $((dark + 10)) ]; }
until_true 10 as_before || fail "the source stays: $dark, $(brightness)"
xdotool key Up
expect steps 43,47/50
xdotool key Down
expect steps 43/50
xdotool key n
expect seed 1
xdotool key b
expect show source
xdotool key space
expect show frozen
xdotool key space
expect show drawn
[ -z "$(ls live2diff-*.mkv* 2>/dev/null)" ] || fail "a recording before anybody asked for one"
xdotool key r
expect record True
sleep 2
xdotool key r
expect record False
recorded() { ls live2diff-*.mkv; }
until_true 20 recorded || fail "no recording: $(ls)"
[ "$(count_frames "$(ls live2diff-*.mkv)")" -gt 2 ] || fail "the recording is empty"
xdotool key s
until_true 20 sh -c 'ls live2diff-*.png' || fail "no picture was saved: $(cat said)"
is "the saved picture" "$(ffprobe -v error -show_entries stream=codec_name,width,height \
    -of csv=p=0 live2diff-*.png)" png,64,64

xdotool key q
wait $pid
is "closing the window: exit status" $? 0

# What is not live waits instead of losing what comes meanwhile.
"$program" run -f lavfi -i color=white:size=64x64:rate=10,realtime -o display --size 64x64 \
    --passthrough --control 127.0.0.1:0 2>said &
pid=$!
until_true 120 frames_came || fail "no frame within two minutes: $(cat said)"
xdotool search --onlyvisible --sync --name live2diff windowfocus
sleep 2
xdotool key space
expect pause True
xdotool key space
expect pause False
xdotool key r
expect record True
sleep 1
xdotool key space
expect pause True
rm live2diff-*.mkv
xdotool key q
wait $pid
is "closing a paused window: exit status" $? 0
is "what was recorded until then is whole" "$(ls live2diff-*.mkv | wc -l)" 1

# Nobody is left who could let it go on.
timeout 120 "$program" run -f lavfi -i color=white:size=64x64:rate=10:duration=15 -o display \
    -o rest.mp4 --passthrough 2>said &
pid=$!
xdotool search --onlyvisible --sync --name live2diff windowfocus
sleep 2
xdotool key space
sleep 1
xdotool key q
wait $pid
is "closing a paused window lets the other outputs go on: exit status" $? 0
is "and they have all frames" "$(count_frames rest.mp4)" 150
done_testing
