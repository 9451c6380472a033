// SPDX-License-Identifier: Apache-2.0
// Replaying recorded graphs. One timeline semaphore counts submissions; a ticket is its value.
//
// Graphs of the main lane run one after the other. Those of the lane ahead (l2d_graph_set_lane)
// have a queue of their own, if the device has two that compute, and there run beside what the main
// lane still has to do; the main graphs of the same submission wait for them. With one queue there
// is one lane, and all graphs run in the order in which they were submitted.
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
 * Submit finished graphs, each seeing all that came before it in its lane, and the main lane's all
 * that is ahead. Those ahead wait for all earlier submissions.
 * *ticket  to wait for. At most L2D_NUM_TICKETS (12) submissions may be unfinished.
 */
int l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                   uint64_t *ticket, struct l2d_error *err);

/**
 * The same, but graphs ahead wait for the main lane up to a submission only: with what came after
 * it they must share nothing that either of them writes.
 * after    its ticket
 */
int l2d_gpu_submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                         uint64_t after, uint64_t *ticket, struct l2d_error *err);

/** Wait until a submission has finished. returns L2D_OK, or L2D_EGPU for a lost or hung device. */
int l2d_gpu_wait(struct l2d_gpu *gpu, uint64_t ticket, struct l2d_error *err);

/** Wait for at most so long. *done: whether it has finished. returns as l2d_gpu_wait. */
int l2d_gpu_wait_for(struct l2d_gpu *gpu, uint64_t ticket, double seconds, bool *done,
                     struct l2d_error *err);

/**
 * Milliseconds per stage of a finished submission, one of the last twelve; in each lane its own.
 * returns  false if the device has no timestamps
 */
bool l2d_gpu_stage_ms(struct l2d_gpu *gpu, uint64_t ticket, double ms[L2D_MAX_STAGES]);

#endif
