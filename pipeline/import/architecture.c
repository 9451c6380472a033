// SPDX-License-Identifier: Apache-2.0
// See architecture.h. Everything here is checked again when model.json is read.
#include "pipeline/import/architecture.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"

#define MAX_CONFIG_BYTES (1 << 20)
#define HEADS 8                     // SD1.5's, on every level
#define GROUPS 32
#define TEXT_HEAD_DIM 64            // CLIP's
#define POSITIONS 24                // of a motion module's table, where the file has none
#define MAX_DEPTH_CONVS 16

struct reader {
    const struct l2d_sources *sources;
    const char *base;               // the path that people know
    int rc;                         // sticks
    struct l2d_error *err;
};

static const struct l2d_checkpoint_tensor *find(const struct reader *r, enum l2d_part network,
                                                const char *fmt, va_list ap)
{
    char name[L2D_NAME_BYTES];
    int32_t source;
    vsnprintf(name, sizeof(name), fmt, ap);
    return l2d_sources_find(r->sources, network, name, &source);
}

static bool has(const struct reader *r, enum l2d_part network, const char *fmt, ...)
    L2D_PRINTF(3, 4);
static bool has(const struct reader *r, enum l2d_part network, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    bool found = find(r, network, fmt, ap) != NULL;
    va_end(ap);
    return found;
}

// A dimension of a tensor that must be there.
static int32_t dim(struct reader *r, enum l2d_part network, int index, const char *fmt, ...)
    L2D_PRINTF(4, 5);
static int32_t dim(struct reader *r, enum l2d_part network, int index, const char *fmt, ...)
{
    static const char *const networks[] = { "UNet", "VAE", "text encoder", "depth network" };
    if (r->rc != L2D_OK)
        return 0;
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    const struct l2d_checkpoint_tensor *t = find(r, network, fmt, ap);
    if (t && index < t->ndim && t->dims[index] <= 1 << 20) {
        va_end(ap);
        va_end(again);
        return (int32_t) t->dims[index];
    }
    char name[L2D_NAME_BYTES];
    vsnprintf(name, sizeof(name), fmt, again);
    r->rc = l2d_error_set(r->err, L2D_EFORMAT, "%s: tensor %s %s", networks[network], name,
                          t ? "is of another kind than the network's"
                          : strncmp(name, "flow_conv_in.", strlen("flow_conv_in."))
                          ? "is in none of the files"
                          : "is in none of the files; with --depth it comes from --motion");
    va_end(ap);
    va_end(again);
    return 0;
}

static void unsupported(struct reader *r, const char *what)
{
    if (r->rc == L2D_OK)
        r->rc = l2d_error_set(r->err, L2D_EUNSUPPORTED, "%s: %s; only models of SD1.5's family can "
                              "be used", r->base, what);
}

// ---- diffusers' config.json: only what the tensors do not tell ----------------------------------

// NULL if there is none. The caller's reference.
static json_t *read_config(struct reader *r, const char *path)
{
    char *text = NULL;
    size_t size = 0;
    struct l2d_error ignored;
    if (r->rc != L2D_OK || l2d_file_read(&text, &size, path, MAX_CONFIG_BYTES, &ignored) != L2D_OK)
        return NULL;
    json_error_t e;
    json_t *root = json_loadb(text, size, JSON_REJECT_DUPLICATES, &e);
    free(text);
    if (!json_is_object(root)) {
        json_decref(root);
        root = NULL;
        r->rc = l2d_error_set(r->err, L2D_EFORMAT, "%s: is not a JSON object", path);
    }
    return root;
}

static int32_t config_int(const json_t *config, const char *key, int32_t otherwise)
{
    const json_t *value = json_object_get(config, key);
    json_int_t i = json_is_integer(value) ? json_integer_value(value) : otherwise;
    return i >= 0 && i <= 1 << 20 ? (int32_t) i : otherwise;
}

// ---- UNet ---------------------------------------------------------------------------------------

struct levels {
    int32_t count, channels[L2D_MAX_LEVELS];
    bool down_attention[L2D_MAX_LEVELS], up_attention[L2D_MAX_LEVELS], motion[L2D_MAX_LEVELS];
    int32_t layers;
    const char *first_motion;       // "down_blocks.0", where there is one
};

