// SPDX-License-Identifier: Apache-2.0
// Addresses as people type them, and who is let in.
#include <criterion/criterion.h>
#include <string.h>

#include "address.h"
#include "guard.h"

Test(address, forms)
{
    static const struct { const char *text, *host; unsigned port; bool loopback; } good[] = {
        { ":8080", "127.0.0.1", 8080, true },
        { ":0", "127.0.0.1", 0, true },
        { "127.0.0.1:8080", "127.0.0.1", 8080, true },
        { "127.9.9.9:1", "127.9.9.9", 1, true },
        { "[::1]:65535", "::1", 65535, true },
        { "localhost:80", "localhost", 80, true },
        { "LocalHost:80", "LocalHost", 80, true },
        { "0.0.0.0:8080", "0.0.0.0", 8080, false },
        { "[::]:8080", "::", 8080, false },
        { "[fe80::1]:8080", "fe80::1", 8080, false },
        { "192.168.1.2:8080", "192.168.1.2", 8080, false },
        { "studio-2.lan:8080", "studio-2.lan", 8080, false },
        { "localhost.evil.example:80", "localhost.evil.example", 80, false },
        { "127.0.0.1.evil.example:80", "127.0.0.1.evil.example", 80, false },
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct control_address a;
        struct l2d_error err = { 0 };
        char text[272];
        cr_assert_eq(control_address_parse(&a, good[i].text, &err), L2D_OK, "%s: %s", good[i].text,
                     err.msg);
        cr_assert_str_eq(a.host, good[i].host);
        cr_assert_eq(a.port, good[i].port, "%s: %u", good[i].text, a.port);
        cr_assert_eq(control_address_is_loopback(&a), good[i].loopback, "%s", good[i].text);
        control_address_format(&a, text);
        if (good[i].text[0] != ':')
            cr_assert_str_eq(text, good[i].text);
    }
}

Test(address, refused)
{
    static const char *const bad[] = {
        "", ":", "8080", "127.0.0.1", "127.0.0.1:", ":65536", ":99999999999", ":-1", ":+1", ": 80",
        ":80 ", ":8o", "::1:8080", "[::1]", "[::1]8080", "[]:80", "[127.0.0.1]:80", "[::1:80",
        "::1]:80", "a b:80", "-a:80", ".a:80", "1.2.3:80", "1.2.3.4.5:80", "300.1.1.1:80",
        "h\xc3\xb6st:80", "http://localhost:80", "user@host:80", "a/b:80",
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct control_address a;
        struct l2d_error err = { 0 };
        cr_assert_eq(control_address_parse(&a, bad[i], &err), L2D_EINVAL, "'%s' is accepted",
                     bad[i]);
        cr_assert(*err.msg, "'%s': no message", bad[i]);
    }
    char longest[400];
    struct control_address a;
    memset(longest, 'a', sizeof(longest));
    strcpy(longest + 300, ":80");
    cr_assert_eq(control_address_parse(&a, longest, NULL), L2D_EINVAL);
}

Test(guard, token)
{
    cr_assert(guard_token("0123456789abcdef", "0123456789abcdef"));
    static const char *const wrong[] = { "", "0", "0123456789abcdeX", "X123456789abcdef",
                                         "0123456789abcdef0", "0123456789ABCDEF" };
    for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
        cr_assert_not(guard_token("0123456789abcdef", wrong[i]), "%s", wrong[i]);
    cr_assert_str_eq(guard_bearer("Bearer secret"), "secret");
    cr_assert_str_eq(guard_bearer("bearer secret"), "secret");
    cr_assert_null(guard_bearer("Basic secret"));
    cr_assert_null(guard_bearer("Bearer"));
    cr_assert_null(guard_bearer(NULL));
    cr_assert_null(guard_token_fault("0123456789abcdef"));
    static const char *const faulty[] = { "", "short", "with a space", "with-\xc3\xa4",
                                          "tab\tbed00" };
    for (size_t i = 0; i < sizeof(faulty) / sizeof(*faulty); i++)
        cr_assert_not_null(guard_token_fault(faulty[i]), "%s", faulty[i]);
}

Test(guard, host)
{
    static const char *const local[] = { "localhost", "localhost:8080", "127.0.0.1", "[::1]",
                                         "127.0.0.1:80", "[::1]:8080", "LOCALHOST:1" };
    static const char *const other[] = { "", "evil.example", "evil.example:8080", ":8080",
        "localhost.evil.example", "127.0.0.1.evil.example", "192.168.1.2", "0.0.0.0", "[::]",
        "localhost@evil.example", "localhost:8080:1", "localhost/..", "localhost, evil.example" };
    for (size_t i = 0; i < sizeof(local) / sizeof(*local); i++)
        cr_assert(guard_host_is_local(local[i]), "%s", local[i]);
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
        cr_assert_not(guard_host_is_local(other[i]), "%s", other[i]);
    cr_assert_not(guard_host_is_local(NULL));
    char longest[1000];
    memset(longest, 'a', sizeof(longest) - 1);
    longest[sizeof(longest) - 1] = '\0';
    cr_assert_not(guard_host_is_local(longest));
}

Test(guard, origin)
{
    cr_assert(guard_origin(NULL, "localhost:8080"));
    cr_assert(guard_origin("http://localhost:8080", "localhost:8080"));
    cr_assert(guard_origin("https://paint.example", "paint.example"));
    static const char *const other[] = { "http://evil.example", "null", "", "http://localhost:8081",
        "https://localhost:8081", "https://", "ftp://localhost:8080",
        "http://localhost:8080.evil.example", "http://localhost" };
    for (size_t i = 0; i < sizeof(other) / sizeof(*other); i++)
        cr_assert_not(guard_origin(other[i], "localhost:8080"), "%s", other[i]);
    cr_assert_not(guard_origin("http://localhost", NULL));
}
