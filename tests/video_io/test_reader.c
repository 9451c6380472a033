// SPDX-License-Identifier: Apache-2.0
// The source: kinds of input, time, start and frame limits, damage, and refusals in one line.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "clips.h"

TestSuite(reader, .init = clips_open, .fini = clips_close, .timeout = 120);

#define FFMPEG "ffmpeg -v error -nostdin -y "
#define SOUND  "-f lavfi -i sine=frequency=440:sample_rate=44100:duration=3 "

static struct clips_frames frames;

static int read_all(const char *name, struct l2d_error *err)
{
    return clips_read(&frames, &(struct l2d_reader_params) { .name = name }, err);
}

static void expect_frames(const char *name, size_t n, int32_t w, int32_t h)
{
    struct l2d_error err = { 0 };
    int rc = read_all(name, &err);
    cr_expect_eq(rc, L2D_OK, "%s: %s", name, err.msg);
    cr_expect_eq(frames.num_frames, n, "%s: %zu frames, not %zu", name, frames.num_frames, n);
    for (size_t i = 0; i < frames.num_frames; i++) {
        cr_expect(frames.frame[i]->width == w && frames.frame[i]->height == h);
        cr_expect(i == 0 || frames.frame[i]->pts > frames.frame[i - 1]->pts);
    }
    clips_frames_clear(&frames);
}

static void expect_refusal(const char *name, int code, const char *words)
{
    struct l2d_error err = { 0 };
    int rc = read_all(name, &err);
    cr_expect_eq(rc, code, "%s: %s, not %s: %s", name, l2d_code_str(rc), l2d_code_str(code),
                 err.msg);
    cr_expect(strstr(err.msg, words), "%s", err.msg);
    cr_expect(!strchr(err.msg, '\n'), "%s", err.msg);
    cr_expect(strstr(err.msg, name) || !strcmp(name, "-"), "%s", err.msg);
    clips_frames_clear(&frames);
}

Test(reader, many_kinds_of_file)
{
    struct { const char *file, *pixels; int w, h; size_t n; } cases[] = {
        { "a.mp4", "yuv420p", 64, 48, 10 }, { "a.mkv", "yuv420p10le", 64, 48, 10 },
        { "odd.mkv", "yuv420p -c:v ffv1", 63, 35, 10 },
        { "two.mkv", "yuv420p -c:v ffv1", 2, 2, 10 },
        { "a.gif", "pal8", 64, 48, 10 }, { "gray.mkv", "gray -c:v ffv1", 64, 48, 10 },
        { "nv12.nut", "nv12 -c:v rawvideo", 64, 48, 10 }, { "one.mp4", "yuv420p", 64, 48, 1 },
        { "a.y4m", "yuv420p", 64, 48, 10 }, { "a.mjpeg", "yuvj420p", 64, 48, 10 },
        { "a.png", "rgb24", 64, 48, 1 }, { "a.webm", "yuv420p", 64, 48, 10 },
        { "a.ts", "yuv420p", 64, 48, 10 }, { "a.avi", "yuv420p -bf 2", 64, 48, 10 },
        { "a.h264", "yuv420p", 64, 48, 10 }, { "a:b.mp4", "yuv420p", 64, 48, 10 },
        { "rgb.avi", "bgr24 -c:v rawvideo", 64, 48, 10 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -vf scale=%d:%d -frames:v %zu "
                  "-pix_fmt %s file:%s",
                  cases[i].w, cases[i].h, cases[i].n, cases[i].pixels, cases[i].file);
        expect_frames(cases[i].file, cases[i].n, cases[i].w, cases[i].h);
    }
}

Test(reader, variable_frame_rate_keeps_every_timestamp)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=r=1000:d=1 -vf "
              "\"select='not(mod(n,7))*not(mod(n,3))',scale=64:48\""
              " -fps_mode vfr -enc_time_base 1/1000 -video_track_timescale 1000 a.mp4");
    struct l2d_error err = { 0 };
    cr_assert_eq(read_all("a.mp4", &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 48);
    for (size_t i = 0; i < frames.num_frames; i++) {
        cr_expect_eq(frames.frame[i]->pts, (int64_t) i * 21);
        cr_expect_eq(frames.frame[i]->time_base_den, 1000);
    }
    cr_expect_eq(frames.stats.repaired_pts, 0);
    clips_frames_clear(&frames);
}

