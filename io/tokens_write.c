#include "io/tokens_write.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "io/file.h"
#include "io/h5.h"
#include "io/sha256.h"
#include "io/tokens.h"

/* What describes the tokens is made last, in memory, and lies before and behind them. Where they begin does not depend on
 * their number: it is asked of a file of two. */
static enum status describe(const struct tokens_out *o, const struct tokens_about *about, struct h5_out *image,
                            uint64_t *offset, struct err *e);

/* Names of the files without their folders. */
static char **names_of(const struct tokens_about *about)
{
    char **names = mem_alloc((about->n_files + 1u) * sizeof *names);
    for (uint32_t i = 0; i < about->n_files; i++) {
        const char *slash = strrchr(about->files[i], '/');
        names[i] = mem_strdup(slash && slash[1] ? slash + 1 : about->files[i]);
        text_printable(names[i]);
    }
    return names;
}

/* As many as fit, for the attribute `source`. */
static void list_sources(char *const *names, uint32_t n, char text[1024])
{
    size_t used = 0;
    text[0] = '\0';
    for (uint32_t i = 0; i < n; i++) {
        if (used + strlen(names[i]) + 8 > 1024) {
            strcpy(text + used, " ...");
            break;
        }
        used += (size_t)sprintf(text + used, "%s%s", i ? " " : "", names[i]);
    }
}

static enum status put_sources(const struct h5_at *root, const struct tokens_about *about, struct err *e)
{
    char text[1024];
    char **names = names_of(about);
    list_sources(names, about->n_files, text);
    enum status st = h5_attr_text(root, "source", text, e);
    if (st == ST_OK && about->n_files)
        st = h5_put_strings(root, "sources", (const char *const *)names, about->n_files, e);
    for (uint32_t i = 0; i < about->n_files; i++)
        mem_free(names[i]);
    mem_free(names);
    return st;
}

static enum status put_tokenizer(const struct h5_at *root, const struct tokens_about *about, struct err *e)
{
    char hash[2 * SHA256_BYTES + 1];
    uint8_t digest[SHA256_BYTES];
    struct sha256 s;
    if (!about->tokenizer)
        return ST_OK;
    sha256_init(&s);
    sha256_add(&s, about->tokenizer_file, about->tokenizer_bytes);
    sha256_end(&s, digest);
    for (int i = 0; i < SHA256_BYTES; i++)
        sprintf(hash + 2 * i, "%02x", digest[i]);
    const struct h5_data d = { .name = "tokenizer", .rank = 1, .dim = { about->tokenizer_bytes } };
    TRY(h5_attr_text(root, "tokenizer", about->tokenizer, e));
    TRY(h5_attr_text(root, "tokenizer_hash", hash, e));
    return h5_put(root, &d, H5_U8, about->tokenizer_file, e);
}

static enum status put_all(const struct tokens_out *o, const struct tokens_about *about, const struct h5_at *root,
                           uint64_t *offset, struct err *e)
{
    const struct h5_data tokens = { .name = "tokens", .units = "token ids", .rank = 1, .dim = { o->n_tokens } };
    const struct h5_data documents = { "documents", "tokens", 1, { o->documents.n } };
    const struct h5_data mask = { .name = "mask", .rank = 1, .dim = { o->mask.n } };
    TRY(h5_reserve(root, &tokens, o->width == 2 ? H5_U16 : H5_U32, offset, e));
    if (!about)
        return ST_OK;
    TRY(h5_attr_u64(root, "vocab_size", about->vocab, e));
    TRY(put_sources(root, about, e));
    if (o->documents.n)
        TRY(h5_put(root, &documents, H5_U64, o->documents.at, e));
    if (o->mask.n)
        TRY(h5_put(root, &mask, H5_U8, o->mask.at, e));
    return put_tokenizer(root, about, e);
}

static enum status describe(const struct tokens_out *o, const struct tokens_about *about, struct h5_out *image,
                            uint64_t *offset, struct err *e)
{
    TRY(h5_create_image(o->file.path, "piper-tokens", TOKENS_VERSION, image, e));
    enum status st = put_all(o, about, &image->root, offset, e);
    if (st == ST_OK)
        st = h5_close_image(image, e);
    if (st != ST_OK)
        h5_abandon(image);
    return st;
}

enum status tokens_out_begin(const char *path, uint32_t width, struct tokens_out *o, struct err *e)
{
    struct h5_out image;
    *o = (struct tokens_out){ .file = { .fd = -1 }, .width = width };
    TRY(dir_new_begin(NULL, path, &o->file, e));
    o->n_tokens = 2;
    enum status st = describe(o, NULL, &image, &o->offset, e);
    o->n_tokens = 0;
    if (st == ST_OK) {
        h5_abandon(&image);
        o->buffer = mem_alloc(tokens_block);
    } else {
        tokens_out_drop(o);
    }
    return st;
}

void tokens_out_document(struct tokens_out *o)
{
    if (o->documents.n && o->documents.at[o->documents.n - 1] == o->n_tokens)
        return;
    vec_add(&o->documents, o->n_tokens);
}

static enum status flush(struct tokens_out *o, struct err *e)
{
    const uint64_t at = o->offset + o->n_tokens * o->width - o->held;
    TRY(file_pwrite(o->file.fd, o->file.path, o->buffer, o->held, at, e));
    o->held = 0;
    return ST_OK;
}

enum status tokens_out_add(struct tokens_out *o, const uint32_t *ids, const uint8_t *mask, uint64_t n, struct err *e)
{
    for (uint64_t i = 0; i < n; i++) {
        if (o->held == tokens_block)
            TRY(flush(o, e));
        memcpy(o->buffer + o->held, &ids[i], o->width); /* little-endian */
        o->held += o->width;
        o->n_tokens++;
        if (mask)
            vec_add(&o->mask, mask[i]);
    }
    return ST_OK;
}

enum status tokens_out_end(struct tokens_out *o, const struct tokens_about *about, struct err *e)
{
    struct h5_out image;
    uint64_t offset;
    if (o->n_tokens < 2)
        return err_set(e, ST_INPUT, o->file.path, "found %" PRIu64 " tokens in all, expected at least 2", o->n_tokens);
    if (o->documents.n && o->documents.at[o->documents.n - 1] == o->n_tokens)
        o->documents.n--;
    TRY(flush(o, e));
    TRY(describe(o, about, &image, &offset, e));
    CHECK(offset == o->offset);
    const struct h5_range around[] = { { 0, offset }, { offset + o->n_tokens * o->width, h5_image_bytes(&image) } };
    enum status st = h5_copy_image(&image, o->file.fd, o->file.path, around, 2, e);
    h5_abandon(&image);
    return st == ST_OK ? dir_new_publish(&o->file, e) : st;
}

void tokens_out_drop(struct tokens_out *o)
{
    dir_new_drop(&o->file);
    mem_free(o->buffer);
    vec_free(&o->documents);
    vec_free(&o->mask);
    *o = (struct tokens_out){ .file = { .fd = -1 } };
}
