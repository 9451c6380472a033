// SPDX-License-Identifier: Apache-2.0
// Submission, waiting and stage times. See submit.h. A timestamp is written by its own tiny command
// buffer between two graphs, so that a graph may run several times in one submission.
#include "gpu/submit.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "gpu/vk.h"

// A submission that takes longer counts as hung. A CPU may really need long for a large model.
#define GPU_WAIT_S 120u
#define CPU_WAIT_S 3600u

int l2d_vk_begin(struct l2d_gpu *gpu, VkCommandBuffer *cmd, struct l2d_error *err)
{
    int rc = L2D_OK;
    *cmd = VK_NULL_HANDLE;
    VK_TRY(vkAllocateCommandBuffers(gpu->device, &(VkCommandBufferAllocateInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = gpu->pool, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    }, cmd));
    VK_TRY(vkBeginCommandBuffer(*cmd, &(VkCommandBufferBeginInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    }));
    return L2D_OK;
fail:
    if (*cmd)
        vkFreeCommandBuffers(gpu->device, gpu->pool, 1, cmd);
    *cmd = VK_NULL_HANDLE;
    return rc;
}

static int submit(struct l2d_gpu *gpu, const VkCommandBufferSubmitInfo *cmd, uint32_t count,
                  struct l2d_error *err)
{
    int rc = L2D_OK;
    VkSemaphoreSubmitInfo signal = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO, .semaphore = gpu->timeline,
        .value = gpu->submitted + 1, .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    };
    VK_TRY(vkQueueSubmit2(gpu->queue, 1, &(VkSubmitInfo2) {
        .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
        .commandBufferInfoCount = count, .pCommandBufferInfos = cmd,
        .signalSemaphoreInfoCount = 1, .pSignalSemaphoreInfos = &signal,
    }, VK_NULL_HANDLE));
    gpu->submitted++;
fail:
    return rc;
}

int l2d_gpu_wait(struct l2d_gpu *gpu, uint64_t ticket, struct l2d_error *err)
{
    uint64_t seconds = gpu->caps.type == L2D_GPU_CPU ? CPU_WAIT_S : GPU_WAIT_S;
    VkResult result = vkWaitSemaphores(gpu->device, &(VkSemaphoreWaitInfo) {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO,
        .semaphoreCount = 1, .pSemaphores = &gpu->timeline, .pValues = &ticket,
    }, seconds * 1000000000);
    if (result == VK_TIMEOUT)
        return l2d_error_set(err, L2D_EGPU, "the GPU did not finish within %" PRIu64 " s", seconds);
    return result == VK_SUCCESS ? L2D_OK : l2d_vk_fail(err, result, "vkWaitSemaphores");
}

int l2d_vk_end(struct l2d_gpu *gpu, VkCommandBuffer *cmd, uint64_t *ticket, struct l2d_error *err)
{
    int rc = L2D_OK;
    VK_TRY(vkEndCommandBuffer(*cmd));
    rc = submit(gpu, &(VkCommandBufferSubmitInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = *cmd,
    }, 1, err);
    *ticket = gpu->submitted;
fail:
    if (rc != L2D_OK) {
        vkFreeCommandBuffers(gpu->device, gpu->pool, 1, cmd);
        *cmd = VK_NULL_HANDLE;
    }
    return rc;
}

int l2d_vk_end_and_wait(struct l2d_gpu *gpu, VkCommandBuffer cmd, struct l2d_error *err)
{
    uint64_t ticket;
    int rc = l2d_vk_end(gpu, &cmd, &ticket, err);
    if (rc != L2D_OK)
        return rc;
    rc = l2d_gpu_wait(gpu, ticket, err);
    vkFreeCommandBuffers(gpu->device, gpu->pool, 1, &cmd);
    return rc;
}

// The command buffers that write the timestamps; made with the first submission.
static int create_marks(struct l2d_gpu *gpu, struct l2d_error *err)
{
    int rc = L2D_OK;
    uint32_t count = L2D_NUM_TICKETS * L2D_MAX_MARKS;
    gpu->mark_cmd = calloc(count, sizeof(*gpu->mark_cmd));
    if (!gpu->mark_cmd)
        return l2d_error_set(err, L2D_ENOMEM, "gpu: out of memory");
    VK_TRY(vkCreateQueryPool(gpu->device, &(VkQueryPoolCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = count,
    }, NULL, &gpu->marks));
    for (uint32_t i = 0; i < count; i++) {
        rc = l2d_vk_begin(gpu, &gpu->mark_cmd[i], err);
        if (rc != L2D_OK)
            return rc;
        vkCmdWriteTimestamp2(gpu->mark_cmd[i], VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, gpu->marks, i);
        VK_TRY(vkEndCommandBuffer(gpu->mark_cmd[i]));
    }
fail:
    return rc;
}

int l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                   uint64_t *ticket, struct l2d_error *err)
{
    assert(count < L2D_MAX_MARKS);
    bool timed = gpu->caps.timestamp_ns > 0;
    if (timed && !gpu->marks) {
        int rc = create_marks(gpu, err);
        if (rc != L2D_OK)
            return rc;
    }
    uint32_t slot = (uint32_t) ((gpu->submitted + 1) % L2D_NUM_TICKETS);
    uint32_t first = slot * L2D_MAX_MARKS;
    struct l2d_ticket *t = &gpu->ticket[slot];
    VkCommandBufferSubmitInfo cmd[2 * L2D_MAX_MARKS];
    uint32_t n = 0;

    *t = (struct l2d_ticket) { .value = gpu->submitted + 1 };
    if (timed)
        vkResetQueryPool(gpu->device, gpu->marks, first, L2D_MAX_MARKS);
    for (uint32_t i = 0; i <= count; i++) {
        // A mark before the first graph, after the last, and wherever the stage changes.
        if (timed && (i == 0 || i == count || items[i].stage != items[i - 1].stage)) {
            t->stage[t->num_marks] = i > 0 ? items[i - 1].stage : 0;
            cmd[n++].commandBuffer = gpu->mark_cmd[first + t->num_marks++];
        }
        if (i < count)
            cmd[n++].commandBuffer = l2d_graph_cmd(items[i].graph);
    }
    for (uint32_t i = 0; i < n; i++)
        cmd[i] = (VkCommandBufferSubmitInfo) {
            .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO,
            .commandBuffer = cmd[i].commandBuffer,
        };
    int rc = submit(gpu, cmd, n, err);
    *ticket = gpu->submitted;
    return rc;
}

bool l2d_gpu_stage_ms(struct l2d_gpu *gpu, uint64_t ticket, double ms[L2D_MAX_STAGES])
{
    uint32_t slot = (uint32_t) (ticket % L2D_NUM_TICKETS);
    const struct l2d_ticket *t = &gpu->ticket[slot];
    uint64_t ticks[L2D_MAX_MARKS];
    for (uint32_t i = 0; i < L2D_MAX_STAGES; i++)
        ms[i] = 0;
    if (t->value != ticket || !t->num_marks ||
        vkGetQueryPoolResults(gpu->device, gpu->marks, slot * L2D_MAX_MARKS, t->num_marks,
                              sizeof(ticks), ticks, sizeof(*ticks),
                              VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
        return false;
    for (uint32_t i = 1; i < t->num_marks; i++)
        ms[t->stage[i]] += (double) (ticks[i] - ticks[i - 1]) * gpu->caps.timestamp_ns * 1e-6;
    return true;
}
