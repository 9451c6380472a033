// SPDX-License-Identifier: Apache-2.0
// The engine on a thread of its own between two bounded queues. See stream.h.
#include "pipeline/stream.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/queue.h"
#include "base/thread.h"
#include "pipeline/dump.h"

#define DEFAULT_QUEUE_FRAMES 4

struct l2d_stream {
    struct l2d_gpu *gpu;
    struct l2d_engine *engine;          // the thread's alone once it runs
    struct l2d_engine_info info;        // a copy: readable while the thread works
    struct l2d_dump *dump;
    struct l2d_log log;
    bool live;
    struct l2d_queue *in, *out;         // struct l2d_frame *
    struct l2d_thread thread;

    pthread_mutex_t lock;
    // --- guarded by lock
    struct l2d_error error;             // what ended the stream, if anything did
    struct l2d_stream_stats stats;
    char *prompt, *negative;            // the next ones, or NULL
};

static void free_frame(void *item)
{
    struct l2d_frame *frame = item;
    l2d_frame_unref(&frame);
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

// A prompt that cannot be used leaves the old one in place and a line in the log; what the GPU does
// not do ends the stream.
static int take_prompt(struct l2d_stream *s, char **next,
                       int (*set)(struct l2d_engine *, const char *, struct l2d_error *),
                       struct l2d_error *err)
{
    pthread_mutex_lock(&s->lock);
    char *prompt = *next;
    *next = NULL;
    pthread_mutex_unlock(&s->lock);
    int rc = prompt ? set(s->engine, prompt, err) : L2D_OK;
    free(prompt);
    if (rc != L2D_EINVAL)
        return rc;
    l2d_log_print(&s->log, L2D_LOG_WARN, "%s; the prompt stays as it was", err->msg);
    return L2D_OK;
}

static void publish(struct l2d_stream *s)
{
    struct l2d_engine_stats stats = l2d_engine_stats(s->engine);
    pthread_mutex_lock(&s->lock);
    s->stats.engine = stats;
    pthread_mutex_unlock(&s->lock);
}

static void run(void *arg)
{
    struct l2d_stream *s = arg;
    struct l2d_error err = { 0 };
    int rc = L2D_OK;
    void *item;
    while (rc == L2D_OK && l2d_queue_pop(s->in, &item) == L2D_QUEUE_OK) {
        struct l2d_frame *frame = item;
        rc = take_prompt(s, &s->prompt, l2d_engine_set_prompt, &err);
        if (rc == L2D_OK)
            rc = take_prompt(s, &s->negative, l2d_engine_set_negative, &err);
        if (rc == L2D_OK)
            rc = l2d_engine_push(s->engine, frame, &err);
        l2d_frame_unref(&frame);
        publish(s);
        uint64_t done = l2d_engine_stats(s->engine).frames_out;
        if (rc == L2D_OK && s->dump && done > 0)
            rc = l2d_dump_write(s->dump, (uint32_t) done - 1, &err);
    }
    if (rc == L2D_OK)
        rc = l2d_engine_finish(s->engine, &err);
    publish(s);
    if (rc != L2D_OK) {
        fail(s, &err);
        l2d_queue_abort(s->in);         // whoever waits to push learns of it
    }
    l2d_queue_close(s->out);
}

int l2d_stream_create(struct l2d_stream **out, const struct l2d_stream_params *params,
                      struct l2d_error *err)
{
    struct l2d_stream *s = calloc(1, sizeof(*s));
    if (!s)
        return l2d_error_set(err, L2D_ENOMEM, "stream: out of memory");
    pthread_mutex_init(&s->lock, NULL);
    s->live = params->live;
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
        rc = l2d_queue_create(&s->in, capacity, free_frame, err);
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
    free(s->prompt);
    free(s->negative);
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
    enum l2d_queue_status status = s->live ? l2d_queue_push_newest(s->in, *frame, &dropped)
                                           : l2d_queue_push(s->in, *frame);
    if (status != L2D_QUEUE_OK) {
        int rc = ended_by(s, err);
        return rc != L2D_OK ? rc : l2d_error_set(err, L2D_ECLOSED, "the stream has ended");
    }
    *frame = NULL;
    if (dropped)
        free_frame(dropped);
    pthread_mutex_lock(&s->lock);
    s->stats.frames_in++;
    s->stats.frames_dropped += dropped != NULL;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

int l2d_stream_pop(struct l2d_stream *s, struct l2d_frame **frame, struct l2d_error *err)
{
    void *item = NULL;
    *frame = NULL;
    if (l2d_queue_pop(s->out, &item) != L2D_QUEUE_OK)
        return ended_by(s, err);
    *frame = item;
    pthread_mutex_lock(&s->lock);
    s->stats.frames_out++;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

void l2d_stream_end(struct l2d_stream *s)
{
    l2d_queue_close(s->in);
}

void l2d_stream_stop(struct l2d_stream *s)
{
    l2d_queue_abort(s->in);
    l2d_queue_abort(s->out);
}

static int leave_prompt(struct l2d_stream *s, char **next, const char *prompt,
                        struct l2d_error *err)
{
    char *copy = strdup(prompt);
    if (!copy)
        return l2d_error_set(err, L2D_ENOMEM, "prompt: out of memory");
    pthread_mutex_lock(&s->lock);
    free(*next);
    *next = copy;
    pthread_mutex_unlock(&s->lock);
    return L2D_OK;
}

int l2d_stream_set_prompt(struct l2d_stream *s, const char *prompt, struct l2d_error *err)
{
    return leave_prompt(s, &s->prompt, prompt, err);
}

int l2d_stream_set_negative(struct l2d_stream *s, const char *prompt, struct l2d_error *err)
{
    return leave_prompt(s, &s->negative, prompt, err);
}
