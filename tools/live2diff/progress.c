// SPDX-License-Identifier: Apache-2.0
// See progress.h.
#include "progress.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define BAR_EVERY_S 0.2
#define LINE_EVERY_S 5.0
#define BAR_CELLS 16

void progress_init(struct progress *progress, bool enabled)
{
    *progress = (struct progress) { .enabled = enabled, .tty = isatty(STDERR_FILENO) == 1,
                                    .last_s = l2d_clock_s() };
    pthread_mutex_init(&progress->lock, NULL);
}

// Over the last ten seconds, or since the first frame: warm-up lets several out at once, and what
// else the machine does varies.
struct speed { double fps, media; };

static void remember(struct progress *progress, const struct progress_state *s, double now)
{
    struct progress_state *mark = progress->mark;
    if (s->frames == 0 || (progress->num_marks > 0 && now - progress->mark_s < 1))
        return;
    if (progress->num_marks == PROGRESS_MARKS)
        memmove(mark, mark + 1, --progress->num_marks * sizeof(*mark));
    mark[progress->num_marks++] = *s;
    progress->mark_s = now;
}

static struct speed recent_speed(const struct progress *progress, const struct progress_state *s)
{
    const struct progress_state *mark = progress->mark;
    double wall = progress->num_marks ? s->wall_s - mark->wall_s : 0;
    if (wall <= 0)
        return (struct speed) { 0 };
    return (struct speed) { (double) (s->frames - mark->frames) / wall,
                            (s->media_s - mark->media_s) / wall };
}

// "1:05", "2:00:09"; "--" if unknown.
static void format_eta(char *out, size_t size, const struct progress_state *s, double fps)
{
    double left = (double) s->total - (double) s->frames;
    if (s->total < 0 || fps <= 0) {
        snprintf(out, size, "--");
        return;
    }
    long seconds = left > 0 ? (long) (left / fps + 0.5) : 0;
    if (seconds >= 3600)
        snprintf(out, size, "%ld:%02ld:%02ld", seconds / 3600, seconds / 60 % 60, seconds % 60);
    else
        snprintf(out, size, "%ld:%02ld", seconds / 60, seconds % 60);
}

static void format_bar(char *out, const struct progress_state *s)
{
    double part = s->total > 0 ? (double) s->frames / (double) s->total : 0;
    int full = part >= 1 ? BAR_CELLS : (int) (part * BAR_CELLS);
    for (int i = 0; i < BAR_CELLS; i++)
        out[i] = i < full ? '=' : i == full ? '>' : ' ';
    out[BAR_CELLS] = '\0';
}

static void draw_live(struct progress *progress, const struct progress_state *s)
{
    fprintf(stderr, "%s%s, %.1f fps, latency %.0f ms, frames: %llu in = %llu out + %llu dropped "
            "+ %llu in flight, %llu held%s", progress->tty ? "\r" : "live2diff: ", s->state,
            recent_speed(progress, s).fps, s->latency_ms, (unsigned long long) s->in,
            (unsigned long long) s->frames, (unsigned long long) s->dropped,
            (unsigned long long) s->in_flight, (unsigned long long) s->held,
            progress->tty ? "\033[K" : "\n");
    fflush(stderr);
    progress->drawn = progress->tty;
}

static void draw(struct progress *progress, const struct progress_state *s)
{
    if (s->live) {
        draw_live(progress, s);
        return;
    }
    char eta[32], total[32] = "", bar[BAR_CELLS + 1];
    struct speed speed = recent_speed(progress, s);
    format_eta(eta, sizeof(eta), s, speed.fps);
    format_bar(bar, s);
    if (s->total >= 0)
        snprintf(total, sizeof(total), "/%lld", (long long) s->total);
    bool bar_shown = progress->tty && s->total > 0;
    fprintf(stderr, "%s%s%s%s%llu%s frames, %.1f fps, speed %.2fx, ETA %s, dropped %llu%s",
            progress->tty ? "\r" : "live2diff: ", bar_shown ? "[" : "", bar_shown ? bar : "",
            bar_shown ? "] " : "", (unsigned long long) s->frames, total, speed.fps, speed.media,
            eta, (unsigned long long) s->dropped, progress->tty ? "\033[K" : "\n");
    fflush(stderr);
    progress->drawn = progress->tty;
}

void progress_update(struct progress *progress, const struct progress_state *state)
{
    double now = l2d_clock_s();
    pthread_mutex_lock(&progress->lock);
    remember(progress, state, now);
    if (progress->enabled &&
        now - progress->last_s >= (progress->tty ? BAR_EVERY_S : LINE_EVERY_S)) {
        progress->last_s = now;
        draw(progress, state);
    }
    pthread_mutex_unlock(&progress->lock);
}

void progress_end(struct progress *progress, const struct progress_state *state)
{
    pthread_mutex_lock(&progress->lock);
    if (progress->drawn) {
        draw(progress, state);
        fputc('\n', stderr);
    }
    progress->drawn = false;
    progress->enabled = false;
    pthread_mutex_unlock(&progress->lock);
}

static void print_line(struct progress *progress, const char *line)
{
    pthread_mutex_lock(&progress->lock);
    fprintf(stderr, "%slive2diff: %s\n", progress->drawn ? "\r\033[K" : "", line);
    progress->drawn = false;
    pthread_mutex_unlock(&progress->lock);
}

void progress_print(struct progress *progress, const char *fmt, ...)
{
    char line[1200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof(line), fmt, ap);
    va_end(ap);
    print_line(progress, line);
}

static void log_line(void *user, enum l2d_log_level level, const char *name, const char *line)
{
    bool said = level == L2D_LOG_WARN || level == L2D_LOG_ERROR;
    bool named = name && strcmp(name, "live2diff") != 0;        // which each line begins with
    progress_print(user, "%s%s%s%s%s", said ? l2d_log_level_str(level) : "", said ? ": " : "",
                   named ? name : "", named ? ": " : "", line);
}

struct l2d_log progress_log(struct progress *progress, enum l2d_log_level level)
{
    return (struct l2d_log) { log_line, progress, level, "live2diff" };
}
