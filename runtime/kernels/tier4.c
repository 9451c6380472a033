// SPDX-License-Identifier: Apache-2.0
// See tier4.h.
#include "kernels/tier4.h"

#include <stddef.h>

#include "kernels/dispatch.h"
#include "shaders/params/conv_tensor.h"

#define CLAMP_CONSTANT 1u       // SPIR-V's: zero outside

// Slices begin at multiples of 16 bytes, which are 8 channels.
static bool is_possible(const struct l2d_conv_params *p, bool geglu)
{
    return !(p->flags & (L2D_CONV_RELU_IN | L2D_CONV_X2_ONE)) && p->q0 % 2 == 0 &&
           p->q1 % 2 == 0 && p->out_quads % (geglu ? 4 : 2) == 0;
}

// A 1x1 kernel on pixels in a line, and if rows do not differ, of all rows.
static void make_flat(struct l2d_conv_params *p, uint32_t has)
{
    bool differ = (has & L2D_CONV_STEP_BIAS) ||
                  (p->flags & (L2D_CONV_RESIDUAL_RING | L2D_CONV_OUT_RING));
    p->w = p->w * p->h * (differ ? 1 : p->num_rows);
    p->num_rows = differ ? p->num_rows : 1;
    p->ow = p->w;
    p->h = p->oh = 1;
}

struct tile {
    uint32_t size, h, w, n;     // which of the device's sizes; pixels; columns
};

static bool fits(const struct l2d_gpu_caps *caps, const struct tile *t, uint32_t k, bool geglu)
{
    const struct l2d_matrix2_size *size = &caps->matrix2.size[t->size];
    const struct l2d_matrix_shape *grain = &size->grain;
    uint32_t m = t->h * t->w, n = geglu ? t->n / 2 : t->n;
    return size->invocations && size->invocations <= caps->max_invocations && m % grain->m == 0 &&
           n % grain->n == 0 && k % grain->k == 0 && m <= caps->matrix2.max_side &&
           n <= caps->matrix2.max_side;
}

// Nothing of a slice is outside, so that the driver need not look.
static bool all_inside(const struct l2d_conv_params *p, const struct tile *t, uint32_t k)
{
    return p->w % t->w == 0 && p->h % t->h == 0 && 4 * p->out_quads % t->n == 0 &&
           4 * p->q0 % k == 0 && 4 * p->q1 % k == 0;
}

struct l2d_tier4_conv l2d_tier4_conv(const struct l2d_gpu_caps *caps,
                                     const struct l2d_conv_params *params, uint32_t ksize,
                                     uint32_t has, bool geglu)
{
    static const struct tile patches[] = {
        { 1, 8, 16, 160 }, { 1, 8, 16, 128 }, { 0, 8, 8, 160 }, { 0, 8, 8, 64 },
    };
    struct l2d_tier4_conv v = { .params = *params };
    struct l2d_conv_params *p = &v.params;
    if (!caps->matrix2.has_tensors || !is_possible(p, geglu))
        return v;
    bool flat = ksize == 1 && p->stride == 1 && !p->upsample;
    if (flat)
        make_flat(p, has);
    uint32_t columns = 4 * p->out_quads, phases = p->upsample ? 4 : 1;
    uint32_t k = p->q0 % 16 == 0 && p->q1 % 16 == 0 ? 64 : 32;
    uint32_t across = (uint32_t) l2d_conv_outputs((i32) p->ow, (i32) p->upsample, 0).count;
    uint32_t down = (uint32_t) l2d_conv_outputs((i32) p->oh, (i32) p->upsample, 0).count;
    for (size_t i = 0; i < COUNT_OF(patches); i++) {
        struct tile t = patches[i];
        if (flat)
            t = (struct tile) { t.size, 1, t.h * t.w, t.n };
        if (!fits(caps, &t, k, geglu) || (t.n == 160 && columns % 160))
            continue;
        bool inside = flat && all_inside(p, &t, k);
        v.size = caps->matrix2.size[t.size].invocations;
        uint32_t spec[] = { t.h, t.w, t.n, k, inside ? 0 : CLAMP_CONSTANT };
        for (size_t s = 0; s < COUNT_OF(spec); s++)
            v.spec[s] = spec[s];
        v.groups[0] = div_up(across, t.w) * div_up(down, t.h);
        v.groups[1] = div_up(columns, t.n);
        v.groups[2] = p->num_rows * phases;
        if ((uint64_t) v.groups[0] * v.groups[1] * v.groups[2] >= 96)
            break;                      // enough for a large GPU
    }
    return v;
}
