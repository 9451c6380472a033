// SPDX-License-Identifier: Apache-2.0
// The library in one loop: a video file through a model into another file, sound included.
//     file_to_file MODEL INPUT OUTPUT [PROMPT]
// Frames come out behind those that go in, so pushing and popping need a thread each; here the
// second one reads and pushes. What belongs to a program (options, progress, signals) is in
// tools/live2diff.
#include <stdio.h>
#include <stdlib.h>

#include "base/queue.h"
#include "base/thread.h"
#include "pipeline/stream.h"
#include "video_io/libav.h"
#include "video_io/reader.h"
#include "video_io/sink.h"

struct copy {
    struct l2d_reader *reader;
    struct l2d_stream *stream;
    struct l2d_queue *sound;            // of struct l2d_item: packets on their way past the stream
    struct l2d_error err;               // the reading thread's
};

static void free_packet(void *packet)
{
    l2d_item_clear(packet);
    free(packet);
}

static void read_main(void *arg)
{
    struct copy *c = arg;
    struct l2d_item item = { 0 };
    while (c->err.code == L2D_OK && l2d_reader_next(c->reader, &item, &c->err) == L2D_OK &&
           item.kind != L2D_ITEM_END) {
        if (item.kind == L2D_ITEM_VIDEO) {
            l2d_stream_push(c->stream, &item.frame, &c->err);
        } else {
            struct l2d_item *packet = malloc(sizeof(*packet));
            if (!packet)
                l2d_error_set(&c->err, L2D_ENOMEM, "out of memory");
            else if ((*packet = item, l2d_queue_push(c->sound, packet)) != L2D_QUEUE_OK)
                free_packet(packet);
            item = (struct l2d_item) { 0 };
        }
    }
    l2d_item_clear(&item);
    l2d_stream_end(c->stream);
}

// Packets may run ahead of their frames: a sink holds them back. So pass on what is there.
static int write_sound(struct copy *c, struct l2d_sink *sink, struct l2d_error *err)
{
    void *packet;
    int rc = L2D_OK;
    while (rc == L2D_OK && l2d_queue_pop_timed(c->sound, &packet, 0) == L2D_QUEUE_OK) {
        rc = l2d_sink_write_audio(sink, ((struct l2d_item *) packet)->packet, err);
        free_packet(packet);
    }
    return rc;
}

static int write_all(struct copy *c, struct l2d_sink *sink, struct l2d_error *err)
{
    for (;;) {
        struct l2d_frame *frame = NULL;
        int rc = l2d_stream_pop(c->stream, &frame, err);
        if (rc == L2D_OK)
            rc = write_sound(c, sink, err);
        if (rc == L2D_OK && !frame && c->err.code != L2D_OK)
            return L2D_OK;              // main says why; a part is no file
        if (rc == L2D_OK && !frame)
            return l2d_sink_finish(sink, false, err);
        if (rc == L2D_OK)
            rc = l2d_sink_write_video(sink, frame, err);
        l2d_frame_unref(&frame);
        if (rc != L2D_OK)
            return rc;
    }
}

static int open_all(struct copy *c, struct l2d_sink **sink, char **argv, int argc,
                    struct l2d_error *err)
{
    int rc = l2d_reader_create(&c->reader, &(struct l2d_reader_params) { .name = argv[2] }, err);
    if (rc != L2D_OK)
        return rc;
    const struct l2d_reader_info *in = l2d_reader_info(c->reader);
    int32_t width, height;
    l2d_reader_info_upright(in, &width, &height);
    rc = l2d_stream_create(&c->stream, &(struct l2d_stream_params) {
        .engine = { .model = argv[1], .prompt = argc > 4 ? argv[4] : NULL,
                    .input_width = width, .input_height = height,
                    .chunk = L2D_MAX_CHUNK },   // nobody waits for a frame
    }, err);
    if (rc == L2D_OK)           // enough for the sound of the frames that are inside the stream
        rc = l2d_queue_create(&c->sound, 65536, free_packet, err);
    if (rc != L2D_OK)
        return rc;
    const struct l2d_engine_info *info = l2d_stream_info(c->stream);
    return l2d_sink_open(sink, argv[3], &(struct l2d_sink_params) {
        .width = info->width, .height = info->height, .matrix = info->matrix,
        .time_base_num = in->time_base_num, .time_base_den = in->time_base_den,
        .frame_rate_num = in->frame_rate_num, .frame_rate_den = in->frame_rate_den,
        .audio = in->has_audio ? &in->audio : NULL, .input = argv[2], .overwrite = true,
    }, err);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fprintf(stderr, "usage: %s MODEL INPUT OUTPUT [PROMPT]\n", argv[0]);
        return 2;
    }
    l2d_libav_init(NULL);
    struct copy c = { 0 };
    struct l2d_sink *sink = NULL;
    struct l2d_thread thread = { 0 };
    struct l2d_error err = { 0 };
    int rc = open_all(&c, &sink, argv, argc, &err);
    if (rc == L2D_OK)
        rc = l2d_thread_start(&thread, "read", read_main, &c, &err);
    if (rc == L2D_OK)
        rc = write_all(&c, sink, &err);
    if (rc != L2D_OK && thread.running) {       // it may wait in any of the three
        l2d_reader_stop(c.reader);
        l2d_stream_stop(c.stream);
        l2d_queue_abort(c.sound);
    }
    l2d_thread_join(&thread);
    if (rc == L2D_OK && c.err.code != L2D_OK) {
        rc = c.err.code;
        err = c.err;
    }
    if (rc != L2D_OK)
        fprintf(stderr, "%s\n", err.msg);
    l2d_sink_destroy(&sink);    // before the reader, which owns the description of the sound
    l2d_stream_destroy(&c.stream);
    l2d_queue_destroy(&c.sound);
    l2d_reader_destroy(&c.reader);
    return rc == L2D_OK ? 0 : 1;
}
