// SPDX-License-Identifier: Apache-2.0
// See discrete.h. The driver's one type of memory stands behind all that it shows here.
#include "support/discrete.h"

#include <assert.h>

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
    return __real_vkAllocateMemory(device, &real, callbacks, memory);
}
