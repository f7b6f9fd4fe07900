#include "text/source.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"

enum { RAW = 1 << 18 };

/* Files that are no text, by their first bytes, and what to do with them. */
static const struct magic {
    const char *bytes;
    uint32_t n;
    const char *what;
} magics[] = {
    { "PAR1", 4,
      "is a parquet file; make JSONL of it: python3 -c \"import pandas, sys; "
      "pandas.read_parquet(sys.argv[1]).to_json(sys.argv[2], orient='records', lines=True)\" IN OUT" },
    { "\x89HDF\r\n\x1a\n", 8, "is an HDF5 file, expected text; token files go through piper data import" },
    { "\x93NUMPY", 6, "is a NumPy file, expected text; token ids go through piper data import" },
    { "MMIDIDX", 7, "is an index of Megatron, expected text; token ids go through piper data import" },
    { "PK\x03\x04", 4, "is a zip archive, expected text: unpack it first" },
    { "BZh", 3, "is packed by bzip2, expected text, .gz or .zst: pipe it, bzcat FILE | piper data ... -" },
    { "\xfd"
      "7zXZ",
      5, "is packed by xz, expected text, .gz or .zst: pipe it, xzcat FILE | piper data ... -" },
    { "ARROW1", 6, "is an Arrow file, expected text: make JSONL of it" },
};

/* More bytes of the file behind those that are there; at_end when there are none. */
static enum status fill(struct source *s, struct err *e)
{
    if (s->at > 0) {
        memmove(s->raw, s->raw + s->at, s->n - s->at);
        s->n -= s->at;
        s->at = 0;
    }
    while (s->n < RAW && !s->at_end) {
        const ssize_t n = read(s->fd, s->raw + s->n, RAW - s->n);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return err_set(e, ST_IO, s->path, "cannot be read: %s", strerror(errno));
        s->at_end = n == 0;
        s->n += (size_t)n;
        s->taken += (uint64_t)n;
        if (s->bytes == 0)
            break; /* a pipe gives what it has */
    }
    return ST_OK;
}

static enum status recognise(struct source *s, struct err *e)
{
    for (size_t i = 0; i < sizeof magics / sizeof *magics; i++)
        if (s->n >= magics[i].n && memcmp(s->raw, magics[i].bytes, magics[i].n) == 0)
            return err_set(e, ST_INPUT, s->path, "%s", magics[i].what);
    const bool gzip = s->n >= 3 && memcmp(s->raw, "\x1f\x8b\x08", 3) == 0;
    const bool zstd = s->n >= 4 && memcmp(s->raw, "\x28\xb5\x2f\xfd", 4) == 0;
    if (!gzip && !zstd)
        return ST_OK;
    s->whole = true;
    s->codec = gzip ? source__gzip() : source__zstd();
    return s->codec ? ST_OK
                    : err_set(e, ST_INPUT, s->path, "is packed, and this build has no %s: unpack it first",
                              gzip ? "zlib" : "zstd");
}

enum status source_open(const char *path, struct source *s, struct err *e)
{
    *s = (struct source){ .fd = -1 };
    const bool standard = strcmp(path, "-") == 0;
    s->path = mem_strdup(standard ? "standard input" : path);
    enum status st = ST_OK;
    if (standard)
        s->fd = dup(STDIN_FILENO);
    else
        st = dir_read(NULL, path, &s->fd, &s->bytes, e);
    if (st == ST_OK && s->fd < 0)
        st = err_set(e, ST_MISSING, s->path, "cannot be read: %s", strerror(errno));
    s->raw = mem_alloc(RAW);
    while (st == ST_OK && s->n < 16 && !s->at_end)
        st = fill(s, e);
    if (st == ST_OK)
        st = recognise(s, e);
    if (st != ST_OK)
        source_close(s);
    return st;
}

static enum status read_plain(struct source *s, void *to, size_t n, size_t *got, struct err *e)
{
    if (s->at == s->n)
        TRY(fill(s, e));
    *got = s->n - s->at < n ? s->n - s->at : n;
    memcpy(to, s->raw + s->at, *got);
    s->at += *got;
    return ST_OK;
}

enum status source_read(struct source *s, void *to, size_t n, size_t *got, struct err *e)
{
    if (!s->codec)
        return read_plain(s, to, n, got, e);
    struct source_piece out = { to, n };
    while (out.n == n) {
        if (s->at == s->n)
            TRY(fill(s, e));
        const bool dry = s->at == s->n;
        if (dry && s->whole)
            break;
        struct source_piece in = { s->raw + s->at, s->n - s->at };
        if (!source__unpack(s->codec, &in, &out, &s->whole))
            return err_set(e, ST_INPUT, s->path, "is damaged near byte %llu: its packed data cannot be unpacked",
                           (unsigned long long)(s->taken - in.n));
        s->at = s->n - in.n;
        if (dry && out.n == n && !s->whole)
            return err_set(e, ST_INPUT, s->path, "ends inside its packed data: the file is cut off");
    }
    *got = n - out.n;
    return ST_OK;
}

void source_close(struct source *s)
{
    if (s->path && s->fd >= 0)
        close(s->fd);
    source__codec_free(s->codec);
    mem_free(s->raw);
    mem_free(s->path);
    *s = (struct source){ .fd = -1 };
}
