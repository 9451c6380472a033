// SPDX-License-Identifier: Apache-2.0
// The options that run, bench and inspect share: which model, how it runs, and where.
#ifndef L2D_PROGRAM_MODEL_OPTIONS_H
#define L2D_PROGRAM_MODEL_OPTIONS_H

#include <string.h>

#include "control/params.h"
#include "gpu/device.h"
#include "options.h"
#include "pipeline/engine.h"

enum schedule { SCHEDULE_AUTO, SCHEDULE_BATCH, SCHEDULE_SEQUENTIAL };   // auto: batch, or chunks

struct model_options {
    const char *model, *config, *prompt, *steps, *device;
    struct option_size size;
    // enums of engine.h, in their order
    int schedule;                                       // enum schedule
    int fit, noise, precision, kv_type, weight_type, tuning, validation;
    int chunk;                                          // frames; 0: auto
    int draw_every;                                     // less 1
    int tier, lanes;                                    // enums of device.h
    int prompt_syntax;                                  // enum of prompt.h
    int guidance_mode;
    double guidance, guidance_delta, enlarge;           // 0: not given
    const char *negative, *clip_skip;
    uint64_t seed;
};

#define MODEL_AT(type, field) (offsetof(type, model) + offsetof(struct model_options, field))

// Rows for an options struct of the given type with a member `struct model_options model`.
#define MODEL_ROWS(type)                                                                          \
    { 'm', "model", OPTION_TEXT, "FOLDER", NULL,                                                  \
      "model folder; default: $LIVE2DIFF_MODEL, or the one that came along", MODEL_AT(type, model),\
      NULL },                                                                                     \
    { 0, "config", OPTION_TEXT, "FILE", NULL,                                                     \
      "instead of a model: one of the original Live2Diff's YAML files, which is imported once",   \
      MODEL_AT(type, config), NULL },                                                             \
    { 's', "size", OPTION_SIZE, "WxH", NULL,                                                      \
      "size of what is drawn; default: the model's area in the input's shape",                    \
      MODEL_AT(type, size), NULL },                                                               \
    { 0, "enlarge", OPTION_REAL, "F", NULL,                                                       \
      "make the result F times as large as what is drawn, 1 to 4 [1]", MODEL_AT(type, enlarge),   \
      NULL },                                                                                     \
    { 0, "steps", OPTION_STEPS, "I,J/TOTAL", NULL,                                                \
      "denoising steps per frame, 1 to 8 indices; default: the model's", MODEL_AT(type, steps),   \
      NULL },                                                                                     \
    { 0, "schedule", OPTION_CHOICE, "auto|batch|sequential", "auto",                              \
      "the steps of several frames at once (batch), or one frame after the other; the same "      \
      "pictures; auto: batch, or as --chunk says", MODEL_AT(type, schedule), NULL },              \
    { 0, "chunk", OPTION_CHOICE, "auto|1|2|3|4|5|6|7|8", "auto",                                  \
      "frames that take each step together: more of them a second, up to two chunks later; the "  \
      "same pictures; auto: 8 when a file is drawn into files, else 1",                           \
      MODEL_AT(type, chunk), NULL },                                                              \
    { 0, "draw-every", OPTION_CHOICE, "1|2|3|4", "1",                                             \
      "draw one frame of so many; those behind it are the last picture, moved along with the "    \
      "source", MODEL_AT(type, draw_every), NULL },                                               \
    { 0, "precision", OPTION_CHOICE, "auto|fp16|fp32", "auto", "type of activations",             \
      MODEL_AT(type, precision), NULL },                                                          \
    { 0, "kv-cache", OPTION_CHOICE, "auto|fp16|int8", "auto",                                     \
      "how past frames are remembered; auto: int8, half as large, or fp32 if --precision is",     \
      MODEL_AT(type, kv_type), NULL },                                                            \
    { 0, "weights", OPTION_CHOICE, "auto|int8", "auto",                                           \
      "of the UNet, in GPU memory; auto: as --precision says; int8: half of fp16's memory",       \
      MODEL_AT(type, weight_type), NULL },                                                        \
    { 0, "guidance", OPTION_REAL, "G", NULL,                                                      \
      "how much more the prompt counts, above 1; needs a --guidance-mode",                        \
      MODEL_AT(type, guidance), NULL },                                                           \
    { 0, "guidance-mode", OPTION_CHOICE, "none|full|self|initialize", "none",                     \
      "against what: --negative at every step (twice the work and the cache), the frame itself "  \
      "(free), or --negative at the first step", MODEL_AT(type, guidance_mode), NULL },           \
    { 0, "guidance-delta", OPTION_REAL, "D", NULL,                                                \
      "of self and initialize: less than 1 holds the frame's noise against it less [1]",          \
      MODEL_AT(type, guidance_delta), NULL },                                                     \
    { 'd', "device", OPTION_TEXT, "I", NULL,                                                      \
      "index or part of the name of a Vulkan device (live2diff devices); default: the best",      \
      MODEL_AT(type, device), NULL },                                                             \
    { 0, "tier", OPTION_CHOICE, "auto|0|1|2|3", "auto",                                           \
      "shaders for CPU drivers (0), for any GPU (1), or for matrix units, of one size (2) or of " \
      "any (3); auto: the device's best", MODEL_AT(type, tier), NULL },                           \
    { 0, "queues", OPTION_CHOICE, "auto|1", "auto",                                               \
      "auto: where the device has a second queue it prepares a frame beside the one before",      \
      MODEL_AT(type, lanes), NULL },                                                              \
    { 0, "tune", OPTION_CHOICE, "auto|off|again", "auto",                                         \
      "measure which variants of the kernels are fastest here; auto: once, on GPUs; off: go by "  \
      "rule; again: now, for some seconds", MODEL_AT(type, tuning), NULL },                       \
    { 0, "validation", OPTION_FLAG, NULL, NULL, "run with Vulkan's validation layer",             \
      MODEL_AT(type, validation), NULL }

