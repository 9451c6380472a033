// SPDX-License-Identifier: Apache-2.0
// How much GPU memory an engine needs, whether the device has it, and if not, which option would
// make it fit: that is tried, not guessed, by planning engines that take nothing. See
// engine_state.h.
#include "pipeline/engine_state.h"

#include <stdio.h>
#include <string.h>

#define MIB (1024.0 * 1024.0)

// ---- what it needs

static uint64_t sum_bytes(struct l2d_buf *const *buf, size_t count)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < count; i++)
        sum += buf[i] ? buf[i]->size_bytes : 0;
    return sum;
}

void l2d_engine_count_memory(struct l2d_engine *e)
{
    struct l2d_engine_memory *m = &e->info.memory;
    *m = (struct l2d_engine_memory) {
        .weights = e->model ? l2d_weights_bytes(e->model->weights) : 0,
        .kv_cache = sum_bytes(e->cache, COUNT_OF(e->cache)) +
                    sum_bytes(e->negative_cache, COUNT_OF(e->negative_cache)),
        .kv_steps = e->max_steps + l2d_engine_negative_steps(e),
        .activations = sum_bytes(&e->activations, 1) + sum_bytes(&e->ahead_activations, 1),
        .staging = l2d_buf_copy_bytes(e->gpu),
    };
    uint64_t device = 0;
    for (uint32_t i = 0; i < e->num_bufs; i++) {
        const struct l2d_buf *buf = *e->buf[i];
        *(buf->memory == L2D_MEMORY_DEVICE ? &device : &m->staging) += buf->size_bytes;
    }
    for (uint32_t i = 0; i < e->num_graphs; i++) {
        uint64_t most = l2d_graph_largest_operand(*e->graph[i]);
        device += l2d_graph_own_bytes(*e->graph[i]);
        m->largest_operand = most > m->largest_operand ? most : m->largest_operand;
    }
    m->other = device - m->kv_cache - m->activations;
    m->peak = m->weights + device + m->staging;
}

// ---- whether that fits

static bool fits(const struct l2d_engine *e)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(e->gpu);
    return e->info.memory.peak <= caps->memory_bytes &&
           e->info.memory.largest_operand <= caps->max_range_bytes;
}

// A search for parameters that fit.
struct search {
    const struct l2d_engine *engine;            // which does not
    const struct l2d_engine_params *asked;
    struct l2d_engine_params all;               // with all single changes that have been tried,
    int changes;                                // so many
    char steps[40];                             // what their steps point to
    struct l2d_model *other[2][2];              // its model with [other precision][other weights]
    char *advice;                               // what to do, as text
    size_t size;
};

// The model with such parameters: the engine's, or one that is opened for the search. NULL: it
// cannot be.
static struct l2d_model *model_for(struct search *s, const struct l2d_engine_params *p)
{
    bool half = p->precision != s->asked->precision;
    bool bytes = p->weight_type != s->asked->weight_type;
    struct l2d_model **other = &s->other[half][bytes];
    if (!half && !bytes)
        return s->engine->model;
    if (!*other)
        l2d_model_create(other, p->model, s->engine->gpu, half ? L2D_F16 : s->engine->precision,
                         p->weight_type == L2D_WEIGHTS_INT8, NULL);
    return *other;
}

// What an engine with other parameters needs; 0 if that does not fit, or cannot be found out.
static uint64_t peak_with(struct search *s, const struct l2d_engine_params *p)
{
    struct l2d_engine *trial = NULL;
    struct l2d_model *model = model_for(s, p);
    if ((p->model && !model) ||
        l2d_engine_prepare(&trial, s->engine->gpu, p, model, NULL) != L2D_OK)
        return 0;
    uint64_t peak = fits(trial) ? trial->info.memory.peak : 0;
    l2d_engine_destroy(&trial);
    return peak;
}

// If these parameters fit, the advice is how they differ from what was asked.
static bool advise(struct search *s, const struct l2d_engine_params *p)
{
    const struct l2d_engine_params *asked = s->asked;
    char size[40] = "", steps[56] = "", types[80];
    const char *sets = asked->more_steps[0] && !p->more_steps[0] ? ", no other sets of steps" : "";
    uint64_t peak = peak_with(s, p);
    if (!peak)
        return false;
    if (p->width != asked->width || p->height != asked->height)
        snprintf(size, sizeof(size), " --size %dx%d", p->width, p->height);
    if (p->steps != asked->steps)
        snprintf(steps, sizeof(steps), " --steps %s", p->steps);
    snprintf(types, sizeof(types), "%s%s%s%s", p->chunk != asked->chunk ? " --chunk 1" : "",
             p->precision != asked->precision ? " --precision fp16" : "",
             p->kv_type != asked->kv_type ? " --kv-cache int8" : "",
             p->weight_type != asked->weight_type ? " --weights int8" : "");
    bool plain = p->guidance < asked->guidance, named = *size || *steps || *types;
    bool others = named || *sets;
    snprintf(s->advice, s->size, "%s%s%s%s%s%s it fits (%.0f MiB)", others ? "with" : "", types,
             steps, size, named || !*sets ? sets : sets + 1,
             !plain ? "" : others ? ", without --guidance" : "without --guidance",
             (double) peak / MIB);
    return true;
}

