// SPDX-License-Identifier: Apache-2.0
// Building and planning of graphs. See graph.h.
#include "gpu/graph.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/ops.h"
#include "tensor/planner.h"

int l2d_graph_create(struct l2d_graph **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                     const char *name, struct l2d_error *err)
{
    if (precision == L2D_F16 && !gpu->caps.has_fp16)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s cannot store 16-bit values; use "
                             "--precision fp32", gpu->caps.name);
    struct l2d_graph *g = calloc(1, sizeof(*g));
    if (!g)
        return l2d_error_set(err, L2D_ENOMEM, "graph %s: out of memory", name);
    g->gpu = gpu;
    g->precision = precision;
    snprintf(g->name, sizeof(g->name), "%s", name);
    *out = g;
    return L2D_OK;
}

void l2d_graph_destroy(struct l2d_graph **pg)
{
    struct l2d_graph *g = *pg;
    *pg = NULL;
    if (!g)
        return;
    if (g->num_cmds)
        vkFreeCommandBuffers(g->gpu->device, l2d_vk_lane_of(g->gpu, g->lane)->pool, g->num_cmds,
                             g->cmd);
    l2d_operands_destroy(&g->operands, g->gpu);
    l2d_buf_destroy(&g->zeros);
    for (uint32_t i = 0; i < g->num_ops; i++)
        free(g->op[i].label);
    free(g->op);
    free(g->transient);
    free(g->probe);
    free(g);
}

enum l2d_dtype l2d_graph_precision(const struct l2d_graph *g)
{
    return g->precision;
}

struct l2d_gpu *l2d_graph_gpu(const struct l2d_graph *g)
{
    return g->gpu;
}

void l2d_graph_set_lane(struct l2d_graph *g, enum l2d_lane lane)
{
    assert(!g->num_cmds);
    g->lane = lane;
}

uint32_t l2d_graph_cmds(const struct l2d_graph *g, const VkCommandBuffer **cmd)
{
    *cmd = g->cmd;
    return g->num_cmds;
}

enum l2d_lane l2d_graph_lane(const struct l2d_graph *g)
{
    return g->lane;
}

bool l2d_graph_failed(const struct l2d_graph *g)
{
    return g->error.code != L2D_OK;
}

static void path(const struct l2d_graph *g, char *out, size_t size)
{
    int n = snprintf(out, size, "%s", g->name);
    for (uint32_t i = 0; i < g->num_words && n > 0 && (size_t) n < size; i++)
        n += snprintf(out + n, size - (size_t) n, ".%s", g->word[i]);
}

void l2d_graph_fail(struct l2d_graph *g, int code, const char *fmt, ...)
{
    if (l2d_graph_failed(g))
        return;
    char text[512], where[256];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    path(g, where, sizeof(where));
    l2d_error_set(&g->error, code, "%s: %s", where, text);
}

void l2d_graph_push(struct l2d_graph *g, const char *fmt, ...)
{
    assert(g->num_words < L2D_MAX_PATH_WORDS);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(g->word[g->num_words++], sizeof(g->word[0]), fmt, ap);
    va_end(ap);
}

void l2d_graph_pop(struct l2d_graph *g)
{
    assert(g->num_words > 0);
    g->num_words--;
}

// Room for one more element; sticks an error to the graph and returns false if there is none.
static bool grow(struct l2d_graph *g, void *array, uint32_t *cap, uint32_t used, size_t size)
{
    if (used < *cap)
        return true;
    uint32_t want = *cap ? 2 * *cap : 64;
    void **p = array;
    void *bigger = realloc(*p, want * size);
    if (!bigger) {
        l2d_graph_fail(g, L2D_ENOMEM, "out of memory");
        return false;
    }
    *p = bigger;
    *cap = want;
    return true;
}

