// SPDX-License-Identifier: Apache-2.0
// Scene cuts. See cut.h.
#include "pipeline/cut.h"

#include <math.h>
#include <string.h>

#define SAMPLES 4                       // a side, of each field
#define LEAST 0.08f                     // mean difference of a cut; hard motion has up to 0.04
#define TIMES_USUAL 3                   // and so many times what is usual
#define RATE 0.2f                       // of the moving mean

static float sample(const struct l2d_frame *f, uint32_t component, uint32_t x, uint32_t y)
{
    const struct l2d_component *c = &f->format.component[component];
    const uint8_t *at = f->data + f->plane_offset_bytes[c->plane] +
                        (uint64_t) (y >> c->sub_h_log2) * f->plane_stride_bytes[c->plane] +
                        (uint64_t) (x >> c->sub_w_log2) * c->step_bytes + c->offset_bytes;
    uint32_t value = at[0];
    if (c->depth_bits + c->shift_bits > 8)
        value |= (uint32_t) at[1] << 8;
    uint32_t most = (1u << c->depth_bits) - 1;
    return (float) (value >> c->shift_bits & most) / (float) most;
}

static float brightness(const struct l2d_frame *f, uint32_t x, uint32_t y)
{
    if (f->format.num_components < 3 || f->format.matrix != L2D_MATRIX_RGB)
        return sample(f, 0, x, y);
    return 0.299f * sample(f, 0, x, y) + 0.587f * sample(f, 1, x, y) +
           0.114f * sample(f, 2, x, y);
}

static void reduce(float *field, const struct l2d_frame *f)
{
    const uint32_t side = L2D_CUT_FIELDS * SAMPLES;
    memset(field, 0, L2D_CUT_FIELDS * L2D_CUT_FIELDS * sizeof(*field));
    for (uint32_t y = 0; y < side; y++)
        for (uint32_t x = 0; x < side; x++)
            field[y / SAMPLES * L2D_CUT_FIELDS + x / SAMPLES] +=
                brightness(f, (2 * x + 1) * (uint32_t) f->width / (2 * side),
                           (2 * y + 1) * (uint32_t) f->height / (2 * side)) / (SAMPLES * SAMPLES);
}

bool l2d_cut_look(struct l2d_cut *cut, const struct l2d_frame *frame)
{
    const int count = L2D_CUT_FIELDS * L2D_CUT_FIELDS;
    float field[L2D_CUT_FIELDS * L2D_CUT_FIELDS], sum = 0;
    reduce(field, frame);
    for (int i = 0; i < count; i++)
        sum += fabsf(field[i] - cut->field[i]);
    float difference = cut->seen ? sum / (float) count : 0;
    bool is_cut = difference >= LEAST && difference >= TIMES_USUAL * cut->usual;
    memcpy(cut->field, field, sizeof(field));
    cut->usual += RATE * (difference - cut->usual);
    cut->seen = true;
    return is_cut;
}
