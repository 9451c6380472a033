// SPDX-License-Identifier: Apache-2.0
// See output.h.
#include "output.h"

#include <stdlib.h>

#define QUEUE_ITEMS 8

struct shared_item *shared_item_new(struct l2d_item *item)
{
    struct shared_item *shared = malloc(sizeof(*shared));
    if (!shared) {
        l2d_item_clear(item);
        return NULL;
    }
    atomic_init(&shared->refs, 1);
    shared->item = *item;
    *item = (struct l2d_item) { 0 };
    return shared;
}

void shared_item_unref(struct shared_item *shared)
{
    if (shared && atomic_fetch_sub(&shared->refs, 1) == 1) {
        l2d_item_clear(&shared->item);
        free(shared);
    }
}

static void free_item(void *item)
{
    shared_item_unref(item);
}

// returns  the state to end in.
static enum output_state state_after(int rc)
{
    return rc == L2D_OK ? OUTPUT_FINISHED : rc == L2D_ECLOSED ? OUTPUT_CLOSED : OUTPUT_FAILED;
}

static enum output_state write_all(struct output *out, struct l2d_sink *sink)
{
    for (;;) {
        void *popped = NULL;
        enum l2d_queue_status status = l2d_queue_pop(out->queue, &popped);
        if (status == L2D_QUEUE_CLOSED)
            return state_after(l2d_sink_finish(sink, atomic_load(&out->cut_audio), &out->err));
        if (status != L2D_QUEUE_OK)
            return OUTPUT_ABORTED;
        struct shared_item *shared = popped;
        int rc = shared->item.kind == L2D_ITEM_VIDEO
                     ? l2d_sink_write_video(sink, shared->item.frame, &out->err)
                     : l2d_sink_write_audio(sink, shared->item.packet, &out->err);
        shared_item_unref(shared);
        if (rc != L2D_OK)
            return state_after(rc);
    }
}

static void output_main(void *arg)
{
    struct output *out = arg;
    struct l2d_sink *sink = NULL;
    int rc = l2d_sink_open(&sink, out->name, &out->params, &out->err);
    enum output_state state = rc == L2D_OK ? OUTPUT_RUNNING : OUTPUT_FAILED;
    atomic_store(&out->state, state);
    sem_post(&out->opened);
    if (rc == L2D_OK) {
        state = write_all(out, sink);
        out->stats = l2d_sink_stats(sink);
        l2d_sink_destroy(&sink);
    }
    l2d_queue_abort(out->queue);        // who still pushes must not wait for us
    atomic_store(&out->state, state);
}

int output_start(struct output *out, const char *name, const struct l2d_sink_params *params,
                 struct l2d_error *err)
{
    out->name = name;
    out->params = *params;
    atomic_init(&out->state, OUTPUT_OPENING);
    atomic_init(&out->cut_audio, false);
    if (sem_init(&out->opened, 0, 0) != 0)
        return l2d_error_set(err, L2D_ENOMEM, "%s: no semaphore", name);
    out->has_sem = true;
    int rc = l2d_queue_create(&out->queue, QUEUE_ITEMS, free_item, err);
    return rc != L2D_OK ? rc : l2d_thread_start(&out->thread, "output", output_main, out, err);
}

int output_wait_open(struct output *out, struct l2d_error *err)
{
    while (sem_wait(&out->opened) != 0)         // EINTR
        ;
    if (atomic_load(&out->state) != OUTPUT_FAILED)
        return L2D_OK;
    *err = out->err;
    return out->err.code;
}

void output_push(struct output *out, struct shared_item *shared)
{
    atomic_fetch_add(&shared->refs, 1);
    if (l2d_queue_push(out->queue, shared) != L2D_QUEUE_OK)
        shared_item_unref(shared);
}

void output_finish(struct output *out, bool cut_audio)
{
    atomic_store(&out->cut_audio, cut_audio);
    l2d_queue_close(out->queue);
}

void output_abort(struct output *out)
{
    if (out->queue)
        l2d_queue_abort(out->queue);
}

void output_join(struct output *out)
{
    l2d_thread_join(&out->thread);
    l2d_queue_destroy(&out->queue);
    if (out->has_sem)
        sem_destroy(&out->opened);
    out->has_sem = false;
}
