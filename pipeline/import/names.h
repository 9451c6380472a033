// SPDX-License-Identifier: Apache-2.0
// What the tensors of a model folder are called in the files that people have: diffusers' folders
// (whose names are ours), CompVis' single files (LDM), the original TAESD, and what training
// programs put before all of these.
// Source: diffusers, scripts/convert_original_stable_diffusion_to_diffusers.py.
#ifndef L2D_PIPELINE_IMPORT_NAMES_H
#define L2D_PIPELINE_IMPORT_NAMES_H

#include <stdbool.h>

#include "tensor/checkpoint.h"

#define L2D_NAME_BYTES 384

enum l2d_part {                 // of a model, as of its files
    L2D_PART_UNET, L2D_PART_VAE, L2D_PART_TEXT, L2D_PART_DEPTH,
    L2D_PART_VAE_ENCODER, L2D_PART_VAE_DECODER,     // of the original TAESD, which has two files
};

/** LDM's name of a UNet's tensor, without "model.diffusion_model.". false: it has none there. */
bool l2d_names_ldm_unet(char out[L2D_NAME_BYTES], const char *name);

/** LDM's name of an AutoencoderKL's tensor, without "first_stage_model.". false: it has none. */
bool l2d_names_ldm_vae(char out[L2D_NAME_BYTES], const char *name);

/** What diffusers called an AutoencoderKL's attention at first. false: it is no part of it. */
bool l2d_names_old_vae(char out[L2D_NAME_BYTES], const char *name);

/** The original name of a TAESD tensor in its encoder's or decoder's file. false: of the other. */
bool l2d_names_taesd(char out[L2D_NAME_BYTES], const char *name, enum l2d_part part);

/**
 * The tensor that a checkpoint has for ours, or NULL.
 * name     without any prefix: "conv_in.weight", "encoder.layers.0.mlp.fc1.bias"
 */
const struct l2d_checkpoint_tensor *l2d_names_find(const struct l2d_checkpoint *checkpoint,
                                                   enum l2d_part part, const char *name);

#endif
