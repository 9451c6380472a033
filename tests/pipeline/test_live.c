// SPDX-License-Identifier: Apache-2.0
// What changes while frames flow: every change belongs to a frame, nothing is dropped or comes in
// another order, a batch draws what a sequence draws, and every run is the same. What the networks
// compute then is test_golden.c's affair.
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/engine_run.h"
#include "support/faults.h"
#include "support/golden_model.h"
#include "support/watched_gpu.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define W 64
#define H 32

static struct golden_model model;
static struct l2d_gpu *gpu, *swapped_gpu;
static struct l2d_error err;

static void open_all(void)
{
    golden_model_make(&model, "tiny3");
    struct l2d_gpu_params p = watched_gpu_params();
    cr_assert_eq(l2d_gpu_create(&gpu, &p, &err), L2D_OK, "%s", err.msg);
    p.lanes = L2D_LANES_SWAPPED;
    cr_assert_eq(l2d_gpu_create(&swapped_gpu, &p, &err), L2D_OK, "%s", err.msg);
}

static void close_all(void)
{
    golden_model_remove(&model);
    watched_gpu_close(&gpu);
    watched_gpu_close(&swapped_gpu);
}

TestSuite(live, .init = open_all, .fini = close_all);

// ---- a run: frames in, with changes before some of them

struct scenario {
    const struct run_step *step;
    unsigned num_steps, num_frames;
    unsigned scene[4];                  // frames with which another scene begins; 0: no more
    unsigned offset;                    // of the inputs' numbers
};

static struct l2d_engine_params params(struct run_output *out)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = W, .height = H, .fit = L2D_FIT_STRETCH, .seed = 5,
        .prompt = "a bird", .steps = "25,30,37/50", .precision = L2D_PRECISION_FP32, .rgba = true,
        .emit = run_take, .user = out,
    };
}

// Scenes are dark and bright in turn.
static struct l2d_frame *input(const void *user, unsigned f)
{
    const struct scenario *s = user;
    struct l2d_frame *frame = golden_frame(f + s->offset, W, H);
    unsigned scene = 0;
    while (scene < COUNT(s->scene) && s->scene[scene] && f >= s->scene[scene])
        scene++;
    golden_frame_set_scene(frame, scene % 2);
    frame->pts = 1000 + 40 * (int64_t) f;
    frame->time_base_num = 1;
    frame->time_base_den = 1000;
    return frame;
}

static void run_on(struct l2d_gpu *device, const struct l2d_engine_params *p,
                   const struct scenario *s)
{
    struct run_output *out = p->user;
    struct run_plan plan = { s->step, s->num_steps, s->num_frames, input, s, NULL };
    run_engine(device, *p, &plan, out);
    for (unsigned f = 0; f < out->count; f++)
        cr_assert_eq(out->frame[f]->pts, 1000 + 40 * (int64_t) f, "frame %u", f);
}

static void run(const struct l2d_engine_params *p, const struct scenario *s)
{
    run_on(gpu, p, s);
}

// A batch; a batch whose frames are encoded before what the frame before has left to do; a
// sequence; and chunks, of 8 first, whose frames are encoded before what those before have left to
// do: all the same. *out has the batch's.
static void run_all(struct l2d_engine_params p, const struct scenario *s, struct run_output *out,
                    const char *what)
{
    static const uint32_t chunks[] = { 8, 3, 2, 5 };
    static unsigned turn;
    const struct { enum l2d_batching batching; uint32_t chunk; bool swapped; } ways[] = {
        { L2D_BATCH, 1, true }, { L2D_SEQUENTIAL, 1, false },
        { L2D_BATCH, chunks[turn++ % COUNT(chunks)], true },
    };
    struct run_output other = { .count = 0 };
    p.user = out;
    run(&p, s);
    p.user = &other;
    for (size_t i = 0; i < COUNT(ways); i++) {
        char way[160];
        p.batching = ways[i].batching;
        p.chunk = ways[i].chunk;
        snprintf(way, sizeof(way), "%s, way %zu, chunks of %u", what, i, p.chunk);
        run_on(ways[i].swapped ? swapped_gpu : gpu, &p, s);
        run_check_same(out, &other, 0, s->num_frames, way);
        cr_assert_eq(out->stats.rewarms, other.stats.rewarms, "%s", way);
        run_drop(&other);
    }
}

// ---- words

