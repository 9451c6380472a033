// SPDX-License-Identifier: Apache-2.0
// See lane.h.
#include "gpu/lane.h"

#include <stdlib.h>

#include "gpu/vk.h"

static uint64_t mask_of(uint32_t bits)
{
    return bits < 64 ? (UINT64_C(1) << bits) - 1 : UINT64_MAX;
}

struct l2d_vk_queues l2d_vk_find_queues(VkPhysicalDevice physical)
{
    VkQueueFamilyProperties family[32];
    struct l2d_vk_queues q = { .count = 0 };
    uint32_t count = 32;
    vkGetPhysicalDeviceQueueFamilyProperties(physical, &count, family);
    for (uint32_t i = 0; i < count && !q.count; i++)
        if (family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) {
            q.family[q.count++] = i;
            q.have_timestamps = family[i].timestampValidBits > 0;
            q.tick_mask[0] = q.tick_mask[1] = mask_of(family[i].timestampValidBits);
        }
    for (uint32_t i = 0; i < count && q.count == 1; i++) {
        bool alone = (family[i].queueFlags & VK_QUEUE_COMPUTE_BIT) &&
                     !(family[i].queueFlags & VK_QUEUE_GRAPHICS_BIT);
        bool timed = family[i].timestampValidBits > 0 || !q.have_timestamps;
        if (i != q.family[0] && alone && timed) {
            q.tick_mask[1] = mask_of(family[i].timestampValidBits);
            q.family[q.count++] = i;
        }
    }
    if (q.count == 1) {
        q.family[1] = q.family[0];
        q.index[1] = family[q.family[0]].queueCount > 1;
        q.count += q.index[1];
    }
    return q;
}

static int create(struct l2d_gpu *gpu, struct l2d_vk_lane *lane, uint32_t family, uint32_t index,
                  struct l2d_error *err)
{
    int rc = L2D_OK;
    vkGetDeviceQueue(gpu->device, family, index, &lane->queue);
    VK_TRY(vkCreateCommandPool(gpu->device, &(VkCommandPoolCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO, .queueFamilyIndex = family,
    }, NULL, &lane->pool));
    VkSemaphoreTypeCreateInfo timeline = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
        .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE,
    };
    VK_TRY(vkCreateSemaphore(gpu->device, &(VkSemaphoreCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &timeline,
    }, NULL, &lane->timeline));
    VK_TRY(vkCreateSemaphore(gpu->device, &(VkSemaphoreCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &timeline,
    }, NULL, &lane->pieces));
fail:
    return rc;
}

int l2d_vk_lanes_create(struct l2d_gpu *gpu, struct l2d_error *err)
{
    const struct l2d_vk_queues *q = &gpu->queues;
    int rc = L2D_OK;
    for (uint32_t i = 0; i < gpu->caps.num_lanes && rc == L2D_OK; i++) {
        uint32_t queue = gpu->swapped ? 0 : i;
        rc = create(gpu, &gpu->lane[i], q->family[queue], q->index[queue], err);
    }
    return rc;
}

void l2d_vk_lanes_destroy(struct l2d_gpu *gpu)
{
    for (uint32_t i = 0; i < L2D_NUM_LANES; i++) {
        vkDestroyQueryPool(gpu->device, gpu->lane[i].marks, NULL);
        vkDestroySemaphore(gpu->device, gpu->lane[i].timeline, NULL);
        vkDestroySemaphore(gpu->device, gpu->lane[i].pieces, NULL);
        vkDestroyCommandPool(gpu->device, gpu->lane[i].pool, NULL);
        free(gpu->lane[i].mark_cmd);
    }
}

// The command buffers that write a lane's timestamps.
static int mark(struct l2d_gpu *gpu, enum l2d_lane which, struct l2d_error *err)
{
    struct l2d_vk_lane *lane = &gpu->lane[which];
    uint32_t count = L2D_NUM_TICKETS * L2D_MAX_MARKS;
    int rc = L2D_OK;
    VkQueryPool marks = VK_NULL_HANDLE;
    VkCommandBuffer *cmd = calloc(count, sizeof(*cmd));
    if (!cmd)
        return l2d_error_set(err, L2D_ENOMEM, "gpu: out of memory");
    VK_TRY(vkCreateQueryPool(gpu->device, &(VkQueryPoolCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = count,
    }, NULL, &marks));
    for (uint32_t i = 0; i < count; i++) {
        rc = l2d_vk_begin(gpu, which, &cmd[i], err);
        if (rc != L2D_OK)
            goto fail;
        vkCmdWriteTimestamp2(cmd[i], VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, marks, i);
        VK_TRY(vkEndCommandBuffer(cmd[i]));
    }
    lane->marks = marks;
    lane->mark_cmd = cmd;
    return L2D_OK;

fail:                                   // the next submission tries again
    vkFreeCommandBuffers(gpu->device, lane->pool, count, cmd);
    vkDestroyQueryPool(gpu->device, marks, NULL);
    free(cmd);
    return rc;
}

int l2d_vk_lanes_mark(struct l2d_gpu *gpu, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < gpu->caps.num_lanes && rc == L2D_OK; i++)
        if (!gpu->lane[i].marks)
            rc = mark(gpu, (enum l2d_lane) i, err);
    return rc;
}
