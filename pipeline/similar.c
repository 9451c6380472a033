// SPDX-License-Identifier: Apache-2.0
// The similar-frame filter's arithmetic. See similar.h.
#include "pipeline/similar.h"

#include <math.h>

#include "base/philox.h"

#define SMALLEST_NORM 1e-6
#define DRAW 1                          // last word of the counter; noise has 0 there

// U[0, 1) of a frame.
static double draw(uint64_t seed, uint32_t index)
{
    uint32_t word[4];
    l2d_philox_block(word, (const uint32_t[4]) { 0, index, 0, DRAW },
                     (const uint32_t[2]) { (uint32_t) seed, (uint32_t) (seed >> 32) });
    return ldexp((double) (word[0] >> 8), -24);
}

double l2d_similar_cosine(double px, double pp, double xx)
{
    return px / (fmax(sqrt(pp), SMALLEST_NORM) * fmax(sqrt(xx), SMALLEST_NORM));
}

bool l2d_similar_skip(struct l2d_similar *s, double cosine, uint64_t seed, uint32_t index)
{
    double chance = s->threshold < 1 ? 1 - (1 - cosine) / (1 - s->threshold) : 0;
    bool skip = s->skips < L2D_MAX_SKIPS && draw(seed, index) < chance;
    s->skips = skip ? s->skips + 1 : 0;
    return skip;
}
