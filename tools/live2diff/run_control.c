// SPDX-License-Identifier: Apache-2.0
// See run_control.h. A parameter is a row in bind() and its two functions.
#include "run_control.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/osc_listener.h"
#include "control/server.h"
#include "report.h"
#include "wallclock.h"

#define MAX_PARAMS 16
#define MAX_PROMPT_BYTES 1023       // what a model's default may have, too

struct run_control {
    struct run_control_params run;
    struct control_frames *frames;
    struct control_server *server;
    struct osc_listener *osc;
    struct param row[MAX_PARAMS];
    size_t num_rows;
    char input[256];
    double begin_s;
    char *prompt, *negative;            // in effect or on their way; the server's lock guards them
};

// --- the parameters

static int copy_text(char **to, const char *text, struct l2d_error *err)
{
    char *copy = strdup(text);
    if (!copy)
        return l2d_error_set(err, L2D_ENOMEM, "out of memory");
    free(*to);
    *to = copy;
    return L2D_OK;
}

// The syntax alone: the words are the model's affair, and it takes any.
static int check_prompt(void *user, const struct param_value *value, struct l2d_error *err)
{
    struct run_control *c = user;
    struct l2d_prompt parsed = { 0 };
    int rc = l2d_prompt_parse(&parsed, "{}", value->text,
                              (enum l2d_prompt_syntax) c->run.model->prompt_syntax, err);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "prompt");
}

static int get_prompt(void *user, struct param_value *value, struct l2d_error *err)
{
    struct run_control *c = user;
    return copy_text(&value->text, c->prompt, err);
}

static int set_prompt(void *user, const struct param_value *value, struct l2d_error *err)
{
    struct run_control *c = user;
    int rc = copy_text(&c->prompt, value->text, err);
    return rc == L2D_OK ? l2d_stream_set_prompt(c->run.stream, value->text, err) : rc;
}

static int get_negative(void *user, struct param_value *value, struct l2d_error *err)
{
    struct run_control *c = user;
    return copy_text(&value->text, c->negative, err);
}

static int set_negative(void *user, const struct param_value *value, struct l2d_error *err)
{
    struct run_control *c = user;
    int rc = copy_text(&c->negative, value->text, err);
    return rc == L2D_OK ? l2d_stream_set_negative(c->run.stream, value->text, err) : rc;
}

static void add(struct run_control *c, struct param row)
{
    row.user = c;
    c->row[c->num_rows++] = row;
}

// What this stream can do, and nothing else.
static int bind_params(struct run_control *c, struct l2d_error *err)
{
    const struct model_options *o = c->run.model;
    enum l2d_guidance_mode guidance = l2d_stream_info(c->run.stream)->guidance_mode;
    static struct l2d_model_config config;          // large, and read once
    char path[4096];
    if (!c->run.model_folder)
        return L2D_OK;
    snprintf(path, sizeof(path), "%s/model.json", c->run.model_folder);
    int rc = o->prompt ? L2D_OK : l2d_model_config_read(&config, path, err);
    if (rc == L2D_OK)
        rc = copy_text(&c->prompt, o->prompt ? o->prompt : config.prompt, err);
    if (rc == L2D_OK)
        rc = copy_text(&c->negative, o->negative ? o->negative : "", err);
    if (rc != L2D_OK)
        return rc;
    add(c, (struct param) {
        .name = "prompt", .kind = PARAM_TEXT, .max = MAX_PROMPT_BYTES,
        .doc = "what the pictures shall look like",
        .check = check_prompt, .get = get_prompt, .set = set_prompt,
    });
    if (guidance == L2D_GUIDANCE_FULL || guidance == L2D_GUIDANCE_INITIALIZE)
        add(c, (struct param) {
            .name = "negative", .kind = PARAM_TEXT, .max = MAX_PROMPT_BYTES,
            .doc = "what they shall not look like",
            .check = check_prompt, .get = get_negative, .set = set_negative,
        });
    return L2D_OK;
}

// --- the state

static const char *const fit_names[] = { "cover", "contain", "stretch" };

static void fill_state(void *user, struct control_state *state)
{
    struct run_control *c = user;
    const struct l2d_engine_info *info = l2d_stream_info(c->run.stream);
    const struct l2d_gpu_caps *caps = l2d_stream_gpu(c->run.stream);
    struct l2d_stream_stats stats = l2d_stream_stats(c->run.stream);
    state->version = L2D_VERSION;
    state->input = c->input;
    state->model = info->model_name;
    state->device = caps->name;
    state->driver = caps->driver;
    state->precision = info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32";
    state->fit = fit_names[c->run.model->fit];
    state->width = info->width;
    state->height = info->height;
    state->num_steps = info->num_steps;
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
    int rc = bind_params(c, err);
    c->run.model_folder = NULL;
    if (rc == L2D_OK)
        rc = control_frames_create(&c->frames, err);
    if (rc == L2D_OK)
        rc = control_server_create(&c->server, &(struct control_server_params) {
            .address = params->address, .token = params->token, .log = params->log,
            .source = { .user = c, .state = fill_state, .params = { c->row, c->num_rows },
                        .frames = c->frames },
        }, err);
    if (rc == L2D_OK && params->osc)
        rc = osc_listener_create(&c->osc, params->osc, c->server, &(struct param_table) {
            c->row, c->num_rows }, params->token, params->log, err);
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
    free(c->prompt);
    free(c->negative);
    free(c);
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
