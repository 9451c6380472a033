// SPDX-License-Identifier: Apache-2.0
// The encoding sink: timestamps, sound, tags, what a failure leaves behind, and refusals in one
// line.
#include <criterion/criterion.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "clips.h"

TestSuite(writer, .init = clips_open, .fini = clips_close, .timeout = 120);

#define FFMPEG "ffmpeg -v error -nostdin -y "
#define SOUND  "-f lavfi -i sine=frequency=440:sample_rate=44100 "
#define PROBE  "ffprobe -v error -of csv=p=0 "

static void copy(const char *from, const char *to, const struct l2d_reader_params *reader,
                 const struct l2d_sink_params *sink, struct l2d_sink_stats *stats)
{
    struct l2d_error err = { 0 };
    int rc = clips_copy(from, to, reader, sink, stats, &err);
    cr_assert_eq(rc, L2D_OK, "%s to %s: %s", from, to, err.msg);
}

static void expect_refusal(const char *to, const struct l2d_sink_params *sink, int code,
                           const char *words)
{
    struct l2d_error err = { 0 };
    int rc = clips_copy("a.mp4", to, NULL, sink, NULL, &err);
    cr_expect_eq(rc, code, "%s: %s: %s", to, l2d_code_str(rc), err.msg);
    cr_expect(strstr(err.msg, words), "%s", err.msg);
    cr_expect(!strchr(err.msg, '\n'));
}

// Timestamps of a stream in seconds, sorted as shown.
static void expect_same_pts(const char *a, const char *b, double tolerance)
{
    static double pts[2][1024];
    size_t n[2] = { 0, 0 };
    for (int i = 0; i < 2; i++) {
        const char *text = clips_output(PROBE "-select_streams v -show_entries packet=pts_time %s "
                                        "| tr -d , | grep -v '^$' | sort -n", i ? b : a);
        for (char *end; *text; text = end) {
            pts[i][n[i]++] = strtod(text, &end);
            cr_assert(end != text, "%s", text);
            while (*end == '\n')
                end++;
        }
    }
    cr_expect_eq(n[0], n[1], "%s has %zu frames, %s %zu", a, n[0], b, n[1]);
    for (size_t i = 0; i < n[0] && i < n[1]; i++)
        cr_expect_leq(fabs(pts[0][i] - pts[1][i]), tolerance, "frame %zu: %f in %s, %f in %s", i,
                      pts[0][i], a, pts[1][i], b);
}

static double sound_start(const char *file)
{
    // Of what is heard: decoders skip a codec's run-in.
    return atof(clips_output("ffprobe -v error -of csv=p=0 -select_streams a -show_entries "
                             "frame=pts_time -read_intervals %%+#1 %s | head -n 1", file));
}

Test(writer, timestamps_and_sound_come_through)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=30000/1001 " SOUND "-t 2 -c:a aac a.mp4");
    clips_run(FFMPEG "-f lavfi -i testsrc2=r=1000:d=2 " SOUND "-t 2 -vf \"select='not(mod(n,17))*"
              "not(mod(n,3))',scale=64:48\" -fps_mode vfr -enc_time_base 1/1000 -c:a libopus "
              "vfr.mkv");
    const char *from[] = { "a.mp4", "vfr.mkv" };
    struct { const char *to; double tolerance; } out[] = { { "o.mp4", 1e-6 }, { "o.mkv", 0.00051 },
                                                          { "o.mov", 1e-6 } };
    for (int i = 0; i < 2; i++)
        for (int k = 0; k < 3; k++) {
            struct l2d_sink_stats stats;
            copy(from[i], out[k].to, NULL, &(struct l2d_sink_params) { .overwrite = true }, &stats);
            expect_same_pts(from[i], out[k].to, out[k].tolerance);
            cr_expect_gt(stats.audio_packets, 40u);
            cr_expect(fabs(sound_start(from[i]) - sound_start(out[k].to)) < 0.03, "%s %s: %f %f",
                      from[i], out[k].to, sound_start(from[i]), sound_start(out[k].to));
            cr_expect(!clips_exists("o.mp4.part"));
        }
    // Copied, not encoded again: the same packets, but for a run-in.
    cr_expect_str_eq(clips_output(PROBE "-select_streams a -show_entries stream=codec_name o.mkv"),
                     "opus");
}

Test(writer, copied_sound_is_bit_exact)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 2 -c:a aac a.mp4");
    copy("a.mp4", "o.mp4", NULL, NULL, NULL);
    char before[64];
    snprintf(before, sizeof(before), "%s",
             clips_output("ffmpeg -v error -i a.mp4 -map 0:a -c copy -f md5 -"));
    cr_expect_str_eq(clips_output("ffmpeg -v error -i o.mp4 -map 0:a -c copy -f md5 -"), before);
}

