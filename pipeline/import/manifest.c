// SPDX-License-Identifier: Apache-2.0
// See manifest.h.
#include "pipeline/import/manifest.h"

#include <errno.h>
#include <nettle/sha2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define READ_BYTES (1 << 20)

int l2d_manifest_init(struct l2d_manifest *m, struct l2d_error *err)
{
    *m = (struct l2d_manifest) { json_array(), json_object() };
    return m->files && m->tensors ? L2D_OK
                                  : l2d_error_set(err, L2D_ENOMEM, "manifest: out of memory");
}

void l2d_manifest_finish(struct l2d_manifest *m)
{
    json_decref(m->files);
    json_decref(m->tensors);
    *m = (struct l2d_manifest) { NULL, NULL };
}

int l2d_manifest_add_file(struct l2d_manifest *m, const char *role, const char *path,
                          struct l2d_error *err)
{
    FILE *f = fopen(path, "rb");
    uint8_t *data = malloc(READ_BYTES), digest[SHA256_DIGEST_SIZE];
    struct sha256_ctx sha;
    sha256_init(&sha);
    size_t got;
    uint64_t total = 0;
    int rc = L2D_OK;
    while (f && data && (got = fread(data, 1, READ_BYTES, f)) > 0) {
        sha256_update(&sha, got, data);
        total += got;
    }
    if (!data)
        rc = l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    else if (!f || ferror(f))
        rc = l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    if (f)
        fclose(f);
    free(data);
    if (rc != L2D_OK)
        return rc;
    char hex[2 * SHA256_DIGEST_SIZE + 1];
    sha256_digest(&sha, sizeof(digest), digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
        snprintf(hex + 2 * i, 3, "%02x", digest[i]);
    json_t *entry = json_pack("{s:s, s:s, s:I, s:s}", "role", role, "path", path, "bytes",
                              (json_int_t) total, "sha256", hex);
    return json_array_append_new(m->files, entry) == 0
         ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory, or its name is not UTF-8",
                                  path);
}

void l2d_manifest_add_tensor(struct l2d_manifest *m, const char *file, const char *name,
                             const char *source)
{
    json_t *tensors = json_object_get(m->tensors, file);
    if (!tensors) {
        json_object_set_new(m->tensors, file, json_object());
        tensors = json_object_get(m->tensors, file);
    }
    json_object_set_new(tensors, name, json_pack("[s]", source));
}

void l2d_manifest_add_change(struct l2d_manifest *m, const char *file, const char *name,
                             const char *source)
{
    json_t *origin = json_object_get(json_object_get(m->tensors, file), name);
    json_array_append_new(origin, json_string(source));
}

int l2d_manifest_write(const struct l2d_manifest *m, const char *path, struct l2d_error *err)
{
    json_t *root = json_pack("{s:O, s:O}", "files", m->files, "tensors", m->tensors);
    int rc = root && json_dump_file(root, path, JSON_INDENT(1)) == 0
           ? L2D_OK : l2d_error_set(err, L2D_EIO, "%s: cannot be written", path);
    json_decref(root);
    return rc;
}
