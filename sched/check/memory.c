/* Memory of a rank: happens-before comes from its own streams and waits alone.
 *
 * Every instruction has a vector clock: how many instructions of each stream are done when it is done. The list is
 * swept in dispatch order, which extends happens-before; a map from bytes to their last writer and the readers since
 * then gives the earlier accesses that an access conflicts with. Three things are proven: conflicting accesses are
 * ordered; what is read of ARENA_WORK was written before in this list, last to the same buffer; a byte of a gradient
 * is first written, then added to, and a bucket is complete before it is reduced, measured or applied. */
#include "sched/check/check.h"

#include <inttypes.h>

#include "base/parallel.h"

/* Maps: one per arena, the scalars as one byte; and for the bytes of gradients, in their arena and in buffers,
 * whether they hold a value of this step. */
enum { MAP_FILLED = ARENA_COUNT, MAP_FILLED_WORK, MAPS };
enum mode {
    MODE_READ = 1,
    MODE_WRITE = 2,
    MODE_NEED = 4,  /* the bytes hold a value: in ARENA_WORK and MAP_FILLED_WORK of this buffer */
    MODE_FIRST = 8, /* filled maps: no byte holds a value; from now on all do */
};
struct access {
    uint8_t map, mode;
    uint32_t buffer;
    uint64_t from, to;
};
struct reader {
    uint32_t instr, next;
};
struct sweep {
    const struct check *c;
    const struct check_list *l;
    const struct check_class *k;
    const struct plan *p;
    const struct plan_instr *in;
    uint32_t cls, n, streams;
    uint32_t *clock;    /* [n][streams] */
    uint32_t *position; /* in its stream, from 1 */
    uint32_t *rounds;   /* the ROUNDS that repeats it, plus one, and of that its own number plus one; 0: none */
    struct check_spans maps[MAPS];
    struct {
        VEC(struct reader);
    } readers;
    struct {
        VEC(struct access);
    } now; /* of one instruction */
};

/* ---- what an instruction touches ---- */

static void touch(struct sweep *s, uint32_t map, uint32_t mode, uint32_t buffer, uint64_t from, uint64_t bytes)
{
    if (bytes && mode)
        vec_add(&s->now, ((struct access){ (uint8_t)map, (uint8_t)mode, buffer, from, from + bytes }));
}

static void touch_base(struct sweep *s, const struct plan_base *b, uint32_t mode, uint64_t bytes)
{
    if (b->arena == ARENA_WORK && mode & MODE_READ)
        mode |= MODE_NEED;
    touch(s, b->arena, mode, b->buffer, b->offset, bytes);
}

static void touch_run(struct sweep *s, const struct plan_instr *in)
{
    const struct plan_program *g = &s->p->programs[in->program];
    const struct check_program *program = &s->k->programs[in->program];
    for (uint32_t i = 0; i < in->n_bases; i++) {
        const struct plan_slot *slot = &s->p->slots[g->first_slot + i];
        const struct plan_base *b = &s->p->bases[in->first_base + i];
        uint32_t mode = slot->access & PLAN_WRITE ? MODE_WRITE : 0;
        bool reads = slot->kind == SLOT_GRAD ? !b->first : s->k->exposed[g->first_slot + i];
        if ((slot->access & PLAN_READ && reads) || (in->count && mode)) /* what the piece before left goes on */
            mode |= MODE_READ;
        touch_base(s, b, mode, slot->bytes);
        if (slot->kind == SLOT_GRAD && b->first && b->arena == ARENA_WORK &&
            !in->count) /* what no piece writes is zeroed */
            touch(s, MAP_FILLED_WORK, MODE_FIRST, b->buffer, b->offset, slot->bytes);
    }
    for (uint32_t i = program->first_use; i < program->first_use + program->n_uses && !in->count; i++) {
        const struct check_use *u = &s->k->uses.at[i];
        const struct plan_base *b = &s->p->bases[in->first_base + u->slot];
        if (u->grad && !u->add && !(b->first && b->arena == ARENA_WORK))
            touch(s, b->arena == ARENA_WORK ? MAP_FILLED_WORK : MAP_FILLED, b->first ? MODE_FIRST : MODE_NEED,
                  b->buffer, b->offset + u->offset, u->bytes);
    }
    if (program->scalars)
        touch(s, ARENA_SCALARS, MODE_READ | MODE_WRITE, PLAN_NONE, 0, 1);
}

