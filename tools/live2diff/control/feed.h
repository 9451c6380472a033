// SPDX-License-Identifier: Apache-2.0
// One message, sent to all who stay connected: the newest. Who is slow misses those in between and
// holds nobody up; a client costs one reference to what it is being sent.
#ifndef L2D_CONTROL_FEED_H
#define L2D_CONTROL_FEED_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

struct MHD_Connection;
struct MHD_Response;
struct feed;                // opaque. Any thread may call all but create and destroy

// Bytes that several clients may be sending.
struct feed_message;

/** Room for size bytes at *data. NULL: out of memory. */
struct feed_message *feed_message_new(size_t size, char **data);

int feed_create(struct feed **out, unsigned max_clients, struct l2d_error *err);
/** No client may be left: close, then stop the daemon, then this. Accepts NULL. */
void feed_destroy(struct feed **feed);

/** Send message, which becomes the feed's; NULL: the last one again, to show that it lives. */
void feed_publish(struct feed *feed, struct feed_message *message);

/** Ends every client's response, and refuses new ones. */
void feed_close(struct feed *feed);

/** Seconds since the last message; huge before the first. */
double feed_age_s(struct feed *feed);
unsigned feed_clients(struct feed *feed);

/**
 * A response that never ends by itself; begins with the last message if it is younger than fresh_s.
 * returns  NULL: as many clients as there may be, closed, or out of memory.
 */
struct MHD_Response *feed_response(struct feed *feed, struct MHD_Connection *connection,
                                   double fresh_s);

#endif
