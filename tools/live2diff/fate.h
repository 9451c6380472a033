// SPDX-License-Identifier: Apache-2.0
// What becomes of every frame of the source. A ledger holds each one from its arrival until its
// fate is known, so that nothing is lost without a cause:
//     in = out + late + overtaken + backlog + stopped + in flight
#ifndef L2D_PROGRAM_FATE_H
#define L2D_PROGRAM_FATE_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct fates {
    uint64_t in;
    uint64_t out;               // given to the outputs, or repeated by --skip-similar
    uint64_t late;              // a newer one came before the model was free
    uint64_t overtaken;         // came out after a held picture had taken its time
    uint64_t backlog;           // sent at once of the time before a session began
    uint64_t stopped;           // inside when the run ended
    uint64_t in_flight;         // counted one by one, not reckoned from the others
    uint64_t held;              // pictures shown while the source was silent; not of the others
    uint64_t astray;            // without a fate, or with two: always 0
};

#define FATE_ENTRIES 512        // more than queues, ring, warm-up and repeats can hold

struct fate_ledger {
    pthread_mutex_t lock;
    // --- guarded by lock
    struct { int64_t pts; double arrival_s, begun_s; } entry[FATE_ENTRIES]; // oldest first, a ring
    unsigned head, len;
    double last_begun_s;        // 0: none yet
    struct fates counts;
};

void fate_init(struct fate_ledger *ledger);
void fate_finish(struct fate_ledger *ledger);

/** A frame that came at arrival_s goes to the model. */
void fate_begin(struct fate_ledger *ledger, int64_t pts, double arrival_s, double now_s);

/** The frame before the one that began last was let go for it. */
void fate_late(struct fate_ledger *ledger);

/**
 * A frame came out of the model. *begun_s: when it had gone to it, unless NULL. returns when it had
 * arrived; both 0 if nobody knows.
 */
double fate_leave(struct fate_ledger *ledger, int64_t pts, bool overtaken, double *begun_s);

/** Frames that never went to the model, as the run ends. */
void fate_stop(struct fate_ledger *ledger, unsigned frames);

/** A picture was held. */
void fate_hold(struct fate_ledger *ledger);

/** Nothing comes out any more. */
void fate_end(struct fate_ledger *ledger);

double fate_last_begun(struct fate_ledger *ledger);

/** The first frame in flight that went to the model later than since_s and is later than pts,
 *  which is then its. returns false if there is none. */
bool fate_next(struct fate_ledger *ledger, double since_s, int64_t *pts);

/** backlog is the source's. */
struct fates fate_counts(struct fate_ledger *ledger, uint64_t backlog);

bool fates_add_up(const struct fates *fates);

#endif
