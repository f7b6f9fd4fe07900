/* The shard map: every parameter is held, whole, in one place of each class that has it; a bucket's holders are
 * exactly the devices with a copy, in all classes alike; zero groups cut them into a grid; memory of buckets does not overlap. */
#include "sched/check/check.h"

#include <inttypes.h>
#include <stdlib.h>

uint32_t check_holders_of(const struct plan *p, const struct plan_bucket *b)
{
    return plan_group_size(p, b->holders, plan_set_at(p, p->h->devices, 0));
}

uint32_t check_shard_group(const struct plan_bucket *b)
{
    return b->zero_group ? b->shard : b->holders;
}

uint64_t check_shard_elements(const struct plan *p, const struct plan_bucket *b)
{
    return b->elements / plan_group_size(p, check_shard_group(b), plan_set_at(p, p->h->devices, 0));
}

uint64_t check_part_elements(const struct plan *p, const struct plan_bucket *b)
{
    return b->elements / check_holders_of(p, b);
}

static uint64_t share(const struct plan *p, const struct plan_bucket *b, uint32_t level)
{
    if (b->zero < level)
        return b->elements;
    return level == ZERO_STATE && b->state_all ? check_part_elements(p, b) : check_shard_elements(p, b);
}

uint64_t check_param_bytes(const struct plan *p, const struct plan_bucket *b)
{
    return share(p, b, ZERO_PARAMS) * ir_dtype_size(b->type, b->type);
}

uint64_t check_grad_bytes(const struct plan *p, const struct plan_bucket *b)
{
    return b->rule == PLAN_RULE_OPTIMIZER ? share(p, b, ZERO_GRADS) * 4 : 0;
}

uint64_t check_state_bytes(const struct plan *p, const struct plan_bucket *b)
{
    return share(p, b, ZERO_STATE) * 4;
}

static uint32_t moments_of(const struct plan *p, const struct plan_bucket *b)
{
    return b->rule == PLAN_RULE_OPTIMIZER ? optimizer_info[p->h->optimizer].moments : 0;
}

/* m, then v, as the optimizer has them; a master where parameters are not float32 themselves. */
static bool has_state(const struct plan *p, const struct plan_bucket *b)
{
    const uint32_t moments = moments_of(p, b);
    return (b->m != UINT64_MAX) == (moments > 0) && (b->v != UINT64_MAX) == (moments > 1) &&
           (b->master != UINT64_MAX) == (b->type != IR_F32);
}

/* The own part of the parameters and of each moment, in float32. */
static uint64_t snapshot_bytes(const struct plan *p, const struct plan_bucket *b)
{
    uint64_t kinds = 1 + moments_of(p, b);
    return check_part_elements(p, b) * 4 * kinds;
}

uint32_t check_bucket_of(const struct plan *p, const struct plan_base *b, uint32_t kind)
{
    if (b->arena == ARENA_WORK)
        return p->buffers[b->buffer].role == kind && p->buffers[b->buffer].what < p->h->count[PLAN_S_BUCKETS]
                   ? p->buffers[b->buffer].what
                   : PLAN_NONE;
    return b->arena == (kind == SLOT_PARAM ? ARENA_PARAMS : ARENA_GRADS) ? b->buffer : PLAN_NONE;
}

struct extent {
    uint64_t from, to;
    uint32_t bucket;
};
struct extents {
    VEC(struct extent);
};

static int by_start(const void *a, const void *b)
{
    const struct extent *x = a, *y = b;
    return (x->from > y->from) - (x->from < y->from);
}

/* Sorts, and finds two that overlap: -1, or the index of the second. */
static int64_t overlap(struct extents *extents)
{
    if (extents->n)
        qsort(extents->at, extents->n, sizeof *extents->at, by_start);
    for (uint32_t i = 1; i < extents->n; i++)
        if (extents->at[i - 1].to > extents->at[i].from)
            return i;
    return -1;
}

static void add_extent(struct extents *extents, uint64_t from, uint64_t bytes, uint32_t bucket)
{
    if (bytes && from != UINT64_MAX)
        vec_add(extents, ((struct extent){ from, from + bytes, bucket }));
}

