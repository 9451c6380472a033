// SPDX-License-Identifier: Apache-2.0
// live2diff inspect, of a file that is no model folder.
#ifndef L2D_PROGRAM_INSPECT_FILE_H
#define L2D_PROGRAM_INSPECT_FILE_H

#include <stdbool.h>

#include "base/error.h"

/** Print what a file of weights is, and with tensors each of them. */
int inspect_file(const char *path, bool tensors, struct l2d_error *err);

#endif
