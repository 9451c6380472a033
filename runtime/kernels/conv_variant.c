// SPDX-License-Identifier: Apache-2.0
// See conv_variant.h.
#include "kernels/conv_variant.h"

#include <stdio.h>
#include <string.h>

#include "kernels/dispatch.h"
#include "shaders/params/conv.h"
#include "shaders/params/row.h"

#define KERNEL_CONV 1u                  // first word of a key, in bits above the precision's

// ---- families: those of their variants that run on a device

// Pixels by channels, pixels of an invocation, depth of a slice.
static const struct { uint32_t m, n, pixels, depth; } tier1_tiles[] = {
    { 64, 64, 4, 32 }, { 128, 128, 8, 16 }, { 128, 64, 8, 16 }, { 32, 64, 4, 32 },
    { 32, 32, 2, 32 },
};

// Subgroups, of them side by side across the channels, and matrices of one, 2 or 4 of them across
// the pixels; depth of a slice in matrices, and slices at a time. The comment is the tile of
// 16x16x16 matrices. On an H100 each of them is the fastest for some shapes of SD1.5. Those of four
// subgroups have two workgroups on a core, where there are so many, which take turns with their
// loads and products; two slices at a time are for small tiles, which wait for memory.
#define FIRST_OF_FEW_REGISTERS 10
static const struct { uint32_t subgroups, side, wm, wn, deep, slices; } tier2_tiles[] = {
    { 4, 2, 2, 2, 4, 1 },               // 64x64x64
    { 8, 2, 2, 5, 4, 1 },               // 128x160x64; 160 divides SD's widths
    { 4, 2, 4, 5, 2, 1 },               // 128x160x32
    { 4, 2, 4, 4, 2, 1 },               // 128x128x32
    { 4, 2, 2, 5, 4, 1 },               // 64x160x64
    { 8, 2, 2, 4, 4, 1 },               // 128x128x64
    { 8, 1, 2, 4, 4, 1 },               // 256x64x64
    { 4, 2, 4, 2, 2, 1 },               // 128x64x32
    { 8, 2, 2, 2, 4, 1 },               // 128x64x64
    { 4, 2, 2, 2, 4, 2 },               // 64x64x128
    // For devices with few registers, and CPU drivers; of matrices of 8x16x16.
    [FIRST_OF_FEW_REGISTERS] = { 8, 2, 2, 2, 2, 1 },    // 64x64x32
    { 16, 2, 2, 2, 2, 1 },              // 128x64x32
    { 32, 4, 2, 2, 2, 1 },              // 128x128x32
    { 32, 4, 2, 2, 4, 1 },              // 128x128x64
    { 32, 2, 2, 2, 2, 1 },              // 256x64x32
};

static struct l2d_conv_variant tier0_variant(const struct l2d_gpu_caps *caps, uint32_t quads)
{
    uint32_t lanes = subgroup_lanes_of(caps);
    uint32_t wasted_by_8 = div_up(quads, 8) * 8 - quads, wasted_by_6 = div_up(quads, 6) * 6 - quads;
    uint32_t tile = quads <= 4 ? 4 : wasted_by_6 < wasted_by_8 ? 6 : 8;
    return (struct l2d_conv_variant) {
        .shader = "conv_t0", .size = lanes, .pixels = lanes * L2D_CONV_T0_PIXELS, .quads = tile,
        .spec = { tile }, .num_spec = 1,
    };
}

static struct l2d_conv_variant tier1_variant(uint32_t index, bool halves)
{
    uint32_t m = tier1_tiles[index].m, n = tier1_tiles[index].n;
    uint32_t pixels = tier1_tiles[index].pixels, depth = tier1_tiles[index].depth;
    return (struct l2d_conv_variant) {
        .shader = halves ? "conv_halves_t1" : "conv_t1",
        .size = m / pixels * (n / 8), .pixels = m, .quads = n / 4,
        .spec = { m, n, pixels, depth }, .num_spec = 4,
        .shared_bytes = halves ? 2 * depth * (m + 8 + n) : 4 * depth * (m + 4 + n),
    };
}

