// SPDX-License-Identifier: Apache-2.0
// The engine against the PyTorch reference, activation by activation (tests/data/README.md): every
// entry of the golden files must be visited by the engine's probe and agree. A run that fails says
// which activation was the first to differ, in the order of execution.
//
// Tolerances are relative L2 errors: of the samples that an entry holds, and of its norm. Where the
// samples happen to be small (after a ReLU all may be 0), they are measured by what the tensor's
// norm lets expect of as many. fp32: sums in another order. fp16: every step adds to what the one
// before has rounded; the reference with all modules' inputs and outputs rounded to fp16 is off by
// up to 4.4e-3, 5.4e-3 and 1.34e-2 with 1, 2 and 4 steps. fp32 with keys and values in bytes: where
// a value lies next to the middle of two bytes, a last bit decides which it becomes, so that 1e-6
// grows to 1e-3 within some frames. Up to the first streamed frame, which sees bytes for the first
// time, little of that has happened: were its own keys seen as bytes too, it would be off by 1e-3.
//
// With L2D_TEST_ALL in the environment every case runs in every way, which takes minutes on a CPU.
// With L2D_TEST_VERBOSE every entry's error is printed.
#include <criterion/criterion.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/golden_model.h"
#include "support/gpu_test.h"
#include "tensor/safetensors.h"

#define MAX_SAMPLES 256
#define WARMUP_ROWS 8

// Layers of the codec that never are in memory: a ReLU or upsampling follows that the convolution
// behind or before does on its way. Or they are there as something else: with the scaling factor,
// as latent.image, or with a fourth channel.
static const struct { const char *model, *activation; } fused[] = {
    { "tiny3", "vae.decoder.layers.0" }, { "tiny3", "vae.decoder.layers.4" },
    { "tiny3", "vae.decoder.layers.7" }, { "tiny3", "vae.encoder.layers.7" },
    { "narrow4", "vae.decoder.layers.0" }, { "narrow4", "vae.decoder.layers.4" },
    { "narrow4", "vae.decoder.layers.7" }, { "narrow4", "vae.decoder.layers.10" },
    { "narrow4", "vae.decoder.layers.13" },
};

// Of an entry of a golden file, whose case has been taken off its name.
static double tolerance(const char *entry, enum l2d_precision precision, int num_steps, bool int8)
{
    unsigned frame;
    bool numbered = sscanf(entry, "frame.%u", &frame) == 1;
    if (precision != L2D_PRECISION_FP32)
        return num_steps > 2 ? 2e-2 : 1e-2;
    if (!int8 || (!numbered && strncmp(entry, "final/kv", 8) != 0))
        return 1e-4;
    return !numbered ? 6e-3 : frame <= WARMUP_ROWS ? 3e-4 : 2e-3;
}

struct run {
    const char *name;                   // of the case
    enum l2d_batching batching;
    enum l2d_precision precision;
    enum l2d_tier tier;
};

// One entry of the golden file, and what the engine made of it.
struct record {
    char name[128];                     // without the case
    double norm;
    uint64_t count;
    unsigned num_samples;
    float want[MAX_SAMPLES], got[MAX_SAMPLES];
    double sum2;                        // of all that was visited
    uint32_t rows_seen;                 // bits
    unsigned order;                     // of the first visit
    double error, allowed;
};

struct golden_run {
    struct record *record;              // sorted by name
    unsigned num_records;
    unsigned num_visits;
    uint32_t num_out, want_out;
    bool texts_ignored;
    char problem[256];                  // the first of the probe's
};

static int by_name(const void *a, const void *b)
{
    return strcmp(((const struct record *) a)->name, ((const struct record *) b)->name);
}

static struct record *find(struct golden_run *g, const char *name)
{
    struct record key;
    snprintf(key.name, sizeof(key.name), "%s", name);
    return bsearch(&key, g->record, g->num_records, sizeof(key), by_name);
}

