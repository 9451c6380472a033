#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# The shipped model end to end, small: as many frames out as in, the same ones every time, and the
# same ones from both schedules.
. "$(dirname "$0")/lib.sh"

# From nothing but the start of the warm-up to the first streamed frames, one step and three.
clip twenty.mp4 20
for frames in 1 2 7 8 9 11; do
    for steps in 25/50 15,25,37/50; do
        l2d run -i twenty.mp4 -o out.mkv -y $small --frames $frames --steps $steps
        is "$frames frames, steps $steps" "$(count_frames out.mkv)" $frames
    done
done
frame_times out.mkv >got
frame_times twenty.mp4 | head -n 11 >want
at_most "times, s" "$(max_distance want got)" 0.0011

# Bitwise the same again; another seed is another picture.
l2d run -i twenty.mp4 -o a.mkv $small --steps 25,37/50
l2d run -i twenty.mp4 -o b.mkv $small --steps 25,37/50
is "a second run is the same" "$(frame_hash b.mkv)" "$(frame_hash a.mkv)"
l2d run -i twenty.mp4 -o c.mkv $small --steps 25,37/50 --seed 2
[ "$(frame_hash c.mkv)" != "$(frame_hash a.mkv)" ] || fail "the seed changes nothing"
l2d run -i twenty.mp4 -o d.mkv $small --steps 25,37/50 -p "a pencil drawing"
[ "$(frame_hash d.mkv)" != "$(frame_hash a.mkv)" ] || fail "the prompt changes nothing"

# A timeline: each change is there from its frame on, in both schedules and every time.
cat >timeline.jsonl <<END
{"at": 0, "prompt": "a pencil drawing"}
{"at": 0.4, "prompt": "neon lights", "fade": 0.12, "easing": "smooth"}
{"at": 0.56, "steps": "37/50"}
{"at": 0.68, "show": "source"}
END
for run in batch batch sequential; do
    l2d run -i twenty.mp4 -c ffv1 -o line-$run.mkv -y $small --steps 25,37/50 --schedule $run \
        --precision fp32 --timeline timeline.jsonl
    frame_hashes line-$run.mkv >line-$run
    [ -f line-first ] || cp line-$run line-first
    cmp line-first line-$run || fail "timeline, $run: other frames"
done
l2d run -i twenty.mp4 -c ffv1 -o line-none.mkv $small --steps 25,37/50 --precision fp32 \
    -p "a pencil drawing"
frame_hashes line-none.mkv >line-none
is "frames before the first change" "$(cmp line-none line-first | sed 's/.*line //')" 11
is "frames with a timeline" "$(count_frames line-batch.mkv)" 20

# The cache: int8 is the default with fp16, fp32 with fp32; the pictures are nearly the same.
for kv in fp16 int8 auto; do
    l2d run -i twenty.mp4 -c ffv1 -o kv-$kv.mkv $small --steps 25,37/50 --kv-cache $kv \
        --json kv.json
    grep -q "\"kv_cache\": \"$(echo $kv | sed s/auto/int8/)\"" kv.json ||
        fail "--kv-cache $kv: $(cat kv.json)"
    raw_video kv-$kv.mkv >kv-$kv.raw
done
is "int8 is the default" "$(frame_hash kv-auto.mkv)" "$(frame_hash kv-int8.mkv)"
at_most "int8 against fp16, levels" "$(max_difference kv-fp16.raw kv-int8.raw)" 3
refuses 1 "--kv-cache fp16: .*fp32" run -i twenty.mp4 -o null $small --precision fp32 \
    --kv-cache fp16
[ "$("$program" inspect --precision fp32 | grep -c 'KV cache .*fp32')" = 1 ] || fail "inspect: fp32"

# Guidance: both schedules draw the same; what is pushed away from is seen.
for mode in full self initialize; do
    for schedule in batch sequential; do
        l2d run -i twenty.mp4 -c ffv1 -o $mode-$schedule.mkv $small --frames 12 --steps 25,37/50 \
            --guidance 1.5 --guidance-mode $mode --schedule $schedule --precision fp32 --json g.json
    done
    is "guidance $mode: batch and sequential" "$(frame_hash $mode-batch.mkv)" \
        "$(frame_hash $mode-sequential.mkv)"
    grep -q "\"guidance_mode\": \"$mode\"" g.json || fail "guidance $mode: $(cat g.json)"
done
l2d run -i twenty.mp4 -c ffv1 -o negative.mkv $small --frames 12 --steps 25,37/50 \
    --guidance 1.5 --guidance-mode full --negative "neon lights" --precision fp32
