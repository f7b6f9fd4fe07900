/* shard with "dim":"head", "ffn", "vocab", "context": regions, parts of the model that need more than their own tokens, or hold less
 * than whole parameters (piper-strategy(5), shard). A region is found in the graph by its structure; it cuts sub-chunks and makes no
 * chunk, so filters, orders and schedules do not see it. What crosses its border goes through BORDER nodes (sched/move.c).
 *
 * Needs: chunks, share.n. Gives: regions, sides, share.context and share.tensor. */
#include <stdio.h>

#include "sched/passes.h"

enum { MAX_REGION = 32 }; /* operators of a head or ffn region */

/* A region while it is found. */
struct found {
    struct sched *s;
    uint32_t directive;
    uint32_t core; /* the attention, or the operator between the linear ones */
    uint32_t ops[MAX_REGION], n;
};

static const char *const dim_text[DIMS] = {
    [DIM_HEAD] = "head", [DIM_FFN] = "ffn", [DIM_VOCAB] = "vocab", [DIM_CONTEXT] = "context"
};

static bool in_filter(const struct sched *s, const struct directive *d, uint32_t o)
{
    return filter_chunk(s, &d->filter, s->chunks.chunk_of[o]);
}

static const struct directive *directive_of(const struct found *f)
{
    return &f->s->directives.at[f->directive];
}

/* "layers.0.mlp" of "layers.0.mlp.act" */
static const char *region_name(const struct found *f, char *text, size_t size)
{
    const char *name = f->s->g->ops.at[f->core].name, *dot = strrchr(name, '.');
    snprintf(text, size, "%.*s", (int)(dot ? (size_t)(dot - name) : strlen(name)), name);
    return text;
}

/* ---- groups -------------------------------------------------------------------------------------------------------- */

/* The tensor groups of a directive are all blocks of p neighbours of the sequence groups, in any order. */
static enum status check_blocks(struct sched *s, const struct directive *d, const struct directive *sequence,
                                struct err *e)
{
    const uint32_t n = s->share.n, total = s->sets.at[sequence->set].n;
    const uint32_t *all = arena_copy(&s->arena, devices_of(s, sequence->set), total * sizeof *all);
    for (uint32_t g = 0; g < d->n_shard_sets; g++) {
        const uint32_t set = s->listed_sets.at[d->first_shard_set + g], p = s->sets.at[set].n;
        const uint32_t *group = devices_of(s, set);
        uint32_t at = 0;
        while (at < total && all[at] != group[0])
            at++;
        if (at < total && n % p == 0 && at % p == 0 && !memcmp(all + at, group, p * sizeof *group))
            continue;
        char here[160], whole[160], blocks[400] = "";
        const uint32_t first = (at < total ? at : 0) / n * n;
        for (uint32_t b = 0; n % p == 0 && b < n / p && strlen(blocks) + 170 < sizeof blocks; b++) {
            char block[160];
            devices_text(s, devices_intern(s, all + first + b * p, p), block, sizeof block);
            snprintf(blocks + strlen(blocks), sizeof blocks - strlen(blocks), "%s%s",
                     !b               ? ""
                     : b + 1 == n / p ? " and "
                                      : ", ",
                     block);
        }
        devices_text(s, devices_intern(s, all + first, n), whole, sizeof whole);
        if (!blocks[0])
            return js_wrong(&d->js, e, "%s is no block of neighbours of the sequence group %s: %u does not divide %u",
                            devices_text(s, set, here, sizeof here), whole, p, n);
        return js_wrong(&d->js, e, "%s is no block of neighbours of the sequence group %s; these are %s",
                        devices_text(s, set, here, sizeof here), whole, blocks);
    }
    const uint32_t p = s->sets.at[s->listed_sets.at[d->first_shard_set]].n;
    if (d->n_shard_sets * p != total)
        return js_wrong(&d->js, e, "%u groups of %u devices, expected %u: all devices of the sequence groups",
                        d->n_shard_sets, p, total / p);
    return ST_OK;
}

