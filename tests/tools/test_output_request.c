// SPDX-License-Identifier: Apache-2.0
// What a client of the control server may name as an output, and what it may not.
#include <criterion/criterion.h>
#include <string.h>

#include "output_request.h"

static struct l2d_error err;

static int read_request(const char *text, struct output_options *out, json_t **json)
{
    *json = json_loads(text, JSON_DECODE_ANY, NULL);
    cr_assert_not_null(*json, "%s", text);
    return output_request_read(out, *json, &err);
}

Test(output_request, takes_what_pushes_and_new_files_are)
{
    static const char *const good[] = {
        "{\"url\": \"rtmp://server:1935/app/key?a=b&c=d\"}",
        "{\"url\": \"srt://server:9000?passphrase=0123456789&latency=200000\"}",
        "{\"url\": \"udp://239.0.0.1:1234?ttl=2\", \"format\": \"mpegts\"}",
        "{\"url\": \"display\"}", "{\"url\": \"null\"}", "{\"url\": \"/dev/video9\"}",
        "{\"url\": \"my show, part 2.mkv\"}", "{\"url\": \"b.mp4\", \"codec\": \"libx264\"}",
        "{\"url\": \"b.ts\", \"codec_options\": \"crf=20:preset=slow\"}",
        "{\"url\": \"b.ts\", \"codec\": \"h264_nvenc\", \"codec_options\": \"b=2.5M\"}",
    };
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        struct output_options o = { 0 };
        json_t *json;
        cr_expect_eq(read_request(good[i], &o, &json), L2D_OK, "%s: %s", good[i], err.msg);
        cr_expect_str_eq(o.name ? o.name : "", json_string_value(json_object_get(json, "url")));
        json_decref(json);
    }
}

Test(output_request, refuses_the_rest_in_one_line)
{
    static const char *const bad[][2] = {
        { "5", "expected a JSON object" }, { "[\"b.mkv\"]", "expected a JSON object" },
        { "{}", "url: expected where" }, { "{\"url\": \"\"}", "url: expected a string" },
        { "{\"url\": null}", "url: expected a string" },
        { "{\"url\": \"b.mkv\", \"overwrite\": true}", "'overwrite' is unknown" },
        { "{\"url\": \"a\\nb.mkv\"}", "control character" },
        { "{\"url\": \"../b.mkv\"}", "cannot be written to" },
        { "{\"url\": \"/home/me/b.mkv\"}", "cannot be written to" },
        { "{\"url\": \"folder/b.mkv\"}", "cannot be written to" },
        { "{\"url\": \".b.mkv\"}", "cannot be written to" },
        { "{\"url\": \"-\"}", "cannot be written to" },
        { "{\"url\": \"pipe:1\"}", "cannot be written to" },
        { "{\"url\": \"file:b.mkv\"}", "cannot be written to" },
        { "{\"url\": \"concat:b.mkv\"}", "cannot be written to" },
        { "{\"url\": \"/dev/sda\"}", "cannot be written to" },
        { "{\"url\": \"/dev/video0/../sda\"}", "cannot be written to" },
        { "{\"url\": \"authorized_keys\"}", "no name of a video file" },
        { "{\"url\": \"b.mkv.sh\"}", "no name of a video file" },
        { "{\"url\": \"b.m3u8\"}", "no name of a video file" },
        { "{\"url\": \"file:///tmp/b.mkv\"}", "cannot be pushed to" },
        { "{\"url\": \"unix:///run/x.sock\"}", "cannot be pushed to" },
        { "{\"url\": \"tee://x\"}", "cannot be pushed to" },
        { "{\"url\": \"RTMP+x://server\"}", "cannot be pushed to" },
        { "{\"url\": \"rtmp://server/app playpath=x\"}", "has a space" },
        { "{\"url\": \"b.mkv\", \"format\": \"tee\"}", "format: 'tee'" },
        { "{\"url\": \"b.mkv\", \"format\": \"hls\"}", "format: 'hls'" },
        { "{\"url\": \"b.mkv\", \"format\": \"image2\"}", "format: 'image2'" },
        { "{\"url\": \"b.mkv\", \"codec\": 5}", "codec: expected a string" },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"stats=/tmp/x\"}", "codec_options: " },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf=1:x264-params=stats=x\"}", "codec_o" },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf=/tmp/x\"}", "codec_options: " },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf\"}", "codec_options: " },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf=\"}", "codec_options: " },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf=1:\"}", "codec_options: " },
        { "{\"url\": \"b.mkv\", \"codec_options\": \"crf=1;b=2\"}", "codec_options: " },
    };
    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) {
        struct output_options o = { .name = "as it was" };
        json_t *json;
        cr_expect_eq(read_request(bad[i][0], &o, &json), L2D_EINVAL, "%s", bad[i][0]);
        cr_expect(strstr(err.msg, bad[i][1]), "%s: %s", bad[i][0], err.msg);
        cr_expect(!strchr(err.msg, '\n'));
        cr_expect_str_eq(o.name, "as it was");
        json_decref(json);
    }
}

Test(output_request, a_long_url_is_refused)
{
    char text[1200];
    memset(text, 'a', sizeof(text));
    memcpy(text, "rtmp://", 7);
    text[sizeof(text) - 1] = '\0';
    json_t *json = json_pack("{ss}", "url", text);
    struct output_options o;
    cr_expect_eq(output_request_read(&o, json, &err), L2D_EINVAL);
    cr_expect(strstr(err.msg, "1199 bytes, expected at most 1023"), "%s", err.msg);
    json_decref(json);
}
