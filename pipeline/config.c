// SPDX-License-Identifier: Apache-2.0
// Reading and checking of model.json. See config.h; the order here is the file's.
#include "pipeline/config.h"

#include <stdio.h>
#include <string.h>

#include "base/json_reader.h"
#include "pipeline/scheduler.h"
#include "pipeline/window.h"

#define MAX_FILE_BYTES (1 << 20)
#define MAX_CHANNELS 4096
#define MAX_SIDE 8192

// Lists of words that have one entry are keys whose only value we know.
static const char *const formats[] = { "live2diff-1" };
static const char *const down_types[] = { "DownBlock3D", "CrossAttnDownBlock3D" };
static const char *const mid_types[] = { "UNetMidBlock3DCrossAttn" };
static const char *const up_types[] = { "UpBlock3D", "CrossAttnUpBlock3D" };
static const char *const temporal_types[] = { "Temporal_Self" };
static const char *const vae_archs[] = { "taesd", "kl" };
static const char *const text_archs[] = { "clip_text" };
static const char *const activations[] = { "quick_gelu" };
static const char *const structures[] = { "luma", "image", "depth" };
static const char *const normalizations[] = { "frame", "smooth" };
static const char *const beta_schedules[] = { "linear" };
static const char *const predictions[] = { "epsilon", "v" };
static const char *const noises[] = { "shared", "fresh" };

static const struct l2d_dpt_config dpt_hybrid = {
    .input_size = 384, .stem_channels = 64, .stage_channels = { 256, 512, 1024 },
    .stage_blocks = { 3, 4, 9 }, .norm_num_groups = 32, .hidden_size = 768,
    .num_hidden_layers = 12, .num_attention_heads = 12, .intermediate_size = 3072, .hook = 8,
    .features = 256, .head_channels = 32,
};

static void check_multiple(struct l2d_json_object *o, const char *key, int index, int32_t value,
                           int32_t of, const char *of_what)
{
    if (value % of == 0)
        return;
    char path[192];
    if (index < 0)
        snprintf(path, sizeof(path), "%s.%s", o->path, key);
    else
        snprintf(path, sizeof(path), "%s.%s[%d]", o->path, key, index);
    l2d_json_fail(o->reader, path, "is %d, not a multiple of %d%s", value, of, of_what);
}

static int32_t channels(struct l2d_json_object *o, const char *key, int32_t max)
{
    int32_t c = l2d_json_int(o, key, 4, max);
    check_multiple(o, key, -1, c, 4, "");
    return c;
}

static int channel_list(struct l2d_json_object *o, const char *key, int32_t *out, int min_count,
                        int max_count)
{
    int n = l2d_json_ints(o, key, out, min_count, max_count, 4, MAX_CHANNELS);
    for (int i = 0; i < n; i++)
        check_multiple(o, key, i, out[i], 4, "");
    return n;
}

static void read_motion(struct l2d_json_object *unet, struct l2d_motion_config *c)
{
    int types[4];
    struct l2d_json_object o = l2d_json_object(unet, "motion_module_kwargs");
    c->num_attention_heads = l2d_json_int(&o, "num_attention_heads", 1, 64);
    c->num_transformer_blocks = l2d_json_int(&o, "num_transformer_block", 1, 4);
    c->num_attention_blocks = l2d_json_choices(&o, "attention_block_types", types, 1, 4,
                                               temporal_types, 1);
    c->position_encoding = l2d_json_bool(&o, "temporal_position_encoding");
    c->position_encoding_max_len = l2d_json_int(&o, "temporal_position_encoding_max_len",
                                                L2D_WINDOW_SIZE, 1024);
    l2d_json_int(&o, "window_size", L2D_WINDOW_SIZE, L2D_WINDOW_SIZE);
    l2d_json_int(&o, "sink_size", L2D_WINDOW_SINKS, L2D_WINDOW_SINKS);
    l2d_json_end(&o);
}

