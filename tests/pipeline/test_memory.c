// SPDX-License-Identifier: Apache-2.0
// What an engine says it will need is what it takes; and where a device has less, it takes nothing,
// says by part what is missing, and the option that it names is enough.
#include <criterion/criterion.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/buffer.h"
#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/golden_model.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))

static struct golden_model model;
static enum l2d_tier tier;              // of the devices
static struct l2d_error err;

static void remove_model(void)
{
    golden_model_remove(&model);
}

TestSuite(memory, .fini = remove_model);

static struct l2d_gpu *open_gpu(uint64_t memory_bytes, uint64_t max_range_bytes)
{
    struct l2d_gpu *gpu = NULL;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
        .memory_bytes = memory_bytes, .max_range_bytes = max_range_bytes, .tier = tier,
    }, &err), L2D_OK, "%s", err.msg);
    return gpu;
}

static struct l2d_engine_params params(int32_t w, int32_t h, const char *steps)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = w, .height = h, .steps = steps,
        .precision = L2D_PRECISION_FP16, .guidance = 1.5,
        .tuning = L2D_TUNING_OFF,       // measuring takes memory, and changes what is needed
    };
}

static struct l2d_engine_memory needs(const struct l2d_engine_params *p)
{
    struct l2d_gpu *gpu = open_gpu(0, 0);
    struct l2d_engine_info info;
    cr_assert_eq(l2d_engine_plan(&info, gpu, p, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_gpu_taken(gpu).peak_bytes, 0, "planning takes nothing");
    l2d_gpu_destroy(&gpu);
    return info.memory;
}

// ---- said and taken

static void push(struct l2d_engine *engine, int32_t w, int32_t h)
{
    struct l2d_frame *frame = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    cr_assert_eq(l2d_frame_create(&frame, w, h, &format, &err), L2D_OK, "%s", err.msg);
    memset(frame->data, 128, frame->size_bytes);
    cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
    l2d_frame_unref(&frame);
}

static void check_taken(const struct l2d_engine_params *p, const char *what)
{
    struct l2d_gpu *gpu = open_gpu(0, 0);
    struct l2d_engine *engine = NULL;
    struct l2d_engine_memory said = needs(p);
    cr_assert_eq(l2d_engine_create(&engine, gpu, p, &err), L2D_OK, "%s: %s", what, err.msg);
    struct l2d_engine_memory now = l2d_engine_info(engine)->memory;
    cr_assert_eq(now.peak, said.peak, "%s", what);
    cr_assert_eq(said.peak, said.weights + said.kv_cache + said.activations + said.other +
                            said.staging, "%s", what);
    for (int i = 0; i < 10; i++)
        push(engine, p->input_width ? p->input_width : l2d_engine_info(engine)->width,
             p->input_height ? p->input_height : l2d_engine_info(engine)->height);
    uint64_t taken = l2d_gpu_taken(gpu).peak_bytes;
    // Drivers of real GPUs may round every buffer up, and copies may be shorter than the longest.
    uint64_t copies = l2d_buf_copy_bytes(gpu);
    uint64_t slack = copies + (l2d_gpu_caps(gpu)->type == L2D_GPU_CPU ? 0 : said.peak / 50);
    cr_assert(taken + slack >= said.peak && taken <= said.peak + slack, "%s: said %.0f, taken %.0f",
              what, (double) said.peak, (double) taken);
    l2d_engine_destroy(&engine);
    cr_assert_leq(l2d_gpu_taken(gpu).now_bytes, copies, "%s", what);
    l2d_gpu_destroy(&gpu);
}

static void check_model(const char *name)
{
    static const struct {
        int32_t w, h, in_w, in_h;
        const char *steps;
        enum l2d_guidance_mode mode;
        enum l2d_precision precision;
        enum l2d_batching batching;
        double skip_similar;
        enum l2d_kv_type kv_type;
    } cases[] = {
        { 64, 64, 0, 0, "37/50", L2D_GUIDANCE_NONE, L2D_PRECISION_FP16, L2D_BATCH, 0,
          L2D_KV_FP16 },
        { 130, 62, 0, 0, "25,37/50", L2D_GUIDANCE_NONE, L2D_PRECISION_FP16, L2D_SEQUENTIAL, 0,
          L2D_KV_INT8 },
        { 128, 64, 0, 0, "25,30,37/50", L2D_GUIDANCE_FULL, L2D_PRECISION_FP16, L2D_BATCH, 0,
          L2D_KV_INT8 },
        { 64, 64, 333, 77, "2,7/50", L2D_GUIDANCE_INITIALIZE, L2D_PRECISION_FP32, L2D_BATCH, .98,
          L2D_KV_AUTO },
        { 64, 96, 0, 0, "25,37/50", L2D_GUIDANCE_SELF, L2D_PRECISION_FP32, L2D_SEQUENTIAL, 0,
          L2D_KV_INT8 },
    };
    golden_model_make(&model, name);
    for (size_t i = 0; i < COUNT(cases); i++) {
        char what[64];
        struct l2d_engine_params p = params(cases[i].w, cases[i].h, cases[i].steps);
        p.guidance_mode = cases[i].mode;
        p.precision = cases[i].precision;
        p.batching = cases[i].batching;
        p.kv_type = cases[i].kv_type;
        p.skip_similar = cases[i].skip_similar;
        p.draw_every = i == 2 ? 3 : 1;
        p.can_mix = i % 2 != 0;
        p.input_width = cases[i].in_w;
        p.input_height = cases[i].in_h;
        snprintf(what, sizeof(what), "%s, case %d", name, (int) i);
        check_taken(&p, what);
    }
}

Test(memory, is_what_was_said)
{
    check_model("tiny3");
}

Test(memory, is_what_was_said_of_four_levels)
{
    check_model("narrow4");
}

Test(memory, is_what_was_said_with_depth_and_autoencoder_kl)
{
    check_model("narrowd");
}

Test(memory, of_pictures_alone)
{
    golden_model_make(&model, "tiny3");
    check_taken(&(struct l2d_engine_params) { .width = 64, .height = 48 }, "passthrough");
}

// By hand: 16 slots of keys and values for every pixel, channel and step, of 2 bytes; or of one,
// and 4 bytes for each head.
Test(memory, of_the_cache)
{
    golden_model_make(&model, "tiny3");
    struct l2d_engine_params p = params(96, 64, "25,37/50");
    p.kv_type = L2D_KV_FP16;
    uint64_t one = needs(&p).kv_cache / 2;
    cr_assert_eq(needs(&p).kv_steps, 2);
    p.kv_type = L2D_KV_INT8;                    // levels of 96 pixels (32 channels), 24 and 6 (96)
    uint64_t slots = 16 * 3 * 2 * 96, wide = 16 * 3 * 2 * (24 + 6);
    cr_assert_eq(one, 4 * (slots * 32 + wide * 96));
    cr_assert_eq(needs(&p).kv_cache / 2, slots * (2 * 32 + 4 * 8) + wide * (2 * 96 + 4 * 8));
    p.kv_type = L2D_KV_AUTO;
    cr_assert_eq(needs(&p).kv_cache / 2, slots * (2 * 32 + 4 * 8) + wide * (2 * 96 + 4 * 8));
    p.kv_type = L2D_KV_FP16;
    p.width = 192;
    cr_assert_eq(needs(&p).kv_cache, 4 * one, "twice as wide");
    p.guidance_mode = L2D_GUIDANCE_FULL;
    cr_assert_eq(needs(&p).kv_cache, 8 * one, "and of two prompts");
    cr_assert_eq(needs(&p).kv_steps, 4);
    p.precision = L2D_PRECISION_FP32;
    p.kv_type = L2D_KV_AUTO;
    cr_assert_eq(needs(&p).kv_cache, 16 * one, "and in fp32");
}

// ---- too little

// On a device of so much memory. returns the message of the refusal; "" if it fits.
static const char *refusal(const struct l2d_engine_params *p, uint64_t memory_bytes,
                           uint64_t max_range_bytes)
{
    static struct l2d_error said, of_plan;
    struct l2d_gpu *gpu = open_gpu(memory_bytes, max_range_bytes);
    struct l2d_engine *engine = NULL;
    struct l2d_engine_info info = { .width = 0 };
    said = of_plan = (struct l2d_error) { .code = L2D_OK };
    int rc = l2d_engine_create(&engine, gpu, p, &said);
    cr_assert_eq(rc == L2D_OK, engine != NULL);
    cr_assert(rc == L2D_OK || rc == L2D_EGPUMEM, "%s", said.msg);
    if (rc != L2D_OK)
        cr_assert_eq(l2d_gpu_taken(gpu).peak_bytes, 0, "memory was taken");
    l2d_engine_destroy(&engine);
    cr_assert_eq(l2d_engine_plan(&info, gpu, p, &of_plan), rc);
    cr_assert_str_eq(of_plan.msg, said.msg);
    cr_assert(info.width > 0 && info.memory.peak > 0, "the figures are there all the same");
    l2d_gpu_destroy(&gpu);
    return said.msg;
}

static void check_advice(const struct l2d_engine_params *p, uint64_t memory_bytes, const char *want)
{
    const char *said = refusal(p, memory_bytes, 0);
    cr_assert(strstr(said, want), "wanted '%s': %s", want, said);
    cr_assert(strstr(said, "(weights ") && strstr(said, "KV cache ") && strstr(said, " has "), "%s",
              said);
}

Test(memory, advice_is_enough)
{
    golden_model_make(&model, "tiny3");
    struct l2d_engine_params p = params(128, 128, "25,30,37/50"), less = p;
    uint64_t bytes = needs(&p).peak;
    cr_assert_str_eq(refusal(&p, bytes, 0), "");
    check_advice(&p, bytes - 1, "with --steps 25,30/50 it fits");
    less.steps = "25,30/50";
    bytes = needs(&less).peak;
    cr_assert_str_eq(refusal(&less, bytes, 0), "");
    check_advice(&p, bytes, "with --steps 25,30/50 it fits");
    check_advice(&p, bytes - 1, "with --steps 25/50 it fits");

    less.more_steps[0] = "25,30,37/50";         // memory is for the most steps of all sets
    cr_assert_eq(needs(&less).kv_steps, 3);
    check_advice(&less, bytes, "with no other sets of steps it fits");
    p.kv_type = L2D_KV_FP16;                    // spares more than steps do
    check_advice(&p, needs(&p).peak - 1, "with --kv-cache int8 it fits");
    p.kv_type = L2D_KV_AUTO;
    p.precision = L2D_PRECISION_FP32;           // and more than that
    check_advice(&p, needs(&p).peak - 1, "with --precision fp16 it fits");
    p = params(128, 128, "37/50");
    less = p;
    p.guidance_mode = L2D_GUIDANCE_FULL;
    check_advice(&p, needs(&p).peak - 1, "; without --guidance it fits");
    check_advice(&p, needs(&less).peak, "; without --guidance it fits");
}

// What changes no picture comes first, and what changes it least before fewer steps.
Test(memory, advice_of_chunks_and_weights)
{
    golden_model_make(&model, "tiny3");
    struct l2d_engine_params p = params(128, 128, "25,37/50"), less = p;
    p.chunk = 8;
    check_advice(&p, needs(&p).peak - 1, "with --chunk 1 it fits");
    tier = L2D_TIER_1;
    p = less;
    less.weight_type = L2D_WEIGHTS_INT8;
    cr_assert_lt(needs(&less).weights, needs(&p).weights);
    check_advice(&p, needs(&p).peak - 1, "with --weights int8 it fits");
    check_advice(&p, needs(&less).peak, "with --weights int8 it fits");
    check_advice(&less, needs(&less).peak - 1, "with --steps 25/50 it fits");
    p.precision = L2D_PRECISION_FP32;
    check_advice(&p, needs(&less).peak, "with --precision fp16 --weights int8 --steps 25/50 it");
}

Test(memory, advice_is_the_largest_size_that_fits)
{
    golden_model_make(&model, "tiny3");
    static const struct { int32_t w, h, fits_w, fits_h, next_w, next_h; } cases[] = {
        { 256, 256, 224, 224, 256, 256 },
        { 256, 256, 32, 32, 64, 64 },
        { 192, 128, 96, 64, 128, 96 },          // one of shape 3:2, as far as 32 lets it
        { 130, 254, 96, 192, 128, 256 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        char want[64];
        struct l2d_engine_params p = params(cases[i].w, cases[i].h, "37/50");
        struct l2d_engine_params at = params(cases[i].fits_w, cases[i].fits_h, "37/50");
        struct l2d_engine_params next = params(cases[i].next_w, cases[i].next_h, "37/50");
        snprintf(want, sizeof(want), "with --size %dx%d it fits", cases[i].fits_w, cases[i].fits_h);
        check_advice(&p, needs(&at).peak, want);
        check_advice(&p, needs(&next).peak - 1, want);
        cr_assert_str_eq(refusal(&at, needs(&at).peak, 0), "");
    }
}

Test(memory, advice_of_several_changes)
{
    golden_model_make(&model, "tiny3");
    struct l2d_engine_params p = params(64, 64, "25,30,37/50"), less = params(64, 64, "25/50");
    p.precision = L2D_PRECISION_FP32;
    p.guidance_mode = L2D_GUIDANCE_FULL;
    // Half-size weights alone are less than this; no single change is.
    check_advice(&p, needs(&less).peak,
                 "with --precision fp16 --steps 25/50, without --guidance it fits");
    less.width = less.height = 32;
    check_advice(&p, needs(&less).peak, "with --precision fp16 --steps 25/50 --size 32x32, without "
                 "--guidance it fits");
    check_advice(&p, needs(&less).peak - 1, "; no precision, number of steps or size makes it fit");
    check_advice(&less, 1000, "; no precision, number of steps or size makes it fit");
}

Test(memory, tensors_that_the_device_does_not_bind)
{
    golden_model_make(&model, "tiny3");
    struct l2d_engine_params p = params(128, 128, "37/50"), at = params(96, 96, "37/50");
    uint64_t most = needs(&p).largest_operand;
    cr_assert_str_eq(refusal(&p, 0, most), "");
    const char *said = refusal(&p, 0, most - 4);
    cr_assert(strstr(said, "tensors of up to"), "%s", said);
    cr_assert(strstr(said, "; with --size 96x96 it fits"), "%s", said);
    cr_assert_str_eq(refusal(&at, 0, most - 4), "");
}

// ---- a model that is not at hand

// Stable Diffusion 1.5 with Live2Diff's motion modules, whose caches were counted by hand: 5800
// bytes of fp16 for every pixel and step; in bytes 2900 and, for 8 heads of 10 attentions a level,
// 425 / 4. Whether this device has room for them is all the same.
Test(memory, of_a_description_alone)
{
    golden_model_make(&model, "tiny3");
    static const struct { int32_t w, h; uint64_t step_mib; } sizes[] = { { 512, 512, 1450 },
                                                                         { 768, 512, 2175 } };
    static const char *const steps[] = { "25/50", "25,37/50", "25,31,37/50", "25,31,37,43/50" };
    struct l2d_gpu *gpu = open_gpu(0, 0);
    for (size_t i = 0; i < COUNT(sizes); i++)
        for (int d = 1; d <= 4; d++) {
            struct l2d_engine_params p = params(sizes[i].w, sizes[i].h, steps[d - 1]);
            struct l2d_engine_info info;
            uint64_t pixels = (uint64_t) (sizes[i].w * sizes[i].h * d);
            p.model = L2D_TEST_DATA "/sd15/model.json";
            p.kv_type = L2D_KV_FP16;
            int rc = l2d_engine_plan(&info, gpu, &p, &err);
            cr_assert(rc == L2D_OK || rc == L2D_EGPUMEM, "%s", err.msg);
            cr_assert_eq(info.memory.kv_cache, (uint64_t) d * sizes[i].step_mib << 20);
            p.kv_type = L2D_KV_INT8;
            rc = l2d_engine_plan(&info, gpu, &p, &err);
            cr_assert(rc == L2D_OK || rc == L2D_EGPUMEM, "%s", err.msg);
            cr_assert_eq(info.memory.kv_cache, 2900 * pixels + pixels / 4 * 425);
        }
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params p = params(64, 64, "25/50");
    p.model = L2D_TEST_DATA "/sd15/model.json";
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "without weights"), "%s", err.msg);
    cr_assert_eq(l2d_gpu_taken(gpu).peak_bytes, 0);
    l2d_gpu_destroy(&gpu);
}

