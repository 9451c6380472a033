// SPDX-License-Identifier: Apache-2.0
// Private to the engine: its buffers and graphs, and the block of per-frame values that travels to
// the GPU with every submission.
#ifndef L2D_PIPELINE_ENGINE_STATE_H
#define L2D_PIPELINE_ENGINE_STATE_H

#include "base/thread.h"
#include "gpu/buffer.h"
#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/submit.h"
#include "kernels/color.h"
#include "kernels/kernels.h"
#include "pipeline/cut.h"
#include "pipeline/engine.h"
#include "pipeline/models/model.h"
#include "pipeline/scheduler.h"
#include "pipeline/similar.h"

#define COUNT_OF(array) (sizeof(array) / sizeof((array)[0]))
#define L2D_MAX_SLOTS (L2D_MAX_CHUNK + 2)
#define L2D_MAX_RING (2 * L2D_MAX_CHUNK + 2)        // of l2d_ring_frames
#define L2D_TIMES 32                // frames whose time and place are kept: more than in flight
#define L2D_ENGINE_MAX_BUFFERS (2 * L2D_UNET_MAX_ATTENTIONS + 96)
#define L2D_ENGINE_MAX_GRAPHS 180

// Per-frame values. One block is uploaded with each submission, what graphs ahead read by itself;
// views of it are 256-byte aligned.
struct l2d_frame_block {
    _Alignas(256) struct l2d_color_in_params color_in;  // of the frame that comes in: ahead
    _Alignas(256) struct l2d_color_in_params source_in;
    _Alignas(256) struct l2d_row_params encode;
    // Of a chunk's frames: each, and those that the depth network sees together.
    struct { _Alignas(256) struct l2d_row_params row; } each[L2D_MAX_CHUNK];
    struct { _Alignas(256) struct l2d_row_params row[L2D_DPT_MAX_ROWS]; }
        together[(L2D_MAX_CHUNK + L2D_DPT_MAX_ROWS - 1) / L2D_DPT_MAX_ROWS];
    _Alignas(256) struct l2d_steady_params track;
    _Alignas(256) struct l2d_color_out_params color_out;    // of the frame that goes out
    _Alignas(256) struct l2d_row_params decode;
    _Alignas(256) struct l2d_steady_params steady;
    _Alignas(256) struct l2d_row_params set[L2D_MAX_STEPS][L2D_MAX_ROWS];   // of each UNet call
    _Alignas(256) struct l2d_row_params sinks[L2D_MAX_STEPS][L2D_SINKS];    // of a re-warm's
    _Alignas(256) struct l2d_row_params sinks_noise[L2D_SINKS];             // and of its beginning
};

struct l2d_frame_time {
    int64_t pts, duration;
    int32_t time_base_num, time_base_den;
};

// A frame that is not drawn, and waits for the one that it follows.
struct l2d_moved {
    struct l2d_frame_time time;
    struct l2d_color_out_fit place;
    uint32_t sight;
    float mix;
};

// What a frame is drawn with, from its first step to its last.
struct l2d_frame_settings {
    uint64_t seed;
    uint32_t base;                  // the window takes it for frame number - base
    bool shared_noise;
    float steady;                   // what it keeps of the picture before, at most
    float mix;                      // how much of the source is mixed in
};

// A prompt, from its embedding to the keys and values of the cross attentions; engine_text.c.
struct l2d_engine_words {
    const char *what;               // for messages
    int32_t rows;                   // of the keys and values: frames in flight, a row a step
    struct l2d_buf *kv, *sinks_kv;  // sinks_kv: those that a re-warm sees
    struct l2d_tensor *text_kv;     // in the UNet's state; views of kv
    struct l2d_tensor sinks_text_kv[L2D_UNET_MAX_TRANSFORMERS];
    struct l2d_buf *staged[L2D_MAX_SLOTS];
    struct l2d_graph *upload[L2D_MAX_SLOTS];        // staged -> context
    struct l2d_graph *keys, *move, *keep;   // context -> row 0; rows up by 1; row 0 -> sinks_kv
    struct l2d_prompt prompt;
    float *parts;                   // embeddings of its parts, from which `to` is mixed
    float *from, *to, *now;         // embeddings [tokens][width]: of a fade, and of the last frame
    uint32_t fade_frames, faded;    // faded: frames so far
    enum l2d_easing easing;
    bool fading;
    int32_t moves;                  // calls to come before all rows are the same
};

