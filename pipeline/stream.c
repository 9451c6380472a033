// SPDX-License-Identifier: Apache-2.0
// The engine on a thread of its own between two bounded queues. See stream.h.
#include "pipeline/stream.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/queue.h"
#include "base/thread.h"
#include "pipeline/dump.h"
#include "pipeline/pace.h"

#define DEFAULT_QUEUE_FRAMES 4
#define NUM_RECEIPTS 256
#define PASSED_OVER "a later change came before it was its turn"

struct item {                           // of the input queue
    struct l2d_frame *frame;
    uint64_t number;                    // in the order of pushing, dropped ones too
};

struct waiting {                        // a change
    struct waiting *next;
    struct l2d_change change;
    char *text;                         // the change's
    uint64_t number;                    // of the frame that it waits for
    uint64_t ticket;
    bool in_order;                      // with that frame and no later one
    int32_t lora;                       // of L2D_CHANGE_LORA: which
    bool foreseen;                      // its weights are being computed
};

struct l2d_stream {
    struct l2d_gpu *gpu;
    struct l2d_engine *engine;          // the thread's alone once it runs
    struct l2d_engine_info info;        // a copy: readable while the thread works
    struct l2d_dump *dump;
    struct l2d_log log;
    bool live;
    void (*on_change)(void *user, const struct l2d_change *change, const struct l2d_frame *frame);
    void *on_change_user;
    struct l2d_queue *in;               // struct item *
    struct l2d_queue *out;              // struct l2d_frame *
    struct l2d_thread thread;
    // --- the thread's alone
    struct waiting *loras;              // scales whose weights are not there yet, oldest first
    struct l2d_pace pace;               // of a live stream

    pthread_mutex_t lock;
    // --- guarded by lock
    struct l2d_error error;             // what ended the stream, if anything did
    struct l2d_stream_stats stats;
    struct waiting *waiting;            // oldest first
    uint64_t num_tickets, next_number;
    struct l2d_receipt receipt[NUM_RECEIPTS];       // by ticket
    bool over;                          // no more changes
    bool paused, stopped;
    pthread_cond_t resumed;
};

static void free_frame(void *item)
{
    struct l2d_frame *frame = item;
    l2d_frame_unref(&frame);
}

static void free_item(void *arg)
{
    struct item *item = arg;
    l2d_frame_unref(&item->frame);
    free(item);
}

// Called by the engine, on the thread. Waits while the output queue is full.
static void on_frame(void *user, struct l2d_frame *frame)
{
    struct l2d_stream *s = user;
    if (l2d_queue_push(s->out, frame) != L2D_QUEUE_OK)
        l2d_frame_unref(&frame);        // stopped
}

static void on_probe(void *user, uint32_t frame, int step, const char *name, const float *data,
                     int32_t h, int32_t w, int32_t c)
{
    struct l2d_stream *s = user;
    l2d_dump_add(s->dump, frame, step, name, data, h, w, c);
}

static void fail(struct l2d_stream *s, const struct l2d_error *err)
{
    pthread_mutex_lock(&s->lock);
    if (s->error.code == L2D_OK)
        s->error = *err;
    pthread_mutex_unlock(&s->lock);
}

static void settle(struct l2d_stream *s, struct waiting *w, enum l2d_receipt_state state,
                   uint64_t first, const char *why)
{
    pthread_mutex_lock(&s->lock);
    if (s->num_tickets - w->ticket < NUM_RECEIPTS) {        // else it is a later ticket's
        struct l2d_receipt *r = &s->receipt[w->ticket % NUM_RECEIPTS];
        *r = (struct l2d_receipt) { .state = state, .first = first };
        snprintf(r->why, sizeof(r->why), "%.255s", why);
    }
    pthread_mutex_unlock(&s->lock);
    free(w->text);
    free(w);
}

// The oldest change that waits for no frame behind this one, or NULL.
static struct waiting *take(struct l2d_stream *s, uint64_t number)
{
    pthread_mutex_lock(&s->lock);
    struct waiting **at = &s->waiting;
    while (*at && (*at)->number > number)
        at = &(*at)->next;
    struct waiting *found = *at;
    if (found)
        *at = found->next;
    pthread_mutex_unlock(&s->lock);
    return found;
}

static void refuse(struct l2d_stream *s, struct waiting *w, const struct l2d_error *err)
{
    settle(s, w, L2D_RECEIPT_REFUSED, 0, err->msg);
    l2d_log_print(&s->log, L2D_LOG_WARN, "%s; it stays as it was", err->msg);
}

// ---- scales of LoRAs: computed beside the frames, unless they are due with one

