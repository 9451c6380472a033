// SPDX-License-Identifier: Apache-2.0
// Error codes and the message that travels with them. The caller owns the struct; there is no
// last error per process or thread. The message starts where the cause is known, and each layer
// that passes it on prepends what it was doing.
#ifndef L2D_BASE_ERROR_H
#define L2D_BASE_ERROR_H

#if defined(__GNUC__)
#define L2D_PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#else
#define L2D_PRINTF(fmt, args)
#endif

// Every failing function returns one of these. A caller's own mistake is an assert, not a code.
enum l2d_code {
    L2D_OK           = 0,
    L2D_EINVAL       = -1,  // an argument, option or shape is not acceptable
    L2D_ENOMEM       = -2,  // host memory
    L2D_EIO          = -3,  // a file, pipe, network or device could not be read or written
    L2D_EFORMAT      = -4,  // the bytes were read, but are not what they should be
    L2D_EGPU         = -5,  // Vulkan: no driver, lost device, failed call
    L2D_EGPUMEM      = -6,  // not enough GPU memory
    L2D_EUNSUPPORTED = -7,  // valid, but not something that we do
    L2D_ECLOSED      = -8,  // the stream was stopped
};

// Written by failures alone: after L2D_OK it is what it was. Who asks for none passes NULL.
struct l2d_error {
    enum l2d_code code;
    char msg[1024];         // one line, no newline at its end
};

/**
 * Replace the error's message. err may be NULL.
 * returns  code, so that a function can end with `return l2d_error_set(err, L2D_EINVAL, ...)`.
 */
int l2d_error_set(struct l2d_error *err, int code, const char *fmt, ...) L2D_PRINTF(3, 4);

/** Put "<fmt>: " before the message that is there. err may be NULL. returns code. */
int l2d_error_wrap(struct l2d_error *err, int code, const char *fmt, ...) L2D_PRINTF(3, 4);

/** The first control character of a text: a line break, a tab, ...; NULL: it has none. */
const char *l2d_error_control(const char *text);

/** Put '?' in place of control characters: for text that quotes a file, which may hold anything. */
void l2d_error_printable(char *text);

/** A word for a code: "out of memory", "not supported", ... */
const char *l2d_code_str(int code);

#endif
