// SPDX-License-Identifier: Apache-2.0
// Packing of the weights of convolutions and linear layers.
//
// Packed weights are [panel][tap][cin][32], where a panel is 32 columns and columns beyond cout are
// zero, so that every shader reads whole panels. With GEGLU groups of 4 columns alternate between
// values and gates: 4 values, their 4 gates, the next 4 values. The bias keeps PyTorch's order.
// With upsampling taps are those of four 2x2 kernels, [output pixel's y % 2][its x % 2][y][x].
//
// In bytes a panel begins with its columns' steps, f32 [32], and each weight is a signed byte times
// its column's step: max |w| / 127, rounded up to a half. Of four bytes the second and the third
// have changed places, so that masks take pairs of neighbours out of a word.
#include <assert.h>
#include <math.h>
#include <string.h>

#include "base/half.h"
#include "kernels/dispatch.h"
#include "kernels/kernels.h"

static_assert(L2D_CONV_PANEL == 32, "the order above");

#define STEPS_BYTES (L2D_CONV_PANEL * sizeof(float))

// Of 3 neighbours, a step apart, the 2 that an even or odd pixel has at half the size.
static void fold_line(const double w[3], int odd, double out[2])
{
    out[0] = odd ? w[0] + w[1] : w[0];
    out[1] = odd ? w[2] : w[1] + w[2];
}

// From the last one on, since they grow.
void l2d_conv_fold(float *value, uint64_t kernels)
{
    while (kernels-- > 0) {
        double half[3][2][2];           // [y][x % 2][x]
        float *out = value + 16 * kernels;
        for (int y = 0; y < 3; y++) {
            const float *w = value + 9 * kernels + 3 * y;
            const double line[3] = { (double) w[0], (double) w[1], (double) w[2] };
            for (int odd = 0; odd < 2; odd++)
                fold_line(line, odd, half[y][odd]);
        }
        for (int i = 0; i < 16; i++) {
            int odd_y = i / 8, odd_x = i / 4 % 2, y = i / 2 % 2, x = i % 2;
            const double column[3] = { half[0][odd_x][x], half[1][odd_x][x], half[2][odd_x][x] };
            double both[2];
            fold_line(column, odd_y, both);
            out[i] = (float) both[y];
        }
    }
}

uint32_t l2d_conv_num_panels(int32_t cout)
{
    return div_up((uint64_t) cout, L2D_CONV_PANEL);
}

uint64_t l2d_conv_panel_bytes(int32_t cin, int32_t ksize, enum l2d_dtype dtype)
{
    uint64_t count = L2D_CONV_PANEL * (uint64_t) ksize * (uint64_t) ksize * (uint64_t) cin;
    return dtype == L2D_U32 ? STEPS_BYTES + count : count * l2d_dtype_bytes(dtype);
}

uint64_t l2d_conv_packed_bytes(int32_t cin, int32_t cout, int32_t ksize, enum l2d_dtype dtype)
{
    return l2d_conv_num_panels(cout) * l2d_conv_panel_bytes(cin, ksize, dtype);
}

int32_t l2d_conv_channel_of(int32_t column, int32_t cout, bool geglu)
{
    if (!geglu)
        return column < cout ? column : -1;
    int32_t half = cout / 2, value = column / 8 * 4 + column % 4;
    return value >= half ? -1 : column % 8 < 4 ? value : half + value;
}

// A row of weights for each lane that there is, and where the lane is.
struct lanes {
    const void *row[L2D_CONV_PANEL];
    uint32_t at[L2D_CONV_PANEL];
    uint32_t count;
};

// The rows are read side by side, so that each line of the panel is written at once.
static void fill_from_f16(uint16_t *panel, const struct lanes *lanes, size_t taps, size_t cin,
                          size_t src_cin)
{
    for (size_t k = 0; k < src_cin; k++)
        for (size_t tap = 0; tap < taps; tap++) {
            uint16_t *line = panel + (tap * cin + k) * L2D_CONV_PANEL;
            for (uint32_t i = 0; i < lanes->count; i++)
                line[lanes->at[i]] = ((const uint16_t *) lanes->row[i])[k * taps + tap];
        }
}

