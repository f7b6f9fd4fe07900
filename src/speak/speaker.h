/* Next tokens: a sequence that grows, with the keys and values of what was there before. */
#ifndef PIPER_SPEAK_SPEAKER_H
#define PIPER_SPEAK_SPEAKER_H

#include "speak/model.h"

struct speaker;
/* For so many tokens in all. m: loaded with SPEAK_GENERATE, borrowed until close. ST_INPUT where the model cannot say a next token, or
 * its table of positions ends before; ST_DEVICE: there is not enough memory. */
enum status speaker_open(const struct speak_model *m, uint32_t room, struct speaker **out, struct err *e);
void speaker_close(struct speaker *s); /* NULL is allowed */
/* Appends n tokens, each below the vocabulary, no more than there is room for; returns the logits of what follows the last one, (V)
 * float32, borrowed until the next call. */
const float *speaker_add(struct speaker *s, const uint32_t *ids, uint32_t n);

#endif
