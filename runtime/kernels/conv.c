// SPDX-License-Identifier: Apache-2.0
// Convolutions and linear layers: checks and recording. conv_pack.c packs their weights.
#include <string.h>

#include "kernels/conv_variant.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"
#include "shaders/params/conv.h"

_Static_assert(L2D_CONV_NOWHERE * 16u == L2D_MAX_RANGE_BYTES, "what lies behind all buffers");

// One pixel of x2 for all of x. A 1x1 kernel alone, which has no border to pad.
static bool x2_is_one(const struct l2d_conv_desc *d)
{
    return l2d_tensor_exists(&d->x2) && d->conv->ksize == 1 && d->x2.h * d->x2.w == 1;
}

// Taps of an output pixel, one way.
static uint32_t taps_side(const struct l2d_conv *conv)
{
    return conv->upsample ? 2 : (uint32_t) conv->ksize;
}

static bool is_in_bytes(const struct l2d_conv *conv)
{
    return conv->weight.dtype == L2D_U32;
}

// Padding in front of n pixels, of which the result has out.
static uint32_t pad_before(const struct l2d_conv_desc *d, int32_t n, int32_t out)
{
    int32_t stride = d->stride2 ? 2 : 1, total = (out - 1) * stride + d->conv->ksize - n;
    return (uint32_t) (!d->pad_same ? d->conv->ksize / 2 : total > 0 ? total / 2 : 0);
}

static bool check(struct l2d_graph *graph, const struct l2d_conv_desc *d, struct l2d_tensor *y)
{
    const struct l2d_conv *conv = d->conv;
    enum l2d_dtype type = l2d_graph_precision(graph);
    const struct l2d_tensor *x = &d->x, *x2 = &d->x2;
    bool two = l2d_tensor_exists(x2), ring = d->residual_ring || d->out_ring;
    bool uses_rows = ring || l2d_tensor_exists(&d->step_bias);
    if (!l2d_check_shape(graph, "conv", "x", x, type, -1, -1, -1, two ? -1 : conv->cin))
        return false;
    bool one = x2_is_one(d);
    if (two && !l2d_check_shape(graph, "conv", "x2", x2, type, x->rows, one ? 1 : x->h,
                                one ? 1 : x->w, conv->cin - x->c))
        return false;
    if (x->c % 4 || conv->cin % 4 || conv->cout % (conv->geglu ? 8 : 4) ||
        (conv->ksize != 1 && conv->ksize != 3 && conv->ksize != 7) ||
        conv->geglu != (d->act == L2D_ACT_GEGLU) ||
        (conv->upsample && (conv->ksize != 3 || d->stride2 || d->pad_same))) {
        l2d_graph_fail(graph, L2D_EINVAL, "conv: %d -> %d channels (x has %d), ksize %d, act %d",
                       conv->cin, conv->cout, x->c, conv->ksize, (int) d->act);
        return false;
    }
    enum l2d_dtype packed = is_in_bytes(conv) ? L2D_U32 : type;
    uint64_t bytes = l2d_conv_packed_bytes(conv->cin, conv->cout, l2d_conv_packed_ksize(conv),
                                           packed);
    if (!l2d_check_bytes(graph, "conv", "weight", &conv->weight, bytes) ||
        !l2d_check_shape(graph, "conv", "weight", &conv->weight, packed, -1, -1, -1, -1))
        return false;
    if (is_in_bytes(conv) && is_tier0(graph)) {
        l2d_graph_fail(graph, L2D_EUNSUPPORTED, "conv: tier 0 has no weights in bytes");
        return false;
    }
    if (l2d_tensor_exists(&conv->bias) &&
        !l2d_check_bytes(graph, "conv", "bias", &conv->bias, 4 * (uint64_t) conv->cout))
        return false;
    if (uses_rows && !l2d_check_bytes(graph, "conv", "rows", &d->rows,
                                      (uint64_t) x->rows * sizeof(struct l2d_row_params)))
        return false;

    int32_t h = d->stride2 ? (x->h + 1) / 2 : conv->upsample ? 2 * x->h : x->h;
    int32_t w = d->stride2 ? (x->w + 1) / 2 : conv->upsample ? 2 * x->w : x->w;
    int32_t c = conv->geglu ? conv->cout / 2 : conv->cout;
    if (l2d_tensor_exists(&d->step_bias) &&
        !l2d_check_shape(graph, "conv", "step_bias", &d->step_bias, L2D_F32, -1, 1, 1, c))
        return false;
    if (l2d_tensor_exists(&d->residual) &&
        !l2d_check_shape(graph, "conv", "residual", &d->residual, type,
                         d->residual_ring ? -1 : x->rows, h, w, c))
        return false;
    *y = d->out;
    if (l2d_tensor_exists(&d->out))
        return l2d_check_shape(graph, "conv", "out", y, type,
                               d->out_ring ? -1 : x->rows, h, w, c);
    *y = l2d_graph_alloc(graph, type, x->rows, h, w, c);
    return !l2d_graph_failed(graph);
}

#define NUM_OPERANDS 10
#define PARTS 8                         // and behind them how many of a tile's are done

// Each once; y stands for parts where there are none.
static double operand_bytes(const struct l2d_binding bind[NUM_OPERANDS], bool split)
{
    double sum = split ? 2 * (double) l2d_tensor_bytes(&bind[PARTS].tensor) : 0;
    for (size_t i = 0; i < PARTS; i++)
        if (l2d_tensor_exists(&bind[i].tensor))
            sum += (double) l2d_tensor_bytes(&bind[i].tensor);
    return sum;
}

