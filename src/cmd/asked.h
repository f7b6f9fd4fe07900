/* The model that piper generate and piper eval ask: a run directory (its newest checkpoint), a checkpoint file, or a directory that
 * transformers loads; and what lies beside it: a job file, a tokenizer, the tokens at which the model ends. */
#ifndef PIPER_CMD_ASKED_H
#define PIPER_CMD_ASKED_H

#include "cmd/checkpoint.h"
#include "io/job.h"
#include "speak/model.h"
#include "text/tokenizer.h"

struct asked {
    const char *from; /* as the user named it; borrowed */
    bool is_folder;   /* of transformers */
    struct chosen checkpoint;
    char *beside; /* the run directory, or where a checkpoint file lies; of transformers the directory itself; owned */
    struct job job;
    bool has_job;
};
/* job: the option --job, or NULL: job.h5 beside the checkpoint, if there is one. It ends with asked_close in any case. */
enum status asked_open(const char *from, const char *job, struct asked *a, struct err *e);
void asked_close(struct asked *a);

/* tokens: how long sequences of a directory of transformers are to be. */
enum status asked_load(const struct asked *a, uint32_t tokens, const struct speak_want *want, struct speak_model *m,
                       struct err *e);

/* The words of --dtype, NULL: as it is stored. */
extern const char *const asked_dtypes[];
enum ir_dtype asked_dtype(const char *word);

/* Where its tokenizer comes from, in this order: --tokenizer; beside it; the token files of the job, if they are there. *t NULL: none of
 * these, or a token file whose tokens are bytes. The caller ends with tokenizer_free. */
enum status asked_tokenizer(const struct asked *a, const char *option, const char *pattern, struct tokenizer **t,
                            struct err *e);
/* Adds the tokens that end a text: speak_ends() of what lies beside the model and of the job. */
enum status asked_ends(const struct asked *a, const struct tokenizer *t, struct token_ids *ends, struct err *e);

/* Sets the threads to compute with: as many as --threads says, else (0) as OMP_NUM_THREADS, else as this process has time for. */
enum status asked_threads(uint64_t option, struct err *e);

#endif
