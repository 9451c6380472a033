// SPDX-License-Identifier: Apache-2.0
// The addressing of conv_t4.comp, on the host: no CPU driver can load matrices by coordinates. Here
// is what GL_NV_cooperative_matrix2 says about them (loads and stores of a slice of a tensor, zero
// or dropped outside, with a permuted view), and the shader's loops over workgroups, taps, inputs
// and channels on top of it; axes, tiles and flattened parameters are the product's own. Against
// the reference, so that a wrong shift, stride, count, permutation or tile shows.
#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/kernels.h"
#include "kernels/tier4.h"
#include "ref/ref.h"
#include "shaders/params/conv_tensor.h"
#include "support/gpu_test.h"

// tensorLayoutNV, and the order of tensorViewNV's dimensions.
struct layout {
    int num;
    bool clamp;                         // else nothing may be outside
    uint32_t dim[5], stride[5], span[5];
    int32_t offset[5];
    int order[5];
};

static struct layout layout_of(int num, bool clamp, const uint32_t *dim)
{
    struct layout l = { .num = num, .clamp = clamp };
    uint32_t stride = 1;
    for (int i = num - 1; i >= 0; i--) {
        l.dim[i] = dim[i];
        l.stride[i] = stride;
        l.order[i] = i;
        stride *= dim[i];
    }
    return l;
}

// s[i] must be at least s[i+1] * dim[i+1].
static void set_stride(struct layout *l, uint32_t s0, uint32_t s1, uint32_t s2)
{
    l->stride[0] = s0;
    l->stride[1] = s1;
    l->stride[2] = s2;
    for (int i = 0; i < 2; i++)
        cr_assert(l->stride[i] >= l->stride[i + 1] * l->dim[i + 1], "stride %d", i);
}

static void set_slice(struct layout *l, int i, int32_t offset, uint32_t span)
{
    l->offset[i] = offset;
    l->span[i] = span;
}

// Element of the tensor for one of a matrix of n columns; -1 outside.
static long element_of(const struct layout *l, uint32_t line, uint32_t column, uint32_t n)
{
    uint32_t index = line * n + column, at[5], linear = 0;
    for (int i = l->num - 1; i >= 0; i--) {         // in the view, whose sizes are the span's
        at[l->order[i]] = index % l->span[l->order[i]];
        index /= l->span[l->order[i]];
    }
    for (int i = 0; i < l->num; i++)
        linear = linear * l->span[i] + at[i];
    long element = 0;
    for (int i = l->num - 1; i >= 0; i--) {         // in the slice
        int32_t c = (int32_t) (linear % l->span[i]) + l->offset[i];
        linear /= l->span[i];
        if (c < 0 || c >= (int32_t) l->dim[i]) {
            cr_assert(l->clamp, "outside, where nothing looks");
            return -1;
        }
        element += (long) c * (long) l->stride[i];
    }
    return element;
}

static void load(float *m, uint32_t lines, uint32_t columns, const float *from, size_t base,
                 size_t count, const struct layout *l)
{
    cr_assert(base % 8 == 0, "a slice begins at a multiple of 16 bytes");
    for (uint32_t i = 0; i < lines; i++)
        for (uint32_t j = 0; j < columns; j++) {
            long at = element_of(l, i, j, columns);
            cr_assert(at < 0 || base + (size_t) at < count, "beyond the operand");
            m[i * columns + j] = at < 0 ? 0 : from[base + (size_t) at];
        }
}

struct conv {
    const float *x, *x2, *weight;       // weight: packed
    size_t num_x, num_x2, num_weight, num_y;
    float *y;
    unsigned char *written;
    struct l2d_tier4_conv tile;
    uint32_t ksize;
    bool geglu;
    // A workgroup's
    uint32_t group[3];
    float *a, *b, *sums;
};

#define TILE_H c->tile.spec[0]
#define TILE_W c->tile.spec[1]
#define TILE_N c->tile.spec[2]
#define TILE_K c->tile.spec[3]
#define CLAMP (c->tile.spec[4] == 1)

static void load_weights(struct conv *c, uint32_t k0, uint32_t part)
{
    const struct l2d_conv_params *p = &c->tile.params;
    uint32_t depth = 4 * c->ksize * c->ksize * (p->q0 + p->q1), panels = (p->out_quads + 7) / 8;
    uint32_t span = TILE_N / L2D_CONV_PANEL, n = c->geglu ? TILE_N / 2 : TILE_N;
    struct layout l = c->geglu ? layout_of(5, CLAMP, (uint32_t[]) { panels, depth, 4, 2, 4 })
                               : layout_of(3, CLAMP, (uint32_t[]) { panels, depth, 32 });
    l.order[0] = 1;
    l.order[1] = 0;
    set_slice(&l, 0, (int32_t) (c->group[1] * span), span);
    set_slice(&l, 1, (int32_t) k0, TILE_K);
    set_slice(&l, 2, 0, c->geglu ? 4 : 32);
    set_slice(&l, 3, (int32_t) part, 1);
    set_slice(&l, 4, 0, 4);
    load(c->b, TILE_K, n, c->weight, 0, c->num_weight, &l);
}

