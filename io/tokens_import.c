#include "io/tokens_import.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/tokens.h"

enum { NPY_HEADER = 4096, MOST_STARTS = 1 << 29 };

static const struct element {
    const char *word, *npy;
    uint32_t bytes;
    uint8_t megatron; /* its code in an .idx */
} elements[] = {
    [TOKENS_U8] = { "uint8", "|u1", 1, 1 },  [TOKENS_U16] = { "uint16", "<u2", 2, 8 },
    [TOKENS_I32] = { "int32", "<i4", 4, 4 }, [TOKENS_U32] = { "uint32", "<u4", 4, 0 },
    [TOKENS_I64] = { "int64", "<i8", 8, 5 },
};
enum { ELEMENTS = sizeof elements / sizeof *elements };

bool tokens_element_named(const char *word, enum tokens_element *x)
{
    for (int i = 0; i < ELEMENTS; i++)
        if (strcmp(word, elements[i].word) == 0) {
            *x = (enum tokens_element)i;
            return true;
        }
    return false;
}

uint32_t tokens_element_bytes(enum tokens_element x)
{
    return elements[x].bytes;
}

/* ---- Megatron ---- */

static const char megatron_magic[9] = "MMIDIDX\0";

/* The other file of a pair: x.idx of x.bin, x.bin of x.idx. */
static char *beside(const char *path, const char *ending)
{
    const size_t n = strlen(path);
    char *other = mem_alloc(n + 5);
    memcpy(other, path, n + 1);
    if (n > 4 && (strcmp(path + n - 4, ".bin") == 0 || strcmp(path + n - 4, ".idx") == 0))
        strcpy(other + n - 4, ending);
    else
        strcpy(other + n, ending);
    return other;
}

struct megatron_index {
    const char *path;
    int fd;
    uint64_t size, sequences, documents;
    uint64_t lengths_at, places_at, documents_at; /* bytes */
};

static enum status read_index_header(struct megatron_index *x, struct tokens_source *s, struct err *e)
{
    unsigned char head[34];
    uint64_t version;
    if (x->size < sizeof head)
        return err_set(e, ST_INPUT, x->path, "has %" PRIu64 " bytes, expected a header of 34", x->size);
    TRY(file_pread(x->fd, x->path, head, sizeof head, 0, e));
    memcpy(&version, head + 9, 8);
    if (memcmp(head, megatron_magic, 9) != 0 || version != 1)
        return err_set(e, ST_INPUT, x->path, "expected an index of Megatron: the bytes MMIDIDX and version 1");
    int i = 0;
    while (i < ELEMENTS && (elements[i].megatron == 0 || elements[i].megatron != head[17]))
        i++;
    if (i == ELEMENTS)
        return err_set(e, ST_INPUT, x->path, "byte 17: found the element code %u, expected 1, 4, 5 or 8 (integers)",
                       head[17]);
    s->element = (enum tokens_element)i;
    memcpy(&x->sequences, head + 18, 8);
    memcpy(&x->documents, head + 26, 8);
    const uint64_t most = x->size / 4;
    if (x->sequences > most || x->documents > most || x->documents < 1 || x->documents > MOST_STARTS ||
        x->size < 34 + 12 * x->sequences + 8 * x->documents)
        return err_set(e, ST_INPUT, x->path,
                       "the header says %" PRIu64 " sequences and %" PRIu64 " documents, the file has %" PRIu64
                       " bytes",
                       x->sequences, x->documents, x->size);
    x->lengths_at = 34;
    x->places_at = 34 + 4 * x->sequences;
    x->documents_at = 34 + 12 * x->sequences;
    return ST_OK;
}

