#include "cmd/plan_zero.h"

#include "job/compile_job.h"

void plan_print_zero_groups(const struct plan *plans, uint32_t n_classes)
{
    const struct plan_bucket *largest = NULL; /* of sharded experts they are smaller */
    for (uint32_t c = 0; c < n_classes; c++)
        for (uint32_t i = 0; i < plans[c].h->count[PLAN_S_BUCKETS]; i++) {
            const struct plan_bucket *b = &plans[c].buckets[i];
            if (b->zero_group > (largest ? largest->zero_group : 0))
                largest = b;
        }
    if (largest)
        printf(", zero %u in groups of %u%s", largest->zero, largest->zero_group,
               largest->state_all ? ", optimizer state over all" : "");
}

static uint32_t node_of(const struct machine *m, const struct plan *p, uint32_t set, uint32_t i)
{
    return plan_set_at(p, set, i) / m->ranks_per_node;
}

/* Do so many neighbours of each set lie on one node? */
static bool on_one_node(const struct machine *m, const struct plan *p, const struct plan_group *g, uint32_t n)
{
    for (uint32_t s = g->first_set; s < g->first_set + g->n_sets; s++)
        for (uint32_t i = 0; i < p->sets[s].size; i++)
            if (node_of(m, p, s, i) != node_of(m, p, s, i / n * n))
                return false;
    return true;
}

/* The most neighbours among the holders of a bucket that are on one node; 1: none are. */
static uint32_t neighbours(const struct machine *m, const struct plan *p, const struct plan_group *g)
{
    const uint32_t size = p->sets[g->first_set].size;
    uint32_t n = m->ranks_per_node < size ? m->ranks_per_node : size;
    while (n > 1 && (size % n || !on_one_node(m, p, g, n)))
        n--;
    return n;
}

/* Bytes that a rank needs more of the buckets with these holders, in groups of n. */
static double more_in_groups(const struct plan *p, uint32_t holders, uint32_t n, bool all)
{
    double bytes = 0;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &p->buckets[i];
        if (b->holders != holders || !zero_shards_params(b->zero))
            continue;
        const uint32_t size = plan_group_size(p, holders, plan_set_at(p, p->h->devices, 0));
        const double more = (double)(b->elements / n) - (double)plan_shard_elements(b, size);
        const uint32_t arrays = (b->master != UINT64_MAX) + (b->m != UINT64_MAX) + (b->v != UINT64_MAX);
        bytes += more * (ir_dtype_size(b->type, b->type) + 4 + (all ? 0 : 4 * arrays));
    }
    return bytes;
}

void plan_note_zero_groups(const struct plan *plans, uint32_t n_classes, const struct machine *m, FILE *to)
{
    for (uint32_t c = 0; c < n_classes && m && m->ranks_per_node > 1; c++)
        for (uint32_t i = 0; i < plans[c].h->count[PLAN_S_BUCKETS]; i++) {
            const struct plan *p = &plans[c];
            const struct plan_bucket *b = &p->buckets[i];
            const struct plan_group *holders = &p->groups[b->holders];
            const uint32_t shard = b->zero_group ? b->shard : b->holders;
            const uint32_t size = p->sets[p->groups[shard].first_set].size;
            const bool several = holders->kind == PLAN_GROUP_UNION && holders->n_sets > 1;
            if (!zero_shards_params(b->zero) || several || on_one_node(m, p, &p->groups[shard], size))
                continue;
            const uint32_t n = neighbours(m, p, holders);
            char more[32], least[32];
            if (n < 2)
                continue;
            fprintf(to,
                    "\nnote: zero 3 gathers parameters over %u ranks on several nodes of %s; \"zero_group\": %u keeps "
                    "that inside a node, for %s more per rank, or %s with \"zero_optimizer\": \"all\"\n",
                    size, m->name, n, compile_bytes(more_in_groups(p, b->holders, n, false), more),
                    compile_bytes(more_in_groups(p, b->holders, n, true), least));
            return;
        }
}
