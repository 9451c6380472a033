// SPDX-License-Identifier: Apache-2.0
// Submission, waiting and stage times. See submit.h. A timestamp is written by its own tiny command
// buffer between two graphs, so that a graph may run several times in one submission.
#include "gpu/submit.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "gpu/vk.h"

// A piece of a submission that takes longer counts as hung. A CPU may really need long.
#define GPU_WAIT_S 120u
#define CPU_WAIT_S 3600u

static enum l2d_lane lane_index(const struct l2d_gpu *gpu, enum l2d_lane lane)
{
    return gpu->caps.num_lanes > 1 ? lane : L2D_LANE_MAIN;
}

struct l2d_vk_lane *l2d_vk_lane_of(struct l2d_gpu *gpu, enum l2d_lane lane)
{
    return &gpu->lane[lane_index(gpu, lane)];
}

int l2d_vk_begin(struct l2d_gpu *gpu, enum l2d_lane lane, VkCommandBuffer *cmd,
                 struct l2d_error *err)
{
    int rc = L2D_OK;
    VkCommandPool pool = l2d_vk_lane_of(gpu, lane)->pool;
    *cmd = VK_NULL_HANDLE;
    VK_TRY(vkAllocateCommandBuffers(gpu->device, &(VkCommandBufferAllocateInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO,
        .commandPool = pool, .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY,
        .commandBufferCount = 1,
    }, cmd));
    VK_TRY(vkBeginCommandBuffer(*cmd, &(VkCommandBufferBeginInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO,
        .flags = VK_COMMAND_BUFFER_USAGE_SIMULTANEOUS_USE_BIT,
    }));
    return L2D_OK;
fail:
    if (*cmd)
        vkFreeCommandBuffers(gpu->device, pool, 1, cmd);
    *cmd = VK_NULL_HANDLE;
    return rc;
}

static void add(struct l2d_vk_batch *b, VkCommandBuffer cmd)
{
    assert(b->count < L2D_MAX_CMDS);
    b->cmd[b->count++] = (VkCommandBufferSubmitInfo) {
        .sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = cmd,
    };
}

// A large graph's command buffers are pieces of their own.
static void add_graph(struct l2d_vk_batch *b, const struct l2d_graph *graph)
{
    const VkCommandBuffer *cmd;
    uint32_t count = l2d_graph_cmds(graph, &cmd);
    for (uint32_t i = 0; i < count; i++) {
        add(b, cmd[i]);
        b->breaks[b->count - 1] = i + 1 < count;
    }
}

// Piece by piece: some systems take a device for hung that is not done within seconds with what it
// was given at once. Each piece signals something, or drivers would put them together again.
static int send(struct l2d_gpu *gpu, enum l2d_lane which, const struct l2d_vk_batch *b,
                struct l2d_error *err)
{
    struct l2d_vk_lane *lane = &gpu->lane[which];
    uint32_t from = 0, to = 0;
    int rc = L2D_OK;
    VkSemaphoreSubmitInfo wait = {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
        .semaphore = gpu->lane[b->waits_on].timeline, .value = b->wait_value,
        .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
    };
    do {
        from = to;
        while (to < b->count && !b->breaks[to++])
            ;
        bool last = to == b->count;
        VkSemaphoreSubmitInfo signal = {
            .sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO,
            .semaphore = last ? lane->timeline : lane->pieces,
            .value = last ? b->value : ++lane->num_pieces,
            .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
        };
        VK_TRY(vkQueueSubmit2(lane->queue, 1, &(VkSubmitInfo2) {
            .sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2,
            .waitSemaphoreInfoCount = from == 0 && b->wait_value > 0, .pWaitSemaphoreInfos = &wait,
            .commandBufferInfoCount = to - from, .pCommandBufferInfos = b->cmd + from,
            .signalSemaphoreInfoCount = 1, .pSignalSemaphoreInfos = &signal,
        }, VK_NULL_HANDLE));
    } while (to < b->count);
    lane->submitted = b->value;
fail:
    return rc;
}

// What is held, up to a ticket.
static int flush_to(struct l2d_gpu *gpu, uint64_t ticket, struct l2d_error *err)
{
    uint32_t n = 0;
    int rc = L2D_OK;
    for (; n < gpu->num_held && gpu->held[n].value <= ticket && rc == L2D_OK; n++)
        rc = send(gpu, L2D_LANE_MAIN, &gpu->held[n], err);
    gpu->num_held -= n;
    memmove(gpu->held, gpu->held + n, gpu->num_held * sizeof(gpu->held[0]));
    return rc;
}

