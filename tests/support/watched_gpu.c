// SPDX-License-Identifier: Apache-2.0
// See watched_gpu.h.
#include "support/watched_gpu.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

static unsigned num_messages;

static void on_log(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    (void) user;
    (void) name;
    num_messages += level <= L2D_LOG_ERROR;
    fprintf(stderr, "%s\n", line);
}

struct l2d_gpu_params watched_gpu_params(void)
{
    return (struct l2d_gpu_params) {
        .cache_dir = "", .validation = true, .log = { .sink = on_log, .level = L2D_LOG_ERROR },
    };
}

struct l2d_gpu *watched_gpu_open(enum l2d_tier tier)
{
    struct l2d_gpu_params p = watched_gpu_params();
    struct l2d_gpu *gpu = NULL;
    struct l2d_error err = { 0 };
    p.tier = tier;
    cr_assert_eq(l2d_gpu_create(&gpu, &p, &err), L2D_OK, "%s", err.msg);
    return gpu;
}

void watched_gpu_close(struct l2d_gpu **gpu)
{
    l2d_gpu_destroy(gpu);
    watched_gpu_check();
}

void watched_gpu_check(void)
{
    if (num_messages)                   // the test has passed already: an assertion is not counted
        abort();
}