// A scale takes the place of one of the same LoRA that nobody has begun to compute.
static void add_lora(struct l2d_stream *s, struct waiting *w)
{
    struct l2d_error err = { 0 };
    int rc = l2d_engine_find_lora(s->engine, w->change.text, &w->lora, &err);
    if (rc == L2D_OK)
        rc = l2d_engine_check_lora(s->engine, w->lora, w->change.lora_scale, &err);
    if (rc != L2D_OK) {
        refuse(s, w, &err);
        return;
    }
    struct waiting **at = &s->loras;
    while (*at) {
        struct waiting *other = *at;
        if (other->lora != w->lora || other->foreseen) {
            at = &other->next;
            continue;
        }
        *at = other->next;
        settle(s, other, L2D_RECEIPT_REFUSED, 0, PASSED_OVER);
    }
    w->next = NULL;
    *at = w;
}

// All scales as they will be; if not all, then with those alone that are foreseen.
static void sum_up(const struct l2d_stream *s, bool all, float scale[L2D_MAX_LORAS])
{
    memcpy(scale, l2d_engine_loras(s->engine), L2D_MAX_LORAS * sizeof(*scale));
    for (const struct waiting *w = s->loras; w; w = w->next)
        if (all || w->foreseen)
            scale[w->lora] = w->change.lora_scale;
}

static void set_loras(struct l2d_stream *s, const struct l2d_frame *frame, bool all)
{
    float scale[L2D_MAX_LORAS];
    uint64_t first = 0;
    struct l2d_error err = { 0 };
    sum_up(s, all, scale);
    int rc = l2d_engine_set_loras(s->engine, scale, &first, &err);
    for (struct waiting **at = &s->loras; *at;) {
        struct waiting *w = *at;
        if (!all && !w->foreseen) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        if (rc == L2D_OK && s->on_change)
            s->on_change(s->on_change_user, &w->change, frame);
        if (rc == L2D_OK)
            settle(s, w, L2D_RECEIPT_DONE, first, "");
        else
            refuse(s, w, &err);
    }
}

static void change_loras(struct l2d_stream *s, const struct l2d_frame *frame)
{
    bool due = false, foreseen = false;
    for (const struct waiting *w = s->loras; w; w = w->next) {
        due |= w->in_order;
        foreseen |= w->foreseen;
    }
    if (due)
        set_loras(s, frame, true);
    else if (foreseen && !l2d_engine_is_foreseeing(s->engine))
        set_loras(s, frame, false);
    if (!s->loras || (foreseen && l2d_engine_is_foreseeing(s->engine)))
        return;
    float scale[L2D_MAX_LORAS];
    struct l2d_error err = { 0 };
    sum_up(s, true, scale);
    if (l2d_engine_foresee_loras(s->engine, scale, &err) != L2D_OK)
        set_loras(s, frame, true);             // without a thread
    for (struct waiting *w = s->loras; w; w = w->next)
        w->foreseen = true;
}

// What cannot be changed stays, with a line in the log; what the GPU does not do ends the stream.
static int make_changes(struct l2d_stream *s, const struct item *item, struct l2d_error *err)
{
    struct waiting *w;
    while ((w = take(s, item->number))) {
        uint64_t first = 0;
        if (w->change.kind == L2D_CHANGE_LORA) {
            add_lora(s, w);
            continue;
        }
        int rc = l2d_engine_change(s->engine, &w->change, &first, err);
        if (rc == L2D_OK && s->on_change)
            s->on_change(s->on_change_user, &w->change, item->frame);
        settle(s, w, rc == L2D_OK ? L2D_RECEIPT_DONE : L2D_RECEIPT_REFUSED, first,
               rc == L2D_OK ? "" : err->msg);
        if (rc == L2D_EINVAL)
            l2d_log_print(&s->log, L2D_LOG_WARN, "%s; it stays as it was", err->msg);
        else if (rc != L2D_OK)
            return rc;
    }
    if (s->loras)
        change_loras(s, item->frame);
    return L2D_OK;
}

static void refuse_changes(struct l2d_stream *s)
{
    struct waiting *w;
    pthread_mutex_lock(&s->lock);
    s->over = true;
    pthread_mutex_unlock(&s->lock);
    while ((w = s->loras) || (w = take(s, UINT64_MAX))) {
        s->loras = w == s->loras ? w->next : s->loras;
        settle(s, w, L2D_RECEIPT_REFUSED, 0, "the stream has ended");
    }
}

