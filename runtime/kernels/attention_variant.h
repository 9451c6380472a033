// SPDX-License-Identifier: Apache-2.0
// The shaders that attention can run with, and the choice among them: by what has been measured on
// this device (gpu/choices.h, kernels/tune.h), else by a rule. Variants take queries and keys in
// other blocks, and so round differently: each is a family of its own, the same for every number of
// rows.
#ifndef L2D_KERNELS_ATTENTION_VARIANT_H
#define L2D_KERNELS_ATTENTION_VARIANT_H

#include "gpu/choices.h"
#include "gpu/device.h"
#include "gpu/graph.h"

// Channels of a head: beyond the first it does not fit one invocation (attention_wide.comp).
#define L2D_ATTENTION_WIDE 160
#define L2D_ATTENTION_WIDEST 1024

struct l2d_attention_shape {
    uint32_t rows, queries, keys, heads, quads;     // of a row; of a head
    uint32_t causal;
};

struct l2d_attention_variant {
    const char *shader;
    char name[20];                  // "64x32": queries of a workgroup by keys at a time
    uint32_t queries;
    uint32_t spec[9], num_spec;
};

/** The words of a shape in the table of choices. */
struct l2d_shape l2d_attention_shape_key(const struct l2d_attention_shape *shape,
                                         enum l2d_dtype precision);

/** And back. returns false if it is not attention's, or is out of range. */
bool l2d_attention_shape_of_key(const struct l2d_shape *key, struct l2d_attention_shape *shape,
                                enum l2d_dtype *precision);

/**
 * Number `index` of those that run on the device: the rule's first, and behind those of matrix
 * units what any GPU runs (tier 1), which the others can be compared with.
 * returns  false if there is none
 */
bool l2d_attention_variant_of(const struct l2d_gpu_caps *caps, enum l2d_dtype precision,
                              const struct l2d_attention_shape *shape, uint32_t index,
                              struct l2d_attention_variant *variant);

/** What a shape runs with, measured or by rule; notes that it was asked for. */
struct l2d_attention_variant l2d_attention_choose(struct l2d_graph *graph,
                                                  const struct l2d_attention_shape *shape,
                                                  double flops);

#endif
