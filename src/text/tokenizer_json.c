/* tokenizer.json, as the library `tokenizers` writes it. What changes the outcome and is not understood is refused. */
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/dir.h"
#include "base/json.h"
#include "text/tokenizer.h"

/* ---- bytes as characters ---- */

/* Byte-level files write a byte as a character: itself where that can be seen, else one from U+0100 on, in order. */
static bool is_seen(uint32_t byte)
{
    return (byte >= '!' && byte <= '~') || (byte >= 0xa1 && byte <= 0xac) || (byte >= 0xae && byte <= 0xff);
}

static int byte_of(uint32_t c)
{
    static int of[0x200];
    if (!of['!'])
        for (uint32_t byte = 0, next = 0x100; byte < 256; byte++)
            of[is_seen(byte) ? byte : next++] = (int)byte + 1;
    return c < 0x200 ? of[c] - 1 : -1;
}

/* The bytes that a token of a byte-level file stands for. False: it has a character that stands for none. */
static bool to_bytes(const char *text, struct text_bytes *out)
{
    out->n = 0;
    for (const char *p = text; *p;) {
        const int byte = byte_of(utf8_next(&p));
        const char c = (char)byte;
        if (byte < 0)
            return false;
        text_bytes_add(out, &c, 1);
    }
    return true;
}

/* ---- the model ---- */

static enum status read_vocabulary(struct tokenizer *t, const struct js *model, struct text_bytes *scratch,
                                   struct err *e)
{
    struct js vocab;
    const char *text;
    json_t *id;
    TRY(js_need(model, "vocab", &vocab, e));
    if (!json_is_object(vocab.v))
        return js_expected(&vocab, e, "an object of tokens and their ids");
    json_object_foreach(vocab.v, text, id)
    {
        const json_int_t value = json_is_integer(id) ? json_integer_value(id) : -1;
        if (value < 0 || value >= VOCABULARY_MOST)
            return js_wrong(&vocab, e, "the id of \"%.40s\" is none from 0 to %d", text, VOCABULARY_MOST - 1);
        const bool bytes = t->bpe.bytes && to_bytes(text, scratch);
        const uint32_t n = bytes ? (uint32_t)scratch->n : (uint32_t)strlen(text);
        /* a token of a byte-level file that is not made of bytes is one that was added: text has it, words do not */
        if (!(t->bpe.bytes && !bytes ? vocabulary_add_hidden : vocabulary_add)(
                &t->bpe.vocabulary, bytes ? scratch->at : text, n, (uint32_t)value))
            return js_wrong(&vocab, e, "two tokens have the id %lld", (long long)value);
    }
    return t->bpe.vocabulary.used ? ST_OK : js_wrong(&vocab, e, "holds no token");
}

/* The two texts of a merge, "a b" or ["a", "b"]. The first is copied to *left where it must be cut off. */
static bool merge_parts(const json_t *m, struct text_bytes *cut, const char **left, const char **right)
{
    if (json_is_array(m) && json_array_size(m) == 2) {
        *left = json_string_value(json_array_get(m, 0));
        *right = json_string_value(json_array_get(m, 1));
        return *left && *right;
    }
    const char *text = json_is_string(m) ? json_string_value(m) : "", *space = strchr(text, ' ');
    if (!space || strchr(space + 1, ' '))
        return false;
    cut->n = 0;
    text_bytes_add(cut, text, (size_t)(space - text));
    text_bytes_add(cut, "", 1);
    *left = cut->at;
    *right = space + 1;
    return true;
}

static uint32_t find(const struct tokenizer *t, const char *text, struct text_bytes *scratch)
{
    if (!t->bpe.bytes)
        return vocabulary_find(&t->bpe.vocabulary, text, strlen(text));
    return to_bytes(text, scratch) ? vocabulary_find(&t->bpe.vocabulary, scratch->at, scratch->n) : VOCABULARY_NONE;
}

