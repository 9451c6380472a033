// SPDX-License-Identifier: Apache-2.0
// A bad network for tests: all that passes comes later, and some of it not at once, or not at all.
//     bad_network tcp|udp PORT TARGET DELAY_MS LOSS SEED    127.0.0.1:PORT leads to :TARGET
//     bad_network tun NAME NAME DELAY_MS LOSS SEED          between two devices, which it makes
// DELAY_MS is that of one way, LOSS in percent. Of TCP a lost segment is one that comes a round
// trip later, and what is behind it waits; a tun device loses IP packets, and the kernel's own TCP
// sees to them. A word a line on standard input changes the weather: "stall" (nothing passes, and
// nobody is told), "cut" (as that, and TCP connections are reset), "go". Its end ends the program.
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if.h>
#include <linux/if_tun.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define SEGMENT      1460           // bytes of TCP that are delayed and lost as one
#define MOST         65536          // of a datagram
#define WINDOW       (256 << 10)    // bytes of TCP on their way; then no more is taken
#define MAX_LINKS    16
#define RESEND_US    100000         // beyond a round trip, until a loss is noticed

enum kind { TCP, UDP, TUN };
enum weather { GO, STALL, CUT };

struct chunk {
    struct chunk *next;
    int64_t due_us;
    size_t size, sent;              // of size 0: the end of this way
    unsigned char data[];
};

struct way {
    int from, to;
    struct chunk *first, **last;
    size_t bytes;
    int64_t due_us;                 // of the last chunk
    bool ended;                     // nothing more comes
};

struct link { bool used; struct way way[2]; };

static enum kind kind;
static enum weather weather;
static uint16_t port, target;
static int64_t delay_us;
static double loss;
static uint64_t chance;
static int listener = -1;
static struct sockaddr_in client;   // of UDP, the one that spoke last
static struct link links[MAX_LINKS];

static void die(const char *what)
{
    fprintf(stderr, "bad_network: %s: %s\n", what, strerror(errno));
    exit(1);
}

static int64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t) t.tv_sec * 1000000 + t.tv_nsec / 1000;
}

static bool is_lost(void)           // xorshift64*
{
    chance ^= chance >> 12;
    chance ^= chance << 25;
    chance ^= chance >> 27;
    return (double) ((chance * UINT64_C(0x2545f4914f6cdd1d)) >> 11) / 9007199254740992.0 < loss;
}

static struct sockaddr_in local(uint16_t number)
{
    return (struct sockaddr_in) { .sin_family = AF_INET, .sin_port = htons(number),
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
}

static void start_listening(void)
{
    struct sockaddr_in at = local(port);
    listener = socket(AF_INET, (kind == TCP ? SOCK_STREAM : SOCK_DGRAM) | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int) { 1 }, sizeof(int));
    if (listener < 0 || bind(listener, (struct sockaddr *) &at, sizeof(at)) != 0 ||
        (kind == TCP && listen(listener, MAX_LINKS) != 0))
        die("the port");
}

static int open_target(void)
{
    struct sockaddr_in to = local(target);
    int fd = socket(AF_INET, kind == TCP ? SOCK_STREAM : SOCK_DGRAM, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0) {
        fcntl(fd, F_SETFL, O_NONBLOCK);
        return fd;
    }
    close(fd);
    return -1;
}

static int open_tun(const char *name)
{
    struct ifreq request = { .ifr_flags = IFF_TUN | IFF_NO_PI };
    int fd = open("/dev/net/tun", O_RDWR | O_NONBLOCK);
    snprintf(request.ifr_name, sizeof(request.ifr_name), "%s", name);
    if (fd < 0 || ioctl(fd, TUNSETIFF, &request) != 0)
        die(name);
    return fd;
}

// --- links

static void join(struct link *l, int a, int b)
{
    *l = (struct link) { .used = true, .way = { { .from = a, .to = b }, { .from = b, .to = a } } };
    l->way[0].last = &l->way[0].first;
    l->way[1].last = &l->way[1].first;
}

static struct link *free_link(void)
{
    for (int i = 0; i < MAX_LINKS; i++)
        if (!links[i].used)
            return &links[i];
    return NULL;
}

static void drop_first(struct way *w)
{
    struct chunk *c = w->first;
    w->first = c->next;
    w->bytes -= c->size;
    if (!w->first)
        w->last = &w->first;
    free(c);
}

static void unlink_ends(struct link *l, bool reset)
{
    struct linger none = { .l_onoff = 1, .l_linger = 0 };
    for (int i = 0; i < 2; i++) {
        while (l->way[i].first)
            drop_first(&l->way[i]);
        if (reset)
            setsockopt(l->way[i].from, SOL_SOCKET, SO_LINGER, &none, sizeof(none));
        if (l->way[i].from != listener)
            close(l->way[i].from);
    }
    l->used = false;
}

static void take_connection(void)
{
    int in = accept4(listener, NULL, NULL, SOCK_NONBLOCK), out = in < 0 ? -1 : open_target();
    struct link *l = out < 0 ? NULL : free_link();
    if (l) {
        join(l, in, out);
        return;
    }
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
}

// --- what passes

static void send_later(struct way *w, const void *data, size_t size)
{
    if (kind != TCP && is_lost())
        return;
    struct chunk *c = malloc(sizeof(*c) + size);
    if (!c)
        die("memory");
    int64_t due = now_us() + delay_us;
    while (kind == TCP && size > 0 && is_lost())
        due += 2 * delay_us + RESEND_US;
    if (due < w->due_us)
        due = w->due_us;
    *c = (struct chunk) { .due_us = w->due_us = due, .size = size };
    memcpy(c->data, data, size);
    *w->last = c;
    w->last = &c->next;
    w->bytes += size;
}

