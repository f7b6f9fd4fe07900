/* Expressions to programs. A tree is made first; then operations are written from its end to its begin, so that each knows
 * what follows it. */
#include <string.h>

#include "text/pattern.h"

enum node_kind { NODE_SET, NODE_AHEAD, NODE_END, NODE_SEQUENCE, NODE_CHOICE };
struct node {
    enum node_kind kind;
    struct node *child, *sibling; /* of SEQUENCE and CHOICE; an alternative is a SEQUENCE */
    uint32_t set;
    uint16_t min, max;
    bool keeps, negative;
};
struct parsing {
    struct pattern *p;
    struct unicode_set *sets;
    const char *at;
    struct arena nodes;
    int depth;
};

static struct node *read_choice(struct parsing *s, bool fold);

static struct node *new_node(struct parsing *s, enum node_kind kind)
{
    struct node *n = arena_new(&s->nodes, struct node);
    *n = (struct node){ .kind = kind, .min = 1, .max = 1 };
    return n;
}

static bool equal(const struct unicode_set *a, const struct unicode_set *b)
{
    return a->n == b->n && memcmp(a->at, b->at, a->n * sizeof *a->at) == 0;
}

/* The number of the set that *at is on, or PATTERN_SETS. */
static uint32_t read_set(struct parsing *s, bool fold)
{
    struct unicode_set set = { 0 };
    uint32_t i = 0;
    if (!pattern__read_set(&s->at, fold, &set)) {
        vec_free(&set);
        return PATTERN_SETS;
    }
    unicode_set_has(&set, 0); /* sorts */
    while (i < s->p->n_sets && !equal(&set, &s->sets[i]))
        i++;
    if (i < s->p->n_sets || i == PATTERN_SETS) {
        vec_free(&set);
        return i;
    }
    s->sets[s->p->n_sets++] = set;
    return i;
}

static bool read_number(const char **at, uint16_t *x)
{
    uint32_t v = 0;
    if (**at < '0' || **at > '9')
        return false;
    while (**at >= '0' && **at <= '9' && v < 10000)
        v = v * 10 + (uint32_t)(*(*at)++ - '0');
    *x = (uint16_t)v;
    return v < 10000;
}

/* ? * + {n} {n,} {n,m}, and a + behind them. */
static bool read_count(struct parsing *s, struct node *n)
{
    const char c = *s->at;
    if (c == '{') {
        s->at++;
        if (!read_number(&s->at, &n->min))
            return false;
        n->max = n->min;
        if (*s->at == ',') {
            n->max = PATTERN_MANY;
            if (*++s->at != '}' && !read_number(&s->at, &n->max))
                return false;
        }
        if (*s->at++ != '}' || n->max < n->min || n->max == 0)
            return false;
    } else if (c && strchr("?*+", c)) {
        s->at++;
        n->min = c == '+';
        n->max = c == '?' ? 1 : PATTERN_MANY;
    } else {
        return true;
    }
    if (*s->at == '+') {
        s->at++;
        if (c != '{' || s->p->dialect == PATTERN_TIKTOKEN)
            n->keeps = true;
        else if (n->min == 1)
            n->max = PATTERN_MANY; /* a count of counts */
        else
            return false;
    }
    return *s->at != '?' && *s->at != '*';
}

/* (?:...), (?i:...), (?!x), (?=x). */
static struct node *read_group(struct parsing *s, bool fold)
{
    if (strncmp(s->at, "(?!", 3) == 0 || strncmp(s->at, "(?=", 3) == 0) {
        struct node *n = new_node(s, NODE_AHEAD);
        n->negative = s->at[2] == '!';
        s->at += 3;
        n->set = read_set(s, fold);
        return n->set < PATTERN_SETS && *s->at++ == ')' ? n : NULL;
    }
    fold = fold || strncmp(s->at, "(?i:", 4) == 0;
    s->at += strncmp(s->at, "(?i:", 4) == 0 ? 4 : strncmp(s->at, "(?:", 3) == 0 ? 3 : 1;
    if (*s->at == '?' || *s->at == '*' || ++s->depth > 8)
        return NULL;
    struct node *n = read_choice(s, fold);
    s->depth--;
    if (!n || *s->at++ != ')' || !read_count(s, n) || n->max != 1 || n->keeps)
        return NULL;
    return n;
}

