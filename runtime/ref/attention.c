// SPDX-License-Identifier: Apache-2.0
// Attention with the textbook softmax. See ref.h.
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ref/ref.h"

// out [d] = softmax(score [count]) v, with v's rows `stride` apart.
static void softmax_sum(double *out, double *score, const float *v, long stride, int count, int d)
{
    double top = score[0], sum = 0;
    for (int i = 1; i < count; i++)
        top = score[i] > top ? score[i] : top;
    for (int i = 0; i < count; i++)
        sum += score[i] = exp(score[i] - top);
    for (int n = 0; n < d; n++) {
        out[n] = 0;
        for (int i = 0; i < count; i++)
            out[n] += score[i] / sum * (double) v[i * stride + n];
    }
}

void l2d_ref_attention(float *y, const struct l2d_ref_attention *p)
{
    int d = p->c / p->heads;
    double *score = malloc((size_t) p->keys * sizeof(*score));
    double *out = malloc((size_t) d * sizeof(*out));
    if (!score || !out)
        abort();
    for (int r = 0; r < p->rows; r++)
        for (int i = 0; i < p->queries; i++)
            for (int h = 0; h < p->heads; h++) {
                long token = (long) r * p->queries + i;
                const float *q = p->q + token * p->q_channels + p->q_first + h * d;
                const float *kv = p->kv + (p->kv_shared ? 0 : (long) r * p->keys * p->kv_channels);
                int count = p->causal && i + 1 < p->keys ? i + 1 : p->keys;
                for (int k = 0; k < count; k++) {
                    const float *key = kv + (long) k * p->kv_channels + p->k_first + h * d;
                    score[k] = 0;
                    for (int n = 0; n < d; n++)
                        score[k] += (double) q[n] * (double) key[n];
                    score[k] /= sqrt(d);
                }
                softmax_sum(out, score, kv + p->v_first + h * d, p->kv_channels, count, d);
                for (int n = 0; n < d; n++)
                    y[token * p->c + h * d + n] = (float) out[n];
            }
    free(out);
    free(score);
}

// Position of the key in a slot.
static int position(const struct l2d_ref_temporal_row *row, int slot)
{
    return row->own_pos < 15 || slot < 8 ? slot : 15 - (row->kv_slot - slot + 8) % 8;
}

float l2d_ref_quantize(int8_t *byte, const float *x, int count)
{
    float most = 0, step;
    uint32_t bits;
    for (int i = 0; i < count; i++)
        most = fmaxf(most, fabsf(x[i]));
    step = most / 127;
    memcpy(&bits, &step, sizeof(bits));
    bits = (bits + 0xffff) & 0xffff0000u;
    memcpy(&step, &bits, sizeof(step));
    for (int i = 0; i < count; i++)
        byte[i] = (int8_t) (step > 0 ? rint((double) x[i] / (double) step) : 0);
    return step;
}

// Keys and values [heads][d] of one pixel, as the cache will hold them.
static void cache_write(float *slot, const float *kv, int heads, int d, bool int8)
{
    int8_t byte[160];
    memcpy(slot, kv, 2 * (size_t) (heads * d) * sizeof(*slot));
    for (int h = 0; h < 2 * heads && int8; h++) {
        float step = l2d_ref_quantize(byte, kv + h * d, d);
        for (int i = 0; i < d; i++)
            slot[h * d + i] = step * (float) byte[i];
    }
}

void l2d_ref_temporal_attention(float *y, float *cache, const float *qkv, const float *pos,
                                const struct l2d_ref_temporal_row *row, int rows, int pixels,
                                int heads, int c, bool warmup, bool int8)
{
    int d = c / heads;
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < pixels && row[r].active; p++)
            cache_write(cache + (((long) row[r].step * pixels + p) * 16 + row[r].kv_slot) * 2 * c,
                        qkv + ((long) r * pixels + p) * 3 * c + c, heads, d, int8);
    for (int r = 0; r < rows; r++)
        for (int p = 0; p < pixels; p++)
            for (int h = 0; h < heads; h++) {
                float *out = y + ((long) r * pixels + p) * c + h * d;
                const float *q = qkv + ((long) r * pixels + p) * 3 * c + h * d;
                int own = warmup ? r : row[r].own_pos, count = warmup ? 8 : row[r].num_open;
                double score[16], sum[160];
                float v[16 * 160];
                for (int n = 0; n < d; n++)
                    out[n] = 0;
                if (!row[r].active)
                    continue;
                for (int s = 0; s < count; s++) {
                    const float *k = cache + (((long) row[r].step * pixels + p) * 16 + s) * 2 * c;
                    const float *kp = pos + (warmup ? s : position(&row[r], s)) * 3 * c + c + h * d;
                    if (warmup || s == row[r].kv_slot)
                        k = qkv + ((long) (warmup ? s : r) * pixels + p) * 3 * c + c;
                    score[s] = 0;
                    for (int n = 0; n < d; n++) {
                        score[s] += ((double) q[n] + (double) pos[own * 3 * c + h * d + n]) *
                                    ((double) k[h * d + n] + (double) kp[n]) / sqrt(d);
                        v[s * d + n] = k[c + h * d + n] + kp[c + n];
                    }
                }
                softmax_sum(sum, score, v, d, count, d);
                for (int n = 0; n < d; n++)
                    out[n] = (float) sum[n];
            }
}