/* Sequences must lie one behind the other, as the builder writes them; document d begins with sequence documents[d]. */
static enum status read_index(struct megatron_index *x, struct tokens_source *s, struct err *e)
{
    enum { BLOCK = 4096 };
    int32_t length[BLOCK];
    int64_t place[BLOCK];
    uint64_t total = 0, next = 0;
    const uint32_t bytes = elements[s->element].bytes;
    s->starts = mem_alloc(x->documents * sizeof *s->starts);
    int64_t *first = mem_alloc(x->documents * sizeof *first);
    enum status st = file_pread(x->fd, x->path, first, x->documents * 8, x->documents_at, e);
    for (uint64_t at = 0; st == ST_OK && at < x->sequences; at += BLOCK) {
        const uint64_t n = x->sequences - at < BLOCK ? x->sequences - at : BLOCK;
        st = file_pread(x->fd, x->path, length, n * 4, x->lengths_at + at * 4, e);
        if (st == ST_OK)
            st = file_pread(x->fd, x->path, place, n * 8, x->places_at + at * 8, e);
        for (uint64_t i = 0; st == ST_OK && i < n; i++) {
            if (length[i] < 0 || place[i] < 0 || (uint64_t)place[i] != total * bytes)
                st = err_set(e, ST_INPUT, x->path,
                             "sequence %" PRIu64 ": length %d at byte %" PRId64 ", expected it at byte %" PRIu64,
                             at + i, length[i], place[i], total * bytes);
            while (next < x->documents && first[next] >= 0 && (uint64_t)first[next] == at + i)
                s->starts[s->n_starts++] = total, next++;
            total += st == ST_OK ? (uint64_t)length[i] : 0;
        }
    }
    while (st == ST_OK && next < x->documents && first[next] == (int64_t)x->sequences)
        next++; /* the list ends with the number of sequences */
    if (st == ST_OK && next != x->documents)
        st = err_set(e, ST_INPUT, x->path,
                     "document %" PRIu64 " begins with sequence %" PRId64 ", expected ascending ones up to %" PRIu64,
                     next, first[next], x->sequences);
    mem_free(first);
    s->n = total;
    return st;
}

static enum status open_megatron(const char *path, struct tokens_source *s, struct err *e)
{
    uint64_t size;
    char *index = beside(path, ".idx");
    struct megatron_index x = { .path = index, .fd = -1 };
    mem_free(s->path);
    s->path = beside(path, ".bin");
    enum status st = file_open_read(index, &x.fd, &x.size, e);
    if (st == ST_OK)
        st = read_index_header(&x, s, e);
    if (st == ST_OK)
        st = read_index(&x, s, e);
    if (st == ST_OK)
        st = file_open_read(s->path, &s->fd, &size, e);
    if (st == ST_OK && size != s->n * elements[s->element].bytes)
        st = err_set(e, ST_INPUT, s->path, "has %" PRIu64 " bytes, %s says %" PRIu64 " tokens of %u bytes", size, index,
                     s->n, elements[s->element].bytes);
    if (x.fd >= 0)
        close(x.fd);
    mem_free(index);
    return st;
}

/* ---- NumPy ---- */

static const char npy_magic[6] = "\x93NUMPY";

static enum status open_npy(struct tokens_source *s, uint64_t size, struct err *e)
{
    unsigned char head[12];
    char text[NPY_HEADER + 1] = "";
    TRY(file_pread(s->fd, s->path, head, sizeof head, 0, e));
    const uint32_t at = head[6] == 1 ? 10 : 12;
    const uint32_t n = head[8] | (uint32_t)head[9] << 8 |
                       (at == 12 ? (uint32_t)head[10] << 16 | (uint32_t)head[11] << 24 : 0);
    if (head[6] < 1 || head[6] > 3 || n > NPY_HEADER || at + n > size)
        return err_set(e, ST_INPUT, s->path, "expected a .npy header of version 1 to 3 of at most %d bytes",
                       NPY_HEADER);
    TRY(file_pread(s->fd, s->path, text, n, at, e));
    text[n] = '\0';
    const char *type = strstr(text, "'descr':"), *shape = strstr(text, "'shape':");
    int i = 0;
    char descr[8] = "", comma = 0, close = 0;
    if (!type || sscanf(type + 8, " '%7[^']'", descr) != 1 || !shape || !strstr(text, "'fortran_order': False") ||
        sscanf(shape + 8, " (%" SCNu64 " %c %c", &s->n, &comma, &close) != 3 || comma != ',' || close != ')')
        return err_set(e, ST_INPUT, s->path, "expected a .npy array of one dimension, found the header %.120s", text);
    while (i < ELEMENTS && strcmp(elements[i].npy, descr) != 0)
        i++;
    if (i == ELEMENTS)
        return err_set(e, ST_INPUT, s->path, "found elements of type %s, expected |u1, <u2, <i4, <u4 or <i8", descr);
    s->element = (enum tokens_element)i;
    s->offset = at + n;
    if (s->n > size || size - s->offset != s->n * elements[i].bytes)
        return err_set(e, ST_INPUT, s->path,
                       "the header says %" PRIu64 " elements of %u bytes, the file has %" PRIu64 " bytes behind it",
                       s->n, elements[i].bytes, size - s->offset);
    return ST_OK;
}

