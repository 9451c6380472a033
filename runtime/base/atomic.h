// SPDX-License-Identifier: Apache-2.0
// Atomic types in headers that C++ reads too, where <stdatomic.h> is there from C++23 on alone.
#ifndef L2D_BASE_ATOMIC_H
#define L2D_BASE_ATOMIC_H

#ifdef __cplusplus
#include <atomic>

using std::atomic_bool;
using std::atomic_int;
#else
#include <stdatomic.h>
#endif

#endif
