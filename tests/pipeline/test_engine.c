// SPDX-License-Identifier: Apache-2.0
// The engine as those see it who push frames: as many out as in, in order and with their time; the
// same in all schedules and in every run; prompts, sizes, formats that change on the way; and
// failures of every allocation. What the networks compute is test_golden.c's affair.
#include "pipeline/engine.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/device.h"
#include "support/engine_run.h"
#include "support/faults.h"
#include "support/golden_model.h"
#include "support/watched_gpu.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define MAX_FRAMES 24
#define W 96
#define H 64

static struct golden_model model;
static struct l2d_gpu *gpu;
static struct l2d_error err;

static void open_all(void)
{
    golden_model_make(&model, "tiny3");
    gpu = watched_gpu_open(L2D_TIER_AUTO);
}

// Objects that somebody has forgotten to destroy are messages of the validation layer.
static void close_all(void)
{
    golden_model_remove(&model);
    watched_gpu_close(&gpu);
}

TestSuite(engine, .init = open_all, .fini = close_all);

// ---- what comes out

static struct l2d_engine_params params(struct run_output *out)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = W, .height = H, .fit = L2D_FIT_STRETCH, .seed = 5,
        .precision = L2D_PRECISION_FP32, .rgba = true, .emit = run_take, .user = out,
    };
}

static struct l2d_engine *create(const struct l2d_engine_params *p)
{
    struct l2d_engine *engine = NULL;
    cr_assert_eq(l2d_engine_create(&engine, gpu, p, &err), L2D_OK, "%s", err.msg);
    return engine;
}

static void push(struct l2d_engine *engine, struct l2d_frame *frame)
{
    cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
    l2d_frame_unref(&frame);
}

static struct l2d_frame *input(unsigned f)
{
    struct l2d_frame *frame = golden_frame(f, W, H);
    frame->pts = 1000 + 40 * (int64_t) f;
    frame->duration = 40 + f;
    frame->time_base_num = 2;
    frame->time_base_den = 2000;
    return frame;
}

// The first picture again, at the time of another.
static struct l2d_frame *still_input(unsigned f)
{
    struct l2d_frame *frame = input(f), *first = input(0);
    memcpy(frame->data, first->data, first->size_bytes);
    l2d_frame_unref(&first);
    return frame;
}

static void push_inputs(struct l2d_engine *engine, unsigned from, unsigned to)
{
    for (unsigned f = from; f < to; f++)
        push(engine, input(f));
}

static void finish(struct l2d_engine **engine)
{
    cr_assert_eq(l2d_engine_finish(*engine, &err), L2D_OK, "%s", err.msg);
    l2d_engine_destroy(engine);
    cr_assert_null(*engine);
}

static void run(const struct l2d_engine_params *p, unsigned num_frames)
{
    struct l2d_engine *engine = create(p);
    push_inputs(engine, 0, num_frames);
    finish(&engine);
}

static int max_difference(const struct l2d_frame *a, const struct l2d_frame *b)
{
    int worst = 0;
    cr_assert_eq(a->size_bytes, b->size_bytes);
    for (uint64_t i = 0; i < a->size_bytes; i++)
        worst = abs(a->data[i] - b->data[i]) > worst ? abs(a->data[i] - b->data[i]) : worst;
    return worst;
}

// ---- frames in, frames out

static void check_frames(const struct run_output *out, unsigned num_frames, const char *what)
{
    cr_assert_eq(out->count, num_frames, "%s: %u of %u frames", what, out->count, num_frames);
    for (unsigned f = 0; f < num_frames; f++) {
        const struct l2d_frame *frame = out->frame[f];
        cr_assert_eq(frame->pts, 1000 + 40 * (int64_t) f, "%s: frame %u", what, f);
        cr_assert_eq(frame->duration, 40 + f);
        cr_assert(frame->time_base_num == 2 && frame->time_base_den == 2000);
        cr_assert(frame->width == W && frame->height == H);
    }
}

