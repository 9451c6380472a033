// SPDX-License-Identifier: Apache-2.0
// See inspect_file.h.
#include "inspect_file.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pipeline/config.h"
#include "pipeline/import/kind.h"
#include "pipeline/import/names.h"
#include "pipeline/models/unet.h"

static void print_types(const struct l2d_checkpoint *file)
{
    uint64_t values[L2D_SAFETENSORS_NUM_DTYPES] = { 0 };
    for (size_t i = 0; i < l2d_checkpoint_count(file); i++) {
        const struct l2d_checkpoint_tensor *t = l2d_checkpoint_get(file, i);
        values[t->dtype] += t->count;
    }
    for (int d = 0; d < L2D_SAFETENSORS_NUM_DTYPES; d++)
        if (values[d])
            printf("  %-8s %12.3f million values\n",
                   l2d_safetensors_dtype_str((enum l2d_safetensors_dtype) d),
                   (double) values[d] / 1e6);
}

static void print_tensor(const struct l2d_checkpoint_tensor *t)
{
    printf("    %-8s [", l2d_safetensors_dtype_str(t->dtype));
    for (int i = 0; i < t->ndim; i++)
        printf("%s%" PRIu64, i ? "," : "", t->dims[i]);
    printf("] %s\n", t->name);
}

// ---- against the architecture -------------------------------------------------------------------

struct group { const char *name, *part; uint32_t wanted, found, other_shape; char missing[256]; };

struct comparison {
    const struct l2d_checkpoint *file;
    struct group group[3];              // motion, mapping, and all the rest
};

static void compare(void *user, const char *name, int ndim, const int64_t *dims, bool optional)
{
    struct comparison *c = user;
    struct group *g = c->group;
    while (*g->part && !strstr(name, g->part))
        g++;
    const struct l2d_checkpoint_tensor *t = l2d_names_find(c->file, L2D_PART_UNET, name);
    if (optional && !t)
        return;
    g->wanted++;
    if (!t) {
        if (!*g->missing)
            snprintf(g->missing, sizeof(g->missing), "%s", name);
        return;
    }
    g->found++;
    g->other_shape += !l2d_safetensors_shape_fits(t->ndim, t->dims, ndim, dims);
}

// What of Live2Diff's full-size UNet the file has.
static int print_comparison(const struct l2d_checkpoint *file, struct l2d_error *err)
{
    static const struct l2d_unet_config sd15 = {
        .in_channels = 4, .out_channels = 4, .num_levels = 4,
        .block_out_channels = { 320, 640, 1280, 1280 }, .layers_per_block = 2,
        .down_attention = { true, true, true, false },
        .up_attention = { false, true, true, true }, .num_attention_heads = 8,
        .norm_num_groups = 32, .cross_attention_dim = 768, .flip_sin_to_cos = true,
        .cond_mapping = true, .num_cond_channels = 4, .cond_mapping_channels = { 16, 32, 96, 256 },
        .motion = { true, true, true, true },
        .motion_kwargs = { 8, 1, 2, true, 24 },
    };
    struct comparison c = { .file = file, .group = {
        { .name = "motion", .part = ".motion_modules." },
        { .name = "depth mapping", .part = "flow_conv_in." },
        { .name = "spatial", .part = "" },
    } };
    static struct l2d_unet unet;
    struct l2d_weights *ld = NULL;
    int rc = l2d_weights_create(&ld, NULL, L2D_F32, err);
    if (rc != L2D_OK)
        return rc;
    l2d_weights_list(ld, compare, &c);
    l2d_unet_load(&unet, ld, &sd15);
    l2d_unet_finish(&unet);
    l2d_weights_destroy(&ld);
    printf("  of the full-size Live2Diff UNet:\n");
    for (int i = 0; i < 3; i++) {
        const struct group *g = &c.group[i];
        printf("    %-14s %4u of %u tensors", g->name, g->found, g->wanted);
        if (g->other_shape)
            printf(", %u of another shape", g->other_shape);
        if (g->found > 0 && g->found < g->wanted)
            printf("; missing, for instance: %s", g->missing);
        putchar('\n');
    }
    return L2D_OK;
}

int inspect_file(const char *path, bool tensors, struct l2d_error *err)
{
    struct l2d_checkpoint *file = NULL;
    int rc = l2d_checkpoint_open(&file, path, err);
    if (rc != L2D_OK)
        return rc;
    struct l2d_kind kind = l2d_kind_of(file);
    printf("%s: %s (%s, %zu tensors)\n", path, kind.what, l2d_checkpoint_kind(file),
           l2d_checkpoint_count(file));
    print_types(file);
    if (kind.has_unet)
        rc = print_comparison(file, err);
    if (kind.use)
        printf("  use it with: live2diff import %s\n", kind.use);
    for (size_t i = 0; tensors && i < l2d_checkpoint_count(file); i++)
        print_tensor(l2d_checkpoint_get(file, i));
    l2d_checkpoint_close(&file);
    return rc;
}
