// SPDX-License-Identifier: Apache-2.0
// See engine_run.h.
#include "support/engine_run.h"

#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

void run_take(void *user, struct l2d_frame *frame)
{
    struct run_output *out = user;
    cr_assert(out->count < RUN_MAX_FRAMES);
    out->frame[out->count++] = frame;
}

void run_drop(struct run_output *out)
{
    for (unsigned i = 0; i < out->count; i++)
        l2d_frame_unref(&out->frame[i]);
    free(out->cache);
    *out = (struct run_output) { .count = 0 };
}

static void make_changes(struct l2d_engine *engine, const struct run_plan *plan, unsigned f)
{
    struct l2d_error err = { 0 };
    for (unsigned i = 0; i < plan->num_steps; i++) {
        const struct run_step *step = &plan->step[i];
        uint64_t first = UINT64_MAX;
        if (step->frame != f)
            continue;
        cr_assert_eq(l2d_engine_change(engine, &step->change, &first, &err), L2D_OK, "%s", err.msg);
        if (plan->first)
            plan->first[i] = first;
        else
            cr_assert_eq(first, step->first, "change %u: %d", i, (int) first);
    }
}

void run_engine(struct l2d_gpu *gpu, struct l2d_engine_params p, const struct run_plan *plan,
                struct run_output *out)
{
    struct l2d_engine *engine = NULL;
    struct l2d_error err = { 0 };
    *out = (struct run_output) { .count = 0 };
    p.emit = run_take;
    p.user = out;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < plan->num_frames; f++) {
        make_changes(engine, plan, f);
        struct l2d_frame *frame = plan->input(plan->user, f);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    out->stats = l2d_engine_stats(engine);
    out->info = *l2d_engine_info(engine);
    cr_assert_eq(l2d_engine_read_cache(engine, 0, NULL, &out->cache_count, &err), L2D_OK);
    out->cache = malloc(out->cache_count * sizeof(*out->cache));
    cr_assert_not_null(out->cache);
    cr_assert_eq(l2d_engine_read_cache(engine, 0, out->cache, &out->cache_count, &err), L2D_OK);
    l2d_engine_destroy(&engine);
    cr_assert_eq(out->count, plan->num_frames, "%u of %u frames", out->count, plan->num_frames);
}

bool run_is_same(const struct run_output *a, unsigned fa, const struct run_output *b, unsigned fb)
{
    const struct l2d_frame *x = a->frame[fa], *y = b->frame[fb];
    return x->size_bytes == y->size_bytes && memcmp(x->data, y->data, x->size_bytes) == 0;
}

void run_check_same(const struct run_output *a, const struct run_output *b, unsigned from,
                    unsigned to, const char *what)
{
    cr_assert(a->count >= to && b->count >= to, "%s", what);
    for (unsigned f = from; f < to; f++)
        cr_assert(run_is_same(a, f, b, f), "%s: frame %u differs", what, f);
}

void run_check_differ(const struct run_output *a, const struct run_output *b, unsigned from,
                      unsigned to, const char *what)
{
    cr_assert(a->count >= to && b->count >= to, "%s", what);
    for (unsigned f = from; f < to; f++)
        cr_assert(!run_is_same(a, f, b, f), "%s: frame %u is the same", what, f);
}

bool run_is_same_cache(const struct run_output *a, const struct run_output *b)
{
    return a->cache_count == b->cache_count &&
           memcmp(a->cache, b->cache, a->cache_count * sizeof(*a->cache)) == 0;
}
