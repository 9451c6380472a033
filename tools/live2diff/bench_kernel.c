// SPDX-License-Identifier: Apache-2.0
// The kernels of a frame on the shapes that the model gives them, beside what the device can do at
// most: a kernel cannot take less than its arithmetic or its memory traffic takes. See bench.h.
// Traffic counts every operand once. Where matrix units do the arithmetic, its ceiling is higher
// than the multiply-adds that are measured, and a share may exceed 100 %.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench.h"
#include "pipeline/engine.h"

#define MAX_ROWS 256
#define WARM_UP_FRAMES 16       // fill the window

static int slowest_first(const void *a, const void *b)
{
    const struct l2d_profile_row *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

void bench_sort(struct l2d_profile_row *row, uint32_t count)
{
    qsort(row, count, sizeof(*row), slowest_first);
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;
    return (x > y) - (x < y);
}

struct quantiles bench_quantiles(double *ms, uint32_t count)
{
    qsort(ms, count, sizeof(*ms), by_value);
    return (struct quantiles) { ms[count / 2], ms[count * 95 / 100], ms[count * 99 / 100] };
}

#define REPEATS 5

// Labels tell graphs apart.
static bool same_row(const struct l2d_profile_row *a, const struct l2d_profile_row *b)
{
    return a->op == b->op && !strcmp(a->label, b->label);
}

// Profile several times; row's times are medians.
static int profile_often(struct l2d_engine *engine, struct l2d_profile_row *row, uint32_t *count,
                         struct l2d_error *err)
{
    static struct l2d_profile_row again[MAX_ROWS];
    static double ms[MAX_ROWS][REPEATS];
    int rc = l2d_engine_profile(engine, row, MAX_ROWS, count, err);
    for (int i = 0; i < REPEATS && rc == L2D_OK; i++) {         // the first warmed the caches
        uint32_t n = 0;
        rc = l2d_engine_profile(engine, again, MAX_ROWS, &n, err);
        for (uint32_t r = 0; r < *count; r++)
            for (uint32_t j = 0; j < n; j++)
                if (same_row(&row[r], &again[j]))
                    ms[r][i] = again[j].ms;
    }
    for (uint32_t r = 0; r < *count && rc == L2D_OK; r++)
        row[r].ms = bench_quantiles(ms[r], REPEATS).p50;
    return rc;
}

// The share of the time that the ceilings alone would take, and which of them is the higher one.
static double of_ceiling(const struct bench *bench, const struct l2d_profile_row *row,
                         const char **bound)
{
    double memory_ms = 1e3 * row->gbytes / bench->copy_gbs;
    double arithmetic_ms = 1e3 * row->gflop / bench->fma_gflops;
    *bound = memory_ms > arithmetic_ms ? "memory" : "arithmetic";
    return row->ms > 0 ? (memory_ms > arithmetic_ms ? memory_ms : arithmetic_ms) / row->ms : 0;
}

// One for each kernel, of all its shapes.
static uint32_t by_family(const struct l2d_profile_row *row, uint32_t count,
                          struct l2d_profile_row *family)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t f = 0;
        while (f < n && strcmp(family[f].shader, row[i].shader) != 0)
            f++;
        if (f == n) {
            family[n] = row[i];
            family[n].label[0] = family[n].variant[0] = '\0';
            snprintf(family[n++].shape, sizeof(family[f].shape), "all shapes");
            continue;
        }
        family[f].dispatches += row[i].dispatches;
        family[f].ms += row[i].ms;
        family[f].gflop += row[i].gflop;
        family[f].gbytes += row[i].gbytes;
    }
    bench_sort(family, n);
    return n;
}

static json_t *kernels_table(const struct bench *bench, const struct l2d_profile_row *row,
                             uint32_t count)
{
    json_t *list = json_array();
    if (!bench->quiet)
        printf("\n  %9s %6s %9s %8s %6s %-10s  %-26s %-11s %s\n", "ms", "calls", "GFLOP/s", "GB/s",
               "%", "of", "kernel", "variant", "first operand, result");
    for (uint32_t i = 0; i < count; i++) {
        const struct l2d_profile_row *r = &row[i];
        const char *bound;
        double share = of_ceiling(bench, r, &bound), per_s = r->ms > 0 ? 1e3 / r->ms : 0;
        if (!bench->quiet)
            printf("  %9.3f %6u %9.1f %8.1f %6.1f %-10s  %-26s %-11s %s\n", r->ms, r->dispatches,
                   r->gflop * per_s, r->gbytes * per_s, 100 * share, bound, r->shader, r->variant,
                   r->shape);
        json_array_append_new(list, json_pack(
            "{ss ss ss ss sI sf sf sf sf sf sf ss}", "kernel", r->shader, "variant", r->variant,
            "shape", r->shape, "first", r->label, "calls", (json_int_t) r->dispatches, "ms", r->ms,
            "gflop", r->gflop, "gbytes", r->gbytes, "gflops", r->gflop * per_s, "gbs",
            r->gbytes * per_s, "of_ceiling", share, "ceiling", bound));
    }
    return list;
}

int bench_kernels(struct bench *bench, struct l2d_error *err)
{
    static struct l2d_profile_row row[MAX_ROWS], family[MAX_ROWS];
    struct l2d_engine *engine = NULL;
    uint32_t count = 0;
    int rc = bench_open_engine(bench, bench->model, &engine, err);
    for (uint32_t i = 0; i < WARM_UP_FRAMES && rc == L2D_OK; i++)
        rc = l2d_engine_push(engine, bench->source[i % bench->num_source], err);
    if (rc == L2D_OK)
        rc = profile_often(engine, row, &count, err);
    l2d_engine_destroy(&engine);
    if (rc != L2D_OK)
        return rc;
    bench_sort(row, count);
    uint32_t num_families = by_family(row, count, family);
    json_object_set_new(bench->json, "kernel_families",
                        kernels_table(bench, family, num_families));
    json_object_set_new(bench->json, "kernels", kernels_table(bench, row, count));
    return L2D_OK;
}