static enum status check_tensor_groups(struct sched *s, const struct directive *d, struct err *e)
{
    uint32_t p = s->share.n;
    for (uint32_t c = 0; c < s->chunks.chunks.n && d->n_shard_sets; c++)
        if (filter_chunk(s, &d->filter, c)) {
            TRY(check_blocks(s, d, &s->directives.at[s->sequence_of[c]], e));
            p = s->sets.at[s->listed_sets.at[d->first_shard_set]].n;
            break;
        }
    if (s->share.tensor > 1 && s->share.tensor != p)
        return js_wrong(&d->js, e,
                        "tensor groups of %u devices, of another region %u; they are the same for all regions", p,
                        s->share.tensor);
    s->share.tensor = p;
    return ST_OK;
}

/* ---- finding ------------------------------------------------------------------------------------------------------- */

static bool has_op(const struct found *f, uint32_t o)
{
    for (uint32_t i = 0; i < f->n; i++)
        if (f->ops[i] == o)
            return true;
    return false;
}

static bool add_op(struct found *f, uint32_t o)
{
    if (has_op(f, o))
        return true;
    if (f->n == MAX_REGION)
        return false;
    f->ops[f->n++] = o;
    return true;
}

static uint32_t producer(const struct sched *s, uint32_t tensor)
{
    return tensor == IR_NONE ? IR_NONE : s->g->tensors.at[tensor].producer;
}

/* The one operator that reads a tensor; IR_NONE: there are several, or none. */
static uint32_t only_reader(const struct sched *s, uint32_t tensor)
{
    uint32_t found = IR_NONE;
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        for (int i = 0; i < IR_MAX_IN; i++)
            if (s->g->ops.at[o].in[i] == tensor) {
                if (found != IR_NONE)
                    return IR_NONE;
                found = o;
            }
    return found;
}

/* Between the linear operators and attention: works on each head, or each element, alone. What join_heads adds to each head comes from
 * outside of the region, and is the same for all. */
static bool acts_on_heads(const struct ir_node_op *op)
{
    return op->op == IR_OP_ROPE || op->op == IR_OP_RMSNORM || op->op == IR_OP_LAYERNORM || op->op == IR_OP_CLAMP ||
           op->op == IR_OP_JOIN_HEADS;
}

/* From an input of the core back to a linear operator, with what lies between. */
static bool walk_back(struct found *f, uint32_t tensor)
{
    const struct sched *s = f->s;
    uint32_t o = producer(s, tensor);
    while (o != IR_NONE && acts_on_heads(&s->g->ops.at[o]) && add_op(f, o))
        o = producer(s, s->g->ops.at[o].in[0]);
    return o != IR_NONE && s->g->ops.at[o].op == IR_OP_LINEAR && add_op(f, o);
}

/* Inputs of a core that linear operators make: not where documents begin. */
static uint32_t values_read(const struct ir_node_op *core)
{
    return ir_op_inputs((enum ir_op)core->op, &core->attrs) - (core->attrs.flags & IR_DOCUMENTS ? 1 : 0);
}

/* The operators of the region around a core, in f->ops; false: this is none. */
static bool find_region(struct found *f)
{
    const struct sched *s = f->s;
    const struct ir_node_op *core = &s->g->ops.at[f->core];
    f->n = 0;
    add_op(f, f->core);
    for (uint32_t i = 0; i < values_read(core); i++)
        if (!walk_back(f, core->in[i]))
            return false;
    uint32_t behind = only_reader(s, core->out[0]);
    return behind != IR_NONE && s->g->ops.at[behind].op == IR_OP_LINEAR && add_op(f, behind);
}

