// SPDX-License-Identifier: Apache-2.0
// Files of torch.save(), made by tools/reference/make_torch_files.py: tensor k of a file holds k,
// k + 1/4, k + 2/4, ... in row-major order, whatever its type and its strides in the file are.
#include "tensor/torch_file.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zip.h>

#include "base/half.h"

static void open_ok(struct l2d_torch_file **tf, const char *name)
{
    char path[512];
    struct l2d_error err = { 0 };
    snprintf(path, sizeof(path), "%s/torch/%s", L2D_TEST_DATA, name);
    cr_assert_eq(l2d_torch_file_open(tf, path, &err), L2D_OK, "%s", err.msg);
}

static double element(const void *data, enum l2d_safetensors_dtype dtype, size_t i)
{
    switch (dtype) {
    case L2D_SAFETENSORS_F32: return ((const float *) data)[i];
    case L2D_SAFETENSORS_F64: return ((const double *) data)[i];
    case L2D_SAFETENSORS_F16: return l2d_half_to_f32(((const uint16_t *) data)[i]);
    case L2D_SAFETENSORS_BF16: return l2d_half_bf16_to_f32(((const uint16_t *) data)[i]);
    case L2D_SAFETENSORS_I64: return (double) ((const int64_t *) data)[i];
    default: cr_assert(false, "type %d", dtype); return 0;
    }
}

static void check_all_kinds(const char *name)
{
    static const struct {
        const char *name;
        enum l2d_safetensors_dtype dtype;
        double first;
        int ndim;
        uint64_t dims[4];
    } want[] = {
        { "a.weight", L2D_SAFETENSORS_F32, 0, 2, { 2, 3 } },
        { "b.channels_last", L2D_SAFETENSORS_F32, 1, 4, { 2, 3, 2, 2 } },
        { "c.half", L2D_SAFETENSORS_F16, 2, 1, { 5 } },
        { "d.slice", L2D_SAFETENSORS_F32, 4, 2, { 2, 4 } },     // the fifth of the storage's on
        { "e.transposed", L2D_SAFETENSORS_F32, 4, 2, { 3, 2 } },
        { "f.bfloat16", L2D_SAFETENSORS_BF16, 5, 1, { 3 } },
        { "g.double", L2D_SAFETENSORS_F64, 6, 1, { 2 } },
        { "h.empty", L2D_SAFETENSORS_F32, 0, 2, { 0, 4 } },
        { "i.scalar", L2D_SAFETENSORS_F32, 8, 0, { 0 } },
        { "j.long", L2D_SAFETENSORS_I64, 9, 1, { 2 } },
        { "k.parameter", L2D_SAFETENSORS_F32, 10, 1, { 2 } },
        { "l.tied", L2D_SAFETENSORS_F32, 4, 2, { 2, 4 } },
    };
    size_t num = sizeof(want) / sizeof(*want);
    struct l2d_torch_file *tf = NULL;
    open_ok(&tf, name);
    cr_assert_eq(l2d_torch_file_count(tf), num);
    for (size_t i = 0; i < num; i++) {
        const struct l2d_pickle_tensor *t = l2d_torch_file_get(tf, i);
        struct l2d_error err = { 0 };
        double data[32];                                    // of the widest type, so aligned
        cr_assert_str_eq(t->name, want[i].name);
        cr_assert_eq(t->dtype, want[i].dtype, "%s", t->name);
        cr_assert_eq(t->ndim, want[i].ndim, "%s", t->name);
        cr_assert_eq(memcmp(t->dims, want[i].dims, (size_t) t->ndim * sizeof(*t->dims)), 0);
        cr_assert_eq(l2d_torch_file_read(tf, t, data, &err), L2D_OK, "%s", err.msg);
        for (size_t e = 0; e < t->count; e++) {
            double right = t->dtype == L2D_SAFETENSORS_I64 ? (e ? -1 : 9)
                                                           : want[i].first + (double) e / 4;
            cr_assert_eq(element(data, t->dtype, e), right, "%s[%zu]", t->name, e);
        }
    }
    l2d_torch_file_close(&tf);
    cr_assert_null(tf);
    l2d_torch_file_close(&tf);
}