/* The gradients of a bucket in its arena, complete: its pieces, or this holder's share. State and what is frozen have none. */
static void touch_gradients(struct sweep *s, uint32_t bucket, uint32_t mode)
{
    const struct plan_bucket *b = &s->p->buckets[bucket];
    if (b->rule != PLAN_RULE_OPTIMIZER)
        return;
    touch(s, ARENA_GRADS, mode, bucket, b->grad, check_grad_bytes(s->p, b));
    if (zero_shards_grads(b->zero))
        touch(s, MAP_FILLED, MODE_NEED, bucket, b->grad, check_grad_bytes(s->p, b));
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces && !zero_shards_grads(b->zero); i++)
        touch(s, MAP_FILLED, MODE_NEED, bucket, b->grad + s->p->pieces[i].offset * 4, s->p->pieces[i].count * 4);
}

static void touch_update(struct sweep *s, uint32_t bucket)
{
    const struct plan_bucket *b = &s->p->buckets[bucket];
    const uint64_t state[3] = { b->master, b->m, b->v };
    touch_gradients(s, bucket, MODE_READ);
    touch(s, ARENA_PARAMS, MODE_READ | MODE_WRITE, bucket, b->param, check_param_bytes(s->p, b));
    for (int i = 0; i < 3; i++)
        if (state[i] != UINT64_MAX)
            touch(s, ARENA_OPTIM, MODE_READ | MODE_WRITE, bucket, state[i], check_state_bytes(s->p, b));
    if (s->p->h->clip)
        touch(s, ARENA_SCALARS, MODE_READ, PLAN_NONE, 0, 1);
}

/* Bytes in which an own shard, or an own part of one, may lie: all of what stands there.
 *
 * That a value is there is asked of each of them. For conflicts the first part would do, so no plan is refused for this alone: what
 * collectives, ADD, SUMSQ and UPDATE touch of a bucket begins where it begins (stands_at_start() in steps.c), as do buckets in the same
 * memory (shares_gradients() in params.c), so any two of these meet in its first bytes; and between a RUN and an own part stands one that
 * touches all of the bucket and is ordered with both: the gather before a RUN that reads parameters, the reduction or the norm behind one
 * that writes gradients. */
static uint64_t reach(const struct sweep *s, const struct plan_base *b, uint64_t bytes)
{
    if (b->arena == ARENA_WORK || !(b->access & (PLAN_OWN | PLAN_PART)))
        return bytes;
    const struct plan_bucket *u = &s->p->buckets[b->buffer];
    if (b->access & PLAN_PART)
        bytes *= check_shard_elements(s->p, u) / check_part_elements(s->p, u);
    if (b->access & PLAN_OWN)
        bytes *= u->elements / check_shard_elements(s->p, u);
    return bytes;
}

/* A base of a collective or an ADD. Which part of a bucket is the own one differs from rank to rank, so it counts as
 * all of it. What is read of a bucket's gradients is complete. */
