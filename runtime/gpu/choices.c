// SPDX-License-Identifier: Apache-2.0
// See choices.h. The file is text: a line that says whose it is, a line for each shape, and a hash
// of all that.
#include "gpu/choices.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "gpu/vk.h"

#define FILE_MAX_BYTES (1u << 20)
#define MAX_CHOSEN 4096

static void *at_least(void *array, uint32_t *cap, uint32_t count, size_t size)
{
    if (count < *cap)
        return array;
    uint32_t want = *cap ? 2 * *cap : 64;
    void *bigger = realloc(array, want * size);
    *cap = bigger ? want : *cap;
    return bigger;
}

static struct l2d_chosen *entry_of(struct l2d_gpu *gpu, const struct l2d_shape *shape)
{
    struct l2d_choices *c = &gpu->choices;
    for (uint32_t i = 0; i < c->count; i++)
        if (!memcmp(&c->chosen[i].shape, shape, sizeof(*shape)))
            return &c->chosen[i];
    return NULL;
}

// NULL: there is no memory, or the table is full.
static struct l2d_chosen *add_entry(struct l2d_gpu *gpu, const struct l2d_shape *shape)
{
    struct l2d_choices *c = &gpu->choices;
    struct l2d_chosen *bigger = c->count == MAX_CHOSEN ? NULL
                              : at_least(c->chosen, &c->cap, c->count, sizeof(*c->chosen));
    if (!bigger)
        return NULL;
    c->chosen = bigger;
    c->chosen[c->count] = (struct l2d_chosen) { .shape = *shape };
    return &c->chosen[c->count++];
}

static const struct l2d_chosen *known_of_other_rows(const struct l2d_gpu *gpu,
                                                    const struct l2d_shape *shape)
{
    const struct l2d_choices *c = &gpu->choices;
    for (uint32_t i = 0; i < c->count; i++)
        if (c->chosen[i].known && c->chosen[i].shape.rows != shape->rows &&
            !memcmp(c->chosen[i].shape.of, shape->of, sizeof(shape->of)))
            return &c->chosen[i];
    return NULL;
}

void l2d_choices_use(struct l2d_gpu *gpu, bool use)
{
    gpu->choices.use = use;
    for (uint32_t i = 0; i < gpu->choices.count; i++)
        gpu->choices.chosen[i].flops = 0;
}

enum l2d_choice_found l2d_choices_find(struct l2d_gpu *gpu, const struct l2d_shape *shape,
                                       double flops, struct l2d_choice *choice)
{
    struct l2d_choices *c = &gpu->choices;
    if (c->is_forced) {
        *choice = c->forced;
        return L2D_CHOICE_FOUND;
    }
    if (!c->use)
        return L2D_CHOICE_NONE;
    struct l2d_chosen *e = entry_of(gpu, shape);
    if (!e)
        e = add_entry(gpu, shape);
    if (e)
        e->flops += flops;
    const struct l2d_chosen *known = e && e->known ? e : known_of_other_rows(gpu, shape);
    if (!known)
        return L2D_CHOICE_NONE;
    *choice = known->choice;
    return known == e ? L2D_CHOICE_FOUND : L2D_CHOICE_OTHER_ROWS;
}

int l2d_choices_set(struct l2d_gpu *gpu, const struct l2d_shape *shape,
                    const struct l2d_choice *choice, struct l2d_error *err)
{
    const struct l2d_chosen *other = known_of_other_rows(gpu, shape);
    if (other && (other->choice.family != choice->family || other->choice.parts != choice->parts))
        return l2d_error_set(err, L2D_EINVAL, "choice: another family or other parts than of %u "
                             "rows", other->shape.rows);
    struct l2d_chosen *e = entry_of(gpu, shape);
    if (!e)
        e = add_entry(gpu, shape);
    if (!e)
        return l2d_error_set(err, L2D_ENOMEM, "choice: out of memory");
    e->choice = *choice;
    e->known = true;
    return L2D_OK;
}

void l2d_choices_force(struct l2d_gpu *gpu, const struct l2d_choice *choice)
{
    gpu->choices.is_forced = choice != NULL;
    if (choice)
        gpu->choices.forced = *choice;
}

const struct l2d_chosen *l2d_choices_list(const struct l2d_gpu *gpu, uint32_t *count)
{
    *count = gpu->choices.count;
    return gpu->choices.chosen;
}

void l2d_choices_forget(struct l2d_gpu *gpu)
{
    gpu->choices.loaded = true;
    for (uint32_t i = 0; i < gpu->choices.count; i++)
        gpu->choices.chosen[i].known = false;
}

void l2d_choices_begin_again(struct l2d_gpu *gpu)
{
    if (!gpu->choices.again)
        l2d_choices_forget(gpu);
    gpu->choices.again = true;
}

// ---- the file

static uint64_t hash_shaders(void)
{
    uint64_t h = L2D_FNV1A;
    for (uint32_t i = 0; i < l2d_num_shaders; i++)
        h = l2d_vk_hash(h, l2d_shader_table[i].code, l2d_shader_table[i].size_bytes);
    return h;
}

static void hex(char *out, const uint8_t uuid[VK_UUID_SIZE])
{
    for (size_t i = 0; i < VK_UUID_SIZE; i++)
        snprintf(out + 2 * i, 3, "%02x", uuid[i]);
}