Test(torch_file, zip) { check_all_kinds("zip.pt"); }
Test(torch_file, legacy) { check_all_kinds("legacy.pt"); }

Test(torch_file, float8)
{
    struct l2d_torch_file *tf = NULL;
    open_ok(&tf, "float8.pt");
    cr_assert_eq(l2d_torch_file_count(tf), 2);
    cr_assert_eq(l2d_torch_file_get(tf, 0)->dtype, L2D_SAFETENSORS_F8_E4M3);
    cr_assert_eq(l2d_torch_file_get(tf, 1)->dtype, L2D_SAFETENSORS_F8_E5M2);
    uint8_t data[7];
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_torch_file_read(tf, l2d_torch_file_get(tf, 0), data, &err), L2D_OK);
    cr_assert_eq(data[4], 0x38);                            // 1.0
    l2d_torch_file_close(&tf);
}

// What a training program puts beside the weights is no obstacle.
Test(torch_file, finds_the_weights_of_a_training_checkpoint)
{
    struct l2d_torch_file *tf = NULL;
    open_ok(&tf, "training.pt");
    cr_assert_eq(l2d_torch_file_count(tf), 1);
    cr_assert_str_eq(l2d_torch_file_get(tf, 0)->name, "state_dict/m.weight");
    l2d_torch_file_close(&tf);
}

static size_t load(uint8_t *data, size_t size, const char *name)
{
    char path[512];
    snprintf(path, sizeof(path), "%s/torch/%s", L2D_TEST_DATA, name);
    FILE *f = fopen(path, "rb");
    cr_assert_not_null(f);
    size_t got = fread(data, 1, size, f);
    fclose(f);
    return got;
}

// returns the first code that is not L2D_OK; the file must answer in any case.
static int read_everything(const char *path, struct l2d_error *err)
{
    struct l2d_torch_file *tf = NULL;
    int rc = l2d_torch_file_open(&tf, path, err);
    for (size_t i = 0; rc == L2D_OK && i < l2d_torch_file_count(tf); i++) {
        const struct l2d_pickle_tensor *t = l2d_torch_file_get(tf, i);
        void *out = malloc(t->count * l2d_safetensors_dtype_bytes(t->dtype) + 1);
        cr_assert_not_null(out);
        rc = l2d_torch_file_read(tf, t, out, err);
        free(out);
    }
    l2d_torch_file_close(&tf);
    return rc;
}

static void write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, size, f), size);
    cr_assert_eq(fclose(f), 0);
}

Test(torch_file, refuses)
{
    struct l2d_error err = { 0 };
    char path[] = "/tmp/l2d_torch_XXXXXX", bad[512];
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    cr_assert_eq(read_everything("/nonexistent/x", &err), L2D_EIO);
    cr_assert(strstr(err.msg, "/nonexistent/x: "), "%s", err.msg);
    snprintf(bad, sizeof(bad), "%s/torch/malicious.pt", L2D_TEST_DATA);
    cr_assert_eq(read_everything(bad, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "posix.system"), "%s", err.msg);
    write_file(path, (const uint8_t *) "", 0);
    cr_assert_eq(read_everything(path, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "not a file of torch.save()"), "%s", err.msg);
    static const uint8_t empty_zip[22] = "PK\5\6";
    write_file(path, empty_zip, sizeof(empty_zip));
    cr_assert_eq(read_everything(path, &err), L2D_EFORMAT);

    static const char *const files[] = { "zip.pt", "legacy.pt" };
    for (size_t i = 0; i < 2; i++) {                        // truncated anywhere
        uint8_t data[8192];
        size_t size = load(data, sizeof(data), files[i]);
        for (size_t cut = 0; cut < size; cut++) {
            write_file(path, data, cut);
            cr_assert_eq(read_everything(path, &err), L2D_EFORMAT, "%s at %zu", files[i], cut);
        }
        write_file(path, data, size);
        cr_assert_eq(read_everything(path, &err), L2D_OK, "%s", err.msg);
    }
    unlink(path);
}

