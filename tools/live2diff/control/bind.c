// SPDX-License-Identifier: Apache-2.0
// See bind.h.
#include "bind.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define BACKLOG 64

int bind_socket(int type, struct control_address *address, const char *option, int *out,
                struct l2d_error *err)
{
    char port[8], text[272];
    struct addrinfo *found = NULL, hints = { .ai_socktype = type,
                                             .ai_flags = AI_PASSIVE | AI_NUMERICSERV };
    control_address_format(address, text);
    snprintf(port, sizeof(port), "%u", (unsigned) address->port);
    int rc = getaddrinfo(address->host, port, &hints, &found);
    if (rc != 0)
        return l2d_error_set(err, L2D_EIO, "%s %s: %s", option, text, gai_strerror(rc));
    int yes = 1, fd = socket(found->ai_family, type | SOCK_CLOEXEC, 0);
    if (fd >= 0 && type == SOCK_STREAM)     // datagrams would be shared with whoever has the port
        setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
    if (fd >= 0 && found->ai_family == AF_INET6)
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof(yes));
    bool bound = fd >= 0 && bind(fd, found->ai_addr, found->ai_addrlen) == 0 &&
                 (type != SOCK_STREAM || listen(fd, BACKLOG) == 0);
    int why = errno;
    freeaddrinfo(found);
    if (!bound) {
        if (fd >= 0)
            close(fd);
        return l2d_error_set(err, L2D_EIO, "%s %s: %s%s", option, text, strerror(why),
                             why == EADDRINUSE ? ": another program, or another run, has this "
                             "port; take another" : "");
    }
    struct sockaddr_storage got;
    socklen_t size = sizeof(got);
    if (getsockname(fd, (struct sockaddr *) &got, &size) == 0 &&
        getnameinfo((struct sockaddr *) &got, size, NULL, 0, port, sizeof(port),
                    NI_NUMERICSERV) == 0)
        address->port = (uint16_t) strtoul(port, NULL, 10);
    *out = fd;
    return L2D_OK;
}

int bind_check(int type, const struct control_address *address, const char *option,
               struct l2d_error *err)
{
    struct control_address at = *address;
    int fd, rc = bind_socket(type, &at, option, &fd, err);
    if (rc == L2D_OK)
        close(fd);
    return rc;
}
