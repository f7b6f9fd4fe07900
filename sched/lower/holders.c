/* Lowering: who holds a bucket, and how zero_group cuts these holders (piper-strategy(5), replicate): groups of neighbours, within which
 * parameters, gradients and state are sharded, and those turned round, of the holders with the same shard. */
#include "sched/lower/lower.h"

uint32_t lower_set_of_class(const struct sched *s, uint32_t class_id)
{
    uint32_t set = 0;
    while (s->sets.at[set].class_id != class_id)
        set++;
    return set;
}

struct group_key lower_expert_groups(const struct sched *s, uint32_t directive)
{
    const struct directive *d = &s->directives.at[directive];
    return (struct group_key){ .kind = PLAN_GROUP_EACH,
                               .ids = s->listed_sets.at + d->first_shard_set,
                               .n = d->n_shard_sets };
}

/* Sets of holders of a bucket, each with devices of all of its classes. */
static struct group_key sets_of_bucket(const struct sched *s, const struct bucket *b, const uint32_t *sets, uint32_t n)
{
    const bool several = b->n_classes > 1;
    return (struct group_key){ .kind = PLAN_GROUP_EACH,
                               .ids = sets,
                               .n = n,
                               .classes = several ? s->bucket_classes.at + b->first_class : NULL,
                               .n_classes = several ? b->n_classes : 0 };
}

/* The devices with the same block of experts in all groups on all classes of a bucket: one set per block. */
static struct group_key block_holders(struct sched *s, const struct bucket *b)
{
    const uint32_t ep = expert_parts(s, b->experts), *classes = s->bucket_classes.at + b->first_class;
    uint32_t *sets = arena_array(&s->arena, uint32_t, ep), *list = mem_alloc((b->holders + 1) * sizeof *list);
    for (uint32_t i = 0; i < ep; i++) {
        uint32_t n = 0;
        for (uint32_t c = 0; c < b->n_classes; c++) {
            const struct group_key groups = lower_expert_groups(s, expert_shard_in(s, b->experts, classes[c]));
            for (uint32_t g = 0; g < groups.n; g++)
                list[n++] = devices_of(s, groups.ids[g])[i];
        }
        CHECK(n == b->holders);
        sets[i] = devices_intern(s, list, n);
    }
    mem_free(list);
    return sets_of_bucket(s, b, sets, ep);
}

/* Which block of heads member i of a sequence group has, where context groups split those of tensor groups further. */
static uint32_t heads_block(const struct share *share, uint32_t i)
{
    const uint32_t p = share->n / share->context;
    return i % p * share->context + i / p;
}

/* The devices of a bucket's classes with the same block in all their tensor groups, or in the order of heads in all their sequence groups:
 * one set per block. */
static struct group_key tensor_holders(struct sched *s, const struct bucket *b)
{
    const uint32_t p = s->share.tensor, blocks = b->blocks, *classes = s->bucket_classes.at + b->first_class;
    uint32_t *sets = arena_array(&s->arena, uint32_t, blocks), *list = mem_alloc(b->holders * sizeof *list);
    for (uint32_t k = 0; k < blocks; k++) {
        uint32_t found = 0;
        for (uint32_t c = 0; c < b->n_classes; c++) {
            const uint32_t set = lower_set_of_class(s, classes[c]), n = s->sets.at[set].n;
            for (uint32_t i = 0; i < n; i++)
                if ((blocks > p ? heads_block(&s->share, i % s->share.n) : (uint64_t)(i % p) * blocks / p) == k)
                    list[found++] = devices_of(s, set)[i];
        }
        sets[k] = devices_intern(s, list, found);
    }
    mem_free(list);
    return sets_of_bucket(s, b, sets, blocks);
}

struct group_key lower_holders(struct sched *s, const struct bucket *b)
{
    if (b->experts != IR_NONE)
        return block_holders(s, b);
    if (b->blocks > 1)
        return tensor_holders(s, b);
    return (
        struct group_key){ .kind = PLAN_GROUP_UNION, .ids = s->bucket_classes.at + b->first_class, .n = b->n_classes };
}

struct turned_groups lower_turned_groups(struct sched *s, const uint32_t *sets, uint32_t n_sets, uint32_t n)
{
    const uint32_t size = s->sets.at[sets[0]].n, copies = size / n;
    uint32_t *blocks = arena_array(&s->arena, uint32_t, n_sets * copies);
    uint32_t *turned = arena_array(&s->arena, uint32_t, n_sets * n), *list = mem_alloc(size * sizeof *list);
    for (uint32_t i = 0; i < n_sets; i++) {
        for (uint32_t g = 0; g < copies; g++) {
            for (uint32_t k = 0; k < n; k++)
                list[k] = devices_of(s, sets[i])[g * n + k];
            blocks[i * copies + g] = devices_intern(s, list, n);
        }
        for (uint32_t k = 0; k < n; k++) {
            for (uint32_t g = 0; g < copies; g++)
                list[g] = devices_of(s, sets[i])[g * n + k];
            turned[i * n + k] = devices_intern(s, list, copies);
        }
    }
    mem_free(list);
    return (struct turned_groups){ { .kind = PLAN_GROUP_EACH, .ids = blocks, .n = n_sets * copies },
                                   { .kind = PLAN_GROUP_EACH, .ids = turned, .n = n_sets * n } };
}

struct turned_groups lower_zero_groups(struct sched *s, const struct bucket *b, const struct group_key *holders)
{
    if (!bucket_has_copies(b))
        return (struct turned_groups){ *holders, { .kind = PLAN_GROUP_UNION } };
    if (holders->kind == PLAN_GROUP_EACH)
        return lower_turned_groups(s, holders->ids, holders->n, b->group);
    const uint32_t class_id = s->bucket_classes.at[b->first_class];
    const uint32_t set = s->sets.at[b->set].class_id == class_id ? b->set : lower_set_of_class(s, class_id);
    return lower_turned_groups(s, &set, 1, b->group);
}