// The largest smaller size that fits, of the same shape as far as the network's multiple lets it.
static bool advise_size(struct search *s, struct l2d_engine_params p)
{
    const struct l2d_engine *e = s->engine;
    double w = e->info.drawn_width, h = e->info.drawn_height, shorter = w < h ? w : h;
    int32_t align = e->model ? l2d_model_config_align(&e->model->config) : 2;
    int32_t fitting = 0, too_large = (int32_t) ((shorter + align - 1) / align);
    while (fitting + 1 < too_large) {
        int32_t middle = (fitting + too_large) / 2;
        double scale = middle * align / shorter;
        l2d_geometry_choose_size(w, h, w * h * scale * scale, align, &p.width, &p.height);
        *(advise(s, &p) ? &fitting : &too_large) = middle;
    }
    return fitting > 0;
}

// ---- single changes

static void draw_one_by_one(struct l2d_engine_params *p)  { p->chunk = 1; }
static void halve(struct l2d_engine_params *p)            { p->precision = L2D_PRECISION_FP16; }
static void weigh_in_bytes(struct l2d_engine_params *p)   { p->weight_type = L2D_WEIGHTS_INT8; }
static void guide_no_more(struct l2d_engine_params *p)    { p->guidance = 0; }

static void cache_in_bytes(struct l2d_engine_params *p)
{
    if (p->precision != L2D_PRECISION_FP16 || p->kv_type == L2D_KV_FP16)    // else they are
        p->kv_type = L2D_KV_INT8;
}

// Without the sets of steps that can be changed to.
static void keep_one_set(struct l2d_engine_params *p)
{
    memset(p->more_steps, 0, sizeof(p->more_steps));
}

// By itself, if it would help; it is also one of all together.
static bool advise_one(struct search *s, bool helps, void (*change)(struct l2d_engine_params *p))
{
    struct l2d_engine_params p = *s->asked;
    if (!helps)
        return false;
    change(&p);
    change(&s->all);
    s->changes++;
    return advise(s, &p);
}

// The first ones of those that were asked for, as many as fit.
static bool advise_steps(struct search *s)
{
    const struct l2d_engine *e = s->engine;
    struct l2d_engine_params p = *s->asked;
    keep_one_set(&p);
    for (int32_t n = e->schedule.num_steps - 1; n >= 1; n--) {
        size_t len = 0;
        for (int32_t i = 0; i < n; i++)
            len += (size_t) snprintf(s->steps + len, sizeof(s->steps) - len, "%s%d", i ? "," : "",
                                     e->t_index[i]);
        snprintf(s->steps + len, sizeof(s->steps) - len, "/%d", e->num_inference_steps);
        p.steps = s->all.steps = s->steps;
        s->changes += n == 1;
        if (advise(s, &p))
            return true;
    }
    return false;
}

// In the order in which the picture suffers from them; then several together.
static void find(struct search *s)
{
    const struct l2d_engine *e = s->engine;
    const struct l2d_engine_params *p = s->asked;
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(e->gpu);
    bool model = !e->passthrough;
    if (advise_one(s, e->chunk > 1, draw_one_by_one) ||
        advise_one(s, model && e->precision == L2D_F32 && caps->has_fp16, halve) ||
        advise_one(s, e->info.kv_type != L2D_KV_INT8 && e->info.memory.kv_cache > 0,
                   cache_in_bytes) ||
        advise_one(s, model && p->weight_type != L2D_WEIGHTS_INT8 && caps->tier != L2D_TIER_0,
                   weigh_in_bytes) ||
        advise_one(s, p->more_steps[0] != NULL, keep_one_set) || advise_steps(s) ||
        advise_one(s, l2d_engine_negative_steps(e) > 0, guide_no_more))
        return;
    if (advise_size(s, *p) || (s->changes > 1 && advise(s, &s->all)) ||
        (s->changes > 0 && advise_size(s, s->all)))
        return;
    snprintf(s->advice, s->size, "no precision, number of steps or size makes it fit");
}

int l2d_engine_check_memory(const struct l2d_engine *e, const struct l2d_engine_params *params,
                            struct l2d_error *err)
{
    const struct l2d_engine_memory *m = &e->info.memory;
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(e->gpu);
    char advice[192], how[32] = "";
    struct search s = {
        .engine = e, .asked = params, .all = *params, .advice = advice, .size = sizeof(advice),
    };
    if (fits(e))
        return L2D_OK;
    find(&s);
    for (int i = 0; i < 4; i++)
        l2d_model_destroy(&s.other[i / 2][i % 2]);
    if (!e->passthrough)
        snprintf(how, sizeof(how), ", %d step%s, %s", e->info.num_steps,
                 e->info.num_steps == 1 ? "" : "s", e->precision == L2D_F16 ? "fp16" : "fp32");
    int w = e->info.drawn_width, h = e->info.drawn_height;
    if (m->peak <= caps->memory_bytes)
        return l2d_error_set(err, L2D_EGPUMEM, "%dx%d%s has tensors of up to %.0f MiB, and %s "
                             "binds %.0f MiB at most; %s", w, h, how,
                             (double) m->largest_operand / MIB, caps->name,
                             (double) caps->max_range_bytes / MIB, advice);
    return l2d_error_set(err, L2D_EGPUMEM, "%dx%d%s needs %.0f MiB of GPU memory (weights %.0f, KV "
                         "cache %.0f, activations %.0f, other %.0f, staging %.0f), %s has %.0f "
                         "MiB; %s", w, h, how, (double) m->peak / MIB, (double) m->weights / MIB,
                         (double) m->kv_cache / MIB, (double) m->activations / MIB,
                         (double) m->other / MIB, (double) m->staging / MIB, caps->name,
                         (double) caps->memory_bytes / MIB, advice);
}