#define PROMPT(at, words, frames, ease) \
    { at, { .kind = L2D_CHANGE_PROMPT, .text = words, .fade_frames = frames, .easing = ease }, at }

// Nothing of the frames in flight changes, and the sinks are refreshed once.
Test(live, prompt_at_a_frame)
{
    enum { FRAMES = 20, AT = 11 };
    static const struct run_step steps[] = { PROMPT(AT, "ink drawing of a street", 0, 0) };
    struct run_output plain = { .count = 0 }, changed = { .count = 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    run_all(p, &(struct scenario) { steps, 1, FRAMES, { 0 }, 0 }, &changed, "prompt");
    run_check_same(&plain, &changed, 0, AT, "before");
    run_check_differ(&plain, &changed, AT, FRAMES, "after");
    cr_assert(changed.stats.refreshes == 1 && changed.stats.changes == 1 && !plain.stats.changes);
    run_drop(&plain);
    run_drop(&changed);
}

// Sinks that were refreshed under another prompt and then under their own are what they were.
Test(live, sinks_come_back)
{
    static const struct run_step steps[] = { PROMPT(10, "ink", 0, 0), PROMPT(14, "a bird", 0, 0) };
    struct run_output plain = { .count = 0 }, changed = { .count = 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = 20 });
    run_all(p, &(struct scenario) { steps, 2, 20, { 0 }, 0 }, &changed, "there and back");
    uint64_t pixels = W / 8 * H / 8, differ = 0;
    uint64_t per_slot = plain.cache_count / (3 * pixels * 16);      // [step][pixel][slot][2][c]
    for (uint64_t i = 0; i < plain.cache_count; i++) {
        bool is_sink = i / per_slot % 16 < 8;
        bool equal = memcmp(&plain.cache[i], &changed.cache[i], 4) == 0;
        cr_assert(!is_sink || equal, "sink value %d", (int) i);
        differ += !equal;
    }
    cr_assert(differ > plain.cache_count / 8, "the window has other keys than before");
    cr_assert_eq(changed.stats.refreshes, 2);
    run_drop(&plain);
    run_drop(&changed);
}

static double distance(const struct l2d_frame *a, const struct l2d_frame *b)
{
    double sum = 0;
    for (uint64_t i = 0; i < a->size_bytes; i++)
        sum += abs(a->data[i] - b->data[i]);
    return sum / (double) a->size_bytes;
}

// A fade begins with the old picture's neighbour and ends with what a change at once ends with.
Test(live, prompts_fade)
{
    enum { FRAMES = 24, AT = 10, FADE = 6 };
    static const struct run_step fade[] = { PROMPT(AT, "ink drawing of a street", FADE, 0) };
    static const struct run_step smooth[] = { PROMPT(AT, "ink drawing of a street", FADE, 1) };
    static const struct run_step late[] = { PROMPT(AT, "ink drawing of a street", FADE, 0),
                                            PROMPT(AT + 3, "a bird", 2, 0) };
    struct run_output plain = { .count = 0 }, faded = plain, eased = plain, back = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    run_all(p, &(struct scenario) { fade, 1, FRAMES, { 0 }, 0 }, &faded, "fade");
    run_all(p, &(struct scenario) { smooth, 1, FRAMES, { 0 }, 0 }, &eased, "smooth");
    run_all(p, &(struct scenario) { late, 2, FRAMES, { 0 }, 0 }, &back, "fade in a fade");
    run_check_same(&plain, &faded, 0, AT, "before");
    run_check_differ(&plain, &faded, AT, FRAMES, "fade");
    run_check_same(&faded, &back, 0, AT + 3, "until it turns");
    run_check_differ(&faded, &back, AT + 3, FRAMES, "as soon as it turns");
    run_check_differ(&faded, &eased, AT, AT + 2, "easing");
    cr_assert_lt(distance(plain.frame[AT], faded.frame[AT]),
                 distance(plain.frame[AT + FADE], faded.frame[AT + FADE]) / 2);
    cr_assert(faded.stats.refreshes == 1 && back.stats.refreshes == 1);
    run_drop(&plain);
    run_drop(&faded);
    run_drop(&eased);
    run_drop(&back);
}

