// SPDX-License-Identifier: Apache-2.0
// Buffers with their own memory, and blocking transfers for loading and tests. See buffer.h.
#include "gpu/buffer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"

#define PIECE_BYTES (UINT64_C(4) << 20)     // of a transfer; there is room for two

#define MIB (1024.0 * 1024.0)
#define VISIBLE VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT
#define HOST_SEES (VISIBLE | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)

// What a type of memory must have and must not have, by preference. The part of a discrete card's
// memory that the host sees may be a small window: it is for what has no room elsewhere. Where all
// memory is one, the last wishes are those that it grants. Reading what is not cached is so slow
// that cached memory may be incoherent: Intel's GPUs without a cache shared with the CPU (Meteor
// Lake, Lunar Lake) and phones' have no other.
struct wish {
    VkMemoryPropertyFlags has, lacks;
    bool largest;                       // in the largest heap of the device's
};
#define CARD VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT
static const struct wish wishes[3][4] = {
    [L2D_MEMORY_DEVICE] = { { CARD, 0, true }, { CARD, 0, false } },
    [L2D_MEMORY_UPLOAD] = { { HOST_SEES, CARD, false }, { HOST_SEES, 0, false } },
    [L2D_MEMORY_READBACK] = { { HOST_SEES | CACHED, CARD, false }, { HOST_SEES | CACHED, 0, false },
                              { VISIBLE | CACHED, 0, false }, { HOST_SEES, 0, false } },
};

static uint64_t largest_heap(const VkPhysicalDeviceMemoryProperties *memory)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < memory->memoryHeapCount; i++)
        if ((memory->memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) &&
            memory->memoryHeaps[i].size > most)
            most = memory->memoryHeaps[i].size;
    return most;
}

static bool grants(const VkPhysicalDeviceMemoryProperties *memory, uint32_t type,
                   const struct wish *wish)
{
    // Others, as protected or lazily allocated memory, are not for plain buffers.
    VkMemoryPropertyFlags plain = HOST_SEES | CACHED | CARD;
    VkMemoryPropertyFlags flags = memory->memoryTypes[type].propertyFlags;
    uint64_t heap_bytes = memory->memoryHeaps[memory->memoryTypes[type].heapIndex].size;
    return wish->has && !(flags & ~plain) && (flags & wish->has) == wish->has &&
           !(flags & wish->lacks) && (!wish->largest || heap_bytes == largest_heap(memory));
}

uint32_t l2d_vk_memory_types(const VkPhysicalDeviceMemoryProperties *memory, uint32_t allowed,
                             enum l2d_memory kind, uint32_t types[VK_MAX_MEMORY_TYPES])
{
    uint32_t count = 0, listed = 0;
    for (size_t w = 0; w < COUNT_OF(wishes[kind]); w++)
        for (uint32_t i = 0; i < memory->memoryTypeCount; i++)
            if ((allowed & ~listed & (1u << i)) && grants(memory, i, &wishes[kind][w])) {
                types[count++] = i;
                listed |= 1u << i;
            }
    return count;
}

static bool host_sees(const struct l2d_gpu *gpu, uint32_t type)
{
    return (gpu->memory.memoryTypes[type].propertyFlags & HOST_SEES) == HOST_SEES;
}

int l2d_buf_declare(struct l2d_buf **out, struct l2d_gpu *gpu, uint64_t size_bytes,
                    enum l2d_memory memory, const char *name, struct l2d_error *err)
{
    struct l2d_buf *buf = calloc(1, sizeof(*buf));
    if (!buf || !(buf->vk = calloc(1, sizeof(*buf->vk)))) {
        free(buf);
        return l2d_error_set(err, L2D_ENOMEM, "buffer %s: out of memory", name);
    }
    buf->gpu = gpu;
    buf->memory = memory;
    buf->size_bytes = l2d_buf_align(size_bytes);
    snprintf(buf->name, sizeof(buf->name), "%s", name);
    *out = buf;
    return L2D_OK;
}

static void give_back(struct l2d_buf *buf)
{
    if (!buf->vk->buffer)
        return;                         // only declared, maybe for no device at all
    vkDestroyBuffer(buf->gpu->device, buf->vk->buffer, NULL);
    vkFreeMemory(buf->gpu->device, buf->vk->memory, NULL);
    buf->gpu->taken.now_bytes -= buf->vk->taken_bytes;
    buf->gpu->heap_bytes[buf->vk->heap] -= buf->vk->taken_bytes;
    *buf->vk = (struct l2d_vk_buf) { .taken_bytes = 0 };
    buf->mapped = NULL;
}

