// SPDX-License-Identifier: Apache-2.0
// The shaders that convolutions can run with, and the choice among them: by what has been measured
// on this device (gpu/choices.h, kernels/tune.h), else by a rule. Variants of a family add the
// terms of a sum in the same order, so they differ in speed alone; another family, or other parts,
// round differently. So those two depend on the shape of one row, and a row's result does not
// depend on how many there are.
#ifndef L2D_KERNELS_CONV_VARIANT_H
#define L2D_KERNELS_CONV_VARIANT_H

#include "gpu/choices.h"
#include "gpu/device.h"
#include "gpu/graph.h"

// A shader and how much of the output one of its workgroups makes.
struct l2d_conv_variant {
    const char *shader;
    char name[20];                          // "128x64": pixels by channels; on T2 by depth, and
                                            // h if sums are in halves
    uint32_t size;                          // of a workgroup
    uint32_t pixels, quads;
    uint32_t spec[12], num_spec;            // from constant 5 on
    uint32_t shared_bytes;
    uint32_t parts;                         // of the sum
};

// What a choice depends on: quads of output columns, channels and taps of the sum.
struct l2d_conv_shape {
    uint32_t rows, out_h, out_w, quads, cin, ksize;     // ksize: taps of an output pixel, one way
    uint32_t stride, upsample;
    uint32_t odd_seam;          // 1: of two inputs, whose first ends within an octet of channels
};

// HALVES, each behind the family with sums in floats: some terms are summed up in halves, and these
// sums in floats; 64 with matrix units, which those of GeForce cards do twice as fast, and 16 in
// tier 1, of which many GPUs do two at once.
enum l2d_conv_family { L2D_CONV_T0, L2D_CONV_T1, L2D_CONV_T1_HALVES, L2D_CONV_T2,
                       L2D_CONV_T2_HALVES, L2D_CONV_NUM_FAMILIES };

#define L2D_CONV_MAX_PARTS 8

/** Variants of a family that run on the device; 0 if it is not for it or for the precision. */
uint32_t l2d_conv_num_variants(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                               enum l2d_conv_family family);

/** The words of a shape in the table of choices. */
struct l2d_shape l2d_conv_shape_key(const struct l2d_conv_shape *shape, enum l2d_dtype precision);

/** And back. returns false if it is not a convolution's, or is out of range. */
bool l2d_conv_shape_of_key(const struct l2d_shape *key, struct l2d_conv_shape *shape,
                           enum l2d_dtype *precision);

/** By rule. */
struct l2d_choice l2d_conv_default(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                                   const struct l2d_conv_shape *shape);

/** Whether a variant of tier 2, either family, with its parts may by rule be among the fastest. */
bool l2d_conv_is_promising(const struct l2d_gpu_caps *caps, const struct l2d_conv_shape *shape,
                           const struct l2d_conv_variant *variant);

/**
 * What a shape runs with if it is not itself known: by rule, within the family and parts that are
 * known of other rows (*fixed) if they are. gpu's table notes nothing.
 */
struct l2d_choice l2d_conv_rule(struct l2d_gpu *gpu, enum l2d_dtype precision,
                                const struct l2d_conv_shape *shape, bool *fixed);

/** The same with sums in halves, if the device and the choice's family have that. */
struct l2d_choice l2d_conv_in_halves(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                                     const struct l2d_conv_shape *shape,
                                     const struct l2d_choice *choice);

/** The variant with parts that a choice stands for. returns false if there is none. */
bool l2d_conv_variant_of(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                         const struct l2d_conv_shape *shape, const struct l2d_choice *choice,
                         struct l2d_conv_variant *variant);

/** What a shape runs with, measured or by rule; notes that it was asked for. */
struct l2d_conv_variant l2d_conv_choose(struct l2d_graph *graph,
                                        const struct l2d_conv_shape *shape, double flops);

#endif
