// SPDX-License-Identifier: Apache-2.0
// LoRAs that a model keeps apart: with any scales its weights, and what is drawn with them, are
// those of a model into which import has fused the LoRAs with these scales, bit by bit; from the
// beginning, and from the frame on with which scales change.
#include "pipeline/models/loras.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/half.h"
#include "gpu/device.h"
#include "pipeline/engine.h"
#include "pipeline/stream.h"
#include "support/engine_run.h"
#include "support/lora_model.h"
#include "support/watched_gpu.h"
#include "tensor/convert.h"

#define SIDE 64

static struct lora_model model;
static char kept[128];                  // with the scales 0.5 and 0
static const float first_scale[] = { 0.5f, 0 };
static struct l2d_gpu *gpu;
static struct l2d_error err;

static void setup(void)
{
    lora_model_make(&model);
    lora_model_import(&model, "kept", first_scale, 2, kept);
    gpu = watched_gpu_open(L2D_TIER_AUTO);
}

static void teardown(void)
{
    lora_model_remove(&model);
    watched_gpu_close(&gpu);
}

TestSuite(loras, .init = setup, .fini = teardown);

static void fused(const char *name, float ink, float neon, char out[128])
{
    lora_model_import(&model, name, (float[]) { ink, neon }, 0, out);
}

// ---- weights

static struct l2d_safetensors *open_file(const char *folder, const char *file)
{
    char path[256];
    struct l2d_safetensors *st = NULL;
    snprintf(path, sizeof(path), "%s/%s", folder, file);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    return st;
}