// A description at the limits of what model.json may say, in the model's folder. Its path.
static const char *describe(int layers, int channels, int each)
{
    static char path[160];
    golden_model_make(&model, "narrow4");
    snprintf(path, sizeof(path), "%s/model.json", model.dir);
    json_t *root = json_load_file(path, 0, NULL), *unet = json_object_get(root, "unet");
    json_t *motion = json_object_get(unet, "motion_module_kwargs"), *types = json_array();
    json_t *widths = json_object_get(unet, "block_out_channels");
    for (int i = 0; i < each; i++)
        json_array_append_new(types, json_string("Temporal_Self"));
    for (size_t i = 0; i < json_array_size(widths); i++)
        json_array_set_new(widths, i, json_integer(channels));
    json_object_set_new(unet, "layers_per_block", json_integer(layers));
    json_object_set_new(motion, "num_transformer_block", json_integer(each));
    json_object_set_new(motion, "attention_block_types", types);
    cr_assert_eq(unlink(path), 0);      // a link to the file of tests/data
    cr_assert_eq(json_dump_file(root, path, 0), 0);
    json_decref(root);
    return path;
}

Test(memory, of_the_largest_descriptions)
{
    struct l2d_engine_info info;
    struct l2d_gpu *gpu = open_gpu(0, 0);
    struct l2d_engine_params p = params(64, 64, "25/50");
    p.model = describe(4, 32, 4);       // 576 temporal attentions
    cr_assert_eq(l2d_engine_plan(&info, gpu, &p, &err), L2D_OK, "%s", err.msg);
    // A byte for each number of 16 keys and values, a step of each for each of 8 heads.
    const uint64_t pixels = 64 + 16 + 4 + 1;
    cr_expect_eq(info.memory.kv_cache, 9 * 16 * pixels * 16 * (2 * 32 + 8 * 4), "%d",
                 (int) info.memory.kv_cache);
    golden_model_remove(&model);

    p.model = describe(4, 4096, 4);
    cr_assert_eq(l2d_engine_plan(&info, gpu, &p, &err), L2D_EUNSUPPORTED, "%s", err.msg);
    cr_assert(strstr(err.msg, "weights of more than 32 GiB"), "%s", err.msg);
    l2d_gpu_destroy(&gpu);
}

// What a folder needs can be told from its model.json.
Test(memory, of_a_description_is_that_of_the_folder)
{
    static const char *const names[] = { "tiny3", "narrowd" };
    for (size_t i = 0; i < COUNT(names); i++) {
        char path[160];
        golden_model_make(&model, names[i]);
        struct l2d_engine_params p = params(64, 64, "25,37/50");
        struct l2d_engine_memory folder = needs(&p);
        snprintf(path, sizeof(path), "%s/model.json", model.dir);
        p.model = path;
        cr_assert_eq(needs(&p).peak, folder.peak, "%s", names[i]);
        cr_assert_eq(needs(&p).weights, folder.weights, "%s", names[i]);
        if (i + 1 < COUNT(names))
            golden_model_remove(&model);
    }
}
