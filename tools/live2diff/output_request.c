// SPDX-License-Identifier: Apache-2.0
// See output_request.h.
#include "output_request.h"

#include <string.h>

#include "video_io/camera.h"

#define MAX_BYTES 1023

static const char *const schemes[] = { "rtmp", "rtmps", "rtsp", "srt", "udp", "tcp", "rtp", NULL };
static const char *const extensions[] = { "mkv", "mp4", "mov", "webm", "ts", "flv", "nut", NULL };
static const char *const formats[] = { "matroska", "mp4", "mov", "webm", "mpegts", "flv", "nut",
                                       "rtsp", "rtp_mpegts", NULL };
// Of encoders: what is wanted of a picture and its rate, and nothing that is a file's name, as
// libx264 has them ("stats", "x264-params").
static const char *const encoder_options[] = {
    "b", "bf", "bufsize", "cpu-used", "cq", "crf", "deadline", "g", "keyint_min", "level",
    "maxrate", "minrate", "preset", "profile", "qp", "quality", "rc", "speed", "tune", NULL
};

static bool is_one_of(const char *word, size_t size, const char *const *list)
{
    for (; *list; list++)
        if (strlen(*list) == size && !strncmp(word, *list, size))
            return true;
    return false;
}

static int refuse(struct l2d_error *err, const char *key, const char *what, const char *got,
                  const char *const *list)
{
    char names[256] = "";
    for (; list && *list; list++) {
        strncat(names, " ", sizeof(names) - strlen(names) - 1);
        strncat(names, *list, sizeof(names) - strlen(names) - 1);
    }
    l2d_error_set(err, L2D_EINVAL, "%s: '%.80s' %s%s", key, got, what, names);
    l2d_error_printable(err->msg);
    return L2D_EINVAL;
}

// --- each of them

static int read_text(const char **out, const json_t *json, const char *key, struct l2d_error *err)
{
    const json_t *value = json_object_get(json, key);
    if (!value)
        return L2D_OK;
    const char *text = json_string_value(value);
    if (!text || !*text)
        return l2d_error_set(err, L2D_EINVAL, "%s: expected a string that is not empty", key);
    if (strlen(text) > MAX_BYTES)
        return l2d_error_set(err, L2D_EINVAL, "%s: %zu bytes, expected at most %d", key,
                             strlen(text), MAX_BYTES);
    if (l2d_error_control(text))
        return l2d_error_set(err, L2D_EINVAL, "%s: has a control character (a line break, a tab)",
                             key);
    *out = text;
    return L2D_OK;
}

static int check_file(const char *name, struct l2d_error *err)
{
    const char *dot = strrchr(name, '.');
    if (strchr(name, '/') || strchr(name, ':') || name[0] == '.' || name[0] == '-')
        return refuse(err, "url", "cannot be written to from here: expected rtmp://..., srt://... "
                      "or another URL, display, or the plain name of a new file, such as b.mkv, "
                      "which goes into the run's current folder", name, NULL);
    if (!dot || !is_one_of(dot + 1, strlen(dot + 1), extensions))
        return refuse(err, "url", "is no name of a video file here: expected one that ends in one "
                      "of", name, extensions);
    return L2D_OK;
}

static int check_url(const char *url, struct l2d_error *err)
{
    const char *end = strstr(url, "://");
    if (end && strchr(url, ' '))
        return refuse(err, "url", "has a space", url, NULL);
    if (end && is_one_of(url, (size_t) (end - url), schemes))
        return L2D_OK;
    if (end)
        return refuse(err, "url", "cannot be pushed to from here: expected one of the protocols",
                      url, schemes);
    bool known = !strcmp(url, "display") || !strcmp(url, "null") || l2d_camera_is_path(url);
    return known ? L2D_OK : check_file(url, err);
}

static int check_codec_options(const char *text, struct l2d_error *err)
{
    static const char value[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
                                "0123456789._+-";
    for (const char *at = text;; at++) {
        size_t key = strcspn(at, "=:");
        size_t size = at[key] == '=' ? strspn(at + key + 1, value) : 0;
        if (!is_one_of(at, key, encoder_options))
            return refuse(err, "codec_options", "sets what cannot be set from here: expected "
                          "key=value:key=value, of", text, encoder_options);
        at += key + 1 + size;
        if (size == 0 || (*at && *at != ':'))
            return refuse(err, "codec_options", "is not key=value:key=value of letters, digits, "
                          ". _ + -", text, NULL);
        if (!*at)
            return L2D_OK;
    }
}

int output_request_read(struct output_options *out, const json_t *json, struct l2d_error *err)
{
    static const char *const keys[] = { "url", "format", "codec", "codec_options", NULL };
    const char *key;
    json_t *value;
    struct output_options o = { 0 };
    if (!json_is_object(json))
        return l2d_error_set(err, L2D_EINVAL, "expected a JSON object, such as {\"url\": "
                             "\"rtmp://server/app/key\"}");
    json_object_foreach((json_t *) json, key, value)
        if (!is_one_of(key, strlen(key), keys))
            return refuse(err, "output", "is unknown: expected", key, keys);
    int rc = read_text(&o.name, json, "url", err);
    if (rc == L2D_OK && !o.name)
        rc = l2d_error_set(err, L2D_EINVAL, "url: expected where to write to, such as "
                           "rtmp://server/app/key");
    if (rc == L2D_OK)
        rc = read_text(&o.format, json, "format", err);
    if (rc == L2D_OK)
        rc = read_text(&o.codec, json, "codec", err);
    if (rc == L2D_OK)
        rc = read_text(&o.codec_options, json, "codec_options", err);
    if (rc == L2D_OK)
        rc = check_url(o.name, err);
    if (rc == L2D_OK && o.format && !is_one_of(o.format, strlen(o.format), formats))
        rc = refuse(err, "format", "cannot be written from here: expected one of", o.format,
                    formats);
    if (rc == L2D_OK && o.codec_options)
        rc = check_codec_options(o.codec_options, err);
    if (rc == L2D_OK)
        *out = o;
    return rc;
}
