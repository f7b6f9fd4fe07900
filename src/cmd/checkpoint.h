/* What the verbs of piper checkpoint share. */
#ifndef PIPER_CMD_CHECKPOINT_H
#define PIPER_CMD_CHECKPOINT_H

#include "cmd/options.h"
#include "io/checkpoint.h"

struct checkpoint_options {
    struct option_common common; /* of the operands the verb comes first */
    const char *out, *job, *tokenizer;
    uint64_t file_bytes;
};

/* A run folder, and the checkpoints in it. */
struct listing {
    struct dir run, folder; /* folder: open where there is a checkpoint */
    struct checkpoint_entries entries;
};

enum status listing_open(const char *path, struct listing *l, struct err *e);
void listing_close(struct listing *l);

enum status checkpoint_import(const struct checkpoint_options *o, struct err *e);
enum status checkpoint_export(const struct checkpoint_options *o, struct err *e);

#endif
