// SPDX-License-Identifier: Apache-2.0
// What an engine keeps on the GPU between frames: declared first, for its size to be counted, then
// taken and filled. See engine_state.h.
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/half.h"
#include "pipeline/engine_state.h"

int l2d_engine_declare(struct l2d_engine *e, struct l2d_buf **buf, uint64_t size_bytes,
                       enum l2d_memory memory, const char *name, struct l2d_error *err)
{
    uint32_t i = 0;
    while (i < e->num_bufs && e->buf[i] != buf)
        i++;
    assert(i < L2D_ENGINE_MAX_BUFFERS);
    int rc = l2d_buf_declare(buf, e->gpu, size_bytes, memory, name, err);
    if (rc == L2D_OK && i == e->num_bufs)
        e->buf[e->num_bufs++] = buf;
    return rc;
}

int l2d_engine_take(struct l2d_buf *buf, struct l2d_error *err)
{
    int rc = l2d_buf_take(buf, err);
    // What no frame has written yet must be finite: idle rows read it.
    if (rc == L2D_OK && buf->memory == L2D_MEMORY_DEVICE)
        rc = l2d_buf_fill(buf, 0, buf->size_bytes, 0, err);
    return rc;
}

int32_t l2d_engine_level_h(const struct l2d_engine *e, int32_t level)
{
    return e->geometry.canvas_height / L2D_LATENT_SCALE >> level;
}

int32_t l2d_engine_level_w(const struct l2d_engine *e, int32_t level)
{
    return e->geometry.canvas_width / L2D_LATENT_SCALE >> level;
}

int32_t l2d_engine_negative_steps(const struct l2d_engine *e)
{
    switch (e->guidance_mode) {
    case L2D_GUIDANCE_FULL:       return e->max_steps;
    case L2D_GUIDANCE_INITIALIZE: return 1;
    case L2D_GUIDANCE_NONE:
    case L2D_GUIDANCE_SELF:       break;
    }
    return 0;
}

// ---- of the model

static struct l2d_tensor cache_shape(const struct l2d_engine *e, int32_t index, int32_t steps)
{
    const struct l2d_unet *u = &e->model->unet;
    int32_t level = u->cache_level[index];
    int32_t pixels = l2d_engine_level_h(e, level) * l2d_engine_level_w(e, level);
    return l2d_kv_cache_shape(e->kv_dtype, steps, pixels, u->cache_channels[index],
                              u->config.motion_kwargs.num_attention_heads);
}

static int declare_caches(struct l2d_engine *e, struct l2d_unet_state *state,
                          struct l2d_buf **cache, int32_t steps, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (int32_t i = 0; i < e->model->unet.num_attentions && rc == L2D_OK; i++) {
        struct l2d_tensor t = cache_shape(e, i, steps);
        char name[32];
        snprintf(name, sizeof(name), "kv cache %d", i);
        rc = l2d_engine_declare(e, &cache[i], l2d_tensor_bytes(&t), L2D_MEMORY_DEVICE, name, err);
        t.buf = cache[i];
        state->cache[i] = t;
    }
    return rc;
}

static int declare_step_bias(struct l2d_engine *e, struct l2d_error *err)
{
    const struct l2d_unet *u = &e->model->unet;
    int32_t cout[L2D_UNET_MAX_RESNETS];
    uint64_t size = 0;
    l2d_unet_time_channels(u, cout);
    for (int32_t i = 0; i < u->num_resnets; i++) {
        e->state.step_bias[i] = l2d_tensor_view(NULL, size, L2D_F32, e->max_steps, 1, 1, cout[i]);
        size += l2d_buf_align(l2d_tensor_bytes(&e->state.step_bias[i]));
    }
    int rc = l2d_engine_declare(e, &e->step_bias, size, L2D_MEMORY_DEVICE, "step bias", err);
    for (int32_t i = 0; i < u->num_resnets && rc == L2D_OK; i++)
        e->state.step_bias[i].buf = e->step_bias;
    return rc;
}

// What step_bias holds with each set of steps: computed once for all, since it takes longer than a
// frame.
int l2d_engine_compute_step_bias(struct l2d_engine *e, struct l2d_error *err)
{
    const struct l2d_unet *u = &e->model->unet;
    int32_t cout[L2D_UNET_MAX_RESNETS];
    int32_t sum = l2d_unet_time_channels(u, cout);
    float *bias = malloc((size_t) sum * sizeof(*bias));
    int rc = bias ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "step bias: out of memory");
    for (uint32_t set = 0; set < e->info.num_step_sets && rc == L2D_OK; set++) {
        if (!e->step_bias_of[set])
            e->step_bias_of[set] = calloc(1, e->step_bias->size_bytes);
        uint8_t *all = e->step_bias_of[set];
        if (!all)
            rc = l2d_error_set(err, L2D_ENOMEM, "step bias: out of memory");
        for (int k = 0; k < e->set[set].num_steps && rc == L2D_OK; k++) {
            int32_t column = 0;
            rc = l2d_unet_time_bias(u, e->set[set].timestep[k], bias, err);
            for (int32_t i = 0; i < u->num_resnets && rc == L2D_OK; column += cout[i++])
                memcpy(all + e->state.step_bias[i].offset_bytes + 4 * (size_t) (k * cout[i]),
                       bias + column, 4 * (size_t) cout[i]);
        }
    }
    free(bias);
    return rc;
}

