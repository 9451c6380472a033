// SPDX-License-Identifier: Apache-2.0
// A file that is written as NAME.part and gets its name when it is whole. What is there already
// stays, unless it may be replaced; nobody else writes to it meanwhile.
#ifndef L2D_VIDEO_IO_NEW_FILE_H
#define L2D_VIDEO_IO_NEW_FILE_H

#include <stdbool.h>

#include "base/error.h"
#include "video_io/sink.h"

struct l2d_new_file {
    const char *name;                       // for messages
    const struct l2d_sink_params *params;   // input, overwrite, joins
    char *final_name, *part_name;           // part_name is NULL before it is opened, once it has
                                            // its name, and where it is no regular file
    int lock_fd;                            // holds part_name's lock; -1: none
};

/** Whether `path`, a file of the output `target`, may be written. */
int l2d_new_file_check(const struct l2d_new_file *file, const char *target, const char *path,
                       struct l2d_error *err);

/** Make and lock target's NAME.part; there is none of devices and FIFOs, which the caller opens. */
int l2d_new_file_open(struct l2d_new_file *file, const char *target, struct l2d_error *err);

/** It is whole. returns  L2D_OK, or L2D_EIO: what was written stays or will be removed. */
int l2d_new_file_complete(struct l2d_new_file *file, struct l2d_error *err);

/** Remove what has not got its name, unless it is to be kept. lock_fd is -1 before it is opened. */
void l2d_new_file_finish(struct l2d_new_file *file, bool keep);

#endif
