// SPDX-License-Identifier: Apache-2.0
// LayerNorm over the channels of each token. LANES invocations share a token: 1 on CPU drivers,
// where lanes are cheap to keep apart, more on GPUs, where neighbours should read neighbours.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/norm.h"

// The workgroup is a multiple of LANES, at most 256.
layout(constant_id = 1) const uint LANES = 1;   // a power of 2
IN_QUADS(0, x)
IN_QUADS_F32(1, weight)
IN_QUADS_F32(2, bias)
layout(binding = 3, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_layer_norm_params p; };

shared float part[256];

float total(float value)
{
    if (LANES == 1u)
        return value;
    uint at = gl_LocalInvocationID.x;
    part[at] = value;
    barrier();
    for (uint half_size = LANES / 2u; half_size > 0u; half_size /= 2u) {
        if (at % LANES < half_size)
            part[at] += part[at + half_size];
        barrier();
    }
    float sum = part[at - at % LANES];
    barrier();
    return sum;
}

void main()
{
    uint quads = p.channels / 4u, lane = flat_invocation() % LANES;
    uint token = flat_invocation() / LANES;
    bool real = token < p.tokens;
    uint first = min(token, p.tokens - 1u) * quads;     // beyond the end: repeat, do not store

    float sum = 0.0;
    for (uint q = lane; q < quads; q += LANES)
        sum += dot(FETCH4(x, first + q), vec4(1.0));
    float mean = total(sum) / float(p.channels);

    // The second pass also gathers what the mean's own rounding left over.
    float squares = 0.0, rest = 0.0;
    for (uint q = lane; q < quads; q += LANES) {
        vec4 d = FETCH4(x, first + q) - mean;
        squares += dot(d, d);
        rest += dot(d, vec4(1.0));
    }
    rest = total(rest) / float(p.channels);
    float variance = max(0.0, total(squares) / float(p.channels) - rest * rest);
    float scale = 1.0 / sqrt(variance + p.eps);
    mean += rest;

    for (uint q = lane; q < quads; q += LANES)
        if (real)
            y[first + q] = STORE4((FETCH4(x, first + q) - mean) * scale * FETCH4_F32(weight, q) +
                                  FETCH4_F32(bias, q));
}