struct l2d_tensor l2d_graph_alloc(struct l2d_graph *g, enum l2d_dtype dtype, int32_t rows,
                                  int32_t h, int32_t w, int32_t c)
{
    if (l2d_graph_failed(g) ||
        !grow(g, &g->transient, &g->cap_transients, g->num_transients, sizeof(*g->transient)))
        return L2D_NO_TENSOR;
    if (rows < 1 || h < 1 || w < 1 || c < 1) {
        l2d_graph_fail(g, L2D_EINVAL, "tensor of shape [%d,%d,%d,%d]", rows, h, w, c);
        return L2D_NO_TENSOR;
    }
    struct l2d_tensor t = { NULL, (int32_t) g->num_transients, 0, rows, h, w, c, dtype };
    g->transient[g->num_transients++] = (struct l2d_transient) {
        .size_bytes = l2d_buf_align(l2d_tensor_bytes(&t)), .first = -1,
    };
    return t;
}

struct l2d_tensor l2d_graph_alloc_zeros(struct l2d_graph *g, int32_t words)
{
    struct l2d_tensor t = l2d_graph_alloc(g, L2D_U32, 1, 1, 1, words);
    if (t.id < 0)
        return t;
    struct l2d_transient *own = &g->transient[t.id];
    own->zeros = true;
    own->offset_bytes = g->zeros_bytes;
    g->zeros_bytes += own->size_bytes;
    return t;
}

static struct l2d_op *append(struct l2d_graph *g)
{
    if (l2d_graph_failed(g) || !grow(g, &g->op, &g->cap_ops, g->num_ops, sizeof(*g->op)))
        return NULL;
    char label[256];
    path(g, label, sizeof(label));
    struct l2d_op *op = &g->op[g->num_ops];
    *op = (struct l2d_op) { .label = strdup(label) };
    if (!op->label) {
        l2d_graph_fail(g, L2D_ENOMEM, "out of memory");
        return NULL;
    }
    g->num_ops++;
    return op;
}

// Extend the lifetimes of what the last op touches.
static void touch(struct l2d_graph *g, const struct l2d_op *op)
{
    int32_t now = (int32_t) g->num_ops - 1;
    for (uint32_t i = 0; i < op->num_bind; i++) {
        const struct l2d_binding *b = &op->bind[i];
        if (b->tensor.id < 0)
            continue;
        struct l2d_transient *t = &g->transient[b->tensor.id];
        if (t->first < 0 && !t->zeros && !(b->access & L2D_WRITE))
            l2d_graph_fail(g, L2D_EINVAL, "%s reads a tensor (operand %u) that nothing has written",
                           op->copy ? "copy" : op->shader, i);
        if (t->first < 0)
            t->first = now;
        t->last = now;
    }
}

static double operand_bytes(const struct l2d_dispatch *d)
{
    double sum = 0;
    for (uint32_t i = 0; i < d->num_bind; i++)
        if (l2d_tensor_exists(&d->bind[i].tensor))
            sum += (d->bind[i].access == L2D_READ_WRITE ? 2 : 1) *
                   (double) l2d_tensor_bytes(&d->bind[i].tensor);
    return sum;
}

void l2d_graph_dispatch(struct l2d_graph *g, const struct l2d_dispatch *d)
{
    assert(d->num_bind > 0 && d->num_bind <= L2D_MAX_BINDINGS);
    assert(d->num_spec <= L2D_MAX_SPEC && d->params_size <= 128 && d->params_size % 4 == 0);
    struct l2d_op *op = append(g);
    if (!op)
        return;
    op->shader = d->shader;
    op->num_spec = d->num_spec;
    op->num_bind = d->num_bind;
    op->params_size = d->params_size;
    op->flops = d->flops;
    op->bytes = d->bytes > 0 ? d->bytes : operand_bytes(d);
    if (d->num_spec)
        memcpy(op->spec, d->spec, d->num_spec * sizeof(*d->spec));
    if (d->params_size)
        memcpy(op->params, d->params, d->params_size);
    memcpy(op->groups, d->groups, sizeof(op->groups));
    snprintf(op->variant, sizeof(op->variant), "%s", d->variant ? d->variant : "");
    for (uint32_t i = 0; i < d->num_bind; i++) {
        op->bind[i] = d->bind[i];
        if (!l2d_tensor_exists(&d->bind[i].tensor))
            op->bind[i] = (struct l2d_binding) { d->bind[0].tensor, L2D_READ };
        if (!l2d_tensor_exists(&op->bind[i].tensor)) {
            l2d_graph_fail(g, L2D_EINVAL, "%s: operand %u is missing", d->shader, i);
            return;
        }
    }
    touch(g, op);
}

