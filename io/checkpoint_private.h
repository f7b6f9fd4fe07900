/* An open checkpoint: where everything lies. Shared by the checkpoint_*.c files and safetensors export. */
#ifndef PIPER_IO_CHECKPOINT_PRIVATE_H
#define PIPER_IO_CHECKPOINT_PRIVATE_H

#include "io/block_hash.h"
#include "io/checkpoint.h"
#include "io/h5.h"

enum { CKPT_PARAM, CKPT_M, CKPT_V, CKPT_KINDS };
extern const char *const ckpt__group[CKPT_KINDS]; /* "params", "optimizer/m", "optimizer/v" */
extern const char ckpt__schema[];
enum { CKPT_VERSION = 2 };

struct ckpt__place {
    uint64_t elements;
    uint64_t data[CKPT_KINDS], hash[CKPT_KINDS]; /* offsets in the file, bytes */
};
struct ckpt__file {
    const char *path; /* borrowed */
    int fd;
    uint32_t kinds; /* 1 or CKPT_KINDS */
    uint32_t n;
    struct ckpt__place *place; /* [n], by parameter */
    char *names;               /* of the parameters, one after the other, each with its NUL */
    uint64_t names_bytes;
    struct checkpoint_info info;
    struct ir_graph graph; /* rank 0 only */
    bool has_graph;
    bool newer; /* it was not opened, because a newer version of the format says things that this one does not know */
};
/* Collective: rank 0 reads the structure, all get the places and open the file. Close with ckpt__close in any case. */
enum status ckpt__open(const char *path, struct ckpt__file *f, struct err *e);
/* The same by this process alone. */
enum status ckpt__open_here(const char *path, struct ckpt__file *f, struct err *e);
struct ckpt__source {
    const char *path;
    const struct ir_graph *g;
    const uint8_t *model_digest;
};
/* checkpoint_read; *other_model tells why it failed: not for damage, the file is of another model or a newer version. */
enum status ckpt__load(const struct ckpt__source *s, const struct checkpoint_piece *pieces, uint32_t n,
                       struct checkpoint_info *info, bool *other_model, struct err *e);
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

/* A file in parts. new and free are this rank's own; open, checkpoint_put, checkpoint_sync and publish too, and may run in
 * another thread: they use neither MPI nor HDF5 and allocate nothing. make and seal are collective: in make rank 0 makes the
 * file, which the others only open, so that no rank writes into one of its own where they do not share the folder; seal agrees on
 * the puts and sums the hashes. publish (rank 0; nothing elsewhere) makes the file durable under its name; free removes one that
 * was not. */
struct checkpoint_writer *ckpt__writer_new(struct ckpt__layout *l, const char *path);
enum status ckpt__writer_make(struct checkpoint_writer *w, struct err *e);
enum status ckpt__writer_open(struct checkpoint_writer *w, struct err *e);
enum status ckpt__seal(struct checkpoint_writer *w, enum status mine, struct err *e);
enum status ckpt__publish(struct checkpoint_writer *w, struct err *e);
void ckpt__writer_free(struct checkpoint_writer *w);

/* "RUNDIR/checkpoints", or a file in it; owned by the caller (mem_free). */
char *ckpt__folder(const char *rundir);
char *ckpt__path(const char *rundir, uint64_t step);
/* Removes what a killed run has left unfinished in the folder. */
void ckpt__remove_unfinished(const char *rundir);
/* Collective: all blocks against their hashes. */
enum status ckpt__verify(const struct ckpt__file *f, struct err *e);

#endif
