// SPDX-License-Identifier: Apache-2.0
// The stream's queues, ends and counts, with pictures that pass through (no model); its prompts.
#include <criterion/criterion.h>
#include <string.h>

#include "base/thread.h"
#include "pipeline/stream.h"

#define SIDE 16
#define FRAMES 40

static struct l2d_error err;

static struct l2d_stream *open_stream(bool live)
{
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params params = {
        .engine = { .input_width = SIDE, .input_height = SIDE, .rgba = true },
        .gpu = { .cache_dir = "" }, .queue_frames = 2, .live = live,
    };
    cr_assert_eq(l2d_stream_create(&stream, &params, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_stream_info(stream)->width, SIDE);
    return stream;
}

static struct l2d_frame *new_frame(int index)
{
    struct l2d_frame *frame;
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    cr_assert_eq(l2d_frame_create(&frame, SIDE, SIDE, &format, &err), L2D_OK, "%s", err.msg);
    memset(frame->data, index, frame->size_bytes);
    frame->pts = 1000 + 7 * index;
    frame->duration = 7;
    frame->time_base_num = 1;
    frame->time_base_den = 90000;
    return frame;
}

static void push_all(void *arg)
{
    struct l2d_stream *stream = arg;
    struct l2d_error e;
    for (int i = 0; i < FRAMES; i++) {
        struct l2d_frame *frame = new_frame(i);
        cr_expect_eq(l2d_stream_push(stream, &frame, &e), L2D_OK);
        cr_expect_null(frame);
    }
    l2d_stream_end(stream);
}

Test(stream, live_has_no_chunks)
{
    struct l2d_stream *stream = NULL;
    struct l2d_error e = { 0 };
    cr_expect_eq(l2d_stream_create(&stream, &(struct l2d_stream_params) {
        .engine = { .width = SIDE, .height = SIDE, .chunk = 2 }, .live = true,
    }, &e), L2D_EINVAL);
    cr_expect_not_null(strstr(e.msg, "chunks of 2"), "%s", e.msg);
    cr_expect_null(stream);
}

Test(stream, every_frame_comes_out_in_order_with_its_time)
{
    struct l2d_stream *stream = open_stream(false);
    struct l2d_thread thread = { 0 };
    cr_assert_eq(l2d_thread_start(&thread, "push", push_all, stream, &err), L2D_OK);
    for (int i = 0; i < FRAMES; i++) {
        struct l2d_frame *frame;
        cr_assert_eq(l2d_stream_pop(stream, &frame, &err), L2D_OK, "%s", err.msg);
        cr_assert_not_null(frame, "frame %d", i);
        cr_expect_eq(frame->pts, 1000 + 7 * i);
        cr_expect_eq(frame->duration, 7);
        cr_expect_eq(frame->time_base_den, 90000);
        for (int c = 0; c < 3; c++)
            cr_expect_eq(frame->data[4 * SIDE + c], i);
        l2d_frame_unref(&frame);
    }
    struct l2d_frame *end;
    cr_expect_eq(l2d_stream_pop(stream, &end, &err), L2D_OK);
    cr_expect_null(end);
    struct l2d_frame *late = new_frame(0);
    cr_expect_eq(l2d_stream_push(stream, &late, &err), L2D_ECLOSED);
    cr_expect_not_null(late);
    l2d_frame_unref(&late);
    l2d_thread_join(&thread);
    struct l2d_stream_stats stats = l2d_stream_stats(stream);
    cr_expect_eq(stats.frames_in, FRAMES);
    cr_expect_eq(stats.frames_out, FRAMES);
    cr_expect_eq(stats.frames_dropped, 0);
    l2d_stream_destroy(&stream);
}

// What was drawn can be had, and no more; afterwards all goes on where it was.
Test(stream, a_pause_loses_nothing, .timeout = 60)
{
    struct l2d_stream *stream = open_stream(false);
    struct l2d_thread thread = { 0 };
    struct l2d_frame *frame;
    bool timed_out = false;
    int popped = 0;
    l2d_stream_pause(stream, true);
    cr_assert_eq(l2d_thread_start(&thread, "push", push_all, stream, &err), L2D_OK);
    cr_assert_eq(l2d_stream_pop_timed(stream, &frame, 200, &timed_out, &err), L2D_OK);
    cr_expect(timed_out, "a frame came out of a stream that was paused before the first");
    l2d_stream_pause(stream, false);
    while (popped < FRAMES) {
        cr_assert_eq(l2d_stream_pop(stream, &frame, &err), L2D_OK, "%s", err.msg);
        cr_assert_not_null(frame, "frame %d", popped);
        cr_expect_eq(frame->pts, 1000 + 7 * popped);
        l2d_frame_unref(&frame);
        if (++popped != 10)
            continue;
        l2d_stream_pause(stream, true);
        for (timed_out = false; !timed_out && popped < FRAMES; popped += !timed_out) {
            cr_assert_eq(l2d_stream_pop_timed(stream, &frame, 200, &timed_out, &err), L2D_OK);
            l2d_frame_unref(&frame);
        }
        // The one that was worked on, two in the queue behind it, one that waited for room there.
        cr_expect_leq(popped, 14, "%d", popped);
        l2d_stream_pause(stream, false);
    }
    cr_assert_eq(l2d_stream_pop(stream, &frame, &err), L2D_OK);
    cr_expect_null(frame);
    l2d_thread_join(&thread);
    l2d_stream_destroy(&stream);
}

// A paused stream stops as any other.
Test(stream, stop_ends_a_pause, .timeout = 60)
{
    struct l2d_stream *stream = open_stream(false);
    struct l2d_frame *frame = new_frame(0);
    l2d_stream_pause(stream, true);
    cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK);
    l2d_stream_stop(stream);
    l2d_stream_pause(stream, true);
    l2d_stream_destroy(&stream);
}

