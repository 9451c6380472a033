// SPDX-License-Identifier: Apache-2.0
// live2diff bench: how fast the model runs, without decoding or encoding: frames that are already
// in memory go round and round. Times are the GPU's own, after warm-up. Which parts run is chosen
// here; bench.h lists them.
#include <stdio.h>
#include <string.h>

#include "bench.h"
#include "commands.h"
#include "model_path.h"
#include "report.h"

enum what { WHAT_FRAME, WHAT_UNET, WHAT_KERNELS, WHAT_ALL };

struct bench_options {
    struct model_options model;
    const char *input, *json, *sweep;
    uint64_t frames;
    int what, profile, verbose;
};

#define AT(field) offsetof(struct bench_options, field)
static const struct option_row rows[] = {
    { 'n', "frames", OPTION_COUNT, "N", "30", "frames, or calls, to measure, after warm-up",
      AT(frames), NULL },
    { 'i', "input", OPTION_TEXT, "INPUT", NULL,
      "use the first frames of a video; default: a moving pattern", AT(input), NULL },
    MODEL_ROWS(struct bench_options),
    PICTURE_ROWS(struct bench_options),
    { 0, "what", OPTION_CHOICE, "frame|unet|kernels|all", "frame",
      "whole frames; calls of the UNet with 1, 2 and 4 rows, motion on and off; every kernel "
      "beside what the device does at most; or all of it", AT(what), NULL },
    { 0, "sweep", OPTION_TEXT, "WxH/D,...", NULL,
      "whole frames at these sizes and numbers of steps too: 256x256/1,512x512/2", AT(sweep),
      NULL },
    { 0, "profile", OPTION_FLAG, NULL, NULL, "one more frame, by kernel and shape", AT(profile),
      NULL },
    { 'j', "json", OPTION_TEXT, "FILE", NULL, "write the numbers there too; - is standard output",
      AT(json), NULL },
    { 'v', "verbose", OPTION_FLAG, NULL, NULL, "say more", AT(verbose), NULL },
};

static int open_gpu(struct bench *bench, struct l2d_error *err)
{
    const struct model_options *o = bench->model;
    int rc = o->config ? model_path_import(bench->path, sizeof(bench->path), o->config, false, err)
                       : model_path(bench->path, sizeof(bench->path), o->model, err);
    struct l2d_gpu_params gpu = model_gpu_params(o, &bench->log);
    return rc == L2D_OK ? l2d_gpu_create(&bench->gpu, &gpu, err) : rc;
}

static int measure(struct bench *bench, const struct bench_options *o, struct l2d_error *err)
{
    bool all = o->what == WHAT_ALL;
    int rc = L2D_OK;
    if (all || o->what == WHAT_KERNELS)
        rc = bench_ceilings(bench, err);
    if (rc == L2D_OK && (all || o->what == WHAT_FRAME))
        rc = bench_frame(bench, o->profile > 0, err);
    if (rc == L2D_OK && o->sweep)
        rc = bench_sweep(bench, o->sweep, err);
    if (rc == L2D_OK && (all || o->what == WHAT_UNET))
        rc = bench_unet(bench, err);
    if (rc == L2D_OK && (all || o->what == WHAT_KERNELS))
        rc = bench_kernels(bench, err);
    return rc;
}

static int run(struct bench *bench, const struct bench_options *o, struct l2d_error *err)
{
    bench->json = json_object();
    if (!bench->json)
        return l2d_error_set(err, L2D_ENOMEM, "bench: out of memory");
    int rc = o->input ? bench_read_video(bench, o->input, err)
                      : bench_paint_source(bench, o->model.size, err);
    if (rc == L2D_OK && bench->num_source == 0)
        rc = l2d_error_set(err, L2D_EFORMAT, "--input %s: no picture in it", o->input);
    if (rc == L2D_OK)
        rc = open_gpu(bench, err);
    if (rc == L2D_OK)
        rc = measure(bench, o, err);
    if (rc != L2D_OK || !o->json)
        return rc;
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(bench->gpu);
    json_object_set_new(bench->json, "device", json_string(caps->name));
    json_object_set_new(bench->json, "driver", json_string(caps->driver));
    json_object_set_new(bench->json, "tier", json_string(l2d_tier_str(caps->tier)));
    return report_write_json(o->json, json_incref(bench->json), err);
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
    if (options.sweep && !bench_sweep_is_valid(options.sweep))
        return options_complain(&command_bench, "--sweep '%s': expected sizes and numbers of steps "
                                "such as 256x256/1,512x512/2", options.sweep);
    static struct bench bench;
    bench.model = &options.model;
    bench.frames = options.frames;
    bench.quiet = options.json && !strcmp(options.json, "-");
    progress_init(&bench.progress, false);
    bench.log = progress_log(&bench.progress, options.verbose ? L2D_LOG_DEBUG : L2D_LOG_WARN);

    struct l2d_error err = { 0 };
    int rc = run(&bench, &options, &err);
    if (rc != L2D_OK)
        progress_print(&bench.progress, "%s", err.msg);
    json_decref(bench.json);
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
