// SPDX-License-Identifier: Apache-2.0
// Device choice by index and name, the pipeline cache's file, and tiers that are refused.
#include <criterion/criterion.h>
#include <dirent.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gpu/device.h"
#include "gpu/graph.h"
#include "gpu/vk.h"

static struct l2d_error err;
static bool is_old;             // devices
static size_t stored_bytes = 100;

void __real_vkGetPhysicalDeviceProperties(VkPhysicalDevice, VkPhysicalDeviceProperties *);
void __wrap_vkGetPhysicalDeviceProperties(VkPhysicalDevice, VkPhysicalDeviceProperties *);
void __wrap_vkGetPhysicalDeviceProperties(VkPhysicalDevice physical, VkPhysicalDeviceProperties *p)
{
    __real_vkGetPhysicalDeviceProperties(physical, p);
    p->apiVersion = is_old ? VK_API_VERSION_1_2 : p->apiVersion;
}

// lavapipe, which keeps a cache of its own, has nothing to store: then it is something made up.
VkResult __real_vkGetPipelineCacheData(VkDevice, VkPipelineCache, size_t *, void *);
VkResult __wrap_vkGetPipelineCacheData(VkDevice, VkPipelineCache, size_t *, void *);
VkResult __wrap_vkGetPipelineCacheData(VkDevice device, VkPipelineCache cache, size_t *size,
                                       void *data)
{
    size_t real = 0;
    __real_vkGetPipelineCacheData(device, cache, &real, NULL);
    if (real > sizeof(VkPipelineCacheHeaderVersionOne) && stored_bytes == 100)
        return __real_vkGetPipelineCacheData(device, cache, size, data);
    *size = stored_bytes;
    if (data)
        memset(data, 1, *size);
    return VK_SUCCESS;
}

Test(device, choice_by_index_and_name)
{
    struct l2d_gpu_caps list[16];
    uint32_t count;
    cr_assert_eq(l2d_gpu_list(list, 16, &count, &err), L2D_OK, "%s", err.msg);
    cr_assert_geq(count, 1);

    struct l2d_gpu *gpu = NULL;
    struct l2d_gpu_params params = { .device = "0", .cache_dir = "" };
    cr_assert_eq(l2d_gpu_create(&gpu, &params, &err), L2D_OK, "%s", err.msg);
    cr_expect_str_eq(l2d_gpu_caps(gpu)->name, list[0].name);
    l2d_gpu_destroy(&gpu);

    char part[8];
    snprintf(part, sizeof(part), "%.5s", list[0].name);
    params.device = part;
    cr_assert_eq(l2d_gpu_create(&gpu, &params, &err), L2D_OK, "%s", err.msg);
    l2d_gpu_destroy(&gpu);

    params.device = "99";
    cr_expect_eq(l2d_gpu_create(&gpu, &params, &err), L2D_EGPU);
    cr_expect_neq(strstr(err.msg, "live2diff devices"), NULL, "%s", err.msg);
    params.device = "no such card";
    cr_expect_eq(l2d_gpu_create(&gpu, &params, &err), L2D_EGPU);
    cr_expect_null(gpu);
}

Test(device, those_that_cannot_be_used_say_why)
{
    struct l2d_gpu_caps list[16];
    struct l2d_gpu *gpu = NULL;
    uint32_t count;
    cr_assert_eq(l2d_gpu_list(list, 16, &count, &err), L2D_OK, "%s", err.msg);
    cr_expect_null(list[0].lacks);
    is_old = true;
    cr_assert_eq(l2d_gpu_list(list, 16, &count, &err), L2D_OK, "%s", err.msg);
    cr_assert_str_eq(list[0].lacks, "Vulkan 1.3");
    cr_expect_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err),
                 L2D_EGPU);
    cr_expect_neq(strstr(err.msg, "lacks Vulkan 1.3"), NULL, "%s", err.msg);
}