// A live picture is there when it is drawn, not when the next ones are pushed.
Test(stream, live_gives_out_each_picture_at_once, .timeout = 60)
{
    struct l2d_stream *stream = open_stream(true);
    struct l2d_frame *out;
    bool timed_out = false;
    cr_assert_eq(l2d_stream_pop_timed(stream, &out, 10, &timed_out, &err), L2D_OK);
    cr_expect(timed_out && !out);
    for (int i = 0; i < 3; i++) {
        struct l2d_frame *frame = new_frame(i);
        cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_stream_pop_timed(stream, &out, 30000, &timed_out, &err), L2D_OK);
        cr_assert_not_null(out, "frame %d", i);
        cr_expect_eq(out->pts, 1000 + 7 * i);
        l2d_frame_unref(&out);
    }
    l2d_stream_end(stream);
    cr_assert_eq(l2d_stream_pop_timed(stream, &out, 30000, &timed_out, &err), L2D_OK);
    cr_expect(!timed_out && !out);
    cr_expect_eq(l2d_stream_stats(stream).frames_done, 3u);
    l2d_stream_destroy(&stream);
}

// Frames come faster than they are drawn: the next one is on its way while one is drawn, and yet
// each picture comes, and the last one without another frame.
Test(stream, live_goes_on_drawing, .timeout = 600)
{
    enum { PUSHED = 400 };
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params params = {
        .engine = { .model = L2D_SOURCE_DIR "/samples/models/paint-s", .width = 32, .height = 32,
                    .input_width = SIDE, .input_height = SIDE, .rgba = true },
        .gpu.lanes = L2D_LANES_SWAPPED, .queue_frames = 1, .live = true,
    };
    cr_assert_eq(l2d_stream_create(&stream, &params, &err), L2D_OK, "%s", err.msg);
    cr_expect(l2d_stream_info(stream)->works_ahead);
    int64_t last = 0;
    uint64_t out = 0;
    for (int i = 0; i < PUSHED || last < 1000 + 7 * (PUSHED - 1); i++) {
        struct l2d_frame *frame = i < PUSHED ? new_frame(i) : NULL, *picture = NULL;
        bool timed_out = false;
        if (frame)
            cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(l2d_stream_pop_timed(stream, &picture, i < PUSHED ? 1 : 60000, &timed_out,
                                          &err), L2D_OK, "%s", err.msg);
        cr_assert(picture || i < PUSHED, "the last one was frame %d", (int) (last - 1000) / 7);
        if (!picture)
            continue;
        cr_expect_gt(picture->pts, last);
        last = picture->pts;
        out++;
        l2d_frame_unref(&picture);
    }
    struct l2d_stream_stats stats = l2d_stream_stats(stream);
    cr_expect_eq(stats.frames_out, out);
    cr_expect_eq(stats.frames_in, stats.frames_out + stats.frames_dropped);
    for (int i = 0; i < 1000 && stats.frames_done < stats.frames_out; i++) {    // counted soon
        struct l2d_frame *none;
        bool timed_out;
        l2d_stream_pop_timed(stream, &none, 10, &timed_out, &err);
        stats = l2d_stream_stats(stream);
    }
    cr_expect_eq(stats.frames_done, stats.frames_out);
    cr_expect_gt(stats.frames_dropped, 0);
    l2d_stream_destroy(&stream);
}

