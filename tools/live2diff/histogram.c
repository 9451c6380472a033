// SPDX-License-Identifier: Apache-2.0
// See histogram.h.
#include "histogram.h"

#include <math.h>

#define FIRST_BIN_MS 1e-3
#define BIN_RATIO 1.01

void histogram_add(struct histogram *histogram, double ms)
{
    double at = ms > FIRST_BIN_MS ? log(ms / FIRST_BIN_MS) / log(BIN_RATIO) : 0;
    histogram->bin[at < HISTOGRAM_BINS - 1 ? (int) at : HISTOGRAM_BINS - 1]++;
    histogram->count++;
}

static double quantile(const struct histogram *histogram, double q)
{
    uint64_t rank = (uint64_t) (q * (double) histogram->count), seen = 0;
    if (histogram->count == 0)
        return 0;
    if (rank >= histogram->count)
        rank = histogram->count - 1;
    int i = 0;
    while ((seen += histogram->bin[i]) <= rank)
        i++;
    return FIRST_BIN_MS * pow(BIN_RATIO, i + 0.5);
}

struct quantiles histogram_quantiles(const struct histogram *histogram)
{
    return (struct quantiles) { quantile(histogram, 0.50), quantile(histogram, 0.95),
                                quantile(histogram, 0.99) };
}
