// SPDX-License-Identifier: Apache-2.0
// What a cache of keys and values looks like in memory. See kernels.h.
#include <string.h>

#include "kernels/kernels.h"
#include "shaders/params/attention.h"

struct l2d_tensor l2d_kv_cache_shape(enum l2d_dtype dtype, int32_t steps, int32_t pixels, int32_t c,
                                     int32_t heads)
{
    int32_t each = dtype == L2D_U32 ? heads * L2D_KV_HEAD_WORDS(c / heads) : 2 * c;
    return l2d_tensor_view(NULL, 0, dtype, steps, pixels, L2D_WINDOW, each);
}

static float upper_half(uint32_t bits)
{
    float value;
    bits &= 0xffff0000u;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

// d bytes, four a word, times step.
static void unpack(float *out, const uint32_t *word, int32_t d, float step)
{
    for (int32_t i = 0; i < d; i++) {
        int32_t byte = (int32_t) (word[i / 4] >> 8 * (i % 4) & 255);
        out[i] = (float) (byte < 128 ? byte : byte - 256) * step;
    }
}

void l2d_kv_cache_unpack(float *out, const uint32_t *words, uint64_t slots, int32_t c,
                         int32_t heads)
{
    int32_t d = c / heads;
    for (uint64_t s = 0; s < slots; s++, out += 2 * c)
        for (int32_t h = 0; h < heads; h++, words += L2D_KV_HEAD_WORDS(d)) {
            uint32_t steps = words[d / 2];
            unpack(out + h * d, words, d, upper_half(steps << 16));
            unpack(out + c + h * d, words + d / 4, d, upper_half(steps));
        }
}
