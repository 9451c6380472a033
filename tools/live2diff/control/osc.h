// SPDX-License-Identifier: Apache-2.0
// Open Sound Control 1.0 packets as changes of parameters, in the form that params_apply takes:
//
//     /prompt ,s "an ink drawing"      /fade ,i 12      /amount ,f 0.5      /freeze ,T
//     /show ,s "source"   or ,i 1      /rewarm          or ,f 1; 0, a button's release: nothing
//
// With a token the address begins with it: /TOKEN/prompt. A bundle is one change; its time is not
// waited for. Bytes in, JSON out.
#ifndef L2D_CONTROL_OSC_H
#define L2D_CONTROL_OSC_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "params.h"

/**
 * Read a packet. Numbers are turned into what their parameter is, since controllers send floats for
 * all there is; params_apply checks their range.
 * change   an object that receives names and values; what it has after an error is of no use
 * returns  L2D_OK; L2D_EFORMAT: no packet; L2D_EINVAL: no such parameter, a wrong type, no token;
 *          L2D_ENOMEM.
 */
int osc_read(json_t *change, const struct param_table *table, const char *token,
             const uint8_t *data, size_t size, struct l2d_error *err);

#endif