// Nobody pops: a live stream never holds its source back, and counts what it lets go.
Test(stream, live_drops_the_oldest_and_counts)
{
    struct l2d_stream *stream = open_stream(true);
    push_all(stream);
    uint64_t out = 0;
    int64_t last = 0;
    for (;;) {
        struct l2d_frame *frame;
        cr_assert_eq(l2d_stream_pop(stream, &frame, &err), L2D_OK, "%s", err.msg);
        if (!frame)
            break;
        cr_expect_gt(frame->pts, last);
        last = frame->pts;
        out++;
        l2d_frame_unref(&frame);
    }
    struct l2d_stream_stats stats = l2d_stream_stats(stream);
    cr_expect_eq(stats.frames_in, FRAMES);
    cr_expect_eq(stats.frames_out, out);
    cr_expect_eq(stats.frames_in, stats.frames_out + stats.frames_dropped);
    cr_expect_eq(last, 1000 + 7 * (FRAMES - 1));    // the newest is never the one to go
    l2d_stream_destroy(&stream);
}

Test(stream, stop_wakes_a_waiting_push, .timeout = 60)
{
    struct l2d_stream *stream = open_stream(false);
    for (int i = 0; i < 3; i++) {
        struct l2d_frame *frame = new_frame(i);
        cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK);
    }
    l2d_stream_stop(stream);
    struct l2d_frame *frame = new_frame(9), *none;
    cr_expect_eq(l2d_stream_push(stream, &frame, &err), L2D_ECLOSED);
    l2d_frame_unref(&frame);
    cr_expect_eq(l2d_stream_pop(stream, &none, &err), L2D_OK);
    cr_expect_null(none);
    l2d_stream_destroy(&stream);
}

// The first frame after the warm-up, drawn with other prompts than the stream began with, if given.
static struct l2d_frame *drawn(const char *prompt, const char *negative)
{
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params params = {
        .engine = { .model = L2D_SOURCE_DIR "/samples/models/paint-s", .prompt = "a pencil sketch",
                    .guidance_mode = L2D_GUIDANCE_FULL, .guidance = 2, .width = 32, .height = 32,
                    .input_width = SIDE, .input_height = SIDE, .rgba = true },
        .queue_frames = 16,
    };
    cr_assert_eq(l2d_stream_create(&stream, &params, &err), L2D_OK, "%s", err.msg);
    if (prompt)
        cr_assert_eq(l2d_stream_set_prompt(stream, prompt, &err), L2D_OK);
    if (negative)
        cr_assert_eq(l2d_stream_set_negative(stream, negative, &err), L2D_OK);
    for (int i = 0; i < 9; i++) {
        struct l2d_frame *frame = new_frame(10 * i);
        cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK, "%s", err.msg);
    }
    l2d_stream_end(stream);
    struct l2d_frame *last = NULL;
    for (int i = 0; i < 9; i++) {
        l2d_frame_unref(&last);
        cr_assert_eq(l2d_stream_pop(stream, &last, &err), L2D_OK, "%s", err.msg);
        cr_assert_not_null(last);
    }
    l2d_stream_destroy(&stream);
    return last;
}

Test(stream, prompts_change_while_it_runs, .timeout = 600)
{
    struct l2d_frame *before = drawn(NULL, NULL), *prompt = drawn("neon lights", NULL);
    struct l2d_frame *negative = drawn(NULL, "neon lights"), *bad = drawn("\xff\xc3", NULL);
    cr_expect_neq(memcmp(prompt->data, before->data, before->size_bytes), 0);
    cr_expect_neq(memcmp(negative->data, before->data, before->size_bytes), 0);
    cr_expect_neq(memcmp(negative->data, prompt->data, before->size_bytes), 0);
    cr_expect_eq(memcmp(bad->data, before->data, before->size_bytes), 0);   // it stays as it was
    l2d_frame_unref(&before);
    l2d_frame_unref(&prompt);
    l2d_frame_unref(&negative);
    l2d_frame_unref(&bad);
}

