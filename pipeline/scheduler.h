// SPDX-License-Identifier: Apache-2.0
// The LCM sampler as numbers: which timesteps, and the factors of one step. Numbers in, numbers
// out; the arithmetic on latents is the GPU's.
//     x0     = c_out*(x - pb*p)/pa + c_skip*x         one denoising step; p is what the net says
//     x_next = a'*x0 + b'*noise                       a', b' of the following step
// Sources: Luo et al., "Latent consistency models", 2023; diffusers v0.25, LCMScheduler.
#ifndef L2D_PIPELINE_SCHEDULER_H
#define L2D_PIPELINE_SCHEDULER_H

#include "base/error.h"
#include "pipeline/config.h"

struct l2d_schedule {
    int num_steps;                      // D, 1..L2D_MAX_STEPS
    int timestep[L2D_MAX_STEPS];        // tau, strictly decreasing: the noisiest first
    float a[L2D_MAX_STEPS];             // sqrt(alpha_bar(tau)): the signal's share
    float b[L2D_MAX_STEPS];             // sqrt(1 - alpha_bar(tau)): the noise's
    float pred_a[L2D_MAX_STEPS];        // pa, pb: what the prediction is taken for: with epsilon
    float pred_b[L2D_MAX_STEPS];        // a and b; with v 1/a and b/a, which is x0 = a x - b v
    float c_skip[L2D_MAX_STEPS], c_out[L2D_MAX_STEPS];
};

/**
 * Timesteps and factors. Computed in double, rounded once.
 * config               the noise schedule: beta linear in t. Its own steps are not looked at.
 * t_index, num         indices into the timesteps of num_inference_steps, strictly increasing.
 * returns              L2D_OK, or L2D_EINVAL and what is out of range.
 */
int l2d_schedule_init(struct l2d_schedule *schedule, const struct l2d_scheduler_config *config,
                      const int *t_index, int num, int num_inference_steps, struct l2d_error *err);

/**
 * Read "25,37/50": indices, and of how many inference steps. Without "/50" it is of
 * *num_inference_steps, which is the model's then.
 * t_index, num             out: up to L2D_MAX_STEPS indices.
 * num_inference_steps      in: the model's; out: that of the text, if it has one.
 * returns                  L2D_OK, or L2D_EINVAL; the message shows the valid form, and the
 *                          outputs are as they were.
 */
int l2d_schedule_parse(const char *text, int t_index[L2D_MAX_STEPS], int *num,
                       int *num_inference_steps, struct l2d_error *err);

/** Write what l2d_schedule_parse reads: "25,37/50". */
void l2d_schedule_text(char text[L2D_STEPS_TEXT], const int *t_index, int num,
                       int num_inference_steps);

/** What both and the config ask of indices: 1..L2D_MAX_STEPS of them, increasing, in range. */
int l2d_schedule_check(const int *t_index, int num, int num_inference_steps, struct l2d_error *err);

#endif
