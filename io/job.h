/* The job file: model graph, strategy, training settings and where they came from. Layout: piper-job(5). */
#ifndef PIPER_IO_JOB_H
#define PIPER_IO_JOB_H

#include "base/dir.h"
#include "io/sha256.h"
#include "ir/graph.h"
#include "ir/train.h"

enum { JOB_MAX_ATTACHMENTS = 256 };

/* A further text that belongs to the strategy (a csv schedule), under the name by which a directive calls it. */
struct job_attachment {
    const char *name, *text;
};

struct job {
    struct arena texts;    /* owns the texts below that readers and job_text() made */
    struct ir_graph graph; /* ready to be compiled: ir_graph_separate() where documents are apart */
    struct train_config train;
    const char *model_file, *model_text;                           /* as given, or with --set; "" when there was none */
    const char *strategy_file, *strategy_text, *strategy_expanded; /* as given; expanded: macros as primitives */
    struct job_attachments {
        VEC(struct job_attachment);
    } attachments;
    struct job_provenance {
        const char *version, *commit, *user, *host, *time, *command; /* time: ISO 8601, UTC */
    } provenance;
    uint8_t model_digest[SHA256_BYTES]; /* model and dtype: what must stay the same for a run to go on */
    uint8_t digest[SHA256_BYTES];       /* everything */
};

/* All texts "", default training settings, an empty graph. */
void job_init(struct job *j);
void job_release(struct job *j);
/* Copies a text into the job. */
const char *job_text(struct job *j, const char *text);
/* Freezes what train.freeze says, once the graph and the settings are there. ST_INPUT: a pattern that matches nothing, ir_freeze_check(). */
enum status job_freeze(struct job *j, const char *where, struct err *e);
/* Fills in provenance: this program, the user, the host, now, the command line. */
void job_sign(struct job *j, int argc, char *const *argv);
/* Text of an attachment, borrowed from the job; NULL when there is none of that name. */
const char *job_attachment(const struct job *j, const char *name);

/* Serial. Fills in the digests and writes the file under a temporary name, syncs, renames. ST_IO with the reason when
 * it cannot be written; ST_INPUT or ST_BUG when the job itself would not be read again. */
enum status job_write(const char *path, struct job *j, struct err *e);
/* The same in a directory of a run. */
enum status job_write_in(const struct dir *in, const char *name, struct job *j, struct err *e);

/* The same file in memory, for a job that is not in a file yet. *bytes: mem_free. `where` opens messages. */
enum status job_encode(const char *where, struct job *j, void **bytes, uint64_t *size, struct err *e);
/* job_read() of what job_encode() made, on this rank alone. */
enum status job_decode(const char *where, const void *bytes, uint64_t size, struct job *j, struct err *e);
/* The same of what it made on rank 0; other ranks give NULL and 0. */
enum status job_receive(const char *where, const void *bytes, uint64_t size, struct job *j, struct err *e);

/* Reads and validates the whole file; collective when MPI runs: rank 0 reads the bytes and broadcasts them, and every
 * rank decodes the same bytes in memory. So the file system sees one reader however many ranks there are, ranks cannot
 * see different versions, and no hostile byte meets a parallel file driver. *j is initialised here; on success the
 * caller ends with job_release, on failure it is released. ST_MISSING: no such file; ST_INPUT: file, object, found,
 * expected. */
enum status job_read(const char *path, struct job *j, struct err *e);

#endif
