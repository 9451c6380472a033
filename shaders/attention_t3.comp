// SPDX-License-Identifier: Apache-2.0
// Attention by matrices of any size (VK_NV_cooperative_matrix2) with an online softmax: a workgroup
// has BR queries of one head, whose scores with BC keys are one matrix. Maxima and sums of its rows
// are reductions, weights are made element by element; nothing but what is loaded passes through
// shared memory. SCOPE says whose the matrices are: see conv_t3.comp. Halves in, scores and sums in
// f32, weights as halves. Debian 12's compiler does not know the extension: see
// shaders/spirv/README.md.
#version 460
#extension GL_GOOGLE_include_directive : require
#extension GL_KHR_cooperative_matrix : require
#extension GL_KHR_memory_scope_semantics : require
#extension GL_NV_cooperative_matrix2 : require
#include "lib/precision.glsl"
#include "lib/math.glsl"
#include "lib/halves.glsl"
#include "params/attention.h"

layout(local_size_x_id = 0) in;
layout(constant_id = 1) const uint QUADS = 10;      // d / 4
layout(constant_id = 2) const uint CAUSAL = 0;
layout(constant_id = 3) const uint SCOPE = gl_ScopeWorkgroup;
layout(constant_id = 4) const uint BR = 64;         // queries
layout(constant_id = 5) const uint BC = 32;         // keys at a time
layout(constant_id = 6) const uint DEPTH = 48;      // d, and what a matrix needs more
layout(constant_id = 7) const uint SIZE = 128;      // what gl_WorkGroupSize.x is
layout(binding = 0, std430) readonly buffer Q { IN4 q_in[]; };
layout(binding = 1, std430) readonly buffer KV { IN4 kv[]; };
layout(binding = 2, std430) writeonly buffer Y { OUT4 y[]; };
layout(push_constant, std430) uniform Push { l2d_attention_params p; };

const uint DEPTH_Q = DEPTH / 4, PITCH = DEPTH_Q + 2;    // of a line, in quads, to spread the banks
const uint LINES = BR > 2 * BC ? BR : 2 * BC;
const float LOWEST = -3.0e38;

shared f16vec4 room[LINES * PITCH];                 // the queries, then keys and values

#define SCORES coopmat<float, SCOPE, BR, BC, gl_MatrixUseAccumulator>
#define RESULT coopmat<float, SCOPE, BR, DEPTH, gl_MatrixUseAccumulator>

// Of a score. Keys are counted from the block's first, and so is the last that there is.
float masked(const in uint line, const in uint key, const in float score, const in uint first_query,
             const in uint block)
{
    uint last = p.keys - 1u;
    if (CAUSAL != 0u)
        last = min(last, first_query + line);
    return block + key <= last ? score * p.scale : LOWEST;
}

float weight(const in uint line, const in uint key, const in float score, const in float top)
{
    return score == LOWEST ? 0.0 : exp1(score - top);
}

float shrinkage(const in uint line, const in uint key, const in float top, const in float new_top)
{
    return exp1(top - new_top);
}

float larger_of(const in uint line, const in uint key, const in float v, const in float w)
{
    return max(v, w);
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

void main()
{
    uint t = gl_LocalInvocationID.x, head = gl_WorkGroupID.y, row = gl_WorkGroupID.z;
    uint first_query = gl_WorkGroupID.x * BR;
    uint k_at = row * p.kv_row_stride + p.k_first + head * QUADS;
    uint v_at = row * p.kv_row_stride + p.v_first + head * QUADS;

    for (uint i = t; i < BR * DEPTH_Q; i += SIZE) {
        uint query = min(first_query + i / DEPTH_Q, p.queries - 1u), quad = i % DEPTH_Q;
        uint at = (row * p.queries + query) * p.q_stride + p.q_first + head * QUADS;
        room[i / DEPTH_Q * PITCH + quad] =
            quad < QUADS ? halves(q_in[at + quad]) : f16vec4(0.0);
    }
    barrier();
    coopmat<float16_t, SCOPE, BR, DEPTH, gl_MatrixUseA> q;
    coopMatLoad(q, room, 0, PITCH, gl_CooperativeMatrixLayoutRowMajor);
    barrier();

    RESULT acc = RESULT(0.0);
    SCORES top = SCORES(LOWEST), total = SCORES(0.0);   // of a row, in all of its elements
    for (uint block = 0; block < p.keys; block += BC) {
        for (uint i = t; i < BC * DEPTH_Q; i += SIZE) {
            uint key = block + i / DEPTH_Q, quad = i % DEPTH_Q, into = i / DEPTH_Q * PITCH + quad;
            bool there = key < p.keys && quad < QUADS;
            uint at = min(key, p.keys - 1u) * p.kv_stride + min(quad, QUADS - 1u);
            room[into] = there ? halves(kv[k_at + at]) : f16vec4(0.0);
            room[BC * PITCH + into] = there ? halves(kv[v_at + at]) : f16vec4(0.0);
        }
        barrier();
        coopmat<float16_t, SCOPE, DEPTH, BC, gl_MatrixUseB> k;
        coopMatLoad(k, room, 0, PITCH, gl_CooperativeMatrixLayoutColumnMajor);
        SCORES s = coopMatMulAdd(q, k, SCORES(0.0));
        coopMatPerElementNV(s, s, masked, first_query, block);

        SCORES new_top, shrink, w, more;
        coopMatReduceNV(new_top, s, gl_CooperativeMatrixReduceRowNV, larger);
        coopMatPerElementNV(new_top, new_top, larger_of, top);
        coopMatPerElementNV(shrink, top, shrinkage, new_top);
        coopMatPerElementNV(w, s, weight, new_top);
        coopMatReduceNV(more, w, gl_CooperativeMatrixReduceRowNV, sum);
        total = total * shrink + more;
        top = new_top;

        RESULT shrinks;                             // all elements of a row are the same
        coopMatReduceNV(shrinks, shrink, gl_CooperativeMatrixReduceRowNV, larger);
        coopmat<float16_t, SCOPE, BC, DEPTH, gl_MatrixUseB> v;
        coopMatLoad(v, room, BC * PITCH, PITCH, gl_CooperativeMatrixLayoutRowMajor);
        acc = coopMatMulAdd(coopmat<float16_t, SCOPE, BR, BC, gl_MatrixUseA>(w), v, acc * shrinks);
        barrier();
    }

    RESULT totals;
    coopMatReduceNV(totals, total, gl_CooperativeMatrixReduceRowNV, larger);
    coopMatPerElementNV(acc, acc, quotient, totals);
    coopMatPerElementNV(acc, acc, put, first_query);
}
