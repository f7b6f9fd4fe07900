/* A plan from its text form (ir/plan_text.h). The result is as trustworthy as the text: plan_open() decides. */
#include "ir/plan_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "ir/graph.h"

struct parser {
    struct plan_builder b;
    const char *at;  /* in the line */
    const char *end; /* of the line, or its comment */
    uint32_t line;
    struct err *e;
};

static enum status wrong(struct parser *parser, const char *expected)
{
    char where[40];
    snprintf(where, sizeof where, "plan text, line %u", parser->line);
    int n = (int)(parser->end - parser->at > 40 ? 40 : parser->end - parser->at);
    return err_set(parser->e, ST_INPUT, where, "found \"%.*s\", expected %s", n, parser->at, expected);
}

static void skip_blanks(struct parser *parser)
{
    while (parser->at < parser->end && (*parser->at == ' ' || *parser->at == '\t'))
        parser->at++;
}

static bool take(struct parser *parser, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(parser->end - parser->at) < n || strncmp(parser->at, word, n) != 0)
        return false;
    parser->at += n;
    return true;
}

/* A word that ends at a blank, or at one of `stops`. */
static bool take_word(struct parser *parser, const char *word, const char *stops)
{
    size_t n = strlen(word);
    const char *after = parser->at + n;
    if ((size_t)(parser->end - parser->at) < n || strncmp(parser->at, word, n) != 0 ||
        (after < parser->end && *after != ' ' && !strchr(stops, *after)))
        return false;
    parser->at = after;
    return true;
}

static enum status number(struct parser *parser, uint64_t *v)
{
    if (parser->at == parser->end || !isdigit((unsigned char)*parser->at))
        return wrong(parser, "a number");
    for (*v = 0; parser->at < parser->end && isdigit((unsigned char)*parser->at); parser->at++) {
        uint64_t digit = (uint64_t)(*parser->at - '0');
        if (*v > (UINT64_MAX - digit) / 10)
            return wrong(parser, "a number of 64 bits");
        *v = *v * 10 + digit;
    }
    return ST_OK;
}

static enum status number32(struct parser *parser, uint32_t *v)
{
    uint64_t n;
    TRY(number(parser, &n));
    if (n > UINT32_MAX)
        return wrong(parser, "a number of 32 bits before this");
    *v = (uint32_t)n;
    return ST_OK;
}

static void store(const struct plan_field *f, void *record, uint64_t v)
{
    char *at = (char *)record + f->offset;
    uint32_t w = (uint32_t)v;
    uint16_t h = (uint16_t)v;
    if (f->size == 1)
        *(uint8_t *)at = (uint8_t)v;
    else if (f->size == 2)
        memcpy(at, &h, sizeof h);
    else if (f->size == 4)
        memcpy(at, &w, sizeof w);
    else
        memcpy(at, &v, sizeof v);
}

static enum status field_value(struct parser *parser, const struct plan_field *f, void *record)
{
    uint64_t v = 0, none = f->size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * f->size) - 1;
    if (f->type == 'e') {
        for (v = 0; v < f->count; v++)
            if (take_word(parser, f->name((uint32_t)v), ""))
                break;
        if (v == f->count)
            return wrong(parser, f->key);
    } else if (f->type == 'f') {
        char *after;
        float real = strtof(parser->at, &after);
        if (after == parser->at || after > parser->end)
            return wrong(parser, "a number");
        parser->at = after;
        memcpy((char *)record + f->offset, &real, sizeof real);
        return ST_OK;
    } else if (f->type == 'i') {
        bool minus = take(parser, "-");
        TRY(number(parser, &v));
        v = minus ? (uint64_t)(uint32_t) - (int32_t)v : v;
    } else if (take(parser, "-")) {
        v = none;
    } else {
        TRY(number(parser, &v));
        if (v > none)
            return wrong(parser, "a smaller number before this");
    }
    store(f, record, v);
    return ST_OK;
}