/* A region lies in one chunk, and what is made inside is read inside only. */
static enum status check_inside(const struct found *f, struct err *e)
{
    const struct sched *s = f->s;
    const struct directive *d = directive_of(f);
    const uint32_t last = f->ops[f->n - 1], chunk = s->chunks.chunk_of[f->core];
    char name[160], here[160], there[160];
    for (uint32_t i = 0; i < f->n; i++)
        if (s->chunks.chunk_of[f->ops[i]] != chunk)
            return js_wrong(&d->js, e, "%s lies in %s and %s; a region lies in one chunk",
                            region_name(f, name, sizeof name),
                            chunk_text(s, s->chunks.chunk_of[f->ops[i]], here, sizeof here),
                            chunk_text(s, chunk, there, sizeof there));
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        for (int k = 0; k < IR_MAX_IN && !has_op(f, o); k++) {
            uint32_t from = producer(s, s->g->ops.at[o].in[k]);
            if (from != IR_NONE && from != last && has_op(f, from))
                return js_wrong(&d->js, e, "%s is read outside of its region, by %s", s->g->ops.at[from].name,
                                s->g->ops.at[o].name);
        }
    for (uint32_t i = 0; i < f->n; i++)
        if (s->sides[f->ops[i]].directive != IR_NONE)
            return js_wrong(&d->js, e, "two shard directives with \"dim\":\"%s\" match %s", dim_text[d->dim],
                            region_name(f, name, sizeof name));
    return ST_OK;
}

/* ---- what a member has --------------------------------------------------------------------------------------------- */

static void set_side(const struct found *f, uint32_t o, enum ir_split split, uint32_t parts, uint32_t number)
{
    struct sched *s = f->s;
    struct op_side *side = &s->sides[o];
    enum ir_layout in[IR_MAX_IN], out[IR_MAX_OUT];
    ir_op_layouts((enum ir_op)s->g->ops.at[o].op, split, in, out);
    for (int i = 0; i < IR_MAX_IN; i++)
        side->in[i] = in[i] == IR_LAYOUT_KEYS ? IR_LAYOUT_COLUMNS : in[i];
    for (int i = 0; i < IR_MAX_OUT; i++)
        side->out[i] = out[i];
    side->split = split;
    side->parts = parts;
    side->directive = f->directive;
    s->regions[o] = number;
}

/* Splits a linear operator's output or input features. */
static enum status split_linear(const struct found *f, uint32_t o, enum ir_split split, uint32_t parts, uint32_t number,
                                struct err *e)
{
    struct sched *s = f->s;
    const struct ir_node_op *op = &s->g->ops.at[o];
    bool rows = split == IR_ROWS_OF_W;
    if (!ir_op_splits(IR_OP_LINEAR, &op->attrs, split, parts))
        return js_wrong(&directive_of(f)->js, e, "%s %s %u features, which do not split over %u devices", op->name,
                        rows ? "makes" : "reads", rows ? op->attrs.out_features : op->attrs.in_features, parts);
    set_side(f, o, split, parts, number);
    return ST_OK;
}

/* ---- ffn ----------------------------------------------------------------------------------------------------------- */

static bool is_ffn_core(const struct ir_node_op *op)
{
    return op->op == IR_OP_SWIGLU || op->op == IR_OP_GELU || op->op == IR_OP_ACT;
}

static enum status ffn_region(struct found *f, uint32_t number, struct err *e)
{
    struct sched *s = f->s;
    const uint32_t p = s->share.tensor;
    TRY(check_inside(f, e));
    for (uint32_t i = 1; i < f->n; i++)
        TRY(split_linear(f, f->ops[i], i + 1 < f->n ? IR_ROWS_OF_W : IR_COLUMNS_OF_W, p, number, e));
    set_side(f, f->core, IR_WIDTH, p, number);
    return ST_OK;
}

/* ---- head ---------------------------------------------------------------------------------------------------------- */

/* "2, 7 or 14"; of 1 "1" */
static const char *divisors_text(uint32_t n, char *text, size_t size)
{
    uint32_t last = 0;
    text[0] = '\0';
    for (uint32_t i = n > 1 ? 2 : 1; i <= n && strlen(text) + 24 < size; i++) {
        if (n % i)
            continue;
        size_t at = strlen(text);
        snprintf(text + at, size - at, "%s%u", !last ? "" : i == n ? " or " : ", ", i);
        last = i;
    }
    return text;
}

/* What serves where heads are not split. */
static const char *but_heads(const struct found *f)
{
    return directive_of(f)->layout ? "\"cp\" in place of it" : "leave \"head\" out and use \"context\"";
}