static void publish(struct l2d_stream *s, uint64_t done)
{
    struct l2d_engine_stats stats = l2d_engine_stats(s->engine);
    pthread_mutex_lock(&s->lock);
    s->stats.engine = stats;
    s->stats.frames_done += done;
    pthread_mutex_unlock(&s->lock);
}

static void wait_while_paused(struct l2d_stream *s)
{
    pthread_mutex_lock(&s->lock);
    while (s->paused)
        pthread_cond_wait(&s->resumed, &s->lock);
    pthread_mutex_unlock(&s->lock);
}

static bool has_changes(struct l2d_stream *s)
{
    pthread_mutex_lock(&s->lock);
    bool any = s->waiting || s->loras;
    pthread_mutex_unlock(&s->lock);
    return any;
}

// A live stream's picture that is being drawn, if there is one, comes out.
static int collect(struct l2d_stream *s, struct l2d_error *err)
{
    if (!s->pace.in_flight)
        return L2D_OK;
    int rc = l2d_pace_collect(&s->pace, s->engine, err);
    publish(s, 1);
    return rc;
}

// Waits for a frame; while a picture is being drawn it only looks for one.
static int next_item(struct l2d_stream *s, struct item **item, enum l2d_queue_status *status,
                     struct l2d_error *err)
{
    void *popped = NULL;
    int rc = L2D_OK;
    *status = L2D_QUEUE_TIMEOUT;
    if (s->pace.in_flight && !has_changes(s))
        *status = l2d_queue_pop_timed(s->in, &popped, 0);
    if (*status == L2D_QUEUE_TIMEOUT) {
        rc = collect(s, err);
        if (rc == L2D_OK)
            *status = l2d_queue_pop(s->in, &popped);
    }
    *item = popped;
    return rc;
}

static int push(struct l2d_stream *s, const struct item *item, struct l2d_error *err)
{
    wait_while_paused(s);
    int rc = make_changes(s, item, err);
    if (rc != L2D_OK)
        return rc;
    uint64_t done = s->pace.in_flight;  // by now
    rc = s->live ? l2d_pace_push(&s->pace, s->engine, item->frame, err)
                 : l2d_engine_push(s->engine, item->frame, err);
    publish(s, done + !s->pace.in_flight);
    return rc;
}

static void run(void *arg)
{
    struct l2d_stream *s = arg;
    struct l2d_error err = { 0 };
    enum l2d_queue_status status = L2D_QUEUE_OK;
    struct item *item = NULL;
    int rc = L2D_OK;
    while (rc == L2D_OK) {
        rc = next_item(s, &item, &status, &err);
        if (rc != L2D_OK || status != L2D_QUEUE_OK)
            break;
        rc = push(s, item, &err);
        free_item(item);
        struct l2d_engine_stats stats = l2d_engine_stats(s->engine);
        uint64_t done = stats.frames_out - stats.frames_frozen;
        if (rc == L2D_OK && s->dump && done > 0)
            rc = l2d_dump_write(s->dump, (uint32_t) done - 1, &err);
    }
    wait_while_paused(s);
    if (rc == L2D_OK && status == L2D_QUEUE_CLOSED)     // stopped: nobody waits for the rest
        rc = l2d_engine_finish(s->engine, &err);
    if (rc == L2D_OK && status == L2D_QUEUE_CLOSED && s->dump)
        rc = l2d_dump_write(s->dump, UINT32_MAX, &err);
    refuse_changes(s);
    publish(s, s->pace.in_flight);
    if (rc != L2D_OK) {
        fail(s, &err);
        l2d_queue_abort(s->in);         // whoever waits to push learns of it
    }
    l2d_queue_close(s->out);
}

