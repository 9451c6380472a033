// SPDX-License-Identifier: Apache-2.0
// live2diff run: a video through the model into files, streams and windows: the options, the parts
// in their order, and what is said at the end. What runs meanwhile is in flow.h and watch.h.
#include <errno.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "commands.h"
#include "flow.h"
#include "model_options.h"
#include "model_path.h"
#include "report.h"
#include "run_control.h"
#include "stamped_name.h"
#include "video_io/camera.h"
#include "video_io/libav.h"
#include "watch.h"

#define MAX_BUFFER_MS 2000

struct run_options {
    const char *input, *input_format, *input_options;
    struct output_options output[RUN_MAX_OUTPUTS];
    unsigned num_outputs;
    struct output_options next;         // what belongs to the next -i or -o
    const char *next_input_options;
    struct model_options model;
    struct option_rate fps;
    uint64_t frames;
    int64_t start_us;
    int audio, overwrite, passthrough, verbose, quiet;
    int realtime, listen, on_loss;      // enum of hold.h
    double wait_s;                      // for the input to be there; 0: not
    const char *json, *dump, *timeline, *record_timeline, *control_at, *control_token, *osc_at;
    const char *folder;                 // of recordings and saved pictures; NULL: the current one
    struct control_address control, osc;
    const char *more_steps[L2D_MAX_STEP_SETS];
    unsigned num_more_steps;
    struct { char name[L2D_LORA_NAME_BYTES]; float scale; } lora[L2D_MAX_LORAS];
    unsigned num_loras;
    double skip_similar, steady, rewarm_seconds;        // steady: see struct l2d_engine_params
    int rewarm;                         // enum l2d_rewarm
    double deadline_ms, buffer_ms;      // 0: none
};

struct run {
    const struct run_options *options;
    struct progress progress;
    struct l2d_log log;
    struct timeline timeline;
    char model_folder[4096];            // "": --passthrough
    const char *more_steps[L2D_MAX_STEP_SETS - 1];     // the timeline's and the options'; borrowed
    struct flow flow;
    struct run_board board;
    struct watch watch;
};

// --- signals: the first one ends the input, the second stops at once

static struct flow_stops stops;

static void on_signal(int number)
{
    atomic_store(&stops.source, true);
    if (atomic_exchange(&stops.input, true)) {
        atomic_store(&stops.now, true);
        signal(number, SIG_DFL);
    }
}

