/* Checkpoints: one HDF5 file each with logical tensors, whatever strategy wrote it. Layout: piper-checkpoint(5).
 *
 * How a file is made: rank 0 makes the whole HDF5 structure with room for every tensor (contiguous, allocated, not
 * filled) in memory, once a run, and tells the ranks where each tensor lies; for each file rank 0 writes a copy of it,
 * and all ranks write their pieces there at once with plain pwrite, hashing as they go, and sync; the hashes are summed;
 * rank 0 writes them, syncs, renames, syncs the folder.
 * The result is an ordinary HDF5 file. So there is no collective HDF5 metadata (thousands of datasets cost what one
 * process needs to make them), a piece needs no hyperslab, a full disk is answered with the system's own words, and a
 * writer thread can do its share without MPI or HDF5.
 *
 * All functions but those marked are collective over the world, and all ranks return the same status. */
#ifndef PIPER_IO_CHECKPOINT_H
#define PIPER_IO_CHECKPOINT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/dir.h"
#include "io/sha256.h"
#include "ir/graph.h"

/* What the samples were taken from. */
enum { CHECKPOINT_NAME = 128, CHECKPOINT_MOST_DATA = 32 };
struct checkpoint_data {
    uint32_t n;
    struct checkpoint_source {
        char name[CHECKPOINT_NAME]; /* the file's, without folder and ending; UTF-8, cut to size */
        uint64_t tokens;
        uint8_t sample[SHA256_BYTES]; /* tokens_sample() */
        double weight;                /* in a blend (data_blend_init()); 0: there is none */
        int64_t offset;               /* of a blend: so much further than its weights say in the order of this source */
    } at[CHECKPOINT_MOST_DATA];
};
/* From a path. */
void checkpoint_source_name(const char *path, char name[CHECKPOINT_NAME]);

struct checkpoint_info {
    uint64_t step;   /* steps done */
    uint64_t sample; /* data position: global index of the next sample, = step*batch while the batch stays the same */
    uint64_t seed;   /* of the generators: initialisation and data order are functions of it */
    uint64_t
        updates; /* made since the optimizer's state was zero; less than step where updates were left out. Version 1: step */
    struct checkpoint_data data; /* none: not known */
    char optimizer[16]; /* a name of ir/optimizer.c, with as many of /optimizer/m and v; "none": weights alone */
    uint8_t job_digest[SHA256_BYTES], model_digest[SHA256_BYTES];
    char build[96];  /* program, version, commit */
    char beyond[32]; /* a group that this build only knows by name: "" none; such a checkpoint is not gone on from */
    char time[32];   /* of writing, ISO 8601, UTC; filled in by the writer */
};
uint32_t checkpoint_moments(const struct checkpoint_info *info); /* 0; 1: m; 2: m and v */

/* Elements [first, first + count) of parameter `param` of the graph, row-major over the logical tensor. m and v are
 * NULL where there is no such moment; of state and of frozen parameters the file has zeros. The data are only read, or, by the functions that read a file, written. */
struct checkpoint_piece {
    uint32_t param;
    uint64_t first, count;
    float *data, *m, *v;
};

/* A file in parts: begin and end are collective; put (any number of pieces, one or many times) and sync are this rank's
 * own. The caller sees to it that the pieces of all ranks cover every element once. end takes the status of this rank's
 * puts and sync, agrees, gives the file its name or removes it, and frees the writer. ST_IO with the reason when the file
 * cannot be written; then no file of that name is made or changed. */
struct checkpoint_writer;
enum status checkpoint_begin(const char *path, const struct checkpoint_info *info, const struct ir_graph *g,
                             struct checkpoint_writer **w, struct err *e);
enum status checkpoint_put(struct checkpoint_writer *w, const struct checkpoint_piece *piece, struct err *e);
enum status checkpoint_sync(struct checkpoint_writer *w, struct err *e);
enum status checkpoint_end(struct checkpoint_writer *w, enum status mine, struct err *e);

/* Reads pieces: any partition, overlaps and gaps are allowed. The file is verified whole before anything is written to
 * a piece. ST_MISSING: no such file. ST_INPUT: damaged, or of another model than g and model_digest say (the first
 * difference is named). A file without moments gives zeros in m and v. Fills in *info. */
enum status checkpoint_read(const char *path, const struct ir_graph *g, const uint8_t model_digest[SHA256_BYTES],
                            const struct checkpoint_piece *pieces, uint32_t n, struct checkpoint_info *info,
                            struct err *e);

/* Serial. What the file says of itself; its blocks are not looked at. */
enum status checkpoint_look(const struct dir *in, const char *path, struct checkpoint_info *info, struct err *e);

/* Structure and every block against its hash; the blocks are shared out over the ranks. */
enum status checkpoint_verify(const char *path, struct checkpoint_info *info, struct err *e);

/* ---- folders: RUNDIR/checkpoints/step-000100.h5 ---- */

struct checkpoint_entry {
    uint64_t step;
    char *path;
};
struct checkpoint_entries {
    VEC(struct checkpoint_entry);
};
/* RUNDIR/checkpoints, which may be a link to a folder on another disk. ST_MISSING: there is none; ST_IO. */
enum status checkpoint_folder(const struct dir *run, bool make, struct dir *d, struct err *e);
/* The step of "step-000100.h5": six digits at least. False: it is no name of a checkpoint. */
bool checkpoint_step_of(const char *name, uint64_t *step);
/* Serial. Those in the folder by ascending step, not looked into; none when there is no folder. ST_IO: it cannot be listed,
 * or is a link to nothing. */
