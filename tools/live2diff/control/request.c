// SPDX-License-Identifier: Apache-2.0
// A request from its first line to its answer: what is refused before its body is read, the body
// within its limit, and the headers of every answer.
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/json_reader.h"
#include "guard.h"
#include "server_parts.h"

// The page loads nothing from elsewhere and runs no script but its own file; other sites may
// neither frame it nor show its pictures.
static const char *const headers[][2] = {
    { "Content-Security-Policy",
      "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
      "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'" },
    { "Cross-Origin-Resource-Policy", "same-origin" },
    { "X-Content-Type-Options", "nosniff" },
    { "Referrer-Policy", "no-referrer" },
    { "Cache-Control", "no-store" },
};

enum MHD_Result answer_response(struct request *request, unsigned status, const char *type,
                                struct MHD_Response *response)
{
    if (!response)
        return MHD_NO;
    MHD_add_response_header(response, "Content-Type", type);
    for (size_t i = 0; i < sizeof(headers) / sizeof(headers[0]); i++)
        MHD_add_response_header(response, headers[i][0], headers[i][1]);
    if (status == MHD_HTTP_UNAUTHORIZED)
        MHD_add_response_header(response, "WWW-Authenticate", "Bearer");
    if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
        MHD_add_response_header(response, "Allow", request->allow);
    enum MHD_Result rc = MHD_queue_response(request->http, status, response);
    MHD_destroy_response(response);
    return rc;
}

enum MHD_Result answer_bytes(struct request *request, unsigned status, const char *type,
                             const void *data, size_t size, const char *const extra[2])
{
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size, (void *) data, MHD_RESPMEM_MUST_COPY);
    if (response && extra)
        MHD_add_response_header(response, extra[0], extra[1]);
    return answer_response(request, status, type, response);
}

enum MHD_Result answer_json(struct request *request, unsigned status, json_t *json)
{
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    if (!text)
        return MHD_NO;
    size_t size = strlen(text);
    text[size] = '\n';          // in place of the zero: sizes are given from here on
    struct MHD_Response *response =
        MHD_create_response_from_buffer(size + 1, text, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(text);
    return answer_response(request, status, "application/json", response);
}

enum MHD_Result answer_error(struct request *request, unsigned status, const char *fmt, ...)
{
    char line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    // It may be cut within a character.
    return answer_json(request, status, json_pack("{so}", "error", l2d_json_text(line)));
}

static const char *header(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->http, MHD_HEADER_KIND, name);
}

// The token may stand in the address where no header can be set: for what is only read.
static bool has_token(const struct control_server *server, const struct request *request,
                      bool reads)
{
    const char *given = guard_bearer(header(request, "Authorization"));
    if (!given && reads)
        given = MHD_lookup_connection_value(request->http, MHD_GET_ARGUMENT_KIND, "token");
    return given && guard_token(server->token, given);
}

// Whether a browser says that another site's page asks. Following a link to the page is no such
// thing, and the page itself is no secret.
static bool is_other_site(const struct request *request)
{
    const char *site = header(request, "Sec-Fetch-Site");
    return site && strcmp(site, "same-origin") && strcmp(site, "none") && !request->route->open;
}

