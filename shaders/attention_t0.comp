// SPDX-License-Identifier: Apache-2.0
// Attention for CPU drivers; the sum is that of attention.comp. A subgroup takes as many keys at a
// time as it has lanes: each lane loads one key and value, which shuffles show to the others, since
// a load costs as much for one address as for many (see conv_t0.comp). A lane keeps QUERIES
// queries.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/precision.glsl"
#include "lib/math.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;                 // one subgroup
layout(constant_id = 1) const uint QUADS = 1;   // d / 4
layout(constant_id = 2) const uint CAUSAL = 0;
layout(constant_id = 3) const uint QUERIES = 1;
IN_QUADS(0, q_in)
IN_QUADS(1, kv)
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

const uint KEYS = gl_WorkGroupSize.x;

void main()
{
    uint lane = gl_LocalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint first = gl_WorkGroupID.x * QUERIES * gl_WorkGroupSize.x + lane;
    uint last_key = p.keys - 1u, kv_at = row * p.kv_row_stride + head * QUADS;

    vec4 q[QUERIES * QUADS], acc[QUERIES * QUADS];
    float top[QUERIES], sum[QUERIES];
    [[unroll]] for (uint j = 0u; j < QUERIES; j++) {
        uint token = row * p.queries + min(first + j * gl_WorkGroupSize.x, p.queries - 1u);
        [[unroll]] for (uint i = 0u; i < QUADS; i++) {
            q[j * QUADS + i] =
                FETCH4(q_in, token * p.q_stride + p.q_first + head * QUADS + i) * p.scale;
            acc[j * QUADS + i] = vec4(0.0);
        }
        top[j] = -3.0e38;
        sum[j] = 0.0;
    }

    uint block = 0u;
    do {
        uint at = kv_at + min(block + lane, last_key) * p.kv_stride;
        float w[QUERIES * KEYS];
        [[unroll]] for (uint n = 0u; n < QUERIES * KEYS; n++)
            w[n] = 0.0;
        [[unroll]] for (uint i = 0u; i < QUADS; i++) {
            vec4 mine = FETCH4(kv, at + p.k_first + i);
            [[unroll]] for (uint k = 0u; k < KEYS; k++) {
                vec4 key = subgroupShuffle(mine, k);
                [[unroll]] for (uint j = 0u; j < QUERIES; j++)
                    w[j * KEYS + k] += dot(q[j * QUADS + i], key);
            }
        }
        [[unroll]] for (uint j = 0u; j < QUERIES; j++) {
            uint limit = CAUSAL != 0u ? min(first + j * gl_WorkGroupSize.x, last_key) : last_key;
            float new_top = top[j];
            [[unroll]] for (uint k = 0u; k < KEYS; k++)
                new_top = block + k <= limit ? max(new_top, w[j * KEYS + k]) : new_top;
            float shrink = exp1(top[j] - new_top);
            sum[j] *= shrink;
            [[unroll]] for (uint k = 0u; k < KEYS; k++) {
                float weight = exp1(w[j * KEYS + k] - new_top);
                w[j * KEYS + k] = block + k <= limit ? weight : 0.0;
                sum[j] += w[j * KEYS + k];
            }
            [[unroll]] for (uint i = 0u; i < QUADS; i++)
                acc[j * QUADS + i] *= shrink;
            top[j] = new_top;
        }
        [[unroll]] for (uint i = 0u; i < QUADS; i++) {
            vec4 mine = FETCH4(kv, at + p.v_first + i);
            [[unroll]] for (uint k = 0u; k < KEYS; k++) {
                vec4 value = subgroupShuffle(mine, k);
                [[unroll]] for (uint j = 0u; j < QUERIES; j++)
                    acc[j * QUADS + i] += w[j * KEYS + k] * value;
            }
        }
        block += KEYS;
    } while (block < p.keys);

    [[unroll]] for (uint j = 0u; j < QUERIES; j++) {
        uint query = first + j * gl_WorkGroupSize.x;
        if (query < p.queries)
            [[unroll]] for (uint i = 0u; i < QUADS; i++)
                y[((row * p.queries + query) * p.heads + head) * QUADS + i] =
                    STORE4(acc[j * QUADS + i] / sum[j]);
    }
}