static enum status check_heads(const struct found *f, struct err *e)
{
    const struct sched *s = f->s;
    const struct ir_node_op *op = &s->g->ops.at[f->core];
    const uint32_t p = s->share.tensor, heads = op->attrs.heads, kv = op->attrs.kv_heads;
    const struct js *js = &directive_of(f)->js;
    char text[200];
    if (heads % p)
        return js_wrong(js, e, "%s has %u heads, which do not split over %u devices; use %s, or %s", op->name, heads, p,
                        divisors_text(heads, text, sizeof text), but_heads(f));
    if (kv % p && p % kv)
        return js_wrong(js, e, "%s has %u key/value heads for %u devices; one of the two must divide the other",
                        op->name, kv, p);
    return ST_OK;
}

/* The operators between a linear one and input i of attention. */
static enum status split_input(const struct found *f, uint32_t i, uint32_t number, struct err *e)
{
    struct sched *s = f->s;
    const struct ir_node_op *core = &s->g->ops.at[f->core];
    const uint32_t p = s->share.tensor, heads = i ? core->attrs.kv_heads : core->attrs.heads,
                   parts = heads < p ? heads : p;
    for (uint32_t o = producer(s, core->in[i]);; o = producer(s, s->g->ops.at[o].in[0])) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        if (op->op == IR_OP_LINEAR)
            return split_linear(f, o, IR_ROWS_OF_W, parts, number, e);
        const bool norm = op->op == IR_OP_RMSNORM || op->op == IR_OP_LAYERNORM;
        const bool joint = norm && heads > 1 && ir_op_norm_groups(&op->attrs) != heads;
        const enum ir_split split = op->op == IR_OP_CLAMP || joint ? IR_WIDTH : IR_HEADS;
        if (joint && !ir_op_splits((enum ir_op)op->op, &op->attrs, split, parts))
            return js_wrong(&directive_of(f)->js, e,
                            "%s norms several heads together, which is split for one rmsnorm of all of them only: %s%s",
                            op->name, directive_of(f)->layout ? "use " : "", but_heads(f));
        set_side(f, o, split, parts, number);
    }
}

static enum status head_region(struct found *f, uint32_t number, struct err *e)
{
    struct sched *s = f->s;
    const struct ir_node_op *core = &s->g->ops.at[f->core];
    const uint32_t p = s->share.tensor;
    TRY(check_inside(f, e));
    TRY(check_heads(f, e));
    for (uint32_t i = 0; i < values_read(core); i++)
        TRY(split_input(f, i, number, e));
    TRY(split_linear(f, f->ops[f->n - 1], IR_COLUMNS_OF_W, p, number, e));
    set_side(f, f->core, IR_HEADS, p, number);
    s->sides[f->core].joined = p;
    return ST_OK;
}

/* ---- vocab --------------------------------------------------------------------------------------------------------- */

static bool splits_words(const struct sched *s, uint32_t o)
{
    for (uint32_t i = 0; i < s->directives.n; i++) {
        const struct directive *d = &s->directives.at[i];
        if (d->kind == &directive_shard && d->dim == DIM_VOCAB && in_filter(s, d, o))
            return true;
    }
    return false;
}

/* A table is split wherever it is used, or nowhere. */
static enum status check_table(const struct found *f, uint32_t param, struct err *e)
{
    const struct sched *s = f->s;
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        if (s->g->ops.at[o].param[0] == param && !splits_words(s, o))
            return js_wrong(&directive_of(f)->js, e,
                            "%s is tied: \"vocab\" matches the embedding and the head, or neither",
                            s->g->params.at[param].name);
    return ST_OK;
}