static void touch_part(struct sweep *s, const struct plan_base *b, uint32_t mode, uint64_t bytes)
{
    uint32_t bucket = check_bucket_of(s->p, b, SLOT_GRAD);
    const struct plan_bucket *u = bucket == PLAN_NONE ? NULL : &s->p->buckets[bucket];
    bytes = reach(s, b, bytes);
    if (b->arena == ARENA_GRADS && u && mode & MODE_READ) {
        touch_gradients(s, bucket, mode);
        return;
    }
    touch_base(s, b, mode, bytes);
    if (b->arena == ARENA_GRADS && u && zero_shards_grads(u->zero)) /* over copies: of a shard that is there */
        touch(s, MAP_FILLED, b->access & PLAN_PART ? MODE_NEED : MODE_FIRST, bucket, b->offset, bytes);
    if (b->arena != ARENA_WORK || !u || !(mode & MODE_READ) || bytes != u->elements * 4)
        return;
    for (uint32_t i = u->first_piece; i < u->first_piece + u->n_pieces; i++)
        touch(s, MAP_FILLED_WORK, MODE_NEED, b->buffer, b->offset + s->p->pieces[i].offset * 4,
              s->p->pieces[i].count * 4);
}

static void touch_collective(struct sweep *s, const struct plan_instr *in)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    uint64_t part = in->count * ir_dtype_size(in->type, s->p->h->compute);
    uint64_t whole = part * check_group_size(s->c, s->cls, s->p->channels[in->channel].group);
    if (in->op == PLAN_ALL_REDUCE) {
        touch_part(s, b, MODE_READ | MODE_WRITE, part);
        return;
    }
    const bool numbers = b[0].access & PLAN_OWN && b[0].arena == ARENA_WORK; /* whose place differs from rank to rank */
    touch_part(s, &b[0], MODE_READ, in->op == PLAN_ALL_GATHER && !numbers ? part : whole);
    touch_part(s, &b[1], MODE_WRITE, in->op == PLAN_REDUCE_SCATTER ? part : whole);
}

/* As many rows as counts say at run time: buffers to their ends. */
static void touch_rows(struct sweep *s, const struct plan_instr *in)
{
    for (uint32_t i = 0; i < in->n_bases; i++) {
        const struct plan_base *b = &s->p->bases[in->first_base + i];
        const struct plan_buffer *f = b->arena == ARENA_WORK ? &s->p->buffers[b->buffer] : NULL;
        if (f) /* else refused by values.c */
            touch_base(s, b, i == 1 ? MODE_WRITE : MODE_READ, f->offset + f->bytes - b->offset);
    }
}

/* Counts, gradients that are zero from then on, and the number of rounds. */
static void touch_rounds(struct sweep *s, const struct plan_instr *in)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    for (uint32_t k = 0; k < 2; k++)
        touch_base(s, &b[k], k ? MODE_WRITE : MODE_READ, s->p->buffers[b[k].buffer].bytes);
    for (uint32_t k = 2; k < in->n_bases; k++) {
        const uint64_t bytes = plan_zeroed_bytes(s->p, &b[k]);
        const struct plan_bucket *u = &s->p->buckets[check_bucket_of(s->p, &b[k], SLOT_GRAD)];
        touch_base(s, &b[k], MODE_WRITE, bytes);
        if (b[k].arena == ARENA_WORK)
            touch(s, MAP_FILLED_WORK, MODE_FIRST, b[k].buffer, b[k].offset, bytes);
        for (uint32_t i = u->first_piece; i < u->first_piece + u->n_pieces && b[k].arena != ARENA_WORK; i++)
            touch(s, MAP_FILLED, MODE_FIRST, b[k].buffer, b[k].offset + s->p->pieces[i].offset * 4,
                  s->p->pieces[i].count * 4);
    }
    if (in->pass == IR_PASS_F)
        touch(s, ARENA_SCALARS, MODE_READ | MODE_WRITE, PLAN_NONE, 0, 1);
}

/* Reduced gradients of a microbatch into the bucket. */
static void touch_add(struct sweep *s, const struct plan_instr *in)
{
    const struct plan_base *b = &s->p->bases[in->first_base];
    const uint64_t bytes = in->count * 4, extent = reach(s, b, bytes);
    touch_base(s, b, MODE_WRITE | (b->first ? 0 : MODE_READ), extent);
    if (b->arena == ARENA_GRADS)
        touch(s, MAP_FILLED, b->first ? MODE_FIRST : MODE_NEED, b->buffer, b->offset, extent);
    touch_base(s, b + 1, MODE_READ, bytes);
}

