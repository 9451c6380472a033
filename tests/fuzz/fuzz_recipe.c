// SPDX-License-Identifier: Apache-2.0
// YAML.
#include "fuzz.h"
#include "pipeline/import/recipe.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = fuzz_file(path, data, size);
    struct l2d_recipe *recipe = NULL;
    struct l2d_error err;
    l2d_recipe_read(&recipe, path, &err);
    l2d_recipe_destroy(&recipe);
    close(fd);
    return 0;
}