// The archive again, with the file of this ending compressed: where a bomb would hide.
static void compress_one(const char *path, const char *ending)
{
    uint8_t data[8192];
    size_t size = load(data, sizeof(data), "zip.pt"), found = 0;
    write_file(path, data, size);
    zip_t *zip = zip_open(path, 0, NULL);
    cr_assert_not_null(zip);
    for (zip_int64_t i = 0; i < zip_get_num_entries(zip, 0); i++) {
        const char *name = zip_get_name(zip, (zip_uint64_t) i, ZIP_FL_ENC_RAW);
        size_t len = strlen(name), end = strlen(ending);
        if (len < end || strcmp(name + len - end, ending) != 0)
            continue;
        cr_assert_eq(zip_set_file_compression(zip, (zip_uint64_t) i, ZIP_CM_DEFLATE, 9), 0);
        found++;
    }
    cr_assert_eq(found, 1, "%s: %zu", ending, found);
    cr_assert_eq(zip_close(zip), 0);
}

Test(torch_file, refuses_what_could_swell)
{
    struct l2d_error err = { 0 };
    char path[] = "/tmp/l2d_torch_XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    compress_one(path, "/data.pkl");
    cr_assert_eq(read_everything(path, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "compressed"), "%s", err.msg);
    compress_one(path, "/data/0");
    cr_assert_eq(read_everything(path, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "a.weight"), "%s", err.msg);
    unlink(path);
}

// The old format's list of storages, with a key twice: each would be looked for among all.
Test(torch_file, refuses_a_storage_that_is_there_twice)
{
    static const char head[] =
        "\x80\2\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19.\x80\2M\xe9\3.\x80\2}."
        "\x80\2(U\7storagectorch\nFloatStorage\nU\1" "0U\3" "cpuK\0tq\0" "0h\0Q0h\0Q0}."
        "\x80\2U\1" "0q\0" "0](h\0h\0e.";
    static const char counts[16] = { 0 };
    char path[] = "/tmp/l2d_torch_XXXXXX";
    struct l2d_torch_file *tf = NULL;
    struct l2d_error err = { 0 };
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    for (size_t keys = 1; keys <= 2; keys++) {
        FILE *f = fopen(path, "wb");
        cr_assert_not_null(f);
        size_t size = sizeof(head) - 1;     // up to the list's second key, and what ends it
        cr_assert_eq(fwrite(head, 1, size - (keys == 2 ? 0 : 4), f), size - (keys == 2 ? 0 : 4));
        cr_assert_eq(fwrite("e.", 1, keys == 2 ? 0 : 2, f), keys == 2 ? 0 : 2);
        cr_assert_eq(fwrite(counts, 8, keys, f), keys);
        fclose(f);
        cr_assert_eq(l2d_torch_file_open(&tf, path, &err), keys == 1 ? L2D_OK : L2D_EFORMAT,
                     "%zu: %s", keys, err.msg);
        l2d_torch_file_close(&tf);
    }
    close(fd);
    unlink(path);
}

// A flipped bit within a tensor of an archive is noticed by its checksum.
Test(torch_file, mutated_files, .timeout = 300)
{
    char path[] = "/tmp/l2d_torch_XXXXXX";
    int fd = mkstemp(path);
    cr_assert_geq(fd, 0);
    close(fd);
    static const char *const files[] = { "zip.pt", "legacy.pt", "training.pt", "float8.pt" };
    uint32_t state = 7;
    for (int i = 0; i < 4000; i++) {
        uint8_t data[8192];
        size_t size = load(data, sizeof(data), files[i % 4]);
        state = state * 1664525 + 1013904223;
        for (uint32_t n = 1 + (state >> 28) % 4; n > 0; n--) {
            state = state * 1664525 + 1013904223;
            size_t at = (state >> 8) % size;
            state = state * 1664525 + 1013904223;
            data[at] = (uint8_t) (state >> 30 ? state >> 8 : data[at] ^ 1u << (state >> 24 & 7));
        }
        write_file(path, data, size);
        struct l2d_error err = { 0 };
        int rc = read_everything(path, &err);
        cr_assert(rc == L2D_OK || (rc == L2D_EFORMAT && err.msg[0]), "round %d: %d %s", i, rc,
                  err.msg);
    }
    unlink(path);
}
