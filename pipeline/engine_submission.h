// SPDX-License-Identifier: Apache-2.0
// Private to the engine: one submission to the GPU, from its parameters and calls to the picture
// that comes back. See engine_state.h.
#ifndef L2D_PIPELINE_ENGINE_SUBMISSION_H
#define L2D_PIPELINE_ENGINE_SUBMISSION_H

#include "pipeline/engine_state.h"

struct l2d_call {                       // of a graph, with what its rows are, for probes
    struct l2d_graph *graph;
    enum l2d_stage stage;
    uint32_t num_rows;
    uint32_t frame[L2D_MAX_ROWS];
    int step[L2D_MAX_ROWS];             // -1: per frame; -2: nobody's row
};

struct l2d_submission {
    struct l2d_engine_slot *slot;
    struct l2d_frame_block *block;      // mapped parameters of the slot
    struct l2d_call call[2 * L2D_MAX_STEPS + 8];
    uint32_t num_calls;
};

/** What a row of a call is: nobody's, or a frame at a step. */
struct l2d_row_params l2d_row_idle(void);
struct l2d_row_params l2d_row_of(const struct l2d_engine *engine, uint32_t frame, int32_t step);

/** Begin with a free slot; what it still held comes out first. */
int l2d_submission_begin(struct l2d_engine *engine, struct l2d_submission *s,
                         struct l2d_error *err);

/** Begin with a new frame: its pixels on the canvas. */
int l2d_submission_begin_frame(struct l2d_engine *engine, struct l2d_submission *s,
                               const struct l2d_frame *frame, struct l2d_error *err);

/** One more call; of what belongs to one frame; of the parameters' way to the GPU. */
struct l2d_call *l2d_submission_add(struct l2d_submission *s, struct l2d_graph *graph,
                                    enum l2d_stage stage);
void l2d_submission_add_frame(struct l2d_submission *s, struct l2d_graph *graph,
                              enum l2d_stage stage, uint32_t frame);
void l2d_submission_add_upload(struct l2d_submission *s);

/** Send it off; with probes, call by call and with their values. */
int l2d_submission_submit(struct l2d_engine *engine, struct l2d_submission *s,
                          struct l2d_error *err);

/** Wait for everything that is on the GPU; it comes out, oldest first. */
int l2d_engine_collect_all(struct l2d_engine *engine, struct l2d_error *err);

/** A picture leaves, with the time of its source. */
int l2d_engine_emit(struct l2d_engine *engine, const void *pixels, const struct l2d_frame_time *t,
                    struct l2d_error *err);
struct l2d_frame_time l2d_frame_time_of(const struct l2d_frame *frame);

/** The frame on the canvas goes through the model: the rest of its submission. */
int l2d_engine_stream_frame(struct l2d_engine *engine, struct l2d_submission *s,
                            struct l2d_error *err);

#endif
