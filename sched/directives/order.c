/* order: temporal edges between consecutive groups of nodes (piper-strategy(5), order).
 *
 * Edges run from the compute sinks of a group to the compute sources of the next, so communication is not held back. Needs:
 * the DAG with all its data edges. Keeps all nodes; adds ORDER edges; refuses an order that data flow contradicts. */
#include <stdio.h>

#include "sched/passes.h"

static const char too_few[] = "at least two groups: one runs before the next";

enum status order_peak(struct sched *s, const struct js *js, struct err *e)
{
    struct js v;
    double gib;
    TRY(js_opt(js, "peak", &v, e));
    if (!v.v)
        return ST_OK;
    TRY(js_num(&v, 1e-6, 1e6, &gib, e));
    if (!s->peak || gib * GIB < (double)s->peak) {
        s->peak = (uint64_t)(gib * GIB);
        s->peak_js = v;
    }
    return ST_OK;
}

static enum status parse_order(struct sched *s, const struct js *js, struct directive *d, struct err *e)
{
    struct js groups;
    uint32_t n;
    TRY(order_peak(s, js, e));
    TRY(js_need(js, "filters", &groups, e));
    if (!json_is_array(groups.v))
        return js_expected(&groups, e, "a list of groups, each a list of filters");
    TRY(js_count(&groups, &n, e));
    if (n < 2)
        return js_expected(&groups, e, "%s", too_few);
    d->first_group = s->groups.n;
    d->n_groups = n;
    for (uint32_t i = 0; i < n; i++) {
        struct js group = js_at(&groups, i);
        uint32_t k;
        if (!json_is_array(group.v))
            return js_expected(&group, e, "a group: a list of filters");
        TRY(js_count(&group, &k, e));
        if (!k)
            return js_expected(&group, e, "at least one filter in a group");
        *vec_push(&s->groups) = (struct order_group){ .first_filter = s->filters.n, .n_filters = k };
        for (uint32_t j = 0; j < k; j++) {
            struct js f = js_at(&group, j);
            TRY(filter_parse(s, &f, vec_push(&s->filters), e));
        }
    }
    return ST_OK;
}

/* A filter that names one stage, one microbatch, one pass. */
static struct filter cell_filter(const struct cell *c, uint32_t pp, uint32_t stages)
{
    struct filter f = { .pass = (uint8_t)c->pass, .mb = filter_index(c->mb) };
    f.tag[pp] = filter_index(c->stage % stages);
    return f;
}

enum status order_of_cells(struct sched *s, const struct cells *cells, uint32_t stages, struct directive *d,
                           struct err *e)
{
    uint32_t pp = ir_graph_find_tag(s->g, "PP");
    CHECK(pp != IR_NONE);
    d->first_group = s->groups.n;
    for (uint32_t i = 0; i < cells->n; i++) {
        if (!i || !cells->at[i - 1].with_next)
            *vec_push(&s->groups) = (struct order_group){ .first_filter = s->filters.n,
                                                          .column = cells->line ? cells->columns.at[i] : 0 };
        s->groups.at[s->groups.n - 1].n_filters++;
        vec_add(&s->filters, cell_filter(&cells->at[i], pp, stages));
    }
    d->n_groups = s->groups.n - d->first_group;
    return d->n_groups < 2 ? js_expected(&d->js, e, "%s", too_few) : ST_OK;
}

static const char *const keys[] = { "op", "filters", "peak", NULL };
const struct directive_kind directive_order = { .name = "order", .keys = keys, .parse = parse_order };

/* Compute nodes of one (chunk, microbatch, pass) are numbered one after the other: first[] and n[] find them. */
struct node_index {
    uint32_t *first, *n; /* [(chunk*m + mb)*PASSES + pass], first IR_NONE: there is no such node */
};
enum { PASSES = IR_PASS_COUNT };

static void index_nodes(const struct sched *s, const struct ir_dag *d, struct node_index *nodes)
{
    size_t n = (size_t)s->chunks.chunks.n * s->microbatches * PASSES;
    nodes->first = mem_alloc(n * sizeof *nodes->first);
    nodes->n = mem_alloc(n * sizeof *nodes->n);
    memset(nodes->first, 0xff, n * sizeof *nodes->first);
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *k = &d->nodes.at[i];
        if (k->kind != IR_NODE_RUN)
            continue;
        size_t at = ((size_t)s->chunks.subs.at[k->what].chunk * s->microbatches + k->mb) * PASSES + pass_seen(s, k);
        if (nodes->first[at] == IR_NONE)
            nodes->first[at] = i;
        nodes->n[at]++;
    }
}

