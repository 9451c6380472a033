// SPDX-License-Identifier: Apache-2.0
// One stream's model on one GPU: frames in, translated frames out, in order and one for one.
// Loads a model folder, plans memory, records the graphs and replays them; knows about warm-up,
// steps in flight and draining. It has no thread of its own but for weights that LoRAs change:
// stream.h puts it on one.
#ifndef L2D_PIPELINE_ENGINE_H
#define L2D_PIPELINE_ENGINE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"
#include "gpu/graph.h"
#include "pipeline/change.h"
#include "pipeline/config.h"
#include "pipeline/geometry.h"
#include "pipeline/prompt.h"

struct l2d_gpu;
struct l2d_engine;

#define L2D_MAX_STEP_SETS 8
#define L2D_MAX_CHUNK 8
#define L2D_MAX_DRAW_EVERY 4
#define L2D_MAX_ENLARGE 4

enum l2d_batching { L2D_BATCH, L2D_SEQUENTIAL };
// What a step is moved away from: see struct l2d_guide. FULL computes every step a second time for
// the negative prompt and caches its keys and values; INITIALIZE only the first step; SELF nothing:
// it takes the frame itself for what shall not be.
enum l2d_guidance_mode { L2D_GUIDANCE_NONE, L2D_GUIDANCE_FULL, L2D_GUIDANCE_SELF,
                         L2D_GUIDANCE_INITIALIZE };
const char *l2d_guidance_mode_str(enum l2d_guidance_mode mode);

/** Whether there is a negative prompt. */
static inline bool l2d_guidance_has_negative(enum l2d_guidance_mode mode)
{
    return mode == L2D_GUIDANCE_FULL || mode == L2D_GUIDANCE_INITIALIZE;
}

enum l2d_precision { L2D_PRECISION_AUTO, L2D_PRECISION_FP16, L2D_PRECISION_FP32 };
// How keys and values of past frames are kept: in fp16 as the activations are (refused where these
// are fp32), or in bytes with a step for each head of each key and value, which takes half of
// fp16's memory and traffic. AUTO: bytes where activations are fp16, fp32 where they are fp32.
enum l2d_kv_type { L2D_KV_AUTO, L2D_KV_FP16, L2D_KV_INT8 };

// How the UNet's weights are kept: as the activations are, or in bytes with a step for each output
// channel, which takes half of fp16's memory; not on CPU drivers (tier 0).
enum l2d_weight_type { L2D_WEIGHTS_AUTO, L2D_WEIGHTS_INT8 };

// When the caches are warmed anew, so that they are of what is seen: the sinks from the first frame
// of a new scene, then from its first 8, and the window begins again. Nothing is dropped: it costs
// 8 frames' work, a step a frame in a batch.
// auto: after a scene cut, and when the sinks are of another scene than what is seen; see cut.h.
enum l2d_rewarm { L2D_REWARM_AUTO, L2D_REWARM_NEVER };

// Which variants of the kernels run. AUTO: those that are fastest on this device, as measured when
// the model was first opened at this size and number of steps, for some seconds, and kept in the
// cache folder; where nothing can be kept, and on CPU drivers, as OFF. OFF: by rule. AGAIN:
// measured anew, once for a gpu, also on CPU drivers. They may round differently: bit by bit the
// same pictures come from the same variants, in both schedules.
enum l2d_tuning { L2D_TUNING_AUTO, L2D_TUNING_OFF, L2D_TUNING_AGAIN };

// Stages of a frame, for times.
enum l2d_stage { L2D_STAGE_UPLOAD, L2D_STAGE_ENCODE, L2D_STAGE_UNET, L2D_STAGE_DECODE,
                 L2D_STAGE_DOWNLOAD, L2D_NUM_STAGES };
const char *l2d_stage_str(enum l2d_stage stage);

#define L2D_PROBE_SINK 16

// One named activation of one frame. step is the denoising step, or -1 for what is per frame; the
// text's have frame UINT32_MAX. L2D_PROBE_SINK (s + 1) + step is that step of sink s (0..7) in a
// re-warm that begins with the frame.
// data is f32 NHWC [h][w][c] and lives until the callback returns.
typedef void l2d_probe_fn(void *user, uint32_t frame, int step, const char *name, const float *data,
                          int32_t h, int32_t w, int32_t c);