// A frame does not know how many will follow, once the warm-up is full: all runs agree.
Test(engine, as_many_out_as_in)
{
    static const unsigned counts[] = { 12, 9, 8, 7, 2, 1, 0 };
    static const char *const steps[] = { "25,37/50", "25,30,37/50" };
    enum { WAYS = 4 };
    static const uint32_t chunks[WAYS] = { 0, 1, 2, 5 };
    for (size_t s = 0; s < COUNT(steps); s++) {
        struct run_output longest = { .count = 0 };
        for (size_t i = 0; i < COUNT(counts); i++) {
            struct run_output out[WAYS] = { { .count = 0 } };
            for (int b = 0; b < WAYS; b++) {
                char what[80];
                struct l2d_engine_params p = params(&out[b]);
                p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
                p.chunk = chunks[b];
                p.steps = steps[s];
                snprintf(what, sizeof(what), "%u frames, %s, %s, chunks of %u", counts[i], steps[s],
                         b ? "sequential" : "batch", chunks[b]);
                struct l2d_engine *engine = create(&p);
                push_inputs(engine, 0, counts[i]);
                cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
                check_frames(&out[b], counts[i], what);
                cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
                struct l2d_engine_stats stats = l2d_engine_stats(engine);
                cr_assert(stats.frames_in == counts[i] && stats.frames_out == counts[i]);
                l2d_engine_destroy(&engine);
                cr_assert_eq(out[b].count, counts[i], "%s: finishing twice emits nothing", what);
            }
            for (int b = 1; b < WAYS; b++) {
                run_check_same(&out[0], &out[b], 0, counts[i], "batch against sequential");
                run_drop(&out[b]);
            }
            if (i == 0)
                longest = out[0];
            else if (counts[i] >= 8)
                run_check_same(&out[0], &longest, 0, counts[i], "a shorter clip");
            if (i > 0)
                run_drop(&out[0]);
        }
        run_drop(&longest);
    }
}

Test(engine, sequential_waits_for_nobody)
{
    struct run_output out = { .count = 0 };
    struct l2d_engine_params p = params(&out);
    p.steps = "25,37/50";
    for (int b = 0; b < 2; b++) {
        p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
        struct l2d_engine *engine = create(&p);
        for (unsigned f = 0; f < 14; f++) {
            push_inputs(engine, f, f + 1);
            // One frame is in the host's hands, one in the GPU's; a batch has one more per step.
            unsigned inside = 2 + (b ? 0 : 1);
            cr_assert(f < 8 || out.count + inside > f, "%s: %u frames out after %u in",
                      b ? "sequential" : "batch", out.count, f + 1);
            cr_assert(out.count <= f + 1);
        }
        finish(&engine);
        cr_assert_eq(out.count, 14);
        run_drop(&out);
    }
}

Test(engine, every_run_is_the_same)
{
    struct run_output out[3] = { { .count = 0 } };
    for (int i = 0; i < 3; i++) {
        struct l2d_engine_params p = params(&out[i]);
        p.precision = L2D_PRECISION_FP16;
        p.seed = i < 2 ? 5 : UINT64_C(5) << 32;
        run(&p, 11);
    }
    run_check_same(&out[0], &out[1], 0, 11, "run again");
    run_check_differ(&out[0], &out[2], 0, 11, "another seed");
    for (int i = 0; i < 3; i++)
        run_drop(&out[i]);
}

// ---- prompts