static uint64_t sample_at(const struct record *r, unsigned s)
{
    return (s * UINT64_C(2654435761) + 12345) % r->count;
}

static bool is_fused(const char *model, const char *entry)
{
    const char *activation = strrchr(entry, '/') + 1;
    for (size_t i = 0; i < COUNT(fused); i++)
        if (!strcmp(fused[i].model, model) && !strcmp(fused[i].activation, activation))
            return true;
    return false;
}

static void read_records(struct golden_run *g, const struct l2d_safetensors *st, const char *model,
                         const char *name)
{
    size_t total = l2d_safetensors_count(st), len = strlen(name);
    g->record = calloc(total, sizeof(*g->record));
    cr_assert_not_null(g->record);
    for (size_t i = 0; i < total; i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(st, i);
        if (strncmp(e->name, name, len) != 0 || e->name[len] != '/' || is_fused(model, e->name))
            continue;
        struct record *r = &g->record[g->num_records++];
        float value[2 + MAX_SAMPLES];
        cr_assert(e->dtype == L2D_SAFETENSORS_F32 && e->ndim == 1 &&
                  e->dims[0] > 2 && e->dims[0] <= COUNT(value), "%s", e->name);
        memcpy(value, e->data, e->size_bytes);
        cr_assert(strlen(e->name + len + 1) < sizeof(r->name));
        strcpy(r->name, e->name + len + 1);
        r->norm = (double) value[0];
        r->count = (uint64_t) value[1];
        r->num_samples = (unsigned) e->dims[0] - 2;
        memcpy(r->want, value + 2, r->num_samples * sizeof(float));
    }
    cr_assert(g->num_records > 0, "no entries for case %s", name);
    qsort(g->record, g->num_records, sizeof(*g->record), by_name);
}

static void problem(struct golden_run *g, const char *what, const char *name)
{
    if (!g->problem[0])
        snprintf(g->problem, sizeof(g->problem), "%s %s", name, what);
}

// Values row*count .. of a record's tensor.
static void visit(struct golden_run *g, struct record *r, uint32_t row, uint64_t count,
                  const float *data)
{
    if (!r->rows_seen)
        r->order = g->num_visits++;
    if (r->rows_seen >> row & 1)
        problem(g, "was visited twice", r->name);
    r->rows_seen |= 1u << row;
    for (uint64_t i = 0; i < count; i++)
        r->sum2 += (double) data[i] * (double) data[i];
    for (unsigned s = 0; s < r->num_samples; s++) {
        uint64_t at = sample_at(r, s);
        if (at / count == row)
            r->got[s] = data[at % count];
    }
}

static void on_probe(void *user, uint32_t frame, int step, const char *name, const float *data,
                     int32_t h, int32_t w, int32_t c)
{
    struct golden_run *g = user;
    uint64_t count = (uint64_t) h * (uint64_t) w * (uint64_t) c;
    bool warmup = step >= 0 && frame < WARMUP_ROWS, rewarm = step >= L2D_PROBE_SINK;
    uint32_t row = rewarm ? (uint32_t) (step / L2D_PROBE_SINK) - 1 : warmup ? frame : 0;
    char full[128];
    if (strncmp(name, "text_model.", 11) == 0)
        snprintf(full, sizeof(full), "text/%s", name);
    else if (rewarm)
        snprintf(full, sizeof(full), "rewarm.%u.%d/%s", frame, step % L2D_PROBE_SINK, name);
    else if (warmup)
        snprintf(full, sizeof(full), "warmup.%d/%s", step, name);
    else if (step >= 0)
        snprintf(full, sizeof(full), "frame.%u.step.%d/%s", frame, step, name);
    else
        snprintf(full, sizeof(full), "frame.%u/%s", frame, name);
    struct record *r = find(g, full);
    if (!r || (g->texts_ignored && strncmp(full, "text/", 5) == 0))
        return;                         // the files hold a selection
    if (r->count != count * (warmup || rewarm ? WARMUP_ROWS : 1))
        problem(g, "has another number of elements", full);
    else
        visit(g, r, row, count, data);
}

