// SPDX-License-Identifier: Apache-2.0
// See keys.h. A key is a row of the table below.
#include "keys.h"

#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "control/web_files.h"
#include "stamped_name.h"
#include "video_io/still.h"

#define HELP_BYTES 1024
#define NOTE_S 5                // how long the status shows what a key did

struct keys {
    struct keys_setup run;
    struct l2d_display_hooks hooks;
    json_t *presets;            // array of phrases; NULL: none
    char help[HELP_BYTES];

    pthread_mutex_t lock;
    // --- guarded by lock
    size_t preset;              // the one chosen last, from 1; 0: none yet
    char note[256];
    double note_s;
};

// --- what keys do

static void note(struct keys *k, enum l2d_log_level level, const char *text)
{
    l2d_log_print(k->run.log, level, "%s", text);
    pthread_mutex_lock(&k->lock);
    snprintf(k->note, sizeof(k->note), "%s", text);
    k->note_s = l2d_clock_s();
    pthread_mutex_unlock(&k->lock);
}

static const struct param *find(const struct keys *k, const char *name)
{
    struct param_table table = run_params_table(k->run.params);
    for (size_t i = 0; i < table.num_rows; i++)
        if (!strcmp(table.row[i].name, name))
            return &table.row[i];
    return NULL;
}

static void set(struct keys *k, const struct param *row, const struct param_value *value)
{
    struct l2d_error err = { 0 };
    int rc = row->check ? row->check(row->user, value, &err) : L2D_OK;
    if (rc == L2D_OK)
        rc = row->set(row->user, value, &err);
    if (rc != L2D_OK)
        note(k, L2D_LOG_WARN, err.msg);
}

static int64_t number_of(const struct param *row)
{
    struct param_value value = { 0 };
    row->get(row->user, &value, NULL);
    return value.integer;
}

static void set_prompt(struct keys *k, const char *text)
{
    const struct param *row = find(k, "prompt");
    if (row)
        set(k, row, &(struct param_value) { .text = (char *) text });
}

static void choose_preset(struct keys *k, int by)
{
    size_t count = json_array_size(k->presets);
    if (count == 0)
        return;
    pthread_mutex_lock(&k->lock);
    k->preset = k->preset == 0 ? (by > 0 ? 1 : count)
                               : (k->preset - 1 + count + (size_t) (by + (int) count)) % count + 1;
    size_t at = k->preset - 1;
    pthread_mutex_unlock(&k->lock);
    set_prompt(k, json_string_value(json_array_get(k->presets, at)));
}

// The next or previous of a parameter's choices, as far as there is one.
static void choose_steps(struct keys *k, int by)
{
    const struct param *row = find(k, "steps");
    int64_t last = 0, at = number_of(row) + by;
    for (const char *c = row->choices; *c; c++)
        last += *c == '|';
    if (at >= 0 && at <= last)
        set(k, row, &(struct param_value) { .integer = at });
}

static void change_seed(struct keys *k, int by)
{
    const struct param *row = find(k, "seed");
    int64_t seed = number_of(row), last = (int64_t) row->max;
    set(k, row, &(struct param_value) { .integer = seed < last ? seed + by : 0 });
}

// Shown in this way, or drawn again.
static void toggle_show(struct keys *k, int show)
{
    const struct param *row = find(k, "show");
    int64_t next = number_of(row) == show ? L2D_SHOW_DRAWN : show;
    set(k, row, &(struct param_value) { .integer = next });
}

static bool is_on(const struct keys *k, const char *name)
{
    struct param_value value = { 0 };
    const struct param *row = find(k, name);
    return row && row->get(row->user, &value, NULL) == L2D_OK && value.flag;
}

static void toggle(struct keys *k, const char *name)
{
    const struct param *row = find(k, name);
    set(k, row, &(struct param_value) { .flag = !is_on(k, name) });
}

static void pause_run(struct keys *k, int unused)
{
    (void) unused;
    toggle(k, "pause");
}

static void record(struct keys *k, int unused)
{
    (void) unused;
    toggle(k, "record");
}

