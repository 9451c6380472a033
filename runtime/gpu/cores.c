// SPDX-License-Identifier: Apache-2.0
// See cores.h. Vulkan has no common word for it, so each vendor's is asked.
#include "gpu/cores.h"

#include "gpu/matrix.h"

#define DISCRETE_CORES 32           // if nothing is said: Intel's larger ones
#define OTHER_CORES 8

static void ask(VkPhysicalDevice physical, void *properties)
{
    vkGetPhysicalDeviceProperties2(physical, &(VkPhysicalDeviceProperties2) {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = properties,
    });
}

uint32_t l2d_cores_count(VkPhysicalDevice physical, const struct l2d_gpu_caps *caps)
{
    VkPhysicalDeviceShaderSMBuiltinsPropertiesNV nv = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_SM_BUILTINS_PROPERTIES_NV };
    VkPhysicalDeviceShaderCoreProperties2AMD amd = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_PROPERTIES_2_AMD };
    VkPhysicalDeviceShaderCoreBuiltinsPropertiesARM arm = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SHADER_CORE_BUILTINS_PROPERTIES_ARM };
    if (caps->type == L2D_GPU_CPU)
        return 0;
    if (l2d_matrix_has_extension(physical, VK_NV_SHADER_SM_BUILTINS_EXTENSION_NAME))
        ask(physical, &nv);
    else if (l2d_matrix_has_extension(physical, VK_AMD_SHADER_CORE_PROPERTIES_2_EXTENSION_NAME))
        ask(physical, &amd);
    else if (l2d_matrix_has_extension(physical, VK_ARM_SHADER_CORE_BUILTINS_EXTENSION_NAME))
        ask(physical, &arm);
    uint32_t said = nv.shaderSMCount + amd.activeComputeUnitCount + arm.shaderCoreCount;
    return said ? said : caps->type == L2D_GPU_DISCRETE ? DISCRETE_CORES : OTHER_CORES;
}
