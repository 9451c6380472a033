// SPDX-License-Identifier: Apache-2.0
// See tune.h.
#include "kernels/tune.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gpu/submit.h"
#include "kernels/conv_variant.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

// Runs of a variant, one after the other; then all of them again. Of what takes long, few.
#define RUNS 6
#define LONG_RUNS 2
#define LONG_GFLOP 4.0
#define WEIGHT_COPIES 4
#define MAX_CANDIDATES 64
#define PARTS_BYTES (128u << 20)        // shapes with so much are not those that parts are for
#define BETTER 0.97
#define PATTERN 0x2c662c66u     // small numbers in halves and in floats: no NaN, nothing subnormal

struct tuner {
    struct l2d_gpu *gpu;
    struct l2d_buf *x, *weight, *y, *parts;
    double deadline_s;
};

// What a shape works on.
struct operands {
    int32_t h, w, cin, cout;    // of the input
    uint64_t x_bytes, weight_bytes, y_bytes, parts_bytes;
};

static uint32_t runs_of(const struct l2d_conv_shape *s)
{
    double gflop = 8e-9 * s->rows * s->out_h * s->out_w * s->quads * s->cin * s->ksize * s->ksize;
    return gflop > LONG_GFLOP ? LONG_RUNS : RUNS;
}

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double) t.tv_sec + 1e-9 * (double) t.tv_nsec;
}

static struct operands operands_of(const struct l2d_conv_shape *s, enum l2d_dtype type)
{
    struct operands o = {
        .h = (int32_t) (s->upsample ? s->out_h / 2 : s->out_h * s->stride),
        .w = (int32_t) (s->upsample ? s->out_w / 2 : s->out_w * s->stride),
        .cin = (int32_t) s->cin, .cout = (int32_t) (4 * s->quads),
    };
    uint64_t out = (uint64_t) s->rows * s->out_h * s->out_w * s->quads * 4;
    uint32_t size = l2d_dtype_bytes(type);
    o.x_bytes = (uint64_t) s->rows * (uint64_t) o.h * (uint64_t) o.w * s->cin * size;
    o.weight_bytes = l2d_buf_align(l2d_conv_packed_bytes(o.cin, o.cout, (int32_t) s->ksize, type));
    o.y_bytes = out * size;
    o.parts_bytes = l2d_buf_align(out * 4 * L2D_CONV_MAX_PARTS);
    return o;
}

// ---- one variant

static int build(struct tuner *t, struct l2d_graph *g, const struct l2d_conv_shape *s,
                 enum l2d_dtype type, struct l2d_error *err)
{
    struct operands o = operands_of(s, type);
    int32_t rows = (int32_t) s->rows;
    uint64_t size = 0;
    for (uint64_t i = 0; i < runs_of(s); i++) {
        uint64_t copies = t->weight->size_bytes / o.weight_bytes;
        struct l2d_conv conv = {
            .weight = l2d_tensor_view(t->weight, i % copies * o.weight_bytes, L2D_U32, 1, 1, 1,
                                      (int32_t) (o.weight_bytes / 4)),
            .bias = L2D_NO_TENSOR, .cin = o.cin, .cout = o.cout, .ksize = (int32_t) s->ksize,
        };
        struct l2d_conv_desc d = L2D_CONV_DESC(&conv, l2d_tensor_view(t->x, 0, type, rows, o.h, o.w,
                                                                     o.cin));
        d.stride2 = s->stride == 2;
        d.upsample = s->upsample;
        d.out = l2d_tensor_view(t->y, 0, type, rows, (int32_t) s->out_h, (int32_t) s->out_w,
                                o.cout);
        l2d_conv2d(g, &d);
    }
    int rc = l2d_graph_plan(g, &size, err);
    if (rc == L2D_OK && size > t->parts->size_bytes)
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: parts of %llu bytes",
                           (unsigned long long) size);
    return rc == L2D_OK ? l2d_graph_finish(g, t->parts, err) : rc;
}

