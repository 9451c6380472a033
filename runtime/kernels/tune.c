// SPDX-License-Identifier: Apache-2.0
// See tune.h.
#include "kernels/tune.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/submit.h"
#include "kernels/conv_variant.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

// Runs of a variant, one after the other; then all of them again. Each has weights of its own: in a
// frame they come from memory, so as many runs as have more of them than caches hold, if they are
// short enough for that.
#define MIN_RUNS 2
#define MAX_RUNS 24
#define RUNS_MS 3.0
#define WEIGHTS_BYTES (96u << 20)
#define MAX_CANDIDATES 64
#define PARTS_BYTES (128u << 20)        // shapes with so much are not those that parts are for
#define BETTER 0.97
#define FAR 1.3
#define AWAKE_S 0.3                     // of work before a GPU's clock is what it is under load
#define NOISE_BYTES (1u << 20)

struct tuner {
    struct l2d_gpu *gpu;
    struct l2d_buf *x, *weight, *y, *parts;
    double deadline_s;
    bool has_fast_matrices;     // tier 1 took more than twice as long
    bool has_fast_halves;       // sums in halves are faster
    uint32_t runs;              // of each variant of the shape at hand
};

// What a shape works on.
struct operands {
    int32_t h, w;               // of the input
    uint64_t x_bytes, weight_bytes, y_bytes, parts_bytes;
};

// A shape's convolution, without weights.
static struct l2d_conv conv_of(const struct l2d_conv_shape *s)
{
    return (struct l2d_conv) {
        .weight = L2D_NO_TENSOR, .bias = L2D_NO_TENSOR, .cin = (int32_t) s->cin,
        .cout = (int32_t) (4 * s->quads), .ksize = s->upsample ? 3 : (int32_t) s->ksize,
        .upsample = s->upsample,
    };
}

static struct operands operands_of(const struct l2d_conv_shape *s, enum l2d_dtype type)
{
    struct operands o = {
        .h = (int32_t) (s->upsample ? s->out_h / 2 : s->out_h * s->stride),
        .w = (int32_t) (s->upsample ? s->out_w / 2 : s->out_w * s->stride),
    };
    struct l2d_conv conv = conv_of(s);
    uint64_t out = (uint64_t) s->rows * s->out_h * s->out_w * s->quads * 4;
    uint32_t size = l2d_dtype_bytes(type);
    o.x_bytes = (uint64_t) s->rows * (uint64_t) o.h * (uint64_t) o.w * s->cin * size;
    o.weight_bytes = l2d_buf_align(l2d_conv_packed_bytes(conv.cin, conv.cout,
                                                         l2d_conv_packed_ksize(&conv), type));
    o.y_bytes = out * size;
    o.parts_bytes = l2d_buf_align(out * 4 * L2D_CONV_MAX_PARTS);
    return o;
}

// ---- one variant

static void add_runs(struct tuner *t, struct l2d_graph *g, const struct l2d_conv_shape *s,
                     enum l2d_dtype type)
{
    struct operands o = operands_of(s, type);
    int32_t rows = (int32_t) s->rows;
    for (uint64_t i = 0; i < t->runs; i++) {
        uint64_t copies = t->weight->size_bytes / o.weight_bytes;
        struct l2d_conv conv = conv_of(s);
        conv.weight = l2d_tensor_view(t->weight, i % copies * o.weight_bytes, type, 1, 1, 1,
                                      (int32_t) (o.weight_bytes / l2d_dtype_bytes(type)));
        struct l2d_conv_desc d = L2D_CONV_DESC(&conv, l2d_tensor_view(t->x, 0, type, rows, o.h, o.w,
                                                                     conv.cin));
        d.stride2 = s->stride == 2;
        d.out = l2d_tensor_view(t->y, 0, type, rows, (int32_t) s->out_h, (int32_t) s->out_w,
                                conv.cout);
        l2d_conv2d(g, &d);
    }
}

