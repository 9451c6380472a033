// SPDX-License-Identifier: Apache-2.0
// Attention on matrix units (VK_KHR_cooperative_matrix) with an online softmax. A subgroup keeps CM
// queries of one head and their sums; the workgroup shares blocks of keys and values. Scores go
// through shared memory, where lanes turn them into weights: who holds what of a matrix is the
// device's secret. Halves in, scores and sums in f32, weights as halves.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
#version 460
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_shuffle : require
#include "lib/precision.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint QUADS = 10;      // d / 4
layout(constant_id = 2) const uint CAUSAL = 0;
layout(constant_id = 3) const uint CM = 16;         // a matrix: queries, keys or channels, depth
layout(constant_id = 4) const uint CN = 16;
layout(constant_id = 5) const uint CK = 16;
layout(constant_id = 6) const uint SUBGROUPS = 4;
layout(constant_id = 7) const uint LANES = 32;      // of a subgroup, a multiple of CM
layout(constant_id = 8) const uint BLOCK = 32;      // keys, a multiple of CN and CK
layout(binding = 0, std430) readonly buffer Q { IN4 q_in[]; };
layout(binding = 1, std430) readonly buffer KV { IN4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint DEPTH = (QUADS * 4 + CK - 1) / CK;       // matrices that cover d, of keys and values
const uint WIDTH = (QUADS * 4 + CN - 1) / CN;
const uint COVER_K = DEPTH * CK / 4, COVER_V = WIDTH * CN / 4;      // in quads
const uint PITCH_K = COVER_K + 2;                   // of a key, in quads, to spread the banks
const uint PITCH_V = BLOCK / 2 + 4;                 // of a channel's values, in pairs of keys
const uint PITCH_S = BLOCK + 4;                     // of a query's scores
const uint PITCH_W = BLOCK / 4 + 2;                 // of its weights, in quads
const uint PART = LANES / CM;                       // lanes that share a query

// Both as a second factor's columns, since most devices have a lane hold one: a key's channels, and
// a channel of all keys.
shared f16vec4 keys[BLOCK * PITCH_K];
shared f16vec2 values[WIDTH * CN * PITCH_V];
shared float scores[SUBGROUPS * CM * PITCH_S];
shared f16vec4 weights[SUBGROUPS * CM * PITCH_W];

// As arithmetic takes them, of the two words that a buffer has them in.
f16vec4 halves(uvec2 v)
{
    return f16vec4(unpackFloat2x16(v.x), unpackFloat2x16(v.y));
}

float top_of_query(float v)
{
    [[unroll]] for (uint lane = 1; lane < PART; lane *= 2)
        v = max(v, subgroupShuffleXor(v, lane));
    return v;
}

float sum_of_query(float v)
{
    [[unroll]] for (uint lane = 1; lane < PART; lane *= 2)
        v += subgroupShuffleXor(v, lane);
    return v;
}

// A key's quad of channels, or of its value; zeros where there is none. first: of the head's.
f16vec4 quad_of(uint first, uint key, uint quad)
{
    bool there = key < p.keys && quad < QUADS;
    uint at = min(key, p.keys - 1u) * p.kv_stride + min(quad, QUADS - 1u);
    return there ? halves(kv[first + at]) : f16vec4(0.0);
}

// Two keys of a block and a quad of channels at a time; lanes go through keys first, then channels.
void load_values(uint t, uint v_at, uint block)
{
    for (uint i = t; i < BLOCK / 2u * COVER_V; i += SIZE) {
        uint pair = i / (8u * COVER_V) * 8u + i % 8u, quad = i / 8u % COVER_V;
        f16vec4 v0 = quad_of(v_at, block + 2u * pair, quad);
        f16vec4 v1 = quad_of(v_at, block + 2u * pair + 1u, quad);
        [[unroll]] for (uint c = 0; c < 4; c++)
            values[(4u * quad + c) * PITCH_V + pair] = f16vec2(v0[c], v1[c]);
    }
}

void load_keys(uint t, uint k_at, uint block)
{
    for (uint i = t; i < BLOCK * COVER_K; i += SIZE) {
        uint quad = i % COVER_K;
        keys[i / COVER_K * PITCH_K + quad] = quad_of(k_at, block + i / COVER_K, quad);
    }
}

void subgroup_sync()
{
    subgroupMemoryBarrierShared();
    subgroupBarrier();
}

void main()
{
    uint t = gl_LocalInvocationID.x, sub = gl_SubgroupID, lane = gl_SubgroupInvocationID;
    uint head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint first_query = (gl_WorkGroupID.x * SUBGROUPS + sub) * CM;
    uint k_at = row * p.kv_row_stride + p.k_first + head * QUADS;
    uint v_at = row * p.kv_row_stride + p.v_first + head * QUADS;
    uint s_at = sub * CM * PITCH_S, w_at = sub * CM * PITCH_W;

    // The queries, by way of where the keys will be, a subgroup after the other.
    coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA> q[DEPTH];
    for (uint s = 0; s < SUBGROUPS; s++) {
        if (s == sub)
            for (uint i = lane; i < CM * COVER_K; i += LANES) {
                uint query = first_query + i / COVER_K, quad = i % COVER_K;
                uint at = (row * p.queries + min(query, p.queries - 1u)) * p.q_stride + p.q_first;
                keys[i / COVER_K * PITCH_K + quad] =
                    quad < QUADS ? halves(q_in[at + head * QUADS + quad]) : f16vec4(0.0);
            }
        barrier();
        if (s == sub)
            [[unroll]] for (uint i = 0; i < DEPTH; i++)
                coopMatLoad(q[i], keys, i * CK / 4u, PITCH_K, gl_CooperativeMatrixLayoutRowMajor);
        barrier();
    }

    coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator> acc[WIDTH];
    [[unroll]] for (uint i = 0; i < WIDTH; i++)
        acc[i] = coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>(0.0);
    // A lane's query, and which of every PART quads of its scores are the lane's.
    uint line = lane / PART, part = lane % PART;
    uint last = CAUSAL != 0u ? min(first_query + line, p.keys - 1u) : p.keys - 1u;
    float top = -3.0e38, sum = 0.0;

    for (uint block = 0; block < p.keys; block += BLOCK) {
        load_keys(t, k_at, block);
        load_values(t, v_at, block);
        barrier();
        [[unroll]] for (uint j = 0; j < BLOCK / CN; j++) {
            coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator> s =
                coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator>(0.0);
            [[unroll]] for (uint i = 0; i < DEPTH; i++) {
                coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB> k;
                coopMatLoad(k, keys, j * CN * PITCH_K + i * CK / 4u, PITCH_K,
                            gl_CooperativeMatrixLayoutColumnMajor);
                s = coopMatMulAdd(q[i], k, s);
            }
            coopMatStore(s, scores, s_at + j * CN, PITCH_S, gl_CooperativeMatrixLayoutRowMajor);
        }
        subgroup_sync();

        float new_top = top;
        for (uint i = part; i < BLOCK; i += PART)
            if (block + i <= last)
                new_top = max(new_top, scores[s_at + line * PITCH_S + i] * p.scale);
        new_top = top_of_query(new_top);
        float shrink = exp(top - new_top), more = 0.0;
        for (uint i = part; i < BLOCK / 4u; i += PART) {
            vec4 w;
            [[unroll]] for (uint c = 0; c < 4; c++) {
                float score = scores[s_at + line * PITCH_S + 4u * i + c] * p.scale;
                w[c] = block + 4u * i + c <= last ? exp(score - new_top) : 0.0;
            }
            weights[w_at + line * PITCH_W + i] = f16vec4(w);
            more += (w.x + w.y) + (w.z + w.w);
        }
        sum = sum * shrink + sum_of_query(more);
        top = new_top;
        subgroup_sync();
        for (uint i = part; i < CN; i += PART)      // the scores' room, which is free again
            scores[s_at + line * PITCH_S + i] = shrink;
        subgroup_sync();

        coopmat<float, gl_ScopeSubgroup, CM, CN, gl_MatrixUseAccumulator> shrinks;
        coopMatLoad(shrinks, scores, s_at, PITCH_S, gl_CooperativeMatrixLayoutRowMajor);
        [[unroll]] for (uint j = 0; j < WIDTH; j++)
            acc[j] = acc[j] * shrinks;
        [[unroll]] for (uint i = 0; i < BLOCK / CK; i++) {
            coopmat<float16_t, gl_ScopeSubgroup, CM, CK, gl_MatrixUseA> w;
            coopMatLoad(w, weights, w_at + i * CK / 4u, PITCH_W,
                        gl_CooperativeMatrixLayoutRowMajor);
            [[unroll]] for (uint j = 0; j < WIDTH; j++) {
                coopmat<float16_t, gl_ScopeSubgroup, CK, CN, gl_MatrixUseB> v;
                coopMatLoad(v, values, j * CN * PITCH_V + i * CK / 2u, PITCH_V,
                            gl_CooperativeMatrixLayoutColumnMajor);
                acc[j] = coopMatMulAdd(w, v, acc[j]);
            }
        }
        barrier();
    }

    uint query = first_query + line;
    [[unroll]] for (uint j = 0; j < WIDTH; j++) {
        coopMatStore(acc[j], scores, s_at, PITCH_S, gl_CooperativeMatrixLayoutRowMajor);
        subgroup_sync();
        [[unroll]] for (uint k = 0; k < CN / 4; k += PART) {
            uint i = k + part, quad = j * CN / 4u + i, from = s_at + line * PITCH_S + 4u * i;
            vec4 v = vec4(scores[from], scores[from + 1u], scores[from + 2u], scores[from + 3u]);
            if (i < CN / 4u && quad < QUADS && query < p.queries)
                y[((row * p.queries + query) * p.heads + head) * QUADS + quad] = STORE4(v / sum);
        }
        subgroup_sync();
    }
}
