#include "text/unigram.h"

#include "text/unicode.h"

void unigram_path_free(struct unigram_path *p)
{
    mem_free(p->end);
    vec_free(&p->piece);
}

/* What one call works on. Places are counted from `base`, which all ways pass. */
struct walk {
    const struct unigram *u;
    struct unigram_path *path;
    const char *text;
    size_t n, base;
    size_t reach; /* the last place at which a way ends */
};

/* A way to `place` that is better than the one there, or the first. */
static void offer(struct walk *w, size_t place, double score, struct unigram_piece last)
{
    struct unigram_path *path = w->path;
    if (place >= path->room) {
        const size_t room = 2 * place + 256;
        path->end = mem_realloc(path->end, room * sizeof *path->end);
        path->room = room;
    }
    for (; w->reach < place; w->reach++)
        path->end[w->reach + 1].last.length = 0;
    struct unigram_end *end = &path->end[place];
    if (end->last.length == 0 || score > end->score)
        *end = (struct unigram_end){ (float)score, last };
}

/* All pieces that begin at `place`; the character there, when it is none. */
static void extend(struct walk *w, size_t place)
{
    const struct unigram *u = w->u;
    const float till_here = w->path->end[place].score;
    const char *begin = w->text + w->base + place, *end = w->text + w->n, *behind = begin;
    uint32_t node = 0;
    bool single = false;
    utf8_next(&behind);
    for (const char *p = begin; p < end && (node = trie_step(&u->pieces, node, (unsigned char)*p)) != TRIE_NONE;) {
        const uint32_t id = u->pieces.node.at[node].value;
        p++;
        if (id == TRIE_NONE)
            continue;
        const uint32_t length = (uint32_t)(p - begin);
        /* the bonus of a user's symbol is a float64, other sums are not */
        if (u->always[id])
            offer(w, place + length, (double)((float)length * u->best) - 0.1 + (double)till_here,
                  (struct unigram_piece){ length, id });
        else
            offer(w, place + length, (double)(u->score[id] + till_here), (struct unigram_piece){ length, id });
        single |= p == behind;
    }
    if (!single) {
        const uint32_t length = (uint32_t)(behind - begin);
        offer(w, place + length, (double)(u->unknown + till_here), (struct unigram_piece){ length, TRIE_NONE });
    }
}

/* Hands on the way from `base` to `place`, which becomes the base. */
static void pass(struct walk *w, size_t place, void (*fn)(void *arg, const char *text, struct unigram_piece piece),
                 void *arg)
{
    struct unigram_path *path = w->path;
    path->piece.n = 0;
    for (size_t at = place; at > 0; at -= path->end[at].last.length)
        vec_add(&path->piece, path->end[at].last);
    const char *text = w->text + w->base;
    for (uint32_t i = path->piece.n; i-- > 0; text += path->piece.at[i].length)
        fn(arg, text, path->piece.at[i]);
    path->end[0].score = path->end[place].score;
    w->base += place;
    w->reach = 0;
}

void unigram_encode(const struct unigram *u, struct unigram_path *path, const char *text, size_t n,
                    void (*fn)(void *arg, const char *text, struct unigram_piece piece), void *arg)
{
    struct walk w = { .u = u, .path = path, .text = text, .n = n };
    if (!path->room) {
        path->room = 256;
        path->end = mem_alloc(path->room * sizeof *path->end);
    }
    path->end[0] = (struct unigram_end){ 0 };
    for (size_t place = 0; w.base + place < n;) {
        if (place && place == w.reach) {
            pass(&w, place, fn, arg);
            place = 0;
        }
        extend(&w, place);
        const char *behind = text + w.base + place;
        utf8_next(&behind);
        place = (size_t)(behind - text) - w.base;
    }
    if (n > w.base)
        pass(&w, n - w.base, fn, arg);
}
