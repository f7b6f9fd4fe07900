/* Tokenizers, patterns, texts, conversations, and token ids of other programs. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/tokens_import.h"
#include "text/chat.h"
#include "text/documents.h"
#include "tests/fuzz/fuzz.h"

/* What every tokenizer has to encode. */
static const char sample[] =
    "Hello, it's  a ram's \t\n\n  caf\xc3\xa9 <|endoftext|> 1234.5\r\n \xe4\xb8\xad\xe6\x96\x87 \xf0\x9f\x98\x80"
    "e\xcc\x81 \xd7\xa9\xd7\x9c\xd7\x95\xd7\x9d <mask> aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\n"
    "        if (x) { y(); }\nword\n";

static int use_tokenizer(struct tokenizer *t)
{
    struct err e = { 0 };
    struct token_ids ids = { 0 };
    struct text_bytes back = { 0 };
    struct encoder *x = encoder_new(t);
    enum status st = encoder_encode(x, sample, sizeof sample - 1, 0, &ids, &e);
    for (uint32_t i = 0; i < ids.n; i++)
        if (ids.at[i] >= t->n_vocab)
            abort();
    tokenizer_decode(t, ids.at, ids.n, true, &back);
    /* a text that is cut gives the same */
    const uint32_t whole = ids.n;
    const size_t cut = encode_cut(t, sample, sizeof sample - 3);
    if (st == ST_OK && cut) {
        st = encoder_encode(x, sample, cut, 0, &ids, &e);
        if (st == ST_OK)
            st = encoder_encode(x, sample + cut, sizeof sample - 1 - cut, ENCODE_CONTINUED, &ids, &e);
        if (st == ST_OK && (ids.n != 2 * whole || memcmp(ids.at, ids.at + whole, whole * sizeof *ids.at) != 0))
            abort();
    }
    encoder_free(x);
    vec_free(&ids);
    text_bytes_free(&back);
    tokenizer_free(t);
    return fuzz_answer(st, &e);
}

static int run(const struct fuzz_input *in, const char *pattern)
{
    struct err e = { 0 };
    struct tokenizer *t;
    const enum status st = tokenizer_from_bytes(in->at, in->n, pattern, "fuzz", &t, &e);
    return st == ST_OK ? use_tokenizer(t) : fuzz_answer(st, &e);
}

int fuzz_run_tokenizer(const struct fuzz_input *in, const char *path)
{
    (void)path;
    return run(in, NULL);
}

/* The tokenizer that conversations are made with; by corpus. */
static struct tokenizer *speaker;
static struct encoder *speaking;
static struct chat_template chatml;

void fuzz_open_chat(const char *path)
{
    struct err e = { 0 };
    if (tokenizer_open(path, NULL, &speaker, &e) != ST_OK ||
        chat_template_find("chatml", speaker, &chatml, &e) != ST_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(99);
    }
    speaking = encoder_new(speaker);
}

int fuzz_run_chat(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    struct chat_tokens out = { 0 };
    const char *why;
    struct text_bytes line = { 0 };
    utf8_repair((const char *)in->at, in->n, &line);
    text_bytes_add(&line, "", 1);
    const enum status st = chat_encode(&chatml, speaking, speaker, line.at, "messages", &out, &why, &e);
    if (out.mask.n != out.ids.n && !why)
        abort();
    chat_tokens_free(&out);
    text_bytes_free(&line);
    return st == ST_OK ? !why : fuzz_answer(st, &e);
}

int fuzz_run_ranks(const struct fuzz_input *in, const char *path)
{
    (void)path;
    return run(in, "cl100k");
}

int fuzz_run_pattern(const struct fuzz_input *in, const char *path)
{
    (void)path;
    struct err e = { 0 };
    struct pattern *p;
    if (memchr(in->at, 0, in->n))
        return 0;
    enum status st = pattern_new((const char *)in->at, in->n % 2 ? PATTERN_ONIGURUMA : PATTERN_TIKTOKEN, "fuzz", &p,
                                 &e);
    if (st != ST_OK)
        return fuzz_answer(st, &e);
    struct scan s;
    struct pattern_match m = { sample, sample };
    bool found = true;
    scan_open(&s, p);
    scan_begin(&s, sample, sizeof sample - 1);
    while (found && st == ST_OK && m.end < s.end) {
        const char *before = m.end;
        st = scan_next(&s, m.end, &m, &found, &e);
        if (st == ST_OK && found && (m.begin < before || m.end <= m.begin || m.end > s.end))
            abort();
    }
    scan_close(&s);
    pattern_free(p);
    return fuzz_answer(st, &e);
}

static int read_documents(const char *path, enum documents_kind kind)
{
    struct err e = { 0 };
    struct documents d;
    struct document_batch b = { 0 };
    const char *files[1] = { path };
    documents_open(&d, kind, "text", NULL, files, 1);
    enum status st;
    do
        st = documents_fill(&d, 1000, &b, &e);
    while (st == ST_OK && b.n);
    documents_close(&d);
    document_batch_free(&b);
    return fuzz_answer(st, &e);
}

int fuzz_run_lines(const struct fuzz_input *in, const char *path)
{
    (void)in;
    return read_documents(path, DOCUMENTS_JSONL);
}

int fuzz_run_packed(const struct fuzz_input *in, const char *path)
{
    (void)in;
    return read_documents(path, DOCUMENTS_TEXT);
}

static enum status count(void *arg, const struct tokens_part *part, struct err *e)
{
    (void)e;
    *(uint64_t *)arg += part->n;
    return ST_OK;
}

static int read_ids(const char *path)
{
    struct err e = { 0 };
    struct tokens_source s;
    uint64_t n = 0;
    enum status st = tokens_source_open(path, NULL, &s, &e);
    if (st == ST_OK)
        st = tokens_source_each(&s, 0, count, &n, &e);
    tokens_source_close(&s);
    return fuzz_answer(st, &e);
}

int fuzz_run_ids(const struct fuzz_input *in, const char *path)
{
    (void)in;
    return read_ids(path);
}

/* The input is an .idx; the ids beside it are 0. */
int fuzz_run_index(const struct fuzz_input *in, const char *path)
{
    char index[4200], ids[4200];
    snprintf(index, sizeof index, "%s.idx", path);
    snprintf(ids, sizeof ids, "%s.bin", path);
    FILE *f = fopen(index, "wb");
    if (!f || fwrite(in->at, 1, in->n, f) != in->n || fclose(f) != 0 || !(f = fopen(ids, "wb")) || fclose(f) != 0 ||
        truncate(ids, 20) != 0) {
        perror(index);
        exit(99);
    }
    const int accepted = read_ids(index);
    unlink(index);
    unlink(ids);
    return accepted;
}
