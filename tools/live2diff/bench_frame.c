// SPDX-License-Identifier: Apache-2.0
// Whole frames, from pixels to pixels. See bench.h.
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "bench.h"
#include "pipeline/engine.h"
#include "pipeline/pace.h"
#include "report.h"

#define MAX_ROWS 256
#define CLIP_FRAMES 8           // of the model's warm-up: then chunks begin
#define WARM_UP_FRAMES 12       // these, and others that fill the steps
#define LIVE_WARM_UP_FRAMES 10
#define MAX_FLIGHT 16           // frames between push and picture

struct run {                    // what one engine did
    struct l2d_engine_info info;
    struct l2d_engine_stats stats;
    uint64_t frames;            // that were measured: whole chunks
    struct histogram wall;
    double fps;
    double live_fps;            // each waited for, with the next one there already; 0: in chunks
    struct histogram live;      // from a frame to its picture
    double cpu_ms;              // processor time of a frame, all threads
    double rewarm_ms;           // of the GPU, for warming the caches anew
};

// When frames went in, and how long those took that have come out, from the first that counts on.
struct bench_flight {
    double pushed_s[MAX_FLIGHT];
    int64_t pushed, out;        // out: below 0 those that were inside before
    struct histogram *latency;
};

static void drop_frame(void *user, struct l2d_frame *frame)
{
    const struct bench *bench = user;
    struct bench_flight *f = bench->flight;
    if (f && f->out++ >= LIVE_WARM_UP_FRAMES)
        histogram_add(f->latency, 1e3 * (l2d_clock_s() - f->pushed_s[(f->out - 1) % MAX_FLIGHT]));
    l2d_frame_unref(&frame);
}

int bench_open_engine(struct bench *bench, const struct model_options *model,
                      struct l2d_engine **out, struct l2d_error *err)
{
    struct l2d_engine_params params = model_engine_params(model, bench->path);
    params.input_width = bench->source[0]->width;
    params.input_height = bench->source[0]->height;
    params.emit = drop_frame;
    params.user = bench;
    params.rewarm = L2D_REWARM_NEVER;           // where the source begins again it cuts
    params.log = l2d_log_named(&bench->log, "engine");
    return l2d_engine_create(out, bench->gpu, &params, err);
}

// What happened since before.
static struct l2d_engine_stats since(struct l2d_engine *engine,
                                     const struct l2d_engine_stats *before)
{
    struct l2d_engine_stats now = l2d_engine_stats(engine);
    now.timed -= before->timed;
    for (int i = 0; i < L2D_NUM_STAGES; i++)
        now.stage_ms[i] -= before->stage_ms[i];
    return now;
}

// What a re-warm takes on top of the frames that it is spread over; of the second, since the first
// builds shaders.
static int measure_rewarm(struct bench *bench, struct l2d_engine *engine, struct run *run,
                          struct l2d_error *err)
{
    int32_t chunk = (int32_t) run->info.chunk, drawn = chunk > 1 ? chunk : run->info.num_steps;
    int32_t pushed = drawn * (int32_t) run->info.draw_every;
    double timed = (double) run->stats.timed;
    int rc = l2d_engine_collect(engine, 0, err);
    for (int i = 0; i < 2 && timed > 0 && rc == L2D_OK; i++) {
        struct l2d_engine_stats before = l2d_engine_stats(engine);
        rc = l2d_engine_change(engine, &(struct l2d_change) { .kind = L2D_CHANGE_REWARM }, NULL,
                               err);
        for (int32_t k = 0; k < pushed && rc == L2D_OK; k++)
            rc = l2d_engine_push(engine, bench->source[0], err);
        if (rc == L2D_OK)
            rc = l2d_engine_collect(engine, 0, err);
        run->rewarm_ms = since(engine, &before).stage_ms[L2D_STAGE_UNET] -
                         pushed * run->stats.stage_ms[L2D_STAGE_UNET] / timed;
    }
    return rc;
}

// As a live stream does whose next frame is always there; after some, since it has to know how long
// they take.
static int measure_live(struct bench *bench, struct l2d_engine *engine, struct run *run,
                        struct l2d_error *err)
{
    struct l2d_pace pace = { 0 };
    int64_t frames = LIVE_WARM_UP_FRAMES + (int64_t) bench->frames;
    double begin_s = 0;
    int rc = L2D_OK;
    if (run->info.chunk > 1)
        return rc;
    struct l2d_engine_stats stats = l2d_engine_stats(engine);
    struct bench_flight flight = {
        .out = (int64_t) stats.frames_out - (int64_t) stats.frames_in, .latency = &run->live,
    };
    bench->flight = &flight;
    while (flight.pushed < frames && rc == L2D_OK) {
        double now_s = l2d_clock_s();
        begin_s = flight.pushed == LIVE_WARM_UP_FRAMES ? now_s : begin_s;
        flight.pushed_s[flight.pushed++ % MAX_FLIGHT] = now_s;
        rc = l2d_pace_push(&pace, engine, bench->source[flight.pushed % bench->num_source], err);
    }
    run->live_fps = (double) bench->frames / (l2d_clock_s() - begin_s);
    if (rc == L2D_OK)
        rc = l2d_engine_collect(engine, 0, err);
    bench->flight = NULL;
    return rc;
}

