/* Packed queries, keys and values taken apart: one linear operator and the attention that reads its output as q, k and v side by side become
 * three linear operators, each with a part of the weight, and attention of three inputs. Where sequences are shared each of them goes its
 * own way: heads and key/value heads are in other numbers of blocks, and keys and values travel without the queries. */
#include "ir/graph.h"

enum { PACKED_PARTS = 3, MOST_BETWEEN = 2 };

/* The graph as it was read: the model's own. */
struct ir_graph_whole {
    struct ir_tensors tensors;
    struct ir_params params;
    struct ir_ops ops;
};

/* ---- the model's own graph ------------------------------------------------------------------------------------------ */

#define COPY(to, from)                                              \
    do {                                                            \
        (to)->at = NULL;                                            \
        (to)->n = (to)->cap = 0;                                    \
        vec_grow((to), (from)->n);                                  \
        memcpy((to)->at, (from)->at, (from)->n * sizeof *(to)->at); \
    } while (0)

void ir_graph_borrow(const struct ir_graph *g, struct ir_graph *to)
{
    *to = *g;
    to->whole = NULL;
    arena_init(&to->arena);
    COPY(&to->tensors, g->whole ? &g->whole->tensors : &g->tensors);
    COPY(&to->params, g->whole ? &g->whole->params : &g->params);
    COPY(&to->ops, g->whole ? &g->whole->ops : &g->ops);
    ir_graph_join(to);
}

static void keep_whole(struct ir_graph *g)
{
    struct ir_graph_whole *w = arena_new(&g->arena, struct ir_graph_whole);
    *w = (struct ir_graph_whole){
        .tensors = { .at = arena_copy(&g->arena, g->tensors.at, g->tensors.n * sizeof *g->tensors.at),
                     .n = g->tensors.n },
        .params = { .at = arena_copy(&g->arena, g->params.at, g->params.n * sizeof *g->params.at), .n = g->params.n },
        .ops = { .at = arena_copy(&g->arena, g->ops.at, g->ops.n * sizeof *g->ops.at), .n = g->ops.n },
    };
    g->whole = w;
}

/* ---- what can be taken apart ------------------------------------------------------------------------------------------ */

static bool is_packed(const struct ir_node_op *op)
{
    return op->op == IR_OP_ATTENTION && op->attrs.flags & IR_PACKED;
}

static bool reads(const struct ir_node_op *op, uint32_t tensor)
{
    for (int i = 0; i < IR_MAX_IN; i++)
        if (op->in[i] == tensor)
            return true;
    return false;
}

/* Are all readers of the tensor this operator? */
static bool read_by(const struct ir_graph *g, uint32_t tensor, uint32_t op)
{
    for (uint32_t o = 0; o < g->ops.n; o++)
        if (o != op && reads(&g->ops.at[o], tensor))
            return false;
    return true;
}

/* Are all readers of the tensor attention that has it packed in the same way? */
static bool read_alike(const struct ir_graph *g, uint32_t tensor, const struct ir_attrs *a)
{
    for (uint32_t o = 0; o < g->ops.n; o++) {
        const struct ir_node_op *op = &g->ops.at[o];
        if (reads(op, tensor) && (!is_packed(op) || op->attrs.heads != a->heads || op->attrs.kv_heads != a->kv_heads ||
                                  op->attrs.head_dim != a->head_dim || ir_op_v_dim(&op->attrs) != ir_op_v_dim(a)))
            return false;
    }
    return true;
}

static bool has_own_params(const struct ir_graph *g, uint32_t op)
{
    for (uint32_t o = 0; o < g->ops.n; o++)
        for (int i = 0; i < IR_MAX_PARAM * IR_MAX_PARAM && o != op; i++) {
            const uint32_t mine = g->ops.at[op].param[i / IR_MAX_PARAM];
            if (mine != IR_NONE && g->ops.at[o].param[i % IR_MAX_PARAM] == mine)
                return false;
        }
    return true;
}

/* The linear operator that makes what an attention reads packed, and the clamps between, from behind. */
struct packed {
    uint32_t linear, between[MOST_BETWEEN], n;
    uint32_t width[PACKED_PARTS];
};

static bool find_packed(const struct ir_graph *g, uint32_t attention, struct packed *p)
{
    const struct ir_attrs *a = &g->ops.at[attention].attrs;
    uint32_t tensor = g->ops.at[attention].in[0];
    *p = (struct packed){ .width = { a->heads * a->head_dim, a->kv_heads * a->head_dim,
                                     a->kv_heads * ir_op_v_dim(a) } };
    if (!read_alike(g, tensor, a))
        return false;
    for (;;) {
        const uint32_t o = g->tensors.at[tensor].producer;
        if (o == IR_NONE)
            return false;
        if (g->ops.at[o].op == IR_OP_LINEAR) {
            p->linear = o;
            return has_own_params(g, o);
        }
        if (g->ops.at[o].op != IR_OP_CLAMP || p->n == MOST_BETWEEN || !read_by(g, g->ops.at[o].in[0], o))
            return false;
        p->between[p->n++] = o;
        tensor = g->ops.at[o].in[0];
    }
}

/* ---- taking apart ----------------------------------------------------------------------------------------------------- */

/* What stands in place of an operator: of tensor t part i, part 0 under its number. */
struct apart {
    struct ir_graph *g;
    const struct ir_graph_whole *whole;
    uint32_t (*tensor)[PACKED_PARTS]; /* by tensor, where it is in parts */
};

