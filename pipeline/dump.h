// SPDX-License-Identifier: Apache-2.0
// Named activations as files: frame_%06d.safetensors per frame, f32 NHWC, per-step names behind
// "step.K/", those of a re-warm that begins with the frame behind "rewarm.sink.S.step.K/", and
// text.safetensors for the prompt. The same names and layout as tools/reference/dump.py.
#ifndef L2D_PIPELINE_DUMP_H
#define L2D_PIPELINE_DUMP_H

#include "base/error.h"
#include "pipeline/engine.h"

struct l2d_dump;

// All return L2D_OK, L2D_EIO or L2D_ENOMEM.

/** Create the folder if it is not there. */
int l2d_dump_create(struct l2d_dump **out, const char *dir, struct l2d_error *err);

/** An l2d_probe_fn, which copies; user is the dump. Errors stick until the next write. */
void l2d_dump_add(void *dump, uint32_t frame, int step, const char *name, const float *data,
                  int32_t h, int32_t w, int32_t c);

/** Write the frames up to and with this one that have not been written. */
int l2d_dump_write(struct l2d_dump *dump, uint32_t frame, struct l2d_error *err);

/** Write the rest and free. Accepts NULL. */
int l2d_dump_finish(struct l2d_dump **dump, struct l2d_error *err);

#endif
