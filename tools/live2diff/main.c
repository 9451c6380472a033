// SPDX-License-Identifier: Apache-2.0
// The live2diff program: finds the command and runs it. Each command is a file of its own.
#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "commands.h"

static const struct command *const commands[] = {
    &command_run, &command_ctl, &command_bench, &command_inspect, &command_import,
    &command_devices,
};
#define NUM_COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void print_help(FILE *file)
{
    fputs("Usage: live2diff COMMAND [options]\n\n"
          "Translates video, live, with a streaming diffusion model on any Vulkan 1.3 device.\n\n"
          "Commands:\n", file);
    for (size_t i = 0; i < NUM_COMMANDS; i++)
        fprintf(file, "  %-9s %s\n", commands[i]->name, commands[i]->summary);
    fputs("\nlive2diff COMMAND --help tells its options; live2diff --version the version.\n\n"
          "Exit status: 0 done, 1 failed (one line on standard error says why), 2 wrong usage,\n"
          "130 stopped by SIGINT or SIGTERM with outputs complete up to that moment.\n", file);
}

static int run_command(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    for (size_t i = 0; i < NUM_COMMANDS; i++)
        if (!strcmp(name, commands[i]->name))
            return commands[i]->main(argc - 1, argv + 1);
    if (!strcmp(name, "--version") || !strcmp(name, "-V")) {
        puts("live2diff " L2D_VERSION);
        return EXIT_OK;
    }
    if (!strcmp(name, "--help") || !strcmp(name, "-h") || !strcmp(name, "help")) {
        print_help(stdout);
        return EXIT_OK;
    }
    if (*name)
        fprintf(stderr, "live2diff: unknown command '%s': expected run, ctl, bench, inspect, "
                "import or devices (see live2diff --help)\n", name);
    else
        print_help(stderr);
    return EXIT_USAGE;
}

int main(int argc, char **argv)
{
    int code = run_command(argc, argv);
    bool failed = ferror(stdout);
    if ((fflush(stdout) != 0 || failed) && code == EXIT_OK) {
        fprintf(stderr, "live2diff: standard output: %s\n", strerror(errno));
        code = EXIT_FAILED;
    }
    return code;
}
