/* Bindings: what differs between the devices of a class follows from device sets. This file gives every ordered set
 * one number for the whole job, and proves that the sets in use relabel whole classes, so that one rank can stand for
 * its class:
 * - the classes partition the ranks;
 * - both sets of a transfer are one whole class each, and of equal size;
 * - a communicator is one group of whole classes, or groups that partition these, each with equally many devices of every class;
 *   all of them know it under one number. */
#include "sched/check/check.h"

#include <inttypes.h>

#include <stdlib.h>

/* ---- one number per sequence of devices ---- */

/* Appends a range to the sequence that starts at ranges[first], in the form that depends on the sequence alone: every
 * run is as long as it can be, from the left. */
static void append_range(struct check *c, uint32_t first, struct plan_range r)
{
    if (r.count == 1)
        r.stride = 0;
    while (r.count) {
        struct plan_range *t = c->ranges.n > first ? &c->ranges.at[c->ranges.n - 1] : NULL;
        uint32_t take;
        if (t && t->count == 1 && r.start > t->start) {
            t->stride = r.start - t->start;
            take = 1;
        } else if (t && t->count > 1 && r.start == (uint64_t)t->start + (uint64_t)t->stride * t->count) {
            take = r.stride == t->stride ? r.count : 1;
        } else {
            vec_add(&c->ranges, r);
            return;
        }
        t->count += take;
        r.start += r.stride * take;
        r.count -= take;
        if (r.count == 1)
            r.stride = 0;
    }
}

static uint64_t hash_ranges(const struct plan_range *r, uint32_t n)
{
    uint64_t h = 1469598103934665603u;
    for (uint32_t i = 0; i < n; i++) {
        const uint32_t v[3] = { r[i].start, r[i].stride, r[i].count };
        for (int k = 0; k < 3; k++)
            h = (h ^ v[k]) * 1099511628211u;
    }
    return h ^ h >> 29;
}

static void seq_rehash(struct check *c)
{
    uint32_t slots = c->seq_slots ? c->seq_slots * 2 : 256;
    mem_free(c->seq_table);
    c->seq_table = mem_alloc(sizeof *c->seq_table * (size_t)slots);
    memset(c->seq_table, 0xff, sizeof *c->seq_table * (size_t)slots);
    c->seq_slots = slots;
    for (uint32_t i = 0; i < c->seqs.n; i++) {
        const struct check_seq *s = &c->seqs.at[i];
        uint64_t h = hash_ranges(c->ranges.at + s->first_range, s->n_ranges);
        while (c->seq_table[h % slots] != PLAN_NONE)
            h++;
        c->seq_table[h % slots] = i;
    }
}

/* count[class]: devices of each class in the sequence; false: a device stands in it twice. */
static bool seq_expand(struct check *c, const struct check_seq *s, uint32_t *count)
{
    c->epoch++;
    for (uint32_t k = 0; k < s->n_ranges; k++) {
        struct plan_range r = c->ranges.at[s->first_range + k];
        for (uint32_t i = 0; i < r.count; i++) {
            uint32_t d = r.start + i * r.stride;
            if (c->stamp[d] == c->epoch)
                return false;
            c->stamp[d] = c->epoch;
            count[c->class_of[d]]++;
        }
    }
    return true;
}

/* Finds which whole classes a new sequence consists of. */
static void seq_classes(struct check *c, struct check_seq *s)
{
    uint32_t *count = mem_alloc(sizeof *count * (size_t)c->n);
    bool whole = seq_expand(c, s, count);
    for (uint32_t i = 0; i < c->n && whole; i++)
        whole = count[i] == 0 || count[i] == c->classes[i].p->sets[c->classes[i].p->h->devices].size;
    s->first_class = c->class_pool.n;
    for (uint32_t i = 0; i < c->n && whole; i++)
        if (count[i])
            vec_add(&c->class_pool, i);
    s->n_classes = c->class_pool.n - s->first_class;
    mem_free(count);
}

