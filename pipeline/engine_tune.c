// SPDX-License-Identifier: Apache-2.0
// When kernels are measured: once for each device, driver, model, size and number of steps, before
// the engine takes memory. See engine.h, enum l2d_tuning.
#include "gpu/choices.h"
#include "kernels/tune.h"
#include "pipeline/engine_state.h"

// A start that nobody asked to be slow stays below 10 s with a large model's weights to load, most
// of the measuring being the driver's compiling. What the time is too short for, the smallest part
// of the work, goes by rule, now and later.
#define AUTO_SECONDS 4.0
#define AGAIN_SECONDS 8.0

void l2d_engine_use_tuning(struct l2d_gpu *gpu, const struct l2d_engine_params *p)
{
    bool cpu = l2d_gpu_caps(gpu)->type == L2D_GPU_CPU;
    bool use = p->tuning == L2D_TUNING_AGAIN || (p->tuning == L2D_TUNING_AUTO && !cpu);
    l2d_choices_use(gpu, use);
    if (p->tuning == L2D_TUNING_AGAIN)
        l2d_choices_begin_again(gpu);
    else if (use)
        l2d_choices_load(gpu);
}

static uint32_t most_rows(const struct l2d_engine *e)
{
    return e->sequential ? e->chunk : (uint32_t) e->max_steps;
}

bool l2d_engine_tune(struct l2d_engine *e, const struct l2d_engine_params *p)
{
    bool again = p->tuning == L2D_TUNING_AGAIN;
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(e->gpu);
    bool measures = caps->type != L2D_GPU_CPU && caps->timestamp_ns > 0;
    struct l2d_tune_result found;
    struct l2d_error err = { 0 };
    if (e->passthrough || p->tuning == L2D_TUNING_OFF ||
        (!again && !(measures && l2d_choices_have_file(e->gpu))) ||
        l2d_tune_num_shapes(e->gpu, most_rows(e)) == 0)
        return false;
    // What cannot be kept would be measured again at each start, and each might draw otherwise.
    int rc = again ? L2D_OK : l2d_choices_save(e->gpu, &err);
    if (rc != L2D_OK) {
        l2d_log_print(&e->log, L2D_LOG_WARN, "kernels go by rule: %s", err.msg);
        return false;
    }
    rc = l2d_tune(e->gpu, &(struct l2d_tune_params) {
        .max_rows = most_rows(e), .seconds = again ? AGAIN_SECONDS : AUTO_SECONDS, .log = &e->log,
    }, &found, &err);
    if (rc != L2D_OK)
        l2d_log_print(&e->log, L2D_LOG_WARN, "kernels go by rule: %s", err.msg);
    if (rc == L2D_OK && found.shapes)
        l2d_log_print(&e->log, L2D_LOG_INFO, "kernels: of %u shapes %u measured in %.1f s, %u "
                      "better than by rule", found.shapes, found.measured, found.seconds,
                      found.changed);
    if (found.shapes && l2d_choices_have_file(e->gpu) &&
        l2d_choices_save(e->gpu, &err) != L2D_OK)
        l2d_log_print(&e->log, L2D_LOG_WARN, "measured in vain: %s", err.msg);
    return found.shapes > 0;
}