[ "$(frame_hash negative.mkv)" != "$(frame_hash full-batch.mkv)" ] || fail "--negative does nothing"

refuses 1 "--clip-skip 2: .*0 to 1" run -i twenty.mp4 -o null $small --clip-skip 2

# A still clip: most frames repeat the one before, and all have their time.
ffmpeg -v error -f lavfi -i "color=teal:size=64x64:rate=25" -frames:v 30 -c:v ffv1 still.mkv
l2d run -i still.mkv -c ffv1 -o skipped.mkv $small --skip-similar --json skipped.json
is "similar frames" "$(grep -c '"similar": 20' skipped.json)" 1
frame_times skipped.mkv >got
frame_times still.mkv >want
at_most "times with similar frames, s" "$(max_distance want got)" 0.0011

# Every second frame drawn: as many frames, at their times, from files as live.
l2d run -i twenty.mp4 -c ffv1 -o moved.mkv $small --draw-every 2 --json moved.json
is "frames that are moved" "$(grep -c '"moved": 6' moved.json)" 1
frame_times moved.mkv >got
frame_times twenty.mp4 >want
at_most "times with every second frame drawn, s" "$(max_distance want got)" 0.0011
l2d run --realtime -i twenty.mp4 -o null $small --draw-every 2 --json live.json
is "every frame is accounted for" "$(grep -c '"unaccounted": 0' live.json)" 1

# A mask: the source where it is black, what is drawn where it is white, though that is enlarged.
ffmpeg -v error -f lavfi -i color=white:size=8x8 -vf "geq=lum=255*lt(X\,4):cb=128:cr=128" \
    -frames:v 1 mask.png
l2d run -i twenty.mp4 -c ffv1 -o unmasked.mkv $small --frames 9 --enlarge 2
l2d run -i twenty.mp4 -c ffv1 -o masked.mkv $small --frames 9 --enlarge 2 --mask mask.png
l2d run -i twenty.mp4 -c ffv1 -o source.mkv --passthrough --size 128x128 --frames 9
left="crop=48:128:0:0" right="crop=48:128:80:0"
raw_video masked.mkv $left >left.yuv
raw_video unmasked.mkv $left >drawn.yuv
at_most "white, levels" "$(max_difference left.yuv drawn.yuv)" 0
raw_video masked.mkv $right >right.yuv
raw_video source.mkv $right >source.yuv
at_most "black, levels" "$(max_difference right.yuv source.yuv)" 1

# Enlarged: what is drawn at 64x64, as near as another way to enlarge it is.
l2d run -i twenty.mp4 -c ffv1 -o drawn.mkv $small --frames 9
l2d run -i twenty.mp4 -c ffv1 -o enlarged.mkv $small --frames 9 --enlarge 1.5
is "--enlarge 1.5" "$(ffprobe -v error -show_entries stream=width,height -of csv=p=0 \
                      enlarged.mkv)" 96,96
raw_video drawn.mkv scale=96:96:flags=bicubic >drawn.yuv
raw_video enlarged.mkv >enlarged.yuv
at_most "enlarged, levels" "$(max_difference drawn.yuv enlarged.yuv)" 24

# Sources that a change of mix would need, and that lavapipe cannot bind, are done without.
large="--size 176x176 --enlarge 4 --draw-every 4 --chunk 8 --frames 1"
echo '{"at": 0, "mix": 0}' >no-mix.jsonl
# shellcheck disable=SC2086
l2d run -i twenty.mp4 -o null --control 127.0.0.1:0 $large
# shellcheck disable=SC2086
l2d run -i twenty.mp4 -o null --timeline no-mix.jsonl $large

# A cut: the model forgets the scene before, unless told not to, and no frame is lost for it.
ffmpeg -v error -f lavfi -i "color=black:size=64x64:rate=25:duration=0.48" -f lavfi \
    -i "testsrc=size=64x64:rate=25:duration=0.52" -filter_complex concat -c:v ffv1 cut.mkv
for rewarm in auto never; do
    l2d run -i cut.mkv -c ffv1 -o cut-$rewarm.mkv $small --rewarm $rewarm --json cut-$rewarm.json
    is "frames, --rewarm $rewarm" "$(count_frames cut-$rewarm.mkv)" 25
done
is "re-warms after a cut" "$(grep -c '"rewarms": 2' cut-auto.json)" 1
is "none if never" "$(grep -c '"rewarms": 0' cut-never.json)" 1
frame_hashes cut-auto.mkv >auto
frame_hashes cut-never.mkv >never
is "frames before the cut" "$(cmp auto never | sed 's/.*line //')" 13

