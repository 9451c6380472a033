// SPDX-License-Identifier: Apache-2.0
// Making and freeing of the engine, in two halves: buffers are declared, graphs built and planned
// into one activation buffer, and nothing is taken; then, if all of it fits (engine_memory.c),
// memory is taken and filled, and the graphs are recorded. See engine_state.h.
#include "pipeline/engine_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/half.h"
#include "base/parallel.h"

#define DEPTH_RATE 0.1f             // what a frame's range adds to the smoothed one

// ---- buffers

static int declare(struct l2d_engine *e, struct l2d_buf **buf, uint64_t size_bytes,
                   enum l2d_memory memory, const char *name, struct l2d_error *err)
{
    return l2d_buf_declare(buf, e->gpu, size_bytes, memory, name, err);
}

static int take(struct l2d_buf *buf, struct l2d_error *err)
{
    int rc = l2d_buf_take(buf, err);
    // What no frame has written yet must be finite: idle rows read it.
    if (rc == L2D_OK && buf->memory == L2D_MEMORY_DEVICE)
        rc = l2d_buf_fill(buf, 0, buf->size_bytes, 0, err);
    return rc;
}

static struct l2d_tensor bytes_view(struct l2d_buf *buf, uint64_t offset, uint64_t size)
{
    return l2d_tensor_view(buf, offset, L2D_U32, 1, 1, 1, (int32_t) ((size + 3) / 4));
}

#define BLOCK_VIEW(e, field) \
    bytes_view((e)->params, offsetof(struct l2d_frame_block, field), \
               sizeof(((struct l2d_frame_block *) 0)->field))

// The latent's sides at a level of the UNet.
static int32_t level_h(const struct l2d_engine *e, int32_t level)
{
    return e->geometry.canvas_height / L2D_LATENT_SCALE >> level;
}

static int32_t level_w(const struct l2d_engine *e, int32_t level)
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

static struct l2d_tensor cache_shape(const struct l2d_engine *e, int32_t index, int32_t steps)
{
    const struct l2d_unet *u = &e->model->unet;
    int32_t level = u->cache_level[index];
    return l2d_kv_cache_shape(e->kv_dtype, steps, level_h(e, level) * level_w(e, level),
                              u->cache_channels[index],
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
        rc = declare(e, &cache[i], l2d_tensor_bytes(&t), L2D_MEMORY_DEVICE, name, err);
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
    int rc = declare(e, &e->step_bias, size, L2D_MEMORY_DEVICE, "step bias", err);
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
        rc = declare(e, &e->origins, e->latents->size_bytes, L2D_MEMORY_DEVICE, "origins", err);
    e->negative = e->state;
    if (rc == L2D_OK && steps > 0)
        rc = l2d_words_declare(e, &e->negative_prompt, "negative prompt", &e->negative, rows, err);
    if (rc == L2D_OK && steps > 0)
        rc = declare_caches(e, &e->negative, e->negative_cache, steps, err);
    return rc;
}

// ---- graphs

int l2d_engine_new_graph(struct l2d_engine *e, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err)
{
    int rc = l2d_graph_create(graph, e->gpu, e->precision, name, err);
    if (rc == L2D_OK && e->probe)
        l2d_graph_enable_probes(*graph, true);
    return rc;
}

// A graph without transients, after all others.
static int finish_small(struct l2d_graph *graph, struct l2d_error *err)
{
    uint64_t size;
    int rc = l2d_graph_plan(graph, &size, err);
    return rc == L2D_OK ? l2d_graph_finish(graph, NULL, err) : rc;
}

int l2d_engine_copy_graph(struct l2d_engine *e, struct l2d_graph **graph, const char *name,
                          struct l2d_tensor dst, struct l2d_tensor src, struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, graph, name, err);
    if (rc == L2D_OK)
        l2d_graph_copy(*graph, dst, src);
    return rc;
}