// The frames that the sinks are made of, and how they are warmed anew; engine_sinks.c.
struct l2d_engine_sinks {
    struct l2d_buf *recent;         // a ring: clean latents of the newest frames
    struct l2d_buf *clean, *cond;   // those of the sinks, kept; the structure's maps likewise
    struct l2d_buf *work, *origins; // the latents while they are denoised
    struct l2d_graph *keep_newest, *keep_still[L2D_MAX_RING];
    struct l2d_graph *noise, *warm, *warm_first;
    struct l2d_graph *select[L2D_MAX_STEPS], *select_noise;     // block -> rows
    uint32_t frame[L2D_SINKS], ring[L2D_SINKS];     // which they are, and where they lie
    struct l2d_frame_settings settings;
    uint32_t begun;                 // a re-warm begins with this frame's first step
    bool busy;                      // and has not come to its last step
    uint32_t free_at;               // the first frame with which another can begin
};

// Frames that the rings hold. No more than a chunk have been encoded and not decoded; a frame is
// encoded while the decoding of a chunk more may still be read, each with the frame before it, and
// while the 8 before any of the chunk's frames may still become sinks.
static inline uint32_t l2d_ring_frames(uint32_t chunk)
{
    uint32_t in_flight = 2 * chunk + 2, before_sinks = chunk + L2D_SINKS + 1;
    return in_flight > before_sinks ? in_flight : before_sinks;
}

// Scales of the LoRAs that the model keeps apart; engine_loras.c.
struct l2d_engine_loras {
    float now[L2D_MAX_LORAS], next[L2D_MAX_LORAS];      // next: from the next frame on, if fused
    struct l2d_fused *fused;
    struct l2d_thread thread;       // computes foreseen: result, or rc and error
    float foreseen[L2D_MAX_LORAS];
    struct l2d_fused *result;
    int rc;
    struct l2d_error error;
    atomic_bool done, cancel;
};

enum l2d_rewarm_from { L2D_REWARM_NOTHING, L2D_REWARM_KEPT, L2D_REWARM_STILL, L2D_REWARM_NEWEST };

struct l2d_engine_slot {
    struct l2d_buf *pixels, *params, *readback;
    struct l2d_graph *upload_pixels, *upload_ahead, *upload_params, *download;
    bool busy, has_output;
    bool is_part;                   // of a frame: its times count with the next submission's
    uint32_t frame;                 // the one that comes out, or that it follows
    struct l2d_frame_time time;     // of what comes out
    uint64_t ticket;
};

struct l2d_engine {
    struct l2d_gpu *gpu;
    struct l2d_log log;
    struct l2d_engine_info info;
    struct l2d_engine_stats stats;
    struct l2d_error failed;        // the first error; sticks

    // --- what was asked for
    bool passthrough, sequential;               // sequential: also in chunks
    uint32_t chunk;                             // frames that take their steps together
    enum l2d_prompt_syntax prompt_syntax;
    enum l2d_guidance_mode guidance_mode;
    double guidance, guidance_delta;
    enum l2d_fit fit;
    enum l2d_rewarm rewarm;
    double rewarm_seconds;
    void (*emit)(void *user, struct l2d_frame *frame);
    l2d_probe_fn *probe;
    void *user;

    // --- numbers
    struct l2d_geometry geometry;
    struct l2d_schedule schedule;               // the current one of set
    struct l2d_schedule set[L2D_MAX_STEP_SETS];
    int32_t max_steps;                          // of all sets
    int t_index[L2D_MAX_STEPS], num_inference_steps;    // what set[0] was made from
    uint8_t *step_bias_of[L2D_MAX_STEP_SETS];   // what step_bias holds with each set
    uint32_t num_slots;                         // submissions between host and GPU
    uint32_t ring;                              // frames in the rings; see l2d_ring_frames
    struct l2d_frame *output;       // a frame like those that come out: size, format, strides
    enum l2d_dtype precision, kv_dtype;         // U32: bytes

    // --- the model and what the stream adds to it
    struct l2d_model *model;
    bool borrowed_model;            // it is another engine's
    struct l2d_unet_state state;
    struct l2d_buf *step_bias, *positions, *text_in, *context;
    struct l2d_buf *cache[L2D_UNET_MAX_ATTENTIONS];
    struct l2d_buf *latents, *cond;             // rings
    struct l2d_buf *depth_maps, *depth_range;   // a ring; the range that maps to [-1,1]
    struct l2d_buf *depth_input, *depth_inputs; // what the depth network sees; of a chunk's frames
    struct l2d_buf *origins;                    // a ring for INITIALIZE, or NULL
    struct l2d_engine_words prompt, negative_prompt;
    struct l2d_engine_sinks sinks;
    struct l2d_engine_loras loras;

