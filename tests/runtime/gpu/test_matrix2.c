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
static uint32_t max_workgroup = 1024;

void __real_vkGetPhysicalDeviceFeatures2(VkPhysicalDevice, VkPhysicalDeviceFeatures2 *);
void __wrap_vkGetPhysicalDeviceFeatures2(VkPhysicalDevice, VkPhysicalDeviceFeatures2 *);
void __real_vkGetPhysicalDeviceProperties2(VkPhysicalDevice, VkPhysicalDeviceProperties2 *);
void __wrap_vkGetPhysicalDeviceProperties2(VkPhysicalDevice, VkPhysicalDeviceProperties2 *);
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
    if (as_nvidia)
        has->cooperativeMatrixWorkgroupScope = has->cooperativeMatrixTensorAddressing = VK_TRUE;
    VkBool32 *const bit[] = {
        &has->cooperativeMatrixFlexibleDimensions, &has->cooperativeMatrixReductions,
        &has->cooperativeMatrixConversions, &has->cooperativeMatrixPerElementOperations,
        &has->cooperativeMatrixWorkgroupScope, &has->cooperativeMatrixTensorAddressing,
    };
    if (missing >= 0)
        *bit[missing] = VK_FALSE;
}

void __wrap_vkGetPhysicalDeviceProperties2(VkPhysicalDevice physical,
                                           VkPhysicalDeviceProperties2 *p)
{
    __real_vkGetPhysicalDeviceProperties2(physical, p);
    VkPhysicalDeviceCooperativeMatrix2PropertiesNV *limits =
        find(p->pNext, VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_2_PROPERTIES_NV);
    if (!limits || !as_nvidia)
        return;
    limits->cooperativeMatrixWorkgroupScopeMaxWorkgroupSize = max_workgroup;
    limits->cooperativeMatrixWorkgroupScopeReservedSharedMemory = 1234;
}

// Of other types, of other sizes, and a coarser grain come first; none of them is to be taken.
static VkResult list_as_nvidia(VkPhysicalDevice physical, uint32_t *count,
                               VkCooperativeMatrixFlexibleDimensionsPropertiesNV *p)
{
    static const struct { uint32_t m, n, k, c_type, scope, invocations; } all[] = {
        { 16, 16, 16, VK_COMPONENT_TYPE_FLOAT16_KHR, VK_SCOPE_WORKGROUP_KHR, 128 },
        { 64, 32, 32, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 128 },
        { 16, 16, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 64 },
        { 32, 12, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 128 },
        { 16, 8, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_SUBGROUP_KHR, 0 },
        { 32, 16, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 128 },
        { 32, 32, 16, VK_COMPONENT_TYPE_FLOAT32_KHR, VK_SCOPE_WORKGROUP_KHR, 256 },
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

static bool is_size(struct l2d_matrix2_size s, uint32_t invocations, uint32_t m, uint32_t n,
                    uint32_t k)
{
    return s.invocations == invocations && s.grain.m == m && s.grain.n == n && s.grain.k == k;
}

Test(matrix2, what_the_driver_lacks_is_not_used)
{
    struct l2d_matrix2 has = look();
    cr_assert(has.size[0].invocations || !getenv("L2D_TEST_MATRIX"), "no matrices of any size");
    if (!has.size[0].invocations)
        cr_skip_test("the device has no matrices of any size");
    for (missing = 0; missing < 4; missing++) {
        has = look();
        cr_expect(!has.size[0].invocations && !has.size[1].invocations && !has.has_tensors,
                  "feature %d", missing);
        struct l2d_error err = { 0 };
        struct l2d_gpu *gpu = NULL;
        cr_expect_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
            .cache_dir = "", .tier = L2D_TIER_3 }, &err), L2D_EUNSUPPORTED);
        cr_expect_not_null(strstr(err.msg, "tier 2 runs on it"), "%s", err.msg);
    }

    missing = -1;
    as_nvidia = true;
    has = look();
    cr_expect(has.of_workgroup && has.has_tensors && has.reserved_bytes == 1234);
    cr_expect(is_size(has.size[0], 128, 32, 16, 16) && is_size(has.size[1], 256, 32, 32, 16));
    max_workgroup = 128;
    has = look();
    cr_expect(is_size(has.size[0], 128, 32, 16, 16) && !has.size[1].invocations);
    max_workgroup = 1024;
    missing = 4;                        // a subgroup's are left, without coordinates
    has = look();
    cr_expect(!has.of_workgroup && !has.has_tensors && !has.reserved_bytes);
    cr_expect(has.size[0].grain.n == 8 && has.size[0].invocations && !has.size[1].invocations);
    missing = 5;
    has = look();
    cr_expect(has.of_workgroup && !has.has_tensors);
}
