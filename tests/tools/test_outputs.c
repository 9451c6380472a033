// SPDX-License-Identifier: Apache-2.0
// The set of outputs: who may join and leave and when, what each gets, and recordings.
#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "outputs.h"
#include "recording.h"
#include "video_io/libav.h"

static struct outputs set;
static struct l2d_error err;
static char folder[] = "/tmp/l2d-outputs-XXXXXX";

static void open_set(void)
{
    cr_assert(mkdtemp(folder) && chdir(folder) == 0);
    l2d_libav_init(NULL);
    outputs_init(&set, &(struct l2d_log) { 0 });
    outputs_set(&set, &(struct l2d_sink_params) {
        .width = 64, .height = 48, .time_base_num = 1, .time_base_den = 90000,
        .frame_rate_num = 25, .frame_rate_den = 1, .matrix = L2D_MATRIX_BT709,
    });
    cr_assert_eq(outputs_add(&set, &(struct output_options) { .name = "null" }, OUTPUTS_FIRST, NULL,
                             &err), L2D_OK, "%s", err.msg);
}

static void close_set(void)
{
    char command[64];
    outputs_finish(&set);
    snprintf(command, sizeof(command), "rm -rf %s", folder);
    cr_expect_eq(system(command), 0);
}

TestSuite(outputs, .init = open_set, .fini = close_set, .timeout = 60);

static int add(const char *name, uint32_t *id)
{
    return outputs_add(&set, &(struct output_options) { .name = name }, OUTPUTS_LATE, id, &err);
}

static enum outputs_look wait_for(uint32_t id)
{
    enum outputs_look look;
    while ((look = outputs_look(&set, id, &err)) == OUTPUTS_OPENING)
        usleep(1000);
    return look;
}

static void push(int64_t from, int64_t to)
{
    for (int64_t i = from; i < to; i++) {
        struct l2d_item item = { .kind = L2D_ITEM_VIDEO };
        struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT709, false);
        cr_assert_eq(l2d_frame_create(&item.frame, 64, 48, &format, NULL), L2D_OK);
        item.frame->pts = 3600 * i;
        item.frame->time_base_num = 1;
        item.frame->time_base_den = 90000;
        struct shared_item *shared = shared_item_new(&item, 0);
        outputs_push(&set, shared);
        shared_item_unref(shared);
    }
}

static void tend_until(unsigned num_members)
{
    while (set.num_members > num_members) {
        outputs_tend(&set, l2d_clock_s());
        usleep(1000);
    }
}

Test(outputs, come_late_and_leave_early)
{
    uint32_t a, b;
    push(0, 10);
    cr_assert_eq(add("a.mkv", &a), L2D_OK, "%s", err.msg);
    cr_assert_eq(wait_for(a), OUTPUTS_OPEN, "%s", err.msg);
    push(10, 30);
    cr_assert_eq(add("b.mkv", &b), L2D_OK, "%s", err.msg);
    cr_assert_eq(wait_for(b), OUTPUTS_OPEN, "%s", err.msg);
    cr_expect(a == 1 && b == 2);
    push(30, 35);
    cr_expect_eq(outputs_remove(&set, a, &err), L2D_OK);
    cr_expect_eq(outputs_remove(&set, a, &err), L2D_OK, "asked for twice");
    push(35, 50);
    tend_until(2);
    cr_expect_eq(outputs_remove(&set, a, &err), L2D_EINVAL);
    outputs_end(&set, false);
    while (!outputs_all_ended(&set))
        usleep(1000);
    outputs_join(&set);
    const uint64_t wanted[] = { 50, 20 };
    for (int i = 0; i < 2; i++) {
        struct output_counts c = output_counts(&set.member[i]->output);
        cr_expect(c.given == wanted[i] && c.written == wanted[i], "%d: %d of %d", i,
                  (int) c.written, (int) c.given);
    }
    cr_expect_eq(output_counts(&set.past[0]->output).written, 25u);
    cr_expect(set.num_past == 1 && set.unfair == 0);
    cr_expect(access("a.mkv", F_OK) == 0 && access("b.mkv", F_OK) == 0);
    cr_expect_eq(add("c.mkv", &a), L2D_ECLOSED, "the run has ended");
}

Test(outputs, refusals_leave_nothing_behind)
{
    uint32_t id;
    static const char *const bad[][2] = {
        { "b.nothing", "no extension of a video format" }, { "nowhere/b.mkv", "cannot be written" },
        { "tcp://127.0.0.1:1", "Connection refused" }, { "there.mkv", "exists already" },
    };
    fclose(fopen("there.mkv", "w"));
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        cr_assert_eq(add(bad[i][0], &id), L2D_OK, "%s", err.msg);
        cr_expect_eq(wait_for(id), OUTPUTS_REFUSED, "%s", bad[i][0]);
        cr_expect(strstr(err.msg, bad[i][1]), "%s", err.msg);
    }
    tend_until(1);
    cr_expect_eq(set.num_past, 0u);
    cr_assert_eq(add("a.mkv", &id), L2D_OK);
    cr_expect_eq(add("a.mkv", NULL), L2D_EINVAL);
    cr_expect(strstr(err.msg, "a.mkv: is an output already"), "%s", err.msg);
    for (int i = 0; i < RUN_MAX_OUTPUTS - 2; i++)
        cr_assert_eq(add("null", NULL), L2D_OK, "%s", err.msg);
    cr_expect_eq(add("null", NULL), L2D_ECLOSED);
    cr_expect(strstr(err.msg, "16 outputs"), "%s", err.msg);
}