struct l2d_tensor l2d_engine_canvas(const struct l2d_engine *e)
{
    return l2d_tensor_view(e->canvas, 0, L2D_F32, 1, e->geometry.canvas_height,
                           e->geometry.canvas_width, 4);
}

struct l2d_tensor l2d_engine_ring(const struct l2d_engine *e, struct l2d_buf *buf)
{
    return buf ? l2d_tensor_view(buf, 0, L2D_F32, L2D_RING, level_h(e, 0), level_w(e, 0),
                                 e->model->config.vae.latent_channels) : L2D_NO_TENSOR;
}

// What guidance moves away from, if it is a ring of latents.
static struct l2d_tensor origin_ring(const struct l2d_engine *e, bool sinks)
{
    switch (e->guidance_mode) {
    case L2D_GUIDANCE_SELF:
        return l2d_engine_ring(e, sinks ? e->sinks.clean : e->sinks.recent);
    case L2D_GUIDANCE_INITIALIZE:
        return l2d_engine_ring(e, sinks ? e->sinks.origins : e->origins);
    case L2D_GUIDANCE_NONE:
    case L2D_GUIDANCE_FULL:
        break;
    }
    return L2D_NO_TENSOR;
}

static struct l2d_tensor depth_maps(const struct l2d_engine *e)
{
    int32_t side = e->model->config.depth.dpt.input_size;
    return l2d_tensor_view(e->depth_maps, 0, e->precision, L2D_RING, side, side, 4);
}

// The structure latent of the frame in block->encode is mapped for the denoiser.
static void record_structure(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor latent)
{
    l2d_graph_probe(g, latent, "latent.structure");
    l2d_unet_record_cond(g, &e->model->unet, &e->state, BLOCK_VIEW(e, encode), latent);
}

static int build_encode(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, &e->encode, "encode", err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = e->encode;
    struct l2d_tensor rows = BLOCK_VIEW(e, encode);
    struct l2d_tensor images[2] = { l2d_engine_canvas(e) };
    int32_t num_images = 1;
    bool mapped = e->model->config.unet.cond_mapping;
    if (e->model->config.structure == L2D_STRUCTURE_DEPTH)
        l2d_dpt_record(g, &e->model->depth, images[0], rows, depth_maps(e));
    if (mapped && e->model->config.structure == L2D_STRUCTURE_LUMA) {
        images[1] = l2d_luma_structure(g, images[0]);
        l2d_graph_probe(g, images[1], "structure");
        num_images = 2;
    }
    struct l2d_tensor z = l2d_codec_encode(g, &e->model->vae, images, num_images);
    l2d_graph_probe(g, l2d_tensor_rows(z, 0, 1), "latent.image");
    l2d_latent_noise(g, l2d_tensor_rows(z, 0, 1), 1, l2d_engine_ring(e, e->latents),
                     rows, l2d_engine_ring(e, e->sinks.recent));
    if (mapped && e->model->config.structure != L2D_STRUCTURE_DEPTH)
        record_structure(e, g, l2d_tensor_rows(z, num_images - 1, 1));
    return L2D_OK;
}

