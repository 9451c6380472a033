// SPDX-License-Identifier: Apache-2.0
// Where buffers take their memory from, by the lists of types that drivers have, and when one is
// full; transfers to memory that the host does not see, which the driver is made to have.
#include <criterion/criterion.h>
#include <stdlib.h>
#include <string.h>

#include "gpu/vk.h"
#include "support/discrete.h"

#define CARD VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT
#define HOST (VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT)
#define CACHED VK_MEMORY_PROPERTY_HOST_CACHED_BIT

static struct l2d_error err;
static struct l2d_gpu *gpu;

static void open_gpu(void)
{
    cr_assert_eq(l2d_gpu_create(&gpu, &(struct l2d_gpu_params) { .cache_dir = "" }, &err), L2D_OK,
                 "%s", err.msg);
}

static void close_gpu(void)
{
    l2d_gpu_destroy(&gpu);
}

TestSuite(buffer, .init = open_gpu, .fini = close_gpu);

// ---- types by preference

struct table {
    const char *name;
    struct { VkMemoryPropertyFlags flags; uint32_t heap; } type[8];
    uint64_t heap_mib[3];
    bool is_card[3];
    const char *want[3];                // of device, upload, readback: digits
};

static const struct table tables[] = {
    { "all in one", { { CARD | HOST | CACHED, 0 } }, { 2000 }, { true }, { "0", "0", "0" } },
    { "card and window", { { 0, 1 }, { CARD, 0 }, { HOST, 1 }, { HOST | CACHED, 1 },
                           { CARD | HOST, 2 } },
      { 80000, 96000, 256 }, { true, false, true }, { "14", "234", "324" } },
    { "window first", { { CARD | HOST, 1 }, { CARD, 0 }, { HOST | CACHED, 2 } },
      { 8000, 256, 16000 }, { true, true, false }, { "10", "20", "20" } },
    { "all of the card in sight", { { CARD, 0 }, { HOST, 1 }, { CARD | HOST, 0 },
                                    { HOST | CACHED, 1 } },
      { 16000, 16000 }, { true, false }, { "02", "132", "312" } },
    { "protected and uncached types", { { CARD | VK_MEMORY_PROPERTY_PROTECTED_BIT, 0 }, { CARD, 0 },
                                        { HOST | VK_MEMORY_PROPERTY_DEVICE_UNCACHED_BIT_AMD, 0 },
                                        { CARD | HOST, 0 } },
      { 4000 }, { true }, { "13", "3", "3" } },
    { "cached or coherent", { { CARD | HOST, 0 },
                              { CARD | VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | CACHED, 0 } },
      { 16000 }, { true }, { "01", "0", "10" } },
};

Test(buffer, types_by_preference)
{
    for (size_t t = 0; t < COUNT_OF(tables); t++) {
        VkPhysicalDeviceMemoryProperties m = { .memoryHeapCount = 3 };
        for (uint32_t i = 0; i < 3; i++)
            m.memoryHeaps[i] = (VkMemoryHeap) {
                tables[t].heap_mib[i] << 20,
                tables[t].is_card[i] ? VK_MEMORY_HEAP_DEVICE_LOCAL_BIT : 0,
            };
        for (uint32_t i = 0; i < 8; i++)
            m.memoryTypes[i] = (VkMemoryType) { tables[t].type[i].flags, tables[t].type[i].heap };
        m.memoryTypeCount = 8;
        for (uint32_t kind = 0; kind < 3; kind++) {
            uint32_t types[VK_MAX_MEMORY_TYPES];
            char got[9] = "";
            uint32_t n = l2d_vk_memory_types(&m, UINT32_MAX, (enum l2d_memory) kind, types);
            for (uint32_t i = 0; i < n && i < 8; i++)
                got[i] = (char) ('0' + types[i]);
            cr_expect_str_eq(got, tables[t].want[kind], "%s, kind %u: %s", tables[t].name, kind,
                             got);
        }
        uint32_t types[VK_MAX_MEMORY_TYPES];
        cr_expect_eq(l2d_vk_memory_types(&m, 0, L2D_MEMORY_UPLOAD, types), 0);
    }
}

// ---- the next type

static int make(struct l2d_buf **buf, enum l2d_memory memory)
{
    *buf = NULL;
    memset(discrete.asked, 0, sizeof(discrete.asked));
    return l2d_buf_create(buf, gpu, 3000, memory, "x", &err);
}

Test(buffer, where_one_type_is_full_the_next_is_asked)
{
    struct l2d_buf *buf;
    cr_assert_eq(make(&buf, L2D_MEMORY_UPLOAD), L2D_OK, "%s", err.msg);
    cr_expect_eq(discrete.asked[DISCRETE_HOST], 1);
    cr_expect_eq(discrete.asked[DISCRETE_WINDOW], 0);
    l2d_buf_destroy(&buf);

    discrete.is_full[DISCRETE_HOST] = true;
    cr_assert_eq(make(&buf, L2D_MEMORY_UPLOAD), L2D_OK, "%s", err.msg);
    cr_expect(buf->mapped && discrete.asked[DISCRETE_HOST_CACHED] == 1);
    l2d_buf_destroy(&buf);

    discrete.is_full[DISCRETE_HOST_CACHED] = true;
    cr_assert_eq(make(&buf, L2D_MEMORY_READBACK), L2D_OK, "%s", err.msg);
    cr_expect(buf->mapped && discrete.asked[DISCRETE_WINDOW] == 1);
    l2d_buf_destroy(&buf);

    discrete.is_full[DISCRETE_WINDOW] = true;
    cr_assert_eq(make(&buf, L2D_MEMORY_DEVICE), L2D_OK, "%s", err.msg);
    cr_expect(!buf->mapped && discrete.asked[DISCRETE_CARD] == 1);
    l2d_buf_destroy(&buf);
}

