/* What belongs to a model beside its weights: its tokenizer, and the tokens at which a text ends. */
#ifndef PIPER_SPEAK_TOKENS_H
#define PIPER_SPEAK_TOKENS_H

#include "text/tokenizer.h"

/* The tokenizer in a folder, *t NULL: there is none. Of a tiktoken rank file `pattern` tells how text is cut; else NULL. The caller ends
 * with tokenizer_free. */
enum status speak_tokenizer_in(const char *folder, const char *pattern, struct tokenizer **t, struct err *e);
/* The one that a token file was made with; *t NULL: none, its tokens are bytes or come from elsewhere. */
enum status speak_tokenizer_of(const char *tokens, const char *pattern, struct tokenizer **t, struct err *e);

/* Appends the tokens of a text, behind what the tokenizer puts before one; t NULL: its bytes. What is no UTF-8 becomes U+FFFD. ST_INPUT: a
 * pattern reached its limits. */
enum status speak_encode(const struct tokenizer *t, const char *text, size_t n, struct token_ids *out, struct err *e);

/* Adds the tokens that end a text: eos_token_id of generation_config.json in the folder; else of config.json there, else of the
 * configuration `model` (its text, "" or NULL: none); and the end token of the tokenizer, which may be NULL. */
enum status speak_ends(const char *folder, const char *model, const struct tokenizer *t, struct token_ids *ends,
                       struct err *e);
bool speak_is_end(const struct token_ids *ends, uint32_t id);

#endif
