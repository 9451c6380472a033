// SPDX-License-Identifier: Apache-2.0
// What the GPU tests share: a device with validation on, operands with guard words between them,
// results that start as NaN, fills that depend on the case alone, and a comparison that says where
// it went wrong. One gpu_test per process; failures are Criterion assertions.
#ifndef L2D_TESTS_GPU_TEST_H
#define L2D_TESTS_GPU_TEST_H

#include <stdbool.h>
#include <stddef.h>

#include "gpu/device.h"
#include "gpu/graph.h"

#define GT_RING 10                      // frames of a test's rings
#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

enum gt_fill { GT_NORMAL, GT_CONSTANT, GT_HUGE, GT_TINY, GT_NUM_FILLS };

// A result passes if its relative L2 error is at most l2, and each element is within
// abs + rel * |wanted|.
struct gt_tol {
    double l2, abs, rel;
};

struct gt_region {                      // of the arena: an operand, then guard words
    uint64_t offset_bytes, size_bytes;
    bool written;                       // by the ops under test
};

struct gpu_test {
    struct l2d_gpu *gpu;
    enum l2d_tier tier;
    struct l2d_graph *graph;
    enum l2d_dtype precision;
    struct l2d_buf *arena, *activations;
    unsigned char *host;                // what the arena held before the run
    uint64_t used_bytes;
    struct gt_region region[32];
    unsigned num_regions;
    uint64_t planned_bytes;
};

void gt_open(struct gpu_test *t, enum l2d_tier tier);

/** As if the device had so many cores; 0: as it is. */
void gt_open_cores(struct gpu_test *t, enum l2d_tier tier, uint32_t num_cores);

/** In tier 2, with what lies by columns for most devices by rows. */
void gt_open_matrix_rows(struct gpu_test *t);

/** Whether tier 2 can be opened; only newer CPU drivers have it. L2D_TEST_MATRIX=1: they must. */
bool gt_has_matrix_units(void);

/** Tier 3, likewise. */
bool gt_has_matrix2(void);

/** Fails if the validation layer said anything. */
void gt_close(struct gpu_test *t);

/** Begin and end one case: a fresh graph and an empty arena. */
void gt_begin(struct gpu_test *t, enum l2d_dtype precision);
void gt_end(struct gpu_test *t);

/** An operand. data is f32, converted to dtype; NULL: filled with NaN. written: by the ops. */
struct l2d_tensor gt_tensor(struct gpu_test *t, enum l2d_dtype dtype, int rows, int h, int w, int c,
                            const float *data, bool written);

/** A u32 view of raw bytes, or of NaN bit patterns if data is NULL. */
struct l2d_tensor gt_bytes(struct gpu_test *t, const void *data, size_t size_bytes, bool written);

/** Keep a transient result for gt_read. Call once a case, before gt_run. */
void gt_keep(struct gpu_test *t, struct l2d_tensor result);

/** Upload, run, and check that nothing outside of what may be written has changed. */
void gt_run(struct gpu_test *t);

/** Once more, from the same operands. */
void gt_run_again(struct gpu_test *t);

/** The kept result as f32, count elements; or an operand. Free with free. */
float *gt_read_kept(struct gpu_test *t, size_t count);
float *gt_read(struct gpu_test *t, struct l2d_tensor tensor);
unsigned char *gt_read_bytes(struct gpu_test *t, struct l2d_tensor tensor);

/** Room for floats; aborts if there is none. */
float *gt_floats(size_t count);

/**
 * Makes values what bytes with a step can be, and halves too: a step of 4 bits, and one of them 127
 * times that.
 */
void gt_round_to_bytes(float *value, size_t count);

/**
 * Values for a case: normal numbers of amplitude scale, a constant, normal numbers of amplitude
 * huge (tiny is its inverse). Rounded to dtype, so that the reference sees what the GPU sees.
 */
void gt_fill(float *data, size_t count, enum gt_fill fill, double scale, double huge,
             enum l2d_dtype dtype, unsigned seed);

/** The worst element, both values and the errors are printed if it does not pass. */
void gt_check(const float *want, const float *got, size_t count, struct gt_tol tol, const char *fmt,
              ...) L2D_PRINTF(5, 6);

/** The largest relative L2 error that gt_check has seen, by precision; for reports. */
extern double gt_worst_l2[2];

#endif
