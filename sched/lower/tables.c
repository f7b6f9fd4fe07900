/* Lowering: what is numbered for the whole job (tags, channels, scratch), and the tables of a class (sets, groups, streams,
 * channels, buckets with their shard map). */
#include "sched/lower/lower.h"

static bool same_group(const struct group_key *a, const struct group_key *b)
{
    return a->kind == b->kind && a->n == b->n && !memcmp(a->ids, b->ids, a->n * sizeof *a->ids);
}

/* ---- numbers of the whole job: tags of moves, channels ---------------------------------------------------------------------- */

/* Tags are numbered per ordered pair of classes, in the global order. */
uint32_t *lower_number_tags(const struct sched *s, const struct list_plan *list)
{
    uint32_t *tag = mem_alloc((list->dag.moves.n + 1) * sizeof *tag);
    uint32_t *next = mem_alloc((size_t)s->classes.n * s->classes.n * sizeof *next);
    for (uint32_t i = 0; i < list->dag.nodes.n; i++) {
        const struct ir_node *n = &list->dag.nodes.at[list->order[i]];
        if (n->kind != IR_NODE_MOVE)
            continue;
        const struct ir_move *m = &list->dag.moves.at[n->what];
        tag[n->what] = next[class_of_set(s, m->from_set) * s->classes.n + class_of_set(s, m->to_set)]++;
    }
    mem_free(next);
    return tag;
}

uint32_t lower_channel_number(struct lowering *low, struct group_key group, uint32_t stream)
{
    for (uint32_t i = 0; i < low->channels.n; i++)
        if (same_group(&low->channels.at[i].group, &group) && low->channels.at[i].stream == stream)
            return i;
    vec_add(&low->channels, ((struct job_channel){ group, stream }));
    return low->channels.n - 1;
}

static void number_shares(struct lowering *low)
{
    struct sched *s = low->s;
    static const enum share_kind kinds[LOWER_SHARES] = { SHARE_SEQUENCE, SHARE_TENSOR, SHARE_HEADS };
    for (int kind = 0; kind < LOWER_SHARES && s->sides; kind++) {
        low->shares[kind] = arena_array(&s->arena, struct group_key, s->classes.n);
        for (uint32_t c = 0; c < s->classes.n; c++) {
            struct group_key *key = &low->shares[kind][c];
            key->kind = PLAN_GROUP_EACH;
            key->ids = share_groups(s, lower_set_of_class(s, c), kinds[kind], &key->n);
        }
    }
}

static bool held_alike(const struct sched *s, const struct bucket *a, const struct bucket *b)
{
    const bool experts = a->experts != IR_NONE, alike = experts == (b->experts != IR_NONE);
    if (!alike || (experts && a->experts != b->experts &&
                   (a->n_classes > 1 || expert_shard(s, a->experts) != expert_shard(s, b->experts))))
        return false;
    return a->blocks == b->blocks && a->group == b->group && a->set == b->set && a->n_classes == b->n_classes &&
           !memcmp(s->bucket_classes.at + a->first_class, s->bucket_classes.at + b->first_class,
                   a->n_classes * sizeof(uint32_t));
}

/* Who reduces and gathers a bucket, and on which communicators. */
static void number_bucket(struct lowering *low, uint32_t b)
{
    struct sched *s = low->s;
    const struct bucket *k = &s->buckets.at[b];
    uint32_t like = b; /* a layer has few kinds of buckets */
    while (like && b - like < 4 && !held_alike(s, k, &s->buckets.at[like - 1]))
        like--;
    const bool found = like && b - like < 4;
    low->holders[b] = found ? low->holders[like - 1] : lower_holders(s, k);
    low->zero_groups[b] = found ? low->zero_groups[like - 1] : lower_zero_groups(s, k, &low->holders[b]);
    const struct turned_groups to = low->zero_groups[b];
    if (k->holders > 1 && k->rule == PLAN_RULE_OPTIMIZER)
        low->reduce_channel[b] = lower_channel_number(low, to.blocks, k->reduce_stream);
    if (k->zero)
        low->gather_channel[b] = lower_channel_number(low, to.blocks, k->gather_stream);
    if (!bucket_has_copies(k) || k->rule != PLAN_RULE_OPTIMIZER)
        return;
    low->reduce_copies_channel[b] = lower_channel_number(low, to.turned, k->reduce_stream);
    if (k->state_all)
        low->gather_copies_channel[b] = lower_channel_number(low, to.turned, k->gather_stream);
}

