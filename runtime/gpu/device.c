// SPDX-License-Identifier: Apache-2.0
// Instance, device choice, features and limits. See device.h.
#include "gpu/device.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "gpu/cores.h"
#include "gpu/matrix2.h"
#include "gpu/vk.h"

#define LAYER "VK_LAYER_KHRONOS_validation"
#define MAX_DEVICES 16
#define NVIDIA 0x10deu
#define INTEL  0x8086u

const char *l2d_vk_str(VkResult result)
{
    switch (result) {
    case VK_ERROR_OUT_OF_HOST_MEMORY:    return "out of host memory";
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:  return "out of device memory";
    case VK_ERROR_DEVICE_LOST:           return "device lost: the driver has reset it, and the "
                                                "kernel's log may say why";
    case VK_ERROR_INITIALIZATION_FAILED: return "initialization failed";
    case VK_ERROR_LAYER_NOT_PRESENT:     return "layer not present";
    case VK_ERROR_EXTENSION_NOT_PRESENT: return "extension not present";
    case VK_ERROR_FEATURE_NOT_PRESENT:   return "feature not present";
    case VK_ERROR_INCOMPATIBLE_DRIVER:   return "incompatible driver";
    case VK_TIMEOUT:                     return "timeout";
    default:                             return "error";
    }
}

int l2d_vk_fail(struct l2d_error *err, VkResult result, const char *call)
{
    int code = result == VK_ERROR_OUT_OF_DEVICE_MEMORY ? L2D_EGPUMEM
             : result == VK_ERROR_OUT_OF_HOST_MEMORY ? L2D_ENOMEM : L2D_EGPU;
    int len = (int) strcspn(call, "(");
    return l2d_error_set(err, code, "%.*s: %s (%d)", len, call, l2d_vk_str(result), (int) result);
}

void l2d_vk_name(struct l2d_gpu *gpu, VkObjectType type, uint64_t handle, const char *name)
{
    if (!gpu->set_name)
        return;
    gpu->set_name(gpu->device, &(VkDebugUtilsObjectNameInfoEXT) {
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_OBJECT_NAME_INFO_EXT,
        .objectType = type, .objectHandle = handle, .pObjectName = name,
    });
}

const char *l2d_gpu_type_str(enum l2d_gpu_type type)
{
    switch (type) {
    case L2D_GPU_OTHER:      return "other";
    case L2D_GPU_INTEGRATED: return "integrated";
    case L2D_GPU_DISCRETE:   return "discrete";
    case L2D_GPU_VIRTUAL:    return "virtual";
    case L2D_GPU_CPU:        return "cpu";
    }
    return "?";
}

static VKAPI_ATTR VkBool32 VKAPI_CALL on_message(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                 VkDebugUtilsMessageTypeFlagsEXT type,
                                                 const VkDebugUtilsMessengerCallbackDataEXT *data,
                                                 void *user)
{
    (void) severity;
    (void) type;
    struct l2d_gpu *gpu = user;
    gpu->num_validation_messages++;
    l2d_log_print(&gpu->log, L2D_LOG_ERROR, "validation: %s", data->pMessage);
    return VK_FALSE;
}

static bool has_instance_extension(const char *layer, const char *name)
{
    uint32_t count = 0;
    if (vkEnumerateInstanceExtensionProperties(layer, &count, NULL) != VK_SUCCESS || !count)
        return false;
    VkExtensionProperties *ext = calloc(count, sizeof(*ext));
    bool found = false;
    if (ext && vkEnumerateInstanceExtensionProperties(layer, &count, ext) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count && !found; i++)
            found = !strcmp(ext[i].extensionName, name);
    free(ext);
    return found;
}

static bool has_layer(const char *name)
{
    uint32_t count = 0;
    if (vkEnumerateInstanceLayerProperties(&count, NULL) != VK_SUCCESS || !count)
        return false;
    VkLayerProperties *layer = calloc(count, sizeof(*layer));
    bool found = false;
    if (layer && vkEnumerateInstanceLayerProperties(&count, layer) >= VK_SUCCESS)
        for (uint32_t i = 0; i < count && !found; i++)
            found = !strcmp(layer[i].layerName, name);
    free(layer);
    return found;
}

