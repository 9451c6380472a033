// SPDX-License-Identifier: Apache-2.0
// A live outbox never waits, lets go of the oldest and says why; that of a file holds all.
#include <criterion/criterion.h>
#include <stdlib.h>

#include "base/thread.h"
#include "outbox.h"

static struct outbox box;

static void close_box(void)
{
    outbox_finish(&box);
}

TestSuite(outbox, .fini = close_box, .timeout = 30);

// Only its kind and pts are looked at here.
static void push(enum l2d_item_kind kind, int64_t pts)
{
    struct l2d_item item = { .kind = kind };
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    if (kind == L2D_ITEM_VIDEO) {
        cr_assert_eq(l2d_frame_create(&item.frame, 2, 2, &format, NULL), L2D_OK);
        item.frame->pts = pts;
    }
    struct shared_item *shared = shared_item_new(&item, 0);
    cr_assert(shared);
    outbox_push(&box, shared);
    shared_item_unref(shared);
}

static int64_t pop(void)
{
    struct shared_item *shared;
    cr_assert_eq(outbox_pop(&box, &shared, 0), L2D_QUEUE_OK);
    int64_t pts = shared->item.frame ? shared->item.frame->pts : -1;
    shared_item_unref(shared);
    return pts;
}

Test(outbox, live_keeps_the_newest_pictures_and_counts_the_others)
{
    outbox_init(&box, true);
    outbox_set_there(&box, true);
    for (int i = 0; i < 20; i++) {
        push(L2D_ITEM_VIDEO, i);
        push(L2D_ITEM_AUDIO, 0);
    }
    struct outbox_counts c = outbox_counts(&box);
    cr_expect(c.given == 20 && c.stalled == 12 && c.lost == 0 && c.waiting == 8);
    int pictures = 0, sounds = 0;
    struct shared_item *shared;
    while (outbox_pop(&box, &shared, 0) == L2D_QUEUE_OK) {
        if (shared->item.kind == L2D_ITEM_VIDEO)
            cr_expect_eq(shared->item.frame->pts, 12 + pictures++);
        else
            sounds++;
        shared_item_unref(shared);
    }
    cr_expect(pictures == 8 && sounds == 20);
    cr_expect_eq(outbox_counts(&box).waiting, 0u);
}

Test(outbox, sound_is_bounded_too)
{
    outbox_init(&box, true);
    for (int i = 0; i < 10 * OUTBOX_PACKETS; i++)
        push(L2D_ITEM_AUDIO, 0);
    cr_expect_eq(box.len, OUTBOX_PACKETS);
    push(L2D_ITEM_VIDEO, 5);                    // and leaves the pictures their room
    cr_expect_eq(box.len, OUTBOX_PACKETS + 1);
}

Test(outbox, what_is_lost_while_nobody_is_there_is_told_apart)
{
    outbox_init(&box, true);
    for (int i = 0; i < 10; i++)
        push(L2D_ITEM_VIDEO, i);
    outbox_set_there(&box, true);
    push(L2D_ITEM_VIDEO, 10);
    struct outbox_counts c = outbox_counts(&box);
    cr_expect(c.lost == 2 && c.stalled == 1);
    outbox_lose(&box);
    c = outbox_counts(&box);
    cr_expect(c.lost == 10 && c.stalled == 1 && c.waiting == 0 && c.given == 11);
}

Test(outbox, closed_gives_out_what_is_inside_and_then_ends)
{
    outbox_init(&box, true);
    push(L2D_ITEM_VIDEO, 3);
    outbox_close(&box);
    push(L2D_ITEM_VIDEO, 4);
    cr_expect_eq(pop(), 3);
    struct shared_item *shared;
    cr_expect_eq(outbox_pop(&box, &shared, -1), L2D_QUEUE_CLOSED);
    outbox_abort(&box);
    cr_expect_eq(outbox_pop(&box, &shared, -1), L2D_QUEUE_ABORTED);
}

static void push_many(void *arg)
{
    (void) arg;
    for (int i = 0; i < 1000; i++)
        push(L2D_ITEM_VIDEO, i);
    outbox_close(&box);
}

Test(outbox, that_of_a_file_holds_its_producer_back)
{
    outbox_init(&box, false);
    struct l2d_thread thread = { 0 };
    cr_assert_eq(l2d_thread_start(&thread, "push", push_many, NULL, NULL), L2D_OK);
    struct shared_item *shared;
    int64_t next = 0;
    while (outbox_pop(&box, &shared, -1) == L2D_QUEUE_OK) {
        cr_expect_eq(shared->item.frame->pts, next++);
        shared_item_unref(shared);
    }
    l2d_thread_join(&thread);
    cr_expect_eq(next, 1000);
    cr_expect_eq(outbox_counts(&box).stalled + outbox_counts(&box).lost, 0u);
}
