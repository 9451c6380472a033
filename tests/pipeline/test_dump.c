// SPDX-License-Identifier: Apache-2.0
// Files of activations: names, shapes and bytes as read back; frames that overlap as they do in a
// stream; what must be refused, and that nothing is left half done.
#include "pipeline/dump.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tensor/safetensors.h"

static char root[] = "/tmp/l2d_dump_XXXXXX";
static char dir[64];

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(root));
    snprintf(dir, sizeof(dir), "%s/dump", root);
}

static const char *file_path(const char *name)
{
    static char path[128];
    snprintf(path, sizeof(path), "%s/%s", dir, name);
    return path;
}

static const char *frame_path(unsigned frame)
{
    char name[40];
    snprintf(name, sizeof(name), "frame_%06u.safetensors", frame);
    return file_path(name);
}

static void remove_dir(void)
{
    for (unsigned f = 0; f < 40; f++)
        unlink(frame_path(f));
    unlink(file_path("text.safetensors"));
    rmdir(dir);
    unlink(dir);
    rmdir(root);
}

static bool exists(const char *path)
{
    return access(path, F_OK) == 0;
}

static struct l2d_dump *create(void)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = NULL;
    cr_assert_eq(l2d_dump_create(&dump, dir, &err), L2D_OK, "%s", err.msg);
    return dump;
}

// Adds [h,w,c] values that tell frame and step.
static void add(struct l2d_dump *dump, unsigned frame, int step, const char *name, int h, int w,
                int c)
{
    float data[64];
    cr_assert(h * w * c <= 64);
    for (int i = 0; i < h * w * c; i++)
        data[i] = 1000 * (float) frame + 100 * (float) step + (float) i;
    l2d_dump_add(dump, frame, step, name, data, h, w, c);
    memset(data, 0xff, sizeof(data));           // the dump has its own copy
}

static void check(const struct l2d_safetensors *st, unsigned frame, int step, const char *name,
                  int ndim, const uint64_t *dims)
{
    const struct l2d_safetensors_entry *e = l2d_safetensors_find(st, name);
    cr_assert_not_null(e, "%s is missing", name);
    cr_assert_eq(e->dtype, L2D_SAFETENSORS_F32);
    cr_assert_eq(e->ndim, ndim, "%s", name);
    cr_assert_arr_eq(e->dims, dims, (size_t) ndim * sizeof(*dims), "%s", name);
    for (uint64_t i = 0; i < e->size_bytes / 4; i++) {
        float v;
        memcpy(&v, (const char *) e->data + 4 * i, 4);
        cr_assert_eq(v, 1000 * (float) frame + 100 * (float) step + (float) i, "%s[%d]", name,
                     (int) i);
    }
}

TestSuite(dump, .init = make_dir, .fini = remove_dir);

Test(dump, files_say_what_was_added)
{
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    struct l2d_dump *dump = create();
    add(dump, 0, -1, "text_model.final_layer_norm", 1, 5, 4);
    add(dump, 3, -1, "latent.image", 2, 3, 4);
    add(dump, 3, 0, "unet.conv_in", 2, 3, 8);
    add(dump, 3, 1, "unet.conv_in", 2, 3, 8);
    add(dump, 3, -1, "image", 4, 5, 3);
    cr_assert_eq(l2d_dump_write(dump, 3, &err), L2D_OK, "%s", err.msg);

    cr_assert_eq(l2d_safetensors_open(&st, frame_path(3), &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_count(st), 4);
    check(st, 3, -1, "latent.image", 4, (uint64_t[]) { 1, 2, 3, 4 });
    check(st, 3, 0, "step.0/unet.conv_in", 4, (uint64_t[]) { 1, 2, 3, 8 });
    check(st, 3, 1, "step.1/unet.conv_in", 4, (uint64_t[]) { 1, 2, 3, 8 });
    check(st, 3, -1, "image", 4, (uint64_t[]) { 1, 4, 5, 3 });
    l2d_safetensors_close(&st);

    cr_assert_eq(l2d_safetensors_open(&st, file_path("text.safetensors"), &err), L2D_OK, "%s",
                 err.msg);
    cr_assert_eq(l2d_safetensors_count(st), 1);
    check(st, 0, -1, "text_model.final_layer_norm", 3, (uint64_t[]) { 1, 5, 4 });
    l2d_safetensors_close(&st);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    cr_assert_null(dump);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK);
}