// What becomes of a depth map is apart from its making: in the warm-up all maps come first.
static int build_depth(struct l2d_engine *e, struct l2d_error *err)
{
    const struct l2d_depth_config *c = &e->model->config.depth;
    struct l2d_tensor maps = depth_maps(e), rows = BLOCK_VIEW(e, encode);
    struct l2d_tensor range = l2d_tensor_view(e->depth_range, 0, L2D_F32, 1, 1, 1, 4);
    int rc = l2d_engine_new_graph(e, &e->map_range, "depth range", err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_graph(e, &e->structure, "structure", err);
    if (rc == L2D_OK && !c->smooth)
        rc = l2d_engine_new_graph(e, &e->ring_range, "depth ranges", err);
    if (rc != L2D_OK)
        return rc;
    l2d_depth_range(e->map_range, maps, rows, range, c->smooth ? DEPTH_RATE : 1);
    if (e->ring_range)
        l2d_depth_range(e->ring_range, maps, L2D_NO_TENSOR, range, 1);
    struct l2d_tensor picture = l2d_depth_structure(e->structure, maps, rows, range,
                                                    e->geometry.canvas_height,
                                                    e->geometry.canvas_width);
    l2d_graph_probe(e->structure, picture, "structure");
    l2d_graph_enable_probes(e->structure, false);           // the picture's encode has these names
    struct l2d_tensor z = l2d_codec_encode(e->structure, &e->model->vae, &picture, 1);
    l2d_graph_enable_probes(e->structure, e->probe != NULL);
    record_structure(e, e->structure, z);
    return L2D_OK;
}

// A state with the keys and values of as many rows of words as a call has.
static void see_words(const struct l2d_engine *e, struct l2d_unet_state *state,
                      const struct l2d_engine_words *words, int32_t rows, bool sinks)
{
    for (int32_t i = 0; i < e->model->unet.num_transformers; i++)
        state->text_kv[i] = sinks ? words->sinks_text_kv[i]
                                  : l2d_tensor_rows(state->text_kv[i], 0, rows);
    if (sinks)
        state->cond.buf = e->sinks.cond;
}

int l2d_engine_build_unet(struct l2d_engine *e, struct l2d_graph **graph, const char *name,
                          int32_t num_rows, int32_t num_negative, bool warmup, bool sinks,
                          struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, graph, name, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = *graph;
    struct l2d_unet_state state = e->state, negative = e->negative;
    see_words(e, &state, &e->prompt, warmup ? 1 : num_rows, sinks);
    struct l2d_tensor ring = l2d_engine_ring(e, sinks ? e->sinks.work : e->latents);
    struct l2d_tensor x = l2d_latent_load(g, ring, state.rows, num_rows), x0 = L2D_NO_TENSOR;
    l2d_graph_probe(g, x, "x");
    struct l2d_tensor pred = l2d_unet_forward(g, &e->model->unet, &state, x, warmup);
    struct l2d_guide guide = {
        .scale = (float) e->guidance, .delta = (float) e->guidance_delta,
        .negative = L2D_NO_TENSOR, .origin = origin_ring(e, sinks),
    };
    if (num_negative > 0) {
        see_words(e, &negative, &e->negative_prompt, warmup ? 1 : num_negative, sinks);
        l2d_graph_push(g, "negative");
        l2d_graph_probe_prefix(g, "negative.");
        guide.negative = l2d_unet_forward(g, &e->model->unet, &negative,
                                          l2d_tensor_rows(x, 0, num_negative), warmup);
        l2d_graph_probe_prefix(g, "");
        l2d_graph_pop(g);
    }
    if (e->probe)
        x0 = l2d_graph_alloc(g, L2D_F32, num_rows, ring.h, ring.w, ring.c);
    l2d_lcm_step(g, pred, ring, state.rows, x0,
                 e->guidance_mode == L2D_GUIDANCE_NONE ? NULL : &guide);
    if (e->probe)
        l2d_graph_probe(g, x0, "x0");
    return L2D_OK;
}

static int build_show(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->passthrough ? L2D_OK : l2d_engine_new_graph(e, &e->show, "show", err);
    if (rc == L2D_OK && e->show)
        l2d_color_out(e->show, l2d_engine_canvas(e), BLOCK_VIEW(e, color_out),
                      bytes_view(e->out_pixels, 0, e->output->size_bytes));
    return rc;
}

static int build_decode(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, &e->decode, "decode", err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = e->decode;
    struct l2d_tensor image = l2d_engine_canvas(e);
    if (!e->passthrough) {
        image = l2d_codec_decode(g, &e->model->vae, l2d_engine_ring(e, e->latents),
                                 BLOCK_VIEW(e, decode));
        l2d_graph_probe(g, image, "image");
    }
    l2d_color_out(g, image, BLOCK_VIEW(e, color_out),
                  bytes_view(e->out_pixels, 0, e->output->size_bytes));
    return L2D_OK;
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
    int rc = size ? declare(e, &e->positions, size, L2D_MEMORY_DEVICE, "positions", err) : L2D_OK;
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

// What carries stored pictures of this size to the canvas, instead of what did before.
static int declare_input(struct l2d_engine *e, uint64_t size_bytes, struct l2d_error *err)
{
    e->input_bytes = 0;
    l2d_graph_destroy(&e->color_in);
    l2d_buf_destroy(&e->pixels);
    int rc = declare(e, &e->pixels, size_bytes, L2D_MEMORY_DEVICE, "input pixels", err);
    struct l2d_tensor pixels = rc == L2D_OK ? bytes_view(e->pixels, 0, size_bytes) : L2D_NO_TENSOR;
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++) {
        struct l2d_engine_slot *s = &e->slot[i];
        l2d_graph_destroy(&s->upload_pixels);
        l2d_buf_destroy(&s->pixels);
        rc = declare(e, &s->pixels, size_bytes, L2D_MEMORY_UPLOAD, "staged pixels", err);
        if (rc == L2D_OK)
            rc = l2d_engine_copy_graph(e, &s->upload_pixels, "upload pixels", pixels,
                                       bytes_view(s->pixels, 0, size_bytes), err);
    }
    if (rc == L2D_OK)
        rc = l2d_engine_new_graph(e, &e->color_in, "color_in", err);
    if (rc != L2D_OK)
        return rc;
    l2d_color_in(e->color_in, pixels, BLOCK_VIEW(e, color_in), l2d_engine_canvas(e));
    e->input_bytes = size_bytes;
    return L2D_OK;
}

int l2d_engine_resize_input(struct l2d_engine *e, uint64_t size_bytes, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++)
        if (e->slot[i].busy)
            rc = l2d_gpu_wait(e->gpu, e->slot[i].ticket, err);
    if (rc == L2D_OK)
        rc = declare_input(e, size_bytes, err);
    if (rc == L2D_OK)
        rc = take(e->pixels, err);
    if (rc == L2D_OK)
        rc = finish_small(e->color_in, err);
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++) {
        rc = take(e->slot[i].pixels, err);
        if (rc == L2D_OK)
            rc = finish_small(e->slot[i].upload_pixels, err);
    }
    return rc;
}

