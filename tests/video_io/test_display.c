// SPDX-License-Identifier: Apache-2.0
// The window, on SDL's dummy driver.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include <SDL.h>

#include "base/clock.h"
#include "clips.h"
#include "video_io/display.h"

static void use_dummy(void)
{
    setenv("SDL_VIDEODRIVER", "dummy", 1);
}

TestSuite(display, .init = use_dummy, .timeout = 60);

static struct l2d_sink *open_with(bool unpaced, const struct l2d_display_hooks *hooks)
{
    struct l2d_sink_params p = { .width = 63, .height = 47, .time_base_num = 1,
                                 .time_base_den = 100, .sar_num = 4, .sar_den = 3,
                                 .unpaced = unpaced, .hooks = hooks };
    struct l2d_sink *s = NULL;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_sink_open(&s, "display", &p, &err), L2D_OK, "%s", err.msg);
    return s;
}

static struct l2d_sink *open_display(bool unpaced)
{
    return open_with(unpaced, NULL);
}

static int show(struct l2d_sink *s, int64_t pts)
{
    struct l2d_frame *f = clips_frame(63, 47, pts, 100);
    struct l2d_error err = { 0 };
    int rc = l2d_sink_write_video(s, f, &err);
    cr_expect(rc == L2D_OK || rc == L2D_ECLOSED, "%s", err.msg);
    l2d_frame_unref(&f);
    return rc;
}

Test(display, shows_frames_when_they_are_due)
{
    struct l2d_sink *s = open_display(false);
    double start = l2d_clock_s();
    for (int64_t i = 0; i < 6; i++)
        cr_expect_eq(show(s, 10 * i), L2D_OK);      // 0.1 s apart
    double took = l2d_clock_s() - start;
    cr_expect(took > 0.48 && took < 5, "%f s", took);
    cr_expect_eq(l2d_sink_stats(s).frames, 6u);
    cr_expect_eq(l2d_sink_finish(s, false, NULL), L2D_OK);
    l2d_sink_destroy(&s);

    s = open_display(true);
    start = l2d_clock_s();
    for (int64_t i = 0; i < 6; i++)
        cr_expect_eq(show(s, 1000 * i), L2D_OK);
    cr_expect_lt(l2d_clock_s() - start, 5);
    l2d_sink_destroy(&s);
}

Test(display, q_escape_and_the_close_button_end_it)
{
    SDL_Event events[] = {
        { .key = { .type = SDL_KEYDOWN, .keysym = { .sym = SDLK_q } } },
        { .key = { .type = SDL_KEYDOWN, .keysym = { .sym = SDLK_ESCAPE } } },
        { .window = { .type = SDL_WINDOWEVENT, .event = SDL_WINDOWEVENT_CLOSE } },
        { .quit = { .type = SDL_QUIT } },
    };
    for (size_t i = 0; i < sizeof(events) / sizeof(*events); i++) {
        struct l2d_sink *s = open_display(false);
        cr_expect_eq(show(s, 0), L2D_OK);
        SDL_PushEvent(&(SDL_Event) { .key = { .type = SDL_KEYDOWN, .keysym = { .sym = SDLK_a } } });
        cr_expect_eq(show(s, 1), L2D_OK);
        SDL_PushEvent(&events[i]);
        cr_expect_eq(show(s, 2), L2D_ECLOSED, "event %zu", i);
        cr_expect_eq(show(s, 3), L2D_ECLOSED);
        cr_expect_eq(l2d_sink_finish(s, true, NULL), L2D_OK);
        l2d_sink_destroy(&s);
    }
}

Test(display, no_screen_is_one_line)
{
    setenv("SDL_VIDEODRIVER", "nonsense", 1);
    struct l2d_sink_params p = { .width = 64, .height = 48, .time_base_num = 1,
                                 .time_base_den = 25 };
    struct l2d_sink *s = NULL;
    struct l2d_error err = { 0 };
    cr_expect_eq(l2d_sink_open(&s, "display", &p, &err), L2D_EIO);
    cr_expect(strstr(err.msg, "no window can be opened"), "%s", err.msg);
    cr_expect_null(s);
}

// --- hooks

struct seen {
    char keys[64], line[64];
    int asked, entered;
    bool compares;
};

static void on_status(void *user, char *out, size_t size)
{
    ((struct seen *) user)->asked++;
    snprintf(out, size, "12 fps\n34 ms");
}

