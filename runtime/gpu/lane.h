// SPDX-License-Identifier: Apache-2.0
// Private to runtime/gpu: a queue with what is made for it. What runs in which lane: submit.h.
#ifndef L2D_GPU_LANE_H
#define L2D_GPU_LANE_H

#include <stdbool.h>
#include <stdint.h>
#include <vulkan/vulkan.h>

#include "base/error.h"
#include "gpu/device.h"

struct l2d_gpu;

struct l2d_vk_lane {
    VkQueue queue;
    VkCommandPool pool;
    VkSemaphore timeline;
    uint64_t submitted;                 // the last value that will be signalled
    VkSemaphore pieces;                 // counts those of submissions, but their last
    uint64_t num_pieces;
    VkQueryPool marks;                  // timestamps, of each ticket; null: none was wanted yet
    VkCommandBuffer *mark_cmd;          // one per query
};

// Where a device's queues are.
struct l2d_vk_queues {
    uint32_t count;                     // 0: none computes
    uint32_t family[L2D_NUM_LANES], index[L2D_NUM_LANES];
    bool     have_timestamps;
    uint64_t tick_mask[L2D_NUM_LANES];  // bits that timestamps have: some begin anew within hours
};

/**
 * The first family that computes; and for what is ahead one that does nothing else, which GPUs run
 * beside the first, or another queue of the same family.
 */
struct l2d_vk_queues l2d_vk_find_queues(VkPhysicalDevice physical);

/** On queues that the device was made with; swapped ones are both on the first. */
int l2d_vk_lanes_create(struct l2d_gpu *gpu, struct l2d_error *err);

/** Nothing is running any more. */
void l2d_vk_lanes_destroy(struct l2d_gpu *gpu);

/** Room for timestamps in every lane; made once. */
int l2d_vk_lanes_mark(struct l2d_gpu *gpu, struct l2d_error *err);

#endif
