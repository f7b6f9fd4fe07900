#include "mutants.h"

#include <inttypes.h>
#include <stddef.h>
#include <stdio.h>

#include "ir/plan_text.h"

#define FIELD(T, f)                                                         \
    {                                                                       \
#f, offsetof(struct T, f), sizeof(((struct T *)0)->f), 'u', NULL, 0 \
    }
#define END                    \
    {                          \
        NULL, 0, 0, 0, NULL, 0 \
    }
static const struct plan_field range_fields[] = { FIELD(plan_range, start), FIELD(plan_range, stride),
                                                  FIELD(plan_range, count), END };
static const struct plan_field operand_fields[] = { FIELD(plan_operand, slot), FIELD(plan_operand, flags),
                                                    FIELD(plan_operand, offset), END };
static const struct plan_field base_fields[] = { FIELD(plan_base, arena),  FIELD(plan_base, first),
                                                 FIELD(plan_base, access), FIELD(plan_base, buffer),
                                                 FIELD(plan_base, offset), END };
static const struct plan_field wait_fields[] = { { "on", 0, sizeof(uint32_t), 'u', NULL, 0 }, END };

struct table {
    const char *name;
    const struct plan_field *fields;
    unsigned char *at; /* the first record */
    uint32_t n, size;
};
enum { HEADER = PLAN_SECTIONS }; /* stands behind the sections, as a table of one */