struct members {
    VEC(uint32_t);
};

/* Gathering the nodes of a directive's groups. */
struct collector {
    const struct sched *s;
    const struct ir_dag *d;
    const struct node_index *x;
    const struct directive *o;
    uint32_t group;     /* number in the directive */
    uint32_t row_class; /* of the first node; IR_NONE: none yet */
    uint32_t *line_of;  /* [chunk * classes + class]: line of a csv schedule with its passes there; 0: none yet */
    uint32_t *mark;     /* by node: number of the group that has it last, over all directives; 0: none */
    uint32_t number;    /* of this group */
    struct members *out;
};

/* Keeps the number of a group that overlaps with its nodes: of a B alone where it is cut. */
static void note_group(struct collector *g, struct list_plan *list)
{
    const struct order_group *group = &g->s->groups.at[g->o->first_group + g->group];
    if (!group->overlaps && (!group->fills || g->s->uncut))
        return;
    if (!list->group)
        list->group = mem_alloc(g->d->nodes.n * sizeof *list->group);
    for (uint32_t i = 0; i < g->out->n; i++)
        list->group[g->out->at[i]] = g->number;
}

/* "group 3", or where a csv schedule has it. */
static const char *group_text(const struct sched *s, const struct directive *d, uint32_t group, char text[64])
{
    if (d->line)
        snprintf(text, 64, "line %u, cell %u", d->line, s->groups.at[d->first_group + group].column);
    else
        snprintf(text, 64, "group %u", group);
    return text;
}

/* A csv schedule has what a device set runs of a stage on one line. */
static enum status check_line(struct collector *g, uint32_t node, struct err *e)
{
    const struct sched *s = g->s;
    const uint32_t chunk = s->chunks.subs.at[g->d->nodes.at[node].what].chunk, line = g->o->line;
    uint32_t *at = &g->line_of[(size_t)chunk * s->classes.n + g->row_class];
    char text[160], where[64];
    if (line && *at && *at != line)
        return js_wrong(&g->o->js, e,
                        "%s: %s is on another line than earlier passes of its stage on the same devices, line %u",
                        group_text(s, g->o, g->group, where), node_text(s, g->d, node, text, sizeof text), *at);
    *at = line;
    return ST_OK;
}

/* The sub-chunks of one pass: all on the device set of the directive. */
static enum status collect_pass(struct collector *g, uint32_t first, uint32_t n, struct err *e)
{
    const struct sched *s = g->s;
    char text[160], where[64];
    for (uint32_t node = first; node < first + n; node++) {
        uint32_t cls = s->sets.at[g->d->nodes.at[node].set].class_id;
        if (g->row_class == IR_NONE)
            g->row_class = cls;
        if (cls != g->row_class)
            return js_wrong(&g->o->js, e, "%s: %s is on another device set than the first match of this %s",
                            group_text(s, g->o, g->group, where), node_text(s, g->d, node, text, sizeof text),
                            g->o->line ? "line; a line has what one device set runs"
                                       : "directive; an order directive covers one device set");
        TRY(check_line(g, node, e));
        if (g->mark[node] != g->number)
            vec_add(g->out, node);
        g->mark[node] = g->number;
    }
    return ST_OK;
}

/* The nodes of one filter: not empty. */
static enum status collect(struct collector *g, const struct filter *f, struct err *e)
{
    const struct sched *s = g->s;
    uint32_t before = g->out->n, m = s->microbatches;
    char where[64];
    struct mb_range r = filter_microbatches(s, f);
    const struct chunk_list chunks = filter_chunks(s, f);
    for (uint32_t c = 0; c < chunks.n; c++)
        for (uint32_t mb = r.first; mb < r.end && filter_chunk(s, f, chunks.at[c]); mb += r.step)
            for (int p = 0; p < PASSES; p++) {
                const size_t at = ((size_t)chunks.at[c] * m + mb) * PASSES + (size_t)p;
                if (g->x->first[at] != IR_NONE && (f->pass == IR_PASS_NONE || f->pass == p))
                    TRY(collect_pass(g, g->x->first[at], g->x->n[at], e));
            }
    if (g->out->n == before)
        return js_wrong(&g->o->js, e,
                        "%s: a filter matches no node; microbatches are 0 to %u, a backward is B, or BI and BW "
                        "where an order splits it",
                        group_text(s, g->o, g->group, where), m - 1);
    return ST_OK;
}

