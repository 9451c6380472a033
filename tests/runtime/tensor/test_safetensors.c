// SPDX-License-Identifier: Apache-2.0
// The safetensors reader against files written by our own writer, by hand, and by a mutation loop:
// whatever the bytes are, it answers, and what it accepts lies within the file.
#include "tensor/safetensors.h"

#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[] = "/tmp/l2d_safetensors_XXXXXX";
static char path[64];

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/test.safetensors", dir);
}

static void remove_dir(void)
{
    unlink(path);
    rmdir(dir);
}

static void write_bytes(const void *data, size_t size_bytes)
{
    FILE *f = fopen(path, "wb");
    cr_assert_not_null(f);
    cr_assert_eq(fwrite(data, 1, size_bytes, f), size_bytes);
    cr_assert_eq(fclose(f), 0);
}

// A file of this header and data_bytes bytes 0, 1, 2, ...; returns its size.
static size_t make_file(uint8_t *file, const char *header, size_t data_bytes)
{
    uint64_t len = strlen(header);
    for (int i = 0; i < 8; i++)
        file[i] = (uint8_t) (len >> 8 * i);
    memcpy(file + 8, header, len);
    for (size_t i = 0; i < data_bytes; i++)
        file[8 + len + i] = (uint8_t) i;
    return 8 + len + data_bytes;
}

TestSuite(safetensors, .init = make_dir, .fini = remove_dir);

Test(safetensors, reads_what_is_there)
{
    uint8_t file[1024];
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    size_t size = make_file(file, "{\"__metadata__\":{\"format\":\"pt\"},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[2,1],\"data_offsets\":[6,14]},"
        "\"a.weight\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,6]},"
        "\"scalar\":{\"dtype\":\"BF16\",\"shape\":[],\"data_offsets\":[14,16]},"
        "\"none\":{\"dtype\":\"I64\",\"shape\":[4,0],\"data_offsets\":[6,6]}}   ", 16);
    write_bytes(file, size);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_count(st), 4);

    static const struct {
        const char *name;
        enum l2d_safetensors_dtype dtype;
        int ndim;
        uint8_t first;                                      // byte
    } want[] = {
        { "a.weight", L2D_SAFETENSORS_F16, 1, 0 }, { "none", L2D_SAFETENSORS_I64, 2, 6 },
        { "b", L2D_SAFETENSORS_F32, 2, 6 }, { "scalar", L2D_SAFETENSORS_BF16, 0, 14 },
    };
    for (size_t i = 0; i < 4; i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_get(st, i);
        cr_assert_str_eq(e->name, want[i].name);
        cr_assert_eq(e->dtype, want[i].dtype);
        cr_assert_eq(e->ndim, want[i].ndim);
        cr_assert_eq(*(const uint8_t *) e->data, want[i].first);
        cr_assert_eq(l2d_safetensors_find(st, want[i].name), e);
    }
    cr_assert_eq(l2d_safetensors_find(st, "b")->dims[0], 2);
    cr_assert_eq(l2d_safetensors_find(st, "b")->size_bytes, 8);
    cr_assert_eq(l2d_safetensors_find(st, "none")->size_bytes, 0);
    cr_assert_null(l2d_safetensors_find(st, "a"));
    cr_assert_null(l2d_safetensors_find(st, "__metadata__"));
    l2d_safetensors_close(&st);
    cr_assert_null(st);
    l2d_safetensors_close(&st);
}

#define T(dtype, shape, offsets) \
    "{\"dtype\":" dtype ",\"shape\":" shape ",\"data_offsets\":" offsets "}"