struct l2d_engine_params {          // zero means default
    const char *model;              // folder; NULL: no model, pictures pass through. To plan also a
                                    // model.json alone
    const char *prompt;             // NULL: the model's; see prompt.h
    enum l2d_prompt_syntax prompt_syntax;
    const char *clip_skip;          // "1": text layers left out at the end; NULL: the model's
    const char *steps;              // "25,37/50"; NULL: the model's
    const char *more_steps[L2D_MAX_STEP_SETS - 1];  // what can be changed to, up to the first NULL;
                                    // memory is for the set with most steps
    enum l2d_guidance_mode guidance_mode;
    double guidance;                // 1..100; 1 and less: as with mode NONE
    double guidance_delta;          // of SELF and INITIALIZE: share of the residual noise; 0: 1
    const char *negative;           // of FULL and INITIALIZE, without the template; NULL: ""
    int32_t width, height;          // that is drawn, even; 0: by model and input
    int32_t input_width, input_height;  // upright, in square pixels; to choose a size, and to
                                        // make room for such pictures
    enum l2d_fit fit;
    double enlarge;                 // what comes out is so many times as large as what is drawn,
                                    // up to L2D_MAX_ENLARGE; 0: as large
    enum l2d_batching batching;
    // Frames that follow each other and take their steps together, up to L2D_MAX_CHUNK: more frames
    // a second, in the same pictures, which come out up to two chunks later. They gather until
    // there are so many, or something changes. 0 and 1: as batching says; above, it does not count.
    uint32_t chunk;
    enum l2d_noise_choice noise;
    // Cosine with the last frame above which one may be skipped (similar.h), up to 1; 0: none is.
    // It comes out behind the frame it is like, with that one's picture and its own time. The first
    // 8 frames are never skipped. In a batch what is in flight waits for the next drawn frame.
    double skip_similar;
    // One frame of so many is drawn, up to L2D_MAX_DRAW_EVERY; 0 and 1: all are. Those behind it
    // are what came out last, moved along with the source. The first 8, and those with which
    // something changes, are drawn whosever turn it is. Not with skip_similar.
    uint32_t draw_every;
    // What a picture keeps of the one before it, moved along with the source, where that goes on:
    // up to L2D_STEADY_MOST, against flicker. 0: as the model says; below: nothing.
    double steady;
    // How much of the source is mixed into what comes out, up to 1; and whether that may change
    // from 0, for which sources are kept. A mask, if there is one, is stretched over the output:
    // where it is black the source is seen alone, where it is white as much as mix says.
    double mix;
    bool can_mix;
    const struct l2d_frame *mask;   // borrowed until creation returns
    enum l2d_rewarm rewarm;
    double rewarm_seconds;          // above 0: also so long after the last time, of source time,
                                    // from the 8 newest frames
    enum l2d_precision precision;   // AUTO: fp16 where the device stores it
    enum l2d_kv_type kv_type;
    enum l2d_weight_type weight_type;
    enum l2d_tuning tuning;
    uint64_t seed;
    // Scales of LoRAs that the model keeps apart, up to the first without a name; else its own.
    struct { const char *name; float scale; } lora[L2D_MAX_LORAS];
    bool rgba;                      // output RGBA8 instead of I420
    enum l2d_matrix matrix;         // of I420 output; RGB (0): BT.601 below 720 lines, else BT.709
    bool full_range;                // of I420 output

    // Every output frame, in order, from within push, collect and finish. The callee owns it.
    void (*emit)(void *user, struct l2d_frame *frame);
    l2d_probe_fn *probe;            // NULL: none. Slow: every activation is kept and read back
    void *user;
    struct l2d_log log;
};

// GPU memory, in bytes, by what it is for. What the driver needs for itself comes on top.
struct l2d_engine_memory {
    uint64_t weights;
    uint64_t kv_cache;              // of kv_steps steps, those of the negative prompt among them
    int32_t kv_steps;
    uint64_t activations;           // one block, which all networks use in turn
    uint64_t other;                 // rings of latents, keys of the prompts, pictures
    uint64_t staging;               // on the way between host and GPU
    uint64_t peak;                  // the sum: all of it is taken at creation, and no more later,
                                    // unless an input picture is larger than said
    uint64_t largest_operand;       // what a kernel reads or writes at once
};

