// SPDX-License-Identifier: Apache-2.0
// The similar-frame filter's decisions.
#include "pipeline/similar.h"

#include <criterion/criterion.h>

Test(similar, cosine)
{
    cr_assert_float_eq(l2d_similar_cosine(6, 4, 9), 1, 1e-12);
    cr_assert_float_eq(l2d_similar_cosine(-3, 4, 9), -0.5, 1e-12);
    cr_assert_float_eq(l2d_similar_cosine(0, 0, 9), 0, 1e-12);     // grey: nothing is like it
}

static unsigned count_skips(double threshold, double cosine, unsigned frames, uint64_t seed)
{
    struct l2d_similar s = { .threshold = threshold };
    unsigned skips = 0, in_a_row = 0;
    for (uint32_t i = 0; i < frames; i++) {
        bool skip = l2d_similar_skip(&s, cosine, seed, i);
        in_a_row = skip ? in_a_row + 1 : 0;
        cr_assert(in_a_row <= L2D_MAX_SKIPS && s.skips == in_a_row);
        skips += skip;
    }
    return skips;
}

Test(similar, chance)
{
    cr_assert_eq(count_skips(0.98, 1, 110, 1), 100, "the same picture: 10 of 11");
    cr_assert_eq(count_skips(0.98, 0.98, 1000, 1), 0);
    cr_assert_eq(count_skips(0.98, -1, 1000, 1), 0);
    cr_assert_eq(count_skips(1, 1, 1000, 1), 0, "a threshold of 1 skips nothing");
    unsigned half = count_skips(0.98, 0.99, 10000, 1);
    cr_assert(half > 4800 && half < 5200, "%u of 10000", half);
    cr_assert_eq(count_skips(0.98, 0.99, 10000, 1), half, "the same draws again");
    cr_assert_neq(count_skips(0.98, 0.99, 10000, 2), half, "another seed, other draws");
}