// Ready to record, or with L2D_EUNSUPPORTED if its parts have no room.
static int build(struct tuner *t, struct l2d_graph **out, const struct l2d_conv_shape *s,
                 enum l2d_dtype type, const struct l2d_choice *choice, struct l2d_error *err)
{
    uint64_t size = 0;
    int rc = l2d_graph_create(out, t->gpu, type, "tune", err);
    if (rc != L2D_OK)
        return rc;
    l2d_choices_force(t->gpu, choice);
    add_runs(t, *out, s, type);
    l2d_choices_force(t->gpu, NULL);
    rc = l2d_graph_plan(*out, &size, err);
    if (rc == L2D_OK && size > t->parts->size_bytes)
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: parts of %llu bytes",
                           (unsigned long long) size);
    return rc;
}

static int run(struct tuner *t, struct l2d_graph *g, double *ms, struct l2d_error *err)
{
    double stage[L2D_MAX_STAGES];
    uint64_t ticket;
    int rc = l2d_gpu_submit(t->gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
    if (rc == L2D_OK)
        rc = l2d_gpu_wait(t->gpu, ticket, err);
    if (rc == L2D_OK && !l2d_gpu_stage_ms(t->gpu, ticket, stage))
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: no timestamps");
    if (rc == L2D_OK)
        *ms = stage[0] / t->runs;
    return rc;
}

// The shorter of two times; one that is far from the best is not measured again.
static int time_choice(struct tuner *t, const struct l2d_conv_shape *s, enum l2d_dtype type,
                       const struct l2d_choice *choice, double best_ms, double *ms,
                       struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double again = 0;
    int rc = build(t, &g, s, type, choice, err);
    if (rc == L2D_OK)
        rc = l2d_graph_finish(g, t->parts, err);
    if (rc == L2D_OK)
        rc = run(t, g, ms, err);
    if (rc == L2D_OK && (best_ms <= 0 || *ms < FAR * best_ms))
        rc = run(t, g, &again, err);
    if (rc == L2D_OK && again > 0 && again < *ms)
        *ms = again;
    l2d_graph_destroy(&g);
    return rc;
}

// ---- one shape

// As a first measurement shows.
static int find_runs(struct tuner *t, const struct l2d_conv_shape *s, enum l2d_dtype type,
                     const struct l2d_choice *rule, struct l2d_error *err)
{
    double ms;
    t->runs = MIN_RUNS;
    int rc = time_choice(t, s, type, rule, 0, &ms, err);
    if (rc != L2D_OK)
        return rc;
    uint64_t copies = WEIGHTS_BYTES / operands_of(s, type).weight_bytes + 1;
    uint32_t most = copies < MAX_RUNS ? (uint32_t) copies : MAX_RUNS;
    while (t->runs < most && (t->runs + 1) * ms < RUNS_MS)
        t->runs++;
    return L2D_OK;
}

// Beside matrix units, tier 1's tiles are for drivers that emulate these: on one shape two of them
// show whether it does. Parts pay where tiles are few.
static bool is_candidate(const struct tuner *t, const struct l2d_conv_shape *s,
                         const struct l2d_conv_variant *v, const struct l2d_choice *c,
                         const struct l2d_choice *rule, bool fixed)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(t->gpu);
    uint64_t pixels = (uint64_t) s->rows * s->out_h * s->out_w;
    uint64_t tiles = (uint64_t) div_up(pixels, v->pixels) * div_up(s->quads, v->quads);
    bool power = (c->parts & (c->parts - 1)) == 0;
    if (fixed)
        return true;
    if (c->family == L2D_CONV_T1 && rule->family >= L2D_CONV_T2)
        return c->variant <= 1 && c->parts == 1 && !t->has_fast_matrices;
    if (c->family != rule->family)
        return false;
    if (c->family >= L2D_CONV_T2)
        return power && l2d_conv_is_promising(caps, s, v);
    return c->parts == 1 || c->parts == rule->parts ||
           (power && tiles < 2 * (uint64_t) (caps->num_cores ? caps->num_cores : 8) &&
            s->cin * s->ksize * s->ksize / c->parts >= 256);
}

