/* Private to piper tune: what the command line says, what was found, and what is done with it. */
#ifndef PIPER_CMD_TUNE_H
#define PIPER_CMD_TUNE_H

#include "cmd/sources.h"
#include "tune/search.h"

struct tune_options {
    struct option_common common;
    struct source_options from;
    const char *machine, *topology, *device, *memory, *output, *csv;
    uint64_t ranks, best, limit, audit, measure;
    bool json;
};
struct tune_found {
    const struct tune_options *o;
    struct tune_search *search;
    const struct tune_audit *audit; /* NULL: none was asked for */
};

/* The table, what was dropped, and why the others lost; as JSON. */
void tune_print(const struct tune_found *f, FILE *to);
void tune_print_json(const struct tune_found *f, FILE *to);
/* Every candidate with its rule and its bound. ST_IO. */
enum status tune_write_csv(const struct tune_found *f, const char *path, struct err *e);
/* best-01.json and so on, frontier.svg and tune.json, in a directory that is made if it is missing. ST_IO. */
enum status tune_write_files(const struct tune_found *f, const char *dir, struct err *e);
/* The sentence for when nothing fits. ST_INPUT. */
enum status tune_nothing(const struct tune_found *f, struct err *e);
/* Trains the best `measure` by mpirun from their files in the directory, sets what was measured, and puts these in its order. */
enum status tune_measure(const struct tune_found *f, const char *dir, struct err *e);
/* The name of the file of a result: "best-01.json". */
enum { TUNE_NAME = 32 };
const char *tune_file_name(uint32_t place, char name[TUNE_NAME]);

#endif
