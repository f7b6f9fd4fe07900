/* What belongs to a model beside its weights: its tokenizer, and the tokens at which a text ends. */
#ifndef PIPER_SPEAK_TOKENS_H
#define PIPER_SPEAK_TOKENS_H

#include "text/tokenizer.h"

/* The tokenizer in a folder, *t NULL: there is none. Of a tiktoken rank file `pattern` tells how text is cut; else NULL. The caller ends
 * with tokenizer_free. */
enum status speak_tokenizer_in(const char *folder, const char *pattern, struct tokenizer **t, struct err *e);
/* The one that a token file was made with; *t NULL: none, its tokens are bytes or come from elsewhere. */
enum status speak_tokenizer_of(const char *tokens, const char *pattern, struct tokenizer **t, struct err *e);

/* Adds the tokens that end a text: eos_token_id of generation_config.json in the folder; else of config.json there, else of the
 * configuration `model` (its text, "" or NULL: none); and the end token of the tokenizer, which may be NULL. */
enum status speak_ends(const char *folder, const char *model, const struct tokenizer *t, struct token_ids *ends,
                       struct err *e);

#endif
