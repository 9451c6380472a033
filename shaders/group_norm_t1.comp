// SPDX-License-Identifier: Apache-2.0
// GroupNorm of what is small, in one go, for GPUs: the workgroup that has a group's statistics
// applies them to what it has kept. See group_norm_apply.comp.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/group_part.glsl"

layout(constant_id = 4) const uint ACT = 0;     // enum l2d_act: none, SiLU, ReLU
layout(constant_id = 5) const uint RESIDUAL = 0;
layout(binding = 2, std430) readonly buffer Weight { float weight[]; };
layout(binding = 3, std430) readonly buffer Bias { float bias[]; };
layout(binding = 4, std430) readonly buffer Residual { T residual[]; };
layout(binding = 5, std430) writeonly buffer YQuads { OUT4 y_quads[]; };
layout(binding = 5, std430) writeonly buffer YPairs { OUT2 y_pairs[]; };
layout(binding = 5, std430) writeonly buffer Y { T y[]; };

#include "lib/activate.glsl"

void main()
{
    uint channels = p.groups * WIDTH, first = gl_WorkGroupID.x * WIDTH;
    uint begin = gl_WorkGroupID.y * p.pixels;
    vec2 found = mean_and_squares(first, begin, begin + p.pixels);
    float scale = 1.0 / sqrt(found.y / float(WIDTH * p.pixels) + p.eps);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        uint item = item_of(i), channel = first + item % UNITS * UNIT;
        uint at = (begin + item / UNITS) * channels + channel;
        if (item < p.pixels * UNITS) {
            vec4 v = kept[i] - found.x;
            [[unroll]] for (uint k = 0u; k < UNIT; k++) {
                v[k] = v[k] * (scale * weight[channel + k]) + bias[channel + k];
                if (RESIDUAL != 0u)
                    v[k] += float(residual[at + k]);
            }
            v = activate(v);
            if (UNIT == 4u)
                y_quads[at / 4u] = STORE4(v);
            else if (UNIT == 2u)
                y_pairs[at / 2u] = STORE2(v.xy);
            else
                y[at] = T(v.x);
        }
    }
}