// All tensors of a file, with the LoRAs added and rounded: those of the fused file. *changed counts
// those that differ from the base.
static void check_file(struct l2d_loras *loras, const char *apart, const float *scale,
                       const char *network, const char *folder, unsigned *changed)
{
    char file[64];
    snprintf(file, sizeof(file), "%s.safetensors", network);
    struct l2d_safetensors *base = open_file(apart, file), *want = open_file(folder, file);
    cr_assert_eq(l2d_safetensors_count(base), l2d_safetensors_count(want));
    for (size_t i = 0; i < l2d_safetensors_count(base); i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(base, i);
        const struct l2d_safetensors_entry *w = l2d_safetensors_find(want, e->name);
        uint64_t count = e->size_bytes / l2d_safetensors_dtype_bytes(e->dtype), differ = 0;
        float *value = malloc(4 * count + 1), *expected = malloc(4 * count + 1);
        cr_assert(w && value && expected, "%s", e->name);
        cr_assert(l2d_convert_to_f32(value, e->dtype, e->data, count));
        cr_assert(l2d_convert_to_f32(expected, w->dtype, w->data, count));
        for (uint64_t k = 0; k < count; k++)
            differ += fabsf(value[k] - expected[k]) > 1e-3f * fabsf(value[k]) + 1e-6f;
        *changed += differ > 0;
        bool has = false;
        cr_assert_eq(l2d_loras_ask(loras, network, e, &has, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_loras_add(loras, scale, network, e, value, count, &err), L2D_OK);
        for (uint64_t k = 0; k < count && w->dtype == L2D_SAFETENSORS_F16; k++)
            value[k] = l2d_half_to_f32(l2d_half_from_f32(value[k]));
        cr_assert_eq(memcmp(value, expected, 4 * count), 0, "%s", e->name);
        free(value);
        free(expected);
    }
    l2d_safetensors_close(&base);
    l2d_safetensors_close(&want);
}

Test(loras, weights_are_those_of_import)
{
    static const float scales[][L2D_MAX_LORAS] = { { 0.7f, -0.4f }, { 0, 0 }, { 1.3f, 0 } };
    static struct l2d_model_config config;
    char path[256], name[16], folder[128];
    struct l2d_loras *loras = NULL;
    snprintf(path, sizeof(path), "%s/model.json", kept);
    cr_assert_eq(l2d_model_config_read(&config, path, &err), L2D_OK, "%s", err.msg);
    cr_assert(config.num_loras == 2 && !strcmp(config.lora[0].name, "ink") &&
              !strcmp(config.lora[1].name, "neon"));
    cr_assert(config.lora[0].scale == 0.5f && config.lora[1].scale == 0);
    cr_assert_eq(l2d_loras_open(&loras, kept, &config, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_loras_end(loras, &err), L2D_EFORMAT);      // nothing has been asked for
    for (size_t i = 0; i < sizeof(scales) / sizeof(*scales); i++) {
        unsigned changed = 0;
        snprintf(name, sizeof(name), "fused%zu", i);
        fused(name, scales[i][0], scales[i][1], folder);
        check_file(loras, kept, scales[i], "unet", folder, &changed);
        check_file(loras, kept, scales[i], "text_encoder", folder, &changed);
        cr_assert_eq(changed > 100, i != 1, "%u changed", changed);
    }
    cr_assert_eq(l2d_loras_end(loras, &err), L2D_OK, "%s", err.msg);
    l2d_loras_close(&loras);
}

// One is in the weights, the other is added to them.
Test(loras, one_of_two_is_kept)
{
    static const float scale[] = { 0.7f, -0.4f };
    static struct l2d_model_config config;
    struct l2d_loras *loras = NULL;
    unsigned changed = 0;
    char apart[128], folder[128], path[256];
    lora_model_import(&model, "one", scale, 1, apart);
    fused("fused", scale[0], scale[1], folder);
    snprintf(path, sizeof(path), "%s/model.json", apart);
    cr_assert_eq(l2d_model_config_read(&config, path, &err), L2D_OK, "%s", err.msg);
    cr_assert(config.num_loras == 1 && !strcmp(config.lora[0].name, "neon"));
    cr_assert_eq(l2d_loras_open(&loras, apart, &config, &err), L2D_OK, "%s", err.msg);
    check_file(loras, apart, (float[L2D_MAX_LORAS]) { scale[1] }, "unet", folder, &changed);
    check_file(loras, apart, (float[L2D_MAX_LORAS]) { scale[1] }, "text_encoder", folder, &changed);
    cr_assert_eq(l2d_loras_end(loras, &err), L2D_OK, "%s", err.msg);
    cr_assert_gt(changed, 50);
    l2d_loras_close(&loras);
}

// ---- a run

static struct l2d_engine_params params(const char *folder)
{
    return (struct l2d_engine_params) {
        .model = folder, .width = SIDE, .height = SIDE, .fit = L2D_FIT_STRETCH, .seed = 5,
        .prompt = "a bird", .steps = "25,37/50", .precision = L2D_PRECISION_FP32, .rgba = true,
        .rewarm = L2D_REWARM_NEVER, .noise = L2D_NOISE_ALL_SHARED, .emit = run_take,
    };
}

// Input frame f, from a number on.
static struct l2d_frame *input(const void *user, unsigned f)
{
    const unsigned *offset = user;
    return golden_frame(f + *offset, SIDE, SIDE);
}

static void run(struct l2d_engine_params p, const struct run_step *step, unsigned num_steps,
                unsigned num_frames, unsigned offset, struct run_output *out)
{
    struct run_plan plan = { step, num_steps, num_frames, input, &offset, NULL };
    run_engine(gpu, p, &plan, out);
}

// A batch and a sequence: the same. *out has the batch's.
static void run_both(struct l2d_engine_params p, const struct run_step *step, unsigned num_steps,
                     unsigned num_frames, struct run_output *out, const char *what)
{
    struct run_output other;
    run(p, step, num_steps, num_frames, 0, out);
    p.batching = L2D_SEQUENTIAL;
    run(p, step, num_steps, num_frames, 0, &other);
    run_check_same(out, &other, 0, num_frames, what);
    run_drop(&other);
}

#define LORA(at, name, scale, from) \
    { at, { .kind = L2D_CHANGE_LORA, .text = name, .lora_scale = scale }, from }

Test(loras, opened_with_scales)
{
    enum { FRAMES = 11 };
    static const struct run_step first[] = { LORA(0, "ink", 0.7f, 0), LORA(0, "neon", -0.4f, 0) };
    char folder[128], plain[128];
    struct run_output want, got, base;
    struct l2d_gpu *first_gpu = gpu, *tier1 = watched_gpu_open(L2D_TIER_1);
    fused("fused", 0.7f, -0.4f, folder);
    fused("plain", 0.5f, 0, plain);
    for (int way = 0; way < 3; way++) {         // fp32, fp16, and with weights in bytes
        struct l2d_engine_params p = params(folder);
        gpu = way == 2 ? tier1 : first_gpu;
        p.precision = way ? L2D_PRECISION_FP16 : L2D_PRECISION_FP32;
        p.weight_type = way == 2 ? L2D_WEIGHTS_INT8 : L2D_WEIGHTS_AUTO;
        run(p, NULL, 0, FRAMES, 0, &want);
        p.model = kept;
        run(p, first, 2, FRAMES, 0, &got);      // with those of the model, changed before a frame
        run_check_same(&want, &got, 0, FRAMES, "changed before the first frame");
        cr_assert(run_is_same_cache(&want, &got));
        cr_assert(got.stats.changes == 2 && got.stats.refreshes == 0);
        run_drop(&got);
        run(p, NULL, 0, FRAMES, 0, &base);
        run_check_differ(&want, &base, 0, FRAMES, "the model's own");
        p.lora[0].name = "neon";
        p.lora[0].scale = -0.4f;
        p.lora[1].name = "ink";
        p.lora[1].scale = 0.7f;
        run(p, NULL, 0, FRAMES, 0, &got);
        run_check_same(&want, &got, 0, FRAMES, "opened with them");
        cr_assert(run_is_same_cache(&want, &got));
        run_drop(&want);
        run_drop(&got);
        p.model = plain;
        p.lora[0].name = p.lora[1].name = NULL;
        run(p, NULL, 0, FRAMES, 0, &want);
        run_check_same(&want, &base, 0, FRAMES, "the model's own");
        run_drop(&want);
        run_drop(&base);
    }
    l2d_gpu_destroy(&tier1);
    gpu = first_gpu;
}

// Nothing of the frames in flight changes. From there on, with the window begun anew, all is as
// in a stream that was opened with the other weights and began with these 8 frames.
Test(loras, scale_at_a_frame)
{
    enum { FRAMES = 20, AT = 11, SINKS = 8 };
    static const struct run_step steps[] = {
        LORA(AT, "neon", 1, AT), LORA(AT, "ink", 0, AT),
        { AT, { .kind = L2D_CHANGE_REWARM }, AT },
    };
    static const struct run_step late[] = { LORA(3, "neon", 1, 8), LORA(3, "ink", 0, 8) };
    char folder[128];
    struct run_output plain, changed, again, opened;
    struct l2d_engine_params p = params(kept);
    run(p, NULL, 0, FRAMES, 0, &plain);
    run_both(p, steps, 2, FRAMES, &changed, "scales");
    run_check_same(&plain, &changed, 0, AT, "before");
    run_check_differ(&plain, &changed, AT, FRAMES, "after");
    cr_assert(changed.stats.refreshes == 1 && changed.stats.rewarms == 0 &&
              changed.stats.changes == 2);
    run_both(p, steps, 3, FRAMES, &again, "scales, and the window anew");
    run_check_same(&plain, &again, 0, AT, "before");
    fused("fused", 0, 1, folder);
    p.model = folder;
    run(p, NULL, 0, FRAMES - AT + SINKS, AT - SINKS, &opened);
    for (unsigned f = AT; f < FRAMES; f++)
        cr_assert(run_is_same(&again, f, &opened, f - AT + SINKS), "frame %u is not as opened so",
                  f);
    cr_assert(run_is_same_cache(&again, &opened));
    run_drop(&changed);
    run_drop(&again);
    run_drop(&opened);

    p.model = kept;
    run_both(p, late, 2, FRAMES, &changed, "in the warm-up");
    run_check_same(&plain, &changed, 0, SINKS, "in the warm-up");
    run_check_differ(&plain, &changed, SINKS, FRAMES, "after it");
    run_drop(&plain);
    run_drop(&changed);
}

// There and back: after it the weights, and the sinks, are what they were.
Test(loras, scales_come_back)
{
    enum { FRAMES = 16 };
    static const struct run_step steps[] = {
        LORA(9, "ink", 1.5f, 9), LORA(11, "ink", 0.5f, 11), LORA(12, "ink", 1, 12),
        LORA(12, "ink", 0.5f, 12),      // which is nothing
    };
    struct run_output plain, changed;
    struct l2d_engine_params p = params(kept);
    run(p, NULL, 0, FRAMES, 0, &plain);
    run_both(p, steps, 4, FRAMES, &changed, "there and back");
    cr_assert_eq(changed.stats.refreshes, 2, "%d", (int) changed.stats.refreshes);
    uint64_t pixels = SIDE / 8 * SIDE / 8, per_slot = plain.cache_count / (2 * pixels * 16);
    uint64_t differ = 0;
    for (uint64_t i = 0; i < plain.cache_count; i++) {
        bool equal = memcmp(&plain.cache[i], &changed.cache[i], 4) == 0;
        cr_assert(i / per_slot % 16 >= 8 || equal, "sink value %d", (int) i);
        differ += !equal;
    }
    cr_assert_gt(differ, plain.cache_count / 8);
    run_drop(&plain);
    run_drop(&changed);
}

// With a fade on its way, a negative prompt, other steps and a frozen picture.
Test(loras, scales_among_other_changes)
{
    enum { FRAMES = 22 };
    static const struct run_step steps[] = {
        { 9, { .kind = L2D_CHANGE_PROMPT, .text = "ink :1 | a street :2", .fade_frames = 4 }, 9 },
        LORA(11, "ink", 1, 11),
        { 13, { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, 13 },
        LORA(13, "neon", 1, 13),
        { 15, { .kind = L2D_CHANGE_BLEND, .text = "2, 1", .fade_frames = 2 }, 15 },
        { 16, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_FROZEN }, 16 },
        LORA(17, "ink", 0, 17),
        { 18, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_DRAWN }, 18 },
    };
    struct run_output out;
    struct l2d_engine_params p = params(kept);
    p.guidance_mode = L2D_GUIDANCE_FULL;
    p.guidance = 1.5;
    p.negative = "a dog";
    p.more_steps[0] = "37/50";
    run_both(p, steps, sizeof(steps) / sizeof(*steps), FRAMES, &out, "among others");
    cr_assert(run_is_same(&out, 17, &out, 15) && !run_is_same(&out, 18, &out, 17));
    run_drop(&out);
}

// Shares alone are what the prompt would be with them, without its words being read again.
Test(loras, shares_of_a_blend)
{
    enum { FRAMES = 18, AT = 10 };
    static const struct run_step retyped[] = {
        { AT, { .kind = L2D_CHANGE_PROMPT, .text = "a bird :0.2 | ink :0.6", .fade_frames = 3 },
          AT },
    };
    static const struct run_step blended[] = {
        { AT, { .kind = L2D_CHANGE_BLEND, .text = " 0.2,.6 ", .fade_frames = 3 }, AT },
    };
    static const struct run_step at_once[] = {
        { 0, { .kind = L2D_CHANGE_BLEND, .text = "1 3" }, 0 },
    };
    struct run_output plain, a, b;
    struct l2d_engine_params p = params(kept);
    p.prompt = "a bird :0.7 | ink :0.3";
    run(p, NULL, 0, FRAMES, 0, &plain);
    run_both(p, retyped, 1, FRAMES, &a, "retyped");
    run_both(p, blended, 1, FRAMES, &b, "shares");
    run_check_same(&a, &b, 0, FRAMES, "retyped and shares alone");
    run_check_same(&plain, &b, 0, AT, "before");
    run_check_differ(&plain, &b, AT, FRAMES, "after");
    cr_assert(run_is_same_cache(&a, &b) && b.stats.refreshes == 1);
    run_drop(&a);
    run_drop(&b);
    run(p, at_once, 1, FRAMES, 0, &a);
    p.prompt = "a bird :1 | ink :3";
    run(p, NULL, 0, FRAMES, 0, &b);
    run_check_same(&a, &b, 0, FRAMES, "before the first frame");
    run_drop(&plain);
    run_drop(&a);
    run_drop(&b);
}

// ---- what cannot be

Test(loras, what_cannot_change)
{
    static const struct { struct l2d_change change; const char *want; } cases[] = {
        { { .kind = L2D_CHANGE_LORA, .text = "oil" }, "lora oil: the model has none of that name, "
          "but ink, neon" },
        { { .kind = L2D_CHANGE_LORA }, "none of that name" },
        { { .kind = L2D_CHANGE_LORA, .text = "ink", .lora_scale = 101 }, "within -100..100" },
        { { .kind = L2D_CHANGE_LORA, .text = "ink", .lora_scale = NAN }, "within -100..100" },
        { { .kind = L2D_CHANGE_BLEND, .text = "1, 2" }, "blend: 2 numbers, but the prompt has 1" },
        { { .kind = L2D_CHANGE_BLEND, .text = "0" }, "blend: the shares of the blend sum to 0" },
        { { .kind = L2D_CHANGE_BLEND }, "blend: expected a number" },
    };
    struct run_output out = { .count = 0 };
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params p = params(kept);
    p.user = &out;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_assert_eq(l2d_engine_change(engine, &cases[i].change, NULL, &err), L2D_EINVAL);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
    }
    cr_assert_eq(l2d_engine_stats(engine).changes, 0);
    l2d_engine_destroy(&engine);
    p.lora[0].name = "oil\n";
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "lora oil?: the model has none"), "%s", err.msg);
    p.model = model.golden.dir;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "import it with --keep-lora"), "%s", err.msg);
}

