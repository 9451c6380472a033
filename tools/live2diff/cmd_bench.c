// SPDX-License-Identifier: Apache-2.0
// live2diff bench: how fast the model runs, without decoding or encoding: frames that are already
// in memory go round and round. Times are the GPU's own, after warm-up.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "commands.h"
#include "model_options.h"
#include "model_path.h"
#include "progress.h"
#include "report.h"
#include "video_io/libav.h"
#include "wallclock.h"

#define MAX_SOURCE 32           // frames of the input that are kept
#define MAX_ROWS 256
#define WARM_UP_FRAMES 12       // eight fill the window, the others the steps

struct bench_options {
    struct model_options model;
    const char *input, *json;
    uint64_t frames;
    int profile, verbose;
};

struct bench {
    const struct bench_options *options;
    struct progress progress;
    struct l2d_log log;
    struct l2d_frame *source[MAX_SOURCE];
    uint32_t num_source;
    struct l2d_gpu *gpu;
    struct l2d_engine *engine;
    uint64_t emitted;
};

#define AT(field) offsetof(struct bench_options, field)
static const struct option_row rows[] = {
    { 'n', "frames", OPTION_COUNT, "N", "30", "frames to measure, after warm-up", AT(frames),
      NULL },
    { 'i', "input", OPTION_TEXT, "INPUT", NULL,
      "use the first frames of a video; default: a moving pattern", AT(input), NULL },
    MODEL_ROWS(struct bench_options),
    PICTURE_ROWS(struct bench_options),
    { 0, "profile", OPTION_FLAG, NULL, NULL, "one more frame, by kernel and shape", AT(profile),
      NULL },
    { 'j', "json", OPTION_TEXT, "FILE", NULL, "write the numbers there too; - is standard output",
      AT(json), NULL },
    { 'v', "verbose", OPTION_FLAG, NULL, NULL, "say more", AT(verbose), NULL },
};

static void count_frame(void *user, struct l2d_frame *frame)
{
    struct bench *bench = user;
    bench->emitted++;
    l2d_frame_unref(&frame);
}

// A bright disc over a gradient, a little further in each frame.
static void paint(struct l2d_frame *frame, uint32_t index)
{
    double cx = frame->width * (0.2 + 0.6 * index / MAX_SOURCE), cy = frame->height * 0.5;
    double radius = frame->height * 0.25;
    for (int32_t y = 0; y < frame->height; y++) {
        uint8_t *row = frame->data + (size_t) y * frame->plane_stride_bytes[0];
        for (int32_t x = 0; x < frame->width; x++) {
            bool inside = (x - cx) * (x - cx) + (y - cy) * (y - cy) < radius * radius;
            row[4 * x] = (uint8_t) (inside ? 230 : 255 * x / frame->width);
            row[4 * x + 1] = (uint8_t) (inside ? 180 : 255 * y / frame->height);
            row[4 * x + 2] = (uint8_t) (inside ? 60 : 128);
            row[4 * x + 3] = 255;
        }
    }
}

static int make_source(struct bench *bench, struct l2d_error *err)
{
    struct option_size size = bench->options->model.size;
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    int rc = L2D_OK;
    while (rc == L2D_OK && bench->num_source < MAX_SOURCE / 4) {
        struct l2d_frame **at = &bench->source[bench->num_source];
        rc = l2d_frame_create(at, size.width ? size.width : 512, size.height ? size.height : 512,
                              &format, err);
        if (rc == L2D_OK)
            paint(*at, 4 * bench->num_source++);
    }
    return rc;
}

