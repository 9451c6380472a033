// SPDX-License-Identifier: Apache-2.0
// One request to the control server and its answer, whole, in memory: bounded in size and in time.
#ifndef L2D_PROGRAM_HTTP_CLIENT_H
#define L2D_PROGRAM_HTTP_CLIENT_H

#include <stddef.h>

#include "base/error.h"
#include "control/address.h"

struct http_answer {
    int status;             // 200
    char *body;             // ends in a zero that size does not count. Free it
    size_t size;
};

/**
 * Ask, and wait for the answer.
 * token    NULL: none is sent.
 * body     JSON; NULL: none.
 * returns  L2D_OK: some answer came, whatever its status; L2D_EIO: nobody listens, it took more
 *          than ten seconds, or it broke off; L2D_EFORMAT: what came is no HTTP, or is too long.
 */
int http_ask(struct http_answer *answer, const struct control_address *address, const char *method,
             const char *path, const char *token, const char *body, struct l2d_error *err);

#endif