static enum status vocab_region(struct found *f, uint32_t number, struct err *e)
{
    struct sched *s = f->s;
    const struct ir_node_op *op = &s->g->ops.at[f->core];
    const struct js *js = &directive_of(f)->js;
    const uint32_t p = s->share.tensor, v = op->attrs.vocab, block = (v + p - 1) / p;
    if (!ir_op_splits((enum ir_op)op->op, &op->attrs, IR_WORDS, p))
        return js_wrong(js, e, "%u words in %u blocks of %u leave device %u without any", v, p, block, p - 1);
    if (s->sides[f->core].directive != IR_NONE)
        return js_wrong(js, e, "two shard directives with \"dim\":\"vocab\" match %s", op->name);
    TRY(check_table(f, op->param[0], e));
    set_side(f, f->core, IR_WORDS, p, number);
    return ST_OK;
}

/* ---- context ------------------------------------------------------------------------------------------------------- */

static enum status context_region(struct found *f, uint32_t number, struct err *e)
{
    struct sched *s = f->s;
    const struct ir_node_op *op = &s->g->ops.at[f->core];
    struct op_side *side = &s->sides[f->core];
    const struct directive *d = directive_of(f);
    if (side->context)
        return js_wrong(&d->js, e, "two shard directives with \"dim\":\"context\" match %s", op->name);
    if (d->exchange != EXCHANGE_ALL_TO_ALL && op->in[0] == op->in[1])
        return js_wrong(&d->js, e, "%s reads its queries as keys too; a context region needs them apart", op->name);
    side->context = true;
    side->exchange = d->exchange;
    side->directive = f->directive;
    s->regions[f->core] = number;
    for (uint32_t i = 1; i < IR_MAX_IN && d->exchange == EXCHANGE_GATHER; i++)
        side->in[i] = IR_LAYOUT_KEYS;
    return ST_OK;
}

/* ---- directives ---------------------------------------------------------------------------------------------------- */

static const struct region_kind {
    const char *what; /* that a chunk does not have */
    enum status (*split)(struct found *f, uint32_t number, struct err *e);
    bool around; /* the core with its neighbours, else alone */
} kinds[DIMS] = {
    [DIM_HEAD] = { "attention between linear operators", head_region, true },
    [DIM_FFN] = { "swiglu or gelu between linear operators", ffn_region, true },
    [DIM_VOCAB] = { "embedding or head", vocab_region, false },
    [DIM_CONTEXT] = { "attention", context_region, false },
};

/* Every chunk of a region's filter has a sequence group. */
static enum status check_sequence(const struct sched *s, const struct directive *d, struct err *e)
{
    char text[160];
    TRY(filter_check(s, &d->filter, &d->js, e));
    for (uint32_t c = 0; c < s->chunks.chunks.n; c++)
        if (filter_chunk(s, &d->filter, c) && s->sequence_of[c] == IR_NONE)
            return js_wrong(&d->js, e, "\"dim\":\"%s\" needs a shard with \"dim\":\"sequence\" that covers %s",
                            dim_text[d->dim], chunk_text(s, c, text, sizeof text));
    return ST_OK;
}

static bool is_core(const struct ir_node_op *op, enum shard_dim dim)
{
    return dim == DIM_FFN     ? is_ffn_core(op)
           : dim == DIM_VOCAB ? op->op == IR_OP_HEAD_LOSS || op->op == IR_OP_EMBED
                              : op->op == IR_OP_ATTENTION;
}

static enum status nothing_to_split(const struct sched *s, const struct directive *d, struct err *e)
{
    char text[160];
    uint32_t c = 0;
    while (!filter_chunk(s, &d->filter, c))
        c++;
    const struct ir_node_op *op = &s->g->ops.at[s->chunks.ops.at[s->chunks.chunks.at[c].first_op]];
    chunk_text(s, c, text, sizeof text);
    if (op->op == IR_OP_EXPERTS && d->dim == DIM_FFN)
        return js_wrong(&d->js, e, "the experts of %s are split by \"dim\":\"expert\", not by \"ffn\"", text);
    return js_wrong(&d->js, e, "the filter matches %s, which has no %s: nothing to split by \"%s\"", text,
                    kinds[d->dim].what, dim_text[d->dim]);
}

