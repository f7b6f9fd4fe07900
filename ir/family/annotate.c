/* "annotate": [{"tag":"PP","index":0,"match":["embed","layers.0-5"]}]: tags on regions of a model.
 *
 * A region is named by a prefix, up to a dot, of its operators' names: embed, layers.3, layers.3.attn,
 * layers.3.experts, norm, head. A match is a region name in which `*` stands for any text without a dot, and a
 * component a-b for the numbers a to b; it covers all operators of the regions it fits. Without index, the connected
 * parts of what an entry covers are numbered in data flow; either all entries of a tag have an index or none. An
 * operator gets a tag once. EP, PASS and MB come from the compiler. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/family/family.h"

/* ---- patterns ------------------------------------------------------------------------------------------------- */

/* "12" or "0-5": reads a number and moves on. */
static bool read_number(const char **s, const char *end, uint64_t *x)
{
    const char *first = *s;
    *x = 0;
    while (*s < end && isdigit((unsigned char)**s) && *s - first < 9)
        *x = *x * 10 + (uint64_t)(*(*s)++ - '0');
    return *s > first;
}

static bool is_range(const char *p, const char *end, uint64_t *a, uint64_t *b)
{
    return read_number(&p, end, a) && p < end && *p == '-' && (p++, read_number(&p, end, b)) && p == end;
}

/* One component; `*` is any text. Iterative: on a mismatch the last `*` takes one character more. */
static bool glob(const char *p, const char *p_end, const char *s, const char *s_end)
{
    const char *star = NULL, *retry = NULL;
    while (s < s_end) {
        if (p < p_end && *p == '*') {
            star = ++p;
            retry = s;
        } else if (p < p_end && *p == *s) {
            p++;
            s++;
        } else if (star) {
            p = star;
            s = ++retry;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '*')
        p++;
    return p == p_end;
}

static bool component_fits(const char *p, const char *p_end, const char *s, const char *s_end)
{
    uint64_t a, b, x;
    const char *digits = s;
    if (is_range(p, p_end, &a, &b) && read_number(&digits, s_end, &x) && digits == s_end)
        return a <= x && x <= b;
    return glob(p, p_end, s, s_end);
}

/* The pattern names a region that the operator is in. */
static bool covers(const char *pattern, const char *name)
{
    for (;;) {
        const char *p_end = pattern + strcspn(pattern, "."), *s_end = name + strcspn(name, ".");
        if (!component_fits(pattern, p_end, name, s_end))
            return false;
        if (!*p_end)
            return true;
        if (!*s_end)
            return false;
        pattern = p_end + 1;
        name = s_end + 1;
    }
}

/* ---- what exists ---------------------------------------------------------------------------------------------- */

/* First components of the operators' names in order, "layers.0-11" for numbered ones. */
static void list_regions(const struct ir_graph *g, char *text, size_t size)
{
    struct {
        VEC(char *);
    } seen = { 0 };
    size_t n = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < g->ops.n && n < size; i++) {
        const char *name = g->ops.at[i].name;
        size_t length = strcspn(name, ".");
        bool known = false;
        for (uint32_t k = 0; k < seen.n && !known; k++)
            known = strlen(seen.at[k]) == length && strncmp(seen.at[k], name, length) == 0;
        if (known || seen.n == 32)
            continue;
        char *copy = mem_strdup(name);
        copy[length] = '\0';
        vec_add(&seen, copy);
        uint64_t last = 0, x;
        bool numbered = false;
        for (uint32_t k = i; k < g->ops.n; k++) {
            const char *other = g->ops.at[k].name;
            if (strncmp(other, name, length) != 0 || other[length] != '.')
                continue;
            const char *rest = other + length + 1;
            if (read_number(&rest, rest + strcspn(rest, "."), &x) && (*rest == '.' || !*rest)) {
                numbered = true;
                last = x > last ? x : last;
            }
        }
        n += (size_t)snprintf(text + n, size - n, numbered ? "%s%s.0-%llu" : "%s%s", n ? ", " : "", copy,
                              (unsigned long long)last);
    }
    for (uint32_t k = 0; k < seen.n; k++)
        mem_free(seen.at[k]);
    vec_free(&seen);
}

