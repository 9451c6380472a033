// SPDX-License-Identifier: Apache-2.0
// See manifest.h.
#include "pipeline/import/manifest.h"

#include <errno.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/import/digest.h"
#include "pipeline/import/lora.h"

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

static int add_file(struct l2d_manifest *m, const char *role, const char *path, const char *memory,
                    struct l2d_error *err)
{
    char digest[L2D_DIGEST_CHARS];
    struct stat st;
    int rc = l2d_digest_file(digest, path, memory, err);
    if (rc != L2D_OK)
        return rc;
    if (stat(path, &st) != 0)
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    json_t *entry = json_pack("{s:s, s:s, s:I, s:s}", "role", role, "path", path, "bytes",
                              (json_int_t) st.st_size, "sha256", digest);
    return json_array_append_new(m->files, entry) == 0
         ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory, or its name is not UTF-8",
                                  path);
}

static int add_checkpoint(struct l2d_manifest *m, const char *role,
                          const struct l2d_checkpoint *file, const char *memory,
                          struct l2d_error *err)
{
    int rc = L2D_OK;
    for (size_t i = 0; i < l2d_checkpoint_num_files(file) && rc == L2D_OK; i++)
        rc = add_file(m, role, l2d_checkpoint_file(file, i), memory, err);
    return rc;
}

static int open_and_add(struct l2d_manifest *m, const char *role, const char *path,
                        const char *memory, struct l2d_error *err)
{
    struct l2d_checkpoint *file = NULL;
    int rc = l2d_checkpoint_open(&file, path, err);
    if (rc == L2D_OK)
        rc = add_checkpoint(m, role, file, memory, err);
    l2d_checkpoint_close(&file);
    return rc;
}

int l2d_manifest_add_files(struct l2d_manifest *m, const struct l2d_sources *sources,
                           const struct l2d_import *import, struct l2d_error *err)
{
    const struct { const char *role, *path; } small[] = {
        { "vocabulary", sources->vocab }, { "merges", sources->merges },
        { "unet config", sources->unet_config }, { "text config", sources->text_config },
    };
    const char *memory = import->digests;
    int rc = L2D_OK;
    for (int32_t i = 0; i < sources->num_sources && rc == L2D_OK; i++)
        rc = add_checkpoint(m, sources->source[i].role, sources->source[i].file, memory, err);
    for (int i = 0; i < import->num_loras && rc == L2D_OK; i++) {
        char config[4096];
        l2d_lora_config_path(config, sizeof(config), import->lora[i].path);
        rc = open_and_add(m, "lora", import->lora[i].path, memory, err);
        if (rc == L2D_OK && access(config, F_OK) == 0)
            rc = add_file(m, "lora config", config, memory, err);
    }
    for (int i = 0; i < import->num_embeddings && rc == L2D_OK; i++)
        rc = open_and_add(m, "embedding", import->embedding[i].path, memory, err);
    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]) && rc == L2D_OK; i++)
        if (i < 2 || access(small[i].path, F_OK) == 0)
            rc = add_file(m, small[i].role, small[i].path, memory, err);
    return rc;
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
