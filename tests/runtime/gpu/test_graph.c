// SPDX-License-Identifier: Apache-2.0
// Graphs, mostly of copies: whether lifetimes, aliasing and derived barriers keep the bytes right.
// The validation layer runs with synchronization validation: a missing barrier is a message.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/submit.h"
#include "shaders/params/map.h"

#define N 4096                          // words in a tensor

static struct l2d_gpu *gpu;
static struct l2d_error err;

static void print_line(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    (void) user;
    fprintf(stderr, "%s: %s: %s\n", l2d_log_level_str(level), name, line);
}

static void open_lanes(enum l2d_lanes lanes)
{
    struct l2d_gpu_params params = {
        .validation = true, .cache_dir = "", .lanes = lanes,
        .log = { .sink = print_line, .level = L2D_LOG_WARN },
    };
    cr_assert_eq(l2d_gpu_create(&gpu, &params, &err), L2D_OK, "%s", err.msg);
}

static void open_gpu(void)
{
    open_lanes(L2D_LANES_AUTO);
}

// Criterion lets a failed assertion in a fini pass; an abort it does not.
static void close_gpu(void)
{
    if (l2d_gpu_num_validation_messages(gpu) > 0)
        abort();
    l2d_gpu_destroy(&gpu);
}

TestSuite(graph, .init = open_gpu, .fini = close_gpu);

static struct l2d_buf *new_buf(uint64_t words)
{
    struct l2d_buf *buf;
    cr_assert_eq(l2d_buf_create(&buf, gpu, 4 * words, L2D_MEMORY_DEVICE, "test", &err), L2D_OK);
    return buf;
}

static struct l2d_tensor words(struct l2d_buf *buf, uint64_t first, int32_t count)
{
    return l2d_tensor_view(buf, 4 * first, L2D_U32, 1, 1, 1, count);
}

static void fill(uint32_t *out, uint32_t seed)
{
    for (uint32_t i = 0; i < N; i++)
        out[i] = i * 2654435761u + seed;
}

static struct l2d_graph *new_graph(void)
{
    struct l2d_graph *graph;
    cr_assert_eq(l2d_graph_create(&graph, gpu, L2D_F32, "test", &err), L2D_OK, "%s", err.msg);
    return graph;
}

// Plans, takes activations, records. returns the planned size.
static uint64_t finish(struct l2d_graph *graph, struct l2d_buf **activations)
{
    uint64_t size;
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK, "%s", err.msg);
    *activations = size ? new_buf(size / 4) : NULL;
    cr_assert_eq(l2d_graph_finish(graph, *activations, &err), L2D_OK, "%s", err.msg);
    return size;
}

Test(graph, chain_reuses_memory_and_keeps_bytes)
{
    static uint32_t in[N], out[N];
    struct l2d_buf *src = new_buf(N), *dst = new_buf(N), *activations;
    struct l2d_graph *graph = new_graph();
    struct l2d_tensor x = words(src, 0, N);
    for (int i = 0; i < 9; i++) {
        struct l2d_tensor y = l2d_graph_alloc(graph, L2D_U32, 1, 1, 1, N);
        l2d_graph_copy(graph, y, x);
        x = y;
    }
    l2d_graph_copy(graph, words(dst, 0, N), x);
    cr_expect_eq(finish(graph, &activations), 2 * 4 * N);   // two tensors alive at a time

    for (uint32_t run = 0; run < 3; run++) {                // recorded once, replayed
        fill(in, run);
        l2d_buf_write(src, 0, in, sizeof(in), &err);
        cr_assert_eq(l2d_graph_run(graph, &err), L2D_OK, "%s", err.msg);
        l2d_buf_read(dst, 0, out, sizeof(out), &err);
        cr_expect_arr_eq(in, out, sizeof(in), "run %u", run);
    }
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&src);
    l2d_buf_destroy(&dst);
    l2d_buf_destroy(&activations);
}

