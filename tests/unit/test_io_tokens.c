/* Token files and the order of the data. */
#include "io/tokens.h"

#include <unistd.h>

#include "base/mem.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/h5.h"
#include "io/order.h"
#include "io/tokens_import.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/suite.h"

static struct err e;
static const char *folder;
static char path[300], other[300];

static void make_folder(void)
{
    folder = sample_folder();
    tokens_block = 1 << 20;
    snprintf(path, sizeof path, "%s/tokens.h5", folder);
    snprintf(other, sizeof other, "%s/other", folder);
    err_clear(&e);
}

static void drop_folder(void)
{
    sample_folder_remove(folder);
}

/* Writes a shard as llm.c does. */
static void write_shard(const char *file, int32_t magic, int32_t version, const uint32_t *tokens, int32_t n,
                        uint32_t width)
{
    char *b = mem_alloc(1024 + (size_t)n * width);
    int32_t head[3] = { magic, version, n };
    memcpy(b, head, sizeof head);
    for (int32_t i = 0; i < n; i++)
        memcpy(b + 1024 + (size_t)i * width, &tokens[i], width); /* little-endian */
    sample_write_file(file, b, 1024 + (size_t)n * width);
    mem_free(b);
}

/* A file of bytes as tokens: text is the way to known contents. */
static enum status tokens_from_text(const char *const *files, uint32_t n, const char *out, struct err *err)
{
    struct tokens_out o;
    TRY(tokens_out_begin(out, 2, &o, err));
    const struct tokens_about about = { .vocab = 256, .files = files, .n_files = n };
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < n; i++) {
        const enum tokens_element bytes = TOKENS_U8;
        uint32_t ids[400];
        struct tokens_source s;
        st = tokens_source_open(files[i], &bytes, &s, err);
        if (st != ST_OK)
            break;
        uint8_t text[400];
        ck_assert_uint_le(s.n, 400);
        ck_assert_int_eq(pread(s.fd, text, s.n, 0), (ssize_t)s.n);
        for (uint64_t k = 0; k < s.n; k++)
            ids[k] = text[k];
        tokens_out_document(&o);
        st = tokens_out_add(&o, ids, NULL, s.n, err);
        tokens_source_close(&s);
    }
    if (st == ST_OK)
        st = tokens_out_end(&o, &about, err);
    tokens_out_drop(&o);
    return st;
}

static enum status add_part(void *arg, const struct tokens_part *part, struct err *err)
{
    if (part->begins)
        tokens_out_document(arg);
    return tokens_out_add(arg, part->ids, part->mask, part->n, err);
}

static enum status tokens_import(const char *const *files, uint32_t n, uint32_t vocab, const enum tokens_element *raw,
                                 const char *out, struct err *err)
{
    struct tokens_out o = { 0 };
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < n; i++) {
        struct tokens_source s;
        st = tokens_source_open(files[i], raw, &s, err);
        if (st == ST_OK && i == 0)
            st = tokens_out_begin(out, s.element == TOKENS_U16 ? 2 : 4, &o, err);
        if (st == ST_OK)
            st = tokens_source_each(&s, vocab, add_part, &o, err);
        tokens_source_close(&s);
    }
    const struct tokens_about about = { .vocab = vocab ? vocab : 65536, .files = files, .n_files = n };
    if (st == ST_OK)
        st = tokens_out_end(&o, &about, err);
    tokens_out_drop(&o);
    return st;
}

