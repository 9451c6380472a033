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

static void take(struct l2d_matrix2_size *size, uint32_t invocations,
                 const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    uint32_t volume = p->MGranularity * p->NGranularity * p->KGranularity;
    if (!size->invocations || volume < size->grain.m * size->grain.n * size->grain.k)
        *size = (struct l2d_matrix2_size) {
            invocations, { p->MGranularity, p->NGranularity, p->KGranularity } };
}

// A workgroup's matrices where there are any, else a subgroup's.
static void choose_sizes(const VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p, uint32_t count,
                         uint32_t max_invocations, bool has_workgroup, struct l2d_gpu_caps *caps)
{
    struct l2d_matrix2 *to = &caps->matrix2;
    struct l2d_matrix2_size subgroup = { 0 };
    for (uint32_t i = 0; i < count; i++) {
        uint32_t n = p[i].workgroupInvocations;
        if (!is_ours(&p[i]))
            continue;
        if (p[i].scope == VK_SCOPE_SUBGROUP_KHR)
            take(&subgroup, caps->subgroup_size, &p[i]);
        else if (p[i].scope == VK_SCOPE_WORKGROUP_KHR && has_workgroup && n <= max_invocations &&
                 (n == 128 || n == 256))
            take(&to->size[n == 256], n, &p[i]);
    }
    to->of_workgroup = to->size[0].invocations || to->size[1].invocations;
    if (!to->of_workgroup)
        to->size[0] = subgroup;
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
    struct l2d_matrix2 *to = &caps->matrix2;
    if (p && list(physical, &count, p) >= VK_SUCCESS)
        choose_sizes(p, count, limits.cooperativeMatrixWorkgroupScopeMaxWorkgroupSize,
                     has.cooperativeMatrixWorkgroupScope, caps);
    free(p);
    to->max_side = limits.cooperativeMatrixFlexibleDimensionsMaxDimension;
    to->reserved_bytes = to->of_workgroup
                       ? limits.cooperativeMatrixWorkgroupScopeReservedSharedMemory : 0;
    to->has_tensors = to->of_workgroup && has.cooperativeMatrixTensorAddressing;
}

VkPhysicalDeviceCooperativeMatrix2FeaturesNV l2d_matrix2_features(const struct l2d_gpu_caps *caps)
{
    return (VkPhysicalDeviceCooperativeMatrix2FeaturesNV) {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV,
        .cooperativeMatrixWorkgroupScope = caps->matrix2.of_workgroup,
        .cooperativeMatrixFlexibleDimensions = VK_TRUE, .cooperativeMatrixReductions = VK_TRUE,
        .cooperativeMatrixConversions = VK_TRUE, .cooperativeMatrixPerElementOperations = VK_TRUE,
        .cooperativeMatrixTensorAddressing = caps->tier == L2D_TIER_4,
    };
}