struct l2d_engine_info {
    char model_name[65];
    int32_t width, height;          // of the output
    int32_t drawn_width, drawn_height;      // smaller if that is enlarged
    int32_t canvas_width, canvas_height;    // of the network: a multiple of its alignment
    enum l2d_matrix matrix;         // of I420 output
    int32_t num_steps;              // of the current set
    int32_t timestep[L2D_MAX_STEPS];
    uint32_t step_set, num_step_sets;
    int32_t steps_of_set[L2D_MAX_STEP_SETS];
    char set_text[L2D_MAX_STEP_SETS][L2D_STEPS_TEXT];   // "25,37/50"
    enum l2d_precision precision;
    enum l2d_kv_type kv_type;       // FP16 or INT8; AUTO: fp32
    enum l2d_weight_type weight_type;   // AUTO: as the precision
    uint32_t chunk;                 // 1: there are none
    uint32_t draw_every;            // 1: all are drawn
    enum l2d_guidance_mode guidance_mode;       // in effect
    double guidance;
    struct l2d_engine_memory memory;
    uint32_t prompt_tokens;         // of the current prompt; of a blend: of its longest part
    uint32_t prompt_dropped;        // did not fit
    double steady;                  // of the beginning; 0: pictures are not steadied
    double mix;                     // of the beginning
    bool can_mix;                   // sources are kept
    int32_t num_loras;              // that the model keeps apart
    struct l2d_lora_config lora[L2D_MAX_LORAS];     // with the scales of the beginning
    double gflop_encode, gflop_unet, gflop_decode;      // per frame, drawn or not
    uint32_t dispatches_unet;       // of one call of the UNet, in a chunk of all its frames
    bool works_ahead;               // a frame is uploaded and encoded beside the one before
};

/** "fp16", "fp32" or "int8": of the KV cache. */
const char *l2d_engine_kv_str(const struct l2d_engine_info *info);

struct l2d_engine_stats {
    uint64_t frames_in, frames_out;
    uint64_t frames_skipped;        // of these: so like the last one that they repeat its picture
    uint64_t frames_moved;          // not drawn: what came out last, moved along with the source
    uint64_t frames_frozen;         // that repeat a picture because it was asked for
    uint64_t cuts;                  // scene cuts seen
    uint64_t stales;                // times that the sinks were of another scene without a cut
    uint64_t rewarms;               // of the caches, from newer frames
    uint64_t refreshes;             // of the sinks as they are, under another prompt
    uint64_t changes;               // by l2d_engine_change
    uint32_t step_set;              // in effect
    enum l2d_show show;
    uint64_t timed;                 // submissions whose stage times were summed
    double stage_ms[L2D_NUM_STAGES];        // sums
};

/**
 * Everything that creation finds out before it takes GPU memory: the model's files are checked and
 * the graphs are planned, but no weight is read, and no shader built. prompt_tokens stays 0.
 * returns  L2D_OK; L2D_EGPUMEM if it does not fit the device: info is filled all the same, and the
 *          message is what l2d_engine_create would refuse with; or another code.
 */
int l2d_engine_plan(struct l2d_engine_info *info, struct l2d_gpu *gpu,
                    const struct l2d_engine_params *params, struct l2d_error *err);

/**
 * Load and set up everything.
 * returns  L2D_OK or a code; the message says what, where and what to do. L2D_EGPUMEM before any
 *          memory is taken: what is needed, by part, what the device has, and which option makes
 *          it fit.
 * Thread-safety: an engine and its gpu are used by one thread at a time.
 */
int l2d_engine_create(struct l2d_engine **out, struct l2d_gpu *gpu,
                      const struct l2d_engine_params *params, struct l2d_error *err);

/** Accepts NULL. Waits for the GPU; frames in flight are thrown away. */
void l2d_engine_destroy(struct l2d_engine **engine);

/** What it is, and draws with; valid until destroy. What it has done. */
const struct l2d_engine_info *l2d_engine_info(const struct l2d_engine *engine);
struct l2d_engine_stats l2d_engine_stats(const struct l2d_engine *engine);

/**
 * Translate one more frame; the frame stays the caller's. Emits what has become ready. The size and
 * format of frames may change; time and duration are passed on to the output frame. Not after
 * finish.
 * returns  L2D_OK; L2D_EGPU, L2D_EGPUMEM, L2D_ENOMEM, L2D_EUNSUPPORTED. An error stays: then only
 *          destroy.
 */
int l2d_engine_push(struct l2d_engine *engine, const struct l2d_frame *frame,
                    struct l2d_error *err);

/**
 * Emit what the GPU has been given and not yet given back, waiting for it. A push alone leaves the
 * last two frames there, so that the next are uploaded meanwhile; live, the picture counts more:
 * see pace.h. Frames in the ring of steps, and in chunks, stay there.
 * keep     so many of the last submissions are left there
 * returns  as push
 */
