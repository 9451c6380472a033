// SPDX-License-Identifier: Apache-2.0
// See http_client.h. HTTP/1.0: the answer ends with its Content-Length or with the connection.
#include "http_client.h"

#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"

#define TIME_S 10.0
#define MAX_ANSWER (64u << 20)      // a snapshot of 16 megapixels

static int wait_for(int fd, short events, double until_s, const char *where, struct l2d_error *err)
{
    struct pollfd poll_fd = { .fd = fd, .events = events };
    for (;;) {
        double left_s = until_s - l2d_clock_s();
        int n = left_s > 0 ? poll(&poll_fd, 1, (int) (1e3 * left_s) + 1) : 0;
        if (n > 0)
            return L2D_OK;
        if (n == 0)
            return l2d_error_set(err, L2D_EIO, "%s: no answer within %g s", where, TIME_S);
        if (errno != EINTR)
            return l2d_error_set(err, L2D_EIO, "%s: %s", where, strerror(errno));
    }
}

static int connect_to(const struct addrinfo *to, double until_s, const char *where, int *out,
                      struct l2d_error *err)
{
    int fd = socket(to->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0), why = 0;
    socklen_t size = sizeof(why);
    if (fd < 0)
        return l2d_error_set(err, L2D_EIO, "%s: %s", where, strerror(errno));
    int rc = L2D_OK;
    if (connect(fd, to->ai_addr, to->ai_addrlen) != 0) {
        why = errno;
        if (why == EINPROGRESS) {
            rc = wait_for(fd, POLLOUT, until_s, where, err);
            getsockopt(fd, SOL_SOCKET, SO_ERROR, &why, &size);
        }
    }
    if (rc == L2D_OK && why != 0)
        rc = l2d_error_set(err, L2D_EIO, "%s: %s%s", where, strerror(why), why == ECONNREFUSED
                           ? ": does a live2diff run with --control there?" : "");
    if (rc == L2D_OK)
        *out = fd;
    else
        close(fd);
    return rc;
}

static int open_connection(const struct control_address *address, double until_s,
                           const char *where, int *fd, struct l2d_error *err)
{
    char port[8];
    struct addrinfo *found = NULL, hints = { .ai_socktype = SOCK_STREAM,
                                             .ai_flags = AI_NUMERICSERV };
    snprintf(port, sizeof(port), "%u", (unsigned) address->port);
    int why = getaddrinfo(address->host, port, &hints, &found), rc = L2D_EIO;
    if (why != 0)
        return l2d_error_set(err, L2D_EIO, "%s: %s", where, gai_strerror(why));
    for (const struct addrinfo *to = found; to && rc != L2D_OK; to = to->ai_next)
        rc = connect_to(to, until_s, where, fd, err);
    freeaddrinfo(found);
    return rc;
}

static int send_all(int fd, const char *data, size_t size, double until_s, const char *where,
                    struct l2d_error *err)
{
    int rc = L2D_OK;
    while (rc == L2D_OK && size > 0) {
        ssize_t n = send(fd, data, size, MSG_NOSIGNAL);
        if (n > 0) {
            data += n;
            size -= (size_t) n;
        } else if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            rc = wait_for(fd, POLLOUT, until_s, where, err);
        } else if (n < 0 && (errno == EPIPE || errno == ECONNRESET)) {
            return L2D_OK;              // it has answered before it read all: see what it says
        } else if (n < 0 && errno != EINTR) {
            rc = l2d_error_set(err, L2D_EIO, "%s: %s", where, strerror(errno));
        }
    }
    return rc;
}

// To the end of the connection, with a zero behind it.
static int receive_all(int fd, double until_s, const char *where, char **out, size_t *out_size,
                       struct l2d_error *err)
{
    size_t room = 4096, size = 0;
    char *data = malloc(room + 1);
    int rc = data ? L2D_OK : l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", where);
    while (rc == L2D_OK) {
        if (size == room) {
            char *more = room < MAX_ANSWER ? realloc(data, 2 * room + 1) : NULL;
            rc = more ? L2D_OK : l2d_error_set(err, L2D_EFORMAT, "%s: the answer is too long",
                                               where);
            data = more ? more : data;
            room *= 2;
            continue;
        }
        ssize_t n = recv(fd, data + size, room - size, 0);
        if (n == 0 || (n < 0 && errno == ECONNRESET && size > 0))
            break;
        if (n > 0)
            size += (size_t) n;
        else if (errno == EAGAIN || errno == EWOULDBLOCK)
            rc = wait_for(fd, POLLIN, until_s, where, err);
        else if (errno != EINTR)
            rc = l2d_error_set(err, L2D_EIO, "%s: %s", where, strerror(errno));
    }
    if (rc != L2D_OK) {
        free(data);
        return rc;
    }
    data[size] = '\0';
    *out = data;
    *out_size = size;
    return L2D_OK;
}

// Splits what came; the body moves to the front of data, which the answer then owns.
static int parse(struct http_answer *answer, char *data, size_t size, const char *where,
                 struct l2d_error *err)
{
    int major, minor;
    char *body = strstr(data, "\r\n\r\n");
    if (!body || sscanf(data, "HTTP/%1d.%1d %3d", &major, &minor, &answer->status) != 3)
        return l2d_error_set(err, L2D_EFORMAT, "%s: the answer is not HTTP", where);
    size_t body_size = size - (size_t) (body + 4 - data);
    for (char *line = strstr(data, "\r\n"); line && line < body; line = strstr(line + 2, "\r\n"))
        if (!strncasecmp(line + 2, "Content-Length:", 15) &&
            strtoull(line + 17, NULL, 10) != body_size)
            return l2d_error_set(err, L2D_EIO, "%s: the answer broke off", where);
    memmove(data, body + 4, body_size + 1);
    answer->body = data;
    answer->size = body_size;
    return L2D_OK;
}

int http_ask(struct http_answer *answer, const struct control_address *address, const char *method,
             const char *path, const char *token, const char *body, struct l2d_error *err)
{
    char where[272], *request = NULL, *data = NULL;
    size_t size = 0;
    double until_s = l2d_clock_s() + TIME_S;
    control_address_format(address, where);
    int n = asprintf(&request, "%s %s HTTP/1.0\r\nHost: %s\r\n%s%s%sContent-Type: "
                     "application/json\r\nContent-Length: %zu\r\n\r\n%s", method, path, where,
                     token ? "Authorization: Bearer " : "", token ? token : "",
                     token ? "\r\n" : "", body ? strlen(body) : 0, body ? body : "");
    if (n < 0)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", where);
    int fd = -1;
    int rc = open_connection(address, until_s, where, &fd, err);
    if (rc == L2D_OK)
        rc = send_all(fd, request, (size_t) n, until_s, where, err);
    if (rc == L2D_OK)
        rc = receive_all(fd, until_s, where, &data, &size, err);
    if (fd >= 0)
        close(fd);
    free(request);
    if (rc == L2D_OK)
        rc = parse(answer, data, size, where, err);
    if (rc != L2D_OK)
        free(data);
    return rc;
}
