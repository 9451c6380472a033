// SPDX-License-Identifier: Apache-2.0
// What a run is doing right now, for whoever shows it: published a few times a second by the run,
// copied by any number of readers.
#ifndef L2D_PROGRAM_RUN_STATUS_H
#define L2D_PROGRAM_RUN_STATUS_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fate.h"
#include "histogram.h"
#include "output.h"
#include "video_io/source.h"

#define RUN_MAX_OUTPUTS 16

struct run_status_output {
    char name[256], reason[256];    // reason: what went wrong last; "": nothing
    uint32_t id;
    enum output_state state;
    bool leaving, recording;        // leaving: it was removed and finishes
    struct output_counts counts;
    struct quantiles latency;       // ms, of the last ten to twenty seconds
};

struct run_status {
    bool live;
    char input[256];
    struct l2d_source_status source;
    struct fates fates;
    uint64_t unfair;                // seconds in which the fates did not add up: always 0
    uint64_t similar, moved;        // of fates.out, by --skip-similar, --draw-every
    double media_s, wall_s;         // out of the model, since its first frame
    unsigned num_outputs;
    struct run_status_output output[RUN_MAX_OUTPUTS];
};

struct run_board {                  // init before any thread starts
    pthread_mutex_t lock;
    struct run_status status;       // guarded by lock
};

void run_board_init(struct run_board *board);
void run_board_finish(struct run_board *board);

/** Any thread. */
void run_board_publish(struct run_board *board, const struct run_status *status);
void run_board_read(struct run_board *board, struct run_status *status);

#endif
