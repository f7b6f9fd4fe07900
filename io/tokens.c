#include "io/tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/h5.h"

enum { SHARD_HEADER = 1024, SAMPLE = 1 << 20, STARTS = 512 /* read at a time */ };
enum { COUNTS = 1, BEGINS = 2 }; /* marks */
uint32_t tokens_block = 1 << 20;
static const char schema[] = "piper-tokens";

/* ---- opening ---- */

/* Header of a .bin shard; false: it is not one. */
static enum status open_shard(struct tokens *t, uint64_t size, bool *is_shard, struct err *e)
{
    int32_t head[3] = { 0 };
    if (size >= sizeof head)
        TRY(file_pread(t->fd, t->path, head, sizeof head, 0, e));
    bool narrow = head[0] == 20240520, wide = head[0] == 20240801;
    *is_shard = narrow || wide;
    if (!*is_shard)
        return ST_OK;
    int32_t version = narrow ? 1 : 7;
    if (head[1] != version)
        return err_set(e, ST_INPUT, t->path, "token shard: found version %d, expected %d", head[1], version);
    t->width = narrow ? 2 : 4;
    t->offset = SHARD_HEADER;
    t->n_tokens = head[2] > 0 ? (uint64_t)head[2] : 0;
    if (size < SHARD_HEADER || head[2] <= 0 || size - SHARD_HEADER != t->n_tokens * t->width)
        return err_set(e, ST_INPUT, t->path,
                       "token shard: the header says %d tokens of %" PRIu32 " bytes, the file has %" PRIu64
                       " bytes after its header",
                       head[2], t->width, size < SHARD_HEADER ? 0 : size - SHARD_HEADER);
    return ST_OK;
}

static enum status locate_documents(struct tokens *t, const struct h5_at *root, struct err *e)
{
    struct h5_data d = { .name = "documents", .rank = 1, .dim = { H5_ANY } };
    TRY(h5_locate(root, &d, H5_U64, &t->documents_at, e));
    t->n_documents = d.dim[0];
    return ST_OK;
}

static enum status locate_mask(struct tokens *t, const struct h5_at *root, struct err *e)
{
    struct h5_data d = { .name = "mask", .rank = 1, .dim = { t->n_tokens } };
    return h5_locate(root, &d, H5_U8, &t->mask_at, e);
}

static enum status read_layout(struct tokens *t, const struct h5_at *root, struct err *e)
{
    static const char *const members[] = { "tokens", "documents", "mask", "sources", "tokenizer", NULL };
    static const char *const attrs[] = { "schema",    "schema_version", "vocab_size", "source",
                                         "tokenizer", "tokenizer_hash", NULL };
    static const char *const members_1[] = { "tokens", NULL };
    static const char *const attrs_1[] = { "schema", "schema_version", "vocab_size", "source", NULL };
    struct h5_data d = { .name = "tokens", .rank = 1, .dim = { H5_ANY } };
    enum h5_type type;
    uint64_t vocab;
    TRY(h5_only(root, root->version == 1 ? members_1 : members, e));
    TRY(h5_only_attrs(root, root->version == 1 ? attrs_1 : attrs, e));
    TRY(h5_type_of(root, "tokens", &type, e));
    if (type != H5_U16 && type != H5_U32)
        return err_set(e, ST_INPUT, root->where, "tokens: expected elements of type uint16 or uint32, little-endian");
    TRY(h5_locate(root, &d, type, &t->offset, e));
    TRY(h5_get_attr_u64(root, "vocab_size", UINT32_MAX, &vocab, e));
    t->file_vocab = (uint32_t)vocab;
    t->width = type == H5_U16 ? 2 : 4;
    t->n_tokens = d.dim[0];
    if (h5_has(root, "documents"))
        TRY(locate_documents(t, root, e));
    return h5_has(root, "mask") ? locate_mask(t, root, e) : ST_OK;
}

static enum status open_file(struct tokens *t, const char *path, struct err *e)
{
    uint64_t size;
    bool is_shard;
    *t = (struct tokens){ .fd = -1, .path = mem_strdup(path) };
    TRY(file_open_read(path, &t->fd, &size, e));
    TRY(open_shard(t, size, &is_shard, e));
    if (is_shard)
        return ST_OK;
    struct h5_at root;
    TRY(h5_open(path, schema, TOKENS_VERSION, &root, e));
    enum status st = read_layout(t, &root, e);
    h5_close(&root);
    return st;
}

