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
    const char *lead;       /* of an assistant: words that the text begins with; they are targets */
    const char *tail;       /* words behind it */
    const char *end;        /* token; of an assistant it is a target. "": the end of a text */
    const char *gap;        /* words behind that */
};
struct chat_turns {
    const char *name;
    bool trims;        /* white space around the text goes */
    const char *joins; /* what stands between a system text and the first user's; NULL: a system has turns of its own */
    struct turn turn[ROLES];
};

static const struct chat_turns templates[] = {
    { .name = "chatml",
      .turn = { [ROLE_SYSTEM] = { "<|im_start|>", "system", .head = "\n", .end = "<|im_end|>", .gap = "\n" },
                [ROLE_USER] = { "<|im_start|>", "user", .head = "\n", .end = "<|im_end|>", .gap = "\n" },
                [ROLE_ASSISTANT] = { "<|im_start|>", "assistant", .head = "\n", .end = "<|im_end|>", .gap = "\n" },
                [ROLE_TOOL] = { "<|im_start|>", "tool", .head = "\n", .end = "<|im_end|>", .gap = "\n" } } },
    { .name = "llama3",
      .trims = true,
      .turn = { [ROLE_SYSTEM] = { "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n", .end = "<|eot_id|>" },
                [ROLE_USER] = { "<|start_header_id|>", "user", "<|end_header_id|>", "\n\n", .end = "<|eot_id|>" },
                [ROLE_ASSISTANT] = { "<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n",
                                     .end = "<|eot_id|>" },
                [ROLE_TOOL] = { "<|start_header_id|>", "ipython", "<|end_header_id|>", "\n\n",
                                .end = "<|eot_id|>" } } },
    { .name = "gemma",
      .trims = true,
      .joins = "\n\n",
      .turn = { [ROLE_USER] = { "<start_of_turn>", "user", .head = "\n", .end = "<end_of_turn>", .gap = "\n" },
                [ROLE_ASSISTANT] = { "<start_of_turn>", "model", .head = "\n", .end = "<end_of_turn>",
                                     .gap = "\n" } } },
    { .name = "mistral",
      .joins = "\n\n",
      .turn = { [ROLE_USER] = { .role = "", .head = "[INST] ", .tail = " [/INST]" },
                [ROLE_ASSISTANT] = { .role = "", .head = "", .lead = " ", .end = "</s>" } } },
    { .name = "plain",
      .turn = { [ROLE_SYSTEM] = { .role = "", .head = "System: ", .tail = "\n" },
                [ROLE_USER] = { .role = "", .head = "User: ", .tail = "\n" },
                [ROLE_ASSISTANT] = { .role = "", .head = "Assistant:", .lead = " ", .end = "" },
                [ROLE_TOOL] = { .role = "", .head = "Tool: ", .tail = "\n" } } },
};
enum { TEMPLATES = sizeof templates / sizeof *templates };

const char *chat_template_name(const struct chat_template *c)
{
    return c->turns->name;
}

void chat_template_free(struct chat_template *c)
{
    mem_free(c->system);
    *c = (struct chat_template){ 0 };
}

void chat_tokens_free(struct chat_tokens *c)
{
    vec_free(&c->ids);
    vec_free(&c->mask);
}

/* ---- which template ---- */

/* The first token that a template needs and the tokenizer lacks, or NULL. */
static const char *lacks(const struct chat_turns *c, const struct tokenizer *t)
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
static bool speaks(const struct chat_turns *c, const struct tokenizer *t)
{
    const char *const marks[TEMPLATES] = { "<|im_start|>", "<|start_header_id|>", "<start_of_turn>", "[INST]",
                                           "User: " };
    return !lacks(c, t) && (t->chat_template ? strstr(t->chat_template, marks[c - templates]) != NULL
                                             : c->turn[ROLE_USER].open != NULL);
}

/* Behind `at`: a line's end as Jinja writes it, or itself. */
static const char *line_end(const char *at)
{
    return at[0] == '\n' ? at + 1 : at[0] == '\\' && at[1] == 'n' ? at + 2 : NULL;
}

/* Templates of chatml may have a system text for conversations without one, as a string: '<|im_start|>system\nTEXT<|im_end|>\n'. */
static char *own_system(const struct tokenizer *t)
{
    static const char open[] = "<|im_start|>system", end[] = "<|im_end|>";
    for (const char *at = t->chat_template; at && (at = strstr(at, open));) {
        at += sizeof open - 1;
        const char *text = line_end(at), *behind = text ? strstr(text, end) : NULL;
        const size_t n = behind ? (size_t)(behind - text) : 0;
        if (!behind || n == 0 || strcspn(text, "'\"{}\\\n") < n || !line_end(behind + sizeof end - 1))
            continue;
        char *system = mem_alloc(n + 1);
        memcpy(system, text, n);
        return system;
    }
    return NULL;
}