static int create_instance(VkInstance *out, bool validation, bool *debug_utils,
                           struct l2d_error *err)
{
    if (validation && !has_layer(LAYER))
        return l2d_error_set(err, L2D_EGPU, "the Vulkan validation layer is not installed; "
                             "install the package vulkan-validationlayers, or turn validation off");
    const char *layer = LAYER;
    const char *ext = VK_EXT_DEBUG_UTILS_EXTENSION_NAME;
    *debug_utils = has_instance_extension(NULL, ext) ||
                   (validation && has_instance_extension(layer, ext));
    VkValidationFeatureEnableEXT enable =
        VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT;
    VkValidationFeaturesEXT features = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .enabledValidationFeatureCount = 1, .pEnabledValidationFeatures = &enable,
    };
    VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "live2diff", .pEngineName = "libl2d", .apiVersion = VK_API_VERSION_1_3,
    };
    VkResult result = vkCreateInstance(&(VkInstanceCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = validation ? &features : NULL, .pApplicationInfo = &app,
        .enabledLayerCount = validation, .ppEnabledLayerNames = &layer,
        .enabledExtensionCount = *debug_utils, .ppEnabledExtensionNames = &ext,
    }, NULL, out);
    if (result != VK_SUCCESS)
        return l2d_error_set(err, L2D_EGPU, "no Vulkan driver found (%s); install your GPU's "
                             "driver, or the package mesa-vulkan-drivers to run on the CPU",
                             l2d_vk_str(result));
    return L2D_OK;
}

// Which the device has the extensions for.
static enum l2d_tier highest_tier(const struct l2d_gpu_caps *caps)
{
    return !caps->matrix.m ? L2D_TIER_1 : !caps->matrix2.grain.m ? L2D_TIER_2 : L2D_TIER_3;
}

// NULL if we can run on it, else what it lacks.
static const char *what_it_lacks(VkPhysicalDevice physical)
{
    VkPhysicalDeviceVulkan13Features f13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES };
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f13 };
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f12 };
    VkPhysicalDeviceVulkan11Properties p11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES };
    VkPhysicalDeviceProperties2 all = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p11 };
    const VkSubgroupFeatureFlags ops = VK_SUBGROUP_FEATURE_SHUFFLE_BIT |
                                       VK_SUBGROUP_FEATURE_ARITHMETIC_BIT;
    VkPhysicalDeviceProperties props;
    vkGetPhysicalDeviceProperties(physical, &props);
    if (props.apiVersion < VK_API_VERSION_1_3)
        return "Vulkan 1.3";
    if (!l2d_vk_find_queues(physical).count)
        return "a compute queue";
    if (props.limits.maxPerStageDescriptorStorageBuffers < L2D_MAX_BINDINGS)
        return "enough storage buffers";
    vkGetPhysicalDeviceProperties2(physical, &all);
    if ((p11.subgroupSupportedOperations & ops) != ops)
        return "subgroup shuffles and sums";
    vkGetPhysicalDeviceFeatures2(physical, &features);
    return !f12.timelineSemaphore ? "timeline semaphores" : !f12.hostQueryReset ? "host query reset"
         : !f13.synchronization2 ? "synchronization2" : !f13.maintenance4 ? "maintenance4" : NULL;
}