/* ---- any ---- */

static enum status open_ours(const char *path, struct tokens_source *s, struct err *e)
{
    struct tokens t;
    TRY(tokens_open(path, 1, UINT32_MAX, &t, e));
    s->fd = dup(t.fd);
    s->element = t.width == 2 ? TOKENS_U16 : TOKENS_U32;
    s->offset = t.offset;
    s->n = t.n_tokens;
    s->vocab = t.file_vocab;
    s->starts_at = t.documents_at;
    s->n_starts = t.n_documents;
    s->mask_at = t.mask_at;
    tokens_close(&t);
    return s->fd < 0 ? err_set(e, ST_IO, path, "cannot be opened twice") : ST_OK;
}

static enum status open_raw(struct tokens_source *s, uint64_t size, enum tokens_element raw, struct err *e)
{
    const uint32_t bytes = elements[raw].bytes;
    s->element = raw;
    s->n = size / bytes;
    return size % bytes ? err_set(e, ST_INPUT, s->path, "has %" PRIu64 " bytes, expected a multiple of %u (--raw %s)",
                                  size, bytes, elements[raw].word)
                        : ST_OK;
}

/* What a file is that is no tokens, in the words of its first bytes. */
static enum status refuse(const char *path, const char *head, struct err *e)
{
    if (memcmp(head, "PAR1", 4) == 0)
        return err_set(e, ST_INPUT, path,
                       "is a parquet file, expected token ids; make JSONL of it: python3 -c \"import pandas, sys; "
                       "pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient='records', lines=True)\" IN OUT");
    if (*head == '{')
        return err_set(e, ST_INPUT, path,
                       "is JSON or JSONL, expected token ids; piper data jsonl makes them of the text of each line");
    return err_set(
        e, ST_INPUT, path,
        "is no token file: expected one of piper's, a shard of llm.c, Megatron's .bin with its .idx, a .npy, or "
        "--raw uint16 for ids without a header");
}

static enum status open_by_magic(const char *path, struct tokens_source *s, uint64_t size, struct err *e)
{
    char head[16] = { 0 };
    static const char hdf5[] = "\x89HDF\r\n\x1a\n";
    int32_t magic;
    TRY(file_pread(s->fd, path, head, size < sizeof head ? size : sizeof head, 0, e));
    memcpy(&magic, head, 4);
    if (memcmp(head, npy_magic, 6) == 0 && size >= 12)
        return open_npy(s, size, e);
    char *index = beside(path, ".idx");
    const bool pair = memcmp(head, megatron_magic, 9) == 0 || (strcmp(index, path) != 0 && access(index, R_OK) == 0);
    mem_free(index);
    close(s->fd);
    s->fd = -1;
    if (memcmp(head, hdf5, 8) == 0 || magic == 20240520 || magic == 20240801)
        return open_ours(path, s, e);
    return pair ? open_megatron(path, s, e) : refuse(path, head, e);
}

