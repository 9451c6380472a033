// SPDX-License-Identifier: Apache-2.0
// Names in CompVis' files, each from the table in diffusers' conversion script.
#include "pipeline/import/names.h"

#include <criterion/criterion.h>

Test(import_names, ldm_unet)
{
    static const struct { const char *ours, *ldm; } cases[] = {
        { "conv_in.weight", "input_blocks.0.0.weight" },
        { "conv_norm_out.bias", "out.0.bias" },
        { "conv_out.weight", "out.2.weight" },
        { "time_embedding.linear_1.weight", "time_embed.0.weight" },
        { "time_embedding.linear_2.bias", "time_embed.2.bias" },
        { "down_blocks.0.resnets.0.norm1.weight", "input_blocks.1.0.in_layers.0.weight" },
        { "down_blocks.0.resnets.1.conv1.weight", "input_blocks.2.0.in_layers.2.weight" },
        { "down_blocks.0.attentions.1.proj_in.weight", "input_blocks.2.1.proj_in.weight" },
        { "down_blocks.0.downsamplers.0.conv.weight", "input_blocks.3.0.op.weight" },
        { "down_blocks.1.resnets.0.conv_shortcut.bias", "input_blocks.4.0.skip_connection.bias" },
        { "down_blocks.2.downsamplers.0.conv.bias", "input_blocks.9.0.op.bias" },
        { "down_blocks.3.resnets.1.time_emb_proj.bias", "input_blocks.11.0.emb_layers.1.bias" },
        { "mid_block.resnets.0.norm2.weight", "middle_block.0.out_layers.0.weight" },
        { "mid_block.attentions.0.transformer_blocks.0.attn1.to_q.weight",
          "middle_block.1.transformer_blocks.0.attn1.to_q.weight" },
        { "mid_block.resnets.1.conv2.weight", "middle_block.2.out_layers.3.weight" },
        { "up_blocks.0.resnets.2.conv1.weight", "output_blocks.2.0.in_layers.2.weight" },
        { "up_blocks.0.upsamplers.0.conv.weight", "output_blocks.2.1.conv.weight" },
        { "up_blocks.1.attentions.2.proj_out.weight", "output_blocks.5.1.proj_out.weight" },
        { "up_blocks.1.upsamplers.0.conv.weight", "output_blocks.5.2.conv.weight" },
        { "up_blocks.3.resnets.2.conv2.bias", "output_blocks.11.0.out_layers.3.bias" },
    };
    char out[L2D_NAME_BYTES];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_assert(l2d_names_ldm_unet(out, cases[i].ours), "%s", cases[i].ours);
        cr_assert_str_eq(out, cases[i].ldm);
    }
    static const char *const none[] = {
        "down_blocks.0.motion_modules.0.temporal_transformer.norm.weight",
        "flow_conv_in.conv_out.bias",
        "down_blocks.x.resnets.0.norm1.weight", "down_blocks.", "mid_block.resnets.", "", "conv_in",
    };
    for (size_t i = 0; i < sizeof(none) / sizeof(*none); i++)
        cr_assert_not(l2d_names_ldm_unet(out, none[i]), "%s", none[i]);
}

Test(import_names, autoencoder_kl)
{
    static const struct { const char *ours, *ldm; } cases[] = {
        { "encoder.conv_in.weight", "encoder.conv_in.weight" },
        { "encoder.down_blocks.1.resnets.0.conv_shortcut.weight",
          "encoder.down.1.block.0.nin_shortcut.weight" },
        { "encoder.down_blocks.2.downsamplers.0.conv.bias", "encoder.down.2.downsample.conv.bias" },
        { "decoder.up_blocks.0.resnets.2.norm1.weight", "decoder.up.3.block.2.norm1.weight" },
        { "decoder.up_blocks.2.upsamplers.0.conv.weight", "decoder.up.1.upsample.conv.weight" },
        { "decoder.mid_block.resnets.1.conv2.bias", "decoder.mid.block_2.conv2.bias" },
        { "encoder.mid_block.attentions.0.group_norm.bias", "encoder.mid.attn_1.norm.bias" },
        { "encoder.mid_block.attentions.0.to_out.0.weight", "encoder.mid.attn_1.proj_out.weight" },
        { "decoder.conv_norm_out.weight", "decoder.norm_out.weight" },
        { "post_quant_conv.bias", "post_quant_conv.bias" },
    };
    char out[L2D_NAME_BYTES];
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_assert(l2d_names_ldm_vae(out, cases[i].ours), "%s", cases[i].ours);
        cr_assert_str_eq(out, cases[i].ldm);
    }
    cr_assert_not(l2d_names_ldm_vae(out, "decoder.up_blocks.4.resnets.0.norm1.weight"));
    cr_assert_not(l2d_names_ldm_vae(out, "encoder.layers.0.weight"));
    cr_assert(l2d_names_old_vae(out, "encoder.mid_block.attentions.0.to_out.0.bias"));
    cr_assert_str_eq(out, "encoder.mid_block.attentions.0.proj_attn.bias");
    cr_assert_not(l2d_names_old_vae(out, "encoder.mid_block.attentions.0.group_norm.bias"));
}

Test(import_names, original_taesd)
{
    char out[L2D_NAME_BYTES];
    cr_assert(l2d_names_taesd(out, "encoder.layers.14.weight", L2D_PART_VAE_ENCODER));
    cr_assert_str_eq(out, "14.weight");
    cr_assert(l2d_names_taesd(out, "decoder.layers.2.conv.4.bias", L2D_PART_VAE_DECODER));
    cr_assert_str_eq(out, "3.conv.4.bias");
    cr_assert_not(l2d_names_taesd(out, "decoder.layers.2.conv.4.bias", L2D_PART_VAE_ENCODER));
    cr_assert_not(l2d_names_taesd(out, "encoder.layers.x", L2D_PART_VAE_ENCODER));
}
