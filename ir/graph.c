/* The model graph: building, questions. The reader's checks are in ir/graph_validate.c. */
#include "ir/graph.h"

#include <stdio.h>

#include "ir/freeze.h"

void ir_graph_init(struct ir_graph *g)
{
    *g = (struct ir_graph){ 0 };
    arena_init(&g->arena);
}

void ir_graph_release(struct ir_graph *g)
{
    vec_free(&g->tensors);
    vec_free(&g->params);
    vec_free(&g->ops);
    arena_release(&g->arena);
    *g = (struct ir_graph){ 0 };
}

/* ---- building ------------------------------------------------------------------------------------------------- */

uint32_t ir_graph_input(struct ir_graph *g, const char *name, struct ir_shape shape)
{
    vec_add(&g->tensors, ((struct ir_tensor){ arena_strdup(&g->arena, name), shape, IR_NONE, 0 }));
    return g->tensors.n - 1;
}

uint32_t ir_graph_param(struct ir_graph *g, const char *name, struct ir_shape shape, enum ir_init init, float std)
{
    vec_add(&g->params,
            ((struct ir_param){
                .name = arena_strdup(&g->arena, name), .shape = shape, .init = (uint8_t)init, .std = std }));
    return g->params.n - 1;
}

const struct ir_freqs *ir_graph_freqs(struct ir_graph *g, const float *at, uint32_t n)
{
    struct ir_freqs *f = arena_new(&g->arena, struct ir_freqs);
    float *copy = arena_array(&g->arena, float, n);
    memcpy(copy, at, n * sizeof *copy);
    *f = (struct ir_freqs){ n, copy };
    return f;
}

static void set_roles(struct ir_graph *g, const struct ir_node_op *o)
{
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++) {
        if (o->param[i] == IR_NONE)
            continue;
        struct ir_param *p = &g->params.at[o->param[i]];
        const enum ir_dtype type = ir_op_param_type((enum ir_op)o->op, &o->attrs, i);
        p->decays = p->decays || ir_op_param_decays((enum ir_op)o->op, i);
        p->state = p->state || ir_op_param_is_state((enum ir_op)o->op, &o->attrs, i);
        if (type != IR_COMPUTE)
            p->shape.dtype = (uint8_t)type;
    }
}

void ir_graph_roles(struct ir_graph *g)
{
    for (uint32_t i = 0; i < g->ops.n; i++)
        set_roles(g, &g->ops.at[i]);
}

uint32_t ir_graph_op(struct ir_graph *g, enum ir_op op, const char *name, uint32_t block, const struct ir_attrs *attrs,
                     const struct ir_op_in *in)
{
    uint32_t id = g->ops.n;
    struct ir_node_op o = { .name = arena_strdup(&g->arena, name), .op = op, .block = block, .attrs = *attrs };
    if (attrs->inv_freq)
        o.attrs.inv_freq = ir_graph_freqs(g, attrs->inv_freq->at, attrs->inv_freq->n);
    struct ir_op_shapes s;
    ir_op_shapes(op, attrs, g->seq_len, &s);
    for (uint32_t i = 0; i < IR_MAX_IN; i++)
        o.in[i] = i < ir_op_inputs(op, attrs) ? in->tensor[i] : IR_NONE;
    for (uint32_t i = 0; i < IR_MAX_PARAM; i++)
        o.param[i] = i < ir_op_params(op, attrs) ? in->param[i] : IR_NONE;
    for (uint32_t i = 0; i < IR_MAX_TAGS; i++)
        o.tag[i] = -1;
    for (uint32_t i = 0; i < IR_MAX_OUT; i++) {
        o.out[i] = i < ir_op_info[op].n_out ? g->tensors.n : IR_NONE;
        if (o.out[i] == IR_NONE)
            continue;
        const char *out = i ? arena_printf(&g->arena, "%s.%u", name, i) : o.name;
        vec_add(&g->tensors, ((struct ir_tensor){ out, s.out[i], id, (uint8_t)i }));
    }
    set_roles(g, &o);
    vec_add(&g->ops, o);
    if (g->n_blocks < block + 1)
        g->n_blocks = block + 1;
    return id;
}

uint32_t ir_graph_count_sets(const struct ir_graph *g, uint32_t op)
{
    const struct ir_node_op *o = &g->ops.at[op];
    const uint32_t r = o->op == IR_OP_DISPATCH ? g->tensors.at[o->in[1]].producer : op;
    const struct ir_node_op *router = r == IR_NONE ? o : &g->ops.at[r];
    if (router->op != IR_OP_ROUTER || !(router->attrs.aux_coef > 0) || !ir_op_counts_apart(&router->attrs))
        return 1;
    for (uint32_t i = 0; i < g->ops.n; i++)
        if (g->ops.at[i].op == IR_OP_DISPATCH && g->ops.at[i].attrs.capacity && g->ops.at[i].in[1] == router->out[1])
            return 2;
    return 1;
}

