// SPDX-License-Identifier: Apache-2.0
// Attention for heads that are too wide for one invocation's registers; the sum is that of
// attention.comp. A workgroup takes 16 queries, and 32 keys at a time: scores from slices of both
// in shared memory, then the values, of which each of a query's 8 invocations sums every eighth
// quad.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_EXT_control_flow_attributes : require
#include "lib/precision.glsl"
#include "lib/math.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;                 // 128
layout(constant_id = 1) const uint QUADS = 1;   // d / 4
layout(constant_id = 2) const uint CAUSAL = 0;
layout(binding = 0, std430) readonly buffer Q { IN4 q_in[]; };
layout(binding = 1, std430) readonly buffer KV { IN4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

#define QUERIES 16u
#define KEYS 32u
#define SLICE 16u                               // of the head, in quads
#define PITCH 17u                               // of a line in shared memory

const uint OWN = (QUADS + 7u) / 8u;

shared vec4 q_part[QUERIES * PITCH], k_part[KEYS * PITCH];
shared float score[QUERIES * KEYS];              // then weights: all fits in 16 KiB

void main()
{
    uint t = gl_LocalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint mine = t / 8u, lane = t % 8u, first = gl_WorkGroupID.x * QUERIES, query = first + mine;
    uint last_key = p.keys - 1u, limit = CAUSAL != 0u ? min(query, last_key) : last_key;
    uint k_at = row * p.kv_row_stride + p.k_first + head * QUADS;
    uint v_at = row * p.kv_row_stride + p.v_first + head * QUADS;

    vec4 acc[OWN];
    [[unroll]] for (uint i = 0u; i < OWN; i++)
        acc[i] = vec4(0.0);
    float top = -3.0e38, sum = 0.0;
    uint block = 0u;
    do {
        vec4 dots[4] = vec4[](vec4(0.0), vec4(0.0), vec4(0.0), vec4(0.0));
        uint slice = 0u;
        do {
            uint quad = slice + t % SLICE;
            [[unroll]] for (uint i = 0u; i < QUERIES / 8u; i++) {
                uint n = t / SLICE + 8u * i;
                uint token = row * p.queries + min(first + n, p.queries - 1u);
                q_part[n * PITCH + t % SLICE] = quad < QUADS
                    ? LOAD4(q_in[token * p.q_stride + p.q_first + head * QUADS + quad]) : vec4(0.0);
            }
            [[unroll]] for (uint i = 0u; i < KEYS / 8u; i++) {
                uint n = t / SLICE + 8u * i;
                k_part[n * PITCH + t % SLICE] = quad < QUADS
                    ? LOAD4(kv[k_at + min(block + n, last_key) * p.kv_stride + quad]) : vec4(0.0);
            }
            barrier();
            [[unroll]] for (uint i = 0u; i < SLICE; i++) {
                vec4 q = q_part[mine * PITCH + i];
                [[unroll]] for (uint j = 0u; j < 4u; j++)
                    dots[j] += q * k_part[(lane + 8u * j) * PITCH + i];
            }
            barrier();
            slice += SLICE;
        } while (slice < QUADS);
        [[unroll]] for (uint j = 0u; j < 4u; j++) {
            uint n = lane + 8u * j;
            score[mine * KEYS + n] = block + n <= limit ? dot(dots[j], vec4(p.scale)) : -3.0e38;
        }
        barrier();

        float new_top = top;
        for (uint n = 0u; n < KEYS; n++)
            new_top = max(new_top, score[mine * KEYS + n]);
        barrier();
        [[unroll]] for (uint j = 0u; j < 4u; j++) {
            uint n = mine * KEYS + lane + 8u * j;
            score[n] = block + lane + 8u * j <= limit ? exp1(score[n] - new_top) : 0.0;
        }
        float shrink = exp1(top - new_top);
        sum *= shrink;
        [[unroll]] for (uint i = 0u; i < OWN; i++)
            acc[i] *= shrink;
        top = new_top;
        barrier();

        for (uint n = 0u; n < KEYS; n++) {
            float w = score[mine * KEYS + n];
            uint at = v_at + min(block + n, last_key) * p.kv_stride;
            sum += w;
            [[unroll]] for (uint i = 0u; i < OWN; i++)
                acc[i] += w * LOAD4(kv[at + min(lane + 8u * i, QUADS - 1u)]);
        }
        block += KEYS;
    } while (block < p.keys);

    if (query >= p.queries)
        return;
    [[unroll]] for (uint i = 0u; i < OWN; i++)
        if (lane + 8u * i < QUADS)
            y[((row * p.queries + query) * p.heads + head) * QUADS + lane + 8u * i] =
                STORE4(acc[i] / sum);
}
