// SPDX-License-Identifier: Apache-2.0
// See gpu_test.h.
#include "support/gpu_test.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"

#define ARENA_BYTES (48u << 20)
#define GUARD_BYTES 256u
#define POISON 0x7fff7fffu              // NaN as f32 and as two f16

double gt_worst_l2[2];

static void must(int rc, const struct l2d_error *err)
{
    cr_assert(rc == L2D_OK, "%s", err->msg);
}

static void open_as(struct gpu_test *t, struct l2d_gpu_params p)
{
    struct l2d_error err = { 0 };
    *t = (struct gpu_test) { .tier = p.tier };
    p.cache_dir = "";
    p.validation = true;
    must(l2d_gpu_create(&t->gpu, &p, &err), &err);
    must(l2d_buf_create(&t->arena, t->gpu, ARENA_BYTES, L2D_MEMORY_DEVICE, "test.arena", &err),
         &err);
    must(l2d_buf_create(&t->activations, t->gpu, ARENA_BYTES, L2D_MEMORY_DEVICE, "test.act", &err),
         &err);
    t->host = malloc(ARENA_BYTES);
    cr_assert(t->host != NULL);
}

void gt_open(struct gpu_test *t, enum l2d_tier tier)
{
    open_as(t, (struct l2d_gpu_params) { .tier = tier });
}

void gt_open_cores(struct gpu_test *t, enum l2d_tier tier, uint32_t num_cores)
{
    open_as(t, (struct l2d_gpu_params) { .tier = tier, .num_cores = num_cores });
}

void gt_open_matrix_rows(struct gpu_test *t)
{
    open_as(t, (struct l2d_gpu_params) { .tier = L2D_TIER_2, .matrix_rows = true });
}

static struct l2d_gpu_caps caps_of_device(void)
{
    struct l2d_error err = { 0 };
    struct l2d_gpu *gpu = NULL;
    must(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), &err);
    struct l2d_gpu_caps caps = *l2d_gpu_caps(gpu);
    l2d_gpu_destroy(&gpu);
    return caps;
}

bool gt_has_matrix_units(void)
{
    bool has = caps_of_device().matrix.m > 0;
    cr_assert(has || !getenv("L2D_TEST_MATRIX"), "the device has no matrix units");
    return has;
}

bool gt_has_matrix2(void)
{
    bool has = caps_of_device().matrix2.grain.m > 0;
    cr_assert(has || !getenv("L2D_TEST_MATRIX"), "the device has no matrices of any size");
    return has;
}

void gt_close(struct gpu_test *t)
{
    cr_assert(l2d_gpu_num_validation_messages(t->gpu) == 0, "%u validation messages",
              l2d_gpu_num_validation_messages(t->gpu));
    l2d_buf_destroy(&t->arena);
    l2d_buf_destroy(&t->activations);
    l2d_gpu_destroy(&t->gpu);
    free(t->host);
    if (getenv("L2D_TEST_VERBOSE"))
        fprintf(stderr, "%s: worst relative L2 error: f32 %.2g, f16 %.2g\n",
                l2d_tier_str(t->tier), gt_worst_l2[0], gt_worst_l2[1]);
}

void gt_begin(struct gpu_test *t, enum l2d_dtype precision)
{
    struct l2d_error err = { 0 };
    t->precision = precision;
    t->used_bytes = 0;
    t->num_regions = 0;
    must(l2d_graph_create(&t->graph, t->gpu, precision, "test", &err), &err);
    l2d_graph_enable_probes(t->graph, true);
}

void gt_end(struct gpu_test *t)
{
    l2d_graph_destroy(&t->graph);
}

static void poison(unsigned char *at, uint64_t size_bytes)
{
    const uint32_t word = POISON;
    for (uint64_t i = 0; i < size_bytes; i++)
        at[i] = (unsigned char) (word >> 8 * (i % 4));
}

static uint64_t reserve(struct gpu_test *t, uint64_t size_bytes, bool written)
{
    uint64_t at = t->used_bytes;
    t->used_bytes = (at + size_bytes + GUARD_BYTES + 255) & ~(uint64_t) 255;
    cr_assert(t->num_regions < COUNT(t->region) && t->used_bytes <= ARENA_BYTES, "arena is full");
    t->region[t->num_regions++] = (struct gt_region) { at, size_bytes, written };
    poison(t->host + at, t->used_bytes - at);
    return at;
}

