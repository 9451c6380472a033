// SPDX-License-Identifier: Apache-2.0
// One output on a thread of its own, behind a bounded queue: several outputs get the same frames
// and packets, each at its own pace, and a slow one holds the others back instead of growing.
#ifndef L2D_PROGRAM_OUTPUT_H
#define L2D_PROGRAM_OUTPUT_H

#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "base/queue.h"
#include "base/thread.h"
#include "video_io/reader.h"
#include "video_io/sink.h"

// A frame or packet on its way to all outputs.
struct shared_item {
    atomic_int refs;
    struct l2d_item item;
};

/** Takes over what item holds, also on failure; one reference. NULL: out of memory. */
struct shared_item *shared_item_new(struct l2d_item *item);
void shared_item_unref(struct shared_item *shared);

enum output_state {
    OUTPUT_OPENING, OUTPUT_RUNNING,
    OUTPUT_FINISHED,            // whole
    OUTPUT_CLOSED,              // its viewer has left
    OUTPUT_ABORTED,             // by output_abort
    OUTPUT_FAILED,
};

struct output {
    const char *name;
    struct l2d_sink_params params;
    struct l2d_queue *queue;    // of shared_item
    struct l2d_thread thread;
    sem_t opened;
    bool has_sem;
    atomic_bool cut_audio;
    atomic_int state;           // the fields below are settled once it is past RUNNING
    struct l2d_error err;       // FAILED, CLOSED
    struct l2d_sink_stats stats;
};

/** Start the thread, which opens the sink. name and what params points to are not copied. */
int output_start(struct output *out, const char *name, const struct l2d_sink_params *params,
                 struct l2d_error *err);

/** Wait until the sink is open. returns L2D_OK, or why it is not. */
int output_wait_open(struct output *out, struct l2d_error *err);

/** One more reference goes to the queue, waiting for room. An output that has ended ignores it. */
void output_push(struct output *out, struct shared_item *shared);

/** Write what is queued, then finish the file. cut_audio: see l2d_sink_finish. Does not wait. */
void output_finish(struct output *out, bool cut_audio);

/** Stop now; the unfinished file is removed. Does not wait. */
void output_abort(struct output *out);

/** Wait for the thread and free. Accepts a zeroed struct. State, err and stats stay. */
void output_join(struct output *out);

#endif
