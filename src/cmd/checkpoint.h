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

/* A checkpoint: the file that is named, or the newest one of a run directory. */
struct chosen {
    struct listing l;
    bool is_run;
    const char *path; /* borrowed */
};
/* ST_MISSING: a directory without any. It ends with chosen_close in any case. */
enum status chosen_open(const char *from, struct chosen *s, struct err *e);
void chosen_close(struct chosen *s);
/* That it is in; NULL: a path of the user's own. */
static inline const struct dir *chosen_folder(const struct chosen *s)
{
    return s->is_run ? &s->l.folder : NULL;
}

enum status checkpoint_import(const struct checkpoint_options *o, struct err *e);
enum status checkpoint_export(const struct checkpoint_options *o, struct err *e);

#endif
