/* Mutations: bits, bytes, words of tempting values, blocks that move, are doubled, cut out or come from another file. */
#include <ctype.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "tests/fuzz/fuzz.h"

uint64_t fuzz_next(struct fuzz_random *r)
{
    uint64_t x = r->state += UINT64_C(0x9e3779b97f4a7c15); /* SplitMix64 (Steele, Lea, Flood 2014) */
    x = (x ^ x >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    x = (x ^ x >> 27) * UINT64_C(0x94d049bb133111eb);
    return x ^ x >> 31;
}

uint64_t fuzz_below(struct fuzz_random *r, uint64_t n)
{
    return n ? fuzz_next(r) % n : 0;
}

static void flip_bit(struct fuzz_input *in, struct fuzz_random *r)
{
    in->at[fuzz_below(r, in->n)] ^= (unsigned char)(1u << fuzz_below(r, 8));
}

static void set_byte(struct fuzz_input *in, struct fuzz_random *r)
{
    in->at[fuzz_below(r, in->n)] = (unsigned char)fuzz_next(r);
}

/* Numbers at which sizes and counts go wrong. */
static void set_word(struct fuzz_input *in, struct fuzz_random *r)
{
    static const uint64_t tempting[] = { 0,          1,          2,          0x7f,       0xff,
                                         0x7fff,     0xffff,     0x7fffffff, 0x80000000, 0xffffffff,
                                         0xfffffffe, UINT64_MAX, INT64_MAX,  1ull << 32, 1ull << 48 };
    const size_t bytes = (size_t)1 << fuzz_below(r, 4);
    uint64_t value = tempting[fuzz_below(r, sizeof tempting / sizeof *tempting)];
    if (in->n < bytes)
        return;
    size_t at = fuzz_below(r, in->n - bytes + 1);
    if (fuzz_below(r, 2))
        at -= at % bytes;
    if (fuzz_below(r, 3) == 0) { /* one more or less than there was */
        memcpy(&value, in->at + at, bytes);
        value += fuzz_below(r, 2) ? 1 : UINT64_MAX;
    }
    memcpy(in->at + at, &value, bytes);
}

static void insert(struct fuzz_input *in, size_t at, const unsigned char *from, size_t n)
{
    if (in->n + n >= FUZZ_ROOM)
        return;
    unsigned char copy[256];
    n = n < sizeof copy ? n : sizeof copy;
    memcpy(copy, from, n);
    memmove(in->at + at + n, in->at + at, in->n - at);
    memcpy(in->at + at, copy, n);
    in->n += n;
}

static void double_block(struct fuzz_input *in, struct fuzz_random *r)
{
    const size_t from = fuzz_below(r, in->n);
    insert(in, fuzz_below(r, in->n + 1), in->at + from, 1 + fuzz_below(r, in->n - from < 256 ? in->n - from : 256));
}

static void copy_block(struct fuzz_input *in, struct fuzz_random *r)
{
    const size_t from = fuzz_below(r, in->n), to = fuzz_below(r, in->n), far = from > to ? from : to;
    memmove(in->at + to, in->at + from, 1 + fuzz_below(r, in->n - far < 256 ? in->n - far : 256));
}

static void cut(struct fuzz_input *in, struct fuzz_random *r)
{
    const size_t at = fuzz_below(r, in->n), n = 1 + fuzz_below(r, in->n - at < 64 ? in->n - at : 64);
    memmove(in->at + at, in->at + at + n, in->n - at - n);
    in->n -= n;
}

static void truncate_it(struct fuzz_input *in, struct fuzz_random *r)
{
    in->n = fuzz_below(r, in->n);
}

/* Pieces of the languages that are read. */
static void insert_word(struct fuzz_input *in, struct fuzz_random *r)
{
    static const char *const words[] = {
        "{",      "}",       "[",      "]",      ",",          ":",  "\"",      "null",     "true",    "-1",
        "1e308",  "0",       "\"*\"",  "\"-\"",  "{}",         "[]", "[[]]",    "1.5",      "\\u0000", "999999999999",
        "\"op\"", "\"0-9\"", "\"PP\"", "\"MB\"", "4294967295", "-0", "\x1b[2J", "\xc2\x9b", "\\u001b", "\r"
    };
    const char *w = words[fuzz_below(r, sizeof words / sizeof *words)];
    insert(in, fuzz_below(r, in->n + 1), (const unsigned char *)w, strlen(w));
}

/* A number in decimal becomes another one. */
static void change_digit(struct fuzz_input *in, struct fuzz_random *r)
{
    for (size_t i = fuzz_below(r, in->n), tries = 0; tries < in->n; tries++, i = (i + 1) % in->n)
        if (in->at[i] >= '0' && in->at[i] <= '9') {
            in->at[i] = (unsigned char)('0' + fuzz_below(r, 10));
            return;
        }
}

static bool in_token(unsigned char c)
{
    return isalnum(c) || c == '_' || c == '.' || c == '-';
}

/* Where a word or a number begins, at `at` or after it; *n: how long it is, 0 if there is none. */
static size_t token(const struct fuzz_input *in, size_t at, size_t *n)
{
    while (at < in->n && !in_token(in->at[at]))
        at++;
    for (*n = 0; at + *n < in->n && in_token(in->at[at + *n]);)
        ++*n;
    return at;
}

/* A power of 2, or one more or less; or what is no whole number. Returns how long it is. */
static size_t number(char text[32], struct fuzz_random *r)
{
    static const char *const others[] = { "-1", "0.5", "1e-9", "1e308" };
    if (fuzz_below(r, 8) == 0)
        return (size_t)sprintf(text, "%s", others[fuzz_below(r, sizeof others / sizeof *others)]);
    return (size_t)sprintf(text, "%" PRIu64, (UINT64_C(1) << fuzz_below(r, 64)) + fuzz_below(r, 3) - 1);
}

/* A word or a number becomes another one of the same file, or a number at which counts go wrong: text stays text of its language. */
static void change_token(struct fuzz_input *in, struct fuzz_random *r)
{
    size_t n, length;
    unsigned char copy[64];
    const size_t at = token(in, fuzz_below(r, in->n), &n), from = token(in, fuzz_below(r, in->n), &length);
    if (!n || !length || length > sizeof copy)
        return;
    memcpy(copy, in->at + from, length);
    if (isdigit(in->at[at]) && fuzz_below(r, 2))
        length = number((char *)copy, r);
    memmove(in->at + at, in->at + at + n, in->n - at - n);
    in->n -= n;
    insert(in, at, copy, length);
}

void fuzz_mutate(struct fuzz_input *in, const struct fuzz_input *other, struct fuzz_random *r)
{
    static void (*const ways[])(struct fuzz_input *,
                                struct fuzz_random *) = { flip_bit,    flip_bit,     set_byte,     set_word,
                                                          set_word,    double_block, copy_block,   cut,
                                                          insert_word, change_digit, change_token, change_token };
    for (uint64_t n = 1 + fuzz_below(r, 4); n-- > 0 && in->n;)
        ways[fuzz_below(r, sizeof ways / sizeof *ways)](in, r);
    if (in->n && fuzz_below(r, 32) == 0)
        truncate_it(in, r);
    if (in->n && other->n && fuzz_below(r, 8) == 0) {
        const size_t from = fuzz_below(r, other->n);
        insert(in, fuzz_below(r, in->n + 1), other->at + from,
               1 + fuzz_below(r, other->n - from < 256 ? other->n - from : 256));
    }
    in->at[in->n] = 0;
}
