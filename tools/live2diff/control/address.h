// SPDX-License-Identifier: Apache-2.0
// Where the control server listens and where `ctl` finds it, as people type it.
#ifndef L2D_CONTROL_ADDRESS_H
#define L2D_CONTROL_ADDRESS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

struct control_address {
    char host[256];         // a name, or a literal without brackets
    uint16_t port;          // 0: any that is free
};

/**
 * ":8080" is this machine alone; "127.0.0.1:8080", "[::1]:8080", "0.0.0.0:8080", "studio.lan:8080".
 * returns  L2D_OK, or L2D_EINVAL with what is wrong.
 */
int control_address_parse(struct control_address *out, const char *text, struct l2d_error *err);

/** Reached from this machine alone: 127.0.0.0/8, ::1, localhost. */
bool control_address_is_loopback(const struct control_address *address);

/** "127.0.0.1:8080", "[::1]:8080". out has room for 272. */
void control_address_format(const struct control_address *address, char *out);

#endif