static const char *const part_names[PACKED_PARTS] = { "q", "k", "v" };

static const char *part_name(struct ir_graph *g, const char *name, uint32_t i)
{
    return arena_printf(&g->arena, "%s.%s", name, part_names[i]);
}

/* Part i of a parameter, `width` of its output features from `from` on. */
static uint32_t part_of_param(struct apart *x, uint32_t param, bool columns, uint32_t i, uint32_t from, uint32_t width)
{
    struct ir_graph *g = x->g;
    const struct ir_param whole = x->whole->params.at[param];
    const int dim = columns ? whole.shape.ndim - 1 : 0;
    uint64_t inner = 1;
    for (int k = dim + 1; k < whole.shape.ndim; k++)
        inner *= whole.shape.dim[k];
    struct ir_param part = whole;
    part.name = part_name(g, whole.name, i);
    part.shape.dim[dim] = width;
    part.part_of = param + 1;
    part.first = from * inner;
    part.stride = dim > 0 ? whole.shape.dim[dim] : 0;
    if (i == 0) {
        g->params.at[param] = part;
        return param;
    }
    vec_add(&g->params, part);
    return g->params.n - 1;
}

static uint32_t part_of_tensor(struct apart *x, uint32_t tensor, uint32_t i, uint32_t width)
{
    struct ir_graph *g = x->g;
    struct ir_tensor part = x->whole->tensors.at[tensor];
    part.name = part_name(g, part.name, i);
    part.shape.dim[part.shape.ndim - 1] = width;
    if (i == 0)
        g->tensors.at[tensor] = part;
    else
        vec_add(&g->tensors, part);
    return x->tensor[tensor][i] = i ? g->tensors.n - 1 : tensor;
}

/* The parts of a linear operator, or of a clamp behind it, at the end of the new list. */
static void add_parts(struct apart *x, uint32_t op, const uint32_t width[PACKED_PARTS])
{
    struct ir_graph *g = x->g;
    const struct ir_node_op *whole = &x->whole->ops.at[op];
    const bool linear = whole->op == IR_OP_LINEAR;
    for (uint32_t i = 0, from = 0; i < PACKED_PARTS; from += width[i++]) {
        struct ir_node_op part = *whole;
        part.name = part_name(g, whole->name, i);
        *(linear ? &part.attrs.out_features : &part.attrs.features) = width[i];
        for (int k = 0; k < IR_MAX_PARAM; k++)
            if (whole->param[k] != IR_NONE)
                part.param[k] = part_of_param(x, whole->param[k], k == 0 && whole->attrs.flags & IR_TRANSPOSED, i, from,
                                              width[i]);
        if (!linear)
            part.in[0] = x->tensor[whole->in[0]][i];
        part.out[0] = part_of_tensor(x, whole->out[0], i, width[i]);
        vec_add(&g->ops, part);
    }
}

static void add_attention(struct apart *x, uint32_t op)
{
    struct ir_node_op o = x->whole->ops.at[op];
    const uint32_t packed = o.in[0], documents = o.attrs.flags & IR_DOCUMENTS ? o.in[1] : IR_NONE;
    o.attrs.flags &= ~(uint32_t)IR_PACKED;
    for (int i = 0; i < PACKED_PARTS; i++)
        o.in[i] = x->tensor[packed][i];
    o.in[PACKED_PARTS] = documents;
    vec_add(&x->g->ops, o);
}

/* Marks what is taken apart; false: there is nothing. */
static bool mark(const struct ir_graph *g, uint8_t *cut, uint32_t (*width)[PACKED_PARTS])
{
    bool any = false;
    for (uint32_t o = 0; o < g->ops.n; o++) {
        struct packed p;
        if (!is_packed(&g->ops.at[o]) || !find_packed(g, o, &p))
            continue;
        any = true;
        cut[o] = cut[p.linear] = true;
        memcpy(width[p.linear], p.width, sizeof p.width);
        for (uint32_t i = 0; i < p.n; i++) {
            cut[p.between[i]] = true;
            memcpy(width[p.between[i]], p.width, sizeof p.width);
        }
    }
    return any;
}

void ir_graph_unpack(struct ir_graph *g)
{
    uint8_t *cut = mem_alloc(g->ops.n + 1);
    uint32_t(*width)[PACKED_PARTS] = mem_alloc((g->ops.n + 1) * sizeof *width);
    if (!g->whole && mark(g, cut, width)) {
        keep_whole(g);
        struct apart x = { g, g->whole, mem_alloc(g->tensors.n * sizeof *x.tensor) };
        g->ops.n = 0;
        for (uint32_t o = 0; o < g->whole->ops.n; o++) {
            if (!cut[o])
                vec_add(&g->ops, g->whole->ops.at[o]);
            else if (is_packed(&g->whole->ops.at[o]))
                add_attention(&x, o);
            else
                add_parts(&x, o, width[o]);
        }
        for (uint32_t o = 0; o < g->ops.n; o++)
            for (int i = 0; i < IR_MAX_OUT; i++)
                if (g->ops.at[o].out[i] != IR_NONE)
                    g->tensors.at[g->ops.at[o].out[i]].producer = o;
        mem_free(x.tensor);
    }
    mem_free(cut);
    mem_free(width);
}