/* Do an earlier bucket's gradients lie in the same bytes, laid out alike? They may: sched/check/memory.c says when. */
static bool shares_gradients(const struct plan *p, uint32_t bucket)
{
    const struct plan_bucket *b = &p->buckets[bucket];
    for (uint32_t i = bucket; i-- > 0;) {
        const struct plan_bucket *a = &p->buckets[i];
        bool alike = a->grad == b->grad && a->elements == b->elements && a->n_pieces == b->n_pieces &&
                     check_grad_bytes(p, a) == check_grad_bytes(p, b);
        for (uint32_t k = 0; k < b->n_pieces && alike; k++)
            alike = p->pieces[a->first_piece + k].offset == p->pieces[b->first_piece + k].offset &&
                    p->pieces[a->first_piece + k].count == p->pieces[b->first_piece + k].count;
        if (alike)
            return true;
    }
    return false;
}

/* Buckets have memory of their own in each arena, but for gradients. */
static enum status check_bucket_memory(const struct check *c, uint32_t cls)
{
    const struct plan *p = c->classes[cls].p;
    struct extents arena[4] = { 0 };
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &p->buckets[i];
        add_extent(&arena[0], b->param, check_param_bytes(p, b), i);
        if (p->h->clip || !shares_gradients(p, i))
            add_extent(&arena[1], b->grad, check_grad_bytes(p, b), i);
        add_extent(&arena[2], b->master, check_state_bytes(p, b), i);
        add_extent(&arena[2], b->m, check_state_bytes(p, b), i);
        add_extent(&arena[2], b->v, check_state_bytes(p, b), i);
        add_extent(&arena[3], b->snapshot, snapshot_bytes(p, b), i);
    }
    static const char *const names[4] = { "parameters", "gradients", "optimizer state", "snapshots" };
    enum status st = ST_OK;
    for (int a = 0; a < 4; a++) {
        int64_t i = overlap(&arena[a]);
        if (i >= 0 && st == ST_OK)
            st = check_wrong(c, RULE_SHARDS, (struct check_place){ .cls = cls },
                             "%s of buckets %u and %u overlap at byte %" PRIu64, names[a], arena[a].at[i - 1].bucket,
                             arena[a].at[i].bucket, arena[a].at[i].from);
        vec_free(&arena[a]);
    }
    return st;
}

/* Do the blocks of a split parameter cover it, each element once? As rows of blocks: of `stride` elements each, which divide the tensor,
 * `run` for each block; or one after the other along the first dimension, the last of which may be short, but not empty. */
static bool blocks_cover(const struct plan_piece *piece, const struct ir_param *param, uint64_t elements)
{
    const uint64_t width = piece->run * piece->split;
    if (piece->run)
        return (param->stride ? piece->stride == param->stride && width == param->shape.dim[param->shape.ndim - 1]
                              : piece->stride == width) &&
               elements % width == 0 && piece->count * piece->split == elements && !piece->elements;
    if (param->stride)
        return false;
    const uint64_t row = elements / param->shape.dim[0];
    if (piece->elements)
        return piece->elements == elements && piece->count % row == 0 && piece->count * piece->split >= elements &&
               piece->count * (piece->split - 1) < elements;
    return param->shape.dim[0] % piece->split == 0 && piece->count * piece->split == elements;
}

