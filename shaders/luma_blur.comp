// SPDX-License-Identifier: Apache-2.0
// Luma structure, 2 of 3: gaussian blur of the block means, edges repeated.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/luma.h"

layout(binding = 0, std430) readonly buffer Blocks { float blocks[]; };
layout(binding = 1, std430) writeonly buffer Blurred { float blurred[]; };
layout(push_constant, std430) uniform Push { l2d_luma_params p; };

void main()
{
    int bw = int(p.w) / L2D_LUMA_BLOCK, bh = int(p.h) / L2D_LUMA_BLOCK;
    int item = int(flat_invocation());
    if (item >= bw * bh)
        return;
    float sum = 0.0;
    for (int dy = -L2D_LUMA_RADIUS; dy <= L2D_LUMA_RADIUS; dy++) {
        int y = clamp(item / bw + dy, 0, bh - 1);
        float line = 0.0;
        for (int dx = -L2D_LUMA_RADIUS; dx <= L2D_LUMA_RADIUS; dx++)
            line += p.tap[abs(dx)] * blocks[y * bw + clamp(item % bw + dx, 0, bw - 1)];
        sum += p.tap[abs(dy)] * line;
    }
    blurred[item] = sum;
}