// Makes a pipeline, so that there is something to cache. returns the path of the cache file.
static void run_with_cache(const char *dir, char *path, size_t size)
{
    struct l2d_gpu *gpu;
    struct l2d_gpu_params params = { .cache_dir = dir };
    cr_assert_eq(l2d_gpu_create(&gpu, &params, &err), L2D_OK, "%s", err.msg);
    struct l2d_graph *graph;
    struct l2d_buf *buf;
    uint64_t planned;
    cr_assert_eq(l2d_graph_create(&graph, gpu, L2D_F32, "cache", &err), L2D_OK);
    cr_assert_eq(l2d_buf_create(&buf, gpu, 4096, L2D_MEMORY_DEVICE, "x", &err), L2D_OK);
    struct l2d_tensor x = l2d_tensor_view(buf, 0, L2D_F32, 1, 1, 1, 64);
    struct l2d_binding bind[2] = {
        { x, L2D_READ }, { l2d_tensor_view(buf, 1024, L2D_F32, 1, 1, 1, 64), L2D_WRITE },
    };
    l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
        .shader = "luma_blur", .bind = bind, .num_bind = 2, .params_size = 28,
        .params = (uint32_t[7]) { 0 }, .groups = { 1, 1, 1 },
    });
    cr_assert_eq(l2d_graph_plan(graph, &planned, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_graph_finish(graph, NULL, &err), L2D_OK, "%s", err.msg);
    l2d_graph_destroy(&graph);
    l2d_buf_destroy(&buf);
    l2d_gpu_destroy(&gpu);

    path[0] = '\0';
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (!strncmp(entry->d_name, "pipelines-", 10))
            snprintf(path, size, "%s/%s", dir, entry->d_name);
    if (d)
        closedir(d);
}

static void add_ops(struct l2d_graph *graph, struct l2d_buf *buf, uint32_t num_bind)
{
    struct l2d_binding bind[L2D_MAX_BINDINGS];
    for (uint32_t i = 0; i < num_bind; i++)
        bind[i] = (struct l2d_binding) { l2d_tensor_view(buf, 1024 * i, L2D_F32, 1, 1, 1, 64),
                                         i ? L2D_READ : L2D_WRITE };
    for (int twice = 0; twice < 2; twice++)
        l2d_graph_dispatch(graph, &(struct l2d_dispatch) {
            .shader = "luma_blur", .bind = bind, .num_bind = num_bind, .params_size = 28,
            .params = (uint32_t[7]) { 0 }, .groups = { 1, 1, 1 },
        });
}

static uint32_t count_programs(const struct l2d_gpu *gpu, bool made)
{
    uint32_t count = 0;
    for (const struct l2d_program *p = gpu->programs; p; p = p->next)
        count += (p->pipeline != VK_NULL_HANDLE) == made;
    return count;
}

// Each program is made once, by whichever thread, and what is there already is not made again.
Test(device, pipelines_of_all_graphs_at_once)
{
    struct l2d_gpu *gpu;
    struct l2d_graph *graph[2];
    struct l2d_buf *buf;
    uint64_t planned;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), L2D_OK,
                 "%s", err.msg);
    cr_assert_eq(l2d_buf_create(&buf, gpu, 1 << 16, L2D_MEMORY_DEVICE, "x", &err), L2D_OK);
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(l2d_graph_create(&graph[i], gpu, L2D_F32, "programs", &err), L2D_OK);
        for (uint32_t num_bind = 2 + i; num_bind <= L2D_MAX_BINDINGS; num_bind++)
            add_ops(graph[i], buf, num_bind);
        cr_assert_eq(l2d_graph_declare_programs(graph[i], &err), L2D_OK, "%s", err.msg);
    }
    uint32_t count = L2D_MAX_BINDINGS - 1;
    cr_expect_eq(count_programs(gpu, false), count);
    for (int again = 0; again < 2; again++) {
        cr_assert_eq(l2d_gpu_make_programs(gpu, &err), L2D_OK, "%s", err.msg);
        cr_expect_eq(count_programs(gpu, true), count);
    }
    VkPipeline first = gpu->programs->pipeline;
    for (uint32_t i = 0; i < 2; i++) {
        cr_assert_eq(l2d_graph_plan(graph[i], &planned, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_graph_finish(graph[i], NULL, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_graph_run(graph[i], &err), L2D_OK, "%s", err.msg);
    }
    cr_expect(gpu->programs->pipeline == first && count_programs(gpu, true) == count);

    l2d_graph_destroy(&graph[1]);
    cr_assert_eq(l2d_graph_create(&graph[1], gpu, L2D_F16, "unknown", &err), L2D_OK);
    l2d_graph_dispatch(graph[1], &(struct l2d_dispatch) {
        .shader = "no such", .num_bind = 1, .groups = { 1, 1, 1 },
        .bind = &(struct l2d_binding) { l2d_tensor_view(buf, 0, L2D_F32, 1, 1, 1, 64), L2D_WRITE },
    });
    cr_expect_eq(l2d_graph_declare_programs(graph[1], &err), L2D_EINVAL);
    l2d_graph_destroy(&graph[0]);
    l2d_graph_destroy(&graph[1]);
    l2d_buf_destroy(&buf);
    l2d_gpu_destroy(&gpu);
}

Test(device, cache_file_is_written_anew_where_it_has_to_be)
{
    char dir[] = "/tmp/l2d-cache-XXXXXX", path[512];
    struct stat first, again;
    cr_assert_not_null(mkdtemp(dir));
    run_with_cache(dir, path, sizeof(path));
    cr_assert_eq(stat(path, &first), 0);
    run_with_cache(dir, path, sizeof(path));
    cr_assert_eq(stat(path, &again), 0);
    cr_expect_eq(first.st_ino, again.st_ino);
    stored_bytes = (256 << 20) + 1;
    run_with_cache(dir, path, sizeof(path));
    cr_expect_str_empty(path, "too large, it is begun anew");
    cr_expect_eq(rmdir(dir), 0);
}

Test(device, damaged_cache_files_do_no_harm)
{
    char dir[] = "/tmp/l2d-cache-XXXXXX", path[512], found[512];
    cr_assert_not_null(mkdtemp(dir));
    run_with_cache(dir, found, sizeof(found));
    cr_assert_neq(found[0], '\0');
    static const char *const damage[] = { "", "l2dpipe1", "garbage, longer than a header........" };
    for (size_t i = 0; i < 3; i++) {
        FILE *f = fopen(found, "wb");
        cr_assert_not_null(f);
        fputs(damage[i], f);
        fclose(f);
        run_with_cache(dir, path, sizeof(path));
        cr_expect_str_eq(path, found);
    }
    remove(found);
    cr_expect_eq(rmdir(dir), 0);
}

// Two streams of a process keep what they know of a device in one file.
struct saver {
    const char *dir;
    struct l2d_error err;
};

static void *save_often(void *user)
{
    struct saver *s = user;
    struct l2d_gpu *gpu = NULL;
    if (l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = s->dir }, &s->err) != L2D_OK)
        return NULL;
    for (int i = 0; i < 300 && s->err.code == L2D_OK; i++)
        l2d_choices_save(gpu, &s->err);
    l2d_gpu_destroy(&gpu);
    return NULL;
}

