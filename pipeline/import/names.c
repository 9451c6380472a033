// SPDX-License-Identifier: Apache-2.0
// See names.h.
#include "pipeline/import/names.h"

#include <stdio.h>
#include <string.h>

// If *name begins with the prefix, goes behind it.
static bool skip(const char **name, const char *prefix)
{
    size_t len = strlen(prefix);
    if (strncmp(*name, prefix, len) != 0)
        return false;
    *name += len;
    return true;
}

// A number and the dot behind it.
static bool skip_number(const char **name, int *number)
{
    const char *c = *name;
    *number = 0;
    while (*c >= '0' && *c <= '9' && *number < 1000)
        *number = 10 * *number + (*c++ - '0');
    if (c == *name || *c != '.')
        return false;
    *name = c + 1;
    return true;
}

struct pair { const char *ours, *ldm; };

// prefix, then LDM's word for the one that name begins with, then the rest of it.
static bool replace(char *out, const char *prefix, const char *name, const struct pair *pairs,
                    size_t num)
{
    for (size_t i = 0; i < num; i++) {
        const char *rest = name;
        if (skip(&rest, pairs[i].ours)) {
            snprintf(out, L2D_NAME_BYTES, "%s%s%s", prefix, pairs[i].ldm, rest);
            return true;
        }
    }
    return false;
}

#define REPLACE(out, prefix, name, pairs) \
    replace(out, prefix, name, pairs, sizeof(pairs) / sizeof((pairs)[0]))

static bool resnet(char *out, const char *prefix, const char *name)
{
    static const struct pair pairs[] = {
        { "norm1.", "in_layers.0." }, { "conv1.", "in_layers.2." },
        { "time_emb_proj.", "emb_layers.1." }, { "norm2.", "out_layers.0." },
        { "conv2.", "out_layers.3." }, { "conv_shortcut.", "skip_connection." },
    };
    return REPLACE(out, prefix, name, pairs);
}

// Names of blocks with two resnets each: SD1.5's, of which LDM's numbers are a running count.
bool l2d_names_ldm_unet(char out[L2D_NAME_BYTES], const char *name)
{
    static const struct pair ends[] = {
        { "time_embedding.linear_1.", "time_embed.0." },
        { "time_embedding.linear_2.", "time_embed.2." },
        { "conv_in.", "input_blocks.0.0." }, { "conv_norm_out.", "out.0." },
        { "conv_out.", "out.2." },
        { "mid_block.attentions.0.", "middle_block.1." },
    };
    char prefix[64];
    int b, i;
    if (REPLACE(out, "", name, ends))
        return true;
    if (skip(&name, "mid_block.resnets."))
        return skip_number(&name, &i) &&
               resnet(out, i ? "middle_block.2." : "middle_block.0.", name);
    bool down = skip(&name, "down_blocks.");
    if ((!down && !skip(&name, "up_blocks.")) || !skip_number(&name, &b))
        return false;
    const char *blocks = down ? "input_blocks" : "output_blocks";
    if (skip(&name, "resnets.") && skip_number(&name, &i)) {
        snprintf(prefix, sizeof(prefix), "%s.%d.0.", blocks, 3 * b + i + down);
        return resnet(out, prefix, name);
    }
    if (skip(&name, "attentions.") && skip_number(&name, &i)) {
        snprintf(out, L2D_NAME_BYTES, "%s.%d.1.%s", blocks, 3 * b + i + down, name);
        return true;
    }
    if (skip(&name, "downsamplers.0.conv.")) {
        snprintf(out, L2D_NAME_BYTES, "input_blocks.%d.0.op.%s", 3 * b + 3, name);
        return true;
    }
    if (skip(&name, "upsamplers.0.conv.")) {        // behind the attention, where there is one
        snprintf(out, L2D_NAME_BYTES, "output_blocks.%d.%d.conv.%s", 3 * b + 2, b ? 2 : 1, name);
        return true;
    }
    return false;
}