Test(live, words_of_guidance)
{
    static const struct run_step steps[] = {
        { 10, { .kind = L2D_CHANGE_NEGATIVE, .text = "ink", .fade_frames = 3 }, 10 },
        PROMPT(11, "a street", 2, 0),
    };
    static const struct scenario scenario = { steps, 2, 18, { 14, 0 }, 0 };
    static const enum l2d_guidance_mode modes[] = { L2D_GUIDANCE_FULL, L2D_GUIDANCE_INITIALIZE };
    for (size_t m = 0; m < COUNT(modes); m++) {
        struct run_output out = { .count = 0 };
        struct l2d_engine_params p = params(NULL);
        p.guidance_mode = modes[m];
        p.guidance = 1.5;
        p.rewarm = L2D_REWARM_AUTO;
        run_all(p, &scenario, &out, l2d_guidance_mode_str(modes[m]));
        cr_assert(out.stats.cuts == 1 && out.stats.rewarms == 1);
        run_drop(&out);
    }
}

// ---- steadied pictures

// What came before the first one, or has not been drawn, cannot be kept.
Test(live, steadied)
{
    static const struct run_step steps[] = {
        { 12, { .kind = L2D_CHANGE_STEADY, .steady = 0 }, 12 },
        { 20, { .kind = L2D_CHANGE_STEADY, .steady = 0.9f }, 20 },
        { 26, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_SOURCE }, 26 },
        { 28, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_DRAWN }, 28 },
    };
    struct run_output plain = { .count = 0 }, steady = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { steps + 2, 2, 34, { 0 }, 0 });
    p.steady = 0.6;
    run_all(p, &(struct scenario) { steps, 4, 34, { 0 }, 0 }, &steady, "steadied");
    run_check_same(&plain, &steady, 0, 1, "the first");
    run_check_differ(&plain, &steady, 1, 12, "with a picture before");
    run_check_same(&plain, &steady, 12, 21, "turned off, and none kept");
    run_check_differ(&plain, &steady, 21, 26, "turned on");
    run_check_same(&plain, &steady, 26, 29, "the source, and the first drawn after it");
    run_check_differ(&plain, &steady, 29, 34, "on again");
    run_drop(&plain);
    run_drop(&steady);
}

// ---- the source mixed in

Test(live, mixed)
{
    static const struct run_step steps[] = {
        { 10, { .kind = L2D_CHANGE_MIX, .mix = 0.5f }, 10 },
        { 14, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_SOURCE }, 14 },
        { 16, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_DRAWN }, 16 },
        { 20, { .kind = L2D_CHANGE_MIX, .mix = 0 }, 20 },
    };
    struct run_output plain = { .count = 0 }, mixed = plain, masked = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { steps + 1, 2, 26, { 0 }, 0 });
    p.can_mix = true;
    run_all(p, &(struct scenario) { steps, 4, 26, { 0 }, 0 }, &mixed, "mixed");
    run_check_same(&plain, &mixed, 0, 10, "nothing mixed in yet");
    run_check_differ(&plain, &mixed, 10, 14, "half");
    run_check_same(&plain, &mixed, 14, 16, "the source alone");
    run_check_differ(&plain, &mixed, 16, 20, "half again");
    run_check_same(&plain, &mixed, 20, 26, "nothing any more");

    // A black mask is the source, a white one what is drawn.
    struct l2d_pixel_format grey = { .num_components = 1, .full_range = true };
    struct l2d_frame *mask = NULL;
    grey.component[0] = (struct l2d_component) { .step_bytes = 1, .depth_bits = 8 };
    cr_assert_eq(l2d_frame_create(&mask, 2, 1, &grey, &err), L2D_OK);
    p.can_mix = false;
    p.mask = mask;
    mask->data[0] = mask->data[1] = 255;
    run_all(p, &(struct scenario) { steps + 1, 2, 26, { 0 }, 0 }, &masked, "white mask");
    run_check_same(&plain, &masked, 0, 26, "white");
    run_drop(&masked);
    mask->data[0] = mask->data[1] = 0;
    run_all(p, &(struct scenario) { .num_frames = 26 }, &masked, "black mask");
    run_drop(&mixed);
    p.mask = NULL;
    p.mix = 1;
    run_all(p, &(struct scenario) { .num_frames = 26 }, &mixed, "the source mixed in alone");
    run_check_same(&masked, &mixed, 0, 26, "black");
    run_check_differ(&plain, &mixed, 0, 14, "the source");
    run_drop(&plain);
    run_drop(&mixed);
    run_drop(&masked);
    l2d_frame_unref(&mask);
}

