// SPDX-License-Identifier: Apache-2.0
// SPIR-V to pipelines: one program for each shader variant and set of specialization constants,
// made when first asked for, or several at once, and the pipeline cache on disk. The cache file has
// our own header in front, since a driver may crash on a damaged blob.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/parallel.h"
#include "gpu/vk.h"

struct cache_header {
    char     magic[8];
    uint64_t size_bytes, hash;          // of the blob that follows
};

#define CACHE_MAGIC "l2dpipe1"
#define CACHE_MAX_BYTES (256u << 20)

uint64_t l2d_vk_hash(uint64_t h, const void *data, size_t size)
{
    const unsigned char *p = data;
    for (size_t i = 0; i < size; i++)
        h = (h ^ p[i]) * 0x100000001b3u;
    return h;
}

static const struct l2d_shader *find_shader(const struct l2d_gpu *gpu, const char *name, bool f16)
{
    bool texels = gpu->caps.tier == L2D_TIER_0;
    for (uint32_t i = 0; i < l2d_num_shaders; i++) {
        const struct l2d_shader *s = &l2d_shader_table[i];
        if (s->f16 == f16 && s->texels == texels && !strcmp(s->name, name))
            return s;
    }
    return NULL;
}

static void unmake(struct l2d_program *p, struct l2d_gpu *gpu)
{
    vkDestroyPipeline(gpu->device, p->pipeline, NULL);
    vkDestroyPipelineLayout(gpu->device, p->layout, NULL);
    vkDestroyDescriptorSetLayout(gpu->device, p->set_layout, NULL);
    p->pipeline = VK_NULL_HANDLE;
    p->layout = VK_NULL_HANDLE;
    p->set_layout = VK_NULL_HANDLE;
}

// Of a program that is only declared. Any thread may, another one for another program.
static int make(struct l2d_program *p, struct l2d_gpu *gpu, struct l2d_error *err)
{
    const struct l2d_shader *shader = find_shader(gpu, p->shader, p->f16);
    int rc = L2D_OK;
    VkShaderModule module = VK_NULL_HANDLE;
    VkDescriptorSetLayoutBinding binding[L2D_MAX_BINDINGS];
    l2d_operands_find_texels(shader, p->texels, p->num_bind);
    for (uint32_t i = 0; i < p->num_bind; i++)
        binding[i] = (VkDescriptorSetLayoutBinding) {
            .binding = i, .descriptorType = l2d_operand_descriptor(p->texels[i]),
            .descriptorCount = 1, .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
        };
    VK_TRY(vkCreateDescriptorSetLayout(gpu->device, &(VkDescriptorSetLayoutCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = p->num_bind, .pBindings = binding,
    }, NULL, &p->set_layout));
    VkPushConstantRange range = {
        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = p->params_size,
    };
    VK_TRY(vkCreatePipelineLayout(gpu->device, &(VkPipelineLayoutCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1, .pSetLayouts = &p->set_layout,
        .pushConstantRangeCount = p->params_size > 0, .pPushConstantRanges = &range,
    }, NULL, &p->layout));
    VK_TRY(vkCreateShaderModule(gpu->device, &(VkShaderModuleCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = shader->size_bytes, .pCode = shader->code,
    }, NULL, &module));
    VkSpecializationMapEntry entry[L2D_MAX_SPEC];
    for (uint32_t i = 0; i < p->num_spec; i++)
        entry[i] = (VkSpecializationMapEntry) { .constantID = i, .offset = 4 * i, .size = 4 };
    VkSpecializationInfo spec = {
        .mapEntryCount = p->num_spec, .pMapEntries = entry,
        .dataSize = 4 * p->num_spec, .pData = p->spec,
    };
    VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = gpu->caps.subgroup_size,
    };
    VK_TRY(vkCreateComputePipelines(gpu->device, gpu->cache, 1, &(VkComputePipelineCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
            .pNext = shader->whole_subgroups && gpu->caps.sets_subgroup_size ? &subgroup : NULL,
            .flags = shader->whole_subgroups
                   ? VK_PIPELINE_SHADER_STAGE_CREATE_REQUIRE_FULL_SUBGROUPS_BIT : 0,
            .stage = VK_SHADER_STAGE_COMPUTE_BIT, .module = module, .pName = "main",
            .pSpecializationInfo = p->num_spec ? &spec : NULL,
        },
        .layout = p->layout,
    }, NULL, &p->pipeline));
    l2d_vk_name(gpu, VK_OBJECT_TYPE_PIPELINE, (uint64_t) p->pipeline, p->shader);
