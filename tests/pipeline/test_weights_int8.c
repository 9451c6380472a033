// SPDX-License-Identifier: Apache-2.0
// Weights that are kept in bytes: what they can hold exactly is drawn exactly, also in chunks; what
// they cannot nearly so, in half the memory; and where there are none, that is said.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/engine_run.h"
#include "support/golden_model.h"
#include "support/gpu_test.h"
#include "support/watched_gpu.h"
#include "tensor/convert.h"
#include "tensor/safetensors.h"

#define NUM_FRAMES 12
#define W 64
#define H 32

static struct golden_model model;
static struct l2d_gpu *gpu;
static struct l2d_error err;

static void open_all(void)
{
    golden_model_make(&model, "tiny3");
    gpu = watched_gpu_open(L2D_TIER_1);
}

static void close_all(void)
{
    golden_model_remove(&model);
    watched_gpu_close(&gpu);
}

TestSuite(weights_int8, .init = open_all, .fini = close_all);

// ---- a model whose weights are bytes times steps

// Kernels of 3x3 keep their middle, so that folding them for upsampling adds nothing up.
static void keep_middle(float *value, size_t count)
{
    for (size_t i = 0; i < count; i++)
        value[i] = i % 9 == 4 ? value[i] : 0;
}

static uint16_t *round_tensor(const struct l2d_safetensors_entry *e)
{
    size_t channels = (size_t) e->dims[0], count = e->size_bytes / 2, each = count / channels;
    float *value = malloc(count * sizeof(*value));
    uint16_t *half = malloc(e->size_bytes);
    cr_assert(value && half && e->dtype == L2D_SAFETENSORS_F16);
    cr_assert(l2d_convert_to_f32(value, e->dtype, e->data, count));
    if (strstr(e->name, "upsamplers"))
        keep_middle(value, count);
    for (size_t n = 0; n < channels; n++)
        gt_round_to_bytes(value + n * each, each);
    for (size_t i = 0; i < count; i++) {
        half[i] = l2d_half_from_f32(value[i]);
        cr_assert(l2d_half_to_f32(half[i]) == value[i], "%s", e->name);
    }
    free(value);
    return half;
}

// The model's U-Net becomes one of those.
static void round_unet(void)
{
    char path[256];
    struct l2d_safetensors *st = NULL;
    snprintf(path, sizeof(path), "%s/unet.safetensors", model.dir);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    size_t count = l2d_safetensors_count(st);
    struct l2d_safetensors_entry *entry = calloc(count, sizeof(*entry));
    uint16_t **half = calloc(count, sizeof(*half));
    cr_assert(entry && half);
    for (size_t i = 0; i < count; i++) {
        entry[i] = *l2d_safetensors_get(st, i);
        if (entry[i].ndim >= 2 && entry[i].dims[0] >= 16 && entry[i].dims[1] >= 16)
            entry[i].data = half[i] = round_tensor(&entry[i]);
    }
    cr_assert_eq(l2d_safetensors_write(path, entry, count, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < count; i++)
        free(half[i]);
    free(half);
    free(entry);
    l2d_safetensors_close(&st);
}

// ---- runs

static struct l2d_engine_params params(enum l2d_precision precision, enum l2d_weight_type type)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = W, .height = H, .fit = L2D_FIT_STRETCH, .seed = 5,
        .steps = "25,37/50", .precision = precision, .weight_type = type, .rgba = true,
    };
}

static struct l2d_frame *input(const void *user, unsigned f)
{
    (void) user;
    return golden_frame(f, W, H);
}

static void run(struct l2d_engine_params p, struct run_output *out)
{
    run_engine(gpu, p, &(struct run_plan) { .num_frames = NUM_FRAMES, .input = input }, out);
    cr_assert_eq(out->info.weight_type, p.weight_type);
}

// Mean squared difference, in levels.
static double difference(const struct run_output *a, const struct run_output *b)
{
    double sum = 0, count = 0;
    for (unsigned f = 0; f < NUM_FRAMES; f++)
        for (uint64_t i = 0; i < a->frame[f]->size_bytes; i++, count++) {
            double d = (double) a->frame[f]->data[i] - (double) b->frame[f]->data[i];
            sum += d * d;
        }
    return sum / count;
}

static void check_exact(enum l2d_precision precision)
{
    struct run_output plain, bytes;
    struct l2d_engine_params p = params(precision, L2D_WEIGHTS_INT8);
    p.chunk = 4;
    run(params(precision, L2D_WEIGHTS_AUTO), &plain);
    run(p, &bytes);
    for (unsigned f = 0; f < NUM_FRAMES; f++)
        cr_assert_eq(memcmp(plain.frame[f]->data, bytes.frame[f]->data,
                            plain.frame[f]->size_bytes), 0, "%s: frame %u",
                     precision == L2D_PRECISION_FP16 ? "fp16" : "fp32", f);
    run_drop(&plain);
    run_drop(&bytes);
}

Test(weights_int8, what_bytes_hold_is_drawn_as_it_is)
{
    round_unet();
    check_exact(L2D_PRECISION_FP32);
    check_exact(L2D_PRECISION_FP16);
}

Test(weights_int8, so_it_is_by_matrix_units)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    l2d_gpu_destroy(&gpu);
    gpu = watched_gpu_open(L2D_TIER_2);
    round_unet();
    check_exact(L2D_PRECISION_FP16);
}

Test(weights_int8, nearly_the_same_in_half_the_memory)
{
    struct run_output plain, bytes;
    run(params(L2D_PRECISION_FP16, L2D_WEIGHTS_AUTO), &plain);
    run(params(L2D_PRECISION_FP16, L2D_WEIGHTS_INT8), &bytes);
    double mse = difference(&plain, &bytes);
    cr_expect(mse > 0 && 10 * log10(255 * 255 / mse) > 35, "PSNR %g dB",
              10 * log10(255 * 255 / mse));
    cr_expect_lt(bytes.info.memory.weights, plain.info.memory.weights * 3 / 4);
    cr_expect_eq(plain.info.memory.peak - bytes.info.memory.peak,
                 plain.info.memory.weights - bytes.info.memory.weights);
    run_drop(&plain);
    run_drop(&bytes);
}

Test(weights_int8, refused_by_tier_0)
{
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params p = params(L2D_PRECISION_FP16, L2D_WEIGHTS_INT8);
    l2d_gpu_destroy(&gpu);
    gpu = watched_gpu_open(L2D_TIER_0);
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EUNSUPPORTED);
    cr_expect(strstr(err.msg, "--weights int8") && strstr(err.msg, "--tier 1"), "%s", err.msg);
    cr_assert_null(engine);
}
