// SPDX-License-Identifier: Apache-2.0
// Writes what changes in a run as a timeline, so that the same can be drawn again: with more steps,
// larger, or from a better file. What a deadline changes is not in it.
#ifndef L2D_PROGRAM_TIMELINE_RECORD_H
#define L2D_PROGRAM_TIMELINE_RECORD_H

#include <stdbool.h>

#include "pipeline/engine.h"

struct timeline_record;         // opaque. One thread at a time

/**
 * With overwrite, what is in the file stays until the first change is added.
 * info         names the sets of steps; outlives the record
 * returns      L2D_OK, L2D_EIO (it exists, is another record's, or cannot be made), L2D_ENOMEM
 */
int timeline_record_create(struct timeline_record **out, const char *path, bool overwrite,
                           const struct l2d_engine_info *info, struct l2d_error *err);

/** A change at a time of the input. frame_rate makes seconds of a fade's frames. */
void timeline_record_add(struct timeline_record *record, const struct l2d_change *change,
                         double at_s, double frame_rate);

/**
 * Close the file, and remove it if it is new and nothing was added; free. Accepts NULL.
 * returns      L2D_OK, or L2D_EIO if not all was written
 */
int timeline_record_destroy(struct timeline_record **record, struct l2d_error *err);

#endif