uint32_t ir_graph_loads(const struct ir_graph *g, uint32_t *first)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        if (first)
            first[i] = n;
        n += g->ops.at[i].op == IR_OP_ROUTER ? g->ops.at[i].attrs.experts : 0;
    }
    return n;
}

uint32_t ir_graph_out(const struct ir_graph *g, uint32_t op, uint32_t which)
{
    return g->ops.at[op].out[which];
}

uint32_t ir_graph_find_tag(const struct ir_graph *g, const char *name)
{
    for (uint32_t i = 0; i < g->n_tags; i++)
        if (strcmp(g->tags[i], name) == 0)
            return i;
    return IR_NONE;
}

uint32_t ir_graph_tag(struct ir_graph *g, const char *name)
{
    uint32_t i = ir_graph_find_tag(g, name);
    if (i != IR_NONE || g->n_tags == IR_MAX_TAGS)
        return i;
    g->tags[g->n_tags] = arena_strdup(&g->arena, name);
    return g->n_tags++;
}

void ir_graph_separate(struct ir_graph *g)
{
    const struct ir_shape ids = { IR_I32, 1, { g->seq_len, 0, 0 } };
    if (ir_graph_find_input(g, "documents") != IR_NONE)
        return;
    const uint32_t documents = ir_graph_input(g, "documents", ids);
    for (uint32_t i = 0; i < g->ops.n; i++) {
        struct ir_node_op *o = &g->ops.at[i];
        if (o->op != IR_OP_ATTENTION && o->op != IR_OP_POS_EMBED)
            continue;
        o->in[ir_op_inputs((enum ir_op)o->op, &o->attrs)] = documents;
        o->attrs.flags |= IR_DOCUMENTS;
    }
}

void ir_graph_join(struct ir_graph *g)
{
    const uint32_t documents = ir_graph_find_input(g, "documents");
    if (documents == IR_NONE)
        return;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        struct ir_node_op *o = &g->ops.at[i];
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            o->in[k] = o->in[k] == documents ? IR_NONE : o->in[k];
        if (o->op == IR_OP_ATTENTION || o->op == IR_OP_POS_EMBED)
            o->attrs.flags &= ~(uint32_t)IR_DOCUMENTS;
    }
    CHECK(documents + 1 == g->tensors.n);
    g->tensors.n--;
}

/* ---- questions ------------------------------------------------------------------------------------------------ */

uint32_t ir_graph_find_input(const struct ir_graph *g, const char *name)
{
    for (uint32_t i = 0; i < g->tensors.n; i++)
        if (g->tensors.at[i].producer == IR_NONE && strcmp(g->tensors.at[i].name, name) == 0)
            return i;
    return IR_NONE;
}

uint64_t ir_graph_param_count(const struct ir_graph *g)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < g->params.n; i++)
        n += ir_shape_elements(&g->params.at[i].shape);
    return n;
}

/* Multiplications and additions of an operator's forward products, for a sequence of t tokens. */
static double forward_products(const struct ir_node_op *o, double t)
{
    const struct ir_attrs *a = &o->attrs;
    switch ((enum ir_op)o->op) {
    case IR_OP_LINEAR:
        return 2 * t * a->in_features * a->out_features;
    case IR_OP_ATTENTION:
        return 2 * t * (a->window && a->window < t ? a->window : t) * a->heads * (a->head_dim + ir_op_v_dim(a));
    case IR_OP_ROUTER:
        return 2 * t * a->features * a->experts;
    case IR_OP_EXPERTS:
        return 6 * t * a->top_k * a->features * a->ffn;
    case IR_OP_HEAD_LOSS:
        return 2 * t * a->features * a->vocab;
    default:
        return 0;
    }
}

double ir_graph_flops(const struct ir_graph *g)
{
    double n = 0;
    uint8_t *wanted = ir_freeze_wanted(g);
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *o = &g->ops.at[i];
        bool back = false;
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            back = back || (o->in[k] != IR_NONE && wanted[o->in[k]]);
        const bool weights = o->op != IR_OP_ATTENTION; /* else both factors are inputs */
        n += (1 + back + (weights ? ir_op_trains(g, o) : back)) * forward_products(o, g->seq_len);
    }
    mem_free(wanted);
    return n;
}

/* ---- comparing ------------------------------------------------------------------------------------------------ */