/* One key=value of the table; *found false when the word is another. */
static enum status one_field(struct parser *parser, const struct plan_field *f, void *record, bool *found)
{
    skip_blanks(parser);
    for (*found = false; f->key; f++) {
        size_t n = strlen(f->key);
        if ((size_t)(parser->end - parser->at) > n && strncmp(parser->at, f->key, n) == 0 && parser->at[n] == '=') {
            parser->at += n + 1;
            *found = true;
            return field_value(parser, f, record);
        }
    }
    return ST_OK;
}

static enum status fields(struct parser *parser, const struct plan_field *f, void *record)
{
    bool found = true;
    while (found)
        TRY(one_field(parser, f, record, &found));
    return parser->at == parser->end ? ST_OK : wrong(parser, "the end of the line, or a key of this record");
}

/* The record's number, which is its position. */
static enum status position(struct parser *parser, uint32_t expected)
{
    uint32_t n = 0;
    skip_blanks(parser);
    const char *from = parser->at;
    TRY(number32(parser, &n));
    if (n == expected)
        return ST_OK;
    char text[40];
    parser->at = from;
    snprintf(text, sizeof text, "record number %u", expected);
    return wrong(parser, text);
}

/* ---- records ---- */

static enum status parse_plan(struct parser *parser)
{
    return fields(parser, plan_header_fields, &parser->b.h);
}

static enum status parse_bytes(struct parser *parser, uint64_t *bytes, uint32_t n, const char *(*name)(uint32_t))
{
    for (uint32_t i = 0; i < n; i++) {
        skip_blanks(parser);
        if (!take(parser, name(i)) || !take(parser, "="))
            return wrong(parser, name(i));
        TRY(number(parser, &bytes[i]));
    }
    return ST_OK;
}

static enum status parse_arenas(struct parser *parser)
{
    return parse_bytes(parser, parser->b.h.arena_bytes, ARENA_COUNT, plan_arena_name);
}

static const char *memory_name(uint32_t k)
{
    return plan_memory_name((enum plan_kind_of_memory)k);
}

static enum status parse_peaks(struct parser *parser)
{
    return parse_bytes(parser, parser->b.h.peak_bytes, MEM_KINDS, memory_name);
}

static enum status parse_text(struct parser *parser)
{
    TRY(position(parser, parser->b.text.n));
    skip_blanks(parser);
    if (!take(parser, "\""))
        return wrong(parser, "a string");
    while (parser->at < parser->end && *parser->at != '"') {
        unsigned code = (unsigned char)*parser->at++;
        if (code == '\\') {
            char hex[3] = { 0 };
            for (int i = 0; i < 2 && parser->at < parser->end; i++)
                hex[i] = *parser->at++;
            code = (unsigned)strtoul(hex, NULL, 16);
        }
        vec_add(&parser->b.text, (char)code);
    }
    vec_add(&parser->b.text, 0);
    return take(parser, "\"") ? ST_OK : wrong(parser, "the end of the string");
}

static enum status parse_set(struct parser *parser)
{
    struct plan_set s = { .first_range = parser->b.ranges.n };
    TRY(position(parser, parser->b.sets.n));
    for (skip_blanks(parser); parser->at < parser->end; skip_blanks(parser)) {
        struct plan_range r;
        TRY(number32(parser, &r.start));
        if (!take(parser, "+"))
            return wrong(parser, "+stride");
        TRY(number32(parser, &r.stride));
        if (!take(parser, "*"))
            return wrong(parser, "*count");
        TRY(number32(parser, &r.count));
        vec_add(&parser->b.ranges, r);
        s.size += r.count;
        s.n_ranges++;
    }
    vec_add(&parser->b.sets, s);
    return ST_OK;
}

#define PLAIN(name, records, table)                             \
    static enum status parse_##name(struct parser *parser)      \
    {                                                           \
        TRY(position(parser, parser->b.records.n));             \
        uint32_t i = vec_grow(&parser->b.records, 1);           \
        return fields(parser, table, &parser->b.records.at[i]); \
    }
PLAIN(group, groups, plan_group_fields)
PLAIN(channel, channels, plan_channel_fields)
PLAIN(stream, streams, plan_stream_fields)
PLAIN(buffer, buffers, plan_buffer_fields)