static int measure(struct bench *bench, struct l2d_engine *engine, struct run *run,
                   struct l2d_error *err)
{
    *run = (struct run) { .info = *l2d_engine_info(engine) };
    uint64_t chunk = run->info.chunk, every = run->info.draw_every, group = chunk * every;
    uint64_t index = 0, steps = (uint64_t) run->info.num_steps;
    uint64_t warm_up = chunk > 1 ? CLIP_FRAMES + 2 * group : WARM_UP_FRAMES + steps * every;
    run->frames = (bench->frames + group - 1) / group * group;
    int rc = L2D_OK;
    for (; rc == L2D_OK && index < warm_up; index++)
        rc = l2d_engine_push(engine, bench->source[index % bench->num_source], err);
    struct l2d_engine_stats before = l2d_engine_stats(engine);
    double begin = l2d_clock_s(), last = begin, cpu = l2d_clock_cpu_s();
    for (; rc == L2D_OK && index < warm_up + run->frames; index++) {
        rc = l2d_engine_push(engine, bench->source[index % bench->num_source], err);
        if ((index + 1 - warm_up) % group)
            continue;
        double now = l2d_clock_s();
        histogram_add(&run->wall, 1e3 * (now - last) / (double) group);
        last = now;
    }
    run->fps = last > begin ? (double) run->frames / (last - begin) : 0;
    run->cpu_ms = 1e3 * (l2d_clock_cpu_s() - cpu) / (double) run->frames;
    run->stats = since(engine, &before);
    return rc == L2D_OK ? measure_rewarm(bench, engine, run, err) : rc;
}

// ---- in detail

static void print_profile(struct l2d_profile_row *row, uint32_t count)
{
    double total_ms = 0;
    bench_sort(row, count);             // three graphs have become one list
    for (uint32_t i = 0; i < count; i++)
        total_ms += row[i].ms;
    printf("\n  %9s %6s %6s %9s  %-26s %s\n", "ms", "%", "calls", "GFLOP/s", "kernel", "first");
    for (uint32_t i = 0; i < count; i++) {
        printf("  %9.3f %6.1f %6u ", row[i].ms, total_ms > 0 ? 100 * row[i].ms / total_ms : 0,
               row[i].dispatches);
        if (row[i].gflop > 0 && row[i].ms > 0)
            printf("%9.1f", 1e3 * row[i].gflop / row[i].ms);
        else
            printf("%9s", "");
        printf("  %-26s %s\n", row[i].shader, row[i].label);
    }
    printf("  %9.3f  100.0        total\n", total_ms);
}

static json_t *profile_json(const struct l2d_profile_row *row, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < count; i++)
        json_array_append_new(list, json_pack(
            "{ss ss sI sf sf sf}", "kernel", row[i].shader, "first", row[i].label, "calls",
            (json_int_t) row[i].dispatches, "ms", row[i].ms, "gflop", row[i].gflop, "gbytes",
            row[i].gbytes));
    return list;
}

