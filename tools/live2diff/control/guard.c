// SPDX-License-Identifier: Apache-2.0
// See guard.h.
#include "guard.h"

#include <stddef.h>
#include <string.h>
#include <strings.h>

#include "address.h"

#define MIN_TOKEN 8
#define MAX_TOKEN 256

bool guard_token(const char *token, const char *given)
{
    size_t n = strlen(token), m = strlen(given);
    volatile unsigned char differs = n != m;
    for (size_t i = 0; i < n; i++)
        differs |= (unsigned char) (token[i] ^ (i < m ? given[i] : 0));
    return !differs;
}

const char *guard_bearer(const char *authorization)
{
    return authorization && !strncasecmp(authorization, "Bearer ", 7) ? authorization + 7 : NULL;
}

bool guard_host_is_local(const char *host)
{
    struct control_address address;
    char with_port[sizeof(address.host) + 8];
    size_t n = host ? strlen(host) : 0;
    if (n == 0 || n > sizeof(address.host))
        return false;
    const char *bracket = strrchr(host, ']'), *colon = strrchr(host, ':');
    strcpy(with_port, host);
    if (!colon || (bracket && colon < bracket))
        strcat(with_port, ":80");
    return host[0] != ':' && control_address_parse(&address, with_port, NULL) == L2D_OK &&
           control_address_is_loopback(&address);
}

bool guard_origin(const char *origin, const char *host)
{
    size_t scheme = !origin ? 0 : !strncasecmp(origin, "http://", 7) ? 7
                  : !strncasecmp(origin, "https://", 8) ? 8 : 0;        // a proxy's
    return !origin || (host && scheme && !strcasecmp(origin + scheme, host));
}

const char *guard_token_fault(const char *token)
{
    size_t n = strlen(token);
    if (n < MIN_TOKEN || n > MAX_TOKEN)
        return "expected 8 to 256 characters, such as those of: openssl rand -hex 16";
    for (; *token; token++)
        if (*token <= ' ' || *token > '~')
            return "expected printable ASCII without spaces";
    return NULL;
}
