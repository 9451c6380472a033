// SPDX-License-Identifier: Apache-2.0
// A static list of dispatches over tensors, built once, planned once and recorded once into a
// command buffer that is replayed for every frame. Transient tensors get offsets in one activation
// buffer by their lifetimes; barriers are derived from what each dispatch says it reads and writes.
// What changes from frame to frame is read by the shaders from small buffers, never recorded.
//
// While a graph is being built errors stick to it: later calls do nothing, so that model code reads
// as plain maths, and l2d_graph_finish reports the first.
#ifndef L2D_GPU_GRAPH_H
#define L2D_GPU_GRAPH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "gpu/buffer.h"

struct l2d_gpu;
struct l2d_graph;

enum l2d_dtype { L2D_F32, L2D_F16, L2D_U32 };

static inline uint32_t l2d_dtype_bytes(enum l2d_dtype dtype)
{
    return dtype == L2D_F16 ? 2 : 4;
}

// A view; owns nothing. Layout [rows][h][w][c], c fastest, no padding; a list of tokens is h = 1.
// Either in a buffer, or transient in the graph that allocated it (buf NULL, id >= 0).
struct l2d_tensor {
    struct l2d_buf *buf;
    int32_t  id;
    uint64_t offset_bytes;
    int32_t  rows, h, w, c;
    enum l2d_dtype dtype;
};

// "No tensor": what an absent optional operand is.
#define L2D_NO_TENSOR ((struct l2d_tensor) { .id = -1 })

static inline bool l2d_tensor_exists(const struct l2d_tensor *t)
{
    return t->buf || t->id >= 0;
}

static inline uint64_t l2d_tensor_count(const struct l2d_tensor *t)
{
    return (uint64_t) t->rows * (uint64_t) t->h * (uint64_t) t->w * (uint64_t) t->c;
}

static inline uint64_t l2d_tensor_bytes(const struct l2d_tensor *t)
{
    return l2d_tensor_count(t) * l2d_dtype_bytes(t->dtype);
}

/** A view of a buffer. */
static inline struct l2d_tensor l2d_tensor_view(struct l2d_buf *buf, uint64_t offset_bytes,
                                                enum l2d_dtype dtype, int32_t rows, int32_t h,
                                                int32_t w, int32_t c)
{
    struct l2d_tensor view = { buf, -1, offset_bytes, rows, h, w, c, dtype };
    return view;                // C++ has no compound literals
}

/** Rows first..first+count-1 of a tensor. */
static inline struct l2d_tensor l2d_tensor_rows(struct l2d_tensor t, int32_t first, int32_t count)
{
    t.offset_bytes += (uint64_t) first * (uint64_t) t.h * (uint64_t) t.w * (uint64_t) t.c *
                      l2d_dtype_bytes(t.dtype);
    t.rows = count;
    return t;
}

enum l2d_access { L2D_READ = 1, L2D_WRITE = 2, L2D_READ_WRITE = 3 };

struct l2d_binding {
    struct l2d_tensor tensor;   // L2D_NO_TENSOR binds the first operand in its place, unread
    enum l2d_access access;
};

#define L2D_MAX_BINDINGS 12
#define L2D_MAX_SPEC 17

// One dispatch. Bindings are numbered 0.. in order, all in set 0; those that a shader declares as
// texel buffers are bound as such (see lib/precision.glsl), all others as storage buffers.
// Specialization constants are 32 bits with ids 0..num_spec-1. Everything is copied.
struct l2d_dispatch {
    const char *shader;         // of shaders/NAME.comp; the graph's precision picks the variant
    const uint32_t *spec;
    uint32_t num_spec;
    const void *params;         // push constants, at most 128 bytes
    uint32_t params_size;
    const struct l2d_binding *bind;
    uint32_t num_bind;
    uint32_t groups[3];
    const char *variant;        // of the kernel, for profiles; NULL: there is one
    double flops;               // for profiles; 0 if not worth counting
    double bytes;               // for profiles: read and written, each once; 0: all of its operands
};

/**
 * An empty graph. precision is the type of activations: shaders are compiled for both, with T being
 * float or float16_t. name appears in profiles and debugging tools.
 */
int l2d_graph_create(struct l2d_graph **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                     const char *name, struct l2d_error *err);
void l2d_graph_destroy(struct l2d_graph **graph);

/** Before l2d_graph_finish: where it runs; at first MAIN. See submit.h. */
enum l2d_lane { L2D_LANE_MAIN, L2D_LANE_AHEAD };
void l2d_graph_set_lane(struct l2d_graph *graph, enum l2d_lane lane);
enum l2d_lane l2d_graph_lane(const struct l2d_graph *graph);

enum l2d_dtype l2d_graph_precision(const struct l2d_graph *graph);
struct l2d_gpu *l2d_graph_gpu(const struct l2d_graph *graph);

