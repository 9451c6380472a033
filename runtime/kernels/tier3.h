// SPDX-License-Identifier: Apache-2.0
// Tiles for matrices of any size (VK_NV_cooperative_matrix2): which of a device's sizes, and how
// large. Plain arithmetic on what the device says of itself.
#ifndef L2D_KERNELS_TIER3_H
#define L2D_KERNELS_TIER3_H

#include "gpu/device.h"

#define L2D_TIER3_CONV_TILES 4

struct l2d_tier3_conv {
    uint32_t size;              // of a workgroup; 0: the tile does not fit the device
    uint32_t pixels, columns;   // of the tile
    uint32_t spec[5];           // the constants from 4 on, of conv_t3.comp
    uint32_t shared_bytes;      // with what the driver takes
};

/** Number `index` of the tiles, from large to small; their sums are added in the same slices. */
struct l2d_tier3_conv l2d_tier3_conv(const struct l2d_gpu_caps *caps, uint32_t index);

// All specialization constants of attention_t3.comp.
struct l2d_tier3_attention {
    uint32_t queries;           // of a workgroup; 0: the device cannot
    uint32_t spec[8];
};

/** For heads of 4 quads channels. */
struct l2d_tier3_attention l2d_tier3_attention(const struct l2d_gpu_caps *caps, uint32_t quads,
                                               bool causal);

#endif
