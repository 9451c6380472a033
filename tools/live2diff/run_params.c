// SPDX-License-Identifier: Apache-2.0
// See run_params.h. A parameter is a name in the list, a row in bind() and, if the stream is told
// of it, a case in change_of().
#include "run_params.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "recording.h"

#define MAX_PROMPT_BYTES 1023       // what a model's default may have, too
#define MAX_FADE 250
#define MAX_BLEND_BYTES 255
#define MAX_LORA_SCALE 2            // or what it begins with

enum which { FADE, EASING, PROMPT, BLEND, NEGATIVE, STEPS, SEED, NOISE, SHOW, STEADY, MIX, REWARM,
             PAUSE, RECORD, LORA, NUM_PARAMS = LORA + L2D_MAX_LORAS };       // LORA + i: the i-th

struct slot {                       // a row's user
    struct run_params *params;
    enum which which;
    struct param_value value;       // in effect, or on its way to be
    struct param_value effect;      // what a refusal leaves
};

struct told {                       // a change that the stream was told of
    const struct param *row;
    uint64_t ticket;
    struct param_value value;
    bool settled;
};

struct run_params {
    struct l2d_stream *stream;
    struct steer *steer;
    struct outputs *outputs;
    const char *folder;             // of recordings
    enum l2d_prompt_syntax syntax;
    struct param row[NUM_PARAMS];
    size_t num_rows;
    char steps[512];                // choices
    char lora[L2D_MAX_LORAS][L2D_LORA_NAME_BYTES + 8];     // "lora.NAME"

    pthread_mutex_t lock;
    // --- guarded by lock
    struct slot slot[NUM_PARAMS];
    struct told told[STATE_MAX_RECEIPTS];
    uint64_t num_told;              // the last of them are in the ring
};

static int copy_value(struct param_value *to, const struct param_value *from,
                      struct l2d_error *err)
{
    char *text = from->text ? strdup(from->text) : NULL;
    if (from->text && !text)
        return l2d_error_set(err, L2D_ENOMEM, "out of memory");
    param_value_finish(to);
    *to = *from;
    to->text = text;
    return L2D_OK;
}

static int get_value(void *user, struct param_value *value, struct l2d_error *err)
{
    struct slot *slot = user;
    pthread_mutex_lock(&slot->params->lock);
    int rc = copy_value(value, &slot->value, err);
    if (slot->which == RECORD)
        value->flag = recording_runs(slot->params->outputs);
    pthread_mutex_unlock(&slot->params->lock);
    return rc;
}

// The shares as they were set; or, since then the prompt has changed, as it says.
static int get_blend(void *user, struct param_value *value, struct l2d_error *err)
{
    struct run_params *p = ((struct slot *) user)->params;
    struct l2d_prompt parsed = { 0 };
    char text[16 * L2D_PROMPT_MAX_PARTS] = "";
    pthread_mutex_lock(&p->lock);
    const struct param_value *set = &p->slot[BLEND].value;
    int rc = set->text ? copy_value(value, set, err)
           : l2d_prompt_parse(&parsed, "{}", p->slot[PROMPT].value.text, p->syntax, err);
    pthread_mutex_unlock(&p->lock);
    if (rc != L2D_OK || value->text)
        return rc;
    for (int i = 0, n = 0; i < parsed.num_parts; i++)
        n += snprintf(text + n, sizeof(text) - (size_t) n, "%s%.3g", i ? ", " : "",
                      parsed.part[i].share);
    l2d_prompt_finish(&parsed);
    return copy_value(value, &(struct param_value) { .text = text }, err);
}

// That there is one for each part of the prompt is looked at when it is set: the prompt may come
// along with it.
static int check_blend(void *user, const struct param_value *value, struct l2d_error *err)
{
    double share[L2D_PROMPT_MAX_PARTS];
    int num, rc = l2d_prompt_parse_shares(share, &num, value->text, err);
    (void) user;
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "blend");
}