    // --- the negative prompt's, where the guidance mode has one: keys and values of its own
    struct l2d_unet_state negative;
    struct l2d_buf *negative_cache[L2D_UNET_MAX_ATTENTIONS];
    struct l2d_buf *pixels, *params, *rows, *canvas, *out_pixels;
    struct l2d_buf *activations, *ahead_activations;    // ahead_: if the device has two lanes
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

    // --- steadied pictures
    struct l2d_buf *lumas, *last_picture;       // rings of pyramids; what came out last
    uint32_t sights, sight[L2D_TIMES];      // frames seen so far; each drawn one's number of them
    uint32_t steadied;              // the sight for which last_picture is the one before

    // --- the source mixed in; engine_mix.c
    struct l2d_buf *sources, *mask; // a ring; NULL: there is nothing to mix
    bool masked;
    struct l2d_color_in_params source_params;   // of the frame that came in last

    // --- frames that are not drawn
    uint32_t draw_every, moves_left;        // moves_left: before the next that is drawn
    uint32_t decoded;               // the frame behind the newest that was sent out
    struct l2d_moved moved[L2D_TIMES][L2D_MAX_DRAW_EVERY - 1];
    uint32_t num_moved[L2D_TIMES];

    // --- graphs
    struct l2d_graph *color_in, *source_in;     // pixels -> canvas, sources
    struct l2d_graph *encode, *warm, *decode;
    struct l2d_graph *track, *decode_steady;    // canvas -> lumas; decode, and steady the picture
    struct l2d_graph *move;         // last_picture and lumas -> out_pixels
    struct l2d_graph *stream[L2D_MAX_STEPS];    // number of rows - 1; those that a set needs
    struct l2d_graph *show;         // canvas -> out_pixels, without the model
    struct l2d_graph *text;         // text_in -> context, which the host reads, weighs and writes
    struct l2d_graph *in_chunk;     // rows are the frames of a chunk
    // For step 0, if they are others there.
    struct l2d_graph *warm_first, *stream_first, *in_chunk_first;
    struct l2d_graph *select[L2D_MAX_STEPS];    // block->set[k] -> rows
    // Depth, whose map encode makes: its range, that of all maps in the ring, and what follows.
    struct l2d_graph *map_range, *ring_range, *structure;
    // In chunks encode makes depth_input alone, which depth makes the map of. put keeps it for a
    // frame of the chunk, and depths does all that follows for all of them; or take gives it back.
    struct l2d_graph *depth, *depths, *put_depth[L2D_MAX_CHUNK], *take_depth[L2D_MAX_CHUNK];
    struct l2d_engine_slot slot[L2D_MAX_SLOTS];

    // --- all buffers and graphs above, where they are kept
    struct l2d_buf **buf[L2D_ENGINE_MAX_BUFFERS];
    struct l2d_graph **graph[L2D_ENGINE_MAX_GRAPHS];
    uint32_t num_bufs, num_graphs;

    // --- the stream
    uint32_t frames;                // pushed so far; the number of the next
    uint64_t last_ticket;           // of the last submission
    uint64_t last_whole;            // of the last beside which no frame can be encoded
    uint32_t next_slot;
    bool warm_done, finished;
    bool stuck;                     // the GPU was waited for in vain; it may still run
    uint32_t flight_begin;          // frames before it have gone out
    uint32_t gathered;              // the newest, which have not begun their steps
    uint32_t taken;                 // frames of their chunk before them, which began them alone
    struct l2d_frame_settings now, settings[L2D_TIMES];