/* ---- entries -------------------------------------------------------------------------------------------------- */

enum { UNCOVERED = 0 };

struct work {
    struct ir_graph *g;
    struct err *e;
    uint32_t *entry;     /* [ops]: 1 + the entry that covers the operator; of one tag */
    uint32_t *component; /* [ops]: union-find parent, of one tag */
};

/* Marks what the pattern covers as entry's. */
static enum status cover(const struct work *w, const struct js *v, const char *pattern, uint32_t tag, uint32_t entry)
{
    bool any = false;
    for (uint32_t i = 0; i < w->g->ops.n; i++) {
        struct ir_node_op *o = &w->g->ops.at[i];
        if (!covers(pattern, o->name))
            continue;
        any = true;
        if (w->entry[i] != UNCOVERED && w->entry[i] != entry + 1)
            return js_wrong(v, w->e, "\"%s\" covers operator %s, which entry %u already gives the tag %s", pattern,
                            o->name, w->entry[i] - 1, w->g->tags[tag]);
        if (w->entry[i] == UNCOVERED && o->tag[tag] != -1)
            return js_wrong(v, w->e, "\"%s\" covers operator %s, which already has the tag %s", pattern, o->name,
                            w->g->tags[tag]);
        w->entry[i] = entry + 1;
    }
    if (any)
        return ST_OK;
    char exist[512];
    list_regions(w->g, exist, sizeof exist);
    return js_expected(v, w->e, "a region of the model: %s, or a part of one such as layers.0.attn", exist);
}

/* A range that goes beyond what exists is a mistake, even if a part of it fits: both ends must fit alone. */
static enum status cover_ends(const struct work *w, const struct js *v, const char *pattern)
{
    for (const char *c = pattern; *c; c += strcspn(c, "."), c += *c == '.') {
        uint64_t ends[2];
        const char *c_end = c + strcspn(c, ".");
        if (!is_range(c, c_end, &ends[0], &ends[1]))
            continue;
        for (int k = 0; k < 2; k++) {
            char one[512];
            snprintf(one, sizeof one, "%.*s%llu%s", (int)(c - pattern), pattern, (unsigned long long)ends[k], c_end);
            bool any = false;
            for (uint32_t i = 0; i < w->g->ops.n && !any; i++)
                any = covers(one, w->g->ops.at[i].name);
            char exist[512];
            list_regions(w->g, exist, sizeof exist);
            if (!any || ends[0] > ends[1])
                return js_expected(v, w->e, "a range of existing regions: %s", exist);
        }
    }
    return ST_OK;
}

static uint32_t find_root(uint32_t *parent, uint32_t i)
{
    while (parent[i] != i)
        i = parent[i] = parent[parent[i]];
    return i;
}

/* Joins the covered operators that are neighbours in data flow and of one entry; the root is the first of them. */
static void connect(const struct work *w)
{
    const struct ir_graph *g = w->g;
    for (uint32_t i = 0; i < g->ops.n; i++)
        w->component[i] = i;
    for (uint32_t i = 0; i < g->ops.n; i++) {
        for (uint32_t k = 0; k < IR_MAX_IN; k++) {
            uint32_t t = g->ops.at[i].in[k];
            uint32_t p = t == IR_NONE ? IR_NONE : g->tensors.at[t].producer;
            if (p == IR_NONE || w->entry[p] == UNCOVERED || w->entry[p] != w->entry[i])
                continue;
            uint32_t a = find_root(w->component, p), b = find_root(w->component, i);
            w->component[a > b ? a : b] = a < b ? a : b;
        }
    }
}

static void number_components(const struct work *w, uint32_t tag)
{
    int32_t next = 0;
    connect(w);
    for (uint32_t i = 0; i < w->g->ops.n; i++) {
        if (w->entry[i] == UNCOVERED)
            continue;
        uint32_t root = find_root(w->component, i);
        w->g->ops.at[i].tag[tag] = root == i ? next++ : w->g->ops.at[root].tag[tag];
    }
}

