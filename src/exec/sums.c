/* Checksums: what a rank keeps from update to update (parameters, masters, moments) is at the next one what the last one left. A bit
 * that changed between is found before a gather spreads it, by the update itself, which reads all of it, and before a checkpoint made of
 * it gets its name. What is kept nowhere is not covered: gradients, activations, and copies of parameters that the next gather brings
 * anew. No gather brings those of frozen parameters, of which each holder has all: they are kept beside the state. */
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "exec/bucket_view.h"
#include "exec/private.h"

/* ---- stretches ------------------------------------------------------------------------------------------------- */

struct borders {
    VEC(uint64_t);
};

static int by_value(const void *a, const void *b)
{
    const uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void add_border(struct borders *all, uint64_t at, struct bucket_view_range in)
{
    if (at >= in.first && at <= in.first + in.count)
        vec_add(all, at);
}

/* Where in a range parameters, this rank's state and own part, and what decays begin and end. */
static void find_borders(const struct plan *p, uint32_t bucket, const struct bucket_view *s,
                         struct bucket_view_range in, struct borders *all)
{
    const struct plan_bucket *b = &p->buckets[bucket];
    const uint64_t more[] = { in.first,       in.first + in.count,
                              s->state.first, s->state.first + s->state.count,
                              s->own.first,   s->own.first + s->own.count,
                              b->n_decay };
    all->n = 0;
    for (size_t i = 0; i < sizeof more / sizeof *more; i++)
        add_border(all, more[i], in);
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces; i++) {
        add_border(all, p->pieces[i].offset, in);
        add_border(all, p->pieces[i].offset + p->pieces[i].count, in);
    }
    qsort(all->at, all->n, sizeof *all->at, by_value);
}

static uint32_t param_at(const struct plan *p, const struct plan_bucket *b, uint64_t element)
{
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces; i++)
        if (element >= p->pieces[i].offset && element - p->pieces[i].offset < p->pieces[i].count)
            return p->pieces[i].param;
    return IR_NONE;
}

struct stretches {
    VEC(struct update_stretch);
};

/* Counted from the begin of the range. */
static void add_stretches(const struct plan *p, uint32_t bucket, const struct bucket_view *s,
                          struct bucket_view_range in, struct stretches *out)
{
    struct borders borders = { 0 };
    find_borders(p, bucket, s, in, &borders);
    for (uint32_t i = 0; i + 1 < borders.n; i++) {
        const uint64_t end = borders.at[i + 1];
        const uint32_t param = param_at(p, &p->buckets[bucket], borders.at[i]);
        for (uint64_t at = borders.at[i]; at < end; at += UPDATE_STRETCH) {
            const uint64_t left = end - at;
            vec_add(out, ((struct update_stretch){ at - in.first,
                                                   left < UPDATE_STRETCH ? (uint32_t)left : UPDATE_STRETCH, param }));
        }
    }
    vec_free(&borders);
}

/* ---- opening --------------------------------------------------------------------------------------------------- */

/* Updates; and the first gather of a bucket's parameters in a list, whose later ones gather the same. */
static void look_through(const struct exec *x, const struct plan_list *l, struct exec__sums *sums)
{
    const uint64_t buckets = x->plan->h->count[PLAN_S_BUCKETS];
    bool *seen = mem_alloc(buckets * sizeof *seen);
    for (uint32_t i = l->first_instr; i < l->first_instr + l->n_instr; i++) {
        const struct plan_instr *in = &x->plan->instrs[i];
        sums->updates[l - x->plan->lists] |= in->op == PLAN_UPDATE;
        if (in->op != PLAN_ALL_GATHER || plan_moves_tensor(x->plan, in) || seen[in->bucket])
            continue;
        sums->gathers[i] = 1;
        seen[in->bucket] = true;
    }
    mem_free(seen);
}

/* Of a bucket: what the update has, then what is beside it. */
static void open_bucket(struct exec *x, uint32_t b, struct stretches *all)
{
    struct exec__sums *sums = x->sums;
    const struct bucket_view s = bucket_view_of(x->plan, b, x->rank, x->arena);
    add_stretches(x->plan, b, &s, s.state, all);
    sums->first[2 * b + 1] = all->n;
    if (x->plan->buckets[b].rule == PLAN_RULE_FROZEN && s.params.count > s.state.count) {
        sums->beside[b] = (struct update_args){ .n = s.params.count, .param = s.param, .compute = s.type };
        add_stretches(x->plan, b, &s, s.params, all);
    }
    sums->first[2 * b + 2] = all->n;
}

