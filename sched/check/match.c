/* The ends of communications, matched by node number and never by order: a send with its receive, a collective with all
 * members of its channel. */
#include "sched/check/check.h"

#include <inttypes.h>
#include <stdlib.h>

/* Sorts ends, which stand by class and instruction, by node, digit by digit: those of a node stay as they stand. */
static void sort_by_node(struct check_end *ends, uint32_t n)
{
    enum { BITS = 11, DIGITS = 1 << BITS };
    struct check_end *from = ends, *to = mem_alloc(((size_t)n + 1) * sizeof *to);
    uint32_t any = 0;
    for (uint32_t i = 0; i < n; i++)
        any |= ends[i].node;
    for (uint32_t shift = 0; shift < 32 && any >> shift; shift += BITS) {
        uint32_t at[DIGITS + 1] = { 0 };
        for (uint32_t i = 0; i < n; i++)
            at[(from[i].node >> shift) % DIGITS + 1]++;
        for (uint32_t k = 0; k < DIGITS; k++)
            at[k + 1] += at[k];
        for (uint32_t i = 0; i < n; i++)
            to[at[(from[i].node >> shift) % DIGITS]++] = from[i];
        struct check_end *sorted = to;
        to = from;
        from = sorted;
    }
    if (from != ends)
        memcpy(ends, from, n * sizeof *ends);
    mem_free(from != ends ? from : to);
}

static const struct plan_instr *instr_of(const struct check *c, const struct check_list *l, const struct check_end *end)
{
    return &check_instrs(c, l, end->cls)[end->instr];
}

/* The place of an end, for a message. */
static const char *end_text(const struct check *c, const struct check_list *l, const struct check_end *end,
                            char text[256])
{
    check_place_text(c, (struct check_place){ end->cls, l, end->instr }, text, 256);
    return text;
}

static enum status match_pair(const struct check *c, const struct check_list *l, const struct check_end *end,
                              uint32_t n)
{
    const struct plan_instr *a = instr_of(c, l, end);
    struct check_place at = { end->cls, l, end->instr };
    if (a->op == PLAN_EXCHANGE)
        return n == 1 ? ST_OK : check_wrong(c, RULE_MATCH, at, "%u more instructions have this node number", n - 1);
    if (n == 1)
        return check_wrong(c, RULE_MATCH, at, "has no %s: no other rank class has node %u",
                           a->op == PLAN_SEND ? "receive" : "send", a->node);
    const struct plan_instr *b = instr_of(c, l, end + 1);
    char text[256];
    if (n > 2 || (a->op == PLAN_SEND ? b->op != PLAN_RECV : b->op != PLAN_SEND))
        return check_wrong(c, RULE_MATCH, at,
                           "node %u is one send and one receive, but %u instructions have it, also %s", a->node, n,
                           end_text(c, l, end + 1, text));
    const uint32_t *s = c->classes[end->cls].set_seq, *t = c->classes[end[1].cls].set_seq;
    if (s[a->my_set] != t[b->peer_set] || s[a->peer_set] != t[b->my_set])
        return check_wrong(c, RULE_MATCH, at, "its sets are not those of %s, swapped", end_text(c, l, end + 1, text));
    if (a->pass != b->pass) /* forward and backward have lanes of their own */
        return check_wrong(c, RULE_MATCH, at, "its pass is %s, that of %s %s", ir_pass_name((enum ir_pass)a->pass),
                           end_text(c, l, end + 1, text), ir_pass_name((enum ir_pass)b->pass));
    if (a->tag != b->tag)
        return check_wrong(c, RULE_MATCH, at, "tag is %u, that of %s is %u", a->tag, end_text(c, l, end + 1, text),
                           b->tag);
    if (a->count != b->count || a->type != b->type)
        return check_wrong(c, RULE_MATCH, at, "%" PRIu64 " elements of %s, but %s has %" PRIu64 " of %s", a->count,
                           ir_dtype_name(a->type), end_text(c, l, end + 1, text), b->count, ir_dtype_name(b->type));
    return ST_OK;
}