START_TEST(text_becomes_bytes)
{
    const char *files[2] = { other, path };
    char second[300], out[300];
    snprintf(second, sizeof second, "%s/second", folder);
    snprintf(out, sizeof out, "%s/out.h5", folder);
    files[1] = second;
    sample_write_file(other, "Hello, ", 7);
    sample_write_file(second, "w\xc3\xb6rld\n", 7);
    ASSERT_OK(tokens_from_text(files, 2, out, &e));
    struct tokens t;
    int32_t x[5];
    ASSERT_OK(tokens_open(out, 4, 256, &t, &e));
    ck_assert_uint_eq(t.n_tokens, 14);
    ck_assert_uint_eq(t.n_windows, 3);
    ck_assert_uint_eq(t.file_vocab, 256);
    const unsigned char *text = (const unsigned char *)"Hello, w\xc3\xb6rld\n";
    for (uint64_t w = 0; w < 3; w++) {
        ASSERT_OK(tokens_window(&t, w, x, &e));
        for (int i = 0; i < 4; i++) {
            ck_assert_int_eq(x[i], text[w * 4 + (uint64_t)i]);
            ck_assert_int_eq(x[i + 1], text[w * 4 + (uint64_t)i + 1]);
        }
    }
    tokens_close(&t);
    ASSERT_FAILS(tokens_open(out, 14, 256, &t, &e), ST_INPUT, "found 14 tokens, expected at least 15");
    ASSERT_OK(tokens_open(out, 13, 256, &t, &e));
    ck_assert_uint_eq(t.n_windows, 1);
    tokens_close(&t);
    ASSERT_OK(tokens_open(out, 4, 200, &t, &e)); /* 0xc3 = 195, 0xb6 = 182 */
    ASSERT_OK(tokens_window(&t, 2, x, &e));
    tokens_close(&t);
    ASSERT_OK(tokens_open(out, 4, 195, &t, &e));
    ASSERT_OK(tokens_window(&t, 0, x, &e));
    ASSERT_FAILS(tokens_window(&t, 2, x, &e), ST_INPUT, "token 8 is 195, but the model's vocabulary has 195");
    tokens_close(&t);
}
END_TEST

START_TEST(a_step_allocates_nothing)
{
    const char *files[1] = { other };
    sample_write_file(other, "abcdefghijklmnop", 16);
    ASSERT_OK(tokens_from_text(files, 1, path, &e));
    struct tokens t;
    int32_t x[5];
    ASSERT_OK(tokens_open(path, 4, 256, &t, &e));
    uint64_t before = mem_stats().calls;
    for (uint64_t w = 0; w < t.n_windows; w++)
        ASSERT_OK(tokens_window(&t, w, x, &e));
    ck_assert_uint_eq(mem_stats().calls, before);
    tokens_close(&t);
}
END_TEST

START_TEST(shards)
{
    uint32_t narrow[7] = { 0, 50256, 3, 65535, 5, 6, 7 }, wide[6] = { 1, 128255, 3, 4, 5, 6 };
    const char *files[2] = { other, other };
    struct tokens t;
    int32_t x[4];
    write_shard(other, 20240520, 1, narrow, 7, 2);
    ASSERT_OK(tokens_open(other, 3, 65536, &t, &e));
    ck_assert_uint_eq(t.n_windows, 2);
    ASSERT_OK(tokens_window(&t, 1, x, &e));
    ck_assert_int_eq(x[0], 65535);
    ck_assert_int_eq(x[3], 7);
    tokens_close(&t);
    ASSERT_OK(tokens_import(files, 2, 0, NULL, path, &e));
    ASSERT_OK(tokens_open(path, 3, 65536, &t, &e));
    ck_assert_uint_eq(t.n_tokens, 14);
    ck_assert_uint_eq(t.file_vocab, 65536);
    ASSERT_OK(tokens_window(&t, 2, x, &e));
    ck_assert_int_eq(x[1], 0);
    ck_assert_int_eq(x[2], 50256);
    tokens_close(&t);
    ASSERT_FAILS(tokens_import(files, 1, 50257, NULL, path, &e), ST_INPUT,
                 "token 3 is 65535, expected an id below 50257");
    write_shard(other, 20240801, 7, wide, 6, 4);
    ASSERT_OK(tokens_import(files, 1, 128256, NULL, path, &e));
    ASSERT_OK(tokens_open(path, 3, 128256, &t, &e));
    ASSERT_OK(tokens_window(&t, 0, x, &e));
    ck_assert_int_eq(x[1], 128255);
    tokens_close(&t);
    write_shard(other, 20240520, 2, narrow, 7, 2);
    ASSERT_FAILS(tokens_open(other, 3, 65536, &t, &e), ST_INPUT, "found version 2, expected 1");
    write_shard(other, 20240520, 1, narrow, 7, 2);
    ck_assert_int_eq(truncate(other, 1024 + 13), 0);
    ASSERT_FAILS(tokens_open(other, 3, 65536, &t, &e), ST_INPUT, "the header says 7 tokens");
    ck_assert_int_eq(truncate(other, 100), 0);
    ASSERT_FAILS(tokens_open(other, 3, 65536, &t, &e), ST_INPUT, "the header says 7 tokens");
}
END_TEST

