// SPDX-License-Identifier: Apache-2.0
// See tuner.h.
#include "kernels/tuner.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/half.h"
#include "gpu/submit.h"

#define MIN_RUNS 2
#define MAX_RUNS 24
#define RUNS_MS 3.0
#define WEIGHTS_BYTES (96u << 20)
#define PARTS_BYTES (128u << 20)        // shapes with so much are not those that parts are for
#define FAR 1.3
#define NOISE_BYTES (1u << 20)
#define COMPARED 32768u                 // numbers, at either end of a result
#define ALIKE 0.02                      // relative error: sums in halves stay below it
#define NOT_WRITTEN 0x7fff7fffu         // NaN as a float and as two halves

// ---- buffers

// Normal numbers in halves and in floats, and not all the same: what a GPU takes for constants may
// be less than for a picture.
static void make_noise(uint32_t noise[NOISE_BYTES / 4])
{
    uint32_t r = 1;
    for (uint32_t i = 0; i < NOISE_BYTES / 4; i++) {
        r = r * 1664525 + 1013904223;
        noise[i] = 0x3c003c00u | ((r ^ r >> 15) & 0x83ff83ffu);
    }
}

// noise: NULL, if it is written first.
static int take(struct l2d_tuner *t, struct l2d_buf **buf, uint64_t bytes, const char *name,
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

static uint64_t larger(uint64_t a, uint64_t b)
{
    return a > b ? a : b;
}

int l2d_tuner_open(struct l2d_tuner *t, struct l2d_gpu *gpu, const struct l2d_chosen *shapes,
                   uint32_t count, struct l2d_error *err)
{
    *t = (struct l2d_tuner) { .gpu = gpu, .runs = MIN_RUNS };
    uint64_t range = l2d_gpu_caps(gpu)->max_range_bytes;
    struct l2d_tune_bytes most = { 0 };
    for (uint32_t i = 0; i < count; i++) {
        struct l2d_tune_shape s;
        if (!l2d_tune_shape_of_key(&shapes[i].shape, &s))
            continue;
        struct l2d_tune_bytes bytes = l2d_tune_shape_bytes(&s);
        most.x = larger(most.x, bytes.x);
        most.weight = larger(most.weight, bytes.weight);
        most.y = larger(most.y, bytes.y);
        most.parts = larger(most.parts, bytes.parts < range ? bytes.parts : range);
    }
    most.parts = most.parts < PARTS_BYTES ? most.parts : PARTS_BYTES;
    uint32_t *noise = malloc(NOISE_BYTES);
    if (!noise)
        return l2d_error_set(err, L2D_ENOMEM, "tune: out of memory");
    make_noise(noise);
    int rc = take(t, &t->buffers.x, most.x, "tune.x", noise, err);
    if (rc == L2D_OK)
        rc = take(t, &t->buffers.weight, WEIGHTS_BYTES + most.weight, "tune.weight", noise, err);
    if (rc == L2D_OK)
        rc = take(t, &t->buffers.y, most.y, "tune.y", NULL, err);
    if (rc == L2D_OK)
        rc = take(t, &t->buffers.parts, most.parts, "tune.parts", NULL, err);
    free(noise);
    return rc;
}

void l2d_tuner_close(struct l2d_tuner *t)
{
    l2d_buf_destroy(&t->buffers.x);
    l2d_buf_destroy(&t->buffers.weight);
    l2d_buf_destroy(&t->buffers.y);
    l2d_buf_destroy(&t->buffers.parts);
}

// ---- one choice

// keep: the result goes into the buffer y. L2D_EUNSUPPORTED: its parts have no room.
static int plan(struct l2d_tuner *t, struct l2d_graph **out, const struct l2d_tune_shape *s,
                const struct l2d_choice *choice, uint32_t runs, bool keep, struct l2d_error *err)
{
    uint64_t size = 0;
    int rc = l2d_graph_create(out, t->gpu, s->type, "tune", err);
    if (rc != L2D_OK)
        return rc;
    l2d_choices_force(t->gpu, choice);
    l2d_tune_shape_record(*out, s, &t->buffers, runs, keep);
    l2d_choices_force(t->gpu, NULL);
    rc = l2d_graph_plan(*out, &size, err);
    if (rc == L2D_OK && size > t->buffers.parts->size_bytes)
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: parts of %llu bytes",
                           (unsigned long long) size);
    return rc;
}

static int build(struct l2d_tuner *t, struct l2d_graph **out, const struct l2d_tune_shape *s,
                 const struct l2d_choice *choice, uint32_t runs, bool keep, struct l2d_error *err)
{
    int rc = plan(t, out, s, choice, runs, keep, err);
    return rc == L2D_OK ? l2d_graph_finish(*out, t->buffers.parts, err) : rc;
}