// motion_module_resolutions lists the downsampling factors, 1, 2, 4 or 8, of the levels concerned.
static void read_motion_levels(struct l2d_json_object *o, struct l2d_unet_config *c)
{
    int32_t factor[L2D_MAX_LEVELS];
    bool use = l2d_json_bool(o, "use_motion_module");
    int n = l2d_json_ints(o, "motion_module_resolutions", factor, 0, L2D_MAX_LEVELS, 1,
                          1 << (c->num_levels - 1));
    for (int i = 0; i < n; i++) {
        int level = 0;
        while (1 << level < factor[i])
            level++;
        if (1 << level != factor[i] || c->motion[level])
            l2d_json_fail(o->reader, "unet.motion_module_resolutions", "has %d, must have each of "
                          "the levels' 1, 2, 4, 8 at most once", factor[i]);
        else
            c->motion[level] = true;
    }
    c->motion_mid = l2d_json_bool(o, "motion_module_mid_block");
    if (use && n == 0 && !c->motion_mid)
        l2d_json_fail(o->reader, "unet.use_motion_module", "is true, but no level is listed in "
                      "motion_module_resolutions");
    if (!use && (n > 0 || c->motion_mid))
        l2d_json_fail(o->reader, "unet.use_motion_module", "is false, but motion_module_%s",
                      n > 0 ? "resolutions is not empty" : "mid_block is true");
}

// Heads and groups must divide the channels of the levels that have them.
static void check_levels(struct l2d_json_object *o, const struct l2d_unet_config *c)
{
    for (int i = 0; i < c->num_levels; i++) {
        int32_t ch = c->block_out_channels[i];
        bool lowest = i == c->num_levels - 1;           // the mid block is made like it
        bool attention = c->down_attention[i] || c->up_attention[c->num_levels - 1 - i] || lowest;
        bool motion = c->motion[i] || (lowest && c->motion_mid);
        check_multiple(o, "block_out_channels", i, ch, c->norm_num_groups, ", norm_num_groups");
        if (attention)
            check_multiple(o, "block_out_channels", i, ch, c->num_attention_heads,
                           ", attention_head_dim (a count of heads)");
        if (motion)
            check_multiple(o, "block_out_channels", i, ch, c->motion_kwargs.num_attention_heads,
                           ", motion_module_kwargs.num_attention_heads");
    }
}

static void read_unet(struct l2d_json_object *root, struct l2d_unet_config *c)
{
    int type[L2D_MAX_LEVELS];
    struct l2d_json_object o = l2d_json_object(root, "unet");
    c->in_channels = channels(&o, "in_channels", 64);
    c->out_channels = channels(&o, "out_channels", 64);
    if (c->out_channels != c->in_channels)
        l2d_json_fail(o.reader, "unet.out_channels", "is %d, but in_channels is %d",
                      c->out_channels, c->in_channels);
    c->num_levels = channel_list(&o, "block_out_channels", c->block_out_channels, 1,
                                 L2D_MAX_LEVELS);
    c->layers_per_block = l2d_json_int(&o, "layers_per_block", 1, 4);
    l2d_json_choices(&o, "down_block_types", type, c->num_levels, c->num_levels, down_types, 2);
    for (int i = 0; i < c->num_levels; i++)
        c->down_attention[i] = type[i] == 1;
    L2D_JSON_CHOICE(&o, "mid_block_type", mid_types);
    l2d_json_choices(&o, "up_block_types", type, c->num_levels, c->num_levels, up_types, 2);
    for (int i = 0; i < c->num_levels; i++)
        c->up_attention[i] = type[i] == 1;
    c->num_attention_heads = l2d_json_int(&o, "attention_head_dim", 1, 64);
    c->norm_num_groups = l2d_json_int(&o, "norm_num_groups", 1, 256);
    c->cross_attention_dim = channels(&o, "cross_attention_dim", MAX_CHANNELS);
    c->flip_sin_to_cos = l2d_json_bool(&o, "flip_sin_to_cos");
    c->freq_shift = l2d_json_int(&o, "freq_shift", 0, 1);
    c->cond_mapping = l2d_json_bool(&o, "cond_mapping");
    c->num_cond_channels = channel_list(&o, "cond_mapping_channels", c->cond_mapping_channels, 1,
                                        L2D_MAX_COND_CHANNELS);
    read_motion_levels(&o, c);
    read_motion(&o, &c->motion_kwargs);
    check_levels(&o, c);
    l2d_json_end(&o);
}