/* ---- blocks: files of less, as much and more than one, where the one before ends within a block and at its end ---- */

enum { BLOCK = 64 }; /* bytes */
static const struct part {
    int blocks, rest;
} sizes[] = { { 1, -1 }, { 1, 0 }, { 1, 1 }, { 2, 3 } };
enum { SIZES = sizeof sizes / sizeof *sizes };

/* Of two files, in elements of which a block has so many: case i of SIZES * SIZES. */
static void sizes_of(int i, int block, uint32_t size[2])
{
    const struct part *p[2] = { &sizes[i / SIZES], &sizes[i % SIZES] };
    for (int k = 0; k < 2; k++)
        size[k] = (uint32_t)(p[k]->blocks * block + p[k]->rest);
}

/* Every token of the file at `path` is the i-th of `want`, as windows of 1 and of 5 show it, and as tokens_check() does. */
static void check_tokens(const uint32_t *want, uint32_t n)
{
    int32_t x[6];
    struct tokens t;
    for (uint32_t length = 1; length <= 5; length += 4) {
        ASSERT_OK(tokens_open(path, length, UINT32_MAX, &t, &e));
        ck_assert_uint_eq(t.n_tokens, n);
        ck_assert_uint_eq(t.n_windows, (n - 1) / length);
        for (uint64_t w = 0; w < t.n_windows; w++) {
            ASSERT_OK(tokens_window(&t, w, x, &e));
            for (uint32_t i = 0; i < length; i++)
                ck_assert_msg(x[i] == (int32_t)want[w * length + i] && x[i + 1] == (int32_t)want[w * length + i + 1],
                              "window %lu of %u, token %u: %d before %d, expected %u before %u", (unsigned long)w,
                              length, i, x[i], x[i + 1], want[w * length + i], want[w * length + i + 1]);
        }
        tokens_close(&t);
    }
}

START_TEST(text_in_blocks)
{
    uint32_t want[300], n = 0;
    char text[2][300], second[300];
    const char *files[2] = { other, second };
    snprintf(second, sizeof second, "%s/second", folder);
    tokens_block = BLOCK;
    uint32_t size[2];
    sizes_of(_i, BLOCK, size);
    for (uint32_t k = 0; k < 2; k++) {
        for (uint32_t i = 0; i < size[k]; i++, n++)
            text[k][i] = (char)(want[n] = (n * 37 + n / 64 * 11) % 256);
        sample_write_file(files[k], text[k], size[k]);
    }
    ASSERT_OK(tokens_from_text(files, 2, path, &e));
    check_tokens(want, n);
}
END_TEST

/* Shards of both widths, and what is made of them once more. */
START_TEST(shards_in_blocks)
{
    uint32_t want[300];
    char second[300], again[300];
    const char *files[2] = { other, second }, *made[1] = { again };
    snprintf(second, sizeof second, "%s/second", folder);
    snprintf(again, sizeof again, "%s/again", folder);
    tokens_block = BLOCK;
    for (uint32_t width = 2; width <= 4; width += 2) {
        const int32_t magic = width == 2 ? 20240520 : 20240801, version = width == 2 ? 1 : 7;
        uint32_t size[2];
        sizes_of(_i, BLOCK / (int)width, size);
        const uint32_t before = size[0], n = size[1];
        for (uint32_t i = 0; i < before + n; i++)
            want[i] = i * 37 + 1;
        write_shard(other, magic, version, want, (int32_t)before, width);
        write_shard(second, magic, version, want + before, (int32_t)n, width);
        ASSERT_OK(tokens_import(files, 2, 0, NULL, path, &e));
        check_tokens(want, before + n);
        ck_assert_int_eq(rename(path, again), 0);
        ASSERT_OK(tokens_import(made, 1, 0, NULL, path, &e));
        check_tokens(want, before + n);
    }
}
END_TEST