Test(engine, prompt_changes_on_the_way)
{
    enum { FRAMES = 14, CHANGE = 10 };
    for (int b = 0; b < 2; b++) {
        struct run_output plain = { .count = 0 }, same = { .count = 0 }, other = { .count = 0 };
        struct run_output *const outs[] = { &plain, &same, &other };
        static const char *const prompts[] = { NULL, "a bird", "ink drawing of a street" };
        unsigned in_flight = b ? 0 : 1;
        for (int i = 0; i < 3; i++) {
            struct l2d_engine_params p = params(outs[i]);
            p.prompt = "a bird";
            p.steps = "25,37/50";
            p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
            struct l2d_engine *engine = create(&p);
            uint32_t tokens = l2d_engine_info(engine)->prompt_tokens;
            push_inputs(engine, 0, CHANGE);
            if (prompts[i])
                cr_assert_eq(l2d_engine_set_prompt(engine, prompts[i], &err), L2D_OK, "%s",
                             err.msg);
            cr_assert((l2d_engine_info(engine)->prompt_tokens > tokens) == (i == 2));
            push_inputs(engine, CHANGE, FRAMES);
            finish(&engine);
        }
        run_check_same(&plain, &same, 0, FRAMES, "the same prompt again");
        run_check_same(&plain, &other, 0, CHANGE - in_flight, "before another prompt");
        run_check_differ(&plain, &other, CHANGE, FRAMES, "after another prompt");
        for (int i = 0; i < 3; i++)
            run_drop(outs[i]);
    }
}

Test(engine, prompt_of_creation_or_set_before)
{
    struct run_output out[2] = { { .count = 0 } };
    for (int i = 0; i < 2; i++) {
        struct l2d_engine_params p = params(&out[i]);
        p.prompt = i ? "a cat" : "warm colors";
        struct l2d_engine *engine = create(&p);
        cr_assert_eq(l2d_engine_set_prompt(engine, "a cat", &err), L2D_OK, "%s", err.msg);
        push_inputs(engine, 0, 9);
        finish(&engine);
    }
    run_check_same(&out[0], &out[1], 0, 9, "prompt");
    run_drop(&out[0]);
    run_drop(&out[1]);
}

