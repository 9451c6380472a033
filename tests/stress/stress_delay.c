// SPDX-License-Identifier: Apache-2.0
// Frames on a delay line, from one thread to the line's own, drained or stopped at any moment: each
// is given or left inside, in order. For ThreadSanitizer.
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/thread.h"
#include "delay.h"

#define ROUNDS 60
#define FRAMES 300

static struct delay *delay;
static atomic_uint given, put;
static bool drains;

static bool give(void *user, struct l2d_frame **frame, double arrival_s)
{
    (void) user;
    (void) arrival_s;
    if ((*frame)->pts != (int64_t) atomic_load(&given)) {
        fprintf(stderr, "frame %d, expected %u\n", (int) (*frame)->pts, atomic_load(&given));
        exit(1);
    }
    atomic_fetch_add(&given, 1);
    return true;
}

static void put_main(void *arg)
{
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
    (void) arg;
    for (int i = 0; i < FRAMES; i++) {
        struct l2d_frame *f = NULL;
        if (l2d_frame_create(&f, 2, 2, &format, NULL) != L2D_OK)
            exit(1);
        f->pts = i;
        int rc = delay_put(delay, &f, 0, l2d_clock_s() + 1e-5 * (rand() % 20));
        l2d_frame_unref(&f);
        if (rc != L2D_OK)
            return;
        atomic_fetch_add(&put, 1);
    }
    if (drains)
        delay_drain(delay);
}

int main(void)
{
    for (int round = 0; round < ROUNDS; round++) {
        struct l2d_thread thread = { 0 };
        struct l2d_error err = { 0 };
        atomic_store(&given, 0);
        atomic_store(&put, 0);
        drains = round % 2;
        if (delay_create(&delay, 4, give, NULL, &err) != L2D_OK ||
            l2d_thread_start(&thread, "put", put_main, NULL, &err) != L2D_OK)
            return 1;
        while (!drains && atomic_load(&given) < (unsigned) round)
            ;
        if (!drains)
            delay_stop(delay);
        l2d_thread_join(&thread);
        unsigned left = delay_destroy(&delay);
        if (atomic_load(&given) + left != atomic_load(&put) || (drains && left)) {
            fprintf(stderr, "round %d: %u put, %u given, %u left\n", round, atomic_load(&put),
                    atomic_load(&given), left);
            return 1;
        }
    }
    return 0;
}
