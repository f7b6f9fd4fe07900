#include "io/tokens.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/mem.h"
#include "io/file.h"
#include "io/h5.h"

enum { SHARD_HEADER = 1024, VERSION = 1, SAMPLE = 1 << 20 };
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

static enum status read_layout(struct tokens *t, const struct h5_at *root, struct err *e)
{
    static const char *const members[] = { "tokens", NULL };
    static const char *const attrs[] = { "schema", "schema_version", "vocab_size", "source", NULL };
    struct h5_data d = { .name = "tokens", .rank = 1, .dim = { H5_ANY } };
    enum h5_type type;
    uint64_t vocab;
    TRY(h5_only(root, members, e));
    TRY(h5_only_attrs(root, attrs, e));
    TRY(h5_type_of(root, "tokens", &type, e));
    if (type != H5_U16 && type != H5_U32)
        return err_set(e, ST_INPUT, root->where, "tokens: expected elements of type uint16 or uint32, little-endian");
    TRY(h5_locate(root, &d, type, &t->offset, e));
    TRY(h5_get_attr_u64(root, "vocab_size", UINT32_MAX, &vocab, e));
    t->file_vocab = (uint32_t)vocab;
    t->width = type == H5_U16 ? 2 : 4;
    t->n_tokens = d.dim[0];
    return ST_OK;
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
    TRY(h5_open(path, schema, VERSION, &root, e));
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

/* ---- making token files ---- */

/* A token file under construction: the dataset is reserved, then filled in at its offset. */
struct token_writer {
    struct h5_out out;
    uint64_t offset; /* of the next byte */
    struct err *e;
};

static enum status make_begin(struct token_writer *m, const char *path, enum h5_type type, uint64_t n, uint32_t vocab,
                              const char *source)
{
    struct h5_data d = { .name = "tokens", .units = "token ids", .rank = 1, .dim = { n } };
    TRY(h5_create(path, schema, VERSION, &m->out, m->e));
    TRY(h5_attr_u64(&m->out.root, "vocab_size", vocab, m->e));
    TRY(h5_attr_text(&m->out.root, "source", source, m->e));
    TRY(h5_reserve(&m->out.root, &d, type, &m->offset, m->e));
    return h5_finish(&m->out, m->e);
}

static enum status make_end(struct token_writer *m, enum status st)
{
    if (st == ST_OK)
        return h5_commit(&m->out, m->e);
    h5_abandon(&m->out);
    return st;
}

/* Names of the files without their folders, for the attribute `source`; as many as fit. */
static void list_sources(const char *const *files, uint32_t n, char text[1024])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        const char *slash = strrchr(files[i], '/'), *base = slash ? slash + 1 : files[i];
        if (used + strlen(base) + 8 > 1024) {
            strcpy(text + used, " ...");
            break;
        }
        used += (size_t)sprintf(text + used, "%s%s", i ? " " : "", base);
    }
    for (char *c = text; *c; c++)
        if ((unsigned char)*c < 0x20 || *c == 0x7f)
            *c = '?';
}

static enum status append_text(struct token_writer *m, const char *path, uint64_t *left, void *bytes, uint16_t *wide)
{
    int fd;
    uint64_t size;
    TRY(file_open_read(path, &fd, &size, m->e));
    enum status st = ST_OK;
    if (size > *left)
        st = err_set(m->e, ST_IO, path, "grew while it was being read");
    for (uint64_t at = 0; st == ST_OK && at < size; at += tokens_block) {
        uint64_t n = size - at < tokens_block ? size - at : tokens_block;
        st = file_pread(fd, path, bytes, n, at, m->e);
        for (uint64_t i = 0; i < n; i++)
            wide[i] = ((const uint8_t *)bytes)[i];
        if (st == ST_OK)
            st = file_pwrite(m->out.file.fd, m->out.path, wide, n * 2, m->offset, m->e);
        m->offset += n * 2;
        *left -= n;
    }
    close(fd);
    return st;
}