// Reads before writes and writes over reads, on views that overlap in part.
Test(graph, overlapping_views_are_ordered)
{
    static uint32_t in[N], out[N];
    struct l2d_buf *buf = new_buf(3 * N), *activations;
    struct l2d_graph *graph = new_graph();
    l2d_graph_copy(graph, words(buf, N, N), words(buf, 0, N));              // 1 = 0
    l2d_graph_copy(graph, words(buf, 2 * N, N), words(buf, N, N));          // 2 = 1
    l2d_graph_copy(graph, words(buf, N + N / 2, N / 2), words(buf, 0, N / 2));  // half of 1
    l2d_graph_copy(graph, words(buf, 0, N), words(buf, N, N));              // 0 = 1
    finish(graph, &activations);
    fill(in, 7);
    l2d_buf_write(buf, 0, in, sizeof(in), &err);
    cr_assert_eq(l2d_graph_run(graph, &err), L2D_OK, "%s", err.msg);
    l2d_buf_read(buf, 4 * 2 * N, out, sizeof(out), &err);
    cr_expect_arr_eq(in, out, sizeof(in));
    l2d_buf_read(buf, 0, out, sizeof(out), &err);
    cr_expect_arr_eq(in, out, sizeof(in) / 2);
    cr_expect_arr_eq(in, out + N / 2, sizeof(in) / 2);
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
}

static void dispatch_copy(struct l2d_graph *graph, struct l2d_tensor dst, struct l2d_tensor src)
{
    uint32_t size = 64, quads = (uint32_t) dst.c / 4;
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "copy_quads", .spec = &size, .num_spec = 1,
        .params = &(struct l2d_copy_params) { .count = quads, .num_rows = 1 },
        .params_size = sizeof(struct l2d_copy_params),
        .bind = (struct l2d_binding[]) { { src, L2D_READ }, { dst, L2D_WRITE } }, .num_bind = 2,
        .groups = { quads / size, 1, 1 },
    });
}

// A barrier that holds back dispatches alone leaves copies behind it to wait for themselves, and
// the other way round.
Test(graph, dispatches_and_copies_wait_for_each_other)
{
    static uint32_t in[N], out[N];
    struct l2d_buf *buf = new_buf(6 * N), *activations;
    struct l2d_graph *graph = new_graph();
    struct l2d_tensor w[6];
    for (uint32_t i = 0; i < 6; i++)
        w[i] = words(buf, i * N, N);
    dispatch_copy(graph, w[1], w[0]);
    dispatch_copy(graph, w[2], w[0]);
    dispatch_copy(graph, w[3], w[1]);           // a dispatch waits
    l2d_graph_copy(graph, w[4], w[2]);          // and a copy, for what was written before that
    l2d_graph_copy(graph, w[5], w[0]);
    dispatch_copy(graph, w[1], w[4]);           // a dispatch waits for a copy
    l2d_graph_copy(graph, w[2], w[5]);          // a copy for a copy
    dispatch_copy(graph, w[0], w[5]);           // over what a copy has read
    finish(graph, &activations);
    fill(in, 3);
    l2d_buf_write(buf, 0, in, sizeof(in), &err);
    cr_assert_eq(l2d_graph_run(graph, &err), L2D_OK, "%s", err.msg);
    for (uint32_t i = 0; i < 6; i++) {
        l2d_buf_read(buf, 4 * i * N, out, sizeof(out), &err);
        cr_expect_arr_eq(in, out, sizeof(in), "%u", i);
    }
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
}

Test(graph, probes_stay_readable)
{
    static uint32_t in[N], out[N];
    struct l2d_buf *src = new_buf(N), *activations;
    struct l2d_graph *graph = new_graph();
    l2d_graph_enable_probes(graph, true);
    struct l2d_tensor x = words(src, 0, N);
    for (int i = 0; i < 4; i++) {
        struct l2d_tensor y = l2d_graph_alloc(graph, L2D_U32, 1, 1, 1, N);
        l2d_graph_copy(graph, y, x);
        l2d_graph_probe(graph, y, "layer.%d", i);
        x = y;
    }
    cr_expect_eq(finish(graph, &activations), 4 * 4 * N);
    fill(in, 1);
    l2d_buf_write(src, 0, in, sizeof(in), &err);
    cr_assert_eq(l2d_graph_run(graph, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_graph_num_probes(graph), 4);
    for (uint32_t i = 0; i < 4; i++) {
        const struct l2d_probe *p = l2d_graph_probe_at(graph, i);
        cr_expect_eq(p->name[strlen("layer.")], (char) ('0' + i));
        l2d_buf_read(p->tensor.buf, p->tensor.offset_bytes, out, sizeof(out), &err);
        cr_expect_arr_eq(in, out, sizeof(in), "%s", p->name);
    }
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&src);
    l2d_buf_destroy(&activations);
}

