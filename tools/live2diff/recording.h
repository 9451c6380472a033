// SPDX-License-Identifier: Apache-2.0
// A recording beside the run: an output to a new Matroska file, begun and ended at any time. Any
// thread.
#ifndef L2D_PROGRAM_RECORDING_H
#define L2D_PROGRAM_RECORDING_H

#include <stdbool.h>

#include "base/error.h"
#include "outputs.h"

/**
 * Begin, in a folder (NULL: the current one), or end. What is so already stays so. Does not wait:
 * the file is opened, and finished, by its output.
 * returns  L2D_OK; L2D_EIO: the folder cannot be written to; or as outputs_add and outputs_remove.
 */
int recording_set(struct outputs *outputs, bool on, const char *folder, struct l2d_error *err);

bool recording_runs(struct outputs *outputs);

#endif
