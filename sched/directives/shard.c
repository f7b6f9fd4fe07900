/* shard: what every dim has in common, and "dim":"expert": the experts of a region are split over a device set (piper-strategy(5),
 * shard). The other dims: sched/directives/rows.c (who has which tokens) and region.c (parts of the model that need more than
 * their own tokens).
 *
 * The devices are one expert group, or a list of groups of equal size: device i of a group holds block i of the experts, and
 * the devices with the same block in all groups are the holders of its parameters (sched/buckets.c). A directive may be about some
 * microbatches, or list groups of several device sets, of which a microbatch takes those where it is placed; a device has one block in
 * all. Every data edge across
 * the border of the region goes through a BORDER node inside the groups: rows and counts on the way in, rows on the
 * way out, and the gradients of both. BW needs none: what it reads has arrived for BI.
 *
 * Without a capacity (dropless) counts travel first, then as many rows as they say. A device may receive all rows of its
 * group: buffers are planned for that, or for `expert_bound` times the balanced size. So it is with a capacity where sequences are
 * shared, which bounds what is received (counts.c).
 *
 * Needs: placement, the DAG with moves. Keeps the nodes; breaks the adjacency. */
#include <stdio.h>

#include "sched/passes.h"

static const char *const dim_names[DIMS] = { "expert", "sequence", "head", "ffn", "vocab", "context" };

/* How the sizes of groups are refused, by dim; what shares evenly. */
static enum status uneven(const struct directive *d, const struct js *js, const struct js *group, uint32_t i,
                          uint32_t found, uint32_t expected, struct err *e)
{
    if (d->dim == DIM_EXPERT)
        return js_expected(group, e, "%u devices, as in the first group: experts are split evenly", expected);
    return js_wrong(js, e, "group %u has %u devices, expected %u as in the first: %s evenly", i, found, expected,
                    d->dim == DIM_SEQUENCE ? "a sequence is shared" : "a region is split");
}

static enum status parse_groups(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    uint32_t set;
    bool lists = json_is_array(js->v) && json_is_array(json_array_get(js->v, 0));
    if (!json_is_array(js->v))
        return js_expected(js, e, "a list of devices: numbers and ranges \"0-511\", or a list of such lists");
    if (!lists) {
        TRY(devices_parse(s, js, &set, e));
        d->first_shard_set = s->listed_sets.n;
        vec_add(&s->listed_sets, set);
        d->n_shard_sets = 1;
        return ST_OK;
    }
    TRY(devices_parse_sets(s, js, &d->first_shard_set, &d->n_shard_sets, e));
    const uint32_t *sets = s->listed_sets.at + d->first_shard_set, size = s->sets.at[sets[0]].n;
    for (uint32_t i = 1; i < d->n_shard_sets; i++) {
        const struct js group = js_at(js, i);
        if (s->sets.at[sets[i]].n != size)
            return uneven(d, js, &group, i, s->sets.at[sets[i]].n, size, e);
    }
    return ST_OK;
}

enum status expert_bound_parse(const struct js *js, struct ratio *bound, bool *rounds, struct err *e)
{
    static const char *const words[] = { "stop", "rounds", NULL };
    struct js v;
    double number = 0;
    uint32_t overflow;
    TRY(js_opt(js, "expert_bound", &v, e));
    const bool is_auto = v.v && json_is_string(v.v) && strcmp(json_string_value(v.v), "auto") == 0;
    if (v.v && !json_is_number(v.v) && !is_auto)
        return js_expected(&v, e, "a number >= 1, or \"auto\": %g with \"overflow\": \"rounds\"", SCHED_EXPERT_BOUND);
    if (v.v && !is_auto)
        TRY(js_num(&v, 1, 1e6, &number, e));
    TRY(js_word_or(js, "overflow", words, 0, &overflow, e));
    TRY(js_opt(js, "overflow", &v, e));
    if (v.v && !number && !is_auto)
        return js_wrong(
            &v, e,
            "is about rows beyond \"expert_bound\", which is not set: memory is planned for the worst case; "
            "set it, e.g. to %g, or omit \"overflow\"",
            SCHED_EXPERT_BOUND);
    if (v.v && is_auto && overflow == 0)
        return js_wrong(&v, e,
                        "conflicts with \"expert_bound\": \"auto\", which is %g with \"overflow\": \"rounds\"; "
                        "set \"expert_bound\" to %g",
                        SCHED_EXPERT_BOUND, SCHED_EXPERT_BOUND);
    *bound = ratio_of(is_auto ? SCHED_EXPERT_BOUND : number);
    *rounds = is_auto || overflow == 1;
    return ST_OK;
}

