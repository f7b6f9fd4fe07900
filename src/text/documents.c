#include "text/documents.h"

#include <stdio.h>
#include <string.h>

#include "text/jsonl.h"

enum { PIECE = 1 << 17, READ = 1 << 20 };

void documents_open(struct documents *d, enum documents_kind kind, const char *field, const struct tokenizer *t,
                    const char *const *files, uint32_t n)
{
    *d = (struct documents){ .kind = kind, .field = field, .t = t, .files = files, .n_files = n };
}

void documents_close(struct documents *d)
{
    for (int i = 0; i < DOCUMENTS_SKIPS; i++)
        mem_free(d->skip[i]);
    if (d->open)
        source_close(&d->source);
    text_bytes_free(&d->raw);
    text_bytes_free(&d->rest);
}

void document_batch_free(struct document_batch *b)
{
    text_bytes_free(&b->text);
    vec_free(b);
}

/* ---- pieces ---- */

static void add_piece(struct documents *d, struct document_batch *b, const char *text, size_t n, bool ends)
{
    vec_add(b, ((struct document_piece){ b->text.n, n, d->line, !d->begun, ends }));
    text_bytes_add(&b->text, text, n);
    d->bytes += n;
    d->begun = !ends;
    d->n += ends;
}

/* A stretch of the document, in pieces that several threads can take. */
static void add_text(struct documents *d, struct document_batch *b, const char *text, size_t n, bool ends)
{
    for (size_t most = PIECE; n > most;) {
        const size_t cut = d->t ? encode_cut(d->t, text, most) : most;
        if (cut == 0) {
            most *= 2;
            continue;
        }
        add_piece(d, b, text, cut, false);
        text += cut;
        n -= cut;
        most = PIECE;
    }
    add_piece(d, b, text, n, ends);
}

/* ---- text ---- */

/* How many bytes at the end may be the begin of a character. */
static size_t unfinished(const char *text, size_t n)
{
    for (size_t back = 1; back <= 3 && back <= n; back++) {
        const unsigned char c = (unsigned char)text[n - back];
        if (c >= 0xc0)
            return (c >= 0xf0 ? 4u : c >= 0xe0 ? 3u : 2u) > back ? back : 0;
        if (c < 0x80)
            return 0;
    }
    return 0;
}

/* More bytes of the open file behind d->raw; *end: there are none. */
static enum status read_more(struct documents *d, bool *end, struct err *e)
{
    size_t got;
    char *to = text_bytes_room(&d->raw, READ);
    TRY(source_read(&d->source, to, READ, &got, e));
    *end = got == 0;
    d->raw.n += got;
    return ST_OK;
}

static enum status fill_text(struct documents *d, struct document_batch *b, bool *end, struct err *e)
{
    const size_t old = d->raw.n;
    TRY(read_more(d, end, e));
    const char *zero = memchr(d->raw.at + old, 0, d->raw.n - old);
    if (zero)
        return err_set(e, ST_INPUT, d->source.path, "holds a byte of 0 (line %llu or later), expected text",
                       (unsigned long long)d->line + 1);
    for (const char *p = d->raw.at + old, *last = d->raw.at + d->raw.n; p && (p = memchr(p, '\n', (size_t)(last - p)));
         p++)
        d->line++;
    const size_t held = *end || !d->t ? 0 : unfinished(d->raw.at, d->raw.n), n = d->raw.n - held;
    if (d->t)
        d->repaired += utf8_repair(d->raw.at, n, &d->rest);
    else
        text_bytes_add(&d->rest, d->raw.at, n);
    memmove(d->raw.at, d->raw.at + n, held);
    d->raw.n = held;
    if (*end) {
        if (d->begun || d->rest.n)
            add_text(d, b, d->rest.at, d->rest.n, true);
        d->rest.n = 0;
        return ST_OK;
    }
    const size_t cut = !d->t ? d->rest.n : d->rest.n > 1 ? encode_cut(d->t, d->rest.at, d->rest.n - 1) : 0;
    if (cut == 0 && d->rest.n > DOCUMENT_MOST)
        return err_set(
            e, ST_INPUT, d->source.path,
            "%d MiB cannot be cut for this tokenizer (no end of a line between words): make JSONL of it, a document a "
            "line",
            DOCUMENT_MOST >> 20);
    if (cut) {
        add_text(d, b, d->rest.at, cut, false);
        memmove(d->rest.at, d->rest.at + cut, d->rest.n - cut);
        d->rest.n -= cut;
    }
    return ST_OK;
}

/* ---- JSONL ---- */

