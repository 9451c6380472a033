// SPDX-License-Identifier: Apache-2.0
// The files that a format opens and closes by itself: HLS, DASH, numbered pictures. Some of those
// formats tell nobody what went wrong.
#ifndef L2D_VIDEO_IO_PARTS_H
#define L2D_VIDEO_IO_PARTS_H

#include <stdbool.h>
#include <time.h>

#include <libavformat/avformat.h>

#include "base/log.h"

struct l2d_parts {
    int error;          // AVERROR of the first that could not be written; 0: none
    unsigned failures, told;    // how many could not, and of how many that was told,
    int64_t told_us;    // the last time when
    bool overwrite;     // what exists; otherwise AVERROR(EEXIST)
    struct timespec began_at;   // files that were there before are not its own
    char *picture;      // the last one's path; removed if it could not be written whole
    int (*open_file)(AVFormatContext *, AVIOContext **, const char *, int, AVDictionary **);
    int (*close_file)(AVFormatContext *, AVIOContext *);
};

/** From now on parts sees what fmt opens; takes fmt->opaque, and must live until fmt is freed. */
void l2d_parts_watch(struct l2d_parts *parts, AVFormatContext *fmt, bool overwrite);

/** For who goes on: warn of those that could not be written since the last time, at first at once,
    then at most once a minute. name: the output's */
void l2d_parts_tell(struct l2d_parts *parts, const char *name, const struct l2d_log *log);

/** Accepts zeroed ones. */
void l2d_parts_finish(struct l2d_parts *parts);

#endif
