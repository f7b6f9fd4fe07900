#include "text/tokenizer.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/dir.h"

enum { FILE_MOST = 1 << 28 };

const char tokenizer__gpt2_split[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

void tokenizer_free(struct tokenizer *t)
{
    if (!t)
        return;
    mem_free(t->path);
    mem_free(t->name);
    mem_free(t->file);
    mem_free(t->chat_template);
    bpe_free(&t->bpe);
    sentencepiece_free(t->pieces);
    added_set_free(&t->raw);
    added_set_free(&t->normal);
    for (uint32_t i = 0; i < t->n_normalizers; i++) {
        mem_free(t->normalizer[i].from);
        mem_free(t->normalizer[i].to);
    }
    for (uint32_t i = 0; i < t->n_stages; i++)
        pattern_free(t->stage[i].pattern);
    mem_free(t->special);
    mem_free(t->normalized);
    mem_free(t);
}

void tokenizer__add(struct tokenizer *t, const struct added_token *token, bool normalized)
{
    struct added_token copy = *token;
    struct text_bytes made = { 0 }, scratch = { 0 };
    const char *text = token->text;
    if (normalized && tokenizer__normalize(t, text, token->length, false, &made, &scratch)) {
        text = made.at;
        copy.length = (uint32_t)made.n;
    }
    copy.text = mem_alloc(copy.length + 1u);
    memcpy(copy.text, text, copy.length);
    added_set_add(normalized ? &t->normal : &t->raw, copy);
    t->n_added++;
    text_bytes_free(&made);
    text_bytes_free(&scratch);
}

uint32_t tokenizer_find(const struct tokenizer *t, const char *text)
{
    const size_t n = strlen(text);
    const struct added_set *const sets[] = { &t->raw, &t->normal };
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < sets[s]->n; i++)
            if (sets[s]->at[i].length == n && memcmp(sets[s]->at[i].text, text, n) == 0)
                return sets[s]->at[i].id;
    const uint32_t named = t->pieces ? trie_find(&t->pieces->name, text, n) : TRIE_NONE;
    return named != TRIE_NONE ? named : vocabulary_find(&t->bpe.vocabulary, text, n);
}

/* ---- may a text be cut at the end of a line? ---- */

/* No match holds a line's end and a letter behind it. */
static bool keeps_lines_apart(const struct pattern *p)
{
    uint32_t letters = 0;
    const uint32_t line = p->page[0]['\n'];
    for (int c = 'a'; c <= 'z'; c++)
        letters |= p->page[0][c] | p->page[0][c - 32];
    for (uint32_t i = 0; i < p->n_ops; i++) {
        const struct pattern_op *op = &p->op[i];
        if (op->kind != PATTERN_SET || !(op->mask & line))
            continue;
        if ((op->max > 1 && op->mask & letters) || pattern_first(p, op->next) & letters)
            return false;
    }
    return true;
}

/* A line's end is a piece of its own, whether a letter follows or nothing. */
static bool ends_lines(const struct pattern *p)
{
    struct scan s;
    scan_open(&s, p);
    bool good = true;
    for (char before = '!'; before < 0x7f && good; before++) {
        const char text[3] = { before, '\n', 'a' };
        for (size_t n = 2; n <= 3 && good; n++) {
            struct pattern_match m = { text, text };
            bool found = true;
            scan_begin(&s, text, n);
            while (found && m.end < text + 2 && scan_next(&s, m.end, &m, &found, NULL) == ST_OK)
                ;
            good = found && m.end == text + 2;
        }
    }
    scan_close(&s);
    return good;
}

static bool splits_lines(const struct tokenizer *t)
{
    const struct pattern *last = NULL;
    for (uint32_t i = 0; i < t->n_stages; i++) {
        const struct stage *s = &t->stage[i];
        if (s->kind != STAGE_SPLIT && last)
            return false; /* what is put before a piece would be put behind a cut */
        if (s->kind != STAGE_SPLIT)
            continue;
        last = s->pattern;
        if (last->pcre2 || !keeps_lines_apart(last))
            return false;
    }
    const enum split_behaviour b = t->n_stages ? t->stage[t->n_stages - 1].behaviour : SPLIT_CONTIGUOUS;
    return !t->bpe.bytes || (last && (b == SPLIT_ISOLATED || b == SPLIT_REMOVED) && ends_lines(last));
}

