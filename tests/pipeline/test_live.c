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
#include "support/golden_model.h"

#define COUNT(a) (sizeof(a) / sizeof(*(a)))
#define MAX_FRAMES 40
#define W 64
#define H 32

static struct golden_model model;
static struct l2d_gpu *gpu;
static struct l2d_error err;
static unsigned num_gpu_messages;

static void on_log(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    (void) user;
    (void) name;
    num_gpu_messages += level <= L2D_LOG_ERROR;
    fprintf(stderr, "%s\n", line);
}

static void open_all(void)
{
    golden_model_make(&model, "tiny3");
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
        .cache_dir = "", .validation = true, .log = { .sink = on_log, .level = L2D_LOG_ERROR },
    }, &err), L2D_OK, "%s", err.msg);
}

static void close_all(void)
{
    l2d_gpu_destroy(&gpu);
    golden_model_remove(&model);
    if (num_gpu_messages)               // the test has passed already: an assertion is not counted
        abort();
}

TestSuite(live, .init = open_all, .fini = close_all);

// ---- a run: frames in, with changes before some of them

struct output {
    struct l2d_frame *frame[MAX_FRAMES];
    unsigned count;
    struct l2d_engine_stats stats;
    float *cache;                       // number 0, as it is at the end
    uint64_t cache_count;
};

struct step {                           // of a scenario
    unsigned frame;                     // that is pushed next
    struct l2d_change change;
    uint64_t first;                     // frame that can differ, as the engine shall say
};

struct scenario {
    const struct step *step;
    unsigned num_steps, num_frames;
    unsigned scene[4];                  // frames with which another scene begins; 0: no more
    unsigned offset;                    // of the inputs' numbers
};

static void collect(void *user, struct l2d_frame *frame)
{
    struct output *out = user;
    cr_assert(out->count < MAX_FRAMES);
    out->frame[out->count++] = frame;
}

static void drop(struct output *out)
{
    for (unsigned i = 0; i < out->count; i++)
        l2d_frame_unref(&out->frame[i]);
    free(out->cache);
    *out = (struct output) { .count = 0 };
}

static struct l2d_engine_params params(struct output *out)
{
    return (struct l2d_engine_params) {
        .model = model.dir, .width = W, .height = H, .fit = L2D_FIT_STRETCH, .seed = 5,
        .prompt = "a bird", .steps = "25,30,37/50", .precision = L2D_PRECISION_FP32, .rgba = true,
        .emit = collect, .user = out,
    };
}

// A picture of another scene is the negative of what it would be.
static struct l2d_frame *input(const struct scenario *s, unsigned f)
{
    struct l2d_frame *frame = golden_frame(f + s->offset, W, H);
    unsigned scene = 0;
    while (scene < COUNT(s->scene) && s->scene[scene] && f >= s->scene[scene])
        scene++;
    for (uint64_t i = 0; i < frame->size_bytes; i++)
        frame->data[i] = scene % 2 ? (uint8_t) (255 - frame->data[i] / 2)
                                   : (uint8_t) (frame->data[i] / 2);
    frame->pts = 1000 + 40 * (int64_t) f;
    frame->time_base_num = 1;
    frame->time_base_den = 1000;
    return frame;
}

