// SPDX-License-Identifier: Apache-2.0
// An input that stays: a reader that, where the input is live, is opened again whenever it is lost.
// Timestamps of all its sessions are put on one clock that goes on between them (live_clock.h),
// video and sound together, and what a server sends at once of the time before is left out. A file
// is read as by reader.h, or at the pace of its timestamps, as if it were live.
#ifndef L2D_VIDEO_IO_SOURCE_H
#define L2D_VIDEO_IO_SOURCE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "video_io/reader.h"

struct l2d_source_params {
    struct l2d_reader_params reader;    // stop is required, and stops the source too. The strings
                                        // must live as long as the source
    bool realtime;              // wait until each picture's time; the source counts as live then
    bool reopen;                // what is live and not a file is opened again when it ends
    double wait_s;              // so long an address or a camera that is not there yet is tried
                                // again; 0: once
};

enum l2d_source_state {
    L2D_SOURCE_RUNNING,
    L2D_SOURCE_BUFFERING,       // open, but no picture has come for longer than usual
    L2D_SOURCE_RETRYING,        // lost; being opened again, or waiting to be
    L2D_SOURCE_ENDED,
};

struct l2d_source_status {
    enum l2d_source_state state;
    uint64_t frames;            // given out
    uint64_t backlog;           // left out: sent at once at the beginning of a session
    uint64_t losses;            // how often it was lost, and then opened again
    uint64_t moves;             // jumps of the input's clock that the clock took out
    char reason[256];           // why it was lost the last time; "": never
};

// Opaque. One thread at a time, but for l2d_source_status.
struct l2d_source;

/** Whether an input or an output may come and go: it is an address, or a camera. */
bool l2d_source_may_return(const char *name);

/**
 * Open the input. returns as l2d_reader_create. With wait_s each try is logged, their rhythm is
 * that of a source that was lost, and a stop ends the waiting at once (L2D_ECLOSED).
 */
int l2d_source_create(struct l2d_source **out, const struct l2d_source_params *params,
                      struct l2d_error *err);

/** Accepts NULL; sets *source to NULL. */
void l2d_source_destroy(struct l2d_source **source);

/** Of the first session; valid until destroy. Live sources have a time base of 1/90000. */
const struct l2d_reader_info *l2d_source_info(const struct l2d_source *source);

/** How much later the last frame came than it would have at the input's even pace, in seconds; of
 *  live sources. */
double l2d_source_late_s(const struct l2d_source *source);

/** Whether the input gives frames in its own time, so that they must be taken when they come. */
bool l2d_source_is_live(const struct l2d_source *source);

/**
 * The next frame or packet, as l2d_reader_next. A source that is opened again does not end: it
 * returns only with an item, or after a stop. Logs each loss, each try, and the return.
 */
int l2d_source_next(struct l2d_source *source, struct l2d_item *item, struct l2d_error *err);

/** Of the reader, all sessions together. The source's thread, or after it ended. */
struct l2d_reader_stats l2d_source_stats(const struct l2d_source *source);

/** Any thread. */
struct l2d_source_status l2d_source_status(struct l2d_source *source);

/** "running", "buffering", "retrying", "ended". */
const char *l2d_source_state_str(enum l2d_source_state state);

#endif
