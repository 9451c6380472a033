// SPDX-License-Identifier: Apache-2.0
// See outputs.h.
#include "outputs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define HURRY_AFTER_S 0.75      // the bound of a removal, but for what a disk takes
#define REFUSED_S 1.0           // that who has added it can still look why

static void free_member(struct outputs_member *m)
{
    for (size_t i = 0; m && i < sizeof(m->text) / sizeof(m->text[0]); i++)
        free(m->text[i]);
    free(m);
}

void outputs_init(struct outputs *set, const struct l2d_log *log)
{
    memset(set, 0, sizeof(*set));
    set->log = l2d_log_named(log, "outputs");
    pthread_mutex_init(&set->lock, NULL);
}

void outputs_set(struct outputs *set, const struct l2d_sink_params *params)
{
    set->params = *params;
}

void outputs_finish(struct outputs *set)
{
    outputs_abort(set);
    outputs_join(set);
    for (unsigned i = 0; i < set->num_members; i++) {
        output_join(&set->member[i]->output);
        free_member(set->member[i]);
    }
    for (unsigned i = 0; i < OUTPUTS_MAX_PAST && set->past[i]; i++) {
        output_join(&set->past[i]->output);
        free_member(set->past[i]);
    }
    for (unsigned i = 0; i < OUTBOX_PACKETS; i++)
        shared_item_unref(set->sound[i]);
    pthread_mutex_destroy(&set->lock);
    memset(set, 0, sizeof(*set));
}

static struct outputs_member *find_locked(const struct outputs *set, uint32_t id)
{
    for (unsigned i = 0; i < set->num_members; i++)
        if (set->member[i]->id == id)
            return set->member[i];
    return NULL;
}

// --- adding

static int new_member(struct outputs_member **out, const struct output_options *o,
                      enum outputs_kind kind, struct l2d_error *err)
{
    const char *const text[] = { o->name, o->format, o->codec, o->codec_options };
    struct outputs_member *m = calloc(1, sizeof(*m));
    bool good = m != NULL;
    for (size_t i = 0; good && i < sizeof(text) / sizeof(text[0]); i++) {
        m->text[i] = text[i] ? strdup(text[i]) : NULL;
        good = !text[i] || m->text[i];
    }
    if (!good) {
        free_member(m);
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", o->name);
    }
    m->kind = kind;
    *out = m;
    return L2D_OK;
}

// Nothing may be many. A window may not: SDL has one queue of events, for one thread.
static bool is_there(const struct outputs *set, const char *name)
{
    bool one = strcmp(name, "null");
    for (unsigned i = 0; one && i < set->num_members; i++)
        if (!strcmp(set->member[i]->output.name, name) &&
            !output_has_ended(&set->member[i]->output))
            return true;
    return false;
}

static bool is_recording(const struct outputs_member *m)
{
    return m->kind == OUTPUTS_RECORDING && !m->leaving && !output_has_ended(&m->output);
}

static int add_locked(struct outputs *set, struct outputs_member *m, struct l2d_error *err)
{
    bool late = m->kind != OUTPUTS_FIRST;
    if (set->closed)
        return l2d_error_set(err, L2D_ECLOSED, "the run is ending");
    if (set->num_members == RUN_MAX_OUTPUTS)
        return l2d_error_set(err, L2D_ECLOSED, "%d outputs, as many as there may be: remove one "
                             "first", RUN_MAX_OUTPUTS);
    if (late && is_there(set, m->text[0]))
        return l2d_error_set(err, L2D_EINVAL, "%s: is an output already", m->text[0]);
    for (unsigned i = 0; m->kind == OUTPUTS_RECORDING && i < set->num_members; i++)
        if (is_recording(set->member[i]))
            return l2d_error_set(err, L2D_EINVAL, "%s: is being recorded already",
                                 set->member[i]->output.name);
    struct l2d_sink_params params = set->params;
    params.format = m->text[1];
    params.codec = m->text[2];
    params.codec_options = m->text[3];
    params.overwrite = params.overwrite && !late;
    params.joins = late;
    int rc = output_start(&m->output, m->text[0], &params, late, err);
    if (rc != L2D_OK) {
        output_join(&m->output);
        return rc;
    }
    m->id = set->next_id++;
    set->member[set->num_members++] = m;
    return L2D_OK;
}

