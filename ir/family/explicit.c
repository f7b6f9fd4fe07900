/* "graph" models: an explicit list of operators, for models that are in no family.
 *
 *   {"vocab_size": 256, "graph": [
 *     {"op":"embed", "name":"embed", "in":["tokens"], "features":64},
 *     {"op":"rmsnorm", "name":"a.norm", "in":["embed"], "block":1},
 *     {"op":"linear", "name":"a.up", "in":["a.norm"], "out_features":128, "bias":true, "tags":{"PP":0}},
 *     {"op":"gelu", "name":"a.act", "in":["a.up"]}, ...
 *     {"op":"head_loss", "name":"head", "in":["norm","targets"], "block":2, "param":["embed.weight"]}]}
 *
 * Top level: graph, vocab_size (token ids are below it), initializer_range (default 0.02), annotate. Of an operator:
 *   op, name   as in the operator table (ir/op.h); names are unique, their dotted prefixes are regions
 *   in         tensors: tokens, targets, or the output of an operator before it: NAME, or NAME.1, NAME.2
 *   attributes by their names in the table; flags as true or false: transposed, bias, packed, exact, norm_topk, sinks. What
 *              follows from the inputs may be left out: in_features and features (width of input 0), heads or head_dim,
 *              kv_heads (= heads), positions (= sequence length), vocab, eps, theta (10000; inv_freq is a list instead), scale of
 *              attention (1/sqrt(head_dim));
 *              dispatch, experts and combine take experts, top_k and capacity from where their indices come from;
 *              dispatch also knows capacity_factor
 *   param      names of its parameters; null or left out: NAME.weight, NAME.bias; of attention NAME.sinks; of experts
 *              NAME.*.gate.weight, .up, .down. A name that is used twice is one tied parameter; its first use decides how it begins
 *   init, std  "normal", "zeros" or "ones", and the standard deviation, of parameters that are no bias
 *   tags       {"PP":0}
 *   block      0 for the first; stays until an operator says the next number: the unit of the default pipeline cut,
 *              which takes the first block for the embedding and the last for norm and head */
#include <math.h>
#include <stdio.h>

#include "base/words.h"
#include "ir/family/family.h"

static const struct {
    const char *name;
    uint32_t bit;
} flag_names[] = {
    { "transposed", IR_TRANSPOSED },
    { "bias", IR_BIAS },
    { "packed", IR_PACKED },
    { "exact", IR_EXACT },
    { "norm_topk", IR_NORM_TOPK },
    { "sinks", IR_SINKS },
    { "pairs", IR_PAIRS },
    { "one_plus", IR_ONE_PLUS },
    { "round_first", IR_ROUND_FIRST },
    { "no_weight", IR_NO_WEIGHT },
    { "no_bias", IR_NO_BIAS },
    { "per_head", IR_PER_HEAD },
    { "sigmoid", IR_SIGMOID },
    { "select_bias", IR_SELECT_BIAS },
    { "group_best", IR_GROUP_BEST },
    { "float32", IR_FLOAT32 },
    { "sequence_loss", IR_SEQUENCE_LOSS },
};
enum { FLAG_COUNT = sizeof flag_names / sizeof *flag_names };

struct reader {
    struct ir_graph *g;
    struct err *e;
    double std;
};

struct spec { /* one operator of the list */
    struct js js;
    enum ir_op op;
    const char *name;
    struct ir_attrs attrs;
    struct ir_op_in in;
    uint32_t block;
};

/* ---- keys and attributes -------------------------------------------------------------------------------------- */

static bool uses(enum ir_op op, uint32_t attr)
{
    return ir_op_info[op].attrs >> attr & 1 && ir_attr_info[attr].offset != offsetof(struct ir_attrs, flags);
}

static enum status check_keys(const struct reader *r, const struct spec *s)
{
    const char *keys[8 + IR_ATTR_COUNT + FLAG_COUNT + 3] = {
        "op", "name", "in", "param", "tags", "block", "init", "std"
    };
    size_t n = 8;
    for (uint32_t i = 0; i < IR_ATTR_COUNT; i++)
        if (uses(s->op, i))
            keys[n++] = ir_attr_info[i].name;
    for (uint32_t i = 0; i < FLAG_COUNT; i++)
        if (ir_op_flags(s->op) & flag_names[i].bit)
            keys[n++] = flag_names[i].name;
    if (s->op == IR_OP_DISPATCH)
        keys[n++] = "capacity_factor";
    if (s->op == IR_OP_ROPE)
        keys[n++] = "inv_freq";
    keys[n] = NULL;
    return js_only(&s->js, keys, r->e);
}

