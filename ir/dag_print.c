#include "ir/dag_print.h"

#include <stdlib.h>

static const char *const edge_names[] = { "tensor", "grad", "after", "order" };

/* "pp0 ep1", or "chunk 3" without tags. */
static void chunk_name(const struct ir_chunks *c, const struct ir_graph *g, uint32_t chunk, char *text, size_t size)
{
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < g->n_tags && n < size; i++)
        if (c->chunks.at[chunk].tag[i] >= 0)
            n += (size_t)snprintf(text + n, size - n, "%s%s=%d", n ? " " : "", g->tags[i], c->chunks.at[chunk].tag[i]);
    if (!n)
        snprintf(text, size, "chunk %u", chunk);
}

static void node_name(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g,
                      const struct ir_node *n, char *text, size_t size)
{
    switch ((enum ir_node_kind)n->kind) {
    case IR_NODE_LOAD:
        snprintf(text, size, "%s", g->tensors.at[n->what].name);
        break;
    case IR_NODE_RUN:
        chunk_name(c, g, c->subs.at[n->what].chunk, text, size);
        break;
    case IR_NODE_SUM:
        snprintf(text, size, "%s", g->tensors.at[d->sums.at[n->what].tensor].name);
        break;
    case IR_NODE_MOVE:
    case IR_NODE_BORDER:
    case IR_NODE_TURN:
    case IR_NODE_AGAIN:
        snprintf(text, size, "%s%s", d->moves.at[n->what].grad ? "gradient of " : "",
                 g->tensors.at[d->moves.at[n->what].tensor].name);
        break;
    case IR_NODE_REDUCE:
    case IR_NODE_REDUCE_COPIES:
    case IR_NODE_GATHER:
    case IR_NODE_GATHER_COPIES:
    case IR_NODE_SUMSQ:
    case IR_NODE_UPDATE:
        snprintf(text, size, "bucket %u", n->what);
        break;
    default:
        text[0] = '\0';
    }
}

void ir_dag_print(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g, FILE *to)
{
    char name[200];
    for (uint32_t i = 0; i < d->moves.n; i++) {
        const struct ir_move *m = &d->moves.at[i];
        fprintf(to, "move %u tensor=%u grad=%u from=%u to=%u stream=%u shard=%u inward=%u", i, m->tensor, m->grad,
                m->from_set, m->to_set, m->to_stream, m->shard, m->inward);
        if (m->how || m->layout)
            fprintf(to, " how=%u layout=%u", m->how, m->layout);
        if (m->sub)
            fprintf(to, " sub=%u", m->sub);
        fputc('\n', to);
    }
    for (uint32_t i = 0; i < d->sums.n; i++) {
        fprintf(to, "sum %u tensor=%u parts=%u", i, d->sums.at[i].tensor, d->sums.at[i].parts);
        if (d->sums.at[i].layout)
            fprintf(to, " layout=%u", d->sums.at[i].layout);
        fputc('\n', to);
    }
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        node_name(d, c, g, n, name, sizeof name);
        const bool part = n->kind == IR_NODE_RUN && n->part;
        fprintf(to, "node %u kind=%s pass=%s mb=%d what=%u set=%d %s=%u cost=%.9g # %s\n", i,
                ir_node_kind_name((enum ir_node_kind)n->kind), ir_pass_name((enum ir_pass)n->pass),
                n->mb == IR_NO_MB ? -1 : n->mb, n->what, n->set == IR_NO_SET ? -1 : n->set, part ? "part" : "stream",
                n->stream, (double)n->cost, name);
    }
    for (uint32_t i = 0; i < d->edges.n; i++) {
        const struct ir_edge *e = &d->edges.at[i];
        const struct ir_order *o = e->kind == IR_EDGE_ORDER ? &d->orders.at[e->value] : NULL;
        if (o)
            fprintf(to, "edge %u %u order %u:%u\n", e->from, e->to, o->directive, o->group);
        else
            fprintf(to, "edge %u %u %s %u\n", e->from, e->to, edge_names[e->kind], (unsigned)e->value);
    }
}

/* ---- parse ---- */

static int index_of(const char *word, const char *(*name)(int), int n)
{
    for (int i = 0; i < n; i++)
        if (!strcmp(word, name(i)))
            return i;
    return -1;
}
static const char *kind_name(int i)
{
    return ir_node_kind_name((enum ir_node_kind)i);
}
static const char *pass_name(int i)
{
    return ir_pass_name((enum ir_pass)i);
}
static const char *edge_name(int i)
{
    return edge_names[i];
}

/* The row of dag.orders; edges of one boundary stand together. */
static uint32_t order_row(struct ir_dag *d, uint32_t directive, uint32_t group)
{
    const struct ir_order *last = d->orders.n ? &d->orders.at[d->orders.n - 1] : NULL;
    if (!last || last->directive != directive || last->group != group)
        vec_add(&d->orders, ((struct ir_order){ directive, group }));
    return d->orders.n - 1;
}

