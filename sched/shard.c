/* shard: the experts of a region are split over a device set (DIRECTIVES.md, "shard").
 *
 * The devices are one expert group, or a list of groups of equal size: device i of a group holds block i of the experts, and
 * the devices with the same block in all groups are the holders of its parameters (sched/buckets.c). Every data edge across
 * the border of the region goes through an ALL_TO_ALL node inside the groups: rows and counts on the way in, rows on the
 * way out, and the gradients of both. BW needs none: what it reads has arrived for BI.
 *
 * Without a capacity (dropless) counts travel first, then as many rows as they say. A device may receive all rows of its
 * group: buffers are planned for that, or for `expert_bound` times the balanced size.
 *
 * Needs: placement, the DAG with moves. Keeps the nodes; breaks the adjacency. */
#include <stdio.h>

#include "sched/compile.h"

static enum status parse_groups(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    uint32_t n, set;
    bool lists = json_is_array(js->v) && json_is_array(json_array_get(js->v, 0));
    d->first_shard_set = s->shard_sets.n;
    if (!lists) {
        TRY(devices_parse(s, js, &set, e));
        vec_add(&s->shard_sets, set);
        d->n_shard_sets = 1;
        return ST_OK;
    }
    TRY(js_count(js, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        struct js group = js_at(js, i);
        TRY(devices_parse(s, &group, &set, e));
        vec_add(&s->shard_sets, set);
        if (s->sets.at[set].n != s->sets.at[s->shard_sets.at[d->first_shard_set]].n)
            return js_expected(&group, e, "%u devices, as in the first group: experts are split evenly",
                               s->sets.at[s->shard_sets.at[d->first_shard_set]].n);
    }
    d->n_shard_sets = n;
    return ST_OK;
}

static enum status parse_shard(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    const char *name;
    TRY(placement_keys(s, js, d, &v, "the devices that share the experts, or a list of such groups", e));
    TRY(parse_groups(s, &v, d, e));
    TRY(js_str_or(js, "stream", "default_stream", &name, e));
    d->stream = stream_number(s, name);
    return js_num_or(js, "expert_bound", 1, 1e6, 0, &d->expert_bound, e);
}

static const char *const keys[] = { "op", "filter", "devices", "device", "stream", "expert_bound", NULL };
const struct directive_kind directive_shard = { .name = "shard", .keys = keys, .parse = parse_shard };

static enum status check_region(const struct sched *s, const struct directive *d, uint32_t chunk, struct err *e)
{
    char text[160];
    const struct ir_chunk *c = &s->chunks.chunks.at[chunk];
    uint32_t ep = s->sets.at[s->shard_sets.at[d->first_shard_set]].n;
    for (uint32_t i = 0; i < c->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[c->first_op + i]];
        if (op->op != IR_OP_EXPERTS)
            return js_wrong(&d->js, e,
                            "the filter matches %s, which has operator %s: only expert regions are sharded; add "
                            "\"EP\" to the filter",
                            chunk_text(s, chunk, text, sizeof text), op->name);
        if (op->attrs.experts % ep)
            return js_wrong(&d->js, e, "%s has %u experts, which do not split evenly over %u devices",
                            chunk_text(s, chunk, text, sizeof text), op->attrs.experts, ep);
    }
    return ST_OK;
}

enum status pass_shard(struct sched *s, struct err *e)
{
    uint32_t n = s->chunks.chunks.n;
    s->shard_of = arena_array(&s->arena, uint32_t, n + 1);
    memset(s->shard_of, 0xff, (n + 1) * sizeof *s->shard_of);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_shard)
            continue;
        TRY(filter_check(s, &d->filter, &d->js, e));
        for (uint32_t c = 0; c < n; c++) {
            char text[160];
            if (!filter_chunk(s, &d->filter, c))
                continue;
            if (s->shard_of[c] != IR_NONE)
                return js_wrong(&d->js, e, "%s is sharded by an earlier directive already",
                                chunk_text(s, c, text, sizeof text));
            TRY(check_region(s, d, c, e));
            s->shard_of[c] = i;
        }
    }
    return ST_OK;
}

/* The groups together are the devices of the region. */
enum status shard_check_devices(struct sched *s, struct err *e)
{
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++) {
        if (s->shard_of[c] == IR_NONE)
            continue;
        const struct directive *d = &s->directives.at[s->shard_of[c]];
        const struct device_class *k = &s->classes.at[s->sets.at[s->set_of[c * s->microbatches]].class_id];
        const uint32_t *members = s->class_pool.at + k->first;
        uint32_t total = 0;
        bool inside = true;
        for (uint32_t g = 0; g < d->n_shard_sets; g++) {
            uint32_t set = s->shard_sets.at[d->first_shard_set + g];
            total += s->sets.at[set].n;
            for (uint32_t i = 0; i < s->sets.at[set].n; i++) {
                uint32_t lo = 0, hi = k->n, x = devices_of(s, set)[i];
                while (hi - lo > 1)
                    *(members[(lo + hi) / 2] <= x ? &lo : &hi) = (lo + hi) / 2;
                inside = inside && members[lo] == x;
            }
        }
        if (!inside || total != k->n) {
            char text[160], set[160];
            return js_wrong(
                &d->js, e, "%s is placed on %s; the expert groups must be exactly these devices, each in one group",
                chunk_text(s, c, text, sizeof text), devices_text(s, s->set_of[c * s->microbatches], set, sizeof set));
        }
    }
    return ST_OK;
}

double expert_row_factor(const struct sched *s, uint32_t chunk)
{
    uint32_t ep = expert_parts(s, chunk), d = s->shard_of[chunk];
    if (ep < 2 || s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[chunk].first_op]].attrs.capacity)
        return 1;
    double bound = s->directives.at[d].expert_bound;
    return bound > 0 && bound < ep ? bound : ep;
}