/* An attribute that is one of some words, the first of them where it is left out. */
static enum status read_word(const struct reader *r, const struct spec *s, const char *key, const char *const *words,
                             uint32_t *out)
{
    struct js v;
    const char *word;
    char all[256] = "";
    TRY(js_str_or(&s->js, key, words[0], &word, r->e));
    for (*out = 0; words[*out] && strcmp(words[*out], word) != 0;)
        ++*out;
    if (words[*out])
        return ST_OK;
    for (uint32_t i = 0, n = 0; words[i]; i++)
        n += (uint32_t)snprintf(all + n, sizeof all - n, "%s%s", i ? ", " : "", words[i]);
    TRY(js_need(&s->js, key, &v, r->e));
    return js_expected(&v, r->e, "one of %s", all);
}

static enum status read_freqs(const struct reader *r, struct spec *s)
{
    struct js list, v;
    uint32_t n;
    TRY(js_opt(&s->js, "inv_freq", &list, r->e));
    if (!list.v)
        return ST_OK;
    TRY(js_count(&list, &n, r->e));
    if (n == 0 || n > IR_FREQS_MAX)
        return js_expected(&list, r->e, "a list of 1 to %d numbers", IR_FREQS_MAX);
    float at[IR_FREQS_MAX];
    for (uint32_t i = 0; i < n; i++) {
        double x;
        v = js_at(&list, i);
        TRY(js_num(&v, 0, 1e30, &x, r->e));
        at[i] = (float)x;
    }
    s->attrs.inv_freq = ir_graph_freqs(r->g, at, n);
    return ST_OK;
}

static enum status read_attrs(const struct reader *r, struct spec *s)
{
    for (uint32_t i = 0; i < IR_ATTR_COUNT; i++) {
        void *field = (char *)&s->attrs + ir_attr_info[i].offset;
        int64_t x;
        double f;
        if (!uses(s->op, i))
            continue;
        if (ir_attr_info[i].type == 'a') {
            TRY(read_word(r, s, ir_attr_info[i].name, ir_act_names, (uint32_t *)field));
        } else if (ir_attr_info[i].type == 'u') {
            TRY(js_int_or(&s->js, ir_attr_info[i].name, 0, INT32_MAX, 0, &x, r->e));
            *(uint32_t *)field = (uint32_t)x;
        } else {
            TRY(js_num_or(&s->js, ir_attr_info[i].name, 0, 1e30, 0, &f, r->e));
            *(float *)field = (float)f;
        }
    }
    for (uint32_t i = 0; i < FLAG_COUNT; i++) {
        bool on = false;
        if (ir_op_flags(s->op) & flag_names[i].bit)
            TRY(js_bool_or(&s->js, flag_names[i].name, false, &on, r->e));
        s->attrs.flags |= on ? flag_names[i].bit : 0;
    }
    return s->op == IR_OP_ROPE ? read_freqs(r, s) : ST_OK;
}

/* ---- what follows from the inputs ----------------------------------------------------------------------------- */

static uint32_t width(const struct reader *r, const struct spec *s)
{
    const struct ir_shape *shape = &r->g->tensors.at[s->in.tensor[0]].shape;
    return shape->dim[shape->ndim - 1];
}

static void default_u32(uint32_t *field, uint64_t value)
{
    if (!*field)
        *field = value <= INT32_MAX ? (uint32_t)value : 0;
}

static void default_f32(float *field, double value)
{
    if (*field == 0)
        *field = (float)value;
}

static uint32_t divide(uint32_t a, uint64_t b)
{
    return b ? (uint32_t)(a / b) : 0;
}

/* From the operator that made the indices. */
static void infer_routing(const struct reader *r, struct spec *s)
{
    uint32_t from = r->g->tensors.at[s->in.tensor[1]].producer;
    if (from == IR_NONE)
        return;
    const struct ir_attrs *a = &r->g->ops.at[from].attrs;
    default_u32(&s->attrs.experts, a->experts);
    default_u32(&s->attrs.top_k, a->top_k);
    default_u32(&s->attrs.capacity, a->capacity);
}

