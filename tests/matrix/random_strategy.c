/* Legal random strategies: everything but the orders (random_order.c). */
#include "random.h"

#include <stdio.h>

#include "base/fail.h"
#include "ir/family/family.h"

enum { ALL_TAGS = (1 << IR_MAX_TAGS) - 1 };

static json_t *directive(struct random_job *j, const char *op, json_t *filter)
{
    json_t *d = json_pack("{s:s,s:o}", "op", op, "filter", filter);
    json_array_append_new(j->strategy, d);
    return d;
}

const char *random_stream(struct random_job *j)
{
    static const char *const names[] = { "default_stream", "pp_stream", "dp", "ag", "ep", "other" };
    return names[rng_below(&j->rng, 6)];
}

/* ---- where ------------------------------------------------------------------------------------------------------- */

const struct random_set *random_set_of(const struct random_job *j, uint32_t chunk, uint32_t mb)
{
    return &j->sets[j->place.of[chunk] * 2 + j->half[mb]];
}

static uint32_t find_tag(const struct random_job *j, const char *name)
{
    uint32_t tag = ir_graph_find_tag(&j->g, name);
    return tag == IR_NONE ? 0 : 1u << tag;
}

/* Tags by which the model is placed: never EP, for a region stays with its neighbours. */
static uint32_t placing_tags(struct random_job *j)
{
    uint32_t tags = find_tag(j, "PP"), others = ALL_TAGS & ~tags & ~find_tag(j, "EP");
    if (rng_chance(&j->rng, 30))
        tags |= others & ((1u << j->g.n_tags) - 1);
    return tags;
}

/* Another order of a set; of groups that share sequences, each in the order that its class has. */
static void reorder(struct random_job *j, uint32_t *device)
{
    uint32_t order[RANDOM_MOST_RANKS], was[RANDOM_MOST_RANKS], n = j->replicas / j->share.n;
    memcpy(was, device, sizeof was);
    for (uint32_t g = 0; g < n; g++)
        order[g] = g;
    rng_shuffle(&j->rng, order, n);
    for (uint32_t i = 0; i < j->replicas; i++)
        device[i] = was[order[i / j->share.n] * j->share.n + i % j->share.n];
}

/* Classes of equal size; every unit and half is on one, in an order of its own; every class is used. */
static void choose_sets(struct random_job *j)
{
    struct rng *r = &j->rng;
    uint32_t slots = j->place.n * (j->halves ? 2 : 1), most = RANDOM_MOST_RANKS / j->replicas;
    uint32_t classes = 1 + rng_below(r, most < slots ? most : slots), device[RANDOM_MOST_RANKS];
    bool own_order = rng_chance(r, 50);
    if (classes < most && classes < slots && rng_chance(r, 50)) /* mostly one stage a rank */
        classes = most < slots ? most : slots;
    j->ranks = classes * j->replicas;
    for (uint32_t i = 0; i < j->ranks; i++)
        device[i] = i;
    if (rng_chance(r, 60))
        rng_shuffle(r, device, j->ranks);
    uint32_t *slot = mem_alloc(slots * sizeof *slot);
    for (uint32_t i = 0; i < slots; i++)
        slot[i] = i;
    rng_shuffle(r, slot, slots);
    j->sets = mem_alloc(j->place.n * 2 * sizeof *j->sets);
    for (uint32_t i = 0; i < slots; i++) {
        struct random_set *s = &j->sets[slot[i] % j->place.n * 2 + slot[i] / j->place.n];
        s->class_id = i < classes ? i : rng_below(r, classes);
        memcpy(s->device, device + s->class_id * j->replicas, j->replicas * sizeof *device);
        if (own_order && rng_chance(r, 60))
            reorder(j, s->device);
    }
    mem_free(slot);
}

static bool one_set(const struct random_job *j)
{
    for (uint32_t i = 0; i < j->place.n * 2; i++)
        if ((j->halves || i % 2 == 0) &&
            memcmp(j->sets[i].device, j->sets[0].device, j->replicas * sizeof(uint32_t)) != 0)
            return false;
    return true;
}

static void choose_halves(struct random_job *j)
{
    uint32_t cut = j->microbatches > 1 ? 1 + rng_below(&j->rng, j->microbatches - 1) : 0;
    bool odd = rng_chance(&j->rng, 30);
    j->halves = cut && j->share.n == 1 && rng_chance(&j->rng, 25);
    for (uint32_t i = 0; i < j->microbatches && j->halves; i++)
        j->half[i] = odd ? i % 2 : i >= cut;
}

