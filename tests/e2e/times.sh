#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Frames, times and sound come through as they were, without a model so that it is quick.
. "$(dirname "$0")/lib.sh"
same="--passthrough --size 64x64"

clip_with_sound in.mp4 2
# shellcheck disable=SC2086
for out in out.mp4 out.mkv out.mov; do
    l2d run -i in.mp4 -o $out $same
    is "$out: frames" "$(count_frames $out)" 50
    frame_times in.mp4 >want
    frame_times $out >got
    at_most "$out: times of frames, s" "$(max_distance want got)" 0.0011
    # Matroska has no time before 0, where the encoder's run-in lies.
    audio_times in.mp4 | awk '$1 >= 0' >want
    audio_times $out | awk '$1 >= 0' >got
    at_most "$out: times of sound, s" "$(max_distance want got)" 0.0011
done
ffmpeg -v error -i in.mp4 -map 0:a -c copy -f md5 - >want
ffmpeg -v error -i out.mov -map 0:a -c copy -f md5 - >got
is "sound is copied, not encoded anew" "$(cat got)" "$(cat want)"
# shellcheck disable=SC2086
l2d run -i in.mp4 -o silent.mp4 $same --audio none
is "--audio none" "$(audio_times silent.mp4)" ""
# shellcheck disable=SC2086
l2d run -i in.mp4 -o webm.webm $same
is "sound for a container that cannot hold it is encoded" \
    "$(ffprobe -v error -select_streams a -show_entries stream=codec_name -of csv=p=0 \
       webm.webm)" opus

# A rate that varies: 40 ms, with gaps that no constant rate has.
ffmpeg -v error -f lavfi -i testsrc2=size=64x64:rate=25 -frames:v 30 \
    -vf "setpts='(N*40+mod(N*N,7)*5+if(gt(N,20),333,0))/1000/TB',settb=1/1000" -vsync passthrough \
    -c:v libx264 -preset ultrafast -pix_fmt yuv420p vfr.mkv
for out in vfr-out.mkv vfr-out.mp4; do
    # shellcheck disable=SC2086
    l2d run -i vfr.mkv -o $out $same
    frame_times vfr.mkv >want
    frame_times $out >got
    at_most "$out: variable times, s" "$(max_distance want got)" 0.000001
done
# shellcheck disable=SC2086
l2d run -i vfr.mkv -o cfr.mp4 $same --fps 30
is "--fps 30" "$(ffprobe -v error -select_streams v -show_entries stream=r_frame_rate \
                 -of csv=p=0 cfr.mp4)" 30/1

# A part of the input.
# shellcheck disable=SC2086
l2d run -i in.mp4 -o part.mp4 $same --start 1 --frames 10
is "--start --frames" "$(count_frames part.mp4)" 10
audio_times part.mp4 | tail -n 1 >got
at_most "sound ends with the last frame, s" "$(cat got)" 0.42

# Several outputs; standard output; standard input.
# shellcheck disable=SC2086
"$program" run -i in.mp4 -o one.mp4 -o two.mkv -o null -o - $same --json report.json \
    >three.y4m 2>said || fail "several outputs: $(tail -n 1 said)"
for out in one.mp4 two.mkv three.y4m; do
    is "several outputs: $out" "$(count_frames $out)" 50
done
counts='"frames":{"in":50,"out":50,"similar":0,"moved":0,"dropped":{"late":0,"stopped":0,'
counts="$counts"'"overtaken":0,"backlog":0},"held":0,"unaccounted":0}'
is "report: frames" "$(tr -d ' \n' <report.json | grep -o "$counts")" "$counts"
grep -q '50 in = 50 out + 0 dropped' said || fail "summary: $(cat said)"
ffmpeg -v error -i in.mp4 -c copy -f matroska - 2>ffmpeg.log |
    "$program" run -i - -o piped.mp4 --passthrough --size 64x64 2>said || fail "$(tail -n 1 said)"
is "from standard input" "$(count_frames piped.mp4)" 50
ffmpeg -v error -i in.mp4 -an -f yuv4mpegpipe - 2>ffmpeg.log |
    "$program" run -i - -o y4m.mp4 --passthrough --size 64x64 2>said || fail "$(tail -n 1 said)"