enum status tokens_open(const char *path, uint32_t seq_len, uint32_t vocab, struct tokens *t, struct err *e)
{
    enum status st = open_file(t, path, e);
    if (st == ST_OK) {
        t->vocab = vocab;
        t->seq_len = seq_len;
        t->n_windows = t->n_tokens ? (t->n_tokens - 1) / seq_len : 0;
        t->row = mem_alloc(((size_t)seq_len + 1) * t->width);
        t->marks = mem_alloc((size_t)seq_len + 1);
        t->starts = mem_alloc(STARTS * sizeof *t->starts);
        t->index = mem_alloc((t->n_documents / STARTS + 1) * sizeof *t->index);
        if (t->n_windows == 0)
            st = err_set(e, ST_INPUT, path,
                         "found %" PRIu64 " tokens, expected at least %" PRIu64 ", one window of seq_len + 1",
                         t->n_tokens, (uint64_t)seq_len + 1);
    }
    if (st != ST_OK)
        tokens_close(t);
    return st;
}

void tokens_close(struct tokens *t)
{
    if (t->path && t->fd >= 0)
        close(t->fd);
    mem_free(t->path);
    mem_free(t->row);
    mem_free(t->marks);
    mem_free(t->starts);
    mem_free(t->index);
    *t = (struct tokens){ .fd = -1 };
}

static uint32_t token_at(const void *row, uint32_t width, uint64_t i)
{
    return width == 2 ? ((const uint16_t *)row)[i] : ((const uint32_t *)row)[i];
}

static enum status check_id(const struct tokens *t, uint64_t at, uint32_t id, struct err *e)
{
    return id < t->vocab ? ST_OK
                         : err_set(e, ST_INPUT, t->path,
                                   "token %" PRIu64 " is %" PRIu32 ", but the model's vocabulary has %" PRIu32
                                   " entries (ids 0 to %" PRIu32 "): use data made for this model",
                                   at, id, t->vocab, t->vocab - 1);
}

enum status tokens_check(struct tokens *t, uint64_t first, uint64_t n, struct err *e)
{
    void *block = mem_alloc(tokens_block);
    enum status st = ST_OK;
    uint64_t step = tokens_block / t->width;
    for (uint64_t at = 0; st == ST_OK && at < n; at += step) {
        uint64_t part = n - at < step ? n - at : step;
        uint32_t largest = 0;
        st = file_pread(t->fd, t->path, block, part * t->width, t->offset + (first + at) * t->width, e);
        for (uint64_t i = 0; st == ST_OK && i < part; i++)
            largest = token_at(block, t->width, i) > largest ? token_at(block, t->width, i) : largest;
        for (uint64_t i = 0; st == ST_OK && largest >= t->vocab && i < part; i++)
            st = check_id(t, first + at + i, token_at(block, t->width, i), e);
    }
    mem_free(block);
    return st;
}

enum status tokens_window(struct tokens *t, uint64_t index, int32_t *row, struct err *e)
{
    uint64_t first = index * t->seq_len;
    CHECK(index < t->n_windows);
    TRY(file_pread(t->fd, t->path, t->row, ((uint64_t)t->seq_len + 1) * t->width, t->offset + first * t->width, e));
    for (uint64_t i = 0; i <= t->seq_len; i++) {
        uint32_t id = token_at(t->row, t->width, i);
        TRY(check_id(t, first + i, id, e));
        row[i] = (int32_t)id;
    }
    return ST_OK;
}

/* ---- masks and documents ---- */

/* The last document of the index that begins at or before token `at`, as its number there. */
static enum status find_start(struct tokens *t, uint64_t at, uint64_t *found, struct err *e)
{
    uint64_t low = 0, high = (t->n_documents - 1) / STARTS + 1;
    while (high - low > 1) {
        const uint64_t middle = low + (high - low) / 2;
        if (!t->index[middle])
            TRY(tokens_documents(t, middle * STARTS, 1, &t->index[middle], e));
        if (t->index[middle] <= at)
            low = middle;
        else
            high = middle;
    }
    *found = low * STARTS;
    return ST_OK;
}

/* BEGINS for tokens first+1 to first+T; the first one of a window begins what the window sees in any case. */
static enum status mark_documents(struct tokens *t, uint64_t first, struct err *e)
{
    uint64_t at, n;
    if (!t->n_documents)
        return ST_OK;
    TRY(find_start(t, first, &at, e));
    for (bool beyond = false; at < t->n_documents && !beyond; at += n) {
        n = t->n_documents - at < STARTS ? t->n_documents - at : STARTS;
        TRY(tokens_documents(t, at, n, t->starts, e));
        for (uint64_t i = 0; i < n && !beyond; i++) {
            beyond = t->starts[i] > first + t->seq_len;
            if (t->starts[i] > first && !beyond)
                t->marks[t->starts[i] - first] |= BEGINS;
        }
    }
    return ST_OK;
}

static enum status mark(struct tokens *t, uint64_t index, bool apart, struct err *e)
{
    const uint64_t first = index * t->seq_len, n = (uint64_t)t->seq_len + 1;
    CHECK(index < t->n_windows);
    memset(t->marks, COUNTS, n);
    if (t->mask_at)
        TRY(file_pread(t->fd, t->path, t->marks, n, t->mask_at + first, e));
    for (uint64_t i = 0; t->mask_at && i < n; i++)
        t->marks[i] = t->marks[i] ? COUNTS : 0;
    if (!apart)
        return ST_OK;
    TRY(mark_documents(t, first, e));
    for (uint64_t i = 0; i < n; i++)
        if (t->marks[i] & BEGINS)
            t->marks[i] = BEGINS;
    return ST_OK;
}