static int run(struct tuner *t, struct l2d_graph *g, uint32_t runs, double *ms,
               struct l2d_error *err)
{
    double stage[L2D_MAX_STAGES];
    uint64_t ticket;
    int rc = l2d_gpu_submit(t->gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
    if (rc == L2D_OK)
        rc = l2d_gpu_wait(t->gpu, ticket, err);
    if (rc == L2D_OK && !l2d_gpu_stage_ms(t->gpu, ticket, stage))
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: no timestamps");
    if (rc == L2D_OK)
        *ms = stage[0] / runs;
    return rc;
}

// The shorter of two times; the first also wakes the device and builds on drivers that do it late.
static int time_choice(struct tuner *t, const struct l2d_conv_shape *s, enum l2d_dtype type,
                       const struct l2d_choice *choice, double *ms, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double first = 0;
    int rc = l2d_graph_create(&g, t->gpu, type, "tune", err);
    if (rc != L2D_OK)
        return rc;
    l2d_choices_force(t->gpu, choice);
    rc = build(t, g, s, type, err);
    l2d_choices_force(t->gpu, NULL);
    if (rc == L2D_OK)
        rc = run(t, g, runs_of(s), &first, err);
    if (rc == L2D_OK)
        rc = run(t, g, runs_of(s), ms, err);
    if (rc == L2D_OK && first < *ms)
        *ms = first;
    l2d_graph_destroy(&g);
    return rc;
}

// ---- one shape

// Parts pay where tiles are few. Beside matrix units, tier 1's tiles are for drivers that emulate
// these: two of them show that.
static bool is_candidate(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s,
                         const struct l2d_conv_variant *v, const struct l2d_choice *c,
                         const struct l2d_choice *rule)
{
    uint64_t pixels = (uint64_t) s->rows * s->out_h * s->out_w;
    uint64_t tiles = (uint64_t) div_up(pixels, v->pixels) * div_up(s->quads, v->quads);
    bool power = (c->parts & (c->parts - 1)) == 0;
    if (c->family != rule->family && (c->variant > 1 || c->parts > 1))
        return false;
    return c->parts == 1 || c->parts == rule->parts ||
           (power && tiles < 2 * (uint64_t) (caps->num_cores ? caps->num_cores : 8) &&
            s->cin * s->ksize * s->ksize / c->parts >= 256);
}

// The rule's choice first. fixed: family and parts are to stay.
static uint32_t list_candidates(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *s,
                                enum l2d_dtype type, const struct l2d_choice *rule, bool fixed,
                                struct l2d_choice list[MAX_CANDIDATES])
{
    uint32_t n = 0;
    list[n++] = *rule;
    for (uint32_t family = L2D_CONV_T1; family < L2D_CONV_NUM_FAMILIES; family++)
        for (uint32_t parts = 1; parts <= L2D_CONV_MAX_PARTS; parts++) {
            if (fixed && (family != rule->family || parts != rule->parts))
                continue;
            struct l2d_choice c = { family, 0, parts };
            struct l2d_conv_variant v;
            for (; l2d_conv_variant_of(caps, type, s, &c, &v); c.variant++)
                if (n < MAX_CANDIDATES && memcmp(&c, rule, sizeof(c)) != 0 &&
                    is_candidate(caps, s, &v, &c, rule))
                    list[n++] = c;
        }
    return n;
}

static void report(const struct tuner *t, const struct l2d_tune_params *p,
                   const struct l2d_conv_shape *s, enum l2d_dtype type,
                   const struct l2d_choice *best, double best_ms, double rule_ms)
{
    struct l2d_conv_variant v;
    if (p->log && l2d_conv_variant_of(l2d_gpu_caps(t->gpu), type, s, best, &v))
        l2d_log_print(p->log, L2D_LOG_DEBUG, "%u rows of %ux%u, %u -> %u, kernel %u: %s %s, %.4f "
                      "ms; by rule %.4f", s->rows, s->out_w, s->out_h, s->cin, 4 * s->quads,
                      s->ksize, v.shader, v.name, best_ms, rule_ms);
}

static bool is_fatal(int rc)
{
    return rc != L2D_OK && rc != L2D_EUNSUPPORTED && rc != L2D_EINVAL;
}

static int tune_shape(struct tuner *t, const struct l2d_tune_params *p,
                      const struct l2d_shape *key, struct l2d_tune_result *result,
                      struct l2d_error *err)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(t->gpu);
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_conv_shape s;
    enum l2d_dtype type;
    if (!l2d_conv_shape_of_key(key, &s, &type))
        return L2D_OK;
    bool fixed = false;
    struct l2d_choice rule = l2d_conv_rule(t->gpu, type, &s, &fixed), best = rule;
    uint32_t n = list_candidates(caps, &s, type, &rule, fixed, list), timed = 0;
    double rule_ms = 0, best_ms = 0;
    for (uint32_t i = 0; i < n && n > 1 && now_s() < t->deadline_s; i++) {
        double ms;
        int rc = time_choice(t, &s, type, &list[i], &ms, err);
        if (is_fatal(rc))
            return rc;
        if (rc != L2D_OK && i == 0)
            break;                      // it cannot be measured
        if (rc != L2D_OK)
            continue;
        rule_ms = i == 0 ? ms : rule_ms;
        if (i == 0 || (ms < best_ms && ms < BETTER * rule_ms)) {
            best = list[i];
            best_ms = ms;
        }
        timed++;
    }
    result->measured += timed > 1;
    result->changed += memcmp(&best, &rule, sizeof(best)) != 0;
    if (timed > 1)
        report(t, p, &s, type, &best, best_ms, rule_ms);
    return l2d_choices_set(t->gpu, key, &best, err);
}

