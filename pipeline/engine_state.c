// SPDX-License-Identifier: Apache-2.0
// Making and freeing of the engine, in two halves: buffers are declared (engine_buffers.c), graphs
// built (engine_graphs.c) and planned into one activation buffer, and nothing is taken; then, if
// all of it fits (engine_memory.c), memory is taken and filled, and the graphs are recorded. See
// engine_state.h.
#include "pipeline/engine_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/parallel.h"

static int set_steps(struct l2d_engine *e, const char *steps, uint32_t set, struct l2d_error *err)
{
    const struct l2d_scheduler_config *c = &e->model->config.scheduler;
    int num = c->num_steps, of = c->num_inference_steps, t_index[L2D_MAX_STEPS];
    memcpy(t_index, c->t_index, sizeof(t_index));
    int rc = steps ? l2d_schedule_parse(steps, t_index, &num, &of, err) : L2D_OK;
    if (rc == L2D_OK)
        rc = l2d_schedule_init(&e->set[set], c, t_index, num, of, err);
    if (rc != L2D_OK)
        return l2d_error_wrap(err, rc, "--%s %s", set ? "more-steps" : "steps",
                              steps ? steps : "of the model");
    e->max_steps = num > e->max_steps ? num : e->max_steps;
    e->info.num_step_sets = set + 1;
    e->info.steps_of_set[set] = num;
    l2d_schedule_text(e->info.set_text[set], t_index, num, of);
    if (set > 0)
        return L2D_OK;
    memcpy(e->t_index, t_index, sizeof(t_index));
    e->num_inference_steps = of;
    e->schedule = e->set[0];
    e->info.num_steps = num;
    for (int i = 0; i < num; i++)
        e->info.timestep[i] = e->schedule.timestep[i];
    return L2D_OK;
}

static int set_all_steps(struct l2d_engine *e, const struct l2d_engine_params *p,
                         struct l2d_error *err)
{
    int rc = set_steps(e, p->steps, 0, err);
    for (uint32_t i = 0; i + 1 < L2D_MAX_STEP_SETS && p->more_steps[i] && rc == L2D_OK; i++)
        rc = set_steps(e, p->more_steps[i], i + 1, err);
    return rc;
}

static int set_size(struct l2d_engine *e, const struct l2d_engine_params *p, struct l2d_error *err)
{
    int32_t w = p->width, h = p->height, align = 2;
    double shown_w = p->input_width, shown_h = p->input_height;
    bool chosen = w || h;
    if (e->passthrough && !chosen) {
        w = (p->input_width + 1) & ~1;
        h = (p->input_height + 1) & ~1;
    }
    if (!e->passthrough) {
        const struct l2d_model_config *c = &e->model->config;
        align = l2d_model_config_align(c);
        if (!chosen && shown_w > 0 && shown_h > 0)
            l2d_geometry_choose_size(shown_w, shown_h, (double) c->width * c->height, align, &w,
                                     &h);
        else if (!chosen) {
            w = c->width;
            h = c->height;
        }
    }
    if (w < 2 || h < 2 || w % 2 || h % 2 || w > L2D_FRAME_MAX_DIM || h > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "output size %dx%d: both sides must be even numbers "
                             "from 2 to %d", w, h, L2D_FRAME_MAX_DIM);
    const struct l2d_geometry g = l2d_geometry_make(w, h, align, p->enlarge > 0 ? p->enlarge : 1);
    if (g.out_canvas_width > L2D_FRAME_MAX_DIM || g.out_canvas_height > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "output size %dx%d is too large: %d a side at most",
                             g.out_width, g.out_height, L2D_FRAME_MAX_DIM);

    e->geometry = g;
    enum l2d_matrix matrix = p->matrix != L2D_MATRIX_RGB ? p->matrix
                           : g.out_height < 720 ? L2D_MATRIX_BT601 : L2D_MATRIX_BT709;
    struct l2d_pixel_format format = p->rgba ? l2d_pixel_format_rgba8()
                                             : l2d_pixel_format_i420(matrix, p->full_range);
    e->info.width = g.out_width;
    e->info.height = g.out_height;
    e->info.drawn_width = w;
    e->info.drawn_height = h;
    e->info.canvas_width = g.canvas_width;
    e->info.canvas_height = g.canvas_height;
    e->info.matrix = matrix;
    return l2d_frame_create(&e->output, g.out_width, g.out_height, &format, err);
}

