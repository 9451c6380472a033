// SPDX-License-Identifier: Apache-2.0
// See line_entry.h.
#include "video_io/line_entry.h"

#include <string.h>

// Bytes of the character that begins with this one; damaged UTF-8 is taken byte by byte.
static size_t char_bytes(const char *text)
{
    unsigned char first = (unsigned char) text[0];
    size_t want = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1, got = 1;
    while (got < want && ((unsigned char) text[got] & 0xc0) == 0x80)
        got++;
    return got;
}

void l2d_line_entry_open(struct l2d_line_entry *e, const char *text)
{
    l2d_line_entry_clear(e);
    e->open = true;
    l2d_line_entry_append(e, text);
}

void l2d_line_entry_append(struct l2d_line_entry *e, const char *text)
{
    while (*text) {
        size_t bytes = char_bytes(text);
        if (e->len + bytes >= sizeof(e->text))
            break;
        memcpy(e->text + e->len, text, bytes);
        if ((unsigned char) *text < 0x20 || *text == 0x7f)
            e->text[e->len] = ' ';
        e->len += bytes;
        text += bytes;
    }
    e->text[e->len] = '\0';
}

static void erase_char(struct l2d_line_entry *e)
{
    while (e->len > 0 && ((unsigned char) e->text[--e->len] & 0xc0) == 0x80)
        ;
    e->text[e->len] = '\0';
}

static bool ends_with_space(const struct l2d_line_entry *e)
{
    return e->len > 0 && e->text[e->len - 1] == ' ';
}

void l2d_line_entry_erase(struct l2d_line_entry *e, bool word)
{
    if (!word) {
        erase_char(e);
        return;
    }
    while (ends_with_space(e))
        erase_char(e);
    while (e->len > 0 && !ends_with_space(e))
        erase_char(e);
}

void l2d_line_entry_clear(struct l2d_line_entry *e)
{
    e->len = 0;
    e->text[0] = '\0';
}
