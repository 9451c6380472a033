// SPDX-License-Identifier: Apache-2.0
// What a run or a benchmark says at its end, to people and as JSON.
#ifndef L2D_PROGRAM_REPORT_H
#define L2D_PROGRAM_REPORT_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>

#include "base/error.h"
#include "deadline.h"
#include "fate.h"
#include "gpu/device.h"
#include "histogram.h"
#include "output.h"
#include "pipeline/engine.h"
#include "video_io/reader.h"
#include "video_io/sink.h"
#include "video_io/source.h"

struct report_output {
    const char *name, *state;   // "finished", "closed", "stopped", ...
    const char *reason;         // of one that failed; NULL: it did not
    struct l2d_sink_stats stats;
    struct output_counts counts;
    struct quantiles latency;   // ms; live only
};

struct report {
    const char *input;
    struct l2d_engine_info info;
    struct l2d_gpu_caps caps;
    bool live;
    struct fates fates;
    uint64_t unfair;            // see run_status.h
    struct l2d_reader_stats reader;
    struct l2d_source_status source;
    struct histogram interval;  // between frames leaving the model
    struct l2d_engine_stats engine;
    struct deadline_stats deadline;
    double setup_s, media_s;
    double wall_s;              // first to last frame out
    const struct report_output *output;
    unsigned num_outputs;
    bool interrupted;
};

uint64_t report_peak_rss_bytes(void);

void report_print(FILE *file, const struct report *report);

/** ms, GFLOP and GFLOP/s per stage, one line each; nothing if no time was taken. */
void report_print_stages(FILE *file, const struct l2d_engine_stats *stats,
                         const struct l2d_engine_info *info);

/** NULL: out of memory. */
json_t *report_json(const struct report *report);
json_t *report_json_model(const struct l2d_engine_info *info, const struct l2d_gpu_caps *caps);
json_t *report_json_stages(const struct l2d_engine_stats *stats,
                           const struct l2d_engine_info *info);

/** Write and release json. path "-" is standard output. */
int report_write_json(const char *path, json_t *json, struct l2d_error *err);

#endif