static struct l2d_conv_variant tier2_variant(const struct l2d_gpu_caps *caps, uint32_t index,
                                             bool halves)
{
    const struct l2d_matrix_shape *s = &caps->matrix;
    uint32_t subgroups = tier2_tiles[index].subgroups, side = tier2_tiles[index].side;
    uint32_t wm = tier2_tiles[index].wm, wn = tier2_tiles[index].wn, lanes = caps->subgroup_size;
    uint32_t m = subgroups / side * wm * s->m, n = side * wn * s->n;
    uint32_t depth = tier2_tiles[index].deep * s->k, slices = tier2_tiles[index].slices;
    depth = depth < L2D_CONV_UNIT ? depth : L2D_CONV_UNIT;
    uint32_t deep = slices * depth;
    uint32_t slice = m * (deep / 8 + 1) +
                     (caps->matrix_columns ? n * (deep / 8 + 1) : deep * (n / 8 + 1));
    uint32_t sums = subgroups * s->m * (wn * s->n / 4 + 1);
    return (struct l2d_conv_variant) {
        .shader = "conv_t2", .size = subgroups * lanes, .pixels = m, .quads = n / 4,
        .spec = { s->m, s->n, s->k, wm, wn, side, subgroups, lanes, depth, caps->matrix_columns,
                  halves, slices },
        .num_spec = 12,
        .shared_bytes = 16 * (slice > sums ? slice : sums),
    };
}

// Registers of 32 bits that an invocation needs. Sums count twice: where loads of matrices may move
// ahead, a compiler keeps about as much again. Of what Intel's (Mesa 26.1) makes for its Xe2 this
// tells what stays within registers, but for a few of them.
static uint32_t registers_of(const struct l2d_conv_variant *v)
{
    uint32_t m = v->spec[0], n = v->spec[1], k = v->spec[2], wm = v->spec[3], wn = v->spec[4];
    uint32_t lanes = v->spec[7], depth = v->spec[8];
    uint32_t loads_a = v->spec[11] * div_up(v->pixels * depth / 8, v->size);
    uint32_t loads_b = v->spec[11] * div_up(v->quads * depth / 2, v->size);
    uint32_t matrices = 4 * 2 * wm * wn * m * n + 2 * (wm * m + n) * k;
    return div_up(matrices, 4 * lanes) + 4 * (loads_a + loads_b) + 3 * loads_a + loads_b + 12;
}

// Whole panels of weights, a whole number of octets of pixels for each invocation to load, whole
// slices in a unit, and an invocation for each octet of a line of sums. CPU drivers compile an
// emulated matrix at a time, and have none of the large tiles. Sums in halves are of as many terms
// in each tile.
static bool tier2_runs(const struct l2d_gpu_caps *caps, const struct l2d_conv_variant *v)
{
    uint32_t depth = v->spec[8], lines = v->size / (depth / 8);
    uint32_t of_panel = L2D_CONV_PANEL / 8 * depth;
    uint32_t matrices = v->spec[3] * v->spec[4], line_octets = v->spec[4] * v->spec[1] / 8;
    return 4 * v->quads % L2D_CONV_PANEL == 0 && v->size % (depth / 8) == 0 && lines % 8 == 0 &&
           v->pixels % lines == 0 && L2D_CONV_UNIT % depth == 0 &&
           (v->size % of_panel == 0 || of_panel % v->size == 0) && v->size % L2D_CONV_PANEL == 0 &&
           line_octets <= caps->subgroup_size && (caps->type != L2D_GPU_CPU || matrices <= 4) &&
           (!caps->lane_registers || registers_of(v) <= caps->lane_registers) &&
           (!v->spec[10] || (v->spec[8] == 4 * v->spec[2] && v->spec[11] == 1));
}

static bool runs(const struct l2d_gpu_caps *caps, enum l2d_conv_family family,
                 const struct l2d_conv_variant *v)
{
    return v->shared_bytes <= caps->max_shared_bytes && v->size <= caps->max_invocations &&
           (family < L2D_CONV_T2 || tier2_runs(caps, v));
}