static struct table table_of(const struct plan_builder *b, uint32_t section)
{
    switch (section) {
#define TABLE(id, field, fields) \
    case PLAN_S_##id:            \
        return (struct table){ #field, fields, (unsigned char *)b->field.at, b->field.n, sizeof *b->field.at }
        TABLE(RANGES, ranges, range_fields);
        TABLE(GROUPS, groups, plan_group_fields);
        TABLE(CHANNELS, channels, plan_channel_fields);
        TABLE(STREAMS, streams, plan_stream_fields);
        TABLE(BUCKETS, buckets, plan_bucket_fields);
        TABLE(PIECES, pieces, plan_piece_fields);
        TABLE(SLOTS, slots, plan_slot_fields);
        TABLE(OPERANDS, operands, operand_fields);
        TABLE(KERNELS, kernels, plan_kernel_fields);
        TABLE(PROGRAMS, programs, plan_program_fields);
        TABLE(INSTRS, instrs, plan_instr_fields);
        TABLE(WAITS, waits, wait_fields);
        TABLE(BASES, bases, base_fields);
        TABLE(BUFFERS, buffers, plan_buffer_fields);
        TABLE(LISTS, lists, plan_list_fields);
#undef TABLE
    case HEADER:
        return (struct table){ "header", plan_header_fields, (unsigned char *)&b->h, 1, sizeof b->h };
    default:
        return (struct table){ .fields = NULL };
    }
}

static uint64_t load(const unsigned char *at, uint32_t size)
{
    uint8_t a = 0;
    uint16_t b = 0;
    uint32_t c = 0;
    uint64_t d = 0;
    switch (size) {
    case 1:
        memcpy(&a, at, size);
        return a;
    case 2:
        memcpy(&b, at, size);
        return b;
    case 4:
        memcpy(&c, at, size);
        return c;
    default:
        memcpy(&d, at, size);
        return d;
    }
}

static void store(unsigned char *at, uint32_t size, uint64_t v)
{
    const uint8_t a = (uint8_t)v;
    const uint16_t b = (uint16_t)v;
    const uint32_t c = (uint32_t)v;
    memcpy(at, size == 1 ? (const void *)&a : size == 2 ? (const void *)&b : size == 4 ? (const void *)&c : &v, size);
}

enum { ALIGN = 64 };
static const char *const ways[] = {
    "= 0", "= none", "+ 1", "- 1", "+ 64", "- 64", "of the next record", "of the one before", "* 2", "/ 2"
};
enum { WAYS = sizeof ways / sizeof *ways };

static uint64_t changed(const struct table *t, uint32_t record, const struct plan_field *f, uint32_t way)
{
    const unsigned char *at = t->at + (size_t)record * t->size + f->offset;
    const uint64_t v = load(at, f->size);
    const uint64_t of[WAYS] = { 0,
                                UINT64_MAX,
                                v + 1,
                                v - 1,
                                v + ALIGN,
                                v - ALIGN,
                                record + 1 < t->n ? load(at + t->size, f->size) : v,
                                record > 0 ? load(at - t->size, f->size) : v,
                                2 * v,
                                v / 2 };
    return f->size == 8 ? of[way] : of[way] & ((UINT64_C(1) << 8 * f->size) - 1);
}

void mutants_list(const struct plan_builder *b, uint32_t cls, struct mutants *to)
{
    for (uint16_t s = 0; s <= HEADER; s++) {
        const struct table t = table_of(b, s);
        for (uint32_t r = 0; t.fields && r < t.n; r++)
            for (uint16_t f = 0; t.fields[f].key; f++)
                for (uint16_t w = 0; w < WAYS; w++) {
                    const uint64_t v = load(t.at + (size_t)r * t.size + t.fields[f].offset, t.fields[f].size);
                    bool new = changed(&t, r, &t.fields[f], w) != v;
                    for (uint32_t k = 0; k < w && new; k++)
                        new = changed(&t, r, &t.fields[f], k) != changed(&t, r, &t.fields[f], w);
                    if (new)
                        vec_add(to, ((struct mutant){ cls, s, f, w, r }));
                }
    }
}

static unsigned char *field_at(const struct plan_builder *b, const struct mutant *m, uint32_t *size)
{
    const struct table t = table_of(b, m->section);
    *size = t.fields[m->field].size;
    return t.at + (size_t)m->record * t.size + t.fields[m->field].offset;
}

uint64_t mutants_apply(struct plan_builder *b, const struct mutant *m)
{
    const struct table t = table_of(b, m->section);
    uint32_t size;
    unsigned char *at = field_at(b, m, &size);
    const uint64_t was = load(at, size);
    store(at, size, changed(&t, m->record, &t.fields[m->field], m->way));
    return was;
}

void mutants_undo(struct plan_builder *b, const struct mutant *m, uint64_t was)
{
    uint32_t size;
    unsigned char *at = field_at(b, m, &size);
    store(at, size, was);
}

static const struct plan_field *field_of(const struct mutant *m, const char **table)
{
    static const struct plan_builder none;
    const struct table t = table_of(&none, m->section);
    *table = t.name;
    return &t.fields[m->field];
}

const char *mutants_field(const struct mutant *m, const char **table)
{
    return field_of(m, table)->key;
}

const char *mutants_text(const struct mutant *m, char text[128])
{
    const char *table;
    const struct plan_field *f = field_of(m, &table);
    snprintf(text, 128, "class %u: %s[%u].%s %s", m->cls, table, m->record, f->key, ways[m->way]);
    return text;
}

struct reason {
    const char *table, *field, *why;
};

/* Of n rules, the reason of that about the field of a mutant; NULL: none is. */
static const char *reason_of(const struct mutant *m, const struct reason *rules, size_t n)
{
    const char *table, *field = mutants_field(m, &table);
    for (size_t i = 0; i < n; i++)
        if (strcmp(rules[i].table, table) == 0 && strcmp(rules[i].field, field) == 0)
            return rules[i].why;
    return NULL;
}

const char *mutants_harmless(const struct mutant *m)
{
    static const struct reason rules[] = {
        { "programs", "seconds", "a prediction: simulation and emulation alone use it" },
        { "instrs", "seconds", "a prediction: simulation and emulation alone use it" },
        { "streams", "name", "for people; the members of a communicator are compared" },
        { "streams", "max_ctas", "resources of a device; the members of a communicator are compared" },
        { "streams", "priority", "resources of a device; the members of a communicator are compared" },
        { "buffers", "kind", "what its memory is counted as" },
    };
    return reason_of(m, rules, sizeof rules / sizeof *rules);
}

const char *mutants_close(const struct mutant *m)
{
    static const struct reason rules[] = {
        { "header", "zigzag", "a ring goes round with any order of the parts of a sequence" },
    };
    return reason_of(m, rules, sizeof rules / sizeof *rules);
}