/* Two sets in turn, from the first microbatch on. */
static bool in_turn(const struct random_job *j)
{
    bool turn = j->halves;
    for (uint32_t i = 0; i < j->microbatches; i++)
        turn = turn && j->half[i] == i % 2;
    return turn;
}

/* One directive per unit and run of microbatches with one set, or a rotation; all of them get the keys of `more`. */
static void for_sets(struct random_job *j, const char *op, uint32_t unit, const json_t *more)
{
    uint32_t chunk = 0;
    while (j->place.of[chunk] != unit)
        chunk++;
    if (in_turn(j) && rng_chance(&j->rng, 50)) {
        const struct random_set *s = random_set_of(j, chunk, 0);
        json_t *d = directive(j, op, random_filter(j, chunk, j->place.tags, 1, 0, NULL)), *turns = json_array();
        for (int i = 0; i < 2; i++)
            json_array_append_new(turns, random_devices(j, s[i].device, j->replicas));
        json_object_set_new(d, "rotate", turns);
        json_object_update(d, (json_t *)more);
        return;
    }
    for (uint32_t lo = 0, hi; lo < j->microbatches; lo = hi + 1) {
        for (hi = lo; hi + 1 < j->microbatches && j->half[hi + 1] == j->half[lo];)
            hi++;
        json_t *d = directive(j, op, random_filter(j, chunk, j->place.tags, lo, hi, NULL));
        json_object_set_new(d, rng_chance(&j->rng, 5) ? "device" : "devices",
                            random_devices(j, random_set_of(j, chunk, lo)->device, j->replicas));
        json_object_update(d, (json_t *)more);
    }
}

/* ---- replicate, place, shard ------------------------------------------------------------------------------------- */

/* Groups that divide the holders, also of blocks that devices with the same sequences share, and of which experts' groups are a multiple or a
 * part. */
static void zero_group(struct random_job *j, uint32_t zero, json_t *options)
{
    static const uint8_t of[RANDOM_MOST_RANKS + 1] = { [2] = 2, [4] = 2, [8] = 4 };
    const bool known = j->replicas <= RANDOM_MOST_RANKS && of[j->replicas];
    const uint32_t group = known ? of[j->replicas / j->share.n] : 0;
    if (!zero || !group || rng_chance(&j->rng, 60))
        return;
    json_object_set_new(options, "zero_group", json_integer(group / (group > 2 && rng_chance(&j->rng, 50) ? 2 : 1)));
    if (rng_chance(&j->rng, 60))
        json_object_set_new(options, "zero_optimizer", json_string(rng_chance(&j->rng, 80) ? "all" : "group"));
}

static json_t *replicate_options(struct random_job *j)
{
    struct rng *r = &j->rng;
    json_t *o = json_object();
    uint32_t zero = rng_below(r, 5);
    if (rng_chance(r, 60))
        json_object_set_new(o, "reduce_stream", json_string(random_stream(j)));
    if (rng_chance(r, 60))
        json_object_set_new(o, "gather_stream", json_string(random_stream(j)));
    if (zero >= 2 && rng_chance(r, 30))
        json_object_set_new(o, zero == 2 ? "shard_grads" : "shard_params", json_true());
    else if (zero)
        json_object_set_new(o, "zero", json_integer(zero > 3 ? 3 : zero));
    zero_group(j, zero, o);
    if (rng_chance(r, 30))
        json_object_set_new(o, "reduce", json_string(rng_chance(r, 50) ? "each" : "last"));
    if (rng_chance(r, 60))
        json_object_set_new(o, "prefetch", json_integer(rng_below(r, 4)));
    switch (rng_below(r, 4)) {
    case 0:
        json_object_set_new(o, "bucket_size", json_string("layer"));
        break;
    case 1:
        json_object_set_new(o, "bucket_size", json_real(0.0005 + 0.001 * rng_below(r, 12)));
        break;
    case 2:
        json_object_set_new(o, "bucket_size", json_integer(25));
        break;
    default:
        break;
    }
    return o;
}

static void replicate(struct random_job *j)
{
    bool alike = rng_chance(&j->rng, 30);
    json_t *o = replicate_options(j);
    if (one_set(j) && rng_chance(&j->rng, 50)) {
        json_t *d = directive(j, "replicate", json_object());
        json_object_set_new(d, "devices", random_devices(j, j->sets[0].device, j->replicas));
        json_object_update(d, o);
    } else {
        for (uint32_t u = 0; u < j->place.n; u++) {
            if (!alike) {
                json_decref(o);
                o = replicate_options(j);
            }
            for_sets(j, "replicate", u, o);
        }
    }
    json_decref(o);
}

