/* piper data info: what is in a token file. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "cmd/data.h"
#include "io/file.h"
#include "io/tokens.h"

enum { FIRST = 100 /* tokens that are shown */, CLASSES = 40, BAR = 40, BLOCK = 4096, SOURCES = 10 };

static void print_about(const char *path, const struct tokens *t, const struct tokens_about *about)
{
    text_print(stdout, "%s: %" PRIu64 " tokens of %" PRIu32 " bytes", path, t->n_tokens, t->width);
    if (t->n_documents)
        printf(", %" PRIu64 " document%s", t->n_documents, t->n_documents == 1 ? "" : "s");
    if (t->file_vocab)
        printf(", vocabulary %" PRIu32, t->file_vocab);
    printf("%s\n", t->mask_at ? ", with a mask" : "");
    if (about->tokenizer)
        text_print(stdout, "tokenizer: %s (%" PRIu64 " bytes)\n", about->tokenizer, about->tokenizer_bytes);
    for (uint32_t i = 0; i < about->n_files && i < SOURCES; i++)
        text_print(stdout, "%s%s", i ? ", " : "from: ", about->files[i]);
    if (about->n_files > SOURCES)
        printf(", ... (%" PRIu32 " files)", about->n_files);
    if (about->n_files)
        printf("\n");
}

/* Lengths by powers of two. */
static enum status print_lengths(const struct tokens *t, struct err *e)
{
    uint64_t starts[BLOCK + 1], count[CLASSES] = { 0 }, most = 0;
    for (uint64_t at = 0; at < t->n_documents; at += BLOCK) {
        const uint64_t left = t->n_documents - at, n = left < BLOCK ? left : BLOCK;
        TRY(tokens_documents(t, at, left > BLOCK ? BLOCK + 1 : n, starts, e));
        if (left <= BLOCK)
            starts[n] = t->n_tokens;
        for (uint64_t i = 0; i < n; i++)
            count[63 - __builtin_clzll((starts[i + 1] - starts[i]) | 1)]++;
    }
    int first = 0, last = CLASSES - 1;
    while (first < last && !count[first])
        first++;
    while (last > first && !count[last])
        last--;
    for (int i = first; i <= last; i++)
        most = count[i] > most ? count[i] : most;
    printf("tokens a document:\n");
    for (int i = first; i <= last; i++) {
        char bar[BAR + 1] = "";
        const int length = most ? (int)((double)BAR * (double)count[i] / (double)most + 0.5) : 0;
        memset(bar, '#', (size_t)length);
        printf("%10llu to %-10llu %10" PRIu64 " %s\n", 1ull << i, (2ull << i) - 1, count[i], bar);
    }
    return ST_OK;
}

/* Control characters as \n and \xNN; what is no valid UTF-8 as U+FFFD. */
static void print_text(const struct text_bytes *b)
{
    struct text_bytes text = { 0 };
    utf8_repair(b->at, b->n, &text);
    for (size_t i = 0; i < text.n; i++) {
        const unsigned char c = (unsigned char)text.at[i];
        if (c == '\n')
            printf("\\n");
        else if (c < 0x20 || c == 0x7f)
            printf("\\x%02x", c);
        else
            putchar(c);
    }
    printf("\n");
    text_bytes_free(&text);
}

static enum status print_first(const struct tokens *t, const struct tokens_about *about, struct err *e)
{
    const uint32_t n = t->n_tokens < FIRST ? (uint32_t)t->n_tokens : FIRST;
    uint32_t ids[FIRST];
    uint16_t narrow[FIRST];
    TRY(file_pread(t->fd, t->path, t->width == 2 ? (void *)narrow : ids, (uint64_t)n * t->width, t->offset, e));
    for (uint32_t i = 0; i < n && t->width == 2; i++)
        ids[i] = narrow[i];
    printf("first %" PRIu32 ":", n);
    for (uint32_t i = 0; i < n; i++)
        printf(" %" PRIu32, ids[i]);
    printf("\n");
    struct text_bytes text = { 0 };
    if (about->tokenizer) {
        struct tokenizer *z;
        const char *file = about->tokenizer_file;
        char where[400];
        snprintf(where, sizeof where, "%.350s: /tokenizer", t->path);
        enum status st = tokenizer_from_bytes(file, about->tokenizer_bytes, NULL, where, &z, e);
        if (st == ST_USAGE) { /* a rank file: how it splits text does not matter here */
            err_clear(e);
            st = tokenizer_from_bytes(file, about->tokenizer_bytes, "gpt2", where, &z, e);
        }
        TRY(st);
        tokenizer_decode(z, ids, n, false, &text);
        tokenizer_free(z);
    } else if (t->file_vocab == 256) {
        for (uint32_t i = 0; i < n; i++)
            text_bytes_add(&text, &(char){ (char)ids[i] }, 1);
    }
    if (text.n)
        print_text(&text);
    text_bytes_free(&text);
    return ST_OK;
}

static enum status info(const char *path, struct err *e)
{
    struct tokens t;
    struct tokens_about about;
    struct arena a;
    TRY(tokens_open(path, 1, UINT32_MAX, &t, e));
    arena_init(&a);
    enum status st = tokens_describe(path, &a, &about, e);
    if (st == ST_OK)
        print_about(path, &t, &about);
    if (st == ST_OK && t.n_documents)
        st = print_lengths(&t, e);
    if (st == ST_OK)
        st = print_first(&t, &about, e);
    arena_release(&a);
    tokens_close(&t);
    return st;
}

enum status data_info(const struct data_request *r, struct err *e)
{
    for (uint32_t i = 0; i < r->files.n; i++)
        TRY(info(r->files.at[i], e));
    return ST_OK;
}
