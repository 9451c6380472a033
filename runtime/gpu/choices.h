// SPDX-License-Identifier: Apache-2.0
// Which variant of a kernel a device computes a shape with, as far as that has been measured: a
// table of the gpu, which recorders ask and whoever measures fills, and its file beside the
// pipeline cache. The file is of one device, driver, tier and set of shaders; another's, or a
// damaged one, is as good as none. What a shape and a variant are is the kernels' affair.
//
// A shape has some rows. What is chosen for it may differ from row count to row count in what does
// not change the result (variant), and is the same for all in what does (parts, family): a call of
// one row computes what a call of several does. l2d_choices_set keeps to that.
//
// Thread-safety: as the gpu.
#ifndef L2D_GPU_CHOICES_H
#define L2D_GPU_CHOICES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct l2d_gpu;

#define L2D_SHAPE_WORDS 10

struct l2d_shape {
    uint32_t rows;
    uint32_t of[L2D_SHAPE_WORDS];       // all else; what is not used is 0
};

struct l2d_choice {
    uint32_t family;            // of variants that round alike
    uint32_t variant;           // within it
    uint32_t parts;             // that sums are computed in, 1 or more
};

struct l2d_chosen {
    struct l2d_shape shape;
    struct l2d_choice choice;
    bool known;
    double flops;               // of all that asked for it since l2d_choices_use
};

/** Whether recorders get what is known; at first they do not. What was asked for is forgotten. */
void l2d_choices_use(struct l2d_gpu *gpu, bool use);

enum l2d_choice_found {
    L2D_CHOICE_NONE,
    L2D_CHOICE_OTHER_ROWS,      // of the same shape with other rows: family and parts count
    L2D_CHOICE_FOUND,
};

/** For recorders: look a shape up, and note that it was asked for. */
enum l2d_choice_found l2d_choices_find(struct l2d_gpu *gpu, const struct l2d_shape *shape,
                                       double flops, struct l2d_choice *choice);

/**
 * Enter a choice. returns L2D_OK, L2D_ENOMEM, or L2D_EINVAL if family or parts are not those of
 * the same shape with other rows.
 */
int l2d_choices_set(struct l2d_gpu *gpu, const struct l2d_shape *shape,
                    const struct l2d_choice *choice, struct l2d_error *err);

/** All lookups find this one, until NULL: for those who measure, and for tests. Copied. */
void l2d_choices_force(struct l2d_gpu *gpu, const struct l2d_choice *choice);

/** Shapes that are known or were asked for, in no order. *count of them; valid until the next call
 *  of another function of this header. */
const struct l2d_chosen *l2d_choices_list(const struct l2d_gpu *gpu, uint32_t *count);

/** Nothing is known any more, nor read from the file; what was asked for stays. */
void l2d_choices_forget(struct l2d_gpu *gpu);

/** The first time for a gpu, the same; an engine after another measures what is new to it. */
void l2d_choices_begin_again(struct l2d_gpu *gpu);

/** There is a folder for the file. */
bool l2d_choices_have_file(const struct l2d_gpu *gpu);

/** Read the file, once for a gpu: later calls do nothing, nor does what cannot be read. */
void l2d_choices_load(struct l2d_gpu *gpu);

/** Write it. returns L2D_OK, or L2D_EIO. */
int l2d_choices_save(struct l2d_gpu *gpu, struct l2d_error *err);

#endif
