// SPDX-License-Identifier: Apache-2.0
// A run of an engine, from its first frame to its last, and what came out. Failures are Criterion
// assertions.
#ifndef L2D_TESTS_ENGINE_RUN_H
#define L2D_TESTS_ENGINE_RUN_H

#include <stdbool.h>
#include <stdint.h>

#include "pipeline/engine.h"

#define RUN_MAX_FRAMES 40

struct run_output {
    struct l2d_frame *frame[RUN_MAX_FRAMES];
    unsigned count;
    struct l2d_engine_stats stats;      // from here on at the end, by run_engine
    struct l2d_engine_info info;
    float *cache;                       // number 0
    uint64_t cache_count;
};

/** For l2d_engine_params.emit; user: a struct run_output. */
void run_take(void *user, struct l2d_frame *frame);

void run_drop(struct run_output *out);

struct run_step {
    unsigned frame;                     // that is pushed next
    struct l2d_change change;
    uint64_t first;                     // frame that can differ, as the engine shall say
};

struct run_plan {
    const struct run_step *step;
    unsigned num_steps, num_frames;
    struct l2d_frame *(*input)(const void *user, unsigned f);
    const void *user;
    uint64_t *first;                    // not NULL: the steps' firsts are not known, and go here
};

/** p's emit and user are set. As many frames come out as went in. */
void run_engine(struct l2d_gpu *gpu, struct l2d_engine_params p, const struct run_plan *plan,
                struct run_output *out);

/** Pictures, bit by bit: one, and those from `from` up to `to`. */
bool run_is_same(const struct run_output *a, unsigned fa, const struct run_output *b, unsigned fb);
void run_check_same(const struct run_output *a, const struct run_output *b, unsigned from,
                    unsigned to, const char *what);
void run_check_differ(const struct run_output *a, const struct run_output *b, unsigned from,
                      unsigned to, const char *what);

/** The caches at the end. */
bool run_is_same_cache(const struct run_output *a, const struct run_output *b);

#endif
