#include "base/mem.h"

#include <malloc.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/fail.h"

static atomic_uint_fast64_t calls, live;
static atomic_uint_fast64_t fail_at; /* 0: off, else countdown */

void mem_fail_after(uint64_t nth)
{
    atomic_store(&fail_at, nth);
}

static int fails_now(void)
{
    uint_fast64_t n = atomic_load_explicit(&fail_at, memory_order_relaxed);
    return n && atomic_fetch_sub(&fail_at, 1) == 1;
}

static _Noreturn void out_of_memory(size_t bytes)
{
    char text[160];
    snprintf(text, sizeof text, "out of host memory: cannot allocate %zu more bytes; use more nodes or a smaller job",
             bytes);
    process_fail(ST_DEVICE, text);
}

void *mem_alloc(size_t bytes)
{
    void *p = fails_now() ? NULL : calloc(bytes ? bytes : 1, 1);
    if (!p)
        out_of_memory(bytes);
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&live, malloc_usable_size(p), memory_order_relaxed);
    return p;
}

void *mem_realloc(void *p, size_t bytes)
{
    size_t old = p ? malloc_usable_size(p) : 0;
    void *q = fails_now() ? NULL : realloc(p, bytes ? bytes : 1);
    if (!q)
        out_of_memory(bytes);
    atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&live, malloc_usable_size(q) - old, memory_order_relaxed);
    return q;
}

void mem_free(void *p)
{
    if (!p)
        return;
    atomic_fetch_sub_explicit(&live, malloc_usable_size(p), memory_order_relaxed);
    free(p);
}

/* The C library gives large blocks back to the system one by one, and the system clears their pages when they come again. (Its own
 * choice of thresholds ends with the first call; afterwards they are the largest that it would choose.) */
void mem_hold(bool on)
{
    enum { MIB = 1 << 20 };
    mallopt(M_MMAP_THRESHOLD, 32 * MIB);
    mallopt(M_TRIM_THRESHOLD, on ? 1024 * MIB : 64 * MIB);
    mallopt(M_TOP_PAD, on ? 32 * MIB : MIB / 8);
    if (!on)
        malloc_trim(0);
}

char *mem_strdup(const char *s)
{
    size_t n = strlen(s) + 1;
    return memcpy(mem_alloc(n), s, n);
}

struct mem_stats mem_stats(void)
{
    return (struct mem_stats){ atomic_load(&calls), atomic_load(&live) };
}

/* ---- arena ---------------------------------------------------------------------------------------------------- */

enum { CHUNK_BYTES = 64 << 10 };

struct arena_chunk {
    struct arena_chunk *next;
    size_t size, used;
    _Alignas(16) unsigned char bytes[];
};

void arena_init(struct arena *a)
{
    *a = (struct arena){ 0 };
}

void arena_release(struct arena *a)
{
    while (a->head) {
        struct arena_chunk *next = a->head->next;
        mem_free(a->head);
        a->head = next;
    }
    a->used = 0;
}

void *arena_alloc(struct arena *a, size_t bytes)
{
    size_t need = round_up(bytes ? bytes : 1, 16);
    if (!a->head || a->head->size - a->head->used < need) {
        size_t size = need > CHUNK_BYTES ? need : CHUNK_BYTES;
        struct arena_chunk *c = mem_alloc(sizeof *c + size);
        c->size = size;
        c->next = a->head;
        a->head = c;
    }
    void *p = a->head->bytes + a->head->used;
    a->head->used += need;
    a->used += need;
    return p;
}

void *arena_copy(struct arena *a, const void *p, size_t bytes)
{
    void *q = arena_alloc(a, bytes);
    if (bytes)
        memcpy(q, p, bytes);
    return q;
}

char *arena_strdup(struct arena *a, const char *s)
{
    return arena_copy(a, s, strlen(s) + 1);
}

char *arena_printf(struct arena *a, const char *fmt, ...)
{
    va_list ap, again;
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(NULL, 0, fmt, ap);
    va_end(ap);
    char *s = arena_alloc(a, (size_t)n + 1);
    vsnprintf(s, (size_t)n + 1, fmt, again);
    va_end(again);
    return s;
}

/* ---- growable arrays ------------------------------------------------------------------------------------------ */

void vec_reserve_(void **at, uint32_t *cap, uint32_t need, size_t size)
{
    if (need <= *cap)
        return;
    uint32_t to = *cap ? *cap : 8;
    while (to < need) {
        CHECK(to < UINT32_MAX / 2);
        to *= 2;
    }
    *at = mem_realloc(*at, (size_t)to * size);
    *cap = to;
}

uint32_t vec_grow_(void **at, uint32_t *n, uint32_t *cap, uint32_t count, size_t size)
{
    uint32_t first = *n;
    vec_reserve_(at, cap, first + count, size);
    if (count)
        memset((char *)*at + (size_t)first * size, 0, (size_t)count * size);
    *n = first + count;
    return first;
}
