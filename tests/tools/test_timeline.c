// SPDX-License-Identifier: Apache-2.0
// Timelines: what a file says, when it is due, and one line about each thing that it must not say.
#include "timeline.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pipeline/models/tokenizer.h"
#include "timeline_record.h"

static struct l2d_error err;
static struct timeline timeline;
static bool negative = true;

static int load(const char *text)
{
    char path[] = "/tmp/l2d_timeline_XXXXXX";
    int fd = mkstemp(path);
    cr_assert(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t) strlen(text));
    close(fd);
    int rc = timeline_load(&timeline, path, "43", L2D_PROMPT_NUMBERS, negative, &err);
    unlink(path);
    return rc;
}

static const struct l2d_change *next(double at_s)
{
    return timeline_next(&timeline, at_s, 25);
}

Test(timeline, changes_are_due_in_order)
{
    cr_assert_eq(load("\xef\xbb\xbf# a comment\n\n"
                      "{\"at\": 0, \"prompt\": \"a (cat:1.2)\"}\r\n"
                      "{\"at\": 0.4, \"prompt\": \"b\", \"negative\": \"c\", \"fade\": 0.5, "
                      "\"easing\": \"smooth\", \"steps\": \"43,47\"}\n"
                      "  {\"at\": 1, \"seed\": 7, \"noise\": \"fresh\", \"show\": \"frozen\", "
                      "\"rewarm\": true}\n"
                      "{\"at\": 1, \"steps\": \"43\"}\n{\"at\": 2, \"steps\": \"40/50\"}\n"
                      "{\"at\": 2, \"steps\": \"43,47\"}"), L2D_OK, "%s", err.msg);
    cr_expect_str_eq(next(0)->text, "a (cat:1.2)");
    cr_expect_null(next(0.36));
    const struct l2d_change *c = next(10.0 / 25);
    cr_expect(c->kind == L2D_CHANGE_PROMPT && !strcmp(c->text, "b") && c->fade_frames == 13 &&
              c->easing == L2D_EASE_SMOOTH);
    c = next(0.4);
    cr_expect(c->kind == L2D_CHANGE_NEGATIVE && !strcmp(c->text, "c") && c->fade_frames == 13);
    c = next(0.4);
    cr_expect(c->kind == L2D_CHANGE_STEPS && c->step_set == 1);
    cr_expect_null(next(0.99));
    c = next(5);                        // frames may be missing
    cr_expect(c->kind == L2D_CHANGE_SEED && c->seed == 7);
    c = next(5);
    cr_expect(c->kind == L2D_CHANGE_NOISE && c->noise == L2D_NOISE_ALL_FRESH);
    c = next(5);
    cr_expect(c->kind == L2D_CHANGE_SHOW && c->show == L2D_SHOW_FROZEN);
    cr_expect_eq(next(5)->kind, L2D_CHANGE_REWARM);
    static const uint32_t sets[] = { 0, 2, 1 };
    for (int i = 0; i < 3; i++)
        cr_expect_eq(next(5)->step_set, sets[i]);
    cr_expect_null(next(1e9));
    cr_expect(!strcmp(timeline.more_steps[0], "43,47") &&
              !strcmp(timeline.more_steps[1], "40/50") && !timeline.more_steps[2]);
    timeline_finish(&timeline);
}

Test(timeline, blends_and_loras)
{
    cr_assert_eq(load("{\"at\": 0, \"blend\": \"0.7, 0.3\", \"fade\": 1, \"lora.ink\": 0.5, "
                      "\"lora.b\": -1}"), L2D_OK, "%s", err.msg);
    const struct l2d_change *c = next(0);
    cr_expect(c->kind == L2D_CHANGE_BLEND && !strcmp(c->text, "0.7, 0.3") && c->fade_frames == 25);
    c = next(0);
    cr_expect(c->kind == L2D_CHANGE_LORA && !strcmp(c->text, "ink") && c->lora_scale == 0.5f);
    c = next(0);
    cr_expect(c->kind == L2D_CHANGE_LORA && !strcmp(c->text, "b") && c->lora_scale == -1);
    cr_expect_null(next(1e9));
    timeline_finish(&timeline);
}

