// SPDX-License-Identifier: Apache-2.0
// Private to the engine: its buffers and graphs, and the block of per-frame values that travels to
// the GPU with every submission.
#ifndef L2D_PIPELINE_ENGINE_STATE_H
#define L2D_PIPELINE_ENGINE_STATE_H

#include "gpu/buffer.h"
#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/submit.h"
#include "kernels/color.h"
#include "kernels/kernels.h"
#include "pipeline/engine.h"
#include "pipeline/models/model.h"
#include "pipeline/scheduler.h"
#include "pipeline/similar.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define L2D_ENGINE_SLOTS 2          // frames in flight between host and GPU
#define L2D_TIMES 32                // frames whose time and place are kept: more than in flight
#define L2D_ENGINE_MAX_BUFFERS (2 * L2D_UNET_MAX_ATTENTIONS + 32)
#define L2D_ENGINE_MAX_GRAPHS 32

// Per-frame values. One block is uploaded with each submission; views of it are 256-byte aligned.
struct l2d_frame_block {
    _Alignas(256) struct l2d_color_in_params color_in;
    _Alignas(256) struct l2d_color_out_params color_out;
    _Alignas(256) struct l2d_row_params encode;         // of the frame that comes in
    _Alignas(256) struct l2d_row_params decode;         // of the frame that goes out
    _Alignas(256) struct l2d_row_params set[L2D_MAX_STEPS][L2D_MAX_ROWS];   // of each UNet call
};

struct l2d_frame_time {
    int64_t pts, duration;
    int32_t time_base_num, time_base_den;
};

struct l2d_engine_slot {
    struct l2d_buf *pixels, *params, *readback;
    struct l2d_graph *upload_pixels, *upload_params, *download;
    bool busy, has_output;
    bool is_part;                   // of a frame: its times count with the next submission's
    uint32_t frame;                 // the one that comes out
    uint64_t ticket;
};

struct l2d_engine {
    struct l2d_gpu *gpu;
    struct l2d_log log;
    struct l2d_engine_info info;
    struct l2d_engine_stats stats;
    struct l2d_error failed;        // the first error of push; sticks

    // --- what was asked for
    bool passthrough, sequential, shared_noise;
    enum l2d_prompt_syntax prompt_syntax;
    enum l2d_guidance_mode guidance_mode;
    double guidance, guidance_delta;
    enum l2d_fit fit;
    uint64_t seed;
    void (*emit)(void *user, struct l2d_frame *frame);
    l2d_probe_fn *probe;
    void *user;

    // --- numbers
    struct l2d_geometry geometry;
    struct l2d_schedule schedule;
    int t_index[L2D_MAX_STEPS], num_inference_steps;    // what the schedule was made from
    struct l2d_frame *output;       // a frame like those that come out: size, format, strides
    enum l2d_dtype precision;

    // --- the model and what the stream adds to it
    struct l2d_model *model;
    bool borrowed_model;            // it is another engine's
    struct l2d_unet_state state;
    struct l2d_buf *step_bias, *text_kv, *positions, *text_in, *context;
    struct l2d_buf *cache[L2D_UNET_MAX_ATTENTIONS];
    struct l2d_buf *latents, *cond;             // rings
    struct l2d_buf *depth_maps, *depth_range;   // a ring; the range that maps to [-1,1]
    struct l2d_buf *origins;                    // a ring for guidance, or NULL

    // --- the negative prompt's, where the guidance mode has one: keys and values of its own
    struct l2d_unet_state negative;
    struct l2d_buf *negative_text_kv, *negative_cache[L2D_UNET_MAX_ATTENTIONS];
    struct l2d_buf *pixels, *params, *rows, *canvas, *out_pixels, *activations;
    uint64_t input_bytes;           // of the stored picture; the size of pixels

    // --- the similar-frame filter, if it is on
    bool filter;
    struct l2d_similar similar;
    struct l2d_buf *last_canvas, *sums, *sums_back;
    struct l2d_graph *compare, *keep;           // canvas with last_canvas; canvas -> last_canvas
    struct l2d_frame *last_out;                 // picture of shown, the last frame that came out
    int64_t shown;
    struct l2d_frame_time repeat[L2D_TIMES][L2D_MAX_SKIPS];     // of those skipped after a frame
    uint32_t num_repeats[L2D_TIMES];

