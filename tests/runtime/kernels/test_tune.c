// SPDX-License-Identifier: Apache-2.0
// Measuring variants, and the table and file that remember them.
#include <criterion/criterion.h>
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gpu/vk.h"
#include "kernels/kernels.h"
#include "kernels/tune.h"
#include "kernels/tuner.h"
#include "support/gpu_test.h"

#define MAX_SHAPES 16

static struct l2d_error err;
static char dir[] = "/tmp/l2d-tune-XXXXXX";

static struct l2d_gpu *open_tier(enum l2d_tier tier, const char *cache_dir)
{
    struct l2d_gpu *gpu = NULL;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) {
        .cache_dir = cache_dir, .validation = true, .tier = tier,
    }, &err), L2D_OK, "%s", err.msg);
    return gpu;
}

static struct l2d_gpu *open_gpu(const char *cache_dir)
{
    return open_tier(L2D_TIER_1, cache_dir);
}

static void close_gpu(struct l2d_gpu **gpu)
{
    cr_assert_eq(l2d_gpu_num_validation_messages(*gpu), 0);
    l2d_gpu_destroy(gpu);
}

// Ask for a shape, as a model does; returns the bytes that its graph takes.
static uint64_t ask(struct l2d_gpu *gpu, const struct l2d_conv_shape *s)
{
    struct l2d_graph *g = NULL;
    struct l2d_buf *buf = NULL;
    uint64_t size = 0;
    cr_assert_eq(l2d_buf_declare(&buf, gpu, 1 << 24, L2D_MEMORY_DEVICE, "asked", &err), L2D_OK);
    cr_assert_eq(l2d_graph_create(&g, gpu, L2D_F32, "asks", &err), L2D_OK);
    struct l2d_conv conv = {
        .weight = l2d_tensor_view(buf, 0, L2D_F32, 1, 1, 1, 1 << 20), .bias = L2D_NO_TENSOR,
        .cin = (int32_t) s->cin, .cout = 4 * (int32_t) s->quads,
        .ksize = s->upsample ? 3 : (int32_t) s->ksize, .upsample = s->upsample,
    };
    struct l2d_conv_desc d = L2D_CONV_DESC(&conv, l2d_tensor_view(
        buf, 1 << 23, L2D_F32, (int32_t) s->rows,
        (int32_t) (s->upsample ? s->out_h / 2 : s->out_h * s->stride),
        (int32_t) (s->upsample ? s->out_w / 2 : s->out_w * s->stride), conv.cin));
    d.stride2 = s->stride == 2;
    l2d_conv2d(g, &d);
    cr_assert_eq(l2d_graph_plan(g, &size, &err), L2D_OK, "%s", err.msg);
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&buf);
    return size;
}

// The same with 2 rows and with 1; another; one with too many rows; one that is upsampled.
static const struct l2d_conv_shape shapes[] = {
    { .rows = 2, .out_h = 5, .out_w = 4, .quads = 9, .cin = 64, .ksize = 3, .stride = 1 },
    { .rows = 1, .out_h = 5, .out_w = 4, .quads = 9, .cin = 64, .ksize = 3, .stride = 1 },
    { .rows = 1, .out_h = 3, .out_w = 3, .quads = 2, .cin = 16, .ksize = 1, .stride = 2 },
    { .rows = 8, .out_h = 2, .out_w = 2, .quads = 1, .cin = 4, .ksize = 1, .stride = 1 },
    { .rows = 1, .out_h = 4, .out_w = 6, .quads = 9, .cin = 64, .ksize = 2, .stride = 1,
      .upsample = 1 },
};

static void ask_all(struct l2d_gpu *gpu)
{
    for (size_t i = 0; i < COUNT(shapes); i++)
        ask(gpu, &shapes[i]);
}

// What is known; returns how many.
static uint32_t known(const struct l2d_gpu *gpu, struct l2d_chosen out[MAX_SHAPES])
{
    uint32_t all, n = 0;
    const struct l2d_chosen *list = l2d_choices_list(gpu, &all);
    for (uint32_t i = 0; i < all; i++)
        if (list[i].known && n < MAX_SHAPES)
            out[n++] = list[i];
    return n;
}

static void check_choices(const struct l2d_gpu *gpu)
{
    struct l2d_chosen list[MAX_SHAPES];
    uint32_t n = known(gpu, list);
    cr_assert_eq(n, 4, "%u", n);
    for (uint32_t i = 0; i < n; i++) {
        struct l2d_conv_shape s;
        struct l2d_conv_variant v;
        enum l2d_dtype type;
        cr_assert(l2d_conv_shape_of_key(&list[i].shape, &s, &type));
        cr_assert(l2d_conv_variant_of(l2d_gpu_caps(gpu), type, &s, &list[i].choice, &v));
        for (uint32_t j = 0; j < i; j++)
            if (!memcmp(list[i].shape.of, list[j].shape.of, sizeof(list[i].shape.of)))
                cr_assert_eq(list[i].choice.parts, list[j].choice.parts);
    }
}

