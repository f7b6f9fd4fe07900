/* Random legal orders.
 *
 * One random topological order of all passes (unit, microbatch, F or B or BI or BW) of the whole job is projected on every
 * device set: a row. Rows that come of one total order never contradict each other or data flow, whatever is left out of
 * them, however they are cut into directives, and however neighbours are put into groups. */
#include "random.h"

struct element {
    uint32_t chunk, unit, mb; /* chunk: one of the unit */
    enum ir_pass pass;
};
struct orders {
    struct random_job *j;
    struct random_part part;
    struct elements {
        VEC(struct element);
    } all;
    bool *before;   /* [all.n * all.n]: element a comes before b by data flow, also through others */
    uint32_t *line; /* [all.n]: one order of all */
    bool depth_first;
};

static bool unit_edge(const struct orders *o, uint32_t a, uint32_t b)
{
    const struct random_job *j = o->j;
    for (uint32_t x = 0; x < j->chunks.chunks.n; x++)
        for (uint32_t y = 0; y < j->chunks.chunks.n; y++)
            if (o->part.of[x] == a && o->part.of[y] == b && random_chunk_edge(j, x, y))
                return true;
    return false;
}

static void list_elements(struct orders *o)
{
    struct random_job *j = o->j;
    uint32_t share = rng_chance(&j->rng, 40) ? 0 : rng_chance(&j->rng, 40) ? 100 : rng_below(&j->rng, 101);
    for (uint32_t u = 0; u < o->part.n; u++) {
        uint32_t chunk = 0;
        while (o->part.of[chunk] != u)
            chunk++;
        for (uint32_t mb = 0; mb < j->microbatches; mb++) {
            vec_add(&o->all, ((struct element){ chunk, u, mb, IR_PASS_F }));
            if (rng_chance(&j->rng, share)) {
                vec_add(&o->all, ((struct element){ chunk, u, mb, IR_PASS_BI }));
                vec_add(&o->all, ((struct element){ chunk, u, mb, IR_PASS_BW }));
            } else
                vec_add(&o->all, ((struct element){ chunk, u, mb, IR_PASS_B }));
        }
    }
}

/* Does data flow need a directly before b? */
static bool needs(const struct element *a, const struct element *b, const bool *edge, uint32_t units)
{
    bool forward = a->pass == IR_PASS_F, inner = b->pass == IR_PASS_B || b->pass == IR_PASS_BI;
    if (a->mb != b->mb)
        return false;
    if (a->unit == b->unit)
        return (forward && inner) || (a->pass == IR_PASS_BI && b->pass == IR_PASS_BW);
    if (forward && b->pass == IR_PASS_F)
        return edge[a->unit * units + b->unit];
    return (a->pass == IR_PASS_B || a->pass == IR_PASS_BI) && inner && edge[b->unit * units + a->unit];
}

static void relate(struct orders *o)
{
    uint32_t n = o->all.n, units = o->part.n;
    bool *edge = mem_alloc(units * units * sizeof *edge);
    for (uint32_t a = 0; a < units; a++)
        for (uint32_t b = 0; b < units; b++)
            edge[a * units + b] = a != b && unit_edge(o, a, b);
    o->before = mem_alloc((size_t)n * n * sizeof *o->before);
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++)
            o->before[a * n + b] = needs(&o->all.at[a], &o->all.at[b], edge, units);
    mem_free(edge);
}

/* Any of the elements that are ready comes next, or the one that became ready last; before[] becomes transitive. */
static void draw_line(struct orders *o)
{
    uint32_t n = o->all.n, *missing = mem_alloc((n + 1) * sizeof *missing);
    struct {
        VEC(uint32_t);
    } ready = { 0 };
    o->line = mem_alloc((n + 1) * sizeof *o->line);
    for (uint32_t a = 0; a < n; a++)
        for (uint32_t b = 0; b < n; b++)
            missing[b] += o->before[a * n + b];
    for (uint32_t a = 0; a < n; a++)
        if (!missing[a])
            vec_add(&ready, a);
    uint32_t bias = rng_below(&o->j->rng, 101);
    bool *direct = mem_alloc((size_t)n * n * sizeof *direct);
    memcpy(direct, o->before, (size_t)n * n * sizeof *direct);
    for (uint32_t k = 0; k < n; k++) {
        uint32_t i = rng_chance(&o->j->rng, bias) ? ready.n - 1 : rng_below(&o->j->rng, ready.n), a = ready.at[i];
        ready.at[i] = ready.at[--ready.n];
        o->line[k] = a;
        for (uint32_t b = 0; b < n; b++) {
            if (!direct[a * n + b])
                continue;
            for (uint32_t c = 0; c < n; c++)
                o->before[c * n + b] |= o->before[c * n + a];
            if (!--missing[b])
                vec_add(&ready, b);
        }
    }
    CHECK(n == 0 || ready.n == 0);
    vec_free(&ready);
    mem_free(missing);
    mem_free(direct);
}

