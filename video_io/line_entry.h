// SPDX-License-Identifier: Apache-2.0
// A line of text being typed at its end: UTF-8, bounded, no control characters. Knows no window.
#ifndef L2D_VIDEO_IO_LINE_ENTRY_H
#define L2D_VIDEO_IO_LINE_ENTRY_H

#include <stdbool.h>
#include <stddef.h>

#define L2D_LINE_ENTRY_BYTES 1024   // with the terminator

struct l2d_line_entry {             // zeroed: closed and empty
    bool open;
    char text[L2D_LINE_ENTRY_BYTES];
    size_t len;
};

/** Begin with a text, of which whole characters up to the bound are taken. */
void l2d_line_entry_open(struct l2d_line_entry *entry, const char *text);

/** Append what was typed or pasted: whole characters while they fit; controls become spaces. */
void l2d_line_entry_append(struct l2d_line_entry *entry, const char *text);

/** Take the last character away, or the last word with the spaces behind it. */
void l2d_line_entry_erase(struct l2d_line_entry *entry, bool word);

void l2d_line_entry_clear(struct l2d_line_entry *entry);

#endif