static struct levels read_levels(struct reader *r)
{
    static const char *const blocks[] = { "down_blocks.0", "down_blocks.1", "down_blocks.2",
                                          "down_blocks.3" };
    struct levels l = { 0 };
    while (l.count < L2D_MAX_LEVELS &&
           has(r, L2D_PART_UNET, "down_blocks.%d.resnets.0.conv1.weight", l.count)) {
        int32_t i = l.count++;
        l.channels[i] = dim(r, L2D_PART_UNET, 0, "down_blocks.%d.resnets.0.conv1.weight", i);
        l.down_attention[i] = has(r, L2D_PART_UNET, "down_blocks.%d.attentions.0.norm.weight", i);
        l.up_attention[i] = has(r, L2D_PART_UNET, "up_blocks.%d.attentions.0.norm.weight", i);
        l.motion[i] = has(r, L2D_PART_UNET, "down_blocks.%d.motion_modules.0.temporal_transformer."
                          "norm.weight", i);
        if (l.motion[i] && !l.first_motion)
            l.first_motion = blocks[i];
    }
    if (l.count == 0)
        dim(r, L2D_PART_UNET, 0, "down_blocks.0.resnets.0.conv1.weight");      // says so
    while (l.layers < 4 && has(r, L2D_PART_UNET, "down_blocks.0.resnets.%d.conv1.weight", l.layers))
        l.layers++;
    return l;
}

static json_t *strings(const bool *which, int32_t count, const char *no, const char *yes)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(array, json_string(which[i] ? yes : no));
    return array;
}

static json_t *ints(const int32_t *value, int32_t count)
{
    json_t *array = json_array();
    for (int32_t i = 0; i < count; i++)
        json_array_append_new(array, json_integer(value[i]));
    return array;
}

static json_t *motion_kwargs(struct reader *r, const struct levels *l)
{
    int32_t positions = POSITIONS, blocks = 1, attentions = 2;
    if (l->first_motion) {
        char base[128];
        snprintf(base, sizeof(base), "%s.motion_modules.0.temporal_transformer.transformer_blocks",
                 l->first_motion);
        for (blocks = 0; blocks < 5; blocks++)
            if (!has(r, L2D_PART_UNET, "%s.%d.norms.0.weight", base, blocks))
                break;
        for (attentions = 0; attentions < 5; attentions++)
            if (!has(r, L2D_PART_UNET, "%s.0.norms.%d.weight", base, attentions))
                break;
        if (has(r, L2D_PART_UNET, "%s.0.attention_blocks.0.pos_encoder.pe", base))
            positions = dim(r, L2D_PART_UNET, 1, "%s.0.attention_blocks.0.pos_encoder.pe", base);
    }
    json_t *types = json_array();
    for (int32_t i = 0; i < attentions; i++)
        json_array_append_new(types, json_string("Temporal_Self"));
    return json_pack("{s:i, s:i, s:o, s:b, s:i, s:i, s:i}", "num_attention_heads", HEADS,
                     "num_transformer_block", (int) blocks, "attention_block_types", types,
                     "temporal_position_encoding", 1, "temporal_position_encoding_max_len",
                     (int) positions, "window_size", 16, "sink_size", 8);
}

// Channels of the structure's mapping: of its first conv, then of every second block.
static json_t *mapping_channels(struct reader *r)
{
    json_t *array = json_array();
    if (!has(r, L2D_PART_UNET, "flow_conv_in.conv_in.weight")) {
        json_array_append_new(array, json_integer(16));         // a number is asked for, not used
        return array;
    }
    json_array_append_new(array, json_integer(dim(r, L2D_PART_UNET, 0,
                                                  "flow_conv_in.conv_in.weight")));
    for (int32_t i = 1; i < MAX_DEPTH_CONVS; i += 2) {
        if (!has(r, L2D_PART_UNET, "flow_conv_in.blocks.%d.weight", i))
            break;
        json_array_append_new(array, json_integer(dim(r, L2D_PART_UNET, 0,
                                                      "flow_conv_in.blocks.%d.weight", i)));
    }
    return array;
}