static void fill_from_f32(void *panel, enum l2d_dtype dtype, const struct lanes *lanes,
                          size_t taps, size_t cin, size_t src_cin)
{
    for (size_t k = 0; k < src_cin; k++)
        for (size_t tap = 0; tap < taps; tap++) {
            size_t line = (tap * cin + k) * L2D_CONV_PANEL;
            for (uint32_t i = 0; i < lanes->count; i++) {
                float v = ((const float *) lanes->row[i])[k * taps + tap];
                if (dtype == L2D_F16)
                    ((uint16_t *) panel)[line + lanes->at[i]] = l2d_half_from_f32(v);
                else
                    ((float *) panel)[line + lanes->at[i]] = v;
            }
        }
}

// The least half with which the greatest of them fits a byte.
static float step_of(const float *row, size_t count)
{
    float most = 0;
    for (size_t i = 0; i < count; i++)
        most = fabsf(row[i]) > most ? fabsf(row[i]) : most;
    uint16_t half = l2d_half_from_f32(most / 127);
    if (l2d_half_to_f32(half) < most / 127)
        half++;
    return l2d_half_to_f32(half);
}

static void fill_bytes(void *panel, const struct lanes *lanes, size_t taps, size_t cin,
                       size_t src_cin)
{
    float *step = panel;
    int8_t *byte = (int8_t *) panel + STEPS_BYTES;
    for (uint32_t i = 0; i < lanes->count; i++) {
        uint32_t at = lanes->at[i], within = at % 4;
        const float *row = lanes->row[i];
        step[at] = step_of(row, src_cin * taps);
        float inverse = step[at] > 0 ? 1 / step[at] : 0;
        at = at - within + (within == 1 ? 2 : within == 2 ? 1 : within);
        for (size_t k = 0; k < src_cin; k++)
            for (size_t tap = 0; tap < taps; tap++)
                byte[(tap * cin + k) * L2D_CONV_PANEL + at] =
                    (int8_t) rintf(row[k * taps + tap] * inverse);
    }
}

static void fill(void *panel, enum l2d_dtype dtype, const struct lanes *lanes,
                 enum l2d_dtype row_type, int32_t cin, int32_t ksize, int32_t src_cin)
{
    size_t taps = (size_t) ksize * (size_t) ksize;
    assert(row_type == L2D_F32 || row_type == dtype);
    if (dtype == L2D_U32)
        fill_bytes(panel, lanes, taps, (size_t) cin, (size_t) src_cin);
    else if (row_type == L2D_F16)
        fill_from_f16(panel, lanes, taps, (size_t) cin, (size_t) src_cin);
    else
        fill_from_f32(panel, dtype, lanes, taps, (size_t) cin, (size_t) src_cin);
}

void l2d_conv_pack_panel(void *dst, enum l2d_dtype dtype, int32_t cin, int32_t ksize,
                         const void *const rows[L2D_CONV_PANEL], enum l2d_dtype row_type,
                         int32_t src_cin)
{
    struct lanes lanes = { .count = 0 };
    for (uint32_t i = 0; i < L2D_CONV_PANEL; i++)
        if (rows[i]) {
            lanes.row[lanes.count] = rows[i];
            lanes.at[lanes.count++] = i;
        }
    if (lanes.count < L2D_CONV_PANEL || src_cin < cin)
        memset(dst, 0, l2d_conv_panel_bytes(cin, ksize, dtype));
    fill(dst, dtype, &lanes, row_type, cin, ksize, src_cin);
}

void l2d_conv_pack(void *dst, enum l2d_dtype dtype, int32_t cin, int32_t cout, int32_t ksize,
                   bool geglu, const float *src, int32_t src_cin, int32_t src_cout, int32_t col)
{
    if (col == 0)
        memset(dst, 0, l2d_conv_packed_bytes(cin, cout, ksize, dtype));
    uint64_t panel_bytes = l2d_conv_panel_bytes(cin, ksize, dtype);
    size_t row = (size_t) src_cin * (size_t) ksize * (size_t) ksize;
    for (uint32_t p = 0; p < l2d_conv_num_panels(cout); p++) {
        struct lanes lanes = { .count = 0 };
        for (uint32_t i = 0; i < L2D_CONV_PANEL; i++) {
            int32_t n = l2d_conv_channel_of((int32_t) (p * L2D_CONV_PANEL + i), cout, geglu) - col;
            if (n < 0 || n >= src_cout)
                continue;
            lanes.row[lanes.count] = src + (size_t) n * row;
            lanes.at[lanes.count++] = i;
        }
        if (lanes.count)
            fill((unsigned char *) dst + p * panel_bytes, dtype, &lanes, L2D_F32, cin, ksize,
                 src_cin);
    }
}
