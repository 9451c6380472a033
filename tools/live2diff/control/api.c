// SPDX-License-Identifier: Apache-2.0
// The answers: one function a route. docs/control.md describes them to users.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server_parts.h"
#include "video_io/still.h"
#include "web_files.h"

static const char *argument(const struct request *request, const char *name)
{
    return MHD_lookup_connection_value(request->http, MHD_GET_ARGUMENT_KIND, name);
}

static const struct web_file *find_file(const char *path)
{
    for (size_t i = 0; i < web_num_files; i++)
        if (!strcmp(path, web_file[i].path))
            return &web_file[i];
    return NULL;
}

static unsigned status_of(int rc)
{
    switch (rc) {
    case L2D_EINVAL:
    case L2D_EFORMAT:
    case L2D_EUNSUPPORTED: return MHD_HTTP_BAD_REQUEST;
    case L2D_ECLOSED:      return MHD_HTTP_CONFLICT;
    case L2D_EIO:          return MHD_HTTP_BAD_GATEWAY;
    default:               return MHD_HTTP_INTERNAL_SERVER_ERROR;
    }
}

static enum MHD_Result answer_file(struct control_server *server, struct request *request)
{
    (void) server;
    const struct web_file *file = find_file(request->path);
    return answer_bytes(request, MHD_HTTP_OK, file->type, file->data, file->size, NULL);
}

static enum MHD_Result get_state(struct control_server *server, struct request *request)
{
    return answer_json(request, MHD_HTTP_OK, server_state_json(server));
}

static enum MHD_Result get_params(struct control_server *server, struct request *request)
{
    pthread_mutex_lock(&server->source_lock);
    json_t *json = params_describe(&server->source.params);
    pthread_mutex_unlock(&server->source_lock);
    return answer_json(request, MHD_HTTP_OK, json);
}

static enum MHD_Result change_params(struct control_server *server, struct request *request)
{
    struct l2d_error err = { 0 };
    pthread_mutex_lock(&server->source_lock);
    int rc = params_apply_text(&server->source.params, request->body, request->body_size, &err);
    unsigned number = rc == L2D_OK ? atomic_fetch_add(&server->changes, 1) + 1 : 0;
    json_t *json = rc == L2D_OK ? params_values(&server->source.params) : NULL;
    pthread_mutex_unlock(&server->source_lock);
    if (rc != L2D_OK)
        return answer_error(request, status_of(rc), "%s", err.msg);
    control_frames_wake(server->source.frames);         // watchers learn of it now
    return answer_json(request, MHD_HTTP_OK, json_pack("{si so}", "changes", (int) number,
                                                       "params", json));
}

// --- outputs

static enum MHD_Result answer_output(struct request *request, unsigned status, uint32_t id,
                                     const char *state)
{
    return answer_json(request, status, json_pack("{sI ss}", "id", (json_int_t) id, "state",
                                                  state));
}

static int begin_output(struct control_server *server, struct request *request,
                        struct l2d_error *err)
{
    json_error_t why;
    json_t *json = json_loadb(request->body, request->body_size, JSON_REJECT_DUPLICATES, &why);
    if (!json) {
        l2d_error_set(err, L2D_EFORMAT, "not JSON: line %d, column %d: %s", why.line, why.column,
                      why.text);
        l2d_error_printable(err->msg);
        return L2D_EFORMAT;
    }
    const struct control_source *source = &server->source;
    int rc = source->outputs.add(source->user, json, &request->output, err);
    json_decref(json);
    request->has_output = rc == L2D_OK;
    request->added_s = l2d_clock_s();
    return rc;
}

// Asked again, about each tenth of a second, until it is known whether the output opens.
static enum MHD_Result add_output(struct control_server *server, struct request *request)
{
    const struct control_source *source = &server->source;
    struct l2d_error err = { 0 };
    bool opening = false;
    if (!source->outputs.add)
        return answer_error(request, MHD_HTTP_BAD_REQUEST, "this run's outputs do not change");
    int rc = request->has_output ? L2D_OK : begin_output(server, request, &err);
    if (rc == L2D_OK)
        rc = source->outputs.look(source->user, request->output, &opening, &err);
    if (rc != L2D_OK)
        return answer_error(request, status_of(rc), "%s", err.msg);
    if (opening && l2d_clock_s() - request->added_s < OPENING_S &&
        request_suspend(server, request))
        return MHD_YES;
    control_frames_wake(source->frames);
    return answer_output(request, opening ? MHD_HTTP_ACCEPTED : MHD_HTTP_CREATED, request->output,
                         opening ? "opening" : "running");
}

static enum MHD_Result remove_output(struct control_server *server, struct request *request)
{
    const char *digits = request->path + strlen(request->route->path);
    const struct control_source *source = &server->source;
    struct l2d_error err = { 0 };
    bool good = *digits && strlen(digits) < 10 && !digits[strspn(digits, "0123456789")];
    uint32_t id = good ? (uint32_t) strtoul(digits, NULL, 10) : 0;
    if (!good || !source->outputs.remove)
        return answer_error(request, MHD_HTTP_NOT_FOUND, "%.80s: no such output", request->path);
    int rc = source->outputs.remove(source->user, id, &err);
    if (rc != L2D_OK)
        return answer_error(request, rc == L2D_EINVAL ? MHD_HTTP_NOT_FOUND : status_of(rc), "%s",
                            err.msg);
    control_frames_wake(source->frames);
    return answer_output(request, MHD_HTTP_ACCEPTED, id, "finishing");
}

