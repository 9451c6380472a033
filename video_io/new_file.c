// SPDX-License-Identifier: Apache-2.0
// See new_file.h.
#include "video_io/new_file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <libavutil/avstring.h>
#include <libavutil/mem.h>

#include "base/file.h"
#include "video_io/libav.h"
#include "video_io/writer.h"

static bool is_input(const struct l2d_new_file *f, const char *target, const char *path)
{
    const char *input = f->params->input;
    if (!input)
        return false;
    if (!strcmp(input, target))
        return true;                    // a pattern
    input = l2d_writer_path(input);
    return l2d_file_is_same(path, strcmp(input, "-") ? input : "/dev/stdin");
}

int l2d_new_file_check(const struct l2d_new_file *f, const char *target, const char *path,
                       struct l2d_error *err)
{
    struct stat s;
    if (stat(path, &s) != 0)
        return L2D_OK;
    if (is_input(f, target, path))
        return l2d_error_set(err, L2D_EINVAL, "%s: is the input; write to another file", f->name);
    if (S_ISREG(s.st_mode) && !f->params->overwrite)
        return l2d_error_set(err, L2D_EINVAL, "%s: exists already; %s", path,
                             f->params->joins ? "name another" : "--overwrite replaces it");
    return L2D_OK;
}

// What is in it already is of a run that broke off: a recording, maybe, that will not come again.
static int refuse_part(const struct l2d_new_file *f, int fd, struct l2d_error *err)
{
    struct stat s;
    if (fstat(fd, &s) != 0 || s.st_size == 0)
        return L2D_OK;
    if (is_input(f, f->part_name, f->part_name))
        return l2d_error_set(err, L2D_EINVAL, "%s: is the input; write to another file than %s",
                             f->part_name, f->name);
    if (!f->params->overwrite)
        return l2d_error_set(err, L2D_EINVAL, "%s: is there of a run that broke off; rename it, or "
                             "%s", f->part_name,
                             f->params->joins ? "name another" : "--overwrite replaces it");
    return L2D_OK;
}

// Where the bytes go: decides between NAME.part and direct writing, and locks the former.
int l2d_new_file_open(struct l2d_new_file *f, const char *target, struct l2d_error *err)
{
    struct stat s;
    bool exists = stat(target, &s) == 0;
    if (exists && S_ISDIR(s.st_mode))
        return l2d_error_set(err, L2D_EINVAL, "%s: is a directory; name a file in it", f->name);
    int rc = l2d_new_file_check(f, target, target, err);
    if (rc != L2D_OK || (exists && !S_ISREG(s.st_mode)))
        return rc;

    char *resolved = exists ? realpath(target, NULL) : NULL;
    f->final_name = av_strdup(resolved ? resolved : target);
    free(resolved);
    f->part_name = f->final_name ? av_asprintf("%s.part", f->final_name) : NULL;
    if (!f->part_name)
        return l2d_error_set(err, L2D_ENOMEM, "%s: out of memory", f->name);
    int fd = open(f->part_name, O_WRONLY | O_CREAT | O_CLOEXEC, 0666);
    if (fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) == 0)
        rc = refuse_part(f, fd, err);
    else if (fd >= 0 && errno == EWOULDBLOCK)
        rc = l2d_error_set(err, L2D_EIO, "%s: is being written already", f->name);
    else
        rc = l2d_libav_error(err, AVERROR(errno), "%s: cannot be written", f->name);
    if (rc == L2D_OK) {
        f->lock_fd = fd;
        return L2D_OK;
    }
    if (fd >= 0)
        close(fd);
    av_freep(&f->part_name);            // not ours to remove
    return rc;
}

// The file gets its name, and the rights of the one that it replaces. One that has come meanwhile
// stays, unless it may be replaced.
int l2d_new_file_complete(struct l2d_new_file *f, struct l2d_error *err)
{
    struct stat s;
    if (f->params->overwrite && stat(f->final_name, &s) == 0)
        chmod(f->part_name, s.st_mode & 07777);
    unsigned how = f->params->overwrite ? 0 : RENAME_NOREPLACE;
    int rc = renameat2(AT_FDCWD, f->part_name, AT_FDCWD, f->final_name, how);
    if (rc != 0 && (errno == EINVAL || errno == ENOSYS)) {  // not every file system can do that
        bool taken = !f->params->overwrite && access(f->final_name, F_OK) == 0;
        rc = taken ? -1 : rename(f->part_name, f->final_name);
        errno = taken ? EEXIST : errno;
    }
    if (rc != 0 && errno != EEXIST)
        return l2d_libav_error(err, AVERROR(errno), "%s: cannot be renamed to %s", f->part_name,
                               f->final_name);
    if (rc != 0)
        rc = l2d_error_set(err, L2D_EIO, "%s: is there now, which it was not before; what was "
                           "written stays as %s", f->name, f->part_name);
    av_freep(&f->part_name);            // not ours to remove any more
    return rc;
}

void l2d_new_file_finish(struct l2d_new_file *f, bool keep)
{
    if (f->part_name && !keep)
        unlink(f->part_name);
    if (f->lock_fd >= 0)
        close(f->lock_fd);
    av_freep(&f->part_name);
    av_freep(&f->final_name);
}