static void read_caps(VkInstance instance, VkPhysicalDevice physical, struct l2d_gpu_caps *caps)
{
    VkPhysicalDeviceVulkan13Properties p13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_PROPERTIES };
    VkPhysicalDeviceVulkan12Properties p12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_PROPERTIES, .pNext = &p13 };
    VkPhysicalDeviceVulkan11Properties p11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES, .pNext = &p12 };
    VkPhysicalDeviceProperties2 props = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &p11 };
    VkPhysicalDeviceVulkan11Features f11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES };
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES, .pNext = &f11 };
    VkPhysicalDeviceFeatures2 features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2, .pNext = &f12 };
    VkPhysicalDeviceMemoryProperties memory;
    vkGetPhysicalDeviceProperties2(physical, &props);
    vkGetPhysicalDeviceFeatures2(physical, &features);
    vkGetPhysicalDeviceMemoryProperties(physical, &memory);

    const VkPhysicalDeviceLimits *limits = &props.properties.limits;
    struct l2d_vk_queues queues = l2d_vk_find_queues(physical);
    // Kernels are laid out for subgroups of 32, which AMD's drivers have too when asked for them.
    // On Intel's devices the lanes of a subgroup share its registers: 128 for each of the fewest.
    bool shares_registers = props.properties.vendorID == INTEL;
    uint32_t wanted = shares_registers ? p13.minSubgroupSize : 32;
    bool sets_size = p13.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT;
    bool sets_wanted = sets_size && p13.minSubgroupSize <= wanted && p13.maxSubgroupSize >= wanted;
    uint32_t subgroup_size = sets_wanted ? wanted : p11.subgroupSize;
    uint64_t in_subgroups = (uint64_t) p13.maxComputeWorkgroupSubgroups * subgroup_size;
    *caps = (struct l2d_gpu_caps) {
        .lacks = what_it_lacks(physical),
        .api_version = props.properties.apiVersion,
        .subgroup_size = subgroup_size,
        .sets_subgroup_size = sets_size,
        .lane_registers = shares_registers && sets_wanted ? 128 : 0,
        .has_fp16 = f11.storageBuffer16BitAccess,
        .has_half_math = f11.storageBuffer16BitAccess && f12.shaderFloat16,
        .max_range_bytes = limits->maxStorageBufferRange < L2D_MAX_RANGE_BYTES
                         ? limits->maxStorageBufferRange : L2D_MAX_RANGE_BYTES,
        .max_texels = limits->maxTexelBufferElements,
        .max_shared_bytes = limits->maxComputeSharedMemorySize,
        .max_invocations = limits->maxComputeWorkGroupInvocations < in_subgroups
                         ? limits->maxComputeWorkGroupInvocations : (uint32_t) in_subgroups,
        .max_groups = { limits->maxComputeWorkGroupCount[0], limits->maxComputeWorkGroupCount[1],
                        limits->maxComputeWorkGroupCount[2] },
        .timestamp_ns = queues.have_timestamps ? limits->timestampPeriod : 0,
        .num_lanes = queues.count,
        .matrix_columns = props.properties.vendorID != NVIDIA,
    };
    snprintf(caps->name, sizeof(caps->name), "%s", props.properties.deviceName);
    snprintf(caps->driver, sizeof(caps->driver), "%s %s", p12.driverName, p12.driverInfo);
    switch (props.properties.deviceType) {
    case VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU: caps->type = L2D_GPU_INTEGRATED; break;
    case VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU:   caps->type = L2D_GPU_DISCRETE;   break;
    case VK_PHYSICAL_DEVICE_TYPE_VIRTUAL_GPU:    caps->type = L2D_GPU_VIRTUAL;    break;
    case VK_PHYSICAL_DEVICE_TYPE_CPU:            caps->type = L2D_GPU_CPU;        break;
    default:                                     caps->type = L2D_GPU_OTHER;      break;
    }
    caps->num_cores = l2d_cores_count(physical, caps);
    l2d_matrix_find(instance, physical, caps);
    l2d_matrix2_find(instance, physical, caps);
    caps->tier = caps->type == L2D_GPU_CPU ? L2D_TIER_0 : highest_tier(caps);
    for (uint32_t i = 0; i < memory.memoryHeapCount; i++)
        if ((memory.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT) &&
            memory.memoryHeaps[i].size > caps->memory_bytes)
            caps->memory_bytes = memory.memoryHeaps[i].size;
    // A CPU driver may report less than it gives: it takes from the machine's memory.
    uint64_t host_bytes = (uint64_t) sysconf(_SC_PHYS_PAGES) * (uint64_t) sysconf(_SC_PAGESIZE);
    if (caps->type == L2D_GPU_CPU && host_bytes > caps->memory_bytes)
        caps->memory_bytes = host_bytes;
}

static int list_physical(VkInstance instance, VkPhysicalDevice *physical, uint32_t *count,
                         struct l2d_error *err)
{
    *count = MAX_DEVICES;
    VkResult result = vkEnumeratePhysicalDevices(instance, count, physical);
    if (result < VK_SUCCESS)
        return l2d_vk_fail(err, result, "vkEnumeratePhysicalDevices");
    if (!*count)
        return l2d_error_set(err, L2D_EGPU, "Vulkan reports no device; install your GPU's driver, "
                             "or the package mesa-vulkan-drivers to run on the CPU");
    return L2D_OK;
}