static enum status parse_expert(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js v;
    TRY(placement_keys(s, js, d, &v, "the devices that share the experts, or a list of such groups", e));
    TRY(parse_groups(s, &v, d, e));
    return expert_bound_parse(js, &d->expert_bound, &d->rounds, e);
}

static enum status parse_sequence(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    static const char *const words[] = { "contiguous", "zigzag", NULL };
    struct js v;
    uint32_t order;
    TRY(placement_keys(s, js, d, &v, "the devices that share the sequences of a replica, or a list of such groups", e));
    TRY(parse_groups(s, &v, d, e));
    TRY(js_word_or(js, "order", words, 0, &order, e));
    d->zigzag = order == 1;
    struct {
        VEC(uint32_t);
    } all = { 0 };
    for (uint32_t g = 0; g < d->n_shard_sets; g++) {
        const struct device_set *set = &s->sets.at[s->listed_sets.at[d->first_shard_set + g]];
        for (uint32_t i = 0; i < set->n; i++)
            vec_add(&all, s->sets.pool.at[set->first + i]);
    }
    d->set = devices_intern(s, all.at, all.n);
    vec_free(&all);
    return ST_OK;
}

static enum status parse_region(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    static const char *const keeps[] = { "part", "whole", NULL };
    static const char *const exchanges[] = { "gather", "all-to-all", "ring", NULL };
    struct js v;
    uint32_t keep, exchange;
    TRY(js_need(js, "filter", &v, e));
    TRY(filter_parse(s, &v, &d->filter, e));
    TRY(js_opt(js, "devices", &v, e));
    if (v.v)
        TRY(parse_groups(s, &v, d, e));
    TRY(js_word_or(js, "keep", keeps, 0, &keep, e));
    d->keep_whole = keep == 1;
    TRY(js_word_or(js, "exchange", exchanges, 0, &exchange, e));
    d->exchange = (uint8_t)exchange;
    return ST_OK;
}

static const struct dim {
    const char *const *keys; /* allowed, NULL-terminated */
    enum status (*parse)(struct sched *s, const struct js *js, struct directive *d, struct err *e);
} dims[DIMS] = {
    [DIM_EXPERT] = { (const char *const[]){ "op", "dim", "filter", "devices", "device", "stream", "expert_bound",
                                            "overflow", NULL },
                     parse_expert },
    [DIM_SEQUENCE] = { (const char *const[]){ "op", "dim", "filter", "devices", "device", "stream", "order", NULL },
                       parse_sequence },
    [DIM_HEAD] = { (const char *const[]){ "op", "dim", "filter", "devices", "stream", "keep", NULL }, parse_region },
    [DIM_FFN] = { (const char *const[]){ "op", "dim", "filter", "devices", "stream", "keep", NULL }, parse_region },
    [DIM_VOCAB] = { (const char *const[]){ "op", "dim", "filter", "devices", "stream", "keep", NULL }, parse_region },
    [DIM_CONTEXT] = { (const char *const[]){ "op", "dim", "filter", "devices", "stream", "keep", "exchange", NULL },
                      parse_region },
};