// And of those that work on pictures with a prompt.
#define PICTURE_ROWS(type)                                                                        \
    { 'p', "prompt", OPTION_TEXT, "TEXT", NULL, "what it shall look like; default: the model's",  \
      MODEL_AT(type, prompt), NULL },                                                             \
    { 0, "prompt-syntax", OPTION_CHOICE, "numbers|brackets|plain", "numbers",                     \
      "numbers: (red:1.3) weighs, \"a :0.7 | b :0.3\" blends; brackets: (red), [red] and "         \
      "\"a | b\" too; plain: text is text", MODEL_AT(type, prompt_syntax), NULL },                \
    { 0, "clip-skip", OPTION_TEXT, "N", NULL,                                                     \
      "leave out the last N layers of the text tower; default: as the model says",                \
      MODEL_AT(type, clip_skip), NULL },                                                          \
    { 0, "negative", OPTION_TEXT, "TEXT", NULL,                                                   \
      "what it shall not look like, for --guidance-mode full and initialize; default: nothing",   \
      MODEL_AT(type, negative), NULL },                                                           \
    { 0, "fit", OPTION_CHOICE, "cover|contain|stretch", "cover",                                  \
      "input of another shape: crop it, add bars, or distort it", MODEL_AT(type, fit), NULL },    \
    { 0, "seed", OPTION_COUNT, "N", "0", "of the noise", MODEL_AT(type, seed), NULL },            \
    { 0, "noise", OPTION_CHOICE, "model|shared|fresh", "model",                                   \
      "as the model says, one for all frames, or new for each", MODEL_AT(type, noise), NULL }

