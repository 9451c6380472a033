// SPDX-License-Identifier: Apache-2.0
// Measures which variants the convolutions and attentions of a model run fastest with on this
// device, and enters them in the table of choices (gpu/choices.h). They are chosen by rule
// otherwise, which knows one vendor's devices better than another's, and no driver's compiler.
#ifndef L2D_KERNELS_TUNE_H
#define L2D_KERNELS_TUNE_H

#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

struct l2d_gpu;

struct l2d_tune_params {
    uint32_t max_rows;          // shapes with more keep to the rule: a warm-up runs seldom
    double seconds;             // no measurement begins after so long
    const struct l2d_log *log;  // DEBUG: a line for each shape; WARN: what computes wrongly
};

struct l2d_tune_result {
    uint32_t shapes;            // that were asked for and not known
    uint32_t measured;          // of them; the others are entered as by rule
    uint32_t changed;           // of those measured: another variant than by rule
    double seconds;
};

/** How many shapes l2d_tune would measure. */
uint32_t l2d_tune_num_shapes(const struct l2d_gpu *gpu, uint32_t max_rows);

/**
 * Time the variants of every shape that was asked for since l2d_choices_use and is not known, those
 * with most work first, on buffers of its own, which are given back. Weights are other ones in each
 * run, so that they come from memory as in a model. Only what is 3 % faster replaces the rule's.
 * What is taken has been compared, with what tier 1 computes where it is for matrix units, else
 * with what the rule's does: drivers err, and a wrong result is told in the log and not used.
 * Then all of these shapes are known. Nothing is written to the file.
 * returns  L2D_OK; L2D_EUNSUPPORTED: no timestamps; L2D_EGPUMEM; or what the GPU says. After an
 *          error what was measured before is known.
 */
int l2d_tune(struct l2d_gpu *gpu, const struct l2d_tune_params *params,
             struct l2d_tune_result *result, struct l2d_error *err);

#endif