int l2d_gpu_list(struct l2d_gpu_caps *desc, uint32_t cap, uint32_t *count, struct l2d_error *err)
{
    VkInstance instance;
    bool debug_utils;
    int rc = create_instance(&instance, false, &debug_utils, err);
    if (rc != L2D_OK)
        return rc;
    VkPhysicalDevice physical[MAX_DEVICES];
    rc = list_physical(instance, physical, count, err);
    for (uint32_t i = 0; rc == L2D_OK && i < *count && i < cap; i++)
        read_caps(instance, physical[i], &desc[i]);
    vkDestroyInstance(instance, NULL);
    return rc;
}

static bool contains_nocase(const char *text, const char *word)
{
    for (; *text; text++) {
        size_t i = 0;
        while (word[i] && tolower((unsigned char) text[i]) == tolower((unsigned char) word[i]))
            i++;
        if (!word[i])
            return true;
    }
    return false;
}

static bool better(const struct l2d_gpu_caps *a, const struct l2d_gpu_caps *b)
{
    static const int rank[] = {
        [L2D_GPU_DISCRETE] = 4, [L2D_GPU_INTEGRATED] = 3, [L2D_GPU_VIRTUAL] = 2,
        [L2D_GPU_OTHER] = 1, [L2D_GPU_CPU] = 0,
    };
    return rank[a->type] != rank[b->type] ? rank[a->type] > rank[b->type]
                                          : a->memory_bytes > b->memory_bytes;
}

static int choose(struct l2d_gpu *gpu, const char *wanted, struct l2d_error *err)
{
    VkPhysicalDevice physical[MAX_DEVICES];
    uint32_t count;
    int rc = list_physical(gpu->instance, physical, &count, err);
    if (rc != L2D_OK)
        return rc;
    char *end = NULL;
    unsigned long index = wanted ? strtoul(wanted, &end, 10) : 0;
    bool by_index = wanted && *wanted && isdigit((unsigned char) *wanted) && !*end;
    struct l2d_gpu_caps unusable = { .lacks = NULL };       // the best of them
    for (uint32_t i = 0; i < count; i++) {
        struct l2d_gpu_caps caps;
        read_caps(gpu->instance, physical[i], &caps);
        if (wanted && (by_index ? index != i : !contains_nocase(caps.name, wanted)))
            continue;
        l2d_log_print(&gpu->log, L2D_LOG_DEBUG, "device %u: %s (%s)%s%s", i, caps.name,
                      l2d_gpu_type_str(caps.type), caps.lacks ? ", unusable: lacks " : "",
                      caps.lacks ? caps.lacks : "");
        if (caps.lacks) {
            unusable = !unusable.lacks || better(&caps, &unusable) ? caps : unusable;
        } else if (!gpu->physical || better(&caps, &gpu->caps)) {
            gpu->physical = physical[i];
            gpu->caps = caps;
        }
    }
    if (gpu->physical) {
        l2d_log_print(&gpu->log, L2D_LOG_INFO, "device: %s (%s, %s), %s%s", gpu->caps.name,
                      l2d_gpu_type_str(gpu->caps.type), gpu->caps.driver,
                      wanted ? "as asked by --device " : count > 1 ? "the best of those present"
                                                                  : "the only one",
                      wanted ? wanted : "");
        if (unusable.lacks && better(&unusable, &gpu->caps))
            l2d_log_print(&gpu->log, L2D_LOG_WARN, "%s would be better, but lacks %s; a newer "
                          "driver may bring it", unusable.name, unusable.lacks);
        return L2D_OK;
    }
    if (unusable.lacks)
        return l2d_error_set(err, L2D_EGPU, "no usable Vulkan device: %s lacks %s; a newer driver "
                             "may bring it", unusable.name, unusable.lacks);
    return l2d_error_set(err, L2D_EGPU, "no Vulkan device %s'%s'; `live2diff devices` lists them",
                         by_index ? "with index " : "is named like ", wanted);
}