static enum status parse_shard(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    const char *name;
    TRY(js_str_or(js, "dim", "expert", &name, e));
    while (d->dim < DIMS && strcmp(name, dim_names[d->dim]))
        d->dim++;
    if (d->dim == DIMS)
        return js_wrong(js, e,
                        "\"dim\": found \"%s\", expected \"expert\", \"sequence\", \"head\", \"ffn\", "
                        "\"vocab\" or \"context\"",
                        name);
    TRY(js_only(js, dims[d->dim].keys, e));
    TRY(dims[d->dim].parse(s, js, d, e));
    if (d->dim == DIM_EXPERT && d->filter.pass != IR_PASS_NONE)
        return js_wrong(js, e, "experts are sharded in all passes of a microbatch: omit PASS from the filter");
    if (d->dim != DIM_EXPERT && (d->filter.mb.given || d->filter.pass != IR_PASS_NONE))
        return js_wrong(js, e, "shard acts on chunks: leave %s and PASS out of the filter", s->mb_name);
    TRY(js_str_or(js, "stream", "default_stream", &name, e));
    d->stream = stream_number(s, name);
    return ST_OK;
}

/* Of all dims: which of them a directive may have, dims[] says. */
static const char *const keys[] = { "op",    "dim",          "filter",   "devices", "device",   "stream",
                                    "order", "expert_bound", "overflow", "keep",    "exchange", NULL };
const struct directive_kind directive_shard = { .name = "shard", .keys = keys, .parse = parse_shard };

static enum status check_region(const struct sched *s, const struct directive *d, uint32_t chunk, struct err *e)
{
    char text[160];
    const struct ir_chunk *c = &s->chunks.chunks.at[chunk];
    uint32_t ep = s->sets.at[s->listed_sets.at[d->first_shard_set]].n;
    for (uint32_t i = 0; i < c->n_ops; i++) {
        const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[c->first_op + i]];
        if (op->op != IR_OP_EXPERTS)
            return js_wrong(&d->js, e,
                            "the filter matches %s, which has operator %s: only expert regions can be sharded; add "
                            "\"EP\" to the filter",
                            chunk_text(s, chunk, text, sizeof text), op->name);
        if (op->attrs.experts % ep)
            return js_wrong(&d->js, e, "%s has %u experts, which do not split evenly over %u devices",
                            chunk_text(s, chunk, text, sizeof text), op->attrs.experts, ep);
    }
    return ST_OK;
}

/* Sharded for some microbatches, an expert region is for all of them, into as many blocks and with one bound. */
static enum status check_microbatches(const struct sched *s, uint32_t chunk, struct err *e)
{
    const uint32_t *of = s->shard_of + (size_t)chunk * s->microbatches;
    char text[160];
    for (uint32_t mb = 1; mb < s->microbatches; mb++) {
        if (of[mb] == of[mb - 1])
            continue;
        const uint32_t has = of[mb] == IR_NONE ? mb - 1 : mb, other = has == mb ? mb - 1 : mb;
        const struct directive *d = &s->directives.at[of[has]], *o = d;
        if (of[other] == IR_NONE)
            return js_wrong(&d->js, e,
                            "%s is sharded for %s=%u and not for %s=%u: a device holds a part of the experts for all "
                            "microbatches or for none; shard the others too",
                            chunk_text(s, chunk, text, sizeof text), s->mb_name, has, s->mb_name, other);
        o = &s->directives.at[of[other]];
        const uint32_t n = s->sets.at[s->listed_sets.at[d->first_shard_set]].n;
        if (n != s->sets.at[s->listed_sets.at[o->first_shard_set]].n)
            return js_wrong(&d->js, e,
                            "%s is sharded over groups of %u devices for %s=%u and of %u for %s=%u; expected the same "
                            "size for all microbatches",
                            chunk_text(s, chunk, text, sizeof text), n, s->mb_name, has,
                            s->sets.at[s->listed_sets.at[o->first_shard_set]].n, s->mb_name, other);
        if (d->expert_bound.num * o->expert_bound.den != o->expert_bound.num * d->expert_bound.den)
            return js_wrong(&d->js, e,
                            "%s has another \"expert_bound\" for %s=%u than for %s=%u; expected the same for all "
                            "microbatches",
                            chunk_text(s, chunk, text, sizeof text), s->mb_name, has, s->mb_name, other);
        if (d->rounds != o->rounds)
            return js_wrong(&d->js, e,
                            "%s has another \"overflow\" for %s=%u than for %s=%u; expected the same for all "
                            "microbatches",
                            chunk_text(s, chunk, text, sizeof text), s->mb_name, has, s->mb_name, other);
    }
    return ST_OK;
}