static int read_source(struct bench *bench, struct l2d_error *err)
{
    struct l2d_reader *reader = NULL;
    int rc = l2d_reader_create(&reader, &(struct l2d_reader_params) {
        .name = bench->options->input, .max_frames = MAX_SOURCE, .no_audio = true,
        .log = &bench->log,
    }, err);
    while (rc == L2D_OK) {
        struct l2d_item item = { 0 };
        rc = l2d_reader_next(reader, &item, err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        bench->source[bench->num_source++] = l2d_frame_ref(item.frame);
        l2d_item_clear(&item);
    }
    l2d_reader_destroy(&reader);
    return rc;
}

static int open_engine(struct bench *bench, struct l2d_error *err)
{
    const struct bench_options *o = bench->options;
    char path[4096];
    int rc = o->model.config ? model_path_import(path, sizeof(path), o->model.config, false, err)
                             : model_path(path, sizeof(path), o->model.model, err);
    struct l2d_gpu_params gpu = model_gpu_params(&o->model, &bench->log);
    if (rc == L2D_OK)
        rc = l2d_gpu_create(&bench->gpu, &gpu, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_engine_params params = model_engine_params(&o->model, path);
    params.input_width = bench->source[0]->width;
    params.input_height = bench->source[0]->height;
    params.emit = count_frame;
    params.user = bench;
    params.log = l2d_log_named(&bench->log, "engine");
    return l2d_engine_create(&bench->engine, bench->gpu, &params, err);
}

static int push(struct bench *bench, uint64_t index, struct l2d_error *err)
{
    return l2d_engine_push(bench->engine, bench->source[index % bench->num_source], err);
}

static int slowest_first(const void *a, const void *b)
{
    const struct l2d_profile_row *x = a, *y = b;
    return (x->ms < y->ms) - (x->ms > y->ms);
}

static void print_profile(struct l2d_profile_row *row, uint32_t count)
{
    double total_ms = 0;
    qsort(row, count, sizeof(*row), slowest_first);     // three graphs have become one list
    for (uint32_t i = 0; i < count; i++)
        total_ms += row[i].ms;
    printf("\n  %9s %6s %6s %9s  %-22s %s\n", "ms", "%", "calls", "GFLOP/s", "kernel", "first");
    for (uint32_t i = 0; i < count; i++) {
        printf("  %9.3f %6.1f %6u ", row[i].ms, total_ms > 0 ? 100 * row[i].ms / total_ms : 0,
               row[i].dispatches);
        if (row[i].gflop > 0 && row[i].ms > 0)
            printf("%9.1f", 1e3 * row[i].gflop / row[i].ms);
        else
            printf("%9s", "");
        printf("  %-22s %s\n", row[i].shader, row[i].label);
    }
    printf("  %9.3f  100.0        total\n", total_ms);
}

static json_t *profile_json(const struct l2d_profile_row *row, uint32_t count)
{
    json_t *list = json_array();
    for (uint32_t i = 0; list && i < count; i++)
        json_array_append_new(list, json_pack(
            "{ss ss sI sf sf}", "kernel", row[i].shader, "first", row[i].label, "calls",
            (json_int_t) row[i].dispatches, "ms", row[i].ms, "gflop", row[i].gflop));
    return list;
}

// What happened since before.
static struct l2d_engine_stats since(struct bench *bench, const struct l2d_engine_stats *before)
{
    struct l2d_engine_stats now = l2d_engine_stats(bench->engine);
    now.timed -= before->timed;
    for (int i = 0; i < L2D_NUM_STAGES; i++)
        now.stage_ms[i] -= before->stage_ms[i];
    return now;
}

static int measure(struct bench *bench, struct l2d_error *err)
{
    const struct bench_options *o = bench->options;
    const struct l2d_engine_info *info = l2d_engine_info(bench->engine);
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(bench->gpu);
    static struct histogram wall;
    static struct l2d_profile_row row[MAX_ROWS];
    uint64_t warm_up = WARM_UP_FRAMES + (uint64_t) info->num_steps, index = 0;
    int rc = L2D_OK;
    while (rc == L2D_OK && index < warm_up)
        rc = push(bench, index++, err);
    struct l2d_engine_stats before = l2d_engine_stats(bench->engine);
    double begin = wallclock_s(), last = begin;
    while (rc == L2D_OK && index < warm_up + o->frames) {
        rc = push(bench, index++, err);
        double now = wallclock_s();
        histogram_add(&wall, 1e3 * (now - last));
        last = now;
    }
    if (rc != L2D_OK)
        return rc;
    struct l2d_engine_stats stats = since(bench, &before);
    double fps = last > begin ? (double) o->frames / (last - begin) : 0;
    uint32_t num_rows = 0;
    if (o->profile)
        rc = l2d_engine_profile(bench->engine, row, MAX_ROWS, &num_rows, err);
    if (rc != L2D_OK)
        return rc;

    bool quiet = o->json && !strcmp(o->json, "-");
    if (!quiet) {
        printf("%s at %dx%d, %d step%s, %s, on %s\n", info->model_name, info->width, info->height,
               info->num_steps, info->num_steps == 1 ? "" : "s",
               info->precision == L2D_PRECISION_FP16 ? "fp16" : "fp32", caps->name);
        printf("  %.2f fps over %llu frames; ms per frame: p50 %.1f, p95 %.1f, p99 %.1f\n", fps,
               (unsigned long long) o->frames, histogram_quantile(&wall, 0.50),
               histogram_quantile(&wall, 0.95), histogram_quantile(&wall, 0.99));
        const struct l2d_engine_memory *m = &info->memory;
        printf("  GPU memory: weights %.1f MB, KV cache %.1f MB, activations %.1f MB, all %.1f MB; "
               "process peak %.0f MB\n", (double) m->weights / 1e6, (double) m->kv_cache / 1e6,
               (double) m->activations / 1e6, (double) m->peak / 1e6,
               (double) report_peak_rss_bytes() / 1e6);
        report_print_stages(stdout, &stats, info);
        if (o->profile)
            print_profile(row, num_rows);
    }
    if (!o->json)
        return L2D_OK;
    return report_write_json(o->json, json_pack(
        "{so so so sf sI s{sf sf sf} sI}", "model", report_json_model(info, caps), "stages",
        report_json_stages(&stats, info), "profile", profile_json(row, num_rows), "fps", fps,
        "frames", (json_int_t) o->frames, "wall_ms", "p50", histogram_quantile(&wall, 0.50),
        "p95", histogram_quantile(&wall, 0.95), "p99", histogram_quantile(&wall, 0.99),
        "peak_rss_bytes", (json_int_t) report_peak_rss_bytes()), err);
}

static int bench_main(int argc, char **argv)
{
    struct bench_options options = { 0 };
    int code = options_parse(&command_bench, argc, argv, &options, NULL);
    if (code >= 0)
        return code;
    code = model_options_check(&command_bench, &options.model);
    if (code >= 0)
        return code;
    if (options.frames == 0 || options.frames > 1000000)
        return options_complain(&command_bench, "--frames: expected 1..1000000");
    static struct bench bench;
    bench.options = &options;
    progress_init(&bench.progress, false);
    bench.log = progress_log(&bench.progress, options.verbose ? L2D_LOG_DEBUG : L2D_LOG_WARN);
    l2d_libav_init(&bench.log);

    struct l2d_error err = { 0 };
    int rc = options.input ? read_source(&bench, &err) : make_source(&bench, &err);
    if (rc == L2D_OK)
        rc = open_engine(&bench, &err);
    if (rc == L2D_OK)
        rc = measure(&bench, &err);
    if (rc != L2D_OK)
        progress_print(&bench.progress, "%s", err.msg);
    l2d_engine_destroy(&bench.engine);
    l2d_gpu_destroy(&bench.gpu);
    for (uint32_t i = 0; i < bench.num_source; i++)
        l2d_frame_unref(&bench.source[i]);
    return rc == L2D_OK ? EXIT_OK : EXIT_FAILED;
}

const struct command command_bench = {
    .name = "bench", .synopsis = "[options]",
    .summary = "Measure the model's speed on this machine, without decoding and encoding.",
    .rows = rows, .num_rows = sizeof(rows) / sizeof(rows[0]), .main = bench_main,
};
