/* Offsets for buffers, in dispatch order, with reuse only where happens-before holds.
 *
 * Happens-before inside a rank comes from two things alone: a stream runs in order, and an instruction waits for others. For
 * each instruction a vector clock says which instructions of every stream are done when it starts. Dead bytes carry a guard:
 * per stream the last instruction that touched them. A new buffer may take them when its first writer's clock covers the
 * guard. Where it does not, a wait is added if the other instruction lies some computations back (it is very likely
 * done, so the wait costs nothing); a wait always points back in the one global order, so it cannot make a deadlock.
 *
 * Whole parameters, whole gradients and all the rest have an address space of their own each, one behind the other: few
 * large buffers of few sizes that come and go would be cut up by small ones. In the first two a dead segment is taken as
 * it is, by a buffer of nearly its size, and is never cut or joined. */
#include "sched/lower/memory.h"

enum pool { POOL_REST, POOL_PARAMS, POOL_GRADS, POOLS };

/* Address space: segments without gaps, live or dead. */
struct segment {
    uint64_t offset, bytes;
    uint32_t buffer; /* PLAN_NONE: dead */
    uint32_t *guard; /* dead: [n_streams], instruction + 1, 0: none */
};
struct space {
    VEC(struct segment);
    uint64_t extent;
};
struct planner {
    struct plan_builder *pb;
    uint32_t first, n, n_streams, alignment;
    struct space spaces[POOLS];
    /* Computations between the last use of bytes by another stream and their reuse, at least. Gathered parameters: none, the
     * plan says when a gather is dispatched (prefetch) and has room for that many buckets. Gradients: one, so that a reduction
     * runs under the next backward, in two buffers. The rest, what is sent and received: a pass over the device's stages,
     * so that a receive is not held back by the pass that reads what came before it. */
    uint32_t lag[POOLS];
    uint32_t *clock;         /* [n * n_streams]: instruction + 1 known done on each stream when i starts */
    uint32_t *last_on;       /* [n_streams]: last instruction + 1 of each stream so far */
    uint32_t *compute_index; /* [n]: RUNs before instruction i */
    uint32_t *last_use;      /* by buffer: instruction */
    uint32_t *touched;       /* by buffer: [n_streams] instruction + 1 */
    uint32_t first_buffer;
    uint64_t live[MEM_KINDS], *peak;
};

static const struct plan_instr *instr(const struct planner *p, uint32_t i)
{
    return &p->pb->instrs.at[p->first + i];
}

static uint32_t *clock_of(const struct planner *p, uint32_t i)
{
    return p->clock + (size_t)i * p->n_streams;
}

static void join_clock(struct planner *p, uint32_t i, uint32_t done)
{
    uint32_t *c = clock_of(p, i), *d = clock_of(p, done), stream = instr(p, done)->stream;
    for (uint32_t s = 0; s < p->n_streams; s++)
        c[s] = d[s] > c[s] ? d[s] : c[s];
    c[stream] = done + 1 > c[stream] ? done + 1 : c[stream];
}

static void add_wait(struct planner *p, uint32_t i, uint32_t on)
{
    if (clock_of(p, i)[instr(p, on)->stream] > on)
        return;
    vec_add(&p->pb->waits, on);
    p->pb->instrs.at[p->first + i].n_waits++;
    join_clock(p, i, on);
}

static bool covered(const struct planner *p, uint32_t i, const uint32_t *guard)
{
    const uint32_t *c = clock_of(p, i);
    for (uint32_t s = 0; s < p->n_streams; s++)
        if (guard[s] > c[s])
            return false;
    return true;
}

/* Would waiting for the guard be free of cost, most likely? */
static bool old_enough(const struct planner *p, uint32_t i, const uint32_t *guard, uint32_t lag)
{
    const uint32_t *c = clock_of(p, i);
    for (uint32_t s = 0; s < p->n_streams; s++)
        if (guard[s] > c[s] && p->compute_index[i] - p->compute_index[guard[s] - 1] < lag)
            return false;
    return true;
}

/* Makes segment k end at `bytes`, the rest staying dead behind it. */
static void cut_segment(struct planner *p, struct space *v, uint32_t k, uint64_t bytes)
{
    if (v->at[k].bytes == bytes)
        return;
    vec_push(v);
    memmove(&v->at[k + 2], &v->at[k + 1], (v->n - k - 2) * sizeof(struct segment));
    struct segment *a = &v->at[k], *b = &v->at[k + 1];
    *b = *a;
    b->offset += bytes;
    b->bytes -= bytes;
    b->guard = mem_alloc(p->n_streams * sizeof(uint32_t));
    memcpy(b->guard, a->guard, p->n_streams * sizeof(uint32_t));
    a->bytes = bytes;
}

static void drop_segment(struct space *v, uint32_t k)
{
    mem_free(v->at[k].guard);
    memmove(&v->at[k], &v->at[k + 1], (v->n - k - 1) * sizeof(struct segment));
    v->n--;
}

/* A new buffer that looks for dead bytes. */
struct wanted {
    enum pool pool;
    uint32_t i; /* its first instruction */
    uint64_t bytes;
    bool waits; /* bytes that cost a wait are taken too, where the wait is free */
};