int outputs_add(struct outputs *set, const struct output_options *options, enum outputs_kind kind,
                uint32_t *id, struct l2d_error *err)
{
    struct outputs_member *m = NULL;
    int rc = new_member(&m, options, kind, err);
    if (rc != L2D_OK)
        return rc;
    pthread_mutex_lock(&set->lock);
    rc = add_locked(set, m, err);
    if (rc == L2D_OK && id)
        *id = m->id;
    pthread_mutex_unlock(&set->lock);
    if (rc != L2D_OK) {
        free_member(m);
        return rc;
    }
    return kind == OUTPUTS_FIRST ? output_wait_open(&m->output, err) : L2D_OK;
}

static void leave_locked(struct outputs_member *m)
{
    if (m->leaving)
        return;
    m->leaving = true;
    m->left_s = l2d_clock_s();
    output_leave(&m->output);
}

enum outputs_look outputs_look(struct outputs *set, uint32_t id, struct l2d_error *err)
{
    enum outputs_look look = OUTPUTS_OPEN;
    pthread_mutex_lock(&set->lock);
    struct outputs_member *m = find_locked(set, id);
    if (!m || m->leaving) {
        l2d_error_set(err, L2D_ECLOSED, "it was removed before it was open");
        look = OUTPUTS_REFUSED;
    } else if (atomic_load(&m->output.state) == OUTPUT_OPENING) {
        look = OUTPUTS_OPENING;
    } else if (atomic_load(&m->output.state) == OUTPUT_FAILED) {
        output_error(&m->output, err);
        leave_locked(m);
        look = OUTPUTS_REFUSED;
    }
    pthread_mutex_unlock(&set->lock);
    return look;
}

// --- removing

// Whether the run goes on for it. Not for a recording: who closes the window ends the run, and what
// was recorded is whole. Nor for one that may never be there.
static bool is_reason(const struct outputs_member *m)
{
    bool opens = m->output.late && atomic_load(&m->output.state) == OUTPUT_OPENING;
    return m->kind != OUTPUTS_RECORDING && !opens && !m->leaving && !output_has_ended(&m->output);
}

// Whether there is such an output, but for one.
static bool has_reason_locked(const struct outputs *set, const struct outputs_member *but)
{
    for (unsigned i = 0; i < set->num_members; i++)
        if (set->member[i] != but && is_reason(set->member[i]))
            return true;
    return false;
}

static int remove_locked(struct outputs *set, uint32_t id, struct l2d_error *err)
{
    struct outputs_member *m = find_locked(set, id);
    if (!m)
        return l2d_error_set(err, L2D_EINVAL, "there is no output %u", (unsigned) id);
    if (set->closed)
        return l2d_error_set(err, L2D_ECLOSED, "the run is ending");
    if (is_reason(m) && !has_reason_locked(set, m))
        return l2d_error_set(err, L2D_ECLOSED, "it is the only output that runs: add another "
                             "first, or end the run");
    leave_locked(m);
    return L2D_OK;
}

int outputs_remove(struct outputs *set, uint32_t id, struct l2d_error *err)
{
    pthread_mutex_lock(&set->lock);
    int rc = remove_locked(set, id, err);
    pthread_mutex_unlock(&set->lock);
    return rc;
}

bool outputs_recording(struct outputs *set, uint32_t *id)
{
    bool found = false;
    pthread_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->num_members && !found; i++) {
        found = is_recording(set->member[i]);
        if (found && id)
            *id = set->member[i]->id;
    }
    pthread_mutex_unlock(&set->lock);
    return found;
}

