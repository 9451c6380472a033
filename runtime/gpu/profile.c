// SPDX-License-Identifier: Apache-2.0
// How long each kernel of a graph takes, by the GPU's clock.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/ops.h"

static int by_time(const void *a, const void *b)
{
    double x = ((const struct l2d_profile_row *) a)->ms;
    double y = ((const struct l2d_profile_row *) b)->ms;
    return (x < y) - (x > y);
}

// Ops of one shader with the same constants, parameters and size share a row.
static bool same_shape(const struct l2d_op *a, const struct l2d_op *b)
{
    return !strcmp(a->shader, b->shader) && a->num_spec == b->num_spec &&
           a->params_size == b->params_size && !memcmp(a->groups, b->groups, sizeof(a->groups)) &&
           !memcmp(a->spec, b->spec, a->num_spec * sizeof(*a->spec)) &&
           !memcmp(a->params, b->params, a->params_size);
}

// Of the first operand and of the result: the first that is only written, or one that is written.
static void describe_shape(const struct l2d_op *op, char *out, size_t size)
{
    const struct l2d_tensor *x = &op->bind[0].tensor, *y = x;
    for (uint32_t i = op->num_bind; i-- > 0;)
        if (op->bind[i].access == L2D_WRITE || (op->bind[i].access == L2D_READ_WRITE && y == x))
            y = &op->bind[i].tensor;
    snprintf(out, size, "[%d,%d,%d,%d] [%d,%d,%d,%d]", x->rows, x->h, x->w, x->c, y->rows, y->h,
             y->w, y->c);
}

static void add_to_profile(const struct l2d_graph *g, uint32_t index, double ms, uint32_t *first,
                           struct l2d_profile_row *rows, uint32_t cap, uint32_t *count)
{
    const struct l2d_op *op = &g->op[index];
    if (op->copy)
        return;
    uint32_t r = 0;
    while (r < *count && !same_shape(&g->op[first[r]], op))
        r++;
    if (r == *count) {
        if (r == cap)
            return;
        rows[r] = (struct l2d_profile_row) { 0 };
        snprintf(rows[r].label, sizeof(rows[r].label), "%s", op->label);
        snprintf(rows[r].shader, sizeof(rows[r].shader), "%s", op->shader);
        snprintf(rows[r].variant, sizeof(rows[r].variant), "%s", op->variant);
        describe_shape(op, rows[r].shape, sizeof(rows[r].shape));
        rows[r].op = index;
        first[r] = index;
        (*count)++;
    }
    rows[r].dispatches++;
    rows[r].ms += ms;
    rows[r].gflop += op->flops * 1e-9;
    rows[r].gbytes += op->bytes * 1e-9;
}

int l2d_graph_profile(struct l2d_graph *g, struct l2d_profile_row *rows, uint32_t cap,
                      uint32_t *count, struct l2d_error *err)
{
    int rc = L2D_OK;
    VkQueryPool marks = VK_NULL_HANDLE;
    uint32_t n = g->num_ops + 1;
    uint64_t *ticks = calloc(n, sizeof(*ticks));
    uint32_t *first = calloc(cap + 1, sizeof(*first));
    *count = 0;
    if (!ticks || !first) {
        rc = l2d_error_set(err, L2D_ENOMEM, "profile: out of memory");
        goto fail;
    }
    if (g->gpu->caps.timestamp_ns <= 0) {
        rc = l2d_error_set(err, L2D_EUNSUPPORTED, "%s has no timestamps", g->gpu->caps.name);
        goto fail;
    }
    VK_TRY(vkCreateQueryPool(g->gpu->device, &(VkQueryPoolCreateInfo) {
        .sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO,
        .queryType = VK_QUERY_TYPE_TIMESTAMP, .queryCount = n,
    }, NULL, &marks));
    vkResetQueryPool(g->gpu->device, marks, 0, n);
    VkCommandBuffer cmd;
    rc = l2d_vk_begin(g->gpu, L2D_LANE_MAIN, &cmd, err);
    if (rc != L2D_OK)
        goto fail;
    rc = l2d_graph_record(g, cmd, marks, err);
    int ended = l2d_vk_end_and_wait(g->gpu, cmd, err);
    rc = rc == L2D_OK ? ended : rc;
    if (rc != L2D_OK)
        goto fail;
    VK_TRY(vkGetQueryPoolResults(g->gpu->device, marks, 0, n, n * sizeof(*ticks), ticks,
                                 sizeof(*ticks), VK_QUERY_RESULT_64_BIT));
    for (uint32_t i = 0; i < g->num_ops; i++)
        add_to_profile(g, i, (double) ((ticks[i + 1] - ticks[i]) & g->gpu->queues.tick_mask[0]) *
                             g->gpu->caps.timestamp_ns * 1e-6, first, rows, cap, count);
    qsort(rows, *count, sizeof(*rows), by_time);
fail:
    vkDestroyQueryPool(g->gpu->device, marks, NULL);
    free(first);
    free(ticks);
    return rc;
}
