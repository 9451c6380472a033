// SPDX-License-Identifier: Apache-2.0
// Known digests, and what is remembered of a file: until it changes, whatever its times say.
#include "pipeline/import/digest.h"

#include <criterion/criterion.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define SETTLES_S 1         // as digest.c has it
#define ABC "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
#define ABD "a52d159f262b2c6ddb724a61840befc36eb30c88877a4030b65cbe86298449c9"

static char dir[] = "/tmp/l2d_digest_XXXXXX";
static char file[32], memory[64];

static void write_text(const char *path, const char *text)
{
    FILE *f = fopen(path, "w");
    cr_assert(f && fputs(text, f) >= 0 && fclose(f) == 0, "%s", path);
}

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(file, sizeof(file), "%s/file", dir);
    snprintf(memory, sizeof(memory), "%s/made/when/needed", dir);
    write_text(file, "abc");
}

static void remove_dir(void)
{
    char command[128];
    snprintf(command, sizeof(command), "rm -r %s", dir);
    cr_assert_eq(system(command), 0);
}

TestSuite(import_digest, .init = make_dir, .fini = remove_dir);

static void check(const char *want, const char *where)
{
    char got[L2D_DIGEST_CHARS];
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_digest_file(got, file, where, &err), L2D_OK, "%s", err.msg);
    cr_assert_str_eq(got, want);
}

Test(import_digest, bytes)
{
    char got[L2D_DIGEST_CHARS];
    l2d_digest_bytes(got, "", 0);
    cr_assert_str_eq(got, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    l2d_digest_bytes(got, "abc", 3);
    cr_assert_str_eq(got, ABC);
}

// Puts a text into the one note that there must be.
static void write_note(const char *text)
{
    char command[256];
    snprintf(command, sizeof(command), "test $(ls %s | wc -l) = 1 && printf '%s' >%s/$(ls %s)",
             memory, text, memory, memory);
    cr_assert_eq(system(command), 0, "%s", command);
}

// A note with another digest shows that it is read instead of the file.
Test(import_digest, remembers_until_the_file_changes)
{
    struct stat st;
    sleep(SETTLES_S + 1);
    check(ABC, memory);
    write_note(ABD);
    check(ABD, memory);
    check(ABC, NULL);

    cr_assert_eq(stat(file, &st), 0);
    write_text(file, "123");                // of the same size, its time put back
    cr_assert_eq(utimensat(AT_FDCWD, file, (struct timespec[]) { st.st_atim, st.st_mtim }, 0), 0);
    check("a665a45920422f9d417e4867efdc4fb8a04a1f3fff1fa07e998e86f7f7a27ae3", memory);
}

// A change may come within the tick of the clock in which the file was read.
Test(import_digest, does_not_remember_what_is_new)
{
    check(ABC, memory);
    cr_assert_neq(access(memory, F_OK), 0);
}

Test(import_digest, damaged_and_impossible_memory)
{
    static const char *const notes[] = {
        "", "abc", (ABC "0"), "zz7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    };
    sleep(SETTLES_S + 1);
    check(ABC, memory);
    for (size_t i = 0; i < sizeof(notes) / sizeof(notes[0]); i++) {
        write_note(notes[i]);
        check(ABC, memory);
    }
    snprintf(memory, sizeof(memory), "%s/below", file);     // a file is no folder
    check(ABC, memory);
}

Test(import_digest, no_file)
{
    char got[L2D_DIGEST_CHARS];
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_digest_file(got, "/nowhere/file", memory, &err), L2D_EIO);
    cr_assert_str_eq(err.msg, "/nowhere/file: No such file or directory");
    cr_assert_eq(l2d_digest_file(got, dir, memory, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "is not a regular file"), "%s", err.msg);
}
