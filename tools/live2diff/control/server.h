// SPDX-License-Identifier: Apache-2.0
// The HTTP server beside a run: state, parameters, pictures, metrics, and a page that shows them.
// docs/control.md has the interface. It has its own threads; the run's threads only leave frames in
// control_frames, and are asked for numbers and told parameters by the callbacks below.
#ifndef L2D_CONTROL_SERVER_H
#define L2D_CONTROL_SERVER_H

#include "address.h"
#include "base/error.h"
#include "base/log.h"
#include "frames.h"
#include "params.h"
#include "state.h"

struct control_server;          // opaque

// Outputs that come and go while the run goes on; zeroed: this run has none that do. Any thread may
// call these, several at once, and none of them waits.
struct control_outputs {
    /** what is the request's JSON. returns as output_request_read and outputs_add. */
    int (*add)(void *user, const json_t *what, uint32_t *id, struct l2d_error *err);
    /** What became of it: L2D_OK with *opening or open, or why it is not there any more. */
    int (*look)(void *user, uint32_t id, bool *opening, struct l2d_error *err);
    /** L2D_EINVAL: there is none with that id. */
    int (*remove)(void *user, uint32_t id, struct l2d_error *err);
};

// What the server must know of a run, and all that it knows.
struct control_source {
    void *user;
    /** Fill in what the run knows; latency, interval and fps are there. One thread at a time. */
    void (*state)(void *user, struct control_state *state);
    struct param_table params;
    struct control_frames *frames;      // not owned
    struct control_outputs outputs;
};

struct control_server_params {
    struct control_address address;
    const char *token;          // NULL: none, which is refused unless the address is this machine's
    struct control_source source;
    const struct l2d_log *log;
};

/**
 * Listen and serve. The table, the token and the frames live as long as the server.
 * returns  L2D_OK; L2D_EINVAL (a token is missing or bad), L2D_EIO (the address cannot be had),
 *          L2D_ENOMEM.
 */
int control_server_create(struct control_server **out, const struct control_server_params *params,
                          struct l2d_error *err);

/** Ends all connections and threads; no callback runs afterwards. Accepts NULL. */
void control_server_destroy(struct control_server **server);

/** Change parameters by another way than HTTP; see params_apply. Any thread. */
int control_server_change(struct control_server *server, const json_t *change,
                          struct l2d_error *err);

/** Where it listens: the port is known if 0 was asked for. */
const struct control_address *control_server_address(const struct control_server *server);

#endif