static void run(const struct l2d_engine_params *p, const struct scenario *s)
{
    struct output *out = p->user;
    struct l2d_engine *engine = NULL;
    cr_assert_eq(l2d_engine_create(&engine, gpu, p, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < s->num_frames; f++) {
        for (unsigned i = 0; i < s->num_steps; i++) {
            uint64_t first = UINT64_MAX;
            if (s->step[i].frame != f)
                continue;
            cr_assert_eq(l2d_engine_change(engine, &s->step[i].change, &first, &err), L2D_OK, "%s",
                         err.msg);
            cr_assert_eq(first, s->step[i].first, "change %u: %d", i, (int) first);
        }
        struct l2d_frame *frame = input(s, f);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    out->stats = l2d_engine_stats(engine);
    cr_assert_eq(l2d_engine_read_cache(engine, 0, NULL, &out->cache_count, &err), L2D_OK);
    out->cache = malloc(out->cache_count * sizeof(*out->cache));
    cr_assert_not_null(out->cache);
    cr_assert_eq(l2d_engine_read_cache(engine, 0, out->cache, &out->cache_count, &err), L2D_OK);
    l2d_engine_destroy(&engine);
    cr_assert_eq(out->count, s->num_frames, "%u of %u frames", out->count, s->num_frames);
    for (unsigned f = 0; f < out->count; f++)
        cr_assert_eq(out->frame[f]->pts, 1000 + 40 * (int64_t) f, "frame %u", f);
}

static bool same(const struct output *a, unsigned fa, const struct output *b, unsigned fb)
{
    return memcmp(a->frame[fa]->data, b->frame[fb]->data, a->frame[fa]->size_bytes) == 0;
}

static void check_same(const struct output *a, const struct output *b, unsigned from, unsigned to,
                       const char *what)
{
    for (unsigned f = from; f < to; f++)
        cr_assert(same(a, f, b, f), "%s: frame %u differs", what, f);
}

static void check_differ(const struct output *a, const struct output *b, unsigned from, unsigned to,
                         const char *what)
{
    for (unsigned f = from; f < to; f++)
        cr_assert(!same(a, f, b, f), "%s: frame %u is the same", what, f);
}

// A batch, again, and a sequence: all the same. *out has the batch's.
static void run_all(struct l2d_engine_params p, const struct scenario *s, struct output *out,
                    const char *what)
{
    struct output other = { .count = 0 };
    p.user = out;
    run(&p, s);
    p.user = &other;
    for (int b = 0; b < 2; b++) {
        p.batching = b ? L2D_SEQUENTIAL : L2D_BATCH;
        run(&p, s);
        check_same(out, &other, 0, s->num_frames, what);
        cr_assert_eq(out->stats.rewarms, other.stats.rewarms, "%s", what);
        drop(&other);
    }
}

// ---- words

#define PROMPT(at, words, frames, ease) \
    { at, { .kind = L2D_CHANGE_PROMPT, .text = words, .fade_frames = frames, .easing = ease }, at }

// Nothing of the frames in flight changes, and the sinks are refreshed once.
Test(live, prompt_at_a_frame)
{
    enum { FRAMES = 20, AT = 11 };
    static const struct step steps[] = { PROMPT(AT, "ink drawing of a street", 0, 0) };
    struct output plain = { .count = 0 }, changed = { .count = 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    run_all(p, &(struct scenario) { steps, 1, FRAMES, { 0 }, 0 }, &changed, "prompt");
    check_same(&plain, &changed, 0, AT, "before");
    check_differ(&plain, &changed, AT, FRAMES, "after");
    cr_assert(changed.stats.refreshes == 1 && changed.stats.changes == 1 && !plain.stats.changes);
    drop(&plain);
    drop(&changed);
}

// Sinks that were refreshed under another prompt and then under their own are what they were.
Test(live, sinks_come_back)
{
    static const struct step steps[] = { PROMPT(10, "ink", 0, 0), PROMPT(14, "a bird", 0, 0) };
    struct output plain = { .count = 0 }, changed = { .count = 0 };
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
    drop(&plain);
    drop(&changed);
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
    static const struct step fade[] = { PROMPT(AT, "ink drawing of a street", FADE, 0) };
    static const struct step smooth[] = { PROMPT(AT, "ink drawing of a street", FADE, 1) };
    static const struct step late[] = { PROMPT(AT, "ink drawing of a street", FADE, 0),
                                        PROMPT(AT + 3, "a bird", 2, 0) };
    struct output plain = { .count = 0 }, faded = plain, eased = plain, back = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    run_all(p, &(struct scenario) { fade, 1, FRAMES, { 0 }, 0 }, &faded, "fade");
    run_all(p, &(struct scenario) { smooth, 1, FRAMES, { 0 }, 0 }, &eased, "smooth");
    run_all(p, &(struct scenario) { late, 2, FRAMES, { 0 }, 0 }, &back, "fade in a fade");
    check_same(&plain, &faded, 0, AT, "before");
    check_differ(&plain, &faded, AT, FRAMES, "fade");
    check_same(&faded, &back, 0, AT + 3, "until it turns");
    check_differ(&faded, &back, AT + 3, FRAMES, "as soon as it turns");
    check_differ(&faded, &eased, AT, AT + 2, "easing");
    cr_assert_lt(distance(plain.frame[AT], faded.frame[AT]),
                 distance(plain.frame[AT + FADE], faded.frame[AT + FADE]) / 2);
    cr_assert(faded.stats.refreshes == 1 && back.stats.refreshes == 1);
    drop(&plain);
    drop(&faded);
    drop(&eased);
    drop(&back);
}

Test(live, words_of_guidance)
{
    static const struct step steps[] = {
        { 10, { .kind = L2D_CHANGE_NEGATIVE, .text = "ink", .fade_frames = 3 }, 10 },
        PROMPT(11, "a street", 2, 0),
    };
    static const struct scenario scenario = { steps, 2, 18, { 14, 0 }, 0 };
    static const enum l2d_guidance_mode modes[] = { L2D_GUIDANCE_FULL, L2D_GUIDANCE_INITIALIZE };
    for (size_t m = 0; m < COUNT(modes); m++) {
        struct output out = { .count = 0 };
        struct l2d_engine_params p = params(NULL);
        p.guidance_mode = modes[m];
        p.guidance = 1.5;
        p.rewarm = L2D_REWARM_AUTO;
        run_all(p, &scenario, &out, l2d_guidance_mode_str(modes[m]));
        cr_assert(out.stats.cuts == 1 && out.stats.rewarms == 1);
        drop(&out);
    }
}

// ---- scenes

// The frame with which a scene begins, and all after it, see nothing of the scene before: what was
// shown before it does not matter. With noise that is the same for all frames the ninth frame of
// the scene is drawn like the ninth of a stream that begins with it.
Test(live, scenes_begin_anew)
{
    enum { CUT = 13, FRAMES = 30 };
    struct output plain = { .count = 0 }, kept = plain, cut = plain, alone = plain;
    const struct scenario scenario = { NULL, 0, FRAMES, { CUT }, 0 };
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = FRAMES });
    p.user = &kept;
    run(&p, &scenario);
    p.rewarm = L2D_REWARM_AUTO;
    run_all(p, &scenario, &cut, "cut");
    cr_assert(cut.stats.cuts == 1 && cut.stats.rewarms == 2, "%d cuts, %d re-warms",
              (int) cut.stats.cuts, (int) cut.stats.rewarms);
    check_same(&plain, &cut, 0, CUT, "before the cut");
    check_differ(&kept, &cut, CUT, FRAMES, "after the cut");
    drop(&cut);

    p.noise = L2D_NOISE_ALL_SHARED;
    run_all(p, &scenario, &cut, "cut");
    p.user = &alone;
    run(&p, &(struct scenario) { .num_frames = FRAMES - CUT, .scene = { 0 }, .offset = CUT });
    drop(&alone);
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
        cr_assert(same(&cut, f, &alone, f - CUT), "frame %u is not as if it began there", f);
    drop(&plain);
    drop(&kept);
    drop(&cut);
    drop(&alone);
}

// Cuts that follow each other closely, in the warm-up, at its end; frames without a cut are as ever.
Test(live, scenes_in_a_row)
{
    static const struct { unsigned scene[4], cuts, rewarms; } cases[] = {
        { { 0 }, 0, 0 },
        { { 3 }, 1, 1 },
        { { 8 }, 1, 2 },
        { { 10, 11, 12 }, 2, 3 },       // the second's waits for the first's; then it is usual
        { { 9, 14, 23 }, 3, 5 },
    };
    for (size_t i = 0; i < COUNT(cases); i++) {
        struct output out = { .count = 0 };
        struct scenario scenario = { NULL, 0, 34, { 0 }, 0 };
        memcpy(scenario.scene, cases[i].scene, sizeof(scenario.scene));
        struct l2d_engine_params p = params(NULL);
        p.rewarm = L2D_REWARM_AUTO;
        run_all(p, &scenario, &out, "scenes");
        cr_expect(out.stats.cuts == cases[i].cuts && out.stats.rewarms == cases[i].rewarms,
                  "case %zu: %d cuts, %d re-warms", i, (int) out.stats.cuts,
                  (int) out.stats.rewarms);
        drop(&out);
    }
}

Test(live, rewarmed_by_time_or_on_request)
{
    static const struct step steps[] = { { 20, { .kind = L2D_CHANGE_REWARM }, 20 } };
    struct output plain = { .count = 0 }, often = plain, asked = plain;
    struct l2d_engine_params p = params(&plain);
    run(&p, &(struct scenario) { .num_frames = 34 });
    run_all(p, &(struct scenario) { steps, 1, 34, { 0 }, 0 }, &asked, "on request");
    p.rewarm_seconds = 0.39;            // 10 frames
    run_all(p, &(struct scenario) { .num_frames = 34 }, &often, "by time");
    check_same(&plain, &often, 0, 10, "before");
    check_differ(&plain, &often, 10, 34, "after");
    check_same(&plain, &asked, 0, 20, "before");
    check_differ(&plain, &asked, 20, 34, "after");
    cr_assert(often.stats.rewarms == 3 && asked.stats.rewarms == 1, "%d, %d",
              (int) often.stats.rewarms, (int) asked.stats.rewarms);
    drop(&plain);
    drop(&often);
    drop(&asked);
}
