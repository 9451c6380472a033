// SPDX-License-Identifier: Apache-2.0
// Building, planning, recording and profiling of graphs. See graph.h. Barriers: an access waits for
// the ones it conflicts with since the last barrier, and a barrier covers all that came before it.
// It holds back only dispatches or only copies, so each kind has a list of its own.
#include "gpu/graph.h"

#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"
#include "tensor/planner.h"

#define MAX_PATH_WORDS 8

struct op {
    bool copy;                          // bind[0] is the source, bind[1] the destination
    struct l2d_program *program;
    VkDescriptorSet set;
    const char *shader;
    uint32_t num_spec, num_bind, params_size;
    uint32_t spec[L2D_MAX_SPEC];
    uint8_t params[128];
    struct l2d_binding bind[L2D_MAX_BINDINGS];
    uint32_t groups[3];
    char variant[24];
    double flops, bytes;
    char *label;
};

struct transient {
    uint64_t size_bytes, offset_bytes;
    int32_t first, last;                // op indices; first < 0: not used yet
    bool keep;                          // to the end: it is a probe
    bool zeros;                         // it lies in the graph's own buffer
};

struct l2d_graph {
    struct l2d_gpu *gpu;
    enum l2d_dtype precision;
    enum l2d_lane lane;
    char name[48];
    struct l2d_error error;             // the first; its code is L2D_OK while there is none

    struct op *op;
    uint32_t num_ops, cap_ops;
    struct transient *transient;
    uint32_t num_transients, cap_transients;
    struct l2d_probe *probe;
    uint32_t num_probes, cap_probes;
    const char *probe_prefix;           // or NULL
    bool probes_on, planned;
    uint64_t size_bytes;                // of the activation buffer
    struct l2d_buf *zeros;
    uint64_t zeros_bytes;

    char word[MAX_PATH_WORDS][48];      // the profile path
    uint32_t num_words;

    struct l2d_operands operands;
    VkCommandBuffer cmd;
};

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
    if (g->cmd)
        vkFreeCommandBuffers(g->gpu->device, l2d_vk_lane_of(g->gpu, g->lane)->pool, 1, &g->cmd);
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
    assert(!g->cmd);
    g->lane = lane;
}

VkCommandBuffer l2d_graph_cmd(const struct l2d_graph *g)
{
    return g->cmd;
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
    assert(g->num_words < MAX_PATH_WORDS);
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
    g->transient[g->num_transients++] = (struct transient) {
        .size_bytes = l2d_buf_align(l2d_tensor_bytes(&t)), .first = -1,
    };
    return t;
}

struct l2d_tensor l2d_graph_alloc_zeros(struct l2d_graph *g, int32_t words)
{
    struct l2d_tensor t = l2d_graph_alloc(g, L2D_U32, 1, 1, 1, words);
    if (t.id < 0)
        return t;
    struct transient *own = &g->transient[t.id];
    own->zeros = true;
    own->offset_bytes = g->zeros_bytes;
    g->zeros_bytes += own->size_bytes;
    return t;
}

static struct op *append(struct l2d_graph *g)
{
    if (l2d_graph_failed(g) || !grow(g, &g->op, &g->cap_ops, g->num_ops, sizeof(*g->op)))
        return NULL;
    char label[256];
    path(g, label, sizeof(label));
    struct op *op = &g->op[g->num_ops];
    *op = (struct op) { .label = strdup(label) };
    if (!op->label) {
        l2d_graph_fail(g, L2D_ENOMEM, "out of memory");
        return NULL;
    }
    g->num_ops++;
    return op;
}

