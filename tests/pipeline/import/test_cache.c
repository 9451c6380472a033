// SPDX-License-Identifier: Apache-2.0
// Imports that are kept: found again, made anew where anything is different, and never half there,
// whoever else imports, is killed or runs out of room. The files are those of the shipped model.
#include "pipeline/import/cache.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tensor/safetensors.h"

#define MODEL L2D_SOURCE_DIR "/samples/models/paint-s/"

static char dir[] = "/tmp/l2d_cache_XXXXXX";
static char base[64], config[128], models[64], folder[256];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
}

static void setup(void)
{
    static const char *const links[][2] = {
        { "unet.safetensors", "unet/diffusion_pytorch_model.safetensors" },
        { "vae.safetensors", "vae/diffusion_pytorch_model.safetensors" },
        { "text_encoder.safetensors", "text_encoder/model.safetensors" },
        { "vocab.json", "tokenizer/vocab.json" }, { "merges.txt", "tokenizer/merges.txt" },
    };
    static const char *const folders[] = { "", "unet", "vae", "text_encoder", "tokenizer" };
    char from[512], to[128];
    cr_assert_not_null(mkdtemp(dir));
    snprintf(base, sizeof(base), "%s/base", dir);
    snprintf(models, sizeof(models), "%s/live2diff/models", dir);
    snprintf(config, sizeof(config), "%s/text_encoder/config.json", base);
    for (size_t i = 0; i < sizeof(folders) / sizeof(folders[0]); i++) {
        snprintf(to, sizeof(to), "%s/%s", base, folders[i]);
        cr_assert_eq(mkdir(to, 0777), 0, "%s", to);
    }
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        snprintf(from, sizeof(from), "%s%s", MODEL, links[i][0]);
        snprintf(to, sizeof(to), "%s/%s", base, links[i][1]);
        cr_assert_eq(symlink(from, to), 0, "%s", to);
    }
    write_text(config, "{\"num_attention_heads\": 4}");
    cr_assert_eq(setenv("XDG_CACHE_HOME", dir, 1), 0);
}

static void teardown(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(import_cache, .init = setup, .fini = teardown);

// The folders in models/ that are called so, by a pattern of the shell.
static int count(const char *pattern)
{
    char command[256];
    int n = -1;
    snprintf(command, sizeof(command), "ls -d %s/%s 2>/dev/null | wc -l", models, pattern);
    FILE *p = popen(command, "r");
    cr_assert(p && fscanf(p, "%d", &n) == 1);
    pclose(p);
    return n;
}

#define WHOLE "*[0-9a-f]"           // not lock, not something.part

static void count_line(void *user, const char *line)
{
    cr_assert(*line && !strchr(line, '\n'));
    ++*(int *) user;
}

// Must succeed; returns how many lines were said: none if the folder was there already.
static int get(const struct l2d_import *import)
{
    char path[512];
    int lines = 0;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_cache_import(folder, sizeof(folder), import, count_line, &lines, &err), L2D_OK,
                 "%s", err.msg);
    snprintf(path, sizeof(path), "%s/manifest.json", folder);       // the last to be written
    cr_assert_eq(access(path, R_OK), 0, "%s", path);
    return lines;
}

Test(import_cache, finds_again)
{
    char first[sizeof(folder)], moved[64];
    struct l2d_import import = { .base = base };
    cr_assert_gt(get(&import), 0);
    strcpy(first, folder);
    cr_assert_eq(get(&import), 0);
    cr_assert_str_eq(folder, first);

    cr_assert_eq(utimensat(AT_FDCWD, config, NULL, 0), 0);
    snprintf(moved, sizeof(moved), "%s/moved", dir);
    cr_assert_eq(rename(base, moved), 0);
    import.base = moved;
    cr_assert_eq(get(&import), 0);
    cr_assert_str_eq(folder, first);
    cr_assert_eq(count(WHOLE), 1);
}

Test(import_cache, makes_anew_what_is_different)
{
    static const float vector[96];
    struct l2d_safetensors_entry e = { "emb_params", L2D_SAFETENSORS_F32, 2, { 1, 96 }, vector,
                                       sizeof(vector) };
    struct l2d_import import = { .base = base };
    char word[64], lora[64];
    int made = 1;
    snprintf(word, sizeof(word), "%s/word.safetensors", dir);
    snprintf(lora, sizeof(lora), "%s/lora.safetensors", dir);
    cr_assert_eq(l2d_safetensors_write(word, &e, 1, NULL), L2D_OK);
    e.name = "lora_te_nothing.lora_down.weight";        // which has no place in the model
    cr_assert_eq(l2d_safetensors_write(lora, &e, 1, NULL), L2D_OK);
    cr_assert_gt(get(&import), 0);
    struct l2d_import other[] = {
        { .base = base, .name = "other" }, { .base = base, .prompt = "other" },
        { .base = base, .prompt_template = "a {}" }, { .base = base, .width = 128 },
        { .base = base, .num_steps = 1, .t_index = { 30 } }, { .base = base, .clip_skip = 1 },
        { .base = base, .num_steps = 1, .t_index = { 31 } }, { .base = base, .predicts_v = true },
        { .base = base, .num_loras = 1, .lora = { { lora, 1, false, false } } },
        { .base = base, .num_loras = 1, .lora = { { lora, 1, true, false } } },
        { .base = base, .num_loras = 1, .lora = { { lora, 0.5f, true, false } } },
        { .base = base, .num_embeddings = 1, .embedding = { { word, NULL } } },
        { .base = base, .num_embeddings = 1, .embedding = { { word, "<a>" } } },
        { .base = base, .num_embeddings = 1, .embedding = { { word, "<b>" } } },
    };
    for (size_t i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        cr_assert_gt(get(&other[i]), 0, "case %zu", i);
        cr_assert_eq(count(WHOLE), ++made, "case %zu", i);
    }
    write_text(config, "{\"num_attention_heads\": 2}");     // of the same length
    cr_assert_gt(get(&import), 0);
    write_text(config, "{\"num_attention_heads\": 4}");
    cr_assert_eq(get(&import), 0);
    cr_assert_eq(count(WHOLE), made + 1);
}