Test(safetensors, refuses_hostile_headers)
{
    static const struct { const char *header; size_t data_bytes; const char *want; } cases[] = {
        { "", 0, "header: " },
        { "[]", 0, "header: is not a JSON object" },
        { "{\"a\":", 0, "header: " },
        { "\x1b[31m", 0, "header: " },
        { "{\"a\":1}", 0, "tensor a: is not an object" },
        { "{\"a\":{}}", 0, "tensor a: \"dtype\" is missing" },
        { "{\"a\":" T("7", "[1]", "[0,1]") "}", 1, "tensor a: \"dtype\" is missing or not" },
        { "{\"a\":" T("\"F12\"", "[1]", "[0,1]") "}", 1, "tensor a: \"dtype\" is not one" },
        { "{\"a\":" T("\"U8\"", "1", "[0,1]") "}", 1, "tensor a: \"shape\" is missing" },
        { "{\"a\":" T("\"U8\"", "[-1]", "[0,1]") "}", 1, "\"shape\" holds something else" },
        { "{\"a\":" T("\"U8\"", "[1.0]", "[0,1]") "}", 1, "\"shape\" holds something else" },
        { "{\"a\":" T("\"U8\"", "[1,1,1,1,1,1,1,1,1]", "[0,1]") "}", 1, "more than 8 dimensions" },
        { "{\"a\":" T("\"U8\"", "[4294967296,4294967296]", "[0,0]") "}", 0, "its shape overflows" },
        { "{\"a\":" T("\"F64\"", "[2305843009213693952]", "[0,0]") "}", 0, "its shape overflows" },
        { "{\"a\":" T("\"U8\"", "[99999999999999999999]", "[0,0]") "}", 0, "header: " },
        { "{\"a\":" T("\"U8\"", "[2]", "[0,1]") "}", 1, "does not fit its shape and dtype" },
        { "{\"a\":" T("\"F16\"", "[1]", "[0,1]") "}", 1, "does not fit its shape and dtype" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0]") "}", 1, "not a pair of integers" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,1,2]") "}", 1, "not a pair of integers" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,\"1\"]") "}", 1, "not a pair of integers" },
        { "{\"a\":" T("\"U8\"", "[1]", "[-1,0]") "}", 1, "run backwards or below 0" },
        { "{\"a\":" T("\"U8\"", "[1]", "[1,0]") "}", 1, "run backwards or below 0" },
        { "{\"a\":" T("\"U8\"", "[2]", "[0,2]") "}", 1, "tensor a: \"data_offsets\" lie outside" },
        { "{\"a\":" T("\"U8\"", "[1]", "[9223372036854775806,9223372036854775807]") "}", 1,
          "outside" },
        { "{\"a\":" T("\"U8\"", "[1]", "[1,2]") "}", 2, "tensor a: 1 unused bytes before it" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,1]") "}", 3, "2 unused bytes after the last tensor" },
        { "{}", 1, "1 unused bytes after the last tensor" },
        { "{\"a\":" T("\"U8\"", "[2]", "[0,2]") ",\"b\":" T("\"U8\"", "[2]", "[1,3]") "}", 3,
          "tensor b: its bytes overlap those of a" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"b\":" T("\"U8\"", "[1]", "[0,1]") "}", 1,
          "tensor b: its bytes overlap those of a" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"b\":" T("\"U8\"", "[1]", "[2,3]") "}", 3,
          "tensor b: 1 unused bytes before it" },
        { "{\"a\":" T("\"U8\"", "[1]", "[0,1]") ",\"a\":" T("\"U8\"", "[1]", "[1,2]") "}", 2,
          "duplicate" },
        { "{\"a\":{\"dtype\":\"U8\",\"shape\":[1],\"data_offsets\":[0,1],\"x\":1}}", 1,
          "has keys beside" },
        { "{\"\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "tensor 0: its name is empty" },
        { "{\"\\n\":" T("\"U8\"", "[1]", "[0,1]") "}", 1, "not printable" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        uint8_t file[1024];
        struct l2d_error err = { 0 };
        struct l2d_safetensors *st = NULL;
        write_bytes(file, make_file(file, cases[i].header, cases[i].data_bytes));
        cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_EFORMAT, "case %zu", i);
        cr_assert_null(st);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
        cr_assert(strstr(err.msg, path), "case %zu: %s", i, err.msg);
        for (const char *c = err.msg; *c; c++)
            cr_assert((unsigned char) *c >= 0x20, "case %zu: not one line", i);
    }
}

