// SPDX-License-Identifier: Apache-2.0
// See osc_listener.h.
#include "osc_listener.h"

#include <poll.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/thread.h"
#include "bind.h"
#include "osc.h"

#define MAX_PACKET 8192
#define TICK_MS 200             // in which an end is noticed
#define SAY_EVERY_S 1.0

struct osc_listener {
    struct control_server *server;
    struct param_table table;
    const char *token;
    struct l2d_log log;
    int socket;
    atomic_bool stop;
    struct l2d_thread thread;
    double said_s;
};

static void take_packet(struct osc_listener *l, const uint8_t *data, size_t size)
{
    struct l2d_error err = { 0 };
    json_t *change = json_object();
    int rc = change ? osc_read(change, &l->table, l->token, data, size, &err)
                    : l2d_error_set(&err, L2D_ENOMEM, "OSC: out of memory");
    if (rc == L2D_OK && json_object_size(change) > 0)
        rc = control_server_change(l->server, change, &err);
    json_decref(change);
    if (rc == L2D_OK || l2d_clock_s() - l->said_s < SAY_EVERY_S)
        return;
    l->said_s = l2d_clock_s();
    l2d_log_print(&l->log, L2D_LOG_WARN, "%s", err.msg);
}

static void listen_main(void *arg)
{
    struct osc_listener *l = arg;
    uint8_t packet[MAX_PACKET];
    while (!atomic_load(&l->stop)) {
        struct pollfd fd = { .fd = l->socket, .events = POLLIN };
        if (poll(&fd, 1, TICK_MS) <= 0)
            continue;
        ssize_t n = recv(l->socket, packet, sizeof(packet), MSG_DONTWAIT);
        if (n > 0)
            take_packet(l, packet, (size_t) n);
    }
}

int osc_listener_create(struct osc_listener **out, const struct control_address *address,
                        struct control_server *server, const struct param_table *table,
                        const char *token, const struct l2d_log *log, struct l2d_error *err)
{
    if (!token && !control_address_is_loopback(address))
        return l2d_error_set(err, L2D_EINVAL, "--osc %s can be reached from other machines: set a "
                             "token in the environment's LIVE2DIFF_TOKEN or with --control-token",
                             address->host);
    struct osc_listener *l = calloc(1, sizeof(*l));
    if (!l)
        return l2d_error_set(err, L2D_ENOMEM, "OSC: out of memory");
    struct control_address at = *address;
    l->server = server;
    l->table = *table;
    l->token = token;
    l->log = l2d_log_named(log, "control");
    l->socket = -1;
    int rc = bind_socket(SOCK_DGRAM, &at, "--osc", &l->socket, err);
    if (rc == L2D_OK)
        rc = l2d_thread_start(&l->thread, "osc", listen_main, l, err);
    if (rc != L2D_OK) {
        osc_listener_destroy(&l);
        return rc;
    }
    char text[272];
    control_address_format(&at, text);
    l2d_log_print(&l->log, L2D_LOG_INFO, "OSC on udp %s", text);
    *out = l;
    return L2D_OK;
}

void osc_listener_destroy(struct osc_listener **listener)
{
    struct osc_listener *l = *listener;
    *listener = NULL;
    if (!l)
        return;
    atomic_store(&l->stop, true);
    l2d_thread_join(&l->thread);
    if (l->socket >= 0)
        close(l->socket);
    free(l);
}
