// SPDX-License-Identifier: Apache-2.0
// Changes by time. See timeline.h.
#include "timeline.h"

#include <jansson.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json_reader.h"
#include "control/params.h"
#include "pipeline/models/tokenizer.h"
#include "pipeline/scheduler.h"

#define MAX_BYTES (16 << 20)
#define MAX_EVENTS 65536
#define MAX_TEXT (L2D_TOKENIZER_MAX_PROMPT_BYTES + 1)
#define LONGEST_S 1e6
#define SLACK_S 1e-6                    // a time that is a frame's may be off by rounding

const char *const timeline_easing[] = { "linear", "smooth" };
const char *const timeline_noise[] = { "model", "shared", "fresh" };
const char *const timeline_show[] = { "drawn", "source", "frozen" };

struct line {
    struct timeline *timeline;
    struct l2d_json_object object;
    const char *steps;                  // of the run
    enum l2d_prompt_syntax syntax;
    bool negative;                      // there can be one
    int number;
    double at_s;
};

static struct timeline_event *add(struct line *line, enum l2d_change_kind kind)
{
    struct timeline *t = line->timeline;
    if (t->num_events == MAX_EVENTS) {
        l2d_json_fail(line->object.reader, "", "more than %d changes", MAX_EVENTS);
        return NULL;
    }
    struct timeline_event *e = &t->event[t->num_events++];
    *e = (struct timeline_event) { .at_s = line->at_s, .line = line->number,
                                    .change = { .kind = kind } };
    return e;
}

// returns  whether a prompt or the shares of one are what they should be
static bool is_good(const char *text, enum l2d_change_kind kind, enum l2d_prompt_syntax syntax,
                    struct l2d_error *why)
{
    double share[L2D_PROMPT_MAX_PARTS];
    struct l2d_prompt parsed = { .num_parts = 0 };
    int num, rc = kind == L2D_CHANGE_BLEND ? l2d_prompt_parse_shares(share, &num, text, why)
                                           : l2d_prompt_parse(&parsed, "{}", text, syntax, why);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK;
}

static void set_text(struct line *line, struct timeline_event *e, const char *text)
{
    struct l2d_json_reader *r = line->object.reader;
    e->change.text = e->text = strdup(text);
    if (!e->text)
        r->rc = l2d_error_set(r->err, L2D_ENOMEM, "%s: out of memory", r->file);
}

static void add_text(struct line *line, const char *key, enum l2d_change_kind kind)
{
    char text[MAX_TEXT];
    struct l2d_json_object *o = &line->object;
    struct l2d_json_reader *r = o->reader;
    struct l2d_error why = { 0 };
    if (!l2d_json_has(o, key))
        return;
    l2d_json_string(o, key, text, sizeof(text));
    struct timeline_event *e = r->rc == L2D_OK ? add(line, kind) : NULL;
    if (!e)
        return;
    if (!is_good(text, kind, line->syntax, &why))
        l2d_json_fail(r, key, "%s", why.msg);
    set_text(line, e, text);
}

// Which LoRAs there are is the model's affair.
static void add_loras(struct line *line)
{
    struct l2d_json_object *o = &line->object;
    const char *key;
    json_t *value;
    json_object_foreach(o->value, key, value) {
        if (strncmp(key, "lora.", strlen("lora.")))
            continue;
        double scale = l2d_json_real(o, key, -L2D_MAX_LORA_SCALE, L2D_MAX_LORA_SCALE);
        struct timeline_event *e = o->reader->rc == L2D_OK ? add(line, L2D_CHANGE_LORA) : NULL;
        if (!e)
            return;
        e->change.lora_scale = (float) scale;
        set_text(line, e, key + strlen("lora."));
    }
}

// The number of a set of steps, which is made if there is none like it.
static uint32_t set_of(struct line *line, const char *text)
{
    struct timeline *t = line->timeline;
    uint32_t i = 0;
    if (line->steps && !strcmp(line->steps, text))
        return 0;
    while (i < L2D_MAX_STEP_SETS - 1 && t->more_steps[i] && strcmp(t->more_steps[i], text))
        i++;
    if (i == L2D_MAX_STEP_SETS - 1) {
        l2d_json_fail(line->object.reader, "steps", "more than %d different sets",
                      L2D_MAX_STEP_SETS);
        return 0;
    }
    if (!t->more_steps[i])
        t->more_steps[i] = strdup(text);
    if (!t->more_steps[i])
        l2d_json_fail(line->object.reader, "steps", "out of memory");
    return i + 1;
}