static int declare_slots(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = L2D_OK;
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS && rc == L2D_OK; i++) {
        struct l2d_engine_slot *s = &e->slot[i];
        uint64_t block = sizeof(struct l2d_frame_block), out = e->output->size_bytes;
        rc = declare(e, &s->params, block, L2D_MEMORY_UPLOAD, "staged params", err);
        if (rc == L2D_OK)
            rc = declare(e, &s->readback, out, L2D_MEMORY_READBACK, "readback", err);
        if (rc == L2D_OK)
            rc = l2d_engine_copy_graph(e, &s->upload_params, "upload params",
                                       bytes_view(e->params, 0, block),
                                       bytes_view(s->params, 0, block), err);
        if (rc == L2D_OK)
            rc = l2d_engine_copy_graph(e, &s->download, "download", bytes_view(s->readback, 0, out),
                                       bytes_view(e->out_pixels, 0, out), err);
    }
    return rc;
}

// Pictures of unknown size are taken for I420 as large as the result; another one brings its own.
static int declare_first_input(struct l2d_engine *e, const struct l2d_engine_params *p,
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

// One activation buffer for the transients of all graphs, which never run at the same time.
// at_least: other use of it.
static int plan_activations(struct l2d_engine *e, uint64_t at_least, struct l2d_error *err)
{
    struct l2d_graph **graph[L2D_ENGINE_MAX_GRAPHS];
    uint32_t count = l2d_engine_graphs(e, graph);
    uint64_t most = at_least > 256 ? at_least : 256;
    int rc = L2D_OK;
    for (uint32_t i = 0; i < count && rc == L2D_OK; i++) {
        uint64_t size = 0;
        if (*graph[i])
            rc = l2d_graph_plan(*graph[i], &size, err);
        most = size > most ? size : most;
    }
    return rc == L2D_OK ? declare(e, &e->activations, most, L2D_MEMORY_DEVICE, "activations", err)
                        : rc;
}

// ---- create

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
    if (e->passthrough && !w) {
        w = (p->input_width + 1) & ~1;
        h = (p->input_height + 1) & ~1;
    }
    if (!e->passthrough) {
        const struct l2d_model_config *c = &e->model->config;
        align = l2d_model_config_align(c);
        if (!w && shown_w > 0 && shown_h > 0)
            l2d_geometry_choose_size(shown_w, shown_h, (double) c->width * c->height, align, &w,
                                     &h);
        else if (!w) {
            w = c->width;
            h = c->height;
        }
    }
    if (w < 2 || h < 2 || w % 2 || h % 2 || w > L2D_FRAME_MAX_DIM || h > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "output size %dx%d: both sides must be even numbers "
                             "from 2 to %d", w, h, L2D_FRAME_MAX_DIM);
    e->geometry = l2d_geometry_make(w, h, align);
    if (e->geometry.canvas_width > L2D_FRAME_MAX_DIM ||
        e->geometry.canvas_height > L2D_FRAME_MAX_DIM)
        return l2d_error_set(err, L2D_EINVAL, "output size %dx%d is too large", w, h);

    enum l2d_matrix matrix = p->matrix != L2D_MATRIX_RGB ? p->matrix
                           : h < 720 ? L2D_MATRIX_BT601 : L2D_MATRIX_BT709;
    struct l2d_pixel_format format = p->rgba ? l2d_pixel_format_rgba8()
                                             : l2d_pixel_format_i420(matrix, p->full_range);
    e->info.width = w;
    e->info.height = h;
    e->info.canvas_width = e->geometry.canvas_width;
    e->info.canvas_height = e->geometry.canvas_height;
    e->info.matrix = matrix;
    return l2d_frame_create(&e->output, w, h, &format, err);
}