// The rule's choice first. fixed: family and parts are to stay.
static uint32_t list_candidates(const struct tuner *t, const struct l2d_conv_shape *s,
                                enum l2d_dtype type, const struct l2d_choice *rule, bool fixed,
                                struct l2d_choice list[MAX_CANDIDATES])
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(t->gpu);
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
                    is_candidate(t, s, &v, &c, rule, fixed))
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

static void report_one(const struct tuner *t, const struct l2d_tune_params *p,
                       const struct l2d_conv_shape *s, enum l2d_dtype type,
                       const struct l2d_choice *c, double ms)
{
    struct l2d_conv_variant v;
    if (p->log && l2d_conv_variant_of(l2d_gpu_caps(t->gpu), type, s, c, &v))
        l2d_log_print(p->log, L2D_LOG_DEBUG, "    %s %s %.4f ms", v.shader, v.name, ms);
}

static bool is_fatal(int rc)
{
    return rc != L2D_OK && rc != L2D_EUNSUPPORTED && rc != L2D_EINVAL;
}

// A shape's candidates, the rule's first; 0 if it is no convolution's.
static uint32_t candidates_of(struct tuner *t, const struct l2d_shape *key,
                              struct l2d_conv_shape *s, enum l2d_dtype *type,
                              struct l2d_choice list[MAX_CANDIDATES])
{
    bool fixed = false;
    if (!l2d_conv_shape_of_key(key, s, type))
        return 0;
    struct l2d_choice rule = l2d_conv_rule(t->gpu, *type, s, &fixed);
    if (t->has_fast_halves && !fixed)
        rule = l2d_conv_in_halves(l2d_gpu_caps(t->gpu), *type, s, &rule);
    return list_candidates(t, s, *type, &rule, fixed, list);
}

static int tune_shape(struct tuner *t, const struct l2d_tune_params *p,
                      const struct l2d_shape *key, struct l2d_tune_result *result,
                      struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_conv_shape s;
    enum l2d_dtype type;
    uint32_t n = candidates_of(t, key, &s, &type, list), timed = 0;
    if (!n)
        return L2D_OK;
    struct l2d_choice rule = list[0], best = rule;
    double rule_ms = 0, best_ms = 0, tier1_ms = 0;
    int rc = n > 1 && l2d_clock_s() < t->deadline_s ? find_runs(t, &s, type, &rule, err) : L2D_OK;
    if (is_fatal(rc))
        return rc;
    for (uint32_t i = 0; i < n && n > 1 && rc == L2D_OK && l2d_clock_s() < t->deadline_s; i++) {
        double ms;
        int failed = time_choice(t, &s, type, &list[i], best_ms, &ms, err);
        if (is_fatal(failed))
            return failed;
        if (failed != L2D_OK && i == 0)
            break;                      // it cannot be measured
        if (failed != L2D_OK)
            continue;
        report_one(t, p, &s, type, &list[i], ms);
        if (list[i].family == L2D_CONV_T1 && (tier1_ms <= 0 || ms < tier1_ms))
            tier1_ms = ms;
        rule_ms = i == 0 ? ms : rule_ms;
        if (i == 0 || (ms < best_ms && ms < BETTER * rule_ms)) {
            best = list[i];
            best_ms = ms;
        }
        timed++;
    }
    if (rule.family >= L2D_CONV_T2 && tier1_ms > 0)
        t->has_fast_matrices = tier1_ms > 2 * best_ms;
    result->measured += timed > 1;
    result->changed += memcmp(&best, &rule, sizeof(best)) != 0;
    if (timed > 1)
        report(t, p, &s, type, &best, best_ms, rule_ms);
    return l2d_choices_set(t->gpu, key, &best, err);
}