static void add_steps(struct line *line)
{
    char text[64];
    int index[L2D_MAX_STEPS], num, of = L2D_MAX_INFERENCE_STEPS;
    struct l2d_error why = { 0 };
    struct l2d_json_object *o = &line->object;
    if (!l2d_json_has(o, "steps"))
        return;
    l2d_json_string(o, "steps", text, sizeof(text));
    if (o->reader->rc == L2D_OK && l2d_schedule_parse(text, index, &num, &of, &why) != L2D_OK)
        l2d_json_fail(o->reader, "steps", "%s", why.msg);
    struct timeline_event *e = o->reader->rc == L2D_OK ? add(line, L2D_CHANGE_STEPS) : NULL;
    if (e)
        e->change.step_set = set_of(line, text);
}

static void add_seed(struct line *line)
{
    struct timeline_event *e = add(line, L2D_CHANGE_SEED);
    double seed = l2d_json_real(&line->object, "seed", 0, PARAM_MAX_WHOLE);
    if (seed != floor(seed))
        l2d_json_fail(line->object.reader, "seed", "must be a whole number");
    if (e)
        e->change.seed = (uint64_t) seed;
}

static void add_fade(struct line *line, size_t first)
{
    struct l2d_json_object *o = &line->object;
    struct timeline *t = line->timeline;
    bool fade = l2d_json_has(o, "fade"), easing = l2d_json_has(o, "easing");
    double seconds = fade ? l2d_json_real(o, "fade", 0, LONGEST_S) : 0;
    int how = easing ? L2D_JSON_CHOICE(o, "easing", timeline_easing) : 0;
    if ((fade || easing) && t->num_events == first)
        l2d_json_fail(o->reader, "", "fade and easing belong to a prompt, a negative one or "
                      "a blend");
    if (easing && !fade)
        l2d_json_fail(o->reader, "", "easing needs a fade");
    for (size_t i = first; i < t->num_events; i++) {
        t->event[i].fade_s = seconds;
        t->event[i].change.easing = (enum l2d_easing) how;
    }
}

static void read_object(struct line *line)
{
    struct l2d_json_object *o = &line->object;
    struct timeline *t = line->timeline;
    size_t first = t->num_events;
    struct timeline_event *e;
    double last_s = first > 0 ? t->event[first - 1].at_s : 0;
    line->at_s = l2d_json_real(o, "at", 0, LONGEST_S);
    if (line->at_s < last_s)
        l2d_json_fail(o->reader, "at", "%g comes after %g: lines are in order of time", line->at_s,
                      last_s);
    add_text(line, "prompt", L2D_CHANGE_PROMPT);
    if (l2d_json_has(o, "negative") && !line->negative)
        l2d_json_fail(o->reader, "negative", "needs --guidance-mode full or initialize");
    add_text(line, "negative", L2D_CHANGE_NEGATIVE);
    add_text(line, "blend", L2D_CHANGE_BLEND);
    add_fade(line, first);
    add_loras(line);
    add_steps(line);
    if (l2d_json_has(o, "seed"))
        add_seed(line);
    if (l2d_json_has(o, "noise") && (e = add(line, L2D_CHANGE_NOISE)))
        e->change.noise = (enum l2d_noise_choice) L2D_JSON_CHOICE(o, "noise", timeline_noise);
    if (l2d_json_has(o, "show") && (e = add(line, L2D_CHANGE_SHOW)))
        e->change.show = (enum l2d_show) L2D_JSON_CHOICE(o, "show", timeline_show);
    if (l2d_json_has(o, "steady") && (e = add(line, L2D_CHANGE_STEADY)))
        e->change.steady = (float) l2d_json_real(o, "steady", 0, L2D_STEADY_MOST);
    if (l2d_json_has(o, "mix") && (e = add(line, L2D_CHANGE_MIX)))
        e->change.mix = (float) l2d_json_real(o, "mix", 0, 1);
    if (l2d_json_has(o, "rewarm") && (e = add(line, L2D_CHANGE_REWARM)) &&
        !l2d_json_bool(o, "rewarm"))
        l2d_json_fail(o->reader, "rewarm", "must be true, or left out");
    l2d_json_end(o);
    if (t->num_events == first)
        l2d_json_fail(o->reader, "", "nothing changes");
}

