// SPDX-License-Identifier: Apache-2.0
// Setting and wrapping of error messages. See error.h.
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

int l2d_error_set(struct l2d_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(err->msg, sizeof(err->msg), fmt, ap);
    va_end(ap);
    err->code = (enum l2d_code) code;
    return code;
}

int l2d_error_wrap(struct l2d_error *err, int code, const char *fmt, ...)
{
    if (!err)
        return code;
    char prefix[sizeof(err->msg)];
    va_list ap;
    va_start(ap, fmt);
    int n = vsnprintf(prefix, sizeof(prefix), fmt, ap);
    va_end(ap);
    if (n < 0)
        return code;

    size_t len = (size_t) n < sizeof(prefix) - 3 ? (size_t) n : sizeof(prefix) - 3;
    memcpy(prefix + len, ": ", 3);
    len += 2;
    size_t keep = strlen(err->msg);
    if (keep > sizeof(err->msg) - 1 - len)
        keep = sizeof(err->msg) - 1 - len;      // the end of the story gives way to its beginning
    memmove(err->msg + len, err->msg, keep);
    memcpy(err->msg, prefix, len);
    err->msg[len + keep] = '\0';
    err->code = (enum l2d_code) code;
    return code;
}

const char *l2d_error_control(const char *text)
{
    while (*text && (unsigned char) *text >= 0x20 && *text != 0x7f)
        text++;
    return *text ? text : NULL;
}

void l2d_error_printable(char *text)
{
    for (const char *c = text; (c = l2d_error_control(c));)
        text[c - text] = '?';
}

const char *l2d_code_str(int code)
{
    switch ((enum l2d_code) code) {
    case L2D_OK:           return "ok";
    case L2D_EINVAL:       return "invalid argument";
    case L2D_ENOMEM:       return "out of memory";
    case L2D_EIO:          return "input/output error";
    case L2D_EFORMAT:      return "malformed data";
    case L2D_EGPU:         return "Vulkan error";
    case L2D_EGPUMEM:      return "out of GPU memory";
    case L2D_EUNSUPPORTED: return "not supported";
    case L2D_ECLOSED:      return "closed";
    }
    return "unknown error";
}
