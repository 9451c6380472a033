// SPDX-License-Identifier: Apache-2.0
// Attention with an online softmax (Milakov and Gimelshein, 2018). An invocation keeps one query of
// one head and its sum; keys and values are read at addresses that all invocations share, in blocks
// of 4, so that the sum is rescaled once a block.
#version 460
#extension GL_GOOGLE_include_directive : require
#include "lib/precision.glsl"
#include "lib/math.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint QUADS = 1;   // d / 4
layout(constant_id = 2) const uint CAUSAL = 0;
layout(binding = 0, std430) readonly buffer Q { IN4 q_in[]; };
layout(binding = 1, std430) readonly buffer KV { IN4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

float sum4(vec4 v)
{
    return (v.x + v.y) + (v.z + v.w);
}

void main()
{
    uint query = gl_GlobalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint token = row * p.queries + min(query, p.queries - 1u);
    uint last_key = p.keys - 1u;
    uint k_at = row * p.kv_row_stride + p.k_first + head * QUADS;
    uint v_at = row * p.kv_row_stride + p.v_first + head * QUADS;

    vec4 q[QUADS], acc[QUADS];
    for (uint i = 0u; i < QUADS; i++) {
        q[i] = LOAD4(q_in[token * p.q_stride + p.q_first + head * QUADS + i]) * p.scale;
        acc[i] = vec4(0.0);
    }
    float top = -3.0e38, sum = 0.0;
    uint block = 0u;
    do {
        uvec4 key = block + uvec4(0u, 1u, 2u, 3u);
        uvec4 at = min(key, uvec4(last_key)) * p.kv_stride;
        vec4 d0 = vec4(0.0), d1 = vec4(0.0), d2 = vec4(0.0), d3 = vec4(0.0);
        for (uint i = 0u; i < QUADS; i++) {
            d0 += q[i] * LOAD4(kv[k_at + at.x + i]);
            d1 += q[i] * LOAD4(kv[k_at + at.y + i]);
            d2 += q[i] * LOAD4(kv[k_at + at.z + i]);
            d3 += q[i] * LOAD4(kv[k_at + at.w + i]);
        }
        vec4 score = vec4(sum4(d0), sum4(d1), sum4(d2), sum4(d3));
        bvec4 hidden = greaterThan(key, uvec4(CAUSAL != 0u ? min(query, last_key) : last_key));
        score = mix(score, vec4(-3.0e38), hidden);

        float new_top = max(max(top, max(score.x, score.y)), max(score.z, score.w));
        float shrink = exp1(top - new_top);
        vec4 w = mix(exp4(score - new_top), vec4(0.0), hidden);
        sum = sum * shrink + sum4(w);
        for (uint i = 0u; i < QUADS; i++)
            acc[i] = acc[i] * shrink + w.x * LOAD4(kv[v_at + at.x + i])
                                     + w.y * LOAD4(kv[v_at + at.y + i])
                                     + w.z * LOAD4(kv[v_at + at.z + i])
                                     + w.w * LOAD4(kv[v_at + at.w + i]);
        top = new_top;
        block += 4u;
    } while (block < p.keys);

    if (query >= p.queries)
        return;
    for (uint i = 0u; i < QUADS; i++)
        y[(token * p.heads + head) * QUADS + i] = STORE4(acc[i] / sum);
}
