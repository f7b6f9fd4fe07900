#include "cmd/asked.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include "base/parse.h"
#include "exec/compute.h"
#include "host/quota.h"
#include "job/data_path.h"
#include "job/keep_job.h"
#include "speak/tokens.h"

const char *const asked_dtypes[] = { "float32", "bfloat16", NULL };

enum ir_dtype asked_dtype(const char *word)
{
    return !word ? IR_COMPUTE : strcmp(word, asked_dtypes[0]) == 0 ? IR_F32 : IR_BF16;
}

/* ---- which model ------------------------------------------------------------------------------------------------- */

/* RUN of RUN/checkpoints/step-000100.h5, and of another file its folder. */
static char *folder_of(const char *file)
{
    static const char checkpoints[] = "/checkpoints";
    char *folder = mem_alloc(strlen(file) + sizeof "."), *slash;
    strcpy(folder, file);
    slash = strrchr(folder, '/');
    if (!slash)
        return strcpy(folder, ".");
    *slash = '\0'; /* of a file in / nothing is left, which with a slash behind it is right again */
    const size_t n = strlen(folder), end = sizeof checkpoints - 1;
    if (n > end && strcmp(folder + n - end, checkpoints) == 0)
        folder[n - end] = '\0';
    else if (strcmp(folder, checkpoints + 1) == 0)
        strcpy(folder, ".");
    return folder;
}

static enum status read_job(struct asked *a, const char *option, struct err *e)
{
    char path[DIR_PATH];
    if (!option && !dir_has_path(a->beside, KEEP_JOB, path))
        return ST_OK;
    const char *file = option ? option : path;
    TRY(job_read(file, &a->job, e));
    data_paths_beside(file, &a->job.train.data);
    data_paths_beside(file, &a->job.train.eval_data);
    a->has_job = true;
    return ST_OK;
}

enum status asked_open(const char *from, const char *job, struct asked *a, struct err *e)
{
    char path[DIR_PATH];
    *a = (struct asked){ .from = from };
    a->is_folder = dir_is_folder(from) && dir_has_path(from, "config.json", path);
    if (a->is_folder) {
        a->beside = mem_strdup(from);
        return job ? read_job(a, job, e) : ST_OK;
    }
    TRY(chosen_open(from, &a->checkpoint, e));
    a->beside = a->checkpoint.is_run ? mem_strdup(a->checkpoint.l.run.path) : folder_of(from);
    return read_job(a, job, e);
}

void asked_close(struct asked *a)
{
    if (!a->is_folder && a->from)
        chosen_close(&a->checkpoint);
    if (a->has_job)
        job_release(&a->job);
    mem_free(a->beside);
}

enum status asked_load(const struct asked *a, uint32_t tokens, const struct speak_want *want, struct speak_model *m,
                       struct err *e)
{
    if (a->is_folder)
        return speak_load_folder(a->from, tokens, want, m, e);
    return speak_load_checkpoint(chosen_folder(&a->checkpoint), a->checkpoint.path, want, m, e);
}

/* ---- tokenizer and ends ------------------------------------------------------------------------------------------- */

static const char *data_of(const struct asked *a)
{
    for (uint32_t i = 0; a->has_job && i < a->job.train.data.n; i++)
        if (access(a->job.train.data.at[i].path, R_OK) == 0)
            return a->job.train.data.at[i].path;
    return NULL;
}

/* Where import has put tokenizer and generation files. */
static const char *files_of(const struct asked *a, char folder[DIR_PATH])
{
    snprintf(folder, DIR_PATH, "%.4000s%s", a->beside, a->is_folder ? "" : "/" KEEP_TOKENIZER);
    return folder;
}

enum status asked_tokenizer(const struct asked *a, const char *option, const char *pattern, struct tokenizer **t,
                            struct err *e)
{
    char folder[DIR_PATH];
    *t = NULL;
    if (option)
        return tokenizer_open(option, pattern, t, e);
    TRY(speak_tokenizer_in(files_of(a, folder), pattern, t, e));
    return !*t && data_of(a) ? speak_tokenizer_of(data_of(a), pattern, t, e) : ST_OK;
}

enum status asked_ends(const struct asked *a, const struct tokenizer *t, struct token_ids *ends, struct err *e)
{
    char folder[DIR_PATH];
    return speak_ends(files_of(a, folder), a->has_job ? a->job.model_text : NULL, t, ends, e);
}

/* ---- threads ------------------------------------------------------------------------------------------------------ */

enum status asked_threads(uint64_t option, struct err *e)
{
    enum { MOST = 1024 };
    uint64_t n = option;
    struct quota q;
    if (option > MOST)
        return err_set(e, ST_USAGE, "--threads", "found %" PRIu64 ", expected at most %d", option, MOST);
    if (!n)
        TRY(parse_omp_threads(&n, e));
    if (!n) {
#ifdef _OPENMP
        n = (uint64_t)omp_get_num_procs();
#else
        n = 1;
#endif
        quota_read("", &q);
        if (q.cpus < (double)n)
            n = q.cpus > 1 ? (uint64_t)floor(q.cpus) : 1;
    }
    compute_cpu.set_threads((int)n);
    return ST_OK;
}
