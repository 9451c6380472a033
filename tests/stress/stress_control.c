// SPDX-License-Identifier: Apache-2.0
// The control server under all that it serves at once: frames that come at full speed, clients that
// watch, ask, change, leave in the middle and send rubbish, and a server that stops among them.
#include <arpa/inet.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "server.h"

#define ROUNDS 3
#define ROUND_S 1.5
#define NUM_CLIENTS 12

static atomic_bool stop;
static atomic_uint answers, refusals;
static uint16_t port;
static char prompt[64] = "first";       // the server's lock guards it

static int get_prompt(void *user, struct param_value *v, struct l2d_error *err)
{
    (void) err;
    v->text = strdup(user);
    return L2D_OK;
}

static int set_prompt(void *user, const struct param_value *v, struct l2d_error *err)
{
    (void) err;
    snprintf(user, sizeof(prompt), "%s", v->text);
    return L2D_OK;
}

static const struct param rows[] = {
    { .name = "prompt", .kind = PARAM_TEXT, .doc = "a text", .max = 63, .user = prompt,
      .get = get_prompt, .set = set_prompt },
};

static void fill_state(void *user, struct control_state *state)
{
    (void) user;
    state->version = state->input = state->model = state->device = state->driver = "none";
    state->precision = "fp32";
    state->source = "running";
    state->source_reason = "";
    state->fit = "cover";
}

// Of four outputs one is refused at once, one when it opens; the others need some time.
static int add_output(void *user, const json_t *what, uint32_t *id, struct l2d_error *err)
{
    static atomic_uint added;
    (void) user, (void) what;
    *id = atomic_fetch_add(&added, 1);
    return *id % 4 ? L2D_OK : l2d_error_set(err, L2D_EINVAL, "no such thing");
}

static int look_at_output(void *user, uint32_t id, bool *opening, struct l2d_error *err)
{
    static atomic_uint looks;
    (void) user;
    *opening = atomic_fetch_add(&looks, 1) % 5 != 0;
    return id % 4 != 1 || *opening ? L2D_OK : l2d_error_set(err, L2D_EIO, "nobody there");
}

static int remove_output(void *user, uint32_t id, struct l2d_error *err)
{
    (void) user, (void) id, (void) err;
    return L2D_OK;
}

static void *push_frames(void *arg)
{
    struct control_frames *frames = arg;
    struct l2d_pixel_format format = l2d_pixel_format_rgba8();
    for (int64_t pts = 0; !atomic_load(&stop); pts++) {
        struct l2d_frame *source = NULL, *result = NULL;
        if (l2d_frame_create(&source, 64, 48, &format, NULL) != L2D_OK ||
            l2d_frame_create(&result, 32, 32, &format, NULL) != L2D_OK)
            abort();
        memset(source->data, (int) pts, source->size_bytes);
        memset(result->data, (int) ~pts, result->size_bytes);
        source->pts = result->pts = pts;
        control_frames_source(frames, source);
        control_frames_result(frames, result);
        l2d_frame_unref(&source);
        l2d_frame_unref(&result);
        usleep(500);
    }
    return NULL;
}

static int connect_to_server(void)
{
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons(port),
                              .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { .tv_sec = 2 };
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    if (connect(fd, (struct sockaddr *) &to, sizeof(to)) == 0)
        return fd;
    close(fd);
    return -1;
}

// What is asked, and how many bytes of the answer are read before the client leaves.
static const struct { const char *text; size_t read; } asks[] = {
    { "GET /preview.mjpeg?view=both HTTP/1.1\r\nHost: localhost\r\n\r\n", 3000 },
    { "GET /api/events HTTP/1.1\r\nHost: localhost\r\n\r\n", 500 },
    { "GET /api/state HTTP/1.0\r\nHost: localhost\r\n\r\n", 100000 },
    { "PATCH /api/params HTTP/1.0\r\nHost: localhost\r\nContent-Length: 15\r\n\r\n"
      "{\"prompt\": \"x\"}", 100000 },
    { "POST /api/outputs HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 100000 },
    { "POST /api/outputs HTTP/1.0\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 0 },
    { "DELETE /api/outputs/3 HTTP/1.0\r\nHost: localhost\r\n\r\n", 100000 },
    { "POST /api/snapshot HTTP/1.0\r\nHost: localhost\r\n\r\n", 100000 },
    { "GET /preview.mjpeg HTTP/1.1\r\nHost: localhost\r\n\r\n", 10 },
    { "GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n", 0 },
    { "PATCH /api/params HTTP/1.0\r\nHost: localhost\r\nContent-Length: 9000\r\n\r\n{", 0 },
    { "rubbish\r\n\r\n", 100 },
};

static void *ask_again(void *arg)
{
    unsigned seed = (unsigned) (uintptr_t) arg;
    static const size_t num_asks = sizeof(asks) / sizeof(asks[0]);
    char buffer[4096];
    while (!atomic_load(&stop)) {
        size_t i = (size_t) rand_r(&seed) % num_asks, got = 0;
        int fd = connect_to_server();
        if (fd < 0) {
            usleep(1000);
            continue;
        }
        send(fd, asks[i].text, strlen(asks[i].text), MSG_NOSIGNAL);
        while (got < asks[i].read && !atomic_load(&stop)) {
            ssize_t n = recv(fd, buffer, sizeof(buffer), 0);
            if (n <= 0)
                break;
            if (got == 0)
                atomic_fetch_add(n > 12 && buffer[9] == '2' ? &answers : &refusals, 1);
            got += (size_t) n;
        }
        close(fd);
    }
    return NULL;
}

static int run_round(void)
{
    struct control_frames *frames = NULL;
    struct control_server *server = NULL;
    struct l2d_error err = { 0 };
    pthread_t pusher, client[NUM_CLIENTS];
    atomic_store(&stop, false);
    if (control_frames_create(&frames, &err) != L2D_OK ||
        control_server_create(&server, &(struct control_server_params) {
            .address = { .host = "127.0.0.1" },
            .source = { .state = fill_state, .params = { .row = rows, .num_rows = 1 },
                        .frames = frames,
                        .outputs = { add_output, look_at_output, remove_output } },
        }, &err) != L2D_OK) {
        fprintf(stderr, "%s\n", err.msg);
        control_frames_destroy(&frames);
        return 1;
    }
    port = control_server_address(server)->port;
    pthread_create(&pusher, NULL, push_frames, frames);
    for (uintptr_t i = 0; i < NUM_CLIENTS; i++)
        pthread_create(&client[i], NULL, ask_again, (void *) (i + 1));
    usleep((useconds_t) (1e6 * ROUND_S));
    double begin = l2d_clock_s();
    control_server_destroy(&server);            // among its clients
    double took = l2d_clock_s() - begin;
    atomic_store(&stop, true);
    pthread_join(pusher, NULL);
    for (int i = 0; i < NUM_CLIENTS; i++)
        pthread_join(client[i], NULL);
    control_frames_destroy(&frames);
    printf("%u answers, %u refusals; stopped in %.2f s\n", atomic_load(&answers),
           atomic_load(&refusals), took);
    return took > 20;
}

int main(void)
{
    int failed = 0;
    for (int i = 0; i < ROUNDS && !failed; i++)
        failed = run_round();
    if (atomic_load(&answers) < 50 || atomic_load(&refusals) == 0) {
        fprintf(stderr, "too few answers\n");
        failed = 1;
    }
    return failed;
}
