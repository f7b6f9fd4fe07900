/* Offsets for buffers, in dispatch order, with reuse only where happens-before holds.
 *
 * Happens-before inside a rank comes from two things alone: a stream runs in order, and an instruction waits for others. For
 * each instruction a vector clock says which instructions of every stream are done when it starts. Dead bytes carry a guard:
 * per stream the last instruction that touched them. A new buffer may take them when its first writer's clock covers the
 * guard. Where it does not, a wait is added if the other instruction lies some computations back (it is very likely
 * done, so the wait costs nothing); a wait always points back in the one global order, so it cannot make a deadlock.
 *
 * Whole parameters, whole gradients and all the rest have an address space of their own each, one behind the other: few
 * large buffers of few sizes that come and go would be cut up by small ones. In the first two dead bytes are taken as
 * they are, by a buffer of nearly their size, and never cut or joined. */
#include "sched/lower/memory.h"

enum pool { POOL_REST, POOL_PARAMS, POOL_GRADS, POOLS };

/* Bytes that a buffer takes of its address space, or that are dead. A piece has a guard too: in planner.guards [n_streams], by stream
 * the last instruction + 1 that touched it, 0: none did. */
struct piece {
    uint64_t offset, bytes;
    uint32_t
        late; /* the stream of its guard that was not covered when that was asked last: most likely it still is not */
};
/* An address space: its dead pieces by offset; all other bytes below its extent are alive. Columns, because those that look for bytes go over all of
 * them again and again. */