// "FILE:LINE" is what the reader takes for the file's name.
static int read_line(struct line *line, const char *path, const char *text, size_t len,
                     struct l2d_error *err)
{
    char name[512];
    json_error_t e;
    snprintf(name, sizeof(name), "%.480s:%d", path, line->number);
    struct l2d_json_reader r = { .file = name, .err = err };
    r.root = json_loadb(text, len, JSON_REJECT_DUPLICATES, &e);
    if (!r.root)
        l2d_json_fail(&r, "", "column %d: %s", e.column, e.text);
    line->object = l2d_json_root(&r);
    if (r.rc == L2D_OK)
        read_object(line);
    l2d_json_reader_finish(&r);
    return r.rc;
}

int timeline_load(struct timeline *t, const char *path, const char *steps,
                  enum l2d_prompt_syntax syntax, bool negative, struct l2d_error *err)
{
    char *text;
    size_t size;
    *t = (struct timeline) { .event = calloc(MAX_EVENTS, sizeof(*t->event)) };
    struct line line = { .timeline = t, .steps = steps, .syntax = syntax, .negative = negative };
    int rc = t->event ? l2d_file_read_pipe(&text, &size, path, MAX_BYTES, err)
                      : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    if (rc != L2D_OK) {
        timeline_finish(t);
        return rc;
    }
    static const char mark[] = "\xef\xbb\xbf";      // of UTF-8, which some editors write
    const char *at = size >= 3 && !memcmp(text, mark, 3) ? text + 3 : text;
    while (at < text + size && rc == L2D_OK) {
        line.number++;
        const char *end = memchr(at, '\n', (size_t) (text + size - at));
        size_t len = (size_t) ((end ? end : text + size) - at);
        size_t blank = strspn(at, " \t\r");
        if (blank < len && at[blank] != '#')
            rc = read_line(&line, path, at, len, err);
        at += len + 1;
    }
    free(text);
    if (rc == L2D_OK && t->num_events == 0)
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: nothing changes in it", path);
    if (rc != L2D_OK)
        timeline_finish(t);
    return rc;
}

static int check_lora(const struct l2d_engine_info *info, const char *name, struct l2d_error *err)
{
    for (int i = 0; i < info->num_loras; i++)
        if (!strcmp(name, info->lora[i].name))
            return L2D_OK;
    return l2d_error_set(err, L2D_EINVAL, "lora.%s: the model keeps no LoRA of that name apart; "
                         "see live2diff inspect", name);
}

int timeline_check(const struct timeline *t, const char *path, const struct l2d_engine_info *info,
                   const char *prompt, enum l2d_prompt_syntax syntax, struct l2d_error *err)
{
    for (size_t i = 0; i < t->num_events; i++) {
        const struct timeline_event *e = &t->event[i];
        int rc = L2D_OK;
        if (e->change.kind == L2D_CHANGE_PROMPT)
            prompt = e->text;
        else if (e->change.kind == L2D_CHANGE_LORA)
            rc = check_lora(info, e->text, err);
        else if (e->change.kind == L2D_CHANGE_BLEND &&
                 (rc = l2d_prompt_check_shares(e->text, prompt, syntax, err)) != L2D_OK)
            l2d_error_wrap(err, rc, "blend");
        if (rc != L2D_OK)
            return l2d_error_wrap(err, rc, "%s:%d", path, e->line);
    }
    return L2D_OK;
}

bool timeline_mixes(const struct timeline *t)
{
    for (size_t i = 0; i < t->num_events; i++)
        if (t->event[i].change.kind == L2D_CHANGE_MIX && t->event[i].change.mix > 0)
            return true;
    return false;
}

void timeline_finish(struct timeline *t)
{
    for (size_t i = 0; i < t->num_events; i++)
        free(t->event[i].text);
    for (size_t i = 0; i < L2D_MAX_STEP_SETS - 1; i++)
        free((char *) (uintptr_t) t->more_steps[i]);
    free(t->event);
    *t = (struct timeline) { .event = NULL };
}

const struct l2d_change *timeline_next(struct timeline *t, double at_s, double frame_rate)
{
    if (t->next == t->num_events || t->event[t->next].at_s > at_s + SLACK_S)
        return NULL;
    struct timeline_event *e = &t->event[t->next++];
    double frames = fmin(round(e->fade_s * frame_rate), UINT32_MAX);
    e->change.fade_frames = (uint32_t) frames;
    return &e->change;
}