int l2d_vk_flush(struct l2d_gpu *gpu, struct l2d_error *err)
{
    return flush_to(gpu, UINT64_MAX, err);
}

// How many submissions and pieces of them have been done.
static uint64_t progress(const struct l2d_gpu *gpu)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < gpu->caps.num_lanes; i++) {
        uint64_t submissions = 0, pieces = 0;
        vkGetSemaphoreCounterValue(gpu->device, gpu->lane[i].timeline, &submissions);
        vkGetSemaphoreCounterValue(gpu->device, gpu->lane[i].pieces, &pieces);
        sum += submissions + pieces;
    }
    return sum;
}

static VkResult wait_for(struct l2d_gpu *gpu, uint64_t ticket, uint64_t nanoseconds)
{
    return vkWaitSemaphores(gpu->device, &(VkSemaphoreWaitInfo) {
        .sType = VK_STRUCTURE_TYPE_SEMAPHORE_WAIT_INFO, .semaphoreCount = 1,
        .pSemaphores = &gpu->lane[L2D_LANE_MAIN].timeline, .pValues = &ticket,
    }, nanoseconds);
}

int l2d_gpu_wait_for(struct l2d_gpu *gpu, uint64_t ticket, double seconds, bool *done,
                     struct l2d_error *err)
{
    int rc = flush_to(gpu, ticket, err);
    if (rc != L2D_OK)
        return rc;
    VkResult result = wait_for(gpu, ticket, seconds > 0 ? (uint64_t) (1e9 * seconds) : 0);
    *done = result == VK_SUCCESS;
    return result == VK_SUCCESS || result == VK_TIMEOUT ? L2D_OK
         : l2d_vk_fail(err, result, "vkWaitSemaphores");
}

int l2d_gpu_wait(struct l2d_gpu *gpu, uint64_t ticket, struct l2d_error *err)
{
    uint64_t seconds = gpu->caps.type == L2D_GPU_CPU ? CPU_WAIT_S : GPU_WAIT_S;
    uint64_t before, done = progress(gpu);
    VkResult result;
    int rc = flush_to(gpu, ticket, err);
    if (rc != L2D_OK)
        return rc;
    do {
        before = done;
        result = wait_for(gpu, ticket, seconds * 1000000000);
        done = result == VK_TIMEOUT ? progress(gpu) : before;
    } while (done != before);
    if (result == VK_TIMEOUT)
        return l2d_error_set(err, L2D_EGPU, "the GPU did nothing for %" PRIu64 " s", seconds);
    return result == VK_SUCCESS ? L2D_OK : l2d_vk_fail(err, result, "vkWaitSemaphores");
}

