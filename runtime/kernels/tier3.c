// SPDX-License-Identifier: Apache-2.0
// See tier3.h.
#include "kernels/tier3.h"

#include "kernels/dispatch.h"

#define SCOPE_WORKGROUP 2u      // SPIR-V's
#define SCOPE_SUBGROUP  3u

static uint32_t scope_of(const struct l2d_gpu_caps *caps)
{
    return caps->matrix2.of_workgroup ? SCOPE_WORKGROUP : SCOPE_SUBGROUP;
}

// Every invocation loads as many quads of a slice as any other; with GEGLU a tile is two matrices.
static bool divides(const struct l2d_matrix2_size *size, uint32_t m, uint32_t n, uint32_t k)
{
    const struct l2d_matrix_shape *grain = &size->grain;
    uint32_t lanes = size->invocations, deep = k / 4, wide = n / 4;
    return m % grain->m == 0 && n / 2 % grain->n == 0 && k % grain->k == 0 && lanes % deep == 0 &&
           lanes % wide == 0 && m * deep % lanes == 0 && k * wide % lanes == 0;
}

struct l2d_tier3_conv l2d_tier3_conv(const struct l2d_gpu_caps *caps, uint32_t index)
{
    const struct l2d_matrix2 *has = &caps->matrix2;
    const struct l2d_matrix_shape *g = &has->size[0].grain;
    const struct { bool workgroup; uint32_t size, m, n, k; } tiles[L2D_TIER3_CONV_TILES] = {
        { true, 1, 128, 128, 32 }, { true, 0, 128, 64, 32 }, { true, 0, 64, 64, 32 },
        { false, 0, 2 * g->m, 2 * g->n, 2 * g->k },
    };
    const struct l2d_matrix2_size *size = &has->size[tiles[index].size];
    uint32_t m = tiles[index].m, n = tiles[index].n, k = tiles[index].k;
    uint32_t shared = 2 * 8 * (m * (k / 4 + 2) + k * (n / 4 + 2)) + has->reserved_bytes;
    if (!size->invocations || tiles[index].workgroup != has->of_workgroup ||
        !divides(size, m, n, k) || m > has->max_side || n > has->max_side ||
        shared > caps->max_shared_bytes || size->invocations > caps->max_invocations)
        return (struct l2d_tier3_conv) { 0 };
    return (struct l2d_tier3_conv) {
        size->invocations, m, n, { scope_of(caps), m, n, k, size->invocations }, shared };
}

struct l2d_tier3_attention l2d_tier3_attention(const struct l2d_gpu_caps *caps, uint32_t quads,
                                               bool causal)
{
    const struct l2d_matrix2 *has = &caps->matrix2;
    const struct l2d_matrix2_size *size = &has->size[0];
    const struct l2d_matrix_shape *g = &size->grain;
    uint32_t grain = g->n > g->k ? g->n : g->k;         // powers of 2: a multiple of both
    // lavapipe 26 reduces rows wrongly where a matrix has more than one grain both ways.
    uint32_t br = has->of_workgroup ? 64 : g->m, bc = has->of_workgroup ? 32 : grain;
    uint32_t depth = size->invocations ? div_up(4 * quads, grain) * grain : 0;
    uint32_t lines = br > 2 * bc ? br : 2 * bc;
    if (!size->invocations || size->invocations > caps->max_invocations || br % g->m ||
        bc % grain || depth > has->max_side ||
        lines * (depth / 4 + 2) * 8 + has->reserved_bytes > caps->max_shared_bytes)
        return (struct l2d_tier3_attention) { 0 };
    return (struct l2d_tier3_attention) {
        br, { size->invocations, quads, causal, scope_of(caps), br, bc, depth,
              size->invocations } };
}