/* The number of the sequence ranges[first..], which is dropped when it is known already. */
static uint32_t seq_intern(struct check *c, uint32_t first)
{
    if (c->seqs.n * 2 >= c->seq_slots)
        seq_rehash(c);
    uint32_t n = c->ranges.n - first;
    const struct plan_range *r = c->ranges.at + first;
    uint64_t h = hash_ranges(r, n);
    for (; c->seq_table[h % c->seq_slots] != PLAN_NONE; h++) {
        uint32_t i = c->seq_table[h % c->seq_slots];
        const struct check_seq *s = &c->seqs.at[i];
        if (s->n_ranges == n && memcmp(c->ranges.at + s->first_range, r, n * sizeof *r) == 0) {
            c->ranges.n = first;
            return i;
        }
    }
    struct check_seq s = { .first_range = first, .n_ranges = n };
    for (uint32_t k = 0; k < n; k++)
        s.size += r[k].count;
    seq_classes(c, &s);
    c->seq_table[h % c->seq_slots] = c->seqs.n;
    vec_add(&c->seqs, s);
    return c->seqs.n - 1;
}

static uint32_t seq_of_sets(struct check *c, const struct plan *p, uint32_t first_set, uint32_t n_sets)
{
    uint32_t first = c->ranges.n;
    for (uint32_t k = 0; k < n_sets; k++) {
        const struct plan_set *s = &p->sets[first_set + k];
        for (uint32_t r = 0; r < s->n_ranges; r++)
            append_range(c, first, p->ranges[s->first_range + r]);
    }
    return seq_intern(c, first);
}

/* ---- classes, sets and groups ---- */

static enum status check_partition(struct check *c)
{
    uint32_t seen = 0;
    memset(c->class_of, 0xff, sizeof *c->class_of * (size_t)c->world);
    for (uint32_t i = 0; i < c->n; i++) {
        const struct plan *p = c->classes[i].p;
        const struct plan_set *s = &p->sets[p->h->devices];
        for (uint32_t k = 0; k < s->n_ranges; k++) {
            const struct plan_range *r = &p->ranges[s->first_range + k];
            for (uint32_t j = 0; j < r->count; j++) {
                uint32_t d = r->start + j * r->stride;
                if (c->class_of[d] != PLAN_NONE)
                    return err_set(c->e, ST_BUG, "plan check", "rule binding: rank %u is in rank classes %u and %u", d,
                                   c->class_of[d], i);
                c->class_of[d] = i;
                seen++;
            }
        }
    }
    if (seen != c->world)
        return err_set(c->e, ST_BUG, "plan check", "rule binding: %u of %u ranks are in a rank class", seen, c->world);
    return ST_OK;
}

/* Are all members of a set of the class? */
static bool of_class(const struct check *c, uint32_t cls, uint32_t set)
{
    const struct plan *p = c->classes[cls].p;
    for (uint32_t i = 0; i < p->sets[set].size; i++)
        if (c->class_of[plan_set_at(p, set, i)] != cls)
            return false;
    return true;
}

enum status check_bind_sets(struct check *c)
{
    c->class_of = arena_array(&c->arena, uint32_t, c->world);
    c->stamp = arena_array(&c->arena, uint32_t, c->world);
    TRY(check_partition(c));
    for (uint32_t i = 0; i < c->n; i++) {
        struct check_class *k = &c->classes[i];
        const struct plan *p = k->p;
        k->set_seq = arena_array(&c->arena, uint32_t, p->h->count[PLAN_S_SETS]);
        k->group_seq = arena_array(&c->arena, uint32_t, p->h->count[PLAN_S_GROUPS]);
        k->each_seq = arena_array(&c->arena, uint32_t, p->h->count[PLAN_S_GROUPS]);
        for (uint32_t s = 0; s < p->h->count[PLAN_S_SETS]; s++)
            k->set_seq[s] = seq_of_sets(c, p, s, 1);
        for (uint32_t g = 0; g < p->h->count[PLAN_S_GROUPS]; g++) {
            const struct plan_group *group = &p->groups[g];
            bool one = group->kind == PLAN_GROUP_UNION || group->n_sets == 1;
            k->group_seq[g] = one ? seq_of_sets(c, p, group->first_set, group->n_sets) : PLAN_NONE;
            k->each_seq[g] = one || of_class(c, i, group->first_set)
                                 ? PLAN_NONE
                                 : seq_of_sets(c, p, group->first_set, group->n_sets);
        }
        k->devices = k->set_seq[p->h->devices];
    }
    return ST_OK;
}

/* The class that the set is, whole; PLAN_NONE. */
static uint32_t class_of_seq(const struct check *c, uint32_t seq)
{
    const struct check_seq *s = &c->seqs.at[seq];
    return s->n_classes == 1 ? c->class_pool.at[s->first_class] : PLAN_NONE;
}

