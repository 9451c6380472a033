// SPDX-License-Identifier: Apache-2.0
// Files of weights: safetensors and both forms of torch.save(); also taken as textual inversions.
#include "fuzz.h"
#include "pipeline/import/embedding.h"
#include "tensor/checkpoint.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = fuzz_file(path, data, size);
    struct l2d_checkpoint *c = NULL;
    struct l2d_error err;
    if (l2d_checkpoint_open(&c, path, &err) == L2D_OK)
        for (size_t i = 0; i < l2d_checkpoint_count(c) && i < 16; i++) {
            const struct l2d_checkpoint_tensor *t = l2d_checkpoint_get(c, i);
            float *out = t->count < 1 << 20 ? malloc(t->count * sizeof(*out) + 1) : NULL;
            if (out)
                l2d_checkpoint_read(c, t, out, &err);
            free(out);
        }
    l2d_checkpoint_close(&c);
    struct l2d_embedding e;
    l2d_embedding_read(&e, path, NULL, &err);
    l2d_embedding_finish(&e);
    close(fd);
    return 0;
}
