#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# What outputs must not do: write over what is there, say that all is well where nothing was
# written, or wait for ever; and what they do with streams that a container does not take.
. "$(dirname "$0")/lib.sh"
same="--passthrough --size 64x64"
clip in.mp4 10

# Formats that open their files by themselves.
mkdir pictures
ffmpeg -v error -i in.mp4 pictures/%03d.png
before=$(cat pictures/*.png | cksum)
refuses 1 "pictures/%03d.png.*is the input" run -i pictures/%03d.png -o pictures/%03d.png $same
refuses 1 "001.png.*exists already" run -i in.mp4 -o pictures/%03d.png $same
is "pictures that are there stay" "$(cat pictures/*.png | cksum)" "$before"
refuses 1 "nowhere/%d.png.*No such file" run -i in.mp4 -o nowhere/%d.png $same
refuses 1 "nowhere/x.m3u8.*No such file" run -i in.mp4 -o nowhere/x.m3u8 $same
refuses 1 "x.mka: format matroska holds no video" run -i in.mp4 -o x.mka $same
refuses 1 "single.png.*number them" run -i in.mp4 -o single.png $same
# shellcheck disable=SC2086
l2d run -i in.mp4 -o list.m3u8 $same
refuses 1 "list.m3u8.*exists already" run -i in.mp4 -o list.m3u8 $same
# shellcheck disable=SC2086
l2d run -i list.m3u8 -o from_list.mp4 $same
is "HLS there and back" "$(count_frames from_list.mp4)" 10
before=$(cksum <list0.ts)
rm list.m3u8
refuses 1 "list.m3u8.*files exists already" run -i in.mp4 -o list.m3u8 $same
is "segments that are there stay" "$(cksum <list0.ts)" "$before"
# Live, the next one may do; but that is told.
# shellcheck disable=SC2086
(ulimit -f 8; exec "$program" run -f lavfi -i testsrc2=size=64x64:rate=25 --realtime -n 125 \
    --codec-options g=25 -o limit.m3u8 -o null $same 2>said)
is "segments that cannot be written: exit status" $? 1
grep -q "warning: .*limit.m3u8: [0-9]* of its files could not be written" said || fail "$(cat said)"
(ulimit -f 8; exec "$program" run -f lavfi -i testsrc2=size=640x480:rate=10 --realtime -n 10 \
    --passthrough -o limit%d.png -o null 2>said)
is "a picture that cannot be written: exit status" $? 1
is "it is the end, and told as that" "$(grep "warning: .*limit%d" said | cut -d ' ' -f 3-)" \
    "outputs: limit%d.png has failed, the others go on: writing limit%d.png: File too large"

# The same file by other names.
before=$(cksum <in.mp4)
refuses 1 "is the input" run -i in.mp4 -o "file://$PWD/in.mp4" $same
refuses 1 "is the input" run -i file:in.mp4 -o in.mp4 -y $same
"$program" run -i - -o in.mp4 -y --passthrough --size 64x64 <in.mp4 2>said
is "the input by standard input: exit status" $? 1
refuses 2 "--json in.mp4: is the input" run -i in.mp4 -o null --json in.mp4 $same
# shellcheck disable=SC2086
"$program" run -i - -o null --json in.mp4 $same <in.mp4 2>said
is "--json and the input by standard input: exit status" $? 2
refuses 2 "--record-timeline ./in.mp4: is the input" run -i in.mp4 -o null \
    --record-timeline ./in.mp4
refuses 2 "--json in.mp4: is the input" run -i file:in.mp4 -o null --json in.mp4 $same
refuses 2 "--json x.mkv and -o file:x.mkv" run -i in.mp4 -o file:x.mkv --json x.mkv $same
refuses 2 "--json x.mkv and -o x.mkv" run -i in.mp4 -o x.mkv --json x.mkv $same
refuses 2 "two outputs to -" run -i in.mp4 -o - -o - $same
refuses 2 "two outputs to display: there is one window" run -i in.mp4 -o display -o display $same
is "the input is left alone" "$(cksum <in.mp4)" "$before"
# shellcheck disable=SC2086
l2d run -i "file://$PWD/in.mp4" -o "file:named.mp4" $same
is "file: is no part of a name" "$(count_frames named.mp4)" 10

# What a container does not take.
for encoder in ffv1 mjpeg rawvideo; do
    refuses 1 "mpegts cannot hold" run -i in.mp4 -c $encoder -o x.ts $same
done
refuses 1 "mov cannot hold vp9" run -i in.mp4 -c libvpx-vp9 -o x.mov $same
# shellcheck disable=SC2086
l2d run -i in.mp4 -c mpeg2video -o x.ts $same
is "MPEG-2 in a transport stream" "$(count_frames x.ts | grep . | sort -u)" 10
ffmpeg -v error -i in.mp4 -f lavfi -i sine=duration=0.4 -c:v copy -c:a flac sound.mkv
# shellcheck disable=SC2086
l2d run -i sound.mkv -o sound.mp4 $same
is "FLAC becomes AAC in MP4" "$(ffprobe -v error -select_streams a -show_entries stream=codec_name \
    -of csv=p=0 sound.mp4)" aac
ffmpeg -v error -i in.mp4 -c:v copy -vf null -bsf:v setts=ts=N*5000000000:time_base=1/1000000000 \
    slides.nut 2>/dev/null ||
    ffmpeg -v error -framerate 1/5 -i pictures/%03d.png -c:v libx264 slides.nut
# shellcheck disable=SC2086
l2d run -i slides.nut -o slides.mp4 $same
is "long gaps in MP4" "$(count_frames slides.mp4)" 10
# shellcheck disable=SC2086
"$program" run -i in.mp4 --codec-options preset=bogus -o x.mkv $same 2>said
is "a wrong option of the encoder: exit status" $? 1
grep -q "libx264 refuses.*preset=bogus" said || fail "a wrong option of the encoder: $(cat said)"
[ ! -e x.mkv ] || fail "a wrong option of the encoder: a file is left"

# What has no time tells a rate. That of Matroska's ticks is none.
rate() {        # rate FILE
    ffprobe -v error -select_streams v -show_entries stream=avg_frame_rate -of csv=p=0 "$1"
}
ffmpeg -v error -i in.mp4 -c copy ticks.mkv
for end in avi h264; do
    # shellcheck disable=SC2086
    l2d run -i ticks.mkv -o rate.$end $same
    is "the rate of $end" "$(rate rate.$end)" 25/1
done

# Where samples are counted, silence is what keeps sound in time, and MXF's pictures in the file.
sounds() {      # sounds FILE: where the silence in its sound begins and ends, in tenths
    ffmpeg -hide_banner -i "$1" -vn -af silencedetect=noise=-40dB:duration=0.2 -f null - 2>&1 |
        sed -n 's/.*silence_\(start\|end\): \([0-9]*\)\(\.[0-9]\)\?.*/\2\3/p' | tr '\n' ' '
}
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=25:duration=6 -f lavfi \
    -i sine=sample_rate=44100:duration=5 -af "aselect=between(t\,0.5\,1)+gt(t\,4)" -c:v libx264 \
    hole.mkv