Test(writer, sound_is_transcoded_only_where_it_must_be)
{
    struct { const char *codec, *to, *want; } cases[] = {
        { "pcm_s16le", "o.mp4", "aac" }, { "aac", "o.webm", "opus" },
        { "libopus", "o.webm", "opus" },
        { "pcm_s16le", "o.mkv", "pcm_s16le" }, { "libvorbis", "o.flv", "aac" },
        { "aac", "o.ts", "aac" }, { "pcm_s16le", "o.ts", "aac" }, { "flac", "o.avi", "aac" },
        { "mp2 -ar 48000", "o.mov", "mp2" }, { "pcm_s24le", "o.avi", "pcm_s24le" },
        { "pcm_s24le", "o.mov", "pcm_s24le" }, { "pcm_s24le", "o.mxf", "pcm_s24le" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 2 -c:a %s a.mkv",
                  cases[i].codec);
        copy("a.mkv", cases[i].to, NULL, &(struct l2d_sink_params) { .overwrite = true }, NULL);
        const char *got = clips_output(PROBE "-select_streams a -show_entries stream=codec_name "
                                       "%s | head -n 1 | tr -d ,", cases[i].to);
        cr_expect_str_eq(got, cases[i].want, "%s to %s: %s", cases[i].codec, cases[i].to, got);
        double length = atof(clips_output("ffmpeg -v error -i %s -map 0:a -ac 1 -ar 8000 -f s16le "
                                          "- | wc -c", cases[i].to)) / 16000;
        cr_expect(length > 1.93 && length < 2.1, "%s: %f s of sound", cases[i].to, length);
    }
}

Test(writer, channels_that_an_encoder_does_not_know)
{
    struct { const char *input, *to, *want; } cases[] = {
        { "-f s16le -ar 48000 -ac 10 -i /dev/zero -c:a pcm_s16le", "o.mp4", "aac,2" },
        { "-f lavfi -i \"anullsrc=cl=5.1(side)\" -c:a ac3", "o.webm", "opus,6" },
        { "-f lavfi -i anullsrc=cl=2.1 -c:a pcm_s16le", "o.webm", "opus,2" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 %s -t 1 a.mkv", cases[i].input);
        copy("a.mkv", cases[i].to, NULL, &(struct l2d_sink_params) { .overwrite = true }, NULL);
        const char *got = clips_output(PROBE "-select_streams a -show_entries stream=codec_name,"
                                       "channels %s | head -n 1", cases[i].to);
        cr_expect_str_eq(got, cases[i].want, "%s: %s", cases[i].input, got);
    }
}

// A beep 1 s into the clip must be there in the copy too, whatever became of codec and container.
Test(writer, sound_stays_in_sync)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -f lavfi -i "
              "\"aevalsrc=if(gte(t\\,1)\\,sin(4000*t)\\,0):s=48000\" -t 2 -c:a aac a.mp4");
    clips_run(FFMPEG "-i a.mp4 -c:v copy -c:a pcm_s16le p.mov");
    clips_run(FFMPEG "-i a.mp4 -af \"aselect=not(between(t\\,0.2\\,0.5))\" -c:v copy "
              "-c:a pcm_s16le gap.mkv");
    struct { const char *from, *to; } cases[] = {
        { "a.mp4", "o.mkv" }, { "a.mp4", "o.mp4" }, { "p.mov", "q.mp4" }, { "p.mov", "q.webm" },
        { "a.mp4", "o.webm" }, { "p.mov", "q.mkv" }, { "gap.mkv", "gap.mov" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        copy(cases[i].from, cases[i].to, NULL, NULL, NULL);
        const char *text = clips_output("ffmpeg -v info -i %s -af aresample=async=1:first_pts=0,"
                                        "silencedetect=n=0.1:d=0.3 -f null - 2>&1 | sed -n "
                                        "'s/.*silence_end: \\([0-9.]*\\).*/\\1/p'", cases[i].to);
        cr_expect(fabs(atof(text) - 1) < 0.02, "%s to %s: beep at %s", cases[i].from, cases[i].to,
                  text);
    }
}