Test(timeline, what_is_wrong_has_a_line)
{
    static const struct { const char *text, *want; } cases[] = {
        { "", "nothing changes in it" },
        { "#\n", "nothing changes in it" },
        { "{\"at\": 1}", ":1: nothing changes" },
        { "{\"seed\": 1}", ":1: key \"at\" is missing" },
        { "\n{\"at\": 1, \"seed\": 1, \"x\": 2}", ":2: " },
        { "{\"at\": 1, \"seed\": 1, \"seed\": 2}", ":1: column" },
        { "{\"at\": 1, \"seed\": 1}\n{\"at\": 0.5, \"seed\": 1}", ":2: at: 0.5 comes after 1" },
        { "{\"at\": -1, \"seed\": 1}", ":1: at" },
        { "{\"at\": \"1\", \"seed\": 1}", ":1: at: is a string" },
        { "{\"at\": 1, \"seed\": -1}", ":1: seed" },
        { "{\"at\": 1, \"steady\": 1}", ":1: steady" },
        { "{\"at\": 1, \"mix\": 1.01}", ":1: mix" },
        { "{\"at\": 1, \"noise\": \"loud\"}", ":1: noise" },
        { "{\"at\": 1, \"show\": 1}", ":1: show: is an integer" },
        { "{\"at\": 1, \"rewarm\": false}", ":1: rewarm: must be true" },
        { "{\"at\": 1, \"steps\": \"47,43\"}", ":1: steps: " },
        { "{\"at\": 1, \"prompt\": \"a (b:9)\"}", ":1: prompt: column 5: a weight" },
        { "{\"at\": 1, \"prompt\": 1}", ":1: prompt: is an integer" },
        { "{\"at\": 1, \"fade\": 1, \"seed\": 1}", ":1: fade and easing belong" },
        { "{\"at\": 1, \"prompt\": \"a\", \"easing\": \"smooth\"}", ":1: easing needs a fade" },
        { "{\"at\": 1, \"prompt\": \"a\", \"fade\": -1}", ":1: fade" },
        { "{\"at\": 1, \"blend\": \"1, x\"}", ":1: blend: column 4: expected numbers" },
        { "{\"at\": 1, \"blend\": 1}", ":1: blend: is an integer" },
        { "{\"at\": 1, \"lora.a\": \"1\"}", ":1: lora.a: is a string" },
        { "{\"at\": 1, \"lora.a\": 1000}", ":1: lora.a: is 1000" },
        { "{\"at\": 1, \"lora.a\": 1, \"fade\": 1}", ":1: fade and easing belong" },
        { "[1]", ":1: is an array" },
        { "{\"at\": 1, \"seed\": 1", ":1: column" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_expect_eq(load(cases[i].text), L2D_EFORMAT, "%s", cases[i].text);
        cr_expect_not_null(strstr(err.msg, cases[i].want), "%s: %s", cases[i].text, err.msg);
        cr_expect(!timeline.event && timeline.num_events == 0);
    }
    cr_expect_eq(timeline_load(&timeline, "/no/such/file", NULL, L2D_PROMPT_NUMBERS, true,
                               &err), L2D_EIO);
    negative = false;
    cr_expect_eq(load("\n{\"at\": 1, \"negative\": \"a\"}"), L2D_EFORMAT);
    cr_expect_not_null(strstr(err.msg, ":2: negative: needs --guidance-mode"), "%s", err.msg);
    timeline_finish(&timeline);
}

// What the model and the prompt by then make of it.
Test(timeline, checked_against_a_model)
{
    static const struct l2d_engine_info info = { .num_loras = 1, .lora = { { .name = "ink" } } };
    static const struct { const char *text, *want; } cases[] = {
        { "{\"at\": 1, \"blend\": \"1, 2\", \"lora.ink\": 1}", NULL },
        { "{\"at\": 1, \"prompt\": \"a :1 | b :1 | c :1\", \"blend\": \"1 1 2\"}\n"
          "{\"at\": 2, \"prompt\": \"a\"}\n{\"at\": 2, \"blend\": \"1\"}", NULL },
        { "#\n{\"at\": 1, \"lora.b\": 1}", "file:2: lora.b: the model keeps no LoRA" },
        { "{\"at\": 1, \"blend\": \"1\"}",
          "file:1: blend: 1 number, but the prompt has 2 parts" },
        { "{\"at\": 1, \"prompt\": \"a\"}\n\n{\"at\": 2, \"blend\": \"1, 2\"}",
          "file:3: blend: 2 numbers, but the prompt has 1 part; write" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(*cases); i++) {
        cr_assert_eq(load(cases[i].text), L2D_OK, "%s", err.msg);
        int rc = timeline_check(&timeline, "file", &info, "a :0.7 | b :0.3", L2D_PROMPT_NUMBERS,
                                &err);
        cr_expect_eq(rc, cases[i].want ? L2D_EINVAL : L2D_OK, "%s: %s", cases[i].text, err.msg);
        cr_expect(!cases[i].want || strstr(err.msg, cases[i].want), "%s", err.msg);
        timeline_finish(&timeline);
    }
}

// Sets of steps and changes are counted.
Test(timeline, too_much)
{
    char *text = malloc(2 << 20), *at = text;
    cr_assert_not_null(text);
    for (int i = 0; i < 9; i++)
        at += sprintf(at, "{\"at\": 1, \"steps\": \"%d\"}\n", 30 + i);
    cr_expect_eq(load(text), L2D_EFORMAT);
    cr_expect_not_null(strstr(err.msg, ":8: steps: more than 8"), "%s", err.msg);
    at = text;
    for (int i = 0; i < 65537; i++)
        at += sprintf(at, "{\"at\":1,\"seed\":1}\n");
    cr_expect_eq(load(text), L2D_EFORMAT);
    cr_expect_not_null(strstr(err.msg, ":65537: more than 65536 changes"), "%s", err.msg);
    free(text);
}

// What is recorded is read as what was made, at the same frames.
Test(timeline, record)
{
    static const struct l2d_engine_info info = { .set_text = { "43/50", "43,47/50" } };
    static char longest[L2D_TOKENIZER_MAX_PROMPT_BYTES + 1];
    memset(longest, 'a', sizeof(longest) - 1);
    struct l2d_change made[] = {
        { .kind = L2D_CHANGE_PROMPT, .text = longest },
        { .kind = L2D_CHANGE_PROMPT, .text = "a \"cat\", (caf\u00e9:1.2)", .fade_frames = 13,
          .easing = L2D_EASE_SMOOTH },
        { .kind = L2D_CHANGE_STEPS, .step_set = 0, .automatic = true },
        { .kind = L2D_CHANGE_STEPS, .step_set = 1 },
        { .kind = L2D_CHANGE_SEED, .seed = 9007199254740991 },
        { .kind = L2D_CHANGE_NOISE, .noise = L2D_NOISE_ALL_FRESH },
        { .kind = L2D_CHANGE_SHOW, .show = L2D_SHOW_SOURCE },
        { .kind = L2D_CHANGE_STEADY, .steady = 0.65f },
        { .kind = L2D_CHANGE_MIX, .mix = 0.35f },
        { .kind = L2D_CHANGE_REWARM },
        { .kind = L2D_CHANGE_BLEND, .text = "0.7, 0.3", .fade_frames = 5 },
        { .kind = L2D_CHANGE_LORA, .text = "ink", .lora_scale = -0.8f },
        { .kind = L2D_CHANGE_NEGATIVE, .text = "" },
    };
    enum { NUM = sizeof(made) / sizeof(*made) };
    char folder[] = "/tmp/l2d_record_XXXXXX", path[64];
    struct timeline_record *record = NULL;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/line", folder);
    cr_assert_eq(timeline_record_create(&record, path, false, &info, &err), L2D_OK);
    const double rate = 30000.0 / 1001;
    for (int i = 0; i < NUM; i++)       // a frame each, but the last: its time has jumped back
        timeline_record_add(record, &made[i], i < NUM - 1 ? (1000 + i) / rate : 2, rate);
    cr_assert_eq(timeline_record_destroy(&record, &err), L2D_OK);
    cr_expect_eq(timeline_record_create(&record, path, false, &info, &err), L2D_EIO);
    cr_expect_not_null(strstr(err.msg, "exists already"), "%s", err.msg);
    cr_expect_eq(timeline_load(&timeline, path, NULL, L2D_PROMPT_NUMBERS, true, &err), L2D_OK,
                 "%s", err.msg);
    cr_expect_str_eq(timeline.more_steps[0], "43,47/50");
    for (int i = 0; i < NUM; i++) {
        if (made[i].automatic)
            continue;
        double at_s = (1000 + (i < NUM - 1 ? i : i - 1)) / rate;
        cr_expect(i == NUM - 1 || !timeline_next(&timeline, at_s - 1 / rate, rate));
        const struct l2d_change *c = timeline_next(&timeline, at_s, rate);
        cr_assert(c && c->kind == made[i].kind, "change %d", i);
        cr_expect(!c->text == !made[i].text && (!c->text || !strcmp(c->text, made[i].text)));
        cr_expect(c->fade_frames == made[i].fade_frames && c->easing == made[i].easing &&
                  c->step_set == made[i].step_set && c->seed == made[i].seed &&
                  c->noise == made[i].noise && c->show == made[i].show &&
                  c->lora_scale == made[i].lora_scale && c->steady == made[i].steady &&
                  c->mix == made[i].mix,
                  "change %d", i);
    }
    timeline_finish(&timeline);
    unlink(path);
    rmdir(folder);
}

Test(timeline, record_that_cannot_be_written)
{
    static const struct l2d_engine_info info;
    struct timeline_record *record = NULL;
    cr_assert_eq(timeline_record_create(&record, "/dev/full", true, &info, &err), L2D_OK);
    timeline_record_add(record, &(struct l2d_change) { .kind = L2D_CHANGE_REWARM }, 1, 25);
    cr_expect_eq(timeline_record_destroy(&record, &err), L2D_EIO);
    cr_expect_not_null(strstr(err.msg, "/dev/full: the timeline is not all there"), "%s", err.msg);
}

// A run that does not begin leaves no record, and that of another as it is.
Test(timeline, record_of_a_run_that_does_not_begin)
{
    static const struct l2d_engine_info info;
    const struct l2d_change change = { .kind = L2D_CHANGE_REWARM };
    char folder[] = "/tmp/l2d_record_XXXXXX", path[64];
    struct timeline_record *record = NULL, *second = NULL;
    struct stat s;
    cr_assert_not_null(mkdtemp(folder));
    snprintf(path, sizeof(path), "%s/line", folder);
    cr_assert_eq(timeline_record_create(&record, path, false, &info, &err), L2D_OK);
    cr_expect_eq(timeline_record_create(&second, path, true, &info, &err), L2D_EIO);
    cr_expect_not_null(strstr(err.msg, "is being written already"), "%s", err.msg);
    cr_expect_eq(timeline_record_destroy(&record, &err), L2D_OK);
    cr_expect(stat(path, &s) != 0, "it is left behind");

    cr_assert_eq(timeline_record_create(&record, path, false, &info, &err), L2D_OK);
    timeline_record_add(record, &change, 1, 25);
    timeline_record_add(record, &change, 2, 25);
    cr_assert_eq(timeline_record_destroy(&record, &err), L2D_OK);
    cr_assert(stat(path, &s) == 0);
    off_t size_bytes = s.st_size;
    cr_assert_eq(timeline_record_create(&record, path, true, &info, &err), L2D_OK);
    cr_expect(stat(path, &s) == 0 && s.st_size == size_bytes, "it is gone");
    timeline_record_add(record, &change, 1, 25);
    cr_expect(stat(path, &s) == 0 && 2 * s.st_size == size_bytes, "it is not replaced");
    cr_expect_eq(timeline_record_destroy(&record, &err), L2D_OK);
    unlink(path);
    rmdir(folder);
}