static int check_parts(const struct run_params *p, const struct param_value *value,
                       const char *prompt, struct l2d_error *err)
{
    int rc = l2d_prompt_check_shares(value->text, prompt, p->syntax, err);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "blend");
}

// The syntax alone: the words are the model's affair, and it takes any.
static int check_prompt(void *user, const struct param_value *value, struct l2d_error *err)
{
    struct slot *slot = user;
    struct l2d_prompt parsed = { 0 };
    int rc = l2d_prompt_parse(&parsed, "{}", value->text, slot->params->syntax, err);
    l2d_prompt_finish(&parsed);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, slot->which == PROMPT ? "prompt"
                                                                             : "negative");
}

// What the stream is told. returns false for what only the next change of another is made with.
static bool change_of(const struct run_params *p, enum which which,
                      const struct param_value *value, struct l2d_change *change)
{
    *change = (struct l2d_change) {
        .text = value->text, .fade_frames = (uint32_t) p->slot[FADE].value.integer,
        .easing = (enum l2d_easing) p->slot[EASING].value.integer,
    };
    if (which >= LORA) {
        change->kind = L2D_CHANGE_LORA;
        change->text = p->lora[which - LORA] + strlen("lora.");
        change->lora_scale = (float) value->real;
        return true;
    }
    switch (which) {
    case BLEND:    change->kind = L2D_CHANGE_BLEND; return value->text != NULL;
    case PROMPT:   change->kind = L2D_CHANGE_PROMPT; return true;
    case NEGATIVE: change->kind = L2D_CHANGE_NEGATIVE; return true;
    case STEPS:    change->kind = L2D_CHANGE_STEPS;
                   change->step_set = (uint32_t) value->integer; return true;
    case SEED:     change->kind = L2D_CHANGE_SEED;
                   change->seed = (uint64_t) value->integer; return true;
    case NOISE:    change->kind = L2D_CHANGE_NOISE;
                   change->noise = (enum l2d_noise_choice) value->integer; return true;
    case SHOW:     change->kind = L2D_CHANGE_SHOW;
                   change->show = (enum l2d_show) value->integer; return true;
    case STEADY:   change->kind = L2D_CHANGE_STEADY;
                   change->steady = (float) value->real; return true;
    case MIX:      change->kind = L2D_CHANGE_MIX;
                   change->mix = (float) value->real; return true;
    case REWARM:   change->kind = L2D_CHANGE_REWARM; return true;
    case FADE:
    case EASING:
    case PAUSE:
    case RECORD:
    case LORA:
    case NUM_PARAMS: break;
    }
    return false;
}

static const struct param *row_of(const struct run_params *p, const struct slot *slot)
{
    size_t i = 0;
    while (p->row[i].user != slot)
        i++;
    return &p->row[i];
}

// --- what became of it

// A later change has a value of its own to keep, and a prompt its own shares.
static bool is_last(const struct run_params *p, uint64_t n, enum which which)
{
    for (uint64_t i = n + 1; i < p->num_told; i++) {
        const struct slot *slot = p->told[i % STATE_MAX_RECEIPTS].row->user;
        if (slot->which == which || (which == BLEND && slot->which == PROMPT))
            return false;
    }
    return true;
}

static void settle_one(struct run_params *p, uint64_t n, enum l2d_receipt_state state)
{
    struct told *told = &p->told[n % STATE_MAX_RECEIPTS];
    struct slot *slot = told->row->user, *blend = &p->slot[BLEND];
    if (told->settled || state == L2D_RECEIPT_WAITING)
        return;
    told->settled = true;
    if (state == L2D_RECEIPT_DONE) {
        param_value_finish(&slot->effect);
        slot->effect = told->value;
        told->value = (struct param_value) { 0 };
        if (slot->which == PROMPT)
            param_value_finish(&blend->effect);
    } else if (state == L2D_RECEIPT_REFUSED) {
        if (is_last(p, n, slot->which))
            copy_value(&slot->value, &slot->effect, NULL);
        if (slot->which == PROMPT && is_last(p, n, BLEND))
            copy_value(&blend->value, &blend->effect, NULL);
    }
}

