// SPDX-License-Identifier: Apache-2.0
// See host.h.
#include "video_io/host.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

// Of protocol://user:password@host:port/path. Empty: none.
static void host_of(const char *url, char *host, size_t capacity)
{
    const char *at = strstr(url, "://");
    host[0] = '\0';
    if (!at)
        return;
    at += 3;
    size_t size = strcspn(at, "/?#");
    for (const char *c = at; c < at + size; c++)
        if (*c == '@') {
            size -= (size_t) (c + 1 - at);
            at = c + 1;
        }
    size_t length = strcspn(at, ":");
    length = length < size ? length : size;
    if (*at == '[' || length >= capacity)       // a number of IPv6, which needs no looking up
        return;
    memcpy(host, at, length);
    host[length] = '\0';
}

int l2d_host_check(const char *url, struct l2d_error *err)
{
    char host[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    host_of(url, host, sizeof(host));
    int rc = *host ? getaddrinfo(host, NULL, &hints, &found) : 0;
    if (rc == 0 && *host)
        freeaddrinfo(found);
    return rc == 0 ? L2D_OK
         : l2d_error_set(err, L2D_EIO, "%s: host '%s' is not found (%s); is its name right, and "
                         "this machine on the network?", url, host, gai_strerror(rc));
}
