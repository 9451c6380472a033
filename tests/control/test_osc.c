// SPDX-License-Identifier: Apache-2.0
// OSC packets, written here byte by byte, and what they change.
#include <criterion/criterion.h>
#include <string.h>

#include "osc.h"

static const struct param rows[] = {
    { .name = "prompt", .kind = PARAM_TEXT, .doc = "", .max = 40 },
    { .name = "fade", .kind = PARAM_INT, .doc = "", .max = 250 },
    { .name = "amount", .kind = PARAM_REAL, .doc = "", .max = 1 },
    { .name = "freeze", .kind = PARAM_FLAG, .doc = "" },
    { .name = "show", .kind = PARAM_CHOICE, .doc = "", .choices = "drawn|source|frozen" },
    { .name = "rewarm", .kind = PARAM_ACTION, .doc = "" },
};
static const struct param_table table = { .row = rows, .num_rows = sizeof(rows) / sizeof(rows[0]) };

#define BYTES(text) (const uint8_t *) (text), sizeof(text) - 1
#define BUNDLE "#bundle\0" "\0\0\0\0\0\0\0\1"

struct packet { const uint8_t *data; size_t size; const char *token, *wanted; int code; };

static void check(const struct packet *p, size_t number)
{
    struct l2d_error err = { 0 };
    json_t *change = json_object();
    int rc = osc_read(change, &table, p->token, p->data, p->size, &err);
    cr_assert_eq(rc, p->code, "packet %zu: %d, %s", number, rc, err.msg);
    if (rc == L2D_OK) {
        char *text = json_dumps(change, JSON_COMPACT | JSON_SORT_KEYS);
        cr_assert_str_eq(text, p->wanted, "packet %zu: %s", number, text);
        free(text);
    } else {
        cr_assert(strstr(err.msg, p->wanted), "packet %zu: %s", number, err.msg);
    }
    json_decref(change);
}

Test(osc, read)
{
    const struct packet packets[] = {
        { BYTES("/prompt\0,s\0\0an ink drawing\0\0"), NULL, "{\"prompt\":\"an ink drawing\"}", 0 },
        { BYTES("/fade\0\0\0,i\0\0\0\0\0\14"), NULL, "{\"fade\":12}", 0 },
        { BYTES("/fade\0\0\0,i\0\0\377\377\377\376"), NULL, "{\"fade\":-2}", 0 },
        { BYTES("/fade\0\0\0,f\0\0\101\104\0\0"), NULL, "{\"fade\":12}", 0 },      // 12.25
        { BYTES("/fade\0\0\0,h\0\0\0\0\0\0\0\0\1\0"), NULL, "{\"fade\":256}", 0 },
        { BYTES("/amount\0,f\0\0\77\0\0\0"), NULL, "{\"amount\":0.5}", 0 },
        { BYTES("/amount\0,d\0\0\77\350\0\0\0\0\0\0"), NULL, "{\"amount\":0.75}", 0 },
        { BYTES("/amount\0,i\0\0\0\0\0\1"), NULL, "{\"amount\":1.0}", 0 },
        { BYTES("/freeze\0,T\0\0"), NULL, "{\"freeze\":true}", 0 },
        { BYTES("/freeze\0,F\0\0"), NULL, "{\"freeze\":false}", 0 },
        { BYTES("/freeze\0,f\0\0\77\200\0\0"), NULL, "{\"freeze\":true}", 0 },
        { BYTES("/freeze\0,i\0\0\0\0\0\0"), NULL, "{\"freeze\":false}", 0 },
        { BYTES("/show\0\0\0,s\0\0source\0\0"), NULL, "{\"show\":\"source\"}", 0 },
        { BYTES("/show\0\0\0,i\0\0\0\0\0\2"), NULL, "{\"show\":\"frozen\"}", 0 },
        { BYTES("/rewarm\0,\0\0\0"), NULL, "{\"rewarm\":true}", 0 },
        { BYTES("/rewarm\0"), NULL, "{\"rewarm\":true}", 0 },           // old senders: no types
        { BYTES("/rewarm\0,f\0\0\77\200\0\0"), NULL, "{\"rewarm\":true}", 0 },
        { BYTES("/rewarm\0,f\0\0\0\0\0\0"), NULL, "{}", 0 },
        { BYTES(BUNDLE), NULL, "{}", 0 },
        { BYTES(BUNDLE "\0\0\0\20/fade\0\0\0,i\0\0\0\0\0\3" "\0\0\0\14/freeze\0,T\0\0"), NULL,
          "{\"fade\":3,\"freeze\":true}", 0 },
        { BYTES("/a-token/freeze\0,T\0\0"), "a-token", "{\"freeze\":true}", 0 },
    };
    for (size_t i = 0; i < sizeof(packets) / sizeof(*packets); i++)
        check(&packets[i], i);
}