Test(safetensors, refuses_broken_files)
{
    uint8_t file[512];
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    size_t size = make_file(file, "{\"a\":" T("\"U8\"", "[20]", "[0,20]") "}", 20);
    for (size_t cut = 0; cut < size; cut++) {               // truncated anywhere
        write_bytes(file, cut);
        cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_EFORMAT, "cut at %zu", cut);
    }
    write_bytes(file, size);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    l2d_safetensors_close(&st);

    static const uint64_t lengths[] = { 100000001, 1u << 31, UINT64_C(1) << 63, UINT64_MAX,
                                        UINT64_MAX - 7 };
    for (size_t i = 0; i < sizeof(lengths) / sizeof(*lengths); i++) {
        for (int b = 0; b < 8; b++)
            file[b] = (uint8_t) (lengths[i] >> 8 * b);
        write_bytes(file, size);
        cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_EFORMAT);
        cr_assert(strstr(err.msg, "at most 100000000"), "%s", err.msg);
    }
    cr_assert_eq(l2d_safetensors_open(&st, "/nonexistent/x", &err), L2D_EIO);
    cr_assert(strstr(err.msg, "/nonexistent/x: "), "%s", err.msg);
    cr_assert_eq(l2d_safetensors_open(&st, dir, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "not a regular file"), "%s", err.msg);
}

// Deep nesting and many names must neither exhaust the stack nor time.
Test(safetensors, large_headers, .timeout = 60)
{
    enum { SIZE = 4 << 20 };
    char *header = malloc(SIZE + 1);
    uint8_t *file = malloc(SIZE + 16);
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    cr_assert(header && file);
    memset(header, '[', SIZE);
    header[SIZE] = '\0';
    write_bytes(file, make_file(file, header, 0));
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_EFORMAT);

    size_t len = 0, count = 50000;
    for (size_t i = 0; i < count; i++)
        len += (size_t) sprintf(header + len, "%c\"t%zu\":" T("\"U8\"", "[0]", "[0,0]"),
                                i ? ',' : '{', i);
    strcpy(header + len, "}");
    write_bytes(file, make_file(file, header, 0));
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_count(st), count);
    cr_assert_not_null(l2d_safetensors_find(st, "t49999"));
    l2d_safetensors_close(&st);
    free(header);
    free(file);
}

Test(safetensors, mutated_files, .timeout = 300)
{
    static const char chars[] = "0123456789{}[]:,\"-.eE\\uF ";
    uint8_t good[1024], file[1024];
    size_t size = make_file(good, "{\"w\":" T("\"F16\"", "[2,3]", "[0,12]") ",\"b\":"
                            T("\"F32\"", "[1]", "[12,16]") ",\"__metadata__\":{\"k\":\"v\"}}", 16);
    uint32_t state = 7;
    int num_ok = 0;
    for (int i = 0; i < 20000; i++) {
        memcpy(file, good, size);
        size_t len = size;
        state = state * 1664525 + 1013904223;
        for (uint32_t n = 1 + (state >> 28) % 4; n > 0; n--) {
            state = state * 1664525 + 1013904223;
            size_t at = (state >> 8) % len;
            state = state * 1664525 + 1013904223;
            switch (state >> 30) {
            case 0: file[at] ^= (uint8_t) (1 << (state >> 24 & 7)); break;
            case 1: file[at] = (uint8_t) chars[(state >> 16) % (sizeof(chars) - 1)]; break;
            case 2: memmove(file + at, file + at + 1, len - at - 1); len -= len > 1; break;
            case 3: file[(state >> 16) % 8] = (uint8_t) (state >> 8); break;
            }
        }
        write_bytes(file, len);
        struct l2d_error err = { 0 };
        struct l2d_safetensors *st = NULL;
        int rc = l2d_safetensors_open(&st, path, &err);
        cr_assert(rc == L2D_OK || (rc == L2D_EFORMAT && err.msg[0]), "round %d: %d", i, rc);
        if (rc != L2D_OK)
            continue;
        num_ok++;
        uint32_t sum = 0;                                   // every byte can be read
        for (size_t t = 0; t < l2d_safetensors_count(st); t++) {
            const struct l2d_safetensors_entry *e = l2d_safetensors_get(st, t);
            for (uint64_t b = 0; b < e->size_bytes; b++)
                sum += ((const uint8_t *) e->data)[b];
        }
        cr_assert_leq(sum, 16 * 255);
        l2d_safetensors_close(&st);
    }
    cr_assert_gt(num_ok, 100);                              // the loop does reach the inside
}

