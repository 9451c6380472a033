// SPDX-License-Identifier: Apache-2.0
// Private to runtime/gpu: what a graph consists of.
#ifndef L2D_GPU_OPS_H
#define L2D_GPU_OPS_H

#include "gpu/vk.h"

#define L2D_MAX_PATH_WORDS 8
#define L2D_MAX_PIECES 32               // command buffers of a graph

struct l2d_op {
    bool copy;                          // bind[0] is the source, bind[1] the destination
    struct l2d_program *program;
    VkDescriptorSet set;
    const char *shader;
    uint32_t num_spec, num_bind, params_size;
    uint32_t spec[L2D_MAX_SPEC];
    uint8_t params[128];
    struct l2d_binding bind[L2D_MAX_BINDINGS];
    uint32_t groups[3];
    char variant[24];
    double flops, bytes;
    char *label;
};

struct l2d_transient {
    uint64_t size_bytes, offset_bytes;
    int32_t first, last;                // op indices; first < 0: not used yet
    bool keep;                          // to the end: it is a probe
    bool zeros;                         // it lies in the graph's own buffer
};

struct l2d_graph {
    struct l2d_gpu *gpu;
    enum l2d_dtype precision;
    enum l2d_lane lane;
    char name[48];
    struct l2d_error error;             // the first; its code is L2D_OK while there is none

    struct l2d_op *op;
    uint32_t num_ops, cap_ops;
    struct l2d_transient *transient;
    uint32_t num_transients, cap_transients;
    struct l2d_probe *probe;
    uint32_t num_probes, cap_probes;
    const char *probe_prefix;           // or NULL
    bool probes_on, planned;
    uint64_t size_bytes;                // of the activation buffer
    struct l2d_buf *zeros;
    uint64_t zeros_bytes;

    char word[L2D_MAX_PATH_WORDS][48];  // the profile path
    uint32_t num_words;

    struct l2d_operands operands;
    VkCommandBuffer cmd[L2D_MAX_PIECES];    // in turn
    uint32_t num_cmds;
};

/**
 * Write all ops into a command buffer, each after what it has to wait for. marks: null, and then
 * large graphs go on in further command buffers of the graph's; or a pool of num_ops + 1
 * timestamps, before each op and after the last: then every op waits for the one before.
 */
int l2d_graph_record(struct l2d_graph *graph, VkCommandBuffer cmd, VkQueryPool marks,
                     struct l2d_error *err);

#endif