/* Segments of whole parameters and gradients are taken as they are, by a buffer that fills two thirds of them at least. */
static bool usable(const struct planner *p, const struct wanted *w, const struct segment *g)
{
    if (g->buffer != PLAN_NONE || (w->pool != POOL_REST && (g->bytes < w->bytes || g->bytes > w->bytes + w->bytes / 2)))
        return false;
    return covered(p, w->i, g->guard) || (w->waits && old_enough(p, w->i, g->guard, p->lag[w->pool]));
}

/* The run of usable segments that fits best, the first of equals: a window that slides over the space once. */
static bool best_run(const struct planner *p, const struct wanted *w, uint32_t *first, uint32_t *count)
{
    const struct space *v = &p->spaces[w->pool];
    uint64_t best = UINT64_MAX, have = 0;
    for (uint32_t k = 0, end = 0; k < v->n; k++) {
        while (end < v->n && have < w->bytes && usable(p, w, &v->at[end]))
            have += v->at[end++].bytes;
        if (have < w->bytes) { /* no run holds segment `end` */
            k = end++;
            have = 0;
            continue;
        }
        if (have < best) {
            best = have;
            *first = k;
            *count = end - k;
        }
        have -= v->at[k].bytes;
    }
    return best != UINT64_MAX;
}

/* Without waits if there is such a run, else with waits that cost nothing. */
static bool find_run(const struct planner *p, enum pool pool, uint32_t i, uint64_t bytes, uint32_t *first,
                     uint32_t *count)
{
    return best_run(p, &(struct wanted){ pool, i, bytes, false }, first, count) ||
           best_run(p, &(struct wanted){ pool, i, bytes, true }, first, count);
}

static enum pool pool_of(const struct plan_buffer *b)
{
    if (b->role == SLOT_PARAM)
        return POOL_PARAMS;
    return b->role == SLOT_GRAD ? POOL_GRADS : POOL_REST;
}

static void allocate(struct planner *p, uint32_t i, uint32_t buffer)
{
    struct plan_buffer *b = &p->pb->buffers.at[buffer];
    enum pool pool = pool_of(b);
    struct space *v = &p->spaces[pool];
    uint64_t bytes = round_up(b->bytes ? b->bytes : 1, p->alignment);
    uint32_t k, n;
    if (!find_run(p, pool, i, bytes, &k, &n)) {
        k = v->n; /* at the end; a dead tail that may be used is extended */
        n = 0;
        if (k && pool == POOL_REST && v->at[k - 1].buffer == PLAN_NONE && covered(p, i, v->at[k - 1].guard)) {
            k--;
            n = 1;
            v->extent += bytes - v->at[k].bytes;
            v->at[k].bytes = bytes;
        } else {
            vec_add(v, ((struct segment){ v->extent, bytes, PLAN_NONE, mem_alloc(p->n_streams * sizeof(uint32_t)) }));
            v->extent += bytes;
            n = 1;
        }
    }
    for (uint32_t j = k; j < k + n; j++)
        for (uint32_t s = 0; s < p->n_streams; s++)
            if (v->at[j].guard[s])
                add_wait(p, i, v->at[j].guard[s] - 1);
    while (n > 1) {
        v->at[k].bytes += v->at[k + 1].bytes;
        for (uint32_t s = 0; s < p->n_streams; s++)
            if (v->at[k + 1].guard[s] > v->at[k].guard[s])
                v->at[k].guard[s] = v->at[k + 1].guard[s];
        drop_segment(v, k + 1);
        n--;
    }
    if (pool == POOL_REST)
        cut_segment(p, v, k, bytes);
    v->at[k].buffer = buffer;
    b->offset = v->at[k].offset;
    p->live[b->kind] += b->bytes;
    if (p->live[b->kind] > p->peak[b->kind])
        p->peak[b->kind] = p->live[b->kind];
}

static void release(struct planner *p, uint32_t buffer)
{
    const struct plan_buffer *b = &p->pb->buffers.at[buffer];
    struct space *v = &p->spaces[pool_of(b)];
    uint32_t lo = 0, hi = v->n;
    while (hi - lo > 1) { /* segments are in address order */
        uint32_t mid = (lo + hi) / 2;
        if (v->at[mid].offset <= b->offset)
            lo = mid;
        else
            hi = mid;
    }
    struct segment *g = &v->at[lo];
    CHECK(g->buffer == buffer);
    g->buffer = PLAN_NONE;
    memcpy(g->guard, p->touched + (size_t)(buffer - p->first_buffer) * p->n_streams, p->n_streams * sizeof(uint32_t));
    p->live[b->kind] -= b->bytes;
}