Test(tune, measures_what_was_asked)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_tune_result found;
    l2d_choices_use(gpu, true);
    ask_all(gpu);
    cr_assert_eq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 4, .seconds = 120 }, &found,
                          &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(found.shapes, 4);
    cr_expect_eq(found.measured, 4);
    check_choices(gpu);
    cr_assert_eq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 4, .seconds = 120 }, &found,
                          &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(found.shapes, 0);                      // they are known
    cr_expect(!l2d_choices_have_file(gpu));
    cr_expect_eq(l2d_choices_save(gpu, &err), L2D_EIO);
    close_gpu(&gpu);
}

Test(tune, goes_by_rule_when_there_is_no_time)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_tune_result found;
    struct l2d_chosen list[MAX_SHAPES];
    l2d_choices_use(gpu, true);
    ask_all(gpu);
    cr_assert_eq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 4 }, &found, &err), L2D_OK);
    cr_expect_eq(found.shapes, 4);
    cr_expect_eq(found.measured + found.changed, 0);
    check_choices(gpu);
    for (uint32_t n = known(gpu, list), i = 0; i < n; i++)
        cr_expect_eq(list[i].choice.variant, 0);
    close_gpu(&gpu);
}

Test(tune, choices_are_used)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_shape key = l2d_conv_shape_key(&shapes[0], L2D_F32);
    struct l2d_shape one = l2d_conv_shape_key(&shapes[1], L2D_F32);
    struct l2d_choice four = { L2D_CONV_T1, 1, 4 }, two = { L2D_CONV_T1, 0, 2 }, got;
    uint64_t by_rule = ask(gpu, &shapes[0]), by_rule_of_one = ask(gpu, &shapes[1]);
    cr_expect_eq(l2d_choices_find(gpu, &key, 1, &got), L2D_CHOICE_NONE);
    cr_assert_eq(l2d_choices_set(gpu, &key, &four, &err), L2D_OK);
    cr_expect_eq(ask(gpu, &shapes[0]), by_rule);        // not used yet
    l2d_choices_use(gpu, true);
    // Four parts in f32 take memory: of that shape, and of the same with another number of rows,
    // which has to add up alike.
    cr_expect_geq(ask(gpu, &shapes[0]), by_rule + 4 * 4 * 2 * 5 * 4 * 36);
    cr_expect_geq(ask(gpu, &shapes[1]), by_rule_of_one + 4 * 4 * 5 * 4 * 36);
    cr_expect_eq(l2d_choices_find(gpu, &one, 0, &got), L2D_CHOICE_OTHER_ROWS);
    cr_expect_eq(got.parts, 4);
    cr_expect_eq(l2d_choices_set(gpu, &one, &two, &err), L2D_EINVAL);
    // A variant that there is not goes by rule.
    l2d_choices_forget(gpu);
    cr_assert_eq(l2d_choices_set(gpu, &key, &(struct l2d_choice) { 7, 7, 7 }, &err), L2D_OK);
    cr_expect_eq(ask(gpu, &shapes[0]), by_rule);
    l2d_choices_use(gpu, false);
    close_gpu(&gpu);
}

// ---- a driver that cannot make one of the candidates

static bool refuses, computes_wrongly;

VkResult __real_vkCreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                         const VkComputePipelineCreateInfo *info,
                                         const VkAllocationCallbacks *none, VkPipeline *out);
VkResult __wrap_vkCreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                         const VkComputePipelineCreateInfo *info,
                                         const VkAllocationCallbacks *none, VkPipeline *out);
VkResult __wrap_vkCreateComputePipelines(VkDevice device, VkPipelineCache cache, uint32_t count,
                                         const VkComputePipelineCreateInfo *info,
                                         const VkAllocationCallbacks *none, VkPipeline *out)
{
    const VkSpecializationInfo *spec = info->stage.pSpecializationInfo;
    const uint32_t *value = spec ? spec->pData : NULL;
    if (refuses && spec && spec->mapEntryCount > 6 && value[5] == 128 && value[6] == 128) {
        *out = VK_NULL_HANDLE;
        return VK_ERROR_UNKNOWN;
    }
    // A tier 1 attention of 128 queries, and all of tier 2.
    if (computes_wrongly && spec && ((spec->mapEntryCount == 3 && value[0] == 128) ||
                                     spec->mapEntryCount == 9)) {
        uint32_t causal[9];
        VkSpecializationInfo other = *spec;
        memcpy(causal, value, spec->dataSize);
        causal[2] = 1;
        VkComputePipelineCreateInfo wrong = *info;
        other.pData = causal;
        wrong.stage.pSpecializationInfo = &other;
        return __real_vkCreateComputePipelines(device, cache, count, &wrong, none, out);
    }
    return __real_vkCreateComputePipelines(device, cache, count, info, none, out);
}