Test(reader, info_describes_the_input)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=30000/1001 " SOUND "-t 2 -vf setsar=4/3 -c:a "
              "aac a.mkv");
    struct l2d_reader *r = NULL;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_reader_create(&r, &(struct l2d_reader_params) { .name = "a.mkv" }, &err),
                 L2D_OK);
    const struct l2d_reader_info *info = l2d_reader_info(r);
    cr_expect_str_eq(info->codec, "h264");
    cr_expect(info->width == 64 && info->height == 48);
    cr_expect(info->sar_num == 4 && info->sar_den == 3);
    cr_expect(info->frame_rate_num == 30000 && info->frame_rate_den == 1001);
    cr_expect(info->num_frames >= 58 && info->num_frames <= 62, "%d", (int) info->num_frames);
    cr_expect(info->duration_us > 1900000 && info->duration_us < 2100000);
    cr_expect(info->has_audio && !strcmp(info->audio.codec, "aac"));
    cr_expect(info->audio.sample_rate == 44100 && info->audio.channels == 1);
    cr_expect(!info->live);
    l2d_reader_destroy(&r);
}

Test(reader, start_is_exact_to_the_frame)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=30000/1001 " SOUND "-t 3 -g 40 -c:a aac "
              "a.mp4");
    clips_run(FFMPEG "-i a.mp4 -c copy a.mkv");
    clips_run(FFMPEG "-i a.mp4 -c copy a.ts");
    const char *names[] = { "a.mp4", "a.mkv", "a.ts" };
    static struct clips_frames all;
    for (int i = 0; i < 3; i++) {
        struct l2d_error err = { 0 };
        cr_assert_eq(clips_read(&all, &(struct l2d_reader_params) { .name = names[i] }, &err),
                     L2D_OK);
        struct l2d_reader_params p = { .name = names[i], .start_us = 1634967 };     // frame 49
        cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect_eq(frames.num_frames, all.num_frames - 49, "%s: %zu", names[i],
                     frames.num_frames);
        cr_expect_arr_eq(frames.frame[0]->data, all.frame[49]->data, all.frame[49]->size_bytes);
        double start = (double) frames.frame[0]->pts / frames.frame[0]->time_base_den;
        cr_expect(start >= 0 && start < 0.03, "%s: starts at %f", names[i], start);
        cr_expect(frames.num_packets > 50 && frames.num_packets < 62, "%zu", frames.num_packets);
        clips_frames_clear(&frames);
        clips_frames_clear(&all);
    }
}

// The first key frame of a transport stream is decoded before the time that the file begins with.
Test(reader, start_within_the_first_pictures_of_a_transport_stream)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=25 -f lavfi -i sine -t 12 -c:v libx264 -g 250 "
              "-c:a aac a.ts");
    static const int starts[] = { 1, 2, 4, 9 };
    for (size_t i = 0; i < sizeof(starts) / sizeof(starts[0]); i++) {
        struct l2d_error err = { 0 };
        struct l2d_reader_params p = { .name = "a.ts", .start_us = starts[i] * 1000000 };
        cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect_eq(frames.num_frames, (size_t) (25 * (12 - starts[i])), "from %d: %zu", starts[i],
                     frames.num_frames);
        clips_frames_clear(&frames);
    }
}

Test(reader, start_counts_from_the_first_picture)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=25 -t 2 -output_ts_offset 36000 late.mkv");
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "late.mkv", .start_us = 1000000 };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 25);
    cr_expect_eq(frames.frame[0]->pts, 0);
    clips_frames_clear(&frames);
}

