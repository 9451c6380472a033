// SPDX-License-Identifier: Apache-2.0
// Calls of the UNet alone: as many rows as frames are in flight, with and without motion modules.
// See bench.h.
#include <stdio.h>

#include "base/clock.h"
#include "bench.h"
#include "pipeline/engine.h"

#define MAX_CALLS 1000

// Processor time of a call, all threads, without that of setting it up: that of count calls more.
static int measure_cpu(struct l2d_engine *engine, const struct l2d_engine_step *step, double *ms,
                       uint32_t count, double *gflop, double *cpu_ms, struct l2d_error *err)
{
    double one;
    int rc = l2d_engine_time_step(engine, step, &one, 1, gflop, err);   // builds the shaders
    double few = l2d_clock_cpu_s();
    if (rc == L2D_OK)
        rc = l2d_engine_time_step(engine, step, &one, 1, gflop, err);
    double begin = l2d_clock_cpu_s();
    if (rc == L2D_OK)
        rc = l2d_engine_time_step(engine, step, ms, count, gflop, err);
    double end = l2d_clock_cpu_s();
    *cpu_ms = count > 1 ? 1e3 * (end - begin - (begin - few)) / (count - 1) : 0;
    return rc;
}

static int measure(struct bench *bench, struct l2d_engine *engine,
                   const struct l2d_engine_step *step, json_t *rows, struct l2d_error *err)
{
    static double ms[MAX_CALLS];
    uint32_t count = bench->frames < MAX_CALLS ? (uint32_t) bench->frames : MAX_CALLS;
    double gflop = 0, cpu_ms = 0;
    int rc = measure_cpu(engine, step, ms, count, &gflop, &cpu_ms, err);
    if (rc != L2D_OK)
        return rc;
    struct quantiles q = bench_quantiles(ms, count);
    if (!bench->quiet)
        printf("  %4d %-6s %10.2f %10.2f %10.2f %10.2f %10.1f\n", step->rows,
               step->motion ? "on" : "off", q.p50, q.p95, q.p99, gflop,
               q.p50 > 0 ? 1e3 * gflop / q.p50 : 0);
    json_array_append_new(rows, json_pack(
        "{si sb sf sf sf sf sf sI}", "rows", step->rows, "motion", step->motion, "cpu_ms", cpu_ms,
        "p50_ms", q.p50, "p95_ms", q.p95, "p99_ms", q.p99, "gflop", gflop, "calls",
        (json_int_t) count));
    return L2D_OK;
}

int bench_unet(struct bench *bench, struct l2d_error *err)
{
    struct model_options model = *bench->model;
    struct l2d_engine *engine = NULL;
    json_t *rows = json_array();
    model.steps = "10,20,30,40/50";
    model.schedule = SCHEDULE_BATCH;
    model.chunk = 1;
    int rc = bench_open_engine(bench, &model, &engine, err);
    if (rc == L2D_OK && !bench->quiet)
        printf("\n  %4s %-6s %10s %10s %10s %10s %10s\n", "rows", "motion", "p50 ms", "p95 ms",
               "p99 ms", "GFLOP", "GFLOP/s");
    for (int32_t n = 1; n <= 4 && rc == L2D_OK; n *= 2)
        for (int motion = 0; motion < 2 && rc == L2D_OK; motion++)
            rc = measure(bench, engine, &(struct l2d_engine_step) { n, motion > 0 }, rows, err);
    l2d_engine_destroy(&engine);
    json_object_set_new(bench->json, "unet", rows);
    return rc;
}