static void dispatch(struct l2d_graph *graph, const struct l2d_conv_desc *d, struct l2d_tensor y,
                     const struct l2d_conv_variant *v, const struct l2d_conv_params *params,
                     uint32_t has, double flops)
{
    const struct l2d_conv *conv = d->conv;
    uint32_t phases = conv->upsample ? 4 : 1;
    uint32_t groups[3] = {
        div_up((uint64_t) params->num_rows * params->ow * params->oh, v->pixels),
        div_up(params->out_quads, v->quads), phases * v->parts,
    };
    bool split = v->parts > 1;
    struct l2d_tensor parts = y, done = y;
    if (split) {
        parts = l2d_graph_alloc(graph, L2D_F32, (int32_t) v->parts * d->x.rows, y.h, y.w,
                                conv->cout);
        done = l2d_graph_alloc_zeros(graph, (int32_t) (groups[0] * groups[1] * phases));
    }
    uint32_t spec[5 + COUNT_OF(v->spec)] = {
        v->size, taps_side(conv), (uint32_t) d->act, has, v->parts,
    };
    memcpy(spec + 5, v->spec, sizeof(v->spec));
    // What the shader may write is bound to something that it writes.
    enum l2d_access both = split ? L2D_READ_WRITE : L2D_WRITE;
    const struct l2d_binding bind[NUM_OPERANDS] = {
        { d->x, L2D_READ }, { d->x2, L2D_READ }, { conv->weight, L2D_READ },
        { conv->bias, L2D_READ }, { d->step_bias, L2D_READ }, { d->residual, L2D_READ },
        { d->rows, L2D_READ }, { y, L2D_WRITE }, [PARTS] = { parts, L2D_WRITE }, { done, both },
    };
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = v->shader, .spec = spec, .num_spec = 5 + v->num_spec,
        .params = params, .params_size = sizeof(*params),
        .bind = bind, .num_bind = NUM_OPERANDS, .groups = { groups[0], groups[1], groups[2] },
        .variant = v->name, .flops = flops, .bytes = operand_bytes(bind, split),
    });
}

// Parts that begin at multiples of L2D_CONV_PART channels. The last ones may be empty.
static uint32_t quads_of_part(const struct l2d_conv *conv, uint32_t parts)
{
    uint64_t depth = (uint64_t) (taps_side(conv) * taps_side(conv)) * (uint64_t) conv->cin;
    return div_up(div_up(depth, L2D_CONV_PART), parts) * (L2D_CONV_PART / 4);
}

struct l2d_tensor l2d_conv2d(struct l2d_graph *graph, const struct l2d_conv_desc *d)
{
    const struct l2d_conv *conv = d->conv;
    struct l2d_tensor y;
    if (!check(graph, d, &y))
        return L2D_NO_TENSOR;

    bool two = l2d_tensor_exists(&d->x2);
    uint32_t quads = (uint32_t) conv->cout / 4, rows = (uint32_t) d->x.rows;
    double flops = 2.0 * y.h * y.w * rows * conv->cin * conv->cout * taps_side(conv) *
                   taps_side(conv);
    uint32_t has = (l2d_tensor_exists(&conv->bias) ? L2D_CONV_BIAS : 0) |
                   (l2d_tensor_exists(&d->step_bias) ? L2D_CONV_STEP_BIAS : 0) |
                   (l2d_tensor_exists(&d->residual) ? L2D_CONV_RESIDUAL : 0) |
                   (two ? L2D_CONV_X2 : 0) | (conv->upsample ? L2D_CONV_UP : 0) |
                   (is_in_bytes(conv) ? L2D_CONV_BYTES : 0);
    uint32_t flags = (d->residual_ring ? L2D_CONV_RESIDUAL_RING : 0) |
                     (d->act_after_residual ? L2D_CONV_ACT_LAST : 0) |
                     (d->out_ring ? L2D_CONV_OUT_RING : 0) |
                     (d->relu_in ? L2D_CONV_RELU_IN : 0) |
                     (x2_is_one(d) ? L2D_CONV_X2_ONE : 0);
    struct l2d_conv_params params = {
        .num_rows = (u32) rows, .w = (u32) d->x.w, .h = (u32) d->x.h,
        .ow = (u32) (conv->upsample ? d->x.w : y.w), .oh = (u32) (conv->upsample ? d->x.h : y.h),
        .q0 = (u32) d->x.c / 4, .q1 = two ? (u32) d->x2.c / 4 : 0, .out_quads = quads,
        .stride = d->stride2 ? 2 : 1, .pad_x = pad_before(d, d->x.w, y.w),
        .pad_y = pad_before(d, d->x.h, y.h), .flags = flags,
    };
    struct l2d_conv_variant v = l2d_conv_choose(graph, &(struct l2d_conv_shape) {
        .rows = rows, .out_h = (uint32_t) y.h, .out_w = (uint32_t) y.w, .quads = quads,
        .cin = (uint32_t) conv->cin, .ksize = taps_side(conv),
        .stride = d->stride2 ? 2 : 1, .upsample = conv->upsample,
        .odd_seam = two && d->x.c % 8,
    }, flops);
    params.part_quads = quads_of_part(conv, v.parts);
    dispatch(graph, d, y, &v, &params, has, flops);
    return y;
}
