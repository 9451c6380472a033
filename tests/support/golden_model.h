// SPDX-License-Identifier: Apache-2.0
// The models of tests/data as complete folders, their cases and their input pictures. Weights are
// computed from weights.json, see tests/data/README.md. Failures are Criterion assertions.
#ifndef L2D_TESTS_GOLDEN_MODEL_H
#define L2D_TESTS_GOLDEN_MODEL_H

#include <stdbool.h>
#include <stdint.h>

#include "base/frame.h"

#define GOLDEN_MAX_CASES 20

struct golden_change {
    uint32_t frame, fade_frames;
    char prompt[64];
};

struct golden_case {
    char name[16];
    int32_t width, height;
    char prompt[96];
    char steps[64];                     // as --steps takes them
    uint64_t seed;
    bool shared_noise;
    bool predicts_v;                    // whatever the model says
    int guidance_mode;                  // enum l2d_guidance_mode
    double guidance, guidance_delta;
    char negative[64];
    bool kv_int8;
    uint32_t num_frames;
    struct golden_change change;        // of the prompt, if frame is not 0
    uint32_t cut;                       // the frame that another scene begins with, or 0
    char normalize[16];                 // instead of the model's structure.normalize; may be empty
};

struct golden_model {
    char name[16];
    char dir[64];                       // temporary
    struct golden_case cases[GOLDEN_MAX_CASES];
    unsigned num_cases;
};

/** Make the folder of "tiny3", "narrow4" or "narrowd". */
void golden_model_make(struct golden_model *model, const char *name);

/** Remove the folder. */
void golden_model_remove(struct golden_model *model);

const struct golden_case *golden_model_case(const struct golden_model *model, const char *name);

/** Make the folder's model.json say what a case needs. */
void golden_model_set(const struct golden_model *model, const struct golden_case *c);

/** Input frame f as RGBA8; pts is f, in 1/25 s. */
struct l2d_frame *golden_frame(uint32_t f, int32_t width, int32_t height);

/** The same picture darker, in a scene before a cut; or its negative, bright, in the one after. */
void golden_frame_set_scene(struct l2d_frame *frame, bool after);

#endif
