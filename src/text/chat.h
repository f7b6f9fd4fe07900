/* Conversations to tokens, with a mark at those that an assistant said: what it learns is these and the token that ends its turn.
 *
 * Templates of the families, written out (their Jinja is not run):
 *   chatml    <|im_start|>ROLE\nTEXT<|im_end|>\n                                              Qwen, SmolLM, OLMo and others
 *   llama3    <|start_header_id|>ROLE<|end_header_id|>\n\nTEXT<|eot_id|>
 *   mistral   [INST] TEXT [/INST] and " TEXT</s>", of which the space is learned too; a system text stands before the first user's
 *   gemma     <start_of_turn>ROLE\nTEXT<end_of_turn>\n; the assistant is called model; system as in mistral
 *   plain     Role: TEXT\n, and the end of a text behind what the assistant says; the space before its TEXT is learned too
 * Before the first message stands what the tokenizer puts before a text. What an assistant says is cut into tokens by itself, as it is
 * when the model says it. */
#ifndef PIPER_TEXT_CHAT_H
#define PIPER_TEXT_CHAT_H

#include "text/tokenizer.h"

/* A template as it goes with a tokenizer. */
struct chat_turns;
struct chat_template {
    const struct chat_turns *turns;
    char *
        system; /* of a conversation without a system text: what the tokenizer's own template puts there; NULL: nothing; owned */
};
/* By name; ST_USAGE with the list of names, or where a token of the template is not in the tokenizer. `name` NULL: the one whose
 * tokens the tokenizer's chat template, else its vocabulary, names; ST_USAGE when there is none. */
enum status chat_template_find(const char *name, const struct tokenizer *t, struct chat_template *c, struct err *e);
const char *chat_template_name(const struct chat_template *c);
void chat_template_free(struct chat_template *c);

struct chat_tokens {
    struct token_ids ids;
    struct {
        VEC(uint8_t);
    } mask; /* 1: a target */
};
/* Empties `out` and fills it with the conversation in a line of JSONL, {FIELD: [{"role": ..., "content": ...}, ...]}. *why: a few
 * words where the line is no conversation (the status is ST_OK then); the text is borrowed until the next call. */
enum status chat_encode(const struct chat_template *c, struct encoder *x, const struct tokenizer *t, const char *line,
                        const char *field, struct chat_tokens *out, const char **why, struct err *e);
void chat_tokens_free(struct chat_tokens *c);

/* Appends a conversation up to where the assistant begins to speak. system NULL: what the template has by itself. */
enum status chat_prompt(const struct chat_template *c, struct encoder *x, const struct tokenizer *t, const char *system,
                        const char *user, struct token_ids *out, struct err *e);
/* The token that ends what an assistant says. */
uint32_t chat_template_end(const struct chat_template *c, const struct tokenizer *t);

#endif