// Where nothing has a timestamp and libav cannot seek.
Test(reader, start_within_a_bare_stream)
{
    static const char *const names[] = { "a.h264", "a.hevc", "a.mjpeg", "a.y4m", "a.ivf" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=25 -t 3 -g 25 %s %s",
                  strcmp(names[i], "a.ivf") ? "" : "-c:v libvpx", names[i]);
        static struct clips_frames all;
        struct l2d_error err = { 0 };
        struct l2d_reader_params p = { .name = names[i] };
        cr_assert_eq(clips_read(&all, &p, &err), L2D_OK, "%s", err.msg);
        p.start_us = 1600000;
        cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_assert_eq(frames.num_frames, all.num_frames - 40, "%s: %zu", names[i],
                     frames.num_frames);
        cr_expect_arr_eq(frames.frame[0]->data, all.frame[40]->data, all.frame[40]->size_bytes,
                         "%s", names[i]);
        cr_expect_eq(frames.frame[0]->pts, 0, "%s", names[i]);
        clips_frames_clear(&frames);
        clips_frames_clear(&all);
    }
}

// The last ones come when the input has ended already.
Test(reader, frame_limit_within_the_last_pictures)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=25 -f lavfi -i sine -t 1 -c:v libx264 "
              "-c:a aac a.mp4");
    for (int64_t limit = 1; limit < 27; limit++) {
        struct l2d_error err = { 0 };
        struct l2d_reader_params p = { .name = "a.mp4", .max_frames = limit,
                                       .no_audio = limit % 2 };
        cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect_eq(frames.num_frames, (size_t) (limit < 25 ? limit : 25));
        clips_frames_clear(&frames);
    }
}

Test(reader, start_where_seeking_is_impossible)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 2 a.mkv");
    clips_run("mkfifo pipe; cat a.mkv >pipe &");
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "pipe", .start_us = 1500000 };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 5);
    clips_frames_clear(&frames);
}

Test(reader, start_beyond_the_end)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 a.mp4");
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "a.mp4", .start_us = 5000000 };
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_EFORMAT);
    cr_expect(strstr(err.msg, "start time of 5.000 s"), "%s", err.msg);
}

Test(reader, times_beyond_all_clocks)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 a.mp4");
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "a.mp4", .timeout_us = INT64_MAX };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 10);
    clips_frames_clear(&frames);
    p.start_us = INT64_MAX;
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_EFORMAT);
    cr_expect(strstr(err.msg, "nothing left after the start time"), "%s", err.msg);
}

Test(reader, frame_limit_cuts_the_sound_too)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 3 -c:a aac a.mp4");
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "a.mp4", .max_frames = 7 };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 7);
    cr_expect(frames.num_packets >= 30 && frames.num_packets < 60, "%zu", frames.num_packets);
    clips_frames_clear(&frames);
    p.no_audio = true;
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_packets, 0);
    clips_frames_clear(&frames);
}

// Pixel x,y of the upright picture, from the stored one.
static uint8_t upright(const struct l2d_frame *f, int x, int y)
{
    int sx = f->rotation == 90 ? y : f->rotation == 180 ? f->width - 1 - x
           : f->rotation == 270 ? f->width - 1 - y : x;
    int sy = f->rotation == 90 ? f->height - 1 - x : f->rotation == 180 ? f->height - 1 - y
           : f->rotation == 270 ? x : y;
    return f->data[(size_t) sy * f->plane_stride_bytes[0] + (size_t) sx];
}

static int32_t rotation_told(const char *name, int64_t start_us)
{
    struct l2d_reader_params p = { .name = name, .start_us = start_us };
    struct l2d_reader *reader = NULL;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_reader_create(&reader, &p, &err), L2D_OK, "%s", err.msg);
    int32_t rotation = l2d_reader_info(reader)->rotation;
    l2d_reader_destroy(&reader);
    return rotation;
}

