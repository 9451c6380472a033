#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Wrong options and bad inputs that are noticed before a GPU is asked for: one clear line, the right
# exit status, nothing left behind.
. "$(dirname "$0")/lib.sh"

for command in run ctl bench inspect import devices; do
    if "$program" $command --help | grep -q "Usage: live2diff $command"; then
        pass "$command --help"
    else
        fail "$command --help"
    fi
done
"$program" --version | grep -qE '^live2diff [0-9]+\.[0-9]+' || fail "--version"

clip a.mp4 3
refuses 2 "unknown command 'frobnicate'" frobnicate
refuses 2 "no input" run -o null
refuses 2 "no output" run -i a.mp4
refuses 2 "unknown.*'--frobnicate'" run --frobnicate
refuses 2 "unknown option '-Z'" run -Z
refuses 2 "unexpected argument 'b.mp4'" run -i a.mp4 -o null b.mp4
refuses 2 "needs a value: WxH" run -i a.mp4 -o null --size
refuses 2 "takes no value" run -i a.mp4 -o null --quiet=3
refuses 2 "--size '64'.*such as 512x288" run -i a.mp4 -o null --size 64
refuses 2 "--size '63x64'" run -i a.mp4 -o null --size 63x64
refuses 2 "--size '99999x64'" run -i a.mp4 -o null --size 99999x64
refuses 2 "--fit 'squash'.*cover\|contain\|stretch" run -i a.mp4 -o null --fit squash
refuses 2 "--schedule 'x'.*batch\|sequential" run -i a.mp4 -o null --schedule x
refuses 2 "--noise 'x'.*shared" run -i a.mp4 -o null --noise x
refuses 2 "--precision 'fp8'.*fp16" run -i a.mp4 -o null --precision fp8
refuses 2 "--kv-cache 'x'.*int8" run -i a.mp4 -o null --kv-cache x
refuses 2 "--prompt-syntax 'x'.*brackets" run -i a.mp4 -o null --prompt-syntax x
refuses 2 "--guidance 'x'.*such as 1.5" run -i a.mp4 -o null --guidance x
refuses 2 "--guidance '-2'" run -i a.mp4 -o null --guidance -2 --guidance-mode full
refuses 2 "--guidance 0.5: expected 1 to 100" run -i a.mp4 -o null --guidance 0.5
refuses 2 "--guidance needs a --guidance-mode" run -i a.mp4 -o null --guidance 1.5
refuses 2 "--guidance-mode 'x'.*initialize" run -i a.mp4 -o null --guidance-mode x
refuses 2 "--guidance-mode needs a --guidance" bench --guidance-mode full
refuses 2 "--negative needs" run -i a.mp4 -o null --negative x
refuses 2 "--negative needs" run -i a.mp4 -o null --guidance 2 --guidance-mode self --negative x
refuses 2 "--guidance-delta needs" inspect --guidance 2 --guidance-mode full --guidance-delta 1
refuses 2 "--guidance-delta 101" inspect --guidance 2 --guidance-mode self --guidance-delta 101
refuses 2 "--clip-skip 'x'.*whole number" run -i a.mp4 -o null --clip-skip x
refuses 2 "--skip-similar 'x'.*such as 0.98" run -i a.mp4 -o null --skip-similar=x
refuses 2 "--skip-similar=1.5: expected 0 to 1" run -i a.mp4 -o null --skip-similar=1.5
refuses 2 "unexpected argument '0.9'" run -i a.mp4 -o null --skip-similar 0.9
refuses 2 "--skip-similar goes neither" run -i a.mp4 -o null --skip-similar --dump d
refuses 2 "--record-timeline -: it is a file" run -i a.mp4 -o null --record-timeline -
refuses 2 "--enlarge 5: expected 1 to 4" run -i a.mp4 -o null --enlarge 5
refuses 2 "--draw-every '5': expected" run -i a.mp4 -o null --draw-every 5
refuses 2 "--draw-every goes neither" run -i a.mp4 -o null --draw-every 2 --passthrough
refuses 2 "--draw-every goes neither" run -i a.mp4 -o null --draw-every 2 --skip-similar
refuses 2 "--buffer '2001': expected milliseconds" run -i a.mp4 -o null --buffer 2001
refuses 2 "--buffer 'x': expected milliseconds" run -i a.mp4 -o null --buffer x
refuses 2 "--mix '1.1': expected 0 to 1" run -i a.mp4 -o null --mix 1.1
refuses 2 "passthrough uses no model.*--mix" run -i a.mp4 -o null --passthrough --mask m.png
refuses 1 "no-mask.png: No such file" run --wait -i rtmp://127.0.0.1:1/a -o null --mask no-mask.png
refuses 2 "--steady '1': expected 0 to 0.95" run -i a.mp4 -o null --steady 1
refuses 2 "--steady 'nan': expected" run -i a.mp4 -o null --steady nan
refuses 2 "--rewarm 'x'.*auto, never" run -i a.mp4 -o null --rewarm x
refuses 2 "--rewarm '-1'.*auto, never" run -i a.mp4 -o null --rewarm -1
refuses 1 "nosuch.*No such file" run -i a.mp4 -o null --timeline nosuch
echo '{"at": 1, "promt": "a"}' >typo.jsonl
refuses 1 "typo.jsonl:1: .*promt" run -i a.mp4 -o null --timeline typo.jsonl
echo '{"at": 1, "negative": "a"}' >negative.jsonl
refuses 1 "negative.jsonl:1: negative: needs --guidance" run -i a.mp4 -o null \
    --timeline negative.jsonl
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough --timeline typo.jsonl
refuses 2 "--record-timeline: .*control character" run -i a.mp4 -o null --record-timeline record \
    -p "$(printf 'a\nb')"