/* ---- rows -------------------------------------------------------------------------------------------------------- */

struct row {
    VEC(uint32_t); /* elements, in order */
};

static bool independent(const struct orders *o, const struct row *r, uint32_t first, uint32_t i)
{
    for (uint32_t k = first; k < i; k++)
        if (o->before[r->at[k] * o->all.n + r->at[i]])
            return false;
    return true;
}

/* Filters of elements first .. end-1; neighbours of one unit and pass with microbatches in order share one. */
static json_t *group_of(struct orders *o, const struct row *r, uint32_t first, uint32_t end)
{
    json_t *group = json_array();
    for (uint32_t i = first, last; i < end; i = last + 1) {
        const struct element *a = &o->all.at[r->at[i]], *b;
        for (last = i; last + 1 < end; last++) {
            b = &o->all.at[r->at[last + 1]];
            if (b->unit != a->unit || b->pass != a->pass || b->mb != a->mb + (last + 1 - i) ||
                !rng_chance(&o->j->rng, 80))
                break;
        }
        b = &o->all.at[r->at[last]];
        json_array_append_new(group, random_filter(o->j, a->chunk, o->part.tags, a->mb, b->mb, ir_pass_name(a->pass)));
    }
    return group;
}

static void add_order(struct orders *o, const struct row *r, uint32_t join)
{
    json_t *groups = json_array();
    for (uint32_t i = 0, end; i < r->n; i = end) {
        for (end = i + 1; end < r->n && rng_chance(&o->j->rng, join) && independent(o, r, i, end);)
            end++;
        json_array_append_new(groups, group_of(o, r, i, end));
    }
    if (json_array_size(groups) >= 2)
        json_array_append_new(o->j->strategy, json_pack("{s:s,s:o}", "op", "order", "filters", groups));
    else
        json_decref(groups);
}

/* A row, less what is left out, in one directive or two. Both halves of a backward stay together: halves[key] says where. */
static void add_row(struct orders *o, uint32_t class_id, uint32_t leave_out, uint32_t join)
{
    struct random_job *j = o->j;
    struct row rows[2] = { { 0 } };
    uint8_t *where = mem_alloc(o->part.n * j->microbatches); /* of the pair, per key: 1 + row, 3: left out */
    bool two = rng_chance(&j->rng, 20);
    for (uint32_t k = 0; k < o->all.n; k++) {
        const struct element *x = &o->all.at[o->line[k]];
        if (random_set_of(j, x->chunk, x->mb)->class_id != class_id)
            continue;
        uint8_t to = rng_chance(&j->rng, leave_out) ? 3 : (uint8_t)(1 + (two && rng_chance(&j->rng, 50)));
        uint8_t *key = &where[x->unit * j->microbatches + x->mb];
        if (x->pass == IR_PASS_BI)
            *key = to;
        if (x->pass == IR_PASS_BW)
            to = *key;
        if (to < 3)
            vec_add(&rows[to - 1], o->line[k]);
    }
    for (int i = 0; i < 2; i++) {
        add_order(o, &rows[i], join);
        vec_free(&rows[i]);
    }
    mem_free(where);
}

/* The finest tags, or those of placement, or something between, by which units of order have an order. */
static bool choose_part(struct random_job *j, struct random_part *p)
{
    uint32_t all = (1u << j->g.n_tags) - 1,
             tags[4] = { all, j->place.tags | rng_below(&j->rng, all + 1), j->place.tags, j->place.tags };
    uint32_t ep = ir_graph_find_tag(&j->g, "EP");
    if (ep != IR_NONE)
        tags[2] = all & ~(1u << ep);
    for (uint32_t i = rng_below(&j->rng, 3); i < 4; i++)
        if (tags[i] && random_part(j, tags[i], true, p))
            return true;
    return false;
}

void random_orders(struct random_job *j)
{
    struct orders o = { .j = j };
    uint32_t classes = j->ranks / j->replicas, leave_out = rng_chance(&j->rng, 50) ? 0 : rng_below(&j->rng, 60);
    uint32_t join = rng_chance(&j->rng, 40) ? 0 : rng_below(&j->rng, 90);
    if (rng_chance(&j->rng, 10) || !choose_part(j, &o.part))
        return;
    list_elements(&o);
    relate(&o);
    draw_line(&o);
    for (uint32_t c = 0; c < classes; c++)
        if (!rng_chance(&j->rng, 10))
            add_row(&o, c, leave_out, join);
    random_part_release(&o.part);
    vec_free(&o.all);
    mem_free(o.before);
    mem_free(o.line);
}