static void read_kl(struct l2d_json_object *o, struct l2d_vae_config *c)
{
    c->patch = 1;
    c->num_levels = channel_list(o, "block_out_channels", c->enc_channels, L2D_MAX_LEVELS,
                                 L2D_MAX_LEVELS);
    c->norm_num_groups = l2d_json_int(o, "norm_num_groups", 1, 256);
    int32_t layers = l2d_json_int(o, "layers_per_block", 1, L2D_KL_MAX_LAYERS);
    for (int i = 0; i < c->num_levels; i++) {
        check_multiple(o, "block_out_channels", i, c->enc_channels[i], c->norm_num_groups,
                       ", norm_num_groups");
        c->dec_channels[i] = c->enc_channels[i];
        c->enc_blocks[i] = layers;
        c->dec_blocks[i] = layers + 1;
    }
    if (c->enc_channels[L2D_MAX_LEVELS - 1] > 1024)
        l2d_json_fail(o->reader, "vae.block_out_channels[3]", "is %d; attention takes at most 1024",
                      c->enc_channels[L2D_MAX_LEVELS - 1]);
}

static void read_taesd(struct l2d_json_object *o, struct l2d_vae_config *c)
{
    c->patch = l2d_json_int(o, "patch", 1, L2D_LATENT_SCALE);
    c->num_levels = channel_list(o, "enc_channels", c->enc_channels, 1, L2D_MAX_LEVELS);
    if (c->patch << (c->num_levels - 1) != L2D_LATENT_SCALE)
        l2d_json_fail(o->reader, "vae.enc_channels", "has %d levels, which with patch %d make the "
                      "latent %d times smaller; it must be %d", c->num_levels, c->patch,
                      c->patch << (c->num_levels - 1), L2D_LATENT_SCALE);
    int n = c->num_levels;
    l2d_json_ints(o, "enc_blocks", c->enc_blocks, n, n, 0, 16);
    channel_list(o, "dec_channels", c->dec_channels, n, n);
    l2d_json_ints(o, "dec_blocks", c->dec_blocks, n, n, 0, 16);
}

static void read_vae(struct l2d_json_object *root, struct l2d_vae_config *c)
{
    struct l2d_json_object o = l2d_json_object(root, "vae");
    c->arch = (enum l2d_vae_arch) L2D_JSON_CHOICE(&o, "arch", vae_archs);
    c->latent_channels = channels(&o, "latent_channels", 64);
    if (c->arch == L2D_VAE_KL)
        read_kl(&o, c);
    else
        read_taesd(&o, c);
    c->scaling_factor = (float) l2d_json_real(&o, "scaling_factor", 1e-4, 1e4);
    l2d_json_end(&o);
}

static void read_text(struct l2d_json_object *root, struct l2d_text_config *c)
{
    struct l2d_json_object o = l2d_json_object(root, "text");
    L2D_JSON_CHOICE(&o, "arch", text_archs);
    c->vocab_size = l2d_json_int(&o, "vocab_size", 3, 1 << 20);
    c->max_position_embeddings = l2d_json_int(&o, "max_position_embeddings", 3, 1024);
    c->hidden_size = channels(&o, "hidden_size", MAX_CHANNELS);
    c->num_hidden_layers = l2d_json_int(&o, "num_hidden_layers", 1, 64);
    c->num_attention_heads = l2d_json_int(&o, "num_attention_heads", 1, 64);
    check_multiple(&o, "hidden_size", -1, c->hidden_size, c->num_attention_heads,
                   ", num_attention_heads");
    c->intermediate_size = channels(&o, "intermediate_size", 4 * MAX_CHANNELS);
    L2D_JSON_CHOICE(&o, "hidden_act", activations);
    c->clip_skip = l2d_json_int(&o, "clip_skip", 0, c->num_hidden_layers - 1);
    l2d_json_end(&o);
}

