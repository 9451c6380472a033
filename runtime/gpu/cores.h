// SPDX-License-Identifier: Apache-2.0
// Private to runtime/gpu: how much work at once fills a device.
#ifndef L2D_GPU_CORES_H
#define L2D_GPU_CORES_H

#include <vulkan/vulkan.h>

#include "gpu/device.h"

/**
 * Multiprocessors (NVIDIA), compute units (AMD) or cores (ARM), as far as the driver says; else a
 * guess by caps->type. 0 for CPUs.
 */
uint32_t l2d_cores_count(VkPhysicalDevice physical, const struct l2d_gpu_caps *caps);

#endif