static enum status check_piece(const struct check *c, uint32_t cls, uint32_t i)
{
    struct check_class *k = &c->classes[cls];
    const struct plan_piece *piece = &k->p->pieces[i];
    const struct ir_param *param = &c->g->params.at[piece->param];
    struct check_place at = { .cls = cls };
    uint64_t elements = ir_shape_elements(&param->shape);
    if (k->piece_of[piece->param] != PLAN_NONE)
        return check_wrong(c, RULE_SHARDS, at, "parameter %s has two pieces, in buckets %u and %u", param->name,
                           k->p->pieces[k->piece_of[piece->param]].bucket, piece->bucket);
    k->piece_of[piece->param] = i;
    const struct plan_bucket *b = &k->p->buckets[piece->bucket];
    const enum ir_dtype type = param->shape.dtype == IR_COMPUTE ? k->p->h->compute : param->shape.dtype;
    const enum plan_rule rule = param->frozen  ? PLAN_RULE_FROZEN
                                : param->state ? PLAN_RULE_BALANCE
                                               : PLAN_RULE_OPTIMIZER;
    static const char *const rules[] = { "", " and state", " and frozen" };
    if (b->type != type || b->rule != rule)
        return check_wrong(c, RULE_SHARDS, at, "parameter %s is %s%s, bucket %u is for %s%s", param->name,
                           ir_dtype_name(type), rules[rule], piece->bucket, ir_dtype_name((enum ir_dtype)b->type),
                           rules[b->rule]);
    const bool decays = param->decays;
    if (decays ? piece->offset + piece->count > b->n_decay : piece->offset < b->n_decay)
        return check_wrong(c, RULE_SHARDS, at,
                           "parameter %s %s, but lies on the wrong side of element %" PRIu64 " of bucket %u",
                           param->name, decays ? "decays" : "does not decay", b->n_decay, piece->bucket);
    if (piece->part_of != param->part_of || piece->first != param->first)
        return check_wrong(c, RULE_SHARDS, at,
                           "parameter %s begins at element %" PRIu64
                           " of parameter %u, held is %u from element %" PRIu64,
                           param->name, param->first, param->part_of ? param->part_of - 1 : piece->param,
                           piece->part_of ? piece->part_of - 1 : piece->param, piece->first);
    if (piece->split == 1 && piece->count != elements)
        return check_wrong(c, RULE_SHARDS, at, "parameter %s has %" PRIu64 " elements, held are %" PRIu64, param->name,
                           elements, piece->count);
    if ((piece->split > 1 || piece->run || param->stride) && !blocks_cover(piece, param, elements))
        return check_wrong(c, RULE_SHARDS, at, "parameter %s has %" PRIu64 " elements, cut into %u blocks of %" PRIu64,
                           param->name, elements, piece->split, piece->count);
    return ST_OK;
}

static enum status check_pieces(const struct check *c, uint32_t cls)
{
    const struct plan *p = c->classes[cls].p;
    struct extents extents = { 0 };
    enum status st = ST_OK;
    for (uint32_t b = 0; b < p->h->count[PLAN_S_BUCKETS] && st == ST_OK; b++) {
        const struct plan_bucket *u = &p->buckets[b];
        struct check_place at = { .cls = cls };
        extents.n = 0;
        for (uint32_t i = u->first_piece; i < u->first_piece + u->n_pieces && st == ST_OK; i++) {
            add_extent(&extents, p->pieces[i].offset, p->pieces[i].count, b);
            st = check_piece(c, cls, i);
        }
        if (st == ST_OK && u->n_pieces == 0)
            st = check_wrong(c, RULE_SHARDS, at, "bucket %u is empty", b);
        if (st == ST_OK && overlap(&extents) >= 0)
            st = check_wrong(c, RULE_SHARDS, at, "two parameters of bucket %u overlap", b);
        if (st == ST_OK && !has_state(p, u))
            st = check_wrong(c, RULE_SHARDS, at, "bucket %u: its optimizer state is not that of the optimizer", b);
        if (st == ST_OK && (u->snapshot == UINT64_MAX) != (p->buckets[0].snapshot == UINT64_MAX))
            st = check_wrong(c, RULE_SHARDS, at, "buckets 0 and %u: one has a snapshot, the other has none", b);
    }
    vec_free(&extents);
    return st;
}

/* ---- holders ---- */

/* Index of every device of the class in its own set of the group, into index[device]. */
static void index_in_group(const struct check *c, uint32_t cls, uint32_t group, uint32_t *index)
{
    const struct check_class *k = &c->classes[cls];
    const struct plan_group *g = &k->p->groups[group];
    for (uint32_t s = 0; s < g->n_sets; s++) {
        const struct check_seq *q = &c->seqs.at[k->set_seq[g->first_set + s]];
        uint32_t i = 0;
        for (uint32_t r = 0; r < q->n_ranges; r++) {
            struct plan_range range = c->ranges.at[q->first_range + r];
            for (uint32_t j = 0; j < range.count; j++)
                index[range.start + j * range.stride] = i++;
        }
    }
}

/* Who holds blocks of a split parameter. index: of devices in the sets of the owners, of `members` each; holding: devices with one block. */
struct block_holders {
    const struct plan_piece *piece;
    const uint32_t *index;
    uint32_t members, holding;
};

/* Are the devices of n sets all that hold one block? */
static bool hold_one_block(const struct plan *p, uint32_t set, uint32_t n, const struct block_holders *of)
{
    uint64_t first = UINT64_MAX;
    uint32_t device, size = 0;
    for (uint32_t k = set; k < set + n; k++)
        for (struct plan_walk w = plan_walk(p, k); plan_next(&w, &device); size++) {
            const uint64_t block = (uint64_t)of->index[device] * of->piece->split / of->members;
            if (first != UINT64_MAX && block != first)
                return false;
            first = block;
        }
    return size == of->holding;
}