static bool has_class(const struct check *c, uint32_t seq, uint32_t cls)
{
    const struct check_seq *s = &c->seqs.at[seq];
    for (uint32_t i = 0; i < s->n_classes; i++)
        if (c->class_pool.at[s->first_class + i] == cls)
            return true;
    return false;
}

/* The sets of an EACH group partition the class. */
static enum status check_each(struct check *c, uint32_t cls, uint32_t group)
{
    const struct check_class *k = &c->classes[cls];
    const struct plan_group *g = &k->p->groups[group];
    struct check_place at = { .cls = cls };
    uint32_t seen = 0;
    uint32_t epoch = ++c->epoch;
    for (uint32_t i = 0; i < g->n_sets; i++) {
        const struct check_seq *s = &c->seqs.at[k->set_seq[g->first_set + i]];
        for (uint32_t r = 0; r < s->n_ranges; r++) {
            struct plan_range range = c->ranges.at[s->first_range + r];
            for (uint32_t j = 0; j < range.count; j++) {
                uint32_t d = range.start + j * range.stride;
                if (c->class_of[d] != cls || c->stamp[d] == epoch)
                    return check_wrong(c, RULE_CHANNEL, at,
                                       "group %u: rank %u is of another rank class, or is listed twice", group, d);
                c->stamp[d] = epoch;
                seen++;
            }
        }
    }
    if (seen != c->seqs.at[k->devices].size)
        return check_wrong(c, RULE_CHANNEL, at, "group %u has %u members, the rank class %u", group, seen,
                           c->seqs.at[k->devices].size);
    return ST_OK;
}

/* The sets of an EACH group of several classes partition these (a sequence that consists of whole classes lists nobody twice), each with
 * equally many devices of every class. */
static enum status check_each_of(const struct check *c, uint32_t cls, uint32_t group)
{
    const struct check_class *k = &c->classes[cls];
    const struct plan_group *g = &k->p->groups[group];
    const struct check_seq *all = &c->seqs.at[k->each_seq[group]];
    struct check_place at = { .cls = cls };
    if (!has_class(c, k->each_seq[group], cls))
        return check_wrong(c, RULE_CHANNEL, at, "group %u does not partition whole rank classes, this one among them",
                           group);
    uint32_t *count = mem_alloc(sizeof *count * (size_t)c->n);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < g->n_sets && st == ST_OK; i++) {
        const uint32_t set = g->first_set + i;
        memset(count, 0, sizeof *count * (size_t)c->n);
        for (uint32_t m = 0; m < k->p->sets[set].size; m++)
            count[c->class_of[plan_set_at(k->p, set, m)]]++;
        for (uint32_t m = 0; m < all->n_classes && st == ST_OK; m++) {
            const uint32_t other = c->class_pool.at[all->first_class + m];
            const uint32_t size = c->seqs.at[c->classes[other].devices].size;
            if ((uint64_t)count[other] * g->n_sets != size)
                st = check_wrong(c, RULE_CHANNEL, at,
                                 "group %u: set %u has %u of the %u ranks of rank class %u, as 1 of %u", group, set,
                                 count[other], size, other, g->n_sets);
        }
    }
    mem_free(count);
    return st;
}

uint32_t check_group_classes(const struct check *c, uint32_t cls, uint32_t group, const uint32_t **classes)
{
    const struct check_class *k = &c->classes[cls];
    const uint32_t seq = k->group_seq[group] != PLAN_NONE ? k->group_seq[group] : k->each_seq[group];
    const struct check_seq *s = &c->seqs.at[seq == PLAN_NONE ? k->devices : seq];
    *classes = c->class_pool.at + s->first_class;
    return s->n_classes;
}

bool check_same_groups(const struct check *c, uint32_t cls, uint32_t group, uint32_t other, uint32_t there)
{
    const struct check_class *k = &c->classes[cls], *o = &c->classes[other];
    const struct plan_group *g = &k->p->groups[group], *h = &o->p->groups[there];
    if (k->group_seq[group] != o->group_seq[there] || k->each_seq[group] != o->each_seq[there] ||
        (k->each_seq[group] == PLAN_NONE && k->group_seq[group] == PLAN_NONE))
        return false;
    if (k->group_seq[group] != PLAN_NONE)
        return true;
    for (uint32_t i = 0; i < g->n_sets && g->n_sets == h->n_sets; i++)
        if (k->set_seq[g->first_set + i] != o->set_seq[h->first_set + i])
            return false;
    return g->n_sets == h->n_sets;
}