static enum status read_merges(struct tokenizer *t, const struct js *model, struct text_bytes *scratch, struct err *e)
{
    struct js merges;
    uint32_t n;
    TRY(js_need(model, "merges", &merges, e));
    TRY(js_count(&merges, &n, e));
    if (n >= VOCABULARY_MOST)
        return js_wrong(&merges, e, "found %u merges, expected fewer than %d", n, VOCABULARY_MOST);
    bpe_reserve(&t->bpe, n);
    struct text_bytes cut = { 0 }, both = { 0 };
    enum status st = ST_OK;
    for (uint32_t i = 0; i < n && st == ST_OK; i++) {
        const char *left, *right;
        const struct js at = js_at(&merges, i);
        if (!merge_parts(at.v, &cut, &left, &right)) {
            st = js_expected(&at, e, "two tokens, \"a b\" or [\"a\", \"b\"]");
            break;
        }
        both.n = 0;
        text_bytes_add(&both, left, strlen(left));
        text_bytes_add(&both, right, strlen(right) + 1);
        const uint32_t l = find(t, left, scratch), r = find(t, right, scratch), made = find(t, both.at, scratch);
        if (l == VOCABULARY_NONE || r == VOCABULARY_NONE || made == VOCABULARY_NONE)
            st = js_wrong(&at, e, "\"%.40s\" is not in $.model.vocab",
                          l == VOCABULARY_NONE   ? left
                          : r == VOCABULARY_NONE ? right
                                                 : both.at);
        else
            bpe_add_merge(&t->bpe, l, r, i, made);
    }
    text_bytes_free(&cut);
    text_bytes_free(&both);
    return st;
}

/* Tokens of single bytes: symbols of a byte-level model, fallbacks of another. */
static void find_bytes(struct tokenizer *t)
{
    for (uint32_t byte = 0; byte < 256; byte++) {
        char text[8] = { (char)byte };
        const int n = t->bpe.bytes ? 1 : snprintf(text, sizeof text, "<0x%02X>", byte);
        t->bpe.byte[byte] = t->bpe.bytes || t->bpe.falls_back ? vocabulary_find(&t->bpe.vocabulary, text, (size_t)n)
                                                              : VOCABULARY_NONE;
    }
}

static enum status refuse_word(const struct js *o, const char *key, struct err *e)
{
    const char *text;
    struct js v;
    TRY(js_str_or(o, key, "", &text, e));
    TRY(js_opt(o, key, &v, e));
    return *text ? js_expected(&v, e, "\"\": words without a mark of their own") : ST_OK;
}

static enum status read_model(struct tokenizer *t, const struct js *root, struct err *e)
{
    struct js model, v;
    const char *type, *unknown;
    double dropout;
    TRY(js_need(root, "model", &model, e));
    TRY(js_str_or(&model, "type", "BPE", &type, e));
    TRY(js_opt(&model, "type", &v, e));
    if (strcmp(type, "BPE") != 0)
        return js_expected(&v, e, "\"BPE\"");
    TRY(js_num_or(&model, "dropout", 0, 1, 0, &dropout, e));
    if (dropout > 0)
        return js_wrong(&model, e, "dropout is %g, expected none: tokens must be the same every time", dropout);
    TRY(refuse_word(&model, "continuing_subword_prefix", e));
    TRY(refuse_word(&model, "end_of_word_suffix", e));
    TRY(js_bool_or(&model, "fuse_unk", false, &t->bpe.fuse_unknown, e));
    TRY(js_bool_or(&model, "byte_fallback", false, &t->bpe.falls_back, e));
    TRY(js_bool_or(&model, "ignore_merges", false, &t->bpe.ignore_merges, e));
    TRY(js_str_or(&model, "unk_token", "", &unknown, e));
    struct text_bytes scratch = { 0 };
    enum status st = read_vocabulary(t, &model, &scratch, e);
    if (st == ST_OK)
        st = read_merges(t, &model, &scratch, e);
    if (st == ST_OK && *unknown) {
        t->bpe.unknown = find(t, unknown, &scratch);
        if (t->bpe.unknown == VOCABULARY_NONE)
            st = js_wrong(&model, e, "unk_token \"%.40s\" is not in $.model.vocab", unknown);
    }
    text_bytes_free(&scratch);
    find_bytes(t);
    return st;
}

/* ---- normalizers ---- */

/* {"String": "x"}, or {"Regex": "x"} where `expression` is not NULL: then of either an expression, to be freed. */
static enum status read_pattern(const struct js *o, const char **literal, char **expression, struct err *e)
{
    struct js pattern;
    const char *text, *regex;
    TRY(js_need(o, "pattern", &pattern, e));
    TRY(js_str_or(&pattern, "String", "", &text, e));
    TRY(js_str_or(&pattern, "Regex", "", &regex, e));
    if (!*text && (!*regex || !expression))
        return js_expected(&pattern, e, expression ? "{\"String\": ...} or {\"Regex\": ...}" : "{\"String\": ...}");
    if (literal)
        *literal = text;
    if (!expression)
        return ST_OK;
    struct text_bytes out = { 0 };
    for (const char *p = text; *p; p++) {
        if (strchr("\\^$.[]|()?*+{}", *p))
            text_bytes_add(&out, "\\", 1);
        text_bytes_add(&out, p, 1);
    }
    text_bytes_add(&out, "", 1);
    *expression = *text ? out.at : mem_strdup(regex);
    if (!*text)
        text_bytes_free(&out);
    return ST_OK;
}