// ---- before any of them

// One shape by rule, the same with sums in halves, and by rule again, since the clock of a GPU
// rises meanwhile.
static int compare_halves(struct tuner *t, const struct l2d_tune_params *p,
                          const struct l2d_conv_shape *s, enum l2d_dtype type,
                          const struct l2d_choice *rule, const struct l2d_choice *in_halves,
                          struct l2d_error *err)
{
    double first = 0, halves = 0, again = 0;
    int rc = time_choice(t, s, type, rule, 0, &first, err);
    if (rc == L2D_OK)
        rc = time_choice(t, s, type, in_halves, 0, &halves, err);
    if (rc == L2D_OK)
        rc = time_choice(t, s, type, rule, 0, &again, err);
    again = again < first ? again : first;
    t->has_fast_halves = rc == L2D_OK && halves < BETTER * again;
    if (rc == L2D_OK) {
        report_one(t, p, s, type, rule, again);
        report_one(t, p, s, type, in_halves, halves);
    }
    return is_fatal(rc) ? rc : L2D_OK;
}

// On the first shape that can have them.
static int try_halves(struct tuner *t, const struct l2d_tune_params *p,
                      const struct l2d_chosen *shapes, uint32_t count, struct l2d_error *err)
{
    for (uint32_t i = 0; i < count && l2d_clock_s() < t->deadline_s; i++) {
        struct l2d_conv_shape s;
        enum l2d_dtype type;
        bool fixed = true;
        if (!l2d_conv_shape_of_key(&shapes[i].shape, &s, &type))
            continue;
        struct l2d_choice rule = l2d_conv_rule(t->gpu, type, &s, &fixed);
        struct l2d_choice halves = l2d_conv_in_halves(l2d_gpu_caps(t->gpu), type, &s, &rule);
        if (!fixed && halves.family != rule.family)
            return compare_halves(t, p, &s, type, &rule, &halves, err);
    }
    return L2D_OK;
}

// The pipelines of all candidates at once: made one by one, in between, they would take longer
// than all else, and let the GPU fall asleep.
static int make_programs(struct tuner *t, const struct l2d_chosen *shapes, uint32_t count,
                         struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_conv_shape s;
    enum l2d_dtype type;
    for (uint32_t i = 0; i < count && l2d_clock_s() < t->deadline_s; i++) {
        uint32_t n = candidates_of(t, &shapes[i].shape, &s, &type, list);
        for (uint32_t k = 0; k < n; k++) {
            struct l2d_graph *g = NULL;
            int rc = build(t, &g, &s, type, &list[k], err);
            if (rc == L2D_OK)
                rc = l2d_graph_declare_programs(g, err);
            l2d_graph_destroy(&g);
            if (is_fatal(rc))
                return rc;
        }
    }
    return l2d_clock_s() < t->deadline_s ? l2d_gpu_make_programs(t->gpu, err) : L2D_OK;
}