// In the decoder, the four levels are numbered from the other end.
bool l2d_names_ldm_vae(char out[L2D_NAME_BYTES], const char *name)
{
    static const struct pair inner[] = {
        { "mid_block.resnets.0.conv_shortcut.", "mid.block_1.nin_shortcut." },
        { "mid_block.resnets.0.", "mid.block_1." }, { "mid_block.resnets.1.", "mid.block_2." },
        { "mid_block.attentions.0.group_norm.", "mid.attn_1.norm." },
        { "mid_block.attentions.0.to_q.", "mid.attn_1.q." },
        { "mid_block.attentions.0.to_k.", "mid.attn_1.k." },
        { "mid_block.attentions.0.to_v.", "mid.attn_1.v." },
        { "mid_block.attentions.0.to_out.0.", "mid.attn_1.proj_out." },
        { "conv_norm_out.", "norm_out." }, { "conv_in.", "conv_in." }, { "conv_out.", "conv_out." },
    };
    static const struct pair shortcut[] = { { "conv_shortcut.", "nin_shortcut." }, { "", "" } };
    char prefix[64];
    int b, i;
    if (!strncmp(name, "quant_conv.", 11) || !strncmp(name, "post_quant_conv.", 16)) {
        snprintf(out, L2D_NAME_BYTES, "%s", name);
        return true;
    }
    bool decoder = skip(&name, "decoder.");
    if (!decoder && !skip(&name, "encoder."))
        return false;
    if (REPLACE(out, decoder ? "decoder." : "encoder.", name, inner))
        return true;
    if (!skip(&name, decoder ? "up_blocks." : "down_blocks.") || !skip_number(&name, &b) || b > 3)
        return false;
    int level = snprintf(prefix, sizeof(prefix), "%s.%d.", decoder ? "decoder.up" : "encoder.down",
                         decoder ? 3 - b : b);
    if (skip(&name, "resnets.") && skip_number(&name, &i)) {
        snprintf(prefix + level, sizeof(prefix) - (size_t) level, "block.%d.", i);
        return REPLACE(out, prefix, name, shortcut);
    }
    if (!skip(&name, decoder ? "upsamplers.0.conv." : "downsamplers.0.conv."))
        return false;
    snprintf(out, L2D_NAME_BYTES, "%s%s.conv.%s", prefix, decoder ? "upsample" : "downsample",
             name);
    return true;
}

bool l2d_names_old_vae(char out[L2D_NAME_BYTES], const char *name)
{
    static const struct pair pairs[] = { { "to_q.", "query." }, { "to_k.", "key." },
                                         { "to_v.", "value." }, { "to_out.0.", "proj_attn." } };
    static const char *const nets[] = { "encoder.mid_block.attentions.0.",
                                        "decoder.mid_block.attentions.0." };
    for (int i = 0; i < 2; i++) {
        const char *rest = name;
        if (skip(&rest, nets[i]))
            return REPLACE(out, nets[i], rest, pairs);
    }
    return false;
}

bool l2d_names_taesd(char out[L2D_NAME_BYTES], const char *name, enum l2d_part part)
{
    bool decoder = part == L2D_PART_VAE_DECODER;
    int index;
    if (!skip(&name, decoder ? "decoder.layers." : "encoder.layers.") ||
        !skip_number(&name, &index))
        return false;
    snprintf(out, L2D_NAME_BYTES, "%d.%s", index + decoder, name);      // the decoder's 0 clamps
    return true;
}

const struct l2d_checkpoint_tensor *l2d_names_find(const struct l2d_checkpoint *checkpoint,
                                                   enum l2d_part part, const char *name)
{
    // In order: our own, then with what goes before it elsewhere. A NULL ends them.
    static const char *const prefixes[][6] = {
        [L2D_PART_UNET] = { "", "module.", "unet.", NULL },
        [L2D_PART_VAE] = { "", "vae.", NULL },
        [L2D_PART_TEXT] = { "text_model.", "", "cond_stage_model.transformer.text_model.",
                            "cond_stage_model.transformer.", "text_encoder.text_model.", NULL },
        [L2D_PART_DEPTH] = { "", NULL },
        [L2D_PART_VAE_ENCODER] = { NULL },
        [L2D_PART_VAE_DECODER] = { NULL },
    };
    char full[2 * L2D_NAME_BYTES], ldm[L2D_NAME_BYTES];
    const struct l2d_checkpoint_tensor *t = NULL;
    for (int i = 0; !t && prefixes[part][i]; i++) {
        snprintf(full, sizeof(full), "%s%s", prefixes[part][i], name);
        t = l2d_checkpoint_find(checkpoint, full);
    }
    if (!t && part == L2D_PART_UNET && l2d_names_ldm_unet(ldm, name)) {
        snprintf(full, sizeof(full), "model.diffusion_model.%s", ldm);
        t = l2d_checkpoint_find(checkpoint, full);
    }
    if (!t && part == L2D_PART_VAE && l2d_names_ldm_vae(ldm, name)) {
        snprintf(full, sizeof(full), "first_stage_model.%s", ldm);
        t = l2d_checkpoint_find(checkpoint, full);
        if (!t)
            t = l2d_checkpoint_find(checkpoint, ldm);
    }
    if (!t && part == L2D_PART_VAE && l2d_names_old_vae(ldm, name))
        t = l2d_checkpoint_find(checkpoint, ldm);
    if ((part == L2D_PART_VAE_ENCODER || part == L2D_PART_VAE_DECODER) &&
        l2d_names_taesd(ldm, name, part))
        t = l2d_checkpoint_find(checkpoint, ldm);
    return t;
}