// All but the first frames, and the sound that comes after them.
static void join(const char *from, const char *to, int after, bool live)
{
    struct l2d_error err = { 0 };
    struct l2d_reader *r = NULL;
    struct l2d_sink *s = NULL;
    struct l2d_item item = { 0 };
    cr_assert_eq(l2d_reader_create(&r, &(struct l2d_reader_params) { .name = from }, &err), 0);
    const struct l2d_reader_info *info = l2d_reader_info(r);
    struct l2d_sink_params p = {
        .width = info->width, .height = info->height, .time_base_num = info->time_base_num,
        .time_base_den = info->time_base_den, .matrix = L2D_MATRIX_BT601, .audio = &info->audio,
        .live = live, .joins = true,
    };
    cr_assert_eq(l2d_sink_open(&s, to, &p, &err), L2D_OK, "%s", err.msg);
    while (l2d_reader_next(r, &item, &err) == L2D_OK && item.kind != L2D_ITEM_END) {
        after -= item.kind == L2D_ITEM_VIDEO;
        if (after >= 0)
            err.code = L2D_OK;
        else if (item.kind == L2D_ITEM_VIDEO)
            l2d_sink_write_video(s, item.frame, &err);
        else
            l2d_sink_write_audio(s, item.packet, &err);
        cr_assert_eq(err.code, L2D_OK, "%s", err.msg);
        l2d_item_clear(&item);
    }
    cr_assert_eq(l2d_sink_finish(s, false, &err), L2D_OK, "%s", err.msg);
    l2d_sink_destroy(&s);
    l2d_reader_destroy(&r);
}

// An output that comes 2 s late begins with a key frame at 0; the beep at 3 s is at 1 s there.
Test(writer, what_joins_begins_at_zero)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -f lavfi -i "
              "\"aevalsrc=if(gte(t\\,3)\\,sin(4000*t)\\,0):s=48000\" -t 5 -c:a aac a.mp4");
    clips_run(FFMPEG "-i a.mp4 -c:v copy -c:a libopus a.mkv");
    struct { const char *from, *to; bool live; } cases[] = {
        { "a.mp4", "o.mkv", false }, { "a.mp4", "l.mkv", true }, { "a.mp4", "o.mp4", false },
        { "a.mkv", "l.mp4", true }, { "a.mp4", "o.webm", false }, { "a.mkv", "q.mkv", true },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        join(cases[i].from, cases[i].to, 20, cases[i].live);
        const char *text = clips_output(PROBE "-select_streams v -show_entries packet=pts_time,"
                                        "flags %s | head -n 1", cases[i].to);
        cr_expect(atof(text) == 0 && strstr(text, "K"), "%s: %s", cases[i].to, text);
        cr_expect_eq(atoi(clips_output(PROBE "-select_streams v -count_packets -show_entries "
                                       "stream=nb_read_packets %s", cases[i].to)), 30);
        text = clips_output("ffmpeg -v info -i %s -af aresample=async=1:first_pts=0,"
                            "silencedetect=n=0.1:d=0.3 -f null - 2>&1 | sed -n "
                            "'s/.*silence_end: \\([0-9.]*\\).*/\\1/p'", cases[i].to);
        cr_expect(fabs(atof(text) - 1) < 0.03, "%s: beep at %s", cases[i].to, text);
    }
}

Test(writer, start_and_frame_limit_cut_the_sound)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 4 -c:a aac a.mp4");
    const char *to[] = { "o.mp4", "o.mkv" };
    for (int i = 0; i < 2; i++) {
        struct l2d_reader_params p = { .start_us = 1500000, .max_frames = 10 };
        copy("a.mp4", to[i], &p, NULL, NULL);
        double video = atof(clips_output(PROBE "-select_streams v -count_packets -show_entries "
                                         "stream=nb_read_packets %s", to[i]));
        double sound = atof(clips_output("ffmpeg -v error -i %s -map 0:a -ac 1 -ar 8000 -f s16le "
                                         "- | wc -c", to[i])) / 16000;
        cr_expect_eq(video, 10);
        cr_expect(sound > 0.95 && sound < 1.05, "%s: %f s", to[i], sound);
    }
}

Test(writer, tags_and_defaults_of_mp4)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 a.mp4");
    copy("a.mp4", "o.mp4", NULL, &(struct l2d_sink_params) { .sar_num = 4, .sar_den = 3 }, NULL);
    const char *s = clips_output("ffprobe -v error -show_streams o.mp4");
    cr_expect(strstr(s, "codec_name=h264\n") && strstr(s, "pix_fmt=yuv420p\n"), "%s", s);
    cr_expect(strstr(s, "color_range=tv\n") && strstr(s, "color_space=smpte170m\n"), "%s", s);
    cr_expect(strstr(s, "color_transfer=smpte170m\n") && strstr(s, "color_primaries=smpte170m\n"));
    cr_expect(strstr(s, "sample_aspect_ratio=4:3\n"), "%s", s);
    cr_expect(strstr(s, "avg_frame_rate=10/1\n") && strstr(s, "duration=1.000000\n"), "%s", s);
    // faststart: the index stands before the data
    clips_run("test $(grep -abo moov o.mp4 | head -1 | cut -d: -f1) -lt "
              "$(grep -abo mdat o.mp4 | head -1 | cut -d: -f1)");
}