// A LoRA's file with one tensor that is not as it should be.
static void spoil(const char *name, const char *as, const float *value, uint64_t rows)
{
    char path[256];
    l2d_loras_path(path, sizeof(path), kept, "neon");
    struct l2d_safetensors *st = open_file(kept, "lora.neon.safetensors");
    size_t count = l2d_safetensors_count(st);
    struct l2d_safetensors_entry *e = calloc(count, sizeof(*e));
    cr_assert_not_null(e);
    for (size_t i = 0; i < count; i++) {
        e[i] = *l2d_safetensors_get(st, i);
        if (strcmp(e[i].name, name))
            continue;
        e[i].name = as;
        if (value)
            e[i] = (struct l2d_safetensors_entry) { as, L2D_SAFETENSORS_F32, 1, { rows }, value,
                                                    4 * rows };
    }
    cr_assert_eq(l2d_safetensors_write(path, e, count, &err), L2D_OK, "%s", err.msg);
    free(e);
    l2d_safetensors_close(&st);
}

Test(loras, files_that_are_damaged)
{
#define MODULE "unet.mid_block.attentions.0.transformer_blocks.0.attn1.to_q"
    static const float values[4] = { 1, NAN, 3e8f, 1 };
    static const struct { const char *as, *want; const float *value; uint64_t rows; } cases[] = {
        { MODULE ".up_", MODULE ".up is missing", NULL, 0 },
        { "unet.x.up", MODULE ".up is missing", NULL, 0 },
        { MODULE ".up", "do not make a weight of", values, 4 },
    };
    char path[256], saved[256], command[640];
    struct l2d_engine_info info;
    struct l2d_engine_params p = params(kept);
    l2d_loras_path(path, sizeof(path), kept, "neon");
    snprintf(saved, sizeof(saved), "%s/saved", model.dir);
    snprintf(command, sizeof(command), "cp %s %s", path, saved);
    cr_assert_eq(system(command), 0);
    snprintf(command, sizeof(command), "cp %s %s", saved, path);
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        spoil(MODULE ".up", cases[i].as, cases[i].value, cases[i].rows);
        cr_assert_eq(l2d_engine_plan(&info, gpu, &p, &err), L2D_EFORMAT, "case %zu", i);
        cr_assert(strstr(err.msg, path) && strstr(err.msg, cases[i].want), "%s", err.msg);
        cr_assert_eq(system(command), 0);
    }
    // Values are read when they are needed: its scale is 0 at first.
    for (int i = 1; i < 3; i++) {
        struct l2d_engine *engine = NULL;
        struct run_output out = { .count = 0 };
        p.user = &out;
        spoil(MODULE ".factor", MODULE ".factor", &values[i], 1);
        cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
        const struct l2d_change change = { .kind = L2D_CHANGE_LORA, .text = "neon",
                                           .lora_scale = 1 };
        cr_assert_eq(l2d_engine_change(engine, &change, NULL, &err), i == 1 ? L2D_EFORMAT
                                                                            : L2D_EINVAL);
        cr_assert(strstr(err.msg, i == 1 ? "not numbers" : "too large for fp16"), "%s", err.msg);
        cr_assert_eq(l2d_engine_loras(engine)[1], 0);
        l2d_engine_destroy(&engine);
        cr_assert_eq(system(command), 0);
    }
    cr_assert_eq(unlink(path), 0);
    cr_assert_eq(l2d_engine_plan(&info, gpu, &p, &err), L2D_EIO);
    cr_assert(strstr(err.msg, path), "%s", err.msg);
}

