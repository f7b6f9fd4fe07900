/* The checks of a reader that trusts nothing. After them every id is in range, every shape is the table's, index
 * tensors come from the operator that bounds their values, and every operator leads to a loss. */
#include <math.h>
#include <stdlib.h>

#include "ir/graph.h"

enum { NAME_MAX_LENGTH = 200, TAG_MAX_INDEX = 1 << 20, COUNT_MAX = 1 << 26 };
#define PARAMS_MAX_ELEMENTS ((uint64_t)1 << 52)

struct check {
    const struct ir_graph *g;
    const char *where;
    struct err *e;
};

#define WRONG(c, ...) err_set((c)->e, ST_INPUT, (c)->where, __VA_ARGS__)

/* ---- names ---------------------------------------------------------------------------------------------------- */

/* Names become HDF5 links and file-system-free text: letters, digits and "._-", a `*` where star allows one. */
static enum status check_name(const struct check *c, const char *kind, uint32_t i, const char *name, bool star)
{
    if (!name || !*name)
        return WRONG(c, "%s %u has no name", kind, i);
    size_t n = strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-*");
    if (name[n] != '\0' || name[0] == '.' || n > NAME_MAX_LENGTH)
        return WRONG(c,
                     "the name of %s %u is not allowed: expected at most %d letters, digits and \"._-\", not beginning "
                     "with a dot",
                     kind, i, NAME_MAX_LENGTH);
    const char *first = strchr(name, '*');
    if (first && (!star || strchr(first + 1, '*')))
        return WRONG(c, "the name of %s %u, %s, has %s", kind, i, name, star ? "more than one *" : "a *");
    return ST_OK;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts the names and takes them. */
static enum status check_unique(const struct check *c, const char *kind, const char **names, uint32_t n)
{
    enum status st = ST_OK;
    qsort(names, n, sizeof *names, by_name);
    for (uint32_t i = 1; i < n && st == ST_OK; i++)
        if (strcmp(names[i - 1], names[i]) == 0)
            st = WRONG(c, "two %ss are named %s", kind, names[i]);
    mem_free(names);
    return st;
}

static enum status check_names(const struct check *c)
{
    const struct ir_graph *g = c->g;
    for (uint32_t i = 0; i < g->tensors.n; i++)
        TRY(check_name(c, "tensor", i, g->tensors.at[i].name, false));
    for (uint32_t i = 0; i < g->params.n; i++)
        TRY(check_name(c, "parameter", i, g->params.at[i].name, true));
    for (uint32_t i = 0; i < g->ops.n; i++)
        TRY(check_name(c, "operator", i, g->ops.at[i].name, false));
    for (uint32_t i = 0; i < g->n_tags; i++)
        TRY(check_name(c, "tag", i, g->tags[i], false));