static json_t *infer_unet(struct reader *r, bool structure)
{
    json_t *config = read_config(r, r->sources->unet_config);
    struct levels l = read_levels(r);
    int32_t in = dim(r, L2D_PART_UNET, 1, "conv_in.weight");
    int32_t out = dim(r, L2D_PART_UNET, 0, "conv_out.weight");
    int32_t text = dim(r, L2D_PART_UNET, 1,
                       "mid_block.attentions.0.transformer_blocks.0.attn2.to_k.weight");
    if (json_is_true(json_object_get(config, "use_linear_projection")))
        unsupported(r, "has linear projections, as SD2 and SDXL have");
    if (in == 9 || in == 8)
        unsupported(r, "is a model for inpainting or editing, with more input channels");
    json_t *factors = json_array();
    for (int32_t i = 0; i < l.count; i++)
        if (l.motion[i])
            json_array_append_new(factors, json_integer(1 << i));
    json_t *unet = json_pack(
        "{s:i, s:i, s:o, s:i, s:o, s:s, s:o, s:i, s:i, s:i, s:b, s:i, s:b, s:o, s:b, s:o, s:b,"
        " s:o}",
        "in_channels", (int) in, "out_channels", (int) out,
        "block_out_channels", ints(l.channels, l.count), "layers_per_block", (int) l.layers,
        "down_block_types", strings(l.down_attention, l.count, "DownBlock3D",
                                    "CrossAttnDownBlock3D"),
        "mid_block_type", "UNetMidBlock3DCrossAttn",
        "up_block_types", strings(l.up_attention, l.count, "UpBlock3D", "CrossAttnUpBlock3D"),
        "attention_head_dim", (int) config_int(config, "attention_head_dim", HEADS),
        "norm_num_groups", (int) config_int(config, "norm_num_groups", GROUPS),
        "cross_attention_dim", (int) text, "flip_sin_to_cos", 1, "freq_shift", 0,
        "cond_mapping", (int) structure, "cond_mapping_channels", mapping_channels(r),
        "use_motion_module", l.first_motion != NULL, "motion_module_resolutions", factors,
        "motion_module_mid_block", 0, "motion_module_kwargs", motion_kwargs(r, &l));
    json_decref(config);
    return unet;
}

// ---- codec, text encoder, depth network ---------------------------------------------------------

// One half of TAESD: a conv, then levels of blocks, each begun by a conv without bias; in the
// decoder an activation comes before the first blocks and an upsampling before each such conv.
static void read_taesd(struct reader *r, const char *half, int32_t *channels, int32_t *blocks,
                       int32_t *levels)
{
    bool decoder = *half == 'd';
    int32_t at = decoder ? 2 : 1, level = 0;
    channels[0] = dim(r, L2D_PART_VAE, 0, "%s.layers.0.weight", half);
    blocks[0] = 0;
    while (r->rc == L2D_OK) {
        if (has(r, L2D_PART_VAE, "%s.layers.%d.conv.0.weight", half, at)) {
            blocks[level]++;
            at++;
            continue;
        }
        int32_t conv = at + decoder;
        bool next = has(r, L2D_PART_VAE, "%s.layers.%d.weight", half, conv) &&
                    !has(r, L2D_PART_VAE, "%s.layers.%d.bias", half, conv);
        if (!next || level + 1 == L2D_MAX_LEVELS)
            break;
        channels[++level] = dim(r, L2D_PART_VAE, 0, "%s.layers.%d.weight", half, conv);
        blocks[level] = 0;
        at = conv + 1;
    }
    *levels = level + 1;
}

static void reverse(int32_t *value, int32_t count)
{
    for (int32_t i = 0; i < count / 2; i++) {
        int32_t other = value[count - 1 - i];
        value[count - 1 - i] = value[i];
        value[i] = other;
    }
}