Test(engine, long_and_odd_prompts)
{
    char longest[4000];
    memset(longest, 'x', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    const char *const prompts[] = { "", " ", "{}", "%s%n", "\xf0\x9f\x99\x82 caf\xc3\xa9",
                                    longest };
    struct run_output out = { .count = 0 };
    struct l2d_engine_params p = params(&out);
    struct l2d_engine *engine = create(&p);
    for (size_t i = 0; i < COUNT(prompts); i++) {
        cr_assert_eq(l2d_engine_set_prompt(engine, prompts[i], &err), L2D_OK, "%s", err.msg);
        cr_assert((l2d_engine_info(engine)->prompt_dropped > 0) == (prompts[i] == longest));
    }
    // What is not UTF-8 is refused or replaced, but survived; the old prompt or the new is used.
    l2d_engine_set_prompt(engine, "\xff\xc3", &err);
    push_inputs(engine, 0, 2);
    finish(&engine);
    cr_assert_eq(out.count, 2);
    run_drop(&out);
}

Test(engine, wrong_prompts_leave_the_old_one)
{
    static const struct { const char *prompt, *want; } cases[] = {
        { "a (bird:9)", "prompt: column 8: a weight" },
        { "a :0 | b :0", "prompt: column 2: the shares" },
    };
    struct run_output out[2] = { { .count = 0 } };
    for (int i = 0; i < 2; i++) {
        struct l2d_engine_params p = params(&out[i]);
        struct l2d_engine *engine = create(&p);
        for (size_t c = 0; i == 1 && c < COUNT(cases); c++) {
            cr_assert_eq(l2d_engine_set_prompt(engine, cases[c].prompt, &err), L2D_EINVAL);
            cr_assert(strstr(err.msg, cases[c].want), "%s", err.msg);
        }
        push_inputs(engine, 0, 2);
        finish(&engine);
    }
    run_check_same(&out[0], &out[1], 0, 2, "after wrong prompts");
    run_drop(&out[0]);
    run_drop(&out[1]);
}

// A weight of 1 and a blend with nothing are the plain prompt; others are not.
Test(engine, weights_and_blends)
{
    static const char *const prompts[] = { "a bird", "a (bird:1)", "a bird :1 | a cat :0",
                                           "a (bird:1.5)", "a bird :1 | a cat :1", "[a bird]" };
    struct run_output out[COUNT(prompts)] = { { .count = 0 } };
    for (size_t i = 0; i < COUNT(prompts); i++) {
        struct l2d_engine_params p = params(&out[i]);
        p.prompt = prompts[i];
        run(&p, 2);
    }
    run_check_same(&out[0], &out[1], 0, 2, "a weight of 1");
    run_check_same(&out[0], &out[2], 0, 2, "a share of 0");
    for (size_t i = 3; i < COUNT(prompts); i++)
        run_check_differ(&out[0], &out[i], 0, 2, prompts[i]);
    for (size_t i = 0; i < COUNT(prompts); i++)
        run_drop(&out[i]);
}

Test(engine, clip_skip)
{
    static const char *const skips[] = { NULL, "1", "0" };      // the model says 1
    struct run_output out[3] = { { .count = 0 } };
    for (int i = 0; i < 3; i++) {
        struct l2d_engine_params p = params(&out[i]);
        p.clip_skip = skips[i];
        run(&p, 2);
    }
    run_check_same(&out[0], &out[1], 0, 2, "the model's");
    run_check_differ(&out[0], &out[2], 0, 2, "another layer");
    for (int i = 0; i < 3; i++)
        run_drop(&out[i]);
}

// ---- guidance

static struct l2d_engine_params guided(struct run_output *out, enum l2d_guidance_mode mode)
{
    struct l2d_engine_params p = params(out);
    p.steps = "25,30,37/50";
    p.guidance_mode = mode;
    p.guidance = 1.5;
    return p;
}

// Every mode draws the same in both schedules, something of its own, and takes what memory it says.
Test(engine, guidance_modes)
{
    enum { FRAMES = 12, MODES = 4 };
    static const unsigned negative_steps[MODES] = { 0, 3, 0, 1 };
    struct run_output out[MODES][2] = { 0 };
    uint64_t plain_bytes = 0;
    for (int m = 0; m < MODES; m++) {
        for (int b = 0; b < 2; b++) {
            struct l2d_engine_params p = guided(&out[m][b], (enum l2d_guidance_mode) m);
            p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
            struct l2d_engine *engine = create(&p);
            uint64_t bytes = l2d_engine_info(engine)->memory.kv_cache;
            plain_bytes = m == 0 ? bytes : plain_bytes;
            cr_assert_eq(bytes, plain_bytes / 3 * (3 + negative_steps[m]), "mode %d", m);
            cr_assert_eq((int) l2d_engine_info(engine)->guidance_mode, m);
            int rc = l2d_engine_set_negative(engine, "", &err);
            cr_assert_eq(rc, negative_steps[m] ? L2D_OK : L2D_EINVAL, "mode %d: %s", m, err.msg);
            push_inputs(engine, 0, FRAMES);
            finish(&engine);
            check_frames(&out[m][b], FRAMES, "guidance");
        }
        run_check_same(&out[m][0], &out[m][1], 0, FRAMES, "batch against sequential");
        for (int other = 0; other < m; other++)
            run_check_differ(&out[m][0], &out[other][0], 0, FRAMES, "another mode");
    }
    for (int m = 0; m < MODES; m++)
        for (int b = 0; b < 2; b++)
            run_drop(&out[m][b]);
}

Test(engine, guidance_of_one_is_none)
{
    struct run_output plain = { .count = 0 }, one = { .count = 0 };
    struct l2d_engine_params p = guided(&plain, L2D_GUIDANCE_NONE);
    run(&p, 10);
    p = guided(&one, L2D_GUIDANCE_FULL);
    p.guidance = 1;
    run(&p, 10);
    run_check_same(&plain, &one, 0, 10, "guidance 1");
    run_drop(&plain);
    run_drop(&one);
}

// The negative prompt is set at creation or later, and is seen from there on.
Test(engine, negative_prompts)
{
    static const enum l2d_guidance_mode modes[] = { L2D_GUIDANCE_FULL, L2D_GUIDANCE_INITIALIZE };
    for (size_t m = 0; m < COUNT(modes); m++) {
        struct run_output out[3] = { { .count = 0 } };
        for (int i = 0; i < 3; i++) {
            struct l2d_engine_params p = guided(&out[i], modes[m]);
            p.negative = i == 1 ? "(ink:1.2) drawing" : NULL;
            struct l2d_engine *engine = create(&p);
            if (i == 2)
                cr_assert_eq(l2d_engine_set_negative(engine, "(ink:1.2) drawing", &err), L2D_OK);
            push_inputs(engine, 0, 10);
            finish(&engine);
        }
        run_check_differ(&out[0], &out[1], 0, 10, "a negative prompt");
        run_check_same(&out[1], &out[2], 0, 10, "of creation or set before");
        for (int i = 0; i < 3; i++)
            run_drop(&out[i]);
    }
}

// ---- similar frames

// A still picture: frame 8 is drawn and 10 others repeat it, then 19. Every frame has its own time.
Test(engine, similar_frames_are_skipped)
{
    static const char *const steps[] = { "37/50", "25,30,37/50" };
    for (size_t i = 0; i < COUNT(steps); i++)
        for (int b = 0; b < 2; b++) {
            struct run_output out = { .count = 0 };
            struct l2d_engine_params p = params(&out);
            p.skip_similar = 0.98;
            p.steps = steps[i];
            p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
            struct l2d_engine *engine = create(&p);
            for (unsigned f = 0; f < MAX_FRAMES; f++) {
                push(engine, still_input(f));
                // Nobody waits for a frame that is on the GPU only; a batch holds steps - 1 back.
                cr_assert(f < 10 || b == 0 || out.count >= f, "%u out, %u in", out.count, f + 1);
            }
            cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
            struct l2d_engine_stats stats = l2d_engine_stats(engine);
            cr_assert_eq(stats.frames_skipped, 14, "%d skipped", (int) stats.frames_skipped);
            cr_assert(stats.frames_in == MAX_FRAMES && stats.frames_out == MAX_FRAMES);
            check_frames(&out, MAX_FRAMES, steps[i]);
            for (unsigned f = 9; f < MAX_FRAMES; f++)
                cr_assert_eq(max_difference(out.frame[f], out.frame[f - 1]) == 0, f != 19,
                             "frame %u", f);
            l2d_engine_destroy(&engine);
            run_drop(&out);
        }
}

// Pictures that differ are all drawn, and with the filter on they are the same.
Test(engine, other_frames_are_not)
{
    struct run_output plain = { .count = 0 }, filtered = { .count = 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, 14);
    p = params(&filtered);
    p.skip_similar = 1;
    run(&p, 14);
    run_check_same(&plain, &filtered, 0, 14, "a threshold of 1");
    run_drop(&plain);
    run_drop(&filtered);
}

// ---- frames that are not drawn

static bool is_drawn(unsigned f)
{
    return f < 8 || (f - 7) % 3 == 0;
}

// Every third frame. Where nothing moves those behind it are the same; with motion they are not,
// and what is drawn is as if they had not been there. Every frame has its own time.
Test(engine, frames_between_drawn_ones_are_moved)
{
    static const char *const steps[] = { "37/50", "25,30,37/50" };
    for (size_t i = 0; i < COUNT(steps); i++)
        for (int way = 0; way < 3; way++) {
            struct run_output still = { .count = 0 }, moving = still, alone = still;
            struct l2d_engine_params p = params(&still);
            p.steps = steps[i];
            p.steady = -1;
            p.batching = way ? L2D_SEQUENTIAL : L2D_BATCH;
            p.chunk = way == 2 ? 3 : 0;
            p.user = &alone;
            struct l2d_engine *only = create(&p);
            p.draw_every = 3;
            p.user = &still;
            struct l2d_engine *a = create(&p);
            p.user = &moving;
            struct l2d_engine *b = create(&p);
            for (unsigned f = 0; f < MAX_FRAMES; f++) {
                push(a, still_input(f));
                push(b, input(f));
                if (is_drawn(f))
                    push(only, input(f));
            }
            struct l2d_engine *all[] = { a, b, only };
            for (size_t k = 0; k < COUNT(all); k++)
                cr_assert_eq(l2d_engine_finish(all[k], &err), L2D_OK, "%s", err.msg);
            struct l2d_engine_stats stats = l2d_engine_stats(a);
            cr_assert(stats.frames_in == MAX_FRAMES && stats.frames_out == MAX_FRAMES);
            cr_assert_eq(stats.frames_moved, MAX_FRAMES - alone.count, "%d moved",
                         (int) stats.frames_moved);
            check_frames(&still, MAX_FRAMES, steps[i]);
            check_frames(&moving, MAX_FRAMES, steps[i]);
            for (unsigned f = 8, drawn = 8; f < MAX_FRAMES; f++) {
                cr_assert_eq(run_is_same(&still, f, &still, f - 1), !is_drawn(f), "frame %u", f);
                if (is_drawn(f))
                    cr_assert(run_is_same(&moving, f, &alone, drawn++), "frame %u, way %d", f, way);
                else
                    cr_assert(!run_is_same(&moving, f, &moving, f - 1), "frame %u", f);
            }
            for (size_t k = 0; k < COUNT(all); k++)
                l2d_engine_destroy(&all[k]);
            run_drop(&still);
            run_drop(&moving);
            run_drop(&alone);
        }
}

// ---- pictures

// The same pixels in another order of bytes.
static struct l2d_frame *as_bgra(struct l2d_frame *rgba)
{
    for (uint64_t i = 0; i < rgba->size_bytes; i += 4) {
        uint8_t r = rgba->data[i];
        rgba->data[i] = rgba->data[i + 2];
        rgba->data[i + 2] = r;
    }
    rgba->format.component[0].offset_bytes = 2;
    rgba->format.component[2].offset_bytes = 0;
    return rgba;
}

static struct l2d_frame *grey_i420(unsigned f, int32_t width, int32_t height)
{
    struct l2d_frame *frame = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    cr_assert_eq(l2d_frame_create(&frame, width, height, &format, &err), L2D_OK, "%s", err.msg);
    memset(frame->data, (int) (60 + 5 * f), frame->size_bytes);
    frame->pts = f;
    frame->time_base_num = frame->time_base_den = 1;
    return frame;
}

Test(engine, formats_change_on_the_way)
{
    struct run_output plain = { .count = 0 }, mixed = { .count = 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, 13);
    p = params(&mixed);
    struct l2d_engine *engine = create(&p);
    for (unsigned f = 0; f < 13; f++)
        push(engine, f % 3 == 1 ? as_bgra(input(f)) : input(f));
    finish(&engine);
    run_check_same(&plain, &mixed, 0, 13, "RGBA and BGRA");
    run_drop(&plain);
    run_drop(&mixed);
}

Test(engine, sizes_change_on_the_way)
{
    static const struct { int32_t w, h; int rotation; } sizes[] = {
        { W, H, 0 }, { 1, 1, 0 }, { 641, 359, 0 }, { 37, 500, 90 }, { 2, 300, 270 }, { W, H, 180 },
    };
    for (int fit = L2D_FIT_COVER; fit <= L2D_FIT_STRETCH; fit++) {
        struct run_output plain = { .count = 0 }, mixed = { .count = 0 };
        struct l2d_engine_params p = params(&plain);
        p.fit = (enum l2d_fit) fit;
        run(&p, 10);
        p.user = &mixed;
        struct l2d_engine *engine = create(&p);
        push_inputs(engine, 0, 9);
        for (unsigned f = 9; f < MAX_FRAMES - 1; f++) {
            size_t i = f % COUNT(sizes);
            struct l2d_frame *frame = grey_i420(f, sizes[i].w, sizes[i].h);
            frame->rotation = sizes[i].rotation;
            push(engine, frame);
        }
        push_inputs(engine, MAX_FRAMES - 1, MAX_FRAMES);
        finish(&engine);
        cr_assert_eq(mixed.count, MAX_FRAMES);
        run_check_same(&plain, &mixed, 0, 9, "before another size");
        for (unsigned f = 0; f < MAX_FRAMES; f++)
            cr_assert(mixed.frame[f]->width == W && mixed.frame[f]->height == H);
        run_drop(&plain);
        run_drop(&mixed);
    }
}

Test(engine, sizes_of_output)
{
    static const struct { int32_t ask_w, ask_h, in_w, in_h, w, h, canvas_w, canvas_h; } cases[] = {
        { 0, 0, 0, 0, W, H, W, H },                     // the model's
        { 90, 50, 0, 0, 90, 50, 96, 64 },
        { 2, 2, 0, 0, 2, 2, 32, 32 },
        { 32, 128, 640, 480, 32, 128, 32, 128 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        for (int rgba = 0; rgba < 2; rgba++) {
            struct run_output out = { .count = 0 };
            struct l2d_engine_params p = params(&out);
            p.width = cases[i].ask_w;
            p.height = cases[i].ask_h;
            p.input_width = cases[i].in_w;
            p.input_height = cases[i].in_h;
            p.rgba = rgba;
            struct l2d_engine *engine = create(&p);
            const struct l2d_engine_info *info = l2d_engine_info(engine);
            cr_assert(info->width == cases[i].w && info->height == cases[i].h, "case %zu: %dx%d", i,
                      info->width, info->height);
            cr_assert(info->canvas_width == cases[i].canvas_w &&
                      info->canvas_height == cases[i].canvas_h, "case %zu", i);
            push_inputs(engine, 0, 1);
            finish(&engine);
            cr_assert_eq(out.count, 1);
            cr_assert(out.frame[0]->width == cases[i].w && out.frame[0]->height == cases[i].h);
            cr_assert_eq(out.frame[0]->num_planes, rgba ? 1 : 3);
            run_drop(&out);
        }
    }
}

// ---- values

struct watch {
    struct run_output out;                  // emit and probe share their user
    unsigned images;
    char bad[128];
};

static void check_finite(void *user, uint32_t frame, int step, const char *name, const float *data,
                         int32_t h, int32_t w, int32_t c)
{
    struct watch *watch = user;
    watch->images += strcmp(name, "image") == 0;
    for (int64_t i = 0; i < (int64_t) h * w * c && !watch->bad[0]; i++)
        if (!isfinite(data[i]))
            snprintf(watch->bad, sizeof(watch->bad), "frame %u, step %d, %s[%d] is %g", frame, step,
                     name, (int) i, (double) data[i]);
}

static void watch_frame(void *user, struct l2d_frame *frame)
{
    struct watch *watch = user;
    run_take(&watch->out, frame);
}

Test(engine, constant_pictures_are_finite)
{
    static const enum l2d_precision precisions[] = { L2D_PRECISION_FP32, L2D_PRECISION_FP16 };
    static const int values[] = { 0, 128, 255 };
    for (size_t i = 0; i < COUNT(precisions); i++) {
        for (size_t v = 0; v < COUNT(values); v++) {
            struct watch watch = { .images = 0 };
            struct l2d_engine_params p = params(NULL);
            p.precision = precisions[i];
            p.probe = check_finite;
            p.emit = watch_frame;
            p.user = &watch;
            struct l2d_engine *engine = create(&p);
            for (unsigned f = 0; f < 10; f++) {
                struct l2d_frame *frame = input(f);
                memset(frame->data, values[v], frame->size_bytes);
                push(engine, frame);
            }
            finish(&engine);
            cr_assert(watch.images == 10 && watch.out.count == 10);
            cr_assert(!watch.bad[0], "value %d: %s", values[v], watch.bad);
            run_drop(&watch.out);
        }
    }
}

// ---- failures on the way

static const struct { enum fault fault; const char *name; int code; } faults[] = {
    { FAULT_ALLOC, "host memory", L2D_ENOMEM }, { FAULT_BUFFER, "buffers", L2D_EGPUMEM },
    { FAULT_GRAPH, "graphs", L2D_EGPU }, { FAULT_SUBMIT, "submissions", L2D_EGPU },
};

// Number i of 0..count-1 to try: all of few, else the first, the last and some between.
static uint64_t next_to_try(uint64_t i, uint64_t count)
{
    return i < 12 || count < 60 || i + 12 >= count ? i + 1 : i + count / 40 + 1;
}

enum stage { CREATE, PUSH, PROMPT, FINISH };

// A stream's life after creation. returns the stage that fails, or FINISH.
static enum stage feed(struct l2d_engine *engine, int *rc, struct l2d_error *e)
{
    for (unsigned f = 0; f < 11; f++) {
        faults_pause();                 // the last is larger and needs other buffers
        struct l2d_frame *frame = f == 10 ? grey_i420(f, 2 * W, 2 * H) : input(f);
        faults_continue();
        *rc = l2d_engine_push(engine, frame, e);
        l2d_frame_unref(&frame);
        if (*rc != L2D_OK)
            return PUSH;
    }
    *rc = l2d_engine_set_prompt(engine, "a cat", e);
    if (*rc != L2D_OK)
        return PROMPT;
    *rc = l2d_engine_finish(engine, e);
    return FINISH;
}

// Creation to destruction with the nth call of a kind failing; 0: none. returns how many were made.
static uint64_t run_with_fault(uint32_t chunk, enum fault fault, uint64_t nth, int code,
                               const char *name)
{
    struct run_output out = { .count = 0 };
    struct l2d_engine *engine = NULL;
    struct l2d_error e = { 0 }, later = { 0 };
    struct l2d_engine_params p = params(&out);
    enum stage stage = CREATE;
    p.chunk = chunk;
    faults_begin(fault, nth);
    int rc = l2d_engine_create(&engine, gpu, &p, &e);
    cr_assert_eq(rc == L2D_OK, engine != NULL, "%s %d", name, (int) nth);
    if (rc == L2D_OK)
        stage = feed(engine, &rc, &e);
    uint64_t count = faults_count();
    if (stage == PUSH)                  // the engine stays failed
        cr_assert_eq(l2d_engine_finish(engine, &later), code, "%s %d", name, (int) nth);
    if (stage == PROMPT)                // the old prompt stays
        cr_assert_eq(l2d_engine_finish(engine, &later), L2D_OK, "%s %d: %s", name, (int) nth,
                     later.msg);
    cr_assert((stage != PROMPT && rc != L2D_OK) || out.count == 11, "%u frames", out.count);
    l2d_engine_destroy(&engine);
    run_drop(&out);
    uint64_t leaked = faults_end();
    cr_assert(rc == code && (int) e.code == code, "%s, number %d, stage %d: code %d, %s", name,
              (int) nth, (int) stage, rc, e.msg);
    cr_assert_eq(leaked, 0, "%s, number %d, stage %d: %d allocations are left", name, (int) nth,
                 (int) stage, (int) leaked);
    return count;
}

static void survive_failures(uint32_t chunk)
{
    struct run_output out = { .count = 0 };
    struct l2d_engine_params p = params(&out);
    p.chunk = chunk;
    run(&p, 1);                         // programs stay with the device
    run_drop(&out);
    for (size_t i = 0; i < COUNT(faults); i++) {
        uint64_t count = run_with_fault(chunk, faults[i].fault, 0, L2D_OK, faults[i].name);
        cr_assert(count > 0, "no %s", faults[i].name);
        for (uint64_t nth = 1; nth <= count; nth = next_to_try(nth, count))
            run_with_fault(chunk, faults[i].fault, nth, faults[i].code, faults[i].name);
        fprintf(stderr, "%s: %d\n", faults[i].name, (int) count);
    }
}

Test(engine, survives_failures_everywhere)
{
    survive_failures(1);
}

Test(engine, survives_failures_with_a_depth_network_in_chunks)
{
    golden_model_remove(&model);
    golden_model_make(&model, "narrowd");
    survive_failures(2);
}
