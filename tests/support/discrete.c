// SPDX-License-Identifier: Apache-2.0
// See discrete.h. The driver's one type of memory stands behind all that it shows here.
#include "support/discrete.h"

#include <assert.h>
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"

#define HOST (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT
#define LOCAL VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT

struct discrete discrete;

void __real_vkGetPhysicalDeviceMemoryProperties(VkPhysicalDevice,
                                                VkPhysicalDeviceMemoryProperties *);
void __wrap_vkGetPhysicalDeviceMemoryProperties(VkPhysicalDevice,
                                                VkPhysicalDeviceMemoryProperties *);
void __real_vkGetBufferMemoryRequirements(VkDevice, VkBuffer, VkMemoryRequirements *);
void __wrap_vkGetBufferMemoryRequirements(VkDevice, VkBuffer, VkMemoryRequirements *);
VkResult __real_vkAllocateMemory(VkDevice, const VkMemoryAllocateInfo *,
                                 const VkAllocationCallbacks *, VkDeviceMemory *);
VkResult __wrap_vkAllocateMemory(VkDevice, const VkMemoryAllocateInfo *,
                                 const VkAllocationCallbacks *, VkDeviceMemory *);
void __real_vkFreeMemory(VkDevice, VkDeviceMemory, const VkAllocationCallbacks *);
void __wrap_vkFreeMemory(VkDevice, VkDeviceMemory, const VkAllocationCallbacks *);
VkResult __real_vkMapMemory(VkDevice, VkDeviceMemory, VkDeviceSize, VkDeviceSize, VkMemoryMapFlags,
                            void **);
VkResult __wrap_vkMapMemory(VkDevice, VkDeviceMemory, VkDeviceSize, VkDeviceSize, VkMemoryMapFlags,
                            void **);
VkResult __wrap_vkFlushMappedMemoryRanges(VkDevice, uint32_t, const VkMappedMemoryRange *);
VkResult __wrap_vkInvalidateMappedMemoryRanges(VkDevice, uint32_t, const VkMappedMemoryRange *);

// What the host sees of incoherent memory.
static struct copy {
    VkDeviceMemory memory;              // null: free
    VkDeviceSize bytes;
    void *real, *seen;
} copies[64];

static struct copy *copy_of(VkDeviceMemory memory)
{
    for (size_t i = 0; i < COUNT_OF(copies); i++)
        if (copies[i].memory == memory)
            return &copies[i];
    return NULL;
}

void __wrap_vkGetPhysicalDeviceMemoryProperties(VkPhysicalDevice physical,
                                                VkPhysicalDeviceMemoryProperties *m)
{
    static const struct { VkMemoryPropertyFlags flags; uint32_t heap; } types[] = {
        [DISCRETE_WINDOW] = { LOCAL | HOST, 2 }, [DISCRETE_CARD] = { LOCAL, 0 },
        [DISCRETE_HOST] = { HOST, 1 }, [DISCRETE_HOST_CACHED] = { HOST | CACHED, 1 },
    };
    static_assert(sizeof(types) / sizeof(*types) == DISCRETE_NUM_TYPES, "one for each");
    __real_vkGetPhysicalDeviceMemoryProperties(physical, m);
    VkDeviceSize bytes = m->memoryHeaps[0].size;
    *m = (VkPhysicalDeviceMemoryProperties) {
        .memoryTypeCount = DISCRETE_NUM_TYPES, .memoryHeapCount = 3,
        .memoryHeaps = { { bytes, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT }, { bytes, 0 },
                         { 256 << 20, VK_MEMORY_HEAP_DEVICE_LOCAL_BIT } },
    };
    for (uint32_t i = 0; i < DISCRETE_NUM_TYPES; i++)
        m->memoryTypes[i] = (VkMemoryType) { types[i].flags, types[i].heap };
    if (discrete.is_incoherent)
        m->memoryTypes[DISCRETE_HOST_CACHED].propertyFlags &=
            ~(VkMemoryPropertyFlags) VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
}

void __wrap_vkGetBufferMemoryRequirements(VkDevice device, VkBuffer buffer,
                                          VkMemoryRequirements *need)
{
    __real_vkGetBufferMemoryRequirements(device, buffer, need);
    need->memoryTypeBits = (1u << DISCRETE_NUM_TYPES) - 1;
}

VkResult __wrap_vkAllocateMemory(VkDevice device, const VkMemoryAllocateInfo *info,
                                 const VkAllocationCallbacks *callbacks, VkDeviceMemory *memory)
{
    VkMemoryAllocateInfo real = *info;
    discrete.asked[info->memoryTypeIndex]++;
    if (discrete.is_full[info->memoryTypeIndex])
        return VK_ERROR_OUT_OF_DEVICE_MEMORY;
    real.memoryTypeIndex = 0;
    VkResult result = __real_vkAllocateMemory(device, &real, callbacks, memory);
    if (result == VK_SUCCESS && discrete.is_incoherent &&
        info->memoryTypeIndex == DISCRETE_HOST_CACHED) {
        struct copy *copy = copy_of(VK_NULL_HANDLE);
        cr_assert_not_null(copy);
        *copy = (struct copy) { *memory, real.allocationSize, NULL, NULL };
    }
    return result;
}

void __wrap_vkFreeMemory(VkDevice device, VkDeviceMemory memory,
                         const VkAllocationCallbacks *callbacks)
{
    struct copy *copy = memory ? copy_of(memory) : NULL;
    if (copy) {
        free(copy->seen);
        *copy = (struct copy) { .bytes = 0 };
    }
    __real_vkFreeMemory(device, memory, callbacks);
}

VkResult __wrap_vkMapMemory(VkDevice device, VkDeviceMemory memory, VkDeviceSize offset,
                            VkDeviceSize size, VkMemoryMapFlags flags, void **data)
{
    VkResult result = __real_vkMapMemory(device, memory, offset, size, flags, data);
    struct copy *copy = copy_of(memory);
    if (result == VK_SUCCESS && copy) {
        copy->real = *data;
        copy->seen = *data = calloc(1, copy->bytes);
        cr_assert(copy->seen && offset == 0);
    }
    return result;
}

VkResult __wrap_vkFlushMappedMemoryRanges(VkDevice device, uint32_t count,
                                          const VkMappedMemoryRange *range)
{
    const struct copy *copy = copy_of(range->memory);
    (void) device;
    cr_assert(count == 1 && copy && range->offset == 0 && range->size == VK_WHOLE_SIZE);
    memcpy(copy->real, copy->seen, copy->bytes);
    return VK_SUCCESS;
}

VkResult __wrap_vkInvalidateMappedMemoryRanges(VkDevice device, uint32_t count,
                                               const VkMappedMemoryRange *range)
{
    const struct copy *copy = copy_of(range->memory);
    (void) device;
    cr_assert(count == 1 && copy && range->offset == 0 && range->size == VK_WHOLE_SIZE);
    memcpy(copy->seen, copy->real, copy->bytes);
    return VK_SUCCESS;
}
