// SPDX-License-Identifier: Apache-2.0
// See attention_variant.h.
#include "kernels/attention_variant.h"

#include <stdio.h>
#include <string.h>

#include "kernels/dispatch.h"
#include "shaders/params/row.h"

#define KERNEL_ATTENTION 2u             // first word of a key, in bits above the precision's

#define WIDE_QUERIES 16                 // of a workgroup, see attention_wide.comp

// ---- tables: number `index` of a tier's, and whether it runs

static const uint32_t tier1_sizes[] = { 64, 128, 32 };

static bool tier1_variant(const struct l2d_gpu_caps *caps, uint32_t index,
                          const struct l2d_attention_shape *s, struct l2d_attention_variant *v)
{
    uint32_t size = tier1_sizes[index];
    *v = (struct l2d_attention_variant) {
        "attention", "", size, { size, s->quads, s->causal }, 3,
    };
    snprintf(v->name, sizeof(v->name), "%u", size);
    return size <= caps->max_invocations;
}

static const struct { uint32_t subgroups, keys; } tier2_blocks[] = {
    { 4, 64 }, { 4, 32 }, { 8, 64 }, { 8, 32 }, { 2, 64 }, { 2, 32 },
};

// Lanes of a subgroup share its queries evenly, and there is room for keys, values and scores.
static bool tier2_variant(const struct l2d_gpu_caps *caps, uint32_t index,
                          const struct l2d_attention_shape *s, struct l2d_attention_variant *v)
{
    const struct l2d_matrix_shape *m = &caps->matrix;
    uint32_t lanes = caps->subgroup_size, part = m->m ? lanes / m->m : 0;
    uint32_t keys = tier2_blocks[index].keys, subgroups = tier2_blocks[index].subgroups;
    if (!part || part * m->m != lanes || (part & (part - 1)) || keys % m->n || keys % m->k)
        return false;
    uint32_t deep = div_up(4 * s->quads, m->k) * m->k, wide = div_up(4 * s->quads, m->n) * m->n;
    uint32_t shared = keys * (deep / 4 + 2) * 8 + wide * (keys / 2 + 4) * 4 +
                      subgroups * m->m * ((keys + 4) * 4 + (keys / 4 + 2) * 8);
    *v = (struct l2d_attention_variant) {
        "attention_t2", "", subgroups * m->m,
        { subgroups * lanes, s->quads, s->causal, m->m, m->n, m->k, subgroups, lanes, keys }, 9,
    };
    snprintf(v->name, sizeof(v->name), "%ux%u", v->queries, keys);
    return subgroups * lanes <= caps->max_invocations && shared <= caps->max_shared_bytes;
}

// In grains of a matrix: queries of a subgroup, and keys.
static const struct { uint32_t queries, keys, subgroups; } tier3_blocks[] = {
    { 2, 2, 4 }, { 1, 2, 4 }, { 1, 1, 4 }, { 1, 4, 4 },
    { 2, 2, 8 }, { 1, 2, 8 }, { 1, 1, 8 }, { 1, 4, 8 },
};

// Of the sides that are a second factor's in one product and a first's in the next.
static uint32_t tier3_grain(const struct l2d_gpu_caps *caps)
{
    const struct l2d_matrix_shape *g = &caps->matrix2.grain;
    return g->n > g->k ? g->n : g->k;
}

// A head's channels and at least one more, see attention_t3.comp.
static uint32_t tier3_depth(const struct l2d_gpu_caps *caps, uint32_t quads)
{
    uint32_t grain = tier3_grain(caps);
    return grain ? (4 * quads / grain + 1) * grain : 0;
}

// Heads are of octets; a matrix of scores, the queries and their results fit an invocation's
// registers. lavapipe 26 reduces rows wrongly where a matrix has more than one grain both ways, and
// takes a subgroup's barrier for the workgroup's, where it needs none.
static bool tier3_variant(const struct l2d_gpu_caps *caps, uint32_t index,
                          const struct l2d_attention_shape *s, struct l2d_attention_variant *v)
{
    uint32_t lanes = caps->subgroup_size, subgroups = tier3_blocks[index].subgroups;
    uint32_t queries = tier3_blocks[index].queries * caps->matrix2.grain.m;
    uint32_t keys = tier3_blocks[index].keys * tier3_grain(caps);
    uint32_t depth = tier3_depth(caps, s->quads);
    uint32_t shared = 16 * (subgroups * queries + 2 * keys) * (depth / 8 + 1) +
                      8 * subgroups * queries;
    uint32_t registers = (queries * keys + queries * depth * 3 / 2) / lanes + 56;
    bool one = tier3_blocks[index].queries == 1 && tier3_blocks[index].keys == 1;
    *v = (struct l2d_attention_variant) {
        "attention_t3", "", subgroups * queries,
        { subgroups * lanes, s->quads, s->causal, queries, keys, depth, subgroups, lanes,
          caps->type != L2D_GPU_CPU }, 9,
    };
    snprintf(v->name, sizeof(v->name), "%ux%u", v->queries, keys);
    return depth && s->quads % 2 == 0 && depth <= caps->matrix2.max_side &&
           subgroups * lanes <= caps->max_invocations &&
           shared <= caps->max_shared_bytes &&
           (caps->type == L2D_GPU_CPU ? one : registers <= 256);
}

