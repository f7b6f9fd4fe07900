#include "text/added.h"

#include <string.h>

static uint32_t step(const struct added_set *s, uint32_t node, unsigned char byte)
{
    uint32_t child = s->nodes.at[node].child;
    while (child && s->nodes.at[child].byte != byte)
        child = s->nodes.at[child].sibling;
    return child;
}

void added_set_add(struct added_set *s, struct added_token t)
{
    uint32_t node = 0;
    if (s->nodes.n == 0)
        vec_add(&s->nodes, ((struct added_node){ 0 }));
    for (uint32_t i = 0; i < t.length; i++) {
        uint32_t next = step(s, node, (unsigned char)t.text[i]);
        if (!next) {
            next = s->nodes.n;
            const struct added_node new = { 0, s->nodes.at[node].child, 0, (unsigned char)t.text[i] };
            vec_add(&s->nodes, new);
            s->nodes.at[node].child = next;
        }
        node = next;
    }
    s->first[(unsigned char)t.text[0]] = true;
    if (s->nodes.at[node].token) {
        struct added_token *old = &s->at[s->nodes.at[node].token - 1];
        mem_free(old->text);
        *old = t;
        return;
    }
    vec_add(s, t);
    s->nodes.at[node].token = s->n;
}

void added_set_free(struct added_set *s)
{
    for (uint32_t i = 0; i < s->n; i++)
        mem_free(s->at[i].text);
    vec_free(s);
    vec_free(&s->nodes);
}

static const struct added_token *longest(const struct added_set *s, const char *at, const char *end)
{
    uint32_t node = 0, found = 0;
    for (; at < end && (node = step(s, node, (unsigned char)*at)); at++)
        if (s->nodes.at[node].token)
            found = s->nodes.at[node].token;
    return found ? &s->at[found - 1] : NULL;
}

static bool word_before(const char *text, const char *at)
{
    if (at == text)
        return false;
    at = utf8_back(at);
    return unicode_is_word(utf8_next(&at));
}

static bool word_behind(const char *at, const char *end)
{
    return at < end && unicode_is_word(utf8_next(&at));
}

static const char *white_before(const char *text, const char *at)
{
    while (at > text) {
        const char *before = utf8_back(at), *p = before;
        if (!unicode_is_white(utf8_next(&p)))
            break;
        at = before;
    }
    return at;
}

static const char *white_behind(const char *at, const char *end)
{
    for (const char *p = at; p < end && unicode_is_white(utf8_next(&p)); at = p)
        ;
    return at;
}

/* Four of the parameters are places of one text. */
bool added_find(const struct added_set *s, const char *text, const char *from, const char *at, const char *end,
                bool plain_specials, struct added_match *m)
{
    for (; s->n && at < end; at++) {
        if (!s->first[(unsigned char)*at])
            continue;
        const struct added_token *t = longest(s, at, end);
        if (!t)
            continue;
        const char *behind = at + t->length;
        if ((plain_specials && t->special) || (t->single_word && (word_before(text, at) || word_behind(behind, end)))) {
            at = behind - 1;
            continue;
        }
        *m = (struct added_match){ at, behind, behind, t };
        if (t->lstrip) {
            const char *white = white_before(text, at);
            m->begin = white > from ? white : from;
        }
        if (t->rstrip)
            m->end = white_behind(behind, end);
        return true;
    }
    return false;
}
