// SPDX-License-Identifier: Apache-2.0
// See host.h.
#include "video_io/host.h"

#include <netdb.h>
#include <string.h>
#include <sys/socket.h>

#include <libavutil/error.h>

#include "video_io/writer.h"

bool l2d_host_is_url(const char *name)
{
    return strstr(l2d_writer_path(name), "://") != NULL;
}

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

int l2d_host_explain(const char *url, int averror, struct l2d_error *err)
{
    char host[256];
    struct addrinfo hints = { .ai_socktype = SOCK_STREAM }, *found = NULL;
    if (averror == AVERROR(EPERM) && !strncmp(url, "rtmp", 4))
        return l2d_error_set(err, L2D_EIO, "%s: the server refuses it: to read, is it there; to "
                             "write, is nobody else there? -v shows its answer", url);
    if (averror != AVERROR(EIO))
        return L2D_OK;
    host_of(url, host, sizeof(host));
    int rc = *host ? getaddrinfo(host, NULL, &hints, &found) : 0;
    if (rc == 0 && *host)
        freeaddrinfo(found);
    return rc == 0 ? L2D_OK
         : l2d_error_set(err, L2D_EIO, "%s: host '%s' is not found (%s); is its name right, and "
                         "this machine on the network?", url, host, gai_strerror(rc));
}
