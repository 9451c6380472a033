// SPDX-License-Identifier: Apache-2.0
// One output on a thread of its own, behind a bounded outbox: several outputs get the same frames
// and packets, each at its own pace. In a file run a slow one holds the others back; in a live run
// it loses what it cannot take, and one on the network that is lost is opened again (backoff.h).
#ifndef L2D_PROGRAM_OUTPUT_H
#define L2D_PROGRAM_OUTPUT_H

#include <stdatomic.h>
#include <stdbool.h>

#include "base/thread.h"
#include "histogram.h"
#include "outbox.h"
#include "video_io/sink.h"

enum output_state {
    OUTPUT_OPENING, OUTPUT_RUNNING,
    OUTPUT_RETRYING,            // lost, or not there yet; live runs only
    OUTPUT_FINISHED,            // whole
    OUTPUT_CLOSED,              // its viewer has left
    OUTPUT_CUT_OFF,             // not there, or too slow to be finished, when a live run ended
    OUTPUT_ABORTED,             // by output_abort
    OUTPUT_FAILED,
};

struct output_counts {          // of pictures; given = written + stalled + lost + waiting
    uint64_t given, written;
    uint64_t stalled, lost;     // see outbox.h; lost also while it was written
    unsigned waiting;           // also the one being written
    uint64_t losses;            // how often a running output was lost
};

struct output {
    const char *name;
    struct l2d_sink_params params;
    const atomic_bool *stop;    // whoever waits for it to open does not want it any more; or NULL
    bool live, network;         // network: or a camera: what comes and goes
    bool returns;               // is opened again when it is lost
    bool late;                  // see output_start
    struct outbox box;
    struct l2d_thread thread;
    atomic_bool cut_audio, interrupt, leaving;
    atomic_int state;           // written with lock held

    pthread_mutex_t lock;
    pthread_cond_t opened;      // on the monotonic clock; every change of state
    // --- guarded by lock while the thread runs
    struct l2d_error err;       // FAILED, CLOSED, RETRYING: why
    struct l2d_sink_stats stats;    // settled once state is past RETRYING
    uint64_t written, broken, losses;
    bool writing;
    double stuck_s;             // when what it does takes too long
    struct histogram latency;   // ms from the source's arrival to the end of the write
    struct histogram recent[2]; // the same of the last ten to twenty seconds: both together
    double recent_s;            // when recent[0] began
};

/**
 * Start the thread, which opens the sink. name and what params points to are not copied.
 * late     the run goes on already: nothing is pushed to it before it is open, and if the first try
 *          fails that is its end.
 */
int output_start(struct output *out, const char *name, const struct l2d_sink_params *params,
                 bool late, struct l2d_error *err);

/**
 * Wait for the first try to open; for an output that returns, at most a second.
 * returns L2D_OK, or why it cannot ever be opened.
 */
int output_wait_open(struct output *out, struct l2d_error *err);

/** One more reference goes to the outbox. An output that has ended ignores it. */
void output_push(struct output *out, struct shared_item *shared);

/** Write what is queued, then finish the file. cut_audio: see l2d_sink_finish. Does not wait. */
void output_finish(struct output *out, bool cut_audio);

/** As finish, of one output while the others go on. Does not wait. */
void output_leave(struct output *out);

/** Let an output that waits for a network or a pipe give up, if its run is live or it leaves. Does
 *  not wait. */
void output_hurry(struct output *out);

/** The run is to end: an output whose reader has kept one write waiting for long is cut off. */
void output_give_up(struct output *out);

/** Stop now; the unfinished file is removed. Does not wait. */
void output_abort(struct output *out);

/** Wait for the thread and free. Accepts a zeroed struct. State, err and stats stay. */
void output_join(struct output *out);

bool output_has_ended(const struct output *out);

/** Any thread, after output_start. */
struct output_counts output_counts(struct output *out);
/** Whether every picture that was given has a fate, as far as can be said while they move. */
bool output_adds_up(struct output *out);
struct quantiles output_latency(struct output *out, bool recent);
/** "opening", "running", ... */
const char *output_state_str(enum output_state state);
/** Copy of what went wrong last; "": nothing. */
void output_reason(struct output *out, char *text, size_t size);
/** The same with its code. */
void output_error(struct output *out, struct l2d_error *err);

#endif