static struct node *read_item(struct parsing *s, bool fold)
{
    if (*s->at == '(')
        return read_group(s, fold);
    if (*s->at == '$') {
        s->at++;
        return new_node(s, NODE_END);
    }
    if (strchr(".^?*+{}", *s->at))
        return NULL;
    struct node *n = new_node(s, NODE_SET);
    n->set = read_set(s, fold);
    return n->set < PATTERN_SETS && read_count(s, n) ? n : NULL;
}

static struct node *read_choice(struct parsing *s, bool fold)
{
    struct node *choice = new_node(s, NODE_CHOICE), **alternative = &choice->child;
    for (;;) {
        struct node **item;
        *alternative = new_node(s, NODE_SEQUENCE);
        item = &(*alternative)->child;
        while (*s->at && *s->at != '|' && *s->at != ')') {
            *item = read_item(s, fold);
            if (!*item)
                return NULL;
            item = &(*item)->sibling;
        }
        if (*s->at != '|')
            return choice;
        s->at++;
        alternative = &(*alternative)->sibling;
    }
}

/* ---- writing ---- */

static bool disjoint(struct unicode_set *a, struct unicode_set *b)
{
    for (uint32_t i = 0, j = 0; i < a->n && j < b->n;) {
        if (a->at[i].last < b->at[j].first)
            i++;
        else if (b->at[j].last < a->at[i].first)
            j++;
        else
            return false;
    }
    return true;
}

static uint16_t write_op(struct parsing *s, struct pattern_op op)
{
    if (s->p->n_ops < PATTERN_OPS)
        s->p->op[s->p->n_ops] = op;
    return (uint16_t)s->p->n_ops++;
}

static uint16_t write_node(struct parsing *s, const struct node *n, uint16_t next);

/* The children from the last one on. */
static uint16_t write_children(struct parsing *s, const struct node *n, uint16_t next)
{
    return n ? write_node(s, n, write_children(s, n->sibling, next)) : next;
}

static uint16_t write_alternatives(struct parsing *s, const struct node *n, uint16_t next, bool may_miss)
{
    const uint16_t first = write_children(s, n->child, next);
    if (!n->sibling && !may_miss)
        return first;
    const uint16_t other = n->sibling ? write_alternatives(s, n->sibling, next, may_miss) : next;
    return write_op(s, (struct pattern_op){ .kind = PATTERN_ALT, .next = first, .other = other });
}

static uint16_t write_node(struct parsing *s, const struct node *n, uint16_t next)
{
    struct pattern_op op = { .next = next };
    switch (n->kind) {
    case NODE_SET: {
        const struct pattern_op *after = next < PATTERN_OPS ? &s->p->op[next] : NULL;
        op = (struct pattern_op){ PATTERN_SET, n->keeps, n->min, n->max, next, 0, 1u << n->set };
        if (after && after->kind == PATTERN_SET && after->min > 0)
            op.keeps |= disjoint(&s->sets[n->set], &s->sets[__builtin_ctz(after->mask)]);
        break;
    }
    case NODE_AHEAD:
        op.kind = n->negative ? PATTERN_NOT_AHEAD : PATTERN_AHEAD;
        op.mask = 1u << n->set;
        break;
    case NODE_END:
        op.kind = PATTERN_END;
        break;
    case NODE_SEQUENCE:
        return write_children(s, n->child, next);
    case NODE_CHOICE:
        return write_alternatives(s, n->child, next, n->min == 0);
    }
    return write_op(s, op);
}

bool pattern__parse(struct pattern *p, struct unicode_set *sets)
{
    struct parsing s = { .p = p, .sets = sets, .at = p->text };
    arena_init(&s.nodes);
    const struct node *n = read_choice(&s, false);
    bool good = n && !*s.at;
    if (good) {
        const uint16_t accept = write_op(&s, (struct pattern_op){ .kind = PATTERN_ACCEPT });
        for (const struct node *a = n->child; a && good; a = a->sibling) {
            good = p->n_starts < PATTERN_SETS;
            if (good)
                p->start[p->n_starts++] = write_children(&s, a->child, accept);
        }
    }
    arena_release(&s.nodes);
    return good && p->n_ops <= PATTERN_OPS;
}