void lower_number_channels(struct lowering *low)
{
    struct sched *s = low->s;
    uint32_t *all = arena_array(&s->arena, uint32_t, s->classes.n);
    for (uint32_t c = 0; c < s->classes.n; c++)
        all[c] = c;
    low->scalars_channel = lower_channel_number(
        low, (struct group_key){ .kind = PLAN_GROUP_UNION, .ids = all, .n = s->classes.n }, 0);
    number_shares(low);
    low->holders = arena_array(&s->arena, struct group_key, s->buckets.n + 1);
    low->zero_groups = arena_array(&s->arena, struct turned_groups, s->buckets.n + 1);
    low->reduce_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    low->gather_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    low->reduce_copies_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    low->gather_copies_channel = arena_array(&s->arena, uint32_t, s->buckets.n + 1);
    low->shard_channel = arena_array(&s->arena, uint32_t, s->directives.n + 1);
    low->rounds_channel = arena_array(&s->arena, uint32_t, s->directives.n + 1);
    for (uint32_t b = 0; b < s->buckets.n; b++)
        number_bucket(low, b);
    for (uint32_t i = 0; i < s->chunks.chunks.n * s->microbatches; i++) {
        const uint32_t d = s->shard_of[i];
        if (d == IR_NONE || (i % s->microbatches && d == s->shard_of[i - 1]))
            continue;
        low->shard_channel[d] = lower_channel_number(low, lower_expert_groups(s, d), s->directives.at[d].stream);
        if (expert_rounds(s, i / s->microbatches))
            low->rounds_channel[d] = lower_channel_number(low, lower_expert_groups(s, d), 0);
    }
    lower_number_borders(low, &s->train);
    if (s->in->eval)
        lower_number_borders(low, &s->eval);
}

/* What the back end needs to sum: the terms of all members, up to its limit, but an element of each at least. The same on all ranks of a
 * stream, so that both ends of a reduction cut it into the same pieces. */
void lower_want_scratch(struct lowering *low, uint32_t stream, uint64_t members, uint64_t bytes)
{
    const uint64_t alignment = low->s->in->target->alignment, least = round_up(members * sizeof(double), alignment);
    const uint64_t limit = low->s->in->comm_scratch > least ? low->s->in->comm_scratch : least;
    uint64_t want = round_up(members * bytes, alignment);
    want = want < limit ? want : limit;
    if (low->s->in->comm_scratch && members > 1 && want > low->stream_scratch[stream])
        low->stream_scratch[stream] = want;
}

void lower_size_scratch(struct lowering *low)
{
    const struct sched *s = low->s;
    lower_want_scratch(low, 0, s->ranks, plan_scalars_bytes(s->g));
    for (uint32_t b = 0; b < s->buckets.n; b++) {
        const struct bucket *k = &s->buckets.at[b];
        if (k->rule != PLAN_RULE_OPTIMIZER)
            continue;
        lower_want_scratch(low, k->reduce_stream, k->group,
                           4 * (zero_shards_state(k->zero) ? bucket_shard(k) : k->elements));
        if (bucket_has_copies(k))
            lower_want_scratch(low, k->reduce_stream, k->holders / k->group, 4 * bucket_state(k));
    }
    lower_size_borders(low, &s->train);
}

/* ---- tables of a class ---------------------------------------------------------------------------------------------- */