static void add_tap(struct conv *c, const float *input, size_t count, uint32_t quads,
                    uint32_t k_first, uint32_t row, const int32_t at[2],
                    const struct l2d_conv_axis *across, const struct l2d_conv_axis *down)
{
    const struct l2d_conv_params *p = &c->tile.params;
    uint32_t m = TILE_H * TILE_W, n = c->geglu ? TILE_N / 2 : TILE_N;
    struct layout l = layout_of(3, CLAMP, (uint32_t[]) { (uint32_t) down->count,
                                                         (uint32_t) across->count, 4 * quads });
    set_stride(&l, (uint32_t) down->step * p->w * 4 * quads, (uint32_t) across->step * 4 * quads,
               1);
    size_t base = ((size_t) (row * p->h + (uint32_t) down->first) * p->w +
                   (uint32_t) across->first) * quads * 4;
    for (uint32_t k = 0; k < 4 * quads; k += TILE_K) {
        set_slice(&l, 0, at[1] + down->shift, TILE_H);
        set_slice(&l, 1, at[0] + across->shift, TILE_W);
        set_slice(&l, 2, (int32_t) k, TILE_K);
        load(c->a, m, TILE_K, input, base, count, &l);
        for (uint32_t part = 0; part < (c->geglu ? 2 : 1); part++) {
            load_weights(c, k_first + k, part);
            for (uint32_t i = 0; i < m; i++)
                for (uint32_t d = 0; d < TILE_K; d++)
                    for (uint32_t j = 0; j < n && c->a[i * TILE_K + d] != 0; j++)
                        c->sums[(part * m + i) * n + j] += c->a[i * TILE_K + d] * c->b[d * n + j];
        }
    }
}

static void store(struct conv *c, uint32_t row, const int32_t at[2],
                  const struct l2d_conv_axis *across, const struct l2d_conv_axis *down)
{
    const struct l2d_conv_params *p = &c->tile.params;
    uint32_t m = TILE_H * TILE_W, n = c->geglu ? TILE_N / 2 : TILE_N;
    uint32_t channels = c->geglu ? 2 * p->out_quads : 4 * p->out_quads;
    struct layout l = layout_of(3, CLAMP, (uint32_t[]) { (uint32_t) down->count,
                                                         (uint32_t) across->count, channels });
    set_stride(&l, (uint32_t) down->step * p->ow * channels, (uint32_t) across->step * channels, 1);
    set_slice(&l, 0, at[1], TILE_H);
    set_slice(&l, 1, at[0], TILE_W);
    set_slice(&l, 2, (int32_t) (c->group[1] * n), n);
    size_t base = ((size_t) (row * p->oh + (uint32_t) down->first) * p->ow +
                   (uint32_t) across->first) * channels;
    cr_assert(base % 8 == 0);
    for (uint32_t i = 0; i < m; i++)
        for (uint32_t j = 0; j < n; j++) {
            long element = element_of(&l, i, j, n);
            if (element < 0)
                continue;
            size_t to = base + (size_t) element;
            cr_assert(to < c->num_y && !c->written[to]++, "stored twice, or beyond the result");
            float v = c->sums[i * n + j], gate = c->sums[(c->geglu ? m + i : i) * n + j];
            c->y[to] = c->geglu ? v * (float) l2d_ref_activate((double) gate, L2D_REF_GELU) : v;
        }
}

static void run_group(struct conv *c)
{
    const struct l2d_conv_params *p = &c->tile.params;
    uint32_t z = c->group[2], row = z >> 2 * p->upsample;
    int32_t up = (int32_t) p->upsample, phase[2] = { (int32_t) (z & 1) * up,
                                                     (int32_t) (z >> 1 & 1) * up };
    struct l2d_conv_axis across = l2d_conv_outputs((i32) p->ow, up, phase[0]);
    struct l2d_conv_axis down = l2d_conv_outputs((i32) p->oh, up, phase[1]);
    uint32_t tiles = ((uint32_t) across.count + TILE_W - 1) / TILE_W;
    int32_t at[2] = { (int32_t) (c->group[0] % tiles * TILE_W),
                      (int32_t) (c->group[0] / tiles * TILE_H) };
    memset(c->sums, 0, sizeof(*c->sums) * TILE_H * TILE_W * TILE_N);
    for (uint32_t tap = 0; tap < c->ksize * c->ksize; tap++) {
        struct l2d_conv_axis in_x = l2d_conv_inputs((i32) p->w, (i32) (tap % c->ksize),
                                                    (i32) p->pad_x, (i32) p->stride, up, phase[0]);
        struct l2d_conv_axis in_y = l2d_conv_inputs((i32) p->h, (i32) (tap / c->ksize),
                                                    (i32) p->pad_y, (i32) p->stride, up, phase[1]);
        uint32_t k_first = 4 * tap * (p->q0 + p->q1);
        add_tap(c, c->x, c->num_x, p->q0, k_first, row, at, &in_x, &in_y);
        if (p->q1)
            add_tap(c, c->x2, c->num_x2, p->q1, k_first + 4 * p->q0, row, at, &in_x, &in_y);
    }
    store(c, row, at, &across, &down);
}

