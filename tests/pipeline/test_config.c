// SPDX-License-Identifier: Apache-2.0
// model.json: the configs that must be read, and one change at a time that must be refused by name.
#include "pipeline/config.h"

#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define CONFIGS L2D_TEST_DATA "/configs/"

static struct l2d_model_config read_ok(const char *path)
{
    struct l2d_model_config c;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_model_config_read(&c, path, &err), L2D_OK, "%s", err.msg);
    return c;
}

Test(config, small)
{
    struct l2d_model_config c = read_ok(CONFIGS "small.json");
    cr_assert_str_eq(c.name, "small");
    cr_assert(c.width == 256 && c.height == 256);
    cr_assert_eq(l2d_model_config_align(&c), 32);
    cr_assert(c.unet.num_levels == 3 && c.unet.block_out_channels[2] == 96);
    cr_assert(!c.unet.down_attention[0] && c.unet.down_attention[1] && c.unet.down_attention[2]);
    cr_assert(c.unet.up_attention[0] && c.unet.up_attention[1] && !c.unet.up_attention[2]);
    cr_assert(c.unet.motion[0] && c.unet.motion[1] && c.unet.motion[2] && !c.unet.motion_mid);
    cr_assert(c.unet.motion_kwargs.num_attention_blocks == 2);
    cr_assert(c.unet.num_cond_channels == 4 && c.unet.cond_mapping_channels[3] == 32);
    cr_assert(c.vae.patch == 2 && c.vae.num_levels == 3 && c.vae.dec_channels[0] == 24);
    cr_assert(c.vae.scaling_factor == 1.0f);
    cr_assert(c.text.vocab_size == 1024 && c.text.intermediate_size == 384);
    cr_assert(c.scheduler.num_steps == 2 && c.scheduler.t_index[1] == 37);
    cr_assert(c.scheduler.beta_end == 0.012 && c.scheduler.noise == L2D_NOISE_SHARED);
    cr_assert_eq(c.scheduler.prediction, L2D_PREDICT_EPSILON);
}

Test(config, sd15)
{
    struct l2d_model_config c = read_ok(CONFIGS "sd15.json");
    cr_assert_eq(l2d_model_config_align(&c), 64);
    cr_assert(c.unet.num_levels == 4 && c.unet.block_out_channels[3] == 1280);
    cr_assert(c.unet.down_attention[2] && !c.unet.down_attention[3] && !c.unet.up_attention[0]);
    cr_assert(c.unet.motion[3] && c.unet.num_attention_heads == 8);
    cr_assert(c.vae.patch == 1 && c.vae.num_levels == 4 && c.vae.latent_channels == 4);
    cr_assert(c.text.hidden_size == 768 && c.text.clip_skip == 2);
    cr_assert_eq(c.scheduler.noise, L2D_NOISE_FRESH);
}

Test(config, golden_models)
{
    read_ok(L2D_TEST_DATA "/narrow4/model.json");
    read_ok(L2D_TEST_DATA "/tiny3/model.json");
    struct l2d_model_config c = read_ok(L2D_TEST_DATA "/narrowd/model.json");
    cr_assert(c.structure == L2D_STRUCTURE_DEPTH && !c.depth.smooth);
    cr_assert(c.depth.dpt.input_size == 96 && c.depth.dpt.stage_blocks[1] == 2);
    cr_assert(c.depth.dpt.hook == 0 && c.depth.dpt.num_hidden_layers == 3);
    cr_assert(c.vae.arch == L2D_VAE_KL && c.vae.enc_channels[1] == 24 && c.vae.dec_blocks[3] == 2);
}

