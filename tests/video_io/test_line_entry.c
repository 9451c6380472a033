// SPDX-License-Identifier: Apache-2.0
// Typing: whole characters only, whatever comes in.
#include "video_io/line_entry.h"

#include <criterion/criterion.h>
#include <string.h>

static struct l2d_line_entry e;

Test(line_entry, types_and_erases_whole_characters)
{
    l2d_line_entry_open(&e, "ink");
    cr_expect(e.open);
    l2d_line_entry_append(&e, " Gemälde 猫🐈");
    cr_expect_str_eq(e.text, "ink Gemälde 猫🐈");
    l2d_line_entry_erase(&e, false);
    cr_expect_str_eq(e.text, "ink Gemälde 猫");
    l2d_line_entry_erase(&e, false);
    cr_expect_str_eq(e.text, "ink Gemälde ");
    l2d_line_entry_erase(&e, true);
    cr_expect_str_eq(e.text, "ink ");
    l2d_line_entry_erase(&e, true);
    cr_expect_str_eq(e.text, "");
    l2d_line_entry_erase(&e, true);
    l2d_line_entry_erase(&e, false);
    cr_expect_eq(e.len, 0u);
    l2d_line_entry_append(&e, "again");
    l2d_line_entry_clear(&e);
    cr_expect_str_eq(e.text, "");
}

Test(line_entry, controls_become_spaces)
{
    l2d_line_entry_open(&e, "a\nb\tc\x7f" "d\x1b[31m");
    cr_expect_str_eq(e.text, "a b c d [31m");
}

Test(line_entry, is_bounded_by_whole_characters)
{
    l2d_line_entry_open(&e, "");
    for (int i = 0; i < L2D_LINE_ENTRY_BYTES; i++)
        l2d_line_entry_append(&e, "猫");            // 3 bytes: 1023 are 341 of them
    cr_expect_eq(e.len, (L2D_LINE_ENTRY_BYTES - 1) / 3 * 3u);
    cr_expect_eq(strlen(e.text), e.len);
    l2d_line_entry_append(&e, "xx");
    cr_expect_lt(e.len, (size_t) L2D_LINE_ENTRY_BYTES);
}

Test(line_entry, damaged_utf8_is_taken_by_the_byte)
{
    l2d_line_entry_open(&e, "a\xe7\x8c" "b\xff\xf0");   // cut characters
    cr_expect_str_eq(e.text, "a\xe7\x8c" "b\xff\xf0");
    for (int i = 0; i < 8; i++)
        l2d_line_entry_erase(&e, false);
    cr_expect_eq(e.len, 0u);
}