/* A set as ranges: maximal arithmetic progressions. */
uint32_t lower_set(struct plan_builder *pb, const uint32_t *d, uint32_t n)
{
    struct plan_set set = { .first_range = pb->ranges.n, .size = n };
    for (uint32_t i = 0; i < n;) {
        uint32_t stride = i + 1 < n && d[i + 1] > d[i] ? d[i + 1] - d[i] : 1, k = 1;
        while (i + k < n && d[i + k] == d[i] + k * stride)
            k++;
        vec_add(&pb->ranges, ((struct plan_range){ d[i], stride, k }));
        i += k;
    }
    set.n_ranges = pb->ranges.n - set.first_range;
    vec_add(&pb->sets, set);
    return pb->sets.n - 1;
}

uint32_t lower_device_set(struct class_lowering *c, uint32_t set)
{
    if (c->set_of[set] == IR_NONE)
        c->set_of[set] = lower_set(&c->pb, devices_of(c->x->s, set), c->x->s->sets.at[set].n);
    return c->set_of[set];
}

uint32_t lower_group(struct class_lowering *c, struct group_key key)
{
    const struct sched *s = c->x->s;
    for (uint32_t g = 0; g < c->group_keys.n; g++)
        if (same_group(&c->group_keys.at[g], &key))
            return g;
    struct plan_group g = { .kind = key.kind, .first_set = c->pb.sets.n, .n_sets = key.n };
    for (uint32_t i = 0; i < key.n; i++) {
        if (key.kind == PLAN_GROUP_UNION)
            lower_set(&c->pb, s->class_pool.at + s->classes.at[key.ids[i]].first, s->classes.at[key.ids[i]].n);
        else
            lower_set(&c->pb, devices_of(s, key.ids[i]), s->sets.at[key.ids[i]].n);
    }
    vec_add(&c->pb.groups, g);
    vec_add(&c->group_keys, key);
    return c->pb.groups.n - 1;
}

/* Is the class one of a group's? */
static bool in_group(const struct class_lowering *c, const struct group_key *key)
{
    const struct sched *s = c->x->s;
    const bool each = key->kind == PLAN_GROUP_EACH;
    if (each && !key->classes) {
        const uint32_t first = devices_of(s, key->ids[0])[0];
        const struct device_class *k = &s->classes.at[c->class_id];
        for (uint32_t i = 0; i < k->n; i++)
            if (s->class_pool.at[k->first + i] == first)
                return true;
        return false;
    }
    const uint32_t *classes = each ? key->classes : key->ids;
    for (uint32_t i = 0; i < (each ? key->n_classes : key->n); i++)
        if (classes[i] == c->class_id)
            return true;
    return false;
}

uint16_t lower_stream(struct class_lowering *c, uint32_t stream)
{
    if (c->stream_of[stream] == IR_NONE) {
        c->stream_of[stream] = c->pb.streams.n;
        struct plan_stream p = { .name = plan_builder_text(&c->pb, c->x->s->streams.at[stream]) };
        stream_resources(c->x->s, stream, &p.max_ctas, &p.priority);
        p.scratch = c->pb.h.arena_bytes[ARENA_COMM];
        p.scratch_bytes = c->x->stream_scratch[stream];
        c->pb.h.arena_bytes[ARENA_COMM] += p.scratch_bytes;
        vec_add(&c->pb.streams, p);
        __atomic_store_n(&c->x->s->stream_used[stream], 1, __ATOMIC_RELAXED);
    }
    return (uint16_t)c->stream_of[stream];
}

static bool has_class(const struct sched *s, const struct bucket *b, uint32_t class_id)
{
    for (uint32_t i = 0; i < b->n_classes; i++)
        if (s->bucket_classes.at[b->first_class + i] == class_id)
            return true;
    return false;
}

/* A place in an arena, which grows by it; aligned. */
static uint64_t take(struct class_lowering *c, enum plan_arena arena, uint64_t bytes)
{
    uint64_t *end = &c->pb.h.arena_bytes[arena], at = *end;
    *end = round_up(at + bytes, c->x->s->in->target->alignment);
    return at;
}

uint64_t lower_grad_bytes(const struct bucket *b)
{
    return (zero_shards_grads(b->zero) ? bucket_shard(b) : b->elements) * 4;
}