void documents_skip(struct documents *d, uint64_t line, const char *why)
{
    if (d->skipped < DOCUMENTS_SKIPS) {
        char text[400];
        snprintf(text, sizeof text, "%.250s:%llu: %s", d->name, (unsigned long long)line, why);
        d->skip[d->skipped] = mem_strdup(text);
    }
    d->skipped++;
}

/* Valid UTF-8 with a 0 behind it; a 0 inside ends it, which JSON refuses. */
static void add_whole_line(struct documents *d, struct document_batch *b, const char *line, size_t n)
{
    d->repaired += utf8_repair(line, n, &d->rest);
    add_piece(d, b, d->rest.at, d->rest.n, true);
    text_bytes_add(&b->text, "", 1);
    d->rest.n = 0;
}

static void add_line(struct documents *d, struct document_batch *b, const char *line, size_t n)
{
    d->line++;
    if (d->line == 1 && n >= 3 && memcmp(line, "\xef\xbb\xbf", 3) == 0)
        line += 3, n -= 3;
    size_t blank = 0;
    while (blank < n && strchr(" \t\r", line[blank]) && line[blank])
        blank++;
    if (blank == n)
        return;
    d->rest.n = 0;
    if (d->kind == DOCUMENTS_LINES) {
        add_whole_line(d, b, line, n);
        return;
    }
    const char *why = jsonl_field(line, n, d->field, &d->rest, &d->repaired);
    if (why)
        documents_skip(d, d->line, why);
    else if (d->rest.n == 0)
        documents_skip(d, d->line, "the text is empty");
    else
        add_text(d, b, d->rest.at, d->rest.n, true);
    d->rest.n = 0;
}

static enum status fill_lines(struct documents *d, size_t bytes, struct document_batch *b, bool *end, struct err *e)
{
    const char *line_end = NULL;
    for (size_t seen = d->raw_at; !*end && !line_end;) {
        line_end = d->raw.n > seen ? memchr(d->raw.at + seen, '\n', d->raw.n - seen) : NULL;
        if (line_end)
            break;
        if (d->raw_at)
            memmove(d->raw.at, d->raw.at + d->raw_at, d->raw.n - d->raw_at);
        d->raw.n -= d->raw_at;
        d->raw_at = 0;
        seen = d->raw.n;
        if (d->raw.n > DOCUMENT_MOST)
            return err_set(e, ST_INPUT, d->source.path,
                           "line %llu has more than %d MiB, expected JSONL: an object a line",
                           (unsigned long long)d->line + 1, DOCUMENT_MOST >> 20);
        TRY(read_more(d, end, e));
    }
    while (line_end && b->text.n < bytes) {
        add_line(d, b, d->raw.at + d->raw_at, (size_t)(line_end - d->raw.at) - d->raw_at);
        d->raw_at = (size_t)(line_end - d->raw.at) + 1;
        line_end = memchr(d->raw.at + d->raw_at, '\n', d->raw.n - d->raw_at);
    }
    if (*end && d->raw.n > d->raw_at)
        add_line(d, b, d->raw.at + d->raw_at, d->raw.n - d->raw_at);
    return ST_OK;
}

/* ---- files ---- */

static enum status next_file(struct documents *d, struct err *e)
{
    const char *path = d->files[d->file];
    if (d->kind == DOCUMENTS_TEXT && (strstr(path, ".jsonl") || strstr(path, ".ndjson")))
        return err_set(e, ST_INPUT, path,
                       "is JSONL by its name, expected text: piper data jsonl takes the text of each line");
    TRY(source_open(d->files[d->file++], &d->source, e));
    snprintf(d->name, sizeof d->name, "%.250s", d->source.path);
    d->file_bytes += d->source.taken;
    d->open = true;
    d->begun = false;
    d->line = 0;
    d->raw.n = d->rest.n = d->raw_at = 0;
    return ST_OK;
}

enum status documents_fill(struct documents *d, size_t bytes, struct document_batch *b, struct err *e)
{
    b->n = 0;
    b->text.n = 0;
    while (b->text.n < bytes && (d->open || d->file < d->n_files)) {
        if (!d->open)
            TRY(next_file(d, e));
        const uint64_t before = d->source.taken;
        bool end = false;
        TRY(d->kind == DOCUMENTS_TEXT ? fill_text(d, b, &end, e) : fill_lines(d, bytes, b, &end, e));
        d->file_bytes += d->source.taken - before;
        if (end) {
            source_close(&d->source);
            d->open = false;
        }
    }
    return ST_OK;
}
