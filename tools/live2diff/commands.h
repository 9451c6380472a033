// SPDX-License-Identifier: Apache-2.0
// The program's commands; main.c has the table.
#ifndef L2D_PROGRAM_COMMANDS_H
#define L2D_PROGRAM_COMMANDS_H

#include "options.h"

extern const struct command command_run, command_bench, command_inspect, command_import,
                            command_devices, command_ctl;

#endif
