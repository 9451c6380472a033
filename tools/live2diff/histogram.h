// SPDX-License-Identifier: Apache-2.0
// Durations: quantiles of any number of them in constant memory.
#ifndef L2D_PROGRAM_HISTOGRAM_H
#define L2D_PROGRAM_HISTOGRAM_H

#include <stdint.h>

// Logarithmic bins 1% wide, 1 us to 10 minutes.
#define HISTOGRAM_BINS 2040
struct histogram {              // zeroed: empty
    uint64_t count;
    uint32_t bin[HISTOGRAM_BINS];
};

void histogram_add(struct histogram *histogram, double ms);

struct quantiles { double p50, p95, p99; };     // ms

/** 0 if empty. */
struct quantiles histogram_quantiles(const struct histogram *histogram);

#endif
