// SPDX-License-Identifier: Apache-2.0
// What is measured of a shape of the table of choices: its kernel, on operands of its sizes.
#ifndef L2D_KERNELS_TUNE_SHAPE_H
#define L2D_KERNELS_TUNE_SHAPE_H

#include <stddef.h>

#include "kernels/attention_variant.h"
#include "kernels/conv_variant.h"

struct l2d_tune_shape {
    bool is_attention;                      // else a convolution
    enum l2d_dtype type;
    struct l2d_conv_shape conv;
    struct l2d_attention_shape attention;
};

// Buffers that hold a shape's operands, or the bytes that these take; no weights: 0. parts: for all
// that graphs keep for themselves.
struct l2d_tune_buffers { struct l2d_buf *x, *weight, *y, *parts; };
struct l2d_tune_bytes { uint64_t x, weight, y, parts; };

/** returns false if it is no kernel's that has variants, or out of range. */
bool l2d_tune_shape_of_key(const struct l2d_shape *key, struct l2d_tune_shape *shape);

/** One row of it, and not many tokens: enough to see what a kernel computes. */
struct l2d_tune_shape l2d_tune_shape_small(const struct l2d_tune_shape *shape);

struct l2d_tune_bytes l2d_tune_shape_bytes(const struct l2d_tune_shape *shape);

/**
 * `runs` runs, each with weights of its own as far as there are, of the choice that is forced.
 * keep     the result is then in buffers->y; else it may be
 */
void l2d_tune_shape_record(struct l2d_graph *graph, const struct l2d_tune_shape *shape,
                           const struct l2d_tune_buffers *buffers, uint32_t runs, bool keep);

/** A choice's shader and variant, for logs. returns false if there is no such choice. */
bool l2d_tune_variant_str(const struct l2d_gpu_caps *caps, const struct l2d_tune_shape *shape,
                          const struct l2d_choice *choice, char *text, size_t size);

/** The shape itself, for logs. */
void l2d_tune_shape_str(const struct l2d_tune_shape *shape, char *text, size_t size);

#endif
