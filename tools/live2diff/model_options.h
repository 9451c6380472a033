// SPDX-License-Identifier: Apache-2.0
// The options that run, bench and inspect share: which model, how it runs, and where.
#ifndef L2D_PROGRAM_MODEL_OPTIONS_H
#define L2D_PROGRAM_MODEL_OPTIONS_H

#include "gpu/device.h"
#include "options.h"
#include "pipeline/engine.h"

struct model_options {
    const char *model, *prompt, *steps, *device;
    struct option_size size;
    int fit, schedule, noise, precision, validation;    // enums of engine.h, in their order
    int prompt_syntax;                                  // enum of prompt.h
    uint64_t seed;
};

#define MODEL_AT(type, field) (offsetof(type, model) + offsetof(struct model_options, field))

// Rows for an options struct of the given type with a member `struct model_options model`.
#define MODEL_ROWS(type)                                                                          \
    { 'm', "model", OPTION_TEXT, "FOLDER", NULL,                                                  \
      "model folder; default: $LIVE2DIFF_MODEL, or the one that came along", MODEL_AT(type, model),\
      NULL },                                                                                     \
    { 's', "size", OPTION_SIZE, "WxH", NULL,                                                      \
      "size of the result; default: the model's area in the input's shape", MODEL_AT(type, size), \
      NULL },                                                                                     \
    { 0, "steps", OPTION_STEPS, "I,J/TOTAL", NULL,                                                \
      "denoising steps per frame, 1 to 8 indices; default: the model's", MODEL_AT(type, steps),   \
      NULL },                                                                                     \
    { 0, "schedule", OPTION_CHOICE, "batch|sequential", "batch",                                  \
      "steps of several frames at once, or one frame after the other; the same pictures",         \
      MODEL_AT(type, schedule), NULL },                                                           \
    { 0, "precision", OPTION_CHOICE, "auto|fp16|fp32", "auto", "type of activations",             \
      MODEL_AT(type, precision), NULL },                                                          \
    { 'd', "device", OPTION_TEXT, "I", NULL,                                                      \
      "index or part of the name of a Vulkan device (live2diff devices); default: the best",      \
      MODEL_AT(type, device), NULL },                                                             \
    { 0, "validation", OPTION_FLAG, NULL, NULL, "run with Vulkan's validation layer",             \
      MODEL_AT(type, validation), NULL }

// And of those that work on pictures with a prompt.
#define PICTURE_ROWS(type)                                                                        \
    { 'p', "prompt", OPTION_TEXT, "TEXT", NULL, "what it shall look like; default: the model's",  \
      MODEL_AT(type, prompt), NULL },                                                             \
    { 0, "prompt-syntax", OPTION_CHOICE, "numbers|brackets|plain", "numbers",                     \
      "numbers: (red:1.3) weighs, \"a :0.7 | b :0.3\" blends; brackets: (red), [red] and "         \
      "\"a | b\" too; plain: text is text", MODEL_AT(type, prompt_syntax), NULL },                \
    { 0, "fit", OPTION_CHOICE, "cover|contain|stretch", "cover",                                  \
      "input of another shape: crop it, add bars, or distort it", MODEL_AT(type, fit), NULL },    \
    { 0, "seed", OPTION_COUNT, "N", "0", "of the noise", MODEL_AT(type, seed), NULL },            \
    { 0, "noise", OPTION_CHOICE, "model|shared|fresh", "model",                                   \
      "as the model says, one for all frames, or new for each", MODEL_AT(type, noise), NULL }

/** The part of the engine's parameters that comes from here; path is the model folder or NULL. */
static inline struct l2d_engine_params model_engine_params(const struct model_options *o,
                                                           const char *path)
{
    return (struct l2d_engine_params) {
        .model = path, .prompt = o->prompt, .steps = o->steps,
        .prompt_syntax = (enum l2d_prompt_syntax) o->prompt_syntax,
        .width = o->size.width, .height = o->size.height,
        .fit = (enum l2d_fit) o->fit,
        .batching = (enum l2d_batching) o->schedule,
        .noise = (enum l2d_noise_choice) o->noise,
        .precision = (enum l2d_precision) o->precision,
        .seed = o->seed,
    };
}

#endif