// The line says what is full; and nothing counts as taken.
Test(buffer, where_all_are_full_the_heap_is_named)
{
    struct l2d_buf *buf;
    memset(discrete.is_full, true, sizeof(discrete.is_full));
    cr_expect_eq(make(&buf, L2D_MEMORY_UPLOAD), L2D_EGPUMEM);
    cr_expect_not_null(strstr(err.msg, "GPU buffer x of 3.0 KiB: vkAllocateMemory: out of device "
                              "memory (-2); heap 2, of the device, has 256.0 MiB, of which this "
                              "process took 0.0"), "%s", err.msg);
    cr_expect_eq(make(&buf, L2D_MEMORY_DEVICE), L2D_EGPUMEM);
    cr_expect_eq(discrete.asked[DISCRETE_HOST] + discrete.asked[DISCRETE_HOST_CACHED], 0,
                 "memory of the host is not the device's");
    cr_expect_eq(l2d_gpu_taken(gpu).peak_bytes, 0);
    discrete.is_full[DISCRETE_CARD] = false;
    cr_assert_eq(make(&buf, L2D_MEMORY_DEVICE), L2D_OK, "%s", err.msg);
    cr_expect_eq(l2d_buf_write(buf, 0, "abcd", 4, &err), L2D_EGPUMEM);
    cr_expect_not_null(strstr(err.msg, "GPU buffer staging"), "%s", err.msg);
    l2d_buf_destroy(&buf);
    cr_expect_eq(l2d_gpu_taken(gpu).now_bytes, 0);
}

// ---- through staging

#define MOST (UINT64_C(21) << 20)

static unsigned char *noise(uint64_t size, uint32_t seed)
{
    unsigned char *p = malloc(size);
    for (uint64_t i = 0; p && i < size; i++) {
        seed = seed * 1664525 + 1013904223;
        p[i] = (unsigned char) (seed >> 24);
    }
    cr_assert_not_null(p);
    return p;
}

// Sizes below and above a piece, growing and not; what lies beside is left alone.
static void check_transfers(void)
{
    static const uint64_t sizes[] = { 4, 1000, 256, (4 << 20) - 4, 4 << 20, (4 << 20) + 4, 8 << 20,
                                      12, (17 << 20) + 20 };
    struct l2d_buf *buf = NULL;
    unsigned char *from = noise(MOST, 1), *want = noise(MOST, 2), *got = malloc(MOST);
    cr_assert_eq(l2d_buf_create(&buf, gpu, MOST, L2D_MEMORY_DEVICE, "x", &err), L2D_OK);
    cr_assert_null(buf->mapped);
    cr_assert_eq(l2d_buf_write(buf, 0, want, MOST, &err), L2D_OK, "%s", err.msg);
    for (size_t i = 0; i < COUNT_OF(sizes); i++) {
        uint64_t at = 4 * (i * 12345 + 1);
        cr_assert_eq(l2d_buf_write(buf, at, from + i, sizes[i], &err), L2D_OK, "%s", err.msg);
        memcpy(want + at, from + i, sizes[i]);
        memset(got, 0, MOST);
        cr_assert_eq(l2d_buf_read(buf, at, got, sizes[i], &err), L2D_OK, "%s", err.msg);
        cr_expect_eq(memcmp(got, from + i, sizes[i]), 0, "size %d", (int) sizes[i]);
    }
    cr_assert_eq(l2d_buf_read(buf, 0, got, MOST, &err), L2D_OK, "%s", err.msg);
    cr_expect_eq(memcmp(got, want, MOST), 0);
    uint64_t staging = l2d_gpu_taken(gpu).now_bytes - buf->vk->taken_bytes;
    cr_expect_eq(staging, l2d_buf_copy_bytes(gpu), "%d", (int) staging);
    l2d_buf_destroy(&buf);
    free(from);
    free(want);
    free(got);
}

Test(buffer, transfers_of_any_size)
{
    check_transfers();
}

Test(buffer, transfers_by_way_of_incoherent_memory)
{
    close_gpu();
    discrete.is_incoherent = true;
    open_gpu();
    check_transfers();
}

// Sent pieces are on their way while their source is changed, and all are there in the end.
Test(buffer, sends_do_not_see_later_changes)
{
    struct l2d_buf *buf = NULL;
    const uint64_t each = 100 << 10, count = 100;
    unsigned char *src = malloc(each), *got = malloc(each * count);
    cr_assert_eq(l2d_buf_create(&buf, gpu, each * count, L2D_MEMORY_DEVICE, "x", &err), L2D_OK);
    for (uint64_t i = 0; i < count; i++) {
        memset(src, (int) i + 1, each);
        cr_assert_eq(l2d_buf_send(buf, i * each, src, each, &err), L2D_OK, "%s", err.msg);
    }
    memset(src, 0xff, each);
    cr_assert_eq(l2d_buf_sent(gpu, &err), L2D_OK, "%s", err.msg);
    cr_assert_eq(l2d_buf_read(buf, 0, got, each * count, &err), L2D_OK, "%s", err.msg);
    for (uint64_t i = 0; i < each * count; i++)
        cr_assert_eq(got[i], i / each + 1, "byte %d", (int) i);
    l2d_buf_destroy(&buf);
    free(src);
    free(got);
}
