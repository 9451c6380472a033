// SPDX-License-Identifier: Apache-2.0
// Scene cuts, and stale sinks. See cut.h.
#include "pipeline/cut.h"

#include <math.h>
#include <string.h>

#define SAMPLES 4                       // a side, of each field
#define LEAST 0.08f                     // mean difference of a cut; hard motion has up to 0.04
#define TIMES_USUAL 3                   // and so many times what is usual
#define RATE 0.2f                       // of the moving means
#define GREY 0.03f                      // sum of squares of fields that differ by 0.01
#define OTHER 0.5f                      // correlation with the sinks' fields, below which they are
                                        // of another scene
#define SETTLED 0.95f                   // with those of late, above which the picture stays

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
    memset(field, 0, L2D_CUT_COUNT * sizeof(*field));
    for (uint32_t y = 0; y < side; y++)
        for (uint32_t x = 0; x < side; x++)
            field[y / SAMPLES * L2D_CUT_FIELDS + x / SAMPLES] +=
                brightness(f, (2 * x + 1) * (uint32_t) f->width / (2 * side),
                           (2 * y + 1) * (uint32_t) f->height / (2 * side)) / (SAMPLES * SAMPLES);
}

// Of two pictures' fields, -1..1: light and exposure do not count. 1 if either is of one grey.
static float correlation(const float *a, const float *b)
{
    float mean_a = 0, mean_b = 0, aa = 0, bb = 0, ab = 0;
    for (int i = 0; i < L2D_CUT_COUNT; i++) {
        mean_a += a[i] / L2D_CUT_COUNT;
        mean_b += b[i] / L2D_CUT_COUNT;
    }
    for (int i = 0; i < L2D_CUT_COUNT; i++) {
        aa += (a[i] - mean_a) * (a[i] - mean_a);
        bb += (b[i] - mean_b) * (b[i] - mean_b);
        ab += (a[i] - mean_a) * (b[i] - mean_b);
    }
    return aa < GREY || bb < GREY ? 1 : ab / sqrtf(aa * bb);
}

static bool is_stale(struct l2d_cut *cut)
{
    bool other = cut->anchored && correlation(cut->field, cut->anchor) < OTHER &&
                 correlation(cut->field, cut->recent) > SETTLED;
    cut->stays = other ? cut->stays + 1 : 0;
    cut->age++;
    return cut->stays >= L2D_CUT_STAY && cut->age >= L2D_CUT_AGE;
}

enum l2d_sight l2d_cut_look(struct l2d_cut *cut, const struct l2d_frame *frame)
{
    float field[L2D_CUT_COUNT], sum = 0;
    reduce(field, frame);
    for (int i = 0; i < L2D_CUT_COUNT; i++) {
        sum += fabsf(field[i] - cut->field[i]);
        cut->recent[i] += (cut->seen ? RATE : 1) * (field[i] - cut->recent[i]);
    }
    float difference = cut->seen ? sum / L2D_CUT_COUNT : 0;
    bool is_cut = difference >= LEAST && difference >= TIMES_USUAL * cut->usual;
    memcpy(cut->field, field, sizeof(field));
    cut->usual += RATE * (difference - cut->usual);
    cut->seen = true;
    return is_cut ? L2D_SIGHT_CUT : is_stale(cut) ? L2D_SIGHT_STALE : L2D_SIGHT_GOES_ON;
}

void l2d_cut_anchor(struct l2d_cut *cut)
{
    memcpy(cut->anchor, cut->field, sizeof(cut->anchor));
    cut->age = cut->stays = 0;
    cut->anchored = cut->seen;
}