// Mean difference between the pictures of a picture that stands still, drawn with noise of its own
// each time.
static double restlessness(double share)
{
    enum { FRAMES = 20 };
    struct run_output out = { .count = 0 };
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params p = params(&out);
    double sum = 0;
    p.noise = L2D_NOISE_ALL_FRESH;
    p.steady = share;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < FRAMES; f++) {
        struct l2d_frame *frame = golden_frame(3, W, H);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    l2d_engine_destroy(&engine);
    for (unsigned f = 10; f < out.count; f++)
        for (uint64_t i = 0; i < out.frame[f]->size_bytes; i++)
            sum += abs(out.frame[f]->data[i] - out.frame[f - 1]->data[i]);
    run_drop(&out);
    return sum;
}

Test(live, steadied_pictures_flicker_less)
{
    double plain = restlessness(-1), steady = restlessness(0.8);
    cr_assert(steady < plain / 2, "%g, without %g", steady, plain);
}

// ---- scenes

// The frame with which a scene begins, and all after it, see nothing of the scene before: what was
// shown before it does not matter. With noise that is the same for all frames the ninth frame of
// the scene is drawn like the ninth of a stream that begins with it.
Test(live, scenes_begin_anew)
{
    enum { CUT = 13, FRAMES = 30 };
    struct run_output plain = { .count = 0 }, kept = plain, cut = plain, alone = plain;
    const struct scenario scenario = { NULL, 0, FRAMES, { CUT }, 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    p.user = &kept;
    p.rewarm = L2D_REWARM_NEVER;
    run(&p, &scenario);
    p.rewarm = L2D_REWARM_AUTO;
    run_all(p, &scenario, &cut, "cut");
    cr_assert(cut.stats.cuts == 1 && cut.stats.rewarms == 2, "%d cuts, %d re-warms",
              (int) cut.stats.cuts, (int) cut.stats.rewarms);
    run_check_same(&plain, &cut, 0, CUT, "before the cut");
    run_check_differ(&kept, &cut, CUT, FRAMES, "after the cut");
    run_drop(&cut);

    p.noise = L2D_NOISE_ALL_SHARED;
    run_all(p, &scenario, &cut, "cut");
    p.user = &alone;
    run(&p, &(struct scenario) { .num_frames = FRAMES - CUT, .scene = { 0 }, .offset = CUT });
    run_drop(&alone);
    struct l2d_engine *engine = NULL;   // the second scene's pictures from the first frame on
    p.user = &alone;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = CUT; f < FRAMES; f++) {
        struct l2d_frame *frame = input(&scenario, f);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    l2d_engine_destroy(&engine);
    for (unsigned f = CUT + 8; f < FRAMES; f++)
        cr_assert(run_is_same(&cut, f, &alone, f - CUT), "frame %u is not as if it began there", f);
    run_drop(&plain);
    run_drop(&kept);
    run_drop(&cut);
    run_drop(&alone);
}

// Cuts that follow each other closely, in the warm-up, at its end; and none.
Test(live, scenes_in_a_row)
{
    static const struct { unsigned scene[4], cuts, rewarms; } cases[] = {
        { { 0 }, 0, 0 },
        { { 3 }, 1, 1 },
        { { 8 }, 1, 2 },
        { { 10, 11, 12 }, 2, 3 },       // the second waits for the first; the third is usual
        { { 9, 14, 23 }, 3, 5 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct run_output out = { .count = 0 };
        struct scenario scenario = { NULL, 0, 34, { 0 }, 0 };
        memcpy(scenario.scene, cases[i].scene, sizeof(scenario.scene));
        struct l2d_engine_params p = params(NULL);
        p.rewarm = L2D_REWARM_AUTO;
        run_all(p, &scenario, &out, "scenes");
        cr_expect(out.stats.cuts == cases[i].cuts && out.stats.rewarms == cases[i].rewarms,
                  "case %zu: %d cuts, %d re-warms", i, (int) out.stats.cuts,
                  (int) out.stats.rewarms);
        run_drop(&out);
    }
}

// A scene that becomes another in 24 frames, none of which is a cut: new sinks, once it stays.
Test(live, scenes_that_dissolve)
{
    enum { FRAMES = 290, FROM = 230, OVER = 24 };
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params p = params(NULL);
    uint64_t at = 0;
    p.emit = NULL;
    p.steps = "37/50";
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < FRAMES; f++) {
        int part = f < FROM ? 0 : f >= FROM + OVER ? OVER : (int) (f - FROM);
        struct l2d_frame *frame = golden_frame(0, W, H), *to = golden_frame(0, W, H);
        for (uint64_t i = 0; i < frame->size_bytes; i++) {
            int other = to->data[frame->size_bytes - 4 - i / 4 * 4 + i % 4];    // turned around
            frame->data[i] = (uint8_t) (frame->data[i] + (other - frame->data[i]) * part / OVER);
        }
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
        l2d_frame_unref(&to);
        if (!at && l2d_engine_stats(engine).stales)
            at = f;
    }
    struct l2d_engine_stats stats = l2d_engine_stats(engine);
    cr_assert(stats.cuts == 0 && stats.stales == 1 && stats.rewarms == 1,
              "%d cuts, left %d times, %d re-warms", (int) stats.cuts, (int) stats.stales,
              (int) stats.rewarms);
    cr_assert(at > FROM + OVER / 2 && at < FROM + OVER + 30, "left at %d", (int) at);
    l2d_engine_destroy(&engine);
}

Test(live, rewarmed_by_time_or_on_request)
{
    static const struct run_step steps[] = { { 20, { .kind = L2D_CHANGE_REWARM }, 20 } };
    struct run_output plain = { .count = 0 }, often = plain, asked = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = 34 });
    run_all(p, &(struct scenario) { steps, 1, 34, { 0 }, 0 }, &asked, "on request");
    p.rewarm_seconds = 0.39;            // 10 frames
    run_all(p, &(struct scenario) { .num_frames = 34 }, &often, "by time");
    run_check_same(&plain, &often, 0, 10, "before");
    run_check_differ(&plain, &often, 10, 34, "after");
    run_check_same(&plain, &asked, 0, 20, "before");
    run_check_differ(&plain, &asked, 20, 34, "after");
    cr_assert(often.stats.rewarms == 3 && asked.stats.rewarms == 1, "%d, %d",
              (int) often.stats.rewarms, (int) asked.stats.rewarms);
    run_drop(&plain);
    run_drop(&often);
    run_drop(&asked);
}