// Extend the lifetimes of what the last op touches.
static void touch(struct l2d_graph *g, const struct op *op)
{
    int32_t now = (int32_t) g->num_ops - 1;
    for (uint32_t i = 0; i < op->num_bind; i++) {
        const struct l2d_binding *b = &op->bind[i];
        if (b->tensor.id < 0)
            continue;
        struct transient *t = &g->transient[b->tensor.id];
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
    struct op *op = append(g);
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
    struct op *op = append(g);
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
        struct transient *t = &g->transient[i];
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

// A transient becomes a view of the activation buffer, or of the graph's own.
static void resolve(const struct l2d_graph *g, struct l2d_tensor *t, struct l2d_buf *activations)
{
    if (t->id < 0)
        return;
    t->offset_bytes += g->transient[t->id].offset_bytes;
    t->buf = g->transient[t->id].zeros ? g->zeros : activations;
    t->id = -1;
}

static int make_operands(struct l2d_graph *g, struct l2d_error *err)
{
    uint32_t sets = 0, operands = 0;
    for (uint32_t i = 0; i < g->num_ops; i++)
        if (!g->op[i].copy) {
            sets++;
            operands += g->op[i].num_bind;
        }
    return l2d_operands_create(&g->operands, g->gpu, sets, operands, err);
}

// ---- barriers

enum kind { DISPATCH, COPY, NUM_KINDS };

struct span {                           // bytes touched
    const struct l2d_buf *buf;
    uint64_t begin, end;
    enum l2d_access access;
};

struct spans {                          // since the last barrier before ops of one kind
    struct span *span;
    uint32_t len, cap;
    unsigned kinds;                     // of ops that touched them, as bits
};

static enum kind kind_of(const struct op *op)
{
    return op->copy ? COPY : DISPATCH;
}

static struct span span_of(const struct l2d_binding *b)
{
    return (struct span) { b->tensor.buf, b->tensor.offset_bytes,
                           b->tensor.offset_bytes + l2d_tensor_bytes(&b->tensor), b->access };
}

static bool conflicts(const struct spans *s, const struct op *op)
{
    for (uint32_t i = 0; i < op->num_bind; i++) {
        struct span a = span_of(&op->bind[i]);
        for (uint32_t j = 0; j < s->len; j++) {
            const struct span *b = &s->span[j];
            if (a.buf == b->buf && a.begin < b->end && b->begin < a.end &&
                ((a.access | b->access) & L2D_WRITE))
                return true;
        }
    }
    return false;
}

// What a kind of op does, and where: no more is waited for than needed, since a GPU flushes what a
// barrier names.
static const struct {
    VkPipelineStageFlags2 stage;
    VkAccessFlags2 read, write;
} kinds[NUM_KINDS] = {
    [DISPATCH] = { VK_PIPELINE_STAGE_2_COMPUTE_SHADER_BIT, VK_ACCESS_2_SHADER_STORAGE_READ_BIT,
                   VK_ACCESS_2_SHADER_STORAGE_WRITE_BIT },
    [COPY] = { VK_PIPELINE_STAGE_2_COPY_BIT, VK_ACCESS_2_TRANSFER_READ_BIT,
               VK_ACCESS_2_TRANSFER_WRITE_BIT },
};

static void barrier(VkCommandBuffer cmd, const VkMemoryBarrier2 *memory)
{
    vkCmdPipelineBarrier2(cmd, &(VkDependencyInfo) {
        .sType = VK_STRUCTURE_TYPE_DEPENDENCY_INFO,
        .memoryBarrierCount = 1, .pMemoryBarriers = memory,
    });
}

// Between graphs, and towards the host.
static void full_barrier(VkCommandBuffer cmd)
{
    barrier(cmd, &(VkMemoryBarrier2) {
        .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2,
        .srcStageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT,
        .srcAccessMask = VK_ACCESS_2_MEMORY_WRITE_BIT,
        .dstStageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT | VK_PIPELINE_STAGE_2_HOST_BIT,
        .dstAccessMask = VK_ACCESS_2_MEMORY_READ_BIT | VK_ACCESS_2_MEMORY_WRITE_BIT |
                         VK_ACCESS_2_HOST_READ_BIT,
    });
}

// Ops of the kinds `to` that follow wait for those of the kinds `from` so far. Both are bits.
static void op_barrier(const struct l2d_graph *g, VkCommandBuffer cmd, unsigned from, unsigned to)
{
    VkMemoryBarrier2 memory = { .sType = VK_STRUCTURE_TYPE_MEMORY_BARRIER_2 };
    for (int k = 0; k < NUM_KINDS; k++) {
        if (from & 1u << k) {
            memory.srcStageMask |= kinds[k].stage;
            memory.srcAccessMask |= kinds[k].write;
        }
        if (to & 1u << k) {
            memory.dstStageMask |= kinds[k].stage;
            memory.dstAccessMask |= kinds[k].read | kinds[k].write;
        }
    }
    if (to & 1u << DISPATCH && g->gpu->caps.tier == L2D_TIER_0)
        memory.dstAccessMask |= VK_ACCESS_2_SHADER_SAMPLED_READ_BIT;    // texels
    barrier(cmd, &memory);
}

static bool remember(struct spans *s, const struct op *op)
{
    if (s->len + op->num_bind > s->cap) {
        uint32_t cap = 2 * (s->cap + L2D_MAX_BINDINGS);
        struct span *bigger = realloc(s->span, cap * sizeof(*bigger));
        if (!bigger)
            return false;
        s->span = bigger;
        s->cap = cap;
    }
    for (uint32_t i = 0; i < op->num_bind; i++)
        s->span[s->len++] = span_of(&op->bind[i]);
    s->kinds |= 1u << kind_of(op);
    return true;
}

// A barrier where needed before the op, and what it touches remembered. false: out of memory
static bool synchronize(const struct l2d_graph *g, VkCommandBuffer cmd,
                        struct spans pending[NUM_KINDS], const struct op *op)
{
    enum kind kind = kind_of(op);
    struct spans *s = &pending[kind];
    if (conflicts(s, op)) {
        op_barrier(g, cmd, s->kinds, 1u << kind);
        s->len = 0;
        s->kinds = 0;
    }
    bool ok = true;
    for (int k = 0; k < NUM_KINDS; k++)
        ok = ok && remember(&pending[k], op);
    return ok;
}

static void record_op(VkCommandBuffer cmd, const struct op *op)
{
    if (op->copy) {
        const struct l2d_tensor *src = &op->bind[0].tensor, *dst = &op->bind[1].tensor;
        VkBufferCopy copy = { src->offset_bytes, dst->offset_bytes, l2d_tensor_bytes(src) };
        vkCmdCopyBuffer(cmd, src->buf->vk->buffer, dst->buf->vk->buffer, 1, &copy);
        return;
    }
    vkCmdBindPipeline(cmd, VK_PIPELINE_BIND_POINT_COMPUTE, op->program->pipeline);
    vkCmdBindDescriptorSets(cmd, VK_PIPELINE_BIND_POINT_COMPUTE, op->program->layout, 0, 1,
                            &op->set, 0, NULL);
    if (op->params_size)
        vkCmdPushConstants(cmd, op->program->layout, VK_SHADER_STAGE_COMPUTE_BIT, 0,
                           op->params_size, op->params);
    vkCmdDispatch(cmd, op->groups[0], op->groups[1], op->groups[2]);
}

// marks: null, or a pool of num_ops + 1 timestamps, which makes every op wait for the one before.
static int record(struct l2d_graph *g, VkCommandBuffer cmd, VkQueryPool marks,
                  struct l2d_error *err)
{
    struct spans pending[NUM_KINDS] = { 0 };
    const unsigned all = (1u << NUM_KINDS) - 1;
    bool ok = true;
    full_barrier(cmd);
    for (uint32_t i = 0; i < g->num_ops && ok; i++) {
        if (marks) {
            op_barrier(g, cmd, all, all);
            vkCmdWriteTimestamp2(cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, marks, i);
        } else {
            ok = synchronize(g, cmd, pending, &g->op[i]);
        }
        record_op(cmd, &g->op[i]);
    }
    full_barrier(cmd);
    if (marks)
        vkCmdWriteTimestamp2(cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, marks, g->num_ops);
    for (int k = 0; k < NUM_KINDS; k++)
        free(pending[k].span);
    return ok ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "graph %s: out of memory", g->name);
}

int l2d_graph_declare_programs(const struct l2d_graph *g, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < g->num_ops && rc == L2D_OK; i++) {
        const struct op *op = &g->op[i];
        struct l2d_program *program;
        if (!op->copy)
            rc = l2d_program_declare(&program, g->gpu, op->shader, g->precision == L2D_F16,
                                     op->spec, op->num_spec, op->num_bind, op->params_size, err);
    }
    return rc;
}