enum status pass_shard(struct sched *s, struct err *e)
{
    const uint32_t n = s->chunks.chunks.n, m = s->microbatches;
    s->shard_of = arena_array(&s->arena, uint32_t, (uint64_t)n * m + 1);
    memset(s->shard_of, 0xff, ((size_t)n * m + 1) * sizeof *s->shard_of);
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind != &directive_shard || d->dim != DIM_EXPERT)
            continue;
        TRY(filter_check(s, &d->filter, &d->js, e));
        const struct mb_range r = filter_microbatches(s, &d->filter);
        for (uint32_t c = 0; c < n; c++) {
            char text[160], at[64] = "";
            if (!filter_chunk(s, &d->filter, c))
                continue;
            TRY(check_region(s, d, c, e));
            for (uint32_t mb = r.first; mb < r.end; mb += r.step) {
                if (d->filter.mb.given)
                    snprintf(at, sizeof at, " %s=%u", s->mb_name, mb);
                if (s->shard_of[c * m + mb] != IR_NONE)
                    return js_wrong(&d->js, e, "%s%s is already sharded by an earlier directive",
                                    chunk_text(s, c, text, sizeof text), at);
                s->shard_of[c * m + mb] = i;
            }
        }
    }
    for (uint32_t c = 0; c < n; c++)
        TRY(check_microbatches(s, c, e));
    return ST_OK;
}

uint32_t expert_shard_in(const struct sched *s, uint32_t chunk, uint32_t class_id)
{
    const uint32_t m = s->microbatches;
    uint32_t mb = 0;
    while (s->sets.at[s->set_of[chunk * m + mb]].class_id != class_id)
        mb++;
    return s->shard_of[chunk * m + mb];
}

/* The place of a device in its class, whose members ascend; IR_NONE: it is in another one. */
static uint32_t place_in_class(const struct sched *s, const struct device_class *k, uint32_t device)
{
    const uint32_t *members = s->class_pool.at + k->first;
    uint32_t lo = 0, hi = k->n;
    while (hi - lo > 1)
        *(members[(lo + hi) / 2] <= device ? &lo : &hi) = (lo + hi) / 2;
    return members[lo] == device ? lo : IR_NONE;
}

/* Every member of the class is in one group, and nothing else is. */
static bool groups_fit(const struct sched *s, const struct directive *d, const struct device_class *k)
{
    uint8_t *seen = mem_alloc(k->n);
    uint32_t total = 0;
    bool fit = true;
    for (uint32_t g = 0; g < d->n_shard_sets; g++) {
        uint32_t set = s->listed_sets.at[d->first_shard_set + g];
        total += s->sets.at[set].n;
        for (uint32_t i = 0; i < s->sets.at[set].n; i++) {
            const uint32_t at = place_in_class(s, k, devices_of(s, set)[i]);
            fit = fit && at != IR_NONE && !seen[at];
            seen[at == IR_NONE ? 0 : at] = 1;
        }
    }
    mem_free(seen);
    return fit && total == k->n;
}

/* A directive whose groups are on several device sets stands for one for each: the groups that are there. */
struct part {
    uint32_t whole, class_id, directive;
};
struct parts {
    VEC(struct part);
};

static uint32_t part_of(struct sched *s, struct parts *parts, uint32_t whole, uint32_t class_id)
{
    for (uint32_t i = 0; i < parts->n; i++)
        if (parts->at[i].whole == whole && parts->at[i].class_id == class_id)
            return parts->at[i].directive;
    struct directive d = s->directives.at[whole];
    const uint32_t first = d.first_shard_set, n = d.n_shard_sets;
    d.first_shard_set = s->listed_sets.n;
    d.n_shard_sets = 0;
    for (uint32_t g = 0; g < n; g++) {
        const uint32_t set = s->listed_sets.at[first + g];
        if (place_in_class(s, &s->classes.at[class_id], devices_of(s, set)[0]) == IR_NONE)
            continue;
        vec_add(&s->listed_sets, set);
        d.n_shard_sets++;
    }
    if (!d.n_shard_sets) /* none fits */
        return whole;
    vec_add(&s->directives, d);
    vec_add(parts, ((struct part){ whole, class_id, s->directives.n - 1 }));
    return s->directives.n - 1;
}

