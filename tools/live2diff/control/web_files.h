// SPDX-License-Identifier: Apache-2.0
// The page, as tools/live2diff/web has it and control/embed.cmake puts it into the program.
#ifndef L2D_CONTROL_WEB_FILES_H
#define L2D_CONTROL_WEB_FILES_H

#include <stddef.h>

struct web_file {
    const char *path, *type;        // "/app.js", "text/javascript; charset=utf-8"
    const unsigned char *data;
    size_t size;
};

extern const struct web_file web_file[];
extern const size_t web_num_files;

#endif