static void rewarm(struct keys *k, int unused)
{
    (void) unused;
    set(k, find(k, "rewarm"), &(struct param_value) { .flag = true });
}

// A new file, named by the time. returns  L2D_OK or L2D_EIO.
static int write_picture(const uint8_t *data, size_t size, const char *folder, char *name,
                         struct l2d_error *err)
{
    FILE *f = NULL;
    for (int n = 1; !f && n < STAMPED_NAME_TRIES; n++) {
        stamped_name(name, folder, n, "png");
        f = fopen(name, "wbx");
        if (!f && errno != EEXIST)
            break;
    }
    if (!f)
        return l2d_error_set(err, L2D_EIO, "%s: %s", name, strerror(errno));
    bool good = fwrite(data, 1, size, f) == size;
    if (fclose(f) == 0 && good)
        return L2D_OK;
    int rc = l2d_error_set(err, L2D_EIO, "%s: %s", name, strerror(errno));
    remove(name);
    return rc;
}

static void save(struct keys *k, int unused)
{
    (void) unused;
    struct l2d_error err = { 0 };
    struct l2d_still *still = NULL;
    const uint8_t *data;
    size_t size;
    char name[STAMPED_NAME_BYTES], said[STAMPED_NAME_BYTES + 16];
    struct control_pair pair = control_frames_newest(k->run.frames);
    if (!pair.result) {
        control_pair_finish(&pair);
        return;
    }
    int rc = l2d_still_create(&still, L2D_STILL_PNG, 0, &err);
    if (rc == L2D_OK)
        rc = l2d_still_encode(still, pair.result, &data, &size, &err);
    if (rc == L2D_OK)
        rc = write_picture(data, size, k->run.folder, name, &err);
    if (rc == L2D_OK)
        snprintf(said, sizeof(said), "saved %s", name);
    note(k, rc == L2D_OK ? L2D_LOG_INFO : L2D_LOG_WARN, rc == L2D_OK ? said : err.msg);
    l2d_still_destroy(&still);
    control_pair_finish(&pair);
}

static const struct action {
    const char *key, *param;    // param: which the run must have; NULL: none
    const char *unless;         // param that it must not have; NULL: none
    void (*act)(struct keys *keys, int how);
    int how;
    const char *help;           // NULL: the row before says it
} actions[] = {
    { "Right", "prompt", NULL, choose_preset, 1, "Right, Left  next and previous preset" },
    { "Left", "prompt", NULL, choose_preset, -1, NULL },
    { "Up", "steps", NULL, choose_steps, 1, "Up, Down  next and previous steps" },
    { "Down", "steps", NULL, choose_steps, -1, NULL },
    { "N", "seed", NULL, change_seed, 1, "N  another seed" },
    { "B", "show", NULL, toggle_show, L2D_SHOW_SOURCE, "B  bypass: the source as it is" },
    { "Space", "show", "pause", toggle_show, L2D_SHOW_FROZEN, "Space  freeze the picture" },
    { "Space", "pause", NULL, pause_run, 0, "Space  pause" },
    { "W", "rewarm", NULL, rewarm, 0, "W  warm up anew, as after a cut" },
    { "S", NULL, NULL, save, 0, "S  save the picture as a PNG" },
    { "R", "record", NULL, record, 0, "R  record to a file, and stop" },
};
#define NUM_ACTIONS (sizeof(actions) / sizeof(actions[0]))

static bool is_bound(const struct keys *k, const struct action *action)
{
    return (!action->param || find(k, action->param)) &&
           (!action->unless || !find(k, action->unless));
}

// --- the window's hooks

static void on_key(void *user, const char *name)
{
    struct keys *k = user;
    for (size_t i = 0; i < NUM_ACTIONS; i++)
        if (!strcmp(actions[i].key, name) && is_bound(k, &actions[i]))
            actions[i].act(k, actions[i].how);
}