// One member of small.json replaced: its path, its new value (NULL: removed), and how the message
// starts behind the file name.
static const struct change { const char *path, *value, *want; } changes[] = {
    { "format", "\"live2diff-2\"", "format: is \"live2diff-2\", must be \"live2diff-1\"" },
    { "format", NULL, "key \"format\" is missing" },
    { "extra", "1", "unknown key \"extra\"" },
    { "name", "\"a b\"", "name: \"a b\" must be of letters" },
    { "name", "\"\"", "name: \"\" must be of letters" },
    { "license", "1", "license: is an integer, must be a string" },
    { "default.width", "100", "default: size 100x256: the sides must be multiples of 32" },
    { "default.height", "0", "default.height: is 0, must be within 8..8192" },
    { "default.height", "99999999999", "default.height: is 99999999999, must be within" },
    { "default.prompt_template", "\"a painting\"", "default.prompt_template: must have one" },
    { "default.prompt_template", "\"{} {}\"", "default.prompt_template: must have one \"{}\"" },
    { "default.steady", "0.96", "default.steady: is 0.96, must be within 0..0.95" },
    { "default.prompt", "\"a\\nb\"", "default.prompt: has a control character at byte 1" },
    { "unet", "[]", "unet: is an array, must be an object" },
    { "unet.in_channels", "6", "unet.in_channels: is 6, not a multiple of 4" },
    { "unet.in_channels", "8", "unet.out_channels: is 16, but in_channels is 8" },
    { "unet.block_out_channels", "[64,66,96]", "unet.block_out_channels[1]: is 66, not a" },
    { "unet.block_out_channels", "[64,100,96]", "unet.block_out_channels[1]: is 100, not a "
      "multiple of 32, norm_num_groups" },
    { "unet.block_out_channels", "[64,96,8192]", "unet.block_out_channels[2]: is 8192, must be" },
    { "unet.block_out_channels", "[]", "unet.block_out_channels: has 0 elements" },
    { "unet.block_out_channels", "[64,64,64,64,64]", "unet.block_out_channels: has 5 elements" },
    { "unet.block_out_channels", "[64,96]", "unet.down_block_types: has 3 elements, must have 2" },
    { "unet.block_out_channels", "[64,96,-96]", "unet.block_out_channels[2]: is -96" },
    { "unet.down_block_types", "[\"DownBlock3D\",\"DownBlock3D\",\"DownBlock2D\"]",
      "unet.down_block_types[2]: is \"DownBlock2D\", must be one of" },
    { "unet.mid_block_type", "\"UNetMidBlock2D\"", "unet.mid_block_type: is \"UNetMidBlock2D\"" },
    { "unet.attention_head_dim", "5", "unet.block_out_channels[1]: is 96, not a multiple of 5, "
      "attention_head_dim" },
    { "unet.attention_head_dim", "0", "unet.attention_head_dim: is 0" },
    { "unet.norm_num_groups", "0", "unet.norm_num_groups: is 0" },
    { "unet.cross_attention_dim", "64",
      "text.hidden_size: is 96, but unet.cross_attention_dim is 64" },
    { "unet.flip_sin_to_cos", "1", "unet.flip_sin_to_cos: is an integer, must be true or false" },
    { "unet.cond_mapping_channels", "[16,16,16,16,16,16,16,16,16]",
      "unet.cond_mapping_channels: has 9 elements" },
    { "unet.cond_mapping_channels", "[16,15]", "unet.cond_mapping_channels[1]: is 15" },
    { "unet.use_motion_module", "false",
      "unet.use_motion_module: is false, but motion_module_res" },
    { "unet.motion_module_resolutions", "[]", "unet.use_motion_module: is true, but no level" },
    { "unet.motion_module_resolutions", "[1,2,8]", "unet.motion_module_resolutions[2]: is 8" },
    { "unet.motion_module_resolutions", "[1,3]", "unet.motion_module_resolutions: has 3" },
    { "unet.motion_module_resolutions", "[1,2,2]", "unet.motion_module_resolutions: has 2" },
    { "unet.motion_module_kwargs.num_attention_heads", "7",
      "unet.block_out_channels[0]: is 64, not a multiple of 7, motion_module_kwargs.num_att" },
    { "unet.motion_module_kwargs.window_size", "8", "unet.motion_module_kwargs.window_size: is 8, "
      "must be 16" },
    { "unet.motion_module_kwargs.sink_size", "4", "unet.motion_module_kwargs.sink_size: is 4" },
    { "unet.motion_module_kwargs.attention_block_types", "[\"Temporal_Cross\"]",
      "unet.motion_module_kwargs.attention_block_types[0]: is \"Temporal_Cross\", must be \"Temp" },
    { "unet.motion_module_kwargs.temporal_position_encoding_max_len", "8",
      "unet.motion_module_kwargs.temporal_position_encoding_max_len: is 8" },
    { "vae.arch", "\"vq\"", "vae.arch: is \"vq\", must be one of \"taesd\", \"kl\"" },
    { "vae.arch", "\"kl\"", "vae: key \"block_out_channels\" is missing" },
    { "vae.patch", "1",
      "vae.enc_channels: has 3 levels, which with patch 1 make the latent 4 times" },
    { "vae.patch", "3", "vae.enc_channels: has 3 levels, which with patch 3" },
    { "vae.enc_channels", "[16,32]", "vae.enc_channels: has 2 levels" },
    { "vae.dec_channels", "[16,32]", "vae.dec_channels: has 2 elements, must have 3" },
    { "vae.enc_blocks", "[1,1,99]", "vae.enc_blocks[2]: is 99" },
    { "vae.latent_channels", "4", "vae.latent_channels: is 4, but unet.in_channels is 16" },
    { "vae.scaling_factor", "0", "vae.scaling_factor: is 0" },
    { "vae.scaling_factor", "\"1\"", "vae.scaling_factor: is a string, must be a number" },
    { "text.vocab_size", "2000000000", "text.vocab_size: is 2000000000" },
    { "text.hidden_size", "100", "text.hidden_size: is 100, but unet.cross_attention_dim is 96" },
    { "text.num_attention_heads", "5", "text.hidden_size: is 96, not a multiple of 5" },
    { "text.clip_skip", "2", "text.clip_skip: is 2, must be within 0..1" },
    { "text.hidden_act", "\"gelu\"", "text.hidden_act: is \"gelu\", must be \"quick_gelu\"" },
    { "structure.type", "\"canny\"",
      "structure.type: is \"canny\", must be one of \"luma\", \"image\", \"depth\"" },
    { "structure.type", "\"depth\"", "structure: key \"normalize\" is missing" },
    { "structure.normalize", "\"frame\"", "structure: unknown key \"normalize\"" },
    { "structure.x", "1", "structure: unknown key \"x\"" },
    { "scheduler.beta_schedule", "\"scaled_linear\"", "scheduler.beta_schedule: is \"scaled_" },
    { "scheduler.beta_start", "0.1", "scheduler.beta_end: is 0.012, must be within 0.1.." },
    { "scheduler.num_inference_steps", "51", "scheduler.num_inference_steps: is 51" },
    { "scheduler.num_inference_steps", "30", "scheduler.t_index_list[1]: is 37, must" },
    { "scheduler.t_index_list", "[37,25]", "scheduler.t_index_list: step 25 does not follow 37" },
    { "scheduler.t_index_list", "[]", "scheduler.t_index_list: has 0 elements" },
    { "scheduler.t_index_list", "[0,1,2,3,4,5,6,7,8]", "scheduler.t_index_list: has 9 elements" },
    { "scheduler.prediction", NULL, "scheduler: key \"prediction\" is missing" },
    { "scheduler.prediction", "\"sample\"",
      "scheduler.prediction: is \"sample\", must be one of \"epsilon\", \"v\"" },
    { "loras", "[]", "loras: is an array" },
    { "loras", "{\"a b\": 1}", "loras: a name must be of 1 to 32 letters" },
    { "loras", "{\"../a\": 1}", "loras: a name must be" },
    { "loras", "{\"\": 1}", "loras: a name must be" },
    { "loras", "{\"a\": \"1\"}", "loras.a: is a string" },
    { "loras", "{\"a\": 101}", "loras.a: is 101, must be within -100..100" },
    { "loras", "{\"a\":1,\"b\":1,\"c\":1,\"d\":1,\"e\":1,\"f\":1,\"g\":1,\"h\":1,\"i\":1}",
      "loras: are more than 8" },
    { "scheduler.noise", "\"none\"",
      "scheduler.noise: is \"none\", must be one of \"shared\", \"fresh\"" },
};