static json_t *infer_kl(struct reader *r)
{
    int32_t channels[L2D_MAX_LEVELS], layers = 0;
    for (int32_t i = 0; i < L2D_MAX_LEVELS; i++)
        channels[i] = dim(r, L2D_PART_VAE, 0, "encoder.down_blocks.%d.resnets.0.conv1.weight", i);
    while (layers < 8 &&
           has(r, L2D_PART_VAE, "encoder.down_blocks.0.resnets.%d.conv1.weight", layers))
        layers++;
    return json_pack("{s:s, s:i, s:o, s:i, s:i, s:f}", "arch", "kl", "latent_channels",
                     (int) dim(r, L2D_PART_VAE, 0, "post_quant_conv.weight"), "block_out_channels",
                     ints(channels, L2D_MAX_LEVELS), "layers_per_block", (int) layers,
                     "norm_num_groups", GROUPS, "scaling_factor", 0.18215);
}

static json_t *infer_vae(struct reader *r)
{
    if (has(r, L2D_PART_VAE, "encoder.conv_in.weight"))
        return infer_kl(r);
    int32_t enc[L2D_MAX_LEVELS], enc_blocks[L2D_MAX_LEVELS], enc_levels = 1;
    int32_t dec[L2D_MAX_LEVELS], dec_blocks[L2D_MAX_LEVELS], dec_levels = 1;
    read_taesd(r, "encoder", enc, enc_blocks, &enc_levels);
    read_taesd(r, "decoder", dec, dec_blocks, &dec_levels);
    reverse(dec, dec_levels);                       // full resolution first
    reverse(dec_blocks, dec_levels);
    return json_pack("{s:s, s:i, s:i, s:o, s:o, s:o, s:o, s:f}", "arch", "taesd", "patch",
                     L2D_LATENT_SCALE >> (enc_levels - 1), "latent_channels",
                     (int) dim(r, L2D_PART_VAE, 1, "decoder.layers.0.weight"),
                     "enc_channels", ints(enc, enc_levels), "enc_blocks",
                     ints(enc_blocks, enc_levels), "dec_channels", ints(dec, dec_levels),
                     "dec_blocks", ints(dec_blocks, dec_levels), "scaling_factor", 1.0);
}

static json_t *infer_text(struct reader *r, int32_t clip_skip, int32_t num_added)
{
    json_t *config = read_config(r, r->sources->text_config);
    const char *act = json_string_value(json_object_get(config, "hidden_act"));
    if (act && strcmp(act, "quick_gelu") != 0)
        unsupported(r, "is not CLIP ViT-L's text encoder");
    int32_t layers = 0;
    while (layers < 64 && has(r, L2D_PART_TEXT, "encoder.layers.%d.layer_norm1.weight", layers))
        layers++;
    int32_t vocab = dim(r, L2D_PART_TEXT, 0, "embeddings.token_embedding.weight");
    int32_t hidden = dim(r, L2D_PART_TEXT, 1, "embeddings.token_embedding.weight");
    int32_t positions = dim(r, L2D_PART_TEXT, 0, "embeddings.position_embedding.weight");
    int32_t inner = dim(r, L2D_PART_TEXT, 0, "encoder.layers.0.mlp.fc1.weight");
    int32_t heads = hidden >= TEXT_HEAD_DIM ? hidden / TEXT_HEAD_DIM : 1;
    json_t *text = json_pack("{s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:s, s:i}", "arch", "clip_text",
                             "vocab_size", (int) (vocab + num_added),
                             "max_position_embeddings", (int) positions,
                             "hidden_size", (int) hidden, "num_hidden_layers", (int) layers,
                             "num_attention_heads",
                             (int) config_int(config, "num_attention_heads", heads),
                             "intermediate_size", (int) inner, "hidden_act", "quick_gelu",
                             "clip_skip", (int) clip_skip);
    json_decref(config);
    return text;
}