/* All regions of a directive; number: of the last one. */
static enum status apply(struct sched *s, uint32_t directive, uint32_t *number, struct err *e)
{
    const struct directive *d = &s->directives.at[directive];
    const struct region_kind *kind = &kinds[d->dim];
    const uint32_t before = *number;
    if (d->dim != DIM_CONTEXT)
        TRY(check_tensor_groups(s, d, e));
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        struct found f = { .s = s, .directive = directive, .core = o };
        if (!in_filter(s, d, o) || !is_core(&s->g->ops.at[o], (enum shard_dim)d->dim) ||
            (kind->around && !find_region(&f)))
            continue;
        TRY(kind->split(&f, ++*number, e));
    }
    return *number == before ? nothing_to_split(s, d, e) : ST_OK;
}

/* ---- what needs whole sequences ------------------------------------------------------------------------------------ */

static enum status check_op(const struct sched *s, const struct directive *sequence, uint32_t o, struct err *e)
{
    const struct ir_node_op *op = &s->g->ops.at[o];
    const struct op_side *side = &s->sides[o];
    const uint32_t n = s->share.n, joined = side->joined;
    char text[160];
    if (op->op == IR_OP_ATTENTION && !side->context && joined < n) {
        chunk_text(s, s->chunks.chunk_of[o], text, sizeof text);
        return joined > 1
                   ? js_wrong(&sequence->js, e,
                              "attention of %s needs all tokens of its sequences; %u devices share them, its head "
                              "region joins %u: add \"dim\":\"context\"",
                              text, n, joined)
                   : js_wrong(&sequence->js, e,
                              "attention of %s needs all tokens of its sequences; %u devices share them: add "
                              "\"dim\":\"context\"",
                              text, n);
    }
    if (op->op == IR_OP_ATTENTION && s->share.context != n / joined)
        return js_wrong(&sequence->js, e,
                        "%s works on sequences in %u parts, other attention on %u; for now head regions match all "
                        "attention or none",
                        op->name, n / joined, s->share.context);
    return ST_OK;
}

/* Parts of a sequence by position: as many as the first attention does not join. */
static void find_context(struct sched *s)
{
    s->share.context = s->share.n;
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        if (s->g->ops.at[o].op == IR_OP_ATTENTION) {
            s->share.context /= s->sides[o].joined;
            return;
        }
}

static enum status check_order(const struct sched *s, const struct directive *sequence, struct err *e)
{
    const uint32_t t = s->g->seq_len, c = s->share.context;
    if (s->share.zigzag && c == 1)
        return js_wrong(&sequence->js, e,
                        "\"order\":\"zigzag\" needs a shard with \"dim\":\"context\"; use \"contiguous\"");
    for (uint32_t o = 0; o < s->g->ops.n && s->share.zigzag; o++)
        if (s->sides[o].context && s->sides[o].exchange == EXCHANGE_ALL_TO_ALL)
            return js_wrong(
                &sequence->js, e,
                "\"order\":\"zigzag\" balances nothing where \"exchange\" is \"all-to-all\": every device has "
                "all tokens of some heads; use \"contiguous\"");
    if (s->share.zigzag && t % (2 * c))
        return js_wrong(&sequence->js, e,
                        "zigzag cuts a sequence into 2 x %u equal chunks, %u tokens do not divide; use \"contiguous\"",
                        c, t);
    return ST_OK;
}

/* What pass_unpack leaves packed has no linear operator of its own. */
static enum status check_packed(const struct sched *s, struct err *e)
{
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        if (s->g->ops.at[o].op == IR_OP_ATTENTION && s->g->ops.at[o].attrs.flags & IR_PACKED)
            return js_wrong(
                &s->directives.at[s->sequence_of[s->chunks.chunk_of[o]]].js, e,
                "%s has packed q, k and v, which are taken apart where sequences are shared: this needs one "
                "linear operator that makes them for attention alone; give q, k and v as three inputs",
                s->g->ops.at[o].name);
    return ST_OK;
}

static void sides_init(struct sched *s)
{
    s->regions = arena_array(&s->arena, uint32_t, s->g->ops.n);
    s->sides = arena_array(&s->arena, struct op_side, s->g->ops.n);
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        s->sides[o] = (struct op_side){ .directive = IR_NONE, .parts = 1, .joined = 1 };
}

