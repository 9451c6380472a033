// SPDX-License-Identifier: Apache-2.0
// See tune_shape.h.
#include "kernels/tune_shape.h"

#include <stdio.h>

#include "kernels/kernels.h"

#define FEW_TOKENS 1001                 // no whole number of any blocks

bool l2d_tune_shape_of_key(const struct l2d_shape *key, struct l2d_tune_shape *s)
{
    *s = (struct l2d_tune_shape) { .is_attention = false };
    if (l2d_conv_shape_of_key(key, &s->conv, &s->type))
        return true;
    s->is_attention = l2d_attention_shape_of_key(key, &s->attention, &s->type);
    return s->is_attention;
}

// ---- convolutions

// Without weights.
static struct l2d_conv conv_of(const struct l2d_conv_shape *s)
{
    return (struct l2d_conv) {
        .weight = L2D_NO_TENSOR, .bias = L2D_NO_TENSOR, .cin = (int32_t) s->cin,
        .cout = (int32_t) (4 * s->quads), .ksize = s->upsample ? 3 : (int32_t) s->ksize,
        .upsample = s->upsample,
    };
}

static struct l2d_tensor conv_input(const struct l2d_conv_shape *s, enum l2d_dtype type,
                                    struct l2d_buf *buf)
{
    return l2d_tensor_view(buf, 0, type, (int32_t) s->rows,
                           (int32_t) (s->upsample ? s->out_h / 2 : s->out_h * s->stride),
                           (int32_t) (s->upsample ? s->out_w / 2 : s->out_w * s->stride),
                           (int32_t) s->cin);
}

static struct l2d_tensor conv_output(const struct l2d_conv_shape *s, enum l2d_dtype type,
                                     struct l2d_buf *buf)
{
    return l2d_tensor_view(buf, 0, type, (int32_t) s->rows, (int32_t) s->out_h,
                           (int32_t) s->out_w, (int32_t) (4 * s->quads));
}

static struct l2d_tune_bytes conv_bytes(const struct l2d_conv_shape *s, enum l2d_dtype type)
{
    struct l2d_conv conv = conv_of(s);
    struct l2d_tensor x = conv_input(s, type, NULL), y = conv_output(s, type, NULL);
    return (struct l2d_tune_bytes) {
        .x = l2d_tensor_bytes(&x), .y = l2d_tensor_bytes(&y),
        .weight = l2d_buf_align(l2d_conv_packed_bytes(conv.cin, conv.cout,
                                                      l2d_conv_packed_ksize(&conv), type)),
        .parts = l2d_buf_align(l2d_tensor_count(&y) * 4 * L2D_CONV_MAX_PARTS),
    };
}

static void record_conv(struct l2d_graph *graph, const struct l2d_conv_shape *s,
                        enum l2d_dtype type, const struct l2d_tune_buffers *b, uint64_t run)
{
    uint64_t bytes = conv_bytes(s, type).weight, copies = b->weight->size_bytes / bytes;
    struct l2d_conv conv = conv_of(s);
    conv.weight = l2d_tensor_view(b->weight, run % copies * bytes, type, 1, 1, 1,
                                  (int32_t) (bytes / l2d_dtype_bytes(type)));
    struct l2d_conv_desc d = L2D_CONV_DESC(&conv, conv_input(s, type, b->x));
    d.stride2 = s->stride == 2;
    d.out = conv_output(s, type, b->y);
    l2d_conv2d(graph, &d);
}

// ---- attention: of as many keys as queries, to itself, else of q beside keys and values

static struct l2d_tensor queries_of(const struct l2d_attention_shape *s, enum l2d_dtype type,
                                    struct l2d_buf *buf)
{
    int32_t c = (int32_t) (4 * s->quads * s->heads);
    return l2d_tensor_view(buf, 0, type, (int32_t) s->rows, 1, (int32_t) s->queries,
                           s->queries == s->keys ? 3 * c : c);
}