// A range that is all 0 is none yet: the stream begins.
static int declare_depth(struct l2d_engine *e, struct l2d_error *err)
{
    if (e->model->config.structure != L2D_STRUCTURE_DEPTH)
        return L2D_OK;
    struct l2d_tensor maps = depth_maps(e);
    int rc = declare(e, &e->depth_maps, l2d_tensor_bytes(&maps), L2D_MEMORY_DEVICE, "depth maps",
                     err);
    if (rc == L2D_OK)
        rc = declare(e, &e->depth_range, 16, L2D_MEMORY_DEVICE, "depth range", err);
    return rc;
}

static int declare_model_state(struct l2d_engine *e, uint64_t *positions_bytes,
                               struct l2d_error *err)
{
    const struct l2d_model_config *c = &e->model->config;
    int32_t h = level_h(e, 0), w = level_w(e, 0), c0 = c->unet.block_out_channels[0];
    uint64_t pixels = (uint64_t) h * (uint64_t) w;
    int rc = declare_caches(e, &e->state, e->cache, e->max_steps, err);
    if (rc == L2D_OK)
        rc = declare_step_bias(e, err);
    if (rc == L2D_OK)
        rc = l2d_words_declare(e, &e->prompt, "prompt", &e->state, e->sequential ? 1 : e->max_steps,
                               err);
    if (rc == L2D_OK)
        rc = declare(e, &e->latents, L2D_RING * pixels * (uint64_t) c->vae.latent_channels * 4,
                  L2D_MEMORY_DEVICE, "latents", err);
    if (rc == L2D_OK)
        rc = declare(e, &e->cond, L2D_RING * pixels * (uint64_t) c0 * l2d_dtype_bytes(e->precision),
                  L2D_MEMORY_DEVICE, "condition maps", err);
    if (rc == L2D_OK)
        rc = declare_depth(e, err);
    if (rc == L2D_OK)
        rc = declare(e, &e->rows, sizeof(struct l2d_row_params) * L2D_MAX_ROWS, L2D_MEMORY_DEVICE,
                  "rows", err);
    if (rc != L2D_OK)
        return rc;
    e->state.rows = bytes_view(e->rows, 0, sizeof(struct l2d_row_params) * L2D_MAX_ROWS);
    e->state.cond = l2d_tensor_view(e->cond, 0, e->precision, L2D_RING, h, w, c0);
    rc = declare_positions(e, positions_bytes, err);
    if (rc == L2D_OK)
        rc = declare_guidance(e, err);
    return rc == L2D_OK ? l2d_sinks_declare(e, err) : rc;
}