/* LOAD writes a microbatch of its tensor. */
static uint64_t load_bytes(const struct sweep *s, const struct plan_instr *in)
{
    const struct ir_shape *shape = &s->c->g->tensors.at[in->tensor].shape;
    const uint64_t tokens = in->count ? in->count : s->c->g->seq_len;
    return tokens * s->p->lists[s->l->index[s->cls]].microbatch_size * ir_dtype_size(shape->dtype, s->p->h->compute);
}

static void touches(struct sweep *s, uint32_t i)
{
    const struct plan_instr *in = &s->in[i];
    const struct plan_base *b = &s->p->bases[in->first_base];
    uint64_t bytes = in->count * ir_dtype_size(in->type, s->p->h->compute);
    s->now.n = 0;
    switch ((enum plan_op)in->op) {
    case PLAN_LOAD:
        touch_base(s, b, MODE_WRITE, load_bytes(s, in));
        break;
    case PLAN_RUN:
        touch_run(s, in);
        break;
    case PLAN_SEND:
        touch_base(s, b, MODE_READ, bytes);
        break;
    case PLAN_RECV:
        touch_base(s, b, MODE_WRITE, bytes);
        break;
    case PLAN_EXCHANGE:
    case PLAN_SHIFT:
        touch_base(s, b, MODE_READ, bytes);
        touch_base(s, b + 1, MODE_WRITE, bytes);
        break;
    case PLAN_ALL_REDUCE:
    case PLAN_REDUCE_SCATTER:
    case PLAN_ALL_GATHER:
    case PLAN_ALL_TO_ALL:
        touch_collective(s, in);
        break;
    case PLAN_ALL_TO_ALL_V:
    case PLAN_TO_EXPERTS:
    case PLAN_FROM_EXPERTS:
        touch_rows(s, in);
        break;
    case PLAN_ROUNDS:
        touch_rounds(s, in);
        break;
    case PLAN_ADD:
        touch_add(s, in);
        break;
    case PLAN_SUMSQ:
        touch_gradients(s, in->bucket, MODE_READ);
        touch(s, ARENA_SCALARS, MODE_READ | MODE_WRITE, PLAN_NONE, 0, 1);
        break;
    case PLAN_SCALARS:
        touch(s, ARENA_SCALARS, MODE_READ | MODE_WRITE, PLAN_NONE, 0, 1);
        break;
    case PLAN_UPDATE:
        touch_update(s, in->bucket);
        break;
    case PLAN_OP_COUNT:
        break;
    }
}

/* ---- happens-before ---- */

static void clocks(struct sweep *s)
{
    uint32_t *last = mem_alloc(sizeof *last * (size_t)s->streams);
    memset(last, 0xff, sizeof *last * (size_t)s->streams);
    s->clock = mem_alloc(sizeof *s->clock * (size_t)s->n * s->streams);
    s->position = mem_alloc(sizeof *s->position * (size_t)s->n);
    for (uint32_t i = 0; i < s->n; i++) {
        const struct plan_instr *in = &s->in[i];
        uint32_t *mine = s->clock + (size_t)i * s->streams;
        if (last[in->stream] != PLAN_NONE)
            memcpy(mine, s->clock + (size_t)last[in->stream] * s->streams, sizeof *mine * s->streams);
        for (uint32_t w = 0; w < in->n_waits; w++) {
            const uint32_t *other = s->clock + (size_t)s->p->waits[in->first_wait + w] * s->streams;
            for (uint32_t k = 0; k < s->streams; k++)
                mine[k] = other[k] > mine[k] ? other[k] : mine[k];
        }
        s->position[i] = ++mine[in->stream];
        last[in->stream] = i;
    }
    mem_free(last);
}