static bool same_params(const struct ir_graph *a, const struct ir_graph *b, char *text, size_t size)
{
    uint32_t n = a->params.n < b->params.n ? a->params.n : b->params.n;
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_param *p = &a->params.at[i], *q = &b->params.at[i];
        if (strcmp(p->name, q->name) != 0)
            return snprintf(text, size, "parameter %u is %s in one and %s in the other", i, p->name, q->name), false;
        struct ir_shape typed = q->shape; /* a parameter's own type is no mathematics: ir_attr_bits() */
        typed.dtype = p->shape.dtype;
        if (!ir_shape_same(&p->shape, &typed)) {
            char s[IR_SHAPE_TEXT], t[IR_SHAPE_TEXT];
            return snprintf(text, size, "parameter %s is %s in one and %s in the other", p->name,
                            ir_shape_text(&p->shape, s), ir_shape_text(&q->shape, t)),
                   false;
        }
    }
    if (a->params.n == b->params.n)
        return true;
    const char *extra = a->params.n > n ? a->params.at[n].name : b->params.at[n].name;
    return snprintf(text, size, "%u parameters in one, %u in the other; only one of them has %s", a->params.n,
                    b->params.n, extra),
           false;
}

static bool same_attrs(const struct ir_node_op *o, const struct ir_node_op *p, char *text, size_t size)
{
    for (uint32_t k = 0; k < IR_ATTR_COUNT; k++) {
        const struct ir_attr_info *info = &ir_attr_info[k];
        const void *x = (const char *)&o->attrs + info->offset, *y = (const char *)&p->attrs + info->offset;
        if (ir_attr_bits(&o->attrs, k) == ir_attr_bits(&p->attrs, k))
            continue;
        if (info->type == 'u')
            snprintf(text, size, "operator %s has %s %u in one and %u in the other", o->name, info->name,
                     *(const uint32_t *)x, *(const uint32_t *)y);
        else
            snprintf(text, size, "operator %s has %s %.9g in one and %.9g in the other", o->name, info->name,
                     (double)*(const float *)x, (double)*(const float *)y);
        return false;
    }
    return true;
}

static bool same_freqs(const struct ir_node_op *o, const struct ir_node_op *p, char *text, size_t size)
{
    const struct ir_freqs *x = o->attrs.inv_freq, *y = p->attrs.inv_freq;
    if (!x && !y)
        return true;
    if (!x || !y || x->n != y->n)
        return snprintf(text, size, "operator %s has %u numbers under inv_freq in one and %u in the other", o->name,
                        x ? x->n : 0, y ? y->n : 0),
               false;
    for (uint32_t i = 0; i < x->n; i++)
        if (x->at[i] != y->at[i])
            return snprintf(text, size, "operator %s has inv_freq[%u] %.9g in one and %.9g in the other", o->name, i,
                            (double)x->at[i], (double)y->at[i]),
                   false;
    return true;
}

/* Ids are compared: equal prefixes of operators and parameters make equal ids. */
/* Where documents begin is no input of the model. */
static bool same_edges(const struct ir_node_op *o, const struct ir_node_op *p)
{
    struct ir_attrs own = o->attrs;
    own.flags &= ~(uint32_t)IR_DOCUMENTS;
    const uint32_t n = ir_op_inputs((enum ir_op)o->op, &own);
    return memcmp(o->in, p->in, n * sizeof *o->in) == 0 && memcmp(o->out, p->out, sizeof o->out) == 0 &&
           memcmp(o->param, p->param, sizeof o->param) == 0;
}

static bool same_ops(const struct ir_graph *a, const struct ir_graph *b, char *text, size_t size)
{
    uint32_t n = a->ops.n < b->ops.n ? a->ops.n : b->ops.n;
    for (uint32_t i = 0; i < n; i++) {
        const struct ir_node_op *o = &a->ops.at[i], *p = &b->ops.at[i];
        if (strcmp(o->name, p->name) != 0 || o->op != p->op)
            return snprintf(text, size, "operator %u is %s (%s) in one and %s (%s) in the other", i, o->name,
                            ir_op_info[o->op].name, p->name, ir_op_info[p->op].name),
                   false;
        if (!same_attrs(o, p, text, size) || !same_freqs(o, p, text, size))
            return false;
        if (!same_edges(o, p))
            return snprintf(text, size, "operator %s reads other tensors or parameters in one than in the other",
                            o->name),
                   false;
    }
    if (a->ops.n == b->ops.n)
        return true;
    const char *extra = a->ops.n > n ? a->ops.at[n].name : b->ops.at[n].name;
    return snprintf(text, size, "%u operators in one, %u in the other; only one of them has %s", a->ops.n, b->ops.n,
                    extra),
           false;
}

bool ir_graph_same(const struct ir_graph *a, const struct ir_graph *b, char *text, size_t size)
{
    if (a->vocab != b->vocab)
        return snprintf(text, size, "vocab_size is %u in one and %u in the other", a->vocab, b->vocab), false;
    if (a->seq_len != b->seq_len)
        return snprintf(text, size, "the sequence length is %u in one and %u in the other", a->seq_len, b->seq_len),
               false;
    return same_params(a, b, text, size) && same_ops(a, b, text, size);
}