refuses 2 "--steps '25'.*25,37/50" run -i a.mp4 -o null --steps 25
refuses 2 "--more-steps 'x'.*25,37/50" run -i a.mp4 -o null --more-steps x
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough --more-steps 43/50
refuses 2 "--deadline 'x'.*milliseconds" run -i a.mp4 -o null --deadline x
refuses 2 "--deadline '0'.*above 0" run -i a.mp4 -o null --deadline 0 --more-steps 43/50
refuses 2 "--deadline needs --more-steps" run -i a.mp4 -o null --deadline 200
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough --deadline 200
refuses 1 "--deadline: a.mp4 is not live" run -i a.mp4 -o null --more-steps 43/50 --deadline 200
refuses 2 "--chunk '9': expected one of auto" run -i a.mp4 -o null --chunk 9
refuses 2 "--chunk goes neither" run -i a.mp4 -o null --chunk 2 --passthrough
refuses 2 "--chunk goes neither" run -i a.mp4 -o null --chunk 2 --dump d
refuses 2 "--chunk 2 is a schedule" run -i a.mp4 -o null --chunk 2 --schedule batch
refuses 2 "--frames '-1'" run -i a.mp4 -o null --frames -1
refuses 2 "--frames '5x'" run -i a.mp4 -o null --frames 5x
refuses 2 "--start 'noon'" run -i a.mp4 -o null --start noon
refuses 2 "--fps '0'" run -i a.mp4 -o null --fps 0
refuses 2 "--seed '99999999999999999999'" run -i a.mp4 -o null --seed 99999999999999999999
refuses 2 "--seed 9007199254740992: at most 9007199254740991," run -i a.mp4 -o null \
    --seed 9007199254740992
refuses 2 "--audio 'loud'.*copy" run -i a.mp4 -o null --audio loud
refuses 2 "--folder missing: No such file" run -i a.mp4 -o null --folder missing
refuses 2 "--folder a.mp4: Not a directory" run -i a.mp4 -o null --folder a.mp4
refuses 2 "--wait is for addresses.*not for a.mp4" run -i a.mp4 -o null --wait
refuses 2 "--wait 'x'.*a number" run -i rtmp://a/b -o null --wait=x
refuses 2 "--on-loss 'x'.*hold\|slate\|end" run -i a.mp4 -o null --on-loss x
refuses 1 "a\.mp4: cannot wait for a sender" run --listen -i a.mp4 -o null --passthrough
refuses 1 "dev/video99" run -i /dev/video99 -o null --passthrough
refuses 1 "127\.0\.0\.1:1/x: Connection refused" run -i rtmp://127.0.0.1:1/x -o null --passthrough
for url in http://a:b@no.invalid:80/x rtmp://no.invalid/x rtsp://no.invalid/x; do
    refuses 1 "$url: host 'no\.invalid' is not found" run -i $url -o null --passthrough
done
refuses 1 "host 'no\.invalid' is not found" run -i a.mp4 -o rtsp://no.invalid/x --passthrough
refuses 2 "there is an input already" run -i a.mp4 -i a.mp4 -o null
refuses 2 "belong before" run -i a.mp4 -o null -f matroska
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough -p x
refuses 2 "standard output" run -i a.mp4 -o - --json - --passthrough
refuses 2 "--frames" bench --frames 0
refuses 2 "--what 'x'.*kernels" bench --what x
refuses 2 "--sweep '64x64'.*such as 256x256/1" bench --sweep 64x64
refuses 2 "--sweep '64x64/9'" bench --sweep 64x64/9

refuses 1 "missing\.mp4.*No such file" run -i missing.mp4 -o null --passthrough
: >empty.mp4
refuses 1 "empty\.mp4" run -i empty.mp4 -o null --passthrough
head -c 4096 /dev/urandom >noise.mp4
refuses 1 "noise\.mp4" run -i noise.mp4 -o null --passthrough
head -c 200 a.mp4 >stump.mp4
refuses 1 "stump\.mp4" run -i stump.mp4 -o null --passthrough
ffmpeg -v error -f lavfi -i sine=duration=1 sound.wav
refuses 1 "sound\.wav.*no video" run -i sound.wav -o null --passthrough
refuses 1 "a folder|[Ii]s a directory" run -i . -o null --passthrough
refuses 1 "a\.mp4.*start" run -i a.mp4 -o null --passthrough --start 100
refuses 1 "nosuchformat" run -f nosuchformat -i a.mp4 -o null --passthrough