// ---- a stream: scales are computed beside the frames

static struct l2d_stream *open_stream(void)
{
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params p = {
        .engine = params(kept), .gpu = watched_gpu_params(), .queue_frames = 40,
    };
    cr_assert_eq(l2d_stream_create(&stream, &p, &err), L2D_OK, "%s", err.msg);
    return stream;
}

static void push(struct l2d_stream *stream, unsigned f)
{
    struct l2d_frame *frame = golden_frame(f, SIDE, SIDE);
    cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK, "%s", err.msg);
}

static void pop(struct l2d_stream *stream, struct run_output *out)
{
    struct l2d_frame *frame = NULL;
    cr_assert_eq(l2d_stream_pop(stream, &frame, &err), L2D_OK, "%s", err.msg);
    cr_assert_not_null(frame);
    run_take(out, frame);
}

static uint64_t change(struct l2d_stream *stream, const char *name, float scale, enum l2d_when when)
{
    uint64_t ticket = 0;
    const struct l2d_change c = { .kind = L2D_CHANGE_LORA, .text = name, .lora_scale = scale };
    cr_assert_eq(l2d_stream_change(stream, &c, when, &ticket, &err), L2D_OK, "%s", err.msg);
    return ticket;
}

// In order: with its frame, at once with others of that frame, but for one that cannot be.
Test(loras, stream_in_order)
{
    enum { FRAMES = 14, AT = 10 };
    static const struct run_step steps[] = { LORA(AT, "ink", 1, AT), LORA(AT, "neon", 1, AT) };
    struct run_output want, got = { .count = 0 };
    uint64_t ticket[2] = { 0 }, outside = 0;
    run(params(kept), steps, 2, FRAMES, 0, &want);
    struct l2d_stream *stream = open_stream();
    for (unsigned f = 0; f < FRAMES; f++) {
        for (unsigned i = 0; i < 2 && f == AT; i++)
            ticket[i] = change(stream, steps[i].change.text, 1, L2D_WHEN_IN_ORDER);
        if (f == AT)
            outside = change(stream, "neon", 101, L2D_WHEN_IN_ORDER);
        push(stream, f);
        if (f >= 10)
            pop(stream, &got);
    }
    l2d_stream_end(stream);
    while (got.count < FRAMES)
        pop(stream, &got);
    for (int i = 0; i < 2; i++) {
        struct l2d_receipt r = l2d_stream_receipt(stream, ticket[i]);
        cr_assert(r.state == L2D_RECEIPT_DONE && r.first == AT, "%d %d", (int) r.state,
                  (int) r.first);
    }
    struct l2d_receipt refused = l2d_stream_receipt(stream, outside);
    cr_assert(refused.state == L2D_RECEIPT_REFUSED && strstr(refused.why, "within -100..100"), "%s",
              refused.why);
    run_check_same(&want, &got, 0, FRAMES, "a stream");
    l2d_stream_destroy(&stream);
    run_drop(&want);
    run_drop(&got);
}

