// SPDX-License-Identifier: Apache-2.0
// Checkpoints in several files: whatever an index says, only what lies beside it is opened.
#include "tensor/checkpoint.h"

#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tensor/safetensors.h"

static char dir[] = "/tmp/l2d_checkpoint_XXXXXX";
static char index_path[64];

static void make_folder(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(index_path, sizeof(index_path), "%s/x.safetensors.index.json", dir);
}

static void remove_folder(void)
{
    char command[64];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(checkpoint, .init = make_folder, .fini = remove_folder);

static void write_shard(const char *name, const char *tensor, float value)
{
    char path[128], text[256];
    int n = snprintf(text + 8, sizeof(text) - 8, "{\"%s\":{\"dtype\":\"F32\",\"shape\":[1],"
                     "\"data_offsets\":[0,4]}}", tensor);
    for (int i = 0; i < 8; i++)
        text[i] = (char) ((uint64_t) n >> 8 * i);
    memcpy(text + 8 + n, &value, 4);
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(text, 1, (size_t) n + 12, f), (size_t) n + 12);
    cr_assert_eq(fclose(f), 0);
}

static int open_index(struct l2d_checkpoint **c, const char *text, struct l2d_error *err)
{
    FILE *f = fopen(index_path, "w");
    cr_assert_not_null(f);
    cr_assert_geq(fputs(text, f), 0);
    cr_assert_eq(fclose(f), 0);
    return l2d_checkpoint_open(c, index_path, err);
}

Test(checkpoint, reads_shards)
{
    struct l2d_checkpoint *c = NULL;
    struct l2d_error err = { 0 };
    write_shard("1.safetensors", "a", 1);
    write_shard("2.safetensors", "b", 2);
    cr_assert_eq(open_index(&c, "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": "
                            "\"2.safetensors\"}}", &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_checkpoint_count(c), 2);
    float value = 0;
    cr_assert_eq(l2d_checkpoint_read(c, l2d_checkpoint_find(c, "b"), &value, &err), L2D_OK);
    cr_assert_eq(value, 2);
    l2d_checkpoint_close(&c);
}

Test(checkpoint, refuses_hostile_indices)
{
    struct l2d_checkpoint *c = NULL;
    struct l2d_error err = { 0 };
    write_shard("1.safetensors", "a", 1);
    write_shard("2.safetensors", "a", 2);
    static const struct { const char *text, *want; } cases[] = {
        { "{\"weight_map\": {\"a\": \"/etc/passwd\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"../1.safetensors\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"x/../1.safetensors\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"..\\\\1.safetensors\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"..\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \".hidden\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"\"}}", "without a path" },
        { "{\"weight_map\": {\"a\": 1}}", "without a path" },
        { "{\"weight_map\": {\"a\": \"1.safetensors\\u0000/x\"}}", "no index" },
        { "{\"weight_map\": {\"a\": \"x.safetensors.index.json\"}}", "x.safetensors.index.json: " },
        { "{\"weight_map\": {\"a\": \"absent.safetensors\"}}", "absent.safetensors: " },
        { "{\"weight_map\": {\"a\": \"1.safetensors\", \"b\": \"2.safetensors\"}}",
          "a is there twice" },
        { "{\"weight_map\": []}", "no index" },
        { "{\"metadata\": {}}", "no index" },
        { "", "no index" },
        { "[[[[", "no index" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        cr_assert_neq(open_index(&c, cases[i].text, &err), L2D_OK, "%s", cases[i].text);
        cr_assert(strstr(err.msg, cases[i].want), "%s: %s", cases[i].text, err.msg);
        cr_assert_null(c);
    }
}

Test(checkpoint, refuses_numbers_that_are_not_finite)
{
    struct l2d_checkpoint *c = NULL;
    struct l2d_error err = { 0 };
    char path[64];
    const float bad[] = { NAN, INFINITY, -INFINITY };
    snprintf(path, sizeof(path), "%s/1.safetensors", dir);
    for (size_t i = 0; i < 3; i++) {
        float value;
        write_shard("1.safetensors", "a", bad[i]);
        cr_assert_eq(l2d_checkpoint_open(&c, path, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_checkpoint_read(c, l2d_checkpoint_get(c, 0), &value, &err), L2D_EFORMAT);
        cr_assert(strstr(err.msg, "tensor a: a value is not finite"), "%s", err.msg);
        l2d_checkpoint_close(&c);
    }
}