static enum status read_normalizer(struct tokenizer *t, const struct js *o, int depth, struct err *e);

/* The elements of a Sequence. */
static enum status each_of(struct tokenizer *t, const struct js *o, const char *key, int depth,
                           enum status (*fn)(struct tokenizer *t, const struct js *o, int depth, struct err *e),
                           struct err *e)
{
    struct js list;
    uint32_t n;
    TRY(js_need(o, key, &list, e));
    TRY(js_count(&list, &n, e));
    if (depth > 4)
        return js_wrong(&list, e, "sequences lie in sequences more than 4 deep");
    for (uint32_t i = 0; i < n; i++) {
        const struct js at = js_at(&list, i);
        TRY(fn(t, &at, depth + 1, e));
    }
    return ST_OK;
}

static enum status read_normalizer(struct tokenizer *t, const struct js *o, int depth, struct err *e)
{
    const char *type, *from = NULL, *to = "";
    struct js v;
    struct normalizer z = { 0 };
    TRY(js_need(o, "type", &v, e));
    TRY(js_str(&v, &type, e));
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, o, "normalizers", depth, read_normalizer, e);
    if (strcmp(type, "NFC") == 0) {
        z.kind = NORMALIZE_NFC;
    } else if (strcmp(type, "Replace") == 0) {
        z.kind = NORMALIZE_REPLACE;
        TRY(read_pattern(o, &from, NULL, e));
        TRY(js_str_or(o, "content", "", &to, e));
    } else if (strcmp(type, "Prepend") == 0) {
        z.kind = NORMALIZE_PREPEND;
        TRY(js_str_or(o, "prepend", "", &to, e));
    } else {
        return js_expected(&v, e, "one of Sequence, NFC, Replace, Prepend");
    }
    if (t->n_normalizers == TOKENIZER_NORMALIZERS)
        return js_wrong(o, e, "there are more than %d normalizers", TOKENIZER_NORMALIZERS);
    z.from = from ? mem_strdup(from) : NULL;
    z.to = mem_strdup(to);
    t->normalizer[t->n_normalizers++] = z;
    return ST_OK;
}

/* ---- stages ---- */

static enum status add_stage(struct tokenizer *t, const struct js *o, struct stage s, struct err *e)
{
    if (t->n_stages == TOKENIZER_STAGES) {
        pattern_free(s.pattern);
        return js_wrong(o, e, "there are more than %d stages of splitting", TOKENIZER_STAGES);
    }
    t->stage[t->n_stages++] = s;
    return ST_OK;
}

static enum status add_split(struct tokenizer *t, const struct js *o, const char *expression,
                             enum split_behaviour behaviour, bool invert, struct err *e)
{
    char where[400];
    struct stage s = { .kind = STAGE_SPLIT, .behaviour = behaviour, .invert = invert };
    snprintf(where, sizeof where, "%.200s: %s", o->file, o->path);
    TRY(pattern_new(expression, PATTERN_ONIGURUMA, where, &s.pattern, e));
    return add_stage(t, o, s, e);
}

static enum status read_split(struct tokenizer *t, const struct js *o, struct err *e)
{
    static const char *const names[] = { "Isolated",       "Removed",    "MergedWithPrevious",
                                         "MergedWithNext", "Contiguous", NULL };
    char *expression;
    const char *name;
    bool invert;
    struct js v;
    int i = 0;
    TRY(js_str_or(o, "behavior", "Isolated", &name, e));
    TRY(js_opt(o, "behavior", &v, e));
    TRY(js_bool_or(o, "invert", false, &invert, e));
    while (names[i] && strcmp(names[i], name) != 0)
        i++;
    if (!names[i])
        return js_expected(&v, e, "one of Isolated, Removed, MergedWithPrevious, MergedWithNext, Contiguous");
    TRY(read_pattern(o, NULL, &expression, e));
    enum status st = add_split(t, o, expression, (enum split_behaviour)i, invert, e);
    mem_free(expression);
    return st;
}