is "Y4M from standard input" "$(count_frames y4m.mp4)" 50
# shellcheck disable=SC2086
l2d run -i in.mp4 -c auto -o auto.mp4 $same
grep -qE 'encoder h264_|using software' said || fail "-c auto: which encoder? $(cat said)"
is "-c auto" "$(count_frames auto.mp4)" 50
# shellcheck disable=SC2086
l2d run -i in.mp4 -o hls.m3u8 $same
is "HLS" "$(count_frames hls.m3u8 | head -n 1)" 50
"$program" run -f lavfi -i testsrc2=size=64x64:rate=10:duration=1 -o lavfi.mp4 --passthrough \
    --size 64x64 2>said || fail "$(tail -n 1 said)"
is "-f lavfi" "$(count_frames lavfi.mp4)" 10

# Colours: bars of 16 pixels; what is compared is the middle of each.
for matrix in bt601:smpte170m:64 bt709:bt709:1080; do
    name=${matrix%%:*}
    rest=${matrix#*:}
    height=${rest#*:}
    width=128
    bars="scale=in_color_matrix=bt601:out_color_matrix=$name,format=yuv420p,setparams=range=tv"
    ffmpeg -v error -f lavfi -i "pal75bars=size=${width}x$height" -frames:v 1 -vf "$bars" \
        -c:v ffv1 -colorspace "${rest%%:*}" -color_range tv "bars-$name.mkv"
    l2d run -i "bars-$name.mkv" -c ffv1 -o "bars-$name-out.mkv" --passthrough \
        --size "${width}x$height"
    middles="scale=8:2:flags=neighbor"
    ffmpeg -v error -y -i "bars-$name.mkv" -vf "format=yuv444p,$middles" -f rawvideo want
    ffmpeg -v error -y -i "bars-$name-out.mkv" -vf "format=yuv444p,$middles" -f rawvideo got
    at_most "colour bars, $name: difference" "$(max_difference want got)" 2
    is "tag of $name" "$(ffprobe -v error -show_entries stream=color_space -of csv=p=0 \
                         "bars-$name-out.mkv" | head -n 1)" "${rest%%:*}"
done

# The same bars as HDR: the light of SDR, which comes back as it was but for white, which makes room
# for what is brighter. Next to black a step of PQ's 10 bits is ten of a byte's.
ffmpeg -v error -i bars-bt709.mkv -vf "zscale=tin=bt709:pin=bt709:t=smpte2084:p=bt2020:m=bt2020nc:\
npl=203,format=yuv444p10" -c:v ffv1 -color_trc smpte2084 -color_primaries bt2020 \
    -colorspace bt2020nc -color_range tv bars-pq.mkv
l2d run -i bars-pq.mkv -c ffv1 -o bars-pq-out.mkv --passthrough --size 128x1080
middles="format=yuv444p,crop=112:1080:16:0,scale=7:2:flags=neighbor"
ffmpeg -v error -y -i bars-bt709.mkv -vf "$middles" -f rawvideo want
ffmpeg -v error -y -i bars-pq-out.mkv -vf "$middles" -f rawvideo got
at_most "colour bars, PQ: difference" "$(max_difference want got)" 12
is "tag of PQ" "$(ffprobe -v error -show_entries stream=color_transfer -of csv=p=0 \
                  bars-pq-out.mkv | head -n 1)" bt709

# Upright, and square pixels.
ffmpeg -v error -i in.mp4 -frames:v 3 -vf scale=96:64,setsar=1 -c:v libx264 -pix_fmt yuv420p -an \
    wide.mp4
ffmpeg -v error -i wide.mp4 -c copy -metadata:s:v rotate=90 turned.mp4
l2d run -i turned.mp4 -o upright.mp4 --passthrough
is "rotation is applied" "$(ffprobe -v error -show_entries stream=width,height -of csv=p=0 \
                            upright.mp4)" 64,96
ffmpeg -v error -i in.mp4 -frames:v 3 -vf setsar=2 -c:v libx264 -pix_fmt yuv420p -an sar.mp4
l2d run -i sar.mp4 -o square.mp4 --passthrough
is "sample aspect ratio is applied" "$(ffprobe -v error -show_entries stream=width,height \
                                       -of csv=p=0 square.mp4)" 128,64

done_testing