Test(graph, errors_stick_and_name_their_place)
{
    struct l2d_graph *graph = new_graph();
    l2d_graph_push(graph, "down_blocks.%d", 2);
    struct l2d_tensor a = l2d_graph_alloc(graph, L2D_F32, 1, 1, 1, N);
    struct l2d_tensor b = l2d_graph_alloc(graph, L2D_F32, 1, 1, 1, N);
    l2d_graph_copy(graph, b, a);                            // a was never written
    l2d_graph_fail(graph, L2D_ENOMEM, "a later error");
    cr_expect(l2d_graph_failed(graph));
    struct l2d_tensor c = l2d_graph_alloc(graph, L2D_F32, 1, 1, 1, N);
    cr_expect_not(l2d_tensor_exists(&c));
    uint64_t size;
    cr_expect_eq(l2d_graph_plan(graph, &size, &err), L2D_EINVAL);
    cr_expect_neq(strstr(err.msg, "test.down_blocks.2"), NULL, "%s", err.msg);
    cr_expect_neq(strstr(err.msg, "nothing has written"), NULL, "%s", err.msg);
    l2d_graph_destroy(&graph);

    graph = new_graph();
    struct l2d_buf *buf = new_buf(N);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "no_such_shader", .num_bind = 1, .groups = { 1, 1, 1 },
        .bind = &(struct l2d_binding) { words(buf, 0, N), L2D_WRITE },
    });
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK);
    cr_expect_eq(l2d_graph_finish(graph, NULL, &err), L2D_EINVAL);
    cr_expect_neq(strstr(err.msg, "no_such_shader"), NULL, "%s", err.msg);
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
}

Test(graph, more_workgroups_than_the_device_takes)
{
    struct l2d_graph *graph = new_graph();
    struct l2d_buf *buf = new_buf(N);
    uint64_t size;
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "copy_quads", .num_bind = 1,
        .groups = { 1, l2d_gpu_caps(gpu)->max_groups[1] + 1, 1 },
        .bind = &(struct l2d_binding) { words(buf, 0, N), L2D_WRITE },
    });
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_graph_finish(graph, NULL, &err), L2D_EUNSUPPORTED);
    cr_expect_neq(strstr(err.msg, "--size"), NULL, "%s", err.msg);
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
}

// What the device does not bind is known when a graph is planned, and refused when it is finished.
Test(graph, operands_that_are_too_large)
{
    uint64_t size;
    struct l2d_gpu *small = NULL;
    struct l2d_buf *buf = NULL;
    struct l2d_graph *graph = NULL;
    cr_assert_eq(l2d_gpu_create(&small, &(struct l2d_gpu_params) {
        .cache_dir = "", .max_range_bytes = 4 * N - 4,
    }, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_buf_create(&buf, small, 4 * N, L2D_MEMORY_DEVICE, "test", &err), L2D_OK);
    cr_assert_eq(l2d_graph_create(&graph, small, L2D_F32, "test", &err), L2D_OK);
    struct l2d_tensor t = l2d_graph_alloc(graph, L2D_F32, 1, 1, 1, N);
    l2d_graph_copy(graph, t, words(buf, 0, N));             // copies bind nothing
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_graph_largest_operand(graph), 0);
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "luma_blur", .num_bind = 2, .groups = { 1, 1, 1 }, .params_size = 28,
        .params = (uint32_t[7]) { 0 },
        .bind = (struct l2d_binding[]) { { words(buf, 0, N - 1), L2D_READ }, { t, L2D_WRITE } },
    });
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_graph_largest_operand(graph), 4 * N);
    struct l2d_buf *activations = NULL;
    cr_assert_eq(l2d_buf_create(&activations, small, size, L2D_MEMORY_DEVICE, "test", &err),
                 L2D_OK);
    cr_expect_eq(l2d_graph_finish(graph, activations, &err), L2D_EUNSUPPORTED);
    cr_expect_neq(strstr(err.msg, "--size"), NULL, "%s", err.msg);
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&activations);
    l2d_buf_destroy(&buf);
    l2d_gpu_destroy(&small);
}

