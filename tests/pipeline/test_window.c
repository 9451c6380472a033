// SPDX-License-Identifier: Apache-2.0
// The closed form of the window against a slow one that remembers which frame is in which slot, and
// against rows of a table that the published state functions produced.
#include "pipeline/window.h"

#include <criterion/criterion.h>

enum { NUM_FRAMES = 40 };

// One cache row as it evolves: frame[s] is in slot s, -1 is nobody.
struct row {
    int frame[L2D_WINDOW_SIZE];
};

static void append(struct row *r, int f)
{
    int oldest = -1;
    for (int s = L2D_WINDOW_SINKS; s < L2D_WINDOW_SIZE && oldest < 0; s++)
        if (r->frame[s] < 0)
            oldest = s;                             // the first free slot
    for (int s = L2D_WINDOW_SINKS; s < L2D_WINDOW_SIZE && oldest < 0; s++) {
        oldest = s;
        for (int t = L2D_WINDOW_SINKS; t < L2D_WINDOW_SIZE; t++)
            if (r->frame[t] < r->frame[s])
                oldest = -1;                        // somebody is older
    }
    r->frame[oldest] = f;
}

// Position of slot s: how many of those seen are older.
static int rank(const struct row *r, int s)
{
    int older = 0;
    for (int t = 0; t < L2D_WINDOW_SIZE; t++)
        older += r->frame[t] >= 0 && r->frame[t] < r->frame[s];
    return older;
}

static void check_frame(const struct row *r, int f, int num_steps, int k)
{
    struct l2d_window w = l2d_window_at((uint32_t) f);
    int num_open = 0;
    cr_assert_eq(r->frame[w.slot], f, "D=%d, step %d, frame %d: slot %d", num_steps, k, f, w.slot);
    cr_assert_eq(w.position, rank(r, w.slot), "D=%d, step %d, frame %d", num_steps, k, f);
    for (int s = 0; s < L2D_WINDOW_SIZE; s++) {
        bool seen = r->frame[s] >= 0;
        num_open += seen;
        cr_assert_eq(l2d_window_visible((uint32_t) f, s), seen, "frame %d, slot %d", f, s);
        if (seen)
            cr_assert_eq(l2d_window_slot_position((uint32_t) f, s), rank(r, s), "frame %d, slot %d",
                         f, s);
    }
    cr_assert_eq(w.num_open, num_open, "frame %d", f);
}

// A stream batch of D rows: call n brings frame 8+n to row 0, and row k carries frame 8+n-k.
Test(window, equals_a_slow_simulation)
{
    for (int num_steps = 1; num_steps <= 8; num_steps++) {
        struct row rows[8];
        for (int k = 0; k < num_steps; k++)
            for (int s = 0; s < L2D_WINDOW_SIZE; s++)
                rows[k].frame[s] = s < L2D_WINDOW_SINKS ? s : -1;
        for (int n = 0; n < NUM_FRAMES - L2D_WINDOW_SINKS + num_steps; n++) {
            for (int k = 0; k < num_steps; k++) {
                int f = L2D_WINDOW_SINKS + n - k;
                if (f < L2D_WINDOW_SINKS || f >= NUM_FRAMES)
                    continue;                       // this row is not occupied
                append(&rows[k], f);
                check_frame(&rows[k], f, num_steps, k);
            }
        }
    }
}

// Frame, write slot, own position, open slots, and the first of the frames seen beside the sinks:
// f16 sees 9..16 at 8..15.
Test(window, published_rows)
{
    static const struct { uint32_t frame; int slot, position, num_open, first_seen; } rows[] = {
        { 8, 8, 8, 9, 8 }, { 9, 9, 9, 10, 8 }, { 10, 10, 10, 11, 8 }, { 14, 14, 14, 15, 8 },
        { 15, 15, 15, 16, 8 }, { 16, 8, 15, 16, 9 }, { 17, 9, 15, 16, 10 }, { 18, 10, 15, 16, 11 },
        { 20, 12, 15, 16, 13 }, { 21, 13, 15, 16, 14 },
    };
    for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
        struct l2d_window w = l2d_window_at(rows[i].frame);
        cr_assert_eq(w.slot, rows[i].slot, "frame %u", rows[i].frame);
        cr_assert_eq(w.position, rows[i].position, "frame %u", rows[i].frame);
        cr_assert_eq(w.num_open, rows[i].num_open, "frame %u", rows[i].frame);
        for (int f = rows[i].first_seen, p = 8; f <= (int) rows[i].frame; f++, p++)
            cr_assert_eq(l2d_window_slot_position(rows[i].frame, 8 + f % 8), p, "frame %u sees %d",
                         rows[i].frame, f);
    }
}

Test(window, warm_up_sees_itself)
{
    for (uint32_t f = 0; f < L2D_WINDOW_SINKS; f++) {
        struct l2d_window w = l2d_window_at(f);
        cr_assert(w.slot == (int) f && w.position == (int) f && w.num_open == L2D_WINDOW_SINKS);
        for (int s = 0; s < L2D_WINDOW_SIZE; s++) {
            cr_assert_eq(l2d_window_visible(f, s), s < L2D_WINDOW_SINKS);
            cr_assert_eq(l2d_window_slot_position(f, s), s);
        }
    }
}

Test(window, far_frames)
{
    for (uint32_t f = UINT32_MAX - 20; f > 0 && f <= UINT32_MAX; f++) {
        struct l2d_window w = l2d_window_at(f);
        cr_assert(w.slot == 8 + (int) (f % 8) && w.position == 15 && w.num_open == 16);
        cr_assert_eq(l2d_window_slot_position(f, w.slot), 15);
    }
}