static int create_device(struct l2d_gpu *gpu, struct l2d_error *err)
{
    int rc = L2D_OK;
    gpu->queues = l2d_vk_find_queues(gpu->physical);
    vkGetPhysicalDeviceMemoryProperties(gpu->physical, &gpu->memory);
    VkPhysicalDeviceVulkan13Features f13 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_3_FEATURES,
        .synchronization2 = VK_TRUE, .maintenance4 = VK_TRUE,
        .computeFullSubgroups = VK_TRUE, .subgroupSizeControl = VK_TRUE,
    };
    bool matrix = gpu->caps.tier >= L2D_TIER_2, matrix2 = gpu->caps.tier >= L2D_TIER_3;
    VkPhysicalDeviceCooperativeMatrix2FeaturesNV matrix2_features =
        l2d_matrix2_features();
    matrix2_features.pNext = &f13;
    VkPhysicalDeviceRobustness2FeaturesEXT robustness = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ROBUSTNESS_2_FEATURES_EXT,
        .pNext = matrix2 ? (void *) &matrix2_features : &f13,
        .robustBufferAccess2 = VK_TRUE,
    };
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR matrix_features = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
        .pNext = &robustness, .cooperativeMatrix = VK_TRUE,
    };
    VkPhysicalDeviceVulkan12Features f12 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .pNext = matrix ? (void *) &matrix_features : &f13,
        .timelineSemaphore = VK_TRUE, .hostQueryReset = VK_TRUE,
        .shaderFloat16 = gpu->caps.has_half_math, .vulkanMemoryModel = matrix,
        .vulkanMemoryModelDeviceScope = matrix,         // what shaders of the older model name
    };
    const char *const extensions[] = { VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME,
                                       VK_EXT_ROBUSTNESS_2_EXTENSION_NAME,
                                       VK_NV_COOPERATIVE_MATRIX_2_EXTENSION_NAME };
    VkPhysicalDeviceVulkan11Features f11 = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES, .pNext = &f12,
        .storageBuffer16BitAccess = gpu->caps.has_fp16,
    };
    static const float priority[L2D_NUM_LANES] = { 1, 0.5f };   // what is ahead has time
    const struct l2d_vk_queues *q = &gpu->queues;
    bool one_family = q->count == 1 || q->family[1] == q->family[0];
    VkDeviceQueueCreateInfo queue[L2D_NUM_LANES];
    for (uint32_t i = 0; i < L2D_NUM_LANES; i++)
        queue[i] = (VkDeviceQueueCreateInfo) {
            .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
            .queueFamilyIndex = q->family[i], .queueCount = one_family ? q->count : 1,
            .pQueuePriorities = &priority[one_family ? 0 : i],
        };
    VK_TRY(vkCreateDevice(gpu->physical, &(VkDeviceCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO, .pNext = &f11,
        .queueCreateInfoCount = one_family ? 1 : 2, .pQueueCreateInfos = queue,
        .enabledExtensionCount = matrix2 ? 3 : matrix ? 2 : 0,
        .ppEnabledExtensionNames = extensions,
        .pEnabledFeatures = &(VkPhysicalDeviceFeatures) { .robustBufferAccess = matrix },
    }, NULL, &gpu->device));
    rc = l2d_vk_lanes_create(gpu, err);
fail:
    return rc;
}

static int set_tier(struct l2d_gpu *gpu, enum l2d_tier tier, struct l2d_error *err)
{
    struct l2d_gpu_caps *caps = &gpu->caps;
    enum l2d_tier highest = highest_tier(caps);
    static const char *const next[] = {
        [L2D_TIER_1] = "VK_KHR_cooperative_matrix of halves that add up to floats, with "
                       "VK_EXT_robustness2",
        [L2D_TIER_2] = "VK_NV_cooperative_matrix2 with matrices of any size",
    };
    if (tier > highest)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "tier %d: %s has no %s; tier %d runs on it",
                             tier - L2D_TIER_0, caps->name, next[highest], highest - L2D_TIER_0);
    if (tier != L2D_TIER_AUTO)
        caps->tier = tier;
    return L2D_OK;
}