enum status tokens_source_open(const char *path, const enum tokens_element *raw, struct tokens_source *s, struct err *e)
{
    uint64_t size;
    *s = (struct tokens_source){ .fd = -1, .path = mem_strdup(path) };
    enum status st = file_open_read(path, &s->fd, &size, e);
    if (st == ST_OK)
        st = raw ? open_raw(s, size, *raw, e) : open_by_magic(path, s, size, e);
    if (st != ST_OK)
        tokens_source_close(s);
    return st;
}

void tokens_source_close(struct tokens_source *s)
{
    if (s->path && s->fd >= 0)
        close(s->fd);
    mem_free(s->path);
    mem_free(s->starts);
    *s = (struct tokens_source){ .fd = -1 };
}

/* ---- reading ---- */

static int64_t id_at(const void *raw, enum tokens_element x, uint64_t i)
{
    switch (x) {
    case TOKENS_U8:
        return ((const uint8_t *)raw)[i];
    case TOKENS_U16:
        return ((const uint16_t *)raw)[i];
    case TOKENS_I32:
        return ((const int32_t *)raw)[i];
    case TOKENS_U32:
        return ((const uint32_t *)raw)[i];
    default:
        return ((const int64_t *)raw)[i];
    }
}

static enum status convert(const struct tokens_source *s, const void *raw, uint64_t first, uint64_t n, uint32_t vocab,
                           uint32_t *ids, struct err *e)
{
    const int64_t most = vocab && vocab <= INT32_MAX ? (int64_t)vocab : (int64_t)INT32_MAX + 1;
    for (uint64_t i = 0; i < n; i++) {
        const int64_t id = id_at(raw, s->element, i);
        if (id < 0 || id >= most)
            return err_set(e, ST_INPUT, s->path, "token %" PRIu64 " is %" PRId64 ", expected an id below %" PRId64,
                           first + i, id, most);
        ids[i] = (uint32_t)id;
    }
    return ST_OK;
}

/* Where the document behind `last` begins: s->n when there is no more. */
static enum status next_start(const struct tokens_source *s, uint64_t i, uint64_t last, uint64_t *start, struct err *e)
{
    *start = s->n;
    if (i >= s->n_starts)
        return ST_OK;
    if (s->starts)
        *start = s->starts[i];
    else
        TRY(file_pread(s->fd, s->path, start, 8, s->starts_at + i * 8, e));
    if (*start < last || *start > s->n)
        return err_set(e, ST_INPUT, s->path,
                       "document %" PRIu64 " begins with token %" PRIu64 ", expected %" PRIu64 " to %" PRIu64, i,
                       *start, last, s->n);
    return ST_OK;
}

enum status tokens_source_each(const struct tokens_source *s, uint32_t vocab, tokens_take fn, void *arg, struct err *e)
{
    const uint32_t bytes = elements[s->element].bytes;
    const uint64_t block = tokens_block / bytes;
    void *raw = mem_alloc(tokens_block);
    uint32_t *ids = mem_alloc(block * sizeof *ids);
    uint8_t *mask = s->mask_at ? mem_alloc(block) : NULL;
    uint64_t document = 0, start = 0;
    enum status st = next_start(s, document, 0, &start, e);
    bool begins = true;
    for (uint64_t at = 0; st == ST_OK && at < s->n;) {
        while (st == ST_OK && start <= at && document < s->n_starts) {
            begins |= start == at;
            st = next_start(s, ++document, start, &start, e);
        }
        uint64_t n = (start > at ? start : s->n) - at;
        n = n < block ? n : block;
        if (st == ST_OK)
            st = file_pread(s->fd, s->path, raw, n * bytes, s->offset + at * bytes, e);
        if (st == ST_OK)
            st = convert(s, raw, at, n, vocab, ids, e);
        if (st == ST_OK && mask)
            st = file_pread(s->fd, s->path, mask, n, s->mask_at + at, e);
        if (st == ST_OK)
            st = fn(arg, &(struct tokens_part){ ids, mask, n, begins }, e);
        begins = false;
        at += n;
    }
    mem_free(raw);
    mem_free(ids);
    mem_free(mask);
    return st;
}
