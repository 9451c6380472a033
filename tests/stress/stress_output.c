// SPDX-License-Identifier: Apache-2.0
// Outputs at work with all who look at them, to be run under ThreadSanitizer: one that takes
// everything, one slow one, one whose server is not there, and others that two threads add and
// remove meanwhile; the ledger between two threads; the status board. In the end every picture has
// a fate, of those outputs too that came late and left early.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "fate.h"
#include "outputs.h"
#include "run_status.h"
#include "video_io/libav.h"

enum { NUM_OUTPUTS = 3, NUM_FRAMES = 1500, NUM_THREADS = 5 };

static struct outputs outputs;
static struct fate_ledger ledger;
static struct run_board board;
static atomic_bool done;
static atomic_uint added, refused, removed, kept;

static void give(int64_t pts)
{
    struct l2d_item item = { .kind = L2D_ITEM_VIDEO };
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    if (l2d_frame_create(&item.frame, 64, 48, &format, NULL) != L2D_OK)
        abort();
    item.frame->pts = 3600 * pts;
    item.frame->time_base_den = 90000;
    struct shared_item *shared = shared_item_new(&item, fate_leave(&ledger, pts, false, NULL));
    if (!shared)
        abort();
    outputs_push(&outputs, shared);
    shared_item_unref(shared);
}

static void push_main(void *arg)
{
    (void) arg;
    for (int i = 0; i < NUM_FRAMES; i++) {
        fate_begin(&ledger, i, l2d_clock_s(), l2d_clock_s());
        give(i);
        usleep(500);
    }
    atomic_store(&done, true);
}

// What main does in a run.
static void publish_main(void *arg)
{
    (void) arg;
    static struct run_status status;
    while (!atomic_load(&done)) {
        outputs_tend(&outputs, l2d_clock_s());
        if (!outputs_are_fair(&outputs) || outputs_all_ended(&outputs))
            abort();
        status.fates = fate_counts(&ledger, 0);
        outputs_status(&outputs, &status);
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
        if (status.fates.in < last || status.num_outputs > RUN_MAX_OUTPUTS)
            abort();
        last = status.fates.in;
    }
}

// Adds one, waits until it is open or refused, lets some frames go by, and removes it.
static void change_main(void *arg)
{
    unsigned seed = (unsigned) (uintptr_t) arg;
    while (!atomic_load(&done)) {
        char file[40];
        snprintf(file, sizeof(file), "stress_output_%u.mkv", (unsigned) (uintptr_t) arg);
        const char *const names[] = { "null", file, "tcp://127.0.0.1:2", "nowhere/x.mkv" };
        struct output_options o = { .name = names[rand_r(&seed) % 4] };
        struct l2d_error err = { 0 };
        uint32_t id = 0;
        enum outputs_look look = OUTPUTS_OPENING;
        unlink(file);
        if (outputs_add(&outputs, &o, OUTPUTS_LATE, &id, &err) != L2D_OK) {
            atomic_fetch_add(&kept, 1);
            usleep(2000);
            continue;
        }
        atomic_fetch_add(&added, 1);
        while (look == OUTPUTS_OPENING && !atomic_load(&done)) {
            usleep(500);
            look = outputs_look(&outputs, id, &err);
        }
        atomic_fetch_add(&refused, look == OUTPUTS_REFUSED);
        usleep((useconds_t) (rand_r(&seed) % 20000));
        if (look == OUTPUTS_OPEN && outputs_remove(&outputs, id, &err) == L2D_OK)
            atomic_fetch_add(&removed, 1);
    }
}

static void start(struct l2d_thread *thread, const char *name, void (*body)(void *), uintptr_t arg)
{
    struct l2d_error err;
    if (l2d_thread_start(thread, name, body, (void *) arg, &err) != L2D_OK) {
        fprintf(stderr, "%s\n", err.msg);
        exit(1);
    }
}

static bool adds_up(struct output *out)
{
    struct output_counts c = output_counts(out);
    printf("%s: %llu given = %llu written + %llu stalled + %llu lost + %u waiting\n", out->name,
           (unsigned long long) c.given, (unsigned long long) c.written,
           (unsigned long long) c.stalled, (unsigned long long) c.lost, c.waiting);
    return c.given == c.written + c.stalled + c.lost + c.waiting && c.waiting == 0;
}

static void start_outputs(void)
{
    static const char *const name[NUM_OUTPUTS] = { "null", "stress_output.mkv",
                                                   "tcp://127.0.0.1:1" };
    struct l2d_error err = { 0 };
    outputs_init(&outputs, &(struct l2d_log) { 0 });
    outputs_set(&outputs, &(struct l2d_sink_params) {
        .width = 64, .height = 48, .time_base_num = 1, .time_base_den = 90000,
        .frame_rate_num = 25, .frame_rate_den = 1, .matrix = L2D_MATRIX_BT709, .live = true,
        .overwrite = true,
    });
    for (int i = 0; i < NUM_OUTPUTS; i++)
        if (outputs_add(&outputs, &(struct output_options) { .name = name[i] }, OUTPUTS_FIRST, NULL,
                        &err) != L2D_OK) {
            fprintf(stderr, "%s\n", err.msg);
            exit(1);
        }
}

int main(void)
{
    l2d_libav_init(NULL);
    fate_init(&ledger);
    run_board_init(&board);
    start_outputs();
    struct l2d_thread thread[NUM_THREADS] = { 0 };
    start(&thread[0], "push", push_main, 0);
    start(&thread[1], "publish", publish_main, 0);
    start(&thread[2], "look", look_main, 0);
    start(&thread[3], "change", change_main, 1);
    start(&thread[4], "change", change_main, 2);
    for (int i = 0; i < NUM_THREADS; i++)
        l2d_thread_join(&thread[i]);
    outputs_end(&outputs, false);
    outputs_hurry(&outputs);
    outputs_join(&outputs);
    outputs_tend(&outputs, l2d_clock_s());
    bool fair = outputs.unfair == 0;
    for (unsigned i = 0; i < outputs.num_members; i++)
        fair = adds_up(&outputs.member[i]->output) && fair;
    printf("%u added, %u refused when they opened, %u before, %u removed\n", atomic_load(&added),
           atomic_load(&refused), atomic_load(&kept), atomic_load(&removed));
    fair = fair && outputs.num_members >= NUM_OUTPUTS && outputs.num_past > 10 &&
           atomic_load(&outputs.member[0]->output.state) == OUTPUT_FINISHED &&
           atomic_load(&outputs.member[2]->output.state) == OUTPUT_CUT_OFF;
    struct fates f = fate_counts(&ledger, 0);
    outputs_finish(&outputs);
    unlink("stress_output.mkv");
    unlink("stress_output_1.mkv");
    unlink("stress_output_2.mkv");
    run_board_finish(&board);
    fate_finish(&ledger);
    return fair && fates_add_up(&f) && f.out == NUM_FRAMES ? 0 : 1;
}