/* An earlier instruction of the list is done before i starts. */
static bool ordered(const struct sweep *s, uint32_t before, uint32_t i)
{
    return s->clock[(size_t)i * s->streams + s->in[before].stream] >= s->position[before];
}

/* ---- the sweep ---- */

static const char *arena_name(uint32_t map)
{
    static const char *const names[MAPS] = {
        "params", "grads", "optimizer", "work", "scalars", "comm", "grads", "work"
    };
    return names[map];
}

static enum status race(const struct sweep *s, uint32_t i, uint32_t other, const struct access *a, uint64_t byte)
{
    char text[256];
    check_instr_text(s->c, (struct check_place){ s->cls, s->l, other }, text, sizeof text);
    return check_wrong(s->c, RULE_RACE, (struct check_place){ s->cls, s->l, i },
                       "%s byte %" PRIu64 " of arena %s, but does not come after %s, which uses it too",
                       a->mode & MODE_WRITE ? "writes" : "reads", byte, arena_name(a->map), text);
}

static enum status wrong_value(const struct sweep *s, uint32_t i, const struct access *a, const struct check_span *span,
                               uint64_t byte)
{
    char text[256] = "nothing";
    struct check_place at = { s->cls, s->l, i };
    if (span->writer != PLAN_NONE)
        check_instr_text(s->c, (struct check_place){ s->cls, s->l, span->writer }, text, sizeof text);
    const char *where = a->map == MAP_FILLED_WORK ? "buffer" : "bucket";
    if (a->mode & MODE_FIRST)
        return check_wrong(s->c, RULE_FIRST, at,
                           "overwrites the gradient at byte %" PRIu64 " of %s %u that %s left there", byte, where,
                           a->buffer, text);
    if (a->map >= MAP_FILLED)
        return check_wrong(s->c, RULE_FIRST, at,
                           "needs the gradient at byte %" PRIu64 " of %s %u, but nothing has written it in this step",
                           byte, where, a->buffer);
    if (span->writer == PLAN_NONE)
        return check_wrong(s->c, RULE_VALUE, at, "reads byte %" PRIu64 " (buffer %u), which nothing has written", byte,
                           a->buffer);
    return check_wrong(s->c, RULE_VALUE, at, "reads byte %" PRIu64 " as buffer %u, but %s has put buffer %u there",
                       byte, a->buffer, text, span->buffer);
}

/* ---- rounds ---- */

static void find_rounds(struct sweep *s)
{
    s->rounds = mem_alloc(sizeof *s->rounds * ((size_t)s->n + 1));
    for (uint32_t i = 0; i < s->n; i++)
        for (uint64_t k = 0; s->in[i].op == PLAN_ROUNDS && k <= s->in[i].count; k++)
            s->rounds[i + k] = i + 1;
}

/* Sums of gradients go on in every round. */
static bool is_sum(const struct sweep *s, const struct access *a)
{
    return a->map == ARENA_GRADS || (a->map == ARENA_WORK && s->p->buffers[a->buffer].role == SLOT_GRAD);
}

/* Does i read, in a round, what the round must have made? Not so: what a device sends of all rounds, and what that is made of; counts of
 * all; parameters. */
static bool is_of_round(const struct sweep *s, uint32_t i, const struct access *a)
{
    const struct plan_instr *in = &s->in[i];
    const uint32_t role = a->map == ARENA_WORK ? s->p->buffers[a->buffer].role : SLOT_PARAM;
    return role != SLOT_PARAM && role != SLOT_GRAD &&
           ((in->op == PLAN_RUN && in->pass != IR_PASS_NONE) ||
            (in->op == PLAN_FROM_EXPERTS && a->buffer == s->p->bases[in->first_base].buffer));
}