// Calls of the UNet. The negative prompt of INITIALIZE has its part in those of step 0 only: in a
// batch that is row 0, otherwise graphs of their own.
static int build_unets(struct l2d_engine *e, struct l2d_error *err)
{
    bool full = e->guidance_mode == L2D_GUIDANCE_FULL;
    bool first = e->guidance_mode == L2D_GUIDANCE_INITIALIZE;
    int rc = l2d_engine_build_unet(e, &e->warm, "warmup", L2D_SINKS, full ? L2D_SINKS : 0, true,
                                   false, err);
    for (uint32_t i = 0; i < e->info.num_step_sets && rc == L2D_OK; i++) {
        int32_t rows = e->sequential ? 1 : e->set[i].num_steps;
        if (!e->stream[rows - 1])
            rc = l2d_engine_build_unet(e, &e->stream[rows - 1], "unet", rows,
                                       full ? rows : first && !e->sequential, false, false, err);
    }
    if (rc == L2D_OK && first)
        rc = l2d_engine_build_unet(e, &e->warm_first, "warmup of step 0", L2D_SINKS, L2D_SINKS,
                                   true, false, err);
    if (rc == L2D_OK && first && e->sequential)
        rc = l2d_engine_build_unet(e, &e->stream_first, "unet of step 0", 1, 1, false, false, err);
    return rc;
}