static uint64_t first_told(const struct run_params *p)
{
    return p->num_told > STATE_MAX_RECEIPTS ? p->num_told - STATE_MAX_RECEIPTS : 0;
}

static void settle_locked(struct run_params *p)
{
    for (uint64_t n = first_told(p); n < p->num_told; n++) {
        uint64_t ticket = p->told[n % STATE_MAX_RECEIPTS].ticket;
        settle_one(p, n, l2d_stream_receipt(p->stream, ticket).state);
    }
}

// One that still waits when there is no more room for it will most likely be done.
static void add_told(struct run_params *p, const struct slot *slot, uint64_t ticket,
                     struct param_value *value)
{
    settle_locked(p);
    if (p->num_told >= STATE_MAX_RECEIPTS)
        settle_one(p, first_told(p), L2D_RECEIPT_DONE);
    struct told *at = &p->told[p->num_told++ % STATE_MAX_RECEIPTS];
    param_value_finish(&at->value);
    *at = (struct told) { row_of(p, slot), ticket, *value, false };
}

// --- setting

static int set_locked(struct run_params *p, struct slot *slot, const struct param_value *value,
                      struct l2d_error *err)
{
    struct param_value after = { 0 }, asked = { 0 };
    struct l2d_change change;
    uint64_t ticket = 0;
    bool told = change_of(p, slot->which, value, &change);
    const char *prompt = p->slot[PROMPT].value.text;
    int rc = slot->which == BLEND ? check_parts(p, value, prompt, err) : L2D_OK;
    if (rc == L2D_OK)
        rc = copy_value(&after, value, err);
    if (rc == L2D_OK)
        rc = copy_value(&asked, value, err);
    if (rc == L2D_OK && told)
        rc = steer_change(p->steer, &change, L2D_WHEN_SOON, &ticket, err);
    if (rc != L2D_OK) {
        param_value_finish(&after);
        param_value_finish(&asked);
        return rc;
    }
    if (told)
        add_told(p, slot, ticket, &asked);
    else
        param_value_finish(&asked);
    param_value_finish(&slot->value);
    slot->value = after;
    if (slot->which == PAUSE)
        l2d_stream_pause(p->stream, value->flag);
    if (slot->which == PROMPT)
        param_value_finish(&p->slot[BLEND].value);
    return L2D_OK;
}

static int set_value(void *user, const struct param_value *value, struct l2d_error *err)
{
    struct slot *slot = user;
    pthread_mutex_lock(&slot->params->lock);
    int rc = slot->which == RECORD ? recording_set(slot->params->outputs, value->flag,
                                                    slot->params->folder, err)
                                   : set_locked(slot->params, slot, value, err);
    pthread_mutex_unlock(&slot->params->lock);
    return rc;
}

static enum which lora_of(const struct run_params *p, const char *name)
{
    int i = 0;
    while (i < L2D_MAX_LORAS && strcmp(p->lora[i], "") &&
           strcmp(p->lora[i] + strlen("lora."), name))
        i++;
    return i < L2D_MAX_LORAS && *p->lora[i] ? (enum which) (LORA + i) : NUM_PARAMS;
}

// 0.3, not 0.300000012: what was given, before it became a float.
static double as_given(double value)
{
    return round(value * 1e6) / 1e6;
}