fail:
    vkDestroyShaderModule(gpu->device, module, NULL);
    if (rc != L2D_OK)
        unmake(p, gpu);
    return rc == L2D_OK ? rc
         : l2d_error_wrap(err, rc, "shader %s%s", p->shader,
                          gpu->caps.tier > L2D_TIER_1 ? ", which --tier 1 may do without" : "");
}

int l2d_program_declare(struct l2d_program **out, struct l2d_gpu *gpu, const char *shader, bool f16,
                        const uint32_t *spec, uint32_t num_spec, uint32_t num_bind,
                        uint32_t params_size, struct l2d_error *err)
{
    for (struct l2d_program *p = gpu->programs; p; p = p->next)
        if (p->f16 == f16 && p->num_spec == num_spec && p->num_bind == num_bind &&
            p->params_size == params_size && !strcmp(p->shader, shader) &&
            !memcmp(p->spec, spec, num_spec * sizeof(*spec))) {
            *out = p;
            return L2D_OK;
        }
    const struct l2d_shader *code = find_shader(gpu, shader, f16);
    if (!code)
        return l2d_error_set(err, L2D_EINVAL, "no shader %s, %s", shader, f16 ? "f16" : "f32");
    struct l2d_program *p = calloc(1, sizeof(*p));
    if (!p)
        return l2d_error_set(err, L2D_ENOMEM, "shader %s: out of memory", shader);
    p->shader = code->name;
    p->f16 = f16;
    p->num_spec = num_spec;
    p->num_bind = num_bind;
    p->params_size = params_size;
    memcpy(p->spec, spec, num_spec * sizeof(*spec));
    p->next = gpu->programs;
    gpu->programs = p;
    *out = p;
    return L2D_OK;
}

int l2d_program_get(struct l2d_program **out, struct l2d_gpu *gpu, const char *shader, bool f16,
                    const uint32_t *spec, uint32_t num_spec, uint32_t num_bind,
                    uint32_t params_size, struct l2d_error *err)
{
    struct l2d_program *p = NULL;
    int rc = l2d_program_declare(&p, gpu, shader, f16, spec, num_spec, num_bind, params_size, err);
    if (rc == L2D_OK && !p->pipeline)
        rc = make(p, gpu, err);
    if (rc == L2D_OK)
        *out = p;
    return rc;
}

struct makers {
    struct l2d_gpu *gpu;
    struct l2d_program **program;
};

static int make_one(void *user, uint32_t thread, uint32_t index, struct l2d_error *err)
{
    const struct makers *m = user;
    (void) thread;
    return make(m->program[index], m->gpu, err);
}

int l2d_gpu_make_programs(struct l2d_gpu *gpu, struct l2d_error *err)
{
    uint32_t count = 0;
    for (struct l2d_program *p = gpu->programs; p; p = p->next)
        count += !p->pipeline;
    struct makers m = { gpu, malloc((count + 1) * sizeof(*m.program)) };
    if (!m.program)
        return l2d_error_set(err, L2D_ENOMEM, "shaders: out of memory");
    uint32_t n = 0;
    for (struct l2d_program *p = gpu->programs; p; p = p->next)
        if (!p->pipeline)
            m.program[n++] = p;
    int rc = l2d_parallel_for("pipelines", l2d_parallel_threads(), count, make_one, &m, err);
    free(m.program);
    return rc;
}

void l2d_gpu_forget_programs(struct l2d_gpu *gpu)
{
    for (struct l2d_program **at = &gpu->programs; *at;) {
        struct l2d_program *p = *at;
        if (p->pipeline) {
            at = &p->next;
            continue;
        }
        *at = p->next;
        free(p);
    }
}