/** Options that contradict each other. returns -1, or EXIT_USAGE after a printed line. */
static inline int model_options_check(const struct command *command, const struct model_options *o)
{
    enum l2d_guidance_mode mode = (enum l2d_guidance_mode) o->guidance_mode;
    bool given = o->guidance > 0 || o->guidance < 0, delta = o->guidance_delta > 0;
    if (o->model && o->config)
        return options_complain(command, "--model and --config: two models, '%s' and '%s'",
                                o->model, o->config);
    if (o->seed > (uint64_t) PARAM_MAX_WHOLE)
        return options_complain(command, "--seed %llu: at most %.0f, which JSON keeps exactly",
                                (unsigned long long) o->seed, PARAM_MAX_WHOLE);
    if (given && !(o->guidance >= 1 && o->guidance <= 100))
        return options_complain(command, "--guidance %g: expected 1 to 100", o->guidance);
    if (delta && o->guidance_delta > 100)
        return options_complain(command, "--guidance-delta %g: expected at most 100",
                                o->guidance_delta);
    if (o->enlarge != 0 && !(o->enlarge >= 1 && o->enlarge <= L2D_MAX_ENLARGE))
        return options_complain(command, "--enlarge %g: expected 1 to %d", o->enlarge,
                                L2D_MAX_ENLARGE);
    if (o->guidance > 1 && mode == L2D_GUIDANCE_NONE)
        return options_complain(command, "--guidance needs a --guidance-mode: full, self or "
                                "initialize");
    if (!given && mode != L2D_GUIDANCE_NONE)
        return options_complain(command, "--guidance-mode needs a --guidance above 1");
    if (o->negative && !l2d_guidance_has_negative(mode))
        return options_complain(command, "--negative needs --guidance-mode full or initialize");
    if (delta && mode != L2D_GUIDANCE_SELF && mode != L2D_GUIDANCE_INITIALIZE)
        return options_complain(command, "--guidance-delta needs --guidance-mode self or "
                                "initialize");
    if (o->chunk > 1 && o->schedule != SCHEDULE_AUTO)
        return options_complain(command, "--chunk %d is a schedule of its own: leave out "
                                "--schedule", o->chunk);
    if (o->clip_skip && (!*o->clip_skip || o->clip_skip[strspn(o->clip_skip, "0123456789")]))
        return options_complain(command, "--clip-skip '%s': expected a whole number, 0 or more",
                                o->clip_skip);
    return -1;
}

/** The device's parameters; log is the program's, or NULL. */
static inline struct l2d_gpu_params model_gpu_params(const struct model_options *o,
                                                     const struct l2d_log *log)
{
    return (struct l2d_gpu_params) {
        .device = o->device, .tier = (enum l2d_tier) o->tier,
        .lanes = (enum l2d_lanes) o->lanes, .validation = o->validation > 0,
        .log = l2d_log_named(log, "gpu"),
    };
}

/** The part of the engine's parameters that comes from here; path is the model folder or NULL. */
static inline struct l2d_engine_params model_engine_params(const struct model_options *o,
                                                           const char *path)
{
    return (struct l2d_engine_params) {
        .model = path, .prompt = o->prompt, .steps = o->steps,
        .guidance_mode = (enum l2d_guidance_mode) o->guidance_mode, .guidance = o->guidance,
        .guidance_delta = o->guidance_delta, .negative = o->negative,
        .clip_skip = o->clip_skip,
        .prompt_syntax = (enum l2d_prompt_syntax) o->prompt_syntax,
        .width = o->size.width, .height = o->size.height,
        .fit = (enum l2d_fit) o->fit, .enlarge = o->enlarge,
        .batching = o->schedule == SCHEDULE_SEQUENTIAL ? L2D_SEQUENTIAL : L2D_BATCH,
        .chunk = (uint32_t) o->chunk, .draw_every = (uint32_t) o->draw_every + 1,
        .noise = (enum l2d_noise_choice) o->noise,
        .precision = (enum l2d_precision) o->precision,
        .kv_type = (enum l2d_kv_type) o->kv_type,
        .weight_type = (enum l2d_weight_type) o->weight_type,
        .tuning = (enum l2d_tuning) o->tuning,
        .seed = o->seed,
    };
}

#endif