static struct l2d_tensor keys_of(const struct l2d_attention_shape *s, enum l2d_dtype type,
                                 struct l2d_buf *buf)
{
    struct l2d_tensor q = queries_of(s, type, buf);
    return s->queries == s->keys ? q
         : l2d_tensor_view(buf, l2d_buf_align(l2d_tensor_bytes(&q)), type, (int32_t) s->rows, 1,
                           (int32_t) s->keys, 2 * q.c);
}

static struct l2d_tensor result_of(const struct l2d_attention_shape *s, enum l2d_dtype type,
                                   struct l2d_buf *buf)
{
    return l2d_tensor_view(buf, 0, type, (int32_t) s->rows, 1, (int32_t) s->queries,
                           (int32_t) (4 * s->quads * s->heads));
}

static struct l2d_tune_bytes attention_bytes(const struct l2d_attention_shape *s,
                                             enum l2d_dtype type)
{
    struct l2d_tensor kv = keys_of(s, type, NULL), y = result_of(s, type, NULL);
    return (struct l2d_tune_bytes) {
        .x = kv.offset_bytes + l2d_tensor_bytes(&kv), .y = l2d_tensor_bytes(&y),
        .parts = l2d_buf_align(l2d_tensor_bytes(&y)),
    };
}

static void record_attention(struct l2d_graph *graph, const struct l2d_attention_shape *s,
                             enum l2d_dtype type, const struct l2d_tune_buffers *b, bool keep)
{
    struct l2d_tensor q = queries_of(s, type, b->x), kv = keys_of(s, type, b->x);
    struct l2d_tensor y = result_of(s, type, b->y);
    int32_t first = s->queries == s->keys ? y.c : 0;
    struct l2d_tensor result = l2d_attention(graph, q, 0, kv, first, first + y.c, y.c,
                                             (int32_t) s->heads, s->causal);
    if (keep)
        l2d_graph_copy(graph, y, result);
}

// ---- either

struct l2d_tune_shape l2d_tune_shape_small(const struct l2d_tune_shape *shape)
{
    struct l2d_tune_shape s = *shape;
    struct l2d_attention_shape *a = &s.attention;
    s.conv.rows = a->rows = 1;
    a->queries = a->queries < FEW_TOKENS ? a->queries : FEW_TOKENS;
    a->keys = a->keys < FEW_TOKENS ? a->keys : FEW_TOKENS;
    return s;
}

struct l2d_tune_bytes l2d_tune_shape_bytes(const struct l2d_tune_shape *s)
{
    return s->is_attention ? attention_bytes(&s->attention, s->type)
                           : conv_bytes(&s->conv, s->type);
}

void l2d_tune_shape_record(struct l2d_graph *graph, const struct l2d_tune_shape *s,
                           const struct l2d_tune_buffers *b, uint32_t runs, bool keep)
{
    for (uint32_t run = 0; run < runs; run++) {
        if (s->is_attention)
            record_attention(graph, &s->attention, s->type, b, keep && run + 1 == runs);
        else
            record_conv(graph, &s->conv, s->type, b, run);
    }
}

bool l2d_tune_variant_str(const struct l2d_gpu_caps *caps, const struct l2d_tune_shape *s,
                          const struct l2d_choice *choice, char *text, size_t size)
{
    struct l2d_attention_variant a;
    struct l2d_conv_variant v;
    bool is = s->is_attention
            ? l2d_attention_variant_of(caps, s->type, &s->attention, choice->family, &a)
            : l2d_conv_variant_of(caps, s->type, &s->conv, choice, &v);
    if (is)
        snprintf(text, size, "%s %s", s->is_attention ? a.shader : v.shader,
                 s->is_attention ? a.name : v.name);
    return is;
}

void l2d_tune_shape_str(const struct l2d_tune_shape *s, char *text, size_t size)
{
    const struct l2d_attention_shape *a = &s->attention;
    const struct l2d_conv_shape *c = &s->conv;
    if (s->is_attention)
        snprintf(text, size, "%u rows of %u tokens to %u, %u heads of %u", a->rows, a->queries,
                 a->keys, a->heads, 4 * a->quads);
    else
        snprintf(text, size, "%u rows of %ux%u, %u -> %u, kernel %u", c->rows, c->out_w, c->out_h,
                 c->cin, 4 * c->quads, c->ksize);
}
