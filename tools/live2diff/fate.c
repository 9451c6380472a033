// SPDX-License-Identifier: Apache-2.0
// See fate.h.
#include "fate.h"

#include <string.h>

void fate_init(struct fate_ledger *ledger)
{
    memset(ledger, 0, sizeof(*ledger));
    pthread_mutex_init(&ledger->lock, NULL);
}

void fate_finish(struct fate_ledger *ledger)
{
    pthread_mutex_destroy(&ledger->lock);
}

static unsigned slot_of(const struct fate_ledger *l, unsigned at)
{
    return (l->head + at) % FATE_ENTRIES;
}

static void take(struct fate_ledger *l, unsigned at)
{
    for (unsigned i = at; i > 0; i--)           // it is nearly always the oldest
        l->entry[slot_of(l, i)] = l->entry[slot_of(l, i - 1)];
    l->head = (l->head + 1) % FATE_ENTRIES;
    l->len--;
}

void fate_begin(struct fate_ledger *l, int64_t pts, double arrival_s, double now_s)
{
    pthread_mutex_lock(&l->lock);
    if (l->len == FATE_ENTRIES) {
        take(l, 0);
        l->counts.astray++;
    }
    unsigned slot = slot_of(l, l->len++);
    l->entry[slot].pts = pts;
    l->entry[slot].arrival_s = arrival_s;
    l->entry[slot].begun_s = l->last_begun_s = now_s;
    l->counts.in++;
    pthread_mutex_unlock(&l->lock);
}

void fate_late(struct fate_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    if (l->len >= 2)
        take(l, l->len - 2);
    else
        l->counts.astray++;
    l->counts.late++;
    pthread_mutex_unlock(&l->lock);
}

double fate_leave(struct fate_ledger *l, int64_t pts, bool overtaken, double *begun_s)
{
    double arrival_s = 0, begun = 0;
    pthread_mutex_lock(&l->lock);
    unsigned at = 0;
    while (at < l->len && l->entry[slot_of(l, at)].pts != pts)
        at++;
    if (at < l->len) {
        arrival_s = l->entry[slot_of(l, at)].arrival_s;
        begun = l->entry[slot_of(l, at)].begun_s;
        take(l, at);
    } else {
        l->counts.astray++;
    }
    if (overtaken)
        l->counts.overtaken++;
    else
        l->counts.out++;
    pthread_mutex_unlock(&l->lock);
    if (begun_s)
        *begun_s = begun;
    return arrival_s;
}

void fate_hold(struct fate_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    l->counts.held++;
    pthread_mutex_unlock(&l->lock);
}

void fate_stop(struct fate_ledger *l, unsigned frames)
{
    pthread_mutex_lock(&l->lock);
    l->counts.in += frames;
    l->counts.stopped += frames;
    pthread_mutex_unlock(&l->lock);
}

void fate_end(struct fate_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    l->counts.stopped += l->len;
    l->len = 0;
    pthread_mutex_unlock(&l->lock);
}

double fate_last_begun(struct fate_ledger *l)
{
    pthread_mutex_lock(&l->lock);
    double at = l->last_begun_s;
    pthread_mutex_unlock(&l->lock);
    return at;
}

bool fate_next(struct fate_ledger *l, double since_s, int64_t *pts)
{
    int64_t after = *pts;
    bool found = false;
    pthread_mutex_lock(&l->lock);
    for (unsigned i = 0; i < l->len && !found; i++) {
        unsigned slot = slot_of(l, i);
        found = l->entry[slot].begun_s > since_s && l->entry[slot].pts > after;
        *pts = l->entry[slot].pts;
    }
    pthread_mutex_unlock(&l->lock);
    return found;
}

struct fates fate_counts(struct fate_ledger *l, uint64_t backlog)
{
    pthread_mutex_lock(&l->lock);
    struct fates f = l->counts;
    f.in_flight = l->len;
    pthread_mutex_unlock(&l->lock);
    f.in += backlog;
    f.backlog = backlog;
    return f;
}

bool fates_add_up(const struct fates *f)
{
    return f->astray == 0 &&
           f->in == f->out + f->late + f->overtaken + f->backlog + f->stopped + f->in_flight;
}