static void read_dpt(struct l2d_json_object *structure, struct l2d_dpt_config *c)
{
    struct l2d_json_object o = l2d_json_object(structure, "dpt");
    int32_t hooks[2];
    c->input_size = l2d_json_int(&o, "input_size", 64, 1024);
    check_multiple(&o, "input_size", -1, c->input_size, 32, "");
    c->norm_num_groups = l2d_json_int(&o, "norm_num_groups", 1, 256);
    c->stem_channels = channels(&o, "stem_channels", MAX_CHANNELS);
    check_multiple(&o, "stem_channels", -1, c->stem_channels, c->norm_num_groups,
                   ", norm_num_groups");
    channel_list(&o, "stage_channels", c->stage_channels, 3, 3);
    l2d_json_ints(&o, "stage_blocks", c->stage_blocks, 3, 3, 1, L2D_MAX_STAGE_BLOCKS);
    for (int i = 0; i < 3; i++) {           // a block is a quarter as wide within
        check_multiple(&o, "stage_channels", i, c->stage_channels[i], 16, "");
        check_multiple(&o, "stage_channels", i, c->stage_channels[i], 4 * c->norm_num_groups,
                       ", 4 * norm_num_groups");
    }
    c->hidden_size = channels(&o, "hidden_size", MAX_CHANNELS);
    c->num_hidden_layers = l2d_json_int(&o, "num_hidden_layers", 2, L2D_MAX_VIT_LAYERS);
    c->num_attention_heads = l2d_json_int(&o, "num_attention_heads", 1, 64);
    check_multiple(&o, "hidden_size", -1, c->hidden_size, 4 * c->num_attention_heads,
                   ", 4 * num_attention_heads");
    c->intermediate_size = channels(&o, "intermediate_size", 4 * MAX_CHANNELS);
    l2d_json_ints(&o, "hooks", hooks, 2, 2, 0, c->num_hidden_layers - 1);
    if (hooks[0] >= hooks[1] || hooks[1] != c->num_hidden_layers - 1)
        l2d_json_fail(o.reader, "structure.dpt.hooks", "are %d and %d; the first must be less than "
                      "the second, which is the last layer, %d", hooks[0], hooks[1],
                      c->num_hidden_layers - 1);
    c->hook = hooks[0];
    c->features = channels(&o, "features", MAX_CHANNELS);
    check_multiple(&o, "features", -1, c->features, 8, "");
    c->head_channels = channels(&o, "head_channels", MAX_CHANNELS);
    l2d_json_end(&o);
}

static void read_structure(struct l2d_json_object *root, struct l2d_model_config *c)
{
    struct l2d_json_object o = l2d_json_object(root, "structure");
    c->structure = (enum l2d_structure_type) L2D_JSON_CHOICE(&o, "type", structures);
    if (c->structure == L2D_STRUCTURE_DEPTH) {
        c->depth.smooth = L2D_JSON_CHOICE(&o, "normalize", normalizations) == 1;
        c->depth.dpt = dpt_hybrid;
        if (l2d_json_has(&o, "dpt"))
            read_dpt(&o, &c->depth.dpt);
    }
    l2d_json_end(&o);
}

static void read_scheduler(struct l2d_json_object *root, struct l2d_scheduler_config *c)
{
    struct l2d_json_object o = l2d_json_object(root, "scheduler");
    c->num_train_timesteps = l2d_json_int(&o, "num_train_timesteps", L2D_MAX_INFERENCE_STEPS,
                                          10000);
    c->beta_start = l2d_json_real(&o, "beta_start", 1e-6, 0.999);
    c->beta_end = l2d_json_real(&o, "beta_end", c->beta_start, 0.999);
    L2D_JSON_CHOICE(&o, "beta_schedule", beta_schedules);
    c->prediction = (enum l2d_prediction) L2D_JSON_CHOICE(&o, "prediction", predictions);
    c->num_inference_steps = l2d_json_int(&o, "num_inference_steps", 1, L2D_MAX_INFERENCE_STEPS);
    c->num_steps = l2d_json_ints(&o, "t_index_list", c->t_index, 1, L2D_MAX_STEPS, 0,
                                 c->num_inference_steps - 1);
    struct l2d_error why;
    if (o.reader->rc == L2D_OK &&
        l2d_schedule_check(c->t_index, c->num_steps, c->num_inference_steps, &why) != L2D_OK)
        l2d_json_fail(o.reader, "scheduler.t_index_list", "%s", why.msg);
    c->noise = (enum l2d_noise_mode) L2D_JSON_CHOICE(&o, "noise", noises);
    l2d_json_end(&o);
}

