// SPDX-License-Identifier: Apache-2.0
// A driver whose memory is all one looks like a discrete card: device memory that the host does not
// see, memory of the host, and a small window on the card's, which comes first. For executables
// that are linked by l2d_test_as_discrete (CMakeLists.txt); without the validation layer.
#ifndef L2D_TESTS_DISCRETE_H
#define L2D_TESTS_DISCRETE_H

#include <stdbool.h>

enum { DISCRETE_WINDOW, DISCRETE_CARD, DISCRETE_HOST, DISCRETE_HOST_CACHED, DISCRETE_NUM_TYPES };

extern struct discrete {
    bool     is_full[DISCRETE_NUM_TYPES];       // refuses
    unsigned asked[DISCRETE_NUM_TYPES];
} discrete;

#endif
