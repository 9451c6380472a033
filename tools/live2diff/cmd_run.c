// SPDX-License-Identifier: Apache-2.0
// live2diff run: a video through the model into files, streams and windows. Threads: the reader
// pushes frames into the stream and audio to the outputs; the fan-out pops frames and gives them to
// all outputs, each of which has its own thread; main waits, draws progress and gets the signals.
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/thread.h"
#include "commands.h"
#include "model_options.h"
#include "model_path.h"
#include "output.h"
#include "pipeline/stream.h"
#include "progress.h"
#include "report.h"
#include "run_control.h"
#include "timeline.h"
#include "video_io/libav.h"
#include "wallclock.h"

#define MAX_OUTPUTS 16
#define DRAW_EVERY_US 50000

struct output_options { const char *name, *format, *codec, *codec_options; };

struct run_options {
    const char *input, *input_format, *input_options;
    struct output_options output[MAX_OUTPUTS];
    unsigned num_outputs;
    struct output_options next;         // what belongs to the next -i or -o
    const char *next_input_options;
    struct model_options model;
    struct option_rate fps;
    uint64_t frames;
    int64_t start_us;
    int audio, overwrite, passthrough, verbose, quiet;
    const char *json, *dump, *timeline, *control_at, *control_token, *osc_at;
    struct control_address control, osc;
    const char *more_steps[L2D_MAX_STEP_SETS];
    unsigned num_more_steps;
    double skip_similar, rewarm_seconds;
    int rewarm;                         // enum l2d_rewarm
};

struct run {
    const struct run_options *options;
    struct progress progress;
    struct l2d_log log;
    struct l2d_reader *reader;
    struct l2d_stream *stream;
    struct run_control *control;        // NULL: none
    struct timeline timeline;
    struct output output[MAX_OUTPUTS];
    unsigned num_outputs;
    char public_name[MAX_OUTPUTS][256];
    struct l2d_thread read_thread, fan_thread;
    int64_t start_pts;                  // the reader's alone
    atomic_bool ended;                  // the fan-out has given out its last frame

    pthread_mutex_t lock;               // of everything below
    struct l2d_error error;             // the first
    uint64_t frames_in, frames_out;
    int64_t first_pts, last_pts;
    double first_s, last_s;
    struct histogram interval;
};

// --- signals: the first one ends the input, the second stops at once

static atomic_bool stop_input, stop_now;