// A declared buffer has no memory until it is taken; the gpu knows how much all have.
Test(graph, buffers_declared_first)
{
    struct l2d_buf *buf = NULL, *too_large = NULL;
    struct l2d_gpu_taken before = l2d_gpu_taken(gpu);
    cr_assert_eq(l2d_buf_declare(&buf, gpu, 1000, L2D_MEMORY_UPLOAD, "x", &err), L2D_OK);
    cr_expect(buf->size_bytes == 1024 && !buf->mapped);
    cr_expect_eq(l2d_gpu_taken(gpu).now_bytes, before.now_bytes);
    cr_assert_eq(l2d_buf_take(buf, &err), L2D_OK, "%s", err.msg);
    cr_expect_not_null(buf->mapped);
    cr_expect_geq(l2d_gpu_taken(gpu).now_bytes, before.now_bytes + 1024);
    cr_expect_geq(l2d_gpu_taken(gpu).peak_bytes, l2d_gpu_taken(gpu).now_bytes);
    cr_assert_eq(l2d_buf_declare(&too_large, gpu, UINT64_C(1) << 46, L2D_MEMORY_DEVICE, "giant",
                                 &err), L2D_OK);
    cr_expect(l2d_buf_take(too_large, &err) != L2D_OK);
    l2d_buf_destroy(&too_large);
    l2d_buf_destroy(&buf);
    cr_expect_eq(l2d_gpu_taken(gpu).now_bytes, before.now_bytes);
}