// Tuning gives up, and leaves nothing that whoever makes pipelines next would have to make.
Test(tune, a_variant_that_cannot_be_made)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_tune_result found;
    l2d_choices_use(gpu, true);
    ask(gpu, &shapes[0]);
    refuses = true;
    cr_assert_neq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 8, .seconds = 60 }, &found,
                           &err), L2D_OK);
    cr_assert_eq(l2d_gpu_make_programs(gpu, &err), L2D_OK, "%s", err.msg);
    close_gpu(&gpu);
}

// ---- attention

static const struct l2d_attention_shape attention = {
    .rows = 2, .queries = 9, .keys = 7, .heads = 2, .quads = 3,
};

static struct l2d_attention_variant choose_of(struct l2d_gpu *gpu, enum l2d_dtype type,
                                              uint32_t rows)
{
    struct l2d_attention_shape s = attention;
    struct l2d_graph *g = NULL;
    s.rows = rows;
    cr_assert_eq(l2d_graph_create(&g, gpu, type, "asks", &err), L2D_OK);
    struct l2d_attention_variant v = l2d_attention_choose(g, &s, 1);
    l2d_graph_destroy(&g);
    return v;
}

static struct l2d_attention_variant choose(struct l2d_gpu *gpu, uint32_t rows)
{
    return choose_of(gpu, L2D_F32, rows);
}

Test(tune, attention_is_measured)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_tune_result found;
    struct l2d_attention_variant v;
    struct l2d_chosen list[MAX_SHAPES];
    l2d_choices_use(gpu, true);
    choose(gpu, 2);
    cr_assert_eq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 2, .seconds = 120 }, &found,
                          &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(found.measured, 1);
    cr_assert_eq(known(gpu, list), 1);
    cr_assert(l2d_attention_variant_of(l2d_gpu_caps(gpu), L2D_F32, &attention,
                                       list[0].choice.family, &v));
    cr_expect_str_eq(choose(gpu, 2).name, v.name);
    close_gpu(&gpu);
}

// It rounds in its own way, so all numbers of rows have it; and what is not there is not taken.
Test(tune, attention_is_the_same_for_other_rows)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_shape key = l2d_attention_shape_key(&attention, L2D_F32);
    cr_expect_str_eq(choose(gpu, 2).name, "64");
    cr_assert_eq(l2d_choices_set(gpu, &key, &(struct l2d_choice) { .family = 1, .parts = 1 }, &err),
                 L2D_OK);
    cr_expect_str_eq(choose(gpu, 2).name, "64");        // not used yet
    l2d_choices_use(gpu, true);
    cr_expect_str_eq(choose(gpu, 2).name, "128");
    cr_expect_str_eq(choose(gpu, 5).name, "128");
    l2d_choices_forget(gpu);
    cr_assert_eq(l2d_choices_set(gpu, &key, &(struct l2d_choice) { .family = 9, .parts = 1 }, &err),
                 L2D_OK);
    cr_expect_str_eq(choose(gpu, 1).name, "64");
    close_gpu(&gpu);
}

