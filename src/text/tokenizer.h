/* Text to tokens and back, as the Hugging Face library `tokenizers` and tiktoken do it, token by token.
 *
 * Reads tokenizer.json (BPE: byte-level, or of code points with byte fallback), sentencepiece models and tiktoken's rank files. A
 * tokenizer does not change once it is open: any number of threads encode with it, each with an encoder of its own. */
#ifndef PIPER_TEXT_TOKENIZER_H
#define PIPER_TEXT_TOKENIZER_H

#include "base/status.h"
#include "text/added.h"
#include "text/bpe.h"
#include "text/pattern.h"
#include "text/sentencepiece.h"

/* What is done with a stretch of text before it is cut. */
enum normalizer_kind { NORMALIZE_NFC, NORMALIZE_REPLACE, NORMALIZE_PREPEND };
struct normalizer {
    enum normalizer_kind kind;
    char *from, *to; /* REPLACE: all of `from` by `to`; PREPEND: `to`, unless the text is empty; owned */
};

/* How it is cut into words, one stage on the pieces of the one before. */
enum stage_kind {
    STAGE_SPLIT,     /* by matches of a pattern */
    STAGE_PREFIX,    /* a space before a piece that does not begin with one */
    STAGE_METASPACE, /* spaces become `mark`, and one is put before the piece */
};
enum split_behaviour { SPLIT_ISOLATED, SPLIT_REMOVED, SPLIT_WITH_PREVIOUS, SPLIT_WITH_NEXT, SPLIT_CONTIGUOUS };
enum metaspace_prepend { PREPEND_NEVER, PREPEND_FIRST /* where the text begins */, PREPEND_ALWAYS };
struct stage {
    enum stage_kind kind;
    struct pattern *pattern; /* SPLIT; owned */
    enum split_behaviour behaviour;
    bool invert; /* what does not match is the match */
    char mark[5];
    enum metaspace_prepend prepend;
};

enum { TOKENIZER_STAGES = 8, TOKENIZER_NORMALIZERS = 8, TOKENIZER_AROUND = 8, TOKENIZER_WORD = 64 };
struct tokenizer {
    char *path; /* of the file that was read; owned */
    char *name; /* the folder's name, or the file's; owned */
    char *file; /* its bytes: owned */
    uint64_t file_bytes;
    char *chat_template; /* of tokenizer_config.json or chat_template.jinja, NULL: none; owned */
    struct bpe bpe;
    struct sentencepiece
        *pieces; /* of a sentencepiece model, which has no stages and adds no tokens; NULL: it is another; owned */
    struct added_set raw, normal; /* looked for before and after the text is normalized */
    struct normalizer normalizer[TOKENIZER_NORMALIZERS];
    struct stage stage[TOKENIZER_STAGES];
    uint32_t n_normalizers, n_stages;
    uint32_t n_vocab; /* every id is below */
    uint32_t n_added;
    /* What the post-processor puts around a text. */
    uint32_t before[TOKENIZER_AROUND], after[TOKENIZER_AROUND];
    uint32_t n_before, n_after;
    uint32_t bos, eos;    /* of tokenizer_config.json, VOCABULARY_NONE: it names none */
    uint32_t end_of_text; /* between documents: a name that the families use, else eos; VOCABULARY_NONE */
    /* Decoding. */
    bool strips_first_space;
    bool *special;        /* by id */
    uint32_t *normalized; /* by id: place in `normal` + 1, whose text it stands for; 0: its own bytes */
    bool cuts_lines;      /* text can be cut between a line's end and a letter without another outcome: encode.c */
};

/* FILE, or a folder with tokenizer.json, else tokenizer.model or spiece.model. `pattern`: of a rank file, one of gpt2, cl100k, o200k, or an expression; NULL for a
 * tokenizer.json. ST_MISSING, ST_INPUT; ST_USAGE where the pattern is missing or out of place. Ends with tokenizer_free(). */
enum status tokenizer_open(const char *path, const char *pattern, struct tokenizer **t, struct err *e);
bool tokenizer_is_in(const char *folder); /* one of these files */
/* The same from bytes, copied; `path` is for messages. */
enum status tokenizer_from_bytes(const void *bytes, size_t n, const char *pattern, const char *path,
                                 struct tokenizer **t, struct err *e);
void tokenizer_free(struct tokenizer *t); /* NULL is allowed */
/* The id of a token by its text, an added one or one of the vocabulary; VOCABULARY_NONE. */
uint32_t tokenizer_find(const struct tokenizer *t, const char *text);

struct encoder;
struct encoder *encoder_new(const struct tokenizer *t);
void encoder_free(struct encoder *x);
enum {
    ENCODE_PLAIN_SPECIALS = 1, /* special tokens inside the text are text like any other */
    ENCODE_CONTINUED = 2,      /* the text goes on after a cut of encode_cut(): nothing is put before it */
};
/* Appends the tokens of a text, valid UTF-8, without what is put around it. ST_INPUT: a pattern reached its limits. */
enum status encoder_encode(struct encoder *x, const char *text, size_t n, int flags, struct token_ids *out,
                           struct err *e);
/* Where a long text can be cut at or before n without another outcome: 0 when there is no such place. */
size_t encode_cut(const struct tokenizer *t, const char *text, size_t n);

/* Appends the bytes of tokens: the inverse of encoding, but for what the tokenizer itself loses (normal form, unknown symbols).
 * Ids that it does not have give nothing. */
void tokenizer_decode(const struct tokenizer *t, const uint32_t *ids, size_t n, bool skip_specials,
                      struct text_bytes *out);

/* tokenizer_json.c, tiktoken.c, tokenizer_pieces.c: fill a zeroed tokenizer whose file is read. */
enum status tokenizer__read_json(struct tokenizer *t, struct err *e);
enum status tokenizer__read_tiktoken(struct tokenizer *t, const char *pattern, struct err *e);
enum status tokenizer__read_pieces(struct tokenizer *t, struct err *e);
/* tokenizer_config.c: tokenizer_config.json and chat_template.jinja beside the file, where they are. */
enum status tokenizer__read_config(struct tokenizer *t, const char *folder, struct err *e);
/* Adds a token to what is looked for in text. */
void tokenizer__add(struct tokenizer *t, const struct added_token *token, bool normalized);
/* Applies the normalizers to text; the outcome is in *out, or is the text itself (false). */
bool tokenizer__normalize(const struct tokenizer *t, const char *text, size_t n, bool continued, struct text_bytes *out,
                          struct text_bytes *scratch);
extern const char tokenizer__gpt2_split[];

#endif