uint32_t check_group_size(const struct check *c, uint32_t cls, uint32_t group)
{
    const struct plan *p = c->classes[cls].p;
    return plan_group_size(p, group, plan_set_at(p, p->h->devices, 0));
}

bool check_same_members(const struct check *c, uint32_t cls, uint32_t a, uint32_t b, bool in_order)
{
    const struct check_class *k = &c->classes[cls];
    uint32_t x = k->group_seq[a], y = k->group_seq[b];
    if (a == b || (x == y && x != PLAN_NONE))
        return true;
    if (x != PLAN_NONE && y != PLAN_NONE && !in_order) {
        const struct check_seq *s = &c->seqs.at[x], *t = &c->seqs.at[y];
        return s->n_classes == t->n_classes &&
               memcmp(c->class_pool.at + s->first_class, c->class_pool.at + t->first_class,
                      s->n_classes * sizeof *c->class_pool.at) == 0;
    }
    const struct plan_group *g = &k->p->groups[a], *h = &k->p->groups[b];
    if (x != y || g->n_sets != h->n_sets)
        return false;
    for (uint32_t i = 0; i < g->n_sets; i++)
        if (k->set_seq[g->first_set + i] != k->set_seq[h->first_set + i])
            return false;
    return true;
}

/* ---- channels ---- */

struct channel_row {
    uint32_t id, cls, channel;
};

static int by_id(const void *a, const void *b)
{
    const struct channel_row *x = a, *y = b;
    return x->id != y->id ? (x->id > y->id) - (x->id < y->id) : (x->cls > y->cls) - (x->cls < y->cls);
}

/* The members of a communicator cut what they reduce into the same pieces, on streams with one name and the same resources. */
static enum status same_stream(const struct check *c, const struct channel_row *a, const struct channel_row *b)
{
    const struct plan *p = c->classes[a->cls].p, *q = c->classes[b->cls].p;
    const struct plan_stream *s = &p->streams[p->channels[a->channel].stream],
                             *t = &q->streams[q->channels[b->channel].stream];
    if (s->scratch_bytes != t->scratch_bytes)
        return check_wrong(c, RULE_SCRATCH, (struct check_place){ .cls = b->cls },
                           "communicator %u: its stream has %" PRIu64 " bytes of scratch, in rank class %u %" PRIu64,
                           b->id, t->scratch_bytes, a->cls, s->scratch_bytes);
    if (strcmp(p->text + s->name, q->text + t->name) != 0 || s->max_ctas != t->max_ctas || s->priority != t->priority)
        return check_wrong(c, RULE_CHANNEL, (struct check_place){ .cls = b->cls },
                           "communicator %u is on stream %s, in rank class %u on %s or with other resources", b->id,
                           q->text + t->name, a->cls, p->text + s->name);
    return ST_OK;
}

/* The rows of one channel id: every member class has it, with the same members in the same order. */
static enum status check_channel(const struct check *c, const struct channel_row *r, uint32_t n)
{
    const struct check_class *first = &c->classes[r->cls];
    const uint32_t group = first->p->channels[r->channel].group;
    const uint32_t seq = first->group_seq[group] != PLAN_NONE ? first->group_seq[group] : first->each_seq[group];
    struct check_place at = { .cls = r->cls };
    if (seq == PLAN_NONE)
        return n == 1 ? ST_OK
                      : check_wrong(c, RULE_CHANNEL, at,
                                    "communicator %u partitions this rank class, but rank class %u has it too", r->id,
                                    r[1].cls);
    const struct check_seq *s = &c->seqs.at[seq];
    for (uint32_t i = 0; i < n; i++) {
        at.cls = r[i].cls;
        const struct check_class *k = &c->classes[r[i].cls];
        if (!check_same_groups(c, r[i].cls, k->p->channels[r[i].channel].group, r->cls, group))
            return check_wrong(c, RULE_CHANNEL, at,
                               "communicator %u: its members or their order differ from those in rank class %u", r->id,
                               r->cls);
        TRY(same_stream(c, &r[0], &r[i]));
        if (!has_class(c, seq, r[i].cls))
            return check_wrong(c, RULE_CHANNEL, at, "communicator %u does not contain this rank class", r->id);
    }
    at.cls = r->cls;
    if (n != s->n_classes)
        return check_wrong(c, RULE_CHANNEL, at,
                           "communicator %u has %u member rank classes, but %u have it in their plans", r->id,
                           s->n_classes, n);
    return ST_OK;
}