# Prompts: weights and blends; one line about what is wrong, and about what does not fit.
l2d run -i twenty.mp4 -o weighted.mkv $small --frames 2 -p "a (pencil drawing:1.5) :2 | ink :1"
refuses 1 "prompt: column 10: a weight" run -i twenty.mp4 -o null $small -p "a (pencil:9)"
long="a pencil drawing of a very small house by the sea at night with boats and birds and a moon"
l2d run -i twenty.mp4 -o null $small --frames 1 -p "$long, $long"
is "one warning names what is cut" "$(grep -c 'too long by .* not used is "' said)" 1

for steps in 25,37/50 10,20,30,40/50; do
    for schedule in batch sequential; do
        l2d run -i twenty.mp4 -c ffv1 -o $schedule.mkv -y $small --steps $steps \
            --precision fp32 --schedule $schedule
        raw_video $schedule.mkv >$schedule.yuv
    done
    at_most "steps $steps: batch and sequential, fp32, difference" \
        "$(max_difference batch.yuv sequential.yuv)" 1
done

# From a file into files it is chunks, with the same pictures, also of a cut.
for chunk in auto 1 3; do
    l2d run -i cut.mkv -c ffv1 -o chunk-$chunk.mkv $small --chunk $chunk --json chunk.json
    is "chunk $chunk: frames" "$(frame_hash chunk-$chunk.mkv)" "$(frame_hash cut-auto.mkv)"
    is "chunk $chunk" "$(grep -c "\"chunk\": $(echo $chunk | sed s/auto/8/)," chunk.json)" 1
done
l2d run -i cut.mkv -c ffv1 -o chunk-batch.mkv $small --schedule batch --json chunk.json
is "a schedule has no chunks" "$(grep -c '"chunk": 1,' chunk.json)" 1
is "a schedule: frames" "$(frame_hash chunk-batch.mkv)" "$(frame_hash cut-auto.mkv)"
refuses 1 "--chunk 4: cut.mkv is live" run -i cut.mkv -o null $small --chunk 4 --realtime
refuses 1 "--weights int8: .* tier 0.* --tier 1" run -i cut.mkv -o null $small --weights int8

l2d run -i twenty.mp4 -o dump.mkv $small --frames 9 --dump activations
is "--dump writes a file per frame" "$(find activations -name "frame_*" | wc -l)" 9

# What the prompt says is what is seen: brightness and saturation, 0 to 255, of one frame.
seen() {                # seen PROMPT CHANNEL [option]
    l2d run -i "$source_dir/samples/clips/moose.mp4" -c ffv1 -o seen.mkv -y --size 128x128 \
        --frames 1 ${3:--p "$1"}
    ffprobe -v error -f lavfi -i "movie=seen.mkv,signalstats" -show_entries \
        "frame_tags=lavfi.signalstats.$2" -of csv=p=0 | head -n 1
}
scaled() {
    awk "BEGIN { print $1 * $2 }"
}
source_light=$(seen "" YAVG --passthrough)
at_most "a pencil sketch is gray, saturation" "$(seen "a pencil sketch" SATAVG)" 8
at_most "neon is dark" "$(seen "neon lights" YAVG)" "$(scaled "$source_light" .8)"
at_most "a watercolor is light" "$(scaled "$source_light" 1.1)" "$(seen "a watercolor" YAVG)"
at_most "sepia is not blue" "$(seen "a cartoon, sepia" UAVG)" 122
plain=$(seen "" YAVG)
at_most "no prompt: not brighter" "$plain" "$(scaled "$source_light" 1.06)"
at_most "no prompt: not darker" "$(scaled "$source_light" .94)" "$plain"

# The other commands.
l2d devices >devices.txt
grep -qE '^0 .*T[01]' devices.txt || fail "devices: $(cat devices.txt)"
l2d inspect --size 64x64 >inspect.txt
grep -qE 'peak .* MiB .*: it fits' inspect.txt || fail "inspect: $(cat inspect.txt)"
grep -qE 'dispatches +[1-9]' inspect.txt || fail "inspect: no dispatches: $(cat inspect.txt)"
l2d inspect --size 64x64 --load >loaded.txt
grep -q 'loaded:' loaded.txt || fail "inspect --load: $(cat loaded.txt)"
refuses 1 "description without weights" inspect "$source_dir/tests/data/tiny3/model.json" --load
l2d bench --size 64x64 --frames 2 --profile >bench.txt
grep -qE 'conv_t[01]' bench.txt || fail "bench --profile: $(cat bench.txt)"
l2d bench --size 64x64 --frames 2 --json - >bench.json
grep -q '"fps": ' bench.json || fail "bench --json: $(cat bench.json)"
l2d bench --size 64x64 --frames 2 --what all --sweep 64x64/2,32x64/1 --json bench.json >bench.txt
for key in '"rewarm_ms": [1-9]' '"ceilings": ' '"of_ceiling": ' '"kernel_families": ' '"unet": ' \
    '"sweep": '; do
    grep -q "$key" bench.json || fail "bench --what all: no $key: $(cat bench.json)"
