/* The run directory has what other commands, and another start, want to know of the run: its job, and the tokenizer of its data. */
#include "train/private.h"

#include "job/keep_job.h"

/* Checkpoints name the job as the run directory has it: with the same paths, from wherever and by whichever file it was started. */
static void take_digest(struct train *t, const uint8_t digest[SHA256_BYTES])
{
    if (t->has_saved && memcmp(t->saved.job_digest, digest, SHA256_BYTES) != 0)
        log_line(&t->log, "the job differs from that of the checkpoint; the model is the same");
    memcpy(t->job.digest, digest, SHA256_BYTES);
}

static enum status keep(struct train *t, struct job *j, struct err *e)
{
    bool differs;
    if (t->o->data)
        j->train.data = t->own_data;
    TRY(keep_job(t->dir, j, e));
    take_digest(t, j->digest);
    if (train__emulates(t))
        return ST_OK;
    TRY(keep_tokenizer(t->dir, t->data->at[0].path, &differs, e));
    if (differs)
        log_line(&t->log,
                 "warning: %s was made with another tokenizer than the one in %s/" KEEP_TOKENIZER
                 ", which piper generate and samples use",
                 t->data->at[0].path, t->dir->path);
    return ST_OK;
}

enum status train__keep_job(struct train *t, struct err *e)
{
    struct job kept;
    TRY(job_decode(t->job_name, t->image, t->image_bytes, &kept, e));
    enum status st = keep(t, &kept, e);
    job_release(&kept);
    mem_free(t->image);
    t->image = NULL;
    return st;
}