/* Attention whose heads are exchanged: each device of a sequence group has a block of them, and all tokens. */
static enum status turn_heads(struct sched *s, uint32_t o, struct err *e)
{
    const struct ir_node_op *op = &s->g->ops.at[o];
    struct op_side *side = &s->sides[o];
    const struct js *js = &s->directives.at[side->directive].js;
    const uint32_t parts = side->joined * s->share.context, heads = op->attrs.heads, kv = op->attrs.kv_heads;
    enum ir_layout in[IR_MAX_IN], out[IR_MAX_OUT];
    char text[200];
    if (heads % parts)
        return js_wrong(js, e, "%s has %u heads, which do not split over %u devices; use %s, or \"gather\" or \"ring\"",
                        op->name, heads, parts, divisors_text(heads, text, sizeof text));
    if (kv % parts)
        return js_wrong(
            js, e, "%s has %u key/value heads for %u devices, expected a multiple of %u; use \"gather\" or \"ring\"",
            op->name, kv, parts, parts);
    ir_op_layouts(IR_OP_ATTENTION, IR_TURNED, in, out);
    for (int i = 0; i < IR_MAX_IN; i++)
        side->in[i] = in[i];
    side->out[0] = out[0];
    side->split = IR_TURNED;
    side->parts = parts;
    return ST_OK;
}

/* Attention whose keys and values come one context part after the other. */
static enum status ring(struct sched *s, uint32_t o, struct err *e)
{
    const struct ir_node_op *op = &s->g->ops.at[o];
    struct op_side *side = &s->sides[o];
    const struct js *js = &s->directives.at[side->directive].js;
    const char *has = op->attrs.flags & IR_DOCUMENTS ? "documents that are kept apart"
                      : op->attrs.window             ? "a window"
                                                     : NULL;
    if (has)
        return js_wrong(js, e, "%s has %s, which \"exchange\":\"ring\" does not take; use \"gather\" or \"all-to-all\"",
                        op->name, has);
    side->split = IR_RING;
    side->parts = side->joined;
    return ST_OK;
}

/* What follows from all regions together. */
static enum status settle(struct sched *s, struct err *e)
{
    for (uint32_t o = 0; o < s->g->ops.n; o++) {
        const struct ir_node_op *op = &s->g->ops.at[o];
        const struct op_side *side = &s->sides[o];
        if (side->context && side->exchange == EXCHANGE_ALL_TO_ALL && s->share.context > 1)
            TRY(turn_heads(s, o, e));
        if (side->context && side->exchange == EXCHANGE_RING && s->share.context > 1)
            TRY(ring(s, o, e));
        if (op->attrs.flags & IR_DOCUMENTS)
            s->sides[o].in[ir_op_inputs((enum ir_op)op->op, &op->attrs) - 1] = IR_LAYOUT_STARTS;
    }
    return ST_OK;
}

enum status pass_region(struct sched *s, struct err *e)
{
    static const uint8_t order[] = { DIM_HEAD, DIM_FFN, DIM_VOCAB, DIM_CONTEXT };
    uint32_t number = 0;
    if (s->share.n > 1) {
        TRY(check_packed(s, e));
        sides_init(s);
    }
    for (size_t k = 0; k < sizeof order; k++)
        for (uint32_t i = 0; i < s->directives.n; i++) {
            const struct directive *d = &s->directives.at[i];
            if (d->kind != &directive_shard || d->dim != order[k])
                continue;
            TRY(check_sequence(s, d, e));
            if (s->sides)
                TRY(apply(s, i, &number, e));
        }
    if (!s->sides)
        return ST_OK;
    const struct directive *sequence = &s->directives.at[s->sequence_of[0]];
    TRY(counts_find(s, e));
    find_context(s);
    for (uint32_t o = 0; o < s->g->ops.n; o++)
        TRY(check_op(s, sequence, o, e));
    TRY(check_order(s, sequence, e));
    return settle(s, e);
}