static void infer_heads(struct ir_attrs *a, uint32_t w)
{
    default_u32(&a->kv_heads, a->heads);
    const uint64_t v = (uint64_t)a->kv_heads * a->v_head_dim;
    if (a->flags & IR_PACKED && v > 0 && v < w)
        default_u32(&a->head_dim, divide(w - (uint32_t)v, (uint64_t)a->heads + a->kv_heads));
    default_u32(&a->head_dim, divide(w, a->flags & IR_PACKED ? a->heads + 2 * (uint64_t)a->kv_heads : a->heads));
    default_f32(&a->scale, a->head_dim ? 1 / sqrt(a->head_dim) : 0);
}

static enum status infer(const struct reader *r, struct spec *s)
{
    struct ir_attrs *a = &s->attrs;
    uint32_t w = width(r, s);
    double factor = 0;
    if (s->op != IR_OP_EMBED && ir_op_info[s->op].attrs & 1u << 2) /* features */
        default_u32(&a->features, w);
    switch (s->op) {
    case IR_OP_POS_EMBED:
        default_u32(&a->positions, (uint64_t)a->first_position + r->g->seq_len);
        break;
    case IR_OP_LAYERNORM:
    case IR_OP_RMSNORM:
        default_f32(&a->eps, s->op == IR_OP_LAYERNORM ? 1e-5 : 1e-6);
        if (divide(w, a->features) > 1)
            default_u32(&a->heads, divide(w, a->features));
        break;
    case IR_OP_LINEAR:
        default_u32(&a->in_features, w);
        break;
    case IR_OP_ROPE:
        default_u32(&a->heads, divide(w, a->head_dim));
        default_u32(&a->head_dim, divide(w, a->heads));
        if (!a->inv_freq)
            default_f32(&a->theta, 10000);
        break;
    case IR_OP_JOIN_HEADS:
        if (r->g->tensors.at[s->in.tensor[1]].shape.ndim == 2)
            default_u32(&a->rotary_dim, r->g->tensors.at[s->in.tensor[1]].shape.dim[1]);
        default_u32(&a->head_dim, divide(w, a->heads) + (uint64_t)a->rotary_dim);
        break;
    case IR_OP_ATTENTION:
        infer_heads(a, w);
        break;
    case IR_OP_EMBED:
    case IR_OP_HEAD_LOSS:
        default_u32(&a->vocab, r->g->vocab);
        break;
    case IR_OP_DISPATCH:
    case IR_OP_EXPERTS:
    case IR_OP_COMBINE:
        infer_routing(r, s);
        TRY(js_num_or(&s->js, "capacity_factor", 0, 1e6, 0, &factor, r->e));
        if (a->experts)
            default_u32(&a->capacity, ir_capacity(factor, r->g->seq_len, a->top_k, a->experts));
        break;
    default:
        break;
    }
    return ST_OK;
}

static enum status check_attrs(const struct reader *r, const struct spec *s)
{
    for (uint32_t i = 0; i < IR_ATTR_COUNT; i++) {
        const char *field = (const char *)&s->attrs + ir_attr_info[i].offset;
        uint32_t zero = 0; /* as bits: of 0.0f too */
        if (uses(s->op, i) && !ir_op_attr_may_be_zero(s->op, i) && memcmp(field, &zero, sizeof zero) == 0)
            return js_wrong(&s->js, r->e, "operator %s (%s) requires %s", s->name, ir_op_info[s->op].name,
                            ir_attr_info[i].name);
    }
    const char *wrong = ir_op_attrs_wrong(s->op, &s->attrs, r->g->seq_len);
    return wrong ? js_wrong(&s->js, r->e, "operator %s (%s): %s", s->name, ir_op_info[s->op].name, wrong) : ST_OK;
}

/* ---- inputs, parameters, tags --------------------------------------------------------------------------------- */

