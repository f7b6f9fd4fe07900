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

static enum status wrong(struct parser *x, const char *expected)
{
    char where[40];
    snprintf(where, sizeof where, "plan text, line %u", x->line);
    int n = (int)(x->end - x->at > 40 ? 40 : x->end - x->at);
    return err_set(x->e, ST_INPUT, where, "found \"%.*s\", expected %s", n, x->at, expected);
}

static void skip_blanks(struct parser *x)
{
    while (x->at < x->end && (*x->at == ' ' || *x->at == '\t'))
        x->at++;
}

static bool take(struct parser *x, const char *word)
{
    size_t n = strlen(word);
    if ((size_t)(x->end - x->at) < n || strncmp(x->at, word, n) != 0)
        return false;
    x->at += n;
    return true;
}

/* A word that ends at a blank, or at one of `stops`. */
static bool take_word(struct parser *x, const char *word, const char *stops)
{
    size_t n = strlen(word);
    const char *after = x->at + n;
    if ((size_t)(x->end - x->at) < n || strncmp(x->at, word, n) != 0 ||
        (after < x->end && *after != ' ' && !strchr(stops, *after)))
        return false;
    x->at = after;
    return true;
}

static enum status number(struct parser *x, uint64_t *v)
{
    if (x->at == x->end || !isdigit((unsigned char)*x->at))
        return wrong(x, "a number");
    for (*v = 0; x->at < x->end && isdigit((unsigned char)*x->at); x->at++) {
        uint64_t digit = (uint64_t)(*x->at - '0');
        if (*v > (UINT64_MAX - digit) / 10)
            return wrong(x, "a number of 64 bits");
        *v = *v * 10 + digit;
    }
    return ST_OK;
}

static enum status number32(struct parser *x, uint32_t *v)
{
    uint64_t n;
    TRY(number(x, &n));
    if (n > UINT32_MAX)
        return wrong(x, "a number of 32 bits before this");
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

static enum status field_value(struct parser *x, const struct plan_field *f, void *record)
{
    uint64_t v = 0, none = f->size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * f->size) - 1;
    if (f->type == 'e') {
        for (v = 0; v < f->count; v++)
            if (take_word(x, f->name((uint32_t)v), ""))
                break;
        if (v == f->count)
            return wrong(x, f->key);
    } else if (f->type == 'f') {
        char *after;
        float real = strtof(x->at, &after);
        if (after == x->at || after > x->end)
            return wrong(x, "a number");
        x->at = after;
        memcpy((char *)record + f->offset, &real, sizeof real);
        return ST_OK;
    } else if (f->type == 'i') {
        bool minus = take(x, "-");
        TRY(number(x, &v));
        v = minus ? (uint64_t)(uint32_t) - (int32_t)v : v;
    } else if (take(x, "-")) {
        v = none;
    } else {
        TRY(number(x, &v));
        if (v > none)
            return wrong(x, "a smaller number before this");
    }
    store(f, record, v);
    return ST_OK;
}

/* One key=value of the table; *found false when the word is another. */
static enum status one_field(struct parser *x, const struct plan_field *f, void *record, bool *found)
{
    skip_blanks(x);
    for (*found = false; f->key; f++) {
        size_t n = strlen(f->key);
        if ((size_t)(x->end - x->at) > n && strncmp(x->at, f->key, n) == 0 && x->at[n] == '=') {
            x->at += n + 1;
            *found = true;
            return field_value(x, f, record);
        }
    }
    return ST_OK;
}

static enum status fields(struct parser *x, const struct plan_field *f, void *record)
{
    bool found = true;
    while (found)
        TRY(one_field(x, f, record, &found));
    return x->at == x->end ? ST_OK : wrong(x, "the end of the line, or a key of this record");
}

/* The record's number, which is its position. */
static enum status position(struct parser *x, uint32_t expected)
{
    uint32_t n = 0;
    skip_blanks(x);
    const char *from = x->at;
    TRY(number32(x, &n));
    if (n == expected)
        return ST_OK;
    char text[40];
    x->at = from;
    snprintf(text, sizeof text, "record number %u", expected);
    return wrong(x, text);
}

/* ---- records ---- */

static enum status parse_plan(struct parser *x)
{
    return fields(x, plan_header_fields, &x->b.h);
}

static enum status parse_bytes(struct parser *x, uint64_t *bytes, uint32_t n, const char *(*name)(uint32_t))
{
    for (uint32_t i = 0; i < n; i++) {
        skip_blanks(x);
        if (!take(x, name(i)) || !take(x, "="))
            return wrong(x, name(i));
        TRY(number(x, &bytes[i]));
    }
    return ST_OK;
}