// ---- others, and mishaps ------------------------------------------------------------------------

// Forks; the child imports and exits with 0 if it succeeded.
static pid_t import_aside(void (*say)(void *user, const char *line), void *user)
{
    pid_t pid = fork();
    cr_assert_geq(pid, 0);
    if (pid > 0)
        return pid;
    struct l2d_import import = { .base = base };
    _exit(l2d_cache_import(folder, sizeof(folder), &import, say, user, NULL) == L2D_OK ? 0 : 1);
}

static int wait_for(pid_t pid)
{
    int status;
    cr_assert_eq(waitpid(pid, &status, 0), pid);
    return status;
}

static void note_import(void *user, const char *line)
{
    if (strncmp(line, "importing", strlen("importing")) == 0)
        cr_assert_eq(write(*(int *) user, "i", 1), 1);
}

Test(import_cache, several_at_once)
{
    pid_t pid[4];
    int notes[2];
    char got[8];
    cr_assert_eq(pipe(notes), 0);
    for (int i = 0; i < 4; i++)
        pid[i] = import_aside(note_import, &notes[1]);
    for (int i = 0; i < 4; i++)
        cr_assert_eq(wait_for(pid[i]), 0);
    cr_assert_eq(read(notes[0], got, sizeof(got)), 1);      // one of them did it
    cr_assert_eq(count(WHOLE), 1);
    cr_assert_eq(count("*.part"), 0);
}

static void die(void *user, const char *line)
{
    (void) user;
    if (strncmp(line, "unet.safetensors", strlen("unet.safetensors")) == 0)     // one is written
        raise(SIGKILL);
}

Test(import_cache, killed)
{
    struct l2d_import import = { .base = base };
    for (int i = 0; i < 2; i++) {
        cr_assert(WIFSIGNALED(wait_for(import_aside(die, NULL))));
        cr_assert_eq(count(WHOLE), 0);
        cr_assert_eq(count("*.part"), 1);       // and not the one before
    }
    cr_assert_gt(get(&import), 0);
    cr_assert_eq(count(WHOLE), 1);
    cr_assert_eq(count("*.part"), 0);
}

static void refuse(const struct l2d_import *import, void (*say)(void *user, const char *line),
                   const char *want)
{
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_cache_import(folder, sizeof(folder), import, say, NULL, &err), L2D_EIO);
    cr_assert(strstr(err.msg, want), "%s", err.msg);
}

// A limit on the size of files is as good as a full disk.
Test(import_cache, no_room)
{
    struct l2d_import import = { .base = base };
    struct rlimit old, small;
    cr_assert_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small = old;
    small.rlim_cur = 1 << 20;
    signal(SIGXFSZ, SIG_IGN);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    refuse(&import, NULL, "unet.safetensors: File too large");
    cr_assert_eq(count(WHOLE), 0);
    cr_assert_eq(count("*.part"), 0);
    cr_assert_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    cr_assert_gt(get(&import), 0);
}

static void change_config(void *user, const char *line)
{
    (void) user, (void) line;
    write_text(config, "{\"num_attention_heads\": 2}");
}

Test(import_cache, changed_meanwhile)
{
    struct l2d_import import = { .base = base };
    refuse(&import, change_config, "changed while it was read; try again");
    cr_assert_eq(count(WHOLE), 0);
    cr_assert_eq(count("*.part"), 0);
}

Test(import_cache, nowhere_to_write)
{
    struct l2d_import import = { .base = base };
    cr_assert_eq(setenv("XDG_CACHE_HOME", config, 1), 0);       // a file is no folder
    refuse(&import, NULL, "config.json/live2diff/models/lock: Not a directory");
    cr_assert(unsetenv("XDG_CACHE_HOME") == 0 && unsetenv("HOME") == 0);
    refuse(&import, NULL, "set XDG_CACHE_HOME or HOME");
    cr_assert_eq(setenv("HOME", dir, 1), 0);
    cr_assert_gt(get(&import), 0);
    cr_assert(strstr(folder, "/.cache/live2diff/models/"), "%s", folder);
}