/* What is read is there, however many rounds there are; in a round, of that round. The ROUNDS itself writes in any case. */
static enum status read_of_round(const struct sweep *s, uint32_t i, const struct access *a, uint32_t writer)
{
    const uint32_t here = plan_is_extra(&s->in[i]) ? s->rounds[i] : 0;
    const uint32_t there = writer == PLAN_NONE ? 0 : s->rounds[writer];
    if (is_sum(s, a) || a->map == ARENA_SCALARS)
        return ST_OK;
    if (there != here && there && plan_is_extra(&s->in[writer]))
        return check_wrong(s->c, RULE_ROUNDS, (struct check_place){ s->cls, s->l, i },
                           "reads buffer %u, which only further rounds have written last", a->buffer);
    if (here && there != here && is_of_round(s, i, a))
        return check_wrong(s->c, RULE_ROUNDS, (struct check_place){ s->cls, s->l, i },
                           "reads buffer %u, which the round has not written", a->buffer);
    return ST_OK;
}

/* A round must not overwrite what the next one reads. */
static enum status write_of_round(const struct sweep *s, uint32_t i, const struct access *a,
                                  const struct check_span *span)
{
    const uint32_t here = s->rounds[i];
    const bool inside = span->writer != PLAN_NONE && s->rounds[span->writer] == here;
    if (!plan_is_extra(&s->in[i]) || is_sum(s, a) || inside)
        return ST_OK;
    for (uint32_t r = span->readers; r != PLAN_NONE; r = s->readers.at[r].next)
        if (s->rounds[s->readers.at[r].instr] == here)
            return check_wrong(s->c, RULE_ROUNDS, (struct check_place){ s->cls, s->l, i },
                               "overwrites with buffer %u what the next round reads", a->buffer);
    return ST_OK;
}

static enum status read_span(struct sweep *s, uint32_t i, const struct access *a, struct check_span *span,
                             uint64_t byte)
{
    if (span->writer != PLAN_NONE && span->writer != i && !ordered(s, span->writer, i))
        return race(s, i, span->writer, a, byte);
    if (a->mode & MODE_NEED && (span->writer == PLAN_NONE || (a->map == ARENA_WORK && span->buffer != a->buffer)))
        return wrong_value(s, i, a, span, byte);
    TRY(read_of_round(s, i, a, span->writer));
    uint32_t next = span->readers; /* of one stream the last reader in a row is enough */
    if (next != PLAN_NONE && s->in[s->readers.at[next].instr].stream == s->in[i].stream)
        next = s->readers.at[next].next;
    span->readers = s->readers.n;
    vec_add(&s->readers, ((struct reader){ i, next }));
    return ST_OK;
}

static enum status write_span(struct sweep *s, uint32_t i, const struct access *a, struct check_span *span,
                              uint64_t byte)
{
    bool mine = span->writer == i;
    TRY(write_of_round(s, i, a, span));
    if (span->writer != PLAN_NONE && !mine && !ordered(s, span->writer, i))
        return race(s, i, span->writer, a, byte);
    for (uint32_t r = span->readers; r != PLAN_NONE; r = s->readers.at[r].next) {
        uint32_t reader = s->readers.at[r].instr;
        if (reader != i && !ordered(s, reader, i))
            return race(s, i, reader, a, byte);
        mine = mine || reader == i;
    }
    if (mine && a->map == ARENA_WORK && span->buffer != a->buffer)
        return check_wrong(s->c, RULE_VALUE, (struct check_place){ s->cls, s->l, i },
                           "buffers %u and %u share byte %" PRIu64 ", and this instruction uses both", span->buffer,
                           a->buffer, byte);
    return ST_OK;
}

/* Not memory, but whether a byte of a gradient holds a value of this bucket or buffer; no order is asked for. Buckets may have the same
 * bytes one after the other: the first value of the next takes them from the one before, which then has none to be reduced or applied. */
static enum status fill_span(struct sweep *s, uint32_t i, const struct access *a, struct check_span *span,
                             uint64_t byte)
{
    bool filled = span->writer != PLAN_NONE && span->buffer == a->buffer;
    return filled == !(a->mode & MODE_FIRST) ? ST_OK : wrong_value(s, i, a, span, byte);
}