static enum status parse_bucket(struct parser *parser)
{
    TRY(position(parser, parser->b.buckets.n));
    struct plan_bucket *b = vec_push(&parser->b.buckets);
    *b = (struct plan_bucket){ .first_piece = parser->b.pieces.n };
    return fields(parser, plan_bucket_fields, b);
}

static enum status parse_piece(struct parser *parser)
{
    if (parser->b.buckets.n == 0)
        return wrong(parser, "a bucket before this line");
    struct plan_bucket *b = &parser->b.buckets.at[parser->b.buckets.n - 1];
    TRY(position(parser, b->n_pieces++));
    struct plan_piece *p = vec_push(&parser->b.pieces);
    *p = (struct plan_piece){ .bucket = parser->b.buckets.n - 1 };
    return fields(parser, plan_piece_fields, p);
}

static enum status parse_program(struct parser *parser)
{
    TRY(position(parser, parser->b.programs.n));
    struct plan_program *g = vec_push(&parser->b.programs);
    *g = (struct plan_program){ .first_kernel = parser->b.kernels.n, .first_slot = parser->b.slots.n };
    return fields(parser, plan_program_fields, g);
}

static enum status parse_slot(struct parser *parser)
{
    if (parser->b.programs.n == 0)
        return wrong(parser, "a program before this line");
    TRY(position(parser, parser->b.programs.at[parser->b.programs.n - 1].n_slots++));
    struct plan_slot *s = vec_push(&parser->b.slots);
    *s = (struct plan_slot){ 0 };
    return fields(parser, plan_slot_fields, s);
}

static enum status parse_operand(struct parser *parser, struct plan_kernel *k, uint32_t *last)
{
    for (uint32_t i = *last; i < OPERAND_COUNT; i++) {
        if (!take_word(parser, plan_operand_name(i), "="))
            continue;
        struct plan_operand o = { 0 };
        if (!take(parser, "="))
            return wrong(parser, "=slot+offset");
        TRY(number32(parser, &o.slot));
        if (!take(parser, "+"))
            return wrong(parser, "+offset");
        TRY(number(parser, &o.offset));
        o.flags = take(parser, "!") ? PLAN_OPERAND_ADD : 0;
        vec_add(&parser->b.operands, o);
        k->mask |= UINT64_C(1) << i;
        *last = i + 1;
        return ST_OK;
    }
    return wrong(parser, "an operand, in order");
}

static enum status parse_kernel(struct parser *parser)
{
    if (parser->b.programs.n == 0)
        return wrong(parser, "a program before this line");
    TRY(position(parser, parser->b.programs.at[parser->b.programs.n - 1].n_kernels++));
    struct plan_kernel *k = vec_push(&parser->b.kernels);
    *k = (struct plan_kernel){ .first_operand = parser->b.operands.n };
    uint32_t last = 0;
    for (skip_blanks(parser); parser->at < parser->end; skip_blanks(parser)) {
        bool found;
        TRY(one_field(parser, plan_kernel_fields, k, &found));
        if (!found)
            TRY(parse_operand(parser, k, &last));
    }
    return ST_OK;
}

static enum status parse_list(struct parser *parser)
{
    TRY(position(parser, parser->b.lists.n));
    struct plan_list *l = vec_push(&parser->b.lists);
    *l = (struct plan_list){ .first_instr = parser->b.instrs.n };
    return fields(parser, plan_list_fields, l);
}

static enum status parse_waits(struct parser *parser, struct plan_instr *in)
{
    do {
        uint32_t w = 0;
        TRY(number32(parser, &w));
        vec_add(&parser->b.waits, w);
        if (++in->n_waits == 0)
            return wrong(parser, "at most 65535 waits before this");
    } while (take(parser, ","));
    return ST_OK;
}