#define BACKBONE "pretrained.model.patch_embed.backbone"
static json_t *infer_depth(struct reader *r, bool by_frame)
{
    int32_t stage[3] = { 0 }, blocks[3] = { 0 }, layers = 0, side = 0;
    for (int32_t s = 0; s < 3; s++) {
        stage[s] = dim(r, L2D_PART_DEPTH, 0, BACKBONE ".stages.%d.blocks.0.conv3.weight", s);
        while (blocks[s] < 64 && has(r, L2D_PART_DEPTH,
                                     BACKBONE ".stages.%d.blocks.%d.conv3.weight", s, blocks[s]))
            blocks[s]++;
    }
    while (layers < 64 && has(r, L2D_PART_DEPTH, "pretrained.model.blocks.%d.norm1.weight", layers))
        layers++;
    int32_t tokens = dim(r, L2D_PART_DEPTH, 1, "pretrained.model.pos_embed");
    int32_t hidden = dim(r, L2D_PART_DEPTH, 2, "pretrained.model.pos_embed");
    while (side < 64 && side * side < tokens - 1)
        side++;
    json_t *dpt = json_pack(
        "{s:i, s:i, s:o, s:o, s:i, s:i, s:i, s:i, s:i, s:[i,i], s:i, s:i}",
        "input_size", (int) (16 * side), "stem_channels",
        (int) dim(r, L2D_PART_DEPTH, 0, BACKBONE ".stem.conv.weight"),
        "stage_channels", ints(stage, 3), "stage_blocks", ints(blocks, 3),
        "norm_num_groups", GROUPS,
        "hidden_size", (int) hidden, "num_hidden_layers", (int) layers, "num_attention_heads",
        (int) (hidden >= TEXT_HEAD_DIM ? hidden / TEXT_HEAD_DIM : 1), "intermediate_size",
        (int) dim(r, L2D_PART_DEPTH, 0, "pretrained.model.blocks.0.mlp.fc1.weight"),
        "hooks", (int) (3 * layers / 4 - 1), (int) (layers - 1),       // 8 and 11 of 12
        "features", (int) dim(r, L2D_PART_DEPTH, 0, "scratch.layer1_rn.weight"),
        "head_channels", (int) dim(r, L2D_PART_DEPTH, 0, "scratch.output_conv.2.weight"));
    return json_pack("{s:s, s:s, s:o}", "type", "depth", "normalize", by_frame ? "frame" : "smooth",
                     "dpt", dpt);
}

// ---- the rest -----------------------------------------------------------------------------------

static json_t *scheduler(const struct l2d_import *import)
{
    static const int32_t usual[] = { 30, 36, 42 };      // of 50, as most presets have it
    json_t *list = import->num_steps ? ints(import->t_index, import->num_steps) : ints(usual, 3);
    int32_t total = import->num_inference_steps ? import->num_inference_steps : 50;
    return json_pack("{s:i, s:f, s:f, s:s, s:s, s:i, s:o, s:s}", "num_train_timesteps", 1000,
                     "beta_start", 0.00085, "beta_end", 0.012, "beta_schedule", "linear",
                     "prediction", import->predicts_v ? "v" : "epsilon",
                     "num_inference_steps", (int) total, "t_index_list", list, "noise", "fresh");
}

int l2d_architecture_infer(json_t **out, const struct l2d_sources *sources,
                           const struct l2d_import *import, int32_t num_added,
                           struct l2d_error *err)
{
    struct reader r = { .sources = sources, .base = import->base, .err = err };
    json_t *unet = infer_unet(&r, import->depth != NULL);
    json_t *text = infer_text(&r, import->clip_skip, num_added);
    json_t *vae = infer_vae(&r);
    json_t *structure = import->depth ? infer_depth(&r, import->depth_by_frame)
                                      : json_pack("{s:s}", "type", "luma");     // of no effect
    json_t *defaults = json_pack("{s:i, s:i, s:s, s:s}",
        "width", (int) (import->width ? import->width : 512),
        "height", (int) (import->height ? import->height : 512),
        "prompt", import->prompt ? import->prompt : "",
        "prompt_template", import->prompt_template ? import->prompt_template : "{}");
    json_t *root = json_pack("{s:s, s:s, s:s, s:o, s:o, s:o, s:o, s:o, s:o}",
        "format", "live2diff-1", "name", import->name ? import->name : "imported",
        "license", "see manifest.json", "default", defaults, "unet", unet, "vae", vae, "text", text,
        "structure", structure, "scheduler", scheduler(import));
    if (r.rc == L2D_OK && !root)
        r.rc = l2d_error_set(err, L2D_ENOMEM, "model.json: out of memory, or a text is not UTF-8");
    if (r.rc != L2D_OK) {
        json_decref(root);
        return r.rc;
    }
    *out = root;
    return L2D_OK;
}
