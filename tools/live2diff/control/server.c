// SPDX-License-Identifier: Apache-2.0
// See server.h. The listening socket is made here, so that what is wrong with an address is said in
// our words; libmicrohttpd serves it on two threads of its own.
#include "server.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "bind.h"
#include "guard.h"
#include "server_parts.h"

#define NUM_THREADS 2
#define CONNECTION_BYTES 32768      // of a connection's buffers: the longest header

void server_state(struct control_server *server, struct control_state *state)
{
    control_frames_measure(server->source.frames, state);
    server->source.state(server->source.user, state);
    state->changes = atomic_load(&server->changes);
    state->event_clients = feed_clients(server->events);
    for (int i = 0; i < NUM_VIEWS; i++)
        state->preview_clients += feed_clients(server->preview[i]);
}

json_t *server_state_json(struct control_server *server)
{
    struct control_state state = { 0 };
    pthread_mutex_lock(&server->source_lock);
    server_state(server, &state);
    json_t *json = state_json(&state);
    if (json)
        json_object_set_new(json, "params", params_values(&server->source.params));
    pthread_mutex_unlock(&server->source_lock);
    return json;
}

// Called when a connection opens and when it has ended, before its socket is closed.
static void on_connection(void *user, struct MHD_Connection *http, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct control_server *server = user;
    struct connection *c = *context;
    pthread_mutex_lock(&server->connection_lock);
    if (code == MHD_CONNECTION_NOTIFY_STARTED && (c = calloc(1, sizeof(*c))) != NULL) {
        c->socket = MHD_get_connection_info(http, MHD_CONNECTION_INFO_CONNECTION_FD)->connect_fd;
        c->since_s = l2d_clock_s();
        c->next = server->connections;
        server->connections = c;
    } else if (c) {
        struct connection **at = &server->connections;
        while (*at != c)
            at = &(*at)->next;
        *at = c->next;
        free(c);
        c = NULL;
    }
    pthread_mutex_unlock(&server->connection_lock);
    *context = c;
}

static int check_token(const struct control_server_params *params, struct l2d_error *err)
{
    const char *fault = params->token ? guard_token_fault(params->token) : NULL;
    if (fault)
        return l2d_error_set(err, L2D_EINVAL, "--control-token: %s", fault);
    if (!params->token && !control_address_is_loopback(&params->address))
        return l2d_error_set(err, L2D_EINVAL, "--control %s can be reached from other machines: "
                             "set a token in the environment's LIVE2DIFF_TOKEN or with "
                             "--control-token", params->address.host);
    return L2D_OK;
}

static int start_daemon(struct control_server *server, struct l2d_error *err)
{
    int fd = -1;
    int rc = bind_socket(SOCK_STREAM, &server->address, "--control", &fd, err);
    if (rc != L2D_OK)
        return rc;
    sigset_t all, before;               // signals are main's, and new threads inherit the mask
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    server->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_AUTO | MHD_ALLOW_SUSPEND_RESUME, 0, NULL, NULL,
        request_handle, server, MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_THREAD_POOL_SIZE,
        (unsigned) NUM_THREADS, MHD_OPTION_CONNECTION_LIMIT, (unsigned) MAX_CONNECTIONS,
        MHD_OPTION_CONNECTION_TIMEOUT, (unsigned) IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t) CONNECTION_BYTES, MHD_OPTION_NOTIFY_COMPLETED, request_end, server,
        MHD_OPTION_NOTIFY_CONNECTION, on_connection, server, MHD_OPTION_END);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (server->daemon)
        return L2D_OK;
    close(fd);
    return l2d_error_set(err, L2D_EIO, "--control: the HTTP server does not start: %s",
                         strerror(errno));
}

int control_server_create(struct control_server **out, const struct control_server_params *params,
                          struct l2d_error *err)
{
    int rc = check_token(params, err);
    if (rc != L2D_OK)
        return rc;
    struct control_server *server = calloc(1, sizeof(*server));
    if (!server)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    server->source = params->source;
    server->address = params->address;
    server->token = params->token;
    server->log = l2d_log_named(params->log, "control");
    pthread_mutex_init(&server->source_lock, NULL);
    pthread_mutex_init(&server->connection_lock, NULL);
    pthread_mutex_init(&server->waiting_lock, NULL);
    rc = feed_create(&server->events, MAX_EVENT_CLIENTS, err);
    for (int i = 0; rc == L2D_OK && i < NUM_VIEWS; i++)
        rc = feed_create(&server->preview[i], MAX_PREVIEW_CLIENTS, err);
    if (rc == L2D_OK)
        rc = start_daemon(server, err);
    if (rc == L2D_OK)
        rc = l2d_thread_start(&server->sender, "control", sender_main, server, err);
    if (rc != L2D_OK) {
        control_server_destroy(&server);
        return rc;
    }
    char text[272];
    control_address_format(&server->address, text);
    l2d_log_print(&server->log, L2D_LOG_INFO, "http://%s/%s", text,
                  server->token ? " (asks for the token)" : "");
    *out = server;
    return L2D_OK;
}

void control_server_destroy(struct control_server **pserver)
{
    struct control_server *server = *pserver;
    *pserver = NULL;
    if (!server)
        return;
    atomic_store(&server->stopping, true);
    if (server->sender.running)
        control_frames_wake(server->source.frames);
    l2d_thread_join(&server->sender);
    // Suspended connections must be on their way before the daemon stops.
    request_resume_all(server);
    if (server->events)
        feed_close(server->events);
    for (int i = 0; i < NUM_VIEWS; i++)
        if (server->preview[i])
            feed_close(server->preview[i]);
    if (server->daemon)
        MHD_stop_daemon(server->daemon);
    feed_destroy(&server->events);
    for (int i = 0; i < NUM_VIEWS; i++)
        feed_destroy(&server->preview[i]);
    pthread_mutex_destroy(&server->connection_lock);
    pthread_mutex_destroy(&server->waiting_lock);
    pthread_mutex_destroy(&server->source_lock);
    free(server);
}

int control_server_change(struct control_server *server, const json_t *change,
                          struct l2d_error *err)
{
    pthread_mutex_lock(&server->source_lock);
    int rc = params_apply(&server->source.params, change, err);
    if (rc == L2D_OK)
        atomic_fetch_add(&server->changes, 1);
    pthread_mutex_unlock(&server->source_lock);
    if (rc == L2D_OK)
        control_frames_wake(server->source.frames);     // watchers learn of it now
    return rc;
}

const struct control_address *control_server_address(const struct control_server *server)
{
    return &server->address;
}
