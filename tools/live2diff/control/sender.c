// SPDX-License-Identifier: Apache-2.0
// The thread that sends without being asked: pictures and the state, to whoever watches, and to
// nobody else: without a watcher it encodes nothing. It also ends connections that take too long.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "server_parts.h"
#include "video_io/still.h"

#define PICTURE_EVERY_S 0.04
#define STATE_EVERY_S 0.5
#define REPEAT_EVERY_S 2.0
#define RESUME_EVERY_S 0.05
#define TICK_MS 100

struct sender {
    struct control_server *server;
    struct l2d_still *still;
    uint64_t sent;              // number of the pair that all watchers have; 0: none
    bool wanted[NUM_VIEWS];     // by somebody
    double picture_s, state_s, resumed_s;
    unsigned changes;           // of parameters, that watchers know of
    unsigned event_clients;
    bool said_broken;
};

struct jpeg { uint8_t *data; size_t size; };

// A copy of the encoder's bytes, which its next picture replaces. Empty on failure.
static struct jpeg encode(struct sender *s, const struct l2d_frame *frame)
{
    struct jpeg jpeg = { 0 };
    struct l2d_error err = { 0 };
    const uint8_t *data = NULL;
    size_t size = 0;
    if (l2d_still_encode(s->still, frame, &data, &size, &err) == L2D_OK) {
        jpeg.data = malloc(size);
        jpeg.size = jpeg.data ? size : 0;
        if (jpeg.data)
            memcpy(jpeg.data, data, size);
    } else if (!s->said_broken) {
        s->said_broken = true;
        l2d_log_print(&s->server->log, L2D_LOG_WARN, "no preview: %s", err.msg);
    }
    return jpeg;
}

static int part_head(char *out, size_t size, const char *view, uint64_t number,
                     const struct jpeg *jpeg)
{
    return snprintf(out, size, "--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %zu\r\n"
                    "X-View: %s\r\nX-Frame: %llu\r\n\r\n", jpeg->size, view,
                    (unsigned long long) number);
}

// One part of a multipart body for each picture that is there.
static void publish(struct feed *feed, uint64_t number, const struct jpeg *source,
                    const struct jpeg *result)
{
    char head[2][160];
    const struct jpeg *jpeg[2] = { source, result };
    size_t total = 0, head_size[2] = { 0 };
    for (int i = 0; i < 2; i++)
        if (jpeg[i] && jpeg[i]->data) {
            head_size[i] = (size_t) part_head(head[i], sizeof(head[i]), i ? "result" : "source",
                                              number, jpeg[i]);
            total += head_size[i] + jpeg[i]->size + 2;
        }
    char *at;
    struct feed_message *message = total ? feed_message_new(total, &at) : NULL;
    if (!message)
        return;
    for (int i = 0; i < 2; i++)
        if (head_size[i]) {
            memcpy(at, head[i], head_size[i]);
            memcpy(at + head_size[i], jpeg[i]->data, jpeg[i]->size);
            memcpy(at + head_size[i] + jpeg[i]->size, "\r\n", 2);
            at += head_size[i] + jpeg[i]->size + 2;
        }
    feed_publish(feed, message);
}

static void send_pictures(struct sender *s, double now)
{
    struct feed *const *feed = s->server->preview;
    bool *wanted = s->wanted, any = false;
    for (int i = 0; i < NUM_VIEWS; i++) {
        bool before = wanted[i];
        wanted[i] = feed_clients(feed[i]) > 0;
        any |= wanted[i];
        if (wanted[i] && !before)       // also of a run that stands still
            s->sent = 0;
    }
    bool sources = wanted[VIEW_SOURCE] || wanted[VIEW_BOTH];
    control_frames_keep_sources(s->server->source.frames, CONTROL_PAGE, sources);
    struct control_pair pair = control_frames_newest(s->server->source.frames);
    bool due = now - s->picture_s >= PICTURE_EVERY_S;
    if (any && pair.result && pair.number != s->sent && due) {
        struct jpeg source = { 0 }, result = { 0 };
        if (sources && pair.source)
            source = encode(s, pair.source);
        if (wanted[VIEW_RESULT] || wanted[VIEW_BOTH])
            result = encode(s, pair.result);
        if (wanted[VIEW_RESULT])
            publish(feed[VIEW_RESULT], pair.number, NULL, &result);
        if (wanted[VIEW_SOURCE])
            publish(feed[VIEW_SOURCE], pair.number, &source, NULL);
        if (wanted[VIEW_BOTH])
            publish(feed[VIEW_BOTH], pair.number, &source, &result);
        free(source.data);
        free(result.data);
        s->sent = pair.number;
        s->picture_s = now;
    }
    control_pair_finish(&pair);
    for (int i = 0; i < NUM_VIEWS; i++)
        if (wanted[i] && feed_age_s(feed[i]) > REPEAT_EVERY_S)
            feed_publish(feed[i], NULL);
}

static void send_state(struct sender *s, double now)
{
    struct control_server *server = s->server;
    unsigned clients = feed_clients(server->events), changes = atomic_load(&server->changes);
    bool news = changes != s->changes || clients > s->event_clients;
    s->event_clients = clients;
    if (clients == 0 || (!news && now - s->state_s < STATE_EVERY_S))
        return;
    s->changes = changes;
    s->state_s = now;
    json_t *json = server_state_json(server);
    char *text = json ? json_dumps(json, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(json);
    static const char head[] = "event: state\ndata: ";
    size_t size = text ? strlen(text) : 0;
    char *at;
    struct feed_message *message = text ? feed_message_new(sizeof(head) - 1 + size + 2, &at)
                                        : NULL;
    if (message) {
        memcpy(at, head, sizeof(head) - 1);
        memcpy(at + sizeof(head) - 1, text, size);
        memcpy(at + sizeof(head) - 1 + size, "\n\n", 2);
        feed_publish(server->events, message);
    }
    free(text);
}

// libmicrohttpd's own limit is for silence; a client that sends a byte now and then needs this one.
static void end_slow_connections(struct control_server *server, double now)
{
    pthread_mutex_lock(&server->connection_lock);
    for (struct connection *c = server->connections; c; c = c->next)
        if (!c->is_feed && now - c->since_s > REQUEST_S)
            shutdown(c->socket, SHUT_RDWR);
    pthread_mutex_unlock(&server->connection_lock);
}

void sender_main(void *arg)
{
    struct control_server *server = arg;
    struct sender s = { .server = server };
    struct l2d_error err = { 0 };
    if (l2d_still_create(&s.still, L2D_STILL_JPEG, PREVIEW_SIDE, &err) != L2D_OK) {
        l2d_log_print(&server->log, L2D_LOG_ERROR, "%s", err.msg);
        return;
    }
    while (!atomic_load(&server->stopping)) {
        double now = l2d_clock_s();
        send_pictures(&s, now);
        send_state(&s, now);
        end_slow_connections(server, now);
        if (now - s.resumed_s >= RESUME_EVERY_S) {
            s.resumed_s = now;
            request_resume_all(server);
        }
        // Not more often than pictures are sent, however fast frames come.
        double next = PICTURE_EVERY_S - (l2d_clock_s() - s.picture_s);
        bool watched = s.wanted[VIEW_RESULT] || s.wanted[VIEW_SOURCE] || s.wanted[VIEW_BOTH];
        if (watched && next <= 0)
            control_frames_wait(server->source.frames, s.sent, TICK_MS);
        else
            control_frames_wait(server->source.frames, UINT64_MAX,
                                watched ? 1 + (int) (1e3 * next) : TICK_MS);
    }
    l2d_still_destroy(&s.still);
}