refuses 1 "nowhere: No such file" inspect nowhere
refuses 1 "nowhere: No such file" inspect -m nowhere
refuses 2 "two models" inspect -m a b
refuses 2 "two models" inspect --config a b
refuses 2 "two models" run -i a.mp4 -o null --config x -m y
refuses 2 "two models" bench --config x -m y
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough --config x
refuses 1 "x\.yaml: No such file" run -i a.mp4 -o null --config x.yaml
refuses 1 "x\.yaml: No such file" inspect --config x.yaml
refuses 1 "x\.yaml: No such file" bench --config x.yaml
refuses 1 "nowhere\.json.*No such file" inspect nowhere.json

# Models that are not what they should be: what can be seen without a device.
copy_model() {
    rm -rf broken
    cp -r "$source_dir/samples/models/paint-s" broken
}
copy_model
rm broken/model.json
refuses 1 "broken/model\.json" inspect broken
copy_model
sed -i 's/"unet"/"unnet"/' broken/model.json
refuses 1 "model\.json.*unn?et" inspect broken
copy_model
echo '{ "format": ' >broken/model.json
refuses 1 "model\.json" inspect broken
copy_model
sed -i 's/"block_out_channels": \[64, 96, 96\]/"block_out_channels": [64, 96]/' broken/model.json
refuses 1 "model\.json.*unet" inspect broken
copy_model
rm broken/unet.safetensors
refuses 1 "unet\.safetensors" inspect broken
for file in model.json vocab.json merges.txt unet.safetensors; do
    copy_model
    rm broken/$file
    mkfifo broken/$file
    refuses 1 "$file: is not a regular file" inspect broken
done
copy_model
: >broken/unet.safetensors
refuses 1 "unet\.safetensors" inspect broken
copy_model
truncate -s -100 broken/vae.safetensors
refuses 1 "vae\.safetensors" inspect broken
copy_model
printf '\377\377\377\377\377\377\377\177' | dd of=broken/unet.safetensors conv=notrunc 2>dd.log
refuses 1 "unet\.safetensors.*header" inspect broken
printf '\001\341\365\005\000\000\000\000' | dd of=broken/unet.safetensors conv=notrunc 2>dd.log
refuses 1 "unet\.safetensors.*header" inspect broken

# ---- import
"$program" inspect "$source_dir/tests/data/torch/embedding_a1111.pt" >told
grep -q "with: live2diff import --embedding FILE:WORD" told || fail "inspect: $(cat told)"
refuses 2 "where shall the model go" import --base x
refuses 2 "what shall be imported" import -o out
refuses 2 "keep-lora.*FILE:SCALE" import --base x -o out --keep-lora file:high
refuses 2 "--lora 'ink'.*NAME=SCALE" run -i a.mp4 -o null --lora ink
refuses 2 "--lora 'ink=x'.*NAME=SCALE" run -i a.mp4 -o null --lora ink=x
refuses 2 "--lora 'ink=1000'.*-100 to 100" run -i a.mp4 -o null --lora ink=1000
refuses 2 "--passthrough uses no model" run -i a.mp4 -o null --passthrough --lora ink=1
echo '{"at": 1, "blend": "1, x"}' >blend.jsonl
refuses 1 "blend.jsonl:1: blend: column 4" run -i a.mp4 -o null --timeline blend.jsonl
refuses 2 "lora.*FILE:SCALE" import --base x -o out --lora file:high
refuses 2 "embedding.*FILE:WORD" import --base x -o out --embedding file:
refuses 2 "embedding.*FILE:WORD" import --base x -o out --embedding :word
refuses 2 "clip-skip.*whole number" import --base x -o out --clip-skip -1
refuses 1 "config\.yaml: No such file" import --config config.yaml -o out
echo 'promt: x' >config.yaml
refuses 1 "config\.yaml:1: 'promt'" import --config config.yaml -o out
refuses 1 "nothing: No such file" import --base nothing -o out
refuses 1 "single file has no vocabulary" import --base config.yaml -o out
mkdir -p tokenizer out
touch tokenizer/vocab.json tokenizer/merges.txt
refuses 1 "out: exists" import --base x --vae x -o out
rmdir out
refuses 1 "zero: is not a regular file" import --base /dev/zero --vae x --tokenizer tokenizer -o out
refuses 1 "posix.system.*may be malicious" import --vae x --tokenizer tokenizer -o out \
    --base "$source_dir/tests/data/torch/malicious.pt"
[ ! -e out ] || fail "import left something behind"

done_testing