int l2d_graph_finish(struct l2d_graph *g, struct l2d_buf *activations, struct l2d_error *err)
{
    assert(g->planned && (!g->size_bytes || activations->size_bytes >= g->size_bytes));
    int rc = make_operands(g, err);
    if (rc == L2D_OK && g->zeros_bytes)
        rc = l2d_buf_create(&g->zeros, g->gpu, g->zeros_bytes, L2D_MEMORY_DEVICE, "zeros", err);
    if (rc == L2D_OK && g->zeros)
        rc = l2d_buf_fill(g->zeros, 0, g->zeros_bytes, 0, err);
    if (rc != L2D_OK)
        return l2d_error_wrap(err, rc, "graph %s", g->name);
    for (uint32_t i = 0; i < g->num_probes; i++)
        resolve(g, &g->probe[i].tensor, activations);
    for (uint32_t i = 0; i < g->num_ops && rc == L2D_OK; i++) {
        struct op *op = &g->op[i];
        for (uint32_t b = 0; b < op->num_bind; b++)
            resolve(g, &op->bind[b].tensor, activations);
        if (op->copy)
            continue;
        rc = l2d_program_get(&op->program, g->gpu, op->shader, g->precision == L2D_F16, op->spec,
                             op->num_spec, op->num_bind, op->params_size, err);
        if (rc == L2D_OK)
            rc = l2d_operands_bind(&g->operands, g->gpu, op->program, op->bind, op->label, &op->set,
                                   err);
    }
    if (rc == L2D_OK)
        rc = l2d_vk_begin(g->gpu, g->lane, &g->cmd, err);
    if (rc == L2D_OK)
        rc = record(g, g->cmd, VK_NULL_HANDLE, err);
    if (rc == L2D_OK)
        VK_TRY(vkEndCommandBuffer(g->cmd));
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "graph %s", g->name);
fail:
    return l2d_error_wrap(err, rc, "graph %s", g->name);
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