/* Neighbouring dead segments with equal guards, or whose guards the compute stream has passed long ago, become one. */
static void merge_dead(struct planner *p, struct space *v, uint32_t i)
{
    for (uint32_t k = 0; k + 1 < v->n;) {
        struct segment *a = &v->at[k], *b = a + 1;
        if (a->buffer != PLAN_NONE || b->buffer != PLAN_NONE || !covered(p, i, a->guard) || !covered(p, i, b->guard)) {
            k++;
            continue;
        }
        for (uint32_t s = 0; s < p->n_streams; s++)
            a->guard[s] = a->guard[s] > b->guard[s] ? a->guard[s] : b->guard[s];
        a->bytes += b->bytes;
        drop_segment(v, k + 1);
    }
}

static void plan_instruction(struct planner *p, uint32_t i, const struct dependencies *deps)
{
    struct plan_instr *instr = &p->pb->instrs.at[p->first + i];
    instr->first_wait = p->pb->waits.n;
    if (p->last_on[instr->stream])
        join_clock(p, i, p->last_on[instr->stream] - 1);
    for (uint32_t k = deps->first[i + 1]; k-- > deps->first[i];) /* the latest first: it may cover the others */
        add_wait(p, i, deps->at[k]);
    for (uint32_t k = 0; k < instr->n_bases; k++) {
        struct plan_base *b = &p->pb->bases.at[instr->first_base + k];
        if (b->arena != ARENA_WORK)
            continue;
        uint32_t *t = p->touched + (size_t)(b->buffer - p->first_buffer) * p->n_streams;
        bool fresh = true;
        for (uint32_t s = 0; s < p->n_streams; s++)
            fresh = fresh && !t[s];
        if (fresh)
            allocate(p, i, b->buffer);
        instr = &p->pb->instrs.at[p->first + i];
        t[instr->stream] = i + 1;
    }
    bool freed = false;
    for (uint32_t k = 0; k < instr->n_bases; k++) {
        const struct plan_base *b = &p->pb->bases.at[instr->first_base + k];
        if (b->arena == ARENA_WORK && p->last_use[b->buffer - p->first_buffer] == i) {
            p->last_use[b->buffer - p->first_buffer] = PLAN_NONE; /* a buffer may stand twice in an instruction */
            release(p, b->buffer);
            freed = true;
        }
    }
    if (freed)
        merge_dead(p, &p->spaces[POOL_REST], i);
    p->last_on[instr->stream] = i + 1;
}

/* Puts the address spaces one behind the other, and the offsets into the bases. */
static void settle(struct planner *p, uint64_t *extent)
{
    uint64_t base[POOLS], end = 0;
    for (int v = 0; v < POOLS; v++) {
        base[v] = end;
        end += p->spaces[v].extent;
    }
    *extent = end > *extent ? end : *extent;
    for (uint32_t i = p->first_buffer; i < p->pb->buffers.n; i++)
        p->pb->buffers.at[i].offset += base[pool_of(&p->pb->buffers.at[i])];
    for (uint32_t i = 0; i < p->n; i++)
        for (uint32_t k = 0; k < instr(p, i)->n_bases; k++) {
            struct plan_base *b = &p->pb->bases.at[instr(p, i)->first_base + k];
            if (b->arena == ARENA_WORK)
                b->offset += p->pb->buffers.at[b->buffer].offset;
        }
}

void memory_plan(struct plan_builder *pb, uint32_t first, uint32_t first_buffer, uint32_t alignment, uint32_t pass_runs,
                 const struct dependencies *deps)
{
    uint32_t n = pb->instrs.n - first, n_buffers = pb->buffers.n - first_buffer, n_streams = pb->streams.n;
    struct planner p = { .pb = pb,
                         .first = first,
                         .n = n,
                         .n_streams = n_streams,
                         .alignment = alignment,
                         .first_buffer = first_buffer,
                         .peak = pb->h.peak_bytes,
                         .lag = { [POOL_REST] = pass_runs + 1, [POOL_GRADS] = 1 } };
    p.clock = mem_alloc((size_t)n * n_streams * sizeof(uint32_t));
    p.last_on = mem_alloc(n_streams * sizeof(uint32_t));
    p.compute_index = mem_alloc(n * sizeof(uint32_t));
    p.last_use = mem_alloc((n_buffers + 1) * sizeof(uint32_t));
    p.touched = mem_alloc(((size_t)n_buffers * n_streams + 1) * sizeof(uint32_t));
    for (uint32_t i = 0, runs = 0; i < n; i++) {
        const struct plan_instr *x = instr(&p, i);
        p.compute_index[i] = runs;
        runs += x->op == PLAN_RUN;
        for (uint32_t k = 0; k < x->n_bases; k++)
            if (pb->bases.at[x->first_base + k].arena == ARENA_WORK)
                p.last_use[pb->bases.at[x->first_base + k].buffer - first_buffer] = i;
    }
    for (uint32_t i = 0; i < n; i++)
        plan_instruction(&p, i, deps);
    settle(&p, &pb->h.arena_bytes[ARENA_WORK]);
    for (int v = 0; v < POOLS; v++) {
        for (uint32_t k = 0; k < p.spaces[v].n; k++)
            mem_free(p.spaces[v].at[k].guard);
        vec_free(&p.spaces[v]);
    }
    mem_free(p.clock);
    mem_free(p.last_on);
    mem_free(p.compute_index);
    mem_free(p.last_use);
    mem_free(p.touched);
}