static enum MHD_Result get_metrics(struct control_server *server, struct request *request)
{
    struct control_state state = { 0 };
    pthread_mutex_lock(&server->source_lock);
    server_state(server, &state);
    char *text = state_metrics(&state);
    pthread_mutex_unlock(&server->source_lock);
    if (!text)
        return MHD_NO;
    struct MHD_Response *response =
        MHD_create_response_from_buffer(strlen(text), text, MHD_RESPMEM_MUST_FREE);
    if (!response)
        free(text);
    return answer_response(request, MHD_HTTP_OK, "text/plain; version=0.0.4; charset=utf-8",
                           response);
}

// --- pictures

static const char *const view_names[] = { "result", "source", "both" };

// The view that is asked for, of the first num_views; -1: another.
static int view_of(const struct request *request, int num_views)
{
    const char *name = argument(request, "view");
    for (int i = 0; i < num_views; i++)
        if (!strcmp(name ? name : "result", view_names[i]))
            return i;
    return -1;
}

static enum MHD_Result answer_picture(struct control_server *server, struct request *request,
                                      enum l2d_still_format format, int32_t max_side)
{
    int view = view_of(request, VIEW_SOURCE + 1);
    if (view < 0)
        return answer_error(request, MHD_HTTP_BAD_REQUEST, "view: expected result or source");
    struct control_pair pair = control_frames_newest(server->source.frames);
    struct l2d_frame *frame = view == VIEW_SOURCE ? pair.source : pair.result;
    struct l2d_still *still = NULL;
    struct l2d_error err = { 0 };
    const uint8_t *data = NULL;
    size_t size = 0;
    enum MHD_Result result;
    if (!frame) {
        result = answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "no frame has come out yet");
    } else if (l2d_still_create(&still, format, max_side, &err) != L2D_OK ||
               l2d_still_encode(still, frame, &data, &size, &err) != L2D_OK) {
        result = answer_error(request, MHD_HTTP_INTERNAL_SERVER_ERROR, "%s", err.msg);
    } else {
        char number[24];
        snprintf(number, sizeof(number), "%llu", (unsigned long long) pair.number);
        result = answer_bytes(request, MHD_HTTP_OK,
                              format == L2D_STILL_PNG ? "image/png" : "image/jpeg", data, size,
                              (const char *const[]) { "X-Frame", number });
    }
    l2d_still_destroy(&still);
    control_pair_finish(&pair);
    return result;
}

static enum MHD_Result get_preview(struct control_server *server, struct request *request)
{
    return answer_picture(server, request, L2D_STILL_JPEG, PREVIEW_SIDE);
}

static enum MHD_Result take_snapshot(struct control_server *server, struct request *request)
{
    const char *format = argument(request, "format");
    if (format && strcmp(format, "png") && strcmp(format, "jpeg"))
        return answer_error(request, MHD_HTTP_BAD_REQUEST, "format: expected png or jpeg");
    return answer_picture(server, request,
                          format && !strcmp(format, "jpeg") ? L2D_STILL_JPEG : L2D_STILL_PNG, 0);
}

// --- what does not end

static enum MHD_Result answer_feed(struct control_server *server, struct request *request,
                                   struct feed *feed, const char *type)
{
    struct MHD_Response *response = feed_response(feed, request->http, FRESH_S);
    if (!response)
        return answer_error(request, MHD_HTTP_SERVICE_UNAVAILABLE, "too many are watching");
    pthread_mutex_lock(&server->connection_lock);
    request->connection->is_feed = true;
    pthread_mutex_unlock(&server->connection_lock);
    control_frames_wake(server->source.frames);
    return answer_response(request, MHD_HTTP_OK, type, response);
}

static enum MHD_Result get_stream(struct control_server *server, struct request *request)
{
    int view = view_of(request, NUM_VIEWS);
    if (view < 0)
        return answer_error(request, MHD_HTTP_BAD_REQUEST, "view: expected result, source or "
                            "both");
    return answer_feed(server, request, server->preview[view],
                       "multipart/x-mixed-replace; boundary=frame");
}

static enum MHD_Result get_events(struct control_server *server, struct request *request)
{
    return answer_feed(server, request, server->events, "text/event-stream");
}

// --- the table

static const struct route routes[] = {
    { "GET", "/api/state", false, get_state },
    { "GET", "/api/params", false, get_params },
    { "PATCH", "/api/params", false, change_params },
    { "POST", "/api/params", false, change_params },
    { "POST", "/api/outputs", false, add_output },
    { "DELETE", "/api/outputs/", false, remove_output },
    { "GET", "/api/events", false, get_events },
    { "POST", "/api/snapshot", false, take_snapshot },
    { "GET", "/preview.jpg", false, get_preview },
    { "GET", "/preview.mjpeg", false, get_stream },
    { "GET", "/metrics", false, get_metrics },
};
static const struct route file_route = { "GET", "", true, answer_file };

const struct route *api_find(const char *method, const char *path, char *allow)
{
    const struct route *found = NULL;
    const char *wanted = strcmp(method, "HEAD") ? method : "GET";
    *allow = '\0';
    for (size_t i = 0; i < sizeof(routes) / sizeof(routes[0]); i++) {
        size_t size = strlen(routes[i].path);
        bool begins = routes[i].path[size - 1] == '/';
        if (begins ? strncmp(path, routes[i].path, size) : strcmp(path, routes[i].path))
            continue;
        if (*allow)
            strcat(allow, ", ");
        strcat(allow, routes[i].method);
        if (!strcmp(wanted, routes[i].method))
            found = &routes[i];
    }
    if (*allow || !find_file(path))
        return found;
    strcpy(allow, file_route.method);
    return strcmp(wanted, file_route.method) ? NULL : &file_route;
}