/* The one token that is not of the vocabulary is named, wherever it lies. */
START_TEST(checks_in_blocks)
{
    enum { N = 131 };
    uint32_t tokens[N];
    char said[40];
    struct tokens t;
    tokens_block = BLOCK;
    for (uint32_t i = 0; i < N; i++)
        tokens[i] = i;
    write_shard(path, 20240520, 1, tokens, N, 2);
    for (uint32_t first = 0; first < 70; first += 33)
        for (uint32_t vocab = first + 1; vocab < N; vocab++) {
            snprintf(said, sizeof said, "token %u is %u,", vocab, vocab);
            ASSERT_OK(tokens_open(path, 1, vocab, &t, &e));
            ASSERT_OK(tokens_check(&t, first, vocab - first, &e));
            ASSERT_FAILS(tokens_check(&t, first, N - first, &e), ST_INPUT, said);
            tokens_close(&t);
        }
}
END_TEST

static void sample_of(struct tokens *t, const uint32_t *tokens, int32_t n, uint8_t sample[SHA256_BYTES])
{
    uint64_t size;
    write_shard(path, 20240520, 1, tokens, n, 2);
    ASSERT_OK(file_open_read(path, &t->fd, &size, &e));
    ASSERT_OK(tokens_sample(t, sample, &e));
    close(t->fd);
}

/* Files of one length that differ in one token, in the first, the middle or the last MiB: told apart. Between these: not. */
START_TEST(samples)
{
    enum { MIB = 1 << 19, LENGTHS = 4 }; /* tokens */
    static const int32_t lengths[LENGTHS] = { 1, 1000, 3 * MIB, 5 * MIB };
    for (int i = 0; i < LENGTHS; i++) {
        const int32_t n = lengths[i];
        const struct {
            int32_t at;
            bool seen;
        } edits[] = { { 0, true },
                      { n - 1, true },
                      { n / 2, true },
                      { n / 2 + (n > 3 * MIB ? MIB / 2 - 2 : 0), true },
                      { n > 3 * MIB ? MIB - 1 : n / 3, true },
                      { n > 3 * MIB ? n - MIB : n / 3, true },
                      { n > 3 * MIB ? MIB + 1 : n / 3, n <= 3 * MIB } };
        uint32_t *tokens = mem_alloc((size_t)n * sizeof *tokens);
        uint8_t whole[SHA256_BYTES], sample[SHA256_BYTES];
        struct tokens t = { .path = path, .n_tokens = (uint64_t)n, .width = 2, .offset = 1024 };
        sample_of(&t, tokens, n, whole);
        for (size_t k = 0; k < sizeof edits / sizeof *edits; k++) {
            tokens[edits[k].at] ^= 1;
            sample_of(&t, tokens, n, sample);
            tokens[edits[k].at] ^= 1;
            ck_assert_msg((memcmp(whole, sample, sizeof whole) != 0) == edits[k].seen, "%d tokens, edit of %d", n,
                          edits[k].at);
        }
        mem_free(tokens);
    }
}
END_TEST

/* What a checkpoint calls its data: printable, UTF-8, of bounded length. */
START_TEST(source_names)
{
    static const struct {
        const char *path, *name;
    } cases[] = {
        { "tokens.h5", "tokens" },          { "/a/b.c/fine.web.h5", "fine.web" }, { "plain", "plain" },
        { "x/.hidden", ".hidden" },         { "\xc3\xa4.bin", "\xc3\xa4" },       { "a\xff\xc3\xa4.h5", "a???" },
        { "new\nline\x1b.h5", "new?line?" }
    };
    char name[CHECKPOINT_NAME], text[400];
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        checkpoint_source_name(cases[i].path, name);
        ck_assert_str_eq(name, cases[i].name);
    }
    memset(text, 'a', sizeof text);
    strcpy(text + CHECKPOINT_NAME - 2, "\xc3\xa4.h5"); /* a character that does not fit whole */
    checkpoint_source_name(text, name);
    ck_assert_uint_eq(strlen(name), CHECKPOINT_NAME - 2);
}
END_TEST

/* ---- version 2 ---- */