static bool is_letter(char c)
{
    return (c | 0x20) >= 'a' && (c | 0x20) <= 'z';
}

/* No merge joins a line's end to a letter. */
static bool merges_no_lines(const struct bpe *b)
{
    for (uint32_t i = 0; i < b->n_slots; i++) {
        uint32_t n, m;
        const uint32_t left = (uint32_t)(b->merge[i].pair >> 32), right = (uint32_t)b->merge[i].pair;
        if (b->merge[i].pair == UINT64_MAX)
            continue;
        const char *l = vocabulary_bytes(&b->vocabulary, left, &n), *r = vocabulary_bytes(&b->vocabulary, right, &m);
        if (l && r && n && m && (l[n - 1] == '\n' || left == b->byte['\n']) && is_letter(r[0]))
            return false;
    }
    return true;
}

static bool may_cut_lines(const struct tokenizer *t)
{
    const struct added_set *const sets[] = { &t->raw, &t->normal };
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < sets[s]->n; i++) {
            const struct added_token *a = &sets[s]->at[i];
            if (a->lstrip && is_letter(a->text[0]))
                return false;
            for (uint32_t k = 0; k + 1 < a->length; k++)
                if (a->text[k] == '\n' && is_letter(a->text[k + 1]))
                    return false;
        }
    for (uint32_t i = 0; i < t->n_normalizers; i++)
        if (t->normalizer[i].kind == NORMALIZE_REPLACE && strcmp(t->normalizer[i].from, " ") != 0)
            return false;
    if (t->pieces && !sentencepiece_keeps_lines(t->pieces))
        return false;
    return splits_lines(t) && (t->bpe.bytes || (t->bpe.cuts && !t->bpe.ignore_merges && merges_no_lines(&t->bpe)));
}

/* ---- opening ---- */

static void finish(struct tokenizer *t)
{
    static const char *const names[] = { "<|endoftext|>", "<|end_of_text|>",
                                         "<\xef\xbd\x9c"
                                         "end\xe2\x96\x81"
                                         "of\xe2\x96\x81"
                                         "sentence\xef\xbd\x9c>",
                                         "</s>", "<eos>" };
    bpe_finish(&t->bpe);
    t->n_vocab = t->bpe.vocabulary.n;
    t->special = mem_alloc(t->n_vocab * sizeof *t->special);
    const struct added_set *const sets[] = { &t->raw, &t->normal };
    for (int s = 0; s < 2; s++)
        for (uint32_t i = 0; i < sets[s]->n; i++)
            t->special[sets[s]->at[i].id] |= sets[s]->at[i].special;
    for (uint32_t id = 0; t->pieces && id < t->n_vocab; id++)
        t->special[id] = t->pieces->kind[id] == PIECE_CONTROL;
    t->normalized = mem_alloc(t->n_vocab * sizeof *t->normalized);
    for (uint32_t i = 0; i < t->normal.n && !t->bpe.bytes; i++)
        t->normalized[t->normal.at[i].id] = i + 1;
    t->end_of_text = VOCABULARY_NONE;
    for (size_t i = 0; i < sizeof names / sizeof *names && t->end_of_text == VOCABULARY_NONE; i++)
        t->end_of_text = tokenizer_find(t, names[i]);
    if (t->end_of_text == VOCABULARY_NONE)
        t->end_of_text = t->eos;
    t->cuts_lines = may_cut_lines(t);
}

static enum status read_bytes(struct tokenizer *t, const char *pattern, struct err *e)
{
    const char *p = t->file, *end = t->file + t->file_bytes;
    t->bos = t->eos = t->bpe.unknown = VOCABULARY_NONE;
    memset(t->bpe.byte, 0xff, sizeof t->bpe.byte);
    while (p < end && strchr(" \t\r\n", *p) && *p)
        p++;
    const bool json = p < end && *p == '{',
               pieces = !json && t->file_bytes > 2 && t->file[0] == '\n' && t->file[2] == '\n';
    if ((json || pieces) && pattern)
        return err_set(e, ST_USAGE, t->path, "--pattern goes with a tiktoken rank file; a %s has its own",
                       json ? "tokenizer.json" : "sentencepiece model");
    return json     ? tokenizer__read_json(t, e)
           : pieces ? tokenizer__read_pieces(t, e)
                    : tokenizer__read_tiktoken(t, pattern, e);
}

