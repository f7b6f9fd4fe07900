/* What a run directory keeps of its job, so that the commands that read a run ask for nothing else: job.h5, and the tokenizer of its
 * data. */
#ifndef PIPER_KEEP_JOB_H
#define PIPER_KEEP_JOB_H

#include "base/dir.h"
#include "io/job.h"

#define KEEP_JOB       "job.h5"
#define KEEP_TOKENIZER "tokenizer" /* a directory with files as transformers has them */

/* Writes the job, whose paths are from the current directory, with such that are found from the run directory. The job has
 * these afterwards, and another digest. ST_IO. Serial. */
enum status keep_job(const struct dir *run, struct job *j, struct err *e);

/* Moves the job of a run directory to one inside of it, with its paths. A file that is no job is moved as it is. ST_IO. Serial. */
enum status keep_move(const struct dir *run, const struct dir *to, struct err *e);

/* Where the token file was made with a tokenizer: its file, in KEEP_TOKENIZER. One that is there alone follows the data; where there
 * is more (imported with weights) it stays, and *differs says whether it is another one. ST_IO. Serial. */
enum status keep_tokenizer(const struct dir *run, const char *tokens, bool *differs, struct err *e);

#endif
