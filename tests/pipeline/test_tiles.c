// SPDX-License-Identifier: Apache-2.0
// AutoencoderKL in tiles: exactly what coding each tile by itself and fading them into each other
// gives, the nearer to the whole the larger they are where all parts of a picture are alike (the
// weights are random: trained ones are kinder), and no tiles where it fits.
#include <criterion/criterion.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/buffer.h"
#include "gpu/device.h"
#include "pipeline/models/model.h"
#include "ref/ref.h"
#include "support/golden_model.h"

#define LATENT_BYTES (24 * 64 * 4)      // of narrowd's widest tensor: 24 channels of 8x8 pixels
#define ENCODER_BYTES (16 * 64 * 4)
#define WHOLE 0
#define RING 10

static struct golden_model folder;
static struct l2d_error err;

static void remove_model(void)
{
    golden_model_remove(&folder);
}

TestSuite(tiles, .fini = remove_model);

struct codec {
    struct l2d_gpu *gpu;
    struct l2d_model *model;
};

// On a device that binds so much at once.
static struct codec open_codec(uint64_t max_range_bytes)
{
    struct codec c;
    cr_assert_eq(l2d_gpu_create(&c.gpu, &(struct l2d_gpu_params) {
        .max_range_bytes = max_range_bytes,
    }, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_model_create(&c.model, folder.dir, c.gpu, L2D_F32, false, &err), L2D_OK, "%s",
                 err.msg);
    // Far from where pictures are clipped, which is after the fading.
    l2d_ld_scale(c.model->weights, &c.model->vae.kl.decoder.conv_out, 0.02f);
    cr_assert_eq(l2d_weights_upload(c.model->weights, &err), L2D_OK, "%s", err.msg);
    return c;
}

static void close_codec(struct codec *c)
{
    l2d_model_destroy(&c->model);
    l2d_gpu_destroy(&c->gpu);
}

// Pixels [8h,8w,4] to latents [h,w,4], or back. returns the result, to be freed.
static float *code(struct codec *c, bool down, const float *from, int h, int w)
{
    struct l2d_buf *in = NULL, *rows = NULL, *activations = NULL;
    struct l2d_graph *g = NULL;
    uint64_t latents = (uint64_t) (h * w) * 4, pixels = 64 * latents, size;
    uint64_t in_count = down ? pixels : latents, count = down ? latents : pixels;
    float *to = malloc(count * sizeof(*to));
    cr_assert_not_null(to);
    cr_assert_eq(l2d_buf_create(&in, c->gpu, 4 * in_count * (down ? 1 : RING),
                                L2D_MEMORY_DEVICE, "in", &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_buf_create(&rows, c->gpu, sizeof(struct l2d_row_params), L2D_MEMORY_DEVICE,
                                "rows", &err), L2D_OK);
    cr_assert_eq(l2d_buf_fill(rows, 0, rows->size_bytes, 0, &err), L2D_OK);
    cr_assert_eq(l2d_buf_write(in, 0, from, 4 * in_count, &err), L2D_OK);
    cr_assert_eq(l2d_graph_create(&g, c->gpu, L2D_F32, "codec", &err), L2D_OK);
    l2d_graph_enable_probes(g, true);
    struct l2d_tensor image = l2d_tensor_view(in, 0, L2D_F32, 1, 8 * h, 8 * w, 4);
    struct l2d_tensor ring = l2d_tensor_view(in, 0, L2D_F32, RING, h, w, 4);
    struct l2d_tensor row = l2d_tensor_view(rows, 0, L2D_U32, 1, 1, 1,
                                            (int32_t) (sizeof(struct l2d_row_params) / 4));
    l2d_graph_probe(g, down ? l2d_codec_encode(g, &c->model->vae, &image, 1)
                            : l2d_codec_decode(g, &c->model->vae, ring, row), "result");
    cr_assert_eq(l2d_graph_plan(g, &size, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_buf_create(&activations, c->gpu, size, L2D_MEMORY_DEVICE, "act", &err),
                 L2D_OK);
    cr_assert_eq(l2d_graph_finish(g, activations, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_graph_run(g, &err), L2D_OK, "%s", err.msg);
    const struct l2d_tensor *y = &l2d_graph_probe_at(g, l2d_graph_num_probes(g) - 1)->tensor;
    cr_assert_eq(l2d_tensor_count(y), count);
    cr_assert_eq(l2d_buf_read(y->buf, y->offset_bytes, to, 4 * count, &err), L2D_OK);
    l2d_graph_destroy(&g);
    l2d_buf_destroy(&activations);
    l2d_buf_destroy(&rows);
    l2d_buf_destroy(&in);
    return to;
}

// A wave in each of four channels, some pixels or latents long: every tile has as much of it.
static float *waves(int h, int w, int unit)
{
    float *v = malloc((size_t) (h * w * 4) * sizeof(*v));
    cr_assert_not_null(v);
    for (int y = 0; y < h; y++)
        for (int x = 0; x < w; x++)
            for (int k = 0; k < 4; k++)
                v[(y * w + x) * 4 + k] = (float) (0.8 * sin(6.3 * x / (unit * (k + 3)) + k) *
                                                  cos(6.3 * y / (unit * 4)));
    return v;
}

static double distance(const float *a, const float *b, int count)
{
    double diff = 0, size = 0;
    for (int i = 0; i < count; i++) {
        diff += ((double) a[i] - (double) b[i]) * ((double) a[i] - (double) b[i]);
        size += (double) b[i] * (double) b[i];
    }
    return sqrt(diff / size);
}

// A side in tiles of at most so many latents, of which a quarter is shared.
static const struct side { int most, whole, count, size, begin[3]; } sides[] = {
    { 24, 40, 2, 23, { 0, 17 } }, { 24, 60, 3, 24, { 0, 18, 36 } }, { 24, 24, 1, 24, { 0 } },
    { 44, 72, 2, 42, { 0, 30 } }, { 44, 96, 3, 40, { 0, 28, 56 } },
};

static int shared(const struct side *s, int i)      // with the tile before i
{
    return i > 0 && i < s->count ? s->begin[i - 1] + s->size - s->begin[i] : 0;
}

static void check_tiles(bool down, const struct side *y, const struct side *x, double limit)
{
    uint64_t range = (uint64_t) (y->most * y->most * (down ? ENCODER_BYTES : LATENT_BYTES));
    struct codec all = open_codec(WHOLE), tiled = open_codec(range);
    int in = down ? 8 : 1, out = down ? 1 : 8, h = y->whole, w = x->whole;
    int count = h * w * out * out * 4;
    float *from = waves(h * in, w * in, in);
    float *whole = code(&all, down, from, h, w), *got = code(&tiled, down, from, h, w);
    float *want = calloc((size_t) count, sizeof(*want));
    float *cut = malloc((size_t) (y->size * x->size * in * in * 4) * sizeof(*cut));
    for (int i = 0; i < y->count; i++)
        for (int j = 0; j < x->count; j++) {
            struct l2d_ref_tile here = {
                .left = in * x->begin[j], .top = in * y->begin[i],
                .w = in * x->size, .h = in * y->size,
            };
            struct l2d_ref_tile there = {
                out * x->begin[j], out * y->begin[i], out * x->size, out * y->size,
                out * shared(x, j), out * shared(x, j + 1), out * shared(y, i),
                out * shared(y, i + 1),
            };
            l2d_ref_tile_cut(cut, from, 1, h * in, w * in, 4, &here);
            float *part = code(&all, down, cut, y->size, x->size);
            l2d_ref_tile_paste(want, part, 1, h * out, w * out, 4, &there);
            free(part);
        }
    const char *what = down ? "encode" : "decode";
    double exact = distance(got, want, count), near = distance(got, whole, count);
    fprintf(stderr, "%s, %dx%d latents: %.2g from its tiles, %.2g from the whole\n", what, w, h,
            exact, near);
    cr_assert(exact < 1e-5, "%s: %g from its tiles", what, exact);
    cr_assert(near > 1e-6 && near < limit, "%s: %g from the whole", what, near);
    free(from);
    free(whole);
    free(got);
    free(want);
    free(cut);
    close_codec(&all);
    close_codec(&tiled);
}

Test(tiles, decode)
{
    golden_model_make(&folder, "narrowd");
    check_tiles(false, &sides[0], &sides[1], 0.6);
    check_tiles(false, &sides[2], &sides[0], 0.6);
    check_tiles(false, &sides[3], &sides[4], 0.3);
}

Test(tiles, encode)
{
    golden_model_make(&folder, "narrowd");
    check_tiles(true, &sides[0], &sides[2], 0.6);
    check_tiles(true, &sides[4], &sides[3], 0.2);
}

// What the device just binds is coded whole, bit for bit.
Test(tiles, small_pictures_have_none)
{
    golden_model_make(&folder, "narrowd");
    for (int down = 0; down < 2; down++) {
        uint64_t range = 24 * 40 * (uint64_t) (down ? ENCODER_BYTES : LATENT_BYTES);
        struct codec all = open_codec(WHOLE), just = open_codec(range);
        struct codec less = open_codec(range - 4);
        int in = down ? 8 : 1, count = 24 * 40 * (down ? 1 : 64) * 4;
        float *from = waves(24 * in, 40 * in, in);
        float *whole = code(&all, down, from, 24, 40), *same = code(&just, down, from, 24, 40);
        float *other = code(&less, down, from, 24, 40);
        cr_assert(memcmp(whole, same, (size_t) count * sizeof(*whole)) == 0);
        cr_assert(memcmp(whole, other, (size_t) count * sizeof(*whole)) != 0);
        free(from);
        free(whole);
        free(same);
        free(other);
        close_codec(&all);
        close_codec(&just);
        close_codec(&less);
    }
}
