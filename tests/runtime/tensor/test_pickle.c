// SPDX-License-Identifier: Apache-2.0
// The pickle machine against programs written by hand: what it understands, what it refuses, and
// that whatever the bytes are it answers.
#include "tensor/pickle.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define STR(s) s, sizeof(s) - 1
#define STORAGE(count) "(\x8c\7storagectorch\nFloatStorage\n\x8c\1" "0\x8c\3cpuK" count "tQ"
#define REBUILD "ctorch._utils\n_rebuild_tensor_v2\n"
#define TENSOR REBUILD "(" STORAGE("\6") "K\0K\2K\3\x86K\3K\1\x86\x89)tR"           // [2,3]
#define A_IS "}\x8c\1a"

static int read_it(struct l2d_pickle **p, const char *data, size_t size, struct l2d_error *err)
{
    size_t used = 0;
    *p = NULL;
    int rc = l2d_pickle_read(p, "x.pt", data, size, &used, err);
    cr_assert_leq(used, size);
    cr_assert_eq(rc == L2D_OK, *p != NULL);
    return rc;
}

Test(pickle, finds_tensors_by_their_keys)
{
    static const struct { const char *data; size_t size; const char *name; } cases[] = {
        { STR("\x80\2" A_IS TENSOR "s."), "a" },
        { STR("(\x8c\1a" TENSOR "d."), "a" },
        { STR("}(\x8c\1a" TENSOR "u."), "a" },
        { STR("}X\1\0\0\0a" TENSOR "s."), "a" },
        { STR(A_IS "}\x8c\1" "b" TENSOR "ss."), "a/b" },
        { STR("ccollections\nOrderedDict\n)R\x8c\1a" TENSOR "s."), "a" },
        { STR("ccollections\nOrderedDict\n](](\x8c\1a" TENSOR "ee\x85R."), "a" },
        { STR("ccollections\nOrderedDict\n)\x81\x8c\1a" TENSOR "s}b."), "a" },
        { STR(A_IS "ctorch._utils\n_rebuild_parameter\n" TENSOR "\x89N\x87Rs."), "a" },
        { STR("\x80\4\x95\0\0\0\0\0\0\0\0}\x94(\x8c\5torchNK\1N\x8c\1aG12345678"
              "\x8c\1" "b" TENSOR "u."), "b" },
        { STR(A_IS "cpytorch_lightning.core\nThing\n)\x81}\x8c\1xK\1sbs\x8c\1" "b" TENSOR "s."),
          "b" },
        { STR("}r\2\0\0\0\x8c\1a" TENSOR "sj\2\0\0\0."), "a" },
        { STR("}q\0\x8c\1ah\0s\x8c\1" "b" TENSOR "s."), "b" },          // a is what it is in
        { STR("}K\1" TENSOR "s\x8c\1a" TENSOR "s\x8c\0" TENSOR "s\x8c\1\n" TENSOR "s."), "a" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_pickle *p;
        struct l2d_error err = { 0 };
        cr_assert_eq(read_it(&p, cases[i].data, cases[i].size, &err), L2D_OK, "case %zu: %s", i,
                     err.msg);
        cr_assert_eq(l2d_pickle_count(p), 1, "case %zu", i);
        const struct l2d_pickle_tensor *t = l2d_pickle_get(p, 0);
        cr_assert_str_eq(t->name, cases[i].name, "case %zu", i);
        cr_assert(t->ndim == 2 && t->dims[0] == 2 && t->dims[1] == 3 && t->strides[0] == 3 &&
                  t->count == 6 && t->span == 6 && t->dtype == L2D_SAFETENSORS_F32);
        cr_assert_str_eq(l2d_pickle_storage(p, t->storage)->key, "0");
        l2d_pickle_destroy(&p);
        cr_assert_null(p);
    }
}

Test(pickle, lists_strings)
{
    struct l2d_pickle *p;
    struct l2d_error err = { 0 };
    cr_assert_eq(read_it(&p, STR("\x80\2](\x8c\2" "10K\1\x8c\1" "9e.rest"), &err), L2D_OK);
    cr_assert_eq(l2d_pickle_num_strings(p), 2);
    cr_assert_str_eq(l2d_pickle_string(p, 0), "10");
    cr_assert_str_eq(l2d_pickle_string(p, 1), "9");
    cr_assert_eq(l2d_pickle_count(p), 0);
    l2d_pickle_destroy(&p);
    cr_assert_eq(read_it(&p, STR("}(\x8c\1" "aK\1\x8c\4name\x8c\5paintK\2\x8c\1" "b\x8c\1" "c}u."),
                         &err), L2D_OK);
    cr_assert_eq(l2d_pickle_num_strings(p), 2);             // one pair of strings
    cr_assert_str_eq(l2d_pickle_string(p, 0), "name");
    cr_assert_str_eq(l2d_pickle_string(p, 1), "paint");
    l2d_pickle_destroy(&p);
}

#define TENSOR_OF(count, offset, dims, strides) \
    A_IS REBUILD "(" STORAGE(count) offset dims strides "\x89)tRs."

Test(pickle, refuses)
{
    static const struct { const char *data; size_t size; const char *want; } cases[] = {
        { STR(""), "ends within" },
        { STR("\x80"), "ends within" },
        { STR("\x80\6."), "protocol newer than 5" },
        { STR("."), "empty stack" },
        { STR("(."), "empty stack" },
        { STR("K\1(0."), "empty stack" },                   // below the mark
        { STR("t."), "no mark" },
        { STR("X\xff\xff\xff\xff" "a."), "ends within" },
        { STR("\x8d\xff\xff\xff\xff\xff\xff\xff\xff" "a."), "ends within" },
        { STR("ctorch\n"), "ends within a name" },
        // calls
        { STR("cos\nsystem\n\x8c\2ls\x85R."), "asks for Python's os.system" },
        { STR("cposix\nsystem\n\x8c\2ls\x85R."), "asks for Python's posix.system" },
        { STR("\x8c\2os\x8c\6system\x93\x8c\2ls\x85R."), "asks for Python's os.system" },
        { STR("c__builtin__\neval\n\x8c\1" "1\x85R."), "__builtin__.eval" },
        { STR("cbuiltins\ngetattr\n)R."), "builtins.getattr" },
        { STR("cbuiltins\nexec\n)R."), "builtins.exec" },
        { STR("csubprocess\nPopen\n)R."), "subprocess.Popen" },
        { STR("ctorchvision\nx\n)R."), "torchvision.x" },   // not torch, not torch.something
        { STR("cos\n\x1b[31m\n)R."), "os.?[31m" },
        { STR("K\1K\2\x93."), "name that is no string" },
        { STR("K\1)R."), "not a function" },
        { STR("ctorch\nx\nK\1R."), "not a function" },
        { STR("(i__main__\nx\n."), "0x69" },                // INST
        { STR("\x82\1."), "0x82" },                         // EXT1
        { STR("P0\n."), "0x50" },                           // PERSID
        { STR("I1\n."), "0x49" },
        // containers
        { STR("]K\1K\2s."), "holds none" },
        { STR("}K\1a."), "holds none" },
        { STR("}(K\1u."), "key without a value" },
        { STR("(K\1d."), "key without a value" },
        { STR("h\0."), "never had" },
        { STR("K\1r\xff\xff\xff\xff."), "remembers a value" },
        { STR("ccollections\nOrderedDict\n]K\1a\x85R."), "than pairs" },
        // storages
        { STR("K\1Q."), "storage that is not described" },
        { STR("(\x8c\7storage\x8c\1xK\1K\1K\1tQ."), "storage that is not described" },
        { STR("(\x8c\7storagectorch\nFloatStorage\n\x8c\1" "0\x8c\3cpuJ\xff\xff\xff\xfftQ."),
          "storage that is not described" },
        { STR("(\x8c\7storagectorch\nQInt8Storage\n\x8c\1" "0\x8c\3cpuK\6tQ."), "QInt8Storage" },
        { STR("(\x8c\7storagectorch\nFloatStorage\n\x8c\4../a\x8c\3cpuK\6tQ."), "unknown" },
        { STR("(\x8c\7storagectorch\nFloatStorage\n\x8c\1" "0\x8c\3cpuK\6)tQ."), "before 0.4" },
        // tensors
        { STR(REBUILD ")R."), "tensor that is not described" },
        { STR(TENSOR_OF("\6", "K\0", "K\2K\3\x86", "K\1\x85")), "tensor that is not described" },
        { STR(TENSOR_OF("\6", "J\xff\xff\xff\xff", "K\2\x85", "K\1\x85")), "not described" },
        { STR(TENSOR_OF("\6", "K\0", "J\xff\xff\xff\xff\x85", "K\1\x85")), "not described" },
        { STR(TENSOR_OF("\6", "K\0", "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t",
                        "(K\1K\1K\1K\1K\1K\1K\1K\1K\1t")),
          "not described" },
        { STR(TENSOR_OF("\6", "K\0", "K\7\x85", "K\1\x85")), "beyond its storage" },
        { STR(TENSOR_OF("\6", "K\1", "K\6\x85", "K\1\x85")), "beyond its storage" },
        { STR(TENSOR_OF("\6", "K\0", "K\2\x85", "K\6\x85")), "beyond its storage" },
        { STR(TENSOR_OF("\6", "K\0", "K\7\x85", "K\0\x85")), "beyond its storage" },    // blown up
        { STR(TENSOR_OF("\6", "K\7", ")", ")")), "beyond its storage" },
        { STR(TENSOR_OF("\0", "K\0", ")", ")")), "beyond its storage" },
        { STR(TENSOR_OF("\6", "K\0", "K\2\x85", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f\x85")),
          "beyond its storage" },
        { STR(TENSOR_OF("\6", "\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f", "K\2\x85", "K\1\x85")),
          "beyond its storage" },
        { STR("}\x8c\1a" TENSOR "s\x8c\1a" TENSOR "s."), "a is there twice" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_pickle *p;
        struct l2d_error err = { 0 };
        cr_assert_eq(read_it(&p, cases[i].data, cases[i].size, &err), L2D_EFORMAT, "case %zu (%s)",
                     i, cases[i].want);
        cr_assert(strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
        cr_assert(!strncmp(err.msg, "x.pt: pickle, byte ", 19), "case %zu: %s", i, err.msg);
        for (const char *c = err.msg; *c; c++)
            cr_assert((unsigned char) *c >= 0x20, "case %zu: not one line", i);
    }
}

// A program that is nothing but one instruction, many times: neither time nor stack run out.
Test(pickle, large_programs, .timeout = 120)
{
    static const struct { const char *unit; size_t size; } units[] = {
        { STR("(") }, { STR("}") }, { STR("]q\0h\0a") }, { STR("}\x8c\1a") },
        { STR("}q\0\x8c\1ah\0s") },
        { STR("(]") }, { STR("]\x94") }, { STR(STORAGE("\6")) }, { STR(TENSOR) },
    };
    size_t size = L2D_PICKLE_MAX_BYTES + 1000;
    char *data = malloc(size);
    cr_assert_not_null(data);
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++) {
        struct l2d_pickle *p;
        struct l2d_error err = { 0 };
        for (size_t at = 0; at < size; at++)
            data[at] = units[i].unit[at % units[i].size];
        cr_assert_eq(read_it(&p, data, size, &err), L2D_EFORMAT, "unit %zu", i);
    }
    // Dictionaries within dictionaries, closed again.
    size_t at = 0, depth = 100000;
    for (size_t i = 0; i < depth; i++, at += 4)
        memcpy(data + at, A_IS, 4);
    memcpy(data + at, STR(TENSOR));
    at += sizeof(TENSOR) - 1;
    memset(data + at, 's', depth);
    data[at + depth] = '.';
    struct l2d_pickle *p;
    struct l2d_error err = { 0 };
    cr_assert_eq(read_it(&p, data, at + depth + 1, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_pickle_count(p), 0);               // deeper than we look
    l2d_pickle_destroy(&p);
    free(data);
}

static size_t put(char *data, size_t at, const char *unit, size_t size)
{
    memcpy(data + at, unit, size);
    return at + size;
}

// What is there once may be named again and again, and would be copied each time.
Test(pickle, programs_that_swell)
{
    enum { SIZE = 100000 };
    struct l2d_error err = { 0 };
    struct l2d_pickle *p;
    char *data = calloc(3, SIZE);
    cr_assert_not_null(data);
    // Dictionaries of one list, which has one pair many times.
    size_t at = put(data, 0, STR("ccollections\nOrderedDict\nq\0" "0NN\x86q\1" "0]q\2("));
    while (at < SIZE)
        at = put(data, at, STR("h\1"));
    at = put(data, at, STR("e0"));
    while (at < 2 * SIZE)
        at = put(data, at, STR("h\0h\2\x85R0"));
    at = put(data, at, STR("N."));
    cr_assert_eq(read_it(&p, data, at, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "copies more than"), "%s", err.msg);
    // A list of one string.
    const uint32_t length = SIZE;
    at = put(data, 0, STR("X"));
    at = put(data, at, (const char *) &length, sizeof(length));
    memset(data + at, 'a', length);
    at = put(data, at + length, STR("q\0" "0]("));
    for (int i = 0; i < 100; i++)
        at = put(data, at, STR("h\0"));
    at = put(data, at, STR("e."));
    cr_assert_eq(read_it(&p, data, at, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "copies more than"), "%s", err.msg);
    free(data);
}

Test(pickle, mutated_programs, .timeout = 300)
{
    static const char good[] = "\x80\2ccollections\nOrderedDict\n)R(\x8c\1a" TENSOR "\x8c\1" "b"
                               TENSOR "q\1\x8c\1" "ch\1\x8c\1" "d](K\1K\2e\x8c\1" "e}u.";
    static const char opcodes[] = "}](t)NKMJXqrhjsuaeRQb0dlc.\x80\x85\x86\x87\x88\x8a\x8c\x93\x94";
    uint32_t state = 7;
    int num_ok = 0;
    for (int i = 0; i < 200000; i++) {
        char data[sizeof(good)];
        size_t len = sizeof(good) - 1;
        memcpy(data, good, len);
        state = state * 1664525 + 1013904223;
        for (uint32_t n = 1 + (state >> 28) % 4; n > 0; n--) {
            state = state * 1664525 + 1013904223;
            size_t at = (state >> 8) % len;
            state = state * 1664525 + 1013904223;
            switch (state >> 30) {
            case 0: data[at] = (char) (data[at] ^ 1 << (state >> 24 & 7)); break;
            case 1: data[at] = opcodes[(state >> 16) % (sizeof(opcodes) - 1)]; break;
            case 2: memmove(data + at, data + at + 1, len - at - 1); len -= len > 1; break;
            case 3: data[at] = (char) (state >> 8); break;
            }
        }
        char *exact = malloc(len);                          // so that a sanitizer sees its end
        cr_assert_not_null(exact);
        memcpy(exact, data, len);
        struct l2d_pickle *p;
        struct l2d_error err = { 0 };
        int rc = read_it(&p, exact, len, &err);
        free(exact);
        cr_assert(rc == L2D_OK || (rc == L2D_EFORMAT && err.msg[0]), "round %d: %d", i, rc);
        for (size_t t = 0; rc == L2D_OK && t < l2d_pickle_count(p); t++) {
            const struct l2d_pickle_tensor *tensor = l2d_pickle_get(p, t);
            cr_assert_leq(tensor->offset + tensor->span, 255);
            num_ok++;
        }
        l2d_pickle_destroy(&p);
    }
    cr_assert_gt(num_ok, 1000);                             // the loop does reach the inside
}