// The next one that can be joined, taken out of the list; NULL: none.
static struct outputs_member *take_left(struct outputs *set, double now_s)
{
    struct outputs_member *left = NULL;
    pthread_mutex_lock(&set->lock);
    bool over = !set->closed && !has_reason_locked(set, NULL);
    for (unsigned i = 0; i < set->num_members && !left; i++) {
        struct outputs_member *m = set->member[i];
        if (over && is_recording(m))
            leave_locked(m);
        bool ended = output_has_ended(&m->output);
        if (m->leaving && !ended && !m->hurried && now_s - m->left_s > HURRY_AFTER_S) {
            m->hurried = true;
            output_hurry(&m->output);
        }
        if (!m->leaving || !ended || m->users > 0)
            continue;
        left = m;
        memmove(&set->member[i], &set->member[i + 1],
                (--set->num_members - i) * sizeof(set->member[0]));
    }
    pthread_mutex_unlock(&set->lock);
    return left;
}

// Nothing moves any more: exactly.
static bool adds_up(struct output *out, struct output_counts *c)
{
    *c = output_counts(out);
    return c->given == c->written + c->stalled + c->lost && c->waiting == 0;
}

// Into the past, where the report finds it; what was never open is forgotten.
static void bury(struct outputs *set, struct outputs_member *m)
{
    struct output_counts counts;
    struct outputs_member *gone = m;
    l2d_thread_join(&m->output.thread);
    bool fair = adds_up(&m->output, &counts);
    int state = atomic_load(&m->output.state);
    bool opened = m->kind == OUTPUTS_FIRST || state != OUTPUT_FAILED || counts.given > 0;
    bool news = state == OUTPUT_FAILED && !m->told;         // such as a file without a name
    if (opened)
        l2d_log_print(&set->log, !fair ? L2D_LOG_ERROR : news ? L2D_LOG_WARN : L2D_LOG_INFO,
                      "%s: removed (%s%s%s) after %llu frames of %llu", m->output.name,
                      output_state_str((enum output_state) state), news ? ": " : "",
                      news ? m->output.err.msg : "", (unsigned long long) counts.written,
                      (unsigned long long) counts.given);
    else
        l2d_log_print(&set->log, m->failed_s > 0 ? L2D_LOG_WARN : L2D_LOG_INFO, "not added: %s",
                      m->output.err.msg);
    pthread_mutex_lock(&set->lock);
    set->unfair += !fair;
    if (opened) {
        struct outputs_member **slot = &set->past[set->num_past++ % OUTPUTS_MAX_PAST];
        gone = *slot;
        *slot = m;
    }
    pthread_mutex_unlock(&set->lock);
    if (gone)
        output_join(&gone->output);
    free_member(gone);
}

// A run goes on for hours without the one that has failed: that is told at once.
static void tell_failed(struct outputs *set)
{
    pthread_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->num_members; i++) {
        struct outputs_member *m = set->member[i];
        bool failed = atomic_load(&m->output.state) == OUTPUT_FAILED && !m->leaving &&
                      output_counts(&m->output).given > 0;
        if (!failed || m->told || !has_reason_locked(set, m))
            continue;
        struct l2d_error err;
        output_error(&m->output, &err);
        m->told = true;
        l2d_log_print(&set->log, L2D_LOG_WARN, "%s has failed, the others go on: %s",
                      m->output.name, err.msg);
    }
    pthread_mutex_unlock(&set->lock);
}

bool outputs_was_refused(struct outputs_member *m)
{
    return m->output.late && atomic_load(&m->output.state) == OUTPUT_FAILED &&
           output_counts(&m->output).given == 0;
}

// Who has added an output does not wait for ever, and nobody else looks.
static void leave_refused(struct outputs *set, double now_s)
{
    pthread_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->num_members; i++) {
        struct outputs_member *m = set->member[i];
        if (m->leaving || !outputs_was_refused(m))
            continue;
        if (m->failed_s <= 0)
            m->failed_s = now_s;
        else if (now_s - m->failed_s > REFUSED_S)
            leave_locked(m);
    }
    pthread_mutex_unlock(&set->lock);
}

void outputs_tend(struct outputs *set, double now_s)
{
    struct outputs_member *m;
    tell_failed(set);
    leave_refused(set, now_s);
    while ((m = take_left(set, now_s)))
        bury(set, m);
}

// --- frames