struct l2d_tensor gt_tensor(struct gpu_test *t, enum l2d_dtype dtype, int rows, int h, int w, int c,
                            const float *data, bool written)
{
    struct l2d_tensor tensor = l2d_tensor_view(t->arena, 0, dtype, rows, h, w, c);
    tensor.offset_bytes = reserve(t, l2d_tensor_bytes(&tensor), written);
    void *at = t->host + tensor.offset_bytes;
    if (data && dtype == L2D_F16)
        for (uint64_t i = 0; i < l2d_tensor_count(&tensor); i++)
            ((uint16_t *) at)[i] = l2d_half_from_f32(data[i]);
    else if (data)
        memcpy(at, data, l2d_tensor_bytes(&tensor));
    return tensor;
}

struct l2d_tensor gt_bytes(struct gpu_test *t, const void *data, size_t size_bytes, bool written)
{
    uint64_t words = (size_bytes + 3) / 4;
    uint64_t at = reserve(t, words * 4, written);
    if (data)
        memcpy(t->host + at, data, size_bytes);
    return l2d_tensor_view(t->arena, at, L2D_U32, 1, 1, 1, (int32_t) words);
}

void gt_keep(struct gpu_test *t, struct l2d_tensor result)
{
    l2d_graph_probe(t->graph, result, "result");
}

static void check_arena(struct gpu_test *t)
{
    struct l2d_error err = { 0 };
    unsigned char *now = malloc(t->used_bytes + 1);
    cr_assert(now != NULL);
    must(l2d_buf_read(t->arena, 0, now, t->used_bytes, &err), &err);
    for (unsigned i = 0; i < t->num_regions; i++) {
        const struct gt_region *r = &t->region[i];
        uint64_t from = r->written ? r->offset_bytes + r->size_bytes : r->offset_bytes;
        uint64_t to = i + 1 < t->num_regions ? t->region[i + 1].offset_bytes : t->used_bytes;
        for (uint64_t b = from; b < to; b++)
            cr_assert(now[b] == t->host[b], "operand %u: byte %lld of %llu (%s) was written", i,
                      (long long) (b - r->offset_bytes), (unsigned long long) r->size_bytes,
                      b < r->offset_bytes + r->size_bytes ? "an input" : "a guard");
    }
    free(now);
}

static void check_guard(struct gpu_test *t, uint64_t from, uint64_t to, const char *what)
{
    struct l2d_error err = { 0 };
    unsigned char now[2 * GUARD_BYTES], want[2 * GUARD_BYTES];
    uint64_t base = from & ~(uint64_t) 255;
    cr_assert(to - base <= sizeof(now));
    poison(want, sizeof(want));
    must(l2d_buf_read(t->activations, base, now, to - base, &err), &err);
    for (uint64_t b = from; b < to; b++)
        cr_assert(now[b - base] == want[b - base], "byte %llu behind %s was written",
                  (unsigned long long) (b - from), what);
}

void gt_run(struct gpu_test *t)
{
    struct l2d_error err = { 0 };
    must(l2d_graph_plan(t->graph, &t->planned_bytes, &err), &err);
    cr_assert(t->planned_bytes + GUARD_BYTES <= ARENA_BYTES, "activations are too large");
    must(l2d_graph_finish(t->graph, t->activations, &err), &err);
    gt_run_again(t);
}

void gt_run_again(struct gpu_test *t)
{
    struct l2d_error err = { 0 };
    if (t->used_bytes)
        must(l2d_buf_write(t->arena, 0, t->host, t->used_bytes, &err), &err);
    must(l2d_buf_fill(t->activations, 0, t->planned_bytes + GUARD_BYTES, POISON, &err), &err);
    must(l2d_graph_run(t->graph, &err), &err);
    check_arena(t);
    check_guard(t, t->planned_bytes, t->planned_bytes + GUARD_BYTES, "the activations");
    if (l2d_graph_num_probes(t->graph)) {
        const struct l2d_tensor *y = &l2d_graph_probe_at(t->graph, 0)->tensor;
        uint64_t end = y->offset_bytes + l2d_tensor_bytes(y);
        check_guard(t, end, (end + 255) & ~(uint64_t) 255, "the result");
    }
}

