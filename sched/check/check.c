/* The checker's straight line, and its messages. */
#include "sched/check/check.h"

#include <stdio.h>

static const char *const rule_names[RULES] = {
    [RULE_SHAPE] = "shape",       [RULE_BINDING] = "binding", [RULE_CHANNEL] = "channel", [RULE_SHARDS] = "shards",
    [RULE_HOLDERS] = "holders",   [RULE_PROGRAM] = "program", [RULE_MATCH] = "match",     [RULE_TAG] = "tag",
    [RULE_DEADLOCK] = "deadlock", [RULE_ORDER] = "order",     [RULE_RACE] = "race",       [RULE_VALUE] = "value",
    [RULE_FIRST] = "first",       [RULE_REDUCE] = "reduce",   [RULE_GATHER] = "gather",   [RULE_UPDATE] = "update",
    [RULE_SCALARS] = "scalars",   [RULE_ROUNDS] = "rounds",   [RULE_COVER] = "cover",     [RULE_REPLICA] = "replica",
    [RULE_GRADIENT] = "gradient", [RULE_LAYOUT] = "layout",   [RULE_ALIGN] = "alignment", [RULE_SCRATCH] = "scratch",
};

const char *check_rule_name(enum check_rule rule)
{
    return rule_names[rule];
}

const char *check_instr_text(const struct check *c, struct check_place at, char *text, size_t size)
{
    const struct plan *p = c->classes[at.cls].p;
    const struct plan_instr *in = &check_instrs(c, at.l, at.cls)[at.instr];
    char what[96] = "";
    if (in->op == PLAN_RUN) {
        const struct plan_program *g = &p->programs[in->program];
        snprintf(what, sizeof what, " %s chunk %u sub-chunk %u", ir_pass_name(g->pass), g->chunk, g->sub);
    } else if (in->op == PLAN_SUMSQ || in->op == PLAN_UPDATE) {
        snprintf(what, sizeof what, " bucket %u", in->bucket);
    } else if (in->op == PLAN_LOAD) {
        snprintf(what, sizeof what, " %s", c->g->tensors.at[in->tensor].name);
    } else if (check_is_comm(in->op)) {
        snprintf(what, sizeof what, " node %u", in->node);
    }
    int n = snprintf(text, size, "%s[%u] %s%s", at.l->name, at.instr, plan_op_name(in->op), what);
    if (in->mb != UINT16_MAX && n > 0 && (size_t)n < size)
        snprintf(text + n, size - (size_t)n, " mb %u", in->mb);
    return text;
}

const char *check_place_text(const struct check *c, struct check_place at, char *text, size_t size)
{
    if (at.cls == PLAN_NONE) {
        snprintf(text, size, "the job");
        return text;
    }
    char devices[160], instr[256] = "";
    const struct check_seq *s = &c->seqs.at[c->classes[at.cls].devices];
    const struct plan *p = c->classes[at.cls].p;
    plan_ranges_text(&c->ranges.at[s->first_range], s->n_ranges, devices, sizeof devices);
    if (at.l)
        check_instr_text(c, at, instr, sizeof instr);
    snprintf(text, size, "rank %u of rank class %s%s%s", plan_set_at(p, p->h->devices, 0), devices, at.l ? ": " : "",
             instr);
    return text;
}

enum status check_wrong(const struct check *c, enum check_rule rule, struct check_place at, const char *fmt, ...)
{
    char place[512], text[1400];
    check_place_text(c, at, place, sizeof place);
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    return err_set(c->e, ST_BUG, "plan check", "rule %s: %s: %s", check_rule_name(rule), place, text);
}

/* What plans of one job have in common. */
static enum status check_shape(const struct check *c)
{
    const struct plan_header *a = c->classes[0].p->h;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct plan *p = c->classes[i].p;
        const struct plan_header *h = p->h;
        if (h->class_id != i || h->n_classes != c->n)
            return err_set(c->e, ST_BUG, "plan check", "rule shape: plan %u of %u says it is rank class %u of %u", i,
                           c->n, h->class_id, h->n_classes);
        if (h->world != a->world || h->n_channels_world != a->n_channels_world || h->compute != a->compute ||
            h->optimizer != a->optimizer || h->clip != a->clip || h->share != a->share || h->context != a->context ||
            h->tensor != a->tensor || h->zigzag != a->zigzag || h->count[PLAN_S_LISTS] != a->count[PLAN_S_LISTS])
            return err_set(c->e, ST_BUG, "plan check",
                           "rule shape: the plans of rank classes 0 and %u are of different jobs", i);
    }
    return ST_OK;
}

