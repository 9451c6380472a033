// SPDX-License-Identifier: Apache-2.0
// See address.h.
#include "address.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <strings.h>

static bool is_ipv6(const char *host)
{
    struct in6_addr ignored;
    return inet_pton(AF_INET6, host, &ignored) == 1;
}

// An IPv4 literal, or a name. What looks like a number must be one: 1.2.3 is no name.
static bool is_name(const char *host)
{
    struct in_addr ignored;
    if (inet_pton(AF_INET, host, &ignored) == 1)
        return true;
    const char *letters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    size_t n = strlen(host);
    return strpbrk(host, letters) && host[0] != '-' && host[0] != '.' &&
           strspn(host, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-.") == n;
}

// "0".."65535", digits alone.
static bool parse_port(uint16_t *out, const char *text)
{
    size_t n = strspn(text, "0123456789");
    unsigned value = 0;
    if (n == 0 || n > 5 || text[n])
        return false;
    for (size_t i = 0; i < n; i++)
        value = 10 * value + (unsigned) (text[i] - '0');
    *out = (uint16_t) value;
    return value <= UINT16_MAX;
}

int control_address_parse(struct control_address *out, const char *text, struct l2d_error *err)
{
    static const char form[] = "expected HOST:PORT, such as :8080, 127.0.0.1:8080 or [::1]:8080";
    const char *colon = strrchr(text, ':');
    struct control_address a = { .port = 0 };
    bool bracketed = text[0] == '[';
    const char *end = bracketed ? strchr(text, ']') : colon;
    if (!colon || !end || (bracketed && end + 1 != colon))
        return l2d_error_set(err, L2D_EINVAL, "%s", form);
    if (!parse_port(&a.port, colon + 1))
        return l2d_error_set(err, L2D_EINVAL, "expected a port of 0..65535 after the last colon");
    const char *begin = text + bracketed;
    size_t n = (size_t) (end - begin);
    if (n >= sizeof(a.host))
        return l2d_error_set(err, L2D_EINVAL, "the host's name is too long");
    memcpy(a.host, begin, n);
    if (n == 0 && !bracketed)
        strcpy(a.host, "127.0.0.1");
    else if (!bracketed && is_ipv6(a.host))
        return l2d_error_set(err, L2D_EINVAL, "an IPv6 address belongs in brackets: [::1]:8080");
    else if (bracketed ? !is_ipv6(a.host) : !is_name(a.host))
        return l2d_error_set(err, L2D_EINVAL, "%s", form);
    *out = a;
    return L2D_OK;
}

bool control_address_is_loopback(const struct control_address *address)
{
    struct in_addr v4;
    struct in6_addr v6;
    if (inet_pton(AF_INET, address->host, &v4) == 1)
        return ntohl(v4.s_addr) >> 24 == 127;
    if (inet_pton(AF_INET6, address->host, &v6) == 1)
        return IN6_IS_ADDR_LOOPBACK(&v6);
    return !strcasecmp(address->host, "localhost");
}

void control_address_format(const struct control_address *address, char *out)
{
    bool v6 = strchr(address->host, ':') != NULL;
    snprintf(out, 272, "%s%s%s:%u", v6 ? "[" : "", address->host, v6 ? "]" : "",
             (unsigned) address->port);
}
