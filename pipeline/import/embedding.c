// SPDX-License-Identifier: Apache-2.0
// See embedding.h.
#include "pipeline/import/embedding.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tensor/checkpoint.h"

#define A1111 "string_to_param/"
#define MAX_WIDTH (1 << 16)

// The tensor that has the vectors. Sets name to what the file calls the word, or NULL.
static int find(const struct l2d_checkpoint *file, const struct l2d_checkpoint_tensor **out,
                const char **name, struct l2d_error *err)
{
    const char *path = l2d_checkpoint_path(file);
    size_t count = l2d_checkpoint_count(file), num = 0, num_a1111 = 0;
    for (size_t i = 0; i < count; i++)
        num_a1111 += !strncmp(l2d_checkpoint_get(file, i)->name, A1111, strlen(A1111));
    for (size_t i = 0; i < count; i++) {
        const struct l2d_checkpoint_tensor *t = l2d_checkpoint_get(file, i);
        if (!strcmp(t->name, "clip_g"))
            return l2d_error_set(err, L2D_EUNSUPPORTED, "%s: is a textual inversion for SDXL",
                                 path);
        if (num_a1111 == 0 || !strncmp(t->name, A1111, strlen(A1111))) {
            *out = t;
            num++;
        }
    }
    if (num != 1)
        return l2d_error_set(err, L2D_EFORMAT, "%s: is no textual inversion: it has %zu tensors "
                             "that could be its vectors, instead of one", path, num);
    *name = num_a1111 ? l2d_checkpoint_text(file, "name")
                      : strcmp((*out)->name, "emb_params") ? (*out)->name : NULL;
    return L2D_OK;
}

static char *copy_token(const char *path, const char *token)
{
    const char *slash = strrchr(path, '/');
    if (token && *token)
        return strdup(token);
    char *stem = strdup(slash ? slash + 1 : path), *dot = stem ? strrchr(stem, '.') : NULL;
    if (dot)
        *dot = '\0';
    return stem;
}

static int read_values(struct l2d_embedding *e, struct l2d_checkpoint *file,
                       const struct l2d_checkpoint_tensor *t, struct l2d_error *err)
{
    const char *path = l2d_checkpoint_path(file);
    uint64_t rows = t->ndim == 2 ? t->dims[0] : 1, width = t->ndim > 0 ? t->dims[t->ndim - 1] : 0;
    if (t->ndim < 1 || t->ndim > 2 || width == 0 || width > MAX_WIDTH)
        return l2d_error_set(err, L2D_EFORMAT, "%s: is no textual inversion: its tensor is not of "
                             "the shape [vectors, width]", path);
    if (rows < 1 || rows > L2D_EMBEDDING_MAX_VECTORS)
        return l2d_error_set(err, L2D_EFORMAT, "%s: a textual inversion of %" PRIu64 " vectors; 1 "
                             "to %d are possible", path, rows, L2D_EMBEDDING_MAX_VECTORS);
    e->num_vectors = (int32_t) rows;
    e->width = (int32_t) width;
    e->values = malloc(t->count * sizeof(*e->values));
    return e->values ? l2d_checkpoint_read(file, t, e->values, err)
                     : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
}

int l2d_embedding_read(struct l2d_embedding *e, const char *path, const char *token,
                       struct l2d_error *err)
{
    struct l2d_checkpoint *file = NULL;
    const struct l2d_checkpoint_tensor *tensor = NULL;
    const char *name = NULL;
    *e = (struct l2d_embedding) { 0 };
    int rc = l2d_checkpoint_open(&file, path, err);
    if (rc == L2D_OK)
        rc = find(file, &tensor, &name, err);
    if (rc == L2D_OK)
        rc = read_values(e, file, tensor, err);
    if (rc == L2D_OK && !(e->token = copy_token(path, token ? token : name)))
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    l2d_checkpoint_close(&file);
    return rc;
}

void l2d_embedding_finish(struct l2d_embedding *e)
{
    free(e->token);
    free(e->values);
    *e = (struct l2d_embedding) { 0 };
}
