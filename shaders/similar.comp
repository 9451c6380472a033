// SPDX-License-Identifier: Apache-2.0
// Partial sums of the products <p,x>, <p,p>, <x,x> of two pictures: one an invocation.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/flat.glsl"
#include "params/similar.h"

layout(binding = 0, std430) readonly buffer P { vec4 picture_p[]; };
layout(binding = 1, std430) readonly buffer X { vec4 picture_x[]; };
layout(binding = 2, std430) writeonly buffer Sums { vec4 sums[]; };
layout(push_constant, std430) uniform Push { l2d_similar_params p; };

void main()
{
    uint first = flat_invocation();
    if (first >= L2D_SIMILAR_SUMS)
        return;
    vec3 sum = vec3(0.0);
    for (uint i = first; i < p.pixels; i += L2D_SIMILAR_SUMS) {
        vec3 a = picture_p[i].rgb, b = picture_x[i].rgb;
        sum += vec3(dot(a, b), dot(a, a), dot(b, b));
    }
    sums[first] = vec4(sum, 0.0);
}