Test(osc, refused)
{
    const struct packet packets[] = {
        { BYTES(""), NULL, "not a message", L2D_EFORMAT },
        { BYTES("prompt\0\0,s\0\0a\0\0\0"), NULL, "not a message", L2D_EFORMAT },
        { BYTES("/prompt"), NULL, "not a message", L2D_EFORMAT },
        { BYTES("/prompt\0s\0\0\0a\0\0\0"), NULL, "without types", L2D_EFORMAT },
        { BYTES("/prompt\0,s\0\0abcd"), NULL, "/prompt: its value is cut", L2D_EFORMAT },
        { BYTES("/fade\0\0\0,s\0\0abcd"), NULL, "/fade: its value is cut", L2D_EFORMAT },
        { BYTES("/fade\0\0\0,s\0\0abc\0"), NULL, "takes nothing like ',s'", L2D_EINVAL },
        { BYTES("/prompt\0,i\0\0\0\0\0\1"), NULL, "kind text", L2D_EINVAL },
        { BYTES("/prompt\0,s\0\0\377\376\0\0"), NULL, "takes nothing like", L2D_EINVAL },
        { BYTES("/prompt\0"), NULL, "takes nothing like", L2D_EINVAL },
        { BYTES("/fade\0\0\0,i\0\0\0\0\0"), NULL, "/fade: its value is cut", L2D_EFORMAT },
        { BYTES("/fade\0\0\0,f\0\0\177\300\0\0"), NULL, "takes nothing like", L2D_EINVAL }, // NaN
        { BYTES("/fade\0\0\0,f\0\0\177\0\0\0"), NULL, "takes nothing like", L2D_EINVAL },   // 1e38
        { BYTES("/fade\0\0\0,b\0\0\0\0\0\0"), NULL, "takes nothing like", L2D_EINVAL },
        { BYTES("/show\0\0\0,i\0\0\0\0\0\3"), NULL, "kind choice", L2D_EINVAL },
        { BYTES("/show\0\0\0,i\0\0\377\377\377\377"), NULL, "kind choice", L2D_EINVAL },
        { BYTES("/nope\0\0\0,T\0\0"), NULL, "/nope: no such parameter", L2D_EINVAL },
        { BYTES("/x/fade\0,i\0\0\0\0\0\1"), NULL, "no such parameter", L2D_EINVAL },
        { BYTES("/freeze\0,T\0\0"), "a-token", "without the run's token", L2D_EINVAL },
        { BYTES("/a-toke/freeze\0\0,T\0\0"), "a-token", "without the run's token", L2D_EINVAL },
        { BYTES("/a-token\0\0\0\0,T\0\0"), "a-token", "without the run's token", L2D_EINVAL },
        { BYTES("#bundle\0\0\0\0\0"), NULL, "cut or too deep", L2D_EFORMAT },
        { BYTES(BUNDLE "\0\0\0\20/fade"), NULL, "bundle that is cut", L2D_EFORMAT },
        { BYTES(BUNDLE "\377\377\377\377"), NULL, "bundle that is cut", L2D_EFORMAT },
        { BYTES(BUNDLE "\0\0\0\14/freeze\0,T\0\0" "\0\0\0\4nope"), NULL, "not a message",
          L2D_EFORMAT },
    };
    for (size_t i = 0; i < sizeof(packets) / sizeof(*packets); i++)
        check(&packets[i], i);
}

Test(osc, bundles_within_bundles_end)
{
    uint8_t packet[20 * 40 + 12] = { 0 };
    for (int i = 0; i < 40; i++) {
        size_t at = (size_t) i * 20, left = sizeof(packet) - at - 20;
        memcpy(packet + at, "#bundle", 8);
        packet[at + 18] = (uint8_t) (left >> 8);
        packet[at + 19] = (uint8_t) left;
    }
    check(&(struct packet) { packet, sizeof(packet), NULL, "too deep", L2D_EFORMAT }, 0);
}