/* A filter's match is convex: no path of data flow leaves it for another chunk and comes back. It depends on chunks and passes
 * alone, so filters that differ in the microbatch only are looked at once. */
struct convexity {
    uint8_t *reaches; /* [from * chunks + to]: data flows from chunk to chunk, also through others */
    uint8_t *matches; /* by chunk: it is in the match of the filter that is looked at */
    struct {
        VEC(const struct filter *);
    } done;
};

static void find_reaches(const struct sched *s, struct convexity *v)
{
    uint32_t n = s->chunks.chunks.n;
    v->reaches = mem_alloc((size_t)n * n + 1);
    v->matches = mem_alloc(n + 1);
    for (uint32_t b = 0; b < n; b++) /* numbered in a topological order */
        for (uint32_t i = 0; i < s->chunks.chunks.at[b].n_ops; i++) {
            const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[b].first_op + i]];
            for (int k = 0; k < IR_MAX_IN; k++) {
                uint32_t p = op->in[k] == IR_NONE ? IR_NONE : s->g->tensors.at[op->in[k]].producer;
                uint32_t a = p == IR_NONE ? b : s->chunks.chunk_of[p];
                if (a == b || v->reaches[(size_t)a * n + b])
                    continue;
                v->reaches[(size_t)a * n + b] = 1;
                for (uint32_t c = 0; c < a; c++)
                    v->reaches[(size_t)c * n + b] |= v->reaches[(size_t)c * n + a];
            }
        }
}

static bool same_match(const struct sched *s, const struct filter *a, const struct filter *b)
{
    bool same = a->pass == b->pass;
    for (uint32_t i = 0; i < s->g->n_tags && same; i++) {
        const struct match *match = &a->tag[i], *other = &b->tag[i];
        same = match->given == other->given && match->mode == other->mode && match->lo == other->lo &&
               match->hi == other->hi && match->step == other->step;
    }
    return same;
}

/* The chunk outside through which data comes back; IR_NONE: there is none. Without PASS a forward and its backward match:
 * between them lies all that follows. BW gives nothing on. */
static uint32_t find_detour(const struct sched *s, struct convexity *v, const struct filter *f)
{
    const uint32_t n = s->chunks.chunks.n;
    for (uint32_t i = 0; i < v->done.n; i++)
        if (same_match(s, v->done.at[i], f))
            return IR_NONE;
    vec_add(&v->done, f);
    for (uint32_t c = 0; c < n; c++)
        v->matches[c] = filter_chunk(s, f, c);
    for (uint32_t x = 0; x < n && f->pass != IR_PASS_BW; x++) {
        bool after = false, before = f->pass == IR_PASS_NONE;
        for (uint32_t c = 0; c < n && !v->matches[x]; c++) {
            if (!v->matches[c])
                continue;
            after = after || v->reaches[(size_t)c * n + x];
            before = before || v->reaches[(size_t)x * n + c];
        }
        if (after && before)
            return x;
    }
    return IR_NONE;
}

static enum status check_convex(const struct sched *s, struct convexity *v, const struct directive *o, uint32_t group,
                                const struct filter *f, struct err *e)
{
    char text[160];
    uint32_t x = find_detour(s, v, f);
    return x == IR_NONE
               ? ST_OK
               : js_wrong(&o->js, e,
                          "group %u: the match of a filter is not convex: data flows from it through %s and back into "
                          "it; match that too, or use one filter for what precedes it and one for what follows",
                          group, chunk_text(s, x, text, sizeof text));
}

/* Does a node of this group stand behind (or before) a node, beyond borders of regions at most? They lie inside of a layer (sums of
 * gradients too), so without looking through them each of its sub-chunks would be a sink and a source. */