// Number `index` of those that run.
static bool find_variant(const struct l2d_gpu_caps *caps, enum l2d_conv_family family,
                         uint32_t index, uint32_t quads, struct l2d_conv_variant *out)
{
    bool few = caps->lane_registers || caps->type == L2D_GPU_CPU;
    bool halves = family == L2D_CONV_T1_HALVES || family == L2D_CONV_T2_HALVES;
    uint32_t count = family == L2D_CONV_T0 ? 1 : family < L2D_CONV_T2 ? COUNT_OF(tier1_tiles)
                   : few ? COUNT_OF(tier2_tiles) : FIRST_OF_FEW_REGISTERS;
    for (uint32_t i = 0; i < count; i++) {
        *out = family == L2D_CONV_T0 ? tier0_variant(caps, quads)
             : family < L2D_CONV_T2 ? tier1_variant(i, halves)
             : tier2_variant(caps, i, halves);
        out->parts = 1;
        if (runs(caps, family, out) && index-- == 0) {
            const char *h = halves ? "h" : "";
            if (family >= L2D_CONV_T2)
                snprintf(out->name, sizeof(out->name), "%ux%ux%u%s", out->pixels, 4 * out->quads,
                         out->spec[11] * out->spec[8], h);
            else
                snprintf(out->name, sizeof(out->name), "%ux%u%s", out->pixels, 4 * out->quads, h);
            return true;
        }
    }
    return false;
}

// shape: of octets of channels, as matrix units take them, and no pixels left out; or NULL: any.
static bool is_for(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                   enum l2d_conv_family family, const struct l2d_conv_shape *shape)
{
    struct l2d_conv_variant v;
    if (family == L2D_CONV_T1_HALVES)
        return precision == L2D_F16 && caps->has_half_math && caps->tier == L2D_TIER_1;
    if (family < L2D_CONV_T2)
        return (family == L2D_CONV_T0) == (caps->tier == L2D_TIER_0);
    return precision == L2D_F16 && caps->tier >= L2D_TIER_2 &&
           (family == L2D_CONV_T2 || caps->matrix_halves) && find_variant(caps, family, 0, 8, &v) &&
           !(shape && (shape->cin % 8 || shape->odd_seam || shape->stride > shape->ksize));
}

uint32_t l2d_conv_num_variants(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                               enum l2d_conv_family family)
{
    struct l2d_conv_variant v;
    uint32_t n = 0;
    while (is_for(caps, precision, family, NULL) && find_variant(caps, family, n, 8, &v))
        n++;
    return n;
}

// ---- shapes

struct l2d_shape l2d_conv_shape_key(const struct l2d_conv_shape *s, enum l2d_dtype precision)
{
    return (struct l2d_shape) {
        .rows = s->rows,
        .of = { KERNEL_CONV << 8 | (uint32_t) precision, s->out_h, s->out_w, s->quads, s->cin,
                s->ksize, s->stride, s->upsample | s->odd_seam << 1 },
    };
}

bool l2d_conv_shape_of_key(const struct l2d_shape *key, struct l2d_conv_shape *s,
                           enum l2d_dtype *precision)
{
    const uint32_t *of = key->of;
    *s = (struct l2d_conv_shape) { key->rows, of[1], of[2], of[3], of[4], of[5], of[6], of[7] & 1,
                                  of[7] >> 1 };
    *precision = of[0] & 1 ? L2D_F16 : L2D_F32;
    return of[0] >> 8 == KERNEL_CONV && s->rows - 1 < L2D_MAX_ROWS && s->out_h - 1 < 16384 &&
           s->out_w - 1 < (1 << 20) && s->quads - 1 < 16384 && s->cin - 1 < 65536 &&
           s->cin % 4 == 0 && (s->stride == 1 || s->stride == 2) && s->odd_seam < 2 &&
           (s->upsample ? s->ksize == 2 && s->out_h % 2 == 0 && s->out_w % 2 == 0
                        : s->ksize == 1 || s->ksize == 3 || s->ksize == 7);
}

// ---- the choice

// A dispatch may have so many tiles, of all rows' pixels.
static bool fits(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s, uint32_t rows,
                 const struct l2d_conv_variant *v)
{
    uint64_t pixels = (uint64_t) rows * s->out_h * s->out_w / (s->upsample ? 4 : 1);
    return div_up(pixels, v->pixels) <= caps->max_groups[0];
}

static uint32_t first_tile(const struct l2d_gpu_caps *caps, enum l2d_conv_family family,
                           const struct l2d_conv_shape *s)
{
    struct l2d_conv_variant v;
    for (uint32_t i = 0; find_variant(caps, family, i, s->quads, &v); i++)
        if (fits(caps, s, s->rows, &v))
            return i;
    return 0;
}

