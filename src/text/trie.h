/* Texts by their bytes: which of them begin here? First all are added, then it is packed, then searched. The root is node 0. */
#ifndef PIPER_TEXT_TRIE_H
#define PIPER_TEXT_TRIE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/mem.h"

enum { TRIE_NONE = UINT32_MAX };
struct trie_node {
    uint32_t child, sibling; /* lists; 0: none */
    uint32_t value;          /* of the text that ends here; TRIE_NONE: none does */
    uint32_t base;           /* packed: where its edges are */
    unsigned char byte;      /* that leads here */
};
struct trie {
    struct {
        VEC(struct trie_node);
    } node;
    struct trie_edge {
        uint32_t from, to; /* from: node + 1 */
    } * edge;              /* that of a byte lies at base + byte, if `from` says so */
    uint32_t n_edges;
};

/* The text is not empty. A later value replaces an earlier one. */
void trie_add(struct trie *t, const char *text, size_t n, uint32_t value);
void trie_pack(struct trie *t);
void trie_free(struct trie *t);

/* The node behind a byte, TRIE_NONE: no text goes on so. */
static inline uint32_t trie_step(const struct trie *t, uint32_t node, unsigned char byte)
{
    const struct trie_edge *edge = &t->edge[t->node.at[node].base + byte];
    return edge->from == node + 1 ? edge->to : TRIE_NONE;
}
static inline bool trie_is_empty(const struct trie *t)
{
    return t->node.n <= 1;
}
/* The longest text that begins at `text`: its length, 0: none. */
size_t trie_longest(const struct trie *t, const char *text, const char *end, uint32_t *value);
/* The value of a text, TRIE_NONE. */
uint32_t trie_find(const struct trie *t, const char *text, size_t n);

#endif
