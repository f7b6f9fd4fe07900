/* The subcommands: one a file, cmd_<name>.c; the table of them stands in main.c. */
#ifndef PIPER_COMMAND_H
#define PIPER_COMMAND_H

#include "base/status.h"

struct command {
    const char *name;
    const char *summary; /* a line of `piper --help` */
    /* argv[0] is the command's name. The exit code is -status, and main says the sentence in e, on rank 0; the world may be up then. */
    enum status (*run)(int argc, char **argv, struct err *e);
};

extern const struct command command_build, command_calibrate, command_plan, command_train, command_halt, command_data,
    command_trace, command_checkpoint, command_generate, command_eval, command_watch, command_plot, command_report,
    command_info, command_tune;

#endif
