// SPDX-License-Identifier: Apache-2.0
// What the device does at most: bytes copied, by a kernel and by the driver's own command, and
// multiply-adds in registers, in fp32; and what it takes at least: a kernel that waits for the one
// before, and a submission that is waited for. See bench.h.
#include <stdio.h>

#include "base/clock.h"
#include "bench.h"
#include "gpu/buffer.h"
#include "gpu/graph.h"
#include "gpu/submit.h"
#include "kernels/ceiling.h"

#define RUNS 5
#define CHAIN 500                   // kernels that wait for each other
#define CPU_BYTES (64u << 20)       // more than its caches hold
#define GPU_BYTES (256u << 20)
#define CPU_QUADS (1 << 12)
#define GPU_QUADS (1 << 20)         // keep a large GPU busy for a millisecond
#define CPU_ROUNDS 2000
#define GPU_ROUNDS 1000

// The shortest of some runs.
static int shortest(struct l2d_gpu *gpu, struct l2d_graph *g, double *ms, struct l2d_error *err)
{
    uint64_t size = 0;
    int rc = l2d_graph_plan(g, &size, err);
    if (rc == L2D_OK)
        rc = l2d_graph_finish(g, NULL, err);
    *ms = 1e30;
    for (int i = 0; i <= RUNS && rc == L2D_OK; i++) {
        double stage[L2D_MAX_STAGES];
        uint64_t ticket;
        rc = l2d_gpu_submit(gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
        if (rc == L2D_OK)
            rc = l2d_gpu_wait(gpu, ticket, err);
        if (rc == L2D_OK && !l2d_gpu_stage_ms(gpu, ticket, stage))
            rc = l2d_error_set(err, L2D_EUNSUPPORTED, "%s has no timestamps",
                               l2d_gpu_caps(gpu)->name);
        if (rc == L2D_OK && i > 0 && stage[0] < *ms)
            *ms = stage[0];
    }
    return rc;
}

static int time_copy(struct l2d_gpu *gpu, struct l2d_tensor dst, struct l2d_tensor src,
                     bool by_kernel, double *gbs, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double ms = 0;
    int rc = l2d_graph_create(&g, gpu, L2D_F32, "copy", err);
    if (rc != L2D_OK)
        return rc;
    if (by_kernel)
        l2d_ceiling_copy(g, dst, src);
    else
        l2d_graph_copy(g, dst, src);
    rc = shortest(gpu, g, &ms, err);
    l2d_graph_destroy(&g);
    *gbs = rc == L2D_OK ? 2e-6 * (double) l2d_tensor_bytes(&src) / ms : 0;
    return rc;
}

static int time_fma(struct l2d_gpu *gpu, struct l2d_tensor y, uint32_t rounds, double *gflops,
                    struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double ms = 0;
    int rc = l2d_graph_create(&g, gpu, L2D_F32, "multiply-adds", err);
    if (rc != L2D_OK)
        return rc;
    l2d_ceiling_fma(g, y, rounds, 0.999f, 1e-3f);
    rc = shortest(gpu, g, &ms, err);
    *gflops = rc == L2D_OK ? 1e-6 * l2d_graph_flops(g) / ms : 0;
    l2d_graph_destroy(&g);
    return rc;
}

// x to y and back, a workgroup each time: *dispatch_us of one; *submit_us of a submission on top.
static int time_waits(struct l2d_gpu *gpu, struct l2d_tensor x, struct l2d_tensor y,
                      double *dispatch_us, double *submit_us, struct l2d_error *err)
{
    struct l2d_graph *g = NULL;
    double ms = 0, wall_ms = 1e30;
    int rc = l2d_graph_create(&g, gpu, L2D_F32, "waits", err);
    if (rc != L2D_OK)
        return rc;
    x.w = y.w = 1;
    for (int i = 0; i < CHAIN; i++)
        l2d_ceiling_copy(g, i % 2 ? x : y, i % 2 ? y : x);
    rc = shortest(gpu, g, &ms, err);
    for (int i = 0; i < RUNS && rc == L2D_OK; i++) {
        double begin = l2d_clock_s();
        rc = l2d_graph_run(g, err);
        double now_ms = 1e3 * (l2d_clock_s() - begin);
        wall_ms = now_ms < wall_ms ? now_ms : wall_ms;
    }
    l2d_graph_destroy(&g);
    *dispatch_us = 1e3 * ms / CHAIN;
    *submit_us = wall_ms > ms ? 1e3 * (wall_ms - ms) : 0;
    return rc;
}

int bench_ceilings(struct bench *bench, struct l2d_error *err)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(bench->gpu);
    bool cpu = caps->type == L2D_GPU_CPU;
    uint64_t size = cpu || caps->max_range_bytes < GPU_BYTES ? CPU_BYTES : GPU_BYTES;
    struct l2d_buf *buf = NULL;
    double kernel_gbs = 0, command_gbs = 0, dispatch_us = 0, submit_us = 0;
    int rc = l2d_buf_create(&buf, bench->gpu, 2 * size, L2D_MEMORY_DEVICE, "copied", err);
    struct l2d_tensor src = l2d_tensor_view(buf, 0, L2D_F32, 1, 1, (int32_t) (size / 16), 4);
    struct l2d_tensor dst = src, y = src;
    dst.offset_bytes = size;
    y.w = cpu ? CPU_QUADS : GPU_QUADS;
    if (rc == L2D_OK)
        rc = l2d_buf_fill(buf, 0, 2 * size, 0, err);
    if (rc == L2D_OK)
        rc = time_copy(bench->gpu, dst, src, true, &kernel_gbs, err);
    if (rc == L2D_OK)
        rc = time_copy(bench->gpu, dst, src, false, &command_gbs, err);
    if (rc == L2D_OK)
        rc = time_fma(bench->gpu, y, cpu ? CPU_ROUNDS : GPU_ROUNDS, &bench->fma_gflops, err);
    if (rc == L2D_OK)
        rc = time_waits(bench->gpu, src, dst, &dispatch_us, &submit_us, err);
    l2d_buf_destroy(&buf);
    if (rc != L2D_OK)
        return l2d_error_wrap(err, rc, "ceilings");
    bench->copy_gbs = kernel_gbs > command_gbs ? kernel_gbs : command_gbs;
    if (!bench->quiet)
        printf("ceilings of %s: copy %.1f GB/s by a kernel, %.1f by command; multiply-add, fp32, "
               "%.0f GFLOP/s\n  at least: %.1f us a kernel that waits for another, %.0f us a "
               "submission\n", caps->name, kernel_gbs, command_gbs, bench->fma_gflops, dispatch_us,
               submit_us);
    json_object_set_new(bench->json, "ceilings", json_pack(
        "{sf sf sf sf sf}", "copy_kernel_gbs", kernel_gbs, "copy_command_gbs", command_gbs,
        "fma_gflops", bench->fma_gflops, "dispatch_us", dispatch_us, "submit_us", submit_us));
    return L2D_OK;
}