void l2d_graph_copy(struct l2d_graph *g, struct l2d_tensor dst, struct l2d_tensor src)
{
    struct l2d_op *op = append(g);
    if (!op)
        return;
    assert(l2d_tensor_bytes(&dst) == l2d_tensor_bytes(&src));
    op->copy = true;
    op->num_bind = 2;
    op->bind[0] = (struct l2d_binding) { src, L2D_READ };
    op->bind[1] = (struct l2d_binding) { dst, L2D_WRITE };
    touch(g, op);
}

void l2d_graph_enable_probes(struct l2d_graph *g, bool on)
{
    g->probes_on = on;
}

bool l2d_graph_probing(const struct l2d_graph *g)
{
    return g->probes_on;
}

void l2d_graph_probe(struct l2d_graph *g, struct l2d_tensor tensor, const char *fmt, ...)
{
    if (!g->probes_on || l2d_graph_failed(g) ||
        !grow(g, &g->probe, &g->cap_probes, g->num_probes, sizeof(*g->probe)))
        return;
    struct l2d_probe *p = &g->probe[g->num_probes++];
    p->tensor = tensor;
    int len = snprintf(p->name, sizeof(p->name), "%s", g->probe_prefix ? g->probe_prefix : "");
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(p->name + len, sizeof(p->name) - (size_t) len, fmt, ap);
    va_end(ap);
    if (tensor.id >= 0)
        g->transient[tensor.id].keep = true;
}

void l2d_graph_probe_prefix(struct l2d_graph *g, const char *prefix)
{
    assert(strlen(prefix) < sizeof(g->probe->name) / 2);
    g->probe_prefix = prefix;
}

uint32_t l2d_graph_num_probes(const struct l2d_graph *g)
{
    return g->num_probes;
}

const struct l2d_probe *l2d_graph_probe_at(const struct l2d_graph *g, uint32_t index)
{
    return &g->probe[index];
}

int l2d_graph_plan(struct l2d_graph *g, uint64_t *size_bytes, struct l2d_error *err)
{
    *size_bytes = 0;
    if (l2d_graph_failed(g))
        return l2d_error_set(err, g->error.code, "%s", g->error.msg);
    struct l2d_planner_buffer *item = calloc(g->num_transients + 1, sizeof(*item));
    if (!item)
        return l2d_error_set(err, L2D_ENOMEM, "graph %s: out of memory", g->name);
    for (uint32_t i = 0; i < g->num_transients; i++) {
        struct l2d_transient *t = &g->transient[i];
        item[i] = (struct l2d_planner_buffer) {
            .size_bytes = t->first < 0 || t->zeros ? 0 : t->size_bytes,
            .first_op = (uint32_t) (t->first < 0 ? 0 : t->first),
            .last_op = (uint32_t) (t->keep ? (int32_t) g->num_ops : t->last),
        };
    }
    int rc = l2d_planner_assign(item, g->num_transients, &g->size_bytes, err);
    for (uint32_t i = 0; i < g->num_transients; i++)
        if (!g->transient[i].zeros)
            g->transient[i].offset_bytes = item[i].offset_bytes;
    free(item);
    g->planned = rc == L2D_OK;
    *size_bytes = g->size_bytes;
    return rc;
}

uint64_t l2d_graph_largest_operand(const struct l2d_graph *g)
{
    uint64_t most = 0;
    for (uint32_t i = 0; i < g->num_ops; i++)
        for (uint32_t b = 0; b < g->op[i].num_bind && !g->op[i].copy; b++) {
            uint64_t bytes = l2d_operand_bytes(&g->op[i].bind[b].tensor);
            most = bytes > most ? bytes : most;
        }
    return most;
}

uint64_t l2d_graph_own_bytes(const struct l2d_graph *g)
{
    return g->zeros_bytes;
}

double l2d_graph_flops(const struct l2d_graph *g)
{
    double sum = 0;
    for (uint32_t i = 0; i < g->num_ops; i++)
        sum += g->op[i].flops;
    return sum;
}

uint32_t l2d_graph_dispatches(const struct l2d_graph *g)
{
    uint32_t sum = 0;
    for (uint32_t i = 0; i < g->num_ops; i++)
        sum += !g->op[i].copy;
    return sum;
}