// What NVIDIA's drivers say, by llama.cpp's checks of it.
static const struct l2d_gpu_caps caps = {
    .max_shared_bytes = 49152, .max_invocations = 1024,
    .matrix2 = { .size = { { 128, { 32, 16, 16 } }, { 256, { 32, 32, 16 } } },
                 .of_workgroup = true, .has_tensors = true, .max_side = 1024 },
};

static const struct conv_case {
    int rows, h, w, c0, c1, cout, ksize;
    bool stride2, upsample, pad_same, geglu, ring;
} cases[] = {
    { 1, 16, 16, 32,  0,  96, 3, false, false, false, false, false },
    { 2,  9, 19, 24, 16,  40, 3, false, false, false, false, false },
    { 1, 17, 13, 96,  0,  96, 3, true,  false, false, false, false },
    { 2,  6,  8, 16,  0,  64, 3, true,  false, false, false, false },
    { 1, 15, 12, 64,  0,  64, 3, true,  false, true,  false, false },
    { 2,  5,  9, 24,  0,  24, 3, false, true,  false, false, false },
    { 1,  1,  1,  8,  0,  16, 3, true,  false, false, false, false },
    { 1,  8,  6, 16,  0,  32, 7, true,  false, true,  false, false },
    { 2,  8,  8, 96,  0, 768, 1, false, false, false, true,  false },
    { 1,  3,  5, 40, 24, 160, 1, false, false, false, false, false },
    { 2,  7,  7, 32,  0,  64, 1, false, false, false, false, true  },
    { 2,  6,  8, 32,  0,  64, 1, true,  false, true,  false, false },
    { 2, 16,  8, 64, 64, 320, 1, false, false, false, false, false },   // nothing to clamp
    { 1,  8,  8, 64,  0, 128, 1, false, false, false, true,  false },   // here too, of 64 pixels
};

