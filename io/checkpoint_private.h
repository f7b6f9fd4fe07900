/* An open checkpoint: where everything lies. Shared by the checkpoint_*.c files and safetensors export. */
#ifndef PIPER_IO_CHECKPOINT_PRIVATE_H
#define PIPER_IO_CHECKPOINT_PRIVATE_H

#include "base/dir.h"
#include "io/block_hash.h"
#include "io/checkpoint.h"
#include "io/h5.h"

enum { CKPT_PARAM, CKPT_M, CKPT_V, CKPT_KINDS };
extern const char *const ckpt__group[CKPT_KINDS]; /* "params", "optimizer/m", "optimizer/v" */
extern const char ckpt__schema[];
enum { CKPT_VERSION = 2 };

struct ckpt__place {
    uint64_t elements;
    bool state;                                  /* ir_param.state or frozen: it has no moments */
    uint64_t data[CKPT_KINDS], hash[CKPT_KINDS]; /* offsets in the file, bytes */
};
struct ckpt__file {
    const char *path; /* borrowed */
    int fd;
    bool misnamed;
    uint32_t kinds; /* 1 and the moments */
    uint32_t n;
    struct ckpt__place *place; /* [n], by parameter */
    char *names;               /* of the parameters, one after the other, each with its NUL */
    uint64_t names_bytes;
    struct checkpoint_info info;
    struct ir_graph graph; /* rank 0 only */
    bool has_graph;
    bool newer; /* it was not opened, because a newer version of the format says things that this one does not know */
};
/* Collective: rank 0 reads the structure, all get the places and open the file. Close with ckpt__close in any case. With a
 * folder, the file is the one in it that has the last part of the path as its name, and ST_INPUT too when that names
 * another step than the file holds: f->misnamed. */
enum status ckpt__open(const struct dir *in, const char *path, struct ckpt__file *f, struct err *e);
/* The same by this process alone. */
enum status ckpt__open_here(const struct dir *in, const char *path, struct ckpt__file *f, struct err *e);
struct ckpt__source {
    const struct dir *in;
    const char *path;
    const struct ir_graph *g;
    const uint8_t *model_digest;
};
/* checkpoint_read; *why tells of a failure: the file is sound, but of another model or a newer version, or its name is of another
 * step. */
enum ckpt__why { CKPT_DAMAGED, CKPT_OTHER_MODEL, CKPT_MISNAMED };
enum status ckpt__load(const struct ckpt__source *s, const struct checkpoint_piece *pieces, uint32_t n,
                       struct checkpoint_info *info, enum ckpt__why *why, struct err *e);
void ckpt__close(struct ckpt__file *f);
const char *ckpt__name(const struct ckpt__file *f, uint32_t param); /* borrowed from f */

/* The attribute `data`: its text, owned by the caller (free); and what a text says, ST_INPUT with the place. */
char *ckpt__data_text(const struct checkpoint_data *data);
enum status ckpt__data_parse(const char *text, const char *where, struct checkpoint_data *data, struct err *e);

/* What the checkpoints of a run have in common: where everything lies, and on rank 0 the file without its contents. */
struct ckpt__layout {
    struct h5_out image; /* rank 0 */
    struct {
        VEC(struct h5_range);
    } structure; /* rank 0: the bytes of it that no rank fills in */
    uint32_t kinds, n_params;
    struct ckpt__place *place;
    uint64_t *first_block; /* [kinds * n_params]: of each tensor among all blocks */
    uint64_t blocks;
};
/* Collective. where: for messages. Step, sample, updates and time may change afterwards: stamp() puts them into rank 0's image. */
enum status ckpt__layout_new(const char *where, const struct checkpoint_info *info, const struct ir_graph *g,
                             struct ckpt__layout **out, struct err *e);
enum status ckpt__layout_stamp(struct ckpt__layout *l, const struct checkpoint_info *info, struct err *e);
void ckpt__layout_free(struct ckpt__layout *l);

/* A file in parts, in a folder, whose struct it takes. new and free are this rank's own; open, checkpoint_put, checkpoint_sync and
 * publish too, and may run in another thread: they use neither MPI nor HDF5 and allocate nothing. begin and seal are collective: in
 * begin rank 0 makes the file, under another name, or `mine` of a rank says why not; the others only open it, so that no rank
 * writes into one of its own where they do not share the folder; seal agrees on the puts and sums the hashes. publish (rank 0;
 * nothing elsewhere) makes the file durable under its name; free removes one that was not. */
struct checkpoint_writer *ckpt__writer_new(struct ckpt__layout *l, struct dir *in, const char *path);
enum status ckpt__writer_begin(struct checkpoint_writer *w, enum status mine, const char *name, struct err *e);
enum status ckpt__writer_open(struct checkpoint_writer *w, struct err *e);
enum status ckpt__seal(struct checkpoint_writer *w, enum status mine, struct err *e);
enum status ckpt__publish(struct checkpoint_writer *w, struct err *e);
void ckpt__writer_free(struct checkpoint_writer *w);

/* "step-000100.h5" */
void ckpt__name_of(uint64_t step, char name[DIR_NAME]);
/* Removes what a killed run has left unfinished in the folder. */
void ckpt__remove_unfinished(const struct dir *run);
/* The block of a tensor that begins with element `first`, into block_bytes() at most, and against its hash. */
enum status ckpt__read_block(const struct ckpt__file *f, uint32_t param, uint32_t kind, uint64_t first, float *block,
                             struct err *e);
/* Collective: all blocks against their hashes. */
enum status ckpt__verify(const struct ckpt__file *f, struct err *e);
/* By this process alone, until *stop; block: block_bytes(). Uses neither MPI nor HDF5 nor the heap. */
bool ckpt__verify_here(const struct ckpt__file *f, float *block, const _Atomic bool *stop);

/* ---- which checkpoints stay: checkpoint_keep.c; on rank 0 alone ----
 *
 * Those that are to stay must be known to be good: this run has written them, has begun with one of them, or has verified them
 * once, in a thread that reads them beside training. An older one that is not known to be good counts for nothing, and
 * goes when so many newer ones are that it need not stay. What was known counts as long as file, size and time are the
 * same. */
struct ckpt__keeper;
/* loaded: of which step the run has read the file whole, UINT64_MAX: of none. */
struct ckpt__keeper *ckpt__keeper_open(const struct dir *run, const struct checkpoint_keep *keep, uint64_t loaded);
void ckpt__keeper_close(struct ckpt__keeper *k); /* NULL allowed */
/* The file of this step has just been made durable. */
void ckpt__keeper_written(struct ckpt__keeper *k, const struct dir *folder, uint64_t step);
/* Those that need not stay beside the one of `step`, which is about to be durable; entries are the caller's. */
void ckpt__keeper_choose(struct ckpt__keeper *k, const struct dir *run, uint64_t step, struct checkpoint_entries *old);

#endif
