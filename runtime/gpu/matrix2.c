// SPDX-License-Identifier: Apache-2.0
// See matrix2.h.
#include "gpu/matrix2.h"

#include <stdlib.h>

// Sides that the shaders' tiles are multiples of.
static bool is_usable(uint32_t side)
{
    return side >= 8 && side <= 64 && !(side & (side - 1));
}

// Halves times halves to floats.
static bool is_ours(const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    return p->AType == VK_COMPONENT_TYPE_FLOAT16_KHR && p->BType == VK_COMPONENT_TYPE_FLOAT16_KHR &&
           p->CType == VK_COMPONENT_TYPE_FLOAT32_KHR &&
           p->ResultType == VK_COMPONENT_TYPE_FLOAT32_KHR && !p->saturatingAccumulation &&
           is_usable(p->MGranularity) && is_usable(p->NGranularity) && is_usable(p->KGranularity);
}

// The finest grain of a subgroup's matrices.
static void choose_grain(const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p, uint32_t count,
                         struct l2d_matrix_shape *grain)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t volume = p[i].MGranularity * p[i].NGranularity * p[i].KGranularity;
        if (is_ours(&p[i]) && p[i].scope == VK_SCOPE_SUBGROUP_KHR &&
            (!grain->m || volume < grain->m * grain->n * grain->k))
            *grain = (struct l2d_matrix_shape) { p[i].MGranularity, p[i].NGranularity,
                                                 p[i].KGranularity };
    }
}

void l2d_matrix2_find(VkInstance instance, VkPhysicalDevice physical, struct l2d_gpu_caps *caps)
{
    if (!caps->matrix.m ||
        !l2d_matrix_has_extension(physical, VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME))
        return;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV has = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV };
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &has };
    VkPhysicalDeviceCooperativeMatrix2PropertiesNV limits = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV };
    VkPhysicalDeviceProperties2 props = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &limits };
    vkGetPhysicalDeviceFeatures2(physical, &features);
    vkGetPhysicalDeviceProperties2(physical, &props);
    if (!has.cooperativeMatrixFlexibleDimensions || !has.cooperativeMatrixReductions ||
        !has.cooperativeMatrixConversions || !has.cooperativeMatrixPerElementOperations)
        return;

    PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV list =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV)
        vkGetInstanceProcAddr(instance,
            "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV");
    uint32_t count = 0;
    if (!list || list(physical, &count, NULL) != VK_SUCCESS || !count)
        return;
    VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p = calloc(count, sizeof(*p));
    for (uint32_t i = 0; p && i < count; i++)
        p[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_FLEXIBLE_DIMENSIONS_PROPERTIES_NV;
    if (p && list(physical, &count, p) >= VK_SUCCESS)
        choose_grain(p, count, &caps->matrix2.grain);
    free(p);
    caps->matrix2.max_side = limits.cooperativeMatrixFlexibleDimensionsMaxDimension;
}

VkPhysicalDeviceCooperativeMatrix2FeaturesNV l2d_matrix2_features(void)
{
    return (VkPhysicalDeviceCooperativeMatrix2FeaturesNV) {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
        .cooperativeMatrixFlexibleDimensions = VK_TRUE, .cooperativeMatrixReductions = VK_TRUE,
        .cooperativeMatrixConversions = VK_TRUE, .cooperativeMatrixPerElementOperations = VK_TRUE,
    };
}