// ffmpeg turns and mirrors by itself when it decodes. The container says how, or each picture does.
Test(reader, rotation_is_what_ffmpeg_applies)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 0.5 a.mp4");
    int turns_seen = 0;
    for (int i = 0; i < 12; i++) {
        int turn = i % 4 * 90;
        if (i < 4)
            clips_run(FFMPEG "-i a.mp4 -c copy -metadata:s:v:0 rotate=%d r.mp4", turn);
        else
            clips_run(FFMPEG "-i a.mp4 -c copy -bsf:v h264_metadata=display_orientation=insert:"
                      "rotate=%d%s r.mp4", turn, i < 8 ? "" : ":flip=horizontal");
        clips_run(FFMPEG "-i r.mp4 -frames:v 1 -f rawvideo -pix_fmt yuv420p r.raw");
        int32_t told = rotation_told("r.mp4", 0);
        struct l2d_error err = { 0 };
        cr_assert_eq(read_all("r.mp4", &err), L2D_OK, "%s", err.msg);
        const struct l2d_frame *f = frames.frame[0];
        turns_seen |= 1 << f->rotation / 90;
        cr_expect_eq(told, f->rotation);
        int w = f->rotation % 180 ? 48 : 64, h = f->rotation % 180 ? 64 : 48, differ = 0;
        uint8_t want[64 * 48];
        FILE *raw = fopen("r.raw", "rb");
        cr_assert_eq(fread(want, 1, sizeof(want), raw), sizeof(want));
        fclose(raw);
        for (int y = 0; y < h; y++)
            for (int x = 0; x < w; x++)
                differ += upright(f, x, y) != want[y * w + x];
        cr_expect_eq(differ, 0, "%d, turned by %d: %d pixels differ", i, f->rotation, differ);
        clips_frames_clear(&frames);
    }
    cr_expect_eq(turns_seen, 15);
}

Test(reader, a_rotation_told_by_the_first_picture_holds_after_a_start)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 3 -g 10 -c:v libx264 a.mp4");
    static const char *const names[] = { "r.mp4", "r.mkv", "r.ts", "r.h264" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        clips_run(FFMPEG "-i a.mp4 -c copy -bsf:v h264_mp4toannexb,h264_metadata="
                  "display_orientation=insert:rotate=90:flip=horizontal %s", names[i]);
        struct l2d_error err = { 0 };
        cr_assert_eq(read_all(names[i], &err), L2D_OK, "%s", err.msg);
        struct l2d_frame *want = l2d_frame_ref(frames.frame[15]);
        clips_frames_clear(&frames);
        cr_expect_eq(rotation_told(names[i], 1500000), want->rotation, "%s", names[i]);
        struct l2d_reader_params p = { .name = names[i], .start_us = 1500000 };
        cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect_neq(want->rotation, 0);
        cr_expect_eq(frames.frame[0]->rotation, want->rotation, "%s", names[i]);
        cr_expect_arr_eq(frames.frame[0]->data, want->data, want->size_bytes, "%s", names[i]);
        clips_frames_clear(&frames);
        l2d_frame_unref(&want);
    }
}

Test(reader, lavfi_and_its_options)
{
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "testsrc2=s=32x32:r=10", .format = "lavfi",
                                   .max_frames = 4 };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 4);
    clips_frames_clear(&frames);

    clips_run(FFMPEG "-f lavfi -i testsrc2=s=32x16:r=10 -frames:v 3 -pix_fmt gray -f rawvideo "
              "a.raw");
    p = (struct l2d_reader_params) { .name = "a.raw", .format = "rawvideo",
                                     .options = "video_size=32x16:pixel_format=gray" };
    cr_assert_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 3);
    clips_frames_clear(&frames);
    p.options = "video_size=32x16:nonsense=1";
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_EINVAL);
    cr_expect(strstr(err.msg, "'nonsense'"), "%s", err.msg);
    p.format = "nonsense";
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_EINVAL);
    cr_expect(strstr(err.msg, "'nonsense'"), "%s", err.msg);
}

