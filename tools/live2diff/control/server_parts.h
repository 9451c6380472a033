// SPDX-License-Identifier: Apache-2.0
// The server's inside: what its daemon (server.c), its requests (request.c, api.c) and the thread
// that sends pictures and events (sender.c) share.
#ifndef L2D_CONTROL_SERVER_PARTS_H
#define L2D_CONTROL_SERVER_PARTS_H

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>

#include "base/thread.h"
#include "feed.h"
#include "server.h"

#define MAX_CONNECTIONS 64
#define MAX_EVENT_CLIENTS 16
#define MAX_PREVIEW_CLIENTS 8       // of each view
#define MAX_BODY_BYTES 16384
#define IDLE_S 10                   // nothing is sent or received
#define REQUEST_S 30                // a request and its answer, but for feeds
#define OPENING_S 8                 // that an answer waits for an output to open
#define FRESH_S 2.0                 // a message that a new client of a feed still gets
#define PREVIEW_SIDE 768            // pixels

enum view { VIEW_RESULT, VIEW_SOURCE, VIEW_BOTH, NUM_VIEWS };

struct connection {             // libmicrohttpd's, while it is open
    struct connection *next;
    int socket;
    double since_s;             // when its present request, or the wait for one, began
    bool is_feed;
};

struct control_server {
    struct control_source source;
    struct control_address address;
    const char *token;
    struct l2d_log log;
    struct MHD_Daemon *daemon;
    struct feed *events, *preview[NUM_VIEWS];
    struct l2d_thread sender;
    atomic_bool stopping;
    atomic_uint changes;        // of parameters, that were accepted

    pthread_mutex_t source_lock;        // the source's callbacks are called with it
    pthread_mutex_t connection_lock;
    struct connection *connections;     // guarded by it
    pthread_mutex_t waiting_lock;       // taken in no callback of libmicrohttpd's own locks
    struct request *waiting;            // suspended until request_resume_all; guarded by it
};

struct request {
    const struct route *route;      // NULL: there is none
    char allow[32];                 // the methods that the path has; empty: there is no such path
    const char *path;               // of the URL; libmicrohttpd's
    struct connection *connection;
    struct MHD_Connection *http;
    char *body;
    size_t body_size, body_room;
    struct request *next;           // in the server's waiting
    bool has_output;                // of a request to add one: it was added, as this
    uint32_t output;
    double added_s;
};

// A method and a path, and who answers.
struct route {
    const char *method, *path;  // a path that ends in a slash: and what follows it
    bool open;                  // without a token
    enum MHD_Result (*answer)(struct control_server *server, struct request *request);
};

/**
 * The route of a request, among the interface's and the page's files. HEAD is as GET.
 * allow    receives the methods of that path, "GET, PATCH"; has room for 32
 * returns  NULL: no such path, or not by this method.
 */
const struct route *api_find(const char *method, const char *path, char *allow);

/** The state, with all that the server itself knows. The caller holds source_lock. */
void server_state(struct control_server *server, struct control_state *state);

/** The same as JSON, with the parameters' values. Takes the lock itself. NULL: out of memory. */
json_t *server_state_json(struct control_server *server);

/** Refuse, with {"error": ...}. */
enum MHD_Result answer_error(struct request *request, unsigned status, const char *fmt, ...)
    L2D_PRINTF(3, 4);

/** Answer with json, which it releases; NULL: out of memory. */
enum MHD_Result answer_json(struct request *request, unsigned status, json_t *json);

/** Answer with bytes; extra is a header and its value, or NULL. */
enum MHD_Result answer_bytes(struct request *request, unsigned status, const char *type,
                             const void *data, size_t size, const char *const extra[2]);

/** Queue with the headers that every answer has, and release. */
enum MHD_Result answer_response(struct request *request, unsigned status, const char *type,
                                struct MHD_Response *response);

/**
 * Answer later: the route is asked again, a tenth of a second from now. Costs no thread meanwhile.
 * returns  false: not any more, since the server stops.
 */
bool request_suspend(struct control_server *server, struct request *request);
void request_resume_all(struct control_server *server);

/** libmicrohttpd's callbacks; user is the server. */
enum MHD_Result request_handle(void *user, struct MHD_Connection *http, const char *path,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **state);
void request_end(void *user, struct MHD_Connection *http, void **state,
                 enum MHD_RequestTerminationCode why);

/** The sender's main; arg is the server. */
void sender_main(void *arg);

#endif