// What there is to know about a heap that gave nothing, after what the driver said.
static int add_heap(const struct l2d_gpu *gpu, uint32_t heap, int rc, struct l2d_error *err)
{
    const VkMemoryHeap *h = &gpu->memory.memoryHeaps[heap];
    struct l2d_error said = err ? *err : (struct l2d_error) { 0 };
    return l2d_error_set(err, rc, "%s; heap %u, %s, has %.1f MiB, of which this process took %.1f",
                         said.msg, heap,
                         h->flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT ? "of the device"
                                                                    : "of the host",
                         (double) h->size / MIB, (double) gpu->heap_bytes[heap] / MIB);
}

// From the first type of memory that has room. The error is that of the last heap asked.
static int allocate(struct l2d_buf *buf, const VkMemoryRequirements *need, uint32_t *type,
                    struct l2d_error *err)
{
    struct l2d_gpu *gpu = buf->gpu;
    uint32_t types[VK_MAX_MEMORY_TYPES];
    uint32_t count = l2d_vk_memory_types(&gpu->memory, need->memoryTypeBits, buf->memory, types);
    if (!count)
        return l2d_error_set(err, L2D_EGPU, "the device has no memory of this kind");
    VkResult result = VK_SUCCESS;
    for (uint32_t i = 0; i < count; i++) {
        *type = types[i];
        result = vkAllocateMemory(gpu->device, &(VkMemoryAllocateInfo) {
            .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
            .allocationSize = need->size, .memoryTypeIndex = *type,
        }, NULL, &buf->vk->memory);
        if (result != VK_ERROR_OUT_OF_DEVICE_MEMORY && result != VK_ERROR_OUT_OF_HOST_MEMORY)
            break;
    }
    if (result == VK_SUCCESS)
        return L2D_OK;
    int rc = l2d_vk_fail(err, result, "vkAllocateMemory");
    return add_heap(gpu, gpu->memory.memoryTypes[*type].heapIndex, rc, err);
}

static void count_taken(struct l2d_buf *buf, uint32_t heap, uint64_t bytes)
{
    struct l2d_gpu_taken *taken = &buf->gpu->taken;
    buf->vk->taken_bytes = bytes;
    buf->vk->heap = heap;
    buf->gpu->heap_bytes[heap] += bytes;
    taken->now_bytes += bytes;
    taken->peak_bytes = taken->now_bytes > taken->peak_bytes ? taken->now_bytes : taken->peak_bytes;
}

int l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err)
{
    int rc = L2D_OK;
    struct l2d_gpu *gpu = buf->gpu;
    VkMemoryRequirements need;
    uint32_t type = 0;
    bool shared = gpu->caps.num_lanes > 1 && gpu->queues.family[0] != gpu->queues.family[1];
    VK_TRY(vkCreateBuffer(gpu->device, &(VkBufferCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .sharingMode = shared ? VK_SHARING_MODE_CONCURRENT : VK_SHARING_MODE_EXCLUSIVE,
        .queueFamilyIndexCount = shared ? L2D_NUM_LANES : 0,
        .pQueueFamilyIndices = gpu->queues.family,
        .size = buf->size_bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT |
                 (gpu->caps.tier == L2D_TIER_0 ? VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT : 0),
    }, NULL, &buf->vk->buffer));
    vkGetBufferMemoryRequirements(gpu->device, buf->vk->buffer, &need);
    rc = allocate(buf, &need, &type, err);
    if (rc != L2D_OK)
        goto fail;
    count_taken(buf, gpu->memory.memoryTypes[type].heapIndex, need.size);
    VK_TRY(vkBindBufferMemory(gpu->device, buf->vk->buffer, buf->vk->memory, 0));
    buf->vk->incoherent = buf->memory == L2D_MEMORY_READBACK && !host_sees(gpu, type);
    if (buf->vk->incoherent || host_sees(gpu, type))
        VK_TRY(vkMapMemory(gpu->device, buf->vk->memory, 0, VK_WHOLE_SIZE, 0, &buf->mapped));
    l2d_vk_name(gpu, VK_OBJECT_TYPE_BUFFER, (uint64_t) buf->vk->buffer, buf->name);
    return L2D_OK;

fail:
    give_back(buf);
    if (buf->size_bytes < (1 << 20))
        return l2d_error_wrap(err, rc, "GPU buffer %s of %.1f KiB", buf->name,
                              (double) buf->size_bytes / 1024);
    return l2d_error_wrap(err, rc, "GPU buffer %s of %.1f MiB", buf->name,
                          (double) buf->size_bytes / MIB);
}

