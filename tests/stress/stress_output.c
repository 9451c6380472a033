// SPDX-License-Identifier: Apache-2.0
// Outputs at work with all who look at them, to be run under ThreadSanitizer: one that takes
// everything, one slow one, one whose server is not there; the ledger between two threads; the
// status board. In the end every picture has a fate.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "fate.h"
#include "output.h"
#include "run_status.h"
#include "video_io/libav.h"
#include "wallclock.h"

enum { NUM_OUTPUTS = 3, NUM_FRAMES = 1500 };

static struct output output[NUM_OUTPUTS];
static struct fate_ledger ledger;
static struct run_board board;
static atomic_bool done;

static void give(int64_t pts)
{
    struct l2d_item item = { .kind = L2D_ITEM_VIDEO };
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    if (l2d_frame_create(&item.frame, 64, 48, &format, NULL) != L2D_OK)
        abort();
    item.frame->pts = 3600 * pts;
    item.frame->time_base_den = 90000;
    struct shared_item *shared = shared_item_new(&item, fate_leave(&ledger, pts, false));
    if (!shared)
        abort();
    for (int i = 0; i < NUM_OUTPUTS; i++)
        output_push(&output[i], shared);
    shared_item_unref(shared);
}

static void push_main(void *arg)
{
    (void) arg;
    for (int i = 0; i < NUM_FRAMES; i++) {
        fate_arrive(&ledger, i, wallclock_s());
        give(i);
        usleep(500);
    }
    atomic_store(&done, true);
}

static void publish_main(void *arg)
{
    (void) arg;
    static struct run_status status;
    while (!atomic_load(&done)) {
        status.fates = fate_counts(&ledger, 0);
        for (int i = 0; i < NUM_OUTPUTS; i++) {
            status.output[i].counts = output_counts(&output[i]);
            status.output[i].latency = output_latency(&output[i], true);
            output_reason(&output[i], status.output[i].reason, sizeof(status.output[i].reason));
        }
        run_board_publish(&board, &status);
        usleep(1000);
    }
}

static void look_main(void *arg)
{
    (void) arg;
    static struct run_status status;
    uint64_t last = 0;
    while (!atomic_load(&done)) {
        run_board_read(&board, &status);
        if (status.fates.in < last)
            abort();
        last = status.fates.in;
    }
}

static void start(struct l2d_thread *thread, const char *name, void (*body)(void *))
{
    struct l2d_error err;
    if (l2d_thread_start(thread, name, body, NULL, &err) != L2D_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static bool adds_up(int i)
{
    struct output_counts c = output_counts(&output[i]);
    printf("%s: %llu given = %llu written + %llu stalled + %llu lost + %u waiting\n",
           output[i].name, (unsigned long long) c.given, (unsigned long long) c.written,
           (unsigned long long) c.stalled, (unsigned long long) c.lost, c.waiting);
    return c.given == c.written + c.stalled + c.lost + c.waiting && c.waiting == 0;
}

int main(void)
{
    static const char *const name[NUM_OUTPUTS] = { "null", "stress_output.mkv",
                                                   "tcp://127.0.0.1:1" };
    l2d_libav_init(NULL);
    fate_init(&ledger);
    run_board_init(&board);
    struct l2d_sink_params params = {
        .width = 64, .height = 48, .time_base_num = 1, .time_base_den = 90000,
        .frame_rate_num = 25, .frame_rate_den = 1, .matrix = L2D_MATRIX_BT709, .live = true,
        .overwrite = true,
    };
    struct l2d_error err = { 0 };
    for (int i = 0; i < NUM_OUTPUTS; i++)
        if (output_start(&output[i], name[i], &params, &err) != L2D_OK ||
            output_wait_open(&output[i], &err) != L2D_OK) {
            fprintf(stderr, "%s\n", err.msg);
            return 1;
        }
    struct l2d_thread thread[3] = { 0 };
    start(&thread[0], "push", push_main);
    start(&thread[1], "publish", publish_main);
    start(&thread[2], "look", look_main);
    for (int i = 0; i < 3; i++)
        l2d_thread_join(&thread[i]);
    bool fair = true;
    for (int i = 0; i < NUM_OUTPUTS; i++) {
        output_finish(&output[i], false);
        output_hurry(&output[i]);
        l2d_thread_join(&output[i].thread);
        fair = adds_up(i) && fair;
        output_join(&output[i]);
    }
    fair = fair && atomic_load(&output[0].state) == OUTPUT_FINISHED &&
           atomic_load(&output[2].state) == OUTPUT_CUT_OFF;
    struct fates f = fate_counts(&ledger, 0);
    unlink("stress_output.mkv");
    run_board_finish(&board);
    fate_finish(&ledger);
    return fair && fates_add_up(&f) && f.out == NUM_FRAMES ? 0 : 1;
}