void run_params_follow(struct run_params *p, const struct l2d_change *change)
{
    struct param_value value = { 0 };
    enum which which = NUM_PARAMS;
    switch (change->kind) {
    case L2D_CHANGE_PROMPT:   which = PROMPT; value.text = (char *) change->text; break;
    case L2D_CHANGE_BLEND:    which = BLEND; value.text = (char *) change->text; break;
    case L2D_CHANGE_LORA:     which = lora_of(p, change->text);
                              value.real = as_given((double) change->lora_scale); break;
    case L2D_CHANGE_NEGATIVE: which = NEGATIVE; value.text = (char *) change->text; break;
    case L2D_CHANGE_STEPS:    which = STEPS; value.integer = change->step_set; break;
    case L2D_CHANGE_SEED:     which = SEED; value.integer = (int64_t) change->seed; break;
    case L2D_CHANGE_NOISE:    which = NOISE; value.integer = change->noise; break;
    case L2D_CHANGE_SHOW:     which = SHOW; value.integer = change->show; break;
    case L2D_CHANGE_STEADY:   which = STEADY;
                              value.real = as_given((double) change->steady); break;
    case L2D_CHANGE_MIX:      which = MIX;
                              value.real = as_given((double) change->mix); break;
    case L2D_CHANGE_REWARM:   return;
    }
    if (which == NUM_PARAMS)
        return;
    pthread_mutex_lock(&p->lock);
    settle_locked(p);
    copy_value(&p->slot[which].value, &value, NULL);
    copy_value(&p->slot[which].effect, &value, NULL);
    if (which == PROMPT) {
        param_value_finish(&p->slot[BLEND].value);
        param_value_finish(&p->slot[BLEND].effect);
    }
    pthread_mutex_unlock(&p->lock);
}

// --- the table

static void add(struct run_params *p, enum which which, struct param row)
{
    p->slot[which].params = p;
    p->slot[which].which = which;
    row.user = &p->slot[which];
    row.get = row.kind == PARAM_ACTION ? NULL : which == BLEND ? get_blend : get_value;
    row.set = set_value;
    p->row[p->num_rows++] = row;
}

// "43/50|40,44,46,48/50": the set that the run began with, and the others.
static void name_steps(struct run_params *p, const struct l2d_engine_info *info)
{
    size_t n = 0;
    for (uint32_t i = 0; i < info->num_step_sets; i++)
        n += (size_t) snprintf(p->steps + n, sizeof(p->steps) - n, "%s%s", i ? "|" : "",
                               info->set_text[i]);
}

static void bind_prompts(struct run_params *p, enum l2d_guidance_mode guidance)
{
    add(p, FADE, (struct param) {
        .name = "fade", .kind = PARAM_INT, .unit = "frames", .max = MAX_FADE,
        .doc = "over how many frames the next prompt fades in; 0: at once",
    });
    add(p, EASING, (struct param) {
        .name = "easing", .kind = PARAM_CHOICE, .choices = "linear|smooth",
        .doc = "the pace of a fade; smooth is slow at both ends",
    });
    add(p, PROMPT, (struct param) {
        .name = "prompt", .kind = PARAM_TEXT, .max = MAX_PROMPT_BYTES, .check = check_prompt,
        .doc = "what the pictures shall look like",
    });
    add(p, BLEND, (struct param) {
        .name = "blend", .kind = PARAM_TEXT, .max = MAX_BLEND_BYTES, .check = check_blend,
        .doc = "how much each part of the prompt \"a :0.7 | b :0.3\" counts: \"0.7, 0.3\"",
    });
    if (l2d_guidance_has_negative(guidance))
        add(p, NEGATIVE, (struct param) {
            .name = "negative", .kind = PARAM_TEXT, .max = MAX_PROMPT_BYTES,
            .check = check_prompt, .doc = "what they shall not look like",
        });
}

