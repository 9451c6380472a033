// SPDX-License-Identifier: Apache-2.0
// See faults.h.
#include "support/faults.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/buffer.h"
#include "gpu/graph.h"
#include "gpu/submit.h"

#define TABLE_SIZE (1u << 20)           // live allocations are far fewer

// __real_X is X; calls of X are calls of __wrap_X.
void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *p, size_t size);
void __real_free(void *p);
int __real_l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err);
int __real_l2d_graph_create(struct l2d_graph **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                            const char *name, struct l2d_error *err);
int __real_l2d_graph_finish(struct l2d_graph *graph, struct l2d_buf *activations,
                            struct l2d_error *err);
int __real_l2d_graph_run(struct l2d_graph *graph, struct l2d_error *err);
int __real_l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                          uint64_t *ticket, struct l2d_error *err);
int __real_l2d_gpu_submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                                uint64_t after, uint64_t *ticket, struct l2d_error *err);

void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *p, size_t size);
char *__wrap_strdup(const char *text);
void __wrap_free(void *p);
int __wrap_l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err);
int __wrap_l2d_graph_create(struct l2d_graph **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                            const char *name, struct l2d_error *err);
int __wrap_l2d_graph_finish(struct l2d_graph *graph, struct l2d_buf *activations,
                            struct l2d_error *err);
int __wrap_l2d_graph_run(struct l2d_graph *graph, struct l2d_error *err);
int __wrap_l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                          uint64_t *ticket, struct l2d_error *err);
int __wrap_l2d_gpu_submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                                uint64_t after, uint64_t *ticket, struct l2d_error *err);

static struct {
    bool follow, paused;
    enum fault fault;
    uint64_t nth, count, num_live;
    uintptr_t live[TABLE_SIZE];         // open addressing; 0: empty, 1: was taken out
} state;

void faults_begin(enum fault fault, uint64_t nth)
{
    memset(&state, 0, sizeof(state));
    state.follow = true;
    state.fault = fault;
    state.nth = nth;
}

uint64_t faults_count(void)
{
    return state.count;
}

void faults_pause(void)
{
    state.paused = true;
}

void faults_continue(void)
{
    state.paused = false;
}

uint64_t faults_end(void)
{
    state.follow = false;
    return state.num_live;
}

static bool fails(enum fault fault)
{
    return state.follow && !state.paused && state.fault == fault && ++state.count == state.nth;
}

static uint32_t hash(uintptr_t p)
{
    return (uint32_t) ((uint64_t) p * UINT64_C(0x9e3779b97f4a7c15) >> 44) % TABLE_SIZE;
}

static void *add(void *p)
{
    if (!state.follow || !p)
        return p;
    uint32_t at = hash((uintptr_t) p);
    assert(state.num_live < TABLE_SIZE / 2);
    while (state.live[at] > 1)
        at = (at + 1) % TABLE_SIZE;
    state.live[at] = (uintptr_t) p;
    state.num_live++;
    return p;
}

static void take_out(void *p)
{
    if (!state.follow || !p)
        return;
    uint32_t at = hash((uintptr_t) p);
    for (uint32_t i = 0; i < TABLE_SIZE && state.live[at]; i++, at = (at + 1) % TABLE_SIZE)
        if (state.live[at] == (uintptr_t) p) {
            state.live[at] = 1;
            state.num_live--;
            return;
        }
}

void *__wrap_malloc(size_t size)
{
    return fails(FAULT_ALLOC) ? NULL : add(__real_malloc(size));
}

void *__wrap_calloc(size_t count, size_t size)
{
    return fails(FAULT_ALLOC) ? NULL : add(__real_calloc(count, size));
}

void *__wrap_realloc(void *p, size_t size)
{
    if (fails(FAULT_ALLOC))
        return NULL;
    take_out(p);
    void *moved = __real_realloc(p, size);
    return moved ? add(moved) : (add(p), NULL);
}

char *__wrap_strdup(const char *text)
{
    char *copy = __wrap_malloc(strlen(text) + 1);
    return copy ? strcpy(copy, text) : NULL;
}

void __wrap_free(void *p)
{
    take_out(p);
    __real_free(p);
}

int __wrap_l2d_buf_take(struct l2d_buf *buf, struct l2d_error *err)
{
    if (fails(FAULT_BUFFER))
        return l2d_error_set(err, L2D_EGPUMEM, "injected: buffer %s", buf->name);
    return __real_l2d_buf_take(buf, err);
}

int __wrap_l2d_graph_create(struct l2d_graph **out, struct l2d_gpu *gpu, enum l2d_dtype precision,
                            const char *name, struct l2d_error *err)
{
    if (fails(FAULT_GRAPH))
        return l2d_error_set(err, L2D_EGPU, "injected: graph %s", name);
    return __real_l2d_graph_create(out, gpu, precision, name, err);
}

int __wrap_l2d_graph_finish(struct l2d_graph *graph, struct l2d_buf *activations,
                            struct l2d_error *err)
{
    if (fails(FAULT_GRAPH))
        return l2d_error_set(err, L2D_EGPU, "injected: graph");
    return __real_l2d_graph_finish(graph, activations, err);
}

int __wrap_l2d_graph_run(struct l2d_graph *graph, struct l2d_error *err)
{
    if (fails(FAULT_SUBMIT))
        return l2d_error_set(err, L2D_EGPU, "injected: run");
    return __real_l2d_graph_run(graph, err);
}

int __wrap_l2d_gpu_submit(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                          uint64_t *ticket, struct l2d_error *err)
{
    if (fails(FAULT_SUBMIT))
        return l2d_error_set(err, L2D_EGPU, "injected: submit");
    return __real_l2d_gpu_submit(gpu, items, count, ticket, err);
}

int __wrap_l2d_gpu_submit_after(struct l2d_gpu *gpu, const struct l2d_submit *items, uint32_t count,
                                uint64_t after, uint64_t *ticket, struct l2d_error *err)
{
    if (fails(FAULT_SUBMIT))
        return l2d_error_set(err, L2D_EGPU, "injected: submit");
    return __real_l2d_gpu_submit_after(gpu, items, count, after, ticket, err);
}