// Soon: with a frame that the receipt names, from which on all is as if it had been asked for
// there. Of a slider's way only its end need count, and that is not forgotten.
Test(loras, stream_soon, .timeout = 300)
{
    enum { CHANGES = 12 };
    struct run_output want, got = { .count = 0 };
    struct l2d_stream *stream = open_stream();
    struct run_step step[CHANGES];
    uint64_t ticket[CHANGES], unknown = change(stream, "oil", 1, L2D_WHEN_SOON);
    unsigned frames = 0, num_steps = 0, changes = 0;
    for (bool waits = true; frames < RUN_MAX_FRAMES - 4 && (frames < 20 || waits); frames++) {
        for (unsigned i = 0; i < 3 && changes < CHANGES && (frames == 0 || frames > 13); i++) {
            float scale = 0.1f * (float) ++changes;
            const char *name = changes % 2 ? "ink" : "neon";
            step[changes - 1] = (struct run_step) LORA(0, name, scale, 0);
            ticket[changes - 1] = change(stream, step[changes - 1].change.text, scale,
                                         L2D_WHEN_SOON);
        }
        push(stream, frames);
        if (frames >= 11)
            pop(stream, &got);
        waits = l2d_stream_receipt(stream, ticket[CHANGES - 1]).state == L2D_RECEIPT_WAITING;
    }
    for (int i = 0; i < 4; i++)
        push(stream, frames++);
    l2d_stream_end(stream);
    while (got.count < frames)
        pop(stream, &got);
    struct l2d_receipt u = l2d_stream_receipt(stream, unknown);
    cr_assert(u.state == L2D_RECEIPT_REFUSED && strstr(u.why, "lora oil"), "%s", u.why);
    for (unsigned i = 0; i < CHANGES; i++) {
        struct l2d_receipt r = l2d_stream_receipt(stream, ticket[i]);
        cr_assert(r.state == L2D_RECEIPT_DONE || strstr(r.why, "a later change"), "%u: %s", i,
                  r.why);
        cr_assert(r.state == L2D_RECEIPT_DONE || i < CHANGES - 2, "%u: %s", i, r.why);
        if (r.state != L2D_RECEIPT_DONE)
            continue;
        step[i].frame = (unsigned) r.first;
        step[i].first = r.first;
        step[num_steps++] = step[i];
    }
    cr_assert(num_steps >= 4 && num_steps < CHANGES, "%u", num_steps);
    l2d_stream_destroy(&stream);
    run(params(kept), step, num_steps, frames, 0, &want);
    run_check_same(&want, &got, 0, frames, "a stream");
    run_drop(&want);
    run_drop(&got);
}

// A stream that ends while scales are being computed ends at once, and says so.
Test(loras, stream_ends)
{
    struct l2d_stream *stream = open_stream();
    uint64_t ticket = change(stream, "ink", 1, L2D_WHEN_SOON);
    push(stream, 0);
    l2d_stream_stop(stream);
    while (l2d_stream_receipt(stream, ticket).state == L2D_RECEIPT_WAITING)
        usleep(1000);
    l2d_stream_destroy(&stream);
}
