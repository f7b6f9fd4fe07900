/* Host memory: allocation that does not return NULL, arenas, growable arrays.
 *
 * Three lifetimes: process (mem_alloc), graph (an arena, freed in one call), scratch of a pass (arena_mark and
 * arena_reset). When memory runs out the process ends, and all ranks with it: process_fail() in fail.h. So no caller tests for
 * NULL. */
#ifndef PIPER_BASE_MEM_H
#define PIPER_BASE_MEM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/status.h"

/* Zeroed memory, owned by the caller until mem_free(). bytes == 0 gives a valid pointer. */
void *mem_alloc(size_t bytes);
/* Grows or shrinks; new bytes are not zeroed. */
void *mem_realloc(void *p, size_t bytes);
void mem_free(void *p);
char *mem_strdup(const char *s);

/* Between true and false what is freed stays with the process, large blocks too: for work that allocates as much again and again. */
void mem_hold(bool on);

/* Counts of calls so far (all threads), so that a test can show that a step allocates nothing, and the bytes asked for
 * and not yet freed. */
struct mem_stats {
    uint64_t calls;      /* mem_alloc + mem_realloc calls */
    uint64_t live_bytes; /* usable bytes now held */
};
struct mem_stats mem_stats(void);

/* Testing: the nth (1 is the next) allocation from now fails; 0 turns this off. */
void mem_fail_after(uint64_t nth);

/* An arena: bump allocation in chunks, freed all at once. Zeroed memory, 16-byte aligned. */
struct arena {
    struct arena_chunk *head;
    size_t used; /* bytes handed out since arena_clear */
};
void arena_init(struct arena *a);
void arena_release(struct arena *a);
void *arena_alloc(struct arena *a, size_t bytes);
void *arena_copy(struct arena *a, const void *p, size_t bytes);
char *arena_strdup(struct arena *a, const char *s);
char *arena_printf(struct arena *a, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
#define arena_new(a, T)      ((T *)arena_alloc((a), sizeof(T)))
#define arena_array(a, T, n) ((T *)arena_alloc((a), sizeof(T) * (size_t)(n)))

/* Growable array of T: `struct { VEC(int); } v = {0};` or a field `VEC(T)` in a struct of its own; v.at, v.n.
 * A pointer into it dies at the next push. Freed with vec_free(). */
#define VEC(T) \
    T *at;     \
    uint32_t n, cap
#define vec_push(v)                                                                                          \
    ((v)->n < (v)->cap ? (void)0 : vec_reserve_((void **)&(v)->at, &(v)->cap, (v)->n + 1u, sizeof *(v)->at), \
     &(v)->at[(v)->n++])
#define vec_add(v, x) (*vec_push(v) = (x))
/* Room for count more elements, contiguous and zeroed; returns the index of the first. */
#define vec_grow(v, count) vec_grow_((void **)&(v)->at, &(v)->n, &(v)->cap, (count), sizeof *(v)->at)
#define vec_free(v)        (mem_free((v)->at), (v)->at = NULL, (v)->n = (v)->cap = 0)
void vec_reserve_(void **at, uint32_t *cap, uint32_t need, size_t size);
uint32_t vec_grow_(void **at, uint32_t *n, uint32_t *cap, uint32_t count, size_t size);

static inline uint64_t round_up(uint64_t x, uint64_t to)
{
    return (x + to - 1) / to * to;
}

#endif
