// SPDX-License-Identifier: Apache-2.0
// Names of the files that a run makes by itself: live2diff-20260131-235959.png; -2, -3, ... for
// more of them in a second.
#ifndef L2D_PROGRAM_STAMPED_NAME_H
#define L2D_PROGRAM_STAMPED_NAME_H

#define STAMPED_NAME_BYTES 4096
#define STAMPED_FOLDER_BYTES (STAMPED_NAME_BYTES - 80)
#define STAMPED_NAME_TRIES 100

/**
 * The n-th name of this second, n from 1, below STAMPED_NAME_TRIES.
 * name     has room for STAMPED_NAME_BYTES
 * folder   NULL: the current one; at most STAMPED_FOLDER_BYTES with its end
 */
void stamped_name(char *name, const char *folder, int n, const char *extension);

#endif