// A driver that computes something else with one of them.
Test(tune, what_computes_wrongly_is_told)
{
    struct l2d_gpu *gpu = open_gpu("");
    struct l2d_tuner tuner;
    struct l2d_chosen shape = { .shape = l2d_attention_shape_key(&attention, L2D_F32) };
    struct l2d_tune_shape s;
    const struct l2d_choice rule = { .parts = 1 }, wrong = { .family = 1, .parts = 1 };
    const struct l2d_choice right = { .family = 2, .parts = 1 };
    bool same = false;
    computes_wrongly = true;
    cr_assert(l2d_tune_shape_of_key(&shape.shape, &s));
    cr_assert_eq(l2d_tuner_open(&tuner, gpu, &shape, 1, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_tuner_compare(&tuner, &s, &rule, &right, &same, &err), L2D_OK, "%s", err.msg);
    cr_expect(same);
    cr_assert_eq(l2d_tuner_compare(&tuner, &s, &rule, &wrong, &same, &err), L2D_OK, "%s", err.msg);
    cr_expect_not(same);
    l2d_tuner_close(&tuner);
    close_gpu(&gpu);
}

// Matrix units that all do: what any GPU runs is slower and right.
Test(tune, a_tier_that_computes_wrongly)
{
    if (!gt_has_matrix_units())
        cr_skip_test("the device has no matrix units");
    struct l2d_gpu *gpu = open_tier(L2D_TIER_2, "");
    struct l2d_tune_result found;
    l2d_choices_use(gpu, true);
    cr_expect_str_eq(choose_of(gpu, L2D_F16, 2).shader, "attention_t2");
    computes_wrongly = true;
    cr_assert_eq(l2d_tune(gpu, &(struct l2d_tune_params) { .max_rows = 2, .seconds = 120 }, &found,
                          &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(found.changed, 1);
    cr_expect_str_eq(choose_of(gpu, L2D_F16, 2).shader, "attention");
    cr_expect_str_eq(choose_of(gpu, L2D_F16, 1).shader, "attention");
    close_gpu(&gpu);
}

// ---- the file

static void path_of_file(char *path, size_t size)
{
    DIR *d = opendir(dir);
    path[0] = '\0';
    for (struct dirent *entry; d && (entry = readdir(d));)
        if (!strncmp(entry->d_name, "choices-", 8))
            snprintf(path, size, "%s/%s", dir, entry->d_name);
    if (d)
        closedir(d);
    cr_assert(*path);
}

static uint32_t known_after_loading(void)
{
    struct l2d_chosen list[MAX_SHAPES];
    struct l2d_gpu *gpu = open_gpu(dir);
    l2d_choices_use(gpu, true);
    l2d_choices_load(gpu);
    uint32_t n = known(gpu, list);
    for (uint32_t i = 0; i < n; i++)
        cr_expect_eq(list[i].choice.parts, 2);
    close_gpu(&gpu);
    return n;
}

static void write_file(const char *path, const char *text, size_t size)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(text, 1, size, f), size);
    fclose(f);
}

// Whoever can write the file can say anything in it; of other rows, too.
Test(tune, choices_that_cannot_be)
{
    static const uint32_t families[] = { L2D_CONV_T0, L2D_CONV_T2, L2D_CONV_T2_HALVES,
                                         L2D_CONV_NUM_FAMILIES, 7, UINT32_MAX };
    for (size_t i = 0; i < COUNT(families); i++) {
        struct l2d_gpu *gpu = open_gpu("");
        struct l2d_conv_shape s = shapes[0];
        struct l2d_shape key = l2d_conv_shape_key(&s, L2D_F32);
        struct l2d_choice c = { families[i], 3, 3 };
        l2d_choices_use(gpu, true);
        cr_assert_eq(l2d_choices_set(gpu, &key, &c, &err), L2D_OK);
        ask(gpu, &s);
        s.rows = s.rows == 1 ? 2 : 1;
        ask(gpu, &s);
        close_gpu(&gpu);
    }
}

Test(tune, file_of_another_or_damaged)
{
    static char text[4096];
    char path[512];
    cr_assert_not_null(mkdtemp(dir));
    struct l2d_gpu *gpu = open_gpu(dir);
    cr_expect(l2d_choices_have_file(gpu));
    for (size_t i = 0; i < COUNT(shapes); i++) {
        struct l2d_shape key = l2d_conv_shape_key(&shapes[i], L2D_F32);
        cr_assert_eq(l2d_choices_set(gpu, &key, &(struct l2d_choice) { L2D_CONV_T1, 1, 2 }, &err),
                     L2D_OK);
    }
    cr_assert_eq(l2d_choices_save(gpu, &err), L2D_OK, "%s", err.msg);
    close_gpu(&gpu);
    path_of_file(path, sizeof(path));
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f);
    size_t size = fread(text, 1, sizeof(text), f);
    fclose(f);
    cr_expect_eq(known_after_loading(), COUNT(shapes));

    size_t ends[] = { 0, 1, 17, 18, size / 2, size - 18, size - 1 };
    for (size_t i = 0; i < COUNT(ends); i++) {
        write_file(path, text, ends[i]);
        cr_expect_eq(known_after_loading(), 0, "%zu bytes", ends[i]);
    }
    for (size_t at = 0; at < size; at += 1 + size / 24) {       // among them the owner's numbers
        text[at] ^= 4;
        write_file(path, text, size);
        cr_expect_eq(known_after_loading(), 0, "byte %zu", at);
        text[at] ^= 4;
    }
    write_file(path, text, size);
    cr_expect_eq(known_after_loading(), COUNT(shapes));
    remove(path);
    DIR *d = opendir(dir);
    for (struct dirent *entry; d && (entry = readdir(d));)
        cr_expect(entry->d_name[0] == '.' || !strncmp(entry->d_name, "pipelines-", 10),
                  "%s is left", entry->d_name);
    closedir(d);
    rmdir(dir);
}
