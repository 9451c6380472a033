// SPDX-License-Identifier: Apache-2.0
// model.json.
#include "fuzz.h"
#include "pipeline/config.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char path[64];
    int fd = fuzz_file(path, data, size);
    static struct l2d_model_config config;
    struct l2d_error err;
    l2d_model_config_read(&config, path, &err);
    close(fd);
    return 0;
}
