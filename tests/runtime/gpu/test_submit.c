// SPDX-License-Identifier: Apache-2.0
// Submissions where the driver is another one than ours: its timestamps begin anew, it has no
// memory for a while, or refuses a submission.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/submit.h"
#include "gpu/vk.h"

#define TICK_MASK ((UINT64_C(1) << 36) - 1)     // the fewest bits that timestamps may have

static struct l2d_gpu *gpu;
static struct l2d_graph *graph;
static struct l2d_buf *buf;
static struct l2d_error err;
static bool fail_command_buffers;
static VkResult of_submits = VK_SUCCESS;

// ---- the driver

void __real_vkGetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice physical, uint32_t *count,
                                                     VkQueueFamilyProperties *family);
void __wrap_vkGetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice physical, uint32_t *count,
                                                     VkQueueFamilyProperties *family);
void __wrap_vkGetPhysicalDeviceQueueFamilyProperties(VkPhysicalDevice physical, uint32_t *count,
                                                     VkQueueFamilyProperties *family)
{
    __real_vkGetPhysicalDeviceQueueFamilyProperties(physical, count, family);
    for (uint32_t i = 0; family && i < *count; i++)
        family[i].timestampValidBits = 36;
}

// Of every pair of marks the second is after the counter has begun anew.
VkResult __real_vkGetQueryPoolResults(VkDevice device, VkQueryPool pool, uint32_t first,
                                      uint32_t count, size_t size, void *out, VkDeviceSize stride,
                                      VkQueryResultFlags flags);
VkResult __wrap_vkGetQueryPoolResults(VkDevice device, VkQueryPool pool, uint32_t first,
                                      uint32_t count, size_t size, void *out, VkDeviceSize stride,
                                      VkQueryResultFlags flags);
VkResult __wrap_vkGetQueryPoolResults(VkDevice device, VkQueryPool pool, uint32_t first,
                                      uint32_t count, size_t size, void *out, VkDeviceSize stride,
                                      VkQueryResultFlags flags)
{
    VkResult result = __real_vkGetQueryPoolResults(device, pool, first, count, size, out, stride,
                                                   flags);
    uint64_t *ticks = out, begin = ticks[0] + 1;
    for (uint32_t i = 0; i < count; i++)
        ticks[i] = (ticks[i] - begin) & TICK_MASK;
    return result;
}

VkResult __real_vkAllocateCommandBuffers(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                         VkCommandBuffer *cmd);
VkResult __wrap_vkAllocateCommandBuffers(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                         VkCommandBuffer *cmd);
VkResult __wrap_vkAllocateCommandBuffers(VkDevice device, const VkCommandBufferAllocateInfo *info,
                                         VkCommandBuffer *cmd)
{
    *cmd = NULL;
    return fail_command_buffers ? VK_ERROR_OUT_OF_HOST_MEMORY
                                : __real_vkAllocateCommandBuffers(device, info, cmd);
}

VkResult __real_vkQueueSubmit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *info,
                               VkFence fence);
VkResult __wrap_vkQueueSubmit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *info,
                               VkFence fence);
VkResult __wrap_vkQueueSubmit2(VkQueue queue, uint32_t count, const VkSubmitInfo2 *info,
                               VkFence fence)
{
    return of_submits != VK_SUCCESS ? of_submits
                                    : __real_vkQueueSubmit2(queue, count, info, fence);
}

// ---- tests

// A graph of one copy.
static void open_all(void)
{
    uint64_t size;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
        .cache_dir = "", .validation = true,
    }, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_buf_create(&buf, gpu, 1024, L2D_MEMORY_DEVICE, "test", &err), L2D_OK);
    cr_assert_eq(l2d_graph_create(&graph, gpu, L2D_F32, "test", &err), L2D_OK);
    l2d_graph_copy(graph, l2d_tensor_view(buf, 0, L2D_F32, 1, 1, 1, 64),
                   l2d_tensor_view(buf, 512, L2D_F32, 1, 1, 1, 64));
    cr_assert_eq(l2d_graph_plan(graph, &size, &err), L2D_OK);
    cr_assert_eq(l2d_graph_finish(graph, NULL, &err), L2D_OK, "%s", err.msg);
}

static void close_all(void)
{
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
    if (l2d_gpu_num_validation_messages(gpu) > 0)
        abort();
    l2d_gpu_destroy(&gpu);
}

TestSuite(submit, .init = open_all, .fini = close_all);

static int submit(uint64_t *ticket)
{
    return l2d_gpu_submit(gpu, &(struct l2d_submit) { graph, 0 }, 1, ticket, &err);
}

Test(submit, timestamps_begin_anew)
{
    uint64_t ticket;
    double ms[L2D_MAX_STAGES];
    cr_assert_eq(submit(&ticket), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_gpu_wait(gpu, ticket, &err), L2D_OK);
    cr_assert(l2d_gpu_stage_ms(gpu, ticket, ms));
    cr_expect(ms[0] > 0 && ms[0] < 10000, "%g ms", ms[0]);
}

// The first submission makes the timestamps' command buffers.
Test(submit, no_memory_for_timestamps_at_first)
{
    uint64_t ticket;
    double ms[L2D_MAX_STAGES];
    fail_command_buffers = true;
    cr_assert_eq(submit(&ticket), L2D_ENOMEM, "%s", err.msg);
    fail_command_buffers = false;
    cr_assert_eq(submit(&ticket), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_gpu_wait(gpu, ticket, &err), L2D_OK);
    cr_expect(l2d_gpu_stage_ms(gpu, ticket, ms));
}

// What never runs is not waited for.
Test(submit, refused, .timeout = 60)
{
    uint64_t ticket = UINT64_MAX;
    of_submits = VK_ERROR_OUT_OF_DEVICE_MEMORY;
    cr_assert_neq(submit(&ticket), L2D_OK);
    double begin = l2d_clock_s();
    cr_expect_eq(l2d_gpu_wait(gpu, ticket, &err), L2D_OK);
    cr_expect_lt(l2d_clock_s() - begin, 10);
    of_submits = VK_SUCCESS;
    cr_assert_eq(submit(&ticket), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_gpu_wait(gpu, ticket, &err), L2D_OK);
}

Test(submit, a_lost_device_says_where_to_look)
{
    uint64_t ticket;
    of_submits = VK_ERROR_DEVICE_LOST;
    cr_assert_eq(submit(&ticket), L2D_EGPU);
    cr_expect_not_null(strstr(err.msg, "vkQueueSubmit2: device lost: the driver has reset it"),
                       "%s", err.msg);
    of_submits = VK_SUCCESS;
}
