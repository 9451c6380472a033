// SPDX-License-Identifier: Apache-2.0
// See run_control.h.
#include "run_control.h"

#include <stdlib.h>

#include "base/clock.h"
#include "control/osc_listener.h"
#include "control/server.h"
#include "output_request.h"
#include "report.h"

struct run_control {
    struct run_control_params run;
    struct control_server *server;
    struct osc_listener *osc;
    double begin_s;
    // --- of the state, which one thread at a time asks for
    struct run_status status;
    char input[256], input_reason[256], output[RUN_MAX_OUTPUTS][256], reason[RUN_MAX_OUTPUTS][256];
};

// --- the state

static void fill_frames(struct run_control *c, struct control_state *state)
{
    const struct fates *f = &c->status.fates;
    const struct state_drop drops[] = {
        { "late", f->late }, { "overtaken", f->overtaken }, { "backlog", f->backlog },
    };
    state->frames_in = f->in;
    state->frames_out = f->out;
    state->frames_held = f->held;
    state->frames_similar = c->status.similar;
    state->frames_moved = c->status.moved;
    for (size_t i = 0; i < sizeof(drops) / sizeof(drops[0]); i++)
        state->drop[state->num_drops++] = drops[i];
}

static void fill_outputs(struct run_control *c, struct control_state *state)
{
    for (unsigned i = 0; i < c->status.num_outputs; i++) {
        const struct run_status_output *from = &c->status.output[i];
        bool finishing = from->leaving && from->state <= OUTPUT_RETRYING;
        state_public_name(c->output[i], sizeof(c->output[i]), from->name);
        state_public_reason(c->reason[i], sizeof(c->reason[i]), from->reason, from->name);
        state->output[state->num_outputs++] = (struct state_output) {
            .id = from->id, .name = c->output[i], .reason = c->reason[i],
            .state = finishing ? "finishing" : output_state_str(from->state),
            .recording = from->recording,
            .up = from->state == OUTPUT_RUNNING, .frames = from->counts.written,
            .dropped = from->counts.stalled + from->counts.lost, .losses = from->counts.losses,
            .p50 = from->latency.p50, .p95 = from->latency.p95, .p99 = from->latency.p99,
        };
    }
}

static void fill_state(void *user, struct control_state *state)
{
    struct run_control *c = user;
    const struct l2d_engine_info *info = l2d_stream_info(c->run.stream);
    const struct l2d_gpu_caps *caps = l2d_stream_gpu(c->run.stream);
    struct l2d_stream_stats stats = l2d_stream_stats(c->run.stream);
    run_board_read(c->run.board, &c->status);
    outputs_status(c->run.outputs, &c->status);     // with one that was added just now
    state_public_name(c->input, sizeof(c->input), c->status.input);
    state->version = L2D_VERSION;
    state->input = c->input;
    state->source = l2d_source_state_str(c->status.source.state);
    state_public_reason(c->input_reason, sizeof(c->input_reason), c->status.source.reason,
                        c->status.input);
    state->source_reason = c->input_reason;
    state->source_up = c->status.source.state == L2D_SOURCE_RUNNING;
    state->source_losses = c->status.source.losses;
    state->model = info->model_name;
    state->device = caps->name;
    state->driver = caps->driver;
    state->precision = info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32";
    state->fit = c->run.fit;
    state->width = info->width;
    state->height = info->height;
    state->num_steps = run_params_num_steps(c->run.params);
    state->gpu_memory_bytes = info->memory.peak;
    state->peak_rss_bytes = report_peak_rss_bytes();
    state->uptime_s = l2d_clock_s() - c->begin_s;
    fill_frames(c, state);
    fill_outputs(c, state);
    state->stage_frames = stats.engine.timed;
    for (int i = 0; i < L2D_NUM_STAGES; i++)
        state->stage[state->num_stages++] = (struct state_stage) {
            l2d_stage_str((enum l2d_stage) i), stats.engine.stage_ms[i],
        };
    run_params_settle(c->run.params, state);
}

// --- outputs that come and go

static int add_output(void *user, const json_t *what, uint32_t *id, struct l2d_error *err)
{
    struct run_control *c = user;
    struct output_options options;
    int rc = output_request_read(&options, what, err);
    return rc == L2D_OK ? outputs_add(c->run.outputs, &options, OUTPUTS_LATE, id, err) : rc;
}

static int look_at_output(void *user, uint32_t id, bool *opening, struct l2d_error *err)
{
    struct run_control *c = user;
    enum outputs_look look = outputs_look(c->run.outputs, id, err);
    *opening = look == OUTPUTS_OPENING;
    return look == OUTPUTS_REFUSED ? err->code : L2D_OK;
}

static int remove_output(void *user, uint32_t id, struct l2d_error *err)
{
    struct run_control *c = user;
    return outputs_remove(c->run.outputs, id, err);
}

// --- the life of it

int run_control_start(struct run_control **out, const struct run_control_params *params,
                      struct l2d_error *err)
{
    struct run_control *c = calloc(1, sizeof(*c));
    if (!c)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    c->run = *params;
    c->begin_s = l2d_clock_s();
    int rc = control_server_create(&c->server, &(struct control_server_params) {
        .address = params->address, .token = params->token, .log = params->log,
        .source = { .user = c, .state = fill_state, .params = run_params_table(c->run.params),
                    .frames = params->frames,
                    .outputs = { add_output, look_at_output, remove_output } },
    }, err);
    if (rc == L2D_OK && params->osc) {
        struct param_table table = run_params_table(c->run.params);
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
    free(c);
}