int l2d_engine_use_steps(struct l2d_engine *e, uint32_t set, struct l2d_error *err)
{
    e->schedule = e->set[set];
    e->info.step_set = set;
    e->info.num_steps = e->schedule.num_steps;
    for (int i = 0; i < e->schedule.num_steps; i++)
        e->info.timestep[i] = e->schedule.timestep[i];
    return l2d_buf_write(e->step_bias, 0, e->step_bias_of[set], e->step_bias->size_bytes, err);
}

static int write_values(struct l2d_engine *e, struct l2d_buf *buf, uint64_t at, const float *value,
                        size_t count, struct l2d_error *err)
{
    if (e->precision == L2D_F32)
        return l2d_buf_write(buf, at, value, count * 4, err);
    uint16_t *half = malloc(count * 2);
    if (!half)
        return l2d_error_set(err, L2D_ENOMEM, "out of memory");
    for (size_t i = 0; i < count; i++)
        half[i] = l2d_half_from_f32(value[i]);
    int rc = l2d_buf_write(buf, at, half, count * 2, err);
    free(half);
    return rc;
}

int l2d_engine_write(struct l2d_engine *e, struct l2d_buf *buf, const float *value, size_t count,
                     struct l2d_error *err)
{
    return write_values(e, buf, 0, value, count, err);
}

// What the guidance mode keeps beside the prompt's: nothing if there is none.
static int declare_guidance(struct l2d_engine *e, struct l2d_error *err)
{
    int32_t steps = l2d_engine_negative_steps(e);
    int32_t rows = e->sequential || e->guidance_mode == L2D_GUIDANCE_INITIALIZE ? 1 : steps;
    int rc = L2D_OK;
    if (e->guidance_mode == L2D_GUIDANCE_INITIALIZE)
        rc = l2d_engine_declare(e, &e->origins, e->latents->size_bytes, L2D_MEMORY_DEVICE,
                                "origins", err);
    e->negative = e->state;
    if (rc == L2D_OK && steps > 0)
        rc = l2d_words_declare(e, &e->negative_prompt, "negative prompt", &e->negative, rows, err);
    if (rc == L2D_OK && steps > 0)
        rc = declare_caches(e, &e->negative, e->negative_cache, steps, err);
    return rc;
}

// Views on the positional terms of every temporal attention, and the bytes of what they are
// computed from.
static int declare_positions(struct l2d_engine *e, uint64_t *in_bytes, struct l2d_error *err)
{
    const struct l2d_unet *u = &e->model->unet;
    uint64_t size = 0;
    *in_bytes = 0;
    for (int32_t i = 0; i < u->num_attentions; i++) {
        struct l2d_tensor *pos = &e->state.pos[i];
        *pos = l2d_tensor_view(NULL, size, e->precision, 1, 1, L2D_WINDOW,
                               3 * u->cache_channels[i]);
        size += l2d_buf_align(l2d_tensor_bytes(pos));
        *in_bytes += l2d_buf_align(l2d_tensor_bytes(pos) / 3);
    }
    int rc = !size ? L2D_OK : l2d_engine_declare(e, &e->positions, size, L2D_MEMORY_DEVICE,
                                                 "positions", err);
    for (int32_t i = 0; i < u->num_attentions && rc == L2D_OK; i++)
        e->state.pos[i].buf = e->positions;
    return rc;
}

