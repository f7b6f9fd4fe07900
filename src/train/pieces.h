/* A checkpoint's view of this rank: which stretches of which tensors it writes, and which it needs back. */
#ifndef PIPER_PIECES_H
#define PIPER_PIECES_H

#include "exec/exec.h"
#include "io/checkpoint.h"
#include "ir/plan.h"

struct pieces {
    struct checkpoint_pieces {
        VEC(struct checkpoint_piece);
    } list;
    struct {
        VEC(struct exec_copy);
    } copies;
    float *block; /* float32 values of parameters in another type, owned; NULL: none */
};

/* Every holder writes its own part of a bucket, so over all ranks each element is there once. The pieces point into the
 * arenas; where a snapshot is planned into that, and `copies` is what fills it. */
void pieces_to_write(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out);
/* The same parts, as they are between two steps, without moments: for who only looks. */
void pieces_to_look_at(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out);
/* Everything this rank holds: parameters, masters, moments. After the reading pieces_take() puts into place what could not
 * be read there directly. */
void pieces_to_read(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *out);
void pieces_take(const struct plan *p, uint32_t rank, unsigned char *const base[ARENA_COUNT], struct pieces *from);
void pieces_release(struct pieces *s);

#endif