Test(outputs, there_is_one_window)
{
    uint32_t id;
    setenv("SDL_VIDEODRIVER", "dummy", 1);
    cr_assert_eq(add("display", &id), L2D_OK, "%s", err.msg);
    cr_assert_eq(wait_for(id), OUTPUTS_OPEN, "%s", err.msg);
    cr_expect_eq(add("display", NULL), L2D_EINVAL);
    cr_expect(strstr(err.msg, "display: is an output already"), "%s", err.msg);
    cr_expect_eq(outputs_remove(&set, id, &err), L2D_OK);
    tend_until(1);
    cr_assert_eq(add("display", &id), L2D_OK, "%s", err.msg);
    cr_expect_eq(wait_for(id), OUTPUTS_OPEN, "%s", err.msg);
}

// A run without an output would have nothing to do, and end.
Test(outputs, the_last_one_stays)
{
    uint32_t id;
    cr_expect_eq(outputs_remove(&set, 0, &err), L2D_ECLOSED);
    cr_assert_eq(add("null", &id), L2D_OK);
    cr_assert_eq(wait_for(id), OUTPUTS_OPEN, "%s", err.msg);
    cr_expect_eq(outputs_remove(&set, 0, &err), L2D_OK);
    cr_expect_eq(outputs_remove(&set, id, &err), L2D_ECLOSED, "the other one leaves already");
    tend_until(1);
    cr_expect(!outputs_all_ended(&set));
}

// One that still opens may never be there: a server that takes the connection and says nothing.
Test(outputs, an_opening_one_is_no_reason_to_go_on)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(at);
    char url[64];
    uint32_t id;
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    cr_assert(fd >= 0 && bind(fd, (struct sockaddr *) &at, size) == 0 && listen(fd, 1) == 0 &&
              getsockname(fd, (struct sockaddr *) &at, &size) == 0);
    snprintf(url, sizeof(url), "rtmp://127.0.0.1:%d/app/key", ntohs(at.sin_port));
    cr_assert_eq(add(url, &id), L2D_OK, "%s", err.msg);
    cr_expect_eq(outputs_remove(&set, 0, &err), L2D_ECLOSED);
    cr_expect_eq(outputs_look(&set, id, &err), OUTPUTS_OPENING);
    cr_expect_eq(outputs_remove(&set, id, &err), L2D_OK, "%s", err.msg);
    tend_until(1);
    close(fd);
}

// Nobody has waited to learn that it cannot be opened: it is not kept all the same.
Test(outputs, a_refused_one_leaves_by_itself)
{
    cr_assert_eq(add("tcp://127.0.0.1:1", NULL), L2D_OK, "%s", err.msg);
    while (!output_has_ended(&set.member[1]->output))
        usleep(1000);
    cr_expect(outputs_was_refused(set.member[1]) && !outputs_was_refused(set.member[0]));
    tend_until(1);
    cr_expect_eq(set.num_past, 0u);
}

// Who closes the window ends the run; what was recorded is finished then.
Test(outputs, a_recording_is_no_reason_to_go_on)
{
    cr_assert_eq(recording_set(&set, true, NULL, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(wait_for(1), OUTPUTS_OPEN, "%s", err.msg);
    push(0, 10);
    cr_expect_eq(outputs_remove(&set, 0, &err), L2D_ECLOSED);
    outputs_tend(&set, l2d_clock_s());
    cr_expect(!outputs_all_ended(&set) && recording_runs(&set));
    output_finish(&set.member[0]->output, false);       // as if its viewer had left
    while (!outputs_all_ended(&set)) {
        outputs_tend(&set, l2d_clock_s());
        usleep(1000);
    }
    tend_until(1);
    cr_expect_eq(set.num_past, 1u);
    cr_expect_eq(access(set.past[0]->output.name, F_OK), 0);
}

Test(outputs, one_recording_at_a_time)
{
    char name[64] = "", other[64] = "";
    cr_expect(!recording_runs(&set));
    cr_assert_eq(recording_set(&set, true, NULL, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(recording_set(&set, true, NULL, &err), L2D_OK);
    cr_expect(recording_runs(&set) && set.num_members == 2);
    cr_assert_eq(wait_for(1), OUTPUTS_OPEN, "%s", err.msg);
    snprintf(name, sizeof(name), "%.63s", set.member[1]->output.name);
    push(0, 10);
    cr_expect_eq(recording_set(&set, false, NULL, &err), L2D_OK, "%s", err.msg);
    cr_expect(!recording_runs(&set));
    cr_assert_eq(recording_set(&set, true, NULL, &err), L2D_OK,
                 "a second one while the first finishes");
    snprintf(other, sizeof(other), "%.63s", set.member[set.num_members - 1]->output.name);
    cr_expect_str_neq(name, other);
    tend_until(2);
    cr_expect(!strncmp(name, "live2diff-", 10) && !strcmp(strrchr(name, '.'), ".mkv"), "%s", name);
    cr_expect_eq(access(name, F_OK), 0, "%s", name);
    cr_expect_eq(recording_set(&set, false, NULL, &err), L2D_OK);
}