/* Documents, mask, sources and the tokenizer come back; a document without tokens is none; files of version 1 have none of it. */
START_TEST(what_a_file_says)
{
    static const uint32_t ids[7] = { 5, 70000, 7, 8, 9, 10, 11 };
    static const uint8_t mask[7] = { 0, 1, 1, 0, 0, 1, 1 };
    const char *files[2] = { "/a/one.jsonl", "two\n.jsonl" };
    const struct tokens_about about = { 70001, files, 2, "small", "{\"model\": 1}", 12 };
    struct tokens_out o;
    uint64_t starts[3];
    uint8_t marks[7];
    for (uint32_t width = 4; width >= 2; width -= 2) {
        ASSERT_OK(tokens_out_begin(path, width, &o, &e));
        if (width == 4)
            ck_assert_int_ne(access(path, F_OK), 0); /* no half file under its name */
        tokens_out_document(&o);
        ASSERT_OK(tokens_out_add(&o, ids + (width == 2 ? 2 : 0), mask, 3, &e));
        tokens_out_document(&o);
        tokens_out_document(&o);
        ASSERT_OK(tokens_out_add(&o, ids + 3, mask + 3, 4, &e));
        tokens_out_document(&o);
        ASSERT_OK(tokens_out_end(&o, &about, &e));
        tokens_out_drop(&o);
        struct tokens t;
        struct tokens_about said;
        struct arena a;
        ASSERT_OK(tokens_open(path, 1, 70001, &t, &e));
        ck_assert_uint_eq(t.n_tokens, 7);
        ck_assert_uint_eq(t.n_documents, 2);
        ASSERT_OK(tokens_documents(&t, 0, 2, starts, &e));
        ck_assert_uint_eq(starts[0], 0);
        ck_assert_uint_eq(starts[1], 3);
        ASSERT_OK(file_pread(t.fd, path, marks, 7, t.mask_at, &e));
        ck_assert_mem_eq(marks, mask, 7);
        tokens_close(&t);
        arena_init(&a);
        ASSERT_OK(tokens_describe(path, &a, &said, &e));
        ck_assert_uint_eq(said.n_files, 2);
        ck_assert_str_eq(said.files[0], "one.jsonl");
        ck_assert_str_eq(said.files[1], "two?.jsonl");
        ck_assert_str_eq(said.tokenizer, "small");
        ck_assert_mem_eq(said.tokenizer_file, about.tokenizer_file, 12);
        arena_release(&a);
    }
}
END_TEST

START_TEST(version_1_is_read)
{
    char file[4096];
    struct tokens t;
    struct tokens_about said;
    struct arena a;
    int32_t x[5];
    const char *top = getenv("top_srcdir");
    snprintf(file, sizeof file, "%s/tests/unit/data/tokens-version-1.h5", top ? top : ".");
    ASSERT_OK(tokens_open(file, 4, 256, &t, &e));
    ck_assert_uint_eq(t.n_tokens, 40);
    ck_assert_uint_eq(t.n_documents, 0);
    ck_assert_uint_eq(t.mask_at, 0);
    ASSERT_OK(tokens_window(&t, 0, x, &e));
    ck_assert_int_eq(x[0], 'T');
    ck_assert_int_eq(x[4], 'n');
    tokens_close(&t);
    arena_init(&a);
    ASSERT_OK(tokens_describe(file, &a, &said, &e));
    ck_assert_uint_eq(said.n_files, 1);
    ck_assert_ptr_null(said.tokenizer);
    arena_release(&a);
}
END_TEST

/* What an import gives, token by token and document by document. */
static void check_documents(const uint64_t *want, uint64_t n)
{
    struct tokens t;
    uint64_t starts[8];
    ASSERT_OK(tokens_open(path, 1, UINT32_MAX, &t, &e));
    ck_assert_uint_eq(t.n_documents, n);
    ASSERT_OK(tokens_documents(&t, 0, n, starts, &e));
    ck_assert_mem_eq(starts, want, n * sizeof *starts);
    tokens_close(&t);
}