// The client of UDP that speaks gets the answers; another one is another link.
static ssize_t take(struct link *l, struct way *w, void *data)
{
    if (w->from != listener)
        return read(w->from, data, kind == TCP ? SEGMENT : MOST);
    struct sockaddr_in from;
    socklen_t size = sizeof(from);
    ssize_t n = recvfrom(listener, data, MOST, 0, (struct sockaddr *) &from, &size);
    if (n >= 0 && memcmp(&from, &client, sizeof(from)) != 0) {
        unlink_ends(l, false);
        join(l, listener, open_target());
        client = from;
    }
    return n;
}

static void receive(struct link *l, struct way *w)
{
    static unsigned char data[MOST];
    ssize_t n = take(l, w, data);
    if (n < 0 && kind == TCP && errno != EAGAIN && errno != EINTR)
        unlink_ends(l, true);
    if (n < 0 || (n == 0 && kind != TCP))
        return;
    w->ended = n == 0;
    if (weather == GO)
        send_later(w, data, (size_t) n);
}

// returns false if the link is over.
static bool deliver(struct link *l, struct way *w)
{
    while (w->first && w->first->due_us <= now_us()) {
        struct chunk *c = w->first;
        ssize_t n = 0;
        if (kind == TCP && c->size == 0)
            shutdown(w->to, SHUT_WR);
        else if (kind == UDP && w->to == listener)
            n = sendto(w->to, c->data, c->size, 0, (struct sockaddr *) &client, sizeof(client));
        else if (kind == TUN)
            n = write(w->to, c->data, c->size);
        else
            n = send(w->to, c->data + c->sent, c->size - c->sent, MSG_NOSIGNAL);
        if (kind == TCP && n < 0 && errno != EAGAIN) {
            unlink_ends(l, true);
            return false;
        }
        c->sent += n > 0 ? (size_t) n : 0;
        if (kind == TCP && c->sent < c->size)
            return true;
        drop_first(w);
    }
    if (l->way[0].ended && l->way[1].ended && !l->way[0].first && !l->way[1].first) {
        unlink_ends(l, false);
        return false;
    }
    return true;
}

// --- the weather

static void change_weather(enum weather to)
{
    bool cut = to == CUT && kind == TCP;
    for (int i = 0; i < MAX_LINKS; i++)
        if (links[i].used && cut)
            unlink_ends(&links[i], true);
    if (cut && listener >= 0) {
        close(listener);
        listener = -1;
    }
    if (to == GO && listener < 0 && kind != TUN)
        start_listening();
    weather = to;
}

static void read_commands(void)
{
    char text[64] = "";
    if (read(STDIN_FILENO, text, sizeof(text) - 1) <= 0)
        exit(0);
    change_weather(strstr(text, "go") ? GO : strstr(text, "cut") ? CUT : STALL);
}

static int wait_ms(void)
{
    int64_t due = INT64_MAX, now = now_us();
    for (int i = 0; i < MAX_LINKS; i++)
        for (int k = 0; k < 2; k++)
            if (links[i].used && links[i].way[k].first && links[i].way[k].first->due_us < due)
                due = links[i].way[k].first->due_us;
    return due == INT64_MAX ? -1 : due <= now ? 1 : (int) ((due - now) / 1000) + 1;
}

static void step(void)
{
    struct pollfd fds[2 + 2 * MAX_LINKS] = { { .fd = STDIN_FILENO, .events = POLLIN } };
    struct way *way[2 + 2 * MAX_LINKS] = { NULL };
    nfds_t n = 1;
    bool idle = weather != GO, stalled = idle && kind == TCP;
    if (listener >= 0 && kind == TCP && !stalled)
        fds[n++] = (struct pollfd) { .fd = listener, .events = POLLIN };
    for (int i = 0; i < MAX_LINKS && !stalled; i++)
        for (int k = 0; k < 2 && links[i].used; k++)
            if (!links[i].way[k].ended && links[i].way[k].bytes < WINDOW) {
                way[n] = &links[i].way[k];
                fds[n] = (struct pollfd) { .fd = way[n]->from, .events = POLLIN };
                n++;
            }
    if (poll(fds, n, idle ? -1 : wait_ms()) < 0 && errno != EINTR)
        die("poll");
    if (fds[0].revents) {
        read_commands();                // links may be gone
        return;
    }
    for (nfds_t f = 1; f < n; f++) {
        if (!fds[f].revents)
            continue;
        struct link *l = way[f] ? &links[0] : NULL;
        while (l && way[f] != &l->way[0] && way[f] != &l->way[1])
            l++;
        if (!l)
            take_connection();
        else if (l->used)
            receive(l, way[f]);
    }
    for (int i = 0; i < MAX_LINKS && weather == GO; i++)
        if (links[i].used && deliver(&links[i], &links[i].way[0]))
            deliver(&links[i], &links[i].way[1]);
}

int main(int argc, char **argv)
{
    if (argc != 7)
        return fprintf(stderr, "usage: bad_network tcp|udp|tun FROM TO DELAY_MS LOSS SEED\n"), 2;
    kind = !strcmp(argv[1], "tcp") ? TCP : !strcmp(argv[1], "udp") ? UDP : TUN;
    delay_us = (int64_t) (1000 * atof(argv[4]));
    loss = atof(argv[5]) / 100;
    chance = strtoull(argv[6], NULL, 10) * 2 + 1;
    if (kind == TUN) {
        int first = open_tun(argv[2]);
        join(&links[0], first, open_tun(argv[3]));
    } else {
        port = (uint16_t) atoi(argv[2]);
        target = (uint16_t) atoi(argv[3]);
        start_listening();
    }
    if (kind == UDP)
        join(&links[0], listener, open_target());
    puts("ready");
    fflush(stdout);
    for (;;)
        step();
}
