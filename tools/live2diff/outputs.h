// SPDX-License-Identifier: Apache-2.0
// The outputs of a run as a set that changes while the run goes on. Who adds or removes one does
// not wait, nor do those who push: a new output opens on a thread of its own and gets nothing until
// it is open, one that is removed finishes there, and tend() joins it.
#ifndef L2D_PROGRAM_OUTPUTS_H
#define L2D_PROGRAM_OUTPUTS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"
#include "output.h"
#include "run_status.h"

#define OUTPUTS_MAX_PAST 16     // removed ones that the report still tells of: the last

struct output_options { const char *name, *format, *codec, *codec_options; };   // NULL: default

enum outputs_kind {
    OUTPUTS_FIRST,              // of the command line
    OUTPUTS_LATE,               // joins the run where it is; opened by its first try, or not at all
    OUTPUTS_RECORDING,          // the same, one at a time; it ends when no other output runs
};

struct outputs_member {
    uint32_t id;                // from 0, in the order of adding; never again another's
    enum outputs_kind kind;
    struct output output;
    char *text[4];              // copies of the options

    // --- guarded by the set's lock
    unsigned users;             // threads that push to it right now
    bool leaving, hurried, told;
    double left_s;              // when it was removed
    double failed_s;            // when it was seen that it could not be opened; 0: it was not

    bool joined;                // has got the recent sound; only who pushes sound looks
};

struct outputs {                // any thread may call all but init, set, join and finish
    struct l2d_log log;
    struct l2d_sink_params params;      // of all; format, codec and options are each one's own
    pthread_mutex_t lock;

    // --- guarded by lock, but for main after outputs_join
    struct outputs_member *member[RUN_MAX_OUTPUTS];     // by id
    unsigned num_members;
    struct outputs_member *past[OUTPUTS_MAX_PAST];      // removed and joined, a ring
    uint64_t num_past;
    uint32_t next_id;
    bool closed;                // the run ends: nothing is added or removed any more
    uint64_t unfair;            // removed outputs whose pictures did not add up: always 0

    // --- of the one thread that pushes sound
    struct shared_item *sound[OUTBOX_PACKETS];  // the last that came, a ring: it comes past the
    uint64_t num_sound;                         // model, before the pictures of its time
};

void outputs_init(struct outputs *set, const struct l2d_log *log);
/** What every output gets; before the first is added. What params points to is not copied. */
void outputs_set(struct outputs *set, const struct l2d_sink_params *params);
/** Stops what still runs, joins and frees. */
void outputs_finish(struct outputs *set);

/**
 * Start an output. One of the command line is waited for (output_wait_open); others are not.
 * id       may be NULL
 * returns  L2D_OK; L2D_ECLOSED: the run ends, or there are as many as there may be; L2D_EINVAL: an
 *          output of that name is there already; or why it cannot be opened.
 */
int outputs_add(struct outputs *set, const struct output_options *options, enum outputs_kind kind,
                uint32_t *id, struct l2d_error *err);

enum outputs_look { OUTPUTS_OPENING, OUTPUTS_OPEN, OUTPUTS_REFUSED };

/** What became of one that was added. REFUSED: it could not be opened, err says why, and it is
 *  removed. */
enum outputs_look outputs_look(struct outputs *set, uint32_t id, struct l2d_error *err);

/**
 * Let an output write what it has and finish. One that waits for a network is cut off after 0.75 s.
 * returns  L2D_OK; L2D_EINVAL: there is none with that id; L2D_ECLOSED: it is the last one that
 *          runs, or the run ends.
 */
int outputs_remove(struct outputs *set, uint32_t id, struct l2d_error *err);

/** The recording that runs or opens. returns false: there is none. */
bool outputs_recording(struct outputs *set, uint32_t *id);

/** One more reference goes to each. In a file run a slow one holds the caller back. */
void outputs_push(struct outputs *set, struct shared_item *shared);

/** Now and then: join what was removed and has finished, cut off what takes too long. A late one
 *  that could not be opened leaves, a second after that. */
void outputs_tend(struct outputs *set, double now_s);

/** Whether it came late and was never there, which is no failure of the run's. */
bool outputs_was_refused(struct outputs_member *member);

/** Whether one of that name opens or runs; never of "null". */
bool outputs_has(struct outputs *set, const char *name);

bool outputs_all_ended(struct outputs *set);
/** Every picture that one of them was given has a fate: output_adds_up. */
bool outputs_are_fair(struct outputs *set);
/** Into status->output. */
void outputs_status(struct outputs *set, struct run_status *status);

/** As output_give_up, for all. */
void outputs_give_up(struct outputs *set);

/** The run ends: as output_finish, output_hurry and output_abort, for all. None may come after. */
void outputs_end(struct outputs *set, bool cut_audio);
void outputs_hurry(struct outputs *set);
void outputs_abort(struct outputs *set);

/** Wait for all threads; member and past are main's then. */
void outputs_join(struct outputs *set);

#endif
