// SPDX-License-Identifier: Apache-2.0
// See digest.h. What is remembered is a file of its own, named by the digest of what is known about
// the file: so processes that read and write at once do not meet.
#include "pipeline/import/digest.h"

#include <errno.h>
#include <limits.h>
#include <nettle/sha2.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/file.h"

#define READ_BYTES (1 << 20)
#define SETTLES_S 1             // after that a change shows in the times, however coarse the clock

static void finish(char out[L2D_DIGEST_CHARS], struct sha256_ctx *sha)
{
    uint8_t digest[SHA256_DIGEST_SIZE];
    sha256_digest(sha, sizeof(digest), digest);
    for (int i = 0; i < SHA256_DIGEST_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", digest[i]);
}

void l2d_digest_bytes(char out[L2D_DIGEST_CHARS], const void *data, size_t size_bytes)
{
    struct sha256_ctx sha;
    sha256_init(&sha);
    sha256_update(&sha, size_bytes, data);
    finish(out, &sha);
}

static int read_all(char out[L2D_DIGEST_CHARS], FILE *f, const char *path, struct l2d_error *err)
{
    uint8_t *data = malloc(READ_BYTES);
    struct sha256_ctx sha;
    size_t got;
    if (!data)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
    sha256_init(&sha);
    while ((got = fread(data, 1, READ_BYTES, f)) > 0)
        sha256_update(&sha, got, data);
    free(data);
    if (ferror(f))
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    finish(out, &sha);
    return L2D_OK;
}

// What tells one state of a file from another. returns its length.
static int describe(char *out, size_t size, const char *path, const struct stat *st)
{
    return snprintf(out, size, "%s %lld %lld.%09ld %lld.%09ld", path, (long long) st->st_size,
                    (long long) st->st_mtim.tv_sec, st->st_mtim.tv_nsec,
                    (long long) st->st_ctim.tv_sec, st->st_ctim.tv_nsec);
}

static bool recall(char out[L2D_DIGEST_CHARS], const char *note)
{
    char *text = NULL;
    size_t size;
    bool good = l2d_file_read(&text, &size, note, L2D_DIGEST_CHARS, NULL) == L2D_OK &&
                size == L2D_DIGEST_CHARS - 1 && strspn(text, "0123456789abcdef") == size;
    if (good)
        memcpy(out, text, L2D_DIGEST_CHARS);
    free(text);
    return good;
}

static void remember(char *note, const char *digest)
{
    char temp[PATH_MAX];
    if (snprintf(temp, sizeof(temp), "%s.%ld", note, (long) getpid()) >= (int) sizeof(temp))
        return;
    l2d_file_make_parents(temp);
    FILE *f = fopen(temp, "wb");
    bool good = f && fputs(digest, f) >= 0;
    good = f && fclose(f) == 0 && good;
    if (!good || rename(temp, note) != 0)
        unlink(temp);
}

// Whether a change from now on would show in the file's times.
static bool is_settled(const struct stat *st)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    time_t since_s = now.tv_sec - st->st_ctim.tv_sec;
    return since_s > SETTLES_S || (since_s == SETTLES_S && now.tv_nsec >= st->st_ctim.tv_nsec);
}

int l2d_digest_file(char out[L2D_DIGEST_CHARS], const char *path, const char *memory,
                    struct l2d_error *err)
{
    char before[PATH_MAX + 128], after[PATH_MAX + 128], resolved[PATH_MAX];
    char note[PATH_MAX], name[L2D_DIGEST_CHARS];
    struct stat st;
    FILE *f;
    if (!realpath(path, resolved))
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    int rc = l2d_file_open(&f, path, err);
    if (rc != L2D_OK)
        return rc;
    if (fstat(fileno(f), &st) != 0) {
        fclose(f);
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    }
    int len = describe(before, sizeof(before), resolved, &st);
    l2d_digest_bytes(name, before, (size_t) len);
    bool remembers = memory && snprintf(note, sizeof(note), "%s/%s", memory, name) <
                               (int) sizeof(note);
    if (remembers && recall(out, note)) {
        fclose(f);
        return L2D_OK;
    }
    rc = read_all(out, f, path, err);
    if (rc == L2D_OK && (fstat(fileno(f), &st) != 0 ||
                         describe(after, sizeof(after), resolved, &st) != len ||
                         memcmp(before, after, (size_t) len) != 0))
        rc = l2d_error_set(err, L2D_EIO, "%s: changed while it was read", path);
    fclose(f);
    if (rc == L2D_OK && remembers && is_settled(&st))
        remember(note, out);
    return rc;
}