// W pe, computed once for all frames; pe lies where activations do, of which none is in use.
int l2d_engine_compute_positions(struct l2d_engine *e, struct l2d_error *err)
{
    const struct l2d_unet *u = &e->model->unet;
    struct l2d_graph *g = NULL;
    struct l2d_tensor pe[L2D_UNET_MAX_ATTENTIONS];
    uint64_t at = 0;
    int rc = L2D_OK;
    if (!u->num_attentions)
        return L2D_OK;
    for (int32_t i = 0; i < u->num_attentions && rc == L2D_OK; i++) {
        int32_t c = u->cache_channels[i];
        const float *table = l2d_unet_positions(u, i);
        pe[i] = l2d_tensor_view(e->activations, at, e->precision, 1, 1, L2D_WINDOW, c);
        rc = table ? write_values(e, e->activations, at, table, (size_t) L2D_WINDOW * (size_t) c,
                                  err)
                   : l2d_error_set(err, L2D_ENOMEM, "positions: out of memory");
        at += l2d_buf_align(l2d_tensor_bytes(&pe[i]));
    }
    if (rc == L2D_OK)
        rc = l2d_graph_create(&g, e->gpu, e->precision, "positions", err);
    struct l2d_buf *parts = NULL;               // of sums, where the device has them in parts
    uint64_t bytes = 0;
    if (rc == L2D_OK) {
        l2d_unet_record_positions(g, u, &e->state, pe);
        rc = l2d_graph_plan(g, &bytes, err);
    }
    if (rc == L2D_OK && bytes)
        rc = l2d_buf_create(&parts, e->gpu, bytes, L2D_MEMORY_DEVICE, "positions' sums", err);
    if (rc == L2D_OK)
        rc = l2d_graph_finish(g, parts, err);
    if (rc == L2D_OK)
        rc = l2d_graph_run(g, err);
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&parts);
    return rc;
}

// A range that is all 0 is none yet: the stream begins.
static int declare_depth(struct l2d_engine *e, struct l2d_error *err)
{
    if (e->model->config.structure != L2D_STRUCTURE_DEPTH)
        return L2D_OK;
    struct l2d_tensor maps = l2d_engine_depth_maps(e), input = l2d_engine_depth_inputs(e);
    int rc = l2d_engine_declare(e, &e->depth_maps, l2d_tensor_bytes(&maps), L2D_MEMORY_DEVICE,
                                "depth maps", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->depth_range, 16, L2D_MEMORY_DEVICE, "depth range", err);
    if (rc != L2D_OK || input.rows == 0)
        return rc;
    rc = l2d_engine_declare(e, &e->depth_inputs, l2d_tensor_bytes(&input), L2D_MEMORY_DEVICE,
                            "depth network's inputs", err);
    input.rows = 1;
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->depth_input, l2d_tensor_bytes(&input), L2D_MEMORY_DEVICE,
                                "depth network's input", err);
    return rc;
}

int l2d_engine_declare_state(struct l2d_engine *e, uint64_t *positions_bytes,
                             struct l2d_error *err)
{
    const struct l2d_model_config *c = &e->model->config;
    int32_t h = l2d_engine_level_h(e, 0), w = l2d_engine_level_w(e, 0);
    int32_t c0 = c->unet.block_out_channels[0];
    uint64_t pixels = (uint64_t) h * (uint64_t) w;
    int rc = declare_caches(e, &e->state, e->cache, e->max_steps, err);
    if (rc == L2D_OK)
        rc = declare_step_bias(e, err);
    if (rc == L2D_OK)
        rc = l2d_words_declare(e, &e->prompt, "prompt", &e->state, e->sequential ? 1 : e->max_steps,
                               err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->latents,
                                e->ring * pixels * (uint64_t) c->vae.latent_channels * 4,
                                L2D_MEMORY_DEVICE, "latents", err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->cond,
                                e->ring * pixels * (uint64_t) c0 * l2d_dtype_bytes(e->precision),
                                L2D_MEMORY_DEVICE, "condition maps", err);
    if (rc == L2D_OK)
        rc = declare_depth(e, err);
    if (rc == L2D_OK)
        rc = l2d_engine_declare(e, &e->rows, sizeof(struct l2d_row_params) * L2D_MAX_ROWS,
                                L2D_MEMORY_DEVICE, "rows", err);
    if (rc != L2D_OK)
        return rc;
    e->state.rows = l2d_engine_bytes(e->rows, 0, sizeof(struct l2d_row_params) * L2D_MAX_ROWS);
    e->state.cond = l2d_tensor_view(e->cond, 0, e->precision, (int32_t) e->ring, h, w, c0);
    rc = declare_positions(e, positions_bytes, err);
    if (rc == L2D_OK)
        rc = declare_guidance(e, err);
    return rc == L2D_OK ? l2d_sinks_declare(e, err) : rc;
}

// ---- of pictures

// A graph without transients, after all others.
static int finish_small(struct l2d_graph *graph, struct l2d_error *err)
{
    uint64_t size;
    int rc = l2d_graph_plan(graph, &size, err);
    return rc == L2D_OK ? l2d_graph_finish(graph, NULL, err) : rc;
}