unsigned char *gt_read_bytes(struct gpu_test *t, struct l2d_tensor tensor)
{
    struct l2d_error err = { 0 };
    (void) t;
    unsigned char *bytes = malloc(l2d_tensor_bytes(&tensor));
    cr_assert(bytes != NULL);
    must(l2d_buf_read(tensor.buf, tensor.offset_bytes, bytes, l2d_tensor_bytes(&tensor), &err),
         &err);
    return bytes;
}

float *gt_read(struct gpu_test *t, struct l2d_tensor tensor)
{
    unsigned char *bytes = gt_read_bytes(t, tensor);
    if (tensor.dtype != L2D_F16)
        return (float *) (void *) bytes;
    float *data = gt_floats(l2d_tensor_count(&tensor));
    for (uint64_t i = 0; i < l2d_tensor_count(&tensor); i++)
        data[i] = l2d_half_to_f32(((uint16_t *) (void *) bytes)[i]);
    free(bytes);
    return data;
}

float *gt_read_kept(struct gpu_test *t, size_t count)
{
    const struct l2d_tensor *y = &l2d_graph_probe_at(t->graph, 0)->tensor;
    cr_assert(l2d_tensor_count(y) == count, "result [%d,%d,%d,%d], expected %zu elements", y->rows,
              y->h, y->w, y->c, count);
    return gt_read(t, *y);
}

float *gt_floats(size_t count)
{
    float *data = malloc((count + 1) * sizeof(*data));
    cr_assert(data != NULL);
    return data;
}

static double uniform(uint64_t *state)          // splitmix64
{
    uint64_t z = *state += 0x9e3779b97f4a7c15u;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
    z = (z ^ z >> 27) * 0x94d049bb133111ebu;
    return (double) ((z ^ z >> 31) >> 11) / 9007199254740992.0;
}

void gt_round_to_bytes(float *value, size_t count)
{
    size_t most = 0;
    int exponent = 0;
    for (size_t i = 0; i < count; i++)
        most = fabsf(value[i]) > fabsf(value[most]) ? i : most;
    float step = ceilf(16 * frexpf(fabsf(value[most]) / 127, &exponent)) / 16;
    step = ldexpf(step, exponent);
    for (size_t i = 0; i < count && step > 0; i++)
        value[i] = step * fmaxf(-127, fminf(127, rintf(value[i] / step)));
    value[most] = copysignf(127 * step, value[most]);
}

void gt_fill(float *data, size_t count, enum gt_fill fill, double scale, double huge,
             enum l2d_dtype dtype, unsigned seed)
{
    uint64_t state = seed * 1000003u + (unsigned) fill;
    double amplitude = fill == GT_HUGE ? scale * huge : fill == GT_TINY ? scale / huge : scale;
    for (size_t i = 0; i < count; i++) {
        double n = sqrt(-2 * log(1 - uniform(&state))) * cos(6.283185307179586 * uniform(&state));
        float v = (float) (fill == GT_CONSTANT ? 0.7 * scale : amplitude * n);
        data[i] = dtype == L2D_F16 ? l2d_half_to_f32(l2d_half_from_f32(v)) : v;
    }
}

void gt_check(const float *want, const float *got, size_t count, struct gt_tol tol, const char *fmt,
              ...)
{
    char what[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(what, sizeof(what), fmt, ap);
    va_end(ap);

    double diff2 = 0, want2 = 0, worst = -1;
    size_t at = 0;
    for (size_t i = 0; i < count; i++) {
        double d = fabs((double) got[i] - (double) want[i]);
        double may = tol.abs + tol.rel * fabs((double) want[i]) + 1e-300;
        double over = isnan(d) ? INFINITY : d / may;
        diff2 += d * d;
        want2 += (double) want[i] * (double) want[i];
        if (over > worst) {
            worst = over;
            at = i;
        }
    }
    double l2 = want2 > 0 ? sqrt(diff2 / want2) : sqrt(diff2);
    bool f16 = strstr(what, "f16") != NULL;
    if (l2 > gt_worst_l2[f16])
        gt_worst_l2[f16] = l2;
    cr_assert(worst <= 1, "%s: element %zu of %zu is %.9g, expected %.9g (%.2f times what may "
              "differ)", what, at, count, (double) got[at], (double) want[at], worst);
    cr_assert(l2 <= tol.l2, "%s: relative L2 error %.3g, allowed %.3g; worst element %zu is %.9g, "
              "expected %.9g", what, l2, tol.l2, at, (double) got[at], (double) want[at]);
}
