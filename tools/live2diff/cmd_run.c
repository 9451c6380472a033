// SPDX-License-Identifier: Apache-2.0
// live2diff run: a video through the model into files, streams and windows: the parts in their
// order, and what is said at the end. What runs meanwhile is in flow.h and watch.h.
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "control/bind.h"
#include "flow.h"
#include "model_path.h"
#include "report.h"
#include "run_control.h"
#include "run_options.h"
#include "video_io/libav.h"
#include "watch.h"

#define MASK_TIMEOUT_US INT64_C(10000000)       // of an address that says nothing

struct run {
    const struct run_options *options;
    struct progress progress;
    struct l2d_log log;
    struct timeline timeline;
    char model_folder[4096];            // "": --passthrough
    struct l2d_frame *mask;             // NULL: none
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
    bool again = atomic_exchange(&stops.input, true);
    if (again && number != SIGHUP) {    // which a shell and the kernel may both send
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
    struct sigaction was;               // a terminal that is closed; nohup's choice stays
    if (sigaction(SIGHUP, NULL, &was) == 0 && was.sa_handler != SIG_IGN)
        sigaction(SIGHUP, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
}

// --- the parts in their order

static int open_timeline(struct run *run, struct l2d_error *err)
{
    const struct run_options *o = run->options;
    if (!o->timeline)
        return L2D_OK;
    bool negative = l2d_guidance_has_negative((enum l2d_guidance_mode) o->model.guidance_mode);
    int rc = timeline_load(&run->timeline, o->timeline, o->model.steps,
                           (enum l2d_prompt_syntax) o->model.prompt_syntax, negative, err);
    run->flow.timeline = &run->timeline;
    return rc;
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

// The first picture of --mask.
static int open_mask(struct run *run, struct l2d_error *err)
{
    const char *name = run->options->mask;
    struct l2d_reader *reader = NULL;
    struct l2d_item item = { 0 };
    if (!name)
        return L2D_OK;
    int rc = l2d_reader_create(&reader, &(struct l2d_reader_params) {
        .name = name, .no_audio = true, .stop = &stops.source, .log = &run->log,
        .timeout_us = l2d_source_may_return(name) ? MASK_TIMEOUT_US : 0,
    }, err);
    if (rc == L2D_OK)
        rc = l2d_reader_next(reader, &item, err);
    run->mask = item.frame;
    l2d_reader_destroy(&reader);
    return rc;
}

// Whether somebody can change something on the way: by --control, which may also add a window, or
// by a window's keys.
static bool is_steered(const struct run_options *o)
{
    bool steered = o->control_at != NULL;
    for (unsigned i = 0; i < o->num_outputs; i++)
        steered = steered || !strcmp(o->output[i].name, "display");
    return steered;
}

// How many frames go through the model together if nobody says: of a file into files, at once those
// that are fastest; where somebody looks on, each as soon as it is there.
static uint32_t usual_chunk(const struct run *run)
{
    const struct run_options *o = run->options;
    bool seen = run->flow.live || is_steered(o) || o->dump || o->model.schedule != SCHEDULE_AUTO;
    for (unsigned i = 0; i < o->num_outputs; i++)
        seen = seen || !strcmp(o->output[i].name, "-") ||
               l2d_source_may_return(o->output[i].name);
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
    params.engine.mix = o->mix;
    bool mixes = timeline_mixes(&run->timeline);
    params.engine.can_mix = mixes || is_steered(o);
    params.engine.mask = run->mask;
    params.engine.rewarm = (enum l2d_rewarm) o->rewarm;
    params.engine.rewarm_seconds = o->rewarm_seconds;
    memcpy(params.engine.more_steps, run->more_steps, sizeof(params.engine.more_steps));
    for (unsigned i = 0; i < o->num_loras; i++) {
        params.engine.lora[i].name = o->lora[i].name;
        params.engine.lora[i].scale = o->lora[i].scale;
    }
    params.engine.log = l2d_log_named(&run->log, "engine");
    l2d_reader_info_upright(in, &params.engine.input_width, &params.engine.input_height);
    bool usual = !o->model.chunk;
    params.engine.chunk = usual ? usual_chunk(run) : (uint32_t) o->model.chunk;
    int rc = l2d_stream_create(&run->flow.stream, &params, err);
    if (rc == L2D_EGPUMEM && usual && params.engine.chunk > 1) {
        params.engine.chunk = 1;
        rc = l2d_stream_create(&run->flow.stream, &params, err);
    }
    if (rc == L2D_EGPUMEM && params.engine.can_mix && !mixes) {     // nobody has asked for it yet
        params.engine.can_mix = false;
        rc = l2d_stream_create(&run->flow.stream, &params, err);
        if (rc == L2D_OK)
            l2d_log_print(&run->log, L2D_LOG_WARN, "mix cannot be changed: the sources that are "
                          "kept for it would not fit");
    }
    l2d_frame_unref(&run->mask);
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
    if (rc == L2D_OK)
        rc = timeline_check(&run->timeline, o->timeline, l2d_stream_info(flow->stream),
                            run_params_prompt(flow->params),
                            (enum l2d_prompt_syntax) o->model.prompt_syntax, err);
    if (rc == L2D_OK && is_steered(o))
        rc = control_frames_create(&flow->frames, err);
    return rc != L2D_OK || !is_steered(o) ? rc : keys_create(&flow->keys, &(struct keys_setup) {
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
    return o->record_timeline
         ? timeline_record_create(&run->flow.record, o->record_timeline, o->overwrite > 0,
                                  l2d_stream_info(run->flow.stream), err) : L2D_OK;
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
        .abort = &stops.input,
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
    // Nobody is left to take frames, or everybody has them all; and nobody comes any more.
    outputs_end(&flow->outputs, true);
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
    enum output_state state = (enum output_state) atomic_load(&out->state);
    return (struct report_output) {
        out->name, output_state_str(state), state == OUTPUT_FAILED ? out->err.msg : NULL,
        out->stats, output_counts(out), output_latency(out, false),
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

// Before an input is waited for and outputs reach their servers: of two runs on a port the second
// ends here.
static int check_control(const struct run_options *o, struct l2d_error *err)
{
    int rc = o->control_at ? bind_check(SOCK_STREAM, &o->control, "--control", err) : L2D_OK;
    return rc == L2D_OK && o->osc_at ? bind_check(SOCK_DGRAM, &o->osc, "--osc", err) : rc;
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
    int rc = check_control(run->options, err);
    if (rc == L2D_OK)
        rc = open_timeline(run, err);
    if (rc == L2D_OK)
        rc = add_more_steps(run, err);
    if (rc == L2D_OK && !run->options->passthrough)     // nobody waits for the input in vain
        rc = model_path(run->model_folder, sizeof(run->model_folder), run->options->model.model,
                        err);
    if (rc == L2D_OK)
        rc = open_mask(run, err);
    if (rc == L2D_OK)
        rc = open_input(run, err);
    if (rc == L2D_OK)
        rc = open_stream(run, err);
    if (rc == L2D_OK)
        rc = open_params(run, err);
    if (rc == L2D_OK && atomic_load(&stops.input))      // no outputs without a frame
        rc = l2d_error_set(err, L2D_ECLOSED, "stopped");
    if (rc == L2D_OK)
        rc = open_outputs(run, err);
    if (rc == L2D_OK)
        rc = open_record(run, err);
    if (rc == L2D_OK)
        rc = open_control(run, err);
    if (rc != L2D_OK) {
        outputs_abort(&flow->outputs);
        return rc;
    }
    if (flow->record)                   // an older one is replaced now that nothing fails any more
        run_params_initial(flow->params, record_initial, flow->record);
    double setup_s = l2d_clock_s() - begin;
    rc = stream_video(run, err);
    run_control_stop(&flow->control);
    outputs_join(&flow->outputs);       // their stats are settled now
    static struct run_status status;            // large
    watch_status(&run->watch, &status);
    struct progress_state state = watch_progress(&status,
                                                 l2d_source_info(flow->source)->num_frames);
    progress_end(&run->progress, &state);
    bool good = rc == L2D_OK;
    if ((good && !all_failed(&flow->outputs)) || atomic_load(&stops.input)) {
        int told = report_run(run, setup_s, good ? err : NULL);
        rc = good ? told : rc;
    }
    return rc;
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
        struct output_counts counts = output_counts(out);
        bool cut = state == OUTPUT_CUT_OFF && (!out->live || counts.written == 0);
        bool removed = set->member[i]->leaving ||   // by hand, and the end came before it was
                       outputs_was_refused(set->member[i]);
        bool early = atomic_load(&stops.input) && counts.given == 0 &&  // nothing of it is kept
                     out->err.code == L2D_EFORMAT;
        if (removed || early || (state != OUTPUT_FAILED && !cut))
            continue;
        if (cut && counts.written > 0)
            progress_print(&run->progress, "%s: nobody took the rest: %llu of %llu frames are "
                           "there", out->name, (unsigned long long) counts.written,
                           (unsigned long long) counts.given);
        else
            progress_print(&run->progress, "%s", out->err.msg);
        code = EXIT_FAILED;
    }
    if (code == EXIT_OK && run->flow.source && !run->flow.live &&
        l2d_source_stats(run->flow.source).failed) {
        progress_print(&run->progress, "the input could not be read to its end; what was read is "
                       "written");
        code = EXIT_FAILED;
    }
    if (atomic_load(&stops.now))
        progress_print(&run->progress, "stopped at once; unfinished outputs are %s",
                       run->flow.live ? "left as NAME.part" : "removed");
    return code == EXIT_OK && atomic_load(&stops.input) ? EXIT_INTERRUPTED : code;
}

int run_main(int argc, char **argv)
{
    struct run_options options = { 0 };
    int code = run_options_parse(argc, argv, &options);
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
    run.flow.start_us = options.start_us;
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
    l2d_frame_unref(&run.mask);
    if (timeline_record_destroy(&run.flow.record, &err) != L2D_OK) {
        progress_print(&run.progress, "%s", err.msg);
        code = EXIT_FAILED;
    }
    timeline_finish(&run.timeline);
    run_board_finish(&run.board);
    return code;
}
