// SPDX-License-Identifier: Apache-2.0
// Opening of a container by name: file, URL, device or standard input, interruptible. Internal to
// video_io; streams and frames are reader.c's.
#ifndef L2D_VIDEO_IO_INPUT_H
#define L2D_VIDEO_IO_INPUT_H

#include <stdatomic.h>
#include <stdbool.h>

#include <libavformat/avformat.h>

#include "video_io/reader.h"

struct l2d_input {
    char *name;
    const char *shown;              // name for messages: "standard input" for "-"
    AVFormatContext *fmt;
    AVIOContext *pipe_io;           // of standard input, pipe:N or a FIFO; NULL otherwise
    int fd;                         // that pipe_io reads
    bool owns_fd;
    atomic_bool stopped;
    const atomic_bool *outer_stop;  // may be NULL
    atomic_llong deadline_us;       // of libav's clock: no waiting beyond it; 0: none
};

/**
 * Open what params names. input does not move while it is open: libav keeps its address.
 * returns  L2D_OK or a code with one line for the user. Either way call finish.
 */
int l2d_input_init(struct l2d_input *input, const struct l2d_reader_params *params,
                   struct l2d_error *err);

/** Accepts a zeroed or half-open input. */
void l2d_input_finish(struct l2d_input *input);

/** Whether a stop was asked for. Any thread. */
bool l2d_input_is_stopped(const struct l2d_input *input);

/** Let libav give up what it waits for in so many microseconds from now; 0: never. */
void l2d_input_set_deadline(struct l2d_input *input, int64_t within_us);

/** Whether that moment has passed. */
bool l2d_input_is_late(const struct l2d_input *input);

/** Sets err; returns L2D_ECLOSED. */
int l2d_input_closed(const struct l2d_input *input, struct l2d_error *err);

/** Standard input or a pipe that cannot seek, where MP4 needs its index at the front. */
bool l2d_input_is_pipe(const struct l2d_input *input);

#endif
