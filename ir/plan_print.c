/* A plan as text (ir/plan_text.h). */
#include "ir/plan_text.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>

#include "ir/graph.h"

struct printer {
    const struct plan *p;
    const struct ir_graph *g; /* NULL: no names */
    FILE *f;
};

static uint64_t field_value(const struct plan_field *field, const void *record)
{
    const char *at = (const char *)record + field->offset;
    uint64_t v = 0; /* records are in native byte order */
    uint32_t w;
    uint16_t h;
    switch (field->size) {
    case 1:
        return *(const uint8_t *)at;
    case 2:
        memcpy(&h, at, sizeof h);
        return h;
    case 4:
        memcpy(&w, at, sizeof w);
        return w;
    default:
        memcpy(&v, at, sizeof v);
        return v;
    }
}

static void print_field(FILE *f, const struct plan_field *field, const void *record)
{
    uint64_t v = field_value(field, record),
             none = field->size == 8 ? UINT64_MAX : ((uint64_t)1 << 8 * field->size) - 1;
    float real;
    if (field->type == 'e') {
        fprintf(f, " %s=%s", field->key, field->name((uint32_t)v));
    } else if (field->type == 'f') {
        memcpy(&real, (const char *)record + field->offset, sizeof real);
        if (v)
            fprintf(f, " %s=%.9g", field->key, (double)real);
    } else if (field->type == 'i') {
        if (v)
            fprintf(f, " %s=%" PRId32, field->key, (int32_t)(uint32_t)v);
    } else if (v == none) {
        fprintf(f, " %s=-", field->key);
    } else if (v) {
        fprintf(f, " %s=%" PRIu64, field->key, v);
    }
}

static void print_record(FILE *f, const char *name, uint32_t number, const struct plan_field *field, const void *record)
{
    fprintf(f, "%s %u", name, number);
    for (; field->key; field++)
        print_field(f, field, record);
}

/* One record of each plain table a line. */
#define TABLE(name, section, records, fields)             \
    for (uint32_t i = 0; i < p->h->count[section]; i++) { \
        print_record(f, name, i, fields, &p->records[i]); \
        fputc('\n', f);                                   \
    }

static void print_header(const struct printer *printer)
{
    const struct plan_header *h = printer->p->h;
    fprintf(printer->f, "plan");
    for (const struct plan_field *k = plan_header_fields; k->key; k++)
        print_field(printer->f, k, h);
    fprintf(printer->f, "\narenas");
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        fprintf(printer->f, " %s=%" PRIu64, plan_arena_name(a), h->arena_bytes[a]);
    fprintf(printer->f, "\npeaks");
    for (uint32_t k = 0; k < MEM_KINDS; k++)
        fprintf(printer->f, " %s=%" PRIu64, plan_memory_name((enum plan_kind_of_memory)k), h->peak_bytes[k]);
    fputc('\n', printer->f);
}

static void print_text(const struct printer *printer)
{
    const char *text = printer->p->text;
    for (uint64_t at = 0; at < printer->p->h->count[PLAN_S_TEXT]; at += strlen(text + at) + 1) {
        fprintf(printer->f, "text %" PRIu64 " \"", at);
        for (const unsigned char *s = (const unsigned char *)text + at; *s; s++)
            if (isprint(*s) && *s != '"' && *s != '\\')
                fputc(*s, printer->f);
            else
                fprintf(printer->f, "\\%02x", *s);
        fprintf(printer->f, "\"\n");
    }
}

static void print_sets(const struct printer *printer)
{
    const struct plan *p = printer->p;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_SETS]; i++) {
        fprintf(printer->f, "set %u", i);
        for (uint32_t k = 0; k < p->sets[i].n_ranges; k++) {
            const struct plan_range *r = &p->ranges[p->sets[i].first_range + k];
            fprintf(printer->f, " %u+%u*%u", r->start, r->stride, r->count);
        }
        fputc('\n', printer->f);
    }
}

static void print_tables(const struct printer *printer)
{
    const struct plan *p = printer->p;
    FILE *f = printer->f;
    print_sets(printer);
    TABLE("group", PLAN_S_GROUPS, groups, plan_group_fields)
    for (uint32_t i = 0; i < p->h->count[PLAN_S_STREAMS]; i++) {
        print_record(f, "stream", i, plan_stream_fields, &p->streams[i]);
        fprintf(f, " # %s\n", p->text + p->streams[i].name);
    }
    TABLE("channel", PLAN_S_CHANNELS, channels, plan_channel_fields)
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++) {
        print_record(f, "bucket", i, plan_bucket_fields, &p->buckets[i]);
        fputc('\n', f);
        for (uint32_t k = 0; k < p->buckets[i].n_pieces; k++) {
            const struct plan_piece *c = &p->pieces[p->buckets[i].first_piece + k];
            print_record(f, "  piece", k, plan_piece_fields, c);
            fprintf(f, " # %s\n", printer->g ? printer->g->params.at[c->param].name : "");
        }
    }
}