static void run_case(const struct conv_case *k, unsigned index)
{
    int cin = k->c0 + k->c1, oh, ow, oc, taps = k->ksize * k->ksize;
    struct l2d_ref_conv ref = {
        .rows = k->rows, .h = k->h, .w = k->w, .c0 = k->c0, .c1 = k->c1, .cout = k->cout,
        .ksize = k->ksize, .stride2 = k->stride2, .upsample = k->upsample, .pad_same = k->pad_same,
        .act = k->geglu ? L2D_REF_GEGLU : L2D_REF_NONE,
    };
    l2d_ref_conv_shape(&ref, &oh, &ow, &oc);
    size_t pixels = (size_t) (k->rows * k->h * k->w), nw = (size_t) (k->cout * cin * taps);
    struct conv c = {
        .num_x = pixels * (size_t) k->c0, .num_x2 = pixels * (size_t) k->c1,
        .num_y = (size_t) (k->rows * oh * ow * oc), .ksize = (uint32_t) k->ksize,
        .num_weight = l2d_conv_packed_bytes(cin, k->cout, k->ksize, L2D_F32) / 4, .geglu = k->geglu,
    };
    float *x = gt_floats(c.num_x), *x2 = gt_floats(c.num_x2 + 1), *weight = gt_floats(nw);
    float *packed = gt_floats(c.num_weight), *want = gt_floats(c.num_y);
    gt_fill(x, c.num_x, GT_NORMAL, 1, 1, L2D_F32, index);
    gt_fill(x2, c.num_x2, GT_NORMAL, 1, 1, L2D_F32, index + 100);
    gt_fill(weight, nw, GT_NORMAL, 1 / sqrt(cin * taps), 1, L2D_F32, index + 200);
    l2d_conv_pack(packed, L2D_F32, cin, k->cout, k->ksize, k->geglu, weight, cin, k->cout, 0);
    ref.x = x;
    ref.x2 = x2;
    ref.weight = weight;
    l2d_ref_conv(want, &ref);

    int step = k->stride2 ? 2 : 1, both[2] = { k->w, k->h }, pad[2];
    for (int i = 0; i < 2; i++) {               // as conv.c pads
        int total = ((i ? oh : ow) - 1) * step + k->ksize - both[i];
        pad[i] = !k->pad_same ? k->ksize / 2 : total > 0 ? total / 2 : 0;
    }
    c.tile = l2d_tier4_conv(&caps, &(struct l2d_conv_params) {
        .num_rows = (u32) k->rows, .w = (u32) k->w, .h = (u32) k->h, .ow = (u32) ow, .oh = (u32) oh,
        .q0 = (u32) k->c0 / 4, .q1 = (u32) k->c1 / 4, .out_quads = (u32) k->cout / 4,
        .stride = (u32) step, .pad_x = (u32) pad[0], .pad_y = (u32) pad[1],
        .upsample = k->upsample, .flags = k->ring ? L2D_CONV_RESIDUAL_RING : 0,
    }, c.ksize, k->ring ? L2D_CONV_RESIDUAL : 0, k->geglu);
    cr_assert(c.tile.size > 0, "case %u has no tile", index);
    const uint32_t *tile = c.tile.spec;
    c.x = x;
    c.x2 = x2;
    c.weight = packed;
    c.y = gt_floats(c.num_y);
    c.written = calloc(c.num_y, 1);
    c.a = gt_floats((size_t) tile[0] * tile[1] * tile[3]);
    c.b = gt_floats((size_t) tile[2] * tile[3]);
    c.sums = gt_floats((size_t) tile[0] * tile[1] * tile[2]);
    for (c.group[2] = 0; c.group[2] < c.tile.groups[2]; c.group[2]++)
        for (c.group[1] = 0; c.group[1] < c.tile.groups[1]; c.group[1]++)
            for (c.group[0] = 0; c.group[0] < c.tile.groups[0]; c.group[0]++)
                run_group(&c);
    for (size_t i = 0; i < c.num_y; i++)
        cr_assert(c.written[i], "case %u: element %zu was not stored", index, i);
    gt_check(want, c.y, c.num_y, (struct gt_tol) { 2e-6, 1e-5, 1e-5 }, "case %u", index);
    void *all[] = { x, x2, weight, packed, want, c.y, c.written, c.a, c.b, c.sums };
    for (size_t i = 0; i < COUNT(all); i++)
        free(all[i]);
}

Test(tier4, addresses_as_the_reference_does)
{
    for (unsigned i = 0; i < COUNT(cases); i++)
        run_case(&cases[i], i);
}

Test(tier4, takes_what_it_can)
{
    struct l2d_conv_params p = {
        .num_rows = 2, .w = 64, .h = 64, .ow = 64, .oh = 64, .q0 = 80, .out_quads = 80,
        .stride = 1, .pad_x = 1, .pad_y = 1,
    };
    // SD1.5's first level: tiles of 8x16 pixels by 160 channels, 64 of the sum; 64 and 2 of them.
    struct l2d_tier4_conv v = l2d_tier4_conv(&caps, &p, 3, 0, false);
    cr_assert(v.size == 256 && v.spec[0] == 8 && v.spec[1] == 16 && v.spec[2] == 160 &&
              v.spec[3] == 64 && v.spec[4] == 1);
    cr_assert(v.groups[0] == 32 && v.groups[1] == 2 && v.groups[2] == 2);
    // As a linear layer its rows are one line, and nothing is outside.
    p.pad_x = p.pad_y = 0;
    v = l2d_tier4_conv(&caps, &p, 1, 0, false);
    cr_assert(v.params.w == 8192 && v.params.num_rows == 1 && v.spec[4] == 0 && v.spec[0] == 1);
    v = l2d_tier4_conv(&caps, &p, 1, L2D_CONV_STEP_BIAS, false);
    cr_assert(v.params.w == 4096 && v.params.num_rows == 2);

    struct l2d_conv_params q = p;
    q.flags = L2D_CONV_RELU_IN;
    cr_expect(!l2d_tier4_conv(&caps, &q, 1, 0, false).size);
    q.flags = L2D_CONV_X2_ONE;
    cr_expect(!l2d_tier4_conv(&caps, &q, 1, L2D_CONV_X2, false).size);
    q = p;
    q.q0 = 81;                                  // lines at odd multiples of 8 bytes
    cr_expect(!l2d_tier4_conv(&caps, &q, 1, 0, false).size);
    struct l2d_gpu_caps none = caps;
    none.matrix2.has_tensors = false;
    cr_expect(!l2d_tier4_conv(&none, &p, 1, 0, false).size);
    none = caps;
    none.matrix2.size[0].invocations = none.matrix2.size[1].invocations = 0;
    cr_expect(!l2d_tier4_conv(&none, &p, 1, 0, false).size);
}