done
is "calls of the UNet" "$(grep -c '"p99_ms": ' bench.json)" 6
is "sizes of the sweep" "$(grep -cE '^ +(64x64|32x64) +[12] ' bench.txt)" 2
# What is measured is kept, and what is kept and damaged does no harm.
XDG_CACHE_HOME=$PWD/tuned "$program" bench --size 64x64 --frames 2 --tune again --what kernels \
    >bench.txt || fail "bench --tune again"
grep -qE 'conv_t0 +32x32 ' bench.txt || fail "bench --what kernels: no variants: $(cat bench.txt)"
is "measured and kept" "$(ls tuned/live2diff | grep -c '^choices-')" 1
for kept in tuned/live2diff/choices-*; do echo damaged >"$kept"; done
XDG_CACHE_HOME=$PWD/tuned "$program" run -i twenty.mp4 -o tuned.mkv $small --frames 2 --tune again \
    2>said || fail "run --tune again: $(cat said)"
is "measured again" "$(head -n 1 tuned/live2diff/choices-* | cut -d ' ' -f 1-2)" "live2diff choices"

# Any even size; a shape that changes on the way.
for size in 2x2 34x50 96x64; do
    l2d run -i twenty.mp4 -o any.mp4 -y --size $size --frames 9
    is "--size $size" "$(ffprobe -v error -show_entries stream=width,height -of csv=p=0 any.mp4)" \
        "$(echo $size | tr x ,)"
done
ffmpeg -v error -f lavfi -i testsrc2=size=96x64:rate=25 -frames:v 9 -c:v mpeg2video -f mpegts a.ts
ffmpeg -v error -f lavfi -i testsrc2=size=64x96:rate=25 -frames:v 9 -c:v mpeg2video -f mpegts b.ts
cat a.ts b.ts >changing.ts
l2d run -i changing.ts -o changing.mp4 $small
at_least=$(count_frames changing.mp4)
[ "$at_least" -ge 16 ] || fail "changing size: $at_least frames"

refuses 1 "[Pp]rompt.*UTF-8|UTF-8.*prompt" run -i twenty.mp4 -o null $small \
    -p "$(printf 'bad \377 prompt')"
l2d run -i twenty.mp4 -o null $small --frames 1 -p ""
l2d run -i twenty.mp4 -o null $small --frames 1 -p "$(seq 1 200 | tr '\n' ' ')"
grep -q 'warning.*prompt' said || fail "a long prompt: no warning: $(cat said)"
refuses 1 "steps" run -i twenty.mp4 -o null $small --steps 37,25/50
refuses 1 "steps" run -i twenty.mp4 -o null $small --steps 1,2,3,4,5,6,7,8,9/50

# Weights that do not fit the config, or are not numbers; the first names its tensor.
cp -r "$source_dir/samples/models/paint-s" broken
mv broken/vae.safetensors broken/unet.safetensors
cp "$source_dir/samples/models/paint-s/vae.safetensors" broken
refuses 1 "unet\.safetensors.*tensor|unet\.safetensors.*conv_in" run -m broken -i twenty.mp4 \
    -o broken.mp4 $small
[ ! -e broken.mp4 ] || fail "broken.mp4 was left behind"
cp "$source_dir/samples/models/paint-s/unet.safetensors" broken
size=$(wc -c <broken/unet.safetensors)
printf '\377\177\377\177' | dd of=broken/unet.safetensors bs=1 seek=$((size - 64)) conv=notrunc \
    2>dd.log
refuses 1 "not numbers|not finite" run -m broken -i twenty.mp4 -o broken.mp4 $small
[ ! -e broken.mp4 ] || fail "broken.mp4 was left behind"
refuses 1 "memory" run -i twenty.mp4 -o null --size 16384x16384
refuses 1 "[Dd]evice|99" run -i twenty.mp4 -o null --device 99
VK_DRIVER_FILES=/nonexistent VK_ICD_FILENAMES=/nonexistent
export VK_DRIVER_FILES VK_ICD_FILENAMES
refuses 1 "mesa-vulkan-drivers" run -i twenty.mp4 -o null $small

done_testing