static void place(struct random_job *j)
{
    struct rng *r = &j->rng;
    if (rng_chance(r, 15)) { /* a later directive overrides it */
        json_t *d = directive(j, "place", json_object());
        json_object_set_new(d, "devices", random_devices(j, j->sets[0].device, j->replicas));
    }
    for (uint32_t u = 0; u < j->place.n; u++) {
        json_t *o = json_object();
        if (rng_chance(r, 60))
            json_object_set_new(o, "stream", json_string(random_stream(j)));
        if (rng_chance(r, 15))
            json_object_set_new(o, "lanes", json_true());
        for_sets(j, "place", u, o);
        json_decref(o);
    }
}

/* Expert groups of a unit: its devices in a random order, cut into groups of ep. */
static json_t *expert_groups(struct random_job *j, const struct random_set *s, uint32_t ep)
{
    uint32_t device[RANDOM_MOST_RANKS];
    memcpy(device, s->device, sizeof device);
    if (rng_chance(&j->rng, 50))
        rng_shuffle(&j->rng, device, j->replicas);
    if (ep == j->replicas && rng_chance(&j->rng, 50))
        return random_devices(j, device, ep);
    json_t *groups = json_array();
    for (uint32_t i = 0; i < j->replicas; i += ep)
        json_array_append_new(groups, random_devices(j, device + i, ep));
    return groups;
}

static uint32_t experts_of(const struct random_job *j, uint32_t chunk)
{
    return j->g.ops.at[j->chunks.ops.at[j->chunks.chunks.at[chunk].first_op]].attrs.experts;
}

/* A region whose microbatches are on two device sets: a directive for each run of them, with the groups of its set. */
static void shard_halves(struct random_job *j, uint32_t chunk, uint32_t tags, uint32_t ep)
{
    const struct random_set *s = random_set_of(j, chunk, 0);
    json_t *groups[2] = { expert_groups(j, &s[0], ep), expert_groups(j, &s[1], ep) };
    json_t *bound = rng_chance(&j->rng, 40) ? json_real(ep + 0.5 * rng_below(&j->rng, 4)) : NULL;
    for (uint32_t lo = 0, hi; lo < j->microbatches; lo = hi + 1) {
        for (hi = lo; hi + 1 < j->microbatches && j->half[hi + 1] == j->half[lo];)
            hi++;
        json_t *d = directive(j, "shard", random_filter(j, chunk, tags, lo, hi, NULL));
        json_object_set(d, "devices", groups[j->half[lo]]);
        if (rng_chance(&j->rng, 60))
            json_object_set_new(d, "stream", json_string(random_stream(j)));
        if (bound)
            json_object_set(d, "expert_bound", bound);
    }
    json_decref(bound);
    json_decref(groups[0]);
    json_decref(groups[1]);
}

/* Room for all rows, or for some, and the others come in more rounds. */
static void bound_rows(struct random_job *j, json_t *d, uint32_t ep)
{
    const bool rounds = rng_chance(&j->rng, 60);
    json_object_set_new(d, "expert_bound", json_real((rounds ? 1 : ep) + 0.5 * rng_below(&j->rng, 4)));
    if (rounds)
        json_object_set_new(d, "overflow", json_string("rounds"));
}

static void shard(struct random_job *j)
{
    uint32_t ep_tag = find_tag(j, "EP"), tag = ir_graph_find_tag(&j->g, "EP");
    for (uint32_t c = 0; c < j->chunks.chunks.n && ep_tag; c++) {
        if (j->chunks.chunks.at[c].tag[tag] < 0 || rng_chance(&j->rng, 20))
            continue;
        uint32_t ep = 1u << rng_below(&j->rng, 3);
        const struct random_set *s = random_set_of(j, c, 0);
        const uint32_t tags = ep_tag | (rng_chance(&j->rng, 50) ? j->place.tags : 0);
        if (ep > j->replicas || experts_of(j, c) % ep)
            continue;
        if (j->halves && s[0].class_id != s[1].class_id) {
            shard_halves(j, c, tags, ep);
            continue;
        }
        json_t *d = directive(j, "shard", random_filter(j, c, tags, 1, 0, NULL));
        json_object_set_new(d, "devices", expert_groups(j, s, ep));
        if (rng_chance(&j->rng, 60))
            json_object_set_new(d, "stream", json_string(random_stream(j)));
        if (rng_chance(&j->rng, 60))
            bound_rows(j, d, ep);
    }
}

/* ---- the rest ---------------------------------------------------------------------------------------------------- */

