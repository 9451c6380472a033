// SPDX-License-Identifier: Apache-2.0
// Which frames are so like the last one that they need not be drawn again: a decision by chance,
// the likelier the more alike they are, so that slow changes are not missed for long. Numbers in,
// a decision out; the likeness is measured on the GPU.
// Source: Kodaira et al., "StreamDiffusion" (2023), similar image filter. Here a frame that
// was looked at and is drawn resets the count of skipped ones, no more than L2D_MAX_SKIPS are
// skipped in a row, and the draw is a function of (seed, frame).
#ifndef L2D_PIPELINE_SIMILAR_H
#define L2D_PIPELINE_SIMILAR_H

#include <stdbool.h>
#include <stdint.h>

#define L2D_MAX_SKIPS 10                // in a row

struct l2d_similar {
    double threshold;                   // cosine from which on frames may be skipped; 1: never
    uint32_t skips;                     // in a row, so far
};

/** Cosine of two pictures from their products: <p,x>, <p,p>, <x,x>. */
double l2d_similar_cosine(double px, double pp, double xx);

/**
 * May the frame be skipped? Counts it.
 * cosine   with the last frame that was not skipped
 * index    of the frame among all that came in
 */
bool l2d_similar_skip(struct l2d_similar *similar, double cosine, uint64_t seed, uint32_t index);

#endif
