// SPDX-License-Identifier: Apache-2.0
// The first frames of a video file. See bench.h.
#include "bench.h"
#include "video_io/libav.h"
#include "video_io/reader.h"

int bench_read_video(struct bench *bench, const char *name, struct l2d_error *err)
{
    struct l2d_reader *reader = NULL;
    l2d_libav_init(&bench->log);
    int rc = l2d_reader_create(&reader, &(struct l2d_reader_params) {
        .name = name, .max_frames = BENCH_MAX_SOURCE, .no_audio = true, .log = &bench->log,
    }, err);
    while (rc == L2D_OK) {
        struct l2d_item item = { 0 };
        rc = l2d_reader_next(reader, &item, err);
        if (rc != L2D_OK || item.kind == L2D_ITEM_END)
            break;
        bench->source[bench->num_source++] = l2d_frame_ref(item.frame);
        l2d_item_clear(&item);
    }
    l2d_reader_destroy(&reader);
    return rc;
}