static void split(struct random_job *j)
{
    struct rng *r = &j->rng;
    uint32_t pp = ir_graph_find_tag(&j->g, "PP");
    if (j->microbatches == 1 && rng_chance(r, 50)) {
        j->mb_name = "MB";
        return;
    }
    int32_t last = 0;
    for (uint32_t c = 0; c < j->chunks.chunks.n && pp != IR_NONE; c++)
        last = j->chunks.chunks.at[c].tag[pp] > last ? j->chunks.chunks.at[c].tag[pp] : last;
    bool twice = last > 0 && rng_chance(r, 10);
    for (int i = 0; i < (twice ? 2 : 1); i++) {
        json_t *f = json_object();
        if (twice)
            json_object_set_new(f, "PP", i ? json_sprintf("1-%d", last) : json_integer(0));
        json_t *d = directive(j, "split", f);
        json_object_set_new(d, "num_microbatches", json_integer(j->microbatches));
        if (strcmp(j->mb_name, "MB") != 0 || rng_chance(r, 50))
            json_object_set_new(d, "dim_name", json_string(j->mb_name));
    }
}

static bool has_experts(const struct random_job *j, uint32_t chunk)
{
    return j->g.ops.at[j->chunks.ops.at[j->chunks.chunks.at[chunk].first_op]].op == IR_OP_EXPERTS;
}

/* Rows of experts that a chunk recomputes may be received again. */
static void receive(struct random_job *j, json_t *d, bool experts)
{
    if (experts && rng_chance(&j->rng, 60))
        json_object_set_new(d, "received", json_string(rng_chance(&j->rng, 80) ? "again" : "keep"));
}

static void recompute(struct random_job *j)
{
    bool any = false;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        any = any || has_experts(j, c);
    if (j->share.vocab || !rng_chance(&j->rng, 40)) /* a loss over split words is not computed again */
        return;
    if (rng_chance(&j->rng, 40)) {
        receive(j, directive(j, "recompute", json_object()), any);
        return;
    }
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        if (rng_chance(&j->rng, 30)) {
            uint32_t tags = 1u << rng_below(&j->rng, j->g.n_tags + 1);
            const uint32_t lo = rng_below(&j->rng, j->microbatches), hi = lo + rng_below(&j->rng, j->microbatches - lo);
            receive(j, directive(j, "recompute", random_filter(j, c, tags, lo, hi, NULL)), has_experts(j, c));
        }
}

static void resources(struct random_job *j)
{
    json_t *d;
    size_t i;
    json_array_foreach(j->strategy, i, d)
    {
        const char *op = json_string_value(json_object_get(d, "op")), *name;
        name = json_string_value(json_object_get(d, "reduce_stream"));
        if (j->replicas > 1 && !strcmp(op, "replicate") && name && !json_object_size(json_object_get(d, "filter")) &&
            json_is_object(json_object_get(d, "filter")) && rng_chance(&j->rng, 50)) {
            json_array_append_new(j->strategy, json_pack("{s:s,s:s,s:i,s:s}", "op", "stream", "name", name, "max_ctas",
                                                         rng_below(&j->rng, 32), "priority",
                                                         rng_chance(&j->rng, 50) ? "high" : "normal"));
            return;
        }
    }
}

/* The order of the list does not count, but for place directives that override each other. */
static void shuffle(struct random_job *j)
{
    json_t *list = json_array(), *d;
    size_t i;
    uint32_t n = (uint32_t)json_array_size(j->strategy), *at = mem_alloc((n + 1) * sizeof *at);
    for (uint32_t k = 0; k < n; k++)
        at[k] = k;
    rng_shuffle(&j->rng, at, n);
    for (uint32_t k = 0; k < n; k++) {
        d = json_array_get(j->strategy, at[k]);
        if (strcmp(json_string_value(json_object_get(d, "op")), "place") != 0)
            json_array_append(list, d);
    }
    size_t first = rng_below(&j->rng, (uint32_t)json_array_size(list) + 1);
    json_array_foreach(j->strategy, i, d) if (!strcmp(json_string_value(json_object_get(d, "op")), "place"))
        json_array_insert(list, first++, d);
    json_decref(j->strategy);
    j->strategy = list;
    mem_free(at);
}