/* The list of class 0 with number `number`, by name in every class. */
static enum status find_list(struct check *c, uint32_t number, struct check_list *l)
{
    const struct plan *a = c->classes[0].p;
    const struct plan_list *first = &a->lists[number];
    l->name = a->text + first->name;
    l->train = strcmp(l->name, "train") == 0;
    if (!l->train && strcmp(l->name, "eval") != 0)
        return check_wrong(c, RULE_SHAPE, (struct check_place){ .cls = 0 },
                           "has a list \"%s\", expected \"train\" and \"eval\"", l->name);
    l->index = arena_array(&c->arena, uint32_t, c->n);
    l->base = arena_array(&c->arena, uint32_t, c->n + 1);
    uint64_t total = 0;
    for (uint32_t i = 0; i < c->n; i++) {
        const struct plan *p = c->classes[i].p;
        struct check_place at = { .cls = i };
        l->base[i] = (uint32_t)total;
        l->index[i] = plan_find_list(p, l->name);
        if (l->index[i] == PLAN_NONE)
            return check_wrong(c, RULE_SHAPE, at, "has no list \"%s\"", l->name);
        if (i == 0 && l->index[i] != number)
            return check_wrong(c, RULE_SHAPE, at, "has two lists \"%s\"", l->name);
        const struct plan_list *list = &p->lists[l->index[i]];
        if (list->microbatches != first->microbatches || list->microbatch_size != first->microbatch_size ||
            list->replicas != first->replicas)
            return check_wrong(c, RULE_SHAPE, at,
                               "list \"%s\": microbatches, their size or replicas differ from rank class 0", l->name);
        total += list->n_instr;
    }
    l->base[c->n] = (uint32_t)total;
    if (total >= PLAN_NONE)
        return check_wrong(c, RULE_SHAPE, (struct check_place){ .cls = PLAN_NONE }, "too many instructions");
    return ST_OK;
}

static enum status check_one_list(struct check *c, uint32_t number)
{
    struct check_list l = { 0 };
    enum status st = find_list(c, number, &l);
    static enum status (*const proofs[])(struct check *, const struct check_list *) = {
        check_run,    check_order,    check_bases, check_rounds, check_memory,
        check_values, check_replicas, check_steps, check_cover,
    };
    if (st == ST_OK)
        st = check_bind_list(c, &l);
    if (st == ST_OK)
        st = check_match(c, &l);
    for (size_t i = 0; i < sizeof proofs / sizeof *proofs && st == ST_OK; i++)
        st = proofs[i](c, &l);
    vec_free(&l.ends);
    vec_free(&l.comms);
    return st;
}

static enum status check_job(struct check *c)
{
    TRY(check_shape(c));
    check_gradients(c);
    TRY(check_bind_sets(c));
    TRY(check_bind_channels(c));
    TRY(check_sharing(c));
    TRY(check_params(c));
    TRY(check_places(c));
    TRY(check_programs(c));
    if (plan_find_list(c->classes[0].p, "train") == PLAN_NONE)
        return check_wrong(c, RULE_SHAPE, (struct check_place){ .cls = 0 }, "has no list \"train\"");
    for (uint32_t i = 0; i < c->classes[0].p->h->count[PLAN_S_LISTS]; i++)
        TRY(check_one_list(c, i));
    return ST_OK;
}

enum status sched_check(const struct plan *plans, uint32_t n_classes, const struct ir_graph *g,
                        const struct ir_target *target, struct err *e)
{
    if (n_classes == 0)
        return err_set(e, ST_BUG, "plan check", "rule shape: there is no plan");
    struct check c = { .g = g, .target = target, .e = e, .n = n_classes, .world = plans[0].h->world };
    arena_init(&c.arena);
    c.classes = arena_array(&c.arena, struct check_class, n_classes);
    for (uint32_t i = 0; i < n_classes; i++)
        c.classes[i].p = &plans[i];
    enum status st = check_job(&c);
    for (uint32_t i = 0; i < n_classes; i++)
        vec_free(&c.classes[i].uses);
    vec_free(&c.ranges);
    vec_free(&c.seqs);
    vec_free(&c.class_pool);
    mem_free(c.seq_table);
    arena_release(&c.arena);
    return st;
}