// The same for the narrow model with a depth network and AutoencoderKL.
static const struct change depth_changes[] = {
    { "vae.block_out_channels", "[16,24,32]", "vae.block_out_channels: has 3 elements" },
    { "vae.block_out_channels", "[16,24,32,1028]", "vae.block_out_channels[3]: is 1028; " },
    { "vae.norm_num_groups", "5", "vae.block_out_channels[0]: is 16, not a multiple of 5" },
    { "vae.layers_per_block", "5", "vae.layers_per_block: is 5, must be within 1..4" },
    { "vae.patch", "1", "vae: unknown key \"patch\"" },
    { "unet.cond_mapping", "false", "structure.type: is \"depth\", which nothing takes" },
    { "structure.normalize", "\"clip\"",
      "structure.normalize: is \"clip\", must be one of \"frame\", \"smooth\"" },
    { "structure.type", "\"luma\"", "structure: unknown key" },
    { "structure.dpt", "{}", "structure.dpt: key \"input_size\" is missing" },
    { "structure.dpt.input_size", "100", "structure.dpt.input_size: is 100, not a multiple of 32" },
    { "structure.dpt.stem_channels", "6", "structure.dpt.stem_channels: is 6, not a multiple" },
    { "structure.dpt.stage_channels", "[32,64]", "structure.dpt.stage_channels: has 2 elements" },
    { "structure.dpt.stage_channels", "[32,64,72]",
      "structure.dpt.stage_channels[2]: is 72, not a multiple of 16" },
    { "structure.dpt.stage_blocks", "[1,0,1]", "structure.dpt.stage_blocks[1]: is 0" },
    { "structure.dpt.norm_num_groups", "16", "structure.dpt.stem_channels: is 8, not a multiple of "
      "16, norm_num_groups" },
    { "structure.dpt.num_attention_heads", "4", "structure.dpt.hidden_size: is 40, not a multiple "
      "of 16, 4 * num_attention_heads" },
    { "structure.dpt.hooks", "[2,2]", "structure.dpt.hooks: are 2 and 2" },
    { "structure.dpt.hooks", "[0,1]", "structure.dpt.hooks: are 0 and 1; the first must be less "
      "than the second, which is the last layer, 2" },
    { "structure.dpt.features", "12", "structure.dpt.features: is 12, not a multiple of 8" },
    { "structure.dpt.head_channels", "0", "structure.dpt.head_channels: is 0" },
    { "structure.dpt.x", "1", "structure.dpt: unknown key \"x\"" },
};

