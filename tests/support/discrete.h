// SPDX-License-Identifier: Apache-2.0
// A driver whose memory is all one looks like a discrete card: device memory that the host does not
// see, memory of the host, and a small window on the card's, which comes first. Cached memory is a
// copy, which is only as new as the last flush or invalidation, where is_incoherent says so before
// the gpu is created. For executables
// that are linked by l2d_test_as_discrete (CMakeLists.txt); without the validation layer.
#ifndef L2D_TESTS_DISCRETE_H
#define L2D_TESTS_DISCRETE_H

#include <stdbool.h>

enum { DISCRETE_WINDOW, DISCRETE_CARD, DISCRETE_HOST, DISCRETE_HOST_CACHED, DISCRETE_NUM_TYPES };

extern struct discrete {
    bool     is_full[DISCRETE_NUM_TYPES];       // refuses
    unsigned asked[DISCRETE_NUM_TYPES];
    bool     is_incoherent;                     // DISCRETE_HOST_CACHED
} discrete;

#endif
