// SPDX-License-Identifier: Apache-2.0
// Logging: a value that long-lived objects copy, with a level, a name and a sink. Nothing global.
// ERROR: we stop. WARN: output is degraded. INFO: once a run. DEBUG: once a configuration.
// TRACE alone may print every frame. Who returns an error does not also log it.
#ifndef L2D_BASE_LOG_H
#define L2D_BASE_LOG_H

#include "base/error.h"

enum l2d_log_level { L2D_LOG_ERROR, L2D_LOG_WARN, L2D_LOG_INFO, L2D_LOG_DEBUG, L2D_LOG_TRACE };

// A zeroed struct logs nothing. The sink may be called from any thread, with a line that has no
// newline and lives until it returns.
struct l2d_log {
    void (*sink)(void *user, enum l2d_log_level level, const char *name, const char *line);
    void *user;
    enum l2d_log_level level;   // the most detailed level that is passed on
    const char *name;           // "gpu", "stream", "reader"; a string literal
};

/** Without a sink, or where the level is finer than log's, nothing; lines end after 1023 bytes. */
void l2d_log_print(const struct l2d_log *log, enum l2d_log_level level, const char *fmt, ...)
    L2D_PRINTF(3, 4);

/** The same sink and level under another name. */
struct l2d_log l2d_log_named(const struct l2d_log *log, const char *name);

/** "error", "warning", "info", "debug", "trace". */
const char *l2d_log_level_str(enum l2d_log_level level);

#endif