static void print_run(const struct run *run, const struct l2d_gpu_caps *caps)
{
    char chunks[32] = "", drawn[32] = "", larger[48] = "";
    const struct l2d_engine_info *info = &run->info;
    const struct l2d_engine_memory *m = &info->memory;
    struct quantiles wall = histogram_quantiles(&run->wall);
    struct quantiles live = histogram_quantiles(&run->live);
    if (info->chunk > 1)
        snprintf(chunks, sizeof(chunks), "chunks of %u, ", info->chunk);
    if (info->draw_every > 1)
        snprintf(drawn, sizeof(drawn), "1 frame of %u drawn, ", info->draw_every);
    if (info->width != info->drawn_width)
        snprintf(larger, sizeof(larger), "enlarged to %dx%d, ", info->width, info->height);
    printf("%s at %dx%d, %d step%s, %s%s%s%s, on %s\n", info->model_name, info->drawn_width,
           info->drawn_height, info->num_steps, info->num_steps == 1 ? "" : "s", chunks, drawn,
           larger, info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32", caps->name);
    printf("  %.2f fps over %llu frames; ms per frame: p50 %.1f, p95 %.1f, p99 %.1f\n", run->fps,
           (unsigned long long) run->frames, wall.p50, wall.p95, wall.p99);
    printf("  GPU memory: weights %.1f MB, KV cache (%s) %.1f MB, activations %.1f MB, all %.1f "
           "MB; process peak %.0f MB\n", (double) m->weights / 1e6, l2d_engine_kv_str(info),
           (double) m->kv_cache / 1e6, (double) m->activations / 1e6, (double) m->peak / 1e6,
           (double) report_peak_rss_bytes() / 1e6);
    report_print_stages(stdout, &run->stats, info);
    if (run->live_fps > 0)
        printf("  live, each picture waited for: %.2f fps; ms from frame to picture: p50 %.1f, p95 "
               "%.1f\n", run->live_fps, live.p50, live.p95);
    printf("  a re-warm of the caches: %.1f ms of the GPU; a scene cut has two\n", run->rewarm_ms);
}

static json_t *run_json(const struct run *run, const struct l2d_gpu_caps *caps)
{
    struct quantiles wall = histogram_quantiles(&run->wall);
    struct quantiles live = histogram_quantiles(&run->live);
    json_t *found = json_pack(
        "{so so sf sI sf sf s{sf sf sf} sI}", "model", report_json_model(&run->info, caps),
        "stages", report_json_stages(&run->stats, &run->info), "fps", run->fps, "frames",
        (json_int_t) run->frames, "cpu_ms", run->cpu_ms, "rewarm_ms", run->rewarm_ms, "wall_ms",
        "p50", wall.p50, "p95", wall.p95, "p99", wall.p99,
        "peak_rss_bytes", (json_int_t) report_peak_rss_bytes());
    if (run->live_fps > 0)
        json_object_set_new(found, "live", json_pack(
            "{sf sf sf}", "fps", run->live_fps, "p50_ms", live.p50, "p95_ms", live.p95));
    return found;
}

int bench_frame(struct bench *bench, bool profile, struct l2d_error *err)
{
    static struct l2d_profile_row row[MAX_ROWS];
    static struct run run;
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(bench->gpu);
    struct l2d_engine *engine = NULL;
    uint32_t num_rows = 0;
    int rc = bench_open_engine(bench, bench->model, &engine, err);
    if (rc == L2D_OK)
        rc = measure(bench, engine, &run, err);
    if (rc == L2D_OK)
        rc = measure_live(bench, engine, &run, err);
    if (rc == L2D_OK && profile)
        rc = l2d_engine_profile(engine, row, MAX_ROWS, &num_rows, err);
    l2d_engine_destroy(&engine);
    if (rc != L2D_OK)
        return rc;
    if (!bench->quiet) {
        print_run(&run, caps);
        if (profile)
            print_profile(row, num_rows);
    }
    json_t *found = run_json(&run, caps);
    json_object_update_new(bench->json, found);
    json_object_set_new(bench->json, "profile", profile_json(row, num_rows));
    return L2D_OK;
}

// ---- at other sizes and numbers of steps

// "512x512/2" at *at, which moves behind it. D steps: spread over those of the model's schedule.
static bool next_point(const char **at, struct option_size *size, char steps[64])
{
    int used = 0, d = 0, total = 50, len = 0;
    if (sscanf(*at, "%5dx%5d/%1d%n", &size->width, &size->height, &d, &used) != 3 || d < 1 ||
        d > L2D_MAX_STEPS || size->width < 1 || size->height < 1 ||
        ((*at)[used] && (*at)[used] != ','))
        return false;
    for (int k = 0; k < d; k++)
        len += snprintf(steps + len, 64 - (size_t) len, "%s%d", k ? "," : "",
                        total * (k + 1) / (d + 1));
    snprintf(steps + len, 64 - (size_t) len, "/%d", total);
    *at += used + ((*at)[used] == ',');
    return true;
}

bool bench_sweep_is_valid(const char *list)
{
    struct option_size size;
    char steps[64];
    while (*list)
        if (!next_point(&list, &size, steps))
            return false;
    return true;
}

static int sweep_point(struct bench *bench, const struct model_options *model, struct run *run,
                       struct l2d_error *err)
{
    struct l2d_engine *engine = NULL;
    int rc = bench_open_engine(bench, model, &engine, err);
    if (rc == L2D_OK)
        rc = measure(bench, engine, run, err);
    l2d_engine_destroy(&engine);
    return rc;
}

int bench_sweep(struct bench *bench, const char *list, struct l2d_error *err)
{
    static struct run run;
    struct model_options model = *bench->model;
    json_t *rows = json_array();
    char steps[64];
    int rc = L2D_OK;
    if (!bench->quiet)
        printf("\n  %-11s %5s %8s %9s %9s %9s %9s %10s\n", "size", "steps", "fps", "p50 ms",
               "p95 ms", "p99 ms", "unet ms", "GPU MB");
    model.steps = steps;
    while (*list && rc == L2D_OK) {
        next_point(&list, &model.size, steps);
        rc = sweep_point(bench, &model, &run, err);
        if (rc == L2D_EGPUMEM) {        // does not fit: the others may
            progress_print(&bench->progress, "left out: %s", err->msg);
            rc = L2D_OK;
            continue;
        }
        if (rc != L2D_OK)
            break;
        double timed = run.stats.timed > 0 ? (double) run.stats.timed : 1;
        struct quantiles wall = histogram_quantiles(&run.wall);
        if (!bench->quiet)
            printf("  %4dx%-6d %5d %8.2f %9.1f %9.1f %9.1f %9.1f %10.1f\n", run.info.drawn_width,
                   run.info.drawn_height, run.info.num_steps, run.fps, wall.p50, wall.p95, wall.p99,
                   run.stats.stage_ms[L2D_STAGE_UNET] / timed,
                   (double) run.info.memory.peak / 1e6);
        json_array_append_new(rows, run_json(&run, l2d_gpu_caps(bench->gpu)));
    }
    json_object_set_new(bench->json, "sweep", rows);
    return rc;
}
