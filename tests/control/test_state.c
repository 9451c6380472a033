// SPDX-License-Identifier: Apache-2.0
// The state as JSON and as Prometheus' text, which is held against the format's grammar.
#include <criterion/criterion.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

#include "state.h"

static struct control_state example(void)
{
    return (struct control_state) {
        .version = "1.2.3", .input = "in \xff.mp4", .source = "running",
        .source_up = true, .source_reason = "it ended", .source_losses = 2,
        .model = "paint-s", .device = "a \"GPU\"\\\n",
        .driver = "d", .precision = "fp16", .fit = "cover", .width = 320, .height = 192,
        .num_steps = 2, .uptime_s = 12.5, .fps = 24.5, .frames_in = 100, .frames_out = 90,
        .frames_similar = 3, .drop = { { "late", 6 }, { "stopped", 1 } }, .num_drops = 2,
        .latency = { 40, 55, 70, 3600, 90 }, .interval = { 41, 42, 43, 3690, 89 },
        .stage = { { "unet", 1800 }, { "decode", 450 } }, .num_stages = 2, .stage_frames = 90,
        .output = { { .name = "\xe4.mp4", .state = "running", .up = true },
                    { .id = 1, .name = "b", .state = "retrying", .reason = "b: gone", .frames = 5,
                      .dropped = 2, .losses = 3, .p95 = 84 } },
        .num_outputs = 2, .gpu_memory_bytes = 59000000, .peak_rss_bytes = 279000000,
        .changes = 4, .event_clients = 2, .preview_clients = 1,
    };
}

static double number(const json_t *root, const char *a, const char *b)
{
    const json_t *at = json_object_get(root, a);
    at = b ? json_object_get(at, b) : at;
    cr_assert(json_is_number(at), "%s %s", a, b ? b : "");
    return json_number_value(at);
}

Test(state, json)
{
    struct control_state s = example();
    json_t *json = state_json(&s);
    cr_assert_not_null(json);
    cr_assert_eq(number(json, "fps", NULL), 24.5);
    cr_assert_eq(number(json, "frames", "in"), 100);
    cr_assert_eq(number(json_object_get(json, "frames"), "dropped", "late"), 6);
    cr_assert_eq(number(json, "latency_ms", "p95"), 55);
    cr_assert_eq(number(json, "stage_ms", "unet"), 20);
    cr_assert_eq(number(json, "engine", "steps"), 2);
    cr_assert_eq(number(json, "clients", "preview"), 1);
    cr_assert_eq(number(json, "changes", NULL), 4);
    cr_assert_str_eq(json_string_value(json_object_get(json, "input")), "in ?.mp4");
    json_t *outputs = json_object_get(json, "outputs");
    cr_assert_eq(number(json_array_get(outputs, 1), "dropped", NULL), 2);
    cr_assert_eq(number(json_array_get(outputs, 1), "latency_ms", "p95"), 84);
    json_t *source = json_object_get(json, "source");
    cr_assert_eq(number(source, "losses", NULL), 2);
    cr_assert_str_eq(json_string_value(json_object_get(source, "reason")), "it ended");
    json_decref(json);
}

