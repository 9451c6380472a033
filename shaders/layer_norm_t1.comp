// SPDX-License-Identifier: Apache-2.0
// LayerNorm over the channels of each token, for GPUs: LANES neighbours of a subgroup share a token
// and keep it in registers.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/precision.glsl"
#include "lib/flat.glsl"
#include "params/norm.h"

layout(constant_id = 1) const uint LANES = 1;   // a power of 2, at most a subgroup's
layout(constant_id = 2) const uint QUADS = 1;   // channels / 4
layout(binding = 0, std430) readonly buffer X { IN4 x[]; };
layout(binding = 1, std430) readonly buffer Weight { vec4 weight[]; };
layout(binding = 2, std430) readonly buffer Bias { vec4 bias[]; };
layout(binding = 3, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_layer_norm_params p; };

#include "lib/lanes.glsl"

const uint EACH = (QUADS + LANES - 1u) / LANES;

float total(vec4 v)
{
    return sum_of_lanes((v.x + v.y) + (v.z + v.w));
}

void main()
{
    uint lane = gl_SubgroupInvocationID % LANES;
    uint invocation = (flat_group() * gl_NumSubgroups + gl_SubgroupID) * gl_SubgroupSize +
                      gl_SubgroupInvocationID;
    uint token = invocation / LANES, first = token * QUADS;
    if (token >= p.tokens)                      // all its lanes
        return;

    vec4 v[EACH], sums = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        uint quad = i * LANES + lane;
        v[i] = vec4(0.0);
        if (quad < QUADS)
            v[i] = LOAD4(x[first + quad]);
        sums += v[i];
    }
    float mean = total(sums) / float(4u * QUADS);

    // The second pass also gathers what the mean's own rounding left over.
    vec4 squares = vec4(0.0), rests = vec4(0.0);
    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        vec4 d = i * LANES + lane < QUADS ? v[i] - mean : vec4(0.0);
        squares += d * d;
        rests += d;
    }
    float rest = total(rests) / float(4u * QUADS);
    float variance = max(0.0, total(squares) / float(4u * QUADS) - rest * rest);
    float scale = 1.0 / sqrt(variance + p.eps);
    mean += rest;

    [[unroll]] for (uint i = 0u; i < EACH; i++) {
        uint quad = i * LANES + lane;
        if (quad < QUADS)
            y[first + quad] = STORE4((v[i] - mean) * scale * weight[quad] + bias[quad]);
    }
}
