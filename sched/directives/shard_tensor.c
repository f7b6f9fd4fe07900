/* shard_tensor, of the reference's branches (piper-strategy(5), shard_tensor): a sequence group and the head and ffn regions of its filter.
 * What it computes on every device outside of them is cut by tokens here: the same numbers. */
#include "sched/directives/reference.h"

/* Is an operator in a stage that the filter names, if it names one as a number? */
static bool in_stage(const struct sched *s, const json_t *filter, const struct ir_node_op *op)
{
    const json_t *pp = json_object_get(filter, "PP");
    const uint32_t tag = ir_graph_find_tag(s->g, "PP");
    return !json_is_integer(pp) || tag == IR_NONE || op->tag[tag] == json_integer_value(pp);
}

static bool activates(uint32_t op)
{
    return op == IR_OP_SWIGLU || op == IR_OP_GELU || op == IR_OP_ACT;
}

/* Behind attention or an activation a linear operator is split by its input features, else by its output features. */
static bool is_rowwise(const struct sched *s, const struct ir_node_op *op)
{
    const uint32_t from = s->g->tensors.at[op->in[0]].producer;
    const uint32_t kind = from == IR_NONE ? (uint32_t)IR_OP_COUNT : s->g->ops.at[from].op;
    return kind == IR_OP_ATTENTION || activates(kind);
}

/* "q_proj": "colwise" is held against what is found. */
static enum status check_param(const struct sched *s, const struct js *params, const char *name, const json_t *how,
                               struct err *e)
{
    const char *word = json_string_value(how);
    const bool row = word && !strcmp(word, "rowwise");
    uint32_t found = 0;
    if (!row && (!word || strcmp(word, "colwise")))
        return js_wrong(params, e, "\"%s\": expected \"colwise\" or \"rowwise\"", name);
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        if (op->op != IR_OP_LINEAR || !strstr(s->g->params.at[op->param[0]].name, name))
            continue;
        found++;
        if (is_rowwise(s, op) != row)
            return js_wrong(params, e, "\"%s\": found \"%s\", but %s is split by its %s features: \"%s\"", name, word,
                            op->name, row ? "output" : "input", row ? "colwise" : "rowwise");
    }
    return found ? ST_OK : js_wrong(params, e, "no linear operator has a parameter called \"%s\"", name);
}

static enum status expand(struct sched *s, const struct js *js, json_t *out, struct err *e)
{
    struct js v, params;
    json_t *filter;
    const char *name;
    json_t *how;
    bool head = false, ffn = false;
    TRY(js_need(js, "devices", &v, e));
    TRY(js_opt(js, "params", &params, e));
    json_object_foreach(params.v, name, how)
    {
        TRY(check_param(s, &params, name, how, e));
    }
    TRY(reference_filter(s, js, "TP", &filter, e));
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        head = head || (op->op == IR_OP_ATTENTION && in_stage(s, filter, op));
        ffn = ffn || (activates(op->op) && in_stage(s, filter, op));
    }
    reference_shard(js, "sequence", filter, out);
    if (head)
        reference_shard(js, "head", filter, out);
    if (ffn)
        reference_shard(js, "ffn", filter, out);
    json_decref(filter);
    return ST_OK;
}

static const char *const keys[] = { "op", "filter", "devices", "stream", "params", NULL };
const struct directive_kind directive_shard_tensor = { .name = "shard_tensor", .keys = keys, .expand = expand };
