// SPDX-License-Identifier: Apache-2.0
// One picture through a model, without any video library: a binary PPM in, a PPM out. A stream of
// a single frame is a valid stream; frames can be made by hand.
//     still MODEL INPUT.ppm OUTPUT.ppm [PROMPT]
#include <stdio.h>

#include "pipeline/stream.h"

static int read_ppm(struct l2d_frame **out, const char *path, struct l2d_error *err)
{
    FILE *file = fopen(path, "rb");
    if (!file)
        return l2d_error_set(err, L2D_EIO, "%s: cannot be read", path);
    int w = 0, h = 0, most = 0;
    int rc = L2D_OK;
    if (fscanf(file, "P6 %d %d %d", &w, &h, &most) != 3 || most != 255 || fgetc(file) == EOF)
        rc = l2d_error_set(err, L2D_EFORMAT, "%s: not a binary PPM with 8 bits a sample", path);
    struct l2d_pixel_format rgba = l2d_pixel_format_rgba8();
    if (rc == L2D_OK)
        rc = l2d_frame_create(out, w, h, &rgba, err);
    for (int y = 0; rc == L2D_OK && y < h; y++) {
        uint8_t *row = (*out)->data + (size_t) y * (*out)->plane_stride_bytes[0];
        for (int x = 0; x < w; x++, row += 4)
            if (fread(row, 1, 3, file) != 3) {
                rc = l2d_error_set(err, L2D_EFORMAT, "%s: ends too early", path);
                break;
            }
    }
    fclose(file);
    if (rc == L2D_OK) {         // time is passed through; one frame needs none in particular
        (*out)->time_base_num = 1;
        (*out)->time_base_den = 25;
    }
    return rc;
}

static int write_ppm(const struct l2d_frame *frame, const char *path, struct l2d_error *err)
{
    FILE *file = fopen(path, "wb");
    if (!file)
        return l2d_error_set(err, L2D_EIO, "%s: cannot be written", path);
    fprintf(file, "P6\n%d %d\n255\n", frame->width, frame->height);
    for (int y = 0; y < frame->height; y++) {
        const uint8_t *row = frame->data + (size_t) y * frame->plane_stride_bytes[0];
        for (int x = 0; x < frame->width; x++)
            fwrite(row + 4 * x, 1, 3, file);
    }
    int failed = ferror(file);
    failed |= fclose(file);
    return failed ? l2d_error_set(err, L2D_EIO, "%s: cannot be written", path) : L2D_OK;
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL INPUT.ppm OUTPUT.ppm [PROMPT]\n", argv[0]);
        return 2;
    }
    struct l2d_error err = { 0 };
    struct l2d_stream *stream = NULL;
    struct l2d_frame *frame = NULL;
    int rc = read_ppm(&frame, argv[2], &err);
    if (rc == L2D_OK)
        rc = l2d_stream_create(&stream, &(struct l2d_stream_params) {
            .engine = { .model = argv[1], .prompt = argc > 4 ? argv[4] : NULL, .rgba = true,
                        .input_width = frame->width, .input_height = frame->height },
        }, &err);
    if (rc == L2D_OK)
        rc = l2d_stream_push(stream, &frame, &err);     // the frame is the stream's now
    if (rc == L2D_OK) {
        l2d_stream_end(stream);
        rc = l2d_stream_pop(stream, &frame, &err);
    }
    if (rc == L2D_OK)
        rc = write_ppm(frame, argv[3], &err);
    if (rc != L2D_OK)
        fprintf(stderr, "%s\n", err.msg);
    l2d_frame_unref(&frame);
    l2d_stream_destroy(&stream);
    return rc == L2D_OK ? 0 : 1;
}