int l2d_graph_run(struct l2d_graph *g, struct l2d_error *err)
{
    uint64_t ticket;
    int rc = l2d_gpu_submit(g->gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
    return rc == L2D_OK ? l2d_gpu_wait(g->gpu, ticket, err) : rc;
}

// ---- profile

static int by_time(const void *a, const void *b)
{
    double x = ((const struct l2d_profile_row *) a)->ms;
    double y = ((const struct l2d_profile_row *) b)->ms;
    return (x < y) - (x > y);
}

// Ops of one shader with the same constants, parameters and size share a row.
static bool same_shape(const struct op *a, const struct op *b)
{
    return !strcmp(a->shader, b->shader) && a->num_spec == b->num_spec &&
           a->params_size == b->params_size && !memcmp(a->groups, b->groups, sizeof(a->groups)) &&
           !memcmp(a->spec, b->spec, a->num_spec * sizeof(*a->spec)) &&
           !memcmp(a->params, b->params, a->params_size);
}

// Of the first operand and of the last one that is written.
static void describe_shape(const struct op *op, char *out, size_t size)
{
    const struct l2d_tensor *x = &op->bind[0].tensor, *y = x;
    for (uint32_t i = 0; i < op->num_bind; i++)
        if (op->bind[i].access & L2D_WRITE)
            y = &op->bind[i].tensor;
    snprintf(out, size, "[%d,%d,%d,%d] [%d,%d,%d,%d]", x->rows, x->h, x->w, x->c, y->rows, y->h,
             y->w, y->c);
}

static void add_to_profile(const struct l2d_graph *g, uint32_t index, double ms, uint32_t *first,
                           struct l2d_profile_row *rows, uint32_t cap, uint32_t *count)
{
    const struct op *op = &g->op[index];
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
    rc = record(g, cmd, marks, err);
    int ended = l2d_vk_end_and_wait(g->gpu, cmd, err);
    rc = rc == L2D_OK ? ended : rc;
    if (rc != L2D_OK)
        goto fail;
    VK_TRY(vkGetQueryPoolResults(g->gpu->device, marks, 0, n, n * sizeof(*ticks), ticks,
                                 sizeof(*ticks), VK_QUERY_RESULT_64_BIT));
    for (uint32_t i = 0; i < g->num_ops; i++)
        add_to_profile(g, i, (double) (ticks[i + 1] - ticks[i]) * g->gpu->caps.timestamp_ns * 1e-6,
                       first, rows, cap, count);
    qsort(rows, *count, sizeof(*rows), by_time);
fail:
    vkDestroyQueryPool(g->gpu->device, marks, NULL);
    free(first);
    free(ticks);
    return rc;
}
