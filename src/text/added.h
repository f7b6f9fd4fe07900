/* Added tokens: words of a tokenizer that are found in the text as they are, before anything else is done with it. */
#ifndef PIPER_TEXT_ADDED_H
#define PIPER_TEXT_ADDED_H

#include "text/unicode.h"

struct added_token {
    char *text; /* owned; what is looked for, normalized where it is to be */
    uint32_t length, id;
    bool single_word;    /* only where no word character stands beside it */
    bool lstrip, rstrip; /* takes the white space before it, behind it */
    bool special;
};
struct added_node {
    uint32_t child, sibling; /* 0: none; the root is node 0 */
    uint32_t token;          /* index + 1; 0: no token ends here */
    unsigned char byte;
};
/* Those that are looked for at the same time: a trie. */
struct added_set {
    VEC(struct added_token);
    struct {
        VEC(struct added_node);
    } nodes;
    bool first[256]; /* bytes by which one begins */
};

/* `t.text` is the set's from now on. A token that is there already is replaced. */
void added_set_add(struct added_set *s, struct added_token t);
void added_set_free(struct added_set *s);

/* The longest token at the leftmost place in [at, end); false when there is none. `from`: up to where text is used already. */
struct added_match {
    const char *begin, *end; /* what it takes, with white space */
    const char *go_on;       /* where to look for the next */
    const struct added_token *token;
};
bool added_find(const struct added_set *s, const char *text, const char *from, const char *at, const char *end,
                bool plain_specials, struct added_match *m);

#endif
