// SPDX-License-Identifier: Apache-2.0
// Recording of graphs that are planned. Barriers: an access waits for the ones it conflicts with
// since the last barrier, and a barrier covers all that came before it. It holds back only
// dispatches or only copies, so each kind has a list of its own.
#include <assert.h>
#include <stdlib.h>

#include "gpu/ops.h"

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

static enum kind kind_of(const struct l2d_op *op)
{
    return op->copy ? COPY : DISPATCH;
}

static struct span span_of(const struct l2d_binding *b)
{
    return (struct span) { b->tensor.buf, b->tensor.offset_bytes,
                           b->tensor.offset_bytes + l2d_tensor_bytes(&b->tensor), b->access };
}

static bool conflicts(const struct spans *s, const struct l2d_op *op)
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

static bool remember(struct spans *s, const struct l2d_op *op)
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
                        struct spans pending[NUM_KINDS], const struct l2d_op *op)
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

static void record_op(VkCommandBuffer cmd, const struct l2d_op *op)
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

static int begin_piece(struct l2d_graph *g, struct l2d_error *err)
{
    int rc = l2d_vk_begin(g->gpu, g->lane, &g->cmd[g->num_cmds], err);
    g->num_cmds += rc == L2D_OK;
    return rc;
}

static int end_piece(const struct l2d_graph *g, struct l2d_error *err)
{
    int rc = L2D_OK;
    VK_TRY(vkEndCommandBuffer(g->cmd[g->num_cmds - 1]));
fail:
    return rc;
}

// As many pieces as there may be, none of which does much more than one should.
static double flops_of_piece(const struct l2d_graph *g)
{
    double most = l2d_graph_flops(g) / (L2D_MAX_PIECES - 1);
    return most > g->gpu->piece_flops ? most : g->gpu->piece_flops;
}

int l2d_graph_record(struct l2d_graph *g, VkCommandBuffer cmd, VkQueryPool marks,
                     struct l2d_error *err)
{
    struct spans pending[NUM_KINDS] = { 0 };
    const unsigned all = (1u << NUM_KINDS) - 1;
    double flops = 0, most = flops_of_piece(g);
    bool ok = true;
    int rc = L2D_OK;
    full_barrier(cmd);
    for (uint32_t i = 0; i < g->num_ops && ok && rc == L2D_OK; i++) {
        if (!marks && flops >= most && g->num_cmds < L2D_MAX_PIECES) {
            rc = end_piece(g, err);
            if (rc == L2D_OK)
                rc = begin_piece(g, err);
            if (rc != L2D_OK)
                break;
            cmd = g->cmd[g->num_cmds - 1];
            flops = 0;
        }
        flops += g->op[i].flops;
        if (marks) {
            op_barrier(g, cmd, all, all);
            vkCmdWriteTimestamp2(cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, marks, i);
        } else {
            ok = synchronize(g, cmd, pending, &g->op[i]);
        }
        record_op(cmd, &g->op[i]);
    }
    if (rc == L2D_OK)                   // else cmd has ended
        full_barrier(cmd);
    if (rc == L2D_OK && marks)
        vkCmdWriteTimestamp2(cmd, VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT, marks, g->num_ops);
    for (int k = 0; k < NUM_KINDS; k++)
        free(pending[k].span);
    return ok ? rc : l2d_error_set(err, L2D_ENOMEM, "graph %s: out of memory", g->name);
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

int l2d_graph_declare_programs(const struct l2d_graph *g, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < g->num_ops && rc == L2D_OK; i++) {
        const struct l2d_op *op = &g->op[i];
        struct l2d_program *program;
        if (!op->copy)
            rc = l2d_program_declare(&program, g->gpu, op->shader, g->precision == L2D_F16,
                                     op->spec, op->num_spec, op->num_bind, op->params_size, err);
    }
    return rc;
}

static int check_groups(const struct l2d_graph *g, const struct l2d_op *op, struct l2d_error *err)
{
    for (int i = 0; i < 3; i++)
        if (op->groups[i] > g->gpu->caps.max_groups[i])
            return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: %u workgroups are more than this "
                                 "device takes at once, %u; a smaller --size may do", op->shader,
                                 op->groups[i], g->gpu->caps.max_groups[i]);
    return L2D_OK;
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
        struct l2d_op *op = &g->op[i];
        for (uint32_t b = 0; b < op->num_bind; b++)
            resolve(g, &op->bind[b].tensor, activations);
        if (op->copy)
            continue;
        rc = check_groups(g, op, err);
        if (rc == L2D_OK)
            rc = l2d_program_get(&op->program, g->gpu, op->shader, g->precision == L2D_F16,
                                 op->spec, op->num_spec, op->num_bind, op->params_size, err);
        if (rc == L2D_OK)
            rc = l2d_operands_bind(&g->operands, g->gpu, op->program, op->bind, op->label, &op->set,
                                   err);
    }
    if (rc == L2D_OK)
        rc = begin_piece(g, err);
    if (rc == L2D_OK)
        rc = l2d_graph_record(g, g->cmd[0], VK_NULL_HANDLE, err);
    if (rc == L2D_OK)
        rc = end_piece(g, err);
    return rc == L2D_OK ? rc : l2d_error_wrap(err, rc, "graph %s", g->name);
}

int l2d_graph_run(struct l2d_graph *g, struct l2d_error *err)
{
    uint64_t ticket;
    int rc = l2d_gpu_submit(g->gpu, &(struct l2d_submit) { g, 0 }, 1, &ticket, err);
    return rc == L2D_OK ? l2d_gpu_wait(g->gpu, ticket, err) : rc;
}