static void read_default(struct l2d_json_object *root, struct l2d_model_config *c)
{
    struct l2d_json_object o = l2d_json_object(root, "default");
    c->width = l2d_json_int(&o, "width", L2D_LATENT_SCALE, MAX_SIDE);
    c->height = l2d_json_int(&o, "height", L2D_LATENT_SCALE, MAX_SIDE);
    l2d_json_string(&o, "prompt", c->prompt, sizeof(c->prompt));
    l2d_json_string(&o, "prompt_template", c->prompt_template, sizeof(c->prompt_template));
    c->steady = l2d_json_has(&o, "steady") ? l2d_json_real(&o, "steady", 0, L2D_STEADY_MOST) : 0;
    const char *place = strstr(c->prompt_template, "{}");
    if (!place || strstr(place + 2, "{}"))
        l2d_json_fail(o.reader, "default.prompt_template", "must have one \"{}\", where the "
                      "prompt goes");
    l2d_json_end(&o);
}

static bool is_lora_name(const char *name)
{
    static const char chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                "0123456789_-";
    size_t len = strlen(name);
    return len > 0 && len < L2D_LORA_NAME_BYTES && strspn(name, chars) == len;
}

// { "name": scale }, in the order of adding.
static void read_loras(struct l2d_json_object *root, struct l2d_model_config *c)
{
    if (!l2d_json_has(root, "loras"))
        return;
    struct l2d_json_object o = l2d_json_object(root, "loras");
    const char *name;
    json_t *scale;
    json_object_foreach(o.value, name, scale) {
        if (c->num_loras == L2D_MAX_LORAS) {
            l2d_json_fail(o.reader, o.path, "are more than %d", L2D_MAX_LORAS);
            return;
        }
        if (!is_lora_name(name)) {
            l2d_json_fail(o.reader, o.path, "a name must be of 1 to %d letters, digits, '_' and "
                          "'-'", L2D_LORA_NAME_BYTES - 1);
            return;
        }
        struct l2d_lora_config *lora = &c->lora[c->num_loras++];
        snprintf(lora->name, sizeof(lora->name), "%s", name);
        lora->scale = (float) l2d_json_real(&o, name, -L2D_MAX_LORA_SCALE, L2D_MAX_LORA_SCALE);
    }
    l2d_json_end(&o);
}

// What ties the parts together.
static void check_model(struct l2d_json_reader *r, const struct l2d_model_config *c)
{
    if (c->vae.latent_channels != c->unet.in_channels)
        l2d_json_fail(r, "vae.latent_channels", "is %d, but unet.in_channels is %d",
                      c->vae.latent_channels, c->unet.in_channels);
    if (c->structure == L2D_STRUCTURE_DEPTH && !c->unet.cond_mapping)
        l2d_json_fail(r, "structure.type", "is \"depth\", which nothing takes: "
                      "unet.cond_mapping is false");
    if (c->text.hidden_size != c->unet.cross_attention_dim)
        l2d_json_fail(r, "text.hidden_size", "is %d, but unet.cross_attention_dim is %d",
                      c->text.hidden_size, c->unet.cross_attention_dim);
    int32_t align = l2d_model_config_align(c);
    if (c->width % align != 0 || c->height % align != 0)
        l2d_json_fail(r, "default", "size %dx%d: the sides must be multiples of %d", c->width,
                      c->height, align);
    static const char name_chars[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
                                     "0123456789._-";
    size_t valid = strspn(c->name, name_chars);
    if (valid == 0 || c->name[valid])
        l2d_json_fail(r, "name", "\"%s\" must be of letters, digits, '.', '_' and '-'", c->name);
}

int l2d_model_config_read(struct l2d_model_config *config, const char *path, struct l2d_error *err)
{
    struct l2d_json_reader r;
    struct l2d_model_config c = { .structure = L2D_STRUCTURE_LUMA };
    l2d_json_reader_init(&r, path, MAX_FILE_BYTES, err);

    struct l2d_json_object root = l2d_json_root(&r);
    L2D_JSON_CHOICE(&root, "format", formats);
    l2d_json_string(&root, "name", c.name, sizeof(c.name));
    l2d_json_string(&root, "license", c.license, sizeof(c.license));
    read_default(&root, &c);
    read_unet(&root, &c.unet);
    read_vae(&root, &c.vae);
    read_text(&root, &c.text);
    read_structure(&root, &c);
    read_scheduler(&root, &c.scheduler);
    read_loras(&root, &c);
    l2d_json_end(&root);
    check_model(&r, &c);

    if (r.rc == L2D_OK)
        *config = c;
    l2d_json_reader_finish(&r);
    return r.rc;
}

int32_t l2d_model_config_align(const struct l2d_model_config *config)
{
    return L2D_LATENT_SCALE << (config->unet.num_levels - 1);
}