static int set_clip_skip(struct l2d_engine *e, const char *clip_skip, struct l2d_error *err)
{
    if (!clip_skip)
        return L2D_OK;
    int32_t layers = e->model->text.config.num_hidden_layers, skip = 0;
    size_t len = strspn(clip_skip, "0123456789");
    for (size_t i = 0; i < len && i < 4; i++)
        skip = 10 * skip + clip_skip[i] - '0';
    if (len == 0 || len > 3 || clip_skip[len] || skip >= layers)
        return l2d_error_set(err, L2D_EINVAL, "--clip-skip %.16s: the text tower has %d layers, of "
                             "which 0 to %d can be left out", clip_skip, layers, layers - 1);
    e->model->text.config.clip_skip = skip;
    return L2D_OK;
}

static int set_guidance(struct l2d_engine *e, const struct l2d_engine_params *p,
                        struct l2d_error *err)
{
    double delta = p->guidance_delta > 0 || p->guidance_delta < 0 ? p->guidance_delta : 1;
    if (!(p->guidance >= 0 && p->guidance <= 100))
        return l2d_error_set(err, L2D_EINVAL, "guidance %g: must be within 1..100", p->guidance);
    if (!(delta > 0 && delta <= 100))
        return l2d_error_set(err, L2D_EINVAL, "guidance delta %g: must be above 0, at most 100",
                             delta);
    if (p->guidance > 1) {
        e->guidance_mode = p->guidance_mode;
        e->guidance = p->guidance;
        e->guidance_delta = delta;
    }
    e->info.guidance_mode = e->guidance_mode;
    e->info.guidance = e->guidance_mode == L2D_GUIDANCE_NONE ? 1 : e->guidance;
    return L2D_OK;
}

static int open_model(struct l2d_engine *e, const struct l2d_engine_params *p,
                      struct l2d_error *err)
{
    const struct l2d_gpu_caps *caps = l2d_gpu_caps(e->gpu);
    bool bytes = p->weight_type == L2D_WEIGHTS_INT8;
    if (bytes && caps->tier == L2D_TIER_0)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "--weights int8: %s runs tier 0, which is for "
                             "CPU drivers and has none; leave it out, or take --tier 1",
                             caps->name);
    int rc = e->model ? L2D_OK
           : l2d_model_create(&e->model, p->model, e->gpu, e->precision, bytes, err);
    if (rc != L2D_OK)
        return rc;
    const struct l2d_model_config *c = &e->model->config;
    e->info.weight_type = p->weight_type;
    snprintf(e->info.model_name, sizeof(e->info.model_name), "%s", c->name);
    rc = set_clip_skip(e, p->clip_skip, err);
    if (rc == L2D_OK)
        rc = set_guidance(e, p, err);
    if (rc == L2D_OK)
        rc = l2d_engine_set_live(e, p, err);
    if (rc == L2D_OK)
        rc = l2d_engine_init_loras(e, p, err);
    return rc == L2D_OK ? set_all_steps(e, p, err) : rc;
}

static void count_flops(struct l2d_engine *e)
{
    struct l2d_engine_info *i = &e->info;
    i->gflop_encode = l2d_graph_flops(e->encode) * 1e-9;
    if (e->structure)
        i->gflop_encode += l2d_graph_flops(e->structure) * 1e-9;
    if (e->depth)
        i->gflop_encode += l2d_graph_flops(e->depth) * 1e-9;
    double unet = l2d_graph_flops(l2d_engine_stream_call(e)) * 1e-9;
    double frames = e->sequential ? e->chunk : 1;       // that a call takes one step further
    i->works_ahead = e->ahead_activations != NULL && !e->filter;    // which waits for all
    i->dispatches_unet = l2d_graph_dispatches(l2d_engine_stream_call(e));
    i->gflop_unet = unet * (e->sequential ? e->schedule.num_steps : 1) / frames;
    const struct l2d_graph *first = e->in_chunk ? e->in_chunk_first : e->stream_first;
    if (first)
        i->gflop_unet += (l2d_graph_flops(first) * 1e-9 - unet) / frames;
    i->gflop_decode = l2d_graph_flops(e->decode) * 1e-9;
    i->gflop_encode /= e->draw_every;
    i->gflop_unet /= e->draw_every;
    i->gflop_decode /= e->draw_every;
}