static void primitives(struct random_job *j)
{
    struct rng *r = &j->rng;
    uint32_t per_replica = j->model.batch / (j->replicas = 1u << rng_below(r, 3));
    do
        j->microbatches = 1 + rng_below(r, RANDOM_MOST_MB);
    while (per_replica % j->microbatches || (j->microbatches == 1 && rng_chance(r, 80)));
    j->mb_name = rng_chance(r, 10) ? "PIECE" : "MB";
    random_part(j, placing_tags(j), false, &j->place);
    random_share_choose(j, j->replicas);
    choose_halves(j);
    choose_sets(j);
    bool copies = j->replicas > 1 || rng_chance(r, 20);
    if (copies)
        replicate(j);
    /* stages that are cut must be named */
    if (!copies || rng_chance(r, 70) || (one_set(j) && j->model.most_stages))
        place(j);
    split(j);
    shard(j);
    random_share(j);
    recompute(j);
    resources(j);
    random_orders(j);
    shuffle(j);
}

/* A grid and a schedule of the table. */
static bool macros(struct random_job *j, uint32_t stages)
{
    static const struct {
        const char *name, *placement;
        uint32_t chunks;
    } kinds[] = {
        { "gpipe", "standard", 1 },
        { "1f1b", "standard", 1 },
        { "zb-h1", "standard", 1 },
        { "zb-h2", "standard", 1 },
        { "zb-v", "v", 2 },
        { "interleaved", "interleaved", 2 },
        { "interleaved-zb", "interleaved", 2 },
        { "dualpipev", "v", 2 },
        { "dualpipe", "two-way", 1 },
    };
    struct rng *r = &j->rng;
    uint32_t k = rng_below(r, 9), pp = stages / kinds[k].chunks, dp = 1u << rng_below(r, 3),
             m = pp * (1 + rng_below(r, 2));
    if (k >= 7)
        m = 2 * pp;
    uint32_t ways = k == 8 ? 2 : 1, ep = 1u << rng_below(r, 3);
    if (pp * kinds[k].chunks != stages || (k == 8 && pp % 2) || pp * dp > RANDOM_MOST_RANKS ||
        j->model.batch % (dp * m))
        return false;
    ep = dp % ep ? 1 : ep;
    for (uint32_t c = 0; c < j->chunks.chunks.n; c++)
        if (experts_of(j, c) % ep)
            ep = 1;
    j->macros = true;
    j->replicas = dp * ways;
    j->microbatches = m / ways;
    j->ranks = pp * dp;
    json_t *layout = json_pack("{s:s,s:i,s:i,s:s}", "op", "layout", "pp", pp, "ep", ep, "placement",
                               kinds[k].placement);
    random_share_layout(j, layout, &dp);
    json_t *o = replicate_options(j);
    json_object_set_new(layout, "dp", json_integer(dp));
    json_object_update(layout, o);
    if (ep > 1 && rng_chance(r, 50))
        json_object_set_new(layout, "expert_stream", json_string(random_stream(j)));
    if (rng_chance(r, 50))
        json_object_set_new(layout, "stream", json_string(random_stream(j)));
    if (rng_chance(r, 50))
        json_object_set_new(layout, "outer", json_string(rng_chance(r, 50) ? "pp" : "dp"));
    json_array_append_new(j->strategy, layout);
    json_array_append_new(j->strategy,
                          json_pack("{s:s,s:s,s:i}", "op", "schedule", "kind", kinds[k].name, "microbatches", m));
    recompute(j);
    json_decref(o);
    return true;
}

void random_job_init(struct random_job *j, uint64_t seed)
{
    struct notices notices;
    struct err e = { 0 };
    *j = (struct random_job){ .seed = seed,
                              .rng = { .state = seed * 0x2545f4914f6cdd1du },
                              .model_number = (uint32_t)(seed % RANDOM_MODELS) };
    j->strategy = json_array();
    j->mb_name = "MB";
    random_model(j->model_number, &j->model);
    ir_graph_init(&j->g);
    notices_init(&notices);
    enum status st = ir_family_build(j->model.json, "model.json", j->model.seq_len, &j->g, &notices, &e);
    notices_release(&notices);
    uint32_t stages = j->model.most_stages ? rng_below(&j->rng, j->model.most_stages + 1) : 0;
    if (st == ST_OK && stages)
        st = ir_graph_cut_stages(&j->g, stages, (struct ir_ends){ 0 }, "model.json", &e);
    if (st != ST_OK)
        process_fail(st, e.text);
    ir_chunks_build(&j->chunks, &j->g);
    if (!(stages && rng_chance(&j->rng, 25) && macros(j, stages)))
        primitives(j);
}

void random_job_release(struct random_job *j)
{
    ir_chunks_release(&j->chunks);
    ir_graph_release(&j->g);
    random_part_release(&j->place);
    mem_free(j->sets);
    json_decref(j->model.json);
    json_decref(j->strategy);
}
