// SPDX-License-Identifier: Apache-2.0
// What names a place on the network, and what a server's or a name's refusal means: libav tells
// them as errors of input and permission.
#ifndef L2D_VIDEO_IO_HOST_H
#define L2D_VIDEO_IO_HOST_H

#include <stdbool.h>

#include "base/error.h"

/** Whether a name is of the form PROTOCOL://...; file:// and what exists are files. */
bool l2d_host_is_url(const char *name);

/**
 * Say better than libav's error why a URL cannot be opened, where that is known. After an error of
 * input and output asks the name service for the host; blocks meanwhile.
 * returns  L2D_OK if there is nothing to add; otherwise L2D_EIO and the message.
 */
int l2d_host_explain(const char *url, int averror, struct l2d_error *err);

#endif