// Without a model nothing can change: a change waits, is refused and says why.
Test(stream, changes_are_acknowledged)
{
    struct l2d_stream *stream = open_stream(false);
    struct l2d_change change = { .kind = L2D_CHANGE_SEED };
    uint64_t ticket[2] = { 0 };
    cr_assert_eq(l2d_stream_change(stream, &change, L2D_WHEN_IN_ORDER, &ticket[0], &err), L2D_OK);
    cr_expect_eq(l2d_stream_receipt(stream, ticket[0]).state, L2D_RECEIPT_WAITING);
    cr_expect_eq(l2d_stream_receipt(stream, ticket[0] + 1).state, L2D_RECEIPT_UNKNOWN);
    cr_expect_eq(l2d_stream_receipt(stream, 0).state, L2D_RECEIPT_UNKNOWN);
    struct l2d_frame *frame = new_frame(1), *out = NULL;
    cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK);
    cr_assert_eq(l2d_stream_change(stream, &change, L2D_WHEN_IN_ORDER, &ticket[1], &err), L2D_OK);
    for (int i = 2; i < 100; i++)       // as many as are due
        cr_assert_eq(l2d_stream_change(stream, &change, L2D_WHEN_IN_ORDER, NULL, &err), L2D_OK);
    l2d_stream_end(stream);
    for (int i = 0; i < 2; i++) {
        cr_assert_eq(l2d_stream_pop(stream, &out, &err), L2D_OK);
        l2d_frame_unref(&out);
    }
    struct l2d_receipt receipt = l2d_stream_receipt(stream, ticket[0]);
    cr_expect_eq(receipt.state, L2D_RECEIPT_REFUSED);
    cr_expect_not_null(strstr(receipt.why, "no model"), "%s", receipt.why);
    receipt = l2d_stream_receipt(stream, ticket[1]);        // its frame never came
    cr_expect_eq(receipt.state, L2D_RECEIPT_REFUSED);
    cr_expect_not_null(strstr(receipt.why, "ended"), "%s", receipt.why);
    cr_expect_eq(l2d_stream_change(stream, &change, L2D_WHEN_SOON, NULL, &err), L2D_ECLOSED);
    l2d_stream_destroy(&stream);
}

// While no frame comes the newest of a kind waits, and takes an older one's place.
Test(stream, the_newest_change_counts, .timeout = 60)
{
    static const struct l2d_change change[] = {
        { .kind = L2D_CHANGE_LORA, .text = "a" }, { .kind = L2D_CHANGE_LORA, .text = "b" },
        { .kind = L2D_CHANGE_BLEND, .text = "1" }, { .kind = L2D_CHANGE_PROMPT, .text = "a" },
        { .kind = L2D_CHANGE_SEED },
    };
    enum { NUM = sizeof(change) / sizeof(change[0]), TIMES = 20 };
    struct l2d_stream *stream = open_stream(false);
    struct l2d_frame *frame = new_frame(1), *out = NULL;
    uint64_t ticket[TIMES][NUM];
    for (int i = 0; i < TIMES; i++)
        for (int c = 0; c < NUM; c++)
            cr_assert_eq(l2d_stream_change(stream, &change[c], L2D_WHEN_SOON, &ticket[i][c], &err),
                         L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK);
    l2d_stream_end(stream);
    cr_assert_eq(l2d_stream_pop(stream, &out, &err), L2D_OK);
    l2d_frame_unref(&out);
    for (int i = 0; i < TIMES; i++)
        for (int c = 0; c < NUM; c++) {
            struct l2d_receipt receipt = l2d_stream_receipt(stream, ticket[i][c]);
            bool passed = i < TIMES - 1 || change[c].kind == L2D_CHANGE_BLEND;
            cr_expect_eq(receipt.state, L2D_RECEIPT_REFUSED);
            cr_expect_eq(strstr(receipt.why, "a later change") != NULL, passed, "%d %d: %s", i, c,
                         receipt.why);
        }
    l2d_stream_destroy(&stream);
}