Test(state, reasons_show_no_secrets)
{
    static const char *const cases[][3] = {
        { "rtmp://host/app/key: refused", "rtmp://host/app/key", "rtmp://host/...: refused" },
        { "writing rtmp://u:p@host/app/key", "rtmp://u:p@host/app/key",
          "writing rtmp://host/..." },
        { "rtmp://host/app pass=secret: gone", "rtmp://host/app pass=secret",
          "rtmp://host/...: gone" },
        { "rtmp://host/app/ke", "rtmp://host/app/key", "rtmp://host/..." },     // cut
        { "rtmp://host/app/key: gone", "rtmp://host/app/k", "rtmp://host/...: gone" },
        { "a b.mkv: the disk is full", "a b.mkv", "a b.mkv: the disk is full" },
        { "", "a.mkv", "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char shown[256];
        state_public_reason(shown, sizeof(shown), cases[i][0], cases[i][1]);
        cr_expect_str_eq(shown, cases[i][2]);
    }
    char cut[12];
    state_public_reason(cut, sizeof(cut), "rtmp://host/app/key: gone", "rtmp://host/app/key");
    cr_expect_str_eq(cut, "rtmp://host");
}

Test(state, metrics)
{
    static const char *const wanted[] = {
        "\nlive2diff_frames_in_total 100\n",
        "\nlive2diff_frames_dropped_total{reason=\"late\"} 6\n",
        "\nlive2diff_latency_seconds{quantile=\"0.95\"} 0.055\n",
        "\nlive2diff_latency_seconds_sum 3.6\n",
        "\nlive2diff_latency_seconds_count 90\n",
        "\nlive2diff_stage_seconds_total{stage=\"unet\"} 1.8\n",
        "\nlive2diff_output_up{output=\"0\",name=\"?.mp4\"} 1\n",
        "\nlive2diff_output_up{output=\"1\",name=\"b\"} 0\n",
        "\nlive2diff_output_frames_total{output=\"1\",name=\"b\"} 5\n",
        "\nlive2diff_output_losses_total{output=\"1\",name=\"b\"} 3\n",
        "\nlive2diff_source_up 1\n",
        "\nlive2diff_source_losses_total 2\n",
        "device=\"a \\\"GPU\\\"\\\\\\n\"",
        "\nlive2diff_control_clients{kind=\"events\"} 2\n",
    };
    struct control_state s = example();
    char *text = state_metrics(&s);
    cr_assert_not_null(text);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(*wanted); i++)
        cr_assert(strstr(text, wanted[i]), "lacks %s in\n%s", wanted[i], text);
    free(text);
}

// Every line: a comment with HELP or TYPE, or a sample of a metric that has had its TYPE.
Test(state, metrics_keep_to_the_format)
{
    struct control_state s = example();
    char *text = state_metrics(&s), type[128] = "";
    regex_t sample;
    cr_assert_eq(regcomp(&sample, "^[a-z_0-9]+(\\{([a-z]+=\"([^\"\\\\]|\\\\[\\\\\"n])*\",?)+\\})? "
                         "[-+0-9.e]+$", REG_EXTENDED | REG_NOSUB), 0);
    cr_assert_eq(text[strlen(text) - 1], '\n');
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
        if (!strncmp(line, "# HELP ", 7))
            continue;
        if (!strncmp(line, "# TYPE ", 7)) {
            cr_assert_eq(sscanf(line, "# TYPE %127s", type), 1);
            bool counter = strstr(line, " counter") != NULL;
            size_t n = strlen(type);
            cr_assert_eq(counter, n > 6 && !strcmp(type + n - 6, "_total"), "%s", line);
            continue;
        }
        cr_assert_eq(regexec(&sample, line, 0, NULL, 0), 0, "%s", line);
        cr_assert_eq(strncmp(line, type, strlen(type)), 0, "%s without its TYPE, after %s", line,
                     type);
    }
    regfree(&sample);
    free(text);
}

Test(state, names_hide_what_may_be_secret)
{
    static const struct { const char *name, *shown; } cases[] = {
        { "out.mp4", "out.mp4" },
        { "/a/b c.mkv", "/a/b c.mkv" },
        { "rtmp://live.example/app/secret-key", "rtmp://live.example/..." },
        { "rtsp://user:pass@cam:554/h264", "rtsp://cam:554/..." },
        { "rtsp://user:p@ss@cam/h264", "rtsp://cam/..." },
        { "srt://host:9000?passphrase=x", "srt://host:9000/..." },
        { "tcp://host:9000", "tcp://host:9000" },
        { "http://host/", "http://host/" },
        { "-", "-" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        char shown[64];
        state_public_name(shown, sizeof(shown), cases[i].name);
        cr_assert_str_eq(shown, cases[i].shown, "%s: %s", cases[i].name, shown);
    }
}
