// SPDX-License-Identifier: Apache-2.0
// A device with validation on, whose errors are printed and counted, for tests of whole streams.
#ifndef L2D_TESTS_WATCHED_GPU_H
#define L2D_TESTS_WATCHED_GPU_H

#include "gpu/device.h"

struct l2d_gpu_params watched_gpu_params(void);

/** Such a device. */
struct l2d_gpu *watched_gpu_open(enum l2d_tier tier);

/** The end of one, and watched_gpu_check(). */
void watched_gpu_close(struct l2d_gpu **gpu);

/** Abort if the validation layer said anything: after a device is gone, what was left on it too. */
void watched_gpu_check(void);

#endif