enum status chat_template_find(const char *name, const struct tokenizer *t, struct chat_template *c, struct err *e)
{
    for (int i = 0; i < TEMPLATES; i++) {
        if (name ? strcmp(name, templates[i].name) != 0 : !speaks(&templates[i], t))
            continue;
        const char *missing = lacks(&templates[i], t);
        if (missing)
            return err_set(e, ST_USAGE, t->path, "has no token %s, which the template %s needs", missing,
                           templates[i].name);
        *c = (struct chat_template){ &templates[i], !name && i == 0 ? own_system(t) : NULL };
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

/* What the tokenizer puts before a text. */
static void add_before(struct chatting *h)
{
    for (uint32_t k = 0; k < h->t->n_before; k++)
        vec_add(&h->out->ids, h->t->before[k]);
    mark(h, false);
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

/* White space as Jinja's trim takes it, which is Python's strip(). */
static bool is_blank(uint32_t c)
{
    return unicode_is_white(c) || (c >= 0x1c && c <= 0x1f);
}

static void trim(const char **text, size_t *n)
{
    const char *end = *text + *n;
    for (const char *p = *text; p < end && is_blank(utf8_next(&p)); *text = p)
        ;
    while (end > *text) {
        const char *last = utf8_back(end), *p = last;
        if (!is_blank(utf8_next(&p)))
            break;
        end = last;
    }
    *n = (size_t)(end - *text);
}

/* What an assistant says. */
static enum status add_said(struct chatting *h, const struct turn *turn, const char *text, size_t n)
{
    struct text_bytes said = { 0 };
    if (turn->lead)
        text_bytes_add(&said, turn->lead, strlen(turn->lead));
    text_bytes_add(&said, text, n);
    const enum status st = add_words(h, said.at, said.n, true);
    text_bytes_free(&said);
    return st;
}

/* A turn up to its text; what stands right before it is left in `head`. */
static enum status begin_turn(struct chatting *h, const struct turn *turn, struct text_bytes *head)
{
    add_token(h, turn->open, false);
    text_bytes_add(head, turn->role, strlen(turn->role));
    if (turn->close_role) {
        TRY(add_words(h, head->at, head->n, false));
        add_token(h, turn->close_role, false);
        head->n = 0;
    }
    text_bytes_add(head, turn->head, strlen(turn->head));
    return ST_OK;
}

static enum status add_turn(struct chatting *h, enum role role, const char *system, const char *text)
{
    const struct turn *turn = &h->c->turns->turn[role];
    const bool target = role == ROLE_ASSISTANT;
    size_t n = strlen(text);
    struct text_bytes head = { 0 };
    if (h->c->turns->trims)
        trim(&text, &n);
    enum status st = begin_turn(h, turn, &head);
    if (system) {
        text_bytes_add(&head, system, strlen(system));
        text_bytes_add(&head, h->c->turns->joins, strlen(h->c->turns->joins));
    }
    if (!target)
        text_bytes_add(&head, text, n);
    if (!target && turn->tail)
        text_bytes_add(&head, turn->tail, strlen(turn->tail));
    if (st == ST_OK)
        st = add_words(h, head.at, head.n, false);
    text_bytes_free(&head);
    TRY(st);
    if (target)
        TRY(add_said(h, turn, text, n));
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
    add_before(h);
    json_array_foreach(list, i, m)
    {
        enum role role;
        *why = read_message(m, &role, &text);
        if (*why)
            return ST_OK;
        if (i == 0 && role != ROLE_SYSTEM && h->c->system)
            TRY(add_turn(h, ROLE_SYSTEM, NULL, h->c->system));
        if (role == ROLE_SYSTEM && h->c->turns->joins && i == 0) {
            system = text;
            continue;
        }
        if (!h->c->turns->turn[role].role) {
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

enum status chat_prompt(const struct chat_template *c, struct encoder *x, const struct tokenizer *t, const char *system,
                        const char *user, struct token_ids *out, struct err *e)
{
    const struct turn *turn = &c->turns->turn[ROLE_ASSISTANT];
    struct chat_tokens coded = { 0 };
    struct text_bytes head = { 0 };
    struct chatting h = { .c = c, .x = x, .t = t, .out = &coded, .e = e };
    enum status st = ST_OK;
    add_before(&h);
    system = system ? system : c->system;
    if (system && !c->turns->joins)
        st = add_turn(&h, ROLE_SYSTEM, NULL, system);
    if (st == ST_OK)
        st = add_turn(&h, ROLE_USER, c->turns->joins ? system : NULL, user);
    if (st == ST_OK)
        st = begin_turn(&h, turn, &head);
    if (st == ST_OK)
        st = add_words(&h, head.at, head.n, false);
    for (uint32_t i = 0; st == ST_OK && i < coded.ids.n; i++)
        vec_add(out, coded.ids.at[i]);
    text_bytes_free(&head);
    chat_tokens_free(&coded);
    return st;
}

uint32_t chat_template_end(const struct chat_template *c, const struct tokenizer *t)
{
    const char *end = c->turns->turn[ROLE_ASSISTANT].end;
    return *end ? tokenizer_find(t, end) : t->end_of_text;
}