// The blob of an intact cache file, or NULL.
static void *read_blob(const char *path, size_t *size_bytes)
{
    struct cache_header header;
    void *blob = NULL;
    FILE *f;
    if (l2d_file_open(&f, path, NULL) != L2D_OK)
        return NULL;
    if (fread(&header, sizeof(header), 1, f) == 1 &&
        !memcmp(header.magic, CACHE_MAGIC, sizeof(header.magic)) &&
        header.size_bytes > 0 && header.size_bytes <= CACHE_MAX_BYTES)
        blob = malloc(header.size_bytes);
    if (blob && (fread(blob, header.size_bytes, 1, f) != 1 ||
                 l2d_vk_hash(L2D_FNV1A, blob, header.size_bytes) != header.hash)) {
        free(blob);
        blob = NULL;
    }
    fclose(f);
    *size_bytes = blob ? header.size_bytes : 0;
    return blob;
}

void l2d_program_cache_open(struct l2d_gpu *gpu, const char *dir)
{
    VkPhysicalDeviceProperties props;
    vkGetPhysicalDeviceProperties(gpu->physical, &props);
    if (*dir && strlen(dir) + 64 < sizeof(gpu->cache_path)) {
        int n = snprintf(gpu->cache_path, sizeof(gpu->cache_path), "%s/pipelines-", dir);
        for (size_t i = 0; i < VK_UUID_SIZE; i++)
            n += snprintf(gpu->cache_path + n, sizeof(gpu->cache_path) - (size_t) n, "%02x",
                          props.pipelineCacheUUID[i]);
        snprintf(gpu->cache_path + n, sizeof(gpu->cache_path) - (size_t) n, "-%08x.bin",
                 props.driverVersion);
    }
    void *blob = *gpu->cache_path ? read_blob(gpu->cache_path, &gpu->cache_bytes) : NULL;
    // Without a cache pipelines are merely slower to make, so a failure is not an error.
    if (vkCreatePipelineCache(gpu->device, &(VkPipelineCacheCreateInfo) {
            .sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO,
            .initialDataSize = gpu->cache_bytes, .pInitialData = blob,
        }, NULL, &gpu->cache) != VK_SUCCESS)
        gpu->cache = VK_NULL_HANDLE;
    free(blob);
}

// If there is something new: it may be 100 MB, after many sizes and models.
static void save(struct l2d_gpu *gpu)
{
    size_t size_bytes = 0;
    if (vkGetPipelineCacheData(gpu->device, gpu->cache, &size_bytes, NULL) != VK_SUCCESS ||
        size_bytes <= sizeof(VkPipelineCacheHeaderVersionOne) || size_bytes == gpu->cache_bytes)
        return;
    if (size_bytes > CACHE_MAX_BYTES) { // much of it is old: the next run begins a new one
        remove(gpu->cache_path);
        return;
    }
    char tmp[sizeof(gpu->cache_path) + 48];
    snprintf(tmp, sizeof(tmp), "%s.%ld.%p", gpu->cache_path, (long) getpid(), (void *) gpu);
    l2d_file_make_parents(tmp);
    void *blob = malloc(size_bytes);
    FILE *f = blob ? fopen(tmp, "wb") : NULL;
    if (f && vkGetPipelineCacheData(gpu->device, gpu->cache, &size_bytes, blob) == VK_SUCCESS) {
        struct cache_header header = { .size_bytes = size_bytes };
        header.hash = l2d_vk_hash(L2D_FNV1A, blob, size_bytes);
        memcpy(header.magic, CACHE_MAGIC, sizeof(header.magic));
        bool ok = fwrite(&header, sizeof(header), 1, f) == 1 && fwrite(blob, size_bytes, 1, f) == 1;
        ok = fclose(f) == 0 && ok;
        f = NULL;
        if (!ok || rename(tmp, gpu->cache_path) != 0) {
            remove(tmp);
            l2d_log_print(&gpu->log, L2D_LOG_DEBUG, "%s: not written: %s", gpu->cache_path,
                          strerror(errno));
        }
    }
    if (f) {
        fclose(f);
        remove(tmp);
    }
    free(blob);
}

void l2d_program_cache_close(struct l2d_gpu *gpu)
{
    if (gpu->cache && *gpu->cache_path && gpu->programs)
        save(gpu);
    while (gpu->programs) {
        struct l2d_program *p = gpu->programs;
        gpu->programs = p->next;
        unmake(p, gpu);
        free(p);
    }
    vkDestroyPipelineCache(gpu->device, gpu->cache, NULL);
}