/* What a folder is looked for. */
static const char *const file_names[] = { "tokenizer.json", "tokenizer.model", "spiece.model" };
enum { FILE_NAMES = sizeof file_names / sizeof *file_names };

/* The last part of a path, without an ending; of a file with such a name, its folder's. */
static char *name_of(const char *path)
{
    char full[DIR_PATH];
    snprintf(full, sizeof full, "%s", path);
    char *slash = strrchr(full, '/');
    for (int i = 0; i < FILE_NAMES && slash; i++)
        if (strcmp(slash + 1, file_names[i]) == 0) {
            *slash = '\0';
            slash = strrchr(full, '/');
        }
    char *name = mem_strdup(slash && slash[1] ? slash + 1 : full), *dot = strrchr(name, '.');
    if (dot && dot > name)
        *dot = '\0';
    text_printable(name);
    return name;
}

static struct tokenizer *new_tokenizer(const char *path)
{
    struct tokenizer *t = mem_alloc(sizeof *t);
    t->path = mem_strdup(path);
    t->name = name_of(path);
    return t;
}

static enum status read_file(struct tokenizer *t, struct err *e)
{
    int fd;
    TRY(dir_read(NULL, t->path, &fd, &t->file_bytes, e));
    enum status st = ST_OK;
    if (t->file_bytes > FILE_MOST)
        st = err_set(e, ST_INPUT, t->path, "has %llu bytes, expected a tokenizer of at most %d",
                     (unsigned long long)t->file_bytes, FILE_MOST);
    t->file = st == ST_OK ? mem_alloc(t->file_bytes + 1) : NULL;
    for (uint64_t at = 0; st == ST_OK && at < t->file_bytes;) {
        const ssize_t n = read(fd, t->file + at, t->file_bytes - at);
        if (n <= 0)
            st = err_set(e, ST_IO, t->path, "cannot be read: %s", n < 0 ? strerror(errno) : "it has shrunk");
        else
            at += (uint64_t)n;
    }
    close(fd);
    return st;
}

/* Which of these it has; false: none. */
static bool find_file(const char *folder, char path[DIR_PATH])
{
    for (int i = 0; i < FILE_NAMES; i++)
        if (dir_has_path(folder, file_names[i], path))
            return true;
    return false;
}

bool tokenizer_is_in(const char *folder)
{
    char path[DIR_PATH];
    return find_file(folder, path);
}

enum status tokenizer_open(const char *path, const char *pattern, struct tokenizer **out, struct err *e)
{
    char found[DIR_PATH];
    const bool folder = dir_is_folder(path);
    if (folder && !find_file(path, found))
        return err_set(e, ST_MISSING, path, "has no tokenizer.json, tokenizer.model or spiece.model");
    struct tokenizer *t = new_tokenizer(folder ? found : path);
    enum status st = read_file(t, e);
    if (st == ST_OK)
        st = read_bytes(t, pattern, e);
    if (st == ST_OK && folder)
        st = tokenizer__read_config(t, path, e);
    if (st != ST_OK) {
        tokenizer_free(t);
        return st;
    }
    finish(t);
    *out = t;
    return ST_OK;
}

enum status tokenizer_from_bytes(const void *bytes, size_t n, const char *pattern, const char *path,
                                 struct tokenizer **out, struct err *e)
{
    struct tokenizer *t = new_tokenizer(path);
    t->file = mem_alloc(n + 1);
    t->file_bytes = n;
    if (n)
        memcpy(t->file, bytes, n);
    enum status st = read_bytes(t, pattern, e);
    if (st != ST_OK) {
        tokenizer_free(t);
        return st;
    }
    finish(t);
    *out = t;
    return ST_OK;
}
