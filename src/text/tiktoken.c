/* Rank files of tiktoken: lines of a token in base64 and its rank. A rank is the token's id and the order of its merges. */
#include <stdlib.h>
#include <string.h>

#include "text/tokenizer.h"

/* The expressions of tiktoken's encodings of these names, and the ids of what they add to so many ranks. */
static const struct encoding {
    const char *name, *expression;
    uint32_t ranks, end_of_text;
} encodings[] = {
    { "gpt2", tokenizer__gpt2_split, 50256, 50256 },
    { "cl100k",
      "'(?i:[sdmt]|ll|ve|re)|[^\\r\\n\\p{L}\\p{N}]?+\\p{L}++|\\p{N}{1,3}+| "
      "?[^\\s\\p{L}\\p{N}]++[\\r\\n]*+|\\s++$|\\s*[\\r\\n]|"
      "\\s+(?!\\S)|\\s",
      100256, 100257 },
    { "o200k",
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]*[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]+(?i:'s|'t|'re|'ve|'m|'"
      "ll|'d)?|"
      "[^\\r\\n\\p{L}\\p{N}]?[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]+[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]*(?i:'s|'t|'re|'ve|'m|'"
      "ll|'d)?|"
      "\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
      199998, 199999 },
};

static int sextet(char c)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = c ? strchr(digits, c) : NULL;
    return at ? (int)(at - digits) : -1;
}

/* Base64 from *at to a blank. False: it is none, or longer than a token may be. */
static bool read_base64(const char **at, char token[TOKENIZER_WORD * 16], uint32_t *n)
{
    uint32_t bits = 0, held = 0;
    for (*n = 0; sextet(**at) >= 0; ++*at) {
        bits = bits << 6 | (uint32_t)sextet(**at);
        held += 6;
        if (held < 8)
            continue;
        held -= 8;
        if (*n == TOKENIZER_WORD * 16)
            return false;
        token[(*n)++] = (char)(bits >> held & 0xff);
    }
    while (**at == '=')
        ++*at;
    return *n > 0 && *(*at)++ == ' ';
}

static enum status read_ranks(struct tokenizer *t, struct err *e)
{
    uint32_t line = 1;
    for (const char *p = t->file, *end = p + t->file_bytes; p < end; line++) {
        char token[TOKENIZER_WORD * 16], *behind;
        uint32_t n;
        if (*p == '\n' || *p == '\r') {
            p++;
            continue;
        }
        unsigned long rank = VOCABULARY_MOST;
        if (read_base64(&p, token, &n) && *p >= '0' && *p <= '9')
            rank = strtoul(p, &behind, 10);
        if (rank >= VOCABULARY_MOST || (behind < end && *behind != '\n' && *behind != '\r'))
            return err_set(e, ST_INPUT, t->path,
                           "line %u: expected a token in base64, a space and its rank below %d; a tokenizer is a "
                           "tokenizer.json or a tiktoken rank file",
                           line, VOCABULARY_MOST);
        if (!vocabulary_add(&t->bpe.vocabulary, token, n, (uint32_t)rank))
            return err_set(e, ST_INPUT, t->path, "line %u: the token or its rank %lu is there already", line, rank);
        p = behind;
    }
    return t->bpe.vocabulary.used ? ST_OK : err_set(e, ST_INPUT, t->path, "holds no token");
}

/* Counts, or adds, the pairs of tokens that make a token. Pairs of one token have one rank: the leftmost goes first. */
static uint32_t each_pair(struct bpe *b, bool add)
{
    const struct vocabulary *v = &b->vocabulary;
    uint32_t pairs = 0;
    for (uint32_t id = 0; id < v->n; id++) {
        uint32_t n;
        const char *bytes = vocabulary_bytes(v, id, &n);
        for (uint32_t cut = 1; bytes && cut < n; cut++) {
            const uint32_t left = vocabulary_find(v, bytes, cut), right = vocabulary_find(v, bytes + cut, n - cut);
            if (left == VOCABULARY_NONE || right == VOCABULARY_NONE)
                continue;
            pairs++;
            if (add)
                bpe_add_merge(b, left, right, id, id);
        }
    }
    return pairs;
}

enum status tokenizer__read_tiktoken(struct tokenizer *t, const char *pattern, struct err *e)
{
    struct bpe *b = &t->bpe;
    const struct encoding *named = NULL;
    TRY(read_ranks(t, e));
    if (!pattern)
        return err_set(
            e, ST_USAGE, t->path,
            "is a tiktoken rank file, which does not say how text is split: add --pattern gpt2, cl100k, o200k or "
            "the regular expression");
    for (size_t i = 0; i < sizeof encodings / sizeof *encodings; i++)
        if (strcmp(pattern, encodings[i].name) == 0)
            named = &encodings[i];
    b->bytes = b->ignore_merges = true;
    bpe_reserve(b, each_pair(b, false));
    each_pair(b, true);
    for (uint32_t byte = 0; byte < 256; byte++) {
        const char c = (char)byte;
        b->byte[byte] = vocabulary_find(&b->vocabulary, &c, 1);
        if (b->byte[byte] == VOCABULARY_NONE)
            return err_set(e, ST_INPUT, t->path, "has no token for the byte 0x%02x, expected all 256", byte);
    }
    const uint32_t id = named && b->vocabulary.n == named->ranks ? named->end_of_text : b->vocabulary.n;
    const struct added_token end = { .text = (char *)"<|endoftext|>", .length = 13, .id = id, .special = true };
    vocabulary_add_hidden(&b->vocabulary, end.text, end.length, id);
    tokenizer__add(t, &end, false);
    t->n_stages = 1;
    return pattern_new(named ? named->expression : pattern, PATTERN_TIKTOKEN, "--pattern", &t->stage[0].pattern, e);
}