/* Where a bucket lies: parameters, gradients, master and moments, snapshot; each whole, or this holder's part. */
static void place_bucket(struct class_lowering *c, const struct bucket *b, struct plan_bucket *p)
{
    const struct sched_input *in = c->x->s->in;
    const uint64_t shard = bucket_shard(b), state = 4 * bucket_state(b);
    const bool trains = b->rule == PLAN_RULE_OPTIMIZER;
    const uint32_t moments = trains ? optimizer_info[in->optimizer].moments : 0, size = ir_dtype_size(b->type, b->type);
    p->param = take(c, ARENA_PARAMS, (zero_shards_params(b->zero) ? shard : b->elements) * size);
    p->grad = trains ? take(c, ARENA_GRADS, lower_grad_bytes(b)) : UINT64_MAX;
    p->master = b->type == IR_F32 ? UINT64_MAX : take(c, ARENA_OPTIM, state);
    p->m = moments > 0 ? take(c, ARENA_OPTIM, state) : UINT64_MAX;
    p->v = moments > 1 ? take(c, ARENA_OPTIM, state) : UINT64_MAX;
    p->snapshot = in->snapshot ? take(c, ARENA_SNAPSHOT, plan_snapshot_bytes(p, b->holders)) : UINT64_MAX;
}

/* The parameters of a bucket that this class holds: whole, or, in the order of the owners, a block of each. */
static void add_pieces(struct class_lowering *c, const struct bucket *b, uint32_t holders, uint32_t owners)
{
    const struct sched *s = c->x->s;
    for (uint32_t k = 0; k < b->n_params; k++) {
        uint32_t param = s->bucket_params.at[b->first_param + k];
        const struct param_cut *cut = &s->cuts[param];
        *vec_push(&c->pb.pieces) = (struct plan_piece){ .param = param,
                                                        .bucket = c->pb.buckets.n,
                                                        .part_of = s->g->params.at[param].part_of,
                                                        .first = cut->first,
                                                        .count = cut->count,
                                                        .offset = c->programs.param_offset[param],
                                                        .run = cut->run,
                                                        .stride = cut->stride,
                                                        .elements = cut->elements,
                                                        .split = cut->blocks,
                                                        .owners = cut->blocks > 1 ? owners : holders };
    }
}

void lower_buckets(struct class_lowering *c)
{
    const struct sched *s = c->x->s;
    for (uint32_t i = 0; i < s->buckets.n; i++) {
        const struct bucket *b = &s->buckets.at[i];
        c->bucket_of[i] = IR_NONE;
        if (!has_class(s, b, c->class_id))
            continue;
        c->bucket_of[i] = c->pb.buckets.n;
        struct plan_bucket p = { .first_piece = c->pb.pieces.n,
                                 .n_pieces = b->n_params,
                                 .elements = b->elements,
                                 .n_decay = b->n_decay,
                                 .zero = b->zero,
                                 .type = b->type,
                                 .rule = b->rule };
        p.holders = lower_group(c, c->x->holders[i]);
        if (bucket_has_copies(b)) {
            p.zero_group = b->group;
            p.shard = lower_group(c, c->x->zero_groups[i].blocks);
            p.copies = lower_group(c, c->x->zero_groups[i].turned);
            p.state_all = b->state_all;
        }
        place_bucket(c, b, &p);
        add_pieces(c, b, p.holders,
                   b->experts != IR_NONE
                       ? lower_group(c, lower_expert_groups(s, expert_shard_in(s, b->experts, c->class_id)))
                   : b->blocks > s->share.tensor ? c->programs.heads_group
                   : b->blocks > 1               ? c->programs.tensor_group
                                                 : p.holders);
        vec_add(&c->pb.buckets, p);
    }
}

void lower_channels(struct class_lowering *c)
{
    for (uint32_t i = 0; i < c->x->channels.n; i++) {
        const struct job_channel *j = &c->x->channels.at[i];
        c->channel_of[i] = IR_NONE;
        if (!in_group(c, &j->group))
            continue;
        c->channel_of[i] = c->pb.channels.n;
        struct plan_channel p = { .id = i, .group = lower_group(c, j->group), .stream = lower_stream(c, j->stream) };
        vec_add(&c->pb.channels, p);
    }
}