int l2d_stream_create(struct l2d_stream **out, const struct l2d_stream_params *params,
                      struct l2d_error *err)
{
    if (params->live && params->engine.chunk > 1)
        return l2d_error_set(err, L2D_EINVAL, "chunks of %u frames: a live stream has none, its "
                             "frames would come late", params->engine.chunk);
    if (params->dump_dir && (params->engine.skip_similar > 0 || params->engine.draw_every > 1))
        return l2d_error_set(err, L2D_EINVAL, "a dump has all frames, and similar ones are "
                             "skipped: one without the other");
    if (params->dump_dir && params->engine.chunk > 1)
        return l2d_error_set(err, L2D_EINVAL, "a dump is of one frame after another, not of chunks "
                             "of %u: one without the other", params->engine.chunk);
    struct l2d_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return l2d_error_set(err, L2D_ENOMEM, "stream: out of memory");
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->resumed, NULL);
    s->live = params->live;
    s->on_change = params->on_change;
    s->on_change_user = params->on_change_user;
    s->log = l2d_log_named(&params->engine.log, "stream");
    uint32_t capacity = params->queue_frames ? params->queue_frames : DEFAULT_QUEUE_FRAMES;
    struct l2d_engine_params engine = params->engine;
    engine.emit = on_frame;
    engine.probe = params->dump_dir ? on_probe : NULL;
    engine.user = s;

    int rc = l2d_gpu_create(&s->gpu, &params->gpu, err);
    if (rc == L2D_OK && params->dump_dir)
        rc = l2d_dump_create(&s->dump, params->dump_dir, err);
    if (rc == L2D_OK)
        rc = l2d_engine_create(&s->engine, s->gpu, &engine, err);
    if (rc == L2D_OK)
        rc = l2d_queue_create(&s->in, capacity, free_item, err);
    if (rc == L2D_OK)
        rc = l2d_queue_create(&s->out, capacity, free_frame, err);
    if (rc == L2D_OK) {
        s->info = *l2d_engine_info(s->engine);
        rc = l2d_thread_start(&s->thread, "l2d-engine", run, s, err);
    }
    if (rc != L2D_OK) {
        l2d_stream_destroy(&s);
        return rc;
    }
    *out = s;
    return L2D_OK;
}

