// SPDX-License-Identifier: Apache-2.0
// Attention by matrices of any size (VK_NV_cooperative_matrix2) with an online softmax. A subgroup
// has BR queries of one head, whose scores with BC keys are one matrix that stays in registers, as
// do the results. Matrices are wider than a head: one more channel takes from a query's scores what
// they are relative to, its top, times UNIT, which all keys have there, and adds up its weights,
// since values have a 1. So neither needs a matrix of its own. A top changes only when a weight
// would be larger than 2^HIGH, which after the first keys is seldom: else there is nothing to
// reduce and to multiply anew. The workgroup's subgroups share blocks of keys and values, of which
// the next is on its way while one is used. Halves in, scores and sums in f32, weights as halves.
// Debian 12's compiler does not know the extension: see shaders/spirv/README.md.
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
layout(constant_id = 5) const uint DEPTH = 48;      // more than d
layout(constant_id = 6) const uint SUBGROUPS = 4;
layout(constant_id = 7) const uint LANES = 32;      // of a subgroup
layout(constant_id = 8) const uint SYNCS = 1;       // subgroups wait for their lanes
layout(binding = 0, std430) readonly buffer Q { uvec4 q_in[]; };    // octets of channels
layout(binding = 1, std430) readonly buffer KV { uvec4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

const uint SIZE = SUBGROUPS * LANES;                // what gl_WorkGroupSize.x is
const uint HEAD_8 = QUADS / 2, DEPTH_8 = DEPTH / 8; // from here in octets
const uint PITCH = DEPTH_8 + 1;                     // of a line, to spread the banks
const uint QUERIES = SUBGROUPS * BR;
const uint LOADS = (BC * DEPTH_8 + SIZE - 1) / SIZE;
const float LOWEST = -3.0e38, HIGH = 8.0;
const float UNIT = 64.0;                            // of tops, which are halves
const uint ONE_BITS = 0x3c00u, UNIT_BITS = 0x5400u; // as halves

shared uvec4 queries[QUERIES * PITCH];
shared uvec4 keys[BC * PITCH];
shared uvec4 values[BC * PITCH];
shared float tops[QUERIES];
shared float shrinks[QUERIES];                      // what a new top multiplies sums by

#define SCORES coopmat<float, gl_ScopeSubgroup, BR, BC, gl_MatrixUseAccumulator>
#define RESULT coopmat<float, gl_ScopeSubgroup, BR, DEPTH, gl_MatrixUseAccumulator>

// Weights are powers of 2 of scores times this.
float scale()
{
    return p.scale * 1.44269504;
}

// Of a score. Keys are counted from the block's first, and so is the last that there is.
float masked(const in uint line, const in uint key, const in float score, const in uint first_query,
             const in uint block)
{
    uint last = p.keys - 1u;
    if (CAUSAL != 0u)
        last = min(last, first_query + line);
    return block + key <= last ? score : LOWEST;
}

float weight(const in uint line, const in uint key, const in float score)
{
    return exp2(score * scale());
}

// A row's top moves up by its highest score, which is relative to it; the first may move it down.
float raised(const in uint line, const in uint key, const in float highest, const in uint block)
{
    uint query = gl_SubgroupID * BR + line;
    if (key == 0u) {
        float top = tops[query];
        float new_top = top + (block == 0u ? highest : max(highest, 0.0));
        uint bits = packHalf2x16(vec2(new_top / -UNIT, 0.0));
        new_top = unpackHalf2x16(bits).x * -UNIT;
        queries[query * PITCH + HEAD_8].x = bits;
        shrinks[query] = block == 0u ? 0.0 : exp2((top - new_top) * scale());
        tops[query] = new_top;
    }
    return highest;
}

float shrunk(const in uint line, const in uint channel, const in float v)
{
    return v * shrinks[gl_SubgroupID * BR + line];
}

// The sum of weights, in its row.
float total(const in uint line, const in uint channel, const in float v)
{
    return channel == 4u * QUADS ? v : 0.0;
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

// An octet behind a head's last, where keys and values have what the channel more is for.
uvec4 more(uint octet, uint bits)
{
    return uvec4(octet == HEAD_8 ? bits : 0u, 0u, 0u, 0u);
}

// What a lane has written to shared memory is there for its subgroup.
void subgroup_sync()
{
    subgroupMemoryBarrierShared();
    if (SYNCS != 0u)
        subgroupBarrier();
}

void main()
{
    uint t = gl_LocalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint first_of_group = gl_WorkGroupID.x * QUERIES;
    uint first_query = first_of_group + gl_SubgroupID * BR;
    uint k_at = (row * p.kv_row_stride + p.k_first + head * QUADS) / 2u;
    uint v_at = (row * p.kv_row_stride + p.v_first + head * QUADS) / 2u;

    for (uint i = t; i < QUERIES * DEPTH_8; i += SIZE) {
        uint query = min(first_of_group + i / DEPTH_8, p.queries - 1u), octet = i % DEPTH_8;
        uint at = ((row * p.queries + query) * p.q_stride + p.q_first + head * QUADS) / 2u;
        queries[i / DEPTH_8 * PITCH + octet] = octet < HEAD_8 ? q_in[at + octet] : uvec4(0u);
    }
    for (uint i = t; i < QUERIES; i += SIZE)
        tops[i] = 0.0;
    barrier();
    coopmat<float16_t, gl_ScopeSubgroup, BR, DEPTH, gl_MatrixUseA> q;
    coopMatLoad(q, queries, gl_SubgroupID * BR * PITCH, PITCH, gl_CooperativeMatrixLayoutRowMajor);

    RESULT acc = RESULT(0.0);
    uvec4 next_k[LOADS], next_v[LOADS];
    load_block(k_at, v_at, 0u, next_k, next_v);
    // Unrolled, where keys are few, fetching code takes longer than all else.
    [[dont_unroll]] for (uint block = 0; block < p.keys; block += BC) {
        [[unroll]] for (uint i = 0; i < LOADS; i++) {
            uint item = t + i * SIZE, octet = item % DEPTH_8, into = item / DEPTH_8 * PITCH + octet;
            bool there = block + item / DEPTH_8 < p.keys && octet < HEAD_8;
            if (BC * DEPTH_8 % SIZE == 0u || item < BC * DEPTH_8) {
                keys[into] = there ? next_k[i] : more(octet, UNIT_BITS);
                values[into] = there ? next_v[i] : more(octet, ONE_BITS);
            }
        }
        barrier();
        if (block + BC < p.keys)
            load_block(k_at, v_at, block + BC, next_k, next_v);

        coopmat<float16_t, gl_ScopeSubgroup, DEPTH, BC, gl_MatrixUseB> k;
        coopMatLoad(k, keys, 0, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
        SCORES s = coopMatMulAdd(q, k, SCORES(0.0));
        bool masks = CAUSAL != 0u || block + BC > p.keys;
        if (masks)
            coopMatPerElementNV(s, s, masked, first_query, block);

        float highest = LOWEST;
        [[unroll]] for (uint i = 0; i < s.length(); i++)
            highest = max(highest, s[i]);
        if (block == 0u || subgroupAny(highest * scale() > HIGH)) {
            coopMatReduceNV(s, s, gl_CooperativeMatrixReduceRowNV, larger);
            coopMatPerElementNV(s, s, raised, block);
            subgroup_sync();
            coopMatPerElementNV(acc, acc, shrunk);
            coopMatLoad(q, queries, gl_SubgroupID * BR * PITCH, PITCH,
                        gl_CooperativeMatrixLayoutRowMajor);
            s = coopMatMulAdd(q, k, SCORES(0.0));
            if (masks)
                coopMatPerElementNV(s, s, masked, first_query, block);
        }
        coopMatPerElementNV(s, s, weight);
        coopmat<float16_t, gl_ScopeSubgroup, BC, DEPTH, gl_MatrixUseB> v;
        coopMatLoad(v, values, 0, PITCH, gl_CooperativeMatrixLayoutRowMajor);
        acc = coopMatMulAdd(coopmat<float16_t, gl_ScopeSubgroup, BR, BC, gl_MatrixUseA>(s), v, acc);
        barrier();
    }

    RESULT totals;
    coopMatPerElementNV(totals, acc, total);
    coopMatReduceNV(totals, totals, gl_CooperativeMatrixReduceRowNV, sum);
    coopMatPerElementNV(acc, acc, quotient, totals);
    coopMatPerElementNV(acc, acc, put, first_query);
}