static void print_kernel(const struct printer *printer, uint32_t number, const struct plan_kernel *k)
{
    print_record(printer->f, "  kernel", number, plan_kernel_fields, k);
    const struct plan_operand *o = &printer->p->operands[k->first_operand];
    for (uint64_t rest = k->mask; rest; rest &= rest - 1, o++)
        fprintf(printer->f, " %s=%u+%" PRIu64 "%s", plan_operand_name((uint32_t)__builtin_ctzll(rest)), o->slot,
                o->offset, o->flags & PLAN_OPERAND_ADD ? "!" : "");
    if (printer->g && k->graph_op != PLAN_NONE)
        fprintf(printer->f, " # %s", printer->g->ops.at[k->graph_op].name);
    else if (printer->g && k->tensor < printer->g->tensors.n)
        fprintf(printer->f, " # gradient of %s", printer->g->tensors.at[k->tensor].name);
    fputc('\n', printer->f);
}

static void print_programs(const struct printer *printer)
{
    const struct plan *p = printer->p;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_PROGRAMS]; i++) {
        const struct plan_program *g = &p->programs[i];
        print_record(printer->f, "program", i, plan_program_fields, g);
        fputc('\n', printer->f);
        for (uint32_t k = 0; k < g->n_slots; k++) {
            print_record(printer->f, "  slot", k, plan_slot_fields, &p->slots[g->first_slot + k]);
            fputc('\n', printer->f);
        }
        for (uint32_t k = 0; k < g->n_kernels; k++)
            print_kernel(printer, k, &p->kernels[g->first_kernel + k]);
    }
}

/* For people: what an instruction does, by name. */
static void print_remark(const struct printer *printer, const struct plan_instr *in)
{
    const struct plan *p = printer->p;
    fprintf(printer->f, " # on %s", p->text + p->streams[in->stream].name);
    if (in->op == PLAN_RUN)
        fprintf(printer->f, ": chunk %u sub-chunk %u %s", p->programs[in->program].chunk, p->programs[in->program].sub,
                ir_pass_name((enum ir_pass)p->programs[in->program].pass));
    if (printer->g && (in->op == PLAN_LOAD || in->op == PLAN_SEND || in->op == PLAN_RECV || in->op == PLAN_EXCHANGE) &&
        in->tensor < printer->g->tensors.n)
        fprintf(printer->f, ": %s", printer->g->tensors.at[in->tensor].name);
}

static void print_instr(const struct printer *printer, uint32_t number, const struct plan_instr *in)
{
    const struct plan *p = printer->p;
    print_record(printer->f, "  instr", number, plan_instr_fields, in);
    for (uint32_t k = 0; k < in->n_waits; k++)
        fprintf(printer->f, "%s%u", k ? "," : " waits=", p->waits[in->first_wait + k]);
    for (uint32_t k = 0; k < in->n_bases; k++) {
        const struct plan_base *b = &p->bases[in->first_base + k];
        fprintf(printer->f, "%s%s+%" PRIu64 "@", k ? "," : " bases=", plan_arena_name(b->arena), b->offset);
        if (b->buffer == PLAN_NONE)
            fputc('-', printer->f);
        else
            fprintf(printer->f, "%u", b->buffer);
        fprintf(printer->f, ":%s%s%s%s%s", b->access & PLAN_READ ? "r" : "", b->access & PLAN_WRITE ? "w" : "",
                b->access & PLAN_OWN ? "o" : "", b->access & PLAN_PART ? "p" : "", b->first ? "!" : "");
    }
    print_remark(printer, in);
    fputc('\n', printer->f);
}

static void print_lists(const struct printer *printer)
{
    const struct plan *p = printer->p;
    FILE *f = printer->f;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_LISTS]; i++) {
        print_record(f, "list", i, plan_list_fields, &p->lists[i]);
        fprintf(f, " # %s\n", p->text + p->lists[i].name);
        for (uint32_t k = 0; k < p->lists[i].n_instr; k++)
            print_instr(printer, k, &p->instrs[p->lists[i].first_instr + k]);
    }
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUFFERS]; i++) {
        const struct plan_buffer *b = &p->buffers[i];
        print_record(f, "buffer", i, plan_buffer_fields, b);
        bool tensor = b->role == SLOT_TENSOR || b->role == SLOT_GRADIENT;
        if (printer->g && tensor && b->what < printer->g->tensors.n)
            fprintf(f, " # %s", printer->g->tensors.at[b->what].name);
        fputc('\n', f);
    }
}

void plan_print(const struct plan *p, const struct ir_graph *g, void *file)
{
    struct printer printer = { p, g, file };
    print_header(&printer);
    print_text(&printer);
    print_tables(&printer);
    print_programs(&printer);
    print_lists(&printer);
}