// A graph may run several times in one submission; each sees what came before. Times per stage.
Test(graph, submissions_run_in_order_and_are_timed)
{
    static uint32_t in[N], out[N];
    struct l2d_buf *a = new_buf(N), *b = new_buf(N), *none;
    struct l2d_graph *forth = new_graph(), *back = new_graph();
    l2d_graph_copy(forth, words(b, 1, N - 1), words(a, 0, N - 1));      // shift by one
    l2d_graph_copy(back, words(a, 0, N), words(b, 0, N));
    finish(forth, &none);
    finish(back, &none);
    fill(in, 3);
    l2d_buf_write(a, 0, in, sizeof(in), &err);
    l2d_buf_fill(b, 0, sizeof(in), 0, &err);
    struct l2d_submit items[] = { { forth, 2 }, { back, 2 }, { forth, 3 }, { back, 3 } };
    for (int i = 0; i < 5; i++) {                           // more than there are tickets
        uint64_t ticket;
        double ms[L2D_MAX_STAGES];
        cr_assert_eq(l2d_gpu_submit(gpu, items, 4, &ticket, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_gpu_wait(gpu, ticket, &err), L2D_OK, "%s", err.msg);
        if (l2d_gpu_stage_ms(gpu, ticket, ms)) {
            cr_expect_eq(ms[0], 0);
            cr_expect_geq(ms[2], 0);
            cr_expect_geq(ms[3], 0);
        }
    }
    l2d_buf_read(a, 0, out, sizeof(out), &err);
    for (uint32_t i = 0; i < N; i++)                        // ten shifts, zeros from the left
        cr_assert_eq(out[i], i < 10 ? 0 : in[i - 10], "word %u", i);
    l2d_graph_destroy(&forth);
    l2d_graph_destroy(&back);
    l2d_buf_destroy(&a);
    l2d_buf_destroy(&b);
}

// Main: a -> b. Then ahead: c -> a, and main: a -> d.  *b, *d: what is there in the end.
static void run_lanes(bool beside, uint32_t *b, uint32_t *d)
{
    static const uint32_t in[2][N] = { { 1 }, { 2 } };
    struct l2d_buf *buf[4], *none;
    struct l2d_graph *graph[3];
    static const int copy[3][2] = { { 1, 0 }, { 0, 2 }, { 3, 0 } };
    uint64_t first, second;
    for (int i = 0; i < 4; i++)
        buf[i] = new_buf(N);
    l2d_buf_write(buf[0], 0, in[0], sizeof(in[0]), &err);
    l2d_buf_write(buf[2], 0, in[1], sizeof(in[1]), &err);
    for (int i = 0; i < 3; i++) {
        graph[i] = new_graph();
        l2d_graph_copy(graph[i], words(buf[copy[i][0]], 0, N), words(buf[copy[i][1]], 0, N));
        l2d_graph_set_lane(graph[i], i == 1 ? L2D_LANE_AHEAD : L2D_LANE_MAIN);
        finish(graph[i], &none);
    }
    struct l2d_submit items[] = { { graph[1], 1 }, { graph[2], 2 } };
    double ms[L2D_MAX_STAGES];
    cr_assert_eq(l2d_gpu_submit(gpu, &(struct l2d_submit) { graph[0], 0 }, 1, &first, &err),
                 L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_gpu_submit_after(gpu, items, 2, beside ? first - 1 : first, &second, &err),
                 L2D_OK, "%s", err.msg);
    cr_assert_eq(second, first + 1);
    cr_assert_eq(l2d_gpu_wait(gpu, second, &err), L2D_OK, "%s", err.msg);
    cr_assert(l2d_gpu_stage_ms(gpu, second, ms));
    l2d_buf_read(buf[1], 0, b, 4, &err);
    l2d_buf_read(buf[3], 0, d, 4, &err);
    for (int i = 0; i < 3; i++)
        l2d_graph_destroy(&graph[i]);
    for (int i = 0; i < 4; i++)
        l2d_buf_destroy(&buf[i]);
}

// What may run beside the submission before runs before it in swapped lanes, and else after it; the
// rest of a submission comes after what is ahead in all of them.
Test(lanes, run_beside_each_other)
{
    for (int lanes = L2D_LANES_AUTO; lanes <= L2D_LANES_SWAPPED; lanes++) {
        open_lanes((enum l2d_lanes) lanes);
        for (int i = 0; i < 4; i++) {
            bool beside = i % 2, racing = beside && l2d_gpu_caps(gpu)->num_lanes > 1;
            uint32_t b = 0, d = 0;
            run_lanes(beside, &b, &d);
            cr_expect_eq(d, 2, "lanes %d", lanes);
            if (!racing || lanes == L2D_LANES_SWAPPED)
                cr_expect_eq(b, racing ? 2 : 1, "lanes %d, round %d", lanes, i);
        }
        if (lanes < L2D_LANES_SWAPPED)
            close_gpu();
    }
}

// Words of a graph's own begin as zeros and stay from run to run, apart from each other and from
// what is planned.
Test(graph, zeros_stay)
{
    static uint32_t in[N], out[3 * N];
    struct l2d_buf *a = new_buf(N), *b = new_buf(3 * N), *none;
    struct l2d_graph *g = new_graph();
    struct l2d_tensor zeros[2] = { l2d_graph_alloc_zeros(g, N), l2d_graph_alloc_zeros(g, 7) };
    struct l2d_tensor through = l2d_graph_alloc(g, L2D_U32, 1, 1, 1, N);
    l2d_graph_copy(g, through, zeros[0]);
    l2d_graph_copy(g, words(b, 0, N), through);
    l2d_graph_copy(g, words(b, N, 7), zeros[1]);
    l2d_graph_copy(g, zeros[0], words(a, 0, N));
    cr_assert_geq(l2d_graph_own_bytes(g), 4 * (N + 7));
    finish(g, &none);
    fill(in, 9);
    l2d_buf_write(a, 0, in, sizeof(in), &err);
    for (int run = 0; run < 2; run++) {
        cr_assert_eq(l2d_graph_run(g, &err), L2D_OK, "%s", err.msg);
        l2d_buf_read(b, 0, out, sizeof(out), &err);
        for (uint32_t i = 0; i < N + 7; i++)
            cr_assert_eq(out[i], run && i < N ? in[i] : 0, "run %d, word %u", run, i);
    }
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&none);
    l2d_buf_destroy(&a);
    l2d_buf_destroy(&b);
}

Test(graph, buffer_that_is_too_large_is_refused)
{
    struct l2d_buf *buf = NULL;
    int rc = l2d_buf_create(&buf, gpu, UINT64_C(1) << 46, L2D_MEMORY_DEVICE, "giant", &err);
    cr_expect(rc == L2D_EGPUMEM || rc == L2D_ENOMEM, "%d", rc);
    cr_expect_null(buf);
    cr_expect_neq(strstr(err.msg, "giant"), NULL, "%s", err.msg);
}
