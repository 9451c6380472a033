// SPDX-License-Identifier: Apache-2.0
// See cache.h.
#include "pipeline/import/cache.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

#include "base/file.h"
#include "pipeline/import/digest.h"
#include "pipeline/import/manifest.h"
#include "pipeline/import/sources.h"

#define IMPORTER 1              // raise it when the same files become another folder
#define PATH_BYTES 4096

struct cache {
    char models[PATH_BYTES];
    void (*say)(void *user, const char *line);
    void *user;
    struct l2d_error *err;
};

// ---- the name of an import ----------------------------------------------------------------------

// Everything that an import's result depends on. NULL: out of memory, or a text is not UTF-8.
static json_t *describe(const struct l2d_import *import, const struct l2d_manifest *manifest)
{
    size_t i;
    json_t *file, *loras = json_array(), *words = json_array(), *steps = json_array();
    json_array_foreach(manifest->files, i, file)
        json_object_del(file, "path");
    for (int n = 0; n < import->num_loras; n++)
        json_array_append_new(loras, json_pack("[f, b]", (double) import->lora[n].scale,
                                               (int) import->lora[n].raw));
    for (int n = 0; n < import->num_embeddings; n++)        // a word may be told by the file's name
        json_array_append_new(words, json_string(import->embedding[n].token
                                                 ? import->embedding[n].token
                                                 : import->embedding[n].path));
    for (int32_t n = 0; n < import->num_steps; n++)
        json_array_append_new(steps, json_integer(import->t_index[n]));
    return json_pack("{s:i, s:O, s:o, s:o, s:o, s:s?, s:s?, s:s?, s:b, s:b, s:[i, i, i, i]}",
                     "importer", IMPORTER, "files", manifest->files, "loras", loras, "words", words,
                     "steps", steps, "name", import->name, "prompt", import->prompt, "template",
                     import->prompt_template, "v", (int) import->predicts_v, "depth by frame",
                     (int) import->depth_by_frame, "numbers", (int) import->clip_skip,
                     (int) import->width, (int) import->height, (int) import->num_inference_steps);
}

static int name_of(char name[L2D_DIGEST_CHARS], const struct l2d_import *import,
                   struct l2d_error *err)
{
    struct l2d_sources sources;
    struct l2d_manifest manifest;
    int rc = l2d_sources_open(&sources, import, err);
    if (rc == L2D_OK) {
        rc = l2d_manifest_init(&manifest, err);
        if (rc == L2D_OK)
            rc = l2d_manifest_add_files(&manifest, &sources, import, err);
        json_t *all = rc == L2D_OK ? describe(import, &manifest) : NULL;
        char *text = all ? json_dumps(all, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
        if (text)
            l2d_digest_bytes(name, text, strlen(text));
        else if (rc == L2D_OK)
            rc = l2d_error_set(err, L2D_ENOMEM, "out of memory, or a text is not UTF-8");
        free(text);
        json_decref(all);
        l2d_manifest_finish(&manifest);
    }
    l2d_sources_finish(&sources);
    return rc;
}

// ---- one at a time ------------------------------------------------------------------------------

static void say(const struct cache *cache, const char *text, const char *what)
{
    char line[PATH_BYTES + 128];
    snprintf(line, sizeof(line), "%s%s", text, what);
    if (cache->say)
        cache->say(cache->user, line);
}

// The system takes the lock from a process that ends, however it does.
static int lock(const struct cache *cache, int *fd)
{
    char path[PATH_BYTES + 16];
    snprintf(path, sizeof(path), "%s/lock", cache->models);
    l2d_file_make_parents(path);
    *fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    int rc = *fd >= 0 ? flock(*fd, LOCK_EX | LOCK_NB) : -1;
    if (rc != 0 && *fd >= 0 && errno == EWOULDBLOCK) {
        say(cache, "another process is importing: waiting for it", "");
        do
            rc = flock(*fd, LOCK_EX);
        while (rc != 0 && errno == EINTR);
    }
    return rc == 0 ? L2D_OK
                   : l2d_error_set(cache->err, L2D_EIO, "%s: %s: imported models are kept there: "
                                   "set XDG_CACHE_HOME to another folder, or use live2diff import",
                                   path, strerror(errno));
}

// Who has the lock knows that nobody else is writing.
static void remove_left_overs(const struct cache *cache)
{
    char path[PATH_BYTES + 260];
    DIR *dir = opendir(cache->models);
    for (struct dirent *e; dir && (e = readdir(dir)) != NULL;) {
        size_t len = strlen(e->d_name);
        if (len < 5 || strcmp(e->d_name + len - 5, ".part") != 0)
            continue;
        snprintf(path, sizeof(path), "%s/%s", cache->models, e->d_name);
        l2d_import_remove(path);
    }
    if (dir)
        closedir(dir);
}

// The folder gets its name when its files have turned out to be those that the name was made of.
static int write_folder(const struct cache *cache, const struct l2d_import *import,
                        const char *folder, const char *name)
{
    char made[PATH_BYTES + 128], now[L2D_DIGEST_CHARS];
    snprintf(made, sizeof(made), "%s.part", folder);
    remove_left_overs(cache);
    say(cache, "importing, once: later runs start from ", folder);
    int rc = l2d_import_write(import, made, cache->say, cache->user, cache->err);
    if (rc == L2D_OK)
        rc = name_of(now, import, cache->err);
    if (rc == L2D_OK && strcmp(now, name) != 0)
        rc = l2d_error_set(cache->err, L2D_EIO, "%s: it or another file changed while it was read; "
                           "try again", import->base);
    if (rc == L2D_OK && rename(made, folder) != 0)
        rc = l2d_error_set(cache->err, L2D_EIO, "%s: %s", folder, strerror(errno));
    if (rc != L2D_OK)
        l2d_import_remove(made);
    return rc;
}

static int make(const struct cache *cache, const struct l2d_import *import, const char *folder,
                const char *name)
{
    int fd = -1, rc = lock(cache, &fd);
    if (rc == L2D_OK && access(folder, F_OK) != 0)
        rc = write_folder(cache, import, folder, name);
    if (fd >= 0)
        close(fd);
    return rc;
}

int l2d_cache_import(char *folder, size_t size, const struct l2d_import *import,
                     void (*say_line)(void *user, const char *line), void *user,
                     struct l2d_error *err)
{
    char dir[PATH_BYTES - 16], digests[PATH_BYTES], name[L2D_DIGEST_CHARS];
    struct cache cache = { .say = say_line, .user = user, .err = err };
    struct l2d_import remembering = *import;
    remembering.digests = digests;
    l2d_file_cache_dir(dir, sizeof(dir));
    if (!*dir)
        return l2d_error_set(err, L2D_EIO, "there is no place to keep the imported model: set "
                             "XDG_CACHE_HOME or HOME, or use live2diff import");
    snprintf(digests, sizeof(digests), "%s/digests", dir);
    snprintf(cache.models, sizeof(cache.models), "%s/models", dir);
    int rc = name_of(name, &remembering, err);
    if (rc != L2D_OK)
        return rc;
    if ((size_t) snprintf(folder, size, "%s/%s", cache.models, name) >= size)
        return l2d_error_set(err, L2D_EIO, "%.200s...: the path is too long", cache.models);
    return access(folder, F_OK) == 0 ? L2D_OK : make(&cache, &remembering, folder, name);
}