struct space {
    struct {
        VEC(uint32_t);
    } dead; /* numbers of pieces */
    struct {
        VEC(uint8_t);
    } joins; /* 1: the next one begins where this one ends */
    struct {
        VEC(uint64_t);
    } alone; /* bytes of one that touches no other; else 0 */
    uint64_t extent;
};
struct planner {
    struct plan_builder *pb;
    uint32_t first, n, n_streams, alignment;
    struct space spaces[POOLS];
    /* Computations between the last use of bytes by another stream and their reuse, at least. Gathered parameters: none, the
     * plan says when a gather is dispatched (prefetch) and has room for that many buckets. Gradients: one, so that a reduction
     * runs under the next backward, in two buffers. The rest, what is sent and received: a pass over the device's stages,
     * so that a receive is not held back by the pass that reads what came before it. What is gathered again for a backward needs none: it
     * comes behind what had the bytes (gather.c). */
    uint32_t lag[POOLS];
    uint32_t *clock;         /* [n * n_streams]: instruction + 1 known done on each stream when i starts */
    uint32_t *last_on;       /* [n_streams]: last instruction + 1 of each stream so far */
    uint32_t *compute_index; /* [n]: RUNs before instruction i */
    uint32_t *last_use;      /* by buffer: instruction */
    uint32_t rounds, end;    /* the last ROUNDS so far, and the last instruction that it repeats */
    uint32_t *piece_of;      /* by buffer: number; PLAN_NONE: none yet */
    uint32_t first_buffer;
    struct {
        VEC(struct piece);
    } pieces;
    struct {
        VEC(uint32_t);
    } guards, spare; /* spare: numbers of pieces that are neither alive nor dead */
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

/* Would waiting for the guard be free of cost, most likely? */
static bool old_enough(const struct planner *p, uint32_t i, const uint32_t *guard, uint32_t lag)
{
    const uint32_t *c = clock_of(p, i);
    for (uint32_t s = 0; s < p->n_streams; s++)
        if (guard[s] > c[s] && p->compute_index[i] - p->compute_index[guard[s] - 1] < lag)
            return false;
    return true;
}

static uint32_t *guard_of(const struct planner *p, uint32_t piece)
{
    return p->guards.at + (size_t)piece * p->n_streams;
}

/* Does instruction i come after all that has touched a piece? */
static bool covered(const struct planner *p, uint32_t i, uint32_t piece)
{
    const uint32_t *c = clock_of(p, i), *guard = guard_of(p, piece);
    uint32_t *late = &p->pieces.at[piece].late;
    if (guard[*late] > c[*late])
        return false;
    for (uint32_t s = 0; s < p->n_streams; s++)
        if (guard[s] > c[s]) {
            *late = s;
            return false;
        }
    return true;
}

/* Nobody has touched it. */
static uint32_t new_piece(struct planner *p, uint64_t offset, uint64_t bytes)
{
    uint32_t number = p->pieces.n;
    if (p->spare.n) {
        number = p->spare.at[--p->spare.n];
        memset(guard_of(p, number), 0, p->n_streams * sizeof(uint32_t));
    } else {
        vec_push(&p->pieces);
        vec_grow(&p->guards, p->n_streams);
    }
    p->pieces.at[number] = (struct piece){ offset, bytes, 0 };
    return number;
}

/* The guard of a covers b too. */
static void join_guard(const struct planner *p, uint32_t a, uint32_t b)
{
    uint32_t *x = guard_of(p, a);
    const uint32_t *y = guard_of(p, b);
    for (uint32_t s = 0; s < p->n_streams; s++)
        x[s] = y[s] > x[s] ? y[s] : x[s];
}

/* ---- the dead pieces of a space, by place in its columns ---- */

static struct piece *dead_at(const struct planner *p, const struct space *v, uint32_t k)
{
    return &p->pieces.at[v->dead.at[k]];
}

/* What number k joins has changed, or how large it is. */
static inline void note_alone(const struct planner *p, struct space *v, uint32_t k)
{
    if (k < v->dead.n)
        v->alone.at[k] = v->joins.at[k] | (k && v->joins.at[k - 1]) ? 0 : dead_at(p, v, k)->bytes;
}

static void set_joins(const struct planner *p, struct space *v, uint32_t k, bool joins)
{
    v->joins.at[k] = joins;
    note_alone(p, v, k);
    note_alone(p, v, k + 1);
}

static void drop_dead(struct planner *p, struct space *v, uint32_t first, uint32_t count)
{
    const uint32_t next = first + count, left = v->dead.n - next;
    for (uint32_t k = first; k < next; k++)
        vec_add(&p->spare, v->dead.at[k]);
    memmove(&v->dead.at[first], &v->dead.at[next], left * sizeof *v->dead.at);
    memmove(&v->joins.at[first], &v->joins.at[next], left * sizeof *v->joins.at);
    memmove(&v->alone.at[first], &v->alone.at[next], left * sizeof *v->alone.at);
    v->dead.n = v->joins.n = v->alone.n = first + left;
}

static void insert_dead(struct planner *p, struct space *v, uint32_t k, uint32_t piece)
{
    const uint32_t behind = v->dead.n - k;
    vec_push(&v->dead);
    vec_push(&v->joins);
    vec_push(&v->alone);
    memmove(&v->dead.at[k + 1], &v->dead.at[k], behind * sizeof *v->dead.at);
    memmove(&v->joins.at[k + 1], &v->joins.at[k], behind * sizeof *v->joins.at);
    memmove(&v->alone.at[k + 1], &v->alone.at[k], behind * sizeof *v->alone.at);
    v->dead.at[k] = piece;
    const struct piece *d = dead_at(p, v, k);
    set_joins(p, v, k, behind && d->offset + d->bytes == dead_at(p, v, k + 1)->offset);
    if (k)
        set_joins(p, v, k - 1, dead_at(p, v, k - 1)->offset + dead_at(p, v, k - 1)->bytes == d->offset);
}

/* The next one from k on that joins; dead.n: none does. */
static uint32_t next_join(const struct space *v, uint32_t k)
{
    const uint8_t *found = k < v->joins.n ? memchr(v->joins.at + k, 1, v->joins.n - k) : NULL;
    return found ? (uint32_t)(found - v->joins.at) : v->joins.n;
}

/* A new buffer that looks for dead bytes. */
struct wanted {
    enum pool pool;
    uint32_t i; /* its first instruction */
    uint64_t bytes;
    bool waits; /* bytes that cost a wait are taken too, where the wait is free */
};

struct fit {
    uint64_t bytes;
    uint32_t first, count; /* count 0: there is none */
};

/* Of whole parameters and gradients dead bytes are taken as they are, by a buffer that fills two thirds of them at least. */
static bool usable(const struct planner *p, const struct wanted *w, uint32_t piece)
{
    const uint64_t bytes = p->pieces.at[piece].bytes;
    if (w->pool != POOL_REST && (bytes < w->bytes || bytes > w->bytes + w->bytes / 2))
        return false;
    return covered(p, w->i, piece) || (w->waits && old_enough(p, w->i, guard_of(p, piece), p->lag[w->pool]));
}

/* The next from k on with `bytes` or more, but less than `over` more: what is less than `bytes` wraps round. */
static uint32_t next_alone(const struct space *v, uint32_t k, uint64_t bytes, uint64_t over)
{
    const uint64_t *alone = v->alone.at;
    const uint32_t n = v->alone.n;
    while (k < n && alone[k] - bytes >= over)
        k++;
    return k;
}

/* Of usable dead pieces that touch no other one. */
static void best_alone(const struct planner *p, const struct wanted *w, struct fit *best)
{
    const struct space *v = &p->spaces[w->pool];
    for (uint32_t k = 0; best->bytes > w->bytes; k++) {
        k = next_alone(v, k, w->bytes, best->bytes - w->bytes);
        if (k == v->alone.n)
            return;
        if (usable(p, w, v->dead.at[k]))
            *best = (struct fit){ v->alone.at[k], k, 1 };
    }
}

/* Runs of usable dead pieces among those from `first` to `end`, which touch: a window that slides over them once. Whatever holds more
 * bytes than the best run so far is in no better one. */
static void best_window(const struct planner *p, const struct wanted *w, uint32_t first, uint32_t end, struct fit *best)
{
    const struct space *v = &p->spaces[w->pool];
    uint64_t have = 0;
    for (uint32_t k = first, next = first; k < end && (best->bytes > w->bytes || k < best->first); k++) {
        while (next < end && have < w->bytes && dead_at(p, v, next)->bytes <= best->bytes &&
               usable(p, w, v->dead.at[next]))
            have += dead_at(p, v, next++)->bytes;
        if (have < w->bytes) { /* no run holds number `next` */
            k = next++;
            have = 0;
            continue;
        }
        if (have < best->bytes || (have == best->bytes && k < best->first))
            *best = (struct fit){ have, k, next - k };
        have -= dead_at(p, v, k)->bytes;
    }
}

/* The run of usable dead pieces that fits best, the first of equals. */
static struct fit best_run(const struct planner *p, const struct wanted *w)
{
    const struct space *v = &p->spaces[w->pool];
    struct fit best = { .bytes = UINT64_MAX };
    best_alone(p, w, &best);
    for (uint32_t first = next_join(v, 0), end; first < v->dead.n; first = next_join(v, end)) {
        uint64_t bytes = dead_at(p, v, first)->bytes;
        for (end = first + 1; v->joins.at[end - 1]; end++)
            bytes += dead_at(p, v, end)->bytes;
        if (bytes >= w->bytes)
            best_window(p, w, first, end, &best);
    }
    return best;
}

/* Without waits if there is such a run, else with waits that cost nothing. */
static struct fit find_run(const struct planner *p, struct wanted *w)
{
    struct fit best = best_run(p, w);
    if (best.count)
        return best;
    w->waits = true;
    return best_run(p, w);
}

static enum pool pool_of(const struct plan_buffer *b)
{
    if (b->role == SLOT_PARAM)
        return POOL_PARAMS;
    return b->role == SLOT_GRAD ? POOL_GRADS : POOL_REST;
}

/* Takes bytes of a run of dead ones, once instruction i has waited for all that used them. The rest stays dead, under the guard of all. */
static uint32_t take_run(struct planner *p, const struct wanted *w, const struct fit *run)
{
    struct space *v = &p->spaces[w->pool];
    const uint32_t first = v->dead.at[run->first], last = run->first + run->count - 1;
    const uint64_t offset = p->pieces.at[first].offset;
    const bool cut = w->pool == POOL_REST && run->bytes > w->bytes, joins = v->joins.at[last];
    for (uint32_t j = run->first; j <= last; j++) {
        const uint32_t *guard = guard_of(p, v->dead.at[j]);
        for (uint32_t s = 0; s < p->n_streams; s++)
            if (guard[s])
                add_wait(p, w->i, guard[s] - 1);
        if (j > run->first)
            join_guard(p, first, v->dead.at[j]);
    }
    if (cut)
        p->pieces.at[first] = (struct piece){ offset + w->bytes, run->bytes - w->bytes, 0 };
    drop_dead(p, v, run->first + cut, run->count - cut);
    if (cut)
        set_joins(p, v, run->first, joins);
    else
        note_alone(p, v, run->first);
    if (run->first)
        set_joins(p, v, run->first - 1, false);
    return new_piece(p, offset, cut ? w->bytes : run->bytes);
}

/* Takes bytes at the end of a space; of a dead tail that may be used, where it is too small, and more. */
static uint32_t take_end(struct planner *p, const struct wanted *w)
{
    struct space *v = &p->spaces[w->pool];
    const uint32_t n = v->dead.n;
    const struct piece *tail = n ? dead_at(p, v, n - 1) : NULL;
    uint64_t offset = v->extent;
    if (w->pool == POOL_REST && tail && tail->offset + tail->bytes == v->extent &&
        covered(p, w->i, v->dead.at[n - 1])) {
        offset = tail->offset;
        drop_dead(p, v, n - 1, 1);
        if (n > 1)
            set_joins(p, v, n - 2, false);
    }
    v->extent = offset + w->bytes;
    return new_piece(p, offset, w->bytes);
}

static void allocate(struct planner *p, uint32_t i, uint32_t buffer)
{
    struct plan_buffer *b = &p->pb->buffers.at[buffer];
    struct wanted w = { pool_of(b), i, round_up(b->bytes ? b->bytes : 1, p->alignment), false };
    const struct fit run = find_run(p, &w);
    const uint32_t piece = run.count ? take_run(p, &w, &run) : take_end(p, &w);
    p->piece_of[buffer - p->first_buffer] = piece;
    b->offset = p->pieces.at[piece].offset;
    p->live[b->kind] += b->bytes;
    if (p->live[b->kind] > p->peak[b->kind])
        p->peak[b->kind] = p->live[b->kind];
}

static void release(struct planner *p, uint32_t buffer)
{
    const struct plan_buffer *b = &p->pb->buffers.at[buffer];
    struct space *v = &p->spaces[pool_of(b)];
    uint32_t lo = 0, hi = v->dead.n;
    while (lo < hi) {
        uint32_t mid = (lo + hi) / 2;
        if (dead_at(p, v, mid)->offset < b->offset)
            lo = mid + 1;
        else
            hi = mid;
    }
    insert_dead(p, v, lo, p->piece_of[buffer - p->first_buffer]);
    p->live[b->kind] -= b->bytes;
}

/* Neighbouring dead pieces that instruction i comes after become one. */
static void merge_dead(struct planner *p, struct space *v, uint32_t i)
{
    for (uint32_t k = next_join(v, 0); k < v->dead.n; k = next_join(v, k + 1)) {
        const uint32_t into = v->dead.at[k];
        uint32_t end = k + 1;
        if (!covered(p, i, into))
            continue;
        for (; v->joins.at[end - 1] && covered(p, i, v->dead.at[end]); end++) {
            join_guard(p, into, v->dead.at[end]);
            p->pieces.at[into].bytes += dead_at(p, v, end)->bytes;
        }
        if (end == k + 1)
            continue;
        const bool joins = v->joins.at[end - 1];
        drop_dead(p, v, k + 1, end - k - 1);
        set_joins(p, v, k, joins);
    }
}

/* Buffers whose last use instruction i is; at the end of what is repeated those of all of it. */
static void release_used(struct planner *p, uint32_t i)
{
    const uint32_t first = i == p->end && i ? p->rounds : i, stream = instr(p, i)->stream;
    bool freed = false;
    for (uint32_t j = first; j <= i; j++)
        for (uint32_t k = 0; k < instr(p, j)->n_bases; k++) {
            const struct plan_base *b = &p->pb->bases.at[instr(p, j)->first_base + k];
            const uint32_t buffer = b->buffer - p->first_buffer;
            if (b->arena != ARENA_WORK || p->last_use[buffer] != i)
                continue;
            guard_of(p, p->piece_of[buffer])[stream] = i + 1;
            p->last_use[buffer] = PLAN_NONE; /* a buffer may stand twice in an instruction */
            release(p, b->buffer);
            freed = true;
        }
    if (freed)
        merge_dead(p, &p->spaces[POOL_REST], i);
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
        const struct plan_base *b = &p->pb->bases.at[instr->first_base + k];
        if (b->arena != ARENA_WORK)
            continue;
        if (p->piece_of[b->buffer - p->first_buffer] == PLAN_NONE)
            allocate(p, i, b->buffer);
        guard_of(p, p->piece_of[b->buffer - p->first_buffer])[instr->stream] = i + 1;
    }
    if (instr->op == PLAN_ROUNDS) {
        p->rounds = i;
        p->end = i + (uint32_t)instr->count;
    }
    release_used(p, i);
    p->last_on[instr->stream] = i + 1;
}