static enum status read_inputs(const struct reader *r, struct spec *s)
{
    struct js list, v;
    uint32_t n, want = ir_op_inputs(s->op, &s->attrs);
    TRY(js_need(&s->js, "in", &list, r->e));
    TRY(js_count(&list, &n, r->e));
    if (n != want)
        return js_expected(&list, r->e, "%u inputs of a %s%s", want, ir_op_info[s->op].name,
                           s->op == IR_OP_ATTENTION ? " (3, or 1 with \"packed\")" : "");
    for (uint32_t i = 0; i < n; i++) {
        const char *name;
        v = js_at(&list, i);
        TRY(js_str(&v, &name, r->e));
        uint32_t t = 0;
        while (t < r->g->tensors.n && strcmp(r->g->tensors.at[t].name, name) != 0)
            t++;
        if (t == r->g->tensors.n)
            return js_expected(&v, r->e, "tokens, targets, or an output of an earlier operator");
        s->in.tensor[i] = t;
    }
    return ST_OK;
}

static const char *default_leaf(enum ir_op op, const struct ir_attrs *a, uint32_t i)
{
    if (op == IR_OP_ROUTER && i == (a->flags & IR_BIAS ? 2u : 1u))
        return ".select_bias";
    static const char *const experts[] = { ".*.gate.weight", ".*.up.weight", ".*.down.weight",
                                           ".*.gate.bias",   ".*.up.bias",   ".*.down.bias" };
    if (op == IR_OP_EXPERTS)
        return experts[i];
    return op == IR_OP_ATTENTION ? ".sinks" : i ? ".bias" : ".weight";
}

static enum status read_init(const struct reader *r, const struct spec *s, uint32_t i, enum ir_init *init, double *std)
{
    bool norm = s->op == IR_OP_LAYERNORM || s->op == IR_OP_RMSNORM, bias = i > (s->op == IR_OP_EXPERTS ? 2 : 0);
    static const char *const names[] = { "normal", "zeros", "ones", NULL };
    const uint32_t usual = !norm ? IR_INIT_NORMAL : s->attrs.flags & IR_ONE_PLUS ? IR_INIT_ZEROS : IR_INIT_ONES;
    uint32_t kind;
    TRY(js_num_or(&s->js, "std", 0, 1e3, r->std, std, r->e));
    TRY(js_word_or(&s->js, "init", names, usual, &kind, r->e));
    *init = bias ? IR_INIT_ZEROS : (enum ir_init)kind;
    if (*init != IR_INIT_NORMAL)
        *std = 0;
    return ST_OK;
}

/* Parameter i by name: an existing one of the same shape (tied), or a new one. */
static enum status take_param(const struct reader *r, struct spec *s, const struct js *v, uint32_t i, const char *name,
                              const struct ir_shape *shape)
{
    for (uint32_t k = 0; k < r->g->params.n; k++) {
        const struct ir_param *p = &r->g->params.at[k];
        char a[IR_SHAPE_TEXT], b[IR_SHAPE_TEXT];
        if (strcmp(p->name, name) != 0)
            continue;
        if (!ir_shape_same(&p->shape, shape))
            return js_wrong(v, r->e, "parameter %s has shape %s where it is used first, %s here", name,
                            ir_shape_text(&p->shape, a), ir_shape_text(shape, b));
        s->in.param[i] = k;
        return ST_OK;
    }
    enum ir_init init = IR_INIT_NORMAL;
    double std = 0;
    TRY(read_init(r, s, i, &init, &std));
    s->in.param[i] = ir_graph_param(r->g, name, *shape, init, (float)std);
    return ST_OK;
}

static enum status read_params(const struct reader *r, struct spec *s)
{
    struct js list, v;
    uint32_t n = 0, want = ir_op_params(s->op, &s->attrs);
    struct ir_op_shapes shapes;
    ir_op_shapes(s->op, &s->attrs, r->g->seq_len, &shapes);
    TRY(js_opt(&s->js, "param", &list, r->e));
    if (list.v)
        TRY(js_count(&list, &n, r->e));
    if (n > want)
        return js_expected(&list, r->e, "at most %u parameters", want);
    for (uint32_t i = 0; i < want; i++) {
        const char *name = NULL;
        v = i < n ? js_at(&list, i) : s->js;
        if (i < n && !json_is_null(v.v))
            TRY(js_str(&v, &name, r->e));
        else
            name = arena_printf(&r->g->arena, "%s%s", s->name, default_leaf(s->op, &s->attrs, i));
        TRY(take_param(r, s, &v, i, name, &shapes.param[i]));
    }
    return ST_OK;
}

