#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# How runs end: by a signal, a full disk, a reader that leaves, damage in the input; and that memory
# does not grow on the way. No model but once, so that it is quick.
. "$(dirname "$0")/lib.sh"
same="--passthrough --size 64x64"
endless="-f lavfi -i testsrc2=size=64x64:rate=25"

# Signals. realtime makes the input last.
for signal in INT TERM HUP; do
    # shellcheck disable=SC2086
    "$program" run $endless,realtime -o $signal.mp4 $same 2>said &
    pid=$!
    sleep 2
    kill -$signal $pid
    wait $pid
    is "SIG$signal: exit status" $? 130
    frames=$(count_frames $signal.mp4)
    [ "${frames:-0}" -gt 5 ] || fail "SIG$signal: $frames frames in a finished file"
    [ ! -e $signal.mp4.part ] || fail "SIG$signal: a .part file is left"
    grep -q "$frames in = $frames out + 0 dropped" said || fail "SIG$signal: $(cat said)"
done
# While the model is loaded: nothing is left, not even of an output that opens at once.
for out in early.mp4 null; do
    # shellcheck disable=SC2086
    "$program" run $endless -o $out $small -m "$source_dir/samples/models/paint-s" 2>said &
    pid=$!
    until grep -q "gpu: device" said || ! kill -0 $pid; do sleep 0.02; done
    kill -INT $pid
    wait $pid
    is "SIGINT before the first frame, $out: exit status" $? 130
    ! ls early.mp4* 2>/dev/null || fail "SIGINT before the first frame: something is left"
done
# A terminal that is closed says so twice.
# shellcheck disable=SC2086
"$program" run $endless,realtime -o hangup.mp4 $same 2>said &
pid=$!
sleep 1
kill -HUP $pid
kill -HUP $pid 2>/dev/null
wait $pid
is "SIGHUP twice: exit status" $? 130
frames=$(count_frames hangup.mp4)
[ "${frames:-0}" -gt 1 ] || fail "SIGHUP twice: $frames frames"
# shellcheck disable=SC2086
"$program" run $endless,realtime -o twice.mp4 $same 2>said &
pid=$!
sleep 1
kill -STOP $pid                 # so that both arrive before the first has an effect
kill -INT $pid
kill -CONT $pid
sleep 0.01
kill -TERM $pid 2>/dev/null
wait $pid
status=$?
[ $status -eq 130 ] || [ $status -eq 1 ] || fail "two signals: exit $status"
[ ! -e twice.mp4.part ] || fail "two signals: a .part file is left"

# Outputs that fail.
clip in.mp4 50
refuses 1 "nowhere" run -i in.mp4 -o nowhere/out.mp4 $same
refuses 1 "out\.xyz" run -i in.mp4 -o out.xyz $same
: >exists.mp4
refuses 1 "exists\.mp4.*exist" run -i in.mp4 -o exists.mp4 $same
is "an existing file is left alone" "$(wc -c <exists.mp4)" 0
refuses 1 "in\.mp4" run -i in.mp4 -o in.mp4 -y $same
is "the input is left alone" "$(count_frames in.mp4)" 50
refuses 1 "/dev/full.*disk is full" run -i in.mp4 -f matroska -o /dev/full -y $same
unset DISPLAY WAYLAND_DISPLAY
SDL_VIDEODRIVER=nonsense
export SDL_VIDEODRIVER
refuses 1 "window" run -i in.mp4 -o display $same
unset SDL_VIDEODRIVER
# shellcheck disable=SC2086
"$program" run -i in.mp4 -f matroska -o /dev/full -o good.mp4 -y $same 2>said
is "one of two outputs fails: exit status" $? 1
is "one of two outputs fails: the other is whole" "$(count_frames good.mp4)" 50
# shellcheck disable=SC2086
SDL_VIDEODRIVER=dummy "$program" run -i in.mp4 -o display -o seen.mp4 $same 2>said ||
    fail "window: $(tail -n 1 said)"
is "with a window" "$(count_frames seen.mp4)" 50
# shellcheck disable=SC2086
"$program" run $endless -o - $same 2>said | head -c 100000 >head.y4m
is "a reader that leaves is an end" "$(wc -c <head.y4m)" 100000

# A network's reader is no viewer who has seen enough: what it has not got is missing.
ffmpeg -v error -f lavfi -i testsrc2=size=320x240:rate=25 -t 20 -c:v libx264 -qp 1 \
    -preset ultrafast big.mp4
python3 -c 'import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
c = s.accept()[0]
c.recv(50000)
c.close()' >port &
until [ -s port ]; do sleep 0.1; done
refuses 1 "tcp://.*(reader has gone|reset)" run -i big.mp4 -o "tcp://127.0.0.1:$(cat port)" \
    --passthrough