    // --- what changes; engine_live.c
    enum l2d_show shown_now, show_next;
    uint32_t step_set_next;
    bool must_draw;                 // the next frame, however alike the last one
    bool stale;                     // the caches are of other steps
    enum l2d_rewarm_from rewarm_from;   // with the next frame for which there is room
    enum l2d_rewarm_from beginning;     // with the present frame
    uint32_t newest_at;             // the frame that one from the newest frames is due with; 0: no
    uint32_t drawn_from;            // since then every frame has been encoded
    double rewarmed_s;              // source time of the last re-warm
    const void *last_pixels;        // of the frame that came out last; NULL: none did
    struct l2d_cut cut;
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

// ---- tuning: engine_tune.c

/** Before graphs are built: whether they use what is known of the device. */
void l2d_engine_use_tuning(struct l2d_gpu *gpu, const struct l2d_engine_params *params);

/**
 * Measure what the engine's graphs asked for and the device does not know, if params want that.
 * returns  true if something was: graphs are then to be built again. What goes wrong is logged.
 */
bool l2d_engine_tune(struct l2d_engine *engine, const struct l2d_engine_params *params);

/** Fill info.memory, the one place where it is counted, from what has been declared. */
void l2d_engine_count_memory(struct l2d_engine *engine);

/**
 * Compare what has been counted with what the device has.
 * params   those of the engine
 * returns  L2D_OK, or L2D_EGPUMEM and a line with the figures and the first change that fits
 */
int l2d_engine_check_memory(const struct l2d_engine *engine,
                            const struct l2d_engine_params *params, struct l2d_error *err);

// ---- what is kept: engine_buffers.c

/**
 * One of the engine's buffers, which is not taken yet; buf, a field of it, may have had another,
 * that is gone. And take one, finite where no frame has written.
 */
int l2d_engine_declare(struct l2d_engine *engine, struct l2d_buf **buf, uint64_t size_bytes,
                       enum l2d_memory memory, const char *name, struct l2d_error *err);
int l2d_engine_take(struct l2d_buf *buf, struct l2d_error *err);

/** The model's state. *positions_bytes: what its positional terms are computed from. */
int l2d_engine_declare_state(struct l2d_engine *engine, uint64_t *positions_bytes,
                             struct l2d_error *err);

/** What pictures come in and go out by. Of unknown size, they are taken for the output's I420. */
int l2d_engine_declare_input(struct l2d_engine *engine, const struct l2d_engine_params *params,
                             struct l2d_error *err);
int l2d_engine_declare_slots(struct l2d_engine *engine, struct l2d_error *err);

/** Put the current set's schedule into effect; nothing may be in flight. */
int l2d_engine_use_steps(struct l2d_engine *engine, uint32_t set, struct l2d_error *err);

/** What is computed from weights: biases of all sets of steps on the host, positional terms. */
int l2d_engine_compute_step_bias(struct l2d_engine *engine, struct l2d_error *err);
int l2d_engine_compute_positions(struct l2d_engine *engine, struct l2d_error *err);

/** Steps that are computed for the negative prompt too. */
int32_t l2d_engine_negative_steps(const struct l2d_engine *engine);

/** Buffers and graphs that depend on the stored size of input pictures; waits for the GPU. */
int l2d_engine_resize_input(struct l2d_engine *engine, uint64_t size_bytes, struct l2d_error *err);

/** f32 values to the GPU, into a buffer of the engine's precision; waits for it. */
int l2d_engine_write(struct l2d_engine *engine, struct l2d_buf *buf, const float *value,
                     size_t count, struct l2d_error *err);

/** The latent's sides at a level of the UNet. */
int32_t l2d_engine_level_h(const struct l2d_engine *engine, int32_t level);
int32_t l2d_engine_level_w(const struct l2d_engine *engine, int32_t level);

// ---- graphs: engine_graphs.c

/** All graphs of frames, from what has been declared. */
int l2d_engine_build_graphs(struct l2d_engine *engine, struct l2d_error *err);

/** Some bytes of a buffer, or all of them, as words; and a field of the block of per-frame
    values. */
struct l2d_tensor l2d_engine_bytes(struct l2d_buf *buf, uint64_t offset, uint64_t size);
static inline struct l2d_tensor l2d_engine_whole(struct l2d_buf *buf)
{
    return l2d_engine_bytes(buf, 0, buf->size_bytes);
}
#define L2D_BLOCK_VIEW(e, field) \
    l2d_engine_bytes((e)->params, offsetof(struct l2d_frame_block, field), \
                     sizeof(((struct l2d_frame_block *) 0)->field))

/** The depth maps of the frames in flight; and what the network sees of a chunk's frames, no rows
    where it sees each frame by itself. */
struct l2d_tensor l2d_engine_depth_maps(const struct l2d_engine *engine);
struct l2d_tensor l2d_engine_depth_inputs(const struct l2d_engine *engine);

/** One of the engine's graphs, a field of it: empty, keeping activations if there is a probe; and
    one that copies. */
int l2d_engine_new_graph(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err);

/** What is done ahead for the frame that comes in: up to its latent and its structure's map. */
int l2d_engine_new_ahead(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err);
int l2d_engine_copy_graph(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                          struct l2d_tensor dst, struct l2d_tensor src, struct l2d_error *err);

/** The picture that the network works on: f32 [1,H,W,4]. */
struct l2d_tensor l2d_engine_canvas(const struct l2d_engine *engine);

/** The call of the UNet that frames are drawn with. */
struct l2d_graph *l2d_engine_stream_call(const struct l2d_engine *engine);

/** A ring of latents; the network's view of a buffer that is one, or L2D_NO_TENSOR. */
struct l2d_tensor l2d_engine_ring(const struct l2d_engine *engine, struct l2d_buf *buf);

/**
 * One call of the denoiser as a graph.
 * num_negative     of the rows, those that are computed for the negative prompt too; the first ones
 * sinks            on the latents, maps and words that are kept for a re-warm
 */
int l2d_engine_build_unet(struct l2d_engine *engine, struct l2d_graph **graph, const char *name,
                          int32_t num_rows, int32_t num_negative, enum l2d_row_order order,
                          bool sinks, struct l2d_error *err);

// ---- similar frames: engine_filter.c

/** What the filter needs: the last picture, and sums on their way to the host. */
int l2d_engine_declare_filter(struct l2d_engine *engine, double threshold, struct l2d_error *err);

/** A frame after the warm-up, with the filter on. */
int l2d_engine_push_filtered(struct l2d_engine *engine, const struct l2d_frame *frame,
                             struct l2d_error *err);

// ---- words: engine_text.c

/** Buffers and graphs of one prompt, whose keys and values become state's text_kv. */
int l2d_words_declare(struct l2d_engine *engine, struct l2d_engine_words *words, const char *what,
                      struct l2d_unet_state *state, int32_t rows, struct l2d_error *err);
int l2d_words_build(struct l2d_engine *engine, struct l2d_engine_words *words,
                    const struct l2d_unet_state *state, struct l2d_error *err);
void l2d_words_finish(struct l2d_engine_words *words);

// ---- steadied pictures: engine_steady.c

/** Share and buffers; the graph that keeps a frame's luminance; and what follows a decoder, or is
    there without one. */
int l2d_engine_declare_steady(struct l2d_engine *engine, const struct l2d_engine_params *params,
                              struct l2d_error *err);
int l2d_engine_build_track(struct l2d_engine *engine, struct l2d_error *err);
struct l2d_tensor l2d_engine_record_steady(struct l2d_engine *engine, struct l2d_graph *graph,
                                           struct l2d_tensor picture);
struct l2d_tensor l2d_engine_record_move(struct l2d_engine *engine, struct l2d_graph *graph);

/** returns  L2D_OK if a picture can keep such a share of the one before */
int l2d_steady_check(double share, struct l2d_error *err);

/** Frames whose luminance, and source, the rings hold; a sight goes to its number modulo that. */
uint32_t l2d_num_sights(const struct l2d_engine *engine);

// ---- the source mixed in: engine_mix.c

/** Share and buffers, if there is anything to mix; the mask, into memory that has been taken. */
int l2d_engine_declare_mix(struct l2d_engine *engine, const struct l2d_engine_params *params,
                           struct l2d_error *err);
int l2d_engine_load_mask(struct l2d_engine *engine, const struct l2d_frame *mask,
                         struct l2d_error *err);

/** returns  L2D_OK if so much of the source can be mixed in */
int l2d_mix_check(double mix, struct l2d_error *err);

// ---- changes: engine_live.c

/** Parameters of it. */
int l2d_engine_set_live(struct l2d_engine *engine, const struct l2d_engine_params *params,
                        struct l2d_error *err);

// ---- LoRAs: engine_loras.c

/** Scales of the beginning. */
int l2d_engine_init_loras(struct l2d_engine *engine, const struct l2d_engine_params *params,
                          struct l2d_error *err);

/** Stop what computes, and free. */
void l2d_engine_forget_loras(struct l2d_engine *engine);

// ---- sinks: engine_sinks.c

int l2d_sinks_declare(struct l2d_engine *engine, struct l2d_error *err);
int l2d_sinks_build(struct l2d_engine *engine, struct l2d_error *err);

// ---- what is read back: engine_submission.c

/** f32 values of a tensor, whatever its type; waits for the GPU. */
int l2d_engine_read(const struct l2d_tensor *tensor, float *out, struct l2d_error *err);

/** Hand on the probes of the text's graph, which has no frame: frame UINT32_MAX, step -1. */
int l2d_engine_emit_probes(struct l2d_engine *engine, struct l2d_graph *graph,
                           struct l2d_error *err);

#endif