static int build_model_graphs(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = build_encode(e, err);
    if (rc == L2D_OK && e->model->config.structure == L2D_STRUCTURE_DEPTH)
        rc = build_depth(e, err);
    if (rc == L2D_OK)
        rc = build_unets(e, err);
    if (rc == L2D_OK)
        rc = l2d_words_build(e, &e->prompt, &e->state, err);
    if (rc == L2D_OK && l2d_engine_negative_steps(e) > 0)
        rc = l2d_words_build(e, &e->negative_prompt, &e->negative, err);
    if (rc == L2D_OK)
        rc = l2d_sinks_build(e, err);
    for (int32_t k = 0; k < e->max_steps && rc == L2D_OK; k++)
        rc = l2d_engine_copy_graph(e, &e->select[k], "select", e->state.rows,
                                   BLOCK_VIEW(e, set[k]), err);
    return rc;
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
    int rc = e->model ? L2D_OK : l2d_model_create(&e->model, p->model, e->gpu, e->precision, err);
    if (rc != L2D_OK)
        return rc;
    const struct l2d_model_config *c = &e->model->config;
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
    const struct l2d_graph *call = e->stream[e->sequential ? 0 : e->schedule.num_steps - 1];
    double unet = l2d_graph_flops(call) * 1e-9;
    i->dispatches_unet = l2d_graph_dispatches(call);
    i->gflop_unet = unet * (e->sequential ? e->schedule.num_steps : 1);
    if (e->stream_first)
        i->gflop_unet += l2d_graph_flops(e->stream_first) * 1e-9 - unet;
    i->gflop_decode = l2d_graph_flops(e->decode) * 1e-9;
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
        rc = declare(e, &e->params, sizeof(struct l2d_frame_block), L2D_MEMORY_DEVICE, "params",
                     err);
    if (rc == L2D_OK)
        rc = declare(e, &e->canvas, (uint64_t) e->geometry.canvas_width *
                     (uint64_t) e->geometry.canvas_height * 16, L2D_MEMORY_DEVICE, "canvas", err);
    if (rc == L2D_OK)
        rc = declare(e, &e->out_pixels, e->output->size_bytes, L2D_MEMORY_DEVICE, "output pixels",
                     err);
    if (rc == L2D_OK)
        rc = declare_first_input(e, p, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = declare_model_state(e, &positions_bytes, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = build_model_graphs(e, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_declare_filter(e, p->skip_similar, err);
    if (rc == L2D_OK)
        rc = build_decode(e, err);
    if (rc == L2D_OK)
        rc = build_show(e, err);
    if (rc == L2D_OK)
        rc = declare_slots(e, err);
    if (rc == L2D_OK)
        rc = plan_activations(e, positions_bytes, err);
    if (rc != L2D_OK)
        return rc;
    if (!e->passthrough)
        count_flops(e);
    l2d_engine_count_memory(e);
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
    e->sequential = params->batching == L2D_SEQUENTIAL;
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
    int rc = plan(e, params, err);
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
    struct l2d_graph **graph[L2D_ENGINE_MAX_GRAPHS];
    uint32_t count = l2d_engine_graphs(e, graph);
    double begin = l2d_clock_s();
    int rc = L2D_OK;
    for (uint32_t i = 0; i < count && rc == L2D_OK; i++)
        if (*graph[i])
            rc = l2d_graph_declare_programs(*graph[i], err);
    if (rc == L2D_OK)
        rc = l2d_gpu_make_programs(e->gpu, err);
    note_phase(e, "pipelines", begin);
    return rc;
}

// Take all memory and fill it.
static int load(struct l2d_engine *e, const struct l2d_engine_params *p, struct l2d_error *err)
{
    struct l2d_buf **buf[L2D_ENGINE_MAX_BUFFERS];
    struct l2d_graph **graph[L2D_ENGINE_MAX_GRAPHS];
    uint32_t num_bufs = l2d_engine_buffers(e, buf), num_graphs = l2d_engine_graphs(e, graph);
    int rc = e->passthrough ? L2D_OK : upload_weights(e, err);
    if (rc == L2D_OK)
        rc = make_programs(e, err);
    double begin = l2d_clock_s();
    for (uint32_t i = 0; i < num_bufs && rc == L2D_OK; i++)
        if (*buf[i])
            rc = take(*buf[i], err);
    if (rc != L2D_OK)
        return rc;
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS; i++)
        memset(e->slot[i].params->mapped, 0, e->slot[i].params->size_bytes);
    if (!e->passthrough)
        rc = l2d_engine_compute_step_bias(e, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_use_steps(e, 0, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_compute_positions(e, err);
    begin = note_phase(e, "memory of activations and state", begin);
    for (uint32_t i = 0; i < num_graphs && rc == L2D_OK; i++)
        if (*graph[i])
            rc = l2d_graph_finish(*graph[i], e->activations, err);
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
    for (uint32_t i = 0; i < L2D_ENGINE_SLOTS; i++)
        if (e->slot[i].busy)
            l2d_gpu_wait(e->gpu, e->slot[i].ticket, NULL);
    l2d_engine_forget_loras(e);
    struct l2d_graph **graph[L2D_ENGINE_MAX_GRAPHS];
    struct l2d_buf **buf[L2D_ENGINE_MAX_BUFFERS];
    uint32_t num_bufs = l2d_engine_buffers(e, buf), num_graphs = l2d_engine_graphs(e, graph);
    for (uint32_t i = 0; i < num_graphs; i++)
        l2d_graph_destroy(graph[i]);
    for (uint32_t i = 0; i < num_bufs; i++)
        l2d_buf_destroy(buf[i]);
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