int l2d_engine_collect(struct l2d_engine *engine, uint32_t keep, struct l2d_error *err);

/** Wait for at most so long until the GPU has done all that it was given. returns as push. */
int l2d_engine_wait_for(struct l2d_engine *engine, double seconds, bool *done,
                        struct l2d_error *err);

/**
 * No more frames: emit all that are still inside. Every pushed frame has then come out. May be
 * repeated. returns as push.
 */
int l2d_engine_finish(struct l2d_engine *engine, struct l2d_error *err);

/**
 * Change something for the next pushed frame and all after it; see change.h. While the first 8
 * frames gather, a text is changed for all of them, and steps and what is shown from frame 8 on.
 * first    which frame that is, of all that come out, from 0; may be NULL
 * returns  L2D_OK; L2D_EINVAL if the model, the parameters or the syntax do not allow it; or what
 *          the GPU says. After an error all is as it was.
 */
int l2d_engine_change(struct l2d_engine *engine, const struct l2d_change *change, uint64_t *first,
                      struct l2d_error *err);

/**
 * Change the scales of all LoRAs, as L2D_CHANGE_LORA does of one: with the next pushed frame, or
 * while the first 8 gather from frame 8 on. Weights are computed on the host before it returns,
 * which for a large model takes seconds, unless they were foreseen. With that frame those in flight
 * end, and the weights go to the GPU.
 * returns  L2D_OK; L2D_EINVAL: out of range, or too large for fp16; L2D_ENOMEM. After an error all
 *          is as it was.
 */
int l2d_engine_set_loras(struct l2d_engine *engine, const float scale[L2D_MAX_LORAS],
                         uint64_t *first, struct l2d_error *err);

/**
 * Begin to compute weights with these scales, on a thread of its own, for a l2d_engine_set_loras
 * that comes later. What was foreseen before, and not used, is given up.
 */
int l2d_engine_foresee_loras(struct l2d_engine *engine, const float scale[L2D_MAX_LORAS],
                             struct l2d_error *err);
bool l2d_engine_is_foreseeing(const struct l2d_engine *engine);

/** The scales with which the next pushed frame is drawn [L2D_MAX_LORAS]. */
const float *l2d_engine_loras(const struct l2d_engine *engine);

/** Which of them is called so. returns L2D_OK, or L2D_EINVAL. */
int l2d_engine_find_lora(const struct l2d_engine *engine, const char *name, int32_t *index,
                         struct l2d_error *err);

/** Whether it may have that scale. returns L2D_OK, or L2D_EINVAL: out of range. */
int l2d_engine_check_lora(const struct l2d_engine *engine, int32_t index, float scale,
                          struct l2d_error *err);

/** Change the prompt, or the negative one, without a fade. returns as l2d_engine_change; the first
    L2D_OK without a model too. */
int l2d_engine_set_prompt(struct l2d_engine *engine, const char *prompt, struct l2d_error *err);
int l2d_engine_set_negative(struct l2d_engine *engine, const char *prompt, struct l2d_error *err);

/**
 * Read KV cache number index (execution order, then those of the negative prompt) as f32
 * [steps][h*w][16][2][c]; INITIALIZE's negative prompt has one step. out has room for *count
 * values, or is NULL to ask for their number. For tests.
 */
int l2d_engine_read_cache(struct l2d_engine *engine, uint32_t index, float *out, uint64_t *count,
                          struct l2d_error *err);

struct l2d_engine_step {            // a call of the UNet
    int32_t rows;                   // 1 to those of the engine's calls: num_steps in a batch, or 1
    bool motion;                    // with motion modules; else each row on its own
};

/**
 * Time `count` calls of the UNet on full windows, after one that is not counted: ms[count], by the
 * GPU's clock. *gflop is that of one call. For measurements, outside of a stream: what the engine
 * remembers of past frames is overwritten.
 */
int l2d_engine_time_step(struct l2d_engine *engine, const struct l2d_engine_step *step, double *ms,
                         uint32_t count, double *gflop, struct l2d_error *err);

/** Profile one streamed frame by kernel; see gpu/graph.h. At most cap rows in all. L2D_EINVAL
 *  without a model. */
int l2d_engine_profile(struct l2d_engine *engine, struct l2d_profile_row *rows, uint32_t cap,
                       uint32_t *count, struct l2d_error *err);

#endif