Test(writer, pixels_survive_a_lossless_codec)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 -pix_fmt yuv420p -c:v ffv1 a.mkv");
    copy("a.mkv", "o.mkv", NULL, &(struct l2d_sink_params) { .codec = "ffv1" }, NULL);
    copy("a.mkv", "q.mp4", NULL, &(struct l2d_sink_params) { .codec = "libx264",
                                                             .codec_options = "crf=0" }, NULL);
    copy("a.mkv", "y.y4m", NULL, NULL, NULL);
    char before[64];
    snprintf(before, sizeof(before), "%s", clips_output("ffmpeg -v error -i a.mkv -f md5 -"));
    cr_expect_str_eq(clips_output("ffmpeg -v error -i o.mkv -f md5 -"), before);
    cr_expect_str_eq(clips_output("ffmpeg -v error -i q.mp4 -f md5 -"), before);
    cr_expect_str_eq(clips_output("ffmpeg -v error -i y.y4m -f md5 -"), before);
}

Test(writer, constant_rate_repeats_and_drops)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 2 a.mp4");
    struct { int num, den; uint64_t frames, duplicated, dropped; } cases[] = {
        { 30, 1, 60, 40, 0 }, { 5, 1, 10, 0, 10 }, { 10, 1, 20, 0, 0 }, { 25, 1, 50, 30, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        struct l2d_sink_stats st;
        copy("a.mp4", "o.mp4", NULL, &(struct l2d_sink_params) {
            .fps_num = cases[i].num, .fps_den = cases[i].den, .overwrite = true }, &st);
        cr_expect_eq(st.frames, cases[i].frames, "%d fps: %d", cases[i].num, (int) st.frames);
        cr_expect_eq(st.duplicated, cases[i].duplicated, "%d fps: %d", cases[i].num,
                     (int) st.duplicated);
        cr_expect_eq(st.dropped, cases[i].dropped, "%d fps: %d", cases[i].num, (int) st.dropped);
        const char *s = clips_output("ffprobe -v error -show_streams o.mp4");
        cr_expect(strstr(s, "duration=2.000000\n"), "%s", s);
    }
}

Test(writer, other_containers)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 1 -c:a aac a.mp4");
    const char *to[] = { "o.webm", "o.avi", "o.ts", "o.flv", "o.gif", "o.mpg", "o.ogv", "o.nut",
                         "o%02d.png", "o.m3u8", "o.mjpeg", "o%02d.webp" };
    for (size_t i = 0; i < sizeof(to) / sizeof(*to); i++) {
        copy("a.mp4", to[i], NULL, NULL, NULL);
        const char *n = clips_output(PROBE "-select_streams v -count_frames -show_entries "
                                     "stream=nb_read_frames %s | head -n 1 | tr -d , ", to[i]);
        int frames = atoi(strncmp(n, "stream", 6) ? n : n + 6);
        cr_expect(frames == (strcmp(to[i], "o.mpg") ? 10 : 24) || frames == 25, "%s: %s", to[i], n);
    }
}

// An hour without sound is not filled with silence.
Test(writer, long_gaps_in_encoded_sound_stay_gaps)
{
    static const char *const to[] = { "o.mp4", "o.webm" };
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10:d=3 -f lavfi -i sine=d=3 "
              "-vf \"setpts='PTS+gte(T,1)*3600/TB'\" -fps_mode passthrough "
              "-af \"asetpts='PTS+gte(T,1)*3600*SR'\" -c:a pcm_s16le a.mkv");
    for (size_t i = 0; i < sizeof(to) / sizeof(to[0]); i++) {
        copy("a.mkv", to[i], NULL, NULL, NULL);
        const char *text = clips_output(PROBE "-select_streams a -show_entries packet=pts_time %s "
                                        "| tr -d , | grep -v '^$'", to[i]);
        int before = 0, within = 0, after = 0;
        double last = 0;
        for (char *end; *text; text = end + strspn(end, "\n")) {
            double at = strtod(text, &end);
            cr_assert(end != text, "%s", text);
            before += at < 1.1;
            within += at >= 1.1 && at < 3600.9;
            after += at >= 3600.9;
            last = at;
        }
        cr_expect(before > 20 && within == 0 && after > 40, "%s: %d, %d and %d", to[i], before,
                  within, after);
        cr_expect(fabs(last - 3603) < 0.7, "%s: %f", to[i], last);
    }
}

Test(writer, small_and_odd_sizes)
{
    static const int sizes[][2] = { { 2, 2 }, { 16, 2 }, { 2, 48 }, { 130, 34 } };
    for (int i = 0; i < 4; i++) {
        clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -frames:v 1 -vf scale=%d:%d -c:v ffv1 "
                  "-pix_fmt yuv420p s.mkv", sizes[i][0], sizes[i][1]);
        struct l2d_sink_stats st;
        copy("s.mkv", "o.mp4", NULL, &(struct l2d_sink_params) { .overwrite = true }, &st);
        cr_expect_eq(st.frames, 1);
    }
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -frames:v 2 -vf scale=63:35 -c:v ffv1 "
              "-pix_fmt yuv420p -f matroska a.mp4");
    expect_refusal("o2.mp4", NULL, L2D_EINVAL, "63x35 is odd");
    copy("a.mp4", "o.mkv", NULL, &(struct l2d_sink_params) { .codec = "ffv1" }, NULL);
}