enum status checkpoint_list(const struct dir *run, struct checkpoint_entries *list, struct err *e);
void checkpoint_entries_release(struct checkpoint_entries *list);

/* The last `last` that are known to be good stay (0: all), and those whose step is a multiple of `every` (0: none). */
struct checkpoint_keep {
    uint32_t last;
    uint64_t every; /* steps */
};

/* Writes the checkpoints of a run, one after the other, beside what the caller does meanwhile: a thread of each rank
 * writes its pieces and syncs, and when all are done (the caller finds out: idle) the sums of the hashes are taken and
 * rank 0's thread gives the file its name, and only then removes old ones. */
struct checkpoint_setup {
    const struct dir *dir; /* of the run */
    const struct ir_graph *graph;
    struct checkpoint_info info; /* all but step, sample, updates and time */
    struct checkpoint_keep keep;
    uint64_t loaded;                       /* the step of the checkpoint that the run began with; UINT64_MAX: of none */
    const struct checkpoint_piece *pieces; /* of this rank, for every checkpoint; borrowed until close, like the rest */
    uint32_t n_pieces;
    /* Returns when the pieces can be read; called by the thread. A failure gives the checkpoint up. NULL: they can at once */
    enum status (*ready)(void *arg, struct err *e);
    /* The same, when they have been read and hashed: were they what they should be? NULL: nobody asks. */
    enum status (*check)(void *arg, struct err *e);
    void *arg;
};
struct checkpoint_saver;
/* Over all ranks the pieces hold every element of every parameter exactly once: else ST_BUG. Removes what a killed run
 * left unfinished. */
enum status checkpoint_saver_open(const struct checkpoint_setup *setup, struct checkpoint_saver **s, struct err *e);
/* Gives up one that is under way. */
void checkpoint_saver_close(struct checkpoint_saver *s);
/* Collective; none may be under way. Rank 0 makes the file; what goes wrong is told later. */
void checkpoint_save_begin(struct checkpoint_saver *s, uint64_t step, uint64_t sample, uint64_t updates);
/* Not collective. This rank has done what it can until all call advance. True when none is under way. */
bool checkpoint_save_idle(const struct checkpoint_saver *s);
/* One is under way: takes it further, waiting for this rank's thread. *done: it is durable, or failed. ST_IO with the reason:
 * then no file of that name is made, and older ones stay. */
enum status checkpoint_save_advance(struct checkpoint_saver *s, bool *done, struct err *e);
/* Seconds that this rank's thread took for the last one. */
double checkpoint_save_seconds(const struct checkpoint_saver *s);

/* Loads the newest sound checkpoint of a run; one that is damaged, or holds another step than its name says, is told to `warn`
 * (rank 0; may be NULL) and passed over for the one before, and when that is loaded, put aside: step-000100.h5.damaged.1 or
 * .misnamed.1. *found false: there is none (a fresh start). ST_INPUT: it is another model's, or all are damaged. ST_IO: the folder
 * or the newest one cannot be read now; that says nothing of its contents, so no older one is taken. */
typedef void (*checkpoint_warn)(void *arg, const char *text);
struct checkpoint_expect {
    const struct ir_graph *graph;
    const uint8_t *model_digest;
    checkpoint_warn warn;
    void *arg;
};
enum status checkpoint_resume(const struct dir *run, const struct checkpoint_expect *expect,
                              const struct checkpoint_piece *pieces, uint32_t n, bool *found,
                              struct checkpoint_info *info, struct err *e);

/* ---- parameters alone, of whatever model the file holds; serial ---- */

/* What takes values as they are read, pieces of a parameter in any order. */
struct checkpoint_sink {
    enum status (*put)(void *self, const struct checkpoint_piece *piece, struct err *e);
    void *self;
};

struct checkpoint_params;
/* A checkpoint and its model, *g, which is the caller's on success (ir_graph_release). in: the folder of a run that it is in, or NULL.
 * ST_MISSING, ST_INPUT. On success the caller ends with close. */
enum status checkpoint_params_open(const struct dir *in, const char *path, struct ir_graph *g,
                                   struct checkpoint_params **out, struct err *e);
const struct checkpoint_info *checkpoint_params_info(const struct checkpoint_params *p);
enum ir_dtype checkpoint_params_compute(const struct checkpoint_params *p); /* of the job that wrote it */
/* All of a parameter, block by block, each against its hash before it is handed on. ST_INPUT: the file is damaged. */
enum status checkpoint_params_read(const struct checkpoint_params *p, uint32_t param, const struct checkpoint_sink *to,
                                   struct err *e);
void checkpoint_params_close(struct checkpoint_params *p);

/* ---- comparing, serial ---- */

struct checkpoint_difference {
    char *name;      /* "params/lm_head.weight" */
    double most;     /* largest absolute difference; infinite where one is NaN and the other not */
    uint64_t differ; /* elements that are not equal to the bit */
    uint64_t elements;
};
struct checkpoint_differences {
    VEC(struct checkpoint_difference); /* those that differ, in order of the model */
};
/* ST_INPUT when one cannot be read or they are not of the same model (names and shapes). */
enum status checkpoint_diff(const char *a, const char *b, struct checkpoint_differences *out, struct err *e);
void checkpoint_differences_release(struct checkpoint_differences *d);

#endif
