// SPDX-License-Identifier: Apache-2.0
// See kind.h.
#include "pipeline/import/kind.h"

#include <stddef.h>
#include <string.h>

// In this order: the first whose part is in a name. Those behind have parts of those before.
static const struct { const char *part; struct l2d_kind kind; } kinds[] = {
    { "hada_", { "a LoHa, another kind of change than LoRA", NULL, false } },
    { "lokr_", { "a LoKr, another kind of change than LoRA", NULL, false } },
    { "dora_scale", { "a DoRA, another kind of change than LoRA", NULL, false } },
    { "lora", { "a LoRA", "--lora FILE:SCALE", false } },
    { "string_to_param/", { "a textual inversion", "--embedding FILE:WORD", false } },
    { "emb_params", { "a textual inversion", "--embedding FILE:WORD", false } },
    { "motion_modules.", { "motion modules, of Live2Diff or AnimateDiff", "--motion FILE", true } },
    { "model.diffusion_model.input_blocks.0.", { "a single-file Stable Diffusion checkpoint",
                                                 "--base FILE or --dreambooth FILE", true } },
    { "first_stage_model.", { "a single-file autoencoder", "--vae FILE", false } },
    { "pretrained.model.patch_embed.", { "MiDaS's DPT-hybrid depth network", "--depth FILE",
                                        false } },
    { "time_embedding.linear_1.", { "a diffusers UNet", "--base FOLDER, the one above its own",
                                    true } },
    { "token_embedding.", { "a CLIP text encoder", "--base FOLDER, the one above its own",
                            false } },
    { "encoder.down_blocks.", { "a diffusers AutoencoderKL", "--vae FILE", false } },
    { "decoder.layers.", { "TAESD, the tiny autoencoder, in diffusers' names", "--vae FILE",
                           false } },
    { "1.conv.0.weight", { "one half of the original TAESD", "--vae FOLDER, which has both",
                            false } },
};

// One tensor, under any name, of vectors as wide as those of SD1.5's text encoder.
static bool is_embedding(const struct l2d_checkpoint *checkpoint)
{
    const struct l2d_checkpoint_tensor *t =
        l2d_checkpoint_count(checkpoint) == 1 ? l2d_checkpoint_get(checkpoint, 0) : NULL;
    return t && t->ndim >= 1 && t->ndim <= 2 && t->dims[t->ndim - 1] == 768;
}

struct l2d_kind l2d_kind_of(const struct l2d_checkpoint *checkpoint)
{
    for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++)
        for (size_t i = 0; i < l2d_checkpoint_count(checkpoint); i++)
            if (strstr(l2d_checkpoint_get(checkpoint, i)->name, kinds[k].part))
                return kinds[k].kind;
    if (is_embedding(checkpoint))
        return (struct l2d_kind) { "a textual inversion", "--embedding FILE:WORD", false };
    return (struct l2d_kind) { "nothing that we know", NULL, false };
}