static void catch_signals(void)
{
    struct sigaction action = { .sa_handler = on_signal };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

// --- the options

static const char *take_input(void *options, const char *value)
{
    struct run_options *o = options;
    if (o->input)
        return "there is an input already";
    if (!*value)
        return "expected a file, URL, device or -";
    if (o->next.codec || o->next.codec_options)
        return "--codec and --codec-options belong before an output";
    o->input = value;
    o->input_format = o->next.format;
    o->input_options = o->next_input_options;
    o->next = (struct output_options) { 0 };
    o->next_input_options = NULL;
    return NULL;
}

static const char *take_output(void *options, const char *value)
{
    struct run_options *o = options;
    if (o->num_outputs == RUN_MAX_OUTPUTS)
        return "too many outputs, at most 16";
    if (!*value)
        return "expected a file, URL, -, display or null";
    o->output[o->num_outputs] = o->next;
    o->output[o->num_outputs++].name = value;
    o->next = (struct output_options) { 0 };
    return NULL;
}

static const char *take_more_steps(void *options, const char *value)
{
    struct run_options *o = options;
    if (o->num_more_steps == L2D_MAX_STEP_SETS - 1)
        return "too many, at most 7";
    if (!*value || value[strspn(value, "0123456789,/")])
        return "expected INDEX,INDEX.../TOTAL, such as 25,37/50";
    o->more_steps[o->num_more_steps++] = value;
    return NULL;
}

static const char *take_lora(void *options, const char *value)
{
    struct run_options *o = options;
    const char *equals = strchr(value, '=');
    char *end = NULL;
    double scale = equals ? strtod(equals + 1, &end) : 0;
    size_t len = equals ? (size_t) (equals - value) : 0;
    if (o->num_loras == L2D_MAX_LORAS)
        return "too many, at most 8";
    if (len == 0 || len >= L2D_LORA_NAME_BYTES || end == equals + 1 || *end ||
        !(fabs(scale) <= L2D_MAX_LORA_SCALE))
        return "expected NAME=SCALE, the scale a number of -100 to 100";
    snprintf(o->lora[o->num_loras].name, L2D_LORA_NAME_BYTES, "%.*s", (int) len, value);
    o->lora[o->num_loras++].scale = (float) scale;
    return NULL;
}

// 0 to most.
static bool take_number(double *number, const char *value, double most)
{
    char *end;
    *number = strtod(value, &end);
    return *value && !*end && *number >= 0 && *number <= most;
}

static const char *take_buffer(void *options, const char *value)
{
    struct run_options *o = options;
    return take_number(&o->buffer_ms, value, MAX_BUFFER_MS) ? NULL
         : "expected milliseconds, 0 to 2000";
}

static const char *take_steady(void *options, const char *value)
{
    struct run_options *o = options;
    if (!take_number(&o->steady, value, L2D_STEADY_MOST))
        return "expected 0 to 0.95";
    o->steady = o->steady > 0 ? o->steady : -1;
    return NULL;
}

static const char *take_rewarm(void *options, const char *value)
{
    struct run_options *o = options;
    o->rewarm = strcmp(value, "never") ? L2D_REWARM_AUTO : L2D_REWARM_NEVER;
    if (!strcmp(value, "never") || !strcmp(value, "auto"))
        return NULL;
    return take_number(&o->rewarm_seconds, value, 1e6) && o->rewarm_seconds > 0
         ? NULL : "expected auto, never or a number of seconds above 0";
}

static const char *take_deadline(void *options, const char *value)
{
    struct run_options *o = options;
    return take_number(&o->deadline_ms, value, 1e6) && o->deadline_ms > 0
         ? NULL : "expected milliseconds, above 0";
}

#define AT(field) offsetof(struct run_options, field)
static const struct option_row rows[] = {
    { 'i', "input", OPTION_CALL, "INPUT", NULL, "file, URL, device, or - for standard input", 0,
      take_input },
    { 'o', "output", OPTION_CALL, "OUTPUT", NULL,
      "file (container by extension), URL, - (Y4M), display, or null; may be repeated", 0,
      take_output },
    { 'f', "format", OPTION_TEXT, "FORMAT", NULL,
      "of the next -i or -o: v4l2, lavfi, matroska, ...; default: by content or name",
      AT(next.format), NULL },
    { 'c', "codec", OPTION_TEXT, "ENCODER", NULL, "of the next -o: libx264, ffv1, h264_nvenc, "
      "h264_vaapi, ...; auto: in hardware if there is some; default: H.264 in software, or what "
      "the container wants", AT(next.codec), NULL },
    { 0, "codec-options", OPTION_TEXT, "K=V:K=V", NULL,
      "of the next -o's encoder; default: crf=18:preset=medium", AT(next.codec_options), NULL },
    { 0, "input-options", OPTION_TEXT, "K=V:K=V", NULL,
      "of the next -i's format, such as video_size=640x480:framerate=30", AT(next_input_options),
      NULL },
    { 'y', "overwrite", OPTION_FLAG, NULL, NULL, "replace outputs that exist", AT(overwrite),
      NULL },
    { 'n', "frames", OPTION_COUNT, "N", "0", "stop after N frames; 0: at the end", AT(frames),
      NULL },
    { 't', "start", OPTION_TIME, "TIME", "0", "begin there: seconds or [H:]M:S", AT(start_us),
      NULL },
    { 'r', "fps", OPTION_RATE, "RATE", NULL,
      "constant frame rate; default: timestamps as they are", AT(fps), NULL },
    { 0, "realtime", OPTION_FLAG, NULL, NULL, "read the input at the pace of its timestamps, as if "
      "it were live: what comes too fast for the model is dropped", AT(realtime), NULL },
    { 0, "listen", OPTION_FLAG, NULL, NULL, "wait for a sender at the input's address (rtmp://, "
      "srt://, rtsp://, tcp://) instead of fetching from it", AT(listen), NULL },
    { 0, "wait", OPTION_MAYBE_REAL, "[=86400]", NULL,
      "an address or camera that is not there yet: try again for so many seconds; outputs open "
      "when it is; default: fail", AT(wait_s), NULL },
    { 0, "on-loss", OPTION_CHOICE, "hold|slate|end", "hold", "a live input that is lost: show the "
      "last picture, or bars, and try again until it is back; or end", AT(on_loss), NULL },
    { 0, "audio", OPTION_CHOICE, "copy|none", "copy", "keep the sound or leave it out", AT(audio),
      NULL },
    MODEL_ROWS(struct run_options),
    PICTURE_ROWS(struct run_options),
    { 0, "lora", OPTION_CALL, "NAME=SCALE", NULL,
      "how much a LoRA counts that the model keeps apart (import --keep-lora); may be repeated; "
      "default: as the model says", 0, take_lora },
    { 0, "more-steps", OPTION_CALL, "I,J/TOTAL", NULL,
      "steps that --control and --deadline may change to; may be repeated", 0, take_more_steps },
    { 0, "deadline", OPTION_CALL, "MS", NULL,
      "live: if frames take longer than MS through the model, or are dropped, draw them with fewer "
      "steps, of those of --more-steps; with more again when there is time", 0, take_deadline },
    { 0, "buffer", OPTION_CALL, "MS", NULL,
      "live: let every frame wait until it is MS old, so that what a network delivers in bursts is "
      "drawn evenly and not dropped; 0 to 2000; default: 0", 0, take_buffer },
    { 0, "rewarm", OPTION_CALL, "auto|never|S", "auto",
      "after a scene cut, or once the scene has become another without one (auto), and after every "
      "S seconds: let the model forget what was before",
      0, take_rewarm },
    { 0, "steady", OPTION_CALL, "S", NULL,
      "against flicker: how much of the last picture, moved along with the source, is kept where "
      "the source goes on, 0 to 0.95; default: as the model says", 0, take_steady },
    { 0, "timeline", OPTION_TEXT, "FILE", NULL,
      "prompts and other changes by time of the input, a line of JSON each: {\"at\": 2.5, "
      "\"prompt\": \"ink\", \"fade\": 1}", AT(timeline), NULL },
    { 0, "record-timeline", OPTION_TEXT, "FILE", NULL,
      "write what is changed on the way, by --control or keys, as such a file: with it the same "
      "can be drawn again, with other steps or size", AT(record_timeline), NULL },
    { 0, "folder", OPTION_TEXT, "DIR", NULL,
      "where recordings (record=on, R) and saved pictures (S) go; default: the current folder",
      AT(folder), NULL },
    { 0, "passthrough", OPTION_FLAG, NULL, NULL, "no model: only convert, resize and encode",
      AT(passthrough), NULL },
    { 0, "skip-similar", OPTION_MAYBE_REAL, "[=0.98]", NULL,
      "repeat the last picture for frames that are as like it as that, the cosine of their pixels; "
      "by chance, at most 10 in a row; default: draw every frame", AT(skip_similar), NULL },
    { 'j', "json", OPTION_TEXT, "FILE", NULL, "write the summary there too; - is standard output",
      AT(json), NULL },
    { 0, "control", OPTION_TEXT, "[HOST]:PORT", NULL,
      "serve a page and an HTTP interface to watch the run and to change its prompt; other hosts "
      "than this machine need a token", AT(control_at), NULL },
    { 0, "control-token", OPTION_TEXT, "TOKEN", NULL,
      "that --control asks for; default: $LIVE2DIFF_TOKEN", AT(control_token), NULL },
    { 0, "osc", OPTION_TEXT, "[HOST]:PORT", NULL,
      "take the parameters of --control by Open Sound Control too, over UDP", AT(osc_at), NULL },
    { 0, "dump", OPTION_TEXT, "DIR", NULL,
      "write every activation of every frame as safetensors (large, slow)", AT(dump), NULL },
    { 'v', "verbose", OPTION_FLAG, NULL, NULL, "say more; twice: even more", AT(verbose), NULL },
    { 'q', "quiet", OPTION_FLAG, NULL, NULL, "only errors", AT(quiet), NULL },
};

// Why nothing can be written there; NULL: it can.
static const char *folder_fault(const char *folder)
{
    struct stat st;
    if (strlen(folder) >= STAMPED_FOLDER_BYTES)
        return strerror(ENAMETOOLONG);
    if (stat(folder, &st) != 0)
        return strerror(errno);
    if (!S_ISDIR(st.st_mode))
        return strerror(ENOTDIR);
    return access(folder, W_OK | X_OK) != 0 ? strerror(errno) : NULL;
}

static int parse(int argc, char **argv, struct run_options *o)
{
    const struct command *c = &command_run;
    int code = options_parse(c, argc, argv, o, NULL);
    if (code >= 0)
        return code;
    if (!o->input)
        return options_complain(c, "no input: name one with -i");
    if (o->num_outputs == 0)
        return options_complain(c, "no output: name one with -o (a file, -, display or null)");
    if (o->next.format || o->next.codec || o->next.codec_options || o->next_input_options)
        return options_complain(c, "--format, --codec, --codec-options and --input-options belong "
                                "before the -i or -o that they are for");
    code = model_options_check(c, &o->model);
    if (code >= 0)
        return code;
    if (o->passthrough && (o->model.model || o->model.config || o->model.prompt ||
                           o->model.steps || o->num_more_steps || o->dump ||
                           o->model.guidance_mode || o->timeline || o->record_timeline ||
                           o->deadline_ms > 0 || o->num_loras || o->steady != 0))
        return options_complain(c, "--passthrough uses no model: leave out -m, --config, -p, "
                                "--steps, --more-steps, --deadline, --guidance, --lora, "
                                "--steady, --timeline, --record-timeline and --dump");
    if (o->deadline_ms > 0 && o->num_more_steps == 0)
        return options_complain(c, "--deadline needs --more-steps: which steps it may go down to, "
                                "such as 43/50");
    if (o->wait_s > 0 && !l2d_source_may_return(o->input))
        return options_complain(c, "--wait is for addresses (rtmp://, ...) and cameras "
                                "(/dev/video0), not for %s", o->input);
    if (o->skip_similar > 1)
        return options_complain(c, "--skip-similar=%g: expected 0 to 1", o->skip_similar);
    if (o->skip_similar > 0 && (o->passthrough || o->dump))
        return options_complain(c, "--skip-similar goes neither with --passthrough nor with "
                                "--dump");
    const char *fault = o->folder ? folder_fault(o->folder) : NULL;
    if (fault)
        return options_complain(c, "--folder %.80s: %s", o->folder, fault);
    if (o->model.chunk > 1 && (o->dump || o->passthrough))
        return options_complain(c, "--chunk goes neither with --passthrough nor with --dump");
    if (o->frames > INT64_MAX)
        return options_complain(c, "--frames is too large");
    struct l2d_error err = { 0 };
    if (o->control_at && control_address_parse(&o->control, o->control_at, &err) != L2D_OK)
        return options_complain(c, "--control '%s': %s", o->control_at, err.msg);
    if (o->osc_at && control_address_parse(&o->osc, o->osc_at, &err) != L2D_OK)
        return options_complain(c, "--osc '%s': %s", o->osc_at, err.msg);
    if ((o->control_token || o->osc_at) && !o->control_at)
        return options_complain(c, "--control-token and --osc need --control");
    for (unsigned i = 0; i < o->num_outputs; i++)
        if (o->json && !strcmp(o->json, "-") && !strcmp(o->output[i].name, "-"))
            return options_complain(c, "--json - and -o - would both write to standard output");
    return -1;
}

// --- the parts in their order

static int open_timeline(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    if (!o->timeline)
        return L2D_OK;
    int rc = timeline_load(&run->timeline, o->timeline, o->model.steps,
                           (enum l2d_prompt_syntax) o->model.prompt_syntax, err);
    bool negative = o->model.guidance_mode == L2D_GUIDANCE_FULL ||
                    o->model.guidance_mode == L2D_GUIDANCE_INITIALIZE;
    if (rc == L2D_OK && run->timeline.has_negative && !negative)
        return l2d_error_set(err, L2D_EINVAL, "%s: \"negative\" needs --guidance-mode full or "
                             "initialize", o->timeline);
    run->flow.timeline = &run->timeline;
    run->flow.start_us = o->start_us;
    return rc;
}

// The LoRAs that it names, now that the model is there.
static int check_timeline(const struct run *run, struct l2d_error *err)
{
    const struct l2d_engine_info *info = l2d_stream_info(run->flow.stream);
    for (size_t i = 0; i < run->timeline.num_events; i++) {
        const struct l2d_change *c = &run->timeline.event[i].change;
        bool known = c->kind != L2D_CHANGE_LORA;
        for (int l = 0; l < info->num_loras; l++)
            known |= !known && !strcmp(c->text, info->lora[l].name);
        if (!known)
            return l2d_error_set(err, L2D_EINVAL, "%s: lora.%s: the model keeps no LoRA of that "
                                 "name apart; see live2diff inspect", run->options->timeline,
                                 c->text);
    }
    return L2D_OK;
}

// Those of --more-steps behind those that the timeline names.
static int add_more_steps(struct run *run, struct l2d_error *err)
{
    const char **more = run->more_steps;
    for (int i = 0; i < L2D_MAX_STEP_SETS - 1; i++)
        more[i] = run->timeline.more_steps[i];
    for (unsigned i = 0; i < run->options->num_more_steps; i++) {
        size_t n = 0;
        while (n < L2D_MAX_STEP_SETS - 1 && more[n] && strcmp(more[n], run->options->more_steps[i]))
            n++;
        if (n == L2D_MAX_STEP_SETS - 1)
            return l2d_error_set(err, L2D_EINVAL, "--more-steps: with those of --timeline there "
                                 "are more than %d", L2D_MAX_STEP_SETS - 1);
        more[n] = run->options->more_steps[i];
    }
    return L2D_OK;
}

static int open_input(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    int rc = l2d_source_create(&run->flow.source, &(struct l2d_source_params) {
        .reader = {
            .name = o->input, .format = o->input_format, .options = o->input_options,
            .start_us = o->start_us, .max_frames = (int64_t) o->frames, .no_audio = o->audio == 1,
            .listen = o->listen > 0, .stop = &stops.source, .log = &run->log,
        },
        .realtime = o->realtime > 0, .reopen = o->on_loss != ON_LOSS_END, .wait_s = o->wait_s,
    }, err);
    if (rc == L2D_OK)
        run->flow.live = l2d_source_is_live(run->flow.source);
    if (rc == L2D_OK && o->buffer_ms > 0 && !run->flow.live)
        return l2d_error_set(err, L2D_EINVAL, "--buffer: %s is not live, all its frames are drawn "
                             "without", o->input);
    if (rc == L2D_OK && o->model.chunk > 1 && run->flow.live)
        return l2d_error_set(err, L2D_EINVAL, "--chunk %d: %s is live, and its frames would come "
                             "late and by chunks", o->model.chunk, o->input);
    if (rc == L2D_OK && o->deadline_ms > 0 && !run->flow.live)
        return l2d_error_set(err, L2D_EINVAL, "--deadline: %s is not live; --realtime reads it as "
                             "if it were", o->input);
    return rc;
}

// The input's size, upright and in square pixels.
static void upright_size(const struct l2d_reader_info *in, int32_t *width, int32_t *height)
{
    double w = in->width, h = in->height;
    if (in->sar_num > 0 && in->sar_den > 0)
        w = w * in->sar_num / in->sar_den;
    bool turned = in->rotation % 180 != 0;
    *width = (int32_t) ((turned ? h : w) + 0.5);
    *height = (int32_t) ((turned ? w : h) + 0.5);
}

// How many frames go through the model together if nobody says: of a file into files, at once those
// that are fastest; where somebody looks on, each as soon as it is there.
static uint32_t usual_chunk(const struct run *run)
{
    const struct run_options *o = run->options;
    bool seen = run->flow.live || o->control_at || o->dump || o->model.schedule != SCHEDULE_AUTO;
    for (unsigned i = 0; i < o->num_outputs; i++)
        seen = seen || !strcmp(o->output[i].name, "display") || !strcmp(o->output[i].name, "-") ||
               strstr(o->output[i].name, "://") || l2d_camera_is_path(o->output[i].name);
    return seen ? 1 : L2D_MAX_CHUNK;
}

static int open_stream(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    const struct l2d_reader_info *in = l2d_source_info(run->flow.source);
    struct l2d_stream_params params = {
        .engine = model_engine_params(&o->model, o->passthrough ? NULL : run->model_folder),
        .gpu = model_gpu_params(&o->model, &run->log),
        .live = run->flow.live,
        .queue_frames = run->flow.live ? 1 : 0,     // the newest, or the default
        .dump_dir = o->dump,
        .on_change = flow_changed, .on_change_user = &run->flow,
    };
    params.engine.skip_similar = o->skip_similar;
    params.engine.steady = o->steady;
    params.engine.rewarm = (enum l2d_rewarm) o->rewarm;
    params.engine.rewarm_seconds = o->rewarm_seconds;
    memcpy(params.engine.more_steps, run->more_steps, sizeof(params.engine.more_steps));
    for (unsigned i = 0; i < o->num_loras; i++) {
        params.engine.lora[i].name = o->lora[i].name;
        params.engine.lora[i].scale = o->lora[i].scale;
    }
    params.engine.log = l2d_log_named(&run->log, "engine");
    upright_size(in, &params.engine.input_width, &params.engine.input_height);
    bool usual = !o->model.chunk;
    params.engine.chunk = usual ? usual_chunk(run) : (uint32_t) o->model.chunk;
    int rc = l2d_stream_create(&run->flow.stream, &params, err);
    if (rc == L2D_EGPUMEM && usual && params.engine.chunk > 1) {
        params.engine.chunk = 1;
        rc = l2d_stream_create(&run->flow.stream, &params, err);
    }
    if (rc == L2D_OK)
        rc = check_timeline(run, err);
    if (rc == L2D_OK)
        steer_start(&run->flow.steer, run->flow.stream, o->deadline_ms,
                    params.engine.batching == L2D_BATCH);
    return rc;
}

// What can change on the way, and the keys of windows.
static int open_params(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    struct flow *flow = &run->flow;
    int rc = run_params_create(&flow->params, &(struct run_params_setup) {
        .stream = flow->stream, .steer = &flow->steer, .live = flow->live,
        .outputs = &flow->outputs, .folder = o->folder, .model = &o->model,
        .model_folder = o->passthrough ? NULL : run->model_folder,
    }, err);
    bool window = o->control_at != NULL;        // one may be added
    for (unsigned i = 0; i < o->num_outputs; i++)
        window = window || !strcmp(o->output[i].name, "display");
    if (rc == L2D_OK && window)
        rc = control_frames_create(&flow->frames, err);
    return rc != L2D_OK || !window ? rc : keys_create(&flow->keys, &(struct keys_setup) {
        flow->stream, flow->params, &run->board, flow->frames,
        (enum l2d_display_fit) o->model.fit, o->folder, &run->log,
    }, err);
}

static void record_initial(void *user, const struct l2d_change *change)
{
    timeline_record_add(user, change, 0, 1);
}

static int open_record(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    struct flow *flow = &run->flow;
    if (!o->record_timeline)
        return L2D_OK;
    int rc = timeline_record_create(&flow->record, o->record_timeline, o->overwrite > 0,
                                    l2d_stream_info(flow->stream), err);
    if (rc == L2D_OK)
        run_params_initial(flow->params, record_initial, flow->record);
    return rc;
}

static int open_outputs(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    struct flow *flow = &run->flow;
    const struct l2d_reader_info *in = l2d_source_info(flow->source);
    const struct l2d_engine_info *info = l2d_stream_info(flow->stream);
    int rc = L2D_OK;
    outputs_set(&flow->outputs, &(struct l2d_sink_params) {
        .width = info->width, .height = info->height,
        .time_base_num = in->time_base_num, .time_base_den = in->time_base_den,
        .frame_rate_num = in->frame_rate_num, .frame_rate_den = in->frame_rate_den,
        .matrix = info->matrix, .audio = in->has_audio ? &in->audio : NULL,
        .fps_num = o->fps.num, .fps_den = o->fps.den, .live = flow->live,
        .overwrite = o->overwrite > 0, .input = o->input, .unpaced = flow->live,
        .hooks = flow->keys ? keys_hooks(flow->keys) : NULL, .log = &run->log,
    });
    for (unsigned i = 0; rc == L2D_OK && i < o->num_outputs; i++)
        rc = outputs_add(&flow->outputs, &o->output[i], OUTPUTS_FIRST, NULL, err);
    return rc;
}

static int stream_video(struct run *run, struct l2d_error *err)
{
    struct flow *flow = &run->flow;
    hold_init(&flow->hold, (enum on_loss) run->options->on_loss, &flow->ledger,
              1 / flow_input_rate(flow));
    flow->buffer_s = 1e-3 * run->options->buffer_ms;
    int rc = flow_start(flow, err);
    if (rc == L2D_OK)
        watch_until_end(&run->watch);
    // Nobody is left to take frames, or everybody has them all.
    flow_stop(flow);
    if (rc != L2D_OK)
        outputs_abort(&flow->outputs);
    struct l2d_error failed = flow_error(flow);
    if (rc == L2D_OK && failed.code != L2D_OK) {
        *err = failed;
        return err->code;
    }
    return rc;
}

static struct report_output report_output(struct output *out)
{
    return (struct report_output) {
        out->name, output_state_str((enum output_state) atomic_load(&out->state)), out->stats,
        output_counts(out), output_latency(out, false),
    };
}

static int report_run(struct run *run, double setup_s, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    struct flow *flow = &run->flow;
    static struct run_status status;            // large
    watch_status(&run->watch, &status);
    struct report_output outputs[RUN_MAX_OUTPUTS + OUTPUTS_MAX_PAST];
    unsigned num_outputs = 0;
    for (unsigned i = 0; i < flow->outputs.num_members; i++)
        outputs[num_outputs++] = report_output(&flow->outputs.member[i]->output);
    for (unsigned i = 0; i < OUTPUTS_MAX_PAST && flow->outputs.past[i]; i++)
        outputs[num_outputs++] = report_output(&flow->outputs.past[i]->output);
    struct report report = {
        .input = o->input, .info = *l2d_stream_info(flow->stream),
        .caps = *l2d_stream_gpu(flow->stream), .live = status.live, .fates = status.fates,
        .unfair = status.unfair, .reader = l2d_source_stats(flow->source), .source = status.source,
        .interval = flow->interval, .engine = l2d_stream_stats(flow->stream).engine,
        .deadline = steer_stats(&flow->steer),
        .setup_s = setup_s, .media_s = status.media_s, .wall_s = status.wall_s,
        .output = outputs, .num_outputs = num_outputs,
        .interrupted = atomic_load(&stops.input),
    };
    if (!o->quiet)
        report_print(stderr, &report);
    return o->json ? report_write_json(o->json, report_json(&report), err) : L2D_OK;
}

static bool all_failed(const struct outputs *set)
{
    for (unsigned i = 0; i < set->num_members; i++)
        if (atomic_load(&set->member[i]->output.state) != OUTPUT_FAILED)
            return false;
    return true;
}

static int open_control(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    if (!o->control_at)
        return L2D_OK;
    static const char *const fits[] = { "cover", "contain", "stretch" };
    static struct run_status status;            // large; the first that a client sees
    watch_status(&run->watch, &status);
    run_board_publish(&run->board, &status);
    const char *token = o->control_token ? o->control_token : getenv("LIVE2DIFF_TOKEN");
    return run_control_start(&run->flow.control, &(struct run_control_params) {
        .address = o->control, .osc = o->osc_at ? &o->osc : NULL,
        .token = token && *token ? token : NULL,
        .stream = run->flow.stream, .params = run->flow.params, .frames = run->flow.frames,
        .outputs = &run->flow.outputs, .fit = fits[o->model.fit],
        .board = &run->board, .log = &run->log,
    }, err);
}

static int run_all(struct run *run, struct l2d_error *err)
{
    struct flow *flow = &run->flow;
    double begin = l2d_clock_s();
    int rc = open_timeline(run, err);
    if (rc == L2D_OK)
        rc = add_more_steps(run, err);
    if (rc == L2D_OK && !run->options->passthrough)     // nobody waits for the input in vain
        rc = model_path(run->model_folder, sizeof(run->model_folder), run->options->model.model,
                        err);
    if (rc == L2D_OK)
        rc = open_input(run, err);
    if (rc == L2D_OK)
        rc = open_stream(run, err);
    if (rc == L2D_OK)
        rc = open_params(run, err);
    if (rc == L2D_OK)
        rc = open_outputs(run, err);
    if (rc == L2D_OK)
        rc = open_control(run, err);
    if (rc == L2D_OK)
        rc = open_record(run, err);
    if (rc != L2D_OK) {
        outputs_abort(&flow->outputs);
        return rc;
    }
    double setup_s = l2d_clock_s() - begin;
    rc = stream_video(run, err);
    run_control_stop(&flow->control);
    outputs_join(&flow->outputs);       // their stats are settled now
    static struct run_status status;            // large
    watch_status(&run->watch, &status);
    struct progress_state state = watch_progress(&status,
                                                 l2d_source_info(flow->source)->num_frames);
    progress_end(&run->progress, &state);
    if ((rc == L2D_OK && !all_failed(&flow->outputs)) || atomic_load(&stops.input))
        report_run(run, setup_s, rc == L2D_OK ? err : NULL);
    return rc != L2D_OK ? rc : (int) err->code;
}

static int exit_code(struct run *run, int rc, const struct l2d_error *err)
{
    struct outputs *set = &run->flow.outputs;
    int code = EXIT_OK;
    if (rc != L2D_OK && rc != L2D_ECLOSED) {
        progress_print(&run->progress, "%s", err->msg);
        code = EXIT_FAILED;
    }
    for (unsigned i = 0; i < set->num_members && code == EXIT_OK; i++) {
        struct output *out = &set->member[i]->output;
        int state = atomic_load(&out->state);
        bool never = state == OUTPUT_CUT_OFF && output_counts(out).written == 0;
        bool removed = set->member[i]->leaving;     // by hand, and the end came before it was
        if (!removed && (state == OUTPUT_FAILED || never)) {
            progress_print(&run->progress, "%s", out->err.msg);
            code = EXIT_FAILED;
        }
    }
    if (atomic_load(&stops.now))
        progress_print(&run->progress, "stopped at once; unfinished outputs are removed");
    return code == EXIT_OK && atomic_load(&stops.input) ? EXIT_INTERRUPTED : code;
}

static int run_main(int argc, char **argv)
{
    struct run_options options = { 0 };
    int code = parse(argc, argv, &options);
    if (code >= 0)
        return code;
    static struct run run;                  // the histograms are large
    run.options = &options;
    progress_init(&run.progress, !options.quiet);
    run.log = progress_log(&run.progress, options.quiet ? L2D_LOG_ERROR
                           : options.verbose > 1 ? L2D_LOG_TRACE
                           : options.verbose ? L2D_LOG_DEBUG : L2D_LOG_INFO);
    l2d_libav_init(&run.log);
    flow_init(&run.flow, &stops, &run.log);
    run_board_init(&run.board);
    run.watch = (struct watch) {
        .flow = &run.flow, .progress = &run.progress, .board = &run.board, .input = options.input,
        .frame_limit = options.frames > 0,
    };

    struct l2d_error err = { 0 };
    char imported[4096];
    int rc = L2D_OK;
    if (options.model.config) {             // before signals are caught: it has nothing to finish
        rc = model_path_import(imported, sizeof(imported), options.model.config, options.quiet,
                               &err);
        options.model.model = imported;
    }
    catch_signals();
    if (rc == L2D_OK)
        rc = run_all(&run, &err);
    code = exit_code(&run, rc, &err);
    flow_finish(&run.flow);
    if (timeline_record_destroy(&run.flow.record, &err) != L2D_OK) {
        progress_print(&run.progress, "%s", err.msg);
        code = EXIT_FAILED;
    }
    timeline_finish(&run.timeline);
    run_board_finish(&run.board);
    return code;
}

const struct command command_run = {
    .name = "run",
    .synopsis = "-i INPUT -o OUTPUT [-o OUTPUT]... [options]",
    .summary = "Translate a video with a model. Everything that FFmpeg reads can be an input.",
    .notes = "Examples:\n"
             "  live2diff run -i in.mp4 -o out.mp4 -p \"a van gogh painting\"\n"
             "  live2diff run -f v4l2 -i /dev/video0 -o display\n"
             "  live2diff run -f lavfi -i testsrc2=size=320x240:duration=5 -o - | ffplay -\n"
             "SIGINT or SIGTERM ends the input: what was read is finished and the files are\n"
             "playable; a second one stops at once and removes unfinished files.\n",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]),
    .main = run_main,
};