/* Devices of a class with one block of a split parameter, in the sets of its owners; 0: these have other sizes. members: of a set. */
static uint32_t holding_one(const struct check *c, uint32_t cls, const struct plan_piece *piece, uint32_t members)
{
    const struct check_class *k = &c->classes[cls];
    const struct plan_group *owners = &k->p->groups[piece->owners];
    const uint32_t *classes;
    const bool fits = check_group_classes(c, cls, piece->owners, &classes) == 1 && classes[0] == cls &&
                      k->p->sets[owners->first_set].size == members && members % piece->split == 0 &&
                      (owners->kind == PLAN_GROUP_EACH || owners->n_sets == 1);
    return fits ? owners->n_sets * (members / piece->split) : 0;
}

/* A block of a split parameter: its holders are the devices with the same block in their sets of `owners`, in all of the n_holding classes
 * that have it. */
static enum status check_split_holders(const struct check *c, uint32_t cls, uint32_t bucket,
                                       const struct plan_piece *piece, uint32_t n_holding)
{
    const struct check_class *k = &c->classes[cls];
    const uint32_t group = k->p->buckets[bucket].holders;
    const struct plan_group *holders = &k->p->groups[group];
    struct check_place at = { .cls = cls };
    const uint32_t *classes;
    const char *name = c->g->params.at[piece->param].name;
    const uint32_t members = k->p->sets[k->p->groups[piece->owners].first_set].size;
    uint32_t holding = 0, n = check_group_classes(c, cls, group, &classes);
    uint32_t *index = mem_alloc(sizeof *index * (size_t)c->world);
    enum status st = ST_OK;
    bool here = false;
    for (uint32_t i = 0; i < n && st == ST_OK; i++) {
        const struct check_class *o = &c->classes[classes[i]];
        const struct plan_piece *theirs = o->piece_of[piece->param] == PLAN_NONE
                                              ? NULL
                                              : &o->p->pieces[o->piece_of[piece->param]];
        const uint32_t one = theirs && theirs->split == piece->split ? holding_one(c, classes[i], theirs, members) : 0;
        here = here || classes[i] == cls;
        holding += one;
        if (!one)
            st = check_wrong(c, RULE_HOLDERS, (struct check_place){ .cls = classes[i] },
                             "parameter %s is split in %u, but the group of its owners has other sizes", name,
                             piece->split);
        else
            index_in_group(c, classes[i], theirs->owners, index);
    }
    if (st == ST_OK && (n != n_holding || !here))
        st = check_wrong(c, RULE_HOLDERS, at, "bucket %u: its replica group is not the rank classes that hold %s",
                         bucket, name);
    const uint32_t at_once = holders->kind == PLAN_GROUP_EACH ? 1 : holders->n_sets;
    for (uint32_t s = 0; s < holders->n_sets && st == ST_OK; s += at_once)
        if (!hold_one_block(k->p, holders->first_set + s, at_once,
                            &(struct block_holders){ piece, index, members, holding }))
            st = check_wrong(c, RULE_HOLDERS, at,
                             "bucket %u: set %u of its replica group is not the %u devices with one block of %s",
                             bucket, holders->first_set + s, holding, name);
    mem_free(index);
    return st;
}

/* Layout of a bucket, equal in all its classes: reductions add elements at equal places. */
static bool same_layout(const struct plan *p, const struct plan_bucket *a, const struct plan *q,
                        const struct plan_bucket *b)
{
    if (a->n_pieces != b->n_pieces || a->elements != b->elements || a->n_decay != b->n_decay || a->zero != b->zero ||
        a->type != b->type || a->rule != b->rule || a->zero_group != b->zero_group || a->state_all != b->state_all)
        return false;
    for (uint32_t i = 0; i < a->n_pieces; i++) {
        const struct plan_piece *piece = &p->pieces[a->first_piece + i], *other = &q->pieces[b->first_piece + i];
        if (piece->param != other->param || piece->offset != other->offset || piece->count != other->count ||
            piece->split != other->split || piece->run != other->run || piece->stride != other->stride ||
            piece->elements != other->elements || piece->first != other->first || piece->part_of != other->part_of)
            return false;
    }
    return true;
}

