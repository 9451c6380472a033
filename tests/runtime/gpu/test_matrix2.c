// SPDX-License-Identifier: Apache-2.0
// What is read of VK_NV_cooperative_matrix2, on a driver that has it in part: without one feature
// after the other, and with what an NVIDIA driver would say besides. The linker puts the functions
// below in front of the loader's.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "gpu/matrix2.h"

static int missing = -1;                // number of a feature that the driver does not have
static bool as_nvidia;

void __real_vkGetPhysicalDeviceFeatures2(VkPhysicalDevice, VkPhysicalDeviceFeatures2 *);
void __wrap_vkGetPhysicalDeviceFeatures2(VkPhysicalDevice, VkPhysicalDeviceFeatures2 *);
PFN_vkVoidFunction __real_vkGetInstanceProcAddr(VkInstance, const char *);
PFN_vkVoidFunction __wrap_vkGetInstanceProcAddr(VkInstance, const char *);

static void *find(void *next, VkStructureType type)
{
    VkBaseOutStructure *s = next;
    while (s && s->sType != type)
        s = s->pNext;
    return s;
}

void __wrap_vkGetPhysicalDeviceFeatures2(VkPhysicalDevice physical, VkPhysicalDeviceFeatures2 *f)
{
    __real_vkGetPhysicalDeviceFeatures2(physical, f);
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV *has =
        find(f->pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_FEATURES_NV);
    if (!has)
        return;
    VkBool32 *const bit[] = {
        &has->cooperativeMatrixFlexibleDimensions, &has->cooperativeMatrixReductions,
        &has->cooperativeMatrixConversions, &has->cooperativeMatrixPerElementOperations,
    };
    if (missing >= 0)
        *bit[missing] = VK_FALSE;
}

// Of other types, of other sizes, and a coarser grain come first; none of them is to be taken.
static VkResult list_as_nvidia(VkPhysicalDevice physical, uint32_t *count,
                               VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    static const struct { uint32_t m, n, k, c_type, scope, invocations; } all[] = {
        { 16, 16, 16, VK_COMPONENT_TYPE_FLOAT16_KHR, VK_SCOPE_SUBGROUP_KHR, 0 },
        { 32, 32, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_SUBGROUP_KHR, 0 },
        { 16, 12, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_SUBGROUP_KHR, 0 },
        { 16, 8, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 128 },
        { 16, 16, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_SUBGROUP_KHR, 0 },
    };
    (void) physical;
    *count = sizeof(all) / sizeof(all[0]);
    for (uint32_t i = 0; p && i < *count; i++) {
        p[i].MGranularity = all[i].m;
        p[i].NGranularity = all[i].n;
        p[i].KGranularity = all[i].k;
        p[i].AType = p[i].BType = VK_COMPONENT_TYPE_FLOAT16_KHR;
        p[i].CType = p[i].ResultType = (VkComponentTypeKHR) all[i].c_type;
        p[i].scope = (VkScopeKHR) all[i].scope;
        p[i].workgroupInvocations = all[i].invocations;
    }
    return VK_SUCCESS;
}

PFN_vkVoidFunction __wrap_vkGetInstanceProcAddr(VkInstance instance, const char *name)
{
    if (as_nvidia &&
        !strcmp(name, "vkGetPhysicalDeviceCooperativeMatrixFlexibleDimensionsPropertiesNV"))
        return (PFN_vkVoidFunction) list_as_nvidia;
    return __real_vkGetInstanceProcAddr(instance, name);
}

static struct l2d_matrix2 look(void)
{
    struct l2d_error err = { 0 };
    struct l2d_gpu_caps caps[16];
    uint32_t count = 0;
    cr_assert_eq(l2d_gpu_list(caps, 16, &count, &err), L2D_OK, "%s", err.msg);
    return caps[0].matrix2;
}

Test(matrix2, what_the_driver_lacks_is_not_used)
{
    struct l2d_matrix2 has = look();
    cr_assert(has.grain.m || !getenv("L2D_TEST_MATRIX"), "no matrices of any size");
    if (!has.grain.m)
        cr_skip_test("the device has no matrices of any size");
    for (missing = 0; missing < 4; missing++) {
        cr_expect_eq(look().grain.m, 0, "feature %d", missing);
        struct l2d_error err = { 0 };
        struct l2d_gpu *gpu = NULL;
        cr_expect_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
            .cache_dir = "", .tier = L2D_TIER_3 }, &err), L2D_EUNSUPPORTED);
        cr_expect_not_null(strstr(err.msg, "tier 2 runs on it"), "%s", err.msg);
    }
}

Test(matrix2, finest_grain_of_a_subgroup)
{
    if (!look().grain.m)
        cr_skip_test("the device has no matrices of any size");
    as_nvidia = true;
    struct l2d_matrix2 has = look();
    cr_expect(has.grain.m == 16 && has.grain.n == 16 && has.grain.k == 16);
}
