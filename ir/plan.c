/* The plan's container: names, lookups in its tables, and the builder that lays sections out into one blob. */
#include "ir/plan.h"

#include <stddef.h>
#include <stdio.h>

static const char *const op_names[PLAN_OP_COUNT] = {
    [PLAN_LOAD] = "LOAD",
    [PLAN_RUN] = "RUN",
    [PLAN_SEND] = "SEND",
    [PLAN_RECV] = "RECV",
    [PLAN_EXCHANGE] = "EXCHANGE",
    [PLAN_ALL_REDUCE] = "ALL_REDUCE",
    [PLAN_REDUCE_SCATTER] = "REDUCE_SCATTER",
    [PLAN_ALL_GATHER] = "ALL_GATHER",
    [PLAN_ADD] = "ADD",
    [PLAN_ALL_TO_ALL] = "ALL_TO_ALL",
    [PLAN_ALL_TO_ALL_V] = "ALL_TO_ALL_V",
    [PLAN_SHIFT] = "SHIFT",
    [PLAN_SUMSQ] = "SUMSQ",
    [PLAN_SCALARS] = "SCALARS",
    [PLAN_UPDATE] = "UPDATE",
    [PLAN_ROUNDS] = "ROUNDS",
    [PLAN_TO_EXPERTS] = "TO_EXPERTS",
    [PLAN_FROM_EXPERTS] = "FROM_EXPERTS",
};

const char *plan_op_name(enum plan_op op)
{
    return op < PLAN_OP_COUNT ? op_names[op] : "?";
}

static const char *const memory_names[MEM_KINDS] = {
    [MEM_PARAMS] = "params",           [MEM_GRADS] = "grads", [MEM_OPTIMIZER] = "optimizer",
    [MEM_ACTIVATIONS] = "activations", [MEM_COMM] = "comm",   [MEM_WORKSPACE] = "workspace",
    [MEM_SNAPSHOT] = "snapshot",
};

const char *plan_memory_name(enum plan_kind_of_memory k)
{
    return k < MEM_KINDS ? memory_names[k] : "?";
}

uint32_t plan_set_at(const struct plan *p, uint32_t set, uint32_t i)
{
    const struct plan_set *s = &p->sets[set];
    for (uint32_t k = 0; k < s->n_ranges; k++) {
        const struct plan_range *r = &p->ranges[s->first_range + k];
        if (i < r->count)
            return r->start + i * r->stride;
        i -= r->count;
    }
    return PLAN_NONE;
}

void plan_ranges_text(const struct plan_range *r, uint32_t n, char *text, size_t size)
{
    size_t at = 0;
    text[0] = '\0';
    for (const struct plan_range *end = r + n, *first = r; r < end; r++) {
        uint32_t last = r->start + (r->count - 1) * r->stride;
        char part[40], step[16] = "";
        if (r->count > 2 && r->stride != 1)
            snprintf(step, sizeof step, ":%u", r->stride);
        if (r->count == 1)
            snprintf(part, sizeof part, "%u", r->start);
        else
            snprintf(part, sizeof part, "%u%c%u%s", r->start, r->count == 2 && r->stride != 1 ? ',' : '-', last, step);
        bool fits = at + strlen(part) + sizeof ",,..." <= size;
        at += (size_t)snprintf(text + at, size - at, "%s%s", r > first ? "," : "", fits ? part : "...");
        if (!fits)
            return;
    }
}

uint32_t plan_set_index(const struct plan *p, uint32_t set, uint32_t device)
{
    const struct plan_set *s = &p->sets[set];
    uint32_t before = 0;
    for (uint32_t k = 0; k < s->n_ranges; k++) {
        const struct plan_range *r = &p->ranges[s->first_range + k];
        if (device >= r->start) {
            uint32_t d = device - r->start;
            uint32_t stride = r->stride ? r->stride : 1; /* a single device may have stride 0 */
            if (d % stride == 0 && d / stride < r->count)
                return before + d / stride;
        }
        before += r->count;
    }
    return PLAN_NONE;
}

uint64_t plan_lane(const struct plan *p, const struct plan_instr *in, uint32_t device)
{
    uint64_t kind = (uint64_t)in->op << 1 | (in->pass == IR_PASS_F);
    bool all = in->op == PLAN_EXCHANGE;
    return kind << 32 | (all ? 0 : plan_set_at(p, in->peer_set, plan_set_index(p, in->my_set, device)));
}

