// SPDX-License-Identifier: Apache-2.0
// Textual inversions in every form that people have; tests/data/torch has those of torch.save(),
// made by tools/reference/make_torch_files.py with numbers k, k + 1/4, k + 2/4, ...
#include "pipeline/import/embedding.h"

#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "tensor/safetensors.h"

#define TORCH L2D_TEST_DATA "/torch/"

static char dir[] = "/tmp/l2d_embedding_XXXXXX";
static char path[64];
static const float values[80 * 8] = { 1, 1.25f, 1.5f };

static void make_dir(void)
{
    cr_assert_not_null(mkdtemp(dir));
    snprintf(path, sizeof(path), "%s/my style.v2.safetensors", dir);
}

static void remove_dir(void)
{
    unlink(path);
    rmdir(dir);
}

TestSuite(import_embedding, .init = make_dir, .fini = remove_dir);

// One or two tensors of the same shape.
static void write_file(const char *name, const char *second, int ndim, uint64_t rows,
                       uint64_t width)
{
    uint64_t count = ndim == 0 ? 1 : ndim == 1 ? width : rows * width;
    struct l2d_safetensors_entry e[2] = { { .name = name }, { .name = second } };
    struct l2d_error err = { 0 };
    cr_assert_leq(count, sizeof(values) / sizeof(values[0]));
    for (int i = 0; i < 2; i++) {
        e[i].dtype = L2D_SAFETENSORS_F32;
        e[i].ndim = ndim;
        e[i].dims[0] = ndim == 1 ? width : rows;
        e[i].dims[1] = width;
        e[i].dims[2] = 1;
        e[i].data = values;
        e[i].size_bytes = 4 * count;
    }
    cr_assert_eq(l2d_safetensors_write(path, e, second ? 2 : 1, &err), L2D_OK, "%s", err.msg);
}

static void check(const char *file, const char *given, const char *token, int32_t num_vectors,
                  float first)
{
    struct l2d_embedding e;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_embedding_read(&e, file, given, &err), L2D_OK, "%s", err.msg);
    cr_assert_str_eq(e.token, token);
    cr_assert_eq(e.num_vectors, num_vectors);
    cr_assert_eq(e.width, 8);
    cr_assert(e.values[0] == first && e.values[2] == first + 0.5f);
    l2d_embedding_finish(&e);
    cr_assert_null(e.values);
}

Test(import_embedding, reads)
{
    check(TORCH "embedding_a1111.pt", NULL, "painted", 3, 1);
    check(TORCH "embedding_a1111.pt", "other", "other", 3, 1);
    check(TORCH "embedding_old.pt", NULL, "embedding_old", 1, 2);
    check(TORCH "embedding_diffusers.bin", NULL, "<cat-toy>", 1, 3);
    write_file("emb_params", NULL, 2, 75, 8);
    check(path, NULL, "my style.v2", 75, 1);
    check(path, "<x>", "<x>", 75, 1);
    write_file("<cat>", NULL, 1, 1, 8);
    check(path, NULL, "<cat>", 1, 1);
    write_file("<cat>", NULL, 2, 2, 8);
    check(path, NULL, "<cat>", 2, 1);
}

static void refuse(const char *file, int code, const char *want)
{
    struct l2d_embedding e;
    struct l2d_error err = { 0 };
    cr_assert_eq(l2d_embedding_read(&e, file, NULL, &err), code, "%s: %s", want, err.msg);
    cr_assert(strstr(err.msg, want) && strstr(err.msg, file), "%s", err.msg);
    l2d_embedding_finish(&e);
}

Test(import_embedding, refuses)
{
    refuse("/nowhere.pt", L2D_EIO, "No such file");
    refuse(TORCH "malicious.pt", L2D_EFORMAT, "may be malicious");
    refuse(TORCH "zip.pt", L2D_EFORMAT, "it has 12 tensors that could be its vectors");
    write_file("a", "b", 2, 1, 8);
    refuse(path, L2D_EFORMAT, "it has 2 tensors");
    write_file("clip_l", "clip_g", 2, 1, 8);
    refuse(path, L2D_EUNSUPPORTED, "SDXL");
    write_file("emb_params", NULL, 2, 76, 8);
    refuse(path, L2D_EFORMAT, "of 76 vectors; 1 to 75");
    write_file("emb_params", NULL, 2, 0, 8);
    refuse(path, L2D_EFORMAT, "of 0 vectors");
    write_file("emb_params", NULL, 2, 8, 0);
    refuse(path, L2D_EFORMAT, "not of the shape");
    write_file("emb_params", NULL, 0, 1, 1);
    refuse(path, L2D_EFORMAT, "not of the shape");
    write_file("emb_params", NULL, 3, 2, 8);
    refuse(path, L2D_EFORMAT, "not of the shape");
}