Test(writer, refusals)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 a.mp4; touch exists.mp4; "
              "mkdir folder");
    expect_refusal("o.xyz", NULL, L2D_EINVAL, ".xyz is no extension");
    expect_refusal("o", NULL, L2D_EINVAL, "no extension");
    expect_refusal("o.mp3", NULL, L2D_EINVAL, "holds no video");
    expect_refusal("exists.mp4", NULL, L2D_EINVAL, "exists already");
    expect_refusal("a.mp4", &(struct l2d_sink_params) { .overwrite = true }, L2D_EINVAL,
                   "is the input");
    expect_refusal("./folder/../a.mp4", &(struct l2d_sink_params) { .overwrite = true }, L2D_EINVAL,
                   "is the input");
    expect_refusal("missing/o.mp4", NULL, L2D_EIO, "No such file");
    expect_refusal("folder", &(struct l2d_sink_params) { .format = "mp4" }, L2D_EINVAL,
                   "directory");
    expect_refusal("/proc/o.mp4", NULL, L2D_EIO, "/proc/o.mp4");
    expect_refusal("o.mp4", &(struct l2d_sink_params) { .format = "nonsense" }, L2D_EINVAL,
                   "'nonsense'");
    expect_refusal("o.mp4", &(struct l2d_sink_params) { .codec = "nonsense" }, L2D_EINVAL,
                   "'nonsense'");
    expect_refusal("o.webm", &(struct l2d_sink_params) { .codec = "libx264" }, L2D_EINVAL,
                   "cannot hold");
    expect_refusal("o.m3u8", &(struct l2d_sink_params) { .codec = "ffv1" }, L2D_EINVAL,
                   "cannot hold");
    expect_refusal("o.mp4", &(struct l2d_sink_params) { .codec_options = "nonsense=1" }, L2D_EINVAL,
                   "no option 'nonsense'");
    expect_refusal("o.mp4", &(struct l2d_sink_params) { .codec_options = "nonsense" }, L2D_EINVAL,
                   "key=value");
    expect_refusal("o.mp4", &(struct l2d_sink_params) { .codec_options = "preset=nonsense" },
                   L2D_EINVAL, "refuses 64x48 with preset=nonsense");
    expect_refusal("rtmp://127.0.0.1:9/x", NULL, L2D_EIO, "rtmp://127.0.0.1:9/x");
    cr_expect(!clips_exists("o.mp4") && !clips_exists("o.mp4.part") &&
              !clips_exists("o.webm.part"));
}

Test(writer, sizes_that_are_refused)
{
    static const int32_t sizes[][2] = { { 0, 64 }, { 64, -2 }, { L2D_FRAME_MAX_DIM + 2, 16 },
                                        { L2D_FRAME_MAX_DIM, L2D_FRAME_MAX_DIM } };
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct l2d_sink_params p = { .width = sizes[i][0], .height = sizes[i][1],
                                     .time_base_num = 1, .time_base_den = 25 };
        struct l2d_sink *sink = NULL;
        struct l2d_error err = { 0 };
        cr_expect_eq(l2d_sink_open(&sink, "o.mkv", &p, &err), L2D_EINVAL, "%s", err.msg);
        cr_expect(strstr(err.msg, "o.mkv: ") && !sink, "%s", err.msg);
    }
}

Test(writer, errors_that_nobody_asks_for)
{
    struct l2d_sink_params p = { .width = 64, .height = 48, .time_base_num = 1, .time_base_den = 10,
                                 .matrix = L2D_MATRIX_BT601, .format = "matroska",
                                 .codec_options = "preset=nonsense" };
    struct l2d_sink *s = NULL;
    cr_expect_eq(l2d_sink_open(&s, "o.mkv", &p, NULL), L2D_EINVAL);
    cr_assert_null(s);
    p.codec_options = NULL;
    int rc = l2d_sink_open(&s, "/dev/full", &p, NULL);
    struct l2d_frame *f = NULL;
    struct l2d_pixel_format format = l2d_pixel_format_i420(L2D_MATRIX_BT601, false);
    cr_assert_eq(l2d_frame_create(&f, 64, 48, &format, NULL), L2D_OK);
    if (rc == L2D_OK)
        rc = l2d_sink_write_video(s, f, NULL);
    if (rc == L2D_OK)
        rc = l2d_sink_finish(s, false, NULL);
    cr_expect_eq(rc, L2D_EIO, "%d", rc);
    l2d_frame_unref(&f);
    l2d_sink_destroy(&s);
}