// Replace, add or remove the member at "a.b.c".
static void apply(json_t *root, const struct change *c)
{
    char path[128];
    snprintf(path, sizeof(path), "%s", c->path);
    char *key = path;
    json_t *o = root;
    for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        o = json_object_get(o, key);
    }
    if (c->value)
        json_object_set_new(o, key, json_loads(c->value, JSON_DECODE_ANY, NULL));
    else
        json_object_del(o, key);
}

static int read_json(const json_t *root, const char *path, struct l2d_error *err)
{
    struct l2d_model_config c;
    cr_assert_eq(json_dump_file(root, path, 0), 0);
    return l2d_model_config_read(&c, path, err);
}

static void temporary(char path[32])
{
    strcpy(path, "/tmp/l2d_config_XXXXXX");
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    close(fd);
}

static void refuses_each(const char *file, const struct change *change, size_t count)
{
    char path[32];
    temporary(path);
    for (size_t i = 0; i < count; i++) {
        struct l2d_error err = { 0 };
        json_t *root = json_load_file(file, 0, NULL);
        apply(root, &change[i]);
        cr_assert_eq(read_json(root, path, &err), L2D_EFORMAT, "case %zu: %s", i, change[i].want);
        json_decref(root);
        size_t len = strlen(path);
        cr_assert(strncmp(err.msg, path, len) == 0 && strncmp(err.msg + len, ": ", 2) == 0);
        cr_assert_eq(strncmp(err.msg + len + 2, change[i].want, strlen(change[i].want)), 0,
                     "case %zu: %s", i, err.msg);
    }
    unlink(path);
}

Test(config, one_change)
{
    refuses_each(CONFIGS "small.json", changes, COUNT(changes));
}

Test(config, one_change_depth)
{
    refuses_each(L2D_TEST_DATA "/narrowd/model.json", depth_changes, COUNT(depth_changes));
}