/* Every group of a directive in parts is in one of them. */
static enum status check_parts(const struct sched *s, const struct parts *parts, struct err *e)
{
    for (uint32_t i = 0; i < parts->n; i++) {
        const struct directive *whole = &s->directives.at[parts->at[i].whole];
        for (uint32_t g = 0; g < whole->n_shard_sets; g++) {
            const uint32_t set = s->listed_sets.at[whole->first_shard_set + g];
            bool used = false;
            for (uint32_t k = 0; k < parts->n && !used; k++)
                used = parts->at[k].whole == parts->at[i].whole &&
                       place_in_class(s, &s->classes.at[parts->at[k].class_id], devices_of(s, set)[0]) != IR_NONE;
            char text[160];
            if (!used)
                return js_wrong(&whole->js, e, "no experts that the filter matches are on %s",
                                devices_text(s, set, text, sizeof text));
        }
    }
    return ST_OK;
}

/* What crosses the border of the region is rows of the experts' own devices. */
static enum status check_neighbours(const struct sched *s, uint32_t from, uint32_t to, struct err *e)
{
    const uint32_t region = expert_shard(s, from) != IR_NONE ? from : to, other = region == from ? to : from;
    const uint32_t m = s->microbatches;
    for (uint32_t mb = 0; mb < m; mb++) {
        uint32_t a = s->set_of[region * m + mb], b = s->set_of[other * m + mb];
        char name[160], near[160], here[160], there[160];
        if (a != b)
            return js_wrong(&s->directives.at[s->shard_of[region * m + mb]].js, e,
                            "%s %s=%u is placed on %s, its neighbour %s on %s: sharded experts and the chunks before "
                            "and after them must be on the same devices, in the same order",
                            chunk_text(s, region, name, sizeof name), s->mb_name, mb,
                            devices_text(s, a, here, sizeof here), chunk_text(s, other, near, sizeof near),
                            devices_text(s, b, there, sizeof there));
    }
    return ST_OK;
}

/* A device has one block of the experts of a chunk, whatever the microbatch. */
static enum status check_blocks(const struct sched *s, uint32_t chunk, uint32_t *block, struct err *e)
{
    const uint32_t m = s->microbatches, *of = s->shard_of + (size_t)chunk * m;
    bool several = false;
    for (uint32_t mb = 1; mb < m; mb++)
        several = several || of[mb] != of[0];
    if (!several || of[0] == IR_NONE)
        return ST_OK;
    memset(block, 0xff, s->ranks * sizeof *block);
    for (uint32_t mb = 0; mb < m; mb++) {
        const struct directive *d = &s->directives.at[of[mb]];
        for (uint32_t g = 0; g < d->n_shard_sets && (!mb || of[mb] != of[mb - 1]); g++) {
            const uint32_t set = s->listed_sets.at[d->first_shard_set + g];
            for (uint32_t i = 0; i < s->sets.at[set].n; i++) {
                const uint32_t device = devices_of(s, set)[i];
                char text[160];
                if (block[device] != IR_NONE && block[device] != i)
                    return js_wrong(&d->js, e,
                                    "device %u has place %u in its group for %s=%u of %s, and place %u for an earlier "
                                    "microbatch; it holds one part of the experts, so expected the same place",
                                    device, i, s->mb_name, mb, chunk_text(s, chunk, text, sizeof text), block[device]);
                block[device] = i;
            }
        }
    }
    return ST_OK;
}

