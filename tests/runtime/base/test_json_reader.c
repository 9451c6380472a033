// SPDX-License-Identifier: Apache-2.0
// Strict JSON: each way to be wrong, and the message it gives. Reading of a good file is covered by
// the config's tests.
#include "base/json_reader.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char *const colours[] = { "red", "green" };

static int read_text(const char *text, struct l2d_error *err)
{
    char path[] = "/tmp/l2d_json_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0);
    cr_assert_eq(write(fd, text, strlen(text)), (ssize_t) strlen(text));
    close(fd);

    struct l2d_json_reader r;
    int32_t list[3];
    char name[8];
    l2d_json_reader_init(&r, path, 200, err);
    struct l2d_json_object root = l2d_json_root(&r);
    struct l2d_json_object in = l2d_json_object(&root, "in");
    l2d_json_int(&in, "i", 1, 5);
    l2d_json_ints(&in, "list", list, 1, 3, 0, 9);
    l2d_json_end(&in);
    l2d_json_real(&root, "r", 0, 1);
    l2d_json_bool(&root, "b");
    l2d_json_string(&root, "s", name, sizeof(name));
    l2d_json_choice(&root, "c", colours, 2);
    l2d_json_end(&root);
    l2d_json_reader_finish(&r);
    unlink(path);
    return r.rc;
}

#define GOOD_IN "\"in\": {\"i\": 3, \"list\": [1, 2]}"
#define GOOD_REST "\"r\": 0.5, \"b\": true, \"s\": \"name\", \"c\": \"green\""

Test(json_reader, messages)
{
    static const struct { const char *text, *want; } cases[] = {
        { "{" GOOD_IN ", " GOOD_REST "}", NULL },
        { "{" GOOD_IN ", " GOOD_REST, "line 1, column" },
        { "", "line 1, column 0" },
        { "[]", "is an array, must be an object" },
        { "{" GOOD_REST "}", "key \"in\" is missing" },
        { "{\"in\": 1, " GOOD_REST "}", "in: is an integer, must be an object" },
        { "{\"in\": {\"list\": [1]}, " GOOD_REST "}", "in: key \"i\" is missing" },
        { "{\"in\": {\"i\": 6, \"list\": [1]}, " GOOD_REST "}", "in.i: is 6, must be within 1..5" },
        { "{\"in\": {\"i\": 99999999999, \"list\": [1]}, " GOOD_REST "}", "in.i: is 99999999999" },
        { "{\"in\": {\"i\": 3.0, \"list\": [1]}, " GOOD_REST "}", "in.i: is a real number" },
        { "{\"in\": {\"i\": \"3\", \"list\": [1]}, " GOOD_REST "}", "in.i: is a string" },
        { "{\"in\": {\"i\": 3, \"list\": []}, " GOOD_REST "}", "in.list: has 0 elements" },
        { "{\"in\": {\"i\": 3, \"list\": [1,2,3,4]}, " GOOD_REST "}", "in.list: has 4 elements" },
        { "{\"in\": {\"i\": 3, \"list\": [1,10]}, " GOOD_REST "}", "in.list[1]: is 10" },
        { "{\"in\": {\"i\": 3, \"list\": [1], \"x\\u001b\": 1}, " GOOD_REST "}",
          "in: unknown key \"x?\"" },
        { "{\"in\": {\"i\": 3, \"i\": 3, \"list\": [1]}, " GOOD_REST "}", "duplicate" },
        { "{" GOOD_IN ", " GOOD_REST ", \"y\": 1}", "unknown key \"y\"" },
        { "{" GOOD_IN ", \"r\": 2, \"b\": true, \"s\": \"n\", \"c\": \"red\"}", "r: is 2, must" },
        { "{" GOOD_IN ", \"r\": 1, \"b\": 1, \"s\": \"n\", \"c\": \"red\"}", "b: is an integer" },
        { "{" GOOD_IN ", \"r\": 1, \"b\": true, \"s\": \"12345678\", \"c\": \"red\"}",
          "s: has 8 bytes; at most 7" },
        { "{" GOOD_IN ", \"r\": 1, \"b\": true, \"s\": \"a\\n\", \"c\": \"red\"}",
          "s: has a control character at byte 1" },
        { "{" GOOD_IN ", \"r\": 1, \"b\": true, \"s\": \"n\", \"c\": \"blue\"}",
          "c: is \"blue\", must be one of \"red\", \"green\"" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_error err = { 0 };
        int rc = read_text(cases[i].text, &err);
        cr_assert_eq(rc, cases[i].want ? L2D_EFORMAT : L2D_OK, "case %zu: %s", i, err.msg);
        cr_assert(!cases[i].want || strstr(err.msg, cases[i].want), "case %zu: %s", i, err.msg);
    }
}

Test(json_reader, files)
{
    struct l2d_error err;
    struct l2d_json_reader r;
    cr_assert_eq(l2d_json_reader_init(&r, "/nonexistent.json", 100, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "/nonexistent.json: "), "%s", err.msg);
    l2d_json_reader_finish(&r);
    cr_assert_eq(l2d_json_reader_init(&r, "/tmp", 100, &err), L2D_EIO);
    l2d_json_reader_finish(&r);

    char large[256] = "{";
    memset(large + 1, ' ', 200);
    strcpy(large + 201, "}");
    cr_assert_eq(read_text(large, &err), L2D_EFORMAT);
    cr_assert(strstr(err.msg, "larger than 200 bytes"), "%s", err.msg);
}
