// SPDX-License-Identifier: Apache-2.0
// See feed.h. A client with nothing to send is suspended in libmicrohttpd, which costs no time, and
// resumed by the next message.
#include "feed.h"

#include <microhttpd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"

#define BLOCK_BYTES 16384
#define MAX_CLIENTS 64

struct feed_message {
    atomic_int refs;
    size_t size;
    char data[];
};

struct client {
    struct feed *feed;
    struct MHD_Connection *connection;
    struct feed_message *sending;       // NULL: nothing; libmicrohttpd's thread alone
    size_t sent;

    // --- guarded by the feed's lock
    uint64_t seen;                      // number of the message that was last begun
    bool suspended;
    struct client *next;
};

struct feed {
    unsigned max_clients;
    pthread_mutex_t lock;

    // --- guarded by lock
    struct feed_message *newest;
    uint64_t number;
    double at_s;
    struct client *clients;
    unsigned num_clients;
    bool closed;
};

struct feed_message *feed_message_new(size_t size, char **data)
{
    struct feed_message *m = malloc(sizeof(*m) + size);
    if (!m)
        return NULL;
    atomic_init(&m->refs, 1);
    m->size = size;
    *data = m->data;
    return m;
}

static void message_unref(struct feed_message *m)
{
    if (m && atomic_fetch_sub(&m->refs, 1) == 1)
        free(m);
}

int feed_create(struct feed **out, unsigned max_clients, struct l2d_error *err)
{
    struct feed *f = calloc(1, sizeof(*f));
    if (!f)
        return l2d_error_set(err, L2D_ENOMEM, "control: out of memory");
    pthread_mutex_init(&f->lock, NULL);
    f->max_clients = max_clients < MAX_CLIENTS ? max_clients : MAX_CLIENTS;
    *out = f;
    return L2D_OK;
}

void feed_destroy(struct feed **feed)
{
    struct feed *f = *feed;
    *feed = NULL;
    if (!f)
        return;
    message_unref(f->newest);
    pthread_mutex_destroy(&f->lock);
    free(f);
}

// libmicrohttpd has locks of its own, which its threads hold when they call us: not under ours.
static void resume_all(struct feed *f)
{
    struct MHD_Connection *waiting[MAX_CLIENTS];
    unsigned n = 0;
    pthread_mutex_lock(&f->lock);
    for (struct client *c = f->clients; c; c = c->next)
        if (c->suspended) {
            c->suspended = false;
            waiting[n++] = c->connection;
        }
    pthread_mutex_unlock(&f->lock);
    for (unsigned i = 0; i < n; i++)
        MHD_resume_connection(waiting[i]);
}

void feed_publish(struct feed *f, struct feed_message *message)
{
    struct feed_message *old = NULL;
    pthread_mutex_lock(&f->lock);
    if (message) {
        old = f->newest;
        f->newest = message;
    }
    f->number++;
    f->at_s = l2d_clock_s();
    pthread_mutex_unlock(&f->lock);
    message_unref(old);
    resume_all(f);
}

void feed_close(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    f->closed = true;
    pthread_mutex_unlock(&f->lock);
    resume_all(f);
}

double feed_age_s(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    double age = f->newest ? l2d_clock_s() - f->at_s : 1e9;
    pthread_mutex_unlock(&f->lock);
    return age;
}

unsigned feed_clients(struct feed *f)
{
    pthread_mutex_lock(&f->lock);
    unsigned n = f->num_clients;
    pthread_mutex_unlock(&f->lock);
    return n;
}

// The next message to send, or a suspended connection. returns false at the end of all messages.
static bool begin_next(struct client *c)
{
    struct feed *f = c->feed;
    pthread_mutex_lock(&f->lock);
    bool closed = f->closed;
    if (!closed && f->newest && f->number != c->seen) {
        c->seen = f->number;
        c->sending = f->newest;
        atomic_fetch_add(&c->sending->refs, 1);
    } else if (!closed) {
        c->suspended = true;
        MHD_suspend_connection(c->connection);
    }
    pthread_mutex_unlock(&f->lock);
    return !closed;
}

static ssize_t read_feed(void *user, uint64_t position, char *buffer, size_t size)
{
    (void) position;
    struct client *c = user;
    if (!c->sending && !begin_next(c))
        return MHD_CONTENT_READER_END_OF_STREAM;
    if (!c->sending)
        return 0;
    size_t left = c->sending->size - c->sent, n = left < size ? left : size;
    memcpy(buffer, c->sending->data + c->sent, n);
    c->sent += n;
    if (c->sent == c->sending->size) {
        message_unref(c->sending);
        c->sending = NULL;
        c->sent = 0;
    }
    return (ssize_t) n;
}

static void free_client(void *user)
{
    struct client *c = user;
    struct feed *f = c->feed;
    pthread_mutex_lock(&f->lock);
    struct client **at = &f->clients;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at) {
        *at = c->next;
        f->num_clients--;
    }
    pthread_mutex_unlock(&f->lock);
    message_unref(c->sending);
    free(c);
}

struct MHD_Response *feed_response(struct feed *f, struct MHD_Connection *connection,
                                   double fresh_s)
{
    struct client *c = calloc(1, sizeof(*c));
    if (!c)
        return NULL;
    c->feed = f;
    c->connection = connection;
    pthread_mutex_lock(&f->lock);
    bool room = !f->closed && f->num_clients < f->max_clients;
    if (room) {
        bool fresh = f->newest && l2d_clock_s() - f->at_s < fresh_s;
        c->seen = fresh ? f->number - 1 : f->number;
        c->next = f->clients;
        f->clients = c;
        f->num_clients++;
    }
    pthread_mutex_unlock(&f->lock);
    if (!room) {
        free(c);
        return NULL;
    }
    struct MHD_Response *response = MHD_create_response_from_callback(
        MHD_SIZE_UNKNOWN, BLOCK_BYTES, read_feed, c, free_client);
    if (!response)
        free_client(c);
    return response;
}
