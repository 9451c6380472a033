// SPDX-License-Identifier: Apache-2.0
// Bilinear resize, and the sum with another map. An invocation makes four channels of a pixel.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "lib/bilinear.glsl"
#include "params/map.h"

layout(constant_id = 1) const uint FROM_F32 = 0;    // x is f32: one of the first two is read
layout(constant_id = 2) const uint ADD = 0;
layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) readonly buffer X32 { vec4 x32[]; };
layout(binding = 2, std430) readonly buffer Add { IN4 add[]; };
layout(binding = 3, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_map_params p; };

vec4 load(uint at)
{
    if (FROM_F32 != 0u)
        return x32[at];
    return LOAD4(x[at]);
}

void main()
{
    uint item = flat_invocation();
    if (item >= p.num_rows * p.oh * p.ow * p.quads)
        return;
    uint quad = item % p.quads, pixel = item / p.quads;
    uint first = pixel / (p.oh * p.ow) * p.h * p.w;
    tap2 tx = bilinear_taps(pixel % p.ow, p.w, p.ow, p.align_corners != 0u);
    tap2 ty = bilinear_taps(pixel / p.ow % p.oh, p.h, p.oh, p.align_corners != 0u);
    uint lo = first + ty.lo * p.w, hi = first + ty.hi * p.w;
    vec4 top = mix(load((lo + tx.lo) * p.quads + quad), load((lo + tx.hi) * p.quads + quad), tx.f);
    vec4 low = mix(load((hi + tx.lo) * p.quads + quad), load((hi + tx.hi) * p.quads + quad), tx.f);
    vec4 v = mix(top, low, ty.f);
    if (ADD != 0u)
        v += LOAD4(add[item]);
    y[item] = STORE4(v);
}
