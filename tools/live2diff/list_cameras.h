// SPDX-License-Identifier: Apache-2.0
// The cameras of this machine, printed for `live2diff devices`.
#ifndef L2D_PROGRAM_LIST_CAMERAS_H
#define L2D_PROGRAM_LIST_CAMERAS_H

/** A line each, with the mode that -i would choose. */
void list_cameras(void);

#endif