Test(safetensors, writes_what_it_reads)
{
    static const float f[6] = { 0, 1, -2, 3.5f, 1e30f, -0.0f };
    static const uint16_t h[3] = { 1, 2, 3 };
    static const uint8_t u = 200;
    const struct l2d_safetensors_entry entries[] = {
        { "unet.conv_in", L2D_SAFETENSORS_F32, 3, { 1, 2, 3 }, f, sizeof(f) },
        { "a \"quoted\" name", L2D_SAFETENSORS_F16, 1, { 3 }, h, sizeof(h) },
        { "empty", L2D_SAFETENSORS_F32, 2, { 0, 5 }, NULL, 0 },
        { "one", L2D_SAFETENSORS_U8, 0, { 0 }, &u, 1 },
    };
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    for (int again = 0; again < 2; again++)                 // the second time over the first
        cr_assert_eq(l2d_safetensors_write(path, entries, 4, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_count(st), 4);
    for (size_t i = 0; i < 4; i++) {
        const struct l2d_safetensors_entry *e = l2d_safetensors_find(st, entries[i].name);
        cr_assert_not_null(e);
        cr_assert_eq(e->dtype, entries[i].dtype);
        cr_assert_eq(e->ndim, entries[i].ndim);
        cr_assert_eq(memcmp(e->dims, entries[i].dims, sizeof(e->dims)), 0);
        cr_assert_eq(e->size_bytes, entries[i].size_bytes);
        cr_assert(e->size_bytes == 0 || memcmp(e->data, entries[i].data, e->size_bytes) == 0);
    }
    cr_assert_eq((uintptr_t) l2d_safetensors_get(st, 0)->data % 8, 0);
    l2d_safetensors_close(&st);

    cr_assert_eq(l2d_safetensors_write(path, NULL, 0, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_open(&st, path, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_count(st), 0);
    cr_assert_null(l2d_safetensors_find(st, "a"));
    l2d_safetensors_close(&st);
}

Test(safetensors, write_refuses)
{
    static const uint8_t u[4];
    static const struct l2d_safetensors_entry good = { "a", L2D_SAFETENSORS_U8, 1, { 4 }, u, 4 };
    static const struct l2d_safetensors_entry bad[] = {
        { "a", L2D_SAFETENSORS_U8, 1, { 4 }, u, 4 },        // there twice
        { "b", L2D_SAFETENSORS_U8, 1, { 4 }, u, 3 },        // too small
        { "", L2D_SAFETENSORS_U8, 1, { 4 }, u, 4 },
        { "__metadata__", L2D_SAFETENSORS_U8, 1, { 4 }, u, 4 },
    };
    struct l2d_error err = { 0 };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        const struct l2d_safetensors_entry both[] = { good, bad[i] };
        cr_assert_eq(l2d_safetensors_write(path, both, 2, &err), L2D_EINVAL, "case %zu", i);
        cr_assert_neq(access(path, F_OK), 0);
    }
    cr_assert_eq(l2d_safetensors_write("/nonexistent/x", &good, 1, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "/nonexistent/x: "), "%s", err.msg);

    cr_assert_eq(mkdir(path, 0777), 0);                     // cannot be replaced by a file
    cr_assert_eq(l2d_safetensors_write(path, &good, 1, &err), L2D_EIO);
    cr_assert_eq(rmdir(path), 0);
    cr_assert_eq(rmdir(dir), 0, "a temporary file was left");
}
