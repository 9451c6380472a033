// SPDX-License-Identifier: Apache-2.0
// The graphs that an engine submits for its frames. See engine_state.h.
#include "pipeline/engine_state.h"

#include <assert.h>

#define DEPTH_RATE 0.1f             // what a frame's range adds to the smoothed one

struct l2d_tensor l2d_engine_bytes(struct l2d_buf *buf, uint64_t offset, uint64_t size)
{
    return l2d_tensor_view(buf, offset, L2D_U32, 1, 1, 1, (int32_t) ((size + 3) / 4));
}

int l2d_engine_new_graph(struct l2d_engine *e, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err)
{
    uint32_t i = 0;
    while (i < e->num_graphs && e->graph[i] != graph)
        i++;
    assert(i < L2D_ENGINE_MAX_GRAPHS);
    int rc = l2d_graph_create(graph, e->gpu, e->precision, name, err);
    if (rc == L2D_OK && i == e->num_graphs)
        e->graph[e->num_graphs++] = graph;
    if (rc == L2D_OK && e->probe)
        l2d_graph_enable_probes(*graph, true);
    return rc;
}

int l2d_engine_new_ahead(struct l2d_engine *e, struct l2d_graph **graph, const char *name,
                         struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, graph, name, err);
    if (rc == L2D_OK)
        l2d_graph_set_lane(*graph, L2D_LANE_AHEAD);
    return rc;
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
    return buf ? l2d_tensor_view(buf, 0, L2D_F32, (int32_t) e->ring, l2d_engine_level_h(e, 0),
                                 l2d_engine_level_w(e, 0),
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

struct l2d_tensor l2d_engine_depth_maps(const struct l2d_engine *e)
{
    int32_t side = e->model->config.depth.dpt.input_size;
    return l2d_tensor_view(e->depth_maps, 0, e->precision, (int32_t) e->ring, side, side, 4);
}

// Probes are of one frame.
struct l2d_tensor l2d_engine_depth_inputs(const struct l2d_engine *e)
{
    struct l2d_tensor inputs = l2d_engine_depth_maps(e);
    inputs.buf = e->depth_inputs;
    inputs.rows = e->chunk > 1 && !e->probe ? (int32_t) e->chunk : 0;
    return inputs;
}

static struct l2d_tensor depth_input(const struct l2d_engine *e)
{
    struct l2d_tensor input = l2d_engine_depth_maps(e);
    input.buf = e->depth_input;
    input.rows = 1;
    return input;
}

// The structure latent of a frame is mapped for the denoiser.
static void record_structure(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor row,
                             struct l2d_tensor latent)
{
    l2d_graph_probe(g, latent, "latent.structure");
    l2d_unet_record_cond(g, &e->model->unet, &e->state, row, latent);
}

// To the frame's map, or, where maps are made of several frames together, just to what they are
// made of.
static void record_depth(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor picture)
{
    struct l2d_tensor input = l2d_dpt_input(g, &e->model->depth, picture);
    if (e->depth_input)
        l2d_graph_copy(g, depth_input(e), input);
    else
        l2d_dpt_record(g, &e->model->depth, input, L2D_BLOCK_VIEW(e, encode),
                       l2d_engine_depth_maps(e));
}

static int build_encode(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = l2d_engine_new_ahead(e, &e->encode, "encode", err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = e->encode;
    struct l2d_tensor rows = L2D_BLOCK_VIEW(e, encode);
    struct l2d_tensor images[2] = { l2d_engine_canvas(e) };
    int32_t num_images = 1;
    bool mapped = e->model->config.unet.cond_mapping;
    if (e->model->config.structure == L2D_STRUCTURE_DEPTH)
        record_depth(e, g, images[0]);
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
        record_structure(e, g, rows, l2d_tensor_rows(z, num_images - 1, 1));
    return L2D_OK;
}

static struct l2d_tensor depth_range(const struct l2d_engine *e)
{
    return l2d_tensor_view(e->depth_range, 0, L2D_F32, 1, 1, 1, 4);
}

static void record_range(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor row)
{
    l2d_depth_range(g, l2d_engine_depth_maps(e), row, depth_range(e),
                    e->model->config.depth.smooth ? DEPTH_RATE : 1);
}

static void record_depth_structure(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor row)
{
    struct l2d_tensor picture = l2d_depth_structure(g, l2d_engine_depth_maps(e), row,
                                                    depth_range(e), e->geometry.canvas_height,
                                                    e->geometry.canvas_width);
    l2d_graph_probe(g, picture, "structure");
    l2d_graph_enable_probes(g, false);          // the picture's encode has these names
    struct l2d_tensor z = l2d_codec_encode(g, &e->model->vae, &picture, 1);
    l2d_graph_enable_probes(g, e->probe != NULL);
    record_structure(e, g, row, z);
}

// In chunks: the frames' maps together, which a GPU is not full with one of, then what follows for
// each in its turn; and the same for one frame by itself.
static int build_depths(struct l2d_engine *e, struct l2d_error *err)
{
    struct l2d_tensor inputs = l2d_engine_depth_inputs(e), maps = l2d_engine_depth_maps(e);
    int rc = l2d_engine_new_ahead(e, &e->depth, "depth", err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_ahead(e, &e->depths, "depths of a chunk", err);
    for (int32_t i = 0; i < inputs.rows && rc == L2D_OK; i++) {
        rc = l2d_engine_new_ahead(e, &e->put_depth[i], "put depth", err);
        if (rc == L2D_OK)
            rc = l2d_engine_new_ahead(e, &e->take_depth[i], "take depth", err);
        if (rc != L2D_OK)
            break;
        l2d_graph_copy(e->put_depth[i], l2d_tensor_rows(inputs, i, 1), depth_input(e));
        l2d_graph_copy(e->take_depth[i], depth_input(e), l2d_tensor_rows(inputs, i, 1));
    }
    if (rc != L2D_OK)
        return rc;
    l2d_dpt_record(e->depth, &e->model->depth, depth_input(e), L2D_BLOCK_VIEW(e, encode), maps);
    for (int32_t i = 0; i < inputs.rows; i += L2D_DPT_MAX_ROWS) {
        int32_t left = inputs.rows - i, rows = left < L2D_DPT_MAX_ROWS ? left : L2D_DPT_MAX_ROWS;
        l2d_dpt_record(e->depths, &e->model->depth, l2d_tensor_rows(inputs, i, rows),
                       L2D_BLOCK_VIEW(e, together[i / L2D_DPT_MAX_ROWS]), maps);
    }
    for (int32_t i = 0; i < inputs.rows; i++) {
        record_range(e, e->depths, L2D_BLOCK_VIEW(e, each[i]));
        record_depth_structure(e, e->depths, L2D_BLOCK_VIEW(e, each[i]));
    }
    return L2D_OK;
}

// What becomes of a depth map is apart from its making: in the warm-up all maps come first.
static int build_depth(struct l2d_engine *e, struct l2d_error *err)
{
    const struct l2d_depth_config *c = &e->model->config.depth;
    struct l2d_tensor row = L2D_BLOCK_VIEW(e, encode);
    int rc = l2d_engine_new_ahead(e, &e->map_range, "depth range", err);
    if (rc == L2D_OK)
        rc = l2d_engine_new_ahead(e, &e->structure, "structure", err);
    if (rc == L2D_OK && !c->smooth)
        rc = l2d_engine_new_ahead(e, &e->ring_range, "depth ranges", err);
    if (rc != L2D_OK)
        return rc;
    record_range(e, e->map_range, row);
    if (e->ring_range)
        l2d_depth_range(e->ring_range, l2d_engine_depth_maps(e), L2D_NO_TENSOR, depth_range(e), 1);
    record_depth_structure(e, e->structure, row);
    return e->depth_inputs ? build_depths(e, err) : L2D_OK;
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
                          int32_t num_rows, int32_t num_negative, enum l2d_row_order order,
                          bool sinks, struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, graph, name, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = *graph;
    struct l2d_unet_state state = e->state, negative = e->negative;
    bool apart = order == L2D_ROWS_APART;
    state.order = negative.order = order;
    see_words(e, &state, &e->prompt, apart ? num_rows : 1, sinks);
    struct l2d_tensor ring = l2d_engine_ring(e, sinks ? e->sinks.work : e->latents);
    struct l2d_tensor x = l2d_latent_load(g, ring, state.rows, num_rows), x0 = L2D_NO_TENSOR;
    l2d_graph_probe(g, x, "x");
    struct l2d_tensor pred = l2d_unet_forward(g, &e->model->unet, &state, x);
    struct l2d_guide guide = {
        .scale = (float) e->guidance, .delta = (float) e->guidance_delta,
        .negative = L2D_NO_TENSOR, .origin = origin_ring(e, sinks),
    };
    if (num_negative > 0) {
        see_words(e, &negative, &e->negative_prompt, apart ? num_negative : 1, sinks);
        l2d_graph_push(g, "negative");
        l2d_graph_probe_prefix(g, "negative.");
        guide.negative = l2d_unet_forward(g, &e->model->unet, &negative,
                                          l2d_tensor_rows(x, 0, num_negative));
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

// The picture that comes out.
static void record_output(struct l2d_engine *e, struct l2d_graph *g, struct l2d_tensor picture)
{
    int32_t w = e->geometry.out_canvas_width, h = e->geometry.out_canvas_height;
    if (w != picture.w || h != picture.h)
        picture = l2d_enlarge(g, picture, h, w);
    struct l2d_under under = { L2D_NO_TENSOR, L2D_NO_TENSOR };
    if (e->sources)
        under.packed = under.mask = l2d_engine_whole(e->sources);
    if (e->mask)
        under.mask = l2d_engine_whole(e->mask);
    l2d_color_out(g, picture, L2D_BLOCK_VIEW(e, color_out),
                  l2d_engine_bytes(e->out_pixels, 0, e->output->size_bytes),
                  e->sources ? &under : NULL);
}

static int build_show(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->passthrough ? L2D_OK : l2d_engine_new_graph(e, &e->show, "show", err);
    if (rc == L2D_OK && e->show)
        record_output(e, e->show, l2d_engine_canvas(e));
    return rc;
}

static int build_move(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->draw_every > 1 ? l2d_engine_new_graph(e, &e->move, "move", err) : L2D_OK;
    if (rc == L2D_OK && e->move)
        record_output(e, e->move, l2d_engine_record_move(e, e->move));
    return rc;
}

static int build_decode(struct l2d_engine *e, struct l2d_graph **graph, bool steady,
                        struct l2d_error *err)
{
    int rc = l2d_engine_new_graph(e, graph, "decode", err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_graph *g = *graph;
    struct l2d_tensor image = l2d_engine_canvas(e);
    if (!e->passthrough) {
        image = l2d_codec_decode(g, &e->model->vae, l2d_engine_ring(e, e->latents),
                                 L2D_BLOCK_VIEW(e, decode));
        l2d_graph_probe(g, image, "image");
    }
    if (steady)
        image = l2d_engine_record_steady(e, g, image);
    record_output(e, g, image);
    return L2D_OK;
}

// Calls of the UNet. The negative prompt of INITIALIZE has its part in those of step 0 only: in a
// batch that is row 0, otherwise graphs of their own.
static int build_unets(struct l2d_engine *e, struct l2d_error *err)
{
    bool full = e->guidance_mode == L2D_GUIDANCE_FULL;
    bool first = e->guidance_mode == L2D_GUIDANCE_INITIALIZE;
    int32_t chunk = e->chunk > 1 ? (int32_t) e->chunk : 0;
    int rc = l2d_engine_build_unet(e, &e->warm, "warmup", L2D_SINKS, full ? L2D_SINKS : 0,
                                   L2D_ROWS_WARMUP, false, err);
    for (uint32_t i = 0; i < e->info.num_step_sets && rc == L2D_OK; i++) {
        int32_t rows = e->sequential ? 1 : e->set[i].num_steps;
        if (!e->stream[rows - 1])
            rc = l2d_engine_build_unet(e, &e->stream[rows - 1], "unet", rows,
                                       full ? rows : first && !e->sequential, L2D_ROWS_APART, false,
                                       err);
    }
    if (rc == L2D_OK && first)
        rc = l2d_engine_build_unet(e, &e->warm_first, "warmup of step 0", L2D_SINKS, L2D_SINKS,
                                   L2D_ROWS_WARMUP, false, err);
    if (rc == L2D_OK && first && e->sequential)
        rc = l2d_engine_build_unet(e, &e->stream_first, "unet of step 0", 1, 1, L2D_ROWS_APART,
                                   false, err);
    if (rc == L2D_OK && chunk)
        rc = l2d_engine_build_unet(e, &e->in_chunk, "unet of a chunk", chunk, full ? chunk : 0,
                                   L2D_ROWS_IN_TURN, false, err);
    if (rc == L2D_OK && chunk && first)
        rc = l2d_engine_build_unet(e, &e->in_chunk_first, "unet of step 0 of a chunk", chunk,
                                   chunk, L2D_ROWS_IN_TURN, false, err);
    return rc;
}

struct l2d_graph *l2d_engine_stream_call(const struct l2d_engine *e)
{
    return e->in_chunk ? e->in_chunk : e->stream[e->sequential ? 0 : e->schedule.num_steps - 1];
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
                                   L2D_BLOCK_VIEW(e, set[k]), err);
    return rc;
}

int l2d_engine_build_graphs(struct l2d_engine *e, struct l2d_error *err)
{
    int rc = e->passthrough ? L2D_OK : build_model_graphs(e, err);
    if (rc == L2D_OK)
        rc = build_decode(e, &e->decode, false, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = build_decode(e, &e->decode_steady, true, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = l2d_engine_build_track(e, err);
    if (rc == L2D_OK && !e->passthrough)
        rc = build_move(e, err);
    return rc == L2D_OK ? build_show(e, err) : rc;
}