// Until there are so many, a change is followed by another.
struct followed {
    struct l2d_stream *stream;
    uint64_t ticket, last;
};

static void follow(void *user, const struct l2d_change *change, const struct l2d_frame *frame)
{
    struct followed *f = user;
    (void) frame;
    if (f->ticket < f->last)
        cr_assert_eq(l2d_stream_change(f->stream, change, L2D_WHEN_SOON, &f->ticket, &err), L2D_OK);
}

// A change that waits while as many follow as receipts are kept has none any more, and takes none.
Test(stream, changes_keep_their_receipts, .timeout = 600)
{
    struct followed f = { .stream = NULL };
    struct l2d_stream_params params = {
        .engine = { .model = L2D_SOURCE_DIR "/samples/models/paint-s", .width = 32, .height = 32,
                    .input_width = SIDE, .input_height = SIDE, .rgba = true },
        .queue_frames = 2, .on_change = follow, .on_change_user = &f,
    };
    const struct l2d_change change = { .kind = L2D_CHANGE_SEED };
    uint64_t first = 0;
    cr_assert_eq(l2d_stream_create(&f.stream, &params, &err), L2D_OK, "%s", err.msg);
    l2d_stream_pause(f.stream, true);
    struct l2d_frame *frame = new_frame(0), *out = NULL;
    cr_assert_eq(l2d_stream_push(f.stream, &frame, &err), L2D_OK);
    cr_assert_eq(l2d_stream_change(f.stream, &change, L2D_WHEN_IN_ORDER, &first, &err), L2D_OK);
    f.last = first + 256;
    cr_assert_eq(l2d_stream_change(f.stream, &change, L2D_WHEN_SOON, &f.ticket, &err), L2D_OK);
    l2d_stream_pause(f.stream, false);
    frame = new_frame(1);
    cr_assert_eq(l2d_stream_push(f.stream, &frame, &err), L2D_OK);
    l2d_stream_end(f.stream);
    do {
        cr_assert_eq(l2d_stream_pop(f.stream, &out, &err), L2D_OK, "%s", err.msg);
        l2d_frame_unref(&out);
    } while (l2d_stream_stats(f.stream).frames_out < 2);
    cr_assert_eq(f.ticket, f.last);
    cr_expect_eq(l2d_stream_receipt(f.stream, first).state, L2D_RECEIPT_UNKNOWN);
    struct l2d_receipt receipt = l2d_stream_receipt(f.stream, f.last);
    cr_expect_eq(receipt.state, L2D_RECEIPT_DONE, "%s", receipt.why);
    cr_expect_eq(receipt.first, 0);     // the other one was made with frame 1
    l2d_stream_destroy(&f.stream);
}

// In order: with the frame that is pushed next, however many are waiting.
Test(stream, changes_are_made_with_their_frame, .timeout = 600)
{
    enum { NUM = 14 };
    static const struct { int frame; struct l2d_change change; } changes[] = {
        { 9, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_SOURCE } },
        { 11, { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_DRAWN } },
        { 11, { .kind = L2D_CHANGE_STEPS, .step_set = 1 } },
        { 12, { .kind = L2D_CHANGE_STEPS, .step_set = 2 } },
    };
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params params = {
        .engine = { .model = L2D_SOURCE_DIR "/samples/models/paint-s", .more_steps = { "43,47" },
                    .width = 32, .height = 32, .input_width = SIDE, .input_height = SIDE,
                    .rgba = true },
        .queue_frames = NUM,
    };
    uint64_t ticket[4];
    cr_assert_eq(l2d_stream_create(&stream, &params, &err), L2D_OK, "%s", err.msg);
    for (int i = 0; i < NUM; i++) {
        for (size_t c = 0; c < 4; c++)
            if (changes[c].frame == i)
                cr_assert_eq(l2d_stream_change(stream, &changes[c].change, L2D_WHEN_IN_ORDER,
                                               &ticket[c], &err), L2D_OK);
        struct l2d_frame *frame = new_frame(10 * i);
        cr_assert_eq(l2d_stream_push(stream, &frame, &err), L2D_OK, "%s", err.msg);
    }
    l2d_stream_end(stream);
    for (int i = 0; i < NUM; i++) {
        struct l2d_frame *out = NULL;
        cr_assert_eq(l2d_stream_pop(stream, &out, &err), L2D_OK, "%s", err.msg);
        cr_assert_not_null(out, "frame %d", i);
        cr_expect_eq(out->pts, 1000 + 70 * i);
        bool is_source = true;
        for (unsigned p = 0; p < 32 * 32; p++)
            is_source &= out->data[4 * p] == 10 * i;
        cr_expect_eq(is_source, i == 9 || i == 10, "frame %d", i);
        l2d_frame_unref(&out);
    }
    for (size_t c = 0; c < 4; c++) {
        struct l2d_receipt receipt = l2d_stream_receipt(stream, ticket[c]);
        cr_expect_eq(receipt.state, c < 3 ? L2D_RECEIPT_DONE : L2D_RECEIPT_REFUSED, "%s",
                     receipt.why);
        cr_expect_eq(receipt.first, c < 3 ? (uint64_t) changes[c].frame : 0);
    }
    struct l2d_stream_stats stats = l2d_stream_stats(stream);
    cr_expect(stats.engine.changes == 3 && stats.engine.step_set == 1);
    l2d_stream_destroy(&stream);
}