Test(writer, times_that_are_refused)
{
    static const struct { int32_t tb[2], fps[2]; const char *want; } cases[] = {
        { { 0, 0 }, { 0, 0 }, "time base 0/0" }, { { 1, -25 }, { 0, 0 }, "time base 1/-25" },
        { { 1, 25 }, { 25, 0 }, "25/0 frames" }, { { 1, 25 }, { -25, 1 }, "-25/1 frames" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct l2d_sink_params p = {
            .width = 64, .height = 64, .matrix = L2D_MATRIX_BT601,
            .time_base_num = cases[i].tb[0], .time_base_den = cases[i].tb[1],
            .fps_num = cases[i].fps[0], .fps_den = cases[i].fps[1],
        };
        struct l2d_sink *sink = NULL;
        struct l2d_error err = { 0 };
        cr_expect_eq(l2d_sink_open(&sink, "o.mkv", &p, &err), L2D_EINVAL, "%s", err.msg);
        cr_expect(strstr(err.msg, cases[i].want) && !sink, "%s", err.msg);
    }
}

Test(writer, nothing_is_left_without_finish_or_on_a_full_disk)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=320x240:r=10 -t 3 a.mp4");
    struct l2d_sink_params p = { .width = 64, .height = 48, .time_base_num = 1, .time_base_den = 10,
                                 .matrix = L2D_MATRIX_BT601 };
    struct l2d_sink *s = NULL, *twin = NULL;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_sink_open(&s, "o.mp4", &p, &err), L2D_OK, "%s", err.msg);
    cr_expect(clips_exists("o.mp4.part") && !clips_exists("o.mp4"));
    cr_expect_eq(l2d_sink_open(&twin, "o.mp4", &p, &err), L2D_EIO);
    cr_expect(strstr(err.msg, "being written already"), "%s", err.msg);
    struct l2d_frame *f = clips_frame(64, 48, 0, 10);
    cr_expect_eq(l2d_sink_write_video(s, f, &err), L2D_OK, "%s", err.msg);
    l2d_frame_unref(&f);
    l2d_sink_destroy(&s);
    cr_expect(!clips_exists("o.mp4.part") && !clips_exists("o.mp4"));

    cr_assert_eq(l2d_sink_open(&s, "o.mp4", &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_sink_finish(s, false, &err), L2D_EFORMAT);
    cr_expect(strstr(err.msg, "not one frame"), "%s", err.msg);
    l2d_sink_destroy(&s);
    cr_expect(!clips_exists("o.mp4.part") && !clips_exists("o.mp4"));

    // What comes by that name meanwhile stays, and so does what was written.
    f = clips_frame(64, 48, 0, 10);
    cr_assert_eq(l2d_sink_open(&s, "o.mp4", &p, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_sink_write_video(s, f, &err), L2D_OK, "%s", err.msg);
    clips_run("echo precious >o.mp4");
    cr_expect_eq(l2d_sink_finish(s, false, &err), L2D_EIO);
    cr_expect(strstr(err.msg, "stays as o.mp4.part"), "%s", err.msg);
    l2d_sink_destroy(&s);
    l2d_frame_unref(&f);
    cr_expect_eq(atoi(clips_output("grep -c precious o.mp4; ffprobe -v error o.mp4.part")), 1);
    clips_run("rm o.mp4 o.mp4.part");

    const char *formats[] = { "mp4", "matroska", "mpegts", "yuv4mpegpipe", "avi" };
    for (int i = 0; i < 5; i++)
        expect_refusal("/dev/full", &(struct l2d_sink_params) { .format = formats[i] }, L2D_EIO,
                       "the disk is full");

    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit) { 30000, 30000 });
    expect_refusal("o.mp4", NULL, L2D_EIO, "o.mp4");
    expect_refusal("o.mkv", NULL, L2D_EIO, "o.mkv");
    cr_expect(!clips_exists("o.mp4.part") && !clips_exists("o.mp4"));
    cr_expect(!clips_exists("o.mkv.part") && !clips_exists("o.mkv"));
    expect_refusal("o%d.bmp", NULL, L2D_EIO, "o%d.bmp");
    cr_expect(!clips_exists("o1.bmp"));
}

Test(writer, animations_show_their_last_picture_as_long_as_it_is_shown)
{
    static const char *const names[] = { "o.gif", "o.apng" };
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=2 -vf setpts=PTS*4 -fps_mode passthrough "
              "-frames:v 4 -bf 0 a.mp4");      // 2 s each, the last 0.5 s
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        copy("a.mp4", names[i], NULL, NULL, NULL);
        const char *text = clips_output(PROBE "-show_entries packet=duration_time %s | tr '\n' ' '",
                                        names[i]);
        double last = 0;
        cr_assert_eq(sscanf(text, "%*f %*f %*f %lf", &last), 1, "%s: %s", names[i], text);
        cr_expect_float_eq(last, 0.5, 0.01, "%s: %s", names[i], text);
    }
}

