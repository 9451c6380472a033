// SPDX-License-Identifier: Apache-2.0
// LCM timesteps and factors. See scheduler.h.
#include "pipeline/scheduler.h"

#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

// LCM was distilled on 50 of the training timesteps; inference takes some of those.
#define ORIGINAL_STEPS L2D_MAX_INFERENCE_STEPS
#define SIGMA_DATA 0.5
#define TIMESTEP_SCALING 10.0

// Product of 1 - beta(s) for s = 0..t.
static double alpha_bar(const struct l2d_scheduler_config *c, int t)
{
    double product = 1.0;
    for (int s = 0; s <= t; s++) {
        double at = (double) s / (c->num_train_timesteps - 1);
        product *= 1.0 - (c->beta_start + at * (c->beta_end - c->beta_start));
    }
    return product;
}

// The index-th of num_inference_steps timesteps, spread over the original ones, noisiest first.
static int timestep(const struct l2d_scheduler_config *c, int index, int num_inference_steps)
{
    int stride = c->num_train_timesteps / ORIGINAL_STEPS;
    int original = ORIGINAL_STEPS - index * ORIGINAL_STEPS / num_inference_steps;   // 50..1
    return stride * original - 1;
}

int l2d_schedule_check(const int *t_index, int num, int num_inference_steps, struct l2d_error *err)
{
    if (num_inference_steps < 1 || num_inference_steps > ORIGINAL_STEPS)
        return l2d_error_set(err, L2D_EINVAL, "%d inference steps; 1 to %d are possible",
                             num_inference_steps, ORIGINAL_STEPS);
    if (num < 1 || num > L2D_MAX_STEPS)
        return l2d_error_set(err, L2D_EINVAL, "%d steps; 1 to %d are possible", num, L2D_MAX_STEPS);
    for (int i = 0; i < num; i++) {
        if (t_index[i] < 0 || t_index[i] >= num_inference_steps)
            return l2d_error_set(err, L2D_EINVAL, "step %d is not within 0..%d, the indices of %d "
                                 "inference steps", t_index[i], num_inference_steps - 1,
                                 num_inference_steps);
        if (i > 0 && t_index[i] <= t_index[i - 1])
            return l2d_error_set(err, L2D_EINVAL, "step %d does not follow %d: indices must "
                                 "increase, from the noisiest step to the cleanest", t_index[i],
                                 t_index[i - 1]);
    }
    return L2D_OK;
}

int l2d_schedule_init(struct l2d_schedule *schedule, const struct l2d_scheduler_config *config,
                      const int *t_index, int num, int num_inference_steps, struct l2d_error *err)
{
    int rc = l2d_schedule_check(t_index, num, num_inference_steps, err);
    if (rc != L2D_OK)
        return rc;
    *schedule = (struct l2d_schedule) { .num_steps = num };
    for (int k = 0; k < num; k++) {
        int tau = timestep(config, t_index[k], num_inference_steps);
        double ab = alpha_bar(config, tau), u = TIMESTEP_SCALING * tau;
        double var = SIGMA_DATA * SIGMA_DATA;
        schedule->timestep[k] = tau;
        schedule->a[k] = (float) sqrt(ab);
        schedule->b[k] = (float) sqrt(1.0 - ab);
        bool v = config->prediction == L2D_PREDICT_V;
        schedule->pred_a[k] = v ? (float) (1 / sqrt(ab)) : schedule->a[k];
        schedule->pred_b[k] = v ? (float) sqrt((1.0 - ab) / ab) : schedule->b[k];
        schedule->c_skip[k] = (float) (var / (u * u + var));
        schedule->c_out[k] = (float) (u / sqrt(u * u + var));
    }
    return L2D_OK;
}

// A number of one to three digits at *text, which moves behind it. -1: there is none.
static int number(const char **text)
{
    int value = 0, digits = 0;
    for (; isdigit((unsigned char) **text) && digits < 4; digits++)
        value = value * 10 + *(*text)++ - '0';
    return digits >= 1 && digits <= 3 ? value : -1;
}

void l2d_schedule_text(char text[L2D_STEPS_TEXT], const int *t_index, int num,
                       int num_inference_steps)
{
    int len = 0;
    for (int i = 0; i < num; i++)
        len += snprintf(text + len, (size_t) (L2D_STEPS_TEXT - len), "%s%d", i ? "," : "",
                        t_index[i]);
    snprintf(text + len, (size_t) (L2D_STEPS_TEXT - len), "/%d", num_inference_steps);
}

int l2d_schedule_parse(const char *text, int t_index[L2D_MAX_STEPS], int *num,
                       int *num_inference_steps, struct l2d_error *err)
{
    int index[L2D_MAX_STEPS] = { 0 }, n = 0, of = *num_inference_steps, value;
    const char *at = text;
    while ((value = number(&at)) >= 0) {
        if (n < L2D_MAX_STEPS)
            index[n] = value;
        n++;                                    // too many are counted, and refused below
        if (*at != ',')
            break;
        at++;
    }
    if (value >= 0 && *at == '/') {
        at++;
        value = of = number(&at);
    }
    int rc;
    if (value < 0 || *at)
        rc = l2d_error_set(err, L2D_EINVAL, "not a list of steps");
    else
        rc = l2d_schedule_check(index, n, of, err);
    if (rc != L2D_OK)
        return l2d_error_wrap(err, rc, "\"%.64s\" (the form is 25,37/50: 1 to %d increasing "
                              "indices of 50 inference steps)", text, L2D_MAX_STEPS);
    memcpy(t_index, index, (size_t) n * sizeof(*index));
    *num = n;
    *num_inference_steps = of;
    return L2D_OK;
}