int l2d_tuner_declare(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                      const struct l2d_choice *choice, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    int rc = plan(t, &g, s, choice, 1, false, err);
    if (rc == L2D_OK)
        rc = l2d_graph_declare_programs(g, err);
    l2d_graph_destroy(&g);
    return rc;
}

static int run(struct l2d_tuner *t, struct l2d_graph *g, double *ms, struct l2d_error *err)
{
    double stage[L2D_MAX_STAGES];
    uint64_t ticket;
    int rc = l2d_gpu_submit(t->gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
    if (rc == L2D_OK)
        rc = l2d_gpu_wait(t->gpu, ticket, err);
    if (rc == L2D_OK && !l2d_gpu_stage_ms(t->gpu, ticket, stage))
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "tune: no timestamps");
    if (rc == L2D_OK)
        *ms = stage[0];
    return rc;
}

int l2d_tuner_time(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                   const struct l2d_choice *choice, double best_ms, double *ms,
                   struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double first = 0, again = 0;
    int rc = build(t, &g, s, choice, t->runs, false, err);
    if (rc == L2D_OK)
        rc = run(t, g, &first, err);
    again = first;
    if (rc == L2D_OK && (best_ms <= 0 || first / t->runs < FAR * best_ms))
        rc = run(t, g, &again, err);
    *ms = (again < first ? again : first) / t->runs;
    l2d_graph_destroy(&g);
    return rc;
}

int l2d_tuner_find_runs(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                        const struct l2d_choice *choice, struct l2d_error *err)
{
    double ms;
    t->runs = MIN_RUNS;
    int rc = l2d_tuner_time(t, s, choice, 0, &ms, err);
    if (rc != L2D_OK)
        return rc;
    uint64_t weight = l2d_tune_shape_bytes(s).weight, copies = WEIGHTS_BYTES / (weight + 1) + 1;
    uint32_t most = copies < MAX_RUNS ? (uint32_t) copies : MAX_RUNS;
    while (t->runs < most && (t->runs + 1) * ms < RUNS_MS)
        t->runs++;
    return L2D_OK;
}

int l2d_tuner_wake(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                   const struct l2d_choice *choice, double until_s, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double ms;
    int rc = build(t, &g, s, choice, t->runs, false, err);
    while (rc == L2D_OK && l2d_clock_s() < until_s)
        rc = run(t, g, &ms, err);
    l2d_graph_destroy(&g);
    return rc;
}

// ---- what a choice computes

// Both ends of the result, as floats; 0 behind its end.
static int compute(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                   const struct l2d_choice *choice, float out[2 * COMPARED], struct l2d_error *err)
{
    uint64_t size = l2d_dtype_bytes(s->type), all = l2d_tune_shape_bytes(s).y / size;
    uint64_t count = all < COMPARED ? all : COMPARED;
    uint16_t *half = malloc(COMPARED * sizeof(*half));
    struct l2d_graph *g = NULL;
    double ms;
    int rc = half ? build(t, &g, s, choice, 1, true, err)
                  : l2d_error_set(err, L2D_ENOMEM, "tune: out of memory");
    if (rc == L2D_OK)
        rc = l2d_buf_fill(t->buffers.y, 0, t->buffers.y->size_bytes, NOT_WRITTEN, err);
    if (rc == L2D_OK)
        rc = run(t, g, &ms, err);
    l2d_graph_destroy(&g);
    memset(out, 0, 2 * COMPARED * sizeof(*out));
    for (uint64_t end = 0; end < 2 && rc == L2D_OK; end++, out += COMPARED) {
        bool halves = s->type == L2D_F16;
        rc = l2d_buf_read(t->buffers.y, end * (all - count) * size,
                          halves ? (void *) half : (void *) out, count * size, err);
        for (uint64_t i = 0; i < count && halves && rc == L2D_OK; i++)
            out[i] = l2d_half_to_f32(half[i]);
    }
    free(half);
    return rc;
}

static bool are_alike(const float a[2 * COMPARED], const float b[2 * COMPARED])
{
    double wrong = 0, all = 0;
    for (uint32_t i = 0; i < 2 * COMPARED; i++) {
        double d = (double) a[i] - (double) b[i];
        wrong += d * d;
        all += (double) a[i] * (double) a[i];
    }
    return wrong <= ALIKE * ALIKE * all;        // NaN is not alike
}

int l2d_tuner_compare(struct l2d_tuner *t, const struct l2d_tune_shape *s,
                      const struct l2d_choice *a, const struct l2d_choice *b, bool *same,
                      struct l2d_error *err)
{
    float *of_a = malloc(4 * COMPARED * sizeof(*of_a)), *of_b = of_a + 2 * COMPARED;
    int rc = of_a ? compute(t, s, a, of_a, err)
                  : l2d_error_set(err, L2D_ENOMEM, "tune: out of memory");
    if (rc == L2D_OK)
        rc = compute(t, s, b, of_b, err);
    *same = rc == L2D_OK && are_alike(of_a, of_b);
    free(of_a);
    return rc;
}
