// SPDX-License-Identifier: Apache-2.0
// Philox against the known answers of its authors (Random123, tests/kat_vectors), and the noise
// against its definition and the normal distribution.
#include "base/philox.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

Test(philox, known_answers)
{
    static const struct { uint32_t counter[4], key[2], want[4]; } cases[] = {
        { { 0, 0, 0, 0 }, { 0, 0 }, { 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 } },
        { { 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff }, { 0xffffffff, 0xffffffff },
          { 0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd } },
        { { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 }, { 0xa4093822, 0x299f31d0 },
          { 0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 } },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint32_t got[4];
        l2d_philox_block(got, cases[i].counter, cases[i].key);
        cr_assert_eq(memcmp(got, cases[i].want, sizeof(got)), 0, "case %zu: %08x", i, got[0]);
    }
}

Test(philox, noise_is_box_muller_of_blocks)
{
    float got[7];
    l2d_noise_fill(got, 7, 0x123456789abcdef0u, 5, 2);
    for (uint32_t e = 0; e < 7; e++) {
        uint32_t u[4];
        l2d_philox_block(u, (const uint32_t[4]) { e / 4, 5, 2, 0 },
                         (const uint32_t[2]) { 0x9abcdef0, 0x12345678 });
        uint32_t pair = e % 4 / 2 * 2;
        double u1 = ((u[pair] >> 8) + 1) * ldexp(1, -24), u2 = (u[pair + 1] >> 8) * ldexp(1, -24);
        double angle = 2 * acos(-1) * u2;
        double want = sqrt(-2 * log(u1)) * (e % 2 ? sin(angle) : cos(angle));
        cr_assert_float_eq(got[e], want, 1e-6, "element %u: %g, not %g", e, got[e], want);
    }
}

// Computed with numpy in fp32 from the same definition.
Test(philox, noise_matches_the_reference)
{
    static const float want[] = {
        -0.311337739f, -0.706102788f, 0.509457171f, -0.864051998f,
        -1.9249028f, -0.242703021f, -0.413239509f, -0.667436957f,
    };
    float got[8];
    l2d_noise_fill(got, 8, 42, 3, 1);
    for (int e = 0; e < 8; e++)
        cr_assert_float_eq(got[e], want[e], 2e-6, "element %d: %.9g, not %.9g", e, got[e], want[e]);
}

Test(philox, noise_depends_on_each_key)
{
    float base[4], other[4][4];
    l2d_noise_fill(base, 4, 1, 2, 3);
    l2d_noise_fill(other[0], 4, 2, 2, 3);
    l2d_noise_fill(other[1], 4, 1 + (UINT64_C(1) << 32), 2, 3);
    l2d_noise_fill(other[2], 4, 1, 3, 3);
    l2d_noise_fill(other[3], 4, 1, 2, 4);
    for (int i = 0; i < 4; i++)
        for (int e = 0; e < 4; e++)
            cr_assert_neq(base[e], other[i][e], "key %d, element %d", i, e);
}

Test(philox, noise_writes_count_elements)
{
    float all[16], some[17];
    l2d_noise_fill(all, 16, 7, 0, 0);
    for (size_t count = 0; count <= 16; count++) {
        for (int e = 0; e < 17; e++)
            some[e] = 1e30f;
        l2d_noise_fill(some, count, 7, 0, 0);
        cr_assert_eq(memcmp(some, all, count * sizeof(float)), 0);
        cr_assert_eq(some[count], 1e30f);
    }
}

Test(philox, noise_is_normal)
{
    enum { N = 1 << 20 };
    float *x = malloc(N * sizeof(*x));
    cr_assert_not_null(x);
    l2d_noise_fill(x, N, 2024, 17, 1);
    double sum = 0, sum2 = 0, sum3 = 0, sum4 = 0, neighbours = 0;
    for (int i = 0; i < N; i++) {
        double v = x[i];
        cr_assert(isfinite(v));
        sum += v;
        sum2 += v * v;
        sum3 += v * v * v;
        sum4 += v * v * v * v;
        neighbours += i ? v * x[i - 1] : 0;
    }
    free(x);
    cr_assert_float_eq(sum / N, 0, 5e-3);           // 5 sigma of each estimate
    cr_assert_float_eq(sum2 / N, 1, 7e-3);
    cr_assert_float_eq(sum3 / N, 0, 2e-2);
    cr_assert_float_eq(sum4 / N, 3, 5e-2);
    cr_assert_float_eq(neighbours / N, 0, 5e-3);
}
