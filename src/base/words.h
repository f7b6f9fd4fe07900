/* Words that users type, beside the words that are known: every "did you mean" comes from here.
 *
 * A list of words ends with NULL. The answer to a word that is not in it is what Megatron-LM, DeepSpeed, TorchTitan, transformers
 * or a shell calls the same thing (the table in words.c), else the nearest word by edit distance, else nothing. */
#ifndef PIPER_BASE_WORDS_H
#define PIPER_BASE_WORDS_H

#include <stdbool.h>
#include <stddef.h>

enum { WORDS_HINT = 256 };

/* The word of the list that s stands for, or NULL. It may be longer than the word of the list, "lr.peak" where "lr" is one: a key below
 * it. '-' and '_' are the same, case does not count. Borrowed from the list or from the table. */
const char *words_meant(const char *s, const char *const *words);

/* The end of a message about s: `; did you mean "x"?`, or a sentence about where such a thing is set, or nothing. Returns text. */
const char *words_hint(const char *s, const char *const *words, char text[WORDS_HINT]);

/* What a word of another program is called here: a sentence about where it is set, else "x", or "x" or "y", with the quotation marks.
 * Dashes before it and sections (training.steps) do not count. False: it is in no row of the table. */
bool words_here(const char *s, char text[WORDS_HINT]);
/* The same, but false too where the list has its like. */
bool words_elsewhere(const char *s, const char *const *words, char text[WORDS_HINT]);

/* For messages: "a", "b" or "c", with the quotation marks; cut off with "..." where it is too long. Returns text. */
const char *words_list(const char *const *words, char *text, size_t size);

#endif