void exec__sums_open(struct exec *x)
{
    const struct plan *p = x->plan;
    const uint64_t n_buckets = p->h->count[PLAN_S_BUCKETS];
    struct exec__sums *sums = x->sums = arena_array(&x->memory, struct exec__sums, 1);
    struct stretches all = { 0 };
    sums->first = arena_array(&x->memory, uint32_t, 2 * n_buckets + 1);
    sums->beside = arena_array(&x->memory, struct update_args, n_buckets);
    for (uint32_t b = 0; b < n_buckets; b++)
        open_bucket(x, b, &all);
    sums->n = all.n;
    sums->at = arena_array(&x->memory, struct update_stretch, all.n);
    if (all.n)
        memcpy(sums->at, all.at, all.n * sizeof *all.at);
    vec_free(&all);
    sums->updates = arena_array(&x->memory, bool, p->h->count[PLAN_S_LISTS]);
    sums->gathers = arena_array(&x->memory, unsigned char, p->h->count[PLAN_S_INSTRS]);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_LISTS]; i++)
        look_through(x, &p->lists[i], sums);
}

/* Those of a bucket, as first[] counts. */
static struct update_sums sums_of(const struct exec__sums *sums, uint32_t which)
{
    const uint32_t first = sums->first[which];
    return (struct update_sums){ .n = sums->first[which + 1] - first,
                                 .at = sums->memory.at + first,
                                 .sums = sums->memory.sums + first,
                                 .faults = sums->memory.faults + first,
                                 .any = sums->memory.faults + sums->n };
}

void exec__sums_bind(struct exec *x, const struct exec__sums_memory *m, void *stream)
{
    struct exec__sums *sums = x->sums;
    sums->memory = *m;
    for (uint32_t b = 0; b < x->plan->h->count[PLAN_S_BUCKETS]; b++) {
        x->buckets[b].update.stream = sums->beside[b].stream = stream;
        x->buckets[b].update.sums = sums_of(sums, 2 * b);
        sums->beside[b].sums = sums_of(sums, 2 * b + 1);
    }
}

/* ---- what is found ---------------------------------------------------------------------------------------------- */

static const char *array_name(const struct exec *x, uint32_t bucket, uint32_t array)
{
    const struct update_args *u = &x->buckets[bucket].update;
    static const char *const names[UPDATE_ARRAYS] = { "the float32 master copy", "the first moments (m)",
                                                      "the second moments (v)", "the parameters" };
    return array == UPDATE_MASTER && u->param == u->master ? names[UPDATE_PARAM] : names[array];
}

/* Stretch i: "the first moments (m) of layers.0.up.weight". */
static void name_stretch(const struct exec *x, uint32_t i, uint32_t arrays, char *text, size_t size)
{
    const struct exec__sums *sums = x->sums;
    uint32_t bucket = 0, array = 0;
    while (sums->first[2 * bucket + 2] <= i)
        bucket++;
    while (!(arrays >> array & 1))
        array++;
    if (sums->at[i].param == IR_NONE)
        snprintf(text, size, "%s in the padding of bucket %u", array_name(x, bucket, array), bucket);
    else
        snprintf(text, size, "%s of %s", array_name(x, bucket, array), x->graph->params.at[sums->at[i].param].name);
}

static enum status changed(const struct exec *x, uint32_t i, uint32_t arrays, uint64_t step, struct err *e)
{
    char what[512], host[256] = "";
    gethostname(host, sizeof host - 1);
    name_stretch(x, i, arrays, what, sizeof what);
    return err_set(e, ST_DEVICE, NULL,
                   "%s changed in memory after step %llu (checksum mismatch). Memory or a processor of %s is likely "
                   "faulty, or a bug in piper overwrote them; earlier checkpoints are not affected: rerun the same "
                   "command without that node to resume",
                   what, (unsigned long long)step, host);
}