static enum status parse_base(struct parser *parser, struct plan_base *b)
{
    uint32_t a = 0;
    while (a < ARENA_COUNT && !take(parser, plan_arena_name(a)))
        a++;
    if (a == ARENA_COUNT || !take(parser, "+"))
        return wrong(parser, "arena+offset");
    b->arena = (uint8_t)a;
    TRY(number(parser, &b->offset));
    if (!take(parser, "@"))
        return wrong(parser, "@buffer");
    if (take(parser, "-"))
        b->buffer = PLAN_NONE;
    else
        TRY(number32(parser, &b->buffer));
    if (!take(parser, ":"))
        return wrong(parser, ":access");
    b->access = take(parser, "r") ? PLAN_READ : 0;
    b->access |= take(parser, "w") ? PLAN_WRITE : 0;
    b->access |= take(parser, "o") ? PLAN_OWN : 0;
    b->access |= take(parser, "p") ? PLAN_PART : 0;
    b->first = take(parser, "!");
    return ST_OK;
}

static enum status parse_bases(struct parser *parser, struct plan_instr *in)
{
    do {
        struct plan_base b = { 0 };
        TRY(parse_base(parser, &b));
        vec_add(&parser->b.bases, b);
        if (++in->n_bases == 0)
            return wrong(parser, "at most 65535 bases before this");
    } while (take(parser, ","));
    return ST_OK;
}

static enum status parse_instr(struct parser *parser)
{
    if (parser->b.lists.n == 0)
        return wrong(parser, "a list before this line");
    TRY(position(parser, parser->b.lists.at[parser->b.lists.n - 1].n_instr++));
    struct plan_instr *in = vec_push(&parser->b.instrs);
    *in = (struct plan_instr){ .first_wait = parser->b.waits.n, .first_base = parser->b.bases.n };
    for (skip_blanks(parser); parser->at < parser->end; skip_blanks(parser)) {
        bool found;
        TRY(one_field(parser, plan_instr_fields, in, &found));
        if (found)
            continue;
        if (take(parser, "waits="))
            TRY(parse_waits(parser, in));
        else if (take(parser, "bases="))
            TRY(parse_bases(parser, in));
        else
            return wrong(parser, "a key of an instruction");
    }
    return ST_OK;
}

static const struct record {
    const char *name;
    enum status (*parse)(struct parser *parser);
} records[] = {
    { "plan", parse_plan },     { "arenas", parse_arenas }, { "peaks", parse_peaks },     { "text", parse_text },
    { "set", parse_set },       { "group", parse_group },   { "channel", parse_channel }, { "stream", parse_stream },
    { "bucket", parse_bucket }, { "piece", parse_piece },   { "program", parse_program }, { "slot", parse_slot },
    { "kernel", parse_kernel }, { "list", parse_list },     { "instr", parse_instr },     { "buffer", parse_buffer },
};

/* The line's end without its remark. In a string a # is no remark. */
static const char *end_of(const char *line, const char *end)
{
    bool string = false;
    for (const char *s = line; s < end; s++) {
        string ^= *s == '"';
        if (!string && *s == '#' && s > line && s[-1] == ' ')
            end = s;
    }
    while (end > line && (end[-1] == ' ' || end[-1] == '\r'))
        end--;
    return end;
}

static enum status parse_line(struct parser *parser)
{
    skip_blanks(parser);
    if (parser->at == parser->end || *parser->at == '#')
        return ST_OK;
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        if (take_word(parser, records[i].name, "")) {
            TRY(records[i].parse(parser));
            skip_blanks(parser);
            return parser->at == parser->end ? ST_OK : wrong(parser, "the end of the line");
        }
    return wrong(parser, "the name of a record");
}

enum status plan_parse(const char *text, const struct ir_graph *g, void **blob, uint64_t *bytes, struct err *e)
{
    struct parser parser = { .e = e };
    struct plan p;
    enum status st = ST_OK;
    for (const char *line = text; *line && st == ST_OK;) {
        const char *end = line + strcspn(line, "\n");
        parser.line++;
        parser.at = line;
        parser.end = end_of(line, end);
        st = parse_line(&parser);
        line = *end ? end + 1 : end;
    }
    if (st == ST_OK) {
        *blob = plan_build(&parser.b, bytes);
        st = plan_open(*blob, *bytes, g->ops.n, g->params.n, g->tensors.n, &p, e);
        if (st != ST_OK) {
            mem_free(*blob);
            *blob = NULL;
        }
    }
    plan_builder_release(&parser.b);
    return st;
}