int l2d_buf_create(struct l2d_buf **out, struct l2d_gpu *gpu, uint64_t size_bytes,
                   enum l2d_memory memory, const char *name, struct l2d_error *err)
{
    struct l2d_buf *buf = NULL;
    int rc = l2d_buf_declare(&buf, gpu, size_bytes, memory, name, err);
    if (rc != L2D_OK)
        return rc;
    rc = l2d_buf_take(buf, err);
    if (rc != L2D_OK)
        l2d_buf_destroy(&buf);
    else
        *out = buf;
    return rc;
}

void l2d_buf_destroy(struct l2d_buf **pbuf)
{
    struct l2d_buf *buf = *pbuf;
    *pbuf = NULL;
    if (!buf)
        return;
    give_back(buf);
    free(buf->vk);
    free(buf);
}

static VkMappedMemoryRange all_of(const struct l2d_buf *buf)
{
    return (VkMappedMemoryRange) {
        .sType = VK_STRUCTURE_TYPE_MAPPED_MEMORY_RANGE, .memory = buf->vk->memory,
        .size = VK_WHOLE_SIZE,
    };
}

int l2d_buf_invalidate(struct l2d_buf *buf, struct l2d_error *err)
{
    VkMappedMemoryRange all = all_of(buf);
    int rc = L2D_OK;
    if (buf->vk->incoherent)
        VK_TRY(vkInvalidateMappedMemoryRanges(buf->gpu->device, 1, &all));
fail:
    return rc;
}

// Before the GPU reads what the host has written.
static int flush(struct l2d_buf *buf, struct l2d_error *err)
{
    VkMappedMemoryRange all = all_of(buf);
    int rc = L2D_OK;
    if (buf->vk->incoherent)
        VK_TRY(vkFlushMappedMemoryRanges(buf->gpu->device, 1, &all));
fail:
    return rc;
}

// ---- transfers to and from memory that the host does not see

uint64_t l2d_buf_copy_bytes(const struct l2d_gpu *gpu)
{
    uint32_t types[VK_MAX_MEMORY_TYPES];
    uint32_t count = l2d_vk_memory_types(&gpu->memory, UINT32_MAX, L2D_MEMORY_DEVICE, types);
    return count && host_sees(gpu, types[0]) ? 0 : 2 * PIECE_BYTES;
}

// Wait until a half of the staging buffer is free.
static int free_half(struct l2d_gpu *gpu, uint32_t half, struct l2d_error *err)
{
    struct l2d_staging *s = &gpu->staging;
    if (!s->cmd[half])
        return L2D_OK;
    int rc = l2d_gpu_wait(gpu, s->ticket[half], err);
    if (rc == L2D_OK) {                 // else it may still run: the pool's end frees it
        vkFreeCommandBuffers(gpu->device, gpu->lane[L2D_LANE_MAIN].pool, 1, &s->cmd[half]);
        s->cmd[half] = VK_NULL_HANDLE;
    }
    return rc;
}

static int free_halves(struct l2d_gpu *gpu, struct l2d_error *err)
{
    int rc = free_half(gpu, 0, err);
    return rc == L2D_OK ? free_half(gpu, 1, err) : rc;
}

// Two halves of at least so many bytes. Cached memory, which the host both reads and writes fast.
static int have_staging(struct l2d_gpu *gpu, uint64_t half_bytes, struct l2d_error *err)
{
    struct l2d_staging *s = &gpu->staging;
    half_bytes = l2d_buf_align(half_bytes);
    if (!half_bytes || (s->buf && s->half_bytes >= half_bytes))
        return L2D_OK;
    int rc = free_halves(gpu, err);
    if (rc != L2D_OK)
        return rc;
    l2d_buf_destroy(&s->buf);
    s->half_bytes = half_bytes;
    return l2d_buf_create(&s->buf, gpu, 2 * half_bytes, L2D_MEMORY_READBACK, "staging", err);
}

void l2d_vk_staging_finish(struct l2d_gpu *gpu)
{
    l2d_buf_destroy(&gpu->staging.buf);
}

// After a copy or a fill: to wait for it is not yet to see it, nor to write over it.
static void barrier_to_host(VkCommandBuffer cmd)
{
    vkCmdPipelineBarrier2(cmd, &(VkDependencyInfo) {
        .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO, .memoryBarrierCount = 1,
        .pMemoryBarriers = &(VkMemoryBarrier2) {
            .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
            .srcStageMask = VK_PIPELINE_STAGE_2_ALL_TRANSFER_BIT,
            .srcAccessMask = VK_ACCESS_2_TRANSFER_WRITE_BIT,
            .dstStageMask = VK_PIPELINE_STAGE_2_HOST_BIT,
            .dstAccessMask = VK_ACCESS_2_HOST_READ_BIT | VK_ACCESS_2_HOST_WRITE_BIT,
        },
    });
}