void exec__sums_judge(const struct exec *x, const struct plan_instr *in)
{
    const struct exec__sums *sums = x->sums;
    struct err e = { 0 };
    if (!sums || !sums->memory.faults[sums->n])
        return;
    uint32_t i = 0;
    while (i < sums->n && !sums->memory.faults[i])
        i++;
    CHECK(i < sums->n);
    changed(x, i, sums->memory.faults[i], sums->step, &e);
    if (in)
        exec__fail(x, in, &e);
    char text[sizeof e.text + 64];
    snprintf(text, sizeof text, "rank %u, step %llu: %s", x->rank, (unsigned long long)atomic_load(&x->running_step),
             e.text);
    process_fail(e.status, text);
}

/* Of all that is kept of a bucket. */
static void checksum(const struct exec *x, uint32_t bucket, bool check)
{
    x->compute->checksum(&x->buckets[bucket].update, UPDATE_ALL, check);
    if (x->sums->beside[bucket].n)
        x->compute->checksum(&x->sums->beside[bucket], 1u << UPDATE_PARAM, check);
}

void exec__sums_frozen(struct exec *x)
{
    for (uint32_t b = 0; b < x->plan->h->count[PLAN_S_BUCKETS]; b++)
        if (x->plan->buckets[b].rule == PLAN_RULE_FROZEN)
            checksum(x, b, true);
}

uint32_t exec__sums_gathered(const struct exec *x, const struct plan_instr *in)
{
    if (!x->sums || !x->sums->gathers[in - x->plan->instrs])
        return 0;
    const struct update_args *u = &x->buckets[in->bucket].update;
    return 1u << (u->param == u->master ? UPDATE_MASTER : UPDATE_PARAM);
}

/* ---- between steps ---------------------------------------------------------------------------------------------- */

static void all(struct exec *x, bool check)
{
    for (uint32_t b = 0; b < x->plan->h->count[PLAN_S_BUCKETS]; b++)
        checksum(x, b, check);
    x->machine->settle(x);
}

void exec_sums_take(struct exec *x, uint64_t step)
{
    if (!x->sums)
        return;
    all(x, false);
    x->sums->step = step;
}

void exec_sums_check(struct exec *x)
{
    if (!x->sums)
        return;
    all(x, true);
    exec__sums_judge(x, NULL);
}

static uint64_t sum_of(const float *x, uint32_t n)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < n; i++) {
        uint32_t bits;
        memcpy(&bits, &x[i], sizeof bits);
        sum += bits;
    }
    return sum;
}

/* What a checkpoint is written of: in the snapshot the own part of what there is of parameters, m and v, one after the other. */
static enum status check_bucket(struct exec *x, uint32_t bucket, struct err *e)
{
    const struct exec__sums *sums = x->sums;
    const struct bucket_view s = bucket_view_of(x->plan, bucket, x->rank, exec_arenas(x));
    const uint64_t before = s.own.first - s.state.first; /* elements of the state that are another rank's to write */
    const float *const state[] = { s.master ? s.master : (float *)s.param + (s.state.first - s.params.first), s.m,
                                   s.v };
    const float *next = s.snapshot, *own[3] = { NULL };
    for (int k = 0; k < 3; k++) {
        own[k] = !state[k] ? NULL : next ? next : state[k] + before;
        if (state[k] && next)
            next += s.own.count;
    }
    for (uint32_t i = sums->first[2 * bucket]; i < sums->first[2 * bucket + 1]; i++) {
        const struct update_stretch *at = &sums->at[i];
        for (uint32_t k = 0; k < 3 && at->first >= before && at->first < before + s.own.count; k++)
            if (own[k] && sum_of(own[k] + (at->first - before), at->count) != sums->memory.kept[i][k])
                return changed(x, i, 1u << k, sums->kept_step, e);
    }
    return ST_OK;
}

enum status exec_copy_check(struct exec *x, struct err *e)
{
    for (uint32_t b = 0; x->sums && b < x->plan->h->count[PLAN_S_BUCKETS]; b++) {
        struct err why = { 0 };
        if (check_bucket(x, b, &why) != ST_OK)
            return err_set(e, why.status, NULL, "rank %u: the checkpoint of step %llu is not written: %s", x->rank,
                           (unsigned long long)x->sums->kept_step, why.text);
    }
    return ST_OK;
}