static void bind_drawing(struct run_params *p, const struct l2d_engine_info *info)
{
    if (info->num_step_sets > 1)
        add(p, STEPS, (struct param) {
            .name = "steps", .kind = PARAM_CHOICE, .choices = p->steps,
            .doc = "denoising steps per frame; the model warms up anew",
        });
    add(p, SEED, (struct param) {
        .name = "seed", .kind = PARAM_INT, .max = PARAM_MAX_WHOLE, .doc = "of the noise",
    });
    add(p, NOISE, (struct param) {
        .name = "noise", .kind = PARAM_CHOICE, .choices = "model|shared|fresh",
        .doc = "as the model says, one for all frames, or new for each",
    });
    add(p, SHOW, (struct param) {
        .name = "show", .kind = PARAM_CHOICE, .choices = "drawn|source|frozen",
        .doc = "what comes out; the model rests while nothing is drawn",
    });
    add(p, STEADY, (struct param) {
        .name = "steady", .kind = PARAM_REAL, .max = L2D_STEADY_MOST, .step = 0.05,
        .doc = "against flicker: how much of the last picture is kept where the source goes on",
    });
    if (info->can_mix)
        add(p, MIX, (struct param) {
            .name = "mix", .kind = PARAM_REAL, .max = 1, .step = 0.05,
            .doc = "how much of the source is mixed into what comes out",
        });
    add(p, REWARM, (struct param) {
        .name = "rewarm", .kind = PARAM_ACTION,
        .doc = "let the model forget what was before, as after a scene cut",
    });
}

static void bind_run(struct run_params *p, const struct run_params_setup *setup)
{
    if (!setup->live)
        add(p, PAUSE, (struct param) {
            .name = "pause", .kind = PARAM_FLAG,
            .doc = "stop reading, drawing and writing; then go on where it was",
        });
    if (setup->outputs)
        add(p, RECORD, (struct param) {
            .name = "record", .kind = PARAM_FLAG,
            .doc = "to a new file in the run's folder, with its sound",
        });
}

static void bind_loras(struct run_params *p, const struct l2d_engine_info *info)
{
    for (int i = 0; i < info->num_loras; i++) {
        double scale = (double) info->lora[i].scale, most = fmax(MAX_LORA_SCALE, fabs(scale));
        snprintf(p->lora[i], sizeof(p->lora[i]), "lora.%s", info->lora[i].name);
        add(p, (enum which) (LORA + i), (struct param) {
            .name = p->lora[i], .kind = PARAM_REAL, .min = -most, .max = most, .step = 0.05,
            .doc = "how much this LoRA counts; 0: not at all. It takes a while with a large model",
        });
        p->slot[LORA + i].value.real = round(scale * 1e6) / 1e6;    // 0.8, as it was written
    }
}

static int set_initial(struct run_params *p, const struct run_params_setup *setup,
                       struct l2d_error *err)
{
    const struct model_options *o = setup->model;
    struct l2d_model_config *config = malloc(sizeof(*config));
    char path[4096];
    if (!config)
        return l2d_error_set(err, L2D_ENOMEM, "out of memory");
    snprintf(path, sizeof(path), "%s/model.json", setup->model_folder);
    int rc = o->prompt ? L2D_OK : l2d_model_config_read(config, path, err);
    if (rc == L2D_OK)
        rc = copy_value(&p->slot[PROMPT].value, &(struct param_value) {
            .text = o->prompt ? (char *) o->prompt : config->prompt }, err);
    if (rc == L2D_OK)
        rc = copy_value(&p->slot[NEGATIVE].value, &(struct param_value) {
            .text = o->negative ? (char *) o->negative : "" }, err);
    p->slot[SEED].value.integer = (int64_t) o->seed;
    p->slot[NOISE].value.integer = o->noise;
    p->slot[MIX].value.real = l2d_stream_info(p->stream)->mix;
    p->slot[STEADY].value.real = as_given(l2d_stream_info(p->stream)->steady);
    free(config);
    return rc;
}

