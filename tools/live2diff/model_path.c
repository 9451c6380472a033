// SPDX-License-Identifier: Apache-2.0
// See model_path.h.
#include "model_path.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "pipeline/import/cache.h"
#include "pipeline/import/recipe.h"

static bool has_model(const char *dir)
{
    char path[4096 + 16];
    snprintf(path, sizeof(path), "%s/model.json", dir);
    return access(path, R_OK) == 0;
}

// <folder of the program>/../share/live2diff/models/paint-s
static void beside_program(char *out, size_t size)
{
    char exe[4096];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    exe[n > 0 ? n : 0] = '\0';
    char *slash = strrchr(exe, '/');
    if (slash)
        *slash = '\0';
    snprintf(out, size, "%s/../%s", exe, L2D_RELATIVE_MODEL_DIR);
}

int model_path(char *out, size_t size, const char *asked, struct l2d_error *err)
{
    if (!asked)
        asked = getenv("LIVE2DIFF_MODEL");
    if (asked && *asked) {
        snprintf(out, size, "%s", asked);
        return L2D_OK;
    }
    beside_program(out, size);
    if (has_model(out))
        return L2D_OK;
    static const char *const places[] = { L2D_SOURCE_MODEL_DIR, L2D_INSTALLED_MODEL_DIR };
    for (size_t i = 0; i < sizeof(places) / sizeof(places[0]); i++) {
        snprintf(out, size, "%s", places[i]);
        if (has_model(out))
            return L2D_OK;
    }
    return l2d_error_set(err, L2D_EIO, "no model found in %s nor %s: name one with -m FOLDER or "
                         "$LIVE2DIFF_MODEL", L2D_SOURCE_MODEL_DIR, L2D_INSTALLED_MODEL_DIR);
}

static void print_line(void *user, const char *line)
{
    (void) user;
    fprintf(stderr, "live2diff: %s\n", line);
}

int model_path_import(char *out, size_t size, const char *config, bool quiet,
                      struct l2d_error *err)
{
    struct l2d_recipe *recipe = NULL;
    int rc = l2d_recipe_read(&recipe, config, err);
    if (rc == L2D_OK)
        rc = l2d_cache_import(out, size, l2d_recipe_import(recipe), quiet ? NULL : print_line, NULL,
                              err);
    l2d_recipe_destroy(&recipe);
    return rc;
}
