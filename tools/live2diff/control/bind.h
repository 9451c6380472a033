// SPDX-License-Identifier: Apache-2.0
// A socket at an address, or a line that says why there is none.
#ifndef L2D_CONTROL_BIND_H
#define L2D_CONTROL_BIND_H

#include "address.h"
#include "base/error.h"

/**
 * Bind a socket; one of SOCK_STREAM also listens.
 * type     SOCK_STREAM or SOCK_DGRAM
 * address  receives the port if 0 was asked for
 * option   what the user knows it by: begins the message
 * returns  L2D_OK and a descriptor in *out, or L2D_EIO.
 */
int bind_socket(int type, struct control_address *address, const char *option, int *out,
                struct l2d_error *err);

/** Whether that would go now. returns as bind_socket. */
int bind_check(int type, const struct control_address *address, const char *option,
               struct l2d_error *err);

#endif