// What the device binds holds all parts of as many rows as a call may have.
static uint32_t most_parts(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s)
{
    uint64_t bytes = (uint64_t) s->out_h * s->out_w * s->quads * 16 * L2D_MAX_ROWS;
    uint64_t parts = caps->tier == L2D_TIER_0 ? 1 : caps->max_range_bytes / bytes;
    return parts < 1 ? 1 : parts < L2D_CONV_MAX_PARTS ? (uint32_t) parts : L2D_CONV_MAX_PARTS;
}

// How long a variant of tier 2 takes: rounds of tiles, each of so many slices of 64 terms and what
// comes before and after them. A small tile takes longer for its size, since it loads more for each
// product. Two workgroups of four subgroups share a core, and take a little less than one after the
// other. Parts are written and read again. In slices of the tile 128x160, measured on an H100.
static double cost(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s, uint32_t rows,
                   const struct l2d_conv_variant *v, uint32_t parts)
{
    const double full = 128 * 160 * (1 + 128 * (1.0 / 128 + 1.0 / 160));   // the tile 128x160
    uint32_t cores = caps->num_cores ? caps->num_cores : 32;
    uint64_t pixels = (uint64_t) rows * s->out_h * s->out_w;
    uint64_t tiles = (uint64_t) div_up(pixels, v->pixels) * div_up(s->quads, v->quads) * parts;
    double m = v->pixels, n = 4.0 * v->quads;
    double slice = m * n * (1 + 128 * (1 / m + 1 / n)) / full;
    double terms = (double) s->cin * s->ksize * s->ksize, rounds = div_up(tiles, cores);
    if (v->size <= 4 * caps->subgroup_size)
        rounds = tiles <= cores ? 1.06 : 1.8 * div_up(tiles, 2 * cores);
    double sums = (double) pixels * 4 * s->quads * parts / (128.0 * 160 * cores);
    return rounds * slice * (terms / 64 / parts + 4) + (parts > 1 ? 5 + 8 * sums : 0);
}

static uint32_t best_tile(const struct l2d_gpu_caps *caps, enum l2d_conv_family family,
                          const struct l2d_conv_shape *s, uint32_t rows, uint32_t parts,
                          double *least)
{
    struct l2d_conv_variant v;
    uint32_t best = 0;
    *least = 0;
    for (uint32_t i = 0; find_variant(caps, family, i, s->quads, &v); i++) {
        double c = cost(caps, s, rows, &v, parts);
        if (fits(caps, s, rows, &v) && (*least <= 0 || c < *least)) {
            *least = c;
            best = i;
        }
    }
    return best;
}

// Few tiles and a long sum leave most of a GPU idle, which parts of the sum fill: as many as are
// fastest for two rows.
static uint32_t default_parts(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s,
                              enum l2d_conv_family family)
{
    uint32_t most = caps->num_cores ? most_parts(caps, s) : 1, best = 1;
    if (family == L2D_CONV_T1) {        // as many as give every core a tile, of at least 512 terms
        uint32_t tiles = div_up(2 * (uint64_t) s->out_h * s->out_w, 128) * div_up(s->quads, 40);
        uint32_t parts = caps->num_cores / tiles, terms = s->cin * s->ksize * s->ksize;
        parts = parts < terms / 512 ? parts : terms / 512;
        return parts < 1 ? 1 : parts < most ? parts : most;
    }
    double least = 0, c = 0;
    for (uint32_t parts = 1; parts <= most; parts *= 2) {
        best_tile(caps, L2D_CONV_T2, s, 2, parts, &c);
        if (parts == 1 || c < least) {
            least = c;
            best = parts;
        }
    }
    return best;
}

bool l2d_conv_is_promising(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *shape,
                           const struct l2d_conv_variant *v)
{
    double least = 0, c = 0;
    for (uint32_t parts = 1; parts <= L2D_CONV_MAX_PARTS; parts *= 2) {
        best_tile(caps, L2D_CONV_T2, shape, shape->rows, parts, &c);
        least = parts == 1 || c < least ? c : least;
    }
    return cost(caps, shape, shape->rows, v, v->parts) < 1.6 * least;
}