static enum status match_collective(const struct check *c, const struct check_list *l, const struct check_end *end,
                                    uint32_t n)
{
    const struct plan_instr *a = instr_of(c, l, end);
    const struct plan_channel *ch = &c->classes[end->cls].p->channels[a->channel];
    struct check_place at = { end->cls, l, end->instr };
    const uint32_t *classes;
    uint32_t members = check_group_classes(c, end->cls, ch->group, &classes);
    for (uint32_t i = 0; i < n && i < members; i++) {
        const struct plan_instr *b = instr_of(c, l, &end[i]);
        const struct check_class *k = &c->classes[end[i].cls];
        char text[256];
        if (end[i].cls != classes[i])
            return check_wrong(c, RULE_MATCH, at,
                               "rank class %u is a member of communicator %u, but does not call it for node %u",
                               classes[i], ch->id, a->node);
        if (b->op != a->op || !check_is_collective(b->op) || k->p->channels[b->channel].id != ch->id)
            return check_wrong(c, RULE_MATCH, at, "%s has the same node, but another operation or communicator",
                               end_text(c, l, &end[i], text));
        if (b->count != a->count || b->type != a->type)
            return check_wrong(c, RULE_MATCH, at, "%" PRIu64 " elements of %s, but %s has %" PRIu64 " of %s", a->count,
                               ir_dtype_name(a->type), end_text(c, l, &end[i], text), b->count, ir_dtype_name(b->type));
    }
    if (n != members)
        return check_wrong(c, RULE_MATCH, at,
                           "%u rank classes are members of communicator %u, but %u instructions have node %u", members,
                           ch->id, n, a->node);
    return ST_OK;
}

struct tag_row {
    uint32_t from, to, tag;
    struct check_end end;
};

static int by_tag(const void *a, const void *b)
{
    const struct tag_row *x = a, *y = b;
    if (x->from != y->from)
        return x->from < y->from ? -1 : 1;
    if (x->to != y->to)
        return x->to < y->to ? -1 : 1;
    return (x->tag > y->tag) - (x->tag < y->tag);
}

/* Tags of a list are the numbers from 0 on per ordered pair of classes: so they are per ordered pair of ranks, and none is larger than a
 * transport can have. */
static enum status check_tags(const struct check *c, const struct check_list *l)
{
    struct {
        VEC(struct tag_row);
    } rows = { 0 };
    for (uint32_t i = 0; i < l->ends.n; i++) {
        const struct check_end *end = &l->ends.at[i];
        const struct plan_instr *in = instr_of(c, l, end);
        if (in->op != PLAN_SEND && in->op != PLAN_EXCHANGE)
            continue;
        const struct check_seq *peer = &c->seqs.at[c->classes[end->cls].set_seq[in->peer_set]];
        vec_add(&rows, ((struct tag_row){ end->cls, c->class_pool.at[peer->first_class], in->tag, *end }));
    }
    if (rows.n)
        qsort(rows.at, rows.n, sizeof *rows.at, by_tag);
    enum status st = ST_OK;
    for (uint32_t i = 1; i < rows.n && st == ST_OK; i++) {
        if (by_tag(&rows.at[i - 1], &rows.at[i]) != 0)
            continue;
        char text[256];
        const struct check_end *a = &rows.at[i - 1].end, *b = &rows.at[i].end;
        check_instr_text(c, (struct check_place){ b->cls, l, b->instr }, text, sizeof text);
        st = check_wrong(c, RULE_TAG, (struct check_place){ a->cls, l, a->instr },
                         "tag %u is also used by %s to the same rank class", rows.at[i].tag, text);
    }
    for (uint32_t i = 0, first = 0; i < rows.n && st == ST_OK; i++) {
        const struct tag_row *x = &rows.at[i];
        if (x->from != rows.at[first].from || x->to != rows.at[first].to)
            first = i;
        if (x->tag != i - first)
            st = check_wrong(c, RULE_TAG, (struct check_place){ x->end.cls, l, x->end.instr },
                             "tag is %u, expected %u: tags to a rank class are numbered from 0", x->tag, i - first);
    }
    vec_free(&rows);
    return st;
}

enum status check_match(struct check *c, struct check_list *l)
{
    for (uint32_t i = 0; i < c->n; i++) {
        const struct plan_instr *in = check_instrs(c, l, i);
        for (uint32_t k = 0; k < check_n_instrs(c, l, i); k++)
            if (check_is_comm(in[k].op))
                vec_add(&l->ends, ((struct check_end){ in[k].node, i, k }));
    }
    sort_by_node(l->ends.at, l->ends.n);
    l->comm_of = arena_array(&c->arena, uint32_t, l->base[c->n]);
    memset(l->comm_of, 0xff, sizeof *l->comm_of * (size_t)l->base[c->n]);
    for (uint32_t i = 0, n; i < l->ends.n; i += n) {
        for (n = 1; i + n < l->ends.n && l->ends.at[i + n].node == l->ends.at[i].node; n++)
            ;
        const struct check_end *end = &l->ends.at[i];
        if (check_is_collective(instr_of(c, l, end)->op))
            TRY(match_collective(c, l, end, n));
        else
            TRY(match_pair(c, l, end, n));
        for (uint32_t k = 0; k < n; k++)
            l->comm_of[l->base[end[k].cls] + end[k].instr] = l->comms.n;
        vec_add(&l->comms, ((struct check_comm){ i, n }));
    }
    return check_tags(c, l);
}