// Begin to copy a piece between a half of the staging buffer and a place in buf.
static int copy_half(struct l2d_buf *buf, uint64_t offset, uint32_t half, uint64_t size,
                     bool to_buffer, struct l2d_error *err)
{
    struct l2d_staging *s = &buf->gpu->staging;
    VkBufferCopy copy = { .size = size };
    uint64_t at = half * s->half_bytes;
    copy.srcOffset = to_buffer ? at : offset;
    copy.dstOffset = to_buffer ? offset : at;
    int rc = l2d_vk_begin(buf->gpu, L2D_LANE_MAIN, &s->cmd[half], err);
    if (rc != L2D_OK)
        return rc;
    VkBuffer staging = s->buf->vk->buffer, other = buf->vk->buffer;
    vkCmdCopyBuffer(s->cmd[half], to_buffer ? staging : other, to_buffer ? other : staging, 1,
                    &copy);
    if (!to_buffer)
        barrier_to_host(s->cmd[half]);
    return l2d_vk_end(buf->gpu, &s->cmd[half], &s->ticket[half], err);
}

// While one half is copied, the host fills the other.
int l2d_buf_send(struct l2d_buf *buf, uint64_t offset_bytes, const void *src, uint64_t size_bytes,
                 struct l2d_error *err)
{
    if (buf->mapped) {
        memcpy((unsigned char *) buf->mapped + offset_bytes, src, size_bytes);
        return L2D_OK;
    }
    struct l2d_staging *s = &buf->gpu->staging;
    int rc = have_staging(buf->gpu, size_bytes < PIECE_BYTES ? size_bytes : PIECE_BYTES, err);
    for (uint64_t done = 0, n; rc == L2D_OK && done < size_bytes; done += n) {
        uint32_t half = s->next;
        n = size_bytes - done < s->half_bytes ? size_bytes - done : s->half_bytes;
        rc = free_half(buf->gpu, half, err);
        if (rc != L2D_OK)
            break;
        memcpy((unsigned char *) s->buf->mapped + half * s->half_bytes,
               (const unsigned char *) src + done, n);
        rc = flush(s->buf, err);
        if (rc == L2D_OK)
            rc = copy_half(buf, offset_bytes + done, half, n, true, err);
        s->next = !half;
    }
    return rc;
}

int l2d_buf_sent(struct l2d_gpu *gpu, struct l2d_error *err)
{
    return free_halves(gpu, err);
}

int l2d_buf_write(struct l2d_buf *buf, uint64_t offset_bytes, const void *src, uint64_t size_bytes,
                  struct l2d_error *err)
{
    int rc = l2d_buf_send(buf, offset_bytes, src, size_bytes, err);
    int sent = l2d_buf_sent(buf->gpu, rc == L2D_OK ? err : NULL);   // buf stays until then
    return rc == L2D_OK ? sent : rc;
}

int l2d_buf_read(struct l2d_buf *buf, uint64_t offset_bytes, void *dst, uint64_t size_bytes,
                 struct l2d_error *err)
{
    if (buf->mapped) {
        memcpy(dst, (const unsigned char *) buf->mapped + offset_bytes, size_bytes);
        return L2D_OK;
    }
    struct l2d_staging *s = &buf->gpu->staging;
    int rc = have_staging(buf->gpu, size_bytes < PIECE_BYTES ? size_bytes : PIECE_BYTES, err);
    if (rc == L2D_OK)
        rc = free_halves(buf->gpu, err);
    for (uint64_t done = 0, n; rc == L2D_OK && done < size_bytes; done += n) {
        n = size_bytes - done < s->half_bytes ? size_bytes - done : s->half_bytes;
        rc = copy_half(buf, offset_bytes + done, 0, n, false, err);
        if (rc == L2D_OK)
            rc = free_half(buf->gpu, 0, err);
        if (rc == L2D_OK)
            rc = l2d_buf_invalidate(s->buf, err);
        if (rc == L2D_OK)
            memcpy((unsigned char *) dst + done, s->buf->mapped, n);
    }
    return rc;
}

int l2d_buf_fill(struct l2d_buf *buf, uint64_t offset_bytes, uint64_t size_bytes, uint32_t pattern,
                 struct l2d_error *err)
{
    VkCommandBuffer cmd;
    int rc = l2d_vk_begin(buf->gpu, L2D_LANE_MAIN, &cmd, err);
    if (rc != L2D_OK)
        return rc;
    vkCmdFillBuffer(cmd, buf->vk->buffer, offset_bytes, size_bytes, pattern);
    barrier_to_host(cmd);
    return l2d_vk_end_and_wait(buf->gpu, cmd, err);
}