/* An index of Megatron: sequences of these lengths; documents begin with these sequences. */
static size_t write_index(const char *file, uint8_t code, uint32_t bytes, const int32_t *length, uint64_t sequences,
                          const int64_t *first, uint64_t documents)
{
    char b[400];
    size_t n = 34;
    const uint64_t version = 1;
    int64_t place = 0;
    memcpy(b, "MMIDIDX\0", 9);
    memcpy(b + 9, &version, 8);
    b[17] = (char)code;
    memcpy(b + 18, &sequences, 8);
    memcpy(b + 26, &documents, 8);
    memcpy(b + n, length, sequences * 4);
    n += sequences * 4;
    for (uint64_t i = 0; i < sequences; i++, n += 8) {
        memcpy(b + n, &place, 8);
        place += length[i] * (int64_t)bytes;
    }
    memcpy(b + n, first, documents * 8);
    n += documents * 8;
    sample_write_file(file, b, n);
    return n;
}

START_TEST(megatron)
{
    static const int32_t lengths[4] = { 2, 3, 1, 4 };
    static const int64_t first[4] = { 0, 1, 3, 4 };
    static const uint64_t starts[3] = { 0, 2, 6 };
    uint16_t narrow[10];
    int32_t wide[10];
    uint32_t want[10];
    char bin[320], idx[320];
    const char *files[1] = { bin };
    snprintf(bin, sizeof bin, "%s/corpus.bin", folder);
    snprintf(idx, sizeof idx, "%s/corpus.idx", folder);
    for (uint32_t i = 0; i < 10; i++)
        want[i] = narrow[i] = (uint16_t)(wide[i] = (int32_t)(100 + i * 7));
    for (tokens_block = 4; tokens_block <= 1 << 20; tokens_block *= 512) {
        sample_write_file(bin, narrow, sizeof narrow);
        write_index(idx, 8, 2, lengths, 4, first, 4);
        ASSERT_OK(tokens_import(files, 1, 0, NULL, path, &e));
        check_tokens(want, 10);
        check_documents(starts, 3);
        sample_write_file(bin, wide, sizeof wide);
        write_index(idx, 4, 4, lengths, 4, first, 4);
        files[0] = idx;
        ASSERT_OK(tokens_import(files, 1, 0, NULL, path, &e));
        check_tokens(want, 10);
        check_documents(starts, 3);
        files[0] = bin;
    }
    const size_t n = write_index(idx, 8, 2, lengths, 4, first, 4);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "corpus.bin: has 40 bytes");
    ck_assert_int_eq(truncate(idx, (off_t)n - 1), 0);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "the header says 4 sequences and 4 documents");
    write_index(idx, 6, 2, lengths, 4, first, 4);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "byte 17: found the element code 6");
    write_index(idx, 8, 2, lengths, 4, (const int64_t[]){ 0, 3, 1, 4 }, 4);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "document 2 begins with sequence 1");
    write_index(idx, 8, 2, (const int32_t[]){ 2, -3, 1, 4 }, 4, first, 4);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "sequence 1: length -3");
}
END_TEST

/* A header of NumPy, and what is behind it. */
static void write_npy(const char *header, const void *data, size_t bytes)
{
    char b[400] = "\x93NUMPY\x01";
    const size_t n = strlen(header);
    b[8] = (char)n;
    memcpy(b + 10, header, n);
    memcpy(b + 10 + n, data, bytes);
    sample_write_file(other, b, 10 + n + bytes);
}

START_TEST(arrays_and_raw_ids)
{
    static const uint16_t ids[6] = { 1, 2, 50256, 4, 5, 6 };
    static const int64_t wide[7] = { 1, 99999, 3, 4, 5, 6, 7 };
    static const uint32_t want[6] = { 1, 2, 50256, 4, 5, 6 }, want_wide[7] = { 1, 99999, 3, 4, 5, 6, 7 };
    const enum tokens_element raw = TOKENS_U16;
    const char *files[1] = { other };
    write_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (6,), }  \n", ids, sizeof ids);
    ASSERT_OK(tokens_import(files, 1, 0, NULL, path, &e));
    check_tokens(want, 6);
    write_npy("{'descr': '<i8', 'fortran_order': False, 'shape': (7,), }\n", wide, sizeof wide);
    ASSERT_OK(tokens_import(files, 1, 0, NULL, path, &e));
    check_tokens(want_wide, 7);
    write_npy("{'descr': '<f4', 'fortran_order': False, 'shape': (3,), }\n", wide, 12);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "found elements of type <f4");
    write_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3), }\n", wide, 12);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "array of one dimension");
    write_npy("{'descr': '<u2', 'fortran_order': False, 'shape': (7,), }\n", ids, sizeof ids);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "the header says 7 elements of 2 bytes");
    sample_write_file(other, ids, sizeof ids);
    ASSERT_OK(tokens_import(files, 1, 0, &raw, path, &e));
    check_tokens(want, 6);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "--raw uint16");
    sample_write_file(other, ids, 9);
    ASSERT_FAILS(tokens_import(files, 1, 0, &raw, path, &e), ST_INPUT, "has 9 bytes, expected a multiple of 2");
    sample_write_file(other, "PAR1....", 8);
    ASSERT_FAILS(tokens_import(files, 1, 0, NULL, path, &e), ST_INPUT, "is a parquet file");
}
END_TEST