// ---- the rule

static const struct tier {
    uint32_t count;
    bool (*variant)(const struct l2d_gpu_caps *caps, uint32_t index,
                    const struct l2d_attention_shape *s, struct l2d_attention_variant *v);
} tiers[] = {
    [L2D_TIER_1] = { COUNT_OF(tier1_sizes), tier1_variant },
    [L2D_TIER_2] = { COUNT_OF(tier2_blocks), tier2_variant },
    [L2D_TIER_3] = { COUNT_OF(tier3_blocks), tier3_variant },
};

static uint32_t rule_of(const struct l2d_gpu_caps *caps, enum l2d_tier tier,
                        const struct l2d_attention_shape *s)
{
    uint32_t depth = tier3_depth(caps, s->quads);
    if (tier == L2D_TIER_3)
        return caps->type == L2D_GPU_CPU || depth > 96 ? 2 : depth > 48 ? 1 : 0;
    return tier == L2D_TIER_2 && (s->quads > 12 || s->keys <= 32);
}

// The highest tier that has the shape.
static enum l2d_tier tier_of(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                             const struct l2d_attention_shape *s)
{
    struct l2d_attention_variant v;
    enum l2d_tier tier = precision == L2D_F16 ? caps->tier : L2D_TIER_1;
    while (tier > L2D_TIER_1 && !tiers[tier].variant(caps, rule_of(caps, tier, s), s, &v))
        tier--;
    return tier;
}

// CPU drivers: queries of a lane, what compiles in time and fits it.
static struct l2d_attention_variant tier0_variant(const struct l2d_gpu_caps *caps,
                                                  const struct l2d_attention_shape *s)
{
    uint32_t lanes = subgroup_lanes_of(caps);
    uint32_t per_lane = s->quads <= 4 ? 4 : s->quads <= 10 ? 2 : 1;
    return (struct l2d_attention_variant) {
        "attention_t0", "", lanes * per_lane, { lanes, s->quads, s->causal, per_lane }, 4,
    };
}

bool l2d_attention_variant_of(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                              const struct l2d_attention_shape *s, uint32_t index,
                              struct l2d_attention_variant *v)
{
    if (4 * s->quads > L2D_ATTENTION_WIDE) {
        *v = (struct l2d_attention_variant) {
            "attention_wide", "", WIDE_QUERIES, { 128, s->quads, s->causal }, 3,
        };
        return index == 0;
    }
    if (caps->tier == L2D_TIER_0) {
        *v = tier0_variant(caps, s);
        return index == 0;
    }
    enum l2d_tier tier = tier_of(caps, precision, s);
    uint32_t rule = rule_of(caps, tier, s);
    if (index == 0)
        return tiers[tier].variant(caps, rule, s, v);
    for (uint32_t i = 0; i < tiers[tier].count; i++)
        if (i != rule && tiers[tier].variant(caps, i, s, v) && --index == 0)
            return true;
    return tier > L2D_TIER_1 && index == 1 && tier1_variant(caps, 0, s, v);
}

// ---- shapes, and the choice

struct l2d_shape l2d_attention_shape_key(const struct l2d_attention_shape *s,
                                         enum l2d_dtype precision)
{
    return (struct l2d_shape) {
        .rows = s->rows,
        .of = { KERNEL_ATTENTION << 8 | (uint32_t) precision, s->queries, s->keys, s->heads,
                s->quads, s->causal },
    };
}

bool l2d_attention_shape_of_key(const struct l2d_shape *key, struct l2d_attention_shape *s,
                                enum l2d_dtype *precision)
{
    const uint32_t *of = key->of;
    *s = (struct l2d_attention_shape) { key->rows, of[1], of[2], of[3], of[4], of[5] };
    *precision = of[0] & 1 ? L2D_F16 : L2D_F32;
    return of[0] >> 8 == KERNEL_ATTENTION && s->rows - 1 < L2D_MAX_ROWS &&
           s->queries - 1 < (1 << 20) && s->keys - 1 < (1 << 20) && s->heads - 1 < 65535 &&
           s->quads - 1 < L2D_ATTENTION_WIDEST / 4 && s->causal < 2;
}

struct l2d_attention_variant l2d_attention_choose(struct l2d_graph *graph,
                                                  const struct l2d_attention_shape *s, double flops)
{
    struct l2d_gpu *gpu = l2d_graph_gpu(graph);
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(gpu);
    enum l2d_dtype precision = l2d_graph_precision(graph);
    struct l2d_shape key = l2d_attention_shape_key(s, precision);
    struct l2d_choice known = { 0 };
    struct l2d_attention_variant v;
    l2d_choices_find(gpu, &key, flops, &known);
    if (!l2d_attention_variant_of(caps, precision, s, known.family, &v))
        l2d_attention_variant_of(caps, precision, s, 0, &v);    // a file may say anything
    return v;
}
