// SPDX-License-Identifier: Apache-2.0
// The closed form of the temporal window. See window.h.
#include "pipeline/window.h"

#include <assert.h>

#define RING (L2D_WINDOW_SIZE - L2D_WINDOW_SINKS)       // slots that are overwritten in turn

struct l2d_window l2d_window_at(uint32_t frame)
{
    if (frame < L2D_WINDOW_SINKS)
        return (struct l2d_window) { (int) frame, (int) frame, L2D_WINDOW_SINKS };
    uint32_t j = frame - L2D_WINDOW_SINKS;
    bool full = j >= RING;
    return (struct l2d_window) {
        .slot = L2D_WINDOW_SINKS + (int) (j % RING),
        .position = full ? L2D_WINDOW_SIZE - 1 : L2D_WINDOW_SINKS + (int) j,
        .num_open = full ? L2D_WINDOW_SIZE : L2D_WINDOW_SINKS + 1 + (int) j,
    };
}

int l2d_window_slot_position(uint32_t frame, int slot)
{
    assert(slot >= 0 && slot < L2D_WINDOW_SIZE);
    if (slot < L2D_WINDOW_SINKS || frame < L2D_WINDOW_SIZE)
        return slot;
    int age = (l2d_window_at(frame).slot - slot + RING) % RING;     // frames since it was written
    return L2D_WINDOW_SIZE - 1 - age;
}

bool l2d_window_visible(uint32_t frame, int slot)
{
    assert(slot >= 0 && slot < L2D_WINDOW_SIZE);
    return slot < l2d_window_at(frame).num_open;
}