int l2d_gpu_create(struct l2d_gpu **out, const struct l2d_gpu_params *params,
                   struct l2d_error *err)
{
    struct l2d_gpu *gpu = calloc(1, sizeof(*gpu));
    if (!gpu)
        return l2d_error_set(err, L2D_ENOMEM, "gpu: out of memory");
    gpu->log = l2d_log_named(&params->log, "gpu");

    bool debug_utils = false;
    int rc = create_instance(&gpu->instance, params->validation, &debug_utils, err);
    if (rc == L2D_OK && debug_utils) {
        PFN_vkCreateDebugUtilsMessengerEXT create = (PFN_vkCreateDebugUtilsMessengerEXT)
            vkGetInstanceProcAddr(gpu->instance, "vkCreateDebugUtilsMessengerEXT");
        if (params->validation && create)
            create(gpu->instance, &(VkDebugUtilsMessengerCreateInfoEXT) {
                .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
                .messageSeverity = VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT |
                                   VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
                .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
                .pfnUserCallback = on_message, .pUserData = gpu,
            }, NULL, &gpu->messenger);
        gpu->set_name = (PFN_vkSetDebugUtilsObjectNameEXT)
            vkGetInstanceProcAddr(gpu->instance, "vkSetDebugUtilsObjectNameEXT");
    }
    if (rc == L2D_OK)
        rc = choose(gpu, params->device, err);
    if (rc == L2D_OK)
        rc = set_tier(gpu, params->tier, err);
    if (params->memory_bytes)
        gpu->caps.memory_bytes = params->memory_bytes;
    if (params->max_range_bytes)
        gpu->caps.max_range_bytes = params->max_range_bytes;
    if (params->num_cores)
        gpu->caps.num_cores = params->num_cores;
    gpu->caps.matrix_columns &= !params->matrix_rows;
    gpu->swapped = params->lanes == L2D_LANES_SWAPPED;
    gpu->piece_flops = params->piece_flops > 0 ? params->piece_flops : L2D_PIECE_FLOPS;
    if (params->lanes != L2D_LANES_AUTO)
        gpu->caps.num_lanes = gpu->swapped ? 2 : 1;
    if (rc == L2D_OK)
        rc = create_device(gpu, err);
    if (rc != L2D_OK) {
        l2d_gpu_destroy(&gpu);
        return rc;
    }
    char fallback[400];
    if (!params->cache_dir)
        l2d_file_cache_dir(fallback, sizeof(fallback));
    const char *dir = params->cache_dir ? params->cache_dir : fallback;
    l2d_program_cache_open(gpu, dir);
    l2d_choices_open(gpu, dir);
    *out = gpu;
    return L2D_OK;
}

void l2d_gpu_destroy(struct l2d_gpu **pgpu)
{
    struct l2d_gpu *gpu = *pgpu;
    *pgpu = NULL;
    if (!gpu)
        return;
    if (gpu->device) {
        l2d_vk_flush(gpu, NULL);
        vkDeviceWaitIdle(gpu->device);
        l2d_vk_staging_finish(gpu);
        l2d_program_cache_close(gpu);
        l2d_vk_lanes_destroy(gpu);
        vkDestroyDevice(gpu->device, NULL);
    }
    if (gpu->messenger) {
        PFN_vkDestroyDebugUtilsMessengerEXT destroy = (PFN_vkDestroyDebugUtilsMessengerEXT)
            vkGetInstanceProcAddr(gpu->instance, "vkDestroyDebugUtilsMessengerEXT");
        destroy(gpu->instance, gpu->messenger, NULL);
    }
    if (gpu->instance)
        vkDestroyInstance(gpu->instance, NULL);
    l2d_choices_close(gpu);
    free(gpu);
}

const struct l2d_gpu_caps *l2d_gpu_caps(const struct l2d_gpu *gpu)
{
    return &gpu->caps;
}

struct l2d_gpu_taken l2d_gpu_taken(const struct l2d_gpu *gpu)
{
    return gpu->taken;
}

uint32_t l2d_gpu_num_validation_messages(const struct l2d_gpu *gpu)
{
    return gpu->num_validation_messages;
}

const char *l2d_tier_str(enum l2d_tier tier)
{
    static const char *const names[] = { "auto", "T0", "T1", "T2", "T3" };
    return names[tier];
}