static enum status read_tags(const struct reader *r, const struct spec *s, struct ir_node_op *o)
{
    struct js tags, v;
    const char *name;
    json_t *value;
    TRY(js_opt(&s->js, "tags", &tags, r->e));
    if (!tags.v)
        return ST_OK;
    if (!json_is_object(tags.v))
        return js_expected(&tags, r->e, "an object such as {\"PP\": 0}");
    json_object_foreach(tags.v, name, value)
    {
        int64_t index;
        TRY(js_need(&tags, name, &v, r->e));
        TRY(ir_check_tag_name(&v, name, r->e));
        TRY(js_int(&v, 0, (1 << 20) - 1, &index, r->e));
        uint32_t tag = ir_graph_tag(r->g, name);
        if (tag == IR_NONE)
            return js_wrong(&v, r->e, "found more than %d tag names", IR_MAX_TAGS);
        o->tag[tag] = (int32_t)index;
    }
    return ST_OK;
}

/* ---- the list ------------------------------------------------------------------------------------------------- */

static enum status read_kind(const struct reader *r, struct spec *s)
{
    struct js v;
    const char *kind;
    TRY(js_need(&s->js, "op", &v, r->e));
    TRY(js_str(&v, &kind, r->e));
    s->op = ir_op_by_name(kind);
    if (s->op < IR_OP_GRAPH_COUNT)
        return ST_OK;
    const char *words[IR_OP_GRAPH_COUNT + 1] = { NULL };
    for (uint32_t i = 0; i < IR_OP_GRAPH_COUNT; i++)
        words[i] = ir_op_info[i].name;
    char hint[WORDS_HINT], all[640];
    return *words_hint(kind, words, hint) ? js_expected(&v, r->e, "an operator%s", hint)
                                          : js_expected(&v, r->e, "%s", words_list(words, all, sizeof all));
}

static enum status read_operator(const struct reader *r, const struct js *js, uint32_t *block)
{
    struct spec s = { .js = *js };
    struct js v;
    int64_t b;
    TRY(read_kind(r, &s));
    TRY(check_keys(r, &s));
    TRY(js_need(js, "name", &v, r->e));
    TRY(js_str(&v, &s.name, r->e));
    if (strlen(s.name) > 150)
        return js_expected(&v, r->e, "at most 150 characters");
    TRY(js_int_or(js, "block", *block, (int64_t)*block + 1, *block, &b, r->e));
    *block = s.block = (uint32_t)b;
    TRY(read_attrs(r, &s));
    TRY(read_inputs(r, &s));
    TRY(infer(r, &s));
    TRY(check_attrs(r, &s));
    TRY(read_params(r, &s));
    uint32_t id = ir_graph_op(r->g, s.op, s.name, s.block, &s.attrs, &s.in);
    return read_tags(r, &s, &r->g->ops.at[id]);
}

enum status ir_build_explicit(const struct js *model, struct ir_graph *g, struct err *e)
{
    static const char *const keys[] = { "graph", "vocab_size", "initializer_range", "annotate", NULL };
    struct reader r = { .g = g, .e = e };
    struct js list, v;
    uint32_t n, block = 0;
    int64_t vocab;
    TRY(js_only(model, keys, e));
    TRY(js_need(model, "vocab_size", &v, e));
    TRY(js_int(&v, 1, INT32_MAX, &vocab, e));
    TRY(js_num_or(model, "initializer_range", 0, 1e3, 0.02, &r.std, e));
    TRY(js_need(model, "graph", &list, e));
    TRY(js_count(&list, &n, e));
    if (n == 0 || n > 1 << 20)
        return js_expected(&list, e, "a list of 1 to %d operators", 1 << 20);
    g->vocab = (uint32_t)vocab;
    struct ir_shape ids = { IR_I32, 1, { g->seq_len, 0, 0 } };
    ir_graph_input(g, "tokens", ids);
    ir_graph_input(g, "targets", ids);
    for (uint32_t i = 0; i < n; i++) {
        v = js_at(&list, i);
        TRY(read_operator(&r, &v, &block));
    }
    return ST_OK;
}