static void on_frame(void *user, struct l2d_frame *frame)
{
    struct golden_run *g = user;
    if (frame->pts != (int64_t) g->num_out)
        problem(g, "is not the pts of the next frame", "what came out");
    g->num_out++;
    l2d_frame_unref(&frame);
}

static void read_caches(struct golden_run *g, struct l2d_engine *engine)
{
    struct l2d_error err = { 0 };
    for (uint32_t i = 0; i < 1000; i++) {
        char name[32];
        snprintf(name, sizeof(name), "final/kv/%u", i);
        struct record *r = find(g, name);
        if (!r)
            return;
        uint64_t count = 0;
        cr_assert_eq(l2d_engine_read_cache(engine, i, NULL, &count, &err), L2D_OK, "%s", err.msg);
        float *data = malloc(count * sizeof(*data));
        cr_assert_not_null(data);
        cr_assert_eq(l2d_engine_read_cache(engine, i, data, &count, &err), L2D_OK, "%s", err.msg);
        if (count != r->count)
            problem(g, "has another number of elements", name);
        else
            visit(g, r, 0, count, data);
        free(data);
    }
}

static double error_of(const struct record *r)
{
    double diff2 = 0, want2 = 0;
    for (unsigned s = 0; s < r->num_samples; s++) {
        double d = (double) r->got[s] - (double) r->want[s];
        diff2 += d * d;
        want2 += (double) r->want[s] * (double) r->want[s];
    }
    double expected2 = r->norm * r->norm * r->num_samples / (double) r->count;
    double samples = sqrt(diff2 / fmax(fmax(want2, expected2), 1e-300));
    double norm = fabs(sqrt(r->sum2) - r->norm) / fmax(r->norm, 1e-300);
    return isnan(samples) || isnan(norm) ? INFINITY : fmax(samples, norm);
}

static void judge(struct golden_run *g, const char *title, double seconds)
{
    const struct record *worst = NULL, *first = NULL, *missing = NULL;
    unsigned num_missing = 0, num_bad = 0;
    for (unsigned i = 0; i < g->num_records; i++) {
        struct record *r = &g->record[i];
        bool sinks = strncmp(r->name, "warmup.", 7) == 0 || strncmp(r->name, "rewarm.", 7) == 0;
        uint32_t all = sinks ? (1u << WARMUP_ROWS) - 1 : 1;
        if (r->rows_seen != all) {
            missing = missing ? missing : r;
            num_missing++;
            continue;
        }
        r->error = error_of(r);
        if (!worst || r->error > worst->error)
            worst = r;
        if (r->error > r->allowed && (num_bad++ == 0 || r->order < first->order))
            first = r;
    }
    fprintf(stderr, "%s: %u entries, %.1f s, worst %.3g: %s\n", title, g->num_records, seconds,
            worst ? worst->error : NAN, worst ? worst->name : "none was visited");
    cr_expect(!g->problem[0], "%s: %s", title, g->problem);
    cr_expect(num_missing == 0, "%s: %u entries were not visited, such as %s", title, num_missing,
              missing ? missing->name : "");
    cr_expect(num_bad == 0, "%s: %u entries differ too much; first, by %.3g of at most %.1g: %s",
              title, num_bad, first ? first->error : 0, first ? first->allowed : 0,
              first ? first->name : "");
    cr_expect(g->num_out == g->want_out, "%s: %u frames came out of %u", title, g->num_out,
              g->want_out);
    if (getenv("L2D_TEST_VERBOSE"))
        for (unsigned order = 0; order < g->num_visits; order++)
            for (unsigned i = 0; i < g->num_records; i++)
                if (g->record[i].rows_seen && g->record[i].order == order)
                    fprintf(stderr, "  %-60s %.3g\n", g->record[i].name, g->record[i].error);
}

