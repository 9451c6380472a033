// SPDX-License-Identifier: Apache-2.0
// All of the installed library, for C11 and for C++ from C++11 on. In C each of its headers can be
// included by itself; C++ needs this one, since theirs are written for C.
#ifndef LIVE2DIFF_H
#define LIVE2DIFF_H

#include "base/atomic.h"

#ifdef __cplusplus
extern "C" {
#endif

#include "base/queue.h"
#include "base/thread.h"
#include "pipeline/dump.h"
#include "pipeline/stream.h"
#if __has_include("video_io/reader.h")      // not where it was built without video
#include "video_io/display.h"
#include "video_io/libav.h"
#include "video_io/reader.h"
#include "video_io/writer.h"
#endif

#ifdef __cplusplus
}
#endif

#endif