// Codecs with one matrix, whatever the picture's, and some with any.
Test(writer, large_pictures_keep_their_colours)
{
    static const struct { const char *codec, *to, *matrix; } cases[] = {
        { "mjpeg", "o.mkv", "bt601" }, { "libvpx", "o.webm", "bt601" },
        { "libtheora", "o.ogv", "bt601" }, { "libwebp", "o.webp", "bt601" },
        { "tiff", "o.tiff", "bt601" }, { "mpeg1video", "o.mpg", "bt601" },
        { "jpeg2000", "o.jp2", "bt601" }, { "jpeg2000", "j.mkv", "bt601" },
        { "magicyuv", "m.mkv", "bt709" }, { "rawvideo", "o.mov", "bt709" },
        { "libx264", "p.mkv", "bt709" },
    };
    clips_run(FFMPEG "-f lavfi -i color=0xc04080:s=1280x720:r=10 -t 0.3 -vf "
              "scale=out_color_matrix=bt709 -colorspace bt709 -pix_fmt yuv420p a.mp4");
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct l2d_sink_params p = { .codec = cases[i].codec, .matrix = L2D_MATRIX_BT709 };
        copy("a.mp4", cases[i].to, &(struct l2d_reader_params) { .max_frames = 1 }, &p, NULL);
        int rgb[3] = { 0 };
        const char *text = clips_output("ffmpeg -v error -i %s -frames:v 1 -vf crop=16:16,"
                                        "scale=in_color_matrix=%s -pix_fmt rgb24 -f rawvideo - | "
                                        "od -An -tu1 -N3", cases[i].to,
                                        cases[i].matrix);
        cr_assert_eq(sscanf(text, "%d %d %d", &rgb[0], &rgb[1], &rgb[2]), 3, "%s", text);
        cr_expect(abs(rgb[0] - 0xc0) < 5 && abs(rgb[1] - 0x40) < 5 && abs(rgb[2] - 0x80) < 5,
                  "%s: %s", cases[i].codec, text);
    }
}

// Where a file tells no range, and readers take it for full.
Test(writer, pictures_that_are_full_range)
{
    static const char *const names[] = { "o.pgm", "o.jp2", "o.pbm" };
    clips_run(FFMPEG "-f lavfi -i color=white:s=64x48 -frames:v 1 -pix_fmt yuv420p a.mkv");
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        copy("a.mkv", names[i], NULL, NULL, NULL);
        const char *text = clips_output("ffmpeg -v error -i %s -f rawvideo -pix_fmt gray - | "
                                        "od -An -tu1 -N1", names[i]);
        cr_expect_eq(atoi(text), 255, "%s: %s", names[i], text);
        text = clips_output(PROBE "-show_entries stream=pix_fmt %s", names[i]);
        cr_expect(!strstr(text, "yuv"), "%s: %s", names[i], text);
    }
}

// What was recorded live will not come again.
Test(writer, a_live_recording_is_kept_on_a_full_disk)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=320x240:r=10 -t 3 a.mp4");
    signal(SIGXFSZ, SIG_IGN);
    setrlimit(RLIMIT_FSIZE, &(struct rlimit) { 30000, 30000 });
    static const char *const names[] = { "o.mkv", "o.mp4", "o.ts" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        char part[32];
        snprintf(part, sizeof(part), "%s.part", names[i]);
        expect_refusal(names[i], &(struct l2d_sink_params) { .live = true }, L2D_EIO, part);
        cr_expect(clips_exists(part) && !clips_exists(names[i]));
        expect_refusal(names[i], &(struct l2d_sink_params) { .live = true }, L2D_EINVAL, part);
        cr_expect_gt(atoi(clips_output(PROBE "-count_frames -show_entries stream=nb_read_frames %s "
                                       "2>/dev/null | tail -n 1", part)), 3, "%s", part);
    }
}

// Of one PID every `every`th packet is not there.
static void lose_packets(const char *from, const char *to, int pid, int every)
{
    static unsigned char ts[4 << 20];
    FILE *f = fopen(from, "rb");
    cr_assert_not_null(f);
    size_t size = fread(ts, 1, sizeof(ts), f);
    fclose(f);
    f = fopen(to, "wb");
    cr_assert_not_null(f);
    int seen = 0;
    for (size_t at = 0; at + 188 <= size; at += 188)
        if (((ts[at + 1] & 0x1f) << 8 | ts[at + 2]) != pid || ++seen % every)
            fwrite(ts + at, 1, 188, f);
    fclose(f);
}