static void on_prompt(void *user, char *out, size_t size)
{
    (void) user;
    snprintf(out, size, "ink");
}

static void on_entered(void *user, const char *line)
{
    struct seen *seen = user;
    seen->entered++;
    snprintf(seen->line, sizeof(seen->line), "%s", line);
}

static void on_key(void *user, const char *name)
{
    struct seen *seen = user;
    size_t len = strlen(seen->keys);
    snprintf(seen->keys + len, sizeof(seen->keys) - len, "%s ", name);
}

static void on_compare(void *user, bool on)
{
    ((struct seen *) user)->compares = on;
}

static struct l2d_frame *on_source(void *user, int64_t pts)
{
    (void) user;
    (void) pts;
    return NULL;
}

static void press(SDL_Keycode key, Uint16 mod)
{
    SDL_PushEvent(&(SDL_Event) { .key = { .type = SDL_KEYDOWN,
                                          .keysym = { .sym = key, .mod = mod } } });
}

static void type(const char *text)
{
    SDL_Event event = { .text = { .type = SDL_TEXTINPUT } };
    snprintf(event.text.text, sizeof(event.text.text), "%s", text);
    SDL_PushEvent(&event);
}

static void expect_alive(struct l2d_sink *s)
{
    struct l2d_error err = { 0 };
    cr_expect_eq(l2d_sink_idle(s, &err), L2D_OK, "%s", err.msg);
}

static struct l2d_sink *open_hooked(struct seen *seen)
{
    struct l2d_display_hooks hooks = { .user = seen, .status = on_status, .prompt = on_prompt,
                                       .entered = on_entered, .key = on_key,
                                       .compare = on_compare, .source = on_source,
                                       .help = "N  next preset" };
    struct l2d_sink *s = open_with(true, &hooks);
    cr_expect_eq(show(s, 0), L2D_OK);
    return s;
}

Test(display, a_prompt_is_typed)
{
    struct seen seen = { 0 };
    struct l2d_sink *s = open_hooked(&seen);
    type("not into a line");
    press(SDLK_RETURN, 0);
    type(" q猫");
    press(SDLK_q, 0);                               // a letter in the line, not the end
    type("x");
    press(SDLK_BACKSPACE, 0);
    press(SDLK_RETURN, 0);
    expect_alive(s);
    cr_expect_str_eq(seen.line, "ink q猫");

    press(SDLK_p, 0);
    type(" left");
    press(SDLK_ESCAPE, 0);                          // leaves the line, not the window
    expect_alive(s);
    cr_expect_eq(seen.entered, 1);

    press(SDLK_p, 0);
    press(SDLK_u, KMOD_LCTRL);
    type("one two");
    press(SDLK_w, KMOD_LCTRL);
    press(SDLK_KP_ENTER, 0);
    expect_alive(s);
    cr_expect_str_eq(seen.line, "one ");
    cr_expect_str_eq(seen.keys, "");
    l2d_sink_destroy(&s);
}

Test(display, other_keys_are_the_programs_and_the_status_is_asked_for)
{
    struct seen seen = { 0 };
    struct l2d_sink *s = open_hooked(&seen);
    press(SDLK_n, 0);
    press(SDLK_LEFT, 0);
    cr_expect_eq(show(s, 1), L2D_OK);
    cr_expect_str_eq(seen.keys, "N Left ");
    cr_expect_eq(seen.asked, 0);
    press(SDLK_i, 0);
    press(SDLK_h, 0);
    press(SDLK_F11, 0);
    expect_alive(s);
    cr_expect_eq(seen.asked, 1);
    cr_expect_eq(show(s, 2), L2D_OK);
    cr_expect_eq(seen.asked, 2);
    press(SDLK_i, 0);
    cr_expect_eq(show(s, 3), L2D_OK);
    cr_expect_eq(seen.asked, 2);
    press(SDLK_q, 0);
    cr_expect_eq(l2d_sink_idle(s, NULL), L2D_ECLOSED);
    l2d_sink_destroy(&s);
}

Test(display, sources_are_not_asked_for_once_the_window_is_gone)
{
    struct seen seen = { 0 };
    struct l2d_sink *s = open_hooked(&seen);
    press(SDLK_c, 0);
    expect_alive(s);
    cr_expect(seen.compares);
    l2d_sink_destroy(&s);
    cr_expect(!seen.compares);
}
