// SPDX-License-Identifier: Apache-2.0
// What the parts of a benchmark share. cmd_bench.c says which of them run; each measures one thing,
// prints a table unless `quiet`, and adds what it found to `json`.
#ifndef L2D_PROGRAM_BENCH_H
#define L2D_PROGRAM_BENCH_H

#include <stdbool.h>
#include <stdint.h>

#include <jansson.h>

#include "base/error.h"
#include "base/frame.h"
#include "base/log.h"
#include "histogram.h"
#include "model_options.h"
#include "progress.h"

#define BENCH_MAX_SOURCE 32         // frames of the input that are kept

struct bench {
    const struct model_options *model;
    uint64_t frames;                // to measure, of each run
    bool quiet;
    struct progress progress;
    struct l2d_log log;
    char path[4096];                // the model folder
    struct l2d_frame *source[BENCH_MAX_SOURCE];     // go round and round
    uint32_t num_source;
    struct l2d_gpu *gpu;
    struct bench_flight *flight;    // NULL: nobody wants to know when pictures come out
    json_t *json;                   // an object
    // Ceilings of this device, measured in this run; 0: not measured.
    double copy_gbs;                // bytes read and bytes written, together
    double fma_gflops;
};

/** An engine for frames like bench->source[0], which throws its pictures away. */
int bench_open_engine(struct bench *bench, const struct model_options *model,
                      struct l2d_engine **out, struct l2d_error *err);

/** Of 1 time or more, which it sorts. */
struct quantiles bench_quantiles(double *ms, uint32_t count);

/** Slowest first. */
void bench_sort(struct l2d_profile_row *row, uint32_t count);

/** Frames for bench->source: a bright disc over a gradient that moves, of this size. */
int bench_paint_source(struct bench *bench, struct option_size size, struct l2d_error *err);

/** Or the first ones of a video. */
int bench_read_video(struct bench *bench, const char *name, struct l2d_error *err);

/** Whole frames: "fps", "wall_ms", "stages", "memory", "live"; by kernel too: "profile". */
int bench_frame(struct bench *bench, bool profile, struct l2d_error *err);

/**
 * Whole frames at other sizes and numbers of steps, a list like "256x256/1,512x512/2": "sweep".
 * What does not fit the device is left out, with a line.
 */
bool bench_sweep_is_valid(const char *list);
int bench_sweep(struct bench *bench, const char *list, struct l2d_error *err);

/** Calls of the UNet with 1, 2 and 4 rows, with and without motion modules: "unet". */
int bench_unet(struct bench *bench, struct l2d_error *err);

/** Copying and multiply-adds, as fast as the device does them: "ceilings". */
int bench_ceilings(struct bench *bench, struct l2d_error *err);

/** Every kernel of a frame beside the ceilings, measured before: "kernels", "kernel_families". */
int bench_kernels(struct bench *bench, struct l2d_error *err);

#endif
