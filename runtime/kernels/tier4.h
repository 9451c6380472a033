// SPDX-License-Identifier: Apache-2.0
// Tiles for convolutions that load by coordinates, conv_t4.comp: what can be had that way, and how
// it is cut. Plain arithmetic, like tier3.h.
#ifndef L2D_KERNELS_TIER4_H
#define L2D_KERNELS_TIER4_H

#include "gpu/device.h"
#include "shaders/params/conv.h"

struct l2d_tier4_conv {
    uint32_t size;              // of a workgroup; 0: it cannot be had, or not on this device
    uint32_t spec[5];           // the constants from 4 on
    uint32_t groups[3];
    struct l2d_conv_params params;  // as the shader wants them: pixels of a 1x1 are one line
};

/**
 * has      the specialized flags of shaders/params/conv.h
 * geglu    columns of weights are values and gates
 */
struct l2d_tier4_conv l2d_tier4_conv(const struct l2d_gpu_caps *caps,
                                     const struct l2d_conv_params *params, uint32_t ksize,
                                     uint32_t has, bool geglu);

#endif
