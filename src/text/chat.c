#include "text/chat.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"

enum role { ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT, ROLE_TOOL, ROLES };
static const char *const role_names[ROLES] = { "system", "user", "assistant", "tool" };

/* A turn is: tokens and words before the text, the text, a token that ends it, words behind it. NULL: there is none. */
struct turn {
    const char *open;       /* token */
    const char *role;       /* words behind it; NULL: the role is refused, or joins the first user's text */
    const char *close_role; /* token */
    const char *head;       /* words before the text */
    const char *tail;       /* words behind it */
    const char *end;        /* token; of an assistant it is a target. "": the end of a text */
    const char *gap;        /* words behind that */
};
struct chat_template {
    const char *name;
    bool trims;        /* white space around the text goes */
    const char *joins; /* what stands between a system text and the first user's; NULL: a system has turns of its own */
    struct turn turn[ROLES];
};

static const struct chat_template templates[] = {
    { .name = "chatml",
      .turn = { [ROLE_SYSTEM] = { "<|im_start|>", "system", NULL, "\n", NULL, "<|im_end|>", "\n" },
                [ROLE_USER] = { "<|im_start|>", "user", NULL, "\n", NULL, "<|im_end|>", "\n" },
                [ROLE_ASSISTANT] = { "<|im_start|>", "assistant", NULL, "\n", NULL, "<|im_end|>", "\n" },
                [ROLE_TOOL] = { "<|im_start|>", "tool", NULL, "\n", NULL, "<|im_end|>", "\n" } } },
    { .name = "llama3",
      .trims = true,
      .turn = { [ROLE_SYSTEM] = { "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n", NULL, "<|eot_id|>",
                                  NULL },
                [ROLE_USER] = { "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n", NULL, "<|eot_id|>", NULL },
                [ROLE_ASSISTANT] = { "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n", NULL,
                                     "<|eot_id|>", NULL },
                [ROLE_TOOL] = { "<|start_header_id|>", "ipython", "<|end_header_id|>", "\n\n", NULL, "<|eot_id|>",
                                NULL } } },
    { .name = "gemma",
      .trims = true,
      .joins = "\n\n",
      .turn = { [ROLE_USER] = { "<start_of_turn>", "user", NULL, "\n", NULL, "<end_of_turn>", "\n" },
                [ROLE_ASSISTANT] = { "<start_of_turn>", "model", NULL, "\n", NULL, "<end_of_turn>", "\n" } } },
    { .name = "mistral",
      .joins = "\n\n",
      .turn = { [ROLE_USER] = { NULL, "", NULL, "[INST] ", " [/INST]", NULL, NULL },
                [ROLE_ASSISTANT] = { NULL, "", NULL, " ", NULL, "</s>", NULL } } },
    { .name = "plain",
      .turn = { [ROLE_SYSTEM] = { NULL, "", NULL, "System: ", "\n", NULL, NULL },
                [ROLE_USER] = { NULL, "", NULL, "User: ", "\n", NULL, NULL },
                [ROLE_ASSISTANT] = { NULL, "", NULL, "Assistant: ", NULL, "", NULL },
                [ROLE_TOOL] = { NULL, "", NULL, "Tool: ", "\n", NULL, NULL } } },
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

const char *chat_template_name(const struct chat_template *c)
{
    return c->name;
}

void chat_tokens_free(struct chat_tokens *c)
{
    vec_free(&c->ids);
    vec_free(&c->mask);
}

/* ---- which template ---- */

/* The first token that a template needs and the tokenizer lacks, or NULL. */
static const char *lacks(const struct chat_template *c, const struct tokenizer *t)
{
    for (int r = 0; r < ROLES; r++) {
        const char *const tokens[] = { c->turn[r].open, c->turn[r].close_role, c->turn[r].end };
        for (int i = 0; i < 3; i++)
            if (tokens[i] && *tokens[i] && tokenizer_find(t, tokens[i]) == VOCABULARY_NONE)
                return tokens[i];
    }
    return c->turn[ROLE_ASSISTANT].end[0] == '\0' && t->end_of_text == VOCABULARY_NONE ? "for the end of a text" : NULL;
}

/* Does the tokenizer's own template, if it has one, speak as this one does? */
static bool speaks(const struct chat_template *c, const struct tokenizer *t)
{
    const char *const marks[TEMPLATES] = { "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]",
                                           "User: " };
    return !lacks(c, t) && (t->chat_template ? strstr(t->chat_template, marks[c - templates]) != NULL
                                             : c->turn[ROLE_USER].open != NULL);
}

enum status chat_template_find(const char *name, const struct tokenizer *t, const struct chat_template **c,
                               struct err *e)
{
    for (int i = 0; i < TEMPLATES; i++) {
        if (name ? strcmp(name, templates[i].name) != 0 : !speaks(&templates[i], t))
            continue;
        const char *missing = lacks(&templates[i], t);
        if (missing)
            return err_set(e, ST_USAGE, t->path, "has no token %s, which the template %s needs", missing,
                           templates[i].name);
        *c = &templates[i];
        return ST_OK;
    }
    if (name)
        return err_set(e, ST_USAGE, "data",
                       "--template: found \"%s\", expected chatml, llama3, gemma, mistral or plain", name);
    return err_set(e, ST_USAGE, t->path,
                   "does not tell which template its model knows: --template chatml, llama3, gemma, mistral or plain");
}

/* ---- encoding ---- */

struct chatting {
    const struct chat_template *c;
    struct encoder *x;
    const struct tokenizer *t;
    struct chat_tokens *out;
    bool begun; /* text stands right before: what follows goes on with it */
    struct err *e;
};

/* Marks what was added since. */
static void mark(struct chatting *h, bool target)
{
    while (h->out->mask.n < h->out->ids.n)
        vec_add(&h->out->mask, target);
}

static void add_token(struct chatting *h, const char *name, bool target)
{
    if (!name)
        return;
    vec_add(&h->out->ids, *name ? tokenizer_find(h->t, name) : h->t->end_of_text);
    mark(h, target);
    h->begun = false;
}

/* Names of special tokens in it are text. */
static enum status add_words(struct chatting *h, const char *words, size_t n, bool target)
{
    const int flags = ENCODE_PLAIN_SPECIALS | (h->begun ? ENCODE_CONTINUED : 0);
    if (n == 0)
        return ST_OK;
    TRY(encoder_encode(h->x, words, n, flags, &h->out->ids, h->e));
    mark(h, target);
    h->begun = true;
    return ST_OK;
}

static void trim(const char **text, size_t *n)
{
    while (*n && unicode_is_white((unsigned char)(*text)[0]) && (unsigned char)(*text)[0] < 0x80)
        ++*text, --*n;
    while (*n && unicode_is_white((unsigned char)(*text)[*n - 1]) && (unsigned char)(*text)[*n - 1] < 0x80)
        --*n;
}

static enum status add_turn(struct chatting *h, enum role role, const char *system, const char *text)
{
    const struct turn *turn = &h->c->turn[role];
    const bool target = role == ROLE_ASSISTANT;
    size_t n = strlen(text);
    struct text_bytes head = { 0 };
    if (h->c->trims)
        trim(&text, &n);
    add_token(h, turn->open, false);
    text_bytes_add(&head, turn->role, strlen(turn->role));
    if (turn->close_role) {
        TRY(add_words(h, head.at, head.n, false));
        add_token(h, turn->close_role, false);
        head.n = 0;
    }
    text_bytes_add(&head, turn->head, strlen(turn->head));
    if (system) {
        text_bytes_add(&head, system, strlen(system));
        text_bytes_add(&head, h->c->joins, strlen(h->c->joins));
    }
    if (!target)
        text_bytes_add(&head, text, n);
    if (!target && turn->tail)
        text_bytes_add(&head, turn->tail, strlen(turn->tail));
    enum status st = add_words(h, head.at, head.n, false);
    text_bytes_free(&head);
    TRY(st);
    if (target)
        TRY(add_words(h, text, n, true));
    add_token(h, turn->end, target);
    return turn->gap ? add_words(h, turn->gap, strlen(turn->gap), false) : ST_OK;
}

/* The role and text of a message; why not. */
static const char *read_message(const json_t *m, enum role *role, const char **text)
{
    const char *name = json_string_value(json_object_get(m, "role"));
    int r = 0;
    *text = json_string_value(json_object_get(m, "content"));
    if (!name || !*text)
        return "a message without role and content";
    while (r < ROLES && strcmp(role_names[r], name) != 0)
        r++;
    *role = (enum role)r;
    return r == ROLES ? "a role that is none of system, user, assistant, tool" : NULL;
}

static enum status add_messages(struct chatting *h, const json_t *list, const char **why)
{
    const char *system = NULL, *text;
    bool answered = false;
    size_t i;
    const json_t *m;
    for (uint32_t k = 0; k < h->t->n_before; k++)
        vec_add(&h->out->ids, h->t->before[k]);
    mark(h, false);
    json_array_foreach(list, i, m)
    {
        enum role role;
        *why = read_message(m, &role, &text);
        if (*why)
            return ST_OK;
        if (role == ROLE_SYSTEM && h->c->joins && i == 0) {
            system = text;
            continue;
        }
        if (!h->c->turn[role].role) {
            *why = "a role that the template does not know here";
            return ST_OK;
        }
        TRY(add_turn(h, role, role == ROLE_USER ? system : NULL, text));
        system = role == ROLE_USER ? NULL : system;
        answered |= role == ROLE_ASSISTANT;
    }
    *why = answered ? NULL : "no message of an assistant: there is nothing to learn";
    return ST_OK;
}

/* Parameters: what is read once for a file (template, encoder, tokenizer, field), the line, and what comes of it. */
enum status chat_encode(const struct chat_template *c, struct encoder *x, const struct tokenizer *t, const char *line,
                        const char *field, struct chat_tokens *out, const char **why, struct err *e)
{
    struct err bad = { 0 };
    json_t *doc = NULL;
    struct chatting h = { .c = c, .x = x, .t = t, .out = out, .e = e };
    out->ids.n = out->mask.n = 0;
    *why = NULL;
    if (js_load_text(line, "line", &doc, &bad) != ST_OK) {
        *why = "no valid JSON";
        return ST_OK;
    }
    const json_t *list = json_object_get(doc, field);
    enum status st = ST_OK;
    if (!json_is_array(list))
        *why = "no list of messages";
    else
        st = add_messages(&h, list, why);
    json_decref(doc);
    return st;
}