int l2d_vk_end(struct l2d_gpu *gpu, VkCommandBuffer *cmd, uint64_t *ticket, struct l2d_error *err)
{
    struct l2d_vk_lane *lane = &gpu->lane[L2D_LANE_MAIN];
    int rc = l2d_vk_flush(gpu, err);
    if (rc != L2D_OK)
        goto fail;
    VK_TRY(vkEndCommandBuffer(*cmd));
    struct l2d_vk_batch batch = { .value = lane->submitted + 1 };
    add(&batch, *cmd);
    rc = send(gpu, L2D_LANE_MAIN, &batch, err);
    *ticket = gpu->written = lane->submitted;
fail:
    if (rc != L2D_OK) {
        vkFreeCommandBuffers(gpu->device, lane->pool, 1, cmd);
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
    if (rc == L2D_OK)                   // else it may still run: the pool's end frees it
        vkFreeCommandBuffers(gpu->device, gpu->lane[L2D_LANE_MAIN].pool, 1, &cmd);
    return rc;
}

// A lane's items, with a mark before the first, after the last, and wherever the stage changes.
static void gather(struct l2d_gpu *gpu, enum l2d_lane lane, const struct l2d_submit *items,
                   uint32_t count, uint32_t slot, struct l2d_vk_batch *b)
{
    const struct l2d_submit *last = NULL;
    struct l2d_ticket_marks *marks = &gpu->ticket[slot].marks[lane];
    const VkCommandBuffer *mark = gpu->lane[lane].mark_cmd;
    uint32_t first = slot * L2D_MAX_MARKS;
    if (mark)
        vkResetQueryPool(gpu->device, gpu->lane[lane].marks, first, L2D_MAX_MARKS);
    for (uint32_t i = 0; i < count; i++) {
        if (lane_index(gpu, l2d_graph_lane(items[i].graph)) != lane)
            continue;
        if (mark && (!last || items[i].stage != last->stage)) {
            marks->stage[marks->count] = last ? last->stage : 0;
            add(b, mark[first + marks->count++]);
        }
        add_graph(b, items[i].graph);
        last = &items[i];
    }
    if (mark && last) {
        marks->stage[marks->count] = last->stage;
        add(b, mark[first + marks->count++]);
    }
}

// What is ahead, after the main lane's submission `after`; *wait_value: 0 if there is nothing.
static int send_ahead(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                      uint64_t after, uint32_t slot, uint64_t *wait_value, struct l2d_error *err)
{
    after = after > gpu->written ? after : gpu->written;
    int rc = flush_to(gpu, after, err);
    struct l2d_vk_batch ahead = {
        .waits_on = L2D_LANE_MAIN, .wait_value = after,
        .value = gpu->lane[L2D_LANE_AHEAD].submitted + 1,
    };
    gather(gpu, L2D_LANE_AHEAD, items, count, slot, &ahead);
    *wait_value = ahead.count ? ahead.value : 0;
    return rc == L2D_OK && ahead.count ? send(gpu, L2D_LANE_AHEAD, &ahead, err) : rc;
}

static int submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                        uint64_t after, uint64_t *ticket, struct l2d_error *err)
{
    assert(count < L2D_MAX_MARKS);
    int rc = gpu->caps.timestamp_ns > 0 ? l2d_vk_lanes_mark(gpu, err) : L2D_OK;
    if (rc != L2D_OK)
        return rc;
    uint64_t value = gpu->lane[L2D_LANE_MAIN].submitted + gpu->num_held + 1;
    uint32_t slot = (uint32_t) (value % L2D_NUM_TICKETS);
    struct l2d_vk_batch batch = { .waits_on = L2D_LANE_AHEAD, .value = value };
    gpu->ticket[slot] = (struct l2d_ticket) { .value = value };
    if (gpu->caps.num_lanes > 1)
        rc = send_ahead(gpu, items, count, after < value ? after : value - 1, slot,
                        &batch.wait_value, err);
    if (rc == L2D_OK && gpu->num_held == COUNT_OF(gpu->held))
        rc = flush_to(gpu, gpu->held[0].value, err);
    if (rc != L2D_OK)
        return rc;
    gather(gpu, L2D_LANE_MAIN, items, count, slot, &batch);
    *ticket = value;
    if (!gpu->swapped)
        return send(gpu, L2D_LANE_MAIN, &batch, err);
    gpu->held[gpu->num_held++] = batch;
    return L2D_OK;
}

int l2d_gpu_submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                         uint64_t after, uint64_t *ticket, struct l2d_error *err)
{
    int rc = submit_after(gpu, items, count, after, ticket, err);
    if (rc != L2D_OK) {                 // a part of it may run; what it should signal never comes
        vkDeviceWaitIdle(gpu->device);
        *ticket = gpu->lane[L2D_LANE_MAIN].submitted;
    }
    return rc;
}

int l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                   uint64_t *ticket, struct l2d_error *err)
{
    return l2d_gpu_submit_after(gpu, items, count, UINT64_MAX, ticket, err);
}

bool l2d_gpu_stage_ms(struct l2d_gpu *gpu, uint64_t ticket, double ms[L2D_MAX_STAGES])
{
    uint32_t slot = (uint32_t) (ticket % L2D_NUM_TICKETS);
    const struct l2d_ticket *t = &gpu->ticket[slot];
    uint64_t ticks[L2D_MAX_MARKS];
    bool any = false;
    for (uint32_t i = 0; i < L2D_MAX_STAGES; i++)
        ms[i] = 0;
    for (uint32_t lane = 0; lane < L2D_NUM_LANES && t->value == ticket; lane++) {
        const struct l2d_ticket_marks *m = &t->marks[lane];
        if (!m->count)
            continue;
        if (vkGetQueryPoolResults(gpu->device, gpu->lane[lane].marks, slot * L2D_MAX_MARKS,
                                  m->count, sizeof(ticks), ticks, sizeof(*ticks),
                                  VK_QUERY_RESULT_64_BIT) != VK_SUCCESS)
            return false;
        uint64_t mask = gpu->queues.tick_mask[gpu->swapped ? 0 : lane];
        for (uint32_t i = 1; i < m->count; i++)
            ms[m->stage[i]] += (double) ((ticks[i] - ticks[i - 1]) & mask) *
                               gpu->caps.timestamp_ns * 1e-6;
        any = true;
    }
    return any;
}