// Runs the first shape for a while.
static int wake(struct tuner *t, const struct l2d_chosen *shapes, struct l2d_error *err)
{
    struct l2d_choice list[MAX_CANDIDATES];
    struct l2d_conv_shape s;
    enum l2d_dtype type;
    double until = l2d_clock_s() + AWAKE_S, ms;
    if (l2d_gpu_caps(t->gpu)->type == L2D_GPU_CPU ||
        !candidates_of(t, &shapes[0].shape, &s, &type, list))
        return L2D_OK;
    struct l2d_graph *g = NULL;
    int rc = build(t, &g, &s, type, &list[0], err);
    if (rc == L2D_OK)
        rc = l2d_graph_finish(g, t->parts, err);
    while (rc == L2D_OK && l2d_clock_s() < until && l2d_clock_s() < t->deadline_s)
        rc = run(t, g, &ms, err);
    l2d_graph_destroy(&g);
    return is_fatal(rc) ? rc : L2D_OK;
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

// Small numbers in halves and in floats, no NaN and nothing subnormal, and not all the same: what a
// GPU takes for constants may be less than for a picture.
static void make_noise(uint32_t noise[NOISE_BYTES / 4])
{
    uint32_t r = 1;
    for (uint32_t i = 0; i < NOISE_BYTES / 4; i++) {
        r = r * 1664525 + 1013904223;
        noise[i] = 0x2c002c00u | ((r ^ r >> 15) & 0x83ff83ffu);
    }
}

// noise: NULL, if it is written first.
static int take(struct tuner *t, struct l2d_buf **buf, uint64_t bytes, const char *name,
                const uint32_t *noise, struct l2d_error *err)
{
    int rc = l2d_buf_create(buf, t->gpu, l2d_buf_align(bytes) + 256, L2D_MEMORY_DEVICE, name, err);
    if (rc == L2D_OK && !noise)
        return l2d_buf_fill(*buf, 0, (*buf)->size_bytes, 0, err);
    for (uint64_t at = 0; rc == L2D_OK && at < (*buf)->size_bytes; at += NOISE_BYTES) {
        uint64_t rest = (*buf)->size_bytes - at;
        rc = l2d_buf_send(*buf, at, noise, rest < NOISE_BYTES ? rest : NOISE_BYTES, err);
    }
    int sent = l2d_buf_sent(t->gpu, rc == L2D_OK ? err : NULL);     // the buffer stays until then
    return rc == L2D_OK ? sent : rc;
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
    uint32_t *noise = malloc(NOISE_BYTES);
    if (!noise)
        return l2d_error_set(err, L2D_ENOMEM, "tune: out of memory");
    make_noise(noise);
    int rc = take(t, &t->x, most.x_bytes, "tune.x", noise, err);
    if (rc == L2D_OK)
        rc = take(t, &t->weight, WEIGHTS_BYTES + most.weight_bytes, "tune.weight", noise, err);
    if (rc == L2D_OK)
        rc = take(t, &t->y, most.y_bytes, "tune.y", NULL, err);
    if (rc == L2D_OK)
        rc = take(t, &t->parts, most.parts_bytes, "tune.parts", NULL, err);
    free(noise);
    return rc;
}

int l2d_tune(struct l2d_gpu *gpu, const struct l2d_tune_params *p, struct l2d_tune_result *result,
             struct l2d_error *err)
{
    double begin = l2d_clock_s();
    struct tuner t = { .gpu = gpu, .deadline_s = begin + p->seconds, .runs = MIN_RUNS };
    *result = (struct l2d_tune_result) { 0 };
    if (l2d_gpu_caps(gpu)->timestamp_ns <= 0)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "tune: %s has no timestamps",
                             l2d_gpu_caps(gpu)->name);
    struct l2d_chosen *list = list_shapes(gpu, p->max_rows, &result->shapes);
    int rc = result->shapes ? take_buffers(&t, list, result->shapes, err) : L2D_OK;
    if (rc == L2D_OK && result->shapes)
        rc = try_halves(&t, p, list, result->shapes, err);
    if (rc == L2D_OK && result->shapes)
        rc = make_programs(&t, list, result->shapes, err);
    if (rc == L2D_OK && result->shapes)
        rc = wake(&t, list, err);
    for (uint32_t i = 0; i < result->shapes && rc == L2D_OK; i++)
        rc = tune_shape(&t, p, &list[i].shape, result, err);
    l2d_gpu_forget_programs(gpu);       // else whoever comes next makes them, or fails to
    struct l2d_buf **all[] = { &t.x, &t.weight, &t.y, &t.parts };
    for (size_t i = 0; i < COUNT_OF(all); i++)
        l2d_buf_destroy(all[i]);
    free(list);
    result->seconds = l2d_clock_s() - begin;
    return rc;
}