// ---- all of them

static int most_work_first(const void *a, const void *b)
{
    double x = ((const struct l2d_chosen *) a)->flops, y = ((const struct l2d_chosen *) b)->flops;
    return (x < y) - (x > y);
}

// Those to measure, a copy; the caller frees it. NULL: there is none, or no memory.
static struct l2d_chosen *list_shapes(struct l2d_gpu *gpu, uint32_t max_rows, uint32_t *count)
{
    uint32_t all = 0, n = 0;
    const struct l2d_chosen *from = l2d_choices_list(gpu, &all);
    struct l2d_chosen *list = all ? malloc(all * sizeof(*list)) : NULL;
    for (uint32_t i = 0; list && i < all; i++)
        if (from[i].flops > 0 && !from[i].known && from[i].shape.rows <= max_rows)
            list[n++] = from[i];
    if (list)
        qsort(list, n, sizeof(*list), most_work_first);
    *count = n;
    return list;
}

static int take(struct tuner *t, struct l2d_buf **buf, uint64_t bytes, const char *name,
                struct l2d_error *err)
{
    int rc = l2d_buf_create(buf, t->gpu, l2d_buf_align(bytes) + 256, L2D_MEMORY_DEVICE, name, err);
    return rc == L2D_OK ? l2d_buf_fill(*buf, 0, (*buf)->size_bytes, PATTERN, err) : rc;
}

static int take_buffers(struct tuner *t, const struct l2d_chosen *list, uint32_t count,
                        struct l2d_error *err)
{
    struct operands most = { 0 };
    for (uint32_t i = 0; i < count; i++) {
        struct l2d_conv_shape s;
        enum l2d_dtype type;
        if (!l2d_conv_shape_of_key(&list[i].shape, &s, &type))
            continue;
        struct operands o = operands_of(&s, type);
        uint64_t range = l2d_gpu_caps(t->gpu)->max_range_bytes;
        o.parts_bytes = o.parts_bytes < range ? o.parts_bytes : range;
        most.x_bytes = o.x_bytes > most.x_bytes ? o.x_bytes : most.x_bytes;
        most.y_bytes = o.y_bytes > most.y_bytes ? o.y_bytes : most.y_bytes;
        most.weight_bytes = o.weight_bytes > most.weight_bytes ? o.weight_bytes : most.weight_bytes;
        most.parts_bytes = o.parts_bytes > most.parts_bytes ? o.parts_bytes : most.parts_bytes;
    }
    most.parts_bytes = most.parts_bytes < PARTS_BYTES ? most.parts_bytes : PARTS_BYTES;
    int rc = take(t, &t->x, most.x_bytes, "tune.x", err);
    if (rc == L2D_OK)
        rc = take(t, &t->weight, WEIGHT_COPIES * most.weight_bytes, "tune.weight", err);
    if (rc == L2D_OK)
        rc = take(t, &t->y, most.y_bytes, "tune.y", err);
    if (rc == L2D_OK)
        rc = take(t, &t->parts, most.parts_bytes, "tune.parts", err);
    return rc;
}

int l2d_tune(struct l2d_gpu *gpu, const struct l2d_tune_params *p, struct l2d_tune_result *result,
             struct l2d_error *err)
{
    double begin = now_s();
    struct tuner t = { .gpu = gpu, .deadline_s = begin + p->seconds };
    *result = (struct l2d_tune_result) { 0 };
    if (l2d_gpu_caps(gpu)->timestamp_ns <= 0)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "tune: %s has no timestamps",
                             l2d_gpu_caps(gpu)->name);
    struct l2d_chosen *list = list_shapes(gpu, p->max_rows, &result->shapes);
    int rc = result->shapes ? take_buffers(&t, list, result->shapes, err) : L2D_OK;
    for (uint32_t i = 0; i < result->shapes && rc == L2D_OK; i++)
        rc = tune_shape(&t, p, &list[i].shape, result, err);
    struct l2d_buf **all[] = { &t.x, &t.weight, &t.y, &t.parts };
    for (size_t i = 0; i < COUNT_OF(all); i++)
        l2d_buf_destroy(all[i]);
    free(list);
    result->seconds = now_s() - begin;
    return rc;
}