Test(stream, bad_parameters_say_what_is_wrong)
{
    struct l2d_stream *stream = NULL;
    struct l2d_stream_params params = { .engine = { .model = "/no/such/model" } };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EIO);
    cr_expect_not_null(strstr(err.msg, "/no/such/model"), "%s", err.msg);
    params.engine = (struct l2d_engine_params) { .width = 63, .height = 64 };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EINVAL);
    cr_expect_not_null(strstr(err.msg, "63x64"), "%s", err.msg);
    params.engine = (struct l2d_engine_params) { .width = 0, .height = 64 };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EINVAL);
    cr_expect_not_null(strstr(err.msg, "0x64"), "%s", err.msg);
    params = (struct l2d_stream_params) { .dump_dir = "d", .engine = { .skip_similar = 0.9 } };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EINVAL);
    cr_expect_not_null(strstr(err.msg, "dump"), "%s", err.msg);
    params.engine = (struct l2d_engine_params) { .draw_every = 2 };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EINVAL);
    cr_expect_not_null(strstr(err.msg, "dump"), "%s", err.msg);
    params = (struct l2d_stream_params) { .dump_dir = "d", .engine = { .chunk = 2 } };
    cr_expect_eq(l2d_stream_create(&stream, &params, &err), L2D_EINVAL);
    cr_expect_not_null(strstr(err.msg, "chunks of 2"), "%s", err.msg);
    cr_expect_null(stream);
}

Test(stream, without_a_model_there_is_nothing_to_measure)
{
    struct l2d_gpu *gpu = NULL;
    struct l2d_engine *engine = NULL;
    struct l2d_engine_params params = { .width = SIDE, .height = SIDE };
    struct l2d_profile_row row;
    double ms, gflop;
    uint32_t count = 1;
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), L2D_OK);
    cr_assert_eq(l2d_engine_create(&engine, gpu, &params, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_engine_profile(engine, &row, 1, &count, &err), L2D_EINVAL);
    cr_expect_eq(count, 0);
    cr_expect_eq(l2d_engine_time_step(engine, &(struct l2d_engine_step) { .rows = 1 }, &ms, 1,
                                      &gflop, &err), L2D_EINVAL);
    l2d_engine_destroy(&engine);
    l2d_gpu_destroy(&gpu);
}

Test(stream, formats_that_lead_beyond_a_frame_are_refused)
{
    static const struct l2d_component bad[] = {
        { .step_bytes = 1, .offset_bytes = 200, .depth_bits = 8 },
        { .step_bytes = 2, .offset_bytes = 1, .depth_bits = 16 },
        { .step_bytes = 2, .depth_bits = 16, .shift_bits = 1 },
        { .step_bytes = 1, .depth_bits = 9 }, { .plane = 4, .step_bytes = 1, .depth_bits = 8 },
        { .step_bytes = 1, .depth_bits = 8, .sub_w_log2 = 4 }, { .step_bytes = 1 },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        struct l2d_pixel_format format = { .num_components = 1, .component = { bad[i] } };
        struct l2d_frame *f = NULL;
        cr_expect_eq(l2d_frame_create(&f, 64, 64, &format, &err), L2D_EINVAL, "%zu", i);
        cr_expect_null(f);
    }
}
