/* Options of the subcommands: one table a command, from which parsing, messages and --help are made.
 *
 * A long option takes its value as `--name value` or `--name=value`, a short one as `-o value` or `-ovalue`. `--` ends the
 * options; a lone `-` is an operand. An option that is not in the table is a mistake, answered with the nearest one. */
#ifndef PIPER_OPTIONS_H
#define PIPER_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"
#include "base/status.h"

enum option_kind {
    OPTION_FLAG,   /* bool: set to true */
    OPTION_TEXT,   /* const char *: borrowed from argv */
    OPTION_NUMBER, /* uint64_t: decimal, at least `least` */
    OPTION_CHOICE, /* const char *: one of `words` */
    OPTION_MAYBE,  /* const char *: "", or with --name=value one of `words` */
    OPTION_LIST,   /* struct option_list: may be given several times */
};

struct option_list {
    VEC(const char *); /* borrowed from argv */
};

struct option {
    const char *name; /* "output"; NULL ends the table */
    char letter;      /* 'o'; 0: has none */
    enum option_kind kind;
    size_t
        at; /* offset, in what the command reads into, of a value of the kind; it stays when the option is not given */
    const char *value; /* for --help: "RUNDIR"; NULL for a flag */
    const char *help;
    uint64_t least;           /* OPTION_NUMBER */
    const char *const *words; /* OPTION_CHOICE and _MAYBE, ends with NULL */
};

/* Rows of the table that { .name = NULL } ends. */
#define FLAG(name, letter, at, help)                       \
    {                                                      \
        name, letter, OPTION_FLAG, at, NULL, help, 0, NULL \
    }
#define TEXT(name, letter, at, value, help)                 \
    {                                                       \
        name, letter, OPTION_TEXT, at, value, help, 0, NULL \
    }
#define NUMBER(name, letter, at, value, least, help)              \
    {                                                             \
        name, letter, OPTION_NUMBER, at, value, help, least, NULL \
    }
#define CHOICE(name, letter, at, value, words, help)           \
    {                                                          \
        name, letter, OPTION_CHOICE, at, value, help, 0, words \
    }
#define MAYBE(name, letter, at, value, words, help)           \
    {                                                         \
        name, letter, OPTION_MAYBE, at, value, help, 0, words \
    }
#define LIST(name, letter, at, value, help)                 \
    {                                                       \
        name, letter, OPTION_LIST, at, value, help, 0, NULL \
    }

struct option_usage {
    const char *command;  /* "train" */
    const char *synopsis; /* "job.h5 -o RUNDIR [options]" */
    const char *about;    /* a sentence or two for --help */
    const struct option *options;
    uint32_t min_operands, max_operands; /* UINT32_MAX: any number */
};

/* What a command reads into begins with this. */
struct option_common {
    struct option_list operands; /* vec_free */
    bool help;                   /* --help was there: it has been printed, and the command is to return ST_OK */
};

/* Reads argv[1..argc). ST_USAGE with a sentence. */
enum status options_parse(const struct option_usage *u, int argc, char **argv, void *into, struct err *e);

#endif
