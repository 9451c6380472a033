// SPDX-License-Identifier: Apache-2.0
// See convert.h.
#include "tensor/convert.h"

#include <assert.h>
#include <string.h>

#include "base/half.h"

bool l2d_convert_reads(enum l2d_safetensors_dtype dtype)
{
    switch (dtype) {
    case L2D_SAFETENSORS_F8_E5M2: case L2D_SAFETENSORS_F8_E4M3: case L2D_SAFETENSORS_F16:
    case L2D_SAFETENSORS_BF16: case L2D_SAFETENSORS_F32: case L2D_SAFETENSORS_F64:
    case L2D_SAFETENSORS_I32: case L2D_SAFETENSORS_I64:
        return true;
    default:
        return false;
    }
}

static float element(enum l2d_safetensors_dtype dtype, const uint8_t *p)
{
    double d;
    int32_t i32;
    int64_t i64;
    switch (dtype) {
    case L2D_SAFETENSORS_F8_E5M2: return l2d_half_to_f32((uint16_t) (*p << 8));
    case L2D_SAFETENSORS_F8_E4M3: return l2d_half_e4m3_to_f32(*p);
    case L2D_SAFETENSORS_F64: memcpy(&d, p, sizeof(d)); return (float) d;
    case L2D_SAFETENSORS_I32: memcpy(&i32, p, sizeof(i32)); return (float) i32;
    case L2D_SAFETENSORS_I64: memcpy(&i64, p, sizeof(i64)); return (float) i64;
    default: assert(!"l2d_convert_reads"); return 0;
    }
}

// The types that large files are of, without a decision for each number.
static void halves(float *out, const uint8_t *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof(h));
        out[i] = l2d_half_to_f32(h);
    }
}

static void bfloats(float *out, const uint8_t *p, uint64_t count)
{
    for (uint64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, p + 2 * i, sizeof(h));
        out[i] = l2d_half_bf16_to_f32(h);
    }
}

bool l2d_convert_to_f32(float *out, enum l2d_safetensors_dtype dtype, const void *src,
                        uint64_t count)
{
    const uint8_t *p = src;
    uint32_t size = l2d_safetensors_dtype_bytes(dtype);
    uint32_t bad = 0;
    if (dtype == L2D_SAFETENSORS_F16)
        halves(out, p, count);
    else if (dtype == L2D_SAFETENSORS_BF16)
        bfloats(out, p, count);
    else if (dtype == L2D_SAFETENSORS_F32)
        memcpy(out, p, count * sizeof(*out));
    else
        for (uint64_t i = 0; i < count; i++)
            out[i] = element(dtype, p + i * size);
    for (uint64_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &out[i], sizeof(bits));
        bad |= (bits & 0x7f800000) == 0x7f800000;       // NaN or infinite
    }
    return !bad;
}