Test(reader, standard_input_as_pipe_and_as_file)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=640x480:r=10 -t 1 -crf 1 a.mp4");   // index at the end
    clips_run(FFMPEG "-i a.mp4 -c copy a.mkv");
    int fd = open("a.mp4", O_RDONLY);
    cr_assert(dup2(fd, STDIN_FILENO) == STDIN_FILENO);
    expect_frames("-", 10, 640, 480);

    FILE *cat = popen("cat a.mkv", "r");
    cr_assert(dup2(fileno(cat), STDIN_FILENO) == STDIN_FILENO);
    expect_frames("-", 10, 640, 480);
    pclose(cat);
    cat = popen("cat a.mp4", "r");
    cr_assert(dup2(fileno(cat), STDIN_FILENO) == STDIN_FILENO);
    expect_refusal("-", L2D_EFORMAT, "faststart");
    pclose(cat);
    close(fd);
}

Test(reader, unreadable_inputs_are_one_line)
{
    clips_run("touch empty.mp4; echo hello >text.mp4; echo hello >text.txt; mkdir folder");
    clips_run("head -c 5000 /dev/urandom >noise.mkv");
    clips_run(FFMPEG SOUND "sound.m4a");
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 2 a.mp4");
    clips_run("head -c 2000 a.mp4 >noindex.mp4");
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -frames:v 0 -f matroska none.mkv; true");
    expect_refusal("missing.mp4", L2D_EIO, "No such file");
    expect_refusal("empty.mp4", L2D_EFORMAT, "empty");
    expect_refusal("text.mp4", L2D_EFORMAT, "not a video file");
    expect_refusal("text.txt", L2D_EFORMAT, "text");
    expect_refusal("noise.mkv", L2D_EFORMAT, "");
    expect_refusal("folder", L2D_EINVAL, "directory");
    expect_refusal("sound.m4a", L2D_EFORMAT, "no video stream");
    expect_refusal("noindex.mp4", L2D_EFORMAT, "index");
    expect_refusal("none.mkv", L2D_EFORMAT, "");
    expect_refusal("nosuch://host/file", L2D_EUNSUPPORTED, "no protocol");
}

Test(reader, truncated_files_give_what_is_there)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=320x240:r=10 -t 10 -movflags faststart a.mp4");
    clips_run(FFMPEG "-i a.mp4 -c copy a.mkv");
    const char *names[] = { "a.mp4", "a.mkv" };
    for (int i = 0; i < 2; i++) {
        clips_run("head -c $(( $(stat -c %%s %s) / 2 )) %s >half-%s", names[i], names[i], names[i]);
        char name[32];
        snprintf(name, sizeof(name), "half-%s", names[i]);
        struct clips_log log;
        clips_log_init(&log);
        struct l2d_error err = { 0 };
        struct l2d_reader_params p = { .name = name, .log = &log.log };
        cr_expect_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
        cr_expect(frames.num_frames > 20 && frames.num_frames < 80, "%zu", frames.num_frames);
        cr_expect(frames.stats.truncated, "%s", name);
        cr_expect(strstr(log.text, "truncated") || strstr(log.text, "early"), "%s", log.text);
        clips_frames_clear(&frames);
    }
    struct clips_log log;
    clips_log_init(&log);
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "a.mkv", .log = &log.log };
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_OK);
    cr_expect(frames.num_frames == 100 && !frames.stats.truncated && log.warnings == 0, "%s",
              log.text);
    clips_frames_clear(&frames);
}

Test(reader, damage_in_the_middle_is_concealed_and_counted)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=320x240:r=10 -t 10 -g 10 a.ts");
    clips_run("size=$(stat -c %%s a.ts); dd if=/dev/urandom of=a.ts bs=1 count=6000 conv=notrunc "
              "seek=$((size / 2)) 2>/dev/null");
    struct clips_log log;
    clips_log_init(&log);
    struct l2d_error err = { 0 };
    struct l2d_reader_params p = { .name = "a.ts", .log = &log.log };
    cr_expect_eq(clips_read(&frames, &p, &err), L2D_OK, "%s", err.msg);
    cr_expect(frames.num_frames >= 85 && frames.num_frames <= 100, "%zu", frames.num_frames);
    cr_expect(frames.stats.concealed + frames.stats.decode_errors > 0);
    cr_expect(log.warnings >= 1 && log.warnings <= 4, "%s", log.text);
    clips_frames_clear(&frames);
}