static enum status read_metaspace(struct tokenizer *t, const struct js *o, struct err *e)
{
    static const char *const schemes[] = { "never", "first", "always", NULL };
    const char *mark, *scheme;
    bool split, prefix;
    struct js v;
    int i = 0;
    TRY(js_str_or(o, "replacement", "\xe2\x96\x81", &mark, e));
    TRY(js_bool_or(o, "add_prefix_space", true, &prefix, e)); /* older files have this one only */
    TRY(js_str_or(o, "prepend_scheme", prefix ? "always" : "never", &scheme, e));
    TRY(js_bool_or(o, "split", true, &split, e));
    TRY(js_opt(o, "prepend_scheme", &v, e));
    while (schemes[i] && strcmp(schemes[i], scheme) != 0)
        i++;
    if (!schemes[i])
        return js_expected(&v, e, "one of never, first, always");
    struct stage s = { .kind = STAGE_METASPACE, .prepend = (enum metaspace_prepend)i };
    if (strlen(mark) >= sizeof s.mark || !*mark)
        return js_wrong(o, e, "replacement is \"%.40s\", expected one character", mark);
    strcpy(s.mark, mark);
    TRY(add_stage(t, o, s, e));
    return split ? add_split(t, o, mark, SPLIT_WITH_NEXT, false, e) : ST_OK;
}

static enum status read_byte_level(struct tokenizer *t, const struct js *o, struct err *e)
{
    bool prefix, regex;
    TRY(js_bool_or(o, "add_prefix_space", true, &prefix, e));
    TRY(js_bool_or(o, "use_regex", true, &regex, e));
    if (prefix)
        TRY(add_stage(t, o, (struct stage){ .kind = STAGE_PREFIX }, e));
    if (regex)
        TRY(add_split(t, o, tokenizer__gpt2_split, SPLIT_ISOLATED, false, e));
    t->bpe.bytes = true;
    return ST_OK;
}

static enum status read_stage(struct tokenizer *t, const struct js *o, int depth, struct err *e)
{
    const char *type;
    struct js v;
    TRY(js_need(o, "type", &v, e));
    TRY(js_str(&v, &type, e));
    if (t->bpe.bytes)
        return js_wrong(o, e, "found %.40s behind ByteLevel, expected ByteLevel last", type);
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, o, "pretokenizers", depth, read_stage, e);
    if (strcmp(type, "Split") == 0)
        return read_split(t, o, e);
    if (strcmp(type, "ByteLevel") == 0)
        return read_byte_level(t, o, e);
    if (strcmp(type, "Metaspace") == 0)
        return read_metaspace(t, o, e);
    if (strcmp(type, "Digits") == 0) {
        bool single;
        TRY(js_bool_or(o, "individual_digits", false, &single, e));
        return add_split(t, o, "\\p{N}", single ? SPLIT_ISOLATED : SPLIT_CONTIGUOUS, false, e);
    }
    return js_expected(&v, e, "one of Sequence, Split, ByteLevel, Digits, Metaspace");
}

/* ---- added tokens, what is put around a text, decoding ---- */

static enum status read_added_token(struct tokenizer *t, const struct js *o, struct err *e)
{
    const char *text;
    int64_t id;
    struct added_token a = { 0 };
    bool normalized;
    struct js v;
    TRY(js_need(o, "content", &v, e));
    TRY(js_str(&v, &text, e));
    TRY(js_need(o, "id", &v, e));
    TRY(js_int(&v, 0, VOCABULARY_MOST - 1, &id, e));
    TRY(js_bool_or(o, "special", false, &a.special, e));
    TRY(js_bool_or(o, "single_word", false, &a.single_word, e));
    TRY(js_bool_or(o, "lstrip", false, &a.lstrip, e));
    TRY(js_bool_or(o, "rstrip", false, &a.rstrip, e));
    TRY(js_bool_or(o, "normalized", !a.special, &normalized, e));
    if (!*text)
        return js_wrong(o, e, "content is empty");
    a.text = (char *)text;
    a.length = (uint32_t)strlen(text);
    a.id = (uint32_t)id;
    const uint32_t there = vocabulary_find(&t->bpe.vocabulary, text, a.length);
    if (there != a.id)
        vocabulary_add_hidden(&t->bpe.vocabulary, text, a.length, a.id);
    tokenizer__add(t, &a, normalized);
    return ST_OK;
}