for end in avi mxf; do
    # shellcheck disable=SC2086
    l2d run -i hole.mkv -o hole.$end $same
    is "sound with gaps in $end: pictures" "$(count_frames hole.$end | grep . | sort -u)" 150
    case $(sounds hole.$end) in
    "0 0.5 1.0 4.0 5.0"*) ;;
    *) fail "sound with gaps in $end: silence at $(sounds hole.$end)" ;;
    esac
done

# Encoders that would print by themselves.
for encoder in libx265 libsvtav1; do
    if ffmpeg -v error -encoders | grep -q $encoder; then
        # shellcheck disable=SC2086
        l2d run -q -i in.mp4 -c $encoder -o $encoder.mkv $same
        is "$encoder prints nothing" "$(cat said)" ""
    fi
done

# Encoders and readers that wait.
if ffmpeg -v error -encoders | grep -q libsvtav1; then
    : >exists.mkv
    # shellcheck disable=SC2086
    timeout 60 "$program" run -i in.mp4 -c libsvtav1 -o exists.mkv $same 2>said
    is "an encoder that has had no picture: exit status" $? 1
fi
end_it() {      # end_it SECONDS: the run in the background, after so many; its status is $?
    pid=$!
    sleep "$1"
    kill -TERM $pid
    ( sleep 40; kill -KILL $pid 2>/dev/null ) &
    wait $pid
}
mkfifo unread.mkv
# shellcheck disable=SC2086
"$program" run -i in.mp4 -o unread.mkv $same 2>said &
end_it 1
is "a FIFO that nobody opens: exit status" $? 1
grep -q "unread.mkv: stopped" said || fail "a FIFO that nobody opens: $(cat said)"
mkfifo stuck.mkv
exec 9<>stuck.mkv               # opened, and never read
# shellcheck disable=SC2086
"$program" run -f lavfi -i testsrc2=size=256x256:rate=25 -o stuck.mkv -o good.mkv --passthrough \
    --size 256x256 2>said &
end_it 2
is "a FIFO that nobody reads: exit status" $? 1
grep -q "stuck.mkv: nobody took the rest" said || fail "a FIFO that nobody reads: $(cat said)"
exec 9<&-
frames=$(count_frames good.mkv)
[ "${frames:-0}" -gt 5 ] || fail "a FIFO that nobody reads: $frames frames beside it: $(cat said)"
mkfifo read.mkv
cat read.mkv >got.mkv &
# shellcheck disable=SC2086
l2d run -i in.mp4 -o read.mkv $same
wait $!
is "a FIFO that somebody reads" "$(count_frames got.mkv)" 10

# Inputs that are whole, and say so.
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=1 -frames:v 60 -c:v libx264 -bf 3 slow.mp4
# shellcheck disable=SC2086
l2d run -i slow.mp4 -o null $same
! grep -q truncated said || fail "slow.mp4: $(grep truncated said)"
ffmpeg -v error -i in.mp4 -c copy -output_ts_offset 36000 late.mkv
# shellcheck disable=SC2086
l2d run -i late.mkv -o null $same
! grep -q truncated said || fail "late.mkv: $(grep truncated said)"
done_testing