// As in a batch: a warm-up at once, then every call works on several frames and one comes out.
Test(dump, frames_overlap)
{
    enum { STEPS = 8, FRAMES = 30 };
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    for (unsigned f = 0; f < 8; f++)
        add(dump, f, 0, "x", 1, 2, 3);
    for (unsigned f = 0; f < 8; f++)
        cr_assert_eq(l2d_dump_write(dump, f, &err), L2D_OK, "%s", err.msg);
    for (unsigned call = 8; call < FRAMES; call++) {
        for (int k = 0; k < STEPS; k++)
            if (call >= 8 + (unsigned) k)
                add(dump, call - (unsigned) k, k, "x", 1, 2, 3);
        if (call < 8 + STEPS - 1)
            continue;
        cr_assert_eq(l2d_dump_write(dump, call - (STEPS - 1), &err), L2D_OK, "%s", err.msg);
        cr_assert(exists(frame_path(call - (STEPS - 1))) && !exists(frame_path(call)));
    }
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 8; f < FRAMES; f++) {
        struct l2d_safetensors *st = NULL;
        cr_assert_eq(l2d_safetensors_open(&st, frame_path(f), &err), L2D_OK, "%s", err.msg);
        for (int k = 0; k < STEPS && f + (unsigned) k < FRAMES; k++) {
            char name[16];
            snprintf(name, sizeof(name), "step.%d/x", k);
            check(st, f, k, name, 4, (uint64_t[]) { 1, 1, 2, 3 });
        }
        l2d_safetensors_close(&st);
    }
}

Test(dump, write_takes_all_frames_before)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    for (unsigned f = 0; f < 5; f++)
        add(dump, 4 - f, -1, "image", 1, 1, 3);
    cr_assert_eq(l2d_dump_write(dump, 2, &err), L2D_OK, "%s", err.msg);
    for (unsigned f = 0; f < 5; f++)
        cr_assert_eq(exists(frame_path(f)), f <= 2, "frame %u", f);
    cr_assert_eq(l2d_dump_write(dump, 2, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    cr_assert(exists(frame_path(3)) && exists(frame_path(4)));
}

Test(dump, last_prompt_stays)
{
    struct l2d_error err = { 0 };
    struct l2d_safetensors *st = NULL;
    struct l2d_dump *dump = create();
    for (unsigned f = 0; f < 3; f++)
        add(dump, f, -1, "text_model.encoder.layers.0", 1, 3, 4);
    cr_assert_eq(l2d_dump_write(dump, 0, &err), L2D_OK, "%s", err.msg);
    add(dump, 5, -1, "text_model.encoder.layers.0", 1, 2, 4);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_safetensors_open(&st, file_path("text.safetensors"), &err), L2D_OK, "%s",
                 err.msg);
    check(st, 5, -1, "text_model.encoder.layers.0", 3, (uint64_t[]) { 1, 2, 4 });
    l2d_safetensors_close(&st);
    for (unsigned f = 0; f < 6; f++)
        cr_assert(!exists(frame_path(f)), "a prompt belongs to no frame");
}

// An error of add comes out of the next write, once; what it had gathered is let go of.
static void check_error(struct l2d_dump *dump, unsigned frame, int want, const char *text)
{
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_dump_write(dump, frame, &err), want, "%s", err.msg);
    cr_assert(strstr(err.msg, text), "%s", err.msg);
    cr_assert_eq(l2d_dump_write(dump, frame, &err), L2D_OK, "%s", err.msg);
}

Test(dump, memory_is_bounded)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    for (unsigned f = 0; f < 18; f++)
        add(dump, f, -1, "image", 1, 1, 3);
    check_error(dump, 20, L2D_EINVAL, "frame 16 begins while 16 others have not come out");
    add(dump, 21, -1, "image", 1, 1, 3);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    cr_assert(!exists(frame_path(0)) && exists(frame_path(21)));
}

Test(dump, refuses_frames_that_have_come_out)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    add(dump, 2, -1, "image", 1, 1, 3);
    cr_assert_eq(l2d_dump_write(dump, 2, &err), L2D_OK, "%s", err.msg);
    add(dump, 1, 1, "x0", 1, 1, 3);
    check_error(dump, 2, L2D_EINVAL, "frame 1 has been written, and now has step.1/x0");
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK, "%s", err.msg);
    cr_assert(exists(frame_path(2)) && !exists(frame_path(1)));
}

Test(dump, a_name_twice_is_an_error)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    add(dump, 0, 0, "x", 1, 1, 3);
    add(dump, 0, 0, "x", 1, 1, 3);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_EINVAL);
    cr_assert(strstr(err.msg, "step.0/x") && strstr(err.msg, "twice"), "%s", err.msg);
    cr_assert(!exists(frame_path(0)));
}

Test(dump, folders)
{
    struct l2d_error err = { 0 };
    struct l2d_dump *dump = create();
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_OK);
    dump = create();                            // is there already
    cr_assert_eq(rmdir(dir), 0);
    add(dump, 0, 0, "x", 1, 1, 3);
    cr_assert_eq(l2d_dump_finish(&dump, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "frame_000000.safetensors"), "%s", err.msg);

    char below[96];
    snprintf(below, sizeof(below), "%s/none/below", root);
    cr_assert_eq(l2d_dump_create(&dump, below, &err), L2D_EIO);
    cr_assert(strstr(err.msg, below) && !dump, "%s", err.msg);
    FILE *f = fopen(dir, "w");
    cr_assert(f && fclose(f) == 0);
    cr_assert_eq(l2d_dump_create(&dump, dir, &err), L2D_EIO);
    cr_assert(strstr(err.msg, "is not a folder") && !dump, "%s", err.msg);
}
