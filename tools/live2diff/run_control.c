// SPDX-License-Identifier: Apache-2.0
// See run_control.h.
#include "run_control.h"

#include <stdlib.h>

#include "control/osc_listener.h"
#include "control/server.h"
#include "report.h"
#include "wallclock.h"

struct run_control {
    struct run_control_params run;
    struct control_frames *frames;
    struct control_server *server;
    struct osc_listener *osc;
    struct run_params *params;
    char input[256];
    double begin_s;
};

// --- the state

static const char *const fit_names[] = { "cover", "contain", "stretch" };

static void fill_state(void *user, struct control_state *state)
{
    struct run_control *c = user;
    const struct l2d_engine_info *info = l2d_stream_info(c->run.params.stream);
    const struct l2d_gpu_caps *caps = l2d_stream_gpu(c->run.params.stream);
    struct l2d_stream_stats stats = l2d_stream_stats(c->run.params.stream);
    state->version = L2D_VERSION;
    state->input = c->input;
    state->model = info->model_name;
    state->device = caps->name;
    state->driver = caps->driver;
    state->precision = info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32";
    state->fit = fit_names[c->run.params.model->fit];
    state->width = info->width;
    state->height = info->height;
    state->num_steps = run_params_num_steps(c->params);
    state->gpu_memory_bytes = info->memory.peak;
    state->peak_rss_bytes = report_peak_rss_bytes();
    state->uptime_s = wallclock_s() - c->begin_s;
    state->frames_in = stats.frames_in;
    state->frames_out = stats.frames_out;
    state->frames_similar = stats.engine.frames_skipped;
    state->drop[state->num_drops++] = (struct state_drop) { "late", stats.frames_dropped };
    state->stage_frames = stats.engine.timed;
    for (int i = 0; i < L2D_NUM_STAGES; i++)
        state->stage[state->num_stages++] = (struct state_stage) {
            l2d_stage_str((enum l2d_stage) i), stats.engine.stage_ms[i],
        };
    run_params_settle(c->params, state);
    c->run.outputs(c->run.user, state);
}

// --- the life of it

int run_control_start(struct run_control **out, const struct run_control_params *params,
                      struct l2d_error *err)
{
    struct run_control *c = calloc(1, sizeof(*c));
    if (!c)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    c->run = *params;
    c->begin_s = wallclock_s();
    state_public_name(c->input, sizeof(c->input), params->input);
    int rc = run_params_create(&c->params, &params->params, err);
    if (rc == L2D_OK)
        rc = control_frames_create(&c->frames, err);
    if (rc == L2D_OK)
        rc = control_server_create(&c->server, &(struct control_server_params) {
            .address = params->address, .token = params->token, .log = params->log,
            .source = { .user = c, .state = fill_state, .params = run_params_table(c->params),
                        .frames = c->frames },
        }, err);
    if (rc == L2D_OK && params->osc) {
        struct param_table table = run_params_table(c->params);
        rc = osc_listener_create(&c->osc, params->osc, c->server, &table, params->token,
                                 params->log, err);
    }
    if (rc != L2D_OK) {
        run_control_stop(&c);
        return rc;
    }
    *out = c;
    return L2D_OK;
}

void run_control_stop(struct run_control **control)
{
    struct run_control *c = *control;
    *control = NULL;
    if (!c)
        return;
    osc_listener_destroy(&c->osc);
    control_server_destroy(&c->server);
    control_frames_destroy(&c->frames);
    run_params_destroy(&c->params);
    free(c);
}

void run_control_follow(struct run_control *c, const struct l2d_change *change)
{
    if (c)
        run_params_follow(c->params, change);
}

void run_control_source(struct run_control *c, struct l2d_frame *frame)
{
    if (c)
        control_frames_source(c->frames, frame);
}

void run_control_result(struct run_control *c, struct l2d_frame *frame)
{
    if (c)
        control_frames_result(c->frames, frame);
}