# Live: a pipe that nobody reads does not keep a run from its end, nor the file from its trailer.
clip long.mp4 500
{ "$program" run -i long.mp4 --realtime -o - -o piped.mp4 --passthrough --size 128x128 2>said &
  echo $! >pid; wait $!; echo $? >status; } | { sleep 4; kill -INT "$(cat pid)"; date +%s >began
                                                while [ ! -s status ]; do sleep 0.1; done
                                                date +%s >ended; }
is "an unread pipe: exit status" "$(cat status)" 130
at_most "an unread pipe: seconds to the end" "$(($(cat ended) - $(cat began)))" 4
frames=$(count_frames piped.mp4)
[ "${frames:-0}" -gt 20 ] || fail "an unread pipe: $frames frames in the file beside it"
grep -qE '^  -: .* dropped .[1-9][0-9]* while it was slow' said ||
    fail "an unread pipe: $(cat said)"

# Live recordings come in fragments: what a crash leaves can be played.
# shellcheck disable=SC2086
"$program" run -i long.mp4 --realtime -o crash.mp4 -o crash.mkv $same 2>said &
pid=$!
sleep 8
kill -KILL $pid
wait $pid 2>/dev/null
for out in crash.mp4 crash.mkv; do
    frames=$(count_frames $out.part)
    [ "${frames:-0}" -gt 25 ] || fail "$out after a crash: $frames frames"
done

# At its pace: 3 s of it take 3 s.
began=$(date +%s%N)
# shellcheck disable=SC2086
l2d run -i long.mp4 --realtime -n 75 -o pace.mp4 $same
took=$((($(date +%s%N) - began) / 1000000))
at_most "--realtime: not faster, ms" 2900 $took

# Damage: truncated, overwritten, one frame.
ffmpeg -v error -i in.mp4 -c copy in.mkv
size=$(wc -c <in.mkv)
head -c $((size * 2 / 3)) in.mkv >short.mkv
l2d run -i short.mkv -o short.mp4 $same
frames=$(count_frames short.mp4)
[ "$frames" -gt 10 ] && [ "$frames" -lt 50 ] || fail "truncated input: $frames frames"
cp in.mkv damaged.mkv
head -c 300 /dev/urandom | dd of=damaged.mkv bs=1 seek=$((size / 2)) conv=notrunc 2>dd.log
l2d run -i damaged.mkv -o damaged.mp4 $same
frames=$(count_frames damaged.mp4)
[ "$frames" -gt 20 ] || fail "damaged input: $frames frames"
# A server that breaks off: what came is kept, but it is not all.
python3 -c '
import socket
s = socket.create_server(("127.0.0.1", 0))
print(s.getsockname()[1], flush=True)
data = open("in.mkv", "rb").read()
while True:
    c, _ = s.accept()
    c.recv(4096)
    c.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(data))
    c.sendall(data[:len(data) * 2 // 3])
    c.close()
' >broken.port &
server=$!
until [ -s broken.port ] || ! kill -0 $server; do sleep 0.1; done
refuses 1 "could not be read to its end" run -i "http://127.0.0.1:$(cat broken.port)/" \
    -o broken.mp4 -q $same
kill $server
frames=$(count_frames broken.mp4)
[ "${frames:-0}" -gt 10 ] && [ "$frames" -lt 50 ] || fail "input that breaks off: $frames frames"
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=25 -frames:v 2 -c:v ffv1 \
    -vf setsar=sar=100000000:max=2147483647 wide.nut
refuses 1 "output size 65536x64" run -i wide.nut -o null --passthrough
clip one.mp4 1
l2d run -i one.mp4 -o one-out.mp4 $same
is "one frame" "$(count_frames one-out.mp4)" 1
ffmpeg -v error -f lavfi -i color=size=2x2:rate=25 -frames:v 2 -c:v ffv1 -pix_fmt yuv444p tiny.mkv
l2d run -i tiny.mkv -o tiny.mp4 --passthrough
is "2x2 pixels" "$(count_frames tiny.mp4)" 2
ffmpeg -v error -f lavfi -i testsrc2=size=63x35:rate=25 -frames:v 2 -c:v ffv1 -pix_fmt yuv444p \
    odd.mkv
l2d run -i odd.mkv -o odd.mp4 --passthrough
is "odd sizes" "$(count_frames odd.mp4)" 2
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=25 -frames:v 3 -c:v ffv1 -pix_fmt yuv420p10 \
    ten.mkv
l2d run -i ten.mkv -o ten.mp4 $same
is "10 bits" "$(count_frames ten.mp4)" 3

# Memory: resident size after 2000 frames is that after 300.
resident() {
    "$program" run -f lavfi -i "testsrc2=size=64x64:rate=25" -o null $same --frames "$1" \
        --json report.json 2>said || fail "$(tail -n 1 said)"
    grep -o '"peak_rss_bytes": [0-9]*' report.json | tr -dc '0-9\n'
}
few=$(resident 300)
many=$(resident 3000)
at_most "peak memory of 3000 frames, MB more than of 300" "$(((many - few) / 1000000))" 6

done_testing