static enum status parse_arenas(struct parser *x)
{
    return parse_bytes(x, x->b.h.arena_bytes, ARENA_COUNT, plan_arena_name);
}

static const char *memory_name(uint32_t k)
{
    return plan_memory_name((enum plan_kind_of_memory)k);
}

static enum status parse_peaks(struct parser *x)
{
    return parse_bytes(x, x->b.h.peak_bytes, MEM_KINDS, memory_name);
}

static enum status parse_text(struct parser *x)
{
    TRY(position(x, x->b.text.n));
    skip_blanks(x);
    if (!take(x, "\""))
        return wrong(x, "a string");
    while (x->at < x->end && *x->at != '"') {
        unsigned code = (unsigned char)*x->at++;
        if (code == '\\') {
            char hex[3] = { 0 };
            for (int i = 0; i < 2 && x->at < x->end; i++)
                hex[i] = *x->at++;
            code = (unsigned)strtoul(hex, NULL, 16);
        }
        vec_add(&x->b.text, (char)code);
    }
    vec_add(&x->b.text, 0);
    return take(x, "\"") ? ST_OK : wrong(x, "the end of the string");
}

static enum status parse_set(struct parser *x)
{
    struct plan_set s = { .first_range = x->b.ranges.n };
    TRY(position(x, x->b.sets.n));
    for (skip_blanks(x); x->at < x->end; skip_blanks(x)) {
        struct plan_range r;
        TRY(number32(x, &r.start));
        if (!take(x, "+"))
            return wrong(x, "+stride");
        TRY(number32(x, &r.stride));
        if (!take(x, "*"))
            return wrong(x, "*count");
        TRY(number32(x, &r.count));
        vec_add(&x->b.ranges, r);
        s.size += r.count;
        s.n_ranges++;
    }
    vec_add(&x->b.sets, s);
    return ST_OK;
}

#define PLAIN(name, records, table)                   \
    static enum status parse_##name(struct parser *x) \
    {                                                 \
        TRY(position(x, x->b.records.n));             \
        uint32_t i = vec_grow(&x->b.records, 1);      \
        return fields(x, table, &x->b.records.at[i]); \
    }
PLAIN(group, groups, plan_group_fields)
PLAIN(channel, channels, plan_channel_fields)
PLAIN(stream, streams, plan_stream_fields)
PLAIN(buffer, buffers, plan_buffer_fields)

static enum status parse_bucket(struct parser *x)
{
    TRY(position(x, x->b.buckets.n));
    struct plan_bucket *b = vec_push(&x->b.buckets);
    *b = (struct plan_bucket){ .first_piece = x->b.pieces.n };
    return fields(x, plan_bucket_fields, b);
}

static enum status parse_piece(struct parser *x)
{
    if (x->b.buckets.n == 0)
        return wrong(x, "a bucket before this line");
    struct plan_bucket *b = &x->b.buckets.at[x->b.buckets.n - 1];
    TRY(position(x, b->n_pieces++));
    struct plan_piece *p = vec_push(&x->b.pieces);
    *p = (struct plan_piece){ .bucket = x->b.buckets.n - 1 };
    return fields(x, plan_piece_fields, p);
}

static enum status parse_program(struct parser *x)
{
    TRY(position(x, x->b.programs.n));
    struct plan_program *g = vec_push(&x->b.programs);
    *g = (struct plan_program){ .first_kernel = x->b.kernels.n, .first_slot = x->b.slots.n };
    return fields(x, plan_program_fields, g);
}

static enum status parse_slot(struct parser *x)
{
    if (x->b.programs.n == 0)
        return wrong(x, "a program before this line");
    TRY(position(x, x->b.programs.at[x->b.programs.n - 1].n_slots++));
    struct plan_slot *s = vec_push(&x->b.slots);
    *s = (struct plan_slot){ 0 };
    return fields(x, plan_slot_fields, s);
}

static enum status parse_operand(struct parser *x, struct plan_kernel *k, uint32_t *last)
{
    for (uint32_t i = *last; i < OPERAND_COUNT; i++) {
        if (!take_word(x, plan_operand_name(i), "="))
            continue;
        struct plan_operand o = { 0 };
        if (!take(x, "="))
            return wrong(x, "=slot+offset");
        TRY(number32(x, &o.slot));
        if (!take(x, "+"))
            return wrong(x, "+offset");
        TRY(number(x, &o.offset));
        o.flags = take(x, "!") ? PLAN_OPERAND_ADD : 0;
        vec_add(&x->b.operands, o);
        k->mask |= 1u << i;
        *last = i + 1;
        return ST_OK;
    }
    return wrong(x, "an operand, in order");
}