START_TEST(bad_files)
{
    struct tokens t;
    const char *files[1] = { other };
    ASSERT_FAILS(tokens_open(other, 3, 256, &t, &e), ST_MISSING, "No such file");
    ASSERT_FAILS(tokens_open(folder, 3, 256, &t, &e), ST_MISSING, "not a regular file");
    ASSERT_FAILS(tokens_from_text(files, 1, path, &e), ST_MISSING, "No such file");
    sample_write_file(other, "", 0);
    ASSERT_FAILS(tokens_open(other, 3, 256, &t, &e), ST_INPUT, "is empty, expected a token file");
    sample_write_file(other, "x", 1); /* a token has none after it to be predicted */
    ASSERT_FAILS(tokens_from_text(files, 1, path, &e), ST_INPUT, "found 1 tokens in all, expected at least 2");
    ck_assert_int_ne(access(path, F_OK), 0);
    ASSERT_FAILS(file_differs(other, other, &e), ST_USAGE, "is also the input");
    ASSERT_OK(file_differs(path, other, &e));
    sample_write_file(other, "", 0);
    struct h5_out out;
    float f[4] = { 0 };
    ASSERT_OK(h5_create(path, "piper-tokens", 1, &out, &e));
    ASSERT_OK(h5_attr_u64(&out.root, "vocab_size", 256, &e));
    ASSERT_OK(h5_put(&out.root, &(struct h5_data){ .name = "tokens", .rank = 1, .dim = { 4 } }, H5_F32, f, &e));
    ASSERT_OK(h5_commit(&out, &e));
    ASSERT_FAILS(tokens_open(path, 3, 256, &t, &e), ST_INPUT, "uint16 or uint32");
    ASSERT_OK(h5_create(path, "piper-tokens", 1, &out, &e));
    ASSERT_OK(h5_put(&out.root, &(struct h5_data){ .name = "tokens", .rank = 1, .dim = { 4 } }, H5_U32, f, &e));
    ASSERT_OK(h5_attr_u64(&out.root, "vocab_syze", 256, &e));
    ASSERT_OK(h5_commit(&out, &e));
    ASSERT_FAILS(tokens_open(path, 3, 256, &t, &e), ST_INPUT, "attributes");
    ASSERT_OK(h5_create(path, "piper-tokens", 1, &out, &e)); /* a dataset that was never written */
    hid_t space = H5Screate_simple(1, (hsize_t[]){ 100 }, NULL);
    hid_t ds = H5Dcreate2(out.root.id, "tokens", H5T_STD_U16LE, space, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT);
    ck_assert_int_ge(H5Dclose(ds) | H5Sclose(space), 0);
    ASSERT_OK(h5_attr_u64(&out.root, "vocab_size", 256, &e));
    ASSERT_OK(h5_commit(&out, &e));
    ASSERT_FAILS(tokens_open(path, 3, 256, &t, &e), ST_INPUT, "never written");
    ASSERT_OK(h5_create(path, "piper-job", 1, &out, &e));
    ASSERT_OK(h5_commit(&out, &e));
    ASSERT_FAILS(tokens_open(path, 3, 256, &t, &e), ST_INPUT, "found \"piper-job\", expected \"piper-tokens\"");
}
END_TEST

