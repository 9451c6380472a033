// SPDX-License-Identifier: Apache-2.0
// Attention by matrices of any size (VK_NV_cooperative_matrix2) with an online softmax. A subgroup
// has BR queries of one head, whose scores with BC keys are one matrix: maxima and sums of its rows
// are reductions, weights are made element by element, and all of it stays in registers. What
// weights are relative to, a row's top, changes only when one would be larger than 2^HIGH, which
// after the first keys is seldom: else there is nothing to reduce and to multiply anew. The
// workgroup's subgroups share blocks of keys and values, of which the next is on its way while one
// is used. Halves in, scores and sums in f32, weights as halves. Debian 12's compiler does not know
// the extension: see shaders/spirv/README.md.
#version 460
#extension GL_EXT_control_flow_attributes : require
#extension GL_EXT_shader_explicit_arithmetic_types_float16 : require
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_KHR_shader_subgroup_basic : require
#extension GL_KHR_shader_subgroup_vote : require
#extension GL_NV_cooperative_matrix2 : require
#include "lib/precision.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint QUADS = 10;      // d / 4, even
layout(constant_id = 2) const uint CAUSAL = 0;
layout(constant_id = 3) const uint BR = 16;         // queries of a subgroup
layout(constant_id = 4) const uint BC = 32;         // keys at a time
layout(constant_id = 5) const uint DEPTH = 48;      // d, and what a matrix needs more
layout(constant_id = 6) const uint SUBGROUPS = 4;
layout(constant_id = 7) const uint LANES = 32;      // of a subgroup
layout(binding = 0, std430) readonly buffer Q { uvec4 q_in[]; };    // octets of channels
layout(binding = 1, std430) readonly buffer KV { uvec4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint HEAD_8 = QUADS / 2, DEPTH_8 = DEPTH / 8; // from here in octets
const uint PITCH = DEPTH_8 + 1;                     // of a line, to spread the banks
const uint LINES = SUBGROUPS * BR > 2 * BC ? SUBGROUPS * BR : 2 * BC;
const uint LOADS = (BC * DEPTH_8 + SIZE - 1) / SIZE;
const float LOWEST = -3.0e38, HIGH = 8.0;

shared uvec4 room[LINES * PITCH];                   // the queries, then keys and values

#define SCORES coopmat<float, gl_ScopeSubgroup, BR, BC, gl_MatrixUseAccumulator>
#define RESULT coopmat<float, gl_ScopeSubgroup, BR, DEPTH, gl_MatrixUseAccumulator>

// Of a score. Keys are counted from the block's first, and so is the last that there is.
float masked(const in uint line, const in uint key, const in float score, const in uint first_query,
             const in uint block)
{
    uint last = p.keys - 1u;
    if (CAUSAL != 0u)
        last = min(last, first_query + line);
    return block + key <= last ? score : LOWEST;
}

// Weights are powers of 2, and so are tops.
float exponent(const in uint line, const in uint key, const in float score, const in float top)
{
    return fma(score, p.scale * 1.44269504, -top);
}

float weight(const in uint line, const in uint key, const in float e)
{
    return exp2(e);
}

float raised(const in uint line, const in uint key, const in float score, const in float top)
{
    return max(score * (p.scale * 1.44269504), top);
}

float shrinkage(const in uint line, const in uint key, const in float top, const in float new_top)
{
    return exp2(top - new_top);
}

float quotient(const in uint line, const in uint channel, const in float v, const in float by)
{
    return v / by;
}

float larger(const in float v, const in float w)
{
    return max(v, w);
}

float sum(const in float v, const in float w)
{
    return v + w;
}

float put(const in uint line, const in uint channel, const in float v, const in uint first_query)
{
    uint query = first_query + line, row = gl_WorkGroupID.z, head = gl_WorkGroupID.y;
    if (query < p.queries && channel < 4u * QUADS)
        y[((row * p.queries + query) * p.heads + head) * QUADS + channel / 4u][channel % 4u] =
            float16_t(v);
    return v;
}

// An invocation's share of a block of keys and values; any of them beyond the last.
void load_block(uint k_at, uint v_at, uint block, out uvec4 k[LOADS], out uvec4 v[LOADS])
{
    [[unroll]] for (uint i = 0; i < LOADS; i++) {
        uint item = gl_LocalInvocationID.x + i * SIZE;
        uint key = min(block + item / DEPTH_8, p.keys - 1u);
        uint at = key * (p.kv_stride / 2u) + min(item % DEPTH_8, HEAD_8 - 1u);
        k[i] = kv[k_at + at];
        v[i] = kv[v_at + at];
    }
}

void main()
{
    uint t = gl_LocalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint first_of_group = gl_WorkGroupID.x * SUBGROUPS * BR;
    uint first_query = first_of_group + gl_SubgroupID * BR;
    uint k_at = (row * p.kv_row_stride + p.k_first + head * QUADS) / 2u;
    uint v_at = (row * p.kv_row_stride + p.v_first + head * QUADS) / 2u;

    for (uint i = t; i < SUBGROUPS * BR * DEPTH_8; i += SIZE) {
        uint query = min(first_of_group + i / DEPTH_8, p.queries - 1u), octet = i % DEPTH_8;
        uint at = ((row * p.queries + query) * p.q_stride + p.q_first + head * QUADS) / 2u;
        room[i / DEPTH_8 * PITCH + octet] = octet < HEAD_8 ? q_in[at + octet] : uvec4(0u);
    }
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, BR, DEPTH, gl_MatrixUseA> q;
    coopMatLoad(q, room, gl_SubgroupID * BR * PITCH, PITCH, gl_CooperativeMatrixLayoutRowMajor);
    barrier();

    RESULT acc = RESULT(0.0);
    SCORES top = SCORES(LOWEST);                    // of a row, in all of its elements
    SCORES total = SCORES(0.0);                     // of weights, each element its own
    uvec4 next_k[LOADS], next_v[LOADS];
    load_block(k_at, v_at, 0u, next_k, next_v);
    // Unrolled, where keys are few, fetching code takes longer than all else.
    [[dont_unroll]] for (uint block = 0; block < p.keys; block += BC) {
        [[unroll]] for (uint i = 0; i < LOADS; i++) {
            uint item = t + i * SIZE, into = item / DEPTH_8 * PITCH + item % DEPTH_8;
            bool there = block + item / DEPTH_8 < p.keys && item % DEPTH_8 < HEAD_8;
            if (BC * DEPTH_8 % SIZE == 0u || item < BC * DEPTH_8) {
                room[into] = there ? next_k[i] : uvec4(0u);
                room[BC * PITCH + into] = there ? next_v[i] : uvec4(0u);
            }
        }
        barrier();
        if (block + BC < p.keys)
            load_block(k_at, v_at, block + BC, next_k, next_v);

        coopmat<float16_t, gl_ScopeSubgroup, DEPTH, BC, gl_MatrixUseB> k;
        coopMatLoad(k, room, 0, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
        SCORES s = coopMatMulAdd(q, k, SCORES(0.0));
        if (CAUSAL != 0u || block + BC > p.keys)
            coopMatPerElementNV(s, s, masked, first_query, block);

        SCORES e, w;
        float highest = LOWEST;
        coopMatPerElementNV(e, s, exponent, top);
        [[unroll]] for (uint i = 0; i < e.length(); i++)
            highest = max(highest, e[i]);
        if (subgroupAny(highest > HIGH)) {
            SCORES new_top, shrink;
            RESULT shrinks;                         // all elements of a row are the same
            coopMatReduceNV(new_top, s, gl_CooperativeMatrixReduceRowNV, larger);
            coopMatPerElementNV(new_top, new_top, raised, top);
            coopMatPerElementNV(shrink, top, shrinkage, new_top);
            coopMatReduceNV(shrinks, shrink, gl_CooperativeMatrixReduceRowNV, larger);
            total *= shrink;
            acc *= shrinks;
            top = new_top;
            coopMatPerElementNV(e, s, exponent, top);
        }
        coopMatPerElementNV(w, e, weight);
        total += w;
        coopmat<float16_t, gl_ScopeSubgroup, BC, DEPTH, gl_MatrixUseB> v;
        coopMatLoad(v, room, BC * PITCH, PITCH, gl_CooperativeMatrixLayoutRowMajor);
        acc = coopMatMulAdd(coopmat<float16_t, gl_ScopeSubgroup, BR, BC, gl_MatrixUseA>(w), v, acc);
        barrier();
    }

    RESULT totals;
    coopMatReduceNV(totals, total, gl_CooperativeMatrixReduceRowNV, sum);
    coopMatPerElementNV(acc, acc, quotient, totals);
    coopMatPerElementNV(acc, acc, put, first_query);
}
