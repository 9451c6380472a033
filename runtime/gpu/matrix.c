// SPDX-License-Identifier: Apache-2.0
// See matrix.h.
#include "gpu/matrix.h"

#include <stdlib.h>
#include <string.h>

bool l2d_matrix_has_extension(VkPhysicalDevice physical, const char *name)
{
    uint32_t count = 0;
    if (vkEnumerateDeviceExtensionProperties(physical, NULL, &count, NULL) != VK_SUCCESS || !count)
        return false;
    VkExtensionProperties *ext = calloc(count, sizeof(*ext));
    bool found = false;
    if (ext && vkEnumerateDeviceExtensionProperties(physical, NULL, &count, ext) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count && !found; i++)
            found = !strcmp(ext[i].extensionName, name);
    free(ext);
    return found;
}

// Robustness is there for what a buffer has not, which is to be loaded as 0.
static bool has_features(VkPhysicalDevice physical)
{
    VkPhysicalDeviceRobustness2FeaturesEXT robustness = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ROBUSTNESS_2_FEATURES_EXT };
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = &robustness };
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &matrix };
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f12 };
    vkGetPhysicalDeviceFeatures2(physical, &features);
    return matrix.cooperativeMatrix && f12.shaderFloat16 && f12.vulkanMemoryModel &&
           f12.vulkanMemoryModelDeviceScope && robustness.robustBufferAccess2;
}

// Halves times halves within a subgroup, added up in this type.
static bool adds_products(const VkCooperativeMatrixPropertiesKHR *p, VkComponentTypeKHR sums)
{
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->CType == sums && p->ResultType == sums && p->scope == VK_SCOPE_SUBGROUP_KHR;
}

// In floats, and in sides that the shader's quads and pairs of quads divide. Of several the one
// with the most arithmetic for what it loads.
static bool is_better(const VkCooperativeMatrixPropertiesKHR *p,
                      const struct l2d_matrix_shape *than)
{
    return adds_products(p, VK_COMPONENT_TYPE_FLOAT32_KHR) &&
           p->MSize <= 16 && p->NSize % 8 == 0 && p->NSize <= 16 && p->KSize % 8 == 0 &&
           p->KSize <= 16 && p->MSize * p->NSize * p->KSize > than->m * than->n * than->k;
}

// Sums in floats are turned to halves before they are stored.
static bool has_half_sums(const VkCooperativeMatrixPropertiesKHR *p, uint32_t count,
                          const VkCooperativeMatrixPropertiesKHR *of)
{
    for (uint32_t i = 0; i < count; i++)
        if (p[i].ResultType == VK_COMPONENT_TYPE_FLOAT16_KHR && p[i].scope == of->scope &&
            p[i].MSize == of->MSize && p[i].NSize == of->NSize)
            return true;
    return false;
}

static bool can_add_halves(const VkCooperativeMatrixPropertiesKHR *p, uint32_t count,
                           const struct l2d_matrix_shape *of)
{
    for (uint32_t i = 0; i < count; i++)
        if (adds_products(&p[i], VK_COMPONENT_TYPE_FLOAT16_KHR) && p[i].MSize == of->m &&
            p[i].NSize == of->n && p[i].KSize == of->k)
            return true;
    return false;
}

void l2d_matrix_find(VkInstance instance, VkPhysicalDevice physical, struct l2d_gpu_caps *caps)
{
    // Asked of a driver without the extension, old loaders crash.
    if (!caps->has_fp16 ||
        !l2d_matrix_has_extension(physical, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME) ||
        !l2d_matrix_has_extension(physical, VK_EXT_ROBUSTNESS_2_EXTENSION_NAME) ||
        !has_features(physical))
        return;
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)
        vkGetInstanceProcAddr(instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    uint32_t count = 0;
    if (!list || list(physical, &count, NULL) != VK_SUCCESS || !count)
        return;
    VkCooperativeMatrixPropertiesKHR *p = calloc(count, sizeof(*p));
    for (uint32_t i = 0; p && i < count; i++)
        p[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (p && list(physical, &count, p) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count; i++)
            if (is_better(&p[i], &caps->matrix) && has_half_sums(p, count, &p[i]))
                caps->matrix = (struct l2d_matrix_shape) { p[i].MSize, p[i].NSize, p[i].KSize };
    caps->matrix_halves = p && can_add_halves(p, count, &caps->matrix);
    free(p);
}