    const char **names = mem_alloc(sizeof *names * g->tensors.n);
    for (uint32_t i = 0; i < g->tensors.n; i++)
        names[i] = g->tensors.at[i].name;
    TRY(check_unique(c, "tensor", names, g->tensors.n));
    names = mem_alloc(sizeof *names * g->params.n);
    for (uint32_t i = 0; i < g->params.n; i++)
        names[i] = g->params.at[i].name;
    TRY(check_unique(c, "parameter", names, g->params.n));
    names = mem_alloc(sizeof *names * g->ops.n);
    for (uint32_t i = 0; i < g->ops.n; i++)
        names[i] = g->ops.at[i].name;
    TRY(check_unique(c, "operator", names, g->ops.n));
    names = mem_alloc(sizeof *names * IR_MAX_TAGS);
    memcpy(names, g->tags, sizeof *names * g->n_tags);
    return check_unique(c, "tag", names, g->n_tags);
}

/* ---- tensors and parameters ----------------------------------------------------------------------------------- */

static enum status check_tensor(const struct check *c, uint32_t i)
{
    const struct ir_tensor *t = &c->g->tensors.at[i];
    if (t->producer == IR_NONE) {
        struct ir_shape tokens = { IR_I32, 1, { c->g->seq_len, 0, 0 } };
        if (strcmp(t->name, "tokens") != 0 && strcmp(t->name, "targets") != 0)
            return WRONG(c, "tensor %s has no producer, and the graph's inputs are tokens and targets", t->name);
        return ir_shape_same(&t->shape, &tokens)
                   ? ST_OK
                   : WRONG(c, "graph input %s is not (T) int32 with T = %u", t->name, c->g->seq_len);
    }
    if (t->producer >= c->g->ops.n)
        return WRONG(c, "tensor %s: producer %u is not an operator (there are %u)", t->name, t->producer, c->g->ops.n);
    if (t->output >= IR_MAX_OUT || c->g->ops.at[t->producer].out[t->output] != i)
        return WRONG(c, "tensor %s: operator %s does not have it as output %u", t->name, c->g->ops.at[t->producer].name,
                     t->output);
    return ST_OK;
}

static enum status check_params(const struct check *c)
{
    uint64_t sum = 0;
    for (uint32_t i = 0; i < c->g->params.n; i++) {
        const struct ir_param *p = &c->g->params.at[i];
        if (p->shape.ndim < 1 || p->shape.ndim > 3)
            return WRONG(c, "parameter %s has %u dimensions, expected 1 to 3", p->name, p->shape.ndim);
        if (p->init > IR_INIT_ONES || !isfinite(p->std) || p->std < 0)
            return WRONG(c, "parameter %s: init or std is not allowed", p->name);
        if (strchr(p->name, '*') && p->shape.ndim < 2)
            return WRONG(c, "parameter %s: a * needs two dimensions or more", p->name);
        uint64_t n = 1;
        for (uint32_t k = 0; k < p->shape.ndim; k++) {
            if (p->shape.dim[k] == 0 || n > PARAMS_MAX_ELEMENTS / p->shape.dim[k])
                return WRONG(c, "parameter %s has no elements or more than 2^52", p->name);
            n *= p->shape.dim[k];
        }
        if ((sum += n) > PARAMS_MAX_ELEMENTS)
            return WRONG(c, "the model has more than 2^52 parameters");
    }
    return ST_OK;
}

/* ---- operators ------------------------------------------------------------------------------------------------ */

static enum status wrong_shape(const struct check *c, const struct ir_node_op *o, const char *role, const char *name,
                               const struct ir_shape *found, const struct ir_shape *expected)
{
    char f[IR_SHAPE_TEXT], x[IR_SHAPE_TEXT];
    return WRONG(c, "operator %s (%s): %s %s is %s, but the operator's attributes say %s", o->name,
                 ir_op_info[o->op].name, role, name, ir_shape_text(found, f), ir_shape_text(expected, x));
}

static enum status check_inputs(const struct check *c, uint32_t i, const struct ir_op_shapes *s)
{
    const struct ir_node_op *o = &c->g->ops.at[i];
    uint32_t n = ir_op_inputs((enum ir_op)o->op, &o->attrs);
    for (uint32_t k = 0; k < IR_MAX_IN; k++) {
        if (k >= n) {
            if (o->in[k] != IR_NONE)
                return WRONG(c, "operator %s (%s) has more than %u inputs", o->name, ir_op_info[o->op].name, n);
            continue;
        }
        if (o->in[k] >= c->g->tensors.n)
            return WRONG(c, "operator %s: input %u is tensor %u of %u", o->name, k, o->in[k], c->g->tensors.n);
        const struct ir_tensor *t = &c->g->tensors.at[o->in[k]];
        if (t->producer != IR_NONE && t->producer >= i)
            return WRONG(c, "operator %s reads %s before it is produced", o->name, t->name);
        if (!ir_shape_same(&t->shape, &s->in[k]))
            return wrong_shape(c, o, "input", t->name, &t->shape, &s->in[k]);
    }
    return ST_OK;
}

static enum status check_outputs(const struct check *c, uint32_t i, const struct ir_op_shapes *s)
{
    const struct ir_node_op *o = &c->g->ops.at[i];
    for (uint32_t k = 0; k < IR_MAX_OUT; k++) {
        if (k >= ir_op_info[o->op].n_out) {
            if (o->out[k] != IR_NONE)
                return WRONG(c, "operator %s (%s) has more than %u outputs", o->name, ir_op_info[o->op].name,
                             ir_op_info[o->op].n_out);
            continue;
        }
        if (o->out[k] >= c->g->tensors.n)
            return WRONG(c, "operator %s: output %u is tensor %u of %u", o->name, k, o->out[k], c->g->tensors.n);
        const struct ir_tensor *t = &c->g->tensors.at[o->out[k]];
        if (t->producer != i || t->output != k)
            return WRONG(c, "operator %s: output %u, %s, is another operator's", o->name, k, t->name);
        if (!ir_shape_same(&t->shape, &s->out[k]))
            return wrong_shape(c, o, "output", t->name, &t->shape, &s->out[k]);
    }
    return ST_OK;
}

static enum status check_op_params(const struct check *c, uint32_t i, const struct ir_op_shapes *s)
{
    const struct ir_node_op *o = &c->g->ops.at[i];
    uint32_t n = ir_op_params((enum ir_op)o->op, &o->attrs);
    for (uint32_t k = 0; k < IR_MAX_PARAM; k++) {
        if (k >= n) {
            if (o->param[k] != IR_NONE)
                return WRONG(c, "operator %s (%s) has more than %u parameters", o->name, ir_op_info[o->op].name, n);
            continue;
        }
        if (o->param[k] >= c->g->params.n)
            return WRONG(c, "operator %s: parameter %u is number %u of %u", o->name, k, o->param[k], c->g->params.n);
        for (uint32_t j = 0; j < k; j++)
            if (o->param[j] == o->param[k])
                return WRONG(c, "operator %s uses parameter %s twice", o->name, c->g->params.at[o->param[k]].name);
        const struct ir_param *p = &c->g->params.at[o->param[k]];
        if (!ir_shape_same(&p->shape, &s->param[k]))
            return wrong_shape(c, o, "parameter", p->name, &p->shape, &s->param[k]);
    }
    return ST_OK;
}

/* Input k must be output `which` of an operator `op` that routes alike: its values index our buffers. */
static enum status check_index(const struct check *c, const struct ir_node_op *o, uint32_t k, enum ir_op op,
                               uint32_t which)
{
    const struct ir_tensor *t = &c->g->tensors.at[o->in[k]];
    const struct ir_node_op *p = t->producer == IR_NONE ? NULL : &c->g->ops.at[t->producer];
    if (p && p->op == op && t->output == which && p->attrs.experts == o->attrs.experts &&
        p->attrs.top_k == o->attrs.top_k && (op == IR_OP_ROUTER || p->attrs.capacity == o->attrs.capacity))
        return ST_OK;
    return WRONG(c, "operator %s (%s): input %u, %s, must be output %u of a %s with the same experts, top_k%s", o->name,
                 ir_op_info[o->op].name, k, t->name, which, ir_op_info[op].name,
                 op == IR_OP_ROUTER ? "" : " and capacity");
}

/* Values of index tensors stay within what they index. */
static enum status check_indices(const struct check *c, const struct ir_node_op *o)
{
    const char *wanted = o->op == IR_OP_EMBED ? "tokens" : "targets";
    switch (o->op) {
    case IR_OP_EMBED:
    case IR_OP_HEAD_LOSS:
        if (strcmp(c->g->tensors.at[o->in[o->op == IR_OP_EMBED ? 0 : 1]].name, wanted) != 0)
            return WRONG(c, "operator %s (%s) must read the graph's input %s", o->name, ir_op_info[o->op].name, wanted);
        if (o->attrs.vocab < c->g->vocab)
            return WRONG(c, "operator %s: vocab is %u, but token ids go up to %u", o->name, o->attrs.vocab,
                         c->g->vocab - 1);
        return ST_OK;
    case IR_OP_DISPATCH:
        return check_index(c, o, 1, IR_OP_ROUTER, 1);
    case IR_OP_EXPERTS:
        return check_index(c, o, 1, IR_OP_DISPATCH, 2);
    case IR_OP_COMBINE:
        return check_index(c, o, 1, IR_OP_DISPATCH, 1);
    default:
        return ST_OK;
    }
}

static enum status check_op(const struct check *c, uint32_t i)
{
    const struct ir_node_op *o = &c->g->ops.at[i];
    if (o->op >= IR_OP_GRAPH_COUNT)
        return WRONG(c, "operator %s is of kind %u; those of a model graph are below %u", o->name, o->op,
                     IR_OP_GRAPH_COUNT);
    if (o->block >= c->g->n_blocks)
        return WRONG(c, "operator %s is in block %u of %u", o->name, o->block, c->g->n_blocks);
    const char *wrong = ir_op_attrs_wrong((enum ir_op)o->op, &o->attrs, c->g->seq_len);
    if (wrong)
        return WRONG(c, "operator %s (%s): %s", o->name, ir_op_info[o->op].name, wrong);
    struct ir_op_shapes s;
    ir_op_shapes((enum ir_op)o->op, &o->attrs, c->g->seq_len, &s);
    TRY(check_inputs(c, i, &s));
    TRY(check_outputs(c, i, &s));
    TRY(check_op_params(c, i, &s));
    TRY(check_indices(c, o));
    for (uint32_t k = 0; k < IR_MAX_TAGS; k++)
        if (o->tag[k] < -1 || o->tag[k] >= TAG_MAX_INDEX || (k >= c->g->n_tags && o->tag[k] != -1))
            return WRONG(c, "operator %s: index %d under tag %u is not allowed", o->name, o->tag[k], k);
    return ST_OK;
}

/* ---- the whole ------------------------------------------------------------------------------------------------ */

/* Every operator leads to a loss, every parameter is used: nothing is computed or kept in vain, and every gradient has
 * a source. Consumers are checked operators, so it is enough that output 0, the one with a gradient, is read. */
static enum status check_use(const struct check *c)
{
    const struct ir_graph *g = c->g;
    uint8_t *read = mem_alloc(g->tensors.n), *used = mem_alloc(g->params.n);
    uint32_t losses = 0;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        const struct ir_node_op *o = &g->ops.at[i];
        losses += o->op == IR_OP_HEAD_LOSS;
        for (uint32_t k = 0; k < IR_MAX_IN; k++)
            if (o->in[k] != IR_NONE)
                read[o->in[k]] = 1;
        for (uint32_t k = 0; k < IR_MAX_PARAM; k++)
            if (o->param[k] != IR_NONE)
                used[o->param[k]] += used[o->param[k]] < 2;
    }
    enum status st = losses ? ST_OK : WRONG(c, "the model has no head_loss operator: there is nothing to train");
    for (uint32_t i = 0; i < g->tensors.n && st == ST_OK; i++)
        if (!read[i] && g->tensors.at[i].producer != IR_NONE && g->tensors.at[i].output == 0)
            st = WRONG(c, "nothing reads tensor %s: every operator must lead to a head_loss", g->tensors.at[i].name);
    for (uint32_t i = 0; i < g->params.n && st == ST_OK; i++)
        if (!used[i])
            st = WRONG(c, "no operator uses parameter %s", g->params.at[i].name);
        else if (used[i] > 1 && g->params.at[i].state)
            st = WRONG(c, "parameter %s is the selection bias of a router, and another operator uses it too",
                       g->params.at[i].name);
    mem_free(read);
    mem_free(used);
    return st;
}

