// SPDX-License-Identifier: Apache-2.0
// Formatting of log lines. See log.h.
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

void l2d_log_print(const struct l2d_log *log, enum l2d_log_level level, const char *fmt, ...)
{
    if (!log || !log->sink || level > log->level)
        return;
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    log->sink(log->user, level, log->name, line);
}

struct l2d_log l2d_log_named(const struct l2d_log *log, const char *name)
{
    struct l2d_log named = log ? *log : (struct l2d_log) { 0 };
    named.name = name;
    return named;
}

const char *l2d_log_level_str(enum l2d_log_level level)
{
    switch (level) {
    case L2D_LOG_ERROR: return "error";
    case L2D_LOG_WARN:  return "warning";
    case L2D_LOG_INFO:  return "info";
    case L2D_LOG_DEBUG: return "debug";
    case L2D_LOG_TRACE: return "trace";
    }
    return "?";
}