static bool leads_back(const struct ir_dag *d, uint32_t node, uint32_t number, const uint32_t *mark, bool sinks)
{
    const struct ir_node *n = &d->nodes.at[node];
    if (mark[node] == number)
        return true;
    if (n->kind != IR_NODE_SUM && n->kind != IR_NODE_TURN &&
        (n->kind != IR_NODE_BORDER || d->moves.at[n->what].how == IR_HOW_ROWS))
        return false;
    const uint32_t *first = sinks ? d->out_first : d->in_first, *edge = sinks ? d->out_edge : d->in_edge;
    const uint32_t *other = sinks ? d->out_to : d->in_from;
    for (uint32_t k = first[node]; k < first[node + 1]; k++) {
        if (leads_back(d, other[k], number, mark, sinks) && d->edges.at[edge[k]].kind != IR_EDGE_ORDER)
            return true;
    }
    return false;
}

/* Sinks (or sources) of a group: no data edge to (from) another compute node of the group. A path that leaves the group and
 * comes back through other nodes would make the group not convex: that order then has a cycle, found below. */
static void ends(const struct ir_dag *d, const struct members *group, const uint32_t *mark, bool sinks,
                 struct members *out)
{
    out->n = 0;
    for (uint32_t i = 0; i < group->n; i++) {
        uint32_t n = group->at[i];
        const uint32_t *first = sinks ? d->out_first : d->in_first, *edge = sinks ? d->out_edge : d->in_edge;
        const uint32_t *other = sinks ? d->out_to : d->in_from;
        bool end = true;
        for (uint32_t k = first[n]; k < first[n + 1] && end; k++)
            end = !leads_back(d, other[k], mark[n], mark, sinks) || d->edges.at[edge[k]].kind == IR_EDGE_ORDER;
        if (end)
            vec_add(out, n);
    }
}

/* Takes the BW of what a group cuts that overlaps out of it. They fill what the next group leaves open too, and are done before the one behind. */
static void part_late(const struct collector *g, struct members *group, struct members *late)
{
    const struct order_group *of = &g->s->groups.at[g->o->first_group + g->group];
    uint32_t left = 0;
    late->n = 0;
    for (uint32_t i = 0; i < group->n; i++) {
        const uint32_t node = group->at[i];
        const struct ir_node *n = &g->d->nodes.at[node];
        const uint32_t cell = g->s->chunks.subs.at[n->what].chunk * g->s->microbatches + n->mb;
        if (of->overlaps && n->pass == IR_PASS_BW && !g->s->backward_split[cell]) {
            vec_add(late, node);
            g->mark[node] = 0;
        } else {
            group->at[left++] = node;
        }
    }
    group->n = left;
}

/* Edges from the sinks of the group before to the sources of this one. */
static void order_after(struct ir_dag *d, const struct members *sinks, const struct members *sources,
                        uint32_t directive, uint32_t group)
{
    vec_add(&d->orders, ((struct ir_order){ directive, group }));
    for (uint32_t a = 0; a < sinks->n; a++)
        for (uint32_t b = 0; b < sources->n; b++)
            if (sinks->at[a] != sources->at[b])
                ir_dag_edge(d, sinks->at[a], sources->at[b], IR_EDGE_ORDER, d->orders.n - 1);
}

static enum status collect_group(struct collector *g, struct convexity *v, struct err *e)
{
    const struct order_group *group = &g->s->groups.at[g->o->first_group + g->group];
    for (uint32_t k = group->first_filter; k < group->first_filter + group->n_filters; k++) {
        TRY(collect(g, &g->s->filters.at[k], e));
        if (!g->s->order_checked)
            TRY(check_convex(g->s, v, g->o, g->group, &g->s->filters.at[k], e));
    }
    return ST_OK;
}