    // --- graphs
    struct l2d_graph *color_in, *encode, *warm, *stream, *decode;
    struct l2d_graph *text;         // text_in -> context, which the host reads, weighs and writes
    struct l2d_graph *prompt_keys;  // context -> state.text_kv
    struct l2d_graph *negative_keys;            // context -> negative.text_kv
    struct l2d_graph *warm_first, *stream_first;        // for step 0, if they are others there
    struct l2d_graph *select[L2D_MAX_STEPS];    // block->set[k] -> rows
    // Depth, whose map encode makes: its range, that of all maps in the ring, and what follows.
    struct l2d_graph *map_range, *ring_range, *structure;
    struct l2d_engine_slot slot[L2D_ENGINE_SLOTS];

    // --- the stream
    uint32_t frames;                // pushed so far; the number of the next
    uint32_t next_slot;
    bool warm_done, finished;
    struct l2d_frame_time time[L2D_TIMES];
    struct l2d_color_out_fit place[L2D_TIMES];
};

/**
 * The half of creation that takes no GPU memory: everything is declared, built, planned and counted
 * in info.
 * model    borrowed; NULL: params->model is opened
 */
int l2d_engine_prepare(struct l2d_engine **out, struct l2d_gpu *gpu,
                       const struct l2d_engine_params *params, struct l2d_model *model,
                       struct l2d_error *err);

/** Where all its buffers and graphs are kept; some are NULL. returns how many. */
uint32_t l2d_engine_buffers(struct l2d_engine *engine, struct l2d_buf **list[]);
uint32_t l2d_engine_graphs(struct l2d_engine *engine, struct l2d_graph **list[]);

/** Fill info.memory, the one place where it is counted, from what has been declared. */
void l2d_engine_count_memory(struct l2d_engine *engine);

/**
 * Compare what has been counted with what the device has.
 * params   those of the engine
 * returns  L2D_OK, or L2D_EGPUMEM and a line with the figures and the first change that fits
 */
int l2d_engine_check_memory(const struct l2d_engine *engine,
                            const struct l2d_engine_params *params, struct l2d_error *err);

/** An empty graph that keeps activations if there is a probe; one that copies. */
int l2d_engine_new_graph(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err);
int l2d_engine_copy_graph(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                          struct l2d_tensor dst, struct l2d_tensor src, struct l2d_error *err);

/** The picture that the network works on: f32 [1,H,W,4]. */
struct l2d_tensor l2d_engine_canvas(const struct l2d_engine *engine);

/** What the similar-frame filter needs: the last picture, and sums on their way to the host. */
int l2d_engine_declare_filter(struct l2d_engine *engine, double threshold, struct l2d_error *err);

/** A frame after the warm-up, with the filter on. */
int l2d_engine_push_filtered(struct l2d_engine *engine, const struct l2d_frame *frame,
                             struct l2d_error *err);

/** Steps that are computed for the negative prompt too. */
int32_t l2d_engine_negative_steps(const struct l2d_engine *engine);

/** Buffers and graphs that depend on the stored size of input pictures; waits for the GPU. */
int l2d_engine_resize_input(struct l2d_engine *engine, uint64_t size_bytes, struct l2d_error *err);

/** The text tower's result, one text's: T [1,1,tokens,hidden]. */
struct l2d_tensor l2d_engine_context(const struct l2d_engine *engine);

/** f32 values to or from the GPU; waits for it. A buffer has the engine's precision. */
int l2d_engine_write(struct l2d_engine *engine, struct l2d_buf *buf, const float *value,
                     size_t count, struct l2d_error *err);
int l2d_engine_read(const struct l2d_tensor *tensor, float *out, struct l2d_error *err);

/** Hand on the probes of the text's graph, which has no frame: frame UINT32_MAX, step -1. */
int l2d_engine_emit_probes(struct l2d_engine *engine, struct l2d_graph *graph,
                           struct l2d_error *err);

#endif