static bool is_ahead(const struct l2d_engine *e, const struct l2d_graph *graph)
{
    return l2d_graph_lane(graph) == L2D_LANE_AHEAD && l2d_gpu_caps(e->gpu)->num_lanes > 1;
}

// One activation buffer for the transients of all graphs of a lane, which never run at the same
// time. at_least: other use of the main lane's.
static int plan_activations(struct l2d_engine *e, uint64_t at_least, struct l2d_error *err)
{
    uint64_t most = at_least > 256 ? at_least : 256, ahead = 0;
    int rc = L2D_OK;
    for (uint32_t i = 0; i < e->num_graphs && rc == L2D_OK; i++) {
        uint64_t size = 0;
        rc = l2d_graph_plan(*e->graph[i], &size, err);
        uint64_t *lane = is_ahead(e, *e->graph[i]) ? &ahead : &most;
        *lane = size > *lane ? size : *lane;
    }
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->activations, most, L2D_MEMORY_DEVICE, "activations", err);
    return rc != L2D_OK || !ahead ? rc : l2d_engine_declare(e, &e->ahead_activations, ahead,
                                                            L2D_MEMORY_DEVICE,
                                                            "activations ahead", err);
}

static int plan(struct l2d_engine *e, const struct l2d_engine_params *p, struct l2d_error *err)
{
    bool half = l2d_gpu_caps(e->gpu)->has_fp16;
    uint64_t positions_bytes = 0;
    e->precision = p->precision == L2D_PRECISION_FP32 ||
                   (p->precision == L2D_PRECISION_AUTO && !half) ? L2D_F32 : L2D_F16;
    if (e->precision == L2D_F16 && !half)
        return l2d_error_set(err, L2D_EUNSUPPORTED, "%s cannot store 16-bit values; use "
                             "--precision fp32", l2d_gpu_caps(e->gpu)->name);
    e->info.precision = e->precision == L2D_F16 ? L2D_PRECISION_FP16 : L2D_PRECISION_FP32;
    e->info.kv_type = p->kv_type == L2D_KV_AUTO && e->precision == L2D_F16 ? L2D_KV_INT8
                                                                           : p->kv_type;
    e->kv_dtype = e->info.kv_type == L2D_KV_INT8 ? L2D_U32 : e->precision;
    if (p->kv_type == L2D_KV_FP16 && e->precision != L2D_F16)
        return l2d_error_set(err, L2D_EINVAL, "--kv-cache fp16: the activations are fp32, and the "
                             "cache is then fp32 or int8");
    int rc = e->passthrough ? L2D_OK : open_model(e, p, err);
    if (rc == L2D_OK)
        rc = set_size(e, p, err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->params, sizeof(struct l2d_frame_block), L2D_MEMORY_DEVICE,
                                "params", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->canvas, (uint64_t) e->geometry.canvas_width *
                                (uint64_t) e->geometry.canvas_height * 16, L2D_MEMORY_DEVICE,
                                "canvas", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->out_pixels, e->output->size_bytes, L2D_MEMORY_DEVICE,
                                "output pixels", err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_declare_mix(e, p, err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare_input(e, p, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_declare_state(e, &positions_bytes, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_declare_filter(e, p->skip_similar, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_declare_steady(e, p, err);
    if (rc == L2D_OK)
        rc = l2d_engine_build_graphs(e, err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare_slots(e, err);
    if (rc == L2D_OK)
        rc = plan_activations(e, positions_bytes, err);
    if (rc != L2D_OK)
        return rc;
    if (!e->passthrough)
        count_flops(e);
    l2d_engine_count_memory(e);
    return L2D_OK;
}

static int check_numbers(const struct l2d_engine_params *p, struct l2d_error *err)
{
    if (p->chunk > L2D_MAX_CHUNK)
        return l2d_error_set(err, L2D_EINVAL, "a chunk of %u frames: at most %d", p->chunk,
                             L2D_MAX_CHUNK);
    if (p->enlarge != 0 && !(p->enlarge >= 1 && p->enlarge <= L2D_MAX_ENLARGE))
        return l2d_error_set(err, L2D_EINVAL, "enlarge %g: must be within 1..%d", p->enlarge,
                             L2D_MAX_ENLARGE);
    if (p->draw_every > L2D_MAX_DRAW_EVERY)
        return l2d_error_set(err, L2D_EINVAL, "one frame of %u drawn: of %d at most",
                             p->draw_every, L2D_MAX_DRAW_EVERY);
    if (p->draw_every > 1 && p->skip_similar > 0)
        return l2d_error_set(err, L2D_EINVAL, "frames are skipped where they are alike, or moved "
                             "where it is not their turn, not both");
    return L2D_OK;
}

int l2d_engine_prepare(struct l2d_engine **out, struct l2d_gpu *gpu,
                       const struct l2d_engine_params *params, struct l2d_model *model,
                       struct l2d_error *err)
{
    struct l2d_engine *e = calloc(1, sizeof(*e));
    if (!e)
        return l2d_error_set(err, L2D_ENOMEM, "engine: out of memory");
    e->gpu = gpu;
    e->log = l2d_log_named(&params->log, "engine");
    e->passthrough = !params->model;
    e->chunk = params->chunk > 1 && !e->passthrough ? params->chunk : 1;
    e->sequential = params->batching == L2D_SEQUENTIAL || e->chunk > 1;
    e->num_slots = e->chunk > 1 && l2d_gpu_caps(gpu)->num_lanes > 1 ? e->chunk + 2 : 2;
    e->ring = l2d_ring_frames(e->chunk);
    e->draw_every = params->draw_every > 1 ? params->draw_every : 1;
    e->info.chunk = e->chunk;
    e->info.draw_every = e->draw_every;
    e->fit = params->fit;
    e->prompt_syntax = params->prompt_syntax;
    e->now.seed = params->seed;
    e->flight_begin = L2D_SINKS;
    e->emit = params->emit;
    e->probe = params->probe;
    e->user = params->user;
    e->model = model;
    e->borrowed_model = model != NULL;
    l2d_engine_use_tuning(gpu, params);
    int rc = check_numbers(params, err);
    if (rc == L2D_OK)
        rc = plan(e, params, err);
    if (rc != L2D_OK) {
        l2d_engine_destroy(&e);
        return rc;
    }
    *out = e;
    return L2D_OK;
}

int l2d_engine_plan(struct l2d_engine_info *info, struct l2d_gpu *gpu,
                    const struct l2d_engine_params *params, struct l2d_error *err)
{
    struct l2d_engine *e = NULL;
    int rc = l2d_engine_prepare(&e, gpu, params, NULL, err);
    if (rc != L2D_OK)
        return rc;
    *info = e->info;
    rc = l2d_engine_check_memory(e, params, err);
    l2d_engine_destroy(&e);
    return rc;
}

// How long a part of the start took, for those who want it shorter. returns when the next began.
static double note_phase(const struct l2d_engine *e, const char *phase, double since_s)
{
    double now = l2d_clock_s();
    l2d_log_print(&e->log, L2D_LOG_DEBUG, "start: %.2f s for %s", now - since_s, phase);
    return now;
}

static int upload_weights(struct l2d_engine *e, struct l2d_error *err)
{
    double begin = l2d_clock_s();
    char what[120];
    l2d_weights_scale_loras(e->model->weights, e->loras.now);
    int rc = l2d_weights_upload(e->model->weights, err);
    snprintf(what, sizeof(what), "%.0f MiB of weights, read and packed in %.2f s of %u threads",
             (double) l2d_weights_bytes(e->model->weights) / (1 << 20),
             l2d_weights_pack_seconds(e->model->weights), l2d_parallel_threads());
    if (rc == L2D_OK)
        note_phase(e, what, begin);
    return rc;
}

// The pipelines of all graphs at once.
static int make_programs(struct l2d_engine *e, struct l2d_error *err)
{
    double begin = l2d_clock_s();
    int rc = L2D_OK;
    for (uint32_t i = 0; i < e->num_graphs && rc == L2D_OK; i++)
        rc = l2d_graph_declare_programs(*e->graph[i], err);
    if (rc == L2D_OK)
        rc = l2d_gpu_make_programs(e->gpu, err);
    note_phase(e, "pipelines", begin);
    return rc;
}

// Take all memory and fill it.
static int load(struct l2d_engine *e, const struct l2d_engine_params *p, struct l2d_error *err)
{
    int rc = e->passthrough ? L2D_OK : upload_weights(e, err);
    if (rc == L2D_OK)
        rc = make_programs(e, err);
    double begin = l2d_clock_s();
    for (uint32_t i = 0; i < e->num_bufs && rc == L2D_OK; i++)
        rc = l2d_engine_take(*e->buf[i], err);
    if (rc != L2D_OK)
        return rc;
    for (uint32_t i = 0; i < e->num_slots; i++)
        memset(e->slot[i].params->mapped, 0, e->slot[i].params->size_bytes);
    if (!e->passthrough)
        rc = l2d_engine_compute_step_bias(e, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_use_steps(e, 0, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_compute_positions(e, err);
    begin = note_phase(e, "memory of activations and state", begin);
    for (uint32_t i = 0; i < e->num_graphs && rc == L2D_OK; i++)
        rc = l2d_graph_finish(*e->graph[i], is_ahead(e, *e->graph[i]) ? e->ahead_activations
                                                                      : e->activations, err);
    if (rc == L2D_OK && e->masked)
        rc = l2d_engine_load_mask(e, p->mask, err);
    begin = note_phase(e, "command buffers", begin);
    if (rc == L2D_OK && e->negative_prompt.kv)
        rc = l2d_engine_set_negative(e, p->negative ? p->negative : "", err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_set_prompt(e, p->prompt ? p->prompt : e->model->config.prompt, err);
    note_phase(e, "the prompt", begin);
    return rc;
}

int l2d_engine_create(struct l2d_engine **out, struct l2d_gpu *gpu,
                      const struct l2d_engine_params *params, struct l2d_error *err)
{
    struct l2d_engine *e = NULL;
    double begin = l2d_clock_s();
    int rc = l2d_engine_prepare(&e, gpu, params, NULL, err);
    if (rc == L2D_OK)
        rc = l2d_engine_check_memory(e, params, err);
    if (rc == L2D_OK)
        note_phase(e, "the model's description and the plan", begin);
    if (rc == L2D_OK && !e->passthrough)        // before any time is spent on it
        rc = l2d_weights_check_there(e->model->weights, err);
    if (rc == L2D_OK && l2d_engine_tune(e, params)) {
        l2d_engine_destroy(&e);
        rc = l2d_engine_prepare(&e, gpu, params, NULL, err);
        if (rc == L2D_OK)               // parts of sums take memory
            rc = l2d_engine_check_memory(e, params, err);
    }
    if (rc == L2D_OK)
        rc = load(e, params, err);
    if (rc != L2D_OK) {
        l2d_engine_destroy(&e);
        return rc;
    }
    *out = e;
    return L2D_OK;
}

void l2d_engine_destroy(struct l2d_engine **pe)
{
    struct l2d_engine *e = *pe;
    *pe = NULL;
    if (!e)
        return;
    for (uint32_t i = 0; i < e->num_slots && !e->stuck; i++)
        if (e->slot[i].busy)
            e->stuck = l2d_gpu_wait(e->gpu, e->slot[i].ticket, NULL) != L2D_OK;
    l2d_engine_forget_loras(e);
    for (uint32_t i = 0; i < e->num_graphs; i++)
        l2d_graph_destroy(e->graph[i]);
    for (uint32_t i = 0; i < e->num_bufs; i++)
        l2d_buf_destroy(e->buf[i]);
    if (!e->borrowed_model)
        l2d_model_destroy(&e->model);
    for (uint32_t i = 0; i < L2D_MAX_STEP_SETS; i++)
        free(e->step_bias_of[i]);
    l2d_words_finish(&e->prompt);
    l2d_words_finish(&e->negative_prompt);
    l2d_frame_unref(&e->output);
    l2d_frame_unref(&e->last_out);
    free(e);
}
