// SPDX-License-Identifier: Apache-2.0
// Buffers with their own memory, and blocking transfers for loading and tests. See buffer.h.
#include "gpu/buffer.h"

#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"

#define STAGING_BYTES (16u << 20)

// The first type with the wanted properties, in order of preference; UINT32_MAX if there is none.
static uint32_t memory_type(const struct l2d_gpu *gpu, uint32_t allowed, enum l2d_memory memory)
{
    static const VkMemoryPropertyFlags want[3][2] = {
        [L2D_MEMORY_DEVICE] = { VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT, 0 },
        [L2D_MEMORY_UPLOAD] = {
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT },
        [L2D_MEMORY_READBACK] = {
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT |
            VK_MEMORY_PROPERTY_HOST_CACHED_BIT,
            VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT },
    };
    for (int pass = 0; pass < 2; pass++)
        for (uint32_t i = 0; i < gpu->memory.memoryTypeCount; i++) {
            VkMemoryPropertyFlags flags = gpu->memory.memoryTypes[i].propertyFlags;
            if ((allowed & (1u << i)) && (flags & want[memory][pass]) == want[memory][pass])
                return i;
        }
    return UINT32_MAX;
}

static bool host_sees(const struct l2d_gpu *gpu, uint32_t type)
{
    VkMemoryPropertyFlags host = VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT |
                                 VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
    return (gpu->memory.memoryTypes[type].propertyFlags & host) == host;
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
    *buf->vk = (struct l2d_vk_buf) { .taken_bytes = 0 };
    buf->mapped = NULL;
}

int l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err)
{
    int rc = L2D_OK;
    struct l2d_gpu *gpu = buf->gpu;
    VkMemoryRequirements need;
    VK_TRY(vkCreateBuffer(gpu->device, &(VkBufferCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO,
        .size = buf->size_bytes,
        .usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
                 VK_BUFFER_USAGE_TRANSFER_DST_BIT,
    }, NULL, &buf->vk->buffer));
    vkGetBufferMemoryRequirements(gpu->device, buf->vk->buffer, &need);
    uint32_t type = memory_type(gpu, need.memoryTypeBits, buf->memory);
    if (type == UINT32_MAX) {
        rc = l2d_error_set(err, L2D_EGPU, "the device has no memory of this kind");
        goto fail;
    }
    VK_TRY(vkAllocateMemory(gpu->device, &(VkMemoryAllocateInfo) {
        .sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO,
        .allocationSize = need.size, .memoryTypeIndex = type,
    }, NULL, &buf->vk->memory));
    buf->vk->taken_bytes = need.size;
    struct l2d_gpu_taken *taken = &gpu->taken;
    taken->now_bytes += need.size;
    taken->peak_bytes = taken->now_bytes > taken->peak_bytes ? taken->now_bytes : taken->peak_bytes;
    VK_TRY(vkBindBufferMemory(gpu->device, buf->vk->buffer, buf->vk->memory, 0));
    if (host_sees(gpu, type))
        VK_TRY(vkMapMemory(gpu->device, buf->vk->memory, 0, VK_WHOLE_SIZE, 0, &buf->mapped));
    l2d_vk_name(gpu, VK_OBJECT_TYPE_BUFFER, (uint64_t) buf->vk->buffer, buf->name);
    return L2D_OK;

fail:
    give_back(buf);
    return l2d_error_wrap(err, rc, "GPU buffer %s of %.1f MiB (the device has %.0f MiB)", buf->name,
                          (double) buf->size_bytes / (1 << 20),
                          (double) gpu->caps.memory_bytes / (1 << 20));
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

uint64_t l2d_buf_copy_bytes(const struct l2d_gpu *gpu)
{
    uint32_t type = memory_type(gpu, UINT32_MAX, L2D_MEMORY_DEVICE);
    return type != UINT32_MAX && host_sees(gpu, type) ? 0 : STAGING_BYTES;
}

enum direction { TO_BUFFER, FROM_BUFFER };

// Through a staging buffer, in pieces.
static int transfer(struct l2d_buf *buf, uint64_t offset, void *host, uint64_t size,
                    enum direction direction, struct l2d_error *err)
{
    struct l2d_buf *staging = NULL;
    int rc = l2d_buf_create(&staging, buf->gpu, size < STAGING_BYTES ? size : STAGING_BYTES,
                            direction == TO_BUFFER ? L2D_MEMORY_UPLOAD : L2D_MEMORY_READBACK,
                            "staging", err);
    for (uint64_t done = 0; rc == L2D_OK && done < size;) {
        uint64_t n = size - done < STAGING_BYTES ? size - done : STAGING_BYTES;
        unsigned char *at = (unsigned char *) host + done;
        VkBufferCopy copy = { .size = n };
        *(direction == TO_BUFFER ? &copy.dstOffset : &copy.srcOffset) = offset + done;
        if (direction == TO_BUFFER)
            memcpy(staging->mapped, at, n);
        VkCommandBuffer cmd;
        rc = l2d_vk_begin(buf->gpu, &cmd, err);
        if (rc != L2D_OK)
            break;
        vkCmdCopyBuffer(cmd, direction == TO_BUFFER ? staging->vk->buffer : buf->vk->buffer,
                        direction == TO_BUFFER ? buf->vk->buffer : staging->vk->buffer, 1, &copy);
        rc = l2d_vk_end_and_wait(buf->gpu, cmd, err);
        if (rc == L2D_OK && direction == FROM_BUFFER)
            memcpy(at, staging->mapped, n);
        done += n;
    }
    l2d_buf_destroy(&staging);
    return rc;
}

int l2d_buf_write(struct l2d_buf *buf, uint64_t offset_bytes, const void *src, uint64_t size_bytes,
                  struct l2d_error *err)
{
    if (!buf->mapped)
        return transfer(buf, offset_bytes, (void *) (uintptr_t) src, size_bytes, TO_BUFFER, err);
    memcpy((unsigned char *) buf->mapped + offset_bytes, src, size_bytes);
    return L2D_OK;
}

int l2d_buf_read(struct l2d_buf *buf, uint64_t offset_bytes, void *dst, uint64_t size_bytes,
                 struct l2d_error *err)
{
    if (!buf->mapped)
        return transfer(buf, offset_bytes, dst, size_bytes, FROM_BUFFER, err);
    memcpy(dst, (const unsigned char *) buf->mapped + offset_bytes, size_bytes);
    return L2D_OK;
}

int l2d_buf_fill(struct l2d_buf *buf, uint64_t offset_bytes, uint64_t size_bytes, uint32_t pattern,
                 struct l2d_error *err)
{
    VkCommandBuffer cmd;
    int rc = l2d_vk_begin(buf->gpu, &cmd, err);
    if (rc != L2D_OK)
        return rc;
    vkCmdFillBuffer(cmd, buf->vk->buffer, offset_bytes, size_bytes, pattern);
    return l2d_vk_end_and_wait(buf->gpu, cmd, err);
}
