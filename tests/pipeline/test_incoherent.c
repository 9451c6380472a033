// SPDX-License-Identifier: Apache-2.0
// Pictures on their way back through memory that the host sees as it was when it last invalidated
// its cache.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/device.h"
#include "pipeline/engine.h"
#include "support/discrete.h"

#define W 64
#define H 32
#define FRAMES 6

static struct l2d_error err;
static int num_out;

static uint8_t luma_of(int frame)
{
    return (uint8_t) (40 + 30 * frame);
}

static void check_frame(void *user, struct l2d_frame *frame)
{
    (void) user;
    for (int i = 0; i < W * H; i++)
        cr_assert(abs(frame->data[i] - luma_of(num_out)) <= 1, "frame %d, pixel %d: %d", num_out, i,
                  frame->data[i]);
    num_out++;
    l2d_frame_unref(&frame);
}

Test(incoherent, every_picture_is_its_own)
{
    struct l2d_gpu *gpu = NULL;
    struct l2d_engine *engine = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    discrete.is_incoherent = true;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), L2D_OK,
                 "%s", err.msg);
    cr_assert_eq(l2d_engine_create(&engine, gpu, &(struct l2d_engine_params) {
        .width = W, .height = H, .emit = check_frame,
    }, &err), L2D_OK, "%s", err.msg);
    for (int i = 0; i < FRAMES; i++) {
        struct l2d_frame *frame = NULL;
        cr_assert_eq(l2d_frame_create(&frame, W, H, &format, &err), L2D_OK);
        memset(frame->data, 128, frame->size_bytes);
        memset(frame->data, luma_of(i), W * H);
        cr_assert_eq(l2d_engine_push(engine, frame, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&frame);
    }
    cr_assert_eq(l2d_engine_finish(engine, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(num_out, FRAMES);
    l2d_engine_destroy(&engine);
    l2d_gpu_destroy(&gpu);
}
