// SPDX-License-Identifier: Apache-2.0
// See file.h.
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int l2d_file_open(FILE **out, const char *path, struct l2d_error *err)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    const char *why = fd < 0 || fstat(fd, &st) != 0 ? strerror(errno)
                    : !S_ISREG(st.st_mode) ? "is not a regular file" : NULL;
    FILE *f = why ? NULL : fdopen(fd, "rb");
    if (f) {
        *out = f;
        return L2D_OK;
    }
    int rc = l2d_error_set(err, L2D_EIO, "%s: %s", path, why ? why : strerror(errno));
    if (fd >= 0)
        close(fd);
    return rc;
}

// Everything that f still has. The buffer grows as data comes, so that a pipe is read as well.
static int read_bytes(char **out, size_t *size_bytes, FILE *f, const char *path, size_t max_bytes,
                      struct l2d_error *err)
{
    char *data = NULL;
    size_t len = 0, room = 0, n;
    do {
        if (len == room) {
            room = room ? 2 * room : 4096;
            char *more = realloc(data, room + 1);
            if (!more) {
                free(data);
                return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", path);
            }
            data = more;
        }
        n = fread(data + len, 1, room - len, f);
        len += n;
    } while (n > 0 && len <= max_bytes);
    if (ferror(f) || len > max_bytes) {
        free(data);
        if (len <= max_bytes)
            return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
        return l2d_error_set(err, L2D_EFORMAT, "%s: larger than %zu bytes", path, max_bytes);
    }
    data[len] = '\0';
    *out = data;
    *size_bytes = len;
    return L2D_OK;
}

static int read_all(char **out, size_t *size_bytes, FILE *f, const char *path, size_t max_bytes,
                    struct l2d_error *err)
{
    int rc = read_bytes(out, size_bytes, f, path, max_bytes, err);
    fclose(f);
    return rc;
}

int l2d_file_read(char **out, size_t *size_bytes, const char *path, size_t max_bytes,
                  struct l2d_error *err)
{
    FILE *f;
    int rc = l2d_file_open(&f, path, err);
    return rc != L2D_OK ? rc : read_all(out, size_bytes, f, path, max_bytes, err);
}

int l2d_file_read_pipe(char **out, size_t *size_bytes, const char *path, size_t max_bytes,
                       struct l2d_error *err)
{
    FILE *f = fopen(path, "rb");
    if (!f)
        return l2d_error_set(err, L2D_EIO, "%s: %s", path, strerror(errno));
    return read_all(out, size_bytes, f, path, max_bytes, err);
}

bool l2d_file_is_same(const char *a, const char *b)
{
    struct stat x, y;
    return stat(a, &x) == 0 && stat(b, &y) == 0 && (S_ISREG(x.st_mode) || S_ISFIFO(x.st_mode)) &&
           x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

void l2d_file_cache_dir(char *dir, size_t size)
{
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    dir[0] = '\0';
    if (xdg && *xdg == '/')
        n = snprintf(dir, size, "%s/live2diff", xdg);
    else if (home && *home == '/')
        n = snprintf(dir, size, "%s/.cache/live2diff", home);
    if ((size_t) n >= size)
        dir[0] = '\0';
}

void l2d_file_make_parents(char *path)
{
    for (char *p = path + 1; *p; p++)
        if (*p == '/') {
            *p = '\0';
            mkdir(path, 0755);
            *p = '/';
        }
}