// ---- depths

// In chunks a depth network sees several frames together: those of a chunk that becomes whole, and
// none where a prompt, a cut, other steps or the end come first. The range of depths that follows
// the frames is theirs in their order.
Test(live, depths_of_a_chunk)
{
    static const struct run_step steps[] = {
        PROMPT(12, "ink drawing of a street", 0, 0),
        { 31, { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, 31 },
        { 34, { .kind = L2D_CHANGE_SEED, .seed = 9 }, 34 },
    };
    static const struct scenario scenarios[] = {
        { NULL, 0, 30, { 0 }, 0 }, { steps, COUNT(steps), 39, { 21, 23, 0 }, 0 },
    };
    static const uint32_t chunks[] = { 8, 5, 4, 3 };
    golden_model_remove(&model);
    golden_model_make(&model, "narrowd");
    for (size_t s = 0; s < COUNT(scenarios); s++) {
        struct run_output batch = { .count = 0 }, other = { .count = 0 };
        struct l2d_engine_params p = params(&batch);
        p.more_steps[0] = "30/50";
        p.rewarm = L2D_REWARM_AUTO;
        run(&p, &scenarios[s]);
        cr_assert_eq(batch.stats.cuts, 2 * s);
        p.user = &other;
        for (size_t i = 0; i < COUNT(chunks); i++) {
            char what[48];
            p.chunk = chunks[i];
            snprintf(what, sizeof(what), "scenario %zu, chunks of %u", s, p.chunk);
            run_on(i % 2 ? gpu : swapped_gpu, &p, &scenarios[s]);
            run_check_same(&batch, &other, 0, scenarios[s].num_frames, what);
            run_drop(&other);
        }
        run_drop(&batch);
    }
}

// ---- steps, noise and what is shown

// Sets of 3, 1 and 2 steps: nothing is lost, and what was in flight ends as it began.
Test(live, steps_change)
{
    enum { FRAMES = 32 };
    static const struct run_step steps[] = {
        { 11, { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, 11 },
        { 18, { .kind = L2D_CHANGE_STEPS, .step_set = 2 }, 18 },
        { 20, { .kind = L2D_CHANGE_STEPS, .step_set = 0 }, 20 },
    };
    static const struct run_step early[] = {
        { 0, { .kind = L2D_CHANGE_STEPS, .step_set = 2 }, 0 },
        { 3, { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, 8 },
    };
    struct run_output plain = { .count = 0 }, changed = plain, one = plain, two = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    p.more_steps[0] = "37/50";
    p.more_steps[1] = "25,37/50";
    run_all(p, &(struct scenario) { steps, 3, FRAMES, { 26, 0 }, 0 }, &changed, "steps");
    run_check_same(&plain, &changed, 0, 11, "before");
    run_check_differ(&plain, &changed, 11, 26, "after");
    cr_assert_eq(changed.stats.rewarms, 4, "%d re-warms", (int) changed.stats.rewarms);
    run_drop(&changed);

    // A set that was changed to before the first frame is like one that there was from the start.
    run_all(p, &(struct scenario) { early, 1, 14, { 0 }, 0 }, &one, "at the start");
    p.steps = "25,37/50";
    p.user = &two;
    run(&p, &(struct scenario) { .num_frames = 14 });
    run_check_same(&one, &two, 0, 14, "from the start");
    p.steps = "25,30,37/50";
    run_all(p, &(struct scenario) { early, 2, 14, { 0 }, 0 }, &changed, "in the warm-up");
    run_check_same(&one, &changed, 0, 8, "in the warm-up");
    run_check_differ(&one, &changed, 8, 14, "after the warm-up");
    run_drop(&plain);
    run_drop(&changed);
    run_drop(&one);
    run_drop(&two);
}

Test(live, seed_and_noise_change)
{
    enum { FRAMES = 16, AT = 10 };
    static const struct run_step steps[2][1] = {
        { { AT, { .kind = L2D_CHANGE_SEED, .seed = 77 }, AT } },
        { { AT, { .kind = L2D_CHANGE_NOISE, .noise = L2D_NOISE_ALL_SHARED }, AT } },
    };
    struct run_output plain = { .count = 0 }, changed = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    for (int i = 0; i < 2; i++) {
        run_all(p, &(struct scenario) { steps[i], 1, FRAMES, { 0 }, 0 }, &changed, "noise");
        run_check_same(&plain, &changed, 0, AT, "before");
        run_check_differ(&plain, &changed, AT, FRAMES, "after");
        run_drop(&changed);
    }
    run_drop(&plain);
}

#define SHOW(at, what) { at, { .kind = L2D_CHANGE_SHOW, .show = what }, at }

// The source comes out as it went in, a frozen picture repeats; then drawing goes on.
Test(live, what_is_shown)
{
    enum { FRAMES = 36 };
    static const struct run_step steps[] = {
        SHOW(12, L2D_SHOW_SOURCE), SHOW(15, L2D_SHOW_DRAWN), SHOW(19, L2D_SHOW_FROZEN),
        SHOW(22, L2D_SHOW_SOURCE), SHOW(23, L2D_SHOW_FROZEN), SHOW(25, L2D_SHOW_DRAWN),
    };
    static const struct scenario scenario = { steps, 6, FRAMES, { 24, 0 }, 0 };
    struct run_output plain = { .count = 0 }, out = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    run_all(p, &scenario, &out, "shown");
    run_check_same(&plain, &out, 0, 12, "before");
    for (unsigned f = 12; f < 24; f++) {
        struct l2d_frame *source = input(&scenario, f);
        bool is_source = distance(out.frame[f], source) < 0.01;
        bool is_last = run_is_same(&out, f, &out, f - 1);
        cr_assert_eq(is_source, f < 15 || f == 22, "frame %u and its source", f);
        cr_assert_eq(is_last, (f >= 19 && f < 22) || f == 23, "frame %u and the last", f);
        l2d_frame_unref(&source);
    }
    cr_assert(run_is_same(&out, 24, &out, 22) && !run_is_same(&out, 25, &out, 24));
    cr_assert_eq(out.stats.rewarms, 2, "the cut while nothing is drawn, and what follows it: %d",
                 (int) out.stats.rewarms);
    run_drop(&plain);
    run_drop(&out);
}

// Frames before number 8 that are in no warm-up have structures of their own: what is drawn does
// not depend on for how long the source was shown before.
Test(live, depths_without_a_warm_up)
{
    enum { DRAWN = 12 };
    static const unsigned begins[] = { 3, 13 };
    struct run_output out[COUNT(begins)] = { { .count = 0 }, { .count = 0 } };
    golden_model_remove(&model);
    golden_model_make(&model, "narrowd");
    for (size_t i = 0; i < COUNT(begins); i++) {
        unsigned begin = begins[i];
        const struct run_step steps[] = { SHOW(0, L2D_SHOW_SOURCE), SHOW(begin, L2D_SHOW_DRAWN) };
        struct l2d_engine_params p = params(&out[i]);
        p.noise = L2D_NOISE_ALL_SHARED;
        p.rewarm = L2D_REWARM_NEVER;
        p.steady = -1;
        run(&p, &(struct scenario) { steps, 2, begin + DRAWN, { 0 }, 100 - begin });
    }
    for (unsigned f = 0; f < DRAWN; f++)
        cr_assert(run_is_same(&out[0], begins[0] + f, &out[1], begins[1] + f), "frame %u", f);
    run_drop(&out[0]);
    run_drop(&out[1]);
}

// Nothing has been drawn yet, or not enough: what is shown waits, or the stream begins with it.
Test(live, what_is_shown_at_first)
{
    static const struct run_step steps[][2] = {
        { SHOW(0, L2D_SHOW_SOURCE), SHOW(3, L2D_SHOW_DRAWN) },
        { { 2, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_SOURCE }, 8 },
          SHOW(14, L2D_SHOW_DRAWN) },
        { SHOW(0, L2D_SHOW_FROZEN), SHOW(11, L2D_SHOW_DRAWN) },
        { SHOW(0, L2D_SHOW_SOURCE), SHOW(13, L2D_SHOW_FROZEN) },
    };
    static const unsigned sources[][2] = { { 0, 3 }, { 8, 14 }, { 0, 0 }, { 0, 13 } };
    for (size_t i = 0; i < COUNT(steps); i++) {
        struct run_output out = { .count = 0 };
        const struct scenario scenario = { steps[i], 2, 18, { 0 }, 0 };
        run_all(params(NULL), &scenario, &out, "shown");
        for (unsigned f = 0; f < 18; f++) {
            struct l2d_frame *source = input(&scenario, f);
            bool expected = f >= sources[i][0] && f < sources[i][1];
            cr_assert_eq(distance(out.frame[f], source) < 0.01, expected, "%d: frame %u", (int) i,
                         f);
            l2d_frame_unref(&source);
        }
        run_drop(&out);
    }
}

// The filter does not hold back what has changed; all frames come out.
Test(live, changes_with_the_filter)
{
    static const struct run_step steps[] = {
        PROMPT(14, "ink", 3, 0), SHOW(20, L2D_SHOW_FROZEN), SHOW(23, L2D_SHOW_DRAWN),
        { 26, { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, 26 },
    };
    struct l2d_engine_params p = params(NULL);
    p.skip_similar = 0.5;
    p.more_steps[0] = "37/50";
    for (int b = 0; b < 2; b++) {
        struct run_output out = { .count = 0 };
        p.user = &out;
        p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
        run(&p, &(struct scenario) { steps, 4, 36, { 0 }, 0 });
        cr_assert_gt(out.stats.frames_skipped, 5);
        for (unsigned f = 14; f < 17; f++)
            cr_assert(!run_is_same(&out, f, &out, f - 1), "frame %u", f);
        run_drop(&out);
    }
}

Test(live, what_cannot_change)
{
    static const struct { struct l2d_change change; const char *want; } cases[] = {
        { { .kind = L2D_CHANGE_STEPS, .step_set = 1 }, "step set 1: there are 1" },
        { { .kind = L2D_CHANGE_PROMPT, .text = "a (bird:9)" }, "prompt: column 8: a weight" },
        { { .kind = L2D_CHANGE_NEGATIVE, .text = "a" }, "only the guidance modes" },
        { { .kind = L2D_CHANGE_STEADY, .steady = 1 }, "steady 1: must be within 0..0.95" },
        { { .kind = L2D_CHANGE_STEADY, .steady = -0.5f }, "steady -0.5: must be" },
        { { .kind = L2D_CHANGE_MIX, .mix = 0.5f }, "mix: sources are not kept" },
        { { .kind = L2D_CHANGE_MIX, .mix = 1.5f }, "mix 1.5: must be within 0..1" },
        { { .kind = L2D_CHANGE_NOISE, .noise = (enum l2d_noise_choice) 99 }, "noise 99" },
        { { .kind = L2D_CHANGE_SHOW, .show = (enum l2d_show) 99 }, "show 99" },
        { { .kind = (enum l2d_change_kind) 99 }, "kind 99" },
    };
    struct run_output plain = { .count = 0 }, out = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = 12 });
    struct l2d_engine *engine = NULL;
    p.user = &out;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < 12; f++) {
        for (size_t i = 0; i < COUNT(cases); i++) {
            cr_assert_eq(l2d_engine_change(engine, &cases[i].change, NULL, &err), L2D_EINVAL);
            cr_assert(strstr(err.msg, cases[i].want), "%s", err.msg);
        }
        struct l2d_frame *frame = input(&(struct scenario) { .offset = 0 }, f);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_engine_stats(engine).changes, 0);
    l2d_engine_destroy(&engine);
    run_check_same(&plain, &out, 0, 12, "after changes that were refused");
    run_drop(&plain);
    run_drop(&out);

    p.more_steps[0] = "37,30/50";
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "--more-steps 37,30/50"), "%s", err.msg);
    p = params(&out);
    p.rewarm_seconds = -1;
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "-1 seconds"), "%s", err.msg);
}

