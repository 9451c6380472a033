// SPDX-License-Identifier: Apache-2.0
// What somebody who is not at the run's command line may name as an output. A client of the control
// server steers pictures, it does not own the machine: it may push to networks, open a window,
// write to a loopback camera, and make new files of video in the run's current folder, by plain
// names. Paths, existing files, other protocols, formats that write more than one file, and options
// of encoders that name files are refused.
#ifndef L2D_PROGRAM_OUTPUT_REQUEST_H
#define L2D_PROGRAM_OUTPUT_REQUEST_H

#include <jansson.h>

#include "base/error.h"
#include "outputs.h"

/**
 * Read {"url": ..., "format": ..., "codec": ..., "codec_options": ...}; all but url may be missing.
 * out      points into json
 * returns  L2D_OK; L2D_EINVAL with a line that begins with the key.
 */
int output_request_read(struct output_options *out, const json_t *json, struct l2d_error *err);

#endif
