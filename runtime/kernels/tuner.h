// SPDX-License-Identifier: Apache-2.0
// Runs a shape of the table of choices with one choice after another: how long it takes, and
// whether it computes what it should. What to measure, and what to make of it, is tune.h's affair.
#ifndef L2D_KERNELS_TUNER_H
#define L2D_KERNELS_TUNER_H

#include "base/error.h"
#include "kernels/tune_shape.h"

struct l2d_tuner {
    struct l2d_gpu *gpu;
    struct l2d_tune_buffers buffers;
    uint32_t runs;              // of a choice, one after the other
};

/** Take buffers for any of these shapes, with noise in those that are read. returns L2D_OK, or what
 *  the GPU says; l2d_tuner_close gives them back either way. */
int l2d_tuner_open(struct l2d_tuner *t, struct l2d_gpu *gpu, const struct l2d_chosen *shapes,
                   uint32_t count, struct l2d_error *err);
void l2d_tuner_close(struct l2d_tuner *t);

/** The choice's pipelines will be made by l2d_gpu_make_programs. */
int l2d_tuner_declare(struct l2d_tuner *t, const struct l2d_tune_shape *shape,
                      const struct l2d_choice *choice, struct l2d_error *err);

/**
 * Milliseconds of a run: the shorter of two times; what takes far longer than best_ms, if that is
 * not 0, is not run again.
 * returns  L2D_OK; L2D_EUNSUPPORTED or L2D_EINVAL: it cannot be measured; or what the GPU says
 */
int l2d_tuner_time(struct l2d_tuner *t, const struct l2d_tune_shape *shape,
                   const struct l2d_choice *choice, double best_ms, double *ms,
                   struct l2d_error *err);

/**
 * As many runs from now on as have more weights than caches hold, if they are short enough for
 * that: in a frame weights come from memory. As l2d_tuner_time.
 */
int l2d_tuner_find_runs(struct l2d_tuner *t, const struct l2d_tune_shape *shape,
                        const struct l2d_choice *choice, struct l2d_error *err);

/** Run it for so many seconds. */
int l2d_tuner_wake(struct l2d_tuner *t, const struct l2d_tune_shape *shape,
                   const struct l2d_choice *choice, double until_s, struct l2d_error *err);

/**
 * Whether two choices compute the same, but for rounding: drivers may compile one of them wrongly,
 * and be fast with that. As l2d_tuner_time.
 */
int l2d_tuner_compare(struct l2d_tuner *t, const struct l2d_tune_shape *shape,
                      const struct l2d_choice *a, const struct l2d_choice *b, bool *same,
                      struct l2d_error *err);

#endif