/** Remember the first error; formats like l2d_error_set. */
void l2d_graph_fail(struct l2d_graph *graph, int code, const char *fmt, ...) L2D_PRINTF(3, 4);
bool l2d_graph_failed(const struct l2d_graph *graph);

/** A transient tensor. It lives from its first write to its last read. */
struct l2d_tensor l2d_graph_alloc(struct l2d_graph *graph, enum l2d_dtype dtype, int32_t rows,
                                  int32_t h, int32_t w, int32_t c);

/** Words of the graph's own, at first 0, then as they were left: counters that shaders set back. */
struct l2d_tensor l2d_graph_alloc_zeros(struct l2d_graph *graph, int32_t words);

void l2d_graph_dispatch(struct l2d_graph *graph, const struct l2d_dispatch *dispatch);

/**
 * Copy bytes between two tensors of the same size. For the small graphs around the networks:
 * upload, selection of a call's rows, readback.
 */
void l2d_graph_copy(struct l2d_graph *graph, struct l2d_tensor dst, struct l2d_tensor src);

/**
 * Name an activation. With probes on (at first they are off), a named transient is kept to the end
 * of the graph so that it can be read back; otherwise this does nothing.
 */
void l2d_graph_enable_probes(struct l2d_graph *graph, bool on);
bool l2d_graph_probing(const struct l2d_graph *graph);
void l2d_graph_probe(struct l2d_graph *graph, struct l2d_tensor tensor, const char *fmt, ...)
    L2D_PRINTF(3, 4);

/** What probes' names begin with from here on, such as "negative."; at first "". Not copied. */
void l2d_graph_probe_prefix(struct l2d_graph *graph, const char *prefix);

struct l2d_probe {
    char name[128];
    struct l2d_tensor tensor;   // after finish: resolved to a buffer
};
uint32_t l2d_graph_num_probes(const struct l2d_graph *graph);
const struct l2d_probe *l2d_graph_probe_at(const struct l2d_graph *graph, uint32_t index);

/** Push or pop a word of the path that profiles group by, such as "down_blocks.0". */
void l2d_graph_push(struct l2d_graph *graph, const char *fmt, ...) L2D_PRINTF(2, 3);
void l2d_graph_pop(struct l2d_graph *graph);

/**
 * Plan the transients. returns the first error of the building, or L2D_OK. *size_bytes is what the
 * activation buffer needs.
 */
int l2d_graph_plan(struct l2d_graph *graph, uint64_t *size_bytes, struct l2d_error *err);

/**
 * Before l2d_graph_finish, of any number of graphs: note which programs they run, then make the
 * pipelines that there are not yet, on as many threads as there are cores. Without it each graph
 * makes its own, one after the other.
 */
int l2d_graph_declare_programs(const struct l2d_graph *graph, struct l2d_error *err);
int l2d_gpu_make_programs(struct l2d_gpu *gpu, struct l2d_error *err);

/** Those that were declared and have no pipeline are not wanted any more. */
void l2d_gpu_forget_programs(struct l2d_gpu *gpu);

/**
 * Create pipelines, descriptor sets and the command buffer. activations must be at least as large
 * as planned and may be shared by graphs that never run at the same time; it may be NULL if there
 * are no transients.
 */
int l2d_graph_finish(struct l2d_graph *graph, struct l2d_buf *activations, struct l2d_error *err);

/** The most bytes that a dispatch binds as one operand; finish refuses more than the device's. */
uint64_t l2d_graph_largest_operand(const struct l2d_graph *graph);

/** Bytes that finish takes beside the activations. */
uint64_t l2d_graph_own_bytes(const struct l2d_graph *graph);

/** Floating-point operations of one run, as far as the kernels count them. */
double l2d_graph_flops(const struct l2d_graph *graph);

/** Dispatches of one run; copies are none. */
uint32_t l2d_graph_dispatches(const struct l2d_graph *graph);

/** Submit once and wait. For setup, tests and profiles. */
int l2d_graph_run(struct l2d_graph *graph, struct l2d_error *err);

// One row of a profile: dispatches of one shader on one shape.
struct l2d_profile_row {
    char     label[160];        // path of the first such dispatch
    char     shader[48];
    char     variant[24];       // of the kernel, or ""
    char     shape[80];         // of its first operand and its result: "[1,32,32,64] [1,16,16,64]"
    uint32_t op;                // number of the first such dispatch in its graph
    uint32_t dispatches;
    double   ms, gflop;         // sums of one run
    double   gbytes;            // 1e9 bytes that are read and written, each operand once
};

/**
 * Run once with timestamps around each dispatch and wait.
 * cap      entries in rows. *count is the number filled, sorted by time.
 */
int l2d_graph_profile(struct l2d_graph *graph, struct l2d_profile_row *rows, uint32_t cap,
                      uint32_t *count, struct l2d_error *err);

#endif
