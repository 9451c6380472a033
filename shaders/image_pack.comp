// SPDX-License-Identifier: Apache-2.0
// Codec input: its range, and pixel-unshuffle; channel c*patch^2 + dy*patch + dx, as in torch.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/image.h"

layout(binding = 0, std430) readonly buffer Image { float image[]; };
layout(binding = 1, std430) writeonly buffer X { OUT4 x[]; };
layout(push_constant, std430) uniform Push { l2d_image_params p; };

void main()
{
    uint item = flat_invocation(), quads = p.channels / 4u;
    if (item >= p.w * p.h * quads)
        return;
    uint quad = item % quads, pixel = item / quads;
    uint px = pixel % p.w, py = pixel / p.w, area = p.patch_size * p.patch_size;
    vec4 v = vec4(0.0);
    for (uint i = 0u; i < 4u; i++) {
        uint c = quad * 4u + i;
        if (c < 3u * area) {
            uint x0 = px * p.patch_size + c % area % p.patch_size;
            uint y0 = py * p.patch_size + c % area / p.patch_size;
            v[i] = p.scale * image[(y0 * p.w * p.patch_size + x0) * 4u + c / area] + p.shift;
        }
    }
    x[p.row * p.w * p.h * quads + item] = STORE4(v);
}