/* PP is numbered from 0 without gaps. */
static enum status check_pp(const struct check *c)
{
    const struct ir_graph *g = c->g;
    uint32_t pp = ir_graph_find_tag(g, "PP");
    if (pp == IR_NONE)
        return ST_OK;
    uint8_t *seen = mem_alloc(TAG_MAX_INDEX);
    int32_t max = -1;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        int32_t v = g->ops.at[i].tag[pp];
        if (v >= 0)
            seen[v] = 1;
        max = v > max ? v : max;
    }
    enum status st = ST_OK;
    for (int32_t v = 0; v < max && st == ST_OK; v++)
        if (!seen[v])
            st = WRONG(c, "PP goes up to %d, but no operator has PP %d: PP is numbered from 0 without gaps", max, v);
    mem_free(seen);
    return st;
}

enum status ir_graph_validate(const struct ir_graph *g, const char *where, struct err *e)
{
    struct check c = { g, where, e };
    if (g->seq_len == 0 || g->seq_len > INT32_MAX || g->vocab == 0 || g->vocab > INT32_MAX || g->n_blocks == 0)
        return WRONG(&c, "sequence length %u, vocabulary %u, blocks %u: expected 1 to 2^31 - 1", g->seq_len, g->vocab,
                     g->n_blocks);
    if (g->n_tags > IR_MAX_TAGS)
        return WRONG(&c, "%u tags, at most %d are possible", g->n_tags, IR_MAX_TAGS);
    if (g->ops.n > COUNT_MAX || g->tensors.n > COUNT_MAX || g->params.n > COUNT_MAX || g->n_blocks > COUNT_MAX)
        return WRONG(&c, "more than %d operators, tensors, parameters or blocks", COUNT_MAX);
    TRY(check_names(&c));
    for (uint32_t i = 0; i < g->tensors.n; i++)
        TRY(check_tensor(&c, i));
    TRY(check_params(&c));
    for (uint32_t i = 0; i < g->ops.n; i++)
        TRY(check_op(&c, i));
    TRY(check_use(&c));
    return check_pp(&c);
}
