// SPDX-License-Identifier: Apache-2.0
// Replaying recorded graphs. One timeline semaphore counts submissions; a ticket is its value.
#ifndef L2D_GPU_SUBMIT_H
#define L2D_GPU_SUBMIT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct l2d_gpu;
struct l2d_graph;

#define L2D_MAX_STAGES 16

struct l2d_submit {
    struct l2d_graph *graph;
    uint32_t stage;             // 0..L2D_MAX_STAGES-1: what its time is added to
};

/**
 * Submit finished graphs to run one after the other, each seeing all that came before it.
 * *ticket  to wait for. At most L2D_NUM_TICKETS (4) submissions may be unfinished.
 */
int l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                   uint64_t *ticket, struct l2d_error *err);

/** Wait until a submission has finished. returns L2D_OK, or L2D_EGPU for a lost or hung device. */
int l2d_gpu_wait(struct l2d_gpu *gpu, uint64_t ticket, struct l2d_error *err);

/**
 * Milliseconds per stage of a finished submission, one of the last four.
 * returns  false if the device has no timestamps
 */
bool l2d_gpu_stage_ms(struct l2d_gpu *gpu, uint64_t ticket, double ms[L2D_MAX_STAGES]);

#endif