// What carries stored pictures of this size to the canvas, instead of what did before.
static int declare_input(struct l2d_engine *e, uint64_t size_bytes, struct l2d_error *err)
{
    e->input_bytes = 0;
    l2d_graph_destroy(&e->color_in);
    l2d_graph_destroy(&e->source_in);
    l2d_buf_destroy(&e->pixels);
    int rc = l2d_engine_declare(e, &e->pixels, size_bytes, L2D_MEMORY_DEVICE, "input pixels", err);
    struct l2d_tensor pixels = rc == L2D_OK ? l2d_engine_bytes(e->pixels, 0, size_bytes)
                                            : L2D_NO_TENSOR;
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++) {
        struct l2d_engine_slot *s = &e->slot[i];
        l2d_graph_destroy(&s->upload_pixels);
        l2d_buf_destroy(&s->pixels);
        rc = l2d_engine_declare(e, &s->pixels, size_bytes, L2D_MEMORY_UPLOAD, "staged pixels", err);
        if (rc == L2D_OK)
            rc = l2d_engine_new_ahead(e, &s->upload_pixels, "upload pixels", err);
        if (rc == L2D_OK)
            l2d_graph_copy(s->upload_pixels, pixels, l2d_engine_bytes(s->pixels, 0, size_bytes));
    }
    if (rc == L2D_OK)
        rc = l2d_engine_new_ahead(e, &e->color_in, "color_in", err);
    if (rc == L2D_OK && e->sources)
        rc = l2d_engine_new_ahead(e, &e->source_in, "source_in", err);
    if (rc != L2D_OK)
        return rc;
    l2d_color_in(e->color_in, pixels, L2D_BLOCK_VIEW(e, color_in), l2d_engine_canvas(e));
    if (e->sources)
        l2d_color_in_packed(e->source_in, pixels, L2D_BLOCK_VIEW(e, source_in),
                            e->geometry.out_canvas_height, e->geometry.out_canvas_width,
                            l2d_engine_whole(e->sources));
    e->input_bytes = size_bytes;
    return L2D_OK;
}

int l2d_engine_resize_input(struct l2d_engine *e, uint64_t size_bytes, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++)
        if (e->slot[i].busy)
            rc = l2d_gpu_wait(e->gpu, e->slot[i].ticket, err);
    if (rc == L2D_OK)
        rc = declare_input(e, size_bytes, err);
    if (rc == L2D_OK)
        rc = l2d_engine_take(e->pixels, err);
    if (rc == L2D_OK)
        rc = finish_small(e->color_in, err);
    if (rc == L2D_OK && e->source_in)
        rc = finish_small(e->source_in, err);
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++) {
        rc = l2d_engine_take(e->slot[i].pixels, err);
        if (rc == L2D_OK)
            rc = finish_small(e->slot[i].upload_pixels, err);
    }
    return rc;
}

int l2d_engine_declare_slots(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < e->num_slots && rc == L2D_OK; i++) {
        struct l2d_engine_slot *s = &e->slot[i];
        uint64_t block = sizeof(struct l2d_frame_block), out = e->output->size_bytes;
        uint64_t ahead = offsetof(struct l2d_frame_block, color_out);
        rc = l2d_engine_declare(e, &s->params, block, L2D_MEMORY_UPLOAD, "staged params", err);
        if (rc == L2D_OK)
            rc = l2d_engine_declare(e, &s->readback, out, L2D_MEMORY_READBACK, "readback", err);
        if (rc == L2D_OK)
            rc = l2d_engine_new_ahead(e, &s->upload_ahead, "upload params ahead", err);
        if (rc != L2D_OK)
            return rc;
        l2d_graph_copy(s->upload_ahead, l2d_engine_bytes(e->params, 0, ahead),
                       l2d_engine_bytes(s->params, 0, ahead));
        rc = l2d_engine_copy_graph(e, &s->upload_params, "upload params",
                                   l2d_engine_bytes(e->params, ahead, block - ahead),
                                   l2d_engine_bytes(s->params, ahead, block - ahead), err);
        if (rc == L2D_OK)
            rc = l2d_engine_copy_graph(e, &s->download, "download",
                                       l2d_engine_bytes(s->readback, 0, out),
                                       l2d_engine_bytes(e->out_pixels, 0, out), err);
    }
    return rc;
}

// Pictures of unknown size are taken for I420 as large as the result; another one brings its own.
int l2d_engine_declare_input(struct l2d_engine *e, const struct l2d_engine_params *p,
                             struct l2d_error *err)
{
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    struct l2d_frame *like = NULL;
    int32_t w = p->input_width, h = p->input_height;
    bool known = w > 0 && h > 0 && w <= L2D_FRAME_MAX_DIM && h <= L2D_FRAME_MAX_DIM;
    int rc = l2d_frame_create(&like, known ? w : e->output->width, known ? h : e->output->height,
                              &format, err);
    if (rc == L2D_OK)
        rc = declare_input(e, like->size_bytes, err);
    l2d_frame_unref(&like);
    return rc;
}
