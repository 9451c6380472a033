// SPDX-License-Identifier: Apache-2.0
// A Vulkan 1.3 device with one or two compute queues: choice, limits, validation, pipeline cache on
// disk. Only runtime/gpu/ includes vulkan.h; others see the opaque handle and its capabilities.
#ifndef L2D_GPU_DEVICE_H
#define L2D_GPU_DEVICE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "base/log.h"

struct l2d_gpu;

enum l2d_gpu_type { L2D_GPU_OTHER, L2D_GPU_INTEGRATED, L2D_GPU_DISCRETE, L2D_GPU_VIRTUAL,
                    L2D_GPU_CPU };

// Which family of matrix kernels a device gets. T0: register tiles and no shared memory, for CPU
// drivers. T1: shared-memory tiles, for any GPU. Both need only Vulkan 1.3. T2: matrix units, in
// fp16; in fp32 and for what has no kernel of its own it is T1. T3: T2 with attention by matrices
// of any size, whose rows the driver reduces. AUTO takes the highest that the device has.
enum l2d_tier { L2D_TIER_AUTO, L2D_TIER_0, L2D_TIER_1, L2D_TIER_2, L2D_TIER_3 };
const char *l2d_tier_str(enum l2d_tier tier);

// No binding is larger, whatever a device allows: shaders can name a place behind all of them.
#define L2D_MAX_RANGE_BYTES 0x7fff0000u

struct l2d_matrix_shape { uint32_t m, n, k; };  // of VK_KHR_cooperative_matrix; 0: there is none

// Of VK_NV_cooperative_matrix2: a subgroup's matrices, whose sides are any multiples of a grain's.
struct l2d_matrix2 {
    struct l2d_matrix_shape grain;      // 0: there is none
    uint32_t max_side;
};

// Queues of a device; submit.h says what runs where. SWAPPED, for tests: two lanes on one queue,
// and what may run beside the main lane's last submissions comes before all of them.
enum l2d_lanes { L2D_LANES_AUTO, L2D_LANES_ONE, L2D_LANES_SWAPPED };
#define L2D_NUM_LANES 2

struct l2d_gpu_caps {
    char     name[256];
    char     driver[520];           // name, version
    const char *lacks;              // what it would need for us to run on it; NULL: nothing
    enum l2d_gpu_type type;
    enum l2d_tier tier;
    uint32_t api_version;
    uint32_t subgroup_size;
    bool     sets_subgroup_size;    // a pipeline can ask for it
    uint32_t lane_registers;        // of 32 bits for an invocation, if they are few; 0: enough
    bool     has_fp16;              // 16-bit values in storage buffers
    bool     has_half_math;         // and arithmetic with them
    struct l2d_matrix_shape matrix;
    bool     matrix_columns;        // lanes hold a second factor's columns, which lie together best
    bool     matrix_halves;         // products can be added up in halves too
    struct l2d_matrix2 matrix2;
    uint64_t memory_bytes;          // of the largest device-local heap
    uint64_t max_range_bytes;       // of one storage buffer binding
    uint64_t max_texels;            // of one that is read as texels
    uint32_t num_cores;             // that each run workgroups of their own, or a guess; CPUs: 0
    uint32_t max_shared_bytes;
    uint32_t max_invocations;       // in one workgroup, of whole subgroups
    uint32_t max_groups[3];         // of one dispatch
    double   timestamp_ns;          // per tick; 0 if the queues have no timestamps
    uint32_t num_lanes;             // 2: a second queue works ahead
};

struct l2d_gpu_params {             // zero means default
    const char *device;             // index, or part of the name; NULL: the best one
    const char *cache_dir;          // pipelines, and what tuning chose; NULL: live2diff below
                                    // $XDG_CACHE_HOME, else ~/.cache; "": nothing is kept
    bool validation;                // with the validation layer; a missing layer is an error
    enum l2d_tier tier;             // AUTO: by device
    enum l2d_lanes lanes;           // AUTO: two, if the device has them
    uint64_t memory_bytes;          // take the device for one of so much memory, and
    uint64_t max_range_bytes;       // such bindings, and
    uint32_t num_cores;             // so many cores; 0: as it is (tests)
    bool matrix_rows;               // and for one without matrix_columns (tests)
    double piece_flops;             // what is given to the device at once; 0: 5e11
    struct l2d_log log;
};

/**
 * Open a device. Without params->device: discrete before integrated before virtual before CPU, then
 * the larger memory; the choice and its reason are logged at INFO.
 * returns  L2D_OK; L2D_EGPU with a line that names what is missing and what to install;
 *          L2D_EUNSUPPORTED: a tier that the device does not have; L2D_ENOMEM
 * Thread-safety: a gpu may be used by one thread at a time.
 */
int l2d_gpu_create(struct l2d_gpu **out, const struct l2d_gpu_params *params,
                   struct l2d_error *err);

/** Wait until the device is idle and free it. Accepts NULL. */
void l2d_gpu_destroy(struct l2d_gpu **gpu);

/** What it can do; valid until destroy. */
const struct l2d_gpu_caps *l2d_gpu_caps(const struct l2d_gpu *gpu);

// Memory of all buffers, as the driver rounded it.
struct l2d_gpu_taken {
    uint64_t now_bytes, peak_bytes;
};
struct l2d_gpu_taken l2d_gpu_taken(const struct l2d_gpu *gpu);

/** Validation messages (warnings and errors) so far; 0 without validation. */
uint32_t l2d_gpu_num_validation_messages(const struct l2d_gpu *gpu);

/**
 * List the devices in the order of --device indices.
 * cap      entries in desc; *count is the number of devices, which may be larger.
 * returns  L2D_OK, or L2D_EGPU if there is no driver
 */
int l2d_gpu_list(struct l2d_gpu_caps *desc, uint32_t cap, uint32_t *count, struct l2d_error *err);

/** "discrete", "integrated", ... */
const char *l2d_gpu_type_str(enum l2d_gpu_type type);

#endif
