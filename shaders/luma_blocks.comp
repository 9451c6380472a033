// SPDX-License-Identifier: Apache-2.0
// Luma structure, 1 of 3: mean luminance of each 8x8 block.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "lib/luma.glsl"
#include "params/luma.h"

layout(binding = 0, std430) readonly buffer Image { vec4 image[]; };
layout(binding = 1, std430) writeonly buffer Blocks { float blocks[]; };
layout(push_constant, std430) uniform Push { l2d_luma_params p; };

void main()
{
    uint bw = p.w / L2D_LUMA_BLOCK, bh = p.h / L2D_LUMA_BLOCK, item = flat_invocation();
    if (item >= bw * bh)
        return;
    uint first = (item / bw * p.w + item % bw) * L2D_LUMA_BLOCK;
    float sum = 0.0;
    for (uint y = 0u; y < L2D_LUMA_BLOCK; y++)
        for (uint x = 0u; x < L2D_LUMA_BLOCK; x++)
            sum += luma_of(image[first + y * p.w + x]);
    blocks[item] = sum / float(L2D_LUMA_BLOCK * L2D_LUMA_BLOCK);
}