// ---- failures on the way

// A stream with changes in which the nth call of a kind fails; 0: none. *created: the number of
// those before the first frame. returns the number of all.
static uint64_t run_with_fault(enum fault fault, uint64_t nth, int code, uint64_t *created)
{
    static const struct l2d_change changes[] = {
        { .kind = L2D_CHANGE_PROMPT, .text = "ink", .fade_frames = 2 },
        { .kind = L2D_CHANGE_STEPS, .step_set = 1 },
        { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_FROZEN },
    };
    struct run_output out = { .count = 0 };
    struct l2d_engine_params p = params(&out);
    struct l2d_engine *engine = NULL;
    int rc = L2D_OK;
    p.more_steps[0] = "37/50";
    faults_begin(fault, nth);
    cr_assert_eq(l2d_engine_create(&engine, gpu, &p, &err), L2D_OK, "%s", err.msg);
    *created = faults_count();
    for (unsigned f = 0; f < 14 && rc == L2D_OK; f++) {
        faults_pause();
        struct l2d_frame *frame = input(&(struct scenario) { .offset = 0 }, f);
        faults_continue();
        int refused = f >= 9 && f % 2 ? l2d_engine_change(engine, &changes[(f - 9) / 2], NULL, &err)
                                      : L2D_OK;
        cr_assert(refused == L2D_OK || refused == code, "frame %u: %d", f, refused);
        rc = l2d_engine_push(engine, frame, &err);
        l2d_frame_unref(&frame);
    }
    if (rc == L2D_OK)
        rc = l2d_engine_finish(engine, &err);
    cr_assert(rc == L2D_OK || rc == code, "fault %d, number %d: %d, %s", (int) fault, (int) nth, rc,
              err.msg);
    cr_assert(rc != L2D_OK || out.count == 14, "%u frames", out.count);
    uint64_t count = faults_count();
    l2d_engine_destroy(&engine);
    run_drop(&out);
    cr_assert_eq(faults_end(), 0, "fault %d, number %d: allocations are left", (int) fault,
                 (int) nth);
    return count;
}

Test(live, survives_failures)
{
    static const struct { enum fault fault; int code; } faults[] = {
        { FAULT_ALLOC, L2D_ENOMEM }, { FAULT_SUBMIT, L2D_EGPU },
    };
    uint64_t created, ignored;
    struct run_output out = { .count = 0 };
    struct l2d_engine_params p = params(&out);
    p.more_steps[0] = "37/50";
    run(&p, &(struct scenario) { .num_frames = 1 });        // programs stay with the device
    run_drop(&out);
    for (size_t i = 0; i < COUNT(faults); i++) {
        uint64_t count = run_with_fault(faults[i].fault, 0, L2D_OK, &created);
        cr_assert_gt(count, created);
        for (uint64_t k = 0; k < 8; k++)
            run_with_fault(faults[i].fault, created + 1 + k * (count - created - 1) / 7,
                           faults[i].code, &ignored);
    }
}
