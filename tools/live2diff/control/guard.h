// SPDX-License-Identifier: Apache-2.0
// Who may ask: the token, and for a server without one whether the browser behind a request shows
// our own page and no other site's. Strings in, answers out.
#ifndef L2D_CONTROL_GUARD_H
#define L2D_CONTROL_GUARD_H

#include <stdbool.h>

/** Whether given is the token, in a time that says nothing about where it differs. */
bool guard_token(const char *token, const char *given);

/** The token in "Bearer TOKEN"; NULL: there is none. */
const char *guard_bearer(const char *authorization);

/**
 * Whether a Host header names this machine: localhost, 127.x.x.x, [::1], with any port. A site
 * whose name was made to resolve to 127.0.0.1 sends its own name.
 */
bool guard_host_is_local(const char *host);

/**
 * Whether an Origin header, if there is one, is that of the page that this server gave out,
 * by itself or behind a proxy that speaks TLS. Browsers send it with every request that changes
 * something.
 */
bool guard_origin(const char *origin, const char *host);

/** What is wrong with a token, or NULL. */
const char *guard_token_fault(const char *token);

#endif