enum status tokens_targets(struct tokens *t, uint64_t index, const int32_t *row, bool apart, int32_t *targets,
                           int32_t *document, struct err *e)
{
    int32_t begin = 0;
    TRY(mark(t, index, apart, e));
    for (uint32_t i = 0; i < t->seq_len; i++) {
        if (t->marks[i] & BEGINS)
            begin = (int32_t)i;
        targets[i] = t->marks[i + 1] & COUNTS ? row[i + 1] : -1;
        if (document)
            document[i] = begin;
    }
    return ST_OK;
}

enum status tokens_count(struct tokens *t, uint64_t index, bool apart, uint64_t *n, struct err *e)
{
    TRY(mark(t, index, apart, e));
    *n = 0;
    for (uint32_t i = 1; i <= t->seq_len; i++)
        *n += t->marks[i] & COUNTS;
    return ST_OK;
}

enum status tokens_sample(const struct tokens *t, uint8_t sample[SHA256_BYTES], struct err *e)
{
    const uint64_t bytes = t->n_tokens * t->width;
    const uint64_t middle = (bytes - SAMPLE) / 2 / t->width * t->width;
    const uint64_t at[3] = { 0, bytes <= 3 * SAMPLE ? SAMPLE : middle,
                             bytes <= 3 * SAMPLE ? 2 * SAMPLE : bytes - SAMPLE };
    struct sha256 s;
    void *block = mem_alloc(SAMPLE);
    enum status st = ST_OK;
    sha256_init(&s);
    for (int i = 0; i < 3 && at[i] < bytes && st == ST_OK; i++) {
        const uint64_t n = bytes - at[i] < SAMPLE ? bytes - at[i] : SAMPLE;
        st = file_pread(t->fd, t->path, block, n, t->offset + at[i], e);
        if (st == ST_OK)
            sha256_add(&s, block, n);
    }
    mem_free(block);
    sha256_end(&s, sample);
    return st;
}

enum status tokens_documents(const struct tokens *t, uint64_t first, uint64_t n, uint64_t *starts, struct err *e)
{
    CHECK(first + n <= t->n_documents);
    TRY(file_pread(t->fd, t->path, starts, n * sizeof *starts, t->documents_at + first * sizeof *starts, e));
    for (uint64_t i = 0; i < n; i++)
        if (starts[i] >= t->n_tokens || (i > 0 && starts[i] <= starts[i - 1]))
            return err_set(e, ST_INPUT, t->path,
                           "/documents: element %" PRIu64 " is %" PRIu64 ", expected ascending numbers below %" PRIu64,
                           first + i, starts[i], t->n_tokens);
    return ST_OK;
}

static enum status describe(const struct tokens *t, const struct h5_at *root, struct arena *a,
                            struct tokens_about *about, struct err *e)
{
    uint64_t n = H5_ANY;
    const char *source, **files;
    TRY(h5_get_attr_u64(root, "vocab_size", UINT32_MAX, &about->vocab, e));
    if (h5_has(root, "sources")) {
        TRY(h5_get_strings(root, "sources", &n, a, &files, e));
    } else {
        TRY(h5_get_attr_text(root, "source", a, &source, e));
        files = arena_copy(a, &source, sizeof source);
        n = 1;
    }
    about->files = files;
    about->n_files = (uint32_t)n;
    if (!h5_has_attr(root, "tokenizer"))
        return ST_OK;
    TRY(h5_get_attr_text(root, "tokenizer", a, &about->tokenizer, e));
    uint64_t offset;
    struct h5_data d = { .name = "tokenizer", .rank = 1, .dim = { H5_ANY } };
    TRY(h5_locate(root, &d, H5_U8, &offset, e));
    char *file = arena_alloc(a, d.dim[0] + 1);
    TRY(file_pread(t->fd, t->path, file, d.dim[0], offset, e));
    about->tokenizer_file = file;
    about->tokenizer_bytes = d.dim[0];
    return ST_OK;
}

enum status tokens_describe(const char *path, struct arena *a, struct tokens_about *about, struct err *e)
{
    struct tokens t;
    struct h5_at root = { 0 };
    *about = (struct tokens_about){ 0 };
    enum status st = open_file(&t, path, e);
    if (st == ST_OK && (t.offset != SHARD_HEADER || t.file_vocab)) { /* else a shard */
        st = h5_open(path, schema, TOKENS_VERSION, &root, e);
        if (st == ST_OK)
            st = describe(&t, &root, a, about, e);
        h5_close(&root);
    }
    tokens_close(&t);
    return st;
}