static void on_prompt(void *user, char *out, size_t size)
{
    struct keys *k = user;
    struct param_value value = { 0 };
    const struct param *row = find(k, "prompt");
    if (row && row->get(row->user, &value, NULL) == L2D_OK)
        snprintf(out, size, "%s", value.text);
    param_value_finish(&value);
}

static void on_entered(void *user, const char *line)
{
    set_prompt(user, line);
}

static void on_compare(void *user, bool on)
{
    struct keys *k = user;
    control_frames_keep_sources(k->run.frames, CONTROL_WINDOW, on);
}

static struct l2d_frame *on_source(void *user, int64_t pts)
{
    struct keys *k = user;
    return control_frames_source_of(k->run.frames, pts);
}

static void on_status(void *user, char *out, size_t size)
{
    struct keys *k = user;
    static _Thread_local struct run_status status;          // large
    static _Thread_local struct control_state state;
    char prompt[256] = "";
    run_board_read(k->run.board, &status);
    control_frames_measure(k->run.frames, &state);
    on_prompt(k, prompt, sizeof(prompt));
    bool recorded = is_on(k, "record"), paused = is_on(k, "pause");
    double latency_ms = 0;
    for (unsigned i = 0; i < status.num_outputs; i++)
        if (!strcmp(status.output[i].name, "display"))
            latency_ms = status.output[i].latency.p95;
    pthread_mutex_lock(&k->lock);
    bool noted = l2d_clock_s() - k->note_s < NOTE_S;
    snprintf(out, size, "%s%s%s%s%.1f fps   %.0f ms (p95)   %d steps   %llu late   input %s%s%s",
             prompt, *prompt ? "\n" : "", recorded ? "REC   " : "", paused ? "paused   " : "",
             state.fps, latency_ms,
             (int) run_params_num_steps(k->run.params), (unsigned long long) status.fates.late,
             l2d_source_state_str(status.source.state), noted ? "\n" : "", noted ? k->note : "");
    pthread_mutex_unlock(&k->lock);
}

// --- the life of it

// The first group of the page's words for this model, or for any.
static json_t *load_presets(const char *model)
{
    json_t *all = NULL;
    for (size_t i = 0; i < web_num_files && !all; i++)
        if (!strcmp(web_file[i].path, "/presets.json"))
            all = json_loadb((const char *) web_file[i].data, web_file[i].size, 0, NULL);
    json_t *groups = json_object_get(all, model);
    groups = groups ? groups : json_object_get(all, "");
    json_t *phrases = json_incref(json_object_get(json_array_get(groups, 0), "phrases"));
    json_decref(all);
    return phrases;
}

static void write_help(struct keys *k)
{
    size_t len = 0;
    for (size_t i = 0; i < NUM_ACTIONS; i++)
        if (actions[i].help && is_bound(k, &actions[i]))
            len += (size_t) snprintf(k->help + len, sizeof(k->help) - len, "%s%s",
                                     len ? "\n" : "", actions[i].help);
}

int keys_create(struct keys **out, const struct keys_setup *setup, struct l2d_error *err)
{
    struct keys *k = calloc(1, sizeof(*k));
    if (!k)
        return l2d_error_set(err, L2D_ENOMEM, "out of memory for the window's keys");
    pthread_mutex_init(&k->lock, NULL);
    k->run = *setup;
    k->presets = load_presets(l2d_stream_info(setup->stream)->model_name);
    write_help(k);
    bool prompts = find(k, "prompt") != NULL;
    k->hooks = (struct l2d_display_hooks) {
        .user = k, .status = on_status, .key = on_key, .help = k->help,
        .prompt = prompts ? on_prompt : NULL, .entered = prompts ? on_entered : NULL,
        .compare = on_compare, .source = on_source, .fit = setup->fit,
    };
    *out = k;
    return L2D_OK;
}

void keys_destroy(struct keys **keys)
{
    struct keys *k = *keys;
    *keys = NULL;
    if (!k)
        return;
    json_decref(k->presets);
    pthread_mutex_destroy(&k->lock);
    free(k);
}

const struct l2d_display_hooks *keys_hooks(const struct keys *k)
{
    return &k->hooks;
}