/* n_holding: classes that hold the parameter; first: the lowest of them. */
static enum status check_whole_holders(const struct check *c, uint32_t cls, uint32_t bucket,
                                       const struct plan_piece *piece, uint32_t n_holding, uint32_t first)
{
    const struct check_class *k = &c->classes[cls], *a = &c->classes[first];
    uint32_t group = k->p->buckets[bucket].holders;
    struct check_place at = { .cls = cls };
    const uint32_t *classes, *others;
    uint32_t n = check_group_classes(c, cls, group, &classes);
    const char *name = c->g->params.at[piece->param].name;
    if (k->group_seq[group] == PLAN_NONE)
        return check_wrong(c, RULE_HOLDERS, at,
                           "bucket %u: the whole rank class holds %s, but its replica groups are smaller", bucket,
                           name);
    if (n != n_holding)
        return check_wrong(c, RULE_HOLDERS, at, "bucket %u: %u rank classes hold %s, its replica group has %u", bucket,
                           n_holding, name, n);
    const struct plan_piece *there = &a->p->pieces[a->piece_of[piece->param]];
    const struct plan_bucket *other = &a->p->buckets[there->bucket];
    uint32_t m = check_group_classes(c, first, other->holders, &others);
    bool mine = false;
    for (uint32_t i = 0; i < n; i++)
        mine = mine || classes[i] == cls;
    bool same = m == n && memcmp(classes, others, n * sizeof *classes) == 0;
    if (other->zero) /* parts go by the order of the holders */
        same = same && k->group_seq[group] == a->group_seq[other->holders];
    if (!mine || !same)
        return check_wrong(c, RULE_HOLDERS, at, "bucket %u: its replica group is not the rank classes that hold %s",
                           bucket, name);
    return ST_OK;
}

/* The bucket that holds the piece's parameter in that class. */
static const struct plan_bucket *bucket_in(const struct check_class *k, const struct plan_piece *piece)
{
    return &k->p->buckets[k->p->pieces[k->piece_of[piece->param]].bucket];
}

/* Of the bucket of piece i, in the first class that has it; compared once for all pieces that lie together in both. */
static enum status check_layout(const struct check *c, uint32_t cls, uint32_t i, const uint32_t *first)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_piece *piece = &p->pieces[i];
    const uint32_t there = first[piece->param];
    const struct plan_bucket *other = bucket_in(&c->classes[there], piece);
    if (i > p->buckets[piece->bucket].first_piece && piece[-1].split <= 1 && first[piece[-1].param] == there &&
        bucket_in(&c->classes[there], piece - 1) == other)
        return ST_OK;
    if (same_layout(p, &p->buckets[piece->bucket], c->classes[there].p, other))
        return ST_OK;
    return check_wrong(c, RULE_SHARDS, (struct check_place){ .cls = cls },
                       "bucket %u with %s has another layout in rank class %u", piece->bucket,
                       c->g->params.at[piece->param].name, there);
}

/* ---- groups of holders ---- */

/* By device: the set of a group that it is in, and its place there. */
struct places {
    uint32_t *set, *at;
};

static struct places places_in(const struct check *c, uint32_t cls, uint32_t group)
{
    const struct check_class *k = &c->classes[cls];
    const struct plan_group *g = &k->p->groups[group];
    struct places p = { mem_alloc(sizeof *p.set * (size_t)c->world), mem_alloc(sizeof *p.at * (size_t)c->world) };
    index_in_group(c, cls, group, p.at);
    for (uint32_t s = 0; s < g->n_sets; s++) {
        const struct check_seq *q = &c->seqs.at[k->set_seq[g->first_set + s]];
        for (uint32_t r = 0; r < q->n_ranges; r++) {
            const struct plan_range range = c->ranges.at[q->first_range + r];
            for (uint32_t j = 0; j < range.count; j++)
                p.set[range.start + j * range.stride] = g->kind == PLAN_GROUP_EACH ? s : 0;
        }
    }
    return p;
}

static void release_places(struct places *p)
{
    mem_free(p->set);
    mem_free(p->at);
}

/* All members of a set of `group` stand in one set of the holders, and at one place in their sets of the other group. */
static bool sets_agree(const struct check *c, uint32_t cls, uint32_t group, const struct places *holders,
                       const struct places *other)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_group *g = &p->groups[group];
    for (uint32_t s = 0; s < g->n_sets; s++) {
        const uint32_t first = plan_set_at(p, g->first_set + s, 0);
        for (uint32_t i = 1; i < p->sets[g->first_set + s].size; i++) {
            const uint32_t device = plan_set_at(p, g->first_set + s, i);
            if (holders->set[device] != holders->set[first] || other->at[device] != other->at[first])
                return false;
        }
    }
    return true;
}