START_TEST(every_window_once_an_epoch)
{
    uint8_t *seen = mem_alloc(5000);
    for (uint64_t n = 1; n <= 5000; n += n < 300 ? 1 : n % 7 + 97) {
        struct data_order o = { n, 12345 + n, true };
        for (uint64_t epoch = 0; epoch < 3; epoch++) {
            memset(seen, 0, n);
            for (uint64_t i = 0; i < n; i++) {
                uint64_t w = data_sample(&o, epoch * n + i);
                ck_assert_msg(w < n && !seen[w], "n %lu, epoch %lu, sample %lu", (unsigned long)n, (unsigned long)epoch,
                              (unsigned long)i);
                seen[w] = 1;
            }
        }
    }
    mem_free(seen);
}
END_TEST

START_TEST(order_is_a_function_of_seed_and_epoch)
{
    enum { N = 1000 };
    struct data_order a = { N, 1, true }, b = { N, 2, true }, s = { N, 1, false };
    enum { EPOCHS = 6 };
    uint64_t seeds = 0, fixed = 0;
    for (uint64_t i = 0; i < N; i++) {
        ck_assert_uint_eq(data_sample(&s, 7 * N + i), i);
        ck_assert_uint_eq(data_sample(&a, i), data_sample(&a, i));
        seeds += data_sample(&a, i) == data_sample(&b, i);
        fixed += data_sample(&a, i) == i;
    }
    ck_assert_uint_lt(seeds, 10); /* one is expected by chance */
    ck_assert_uint_lt(fixed, 10);
    for (uint64_t x = 0; x < EPOCHS; x++) /* any two */
        for (uint64_t y = 0; y < x; y++) {
            uint64_t epochs = 0;
            for (uint64_t i = 0; i < N; i++)
                epochs += data_sample(&a, x * N + i) == data_sample(&a, y * N + i);
            ck_assert_uint_lt(epochs, 10);
        }
    struct data_order huge = { UINT64_C(1) << 62, 3, true };
    ck_assert_uint_lt(data_sample(&huge, (UINT64_C(1) << 62) - 1), UINT64_C(1) << 62);
    struct data_order odd = { (UINT64_C(1) << 63) + 1, 3, true };
    ck_assert_uint_le(data_sample(&odd, 5), UINT64_C(1) << 63);
}
END_TEST

/* The means of windows in each tenth of an epoch lie near the middle: no drift from start to end. */
START_TEST(order_looks_shuffled)
{
    enum { N = 20000 };
    struct data_order o = { N, 42, true };
    for (uint64_t part = 0; part < 10; part++) {
        double sum = 0;
        for (uint64_t i = 0; i < N / 10; i++)
            sum += (double)data_sample(&o, part * (N / 10) + i);
        double mean = sum / (N / 10); /* standard deviation 0.289*N/sqrt(N/10) = 129 */
        ck_assert_msg(mean > N / 2 - 650 && mean < N / 2 + 650, "part %lu: mean %g", (unsigned long)part, mean);
    }
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_tokens");
    TCase *t = tcase_create("tokens");
    tcase_add_checked_fixture(t, make_folder, drop_folder);
    tcase_set_timeout(t, 60);
    tcase_add_test(t, text_becomes_bytes);
    tcase_add_test(t, a_step_allocates_nothing);
    tcase_add_test(t, shards);
    tcase_add_loop_test(t, text_in_blocks, 0, SIZES * SIZES);
    tcase_add_loop_test(t, shards_in_blocks, 0, SIZES * SIZES);
    tcase_add_test(t, checks_in_blocks);
    tcase_add_test(t, samples);
    tcase_add_test(t, source_names);
    tcase_add_test(t, what_a_file_says);
    tcase_add_test(t, version_1_is_read);
    tcase_add_test(t, megatron);
    tcase_add_test(t, arrays_and_raw_ids);
    tcase_add_test(t, bad_files);
    suite_add_tcase(s, t);
    t = tcase_create("order");
    tcase_add_test(t, every_window_once_an_epoch);
    tcase_add_test(t, order_is_a_function_of_seed_and_epoch);
    tcase_add_test(t, order_looks_shuffled);
    suite_add_tcase(s, t);
    return suite_run(s);
}