int run_params_create(struct run_params **out, const struct run_params_setup *setup,
                      struct l2d_error *err)
{
    struct run_params *p = calloc(1, sizeof(*p));
    if (!p)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    const struct l2d_engine_info *info = l2d_stream_info(setup->stream);
    int rc = L2D_OK;
    pthread_mutex_init(&p->lock, NULL);
    p->stream = setup->stream;
    p->steer = setup->steer;
    p->outputs = setup->outputs;
    p->folder = setup->folder;
    p->syntax = (enum l2d_prompt_syntax) setup->model->prompt_syntax;
    if (setup->model_folder) {
        name_steps(p, info);
        bind_prompts(p, info->guidance_mode);
        bind_drawing(p, info);
        bind_loras(p, info);
        rc = set_initial(p, setup, err);
    }
    bind_run(p, setup);
    for (int i = 0; i < NUM_PARAMS && rc == L2D_OK; i++)
        rc = copy_value(&p->slot[i].effect, &p->slot[i].value, err);
    if (rc != L2D_OK) {
        run_params_destroy(&p);
        return rc;
    }
    *out = p;
    return L2D_OK;
}

void run_params_destroy(struct run_params **params)
{
    struct run_params *p = *params;
    *params = NULL;
    if (!p)
        return;
    for (int i = 0; i < NUM_PARAMS; i++) {
        param_value_finish(&p->slot[i].value);
        param_value_finish(&p->slot[i].effect);
    }
    for (int i = 0; i < STATE_MAX_RECEIPTS; i++)
        param_value_finish(&p->told[i].value);
    pthread_mutex_destroy(&p->lock);
    free(p);
}

void run_params_initial(struct run_params *p,
                        void (*tell)(void *user, const struct l2d_change *change), void *user)
{
    struct l2d_change change;
    pthread_mutex_lock(&p->lock);
    for (size_t i = 0; i < p->num_rows; i++) {
        const struct slot *slot = p->row[i].user;
        bool has_default = p->row[i].kind == PARAM_CHOICE || p->row[i].kind == PARAM_ACTION;
        if (change_of(p, slot->which, &slot->value, &change) &&
            !(has_default && slot->value.integer == 0))
            tell(user, &change);
    }
    pthread_mutex_unlock(&p->lock);
}

// A blend is of the prompt that comes with it.
static int check_together(void *user, const struct param_value *const *after,
                          struct l2d_error *err)
{
    struct run_params *p = user;
    const struct param_value *prompt = NULL, *blend = NULL;
    for (size_t i = 0; i < p->num_rows; i++) {
        const struct slot *slot = p->row[i].user;
        if (slot->which == PROMPT)
            prompt = after[i];
        if (slot->which == BLEND)
            blend = after[i];
    }
    return prompt && blend ? check_parts(p, blend, prompt->text, err) : L2D_OK;
}

struct param_table run_params_table(struct run_params *p)
{
    return (struct param_table) { p->row, p->num_rows, p, check_together };
}

const char *run_params_prompt(const struct run_params *p)
{
    return p->slot[PROMPT].value.text;
}

int32_t run_params_num_steps(const struct run_params *p)
{
    uint32_t set = l2d_stream_stats(p->stream).engine.step_set;
    return l2d_stream_info(p->stream)->steps_of_set[set];
}

void run_params_settle(struct run_params *p, struct control_state *state)
{
    static const char *const words[] = {
        [L2D_RECEIPT_WAITING] = "waiting", [L2D_RECEIPT_DONE] = "done",
        [L2D_RECEIPT_REFUSED] = "refused", [L2D_RECEIPT_UNKNOWN] = "unknown",
    };
    pthread_mutex_lock(&p->lock);
    for (uint64_t n = first_told(p); n < p->num_told; n++) {
        const struct told *told = &p->told[n % STATE_MAX_RECEIPTS];
        struct l2d_receipt receipt = l2d_stream_receipt(p->stream, told->ticket);
        settle_one(p, n, receipt.state);
        struct state_receipt *to = &state->receipt[state->num_receipts++];
        *to = (struct state_receipt) { .number = n + 1, .param = told->row->name,
                                       .state = words[receipt.state], .frame = receipt.first + 1 };
        snprintf(to->why, sizeof(to->why), "%s", receipt.why);
    }
    pthread_mutex_unlock(&p->lock);
}