static enum status apply(struct collector *g, struct list_plan *list, struct convexity *v, struct err *e)
{
    struct ir_dag *d = &list->dag;
    struct members group = { 0 }, sinks = { 0 }, sources = { 0 }, late[2] = { { 0 } };
    enum status st = ST_OK;
    g->out = &group;
    g->row_class = IR_NONE;
    for (g->group = 0; g->group < g->o->n_groups; g->group++) {
        group.n = 0;
        g->number++;
        st = collect_group(g, v, e);
        if (st != ST_OK)
            break;
        note_group(g, list);
        ends(d, &group, g->mark, false, &sources);
        if (g->group) {
            order_after(d, &sinks, &sources, g->o->number, g->group);
            order_after(d, &late[g->group % 2], &sources, g->o->number, g->group);
        }
        part_late(g, &group, &late[g->group % 2]);
        ends(d, &group, g->mark, true, &sinks);
    }
    vec_free(&group);
    vec_free(&sinks);
    vec_free(&sources);
    vec_free(&late[0]);
    vec_free(&late[1]);
    return st;
}

static const struct directive *directive_at(const struct sched *s, uint32_t number)
{
    for (uint32_t i = 0; i < s->directives.n; i++)
        if (s->directives.at[i].number == number)
            return &s->directives.at[i];
    CHECK(!"an order edge belongs to a directive");
    return NULL;
}

/* The first other directive that has an order edge in the cycle; IR_NONE: none. */
static uint32_t other_order(const struct ir_dag *d, const uint32_t *cycle, uint32_t n, uint32_t directive)
{
    for (uint32_t j = 0; j < n; j++) {
        const struct ir_edge *back = &d->edges.at[ir_dag_find_edge(d, cycle[j], cycle[(j + 1) % n])];
        if (back->kind == IR_EDGE_ORDER && d->orders.at[back->value].directive != directive)
            return d->orders.at[back->value].directive;
    }
    return IR_NONE;
}

/* The sentence for a cycle: the order edge in it, and both nodes. */
static enum status refuse_cycle(const struct sched *s, const struct ir_dag *d, const uint32_t *cycle, uint32_t n,
                                struct err *e)
{
    for (uint32_t i = 0; i < n; i++) {
        uint32_t a = cycle[i], b = cycle[(i + 1) % n];
        for (uint32_t k = d->out_first[a]; k < d->out_first[a + 1]; k++) {
            const struct ir_edge *edge = &d->edges.at[d->out_edge[k]];
            if (edge->to != b || edge->kind != IR_EDGE_ORDER)
                continue;
            char ta[160], tb[160], other[256] = "";
            const struct ir_order *o = &d->orders.at[edge->value];
            uint32_t with = other_order(d, cycle, n, o->directive);
            if (with != IR_NONE)
                snprintf(other, sizeof other, " together with the order in %s", directive_at(s, with)->js.path);
            const struct directive *order = directive_at(s, o->directive);
            char where[64];
            return js_wrong(
                &order->js, e,
                "%s: %s is ordered before %s, but data flow%s requires the reverse: this order can never run",
                group_text(s, order, o->group, where), node_text(s, d, a, ta, sizeof ta),
                node_text(s, d, b, tb, sizeof tb), other);
        }
    }
    return err_set(e, ST_BUG, s->in->strategy_name, "the training DAG has a cycle without an order edge");
}

enum status pass_order(struct sched *s, struct err *e)
{
    struct ir_dag *d = &s->train.dag;
    struct node_index nodes;
    uint32_t *mark = mem_alloc(d->nodes.n * sizeof *mark);
    struct convexity v = { 0 };
    enum status st = ST_OK;
    ir_dag_link(d);
    index_nodes(s, d, &nodes);
    find_reaches(s, &v);
    struct collector g = { .s = s, .d = d, .x = &nodes, .mark = mark };
    g.line_of = mem_alloc(((size_t)s->chunks.chunks.n * s->classes.n + 1) * sizeof *g.line_of);
    for (uint32_t i = 0; i < s->directives.n && st == ST_OK; i++) {
        g.o = &s->directives.at[i];
        if (g.o->kind == &directive_order)
            st = apply(&g, &s->train, &v, e);
    }
    ir_dag_link(d);
    uint32_t n = st == ST_OK && !s->order_checked ? ir_dag_cycle(d, mark) : 0;
    if (n)
        st = refuse_cycle(s, d, mark, n, e);
    s->order_checked = true; /* whichever way B runs: cut or whole it has the same neighbours */
    mem_free(g.line_of);
    mem_free(v.reaches);
    mem_free(v.matches);
    vec_free(&v.done);
    mem_free(nodes.first);
    mem_free(nodes.n);
    mem_free(mark);
    return st;
}
