#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# From a YAML to a picture: the shipped model's files in the form that the original's have, imported
# once and kept.
. "$(dirname "$0")/lib.sh"
XDG_CACHE_HOME=$scratch/cache
export XDG_CACHE_HOME

shipped=$source_dir/samples/models/paint-s
mkdir -p models/sd/unet models/sd/vae models/sd/text_encoder models/sd/tokenizer configs
ln -s "$shipped/unet.safetensors" models/sd/unet/diffusion_pytorch_model.safetensors
ln -s "$shipped/vae.safetensors" models/sd/vae/diffusion_pytorch_model.safetensors
ln -s "$shipped/text_encoder.safetensors" models/sd/text_encoder/model.safetensors
ln -s "$shipped/vocab.json" "$shipped/merges.txt" models/sd/tokenizer
echo '{"num_attention_heads": 4}' >models/sd/text_encoder/config.json
cat >configs/style.yaml <<EOF
pretrained_model_path: "./models/sd"
third_party_dict:
  clip_skip: 0
num_inference_steps: 50
t_index_list: [43]
prompt_template: "{}, vivid colors"
EOF

imports() {             # how often it was said, of the last command
    grep -c '^live2diff: importing' said
}
clip a.mp4 4
draw="-i a.mp4 -c ffv1 $small -p cartoon"

l2d run --config configs/style.yaml $draw -o first.mkv
is "the first run imports" "$(imports)" 1
l2d run --config configs/style.yaml $draw -o second.mkv
is "the second does not" "$(imports)" 0
is "and draws the same" "$(frame_hash second.mkv)" "$(frame_hash first.mkv)"
l2d import --config configs/style.yaml -o folder >imported
l2d run -m folder $draw -o third.mkv
is "as an imported folder does" "$(frame_hash third.mkv)" "$(frame_hash first.mkv)"
l2d inspect --config configs/style.yaml >inspected
is "inspect finds it" "$(imports) $(head -n 1 inspected | cut -d ' ' -f 1)" "0 style"
l2d bench --config configs/style.yaml --size 64x64 --frames 2 >bench
is "bench finds it" "$(imports) $(head -n 1 bench | cut -d ' ' -f 1)" "0 style"

# A LoRA that is left apart is worth what it is worth when it is added.
python3 - <<'END'
import json, struct
header, data = {}, b""
for name, shape in ("lora_up.weight", [96, 1]), ("lora_down.weight", [1, 96]):
    values = struct.pack("<96f", *((i * 7 % 11 - 5) / 8 for i in range(96)))
    header["lora_unet_mid_block_attentions_0_transformer_blocks_0_attn1_to_v." + name] = {
        "dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + len(values)]}
    data += values
text = json.dumps(header).encode()
with open("ink.safetensors", "wb") as file:
    file.write(struct.pack("<Q", len(text)) + text + data)
END
l2d import --config configs/style.yaml --lora ink.safetensors:0.5 -o added >imported
l2d import --config configs/style.yaml --keep-lora ink.safetensors:0.25 -o apart >imported
is "import says how to change it" "$(grep -c 'change it with lora.ink' imported)" 1
l2d inspect apart >inspected
is "inspect shows it" "$(grep -c 'kept apart: ink=0.25\|lora.ink.safetensors  ' inspected)" 2
l2d run -m added $draw -o added.mkv
l2d run -m apart $draw --lora ink=0.5 -o apart.mkv
is "--lora" "$(frame_hash apart.mkv)" "$(frame_hash added.mkv)"
[ "$(frame_hash apart.mkv)" != "$(frame_hash first.mkv)" ] || fail "the LoRA changes nothing"
echo '{"at": 0, "lora.ink": 0.5}' >lora.jsonl
l2d run -m apart $draw --timeline lora.jsonl -o apart2.mkv
is "--timeline" "$(frame_hash apart2.mkv)" "$(frame_hash added.mkv)"
l2d run -m apart $draw --lora ink=0 -o none.mkv
is "a scale of 0" "$(frame_hash none.mkv)" "$(frame_hash first.mkv)"
draw="$draw -o x.mkv"
refuses 1 "lora oil: the model has none of that name, but ink" run -m apart $draw --lora oil=1
refuses 1 "lora ink: the model keeps none apart" run -m folder $draw --lora ink=1
echo '{"at": 0, "lora.oil": 0.5}' >lora.jsonl
refuses 1 "lora.oil: the model keeps no LoRA" run -m apart $draw --timeline lora.jsonl
draw="${draw% -o x.mkv}"

sed -i 's/vivid/pale/' configs/style.yaml
l2d run --config configs/style.yaml -q $draw -o fourth.mkv
is "another YAML is another model" "$(find cache/live2diff/models -name model.json | wc -l)" 2
is "--quiet is quiet" "$(cat said)" ""
[ "$(frame_hash fourth.mkv)" != "$(frame_hash first.mkv)" ] || fail "the template changes nothing"

mv models/sd/vae gone
refuses 1 "base: \./models/sd/vae: has no weights" run --config configs/style.yaml $draw -o x.mkv
[ ! -e x.mkv ] || fail "x.mkv was left behind"

done_testing