void l2d_stream_destroy(struct l2d_stream **ps)
{
    struct l2d_stream *s = *ps;
    *ps = NULL;
    if (!s)
        return;
    if (s->in && s->out)
        l2d_stream_stop(s);
    l2d_thread_join(&s->thread);
    l2d_queue_destroy(&s->in);
    l2d_queue_destroy(&s->out);
    l2d_engine_destroy(&s->engine);
    l2d_dump_finish(&s->dump, NULL);
    l2d_gpu_destroy(&s->gpu);
    refuse_changes(s);
    pthread_cond_destroy(&s->resumed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

const struct l2d_engine_info *l2d_stream_info(const struct l2d_stream *s)
{
    return &s->info;
}

const struct l2d_gpu_caps *l2d_stream_gpu(const struct l2d_stream *s)
{
    return l2d_gpu_caps(s->gpu);
}

struct l2d_stream_stats l2d_stream_stats(struct l2d_stream *s)
{
    pthread_mutex_lock(&s->lock);
    struct l2d_stream_stats stats = s->stats;
    pthread_mutex_unlock(&s->lock);
    return stats;
}

// The error that ended the stream, or L2D_OK.
static int ended_by(struct l2d_stream *s, struct l2d_error *err)
{
    pthread_mutex_lock(&s->lock);
    struct l2d_error error = s->error;
    pthread_mutex_unlock(&s->lock);
    return error.code == L2D_OK ? L2D_OK : l2d_error_set(err, error.code, "%s", error.msg);
}

int l2d_stream_push(struct l2d_stream *s, struct l2d_frame **frame, struct l2d_error *err)
{
    void *dropped = NULL;
    struct item *item = malloc(sizeof(*item));
    if (!item)
        return l2d_error_set(err, L2D_ENOMEM, "a frame's envelope: out of memory");
    pthread_mutex_lock(&s->lock);
    *item = (struct item) { *frame, s->next_number++ };
    pthread_mutex_unlock(&s->lock);
    enum l2d_queue_status status = s->live ? l2d_queue_push_newest(s->in, item, &dropped)
                                           : l2d_queue_push(s->in, item);
    if (status != L2D_QUEUE_OK) {
        free(item);
        int rc = ended_by(s, err);
        return rc != L2D_OK ? rc : l2d_error_set(err, L2D_ECLOSED, "the stream has ended");
    }
    *frame = NULL;
    if (dropped)
        free_item(dropped);
    pthread_mutex_lock(&s->lock);
    s->stats.frames_in++;
    s->stats.frames_dropped += dropped != NULL;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

static int take_popped(struct l2d_stream *s, enum l2d_queue_status status, void *item,
                       struct l2d_frame **frame, struct l2d_error *err)
{
    *frame = item;
    if (status != L2D_QUEUE_OK)
        return ended_by(s, err);
    pthread_mutex_lock(&s->lock);
    s->stats.frames_out++;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

int l2d_stream_pop(struct l2d_stream *s, struct l2d_frame **frame, struct l2d_error *err)
{
    void *item = NULL;
    enum l2d_queue_status status = l2d_queue_pop(s->out, &item);
    return take_popped(s, status, item, frame, err);
}

int l2d_stream_pop_timed(struct l2d_stream *s, struct l2d_frame **frame, int timeout_ms,
                         bool *timed_out, struct l2d_error *err)
{
    void *item = NULL;
    enum l2d_queue_status status = l2d_queue_pop_timed(s->out, &item, timeout_ms);
    *timed_out = status == L2D_QUEUE_TIMEOUT;
    *frame = NULL;
    return *timed_out ? L2D_OK : take_popped(s, status, item, frame, err);
}

void l2d_stream_end(struct l2d_stream *s)
{
    l2d_queue_close(s->in);
}

void l2d_stream_pause(struct l2d_stream *s, bool paused)
{
    pthread_mutex_lock(&s->lock);
    s->paused = paused && !s->stopped;
    pthread_cond_broadcast(&s->resumed);
    pthread_mutex_unlock(&s->lock);
}

void l2d_stream_stop(struct l2d_stream *s)
{
    pthread_mutex_lock(&s->lock);
    s->stopped = true;
    s->paused = false;
    pthread_cond_broadcast(&s->resumed);
    pthread_mutex_unlock(&s->lock);
    l2d_queue_abort(s->in);
    l2d_queue_abort(s->out);
}

// Whether nothing is left of an older change once a later one is made. A prompt has its own shares.
static bool passes_over(const struct waiting *later, const struct waiting *older)
{
    const struct l2d_change *a = &later->change, *b = &older->change;
    if (later->in_order || older->in_order || a->automatic != b->automatic)
        return false;
    if (a->kind == L2D_CHANGE_LORA && b->kind == L2D_CHANGE_LORA)
        return a->text && b->text && !strcmp(a->text, b->text);
    return a->kind == b->kind || (a->kind == L2D_CHANGE_PROMPT && b->kind == L2D_CHANGE_BLEND);
}

// returns  those that w takes the place of, out of the list now.
static struct waiting *append_locked(struct l2d_stream *s, struct waiting *w)
{
    struct waiting **at = &s->waiting, *passed = NULL;
    while (*at) {
        struct waiting *older = *at;
        if (!passes_over(w, older)) {
            at = &older->next;
            continue;
        }
        *at = older->next;
        older->next = passed;
        passed = older;
    }
    *at = w;
    return passed;
}

int l2d_stream_change(struct l2d_stream *s, const struct l2d_change *change, enum l2d_when when,
                      uint64_t *ticket, struct l2d_error *err)
{
    struct waiting *w = calloc(1, sizeof(*w)), *passed = NULL;
    char *text = change->text ? strdup(change->text) : NULL;
    int rc = w && (text || !change->text) ? L2D_OK
           : l2d_error_set(err, L2D_ENOMEM, "a change: out of memory");
    pthread_mutex_lock(&s->lock);
    if (rc == L2D_OK && s->over)
        rc = l2d_error_set(err, L2D_ECLOSED, "the stream has ended");
    if (rc == L2D_OK) {
        *w = (struct waiting) {
            .change = *change, .text = text, .ticket = ++s->num_tickets,
            .number = when == L2D_WHEN_IN_ORDER ? s->next_number : 0,
            .in_order = when == L2D_WHEN_IN_ORDER,
        };
        w->change.text = text;
        s->receipt[w->ticket % NUM_RECEIPTS] = (struct l2d_receipt) { .first = 0 };
        passed = append_locked(s, w);
        if (ticket)
            *ticket = w->ticket;
    }
    pthread_mutex_unlock(&s->lock);
    if (rc != L2D_OK) {
        free(text);
        free(w);
    }
    while ((w = passed)) {
        passed = w->next;
        settle(s, w, L2D_RECEIPT_REFUSED, 0, PASSED_OVER);
    }
    return rc;
}

struct l2d_receipt l2d_stream_receipt(struct l2d_stream *s, uint64_t ticket)
{
    struct l2d_receipt receipt = { .state = L2D_RECEIPT_UNKNOWN };
    pthread_mutex_lock(&s->lock);
    if (ticket > 0 && ticket <= s->num_tickets && s->num_tickets - ticket < NUM_RECEIPTS)
        receipt = s->receipt[ticket % NUM_RECEIPTS];
    pthread_mutex_unlock(&s->lock);
    return receipt;
}

int l2d_stream_set_prompt(struct l2d_stream *s, const char *prompt, struct l2d_error *err)
{
    return l2d_stream_change(s, &(struct l2d_change) {
        .kind = L2D_CHANGE_PROMPT, .text = prompt,
    }, L2D_WHEN_SOON, NULL, err);
}

int l2d_stream_set_negative(struct l2d_stream *s, const char *prompt, struct l2d_error *err)
{
    return l2d_stream_change(s, &(struct l2d_change) {
        .kind = L2D_CHANGE_NEGATIVE, .text = prompt,
    }, L2D_WHEN_SOON, NULL, err);
}