/* One line into the DAG; false: it is none of ours. */
static bool parse_line(const char *line, struct ir_dag *d)
{
    char kind[16], pass[8];
    unsigned i, a, b, from, to, stream, shard, inward, how = 0, layout = 0, sub = 0;
    int mb, set;
    float cost;
    if (sscanf(line, "move %u tensor=%u grad=%u from=%u to=%u stream=%u shard=%u inward=%u how=%u layout=%u sub=%u", &i,
               &a, &b, &from, &to, &stream, &shard, &inward, &how, &layout, &sub) >= 8) {
        *vec_push(&d->moves) = (struct ir_move){ .tensor = a,
                                                 .grad = b,
                                                 .from_set = (uint16_t)from,
                                                 .to_set = (uint16_t)to,
                                                 .to_stream = (uint16_t)stream,
                                                 .how = (uint8_t)how,
                                                 .layout = (uint8_t)layout,
                                                 .shard = shard,
                                                 .inward = inward,
                                                 .sub = sub };
        return i == d->moves.n - 1;
    }
    if (sscanf(line, "sum %u tensor=%u parts=%u layout=%u", &i, &a, &b, &layout) >= 3) {
        *vec_push(&d->sums) = (struct ir_sum){ a, b, layout };
        return i == d->sums.n - 1;
    }
    if (sscanf(line, "node %u kind=%15s pass=%7s mb=%d what=%u set=%d stream=%u cost=%f", &i, kind, pass, &mb, &a, &set,
               &stream, &cost) == 8) {
        int k = index_of(kind, kind_name, IR_NODE_KINDS), p = index_of(pass, pass_name, IR_PASS_NONE + 1);
        ir_dag_node(d, (struct ir_node){ .kind = (uint8_t)k,
                                         .pass = (uint8_t)p,
                                         .mb = mb < 0 ? IR_NO_MB : (uint16_t)mb,
                                         .what = a,
                                         .set = set < 0 ? IR_NO_SET : (uint16_t)set,
                                         .stream = (uint16_t)stream,
                                         .cost = cost });
        return i == d->nodes.n - 1 && k >= 0 && p >= 0;
    }
    b = 0;
    int fields = sscanf(line, "edge %u %u %15s %u:%u", &from, &to, kind, &a, &b);
    if (fields >= 4) {
        int k = index_of(kind, edge_name, 4);
        if ((k == IR_EDGE_ORDER) != (fields == 5))
            return false;
        if (fields == 5)
            a = order_row(d, a, b);
        if (k < 0 || from >= d->nodes.n || to >= d->nodes.n || from == to || a >= 1u << 30)
            return false;
        ir_dag_edge(d, from, to, (enum ir_edge_kind)k, a);
        return true;
    }
    return false;
}

/* Does every number name something that exists? */
static bool in_range(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g)
{
    for (uint32_t i = 0; i < d->moves.n; i++)
        if (d->moves.at[i].tensor >= g->tensors.n || d->moves.at[i].sub >= c->subs.n)
            return false;
    for (uint32_t i = 0; i < d->sums.n; i++)
        if (d->sums.at[i].tensor >= g->tensors.n)
            return false;
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        if ((n->kind == IR_NODE_LOAD && n->what >= g->tensors.n) || (n->kind == IR_NODE_RUN && n->what >= c->subs.n) ||
            ((n->kind == IR_NODE_MOVE || n->kind == IR_NODE_BORDER || n->kind == IR_NODE_TURN ||
              n->kind == IR_NODE_AGAIN) &&
             n->what >= d->moves.n) ||
            (n->kind == IR_NODE_SUM && n->what >= d->sums.n))
            return false;
    }
    return true;
}

enum status ir_dag_parse(const char *text, const struct ir_chunks *c, const struct ir_graph *g, struct ir_dag *d,
                         struct err *e)
{
    ir_dag_init(d);
    uint32_t number = 1;
    for (const char *at = text; *at; number++) {
        char line[512];
        size_t n = strcspn(at, "\n");
        snprintf(line, sizeof line, "%.*s", (int)(n < sizeof line ? n : sizeof line - 1), at);
        if (*line && !parse_line(line, d)) {
            ir_dag_release(d);
            return err_set(e, ST_INPUT, NULL,
                           "line %u: found \"%.80s\", expected move, sum, node or edge as --dump prints them", number,
                           line);
        }
        at += n + (at[n] == '\n');
    }
    if (in_range(d, c, g))
        return ST_OK;
    ir_dag_release(d);
    return err_set(e, ST_INPUT, NULL, "the DAG names a tensor, sub-chunk, move or sum that does not exist");
}

/* ---- Graphviz ---- */

void ir_dag_dot(const struct ir_dag *d, const struct ir_chunks *c, const struct ir_graph *g, FILE *to)
{
    static const char *const colour[IR_PASS_COUNT + 1] = { "#9ec5f8", "#9fd8a4", "#9fd8a4", "#cdebb0", "#e8e8e8" };
    static const char *const style[] = { "solid", "solid", "dotted", "dashed" };
    char name[200];
    fprintf(to, "digraph step {\n  rankdir=LR;\n  node [shape=box,style=filled,fontname=\"Helvetica\",fontsize=10];\n");
    for (uint32_t i = 0; i < d->nodes.n; i++) {
        const struct ir_node *n = &d->nodes.at[i];
        node_name(d, c, g, n, name, sizeof name);
        fprintf(to, "  n%u [label=\"%s%s\\n%s", i,
                n->kind == IR_NODE_RUN ? "" : ir_node_kind_name((enum ir_node_kind)n->kind),
                n->kind == IR_NODE_RUN ? ir_pass_name((enum ir_pass)n->pass) : "", name);
        if (n->mb != IR_NO_MB)
            fprintf(to, "\\nmb %u", n->mb);
        fprintf(to, "\",fillcolor=\"%s\"%s];\n", colour[n->kind == IR_NODE_RUN ? n->pass : IR_PASS_NONE],
                n->kind == IR_NODE_MOVE || (n->kind >= IR_NODE_REDUCE && n->kind <= IR_NODE_GATHER_COPIES)
                    ? ",shape=ellipse"
                    : "");
    }
    for (uint32_t i = 0; i < d->edges.n; i++) {
        const struct ir_edge *e = &d->edges.at[i];
        fprintf(to, "  n%u -> n%u [style=%s%s];\n", e->from, e->to, style[e->kind],
                e->kind == IR_EDGE_ORDER ? ",color=red" : "");
    }
    fprintf(to, "}\n");
}
