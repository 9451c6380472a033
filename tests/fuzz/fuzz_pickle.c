// SPDX-License-Identifier: Apache-2.0
#include "fuzz.h"
#include "tensor/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct l2d_pickle *pickle = NULL;
    struct l2d_error err;
    size_t used;
    if (l2d_pickle_read(&pickle, "fuzz", data, size, &used, &err) == L2D_OK)
        for (size_t i = 0; i < l2d_pickle_count(pickle); i++) {
            const struct l2d_pickle_tensor *t = l2d_pickle_get(pickle, i);
            const struct l2d_pickle_storage *s = l2d_pickle_storage(pickle, t->storage);
            if (t->count > 0 && t->dtype == s->dtype && t->offset + t->span > s->count)
                abort();
        }
    l2d_pickle_destroy(&pickle);
    return 0;
}