static enum status read_added(struct tokenizer *t, const struct js *root, struct err *e)
{
    struct js list;
    uint32_t n;
    TRY(js_opt(root, "added_tokens", &list, e));
    if (!list.v)
        return ST_OK;
    TRY(js_count(&list, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        const struct js at = js_at(&list, i);
        TRY(read_added_token(t, &at, e));
    }
    return ST_OK;
}

/* {"SpecialToken": {"id": "<s>"}} before or behind {"Sequence": ...}. */
static enum status read_template(struct tokenizer *t, const struct js *o, struct err *e)
{
    struct js single, token, v;
    uint32_t n;
    bool behind = false;
    TRY(js_need(o, "single", &single, e));
    TRY(js_count(&single, &n, e));
    for (uint32_t i = 0; i < n; i++) {
        const struct js at = js_at(&single, i);
        const char *text;
        if (js_has(&at, "Sequence")) {
            behind = true;
            continue;
        }
        TRY(js_need(&at, "SpecialToken", &token, e));
        TRY(js_need(&token, "id", &v, e));
        TRY(js_str(&v, &text, e));
        uint32_t *n_ids = behind ? &t->n_after : &t->n_before, id = tokenizer_find(t, text);
        if (id == VOCABULARY_NONE || *n_ids == TOKENIZER_AROUND)
            return js_wrong(&at, e, "\"%.40s\" is no token of this file, or there are more than %d", text,
                            TOKENIZER_AROUND);
        (behind ? t->after : t->before)[(*n_ids)++] = id;
    }
    return ST_OK;
}

static enum status read_processor(struct tokenizer *t, const struct js *o, int depth, struct err *e)
{
    const char *type;
    struct js v;
    TRY(js_need(o, "type", &v, e));
    TRY(js_str(&v, &type, e));
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, o, "processors", depth, read_processor, e);
    if (strcmp(type, "TemplateProcessing") == 0)
        return read_template(t, o, e);
    return strcmp(type, "ByteLevel") == 0 ? ST_OK /* it moves offsets only */
                                          : js_expected(&v, e, "one of Sequence, TemplateProcessing, ByteLevel");
}

/* Decoding follows from the model; only whether a first space is taken away is said here. */
static enum status read_decoder(struct tokenizer *t, const struct js *o, int depth, struct err *e)
{
    const char *type;
    int64_t start;
    bool prefix;
    struct js v;
    TRY(js_need(o, "type", &v, e));
    TRY(js_str(&v, &type, e));
    if (strcmp(type, "Sequence") == 0)
        return each_of(t, o, "decoders", depth, read_decoder, e);
    if (strcmp(type, "Strip") == 0) {
        TRY(js_int_or(o, "start", 0, 1, 0, &start, e));
        t->strips_first_space |= start == 1;
    } else if (strcmp(type, "Metaspace") == 0) {
        const char *scheme;
        TRY(js_bool_or(o, "add_prefix_space", true, &prefix, e));
        TRY(js_str_or(o, "prepend_scheme", prefix ? "always" : "never", &scheme, e));
        t->strips_first_space |= strcmp(scheme, "never") != 0;
    }
    return ST_OK;
}

static enum status read_optional(struct tokenizer *t, const struct js *root, const char *key,
                                 enum status (*fn)(struct tokenizer *t, const struct js *o, int depth, struct err *e),
                                 struct err *e)
{
    struct js v;
    TRY(js_opt(root, key, &v, e));
    return v.v ? fn(t, &v, 0, e) : ST_OK;
}

enum status tokenizer__read_json(struct tokenizer *t, struct err *e)
{
    json_t *doc;
    t->file[t->file_bytes] = '\0';
    if (strlen(t->file) != t->file_bytes)
        return err_set(e, ST_INPUT, t->path, "holds a byte of 0, expected JSON");
    TRY(js_load_text(t->file, t->path, &doc, e));
    const struct js root = js_root(doc, t->path);
    enum status st = read_optional(t, &root, "normalizer", read_normalizer, e);
    if (st == ST_OK)
        st = read_optional(t, &root, "pre_tokenizer", read_stage, e);
    if (st == ST_OK)
        st = read_model(t, &root, e);
    if (st == ST_OK)
        st = read_added(t, &root, e);
    if (st == ST_OK)
        st = read_optional(t, &root, "post_processor", read_processor, e);
    if (st == ST_OK)
        st = read_optional(t, &root, "decoder", read_decoder, e);
    json_decref(doc);
    return st;
}