static enum status parse_kernel(struct parser *x)
{
    if (x->b.programs.n == 0)
        return wrong(x, "a program before this line");
    TRY(position(x, x->b.programs.at[x->b.programs.n - 1].n_kernels++));
    struct plan_kernel *k = vec_push(&x->b.kernels);
    *k = (struct plan_kernel){ .first_operand = x->b.operands.n };
    uint32_t last = 0;
    for (skip_blanks(x); x->at < x->end; skip_blanks(x)) {
        bool found;
        TRY(one_field(x, plan_kernel_fields, k, &found));
        if (!found)
            TRY(parse_operand(x, k, &last));
    }
    return ST_OK;
}

static enum status parse_list(struct parser *x)
{
    TRY(position(x, x->b.lists.n));
    struct plan_list *l = vec_push(&x->b.lists);
    *l = (struct plan_list){ .first_instr = x->b.instrs.n };
    return fields(x, plan_list_fields, l);
}

static enum status parse_waits(struct parser *x, struct plan_instr *in)
{
    do {
        uint32_t w = 0;
        TRY(number32(x, &w));
        vec_add(&x->b.waits, w);
        if (++in->n_waits == 0)
            return wrong(x, "at most 65535 waits before this");
    } while (take(x, ","));
    return ST_OK;
}

static enum status parse_base(struct parser *x, struct plan_base *b)
{
    uint32_t a = 0;
    while (a < ARENA_COUNT && !take(x, plan_arena_name(a)))
        a++;
    if (a == ARENA_COUNT || !take(x, "+"))
        return wrong(x, "arena+offset");
    b->arena = (uint8_t)a;
    TRY(number(x, &b->offset));
    if (!take(x, "@"))
        return wrong(x, "@buffer");
    if (take(x, "-"))
        b->buffer = PLAN_NONE;
    else
        TRY(number32(x, &b->buffer));
    if (!take(x, ":"))
        return wrong(x, ":access");
    b->access = take(x, "r") ? PLAN_READ : 0;
    b->access |= take(x, "w") ? PLAN_WRITE : 0;
    b->access |= take(x, "o") ? PLAN_OWN : 0;
    b->first = take(x, "!");
    return ST_OK;
}

static enum status parse_bases(struct parser *x, struct plan_instr *in)
{
    do {
        struct plan_base b = { 0 };
        TRY(parse_base(x, &b));
        vec_add(&x->b.bases, b);
        if (++in->n_bases == 0)
            return wrong(x, "at most 65535 bases before this");
    } while (take(x, ","));
    return ST_OK;
}

static enum status parse_instr(struct parser *x)
{
    if (x->b.lists.n == 0)
        return wrong(x, "a list before this line");
    TRY(position(x, x->b.lists.at[x->b.lists.n - 1].n_instr++));
    struct plan_instr *in = vec_push(&x->b.instrs);
    *in = (struct plan_instr){ .first_wait = x->b.waits.n, .first_base = x->b.bases.n };
    for (skip_blanks(x); x->at < x->end; skip_blanks(x)) {
        bool found;
        TRY(one_field(x, plan_instr_fields, in, &found));
        if (found)
            continue;
        if (take(x, "waits="))
            TRY(parse_waits(x, in));
        else if (take(x, "bases="))
            TRY(parse_bases(x, in));
        else
            return wrong(x, "a key of an instruction");
    }
    return ST_OK;
}

static const struct record {
    const char *name;
    enum status (*parse)(struct parser *x);
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

static enum status parse_line(struct parser *x)
{
    skip_blanks(x);
    if (x->at == x->end || *x->at == '#')
        return ST_OK;
    for (size_t i = 0; i < sizeof records / sizeof *records; i++)
        if (take_word(x, records[i].name, "")) {
            TRY(records[i].parse(x));
            skip_blanks(x);
            return x->at == x->end ? ST_OK : wrong(x, "the end of the line");
        }
    return wrong(x, "the name of a record");
}

enum status plan_parse(const char *text, const struct ir_graph *g, void **blob, uint64_t *bytes, struct err *e)
{
    struct parser x = { .e = e };
    struct plan p;
    enum status st = ST_OK;
    for (const char *line = text; *line && st == ST_OK;) {
        const char *end = line + strcspn(line, "\n");
        x.line++;
        x.at = line;
        x.end = end_of(line, end);
        st = parse_line(&x);
        line = *end ? end + 1 : end;
    }
    if (st == ST_OK) {
        *blob = plan_build(&x.b, bytes);
        st = plan_open(*blob, *bytes, g->ops.n, g->params.n, g->tensors.n, &p, e);
        if (st != ST_OK) {
            mem_free(*blob);
            *blob = NULL;
        }
    }
    plan_builder_release(&x.b);
    return st;
}