/* The groups together are the devices of the region, for every microbatch. */
static enum status check_groups(struct sched *s, struct parts *parts, struct err *e)
{
    for (uint32_t i = 0; i < s->chunks.chunks.n * s->microbatches; i++) {
        uint32_t c = i / s->microbatches;
        char text[160], set[160];
        const bool same = i % s->microbatches && s->set_of[i] == s->set_of[i - 1] &&
                          s->shard_of[i] == s->shard_of[i - 1];
        if (s->shard_of[i] == IR_NONE || same)
            continue;
        const uint32_t class_id = s->sets.at[s->set_of[i]].class_id;
        const struct directive *d = &s->directives.at[s->shard_of[i]];
        if (d->n_shard_sets * s->sets.at[s->listed_sets.at[d->first_shard_set]].n > s->classes.at[class_id].n)
            s->shard_of[i] = part_of(s, parts, s->shard_of[i], class_id);
        d = &s->directives.at[s->shard_of[i]];
        if (!groups_fit(s, d, &s->classes.at[class_id]))
            return js_wrong(&d->js, e,
                            "%s %s=%u is placed on %s; the expert groups must cover exactly these devices, each once",
                            chunk_text(s, c, text, sizeof text), s->mb_name, i % s->microbatches,
                            devices_text(s, s->set_of[i], set, sizeof set));
    }
    return check_parts(s, parts, e);
}

/* Rows of further rounds go back to their places, so nobody else's gradient is added to theirs on the way. */
static enum status check_rounds(const struct sched *s, uint32_t chunk, struct err *e)
{
    const struct ir_chunk *c = &s->chunks.chunks.at[chunk];
    const struct ir_node_op *experts = &s->g->ops.at[s->chunks.ops.at[c->first_op]];
    uint32_t readers = 0;
    char text[160];
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        for (int i = 0; i < IR_MAX_IN; i++)
            readers += s->g->ops.at[o].in[i] == experts->in[0];
    if (!expert_rounds(s, chunk) || (c->n_ops == 1 && readers == 1))
        return ST_OK;
    return js_wrong(
        &s->directives.at[expert_shard(s, chunk)].js, e,
        "%s has %u operators, and %u read its rows; \"overflow\": \"rounds\" is for one operator of experts "
        "that alone reads the rows of its dispatch; omit \"overflow\" and \"expert_bound\" for it",
        chunk_text(s, chunk, text, sizeof text), c->n_ops, readers);
}

/* Groups and their devices; and what is next to a region is there too. */
enum status shard_check_devices(struct sched *s, struct err *e)
{
    struct parts parts = { 0 };
    enum status st = check_groups(s, &parts, e);
    vec_free(&parts);
    TRY(st);
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        for (int i = 0; i < IR_MAX_IN; i++) {
            uint32_t t = s->g->ops.at[o].in[i], p = t == IR_NONE ? IR_NONE : s->g->tensors.at[t].producer;
            if (p == IR_NONE || s->chunks.chunk_of[p] == s->chunks.chunk_of[o] ||
                (expert_shard(s, s->chunks.chunk_of[p]) == IR_NONE &&
                 expert_shard(s, s->chunks.chunk_of[o]) == IR_NONE))
                continue;
            TRY(check_neighbours(s, s->chunks.chunk_of[p], s->chunks.chunk_of[o], e));
        }
    uint32_t *block = mem_alloc((s->ranks + 1) * sizeof *block);
    for (uint32_t c = 0; c < s->chunks.chunks.n && st == ST_OK; c++)
        st = check_blocks(s, c, block, e);
    mem_free(block);
    if (st == ST_OK)
        counts_bound_rows(s);
    for (uint32_t c = 0; c < s->chunks.chunks.n && st == ST_OK; c++)
        st = check_rounds(s, c, e);
    return st;
}

/* Does an expert_bound leave less room than the worst case takes? */
static bool is_bounded(const struct sched *s, uint32_t chunk)
{
    const uint32_t d = expert_shard(s, chunk);
    if (d == IR_NONE)
        return false;
    const struct ratio bound = s->directives.at[d].expert_bound, most = s->row_factor[chunk];
    return bound.num > 0 && (unsigned __int128)bound.num * most.den < (unsigned __int128)most.num * bound.den;
}

struct ratio expert_row_factor(const struct sched *s, uint32_t chunk)
{
    return is_bounded(s, chunk) ? s->directives.at[expert_shard(s, chunk)].expert_bound : s->row_factor[chunk];
}

bool expert_rounds(const struct sched *s, uint32_t chunk)
{
    return is_bounded(s, chunk) && s->directives.at[expert_shard(s, chunk)].rounds;
}