// An output that joins gets the sound of its first pictures too, which has gone by.
static void give_sound(struct outputs *set, struct outputs_member *m, struct shared_item *shared)
{
    bool joins = m->output.late && !m->joined;
    if (joins && atomic_load(&m->output.state) == OUTPUT_OPENING)
        return;
    uint64_t n = set->num_sound, first = n > OUTBOX_PACKETS ? n - OUTBOX_PACKETS : 0;
    for (uint64_t i = first; joins && i < n; i++)
        output_push(&m->output, set->sound[i % OUTBOX_PACKETS]);
    m->joined = true;
    output_push(&m->output, shared);
}

void outputs_push(struct outputs *set, struct shared_item *shared)
{
    struct outputs_member *to[RUN_MAX_OUTPUTS];
    bool sound = shared->item.kind == L2D_ITEM_AUDIO;
    unsigned n = 0;
    pthread_mutex_lock(&set->lock);
    for (; n < set->num_members; n++) {
        to[n] = set->member[n];
        to[n]->users++;
    }
    pthread_mutex_unlock(&set->lock);
    for (unsigned i = 0; i < n; i++)
        if (sound)
            give_sound(set, to[i], shared);
        else
            output_push(&to[i]->output, shared);
    pthread_mutex_lock(&set->lock);
    for (unsigned i = 0; i < n; i++)
        to[i]->users--;
    pthread_mutex_unlock(&set->lock);
    if (sound) {
        struct shared_item **slot = &set->sound[set->num_sound++ % OUTBOX_PACKETS];
        shared_item_unref(*slot);
        *slot = shared_item_ref(shared);
    }
}

// --- all of them

bool outputs_has(struct outputs *set, const char *name)
{
    pthread_mutex_lock(&set->lock);
    bool has = is_there(set, name);
    pthread_mutex_unlock(&set->lock);
    return has;
}

bool outputs_all_ended(struct outputs *set)
{
    bool all = true;
    pthread_mutex_lock(&set->lock);
    for (unsigned i = 0; i < set->num_members; i++)
        all = all && output_has_ended(&set->member[i]->output);
    pthread_mutex_unlock(&set->lock);
    return all;
}

bool outputs_are_fair(struct outputs *set)
{
    pthread_mutex_lock(&set->lock);
    bool fair = set->unfair == 0;
    for (unsigned i = 0; i < set->num_members; i++)
        fair = output_adds_up(&set->member[i]->output) && fair;
    pthread_mutex_unlock(&set->lock);
    return fair;
}

void outputs_status(struct outputs *set, struct run_status *status)
{
    pthread_mutex_lock(&set->lock);
    status->num_outputs = set->num_members;
    for (unsigned i = 0; i < set->num_members; i++) {
        struct outputs_member *m = set->member[i];
        struct run_status_output *to = &status->output[i];
        snprintf(to->name, sizeof(to->name), "%.*s", (int) sizeof(to->name) - 1, m->output.name);
        output_reason(&m->output, to->reason, sizeof(to->reason));
        to->id = m->id;
        to->state = (enum output_state) atomic_load(&m->output.state);
        to->leaving = m->leaving;
        to->recording = m->kind == OUTPUTS_RECORDING;
        to->counts = output_counts(&m->output);
        to->latency = output_latency(&m->output, true);
    }
    pthread_mutex_unlock(&set->lock);
}

static void tell_all(struct outputs *set, bool close, void (*what)(struct output *))
{
    pthread_mutex_lock(&set->lock);
    set->closed |= close;
    for (unsigned i = 0; i < set->num_members; i++)
        what(&set->member[i]->output);
    pthread_mutex_unlock(&set->lock);
}

static void finish_whole(struct output *out)
{
    output_finish(out, false);
}

static void finish_cut(struct output *out)
{
    output_finish(out, true);
}

void outputs_give_up(struct outputs *set)
{
    tell_all(set, false, output_give_up);
}

void outputs_end(struct outputs *set, bool cut_audio)
{
    tell_all(set, true, cut_audio ? finish_cut : finish_whole);
}

void outputs_hurry(struct outputs *set)
{
    tell_all(set, true, output_hurry);
}

void outputs_abort(struct outputs *set)
{
    tell_all(set, true, output_abort);
}

void outputs_join(struct outputs *set)
{
    for (unsigned i = 0; i < set->num_members; i++)
        l2d_thread_join(&set->member[i]->output.thread);
}
