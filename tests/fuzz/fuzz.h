// SPDX-License-Identifier: Apache-2.0
// What the fuzz targets share: libFuzzer's entry, and bytes as a file that has a path.
#ifndef L2D_TESTS_FUZZ_H
#define L2D_TESTS_FUZZ_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/** A file in memory; its path is written to path. Close the descriptor that is returned. */
static inline int fuzz_file(char path[64], const uint8_t *data, size_t size)
{
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t) size)
        abort();
    snprintf(path, 64, "/proc/self/fd/%d", fd);
    return fd;
}

#endif