Test(device, two_save_at_the_same_time)
{
    char dir[] = "/tmp/l2d-choices-XXXXXX", path[512] = "";
    pthread_t thread[2];
    struct saver saver[2] = { { .dir = dir }, { .dir = dir } };
    cr_assert_not_null(mkdtemp(dir));
    for (int i = 0; i < 2; i++)
        cr_assert_eq(pthread_create(&thread[i], NULL, save_often, &saver[i]), 0);
    for (int i = 0; i < 2; i++) {
        pthread_join(thread[i], NULL);
        cr_expect_eq(saver[i].err.code, L2D_OK, "%s", saver[i].err.msg);
    }
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (entry->d_name[0] != '.') {
            cr_expect_str_empty(path, "one file");
            snprintf(path, sizeof(path), "%s/%s", dir, entry->d_name);
        }
    closedir(d);
    remove(path);
    cr_expect_eq(rmdir(dir), 0);
}

// A tier that the device has not is refused by name, and the one below that it has is named.
Test(device, tiers_that_are_not_there_are_refused)
{
    struct l2d_gpu *gpu = NULL;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), L2D_OK,
                 "%s", err.msg);
    struct l2d_gpu_caps caps = *l2d_gpu_caps(gpu);
    l2d_gpu_destroy(&gpu);
    const bool has[] = { caps.matrix.m > 0, caps.matrix2.grain.m > 0 };
    int highest = 1;
    while (highest < 3 && has[highest - 1])
        highest++;
    cr_expect(caps.tier == (caps.type == L2D_GPU_CPU ? L2D_TIER_0
                            : (enum l2d_tier) (L2D_TIER_0 + highest)), "auto");
    for (int tier = 2; tier <= 3; tier++) {
        int rc = l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
            .cache_dir = "", .tier = (enum l2d_tier) (L2D_TIER_0 + tier) }, &err);
        cr_expect_eq(rc, tier <= highest ? L2D_OK : L2D_EUNSUPPORTED, "tier %d", tier);
        char want[32];
        snprintf(want, sizeof(want), "; tier %d runs on it", highest);
        cr_expect(rc == L2D_OK || strstr(err.msg, want), "%s", err.msg);
        l2d_gpu_destroy(&gpu);
    }
}