void l2d_choices_open(struct l2d_gpu *gpu, const char *dir)
{
    struct l2d_choices *c = &gpu->choices;
    VkPhysicalDeviceIDProperties id = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_ID_PROPERTIES };
    VkPhysicalDeviceProperties2 props = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &id };
    vkGetPhysicalDeviceProperties2(gpu->physical, &props);
    char device[2 * VK_UUID_SIZE + 1], driver[2 * VK_UUID_SIZE + 1];
    hex(device, id.deviceUUID);
    hex(driver, id.driverUUID);
    snprintf(c->owner, sizeof(c->owner), "live2diff choices 1 of %s %s %08x %s %016" PRIx64,
             device, driver, props.properties.driverVersion, l2d_tier_str(gpu->caps.tier),
             hash_shaders());
    if (*dir && strlen(dir) + 64 < sizeof(c->path))
        snprintf(c->path, sizeof(c->path), "%s/choices-%016" PRIx64 ".txt", dir,
                 l2d_vk_hash(L2D_FNV1A, c->owner, strlen(c->owner)));
}

void l2d_choices_close(struct l2d_gpu *gpu)
{
    free(gpu->choices.chosen);
}

bool l2d_choices_have_file(const struct l2d_gpu *gpu)
{
    return *gpu->choices.path != '\0';
}

// Numbers at *at, each followed by a blank or the line's end; *at moves behind them.
static bool read_numbers(const char **at, uint32_t *number, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        char *end;
        if (**at < '0' || **at > '9')
            return false;
        errno = 0;
        unsigned long long n = strtoull(*at, &end, 10);
        if (errno || n > UINT32_MAX || *end != (i + 1 < count ? ' ' : '\n'))
            return false;
        number[i] = (uint32_t) n;
        *at = end + 1;
    }
    return true;
}

// A hash that fits says that we have written all of it; what it holds is checked all the same.
static bool read_lines(struct l2d_gpu *gpu, const char *text, size_t size)
{
    const char *at = text;
    size_t owner = strlen(gpu->choices.owner);
    if (size < 18 || memchr(text, '\0', size) || text[size - 18] != '\n' ||
        strtoull(text + size - 17, NULL, 16) != l2d_vk_hash(L2D_FNV1A, text, size - 17) ||
        strncmp(text, gpu->choices.owner, owner) != 0 || text[owner] != '\n')
        return false;
    for (at += owner + 1; at < text + size - 17;) {
        struct l2d_shape shape;
        struct l2d_choice choice;
        uint32_t n[1 + L2D_SHAPE_WORDS + 3];
        if (!read_numbers(&at, n, COUNT_OF(n)))
            return false;
        shape.rows = n[0];
        memcpy(shape.of, n + 1, sizeof(shape.of));
        choice = (struct l2d_choice) { n[COUNT_OF(n) - 3], n[COUNT_OF(n) - 2],
                                       n[COUNT_OF(n) - 1] };
        if (l2d_choices_set(gpu, &shape, &choice, NULL) != L2D_OK)
            return false;
    }
    return true;
}

void l2d_choices_load(struct l2d_gpu *gpu)
{
    struct l2d_choices *c = &gpu->choices;
    char *text = NULL;
    size_t size = 0;
    if (c->loaded || !*c->path)
        return;
    c->loaded = true;
    if (l2d_file_read(&text, &size, c->path, FILE_MAX_BYTES, NULL) != L2D_OK)
        return;
    uint32_t before = c->count;
    if (!read_lines(gpu, text, size)) {
        c->count = before;
        l2d_log_print(&gpu->log, L2D_LOG_DEBUG, "%s: not ours, or damaged: ignored", c->path);
        l2d_choices_forget(gpu);
    }
    free(text);
}

static bool print_lines(const struct l2d_choices *c, FILE *f)
{
    fprintf(f, "%s\n", c->owner);
    for (uint32_t i = 0; i < c->count; i++) {
        const struct l2d_chosen *e = &c->chosen[i];
        if (!e->known)
            continue;
        fprintf(f, "%u", e->shape.rows);
        for (size_t w = 0; w < L2D_SHAPE_WORDS; w++)
            fprintf(f, " %u", e->shape.of[w]);
        fprintf(f, " %u %u %u\n", e->choice.family, e->choice.variant, e->choice.parts);
    }
    return fflush(f) == 0;
}

int l2d_choices_save(struct l2d_gpu *gpu, struct l2d_error *err)
{
    const struct l2d_choices *c = &gpu->choices;
    char *text = NULL, tmp[sizeof(c->path) + 48];
    size_t size = 0;
    if (!*c->path)
        return l2d_error_set(err, L2D_EIO, "choices: there is no cache folder");
    FILE *memory = open_memstream(&text, &size), *f = NULL;
    bool ok = memory && print_lines(c, memory);
    if (memory && fclose(memory) != 0)
        ok = false;
    snprintf(tmp, sizeof(tmp), "%s.%ld.%p", c->path, (long) getpid(), (void *) gpu);
    l2d_file_make_parents(tmp);
    if (ok)
        f = fopen(tmp, "wb");
    ok = f && fprintf(f, "%s%016" PRIx64 "\n", text, l2d_vk_hash(L2D_FNV1A, text, size)) > 0;
    if (f && fclose(f) != 0)
        ok = false;
    free(text);
    if (ok && rename(tmp, c->path) == 0)
        return L2D_OK;
    int rc = l2d_error_set(err, L2D_EIO, "%s: %s", c->path, strerror(errno));
    if (f)
        remove(tmp);
    return rc;
}
