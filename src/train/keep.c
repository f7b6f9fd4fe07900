/* The run directory has what other commands, and another start, want to know of the run: its job, and the tokenizer of its data. */
#include "train/private.h"

#include "job/keep_job.h"

static enum status keep(struct train *t, struct job *j, struct err *e)
{
    bool differs;
    if (t->o->data)
        j->train.data = t->own_data;
    TRY(keep_job(t->dir, j, e));
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
