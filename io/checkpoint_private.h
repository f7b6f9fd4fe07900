/* An open checkpoint: where everything lies. Shared by the checkpoint_*.c files and safetensors export. */
#ifndef PIPER_IO_CHECKPOINT_PRIVATE_H
#define PIPER_IO_CHECKPOINT_PRIVATE_H

#include "io/block_hash.h"
#include "io/checkpoint.h"

enum { CKPT_PARAM, CKPT_M, CKPT_V, CKPT_KINDS };
extern const char *const ckpt__group[CKPT_KINDS]; /* "params", "optimizer/m", "optimizer/v" */
extern const char ckpt__schema[];
enum { CKPT_VERSION = 1 };

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
/* checkpoint_read; *other_model tells why it failed: the file is sound, but of another model. */
enum status ckpt__load(const struct ckpt__source *s, const struct checkpoint_piece *pieces, uint32_t n,
                       struct checkpoint_info *info, bool *other_model, struct err *e);
void ckpt__close(struct ckpt__file *f);
const char *ckpt__name(const struct ckpt__file *f, uint32_t param); /* borrowed from f */
/* Collective: all blocks against their hashes. */
enum status ckpt__verify(const struct ckpt__file *f, struct err *e);

#endif