static void on_signal(int number)
{
    if (atomic_exchange(&stop_input, true)) {
        atomic_store(&stop_now, true);
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
    if (o->num_outputs == MAX_OUTPUTS)
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

static const char *take_rewarm(void *options, const char *value)
{
    struct run_options *o = options;
    char *end;
    o->rewarm = strcmp(value, "never") ? L2D_REWARM_AUTO : L2D_REWARM_NEVER;
    if (!strcmp(value, "never") || !strcmp(value, "auto"))
        return NULL;
    o->rewarm_seconds = strtod(value, &end);
    return *value && !*end && o->rewarm_seconds > 0 && o->rewarm_seconds <= 1e6
         ? NULL : "expected auto, never or a number of seconds above 0";
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
    { 'c', "codec", OPTION_TEXT, "ENCODER", NULL, "of the next -o: libx264, ffv1, ...; default: "
      "H.264, or what the container wants", AT(next.codec), NULL },
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
    { 0, "audio", OPTION_CHOICE, "copy|none", "copy", "keep the sound or leave it out", AT(audio),
      NULL },
    MODEL_ROWS(struct run_options),
    PICTURE_ROWS(struct run_options),
    { 0, "more-steps", OPTION_CALL, "I,J/TOTAL", NULL,
      "steps that --control may change to; may be repeated", 0, take_more_steps },
    { 0, "rewarm", OPTION_CALL, "auto|never|S", "auto",
      "after a scene cut (auto), and after every S seconds: let the model forget what was before",
      0, take_rewarm },
    { 0, "timeline", OPTION_TEXT, "FILE", NULL,
      "prompts and other changes by time of the input, a line of JSON each: {\"at\": 2.5, "
      "\"prompt\": \"ink\", \"fade\": 1}", AT(timeline), NULL },
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
                           o->model.guidance_mode || o->timeline))
        return options_complain(c, "--passthrough uses no model: leave out -m, --config, -p, "
                                "--steps, --more-steps, --guidance, --timeline and --dump");
    if (o->skip_similar > 1)
        return options_complain(c, "--skip-similar=%g: expected 0 to 1", o->skip_similar);
    if (o->skip_similar > 0 && (o->passthrough || o->dump))
        return options_complain(c, "--skip-similar goes neither with --passthrough nor with "
                                "--dump");
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

// --- the threads

static void fail(struct run *run, const struct l2d_error *err)
{
    pthread_mutex_lock(&run->lock);
    if (run->error.code == L2D_OK)
        run->error = *err;
    pthread_mutex_unlock(&run->lock);
}

static void push_all(struct run *run, struct l2d_item *item)
{
    struct shared_item *shared = shared_item_new(item);
    if (!shared) {
        struct l2d_error err = { 0 };
        l2d_error_set(&err, L2D_ENOMEM, "out of memory for a frame's envelope");
        fail(run, &err);
        l2d_stream_stop(run->stream);
        return;
    }
    for (unsigned i = 0; i < run->num_outputs; i++)
        output_push(&run->output[i], shared);
    shared_item_unref(shared);
}

// What changes with this frame.
static int make_changes(struct run *run, const struct l2d_frame *frame, struct l2d_error *err)
{
    const struct l2d_reader_info *in = l2d_reader_info(run->reader);
    double rate = in->frame_rate_num > 0 && in->frame_rate_den > 0
                ? (double) in->frame_rate_num / in->frame_rate_den : 25;
    double at_s = (double) (frame->pts - run->start_pts) * frame->time_base_num /
                  frame->time_base_den + 1e-6 * (double) run->options->start_us;
    const struct l2d_change *change;
    int rc = L2D_OK;
    while (rc == L2D_OK && (change = timeline_next(&run->timeline, at_s, rate))) {
        rc = l2d_stream_change(run->stream, change, L2D_WHEN_IN_ORDER, NULL, err);
        run_control_follow(run->control, change);
    }
    return rc;
}

static void read_main(void *arg)
{
    struct run *run = arg;
    struct l2d_error err = { 0 };
    int rc;
    for (;;) {
        struct l2d_item item = { 0 };
        rc = l2d_reader_next(run->reader, &item, &err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        if (item.kind == L2D_ITEM_AUDIO) {
            push_all(run, &item);
            continue;
        }
        pthread_mutex_lock(&run->lock);
        if (run->frames_in++ == 0)
            run->start_pts = item.frame->pts;
        pthread_mutex_unlock(&run->lock);
        run_control_source(run->control, item.frame);
        rc = make_changes(run, item.frame, &err);
        if (rc == L2D_OK)
            rc = l2d_stream_push(run->stream, &item.frame, &err);
        l2d_item_clear(&item);
        if (rc != L2D_OK)
            break;
    }
    // ECLOSED: a signal, or the stream ended and pop knows why.
    if (rc != L2D_OK && rc != L2D_ECLOSED) {
        fail(run, &err);
        l2d_stream_stop(run->stream);
    }
    l2d_stream_end(run->stream);
}

static void count_out(struct run *run, const struct l2d_frame *frame)
{
    double now = wallclock_s();
    pthread_mutex_lock(&run->lock);
    if (run->frames_out++ == 0) {
        run->first_s = now;
        run->first_pts = frame->pts;
    } else {
        histogram_add(&run->interval, 1e3 * (now - run->last_s));
    }
    run->last_s = now;
    run->last_pts = frame->pts;
    pthread_mutex_unlock(&run->lock);
}

static void fan_main(void *arg)
{
    struct run *run = arg;
    struct l2d_error err = { 0 };
    for (;;) {
        struct l2d_item item = { .kind = L2D_ITEM_VIDEO };
        int rc = l2d_stream_pop(run->stream, &item.frame, &err);
        if (rc != L2D_OK && rc != L2D_ECLOSED)
            fail(run, &err);
        if (rc != L2D_OK || !item.frame)
            break;
        count_out(run, item.frame);
        run_control_result(run->control, item.frame);
        push_all(run, &item);
    }
    atomic_store(&run->ended, true);
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
    return rc;
}

// Those of --more-steps behind those that the timeline names.
static int add_more_steps(struct run *run, struct l2d_error *err)
{
    const char **more = run->timeline.more_steps;
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
    return l2d_reader_create(&run->reader, &(struct l2d_reader_params) {
        .name = o->input, .format = o->input_format, .options = o->input_options,
        .start_us = o->start_us, .max_frames = (int64_t) o->frames, .no_audio = o->audio == 1,
        .stop = &stop_input, .log = &run->log,
    }, err);
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

static int open_stream(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    const struct l2d_reader_info *in = l2d_reader_info(run->reader);
    char path[4096];
    if (!o->passthrough) {
        int rc = model_path(path, sizeof(path), o->model.model, err);
        if (rc != L2D_OK)
            return rc;
    }
    struct l2d_stream_params params = {
        .engine = model_engine_params(&o->model, o->passthrough ? NULL : path),
        .gpu = model_gpu_params(&o->model, &run->log),
        .live = in->live,
        .dump_dir = o->dump,
    };
    params.engine.skip_similar = o->skip_similar;
    params.engine.rewarm = (enum l2d_rewarm) o->rewarm;
    params.engine.rewarm_seconds = o->rewarm_seconds;
    memcpy(params.engine.more_steps, run->timeline.more_steps, sizeof(params.engine.more_steps));
    params.engine.log = l2d_log_named(&run->log, "engine");
    upright_size(in, &params.engine.input_width, &params.engine.input_height);
    return l2d_stream_create(&run->stream, &params, err);
}

static int open_outputs(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    const struct l2d_reader_info *in = l2d_reader_info(run->reader);
    const struct l2d_engine_info *info = l2d_stream_info(run->stream);
    for (unsigned i = 0; i < o->num_outputs; i++) {
        struct l2d_sink_params params = {
            .width = info->width, .height = info->height,
            .time_base_num = in->time_base_num, .time_base_den = in->time_base_den,
            .frame_rate_num = in->frame_rate_num, .frame_rate_den = in->frame_rate_den,
            .matrix = info->matrix, .audio = in->has_audio ? &in->audio : NULL,
            .format = o->output[i].format, .codec = o->output[i].codec,
            .codec_options = o->output[i].codec_options,
            .fps_num = o->fps.num, .fps_den = o->fps.den,
            .overwrite = o->overwrite > 0, .input = o->input, .unpaced = in->live,
            .abort = &stop_now, .log = &run->log,
        };
        struct output *out = &run->output[run->num_outputs++];
        int rc = output_start(out, o->output[i].name, &params, err);
        if (rc == L2D_OK)
            rc = output_wait_open(out, err);
        if (rc != L2D_OK)
            return rc;
    }
    return L2D_OK;
}

static bool all_ended(struct run *run, bool (*ended)(int state))
{
    for (unsigned i = 0; i < run->num_outputs; i++)
        if (!ended(atomic_load(&run->output[i].state)))
            return false;
    return true;
}

static bool is_past_running(int state)
{
    return state > OUTPUT_RUNNING;
}

static bool is_failed(int state)
{
    return state == OUTPUT_FAILED;
}

static struct progress_state progress_now(struct run *run)
{
    const struct l2d_reader_info *in = l2d_reader_info(run->reader);
    uint64_t late = l2d_stream_stats(run->stream).frames_dropped;
    pthread_mutex_lock(&run->lock);
    struct progress_state state = {
        .frames = run->frames_out, .total = in->num_frames, .dropped = late,
        .media_s = (double) (run->last_pts - run->first_pts) * in->time_base_num /
                   in->time_base_den,
        .wall_s = run->last_s - run->first_s,
    };
    pthread_mutex_unlock(&run->lock);
    return state;
}

// Until every output has ended, one way or another.
static void wait_for_end(struct run *run)
{
    bool finishing = false, aborted = false, stop_said = false;
    while (!all_ended(run, is_past_running)) {
        if (atomic_load(&stop_input) && !stop_said) {
            progress_print(&run->progress, "stopping: finishing what was read (again to stop at "
                           "once)");
            stop_said = true;
        }
        if (atomic_load(&stop_now) && !aborted) {
            aborted = true;
            l2d_stream_stop(run->stream);
            for (unsigned i = 0; i < run->num_outputs; i++)
                output_abort(&run->output[i]);
        }
        if (atomic_load(&run->ended) && !finishing && !aborted) {
            finishing = true;
            pthread_mutex_lock(&run->lock);
            bool failed = run->error.code != L2D_OK;
            pthread_mutex_unlock(&run->lock);
            bool cut = atomic_load(&stop_input) || run->options->frames > 0;
            for (unsigned i = 0; i < run->num_outputs; i++)
                if (failed)
                    output_abort(&run->output[i]);
                else
                    output_finish(&run->output[i], cut);
        }
        struct progress_state state = progress_now(run);
        progress_update(&run->progress, &state);
        usleep(DRAW_EVERY_US);
    }
}

static int stream_video(struct run *run, struct l2d_error *err)
{
    int rc = l2d_thread_start(&run->read_thread, "reader", read_main, run, err);
    if (rc == L2D_OK)
        rc = l2d_thread_start(&run->fan_thread, "fan-out", fan_main, run, err);
    if (rc == L2D_OK)
        wait_for_end(run);
    // Nobody is left to take frames, or everybody has them all.
    l2d_stream_stop(run->stream);
    l2d_reader_stop(run->reader);
    for (unsigned i = 0; rc != L2D_OK && i < run->num_outputs; i++)
        output_abort(&run->output[i]);
    l2d_thread_join(&run->read_thread);
    l2d_thread_join(&run->fan_thread);
    if (rc == L2D_OK && run->error.code != L2D_OK) {
        *err = run->error;
        return err->code;
    }
    return rc;
}

static const char *output_story(const struct output *out)
{
    switch ((enum output_state) atomic_load(&out->state)) {
    case OUTPUT_FINISHED: return "finished";
    case OUTPUT_CLOSED:   return "closed by its viewer";
    case OUTPUT_FAILED:   return "failed";
    case OUTPUT_ABORTED:
    case OUTPUT_OPENING:
    case OUTPUT_RUNNING:  break;
    }
    return "stopped, not kept";
}

static int report_run(struct run *run, double setup_s, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    const struct l2d_reader_info *in = l2d_reader_info(run->reader);
    struct l2d_stream_stats stats = l2d_stream_stats(run->stream);
    struct report_output outputs[MAX_OUTPUTS];
    for (unsigned i = 0; i < run->num_outputs; i++)
        outputs[i] = (struct report_output) { run->output[i].name, output_story(&run->output[i]),
                                              run->output[i].stats };
    struct report report = {
        .input = o->input, .info = *l2d_stream_info(run->stream),
        .caps = *l2d_stream_gpu(run->stream),
        .frames_in = run->frames_in, .frames_out = run->frames_out,
        .dropped_late = stats.frames_dropped,
        .dropped_stopped = run->frames_in - run->frames_out - stats.frames_dropped,
        .reader = l2d_reader_stats(run->reader),
        .interval = run->interval, .engine = stats.engine, .setup_s = setup_s,
        .media_s = (double) (run->last_pts - run->first_pts) * in->time_base_num /
                   in->time_base_den,
        .wall_s = run->last_s - run->first_s,
        .output = outputs, .num_outputs = run->num_outputs,
        .interrupted = atomic_load(&stop_input),
    };
    if (!o->quiet)
        report_print(stderr, &report);
    return o->json ? report_write_json(o->json, report_json(&report), err) : L2D_OK;
}

static void control_outputs(void *user, struct control_state *state)
{
    struct run *run = user;
    for (unsigned i = 0; i < run->num_outputs; i++) {
        int now = atomic_load(&run->output[i].state);
        state->output[state->num_outputs++] = (struct state_output) {
            .name = run->public_name[i], .up = now == OUTPUT_RUNNING,
            .state = now == OUTPUT_RUNNING ? "running" : output_story(&run->output[i]),
        };
    }
}

static int open_control(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    char path[4096];
    if (!o->control_at)
        return L2D_OK;
    int rc = o->passthrough ? L2D_OK : model_path(path, sizeof(path), o->model.model, err);
    if (rc != L2D_OK)
        return rc;
    const char *token = o->control_token ? o->control_token : getenv("LIVE2DIFF_TOKEN");
    for (unsigned i = 0; i < o->num_outputs; i++)
        state_public_name(run->public_name[i], sizeof(run->public_name[i]), o->output[i].name);
    return run_control_start(&run->control, &(struct run_control_params) {
        .address = o->control, .osc = o->osc_at ? &o->osc : NULL,
        .token = token && *token ? token : NULL, .input = o->input,
        .params = { run->stream, &o->model, o->passthrough ? NULL : path,
                    run->timeline.more_steps },
        .outputs = control_outputs, .user = run, .log = &run->log,
    }, err);
}

static int run_all(struct run *run, struct l2d_error *err)
{
    double begin = wallclock_s();
    int rc = open_timeline(run, err);
    if (rc == L2D_OK)
        rc = add_more_steps(run, err);
    if (rc == L2D_OK)
        rc = open_input(run, err);
    if (rc == L2D_OK)
        rc = open_stream(run, err);
    if (rc == L2D_OK)
        rc = open_outputs(run, err);
    if (rc == L2D_OK)
        rc = open_control(run, err);
    if (rc != L2D_OK) {
        for (unsigned i = 0; i < run->num_outputs; i++)
            output_abort(&run->output[i]);
        return rc;
    }
    double setup_s = wallclock_s() - begin;
    rc = stream_video(run, err);
    run_control_stop(&run->control);
    for (unsigned i = 0; i < run->num_outputs; i++)     // their stats are settled now
        l2d_thread_join(&run->output[i].thread);
    struct progress_state state = progress_now(run);
    progress_end(&run->progress, &state);
    if ((rc == L2D_OK && !all_ended(run, is_failed)) || atomic_load(&stop_input))
        report_run(run, setup_s, rc == L2D_OK ? err : NULL);
    return rc != L2D_OK ? rc : (int) err->code;
}

static int exit_code(struct run *run, int rc, const struct l2d_error *err)
{
    int code = EXIT_OK;
    if (rc != L2D_OK && rc != L2D_ECLOSED) {
        progress_print(&run->progress, "%s", err->msg);
        code = EXIT_FAILED;
    }
    for (unsigned i = 0; i < run->num_outputs && code == EXIT_OK; i++)
        if (atomic_load(&run->output[i].state) == OUTPUT_FAILED) {
            progress_print(&run->progress, "%s", run->output[i].err.msg);
            code = EXIT_FAILED;
        }
    if (atomic_load(&stop_now))
        progress_print(&run->progress, "stopped at once; unfinished outputs are removed");
    return code == EXIT_OK && atomic_load(&stop_input) ? EXIT_INTERRUPTED : code;
}

static int run_main(int argc, char **argv)
{
    struct run_options options = { 0 };
    int code = parse(argc, argv, &options);
    if (code >= 0)
        return code;
    static struct run run;                  // the histogram is large
    run.options = &options;
    pthread_mutex_init(&run.lock, NULL);
    progress_init(&run.progress, !options.quiet);
    run.log = progress_log(&run.progress, options.quiet ? L2D_LOG_ERROR
                           : options.verbose > 1 ? L2D_LOG_TRACE
                           : options.verbose ? L2D_LOG_DEBUG : L2D_LOG_INFO);
    l2d_libav_init(&run.log);

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
    for (unsigned i = 0; i < run.num_outputs; i++)
        output_join(&run.output[i]);
    l2d_stream_destroy(&run.stream);
    l2d_reader_destroy(&run.reader);
    timeline_finish(&run.timeline);
    pthread_mutex_destroy(&run.lock);
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