/* The view of a group by one device: sets first.., and the device's index in their union. */
struct membership {
    uint32_t first_set, n_sets, size, index;
};

static struct membership member_of(const struct plan *p, uint32_t group, uint32_t device)
{
    const struct plan_group *g = &p->groups[group];
    struct membership m = { g->first_set, g->n_sets, 0, PLAN_NONE };
    for (uint32_t k = 0; k < g->n_sets; k++) {
        uint32_t set = g->first_set + k;
        uint32_t i = plan_set_index(p, set, device);
        if (g->kind == PLAN_GROUP_EACH) {
            if (i != PLAN_NONE)
                return (struct membership){ set, 1, p->sets[set].size, i };
        } else {
            if (i != PLAN_NONE && m.index == PLAN_NONE)
                m.index = m.size + i;
            m.size += p->sets[set].size;
        }
    }
    return m;
}

uint32_t plan_group_size(const struct plan *p, uint32_t group, uint32_t device)
{
    struct membership m = member_of(p, group, device);
    return m.index == PLAN_NONE ? PLAN_NONE : m.size;
}

uint32_t plan_group_index(const struct plan *p, uint32_t group, uint32_t device)
{
    return member_of(p, group, device).index;
}

uint32_t plan_group_at(const struct plan *p, uint32_t group, uint32_t device, uint32_t i)
{
    struct membership m = member_of(p, group, device);
    if (m.index == PLAN_NONE)
        return PLAN_NONE;
    for (uint32_t k = 0; k < m.n_sets; k++) {
        if (i < p->sets[m.first_set + k].size)
            return plan_set_at(p, m.first_set + k, i);
        i -= p->sets[m.first_set + k].size;
    }
    return PLAN_NONE;
}

bool plan_moves_tensor(const struct plan *p, const struct plan_instr *in)
{
    if (in->op == PLAN_LOAD || in->op == PLAN_RUN || in->op == PLAN_ADD || in->op == PLAN_ROUNDS || !in->n_bases)
        return false;
    const struct plan_base *b = &p->bases[in->first_base];
    const uint32_t role = b->arena == ARENA_WORK ? p->buffers[b->buffer].role : SLOT_PARAM;
    return role != SLOT_PARAM && role != SLOT_GRAD;
}

uint64_t plan_zeroed_bytes(const struct plan *p, const struct plan_base *b)
{
    const bool there = b->arena != ARENA_WORK || b->buffer < p->h->count[PLAN_S_BUFFERS];
    const uint32_t bucket = !there ? PLAN_NONE : b->arena == ARENA_WORK ? p->buffers[b->buffer].what : b->buffer;
    return bucket < p->h->count[PLAN_S_BUCKETS] ? p->buckets[bucket].elements * sizeof(float) : 0;
}

double plan_portion(const struct plan_kernel *k, const struct ir_attrs *a)
{
    const uint32_t parts = ir_op_bw_parts((enum ir_op)k->op);
    uint32_t n = 0;
    if (k->pass != IR_PASS_BW)
        return 1;
    for (uint32_t i = 0; i < parts; i++)
        n += (k->mask >> OPERAND_DPARAM & ir_op_bw_params((enum ir_op)k->op, a, i)) != 0;
    return (double)n / parts;
}

struct ir_share plan_kernel_share(const struct plan *p, const struct ir_graph *g, const struct plan_kernel *k)
{
    static const struct ir_attrs none;
    const struct ir_sharing all = { g->seq_len, p->h->context, p->h->tensor,
                                    k->split == IR_COUNTS ? ir_graph_count_sets(g, k->graph_op) : 1 };
    return ir_share_of((enum ir_op)k->op, k->graph_op == PLAN_NONE ? &none : &g->ops.at[k->graph_op].attrs,
                       (enum ir_split)k->split, k->split ? k->parts : 1, &all);
}

uint32_t plan_told(const struct plan_kernel *k)
{
    const struct ir_share share = { .split = k->split, .parts = k->parts };
    const enum ir_pass pass = (enum ir_pass)k->pass;
    if (k->again || k->op >= IR_OP_GRAPH_COUNT || ir_op_phases((enum ir_op)k->op, pass, &share) < 2)
        return OPERAND_COUNT;
    return pass == IR_PASS_F ? OPERAND_SAVE + 1 : OPERAND_STASH;
}