// "dpt" may be left out, and then it is DPT-hybrid.
Test(config, dpt_hybrid)
{
    char path[32];
    struct l2d_error err = { 0 };
    json_t *root = json_load_file(L2D_TEST_DATA "/narrowd/model.json", 0, NULL);
    temporary(path);
    apply(root, &(struct change) { "structure.dpt", NULL, NULL });
    apply(root, &(struct change) { "structure.normalize", "\"smooth\"", NULL });
    cr_assert_eq(read_json(root, path, &err), L2D_OK, "%s", err.msg);
    struct l2d_model_config c = read_ok(path);
    cr_assert(c.depth.smooth && c.depth.dpt.input_size == 384 && c.depth.dpt.hook == 8);
    cr_assert(c.depth.dpt.stage_channels[2] == 1024 && c.depth.dpt.intermediate_size == 3072);
    json_decref(root);
    unlink(path);
}

// Every key is required, and a key more is refused, in every object.
static void each_key(json_t *root, json_t *o, const char *path)
{
    struct l2d_error err;
    json_t *all = json_deep_copy(o), *value;
    const char *key;
    json_object_foreach(all, key, value) {
        char want[64];
        json_object_del(o, key);
        snprintf(want, sizeof(want), "key \"%s\" is missing", key);
        cr_assert_eq(read_json(root, path, &err), L2D_EFORMAT, "without %s", key);
        cr_assert(strstr(err.msg, want), "%s", err.msg);
        json_object_set_new(o, key, json_deep_copy(value));
        if (json_is_object(value))
            each_key(root, json_object_get(o, key), path);
    }
    json_object_set_new(o, "surplus", json_null());
    cr_assert_eq(read_json(root, path, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "unknown key \"surplus\""), "%s", err.msg);
    json_object_del(o, "surplus");
    json_decref(all);
}

Test(config, every_key_counts)
{
    char path[32];
    struct l2d_error err = { 0 };
    temporary(path);
    json_t *root = json_load_file(CONFIGS "small.json", 0, NULL);
    each_key(root, root, path);
    cr_assert_eq(read_json(root, path, &err), L2D_OK, "%s", err.msg);
    json_decref(root);
    root = json_load_file(L2D_TEST_DATA "/narrowd/model.json", 0, NULL);
    each_key(root, json_object_get(root, "vae"), path);
    each_key(root, json_object_get(json_object_get(root, "structure"), "dpt"), path);
    json_decref(root);
    unlink(path);
}

Test(config, mutated_files, .timeout = 120)
{
    char path[32], *good;
    size_t size;
    temporary(path);
    cr_assert_eq(l2d_file_read(&good, &size, CONFIGS "small.json", 1 << 20, NULL), L2D_OK);
    char *text = malloc(size);
    cr_assert_not_null(text);
    static const char chars[] = "0123456789{}[]:,\"-.eE ";
    uint32_t state = 3;
    for (int i = 0; i < 5000; i++) {
        memcpy(text, good, size);
        for (int n = 0; n < 2; n++) {
            state = state * 1664525 + 1013904223;
            size_t at = (state >> 8) % size;
            state = state * 1664525 + 1013904223;
            char c = chars[(state >> 8) % (sizeof(chars) - 1)];
            text[at] = state >> 31 ? c : (char) (state >> 16);
        }
        FILE *f = fopen(path, "wb");
        cr_assert(f && fwrite(text, 1, size, f) == size && fclose(f) == 0);
        struct l2d_model_config c;
        struct l2d_error err = { 0 };
        int rc = l2d_model_config_read(&c, path, &err);
        cr_assert(rc == L2D_OK || (rc == L2D_EFORMAT && err.msg[0]), "round %d", i);
        for (const char *p = err.msg; *p; p++)
            cr_assert((unsigned char) *p >= 0x20, "round %d: not one line", i);
    }
    free(text);
    free(good);
    unlink(path);
}

Test(config, missing_file)
{
    struct l2d_model_config c;
    struct l2d_error err;
    cr_assert_eq(l2d_model_config_read(&c, "/nonexistent/model.json", &err), L2D_EIO);
    cr_assert(strstr(err.msg, "/nonexistent/model.json: No such file"), "%s", err.msg);
}