Test(reader, size_and_clock_change_in_the_middle)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 1 -c:a mp2 a.ts");
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=128x96:r=10 " SOUND "-t 1 -pix_fmt yuv422p -c:a mp2 "
              "b.ts");
    clips_run("cat a.ts b.ts a.ts >c.ts");
    struct l2d_error err = { 0 };
    cr_assert_eq(read_all("c.ts", &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 30, "%zu", frames.num_frames);
    cr_expect_gt(frames.stats.discontinuities, 0u);
    for (size_t i = 0; i < frames.num_frames; i++) {
        struct l2d_frame *f = frames.frame[i];
        cr_expect_eq(f->width, i / 10 == 1 ? 128 : 64, "frame %zu", i);
        cr_expect_eq(f->format.component[1].sub_h_log2, i / 10 == 1 ? 0 : 1);
        double t = (double) f->pts / f->time_base_den;
        cr_expect(t > (double) i / 10 - 0.15 && t < (double) i / 10 + 0.35, "frame %zu at %f", i,
                  t);
        cr_expect(i == 0 || f->pts > frames.frame[i - 1]->pts);
    }
    clips_frames_clear(&frames);
}

#define FIELDS "tinterlace=interleave_top,setfield=tff"
#define MPEG2  "-c:v mpeg2video -q:v 2 -g 5 "