static enum status apply(struct sweep *s, uint32_t i, const struct access *a, bool write)
{
    struct check_spans *m = &s->maps[a->map];
    uint32_t from = check_spans_find(m, a->from), to = check_spans_find(m, a->to);
    check_spans_cut(m, from);
    check_spans_cut(m, to);
    for (uint32_t k = from; k < to; k = check_spans_next(m, k)) {
        if (a->map >= MAP_FILLED)
            TRY(fill_span(s, i, a, &m->at[k], m->bounds[k]));
        else if (write)
            TRY(write_span(s, i, a, &m->at[k], m->bounds[k]));
        else
            TRY(read_span(s, i, a, &m->at[k], m->bounds[k]));
    }
    if (write) {
        check_spans_join(m, from, to);
        m->at[from] = (struct check_span){ .writer = i, .buffer = a->buffer, .readers = PLAN_NONE };
    }
    return ST_OK;
}

static void make_maps(struct sweep *s)
{
    struct {
        VEC(uint64_t);
    } bounds[MAPS] = { 0 };
    for (uint32_t i = 0; i < s->n; i++) {
        touches(s, i);
        for (uint32_t k = 0; k < s->now.n; k++) {
            vec_add(&bounds[s->now.at[k].map], s->now.at[k].from);
            vec_add(&bounds[s->now.at[k].map], s->now.at[k].to);
        }
    }
    for (int m = 0; m < MAPS; m++)
        check_spans_init(&s->maps[m], bounds[m].at, bounds[m].n,
                         (struct check_span){ PLAN_NONE, PLAN_NONE, PLAN_NONE });
}

static enum status sweep(struct sweep *s)
{
    for (uint32_t i = 0; i < s->n; i++) {
        touches(s, i);
        for (uint32_t k = 0; k < s->now.n; k++)
            if (s->now.at[k].mode & (MODE_READ | MODE_NEED))
                TRY(apply(s, i, &s->now.at[k], false));
        for (uint32_t k = 0; k < s->now.n; k++)
            if (s->now.at[k].mode & (MODE_WRITE | MODE_FIRST))
                TRY(apply(s, i, &s->now.at[k], true));
    }
    return ST_OK;
}

/* Classes are swept at once, on a thread each. */
struct sweeps {
    const struct check *c;
    const struct check_list *l;
    struct found {
        enum status st;
        struct err e;
    } * found; /* by class */
};

static void sweep_class(void *sweeps, uint32_t cls, uint32_t thread)
{
    const struct sweeps *all = sweeps;
    struct check c = *all->c;
    const struct check_class *k = &c.classes[cls];
    struct sweep s = { .c = &c, .l = all->l, .k = k, .p = k->p, .in = check_instrs(&c, all->l, cls), .cls = cls };
    (void)thread;
    c.e = &all->found[cls].e;
    s.n = check_n_instrs(&c, all->l, cls);
    s.streams = (uint32_t)k->p->h->count[PLAN_S_STREAMS];
    clocks(&s);
    find_rounds(&s);
    make_maps(&s);
    all->found[cls].st = sweep(&s);
    for (int m = 0; m < MAPS; m++)
        check_spans_release(&s.maps[m]);
    mem_free(s.clock);
    mem_free(s.position);
    mem_free(s.rounds);
    vec_free(&s.readers);
    vec_free(&s.now);
}

enum status check_memory(struct check *c, const struct check_list *l)
{
    struct sweeps all = { c, l, mem_alloc(c->n * sizeof *all.found) };
    enum status st = ST_OK;
    parallel_each(c->n, sweep_class, &all);
    for (uint32_t cls = 0; cls < c->n && st == ST_OK; cls++) {
        st = all.found[cls].st;
        if (st != ST_OK && c->e)
            *c->e = all.found[cls].e;
    }
    mem_free(all.found);
    return st;
}
