// SPDX-License-Identifier: Apache-2.0
// The table of run's options and what is checked of them. See run_options.h.
#include "run_options.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "commands.h"
#include "hold.h"
#include "stamped_name.h"
#include "video_io/source.h"
#include "video_io/writer.h"

#define MAX_BUFFER_MS 2000

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

static const char *take_mix(void *options, const char *value)
{
    struct run_options *o = options;
    return take_number(&o->mix, value, 1) ? NULL : "expected 0 to 1";
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
    { 0, "mix", OPTION_CALL, "M", "0",
      "how much of the source is mixed into what comes out, 0 to 1", 0, take_mix },
    { 0, "mask", OPTION_TEXT, "FILE", NULL,
      "a picture, stretched over the result: where it is black the source is seen, where it is "
      "white what is drawn", AT(mask), NULL },
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

// The same file, by whichever names.
static bool is_same_file(const char *a, const char *b)
{
    a = l2d_writer_path(a);
    b = l2d_writer_path(b);
    return !strcmp(a, b) || l2d_file_is_same(a, b);
}

static bool has_control(const char *text)
{
    return text && l2d_error_control(text);
}

// Why a file cannot be written; NULL: it can.
static const char *file_fault(const char *file)
{
    char folder[4096];
    const char *slash = strrchr(file, '/');
    struct stat st;
    if (stat(file, &st) == 0)
        return S_ISDIR(st.st_mode) ? strerror(EISDIR)
             : access(file, W_OK) != 0 ? strerror(errno) : NULL;
    snprintf(folder, sizeof(folder), "%.*s", slash && slash > file ? (int) (slash - file) : 1,
             slash ? file : ".");
    return folder_fault(folder);
}

// What is written beside the video is neither the input nor an output, nor what else there is.
static int check_files(const struct run_options *o, const struct command *c)
{
    const struct { const char *option, *file; } beside[] = {
        { "--json", o->json }, { "--record-timeline", o->record_timeline },
    };
    if (o->record_timeline && !strcmp(o->record_timeline, "-"))
        return options_complain(c, "--record-timeline -: it is a file, not standard output");
    if (o->record_timeline && (has_control(o->model.prompt) || has_control(o->model.negative)))
        return options_complain(c, "--record-timeline: the prompt has a control character (a line "
                                "break, a tab), which a timeline cannot have");
    if (o->json && o->record_timeline && is_same_file(o->json, o->record_timeline))
        return options_complain(c, "--json %.80s: is the file of --record-timeline", o->json);
    if (o->json && strcmp(o->json, "-") && file_fault(o->json))
        return options_complain(c, "--json %.80s: %s", o->json, file_fault(o->json));
    bool to_stdout = false, to_window = false;
    for (unsigned i = 0; i < o->num_outputs; i++) {
        bool is_stdout = !strcmp(o->output[i].name, "-");
        bool is_window = !strcmp(o->output[i].name, "display");
        if (is_stdout && to_stdout)
            return options_complain(c, "two outputs to -: they would mix");
        if (is_window && to_window)
            return options_complain(c, "two outputs to display: there is one window");
        to_stdout |= is_stdout;
        to_window |= is_window;
    }
    for (size_t k = 0; k < sizeof(beside) / sizeof(beside[0]); k++) {
        const char *file = beside[k].file;
        if (file && o->timeline && is_same_file(file, o->timeline))
            return options_complain(c, "%s %.80s: is the file of --timeline", beside[k].option,
                                    file);
        if (file && o->mask && is_same_file(file, o->mask))
            return options_complain(c, "%s %.80s: is the file of --mask", beside[k].option, file);
        if (file && is_same_file(file, strcmp(o->input, "-") ? o->input : "/dev/stdin"))
            return options_complain(c, "%s %.80s: is the input", beside[k].option, file);
        for (unsigned i = 0; file && i < o->num_outputs; i++)      // null and display are no files
            if (strcmp(file, "null") && strcmp(file, "display") &&
                is_same_file(file, o->output[i].name))
                return options_complain(c, "%s %.80s and -o %.80s would both write to %s",
                                        beside[k].option, file, o->output[i].name,
                                        strcmp(file, "-") ? "it" : "standard output");
    }
    return -1;
}

int run_options_parse(int argc, char **argv, struct run_options *o)
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
                           o->deadline_ms > 0 || o->num_loras || o->steady != 0 ||
                           o->mix > 0 || o->mask))
        return options_complain(c, "--passthrough uses no model: leave out -m, --config, -p, "
                                "--steps, --more-steps, --deadline, --guidance, --lora, "
                                "--steady, --mix, --mask, --timeline, --record-timeline and "
                                "--dump");
    if (o->mask && !strcmp(o->mask, "-") && !strcmp(o->input, "-"))
        return options_complain(c, "--mask -: standard input is the input");
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
    if (o->model.draw_every > 0 && (o->passthrough || o->dump || o->skip_similar > 0))
        return options_complain(c, "--draw-every goes neither with --passthrough nor with --dump "
                                "nor with --skip-similar");
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
    if (o->control_token && !*o->control_token)
        return options_complain(c, "--control-token is empty");
    if ((o->control_token || o->osc_at) && !o->control_at)
        return options_complain(c, "--control-token and --osc need --control");
    return check_files(o, c);
}

const struct command command_run = {
    .name = "run",
    .synopsis = "-i INPUT -o OUTPUT [-o OUTPUT]... [options]",
    .summary = "Translate a video with a model. Everything that FFmpeg reads can be an input.",
    .notes = "Examples:\n"
             "  live2diff run -i in.mp4 -o out.mp4 -p \"a van gogh painting\"\n"
             "  live2diff run -f v4l2 -i /dev/video0 -o display\n"
             "  live2diff run -f lavfi -i testsrc2=size=320x240:duration=5 -o - | ffplay -\n"
             "SIGINT, SIGTERM or SIGHUP ends the input: what was read is finished and the files\n"
             "are playable; a second SIGINT or SIGTERM stops at once and removes unfinished\n"
             "files.\n",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]),
    .main = run_main,
};
