// SPDX-License-Identifier: Apache-2.0
// Whether the host of a URL has an address. libav tells that only as an input/output error.
#ifndef L2D_VIDEO_IO_HOST_H
#define L2D_VIDEO_IO_HOST_H

#include "base/error.h"

/**
 * Ask the name service for the host of url, after libav could not reach it; blocks meanwhile.
 * returns  L2D_OK if it has an address, or url names none; otherwise L2D_EIO and the message.
 */
int l2d_host_check(const char *url, struct l2d_error *err);

#endif