// What is refused by its headers alone. returns whether an answer was given, and it in *rc.
static bool refuse(struct control_server *server, struct request *request, const char *method,
                   enum MHD_Result *rc)
{
    const char *host = header(request, "Host");
    bool reads = !strcmp(method, "GET") || !strcmp(method, "HEAD");
    if (!server->token && !guard_host_is_local(host))
        *rc = answer_error(request, MHD_HTTP_FORBIDDEN, "this server answers to localhost and "
                           "127.0.0.1 alone, not to '%.60s'", host ? host : "");
    else if (!request->route && !request->allow[0])
        *rc = answer_error(request, MHD_HTTP_NOT_FOUND, "%.80s: no such path", request->path);
    else if (!request->route)
        *rc = answer_error(request, MHD_HTTP_METHOD_NOT_ALLOWED, "%s: expected %s, not %.20s",
                           request->path, request->allow, method);
    else if ((!reads && !guard_origin(header(request, "Origin"), host)) || is_other_site(request))
        *rc = answer_error(request, MHD_HTTP_FORBIDDEN, "asked by another site's page");
    else if (server->token && !request->route->open && !has_token(server, request, reads))
        *rc = answer_error(request, MHD_HTTP_UNAUTHORIZED, "expected the run's token: as header "
                           "'Authorization: Bearer TOKEN', or to read also as ?token=TOKEN");
    else if (header(request, "Transfer-Encoding"))
        *rc = answer_error(request, MHD_HTTP_LENGTH_REQUIRED, "a body needs a Content-Length");
    else if (request->body_room > MAX_BODY_BYTES)
        *rc = answer_error(request, MHD_HTTP_CONTENT_TOO_LARGE, "a body of %zu bytes: expected at "
                           "most %d", request->body_room, MAX_BODY_BYTES);
    else
        return false;
    return true;
}

static enum MHD_Result begin(struct control_server *server, struct MHD_Connection *http,
                             const char *path, const char *method, void **state)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(http, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    struct request *request = calloc(1, sizeof(*request));
    if (!request || !info || !info->socket_context) {
        free(request);
        return MHD_NO;
    }
    request->http = http;
    request->path = path;
    request->connection = info->socket_context;
    request->route = api_find(method, path, request->allow);
    *state = request;
    const char *length = header(request, "Content-Length");
    request->body_room = length ? (size_t) strtoull(length, NULL, 10) : 0;
    enum MHD_Result rc;
    if (refuse(server, request, method, &rc))
        return rc;
    request->body = malloc(request->body_room + 1);
    return request->body ? MHD_YES : MHD_NO;
}

bool request_suspend(struct control_server *server, struct request *request)
{
    pthread_mutex_lock(&server->waiting_lock);
    bool stopping = atomic_load(&server->stopping);
    if (!stopping) {
        request->next = server->waiting;
        server->waiting = request;
        MHD_suspend_connection(request->http);
    }
    pthread_mutex_unlock(&server->waiting_lock);
    return !stopping;
}

// libmicrohttpd has locks of its own, which its threads hold when they call us: not under ours.
void request_resume_all(struct control_server *server)
{
    struct MHD_Connection *waiting[MAX_CONNECTIONS];
    unsigned n = 0;
    pthread_mutex_lock(&server->waiting_lock);
    for (; server->waiting && n < MAX_CONNECTIONS; server->waiting = server->waiting->next)
        waiting[n++] = server->waiting->http;
    pthread_mutex_unlock(&server->waiting_lock);
    for (unsigned i = 0; i < n; i++)
        MHD_resume_connection(waiting[i]);
}

enum MHD_Result request_handle(void *user, struct MHD_Connection *http, const char *path,
                               const char *method, const char *version, const char *upload,
                               size_t *upload_size, void **state)
{
    (void) version;
    struct control_server *server = user;
    struct request *request = *state;
    if (!request)
        return begin(server, http, path, method, state);
    if (*upload_size == 0)
        return request->route->answer(server, request);
    if (*upload_size > request->body_room - request->body_size)
        return MHD_NO;
    memcpy(request->body + request->body_size, upload, *upload_size);
    request->body_size += *upload_size;
    *upload_size = 0;
    return MHD_YES;
}

void request_end(void *user, struct MHD_Connection *http, void **state,
                 enum MHD_RequestTerminationCode why)
{
    (void) http, (void) why;
    struct control_server *server = user;
    struct request *request = *state;
    *state = NULL;
    if (!request)
        return;
    pthread_mutex_lock(&server->connection_lock);
    request->connection->since_s = l2d_clock_s();       // now it may wait for the next one
    request->connection->is_feed = false;
    pthread_mutex_unlock(&server->connection_lock);
    free(request->body);
    free(request);
}