uint64_t plan_expert_rows(const struct plan *p, const struct ir_graph *g, uint32_t tensor)
{
    return (uint64_t)g->seq_len / (p->h->share ? p->h->share : 1) *
           g->ops.at[g->tensors.at[tensor].producer].attrs.top_k;
}

uint32_t plan_ring(const struct plan *p, const struct plan_program *program)
{
    for (uint32_t i = program->first_kernel; i < program->first_kernel + program->n_kernels && program->phases; i++)
        if (p->kernels[i].split == IR_RING && p->kernels[i].pass != IR_PASS_BW)
            return i;
    return PLAN_NONE;
}

uint32_t plan_find_list(const struct plan *p, const char *name)
{
    for (uint32_t i = 0; i < p->h->count[PLAN_S_LISTS]; i++)
        if (strcmp(p->text + p->lists[i].name, name) == 0)
            return i;
    return PLAN_NONE;
}

uint32_t plan_builder_text(struct plan_builder *b, const char *s)
{
    uint32_t n = (uint32_t)strlen(s) + 1;
    for (uint32_t at = 0; at < b->text.n; at += (uint32_t)strlen(b->text.at + at) + 1)
        if (strcmp(b->text.at + at, s) == 0)
            return at;
    uint32_t at = vec_grow(&b->text, n);
    memcpy(b->text.at + at, s, n);
    return at;
}

struct section {
    const void *at;
    uint64_t count, size;
};

static void builder_sections(const struct plan_builder *b, struct section s[PLAN_SECTIONS])
{
#define SECTION(id, record, field) s[PLAN_S_##id] = (struct section){ b->field.at, b->field.n, sizeof(record) };
    PLAN_SECTION_LIST(SECTION)
#undef SECTION
}

/* struct plan_instr has four bytes of padding before `count`: zero in a blob, so that equal plans are equal bytes. */
_Static_assert(sizeof(struct plan_instr) == 56 && offsetof(struct plan_instr, count) == 48, "layout of plan_instr");

static void clear_padding(struct plan_instr *in, uint32_t n)
{
    const size_t end = offsetof(struct plan_instr, peer_set) + sizeof in->peer_set;
    for (uint32_t i = 0; i < n; i++)
        memset((char *)&in[i] + end, 0, offsetof(struct plan_instr, count) - end);
}

struct plan_places plan_places(const struct plan *p, bool device)
{
    struct plan_places sum = { 0 };
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        *(device && !plan_arena_on_host(a) ? &sum.device : &sum.host) += p->h->arena_bytes[a];
    return sum;
}

void *plan_build(struct plan_builder *b, uint64_t *bytes)
{
    struct section s[PLAN_SECTIONS];
    builder_sections(b, s);
    struct plan_header *h = &b->h;
    h->magic = PLAN_MAGIC;
    h->version = PLAN_VERSION;
    uint64_t end = sizeof *h;
    for (int i = 0; i < PLAN_SECTIONS; i++) {
        h->first[i] = round_up(end, 8);
        h->count[i] = s[i].count;
        end = h->first[i] + s[i].count * s[i].size;
    }
    h->bytes = round_up(end, 8);
    h->total_bytes = 0;
    for (int a = 0; a < ARENA_COUNT; a++)
        h->total_bytes += h->arena_bytes[a];
    char *blob = mem_alloc(h->bytes);
    memcpy(blob, h, sizeof *h);
    for (int i = 0; i < PLAN_SECTIONS; i++)
        if (s[i].count)
            memcpy(blob + h->first[i], s[i].at, s[i].count * s[i].size);
    clear_padding((struct plan_instr *)(void *)(blob + h->first[PLAN_S_INSTRS]), b->instrs.n);
    *bytes = h->bytes;
    return blob;
}

void plan_builder_clear(struct plan_builder *b)
{
    b->h = (struct plan_header){ 0 };
#define CLEAR(id, record, field) b->field.n = 0;
    PLAN_SECTION_LIST(CLEAR)
#undef CLEAR
}

void plan_builder_release(struct plan_builder *b)
{
#define RELEASE(id, record, field) vec_free(&b->field);
    PLAN_SECTION_LIST(RELEASE)
#undef RELEASE
}
