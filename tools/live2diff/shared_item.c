// SPDX-License-Identifier: Apache-2.0
// See shared_item.h.
#include "shared_item.h"

#include <stdlib.h>

struct shared_item *shared_item_new(struct l2d_item *item, double arrival_s)
{
    struct shared_item *shared = malloc(sizeof(*shared));
    if (!shared) {
        l2d_item_clear(item);
        return NULL;
    }
    atomic_init(&shared->refs, 1);
    shared->item = *item;
    shared->arrival_s = arrival_s;
    *item = (struct l2d_item) { 0 };
    return shared;
}

struct shared_item *shared_item_ref(struct shared_item *shared)
{
    atomic_fetch_add(&shared->refs, 1);
    return shared;
}

void shared_item_unref(struct shared_item *shared)
{
    if (shared && atomic_fetch_sub(&shared->refs, 1) == 1) {
        l2d_item_clear(&shared->item);
        free(shared);
    }
}
