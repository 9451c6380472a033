// SPDX-License-Identifier: Apache-2.0
// OSC over UDP into a control server's parameters, on a thread of its own.
#ifndef L2D_CONTROL_OSC_LISTENER_H
#define L2D_CONTROL_OSC_LISTENER_H

#include "server.h"

struct osc_listener;

/**
 * server, table and token outlive the listener. What cannot be read is told in log, once a second.
 * token    NULL: none, which is refused unless the address is this machine's.
 * returns  L2D_OK, L2D_EINVAL (a token is missing), L2D_EIO (the address cannot be had), L2D_ENOMEM
 */
int osc_listener_create(struct osc_listener **out, const struct control_address *address,
                        struct control_server *server, const struct param_table *table,
                        const char *token, const struct l2d_log *log, struct l2d_error *err);

/** Before the server. Accepts NULL. */
void osc_listener_destroy(struct osc_listener **listener);

#endif