Test(reader, interlaced_pictures_are_made_whole)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=96x64:r=50 -vf " FIELDS " -frames:v 20 " MPEG2
              "-flags +ildct+ilme a.ts");
    clips_run(FFMPEG "-i a.ts -vf bwdif=mode=send_frame:deint=interlaced -f rawvideo want");
    struct l2d_error err = { 0 };
    cr_assert_eq(read_all("a.ts", &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(frames.num_frames, 20);
    FILE *want = fopen("want", "rb");
    cr_assert(want != NULL);
    for (size_t i = 0; i < 20; i++) {
        static uint8_t picture[96 * 64 * 3 / 2];
        cr_assert_eq(fread(picture, 1, sizeof(picture), want), sizeof(picture));
        const struct l2d_frame *f = frames.frame[i];
        cr_expect_eq(f->pts, frames.frame[0]->pts + 3600 * (int64_t) i, "frame %zu", i);
        cr_expect_eq(f->duration, 3600, "frame %zu", i);
        cr_expect(!memcmp(f->data, picture, sizeof(picture)), "frame %zu", i);
    }
    fclose(want);
    clips_frames_clear(&frames);

    // Of other sizes and not interlaced in the middle: all of them, each as large as it is.
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=96x64:r=25 -frames:v 10 " MPEG2 "b.ts");
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=50 -vf " FIELDS " -frames:v 10 " MPEG2
              "-flags +ildct+ilme c.ts");
    clips_run("cat a.ts c.ts b.ts a.ts >d.ts");
    cr_assert_eq(read_all("d.ts", &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 60, "%zu", frames.num_frames);
    for (size_t i = 0; i < frames.num_frames; i++) {
        cr_expect_eq(frames.frame[i]->width, i / 10 == 2 ? 64 : 96, "frame %zu", i);
        cr_expect(i == 0 || frames.frame[i]->pts > frames.frame[i - 1]->pts);
    }
    clips_frames_clear(&frames);

    // From a time on, and only some.
    struct l2d_reader_params some = { .name = "a.ts", .start_us = 400000, .max_frames = 3 };
    cr_assert_eq(clips_read(&frames, &some, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(frames.num_frames, 3);
    cr_expect_eq(frames.frame[0]->pts, 0);
    clips_frames_clear(&frames);
}

static void *stop_soon(void *reader)
{
    usleep(200000);
    l2d_reader_stop(reader);
    return NULL;
}

// What there is can be read, then the next read waits until it is stopped.
static void expect_stopped(struct l2d_reader *r)
{
    struct l2d_error err = { 0 };
    struct l2d_item item = { 0 };
    pthread_t thread;
    int rc;
    pthread_create(&thread, NULL, stop_soon, r);
    while ((rc = l2d_reader_next(r, &item, &err)) == L2D_OK)
        l2d_item_clear(&item);
    cr_expect_eq(rc, L2D_ECLOSED, "%s", err.msg);
    pthread_join(thread, NULL);
}

Test(reader, stop_wakes_a_blocked_read)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 2 a.mkv");
    int fds[2];
    cr_assert(pipe(fds) == 0 && dup2(fds[0], STDIN_FILENO) == STDIN_FILENO);
    clips_run("cat a.mkv >/dev/fd/%d", fds[1]);         // and the writing end stays open
    struct l2d_reader *r = NULL;
    struct l2d_error err = { 0 };
    struct l2d_item item = { 0 };
    // Too few bytes for probing to end by itself would block in create; the format is named.
    struct l2d_reader_params p = { .name = "-", .format = "matroska",
                                   .options = "analyzeduration=1:probesize=32" };
    cr_assert_eq(l2d_reader_create(&r, &p, &err), L2D_OK, "%s", err.msg);
    expect_stopped(r);
    cr_expect_eq(l2d_reader_next(r, &item, &err), L2D_ECLOSED);
    l2d_reader_destroy(&r);
}

// By names with which libav would block: the writing end stays open.
Test(reader, stop_wakes_a_blocked_read_of_a_fifo)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 2 a.mkv; mkfifo fifo");
    int fd = open("fifo", O_RDWR);
    cr_assert(fd >= 0 && dup2(fd, STDIN_FILENO) == STDIN_FILENO);
    static const char *const names[] = { "fifo", "file:fifo", "pipe:0", "/dev/stdin" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        clips_run("cat a.mkv >fifo");
        struct l2d_reader *r = NULL;
        struct l2d_error err = { 0 };
        struct l2d_reader_params p = { .name = names[i], .format = "matroska",
                                       .options = "analyzeduration=1:probesize=32" };
        cr_assert_eq(l2d_reader_create(&r, &p, &err), L2D_OK, "%s", err.msg);
        expect_stopped(r);
        l2d_reader_destroy(&r);
    }
    close(fd);
}

static void *set_soon(void *stop)
{
    usleep(200000);
    atomic_store((atomic_bool *) stop, true);
    return NULL;
}

Test(reader, stop_while_nobody_opens_a_fifo)
{
    atomic_bool stop = false;
    struct l2d_error err = { 0 };
    struct l2d_reader *r = NULL;
    struct l2d_reader_params p = { .name = "fifo", .stop = &stop };
    pthread_t thread;
    clips_run("mkfifo fifo");
    pthread_create(&thread, NULL, set_soon, &stop);
    cr_expect_eq(l2d_reader_create(&r, &p, &err), L2D_ECLOSED, "%s", err.msg);
    pthread_join(thread, NULL);
    cr_expect_null(r);
}

Test(reader, standard_input_refused_before_it_is_read)
{
    struct l2d_error err = { 0 };
    struct l2d_reader *r = NULL;
    struct l2d_reader_params p = { .name = "-", .listen = true };
    cr_assert(freopen("/dev/null", "r", stdin));
    cr_expect_eq(l2d_reader_create(&r, &p, &err), L2D_EINVAL);
    cr_expect(strstr(err.msg, "cannot wait for a sender"), "%s", err.msg);
    p = (struct l2d_reader_params) { .name = "-", .options = "nonsense" };
    cr_expect_eq(l2d_reader_create(&r, &p, &err), L2D_EINVAL);
    cr_expect(strstr(err.msg, "key=value"), "%s", err.msg);
}

Test(reader, stop_while_opening)
{
    atomic_bool stop = true;
    int fds[2];
    cr_assert(pipe(fds) == 0 && dup2(fds[0], STDIN_FILENO) == STDIN_FILENO);
    struct l2d_error err = { 0 };
    struct l2d_reader *r = NULL;
    struct l2d_reader_params p = { .name = "-", .stop = &stop };
    cr_expect_eq(l2d_reader_create(&r, &p, &err), L2D_ECLOSED, "%s", err.msg);
    cr_expect_null(r);
}