struct l2d_choice l2d_conv_default(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                                   const struct l2d_conv_shape *shape)
{
    if (caps->tier == L2D_TIER_0)
        return (struct l2d_choice) { L2D_CONV_T0, 0, 1 };
    enum l2d_conv_family family = is_for(caps, precision, L2D_CONV_T2, shape) ? L2D_CONV_T2
                                                                              : L2D_CONV_T1;
    uint32_t parts = default_parts(caps, shape, family);
    double c;
    uint32_t tile = family == L2D_CONV_T1 ? first_tile(caps, family, shape)
                  : best_tile(caps, family, shape, shape->rows, parts, &c);
    return (struct l2d_choice) { family, tile, parts };
}

bool l2d_conv_variant_of(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                         const struct l2d_conv_shape *shape, const struct l2d_choice *choice,
                         struct l2d_conv_variant *v)
{
    if (choice->family >= L2D_CONV_NUM_FAMILIES || choice->parts < 1 ||
        choice->parts > most_parts(caps, shape) ||
        !is_for(caps, precision, (enum l2d_conv_family) choice->family, shape) ||
        !find_variant(caps, (enum l2d_conv_family) choice->family, choice->variant, shape->quads,
                      v))
        return false;
    v->parts = choice->parts;
    size_t len = strlen(v->name);
    if (v->parts > 1)
        snprintf(v->name + len, sizeof(v->name) - len, " /%u", v->parts);
    return fits(caps, shape, shape->rows, v);
}

// By rule, within family and parts of what is known of other rows.
static struct l2d_choice within(const struct l2d_gpu_caps *caps,
                                const struct l2d_conv_shape *shape, struct l2d_choice rule,
                                const struct l2d_choice *known)
{
    struct l2d_choice c = { known->family, 0, known->parts };
    double least;
    if (c.family >= L2D_CONV_NUM_FAMILIES || (c.family >= L2D_CONV_T2 && !caps->matrix.m))
        return rule;                    // a file may say anything
    if (c.family >= L2D_CONV_T2)
        c.variant = best_tile(caps, (enum l2d_conv_family) c.family, shape, shape->rows, c.parts,
                              &least);
    else if (c.family > L2D_CONV_T0)
        c.variant = first_tile(caps, (enum l2d_conv_family) c.family, shape);
    return c;
}

struct l2d_choice l2d_conv_in_halves(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                                     const struct l2d_conv_shape *shape,
                                     const struct l2d_choice *choice)
{
    struct l2d_choice halves = { choice->family + 1, 0, choice->parts };
    if ((choice->family != L2D_CONV_T1 && choice->family != L2D_CONV_T2) ||
        !is_for(caps, precision, (enum l2d_conv_family) halves.family, shape))
        return *choice;
    return within(caps, shape, *choice, &halves);
}

struct l2d_choice l2d_conv_rule(struct l2d_gpu *gpu, enum l2d_dtype precision,
                                const struct l2d_conv_shape *shape, bool *fixed)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(gpu);
    struct l2d_choice known, rule = l2d_conv_default(caps, precision, shape);
    struct l2d_shape key = l2d_conv_shape_key(shape, precision);
    *fixed = l2d_choices_find(gpu, &key, 0, &known) != L2D_CHOICE_NONE;
    return *fixed ? within(caps, shape, rule, &known) : rule;
}

struct l2d_conv_variant l2d_conv_choose(struct l2d_graph *graph, const struct l2d_conv_shape *shape,
                                        double flops)
{
    struct l2d_gpu *gpu = l2d_graph_gpu(graph);
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(gpu);
    enum l2d_dtype precision = l2d_graph_precision(graph);
    struct l2d_shape key = l2d_conv_shape_key(shape, precision);
    struct l2d_choice known, rule = l2d_conv_default(caps, precision, shape);
    enum l2d_choice_found found = l2d_choices_find(gpu, &key, flops, &known);
    struct l2d_conv_variant v;
    if (found == L2D_CHOICE_FOUND && l2d_conv_variant_of(caps, precision, shape, &known, &v))
        return v;
    if (found != L2D_CHOICE_NONE) {     // a tile that there is not: its sums are those of others
        known = within(caps, shape, rule, &known);
        if (l2d_conv_variant_of(caps, precision, shape, &known, &v))
            return v;
    }
    l2d_conv_variant_of(caps, precision, shape, &rule, &v);
    return v;
}