enum status ir_check_tag_name(const struct js *v, const char *name, struct err *e)
{
    static const char *const ours[] = { "EP", "PASS", "MB" };
    for (int i = 0; i < 3; i++)
        if (strcmp(name, ours[i]) == 0)
            return js_expected(v, e, "PP or a name of your own: %s is reserved for the compiler", name);
    if (!*name || name[strspn(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")] != '\0')
        return js_expected(v, e, "a tag name of letters, digits, _ and -");
    return ST_OK;
}

/* One entry: covers its regions; gives the index when it has one. */
static enum status apply_entry(const struct work *w, const struct js *entry, uint32_t tag, uint32_t number,
                               bool *has_index)
{
    struct js match, v;
    uint32_t n;
    int64_t index = 0;
    TRY(js_opt(entry, "index", &v, w->e));
    *has_index = v.v != NULL;
    if (v.v)
        TRY(js_int(&v, 0, (1 << 20) - 1, &index, w->e));
    TRY(js_need(entry, "match", &match, w->e));
    TRY(js_count(&match, &n, w->e));
    if (n == 0)
        return js_expected(&match, w->e, "at least one region");
    for (uint32_t i = 0; i < n; i++) {
        const char *pattern;
        v = js_at(&match, i);
        TRY(js_str(&v, &pattern, w->e));
        if (strlen(pattern) > 200)
            return js_expected(&v, w->e, "at most 200 characters");
        TRY(cover(w, &v, pattern, tag, number));
        TRY(cover_ends(w, &v, pattern));
    }
    for (uint32_t i = 0; i < w->g->ops.n && *has_index; i++)
        if (w->entry[i] == number + 1)
            w->g->ops.at[i].tag[tag] = (int32_t)index;
    return ST_OK;
}

/* All entries from `first` on that have its tag; those done are marked. */
static enum status apply_tag(const struct work *w, const struct js *list, uint32_t n, uint32_t first, bool *done)
{
    static const char *const keys[] = { "tag", "index", "match", NULL };
    const char *name = NULL;
    uint32_t tag = IR_NONE;
    bool indexed = false;
    memset(w->entry, 0, sizeof *w->entry * w->g->ops.n);
    for (uint32_t i = first; i < n; i++) {
        struct js entry = js_at(list, i), v;
        const char *its_name;
        TRY(js_only(&entry, keys, w->e));
        TRY(js_need(&entry, "tag", &v, w->e));
        TRY(js_str(&v, &its_name, w->e));
        if (name && strcmp(name, its_name) != 0)
            continue;
        name = its_name;
        TRY(ir_check_tag_name(&v, name, w->e));
        tag = ir_graph_tag(w->g, name);
        if (tag == IR_NONE)
            return js_wrong(&v, w->e, "found more than %d tag names", IR_MAX_TAGS);
        bool has_index;
        TRY(apply_entry(w, &entry, tag, i, &has_index));
        if (i != first && has_index != indexed)
            return js_wrong(&entry, w->e, "give an index to every entry of tag %s or to none", name);
        indexed = has_index;
        done[i] = true;
    }
    if (!indexed)
        number_components(w, tag);
    return ST_OK;
}

enum status ir_annotate(const struct js *list, struct ir_graph *g, struct err *e)
{
    uint32_t n;
    TRY(js_count(list, &n, e));
    struct work w = { .g = g, .e = e };
    w.entry = mem_alloc(sizeof *w.entry * g->ops.n);
    w.component = mem_alloc(sizeof *w.component * g->ops.n);
    bool *done = mem_alloc(n);
    enum status st = ST_OK;
    for (uint32_t i = 0; i < n && st == ST_OK; i++)
        if (!done[i])
            st = apply_tag(&w, list, n, i, done);
    mem_free(done);
    mem_free(w.component);
    mem_free(w.entry);
    return st;
}