enum status tokens_from_text(const char *const *files, uint32_t n, const char *out, struct err *e)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < n; i++) {
        int fd;
        uint64_t size;
        TRY(file_open_read(files[i], &fd, &size, e));
        close(fd);
        total += size;
    }
    if (total < 2)
        return err_set(e, ST_INPUT, n ? files[0] : NULL,
                       "contains no text: found %" PRIu64 " bytes in all, expected at least 2", total);
    char source[1024];
    list_sources(files, n, source);
    struct token_writer m = { .e = e };
    void *bytes = mem_alloc(tokens_block), *wide = mem_alloc((size_t)tokens_block * 2);
    enum status st = make_begin(&m, out, H5_U16, total, 256, source);
    for (uint32_t i = 0; st == ST_OK && i < n; i++)
        st = append_text(&m, files[i], &total, bytes, wide);
    if (st == ST_OK && total)
        st = err_set(e, ST_IO, files[0], "a file shrank while it was being read");
    mem_free(bytes);
    mem_free(wide);
    return make_end(&m, st);
}

/* Calls fn on every block of a file's tokens. */
static enum status each_block(const char *path, uint32_t width, void *block,
                              enum status (*fn)(void *arg, const struct tokens *t, uint64_t first, uint64_t n),
                              void *arg, struct err *e)
{
    struct tokens t;
    enum status st = open_file(&t, path, e);
    if (st == ST_OK && t.width != width)
        st = err_set(e, ST_INPUT, path, "has tokens of %" PRIu32 " bytes, the files before it have %" PRIu32, t.width,
                     width);
    uint64_t step = tokens_block / width;
    for (uint64_t at = 0; st == ST_OK && at < t.n_tokens; at += step) {
        uint64_t n = t.n_tokens - at < step ? t.n_tokens - at : step;
        st = file_pread(t.fd, path, block, n * width, t.offset + at * width, e);
        if (st == ST_OK)
            st = fn(arg, &t, at, n);
    }
    tokens_close(&t);
    return st;
}

struct token_importer {
    struct token_writer m;
    void *block;
    uint32_t vocab, largest;
    uint64_t total;
};

static enum status inspect_block(void *arg, const struct tokens *t, uint64_t first, uint64_t n)
{
    struct token_importer *im = arg;
    for (uint64_t i = 0; i < n; i++) {
        uint32_t id = token_at(im->block, t->width, i);
        if ((im->vocab && id >= im->vocab) || id > INT32_MAX)
            return err_set(im->m.e, ST_INPUT, t->path,
                           "token %" PRIu64 " is %" PRIu32 ", expected an id below %" PRIu32, first + i, id,
                           im->vocab ? im->vocab : (uint32_t)INT32_MAX);
        im->largest = id > im->largest ? id : im->largest;
    }
    im->total += n;
    return ST_OK;
}

static enum status copy_block(void *arg, const struct tokens *t, uint64_t first, uint64_t n)
{
    (void)first;
    struct token_importer *im = arg;
    if (n > im->total)
        return err_set(im->m.e, ST_IO, t->path, "changed while it was being read");
    im->total -= n;
    enum status st = file_pwrite(im->m.out.file.fd, im->m.out.path, im->block, n * t->width, im->m.offset, im->m.e);
    im->m.offset += n * t->width;
    return st;
}

enum status tokens_import(const char *const *files, uint32_t n, uint32_t vocab, const char *out, struct err *e)
{
    if (n == 0)
        return err_set(e, ST_USAGE, NULL, "no token file to import");
    struct tokens t;
    enum status st = open_file(&t, files[0], e);
    uint32_t width = t.width;
    tokens_close(&t);
    TRY(st);
    struct token_importer im = { .m = { .e = e }, .block = mem_alloc(tokens_block), .vocab = vocab };
    for (uint32_t i = 0; st == ST_OK && i < n; i++)
        st = each_block(files[i], width, im.block, inspect_block, &im, e);
    if (st == ST_OK && im.total < 2)
        st = err_set(e, ST_INPUT, files[0], "found %" PRIu64 " tokens in all, expected at least 2", im.total);
    char source[1024];
    list_sources(files, n, source);
    if (st == ST_OK) {
        st = make_begin(&im.m, out, width == 2 ? H5_U16 : H5_U32, im.total, vocab ? vocab : im.largest + 1, source);
        for (uint32_t i = 0; st == ST_OK && i < n; i++)
            st = each_block(files[i], width, im.block, copy_block, &im, e);
        if (st == ST_OK && im.total)
            st = err_set(e, ST_IO, files[0], "a file changed while it was being read");
        st = make_end(&im.m, st);
    }
    mem_free(im.block);
    return st;
}
