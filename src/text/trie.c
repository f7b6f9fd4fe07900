#include "text/trie.h"

enum { BYTES = 256, TRIES = 32 /* places looked at before a node's edges go to the end */ };

static uint32_t add_node(struct trie *t, unsigned char byte)
{
    vec_add(&t->node, ((struct trie_node){ .value = TRIE_NONE, .byte = byte }));
    return t->node.n - 1;
}

static uint32_t child_of(const struct trie *t, uint32_t node, unsigned char byte)
{
    uint32_t child = t->node.at[node].child;
    while (child && t->node.at[child].byte != byte)
        child = t->node.at[child].sibling;
    return child;
}

void trie_add(struct trie *t, const char *text, size_t n, uint32_t value)
{
    uint32_t node = t->node.n ? 0 : add_node(t, 0);
    for (size_t i = 0; i < n; i++) {
        uint32_t next = child_of(t, node, (unsigned char)text[i]);
        if (!next) {
            next = add_node(t, (unsigned char)text[i]);
            t->node.at[next].sibling = t->node.at[node].child;
            t->node.at[node].child = next;
        }
        node = next;
    }
    t->node.at[node].value = value;
}

/* Are the places of a node's edges free when they begin at base? */
static bool fits(const struct trie *t, uint32_t node, uint32_t base)
{
    for (uint32_t c = t->node.at[node].child; c; c = t->node.at[c].sibling)
        if (t->edge[base + t->node.at[c].byte].from)
            return false;
    return true;
}

/* Room for the edges of a node that begin at base. */
static void make_room(struct trie *t, uint32_t base)
{
    if (base + BYTES <= t->n_edges)
        return;
    const uint32_t n = 2 * (base + BYTES);
    t->edge = mem_realloc(t->edge, n * sizeof *t->edge);
    for (uint32_t i = t->n_edges; i < n; i++)
        t->edge[i] = (struct trie_edge){ 0, 0 };
    t->n_edges = n;
}

/* Edges lie in one array, in the gaps of others (Aoe 1989). */
void trie_pack(struct trie *t)
{
    if (t->node.n == 0)
        add_node(t, 0);
    make_room(t, 0);
    uint32_t begin = 0, end = 0; /* from where places are looked at; behind all that are taken */
    for (uint32_t node = 0; node < t->node.n; node++) {
        uint32_t base = begin, tries = 0;
        if (!t->node.at[node].child)
            continue; /* base 0: its places say another node */
        for (make_room(t, base); !fits(t, node, base) && ++tries < TRIES; make_room(t, base))
            base++;
        if (tries == TRIES) {
            begin += TRIES / 4;
            make_room(t, base = end);
        }
        t->node.at[node].base = base;
        for (uint32_t c = t->node.at[node].child; c; c = t->node.at[c].sibling) {
            const uint32_t at = base + t->node.at[c].byte;
            t->edge[at] = (struct trie_edge){ node + 1, c };
            end = at + 1 > end ? at + 1 : end;
        }
    }
}

void trie_free(struct trie *t)
{
    mem_free(t->edge);
    vec_free(&t->node);
}

size_t trie_longest(const struct trie *t, const char *text, const char *end, uint32_t *value)
{
    size_t longest = 0;
    uint32_t node = 0;
    if (trie_is_empty(t))
        return 0;
    for (const char *p = text; p < end && (node = trie_step(t, node, (unsigned char)*p)) != TRIE_NONE;) {
        p++;
        if (t->node.at[node].value != TRIE_NONE) {
            longest = (size_t)(p - text);
            *value = t->node.at[node].value;
        }
    }
    return longest;
}

uint32_t trie_find(const struct trie *t, const char *text, size_t n)
{
    uint32_t node = trie_is_empty(t) ? TRIE_NONE : 0;
    for (size_t i = 0; i < n && node != TRIE_NONE; i++)
        node = trie_step(t, node, (unsigned char)text[i]);
    return n && node != TRIE_NONE ? t->node.at[node].value : TRIE_NONE;
}
