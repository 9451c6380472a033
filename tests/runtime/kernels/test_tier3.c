// SPDX-License-Identifier: Apache-2.0
// Which tiles the matrices of any size get, for devices that we do not have.
#include <criterion/criterion.h>

#include "kernels/conv_variant.h"
#include "kernels/tier3.h"

// By llama.cpp's checks of it, what NVIDIA's drivers say; and what lavapipe 26 says.
static const struct l2d_gpu_caps nvidia = {
    .subgroup_size = 32, .max_shared_bytes = 49152, .max_invocations = 1024,
    .matrix2 = { .size = { { 128, { 32, 16, 16 } }, { 256, { 32, 32, 16 } } },
                 .of_workgroup = true, .max_side = 1024 },
};
static const struct l2d_gpu_caps lavapipe = {
    .subgroup_size = 8, .max_shared_bytes = 32768, .max_invocations = 1024,
    .matrix2 = { .size = { { 8, { 8, 8, 8 } } }, .max_side = 1024 },
};

static bool conv_is(const struct l2d_gpu_caps *caps, uint32_t index, uint32_t size, uint32_t scope,
                    uint32_t m, uint32_t n, uint32_t k)
{
    struct l2d_tier3_conv v = l2d_tier3_conv(caps, index);
    return v.size == size && v.pixels == m && v.columns == n && v.spec[0] == scope &&
           v.spec[1] == m && v.spec[2] == n && v.spec[3] == k && v.spec[4] == size;
}

Test(tier3, tiles_of_convolutions)
{
    cr_expect(conv_is(&nvidia, 0, 256, 2, 128, 128, 32));
    cr_expect(conv_is(&nvidia, 1, 128, 2, 128, 64, 32));
    cr_expect(conv_is(&nvidia, 2, 128, 2, 64, 64, 32));
    cr_expect_eq(l2d_tier3_conv(&nvidia, 3).size, 0, "a subgroup's");
    cr_expect_eq(l2d_tier3_conv(&lavapipe, 0).size, 0, "a workgroup's");
    cr_expect(conv_is(&lavapipe, 3, 8, 3, 16, 16, 16));

    struct l2d_gpu_caps caps = nvidia;
    caps.matrix2.reserved_bytes = 16384;            // the large tile has no room beside it
    cr_expect_eq(l2d_tier3_conv(&caps, 0).size, 0);
    cr_expect_eq(l2d_tier3_conv(&caps, 1).size, 128);
    caps = nvidia;
    caps.matrix2.max_side = 64;
    cr_expect_eq(l2d_tier3_conv(&caps, 1).size, 0);
    caps.matrix2.size[0].grain.n = 64;              // half a tile is not a matrix
    cr_expect_eq(l2d_tier3_conv(&caps, 2).size, 0);
}

// Families, and tiles by number of those that fit.
static struct l2d_choice chosen(struct l2d_gpu_caps caps, enum l2d_tier tier, uint32_t rows,
                                uint32_t side, uint32_t channels)
{
    caps.tier = tier;
    caps.matrix = (struct l2d_matrix_shape) { 16, 16, 16 };
    caps.max_range_bytes = 128u << 20;
    struct l2d_conv_shape s = { .rows = rows, .out_h = side, .out_w = side, .quads = channels / 4,
                                .cin = 320, .ksize = 1, .stride = 1 };
    struct l2d_choice c = l2d_conv_default(&caps, L2D_F16, &s);
    struct l2d_conv_variant v;
    cr_expect(l2d_conv_variant_of(&caps, L2D_F16, &s, &c, &v));
    return c;
}

Test(tier3, is_chosen_by_name_and_where_it_fits)
{
    cr_expect_eq(chosen(nvidia, L2D_TIER_2, 2, 64, 320).family, L2D_CONV_T2);
    struct l2d_choice c = chosen(nvidia, L2D_TIER_3, 2, 64, 320);
    cr_expect(c.family == L2D_CONV_T3 && c.variant == 0);
    c = chosen(nvidia, L2D_TIER_3, 2, 16, 1280);
    cr_expect(c.family == L2D_CONV_T3 && c.variant == 2);
    c = chosen(nvidia, L2D_TIER_3, 8, 128, 64);
    cr_expect(c.family == L2D_CONV_T3 && c.variant == 1, "narrow");
    struct l2d_gpu_caps caps = nvidia;
    caps.matrix2.reserved_bytes = 16384;
    c = chosen(caps, L2D_TIER_3, 2, 64, 320);
    cr_expect(c.family == L2D_CONV_T3 && c.variant == 0, "128x64 is the first that fits");
    caps.matrix2.max_side = 32;
    cr_expect_eq(chosen(caps, L2D_TIER_3, 2, 64, 320).family, L2D_CONV_T2);
    cr_expect_eq(l2d_conv_num_variants(&caps, L2D_F16, L2D_CONV_T3), 0);
}

Test(tier3, attention)
{
    static const uint32_t want[][2] = { { 40, 48 }, { 80, 80 }, { 160, 160 }, { 4, 16 } };
    for (size_t i = 0; i < sizeof(want) / sizeof(want[0]); i++) {
        struct l2d_tier3_attention v = l2d_tier3_attention(&nvidia, want[i][0] / 4, true);
        cr_expect(v.queries == 64 && v.spec[0] == 128 && v.spec[1] == want[i][0] / 4 &&
                  v.spec[2] == 1 && v.spec[3] == 2 && v.spec[4] == 64 && v.spec[5] == 32 &&
                  v.spec[6] == want[i][1] && v.spec[7] == 128, "d = %u", want[i][0]);
    }
    struct l2d_tier3_attention v = l2d_tier3_attention(&lavapipe, 10, false);
    cr_expect(v.queries == 8 && v.spec[0] == 8 && v.spec[3] == 3 && v.spec[4] == 8 &&
              v.spec[5] == 8 && v.spec[6] == 40);

    struct l2d_gpu_caps caps = nvidia;
    caps.matrix2.reserved_bytes = 32768;
    cr_expect_eq(l2d_tier3_attention(&caps, 40, false).queries, 0);
    cr_expect_eq(l2d_tier3_attention(&caps, 10, false).queries, 64);
    caps = nvidia;
    caps.matrix2.size[0].invocations = 0;           // of 256 alone: none for attention
    cr_expect_eq(l2d_tier3_attention(&caps, 10, false).queries, 0);
}