static void run_case(struct l2d_gpu *gpu, const struct golden_model *model,
                     const struct l2d_safetensors *golden, const struct run *run)
{
    const struct golden_case *c = golden_model_case(model, run->name);
    struct golden_run g = { .want_out = c->num_frames };
    struct l2d_error err = { 0 };
    struct l2d_engine *engine = NULL;
    double start = l2d_clock_s();
    read_records(&g, golden, model->name, c->name);
    golden_model_set(model, c);
    cr_assert_eq(l2d_engine_create(&engine, gpu, &(struct l2d_engine_params) {
        .model = model->dir, .prompt = c->prompt, .steps = c->steps,
        .width = c->width, .height = c->height, .fit = L2D_FIT_STRETCH,
        .guidance_mode = (enum l2d_guidance_mode) c->guidance_mode, .guidance = c->guidance,
        .guidance_delta = c->guidance_delta, .negative = c->negative,
        .batching = run->batching, .precision = run->precision, .seed = c->seed,
        .kv_type = c->kv_int8 ? L2D_KV_INT8
                 : run->precision == L2D_PRECISION_FP16 ? L2D_KV_FP16 : L2D_KV_AUTO,
        .noise = c->shared_noise ? L2D_NOISE_ALL_SHARED : L2D_NOISE_ALL_FRESH,
        .rgba = true, .emit = on_frame, .probe = on_probe, .user = &g,
    }, &err), L2D_OK, "%s", err.msg);
    for (uint32_t f = 0; f < c->num_frames; f++) {
        struct l2d_frame *frame = golden_frame(f, c->width, c->height);
        if (c->cut)
            golden_frame_set_scene(frame, f >= c->cut);
        if (c->change.frame && f == c->change.frame) {
            g.texts_ignored = true;     // the first text is the one that is recorded
            cr_assert_eq(l2d_engine_change(engine, &(struct l2d_change) {
                .kind = L2D_CHANGE_PROMPT, .text = c->change.prompt,
                .fade_frames = c->change.fade_frames,
            }, NULL, &err), L2D_OK, "%s", err.msg);
        }
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    read_caches(&g, engine);
    for (unsigned i = 0; i < g.num_records; i++)
        g.record[i].allowed = tolerance(g.record[i].name, run->precision,
                                        l2d_engine_info(engine)->num_steps, c->kv_int8);
    l2d_engine_destroy(&engine);

    char title[128];
    snprintf(title, sizeof(title), "%s/%s %s %s %s", model->name, c->name,
             run->batching == L2D_BATCH ? "batch" : "sequential",
             run->precision == L2D_PRECISION_FP32 ? "fp32" : "fp16", l2d_tier_str(run->tier));
    judge(&g, title, l2d_clock_s() - start);
    cr_expect(l2d_gpu_num_validation_messages(gpu) == 0, "%s: %u validation messages", title,
              l2d_gpu_num_validation_messages(gpu));
    free(g.record);
}

static void print_log(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    (void) user;
    fprintf(stderr, "%s: %s: %s\n", name, l2d_log_level_str(level), line);
}

static void open_gpu(struct l2d_gpu **gpu, enum l2d_tier tier)
{
    struct l2d_error err = { 0 };
    if (*gpu && l2d_gpu_caps(*gpu)->tier == tier)
        return;
    l2d_gpu_destroy(gpu);
    cr_assert_eq(l2d_gpu_create(gpu, &(struct l2d_gpu_params) {
        .cache_dir = "", .validation = true, .tier = tier,
        .log = { .sink = print_log, .level = L2D_LOG_WARN, .name = "gpu" },
    }, &err), L2D_OK, "%s", err.msg);
}

static void run_all(const char *name, const struct run *runs, size_t num_runs)
{
    struct golden_model model;
    struct l2d_error err = { 0 };
    struct l2d_safetensors *golden = NULL;
    struct l2d_gpu *gpu = NULL;
    char path[512];
    golden_model_make(&model, name);
    snprintf(path, sizeof(path), "%s/golden_%s.safetensors", L2D_TEST_DATA, name);
    cr_assert_eq(l2d_safetensors_open(&golden, path, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < num_runs && !getenv("L2D_TEST_ALL"); i++) {
        open_gpu(&gpu, runs[i].tier);
        run_case(gpu, &model, golden, &runs[i]);
    }
    for (unsigned i = 0; i < 8 * model.num_cases && getenv("L2D_TEST_ALL"); i++) {
        struct run run = {
            model.cases[i % model.num_cases].name,
            i / model.num_cases % 2 ? L2D_SEQUENTIAL : L2D_BATCH,
            i / model.num_cases / 2 % 2 ? L2D_PRECISION_FP16 : L2D_PRECISION_FP32,
            i / model.num_cases / 4 ? L2D_TIER_1 : L2D_TIER_0,
        };
        open_gpu(&gpu, run.tier);
        run_case(gpu, &model, golden, &run);
    }
    l2d_gpu_destroy(&gpu);
    l2d_safetensors_close(&golden);
    golden_model_remove(&model);
}

Test(golden, tiny3)
{
    static const struct run runs[] = {
        { "d1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "short", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "prompt", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "prompt", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_0 },
        { "d2", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_0 },
        { "v", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "live", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "live", L2D_SEQUENTIAL, L2D_PRECISION_FP16, L2D_TIER_0 },
        { "d1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_1 },
        { "short", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_1 },
    };
    run_all("tiny3", runs, COUNT(runs));
}

// Keys and values in bytes: D = 1..4.
Test(golden, int8)
{
    static const struct run runs[] = {
        { "kv1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "kv2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "kv2", L2D_SEQUENTIAL, L2D_PRECISION_FP16, L2D_TIER_0 },
        { "kv3", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "kv1", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_1 },
    };
    static const struct run four[] = {
        { "kv4", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "kv4", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_0 },
    };
    if (!getenv("L2D_TEST_ALL")) {      // else tiny3 and narrow4 have them
        run_all("tiny3", runs, COUNT(runs));
        run_all("narrow4", four, COUNT(four));
    }
}

// Guidance: D = 2 and 3, some of them with a model that predicts v.
Test(golden, guidance)
{
    static const struct run runs[] = {
        { "full2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "full2", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "full3", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "full3", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "self2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "self2", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "self3", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "self3", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "initialize2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "initialize2", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "initialize3", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "initialize3", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
    };
    if (!getenv("L2D_TEST_ALL"))        // else tiny3 has them
        run_all("tiny3", runs, COUNT(runs));
}

Test(golden, tier2)
{
    static const struct run runs[] = {
        { "d2", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_2 },
        { "prompt", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_2 },
    };
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    if (!getenv("L2D_TEST_ALL"))        // else these models have been run already
        run_all("tiny3", runs, COUNT(runs));
}

Test(golden, tier3)
{
    static const struct run runs[] = {
        { "d2", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_3 },
    };
    if (!gt_has_matrix2())
        cr_skip_test("the device has no matrices of any size");
    if (!getenv("L2D_TEST_ALL"))        // else these models have been run already
        run_all("tiny3", runs, COUNT(runs));
}

Test(golden, narrow4)
{
    static const struct run runs[] = {
        { "d1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d4", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d4", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d4", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_0 },
    };
    run_all("narrow4", runs, COUNT(runs));
}

Test(golden, narrowd)
{
    static const struct run runs[] = {
        { "d1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_SEQUENTIAL, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "short", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "smooth", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_0 },
        { "d2", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_0 },
        { "d1", L2D_BATCH, L2D_PRECISION_FP32, L2D_TIER_1 },
        { "short", L2D_BATCH, L2D_PRECISION_FP16, L2D_TIER_1 },
    };
    run_all("narrowd", runs, COUNT(runs));
}
