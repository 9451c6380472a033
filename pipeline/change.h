// SPDX-License-Identifier: Apache-2.0
// What can change while a stream runs. A change belongs to a frame: that frame and all after it
// have it from their first step on, while those in flight end as they began. So a batch draws what
// a sequence draws, and the same changes at the same frames give the same video twice.
#ifndef L2D_PIPELINE_CHANGE_H
#define L2D_PIPELINE_CHANGE_H

#include <stdbool.h>
#include <stdint.h>

enum l2d_noise_choice { L2D_NOISE_BY_MODEL, L2D_NOISE_ALL_SHARED, L2D_NOISE_ALL_FRESH };

enum l2d_change_kind {
    L2D_CHANGE_PROMPT,          // text, fade_frames, easing. With the last frame of the fade the
                                // sinks are warmed anew under the new prompt
    L2D_CHANGE_NEGATIVE,        // the same for the negative prompt, where guidance has one
    L2D_CHANGE_BLEND,           // text: "0.7, 0.3", other shares of the prompt's parts; fade_frames
                                // and easing as for a prompt, whose words are not looked at again
    L2D_CHANGE_LORA,            // text: the name of a LoRA that the model keeps apart; lora_scale.
                                // Frames in flight end first; then all is drawn, and the sinks are
                                // warmed anew, with the other weights. See engine.h and stream.h
                                // for how long it takes
    L2D_CHANGE_STEPS,           // step_set: how strong, how fast. The caches are warmed anew from
                                // the newest frames
    L2D_CHANGE_SEED,            // seed
    L2D_CHANGE_NOISE,           // noise
    L2D_CHANGE_SHOW,            // show; a frozen picture waits for the first that has come out
    L2D_CHANGE_STEADY,          // steady, as in struct l2d_engine_params, but 0 is nothing
    L2D_CHANGE_MIX,             // mix, as in struct l2d_engine_params; above 0 if sources are kept
    L2D_CHANGE_REWARM,          // the sinks, from the 8 newest frames
};

enum l2d_easing { L2D_EASE_LINEAR, L2D_EASE_SMOOTH };       // smooth: slow at both ends

// What comes out. The model rests while it is not drawn: a frame costs a conversion or nothing.
enum l2d_show { L2D_SHOW_DRAWN, L2D_SHOW_SOURCE, L2D_SHOW_FROZEN };

struct l2d_change {
    enum l2d_change_kind kind;
    const char *text;           // NULL: ""
    uint32_t fade_frames;       // drawn frames until the text counts fully; 0 and 1: at once
    enum l2d_easing easing;
    float lora_scale;
    uint32_t step_set;          // 0: steps of the parameters; 1..: more_steps
    uint64_t seed;
    enum l2d_noise_choice noise;
    enum l2d_show show;
    float steady, mix;
    bool automatic;             // nobody asked for it; for who listens, see l2d_stream_params
};

#endif