enum status check_bind_channels(struct check *c)
{
    struct {
        VEC(struct channel_row);
    } rows = { 0 };
    enum status st = ST_OK;
    for (uint32_t i = 0; i < c->n && st == ST_OK; i++) {
        const struct check_class *k = &c->classes[i];
        const uint64_t *count = k->p->h->count;
        for (uint32_t g = 0; g < count[PLAN_S_GROUPS] && st == ST_OK; g++) {
            uint32_t seq = k->group_seq[g];
            struct check_place at = { .cls = i };
            if (seq == PLAN_NONE)
                st = k->each_seq[g] == PLAN_NONE ? check_each(c, i, g) : check_each_of(c, i, g);
            else if (c->seqs.at[seq].n_classes == 0)
                st = check_wrong(c, RULE_CHANNEL, at, "group %u does not consist of whole rank classes", g);
        }
        for (uint32_t x = 0; x < count[PLAN_S_CHANNELS]; x++)
            vec_add(&rows, ((struct channel_row){ k->p->channels[x].id, i, x }));
    }
    if (rows.n)
        qsort(rows.at, rows.n, sizeof *rows.at, by_id);
    for (uint32_t i = 0, n; i < rows.n && st == ST_OK; i += n) {
        for (n = 1; i + n < rows.n && rows.at[i + n].id == rows.at[i].id; n++)
            ;
        st = check_channel(c, &rows.at[i], n);
    }
    vec_free(&rows);
    return st;
}

/* ---- instructions ---- */

static enum status check_transfer(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct check_class *k = &c->classes[at.cls];
    uint32_t mine = k->set_seq[in->my_set];
    if (class_of_seq(c, mine) != at.cls)
        return check_wrong(c, RULE_BINDING, at, "my_set %u is not the whole of this rank class", in->my_set);
    if (in->op == PLAN_LOAD) {
        const struct plan_list *l = &k->p->lists[at.l->index[at.cls]];
        const uint32_t share = k->p->h->share ? k->p->h->share : 1;
        if (c->seqs.at[mine].size != (uint64_t)l->replicas * share)
            return check_wrong(c, RULE_BINDING, at,
                               "my_set %u has %u devices, but there are %u data-parallel replicas of %u", in->my_set,
                               c->seqs.at[mine].size, l->replicas, share);
        return check_share_order(c, at, in);
    }
    uint32_t peer = k->set_seq[in->peer_set], other = class_of_seq(c, peer);
    if (other == PLAN_NONE)
        return check_wrong(c, RULE_BINDING, at, "peer_set %u is not one whole rank class", in->peer_set);
    if (c->seqs.at[peer].size != c->seqs.at[mine].size)
        return check_wrong(c, RULE_BINDING, at, "my_set has %u devices, peer_set %u", c->seqs.at[mine].size,
                           c->seqs.at[peer].size);
    if ((other == at.cls) != (in->op == PLAN_EXCHANGE))
        return check_wrong(
            c, RULE_BINDING, at,
            "the peers are of rank class %u; EXCHANGE is within a rank class, SEND and RECV are between two", other);
    return ST_OK;
}

enum status check_bind_list(struct check *c, const struct check_list *l)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct plan_instr *in = check_instrs(c, l, i);
        for (uint32_t k = 0; k < check_n_instrs(c, l, i); k++) {
            struct check_place at = { i, l, k };
            uint32_t op = in[k].op;
            if (op == PLAN_LOAD || op == PLAN_SEND || op == PLAN_RECV || op == PLAN_EXCHANGE)
                TRY(check_transfer(c, at, &in[k]));
            if ((check_is_collective(op) || op == PLAN_ROUNDS) &&
                c->classes[i].p->channels[in[k].channel].stream != in[k].stream)
                return check_wrong(c, RULE_CHANNEL, at, "is on stream %u, its communicator on stream %u", in[k].stream,
                                   c->classes[i].p->channels[in[k].channel].stream);
            if ((op == PLAN_RUN || op == PLAN_SUMSQ || op == PLAN_UPDATE || op == PLAN_ROUNDS) &&
                in[k].stream != PLAN_COMPUTE_STREAM)
                return check_wrong(c, RULE_CHANNEL, at, "computes on stream %u", in[k].stream);
            TRY(check_scratch(c, at, &in[k]));
        }
    }
    return ST_OK;
}