/* Shard k of n is that of the devices at place k of their groups, of which there are H/n: so the groups that reduce within and those that
 * reduce over copies are a grid on each set of holders. Then every shard lies once in every group, every part of it with one holder, and
 * what is reduced within and over copies is summed over all holders, each once. */
static enum status check_zero_groups(const struct check *c, uint32_t cls, uint32_t bucket)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_bucket *u = &p->buckets[bucket];
    const struct check_place at = { .cls = cls };
    const uint32_t groups[3] = { u->holders, u->shard, u->copies };
    for (int i = 0; i < 3; i++) {
        const uint32_t *classes;
        if (check_group_classes(c, cls, groups[i], &classes) != 1 || classes[0] != cls)
            return check_wrong(c, RULE_HOLDERS, at, "bucket %u: group %u of its zero group reaches other rank classes",
                               bucket, groups[i]);
    } /* two of them have fewer members than the rank class: so they are several groups */
    struct places holders = places_in(c, cls, u->holders), shard = places_in(c, cls, u->shard),
                  copies = places_in(c, cls, u->copies);
    const bool grid = sets_agree(c, cls, u->shard, &holders, &copies) &&
                      sets_agree(c, cls, u->copies, &holders, &shard);
    release_places(&holders);
    release_places(&shard);
    release_places(&copies);
    if (!grid)
        return check_wrong(
            c, RULE_HOLDERS, at,
            "bucket %u: groups %u and %u are not blocks of its holders and the devices at one place in them", bucket,
            u->shard, u->copies);
    return ST_OK;
}

/* Buckets with the same groups are looked at once. */
static enum status check_all_zero_groups(const struct check *c, uint32_t cls)
{
    const struct plan *p = c->classes[cls].p;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &p->buckets[i];
        uint32_t same = 0;
        while (same < i && (p->buckets[same].holders != b->holders || p->buckets[same].shard != b->shard ||
                            p->buckets[same].copies != b->copies || !p->buckets[same].zero_group))
            same++;
        if (b->zero_group && same == i)
            TRY(check_zero_groups(c, cls, i));
    }
    return ST_OK;
}

static enum status check_holders(const struct check *c, const uint32_t *n_holding, const uint32_t *first)
{
    for (uint32_t cls = 0; cls < c->n; cls++) {
        const struct plan *p = c->classes[cls].p;
        for (uint32_t i = 0; i < p->h->count[PLAN_S_PIECES]; i++) {
            const struct plan_piece *piece = &p->pieces[i];
            if (piece->split > 1)
                TRY(check_split_holders(c, cls, piece->bucket, piece, n_holding[piece->param]));
            else
                TRY(check_whole_holders(c, cls, piece->bucket, piece, n_holding[piece->param], first[piece->param]));
            if (piece->split <= 1 || n_holding[piece->param] > 1)
                TRY(check_layout(c, cls, i, first));
        }
    }
    return ST_OK;
}

enum status check_params(struct check *c)
{
    uint32_t n = c->g->params.n;
    uint32_t *n_holding = arena_array(&c->arena, uint32_t, n), *first = arena_array(&c->arena, uint32_t, n);
    for (uint32_t cls = 0; cls < c->n; cls++) {
        struct check_class *k = &c->classes[cls];
        k->piece_of = arena_array(&c->arena, uint32_t, n);
        memset(k->piece_of, 0xff, sizeof *k->piece_of * (size_t)n);
        TRY(check_bucket_memory(c, cls));
        TRY(check_pieces(c, cls));
        for (uint32_t i = 0; i < n; i++)
            if (k->piece_of[i] != PLAN_NONE && n_holding[i]++ == 0)
                first[i] = cls;
    }
    for (uint32_t i = 0; i < n; i++)
        if (n_holding[i] == 0)
            return check_wrong(c, RULE_SHARDS, (struct check_place){ .cls = PLAN_NONE },
                               "no rank class holds parameter %s", c->g->params.at[i].name);
    TRY(check_holders(c, n_holding, first));
    for (uint32_t cls = 0; cls < c->n; cls++)
        TRY(check_all_zero_groups(c, cls));
    return ST_OK;
}
