// SPDX-License-Identifier: Apache-2.0
// A frame or packet on its way to all outputs.
#ifndef L2D_PROGRAM_SHARED_ITEM_H
#define L2D_PROGRAM_SHARED_ITEM_H

#include <stdatomic.h>

#include "video_io/reader.h"

struct shared_item {
    atomic_int refs;
    struct l2d_item item;
    double arrival_s;           // wall clock: when its source came; 0: not a picture of the source
};

/** Takes over what item holds, also on failure; one reference. NULL: out of memory. */
struct shared_item *shared_item_new(struct l2d_item *item, double arrival_s);
struct shared_item *shared_item_ref(struct shared_item *shared);
/** Accepts NULL. */
void shared_item_unref(struct shared_item *shared);

#endif