// AAC as streams have it, into containers that keep it otherwise.
Test(writer, damaged_sound_costs_itself_alone)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=128x96:r=10 " SOUND "-t 4 -pix_fmt yuv420p -c:a aac "
              "-b:a 256k whole.ts");
    lose_packets("whole.ts", "lost.ts", 0x101, 40);
    static const char *const names[] = { "o.mkv", "o.mp4", "o.flv", "o.ts", "o.mov" };
    for (size_t i = 0; i < 2 * sizeof(names) / sizeof(names[0]); i++) {
        const char *name = names[i / 2];
        struct l2d_sink_params p = { .live = i % 2, .overwrite = true };
        struct l2d_sink_stats whole, lost;
        copy("whole.ts", name, NULL, &p, &whole);
        cr_expect(whole.frames == 40 && whole.audio_packets > 160, "%s: %d", name,
                  (int) whole.audio_packets);
        cr_expect_str_eq(clips_output("ffmpeg -v error -i %s -f null - 2>&1", name), "");
        copy("lost.ts", name, NULL, &p, &lost);
        cr_expect(lost.frames == 40 && lost.audio_packets > 100, "%s: %d", name,
                  (int) lost.audio_packets);
    }
}

Test(writer, standard_output_is_y4m_and_a_closed_pipe_is_an_end)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=320x240:r=10 -t 3 a.mp4");
    fflush(stdout);
    int saved = dup(STDOUT_FILENO);
    int fd = open("out.y4m", O_WRONLY | O_CREAT, 0666);
    dup2(fd, STDOUT_FILENO);
    struct l2d_error err = { 0 };
    int rc = clips_copy("a.mp4", "-", NULL, NULL, NULL, &err);
    dup2(saved, STDOUT_FILENO);
    cr_assert_eq(rc, L2D_OK, "%s", err.msg);
    cr_expect_eq(atoi(clips_output("head -n 1 out.y4m | grep -c '^YUV4MPEG2 .* F10:1 '")), 1);
    cr_expect_eq(atoi(clips_output(PROBE "-count_frames -show_entries stream=nb_read_frames "
                                   "out.y4m")), 30);

    signal(SIGPIPE, SIG_IGN);
    int fds[2];
    cr_assert_eq(pipe(fds), 0);
    close(fds[0]);
    dup2(fds[1], STDOUT_FILENO);
    rc = clips_copy("a.mp4", "-", NULL, NULL, NULL, &err);
    dup2(saved, STDOUT_FILENO);
    cr_expect_eq(rc, L2D_ECLOSED, "%s", err.msg);
    close(fds[1]);
    close(saved);
    close(fd);
}

Test(writer, fifo_and_symbolic_link)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 -t 1 a.mp4");
    clips_run("mkfifo pipe.mp4; cat pipe.mp4 >got.mp4 & touch real.mkv; ln -s real.mkv link.mkv");
    copy("a.mp4", "pipe.mp4", NULL, NULL, NULL);
    clips_run("sleep 0.2");
    cr_expect_eq(atoi(clips_output(PROBE "-count_frames -show_entries stream=nb_read_frames "
                                   "got.mp4")), 10);
    clips_run("chmod 640 real.mkv");
    copy("a.mp4", "link.mkv", NULL, &(struct l2d_sink_params) { .overwrite = true }, NULL);
    cr_expect_eq(atoi(clips_output("stat -c %%a real.mkv")), 640);
    cr_expect_eq(atoi(clips_output("test -L link.mkv && ffprobe -v error -of csv=p=0 -count_frames "
                                   "-show_entries stream=nb_read_frames real.mkv")), 10);
}

// One stream ends early, or starts late: nothing waits for it, and nothing is lost.
Test(writer, streams_of_unequal_length)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10:d=20 -f lavfi -i sine=d=1 -c:a aac "
              "short.mkv");
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10:d=1 -f lavfi -i sine=d=20 -c:a aac "
              "long.mkv");
    struct l2d_sink_stats st;
    copy("short.mkv", "o1.mp4", NULL, NULL, &st);
    cr_expect(st.frames == 200 && st.audio_packets >= 43 && st.audio_packets <= 46, "%d",
              (int) st.audio_packets);
    copy("long.mkv", "o2.mp4", NULL, NULL, &st);
    cr_expect(st.frames == 10 && st.audio_packets >= 861, "%d", (int) st.audio_packets);
}

Test(writer, null_counts)
{
    clips_run(FFMPEG "-f lavfi -i testsrc2=s=64x48:r=10 " SOUND "-t 1 -c:a aac a.mp4");
    struct l2d_sink_stats st;
    copy("a.mp4", "null", NULL, NULL, &st);
    cr_expect(st.frames == 10 && st.audio_packets > 40);
}