/* What further rounds use stays until the last of them. */
static void find_last_uses(struct planner *p)
{
    uint32_t end = 0;
    for (uint32_t i = 0; i < p->n; i++) {
        const struct plan_instr *x = instr(p, i);
        if (x->op == PLAN_ROUNDS)
            end = i + (uint32_t)x->count;
        for (uint32_t k = 0; k < x->n_bases; k++)
            if (p->pb->bases.at[x->first_base + k].arena == ARENA_WORK) {
                const uint32_t buffer = p->pb->bases.at[x->first_base + k].buffer - p->first_buffer;
                p->last_use[buffer] = end > i ? end : i;
            }
    }
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
    p.piece_of = mem_alloc((n_buffers + 1) * sizeof *p.piece_of);
    memset(p.piece_of, 0xff, n_buffers * sizeof *p.piece_of);
    for (uint32_t i = 0, runs = 0; i < n; i++) {
        const struct plan_instr *x = instr(&p, i);
        p.compute_index[i] = runs;
        runs += x->op == PLAN_RUN;
    }
    find_last_uses(&p);
    for (uint32_t i = 0; i < n; i++)
        plan_instruction(&p, i, deps);
    settle(&p, &pb->h.arena_bytes[ARENA_WORK]);
    for (int v = 0; v < POOLS; v++) {
        vec_free(&p.spaces[v].dead);
        vec_free(&p.spaces[v].joins);
        vec_free(&p.spaces[v].alone);
    }
    vec_free(&p.pieces);
    vec_free(&p.guards);
    vec_free(&p.spare);
    mem_free(p.clock);
    mem_free(p.last_on);
    mem_free(p.compute_index);
    mem_free(p.last_use);
    mem_free(p.piece_of);
}
