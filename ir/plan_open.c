/* Validation of a plan blob: nothing in it is trusted. Every record is visited once and in order.
 *
 * Records that belong to others stand in their owners' order without gaps: the ranges of set 0, then those of set 1;
 * so do pieces of buckets, slots, kernels and operands of programs, waits and bases of instructions, instructions of
 * lists. So each belongs to exactly one owner, and the whole check is linear in the size of the blob. (Groups name
 * runs of sets and may share them.) */
#include "ir/plan.h"

#include <inttypes.h>

#define WRONG(e, ...) err_set((e), ST_BUG, "plan", __VA_ARGS__)
#define NEED(cond, e, ...)                \
    do {                                  \
        if (!(cond))                      \
            return WRONG(e, __VA_ARGS__); \
    } while (0)

#define NAME(id, record, field) #field,
static const char *const section_names[PLAN_SECTIONS] = { PLAN_SECTION_LIST(NAME) };
#define SIZE(id, record, field) sizeof(record),
static const uint32_t record_sizes[PLAN_SECTIONS] = { PLAN_SECTION_LIST(SIZE) };

static bool inside(uint64_t offset, uint64_t bytes, uint64_t total)
{
    return offset <= total && bytes <= total - offset;
}

static enum status open_header(const void *blob, uint64_t bytes, struct plan *p, struct err *e)
{
    const struct plan_header *h = blob;
    NEED((uintptr_t)blob % 8 == 0, e, "the blob is not aligned to 8 bytes");
    NEED(bytes >= sizeof *h, e, "%" PRIu64 " bytes, but a header alone has %zu", bytes, sizeof *h);
    NEED(h->magic == PLAN_MAGIC, e, "magic is %08x, expected %08x", h->magic, PLAN_MAGIC);
    NEED(h->version == PLAN_VERSION, e, "version is %u, expected %u", h->version, PLAN_VERSION);
    NEED(h->bytes == bytes, e, "the header says %" PRIu64 " bytes, the blob has %" PRIu64, h->bytes, bytes);
    uint64_t end = sizeof *h;
    for (int i = 0; i < PLAN_SECTIONS; i++) {
        NEED(h->first[i] == round_up(end, 8), e, "section %s starts at %" PRIu64 ", expected %" PRIu64,
             section_names[i], h->first[i], round_up(end, 8));
        NEED(h->count[i] < PLAN_NONE && inside(h->first[i], h->count[i] * record_sizes[i], bytes), e,
             "section %s with %" PRIu64 " records does not end inside the blob", section_names[i], h->count[i]);
        end = h->first[i] + h->count[i] * record_sizes[i];
    }
    NEED(round_up(end, 8) == bytes, e, "%" PRIu64 " bytes after the last section", bytes - end);
    const char *b = blob;
    p->h = h;
#define VIEW(id, record, field) p->field = (const void *)(b + h->first[PLAN_S_##id]);
    PLAN_SECTION_LIST(VIEW)
#undef VIEW
    return ST_OK;
}

static enum status check_header(const struct plan *p, struct err *e)
{
    const struct plan_header *h = p->h;
    NEED(h->class_id < h->n_classes, e, "rank class %u of %u", h->class_id, h->n_classes);
    NEED(h->world > 0 && h->world < PLAN_NONE && h->n_classes <= h->world, e, "%u ranks in %u rank classes", h->world,
         h->n_classes);
    NEED(h->devices < h->count[PLAN_S_SETS], e, "set %u of the rank class's devices does not exist", h->devices);
    NEED(h->compute == IR_F32 || h->compute == IR_BF16, e, "compute type is %u, expected float32 or bfloat16",
         h->compute);
    NEED(h->optimizer < OPTIMIZERS && h->clip <= 1, e, "optimizer %u, clip %u", h->optimizer, h->clip);
    uint64_t total = 0;
    for (int a = 0; a < ARENA_COUNT; a++) {
        NEED(h->arena_bytes[a] <= PLAN_MOST, e, "arena %d has %" PRIu64 " bytes", a, h->arena_bytes[a]);
        total += h->arena_bytes[a];
    }
    NEED(h->total_bytes == total, e, "total is %" PRIu64 " bytes, the arenas sum to %" PRIu64, h->total_bytes, total);
    uint64_t text = h->count[PLAN_S_TEXT];
    NEED(text == 0 || p->text[text - 1] == 0, e, "the text section does not end in 0");
    NEED(h->count[PLAN_S_STREAMS] > PLAN_COMPUTE_STREAM, e, "there is no compute stream");
    return ST_OK;
}

/* Who shares a sequence with whom. group_size: members of each group. */
static enum status check_share(const struct plan *p, const uint32_t *group_size, struct err *e)
{
    const struct plan_header *h = p->h;
    if (!h->share) {
        NEED(h->context == 0 && h->tensor == 0 && h->zigzag == 0 && h->share_group == 0, e,
             "no sequences are shared, but in %u parts, by tensor groups of %u, zigzag %u, group %u", h->context,
             h->tensor, h->zigzag, h->share_group);
        return ST_OK;
    }
    NEED(h->share_group < h->count[PLAN_S_GROUPS] && group_size[h->share_group] == h->share, e,
         "sequences are shared by %u devices, but not so many are in group %u", h->share, h->share_group);
    NEED(h->tensor > 0 && h->share % h->tensor == 0, e, "sequences are shared by %u devices, tensor groups have %u",
         h->share, h->tensor);
    NEED(h->context > 0 && h->share % h->context == 0 && h->zigzag <= (h->context > 1), e,
         "sequences are shared by %u devices in %u parts, zigzag %u", h->share, h->context, h->zigzag);
    return ST_OK;
}

static enum status check_sets(const struct plan *p, struct err *e)
{
    uint64_t next = 0, n_ranges = p->h->count[PLAN_S_RANGES];
    for (uint32_t i = 0; i < p->h->count[PLAN_S_SETS]; i++) {
        const struct plan_set *s = &p->sets[i];
        NEED(s->first_range == next && s->n_ranges <= n_ranges - next, e,
             "set %u: ranges %u.. (%u of them), expected %" PRIu64, i, s->first_range, s->n_ranges, next);
        next += s->n_ranges;
        uint64_t size = 0;
        for (uint32_t k = 0; k < s->n_ranges; k++) {
            const struct plan_range *r = &p->ranges[s->first_range + k];
            NEED(r->count > 0 && (r->stride > 0 || r->count == 1), e, "set %u: range %u is empty or has no stride", i,
                 k);
            NEED(r->count <= p->h->world && r->start + (uint64_t)r->stride * (r->count - 1) < p->h->world, e,
                 "set %u: range %u names devices beyond %u", i, k, p->h->world - 1);
            size += r->count;
        }
        NEED(s->size == size && size > 0 && size <= p->h->world, e, "set %u: size is %u, its ranges hold %" PRIu64, i,
             s->size, size);
    }
    NEED(next == n_ranges, e, "ranges from %" PRIu64 " on belong to no set", next);
    const struct plan_set *mine = &p->sets[p->h->devices];
    for (uint32_t k = 1; k < mine->n_ranges; k++) {
        const struct plan_range *a = &p->ranges[mine->first_range + k - 1], *b = a + 1;
        NEED(b->start > a->start + a->stride * (a->count - 1), e, "the devices of the rank class do not ascend at %u",
             b->start);
    }
    return ST_OK;
}

/* group_size[i]: members of group i, the same for every device of the class. */
static enum status check_groups(const struct plan *p, uint32_t *group_size, struct err *e)
{
    uint64_t n_sets = p->h->count[PLAN_S_SETS];
    for (uint32_t i = 0; i < p->h->count[PLAN_S_GROUPS]; i++) {
        const struct plan_group *g = &p->groups[i];
        NEED(g->kind <= PLAN_GROUP_EACH, e, "group %u: kind %u", i, g->kind);
        NEED(g->n_sets > 0 && inside(g->first_set, g->n_sets, n_sets), e, "group %u: sets %u.. (%u) do not exist", i,
             g->first_set, g->n_sets);
        uint64_t total = 0;
        for (uint32_t k = 0; k < g->n_sets; k++) {
            uint32_t size = p->sets[g->first_set + k].size;
            total += size;
            NEED(g->kind == PLAN_GROUP_UNION || size == p->sets[g->first_set].size, e,
                 "group %u: its sets differ in size, %u and %u", i, p->sets[g->first_set].size, size);
        }
        NEED(total <= p->h->world, e, "group %u: %" PRIu64 " members of %u ranks", i, total, p->h->world);
        group_size[i] = g->kind == PLAN_GROUP_EACH ? p->sets[g->first_set].size : (uint32_t)total;
    }
    for (uint32_t i = 0; i < p->h->count[PLAN_S_STREAMS]; i++) {
        const struct plan_stream *stream = &p->streams[i];
        NEED(stream->name < p->h->count[PLAN_S_TEXT], e, "stream %u: name beyond the text", i);
        NEED(stream->pad == 0 && inside(stream->scratch, stream->scratch_bytes, p->h->arena_bytes[ARENA_COMM]), e,
             "stream %u: %" PRIu64 " bytes at %" PRIu64 " leave the communication arena", i, stream->scratch_bytes,
             stream->scratch);
    }
    for (uint32_t i = 0; i < p->h->count[PLAN_S_CHANNELS]; i++) {
        const struct plan_channel *c = &p->channels[i];
        NEED(c->group < p->h->count[PLAN_S_GROUPS] && c->stream < p->h->count[PLAN_S_STREAMS], e,
             "communicator %u: group %u or stream %u does not exist", i, c->group, c->stream);
        NEED(c->id < p->h->n_channels_world && (i == 0 || c->id > c[-1].id), e,
             "communicator %u: id %u does not ascend, or is not below %u", i, c->id, p->h->n_channels_world);
    }
    return ST_OK;
}

/* Bytes of one copy of a bucket in an arena: whole, or the holder's share from level `level` (enum plan_zero) on. */
static uint64_t bucket_bytes(const struct plan_bucket *b, uint32_t holders, uint32_t level, uint32_t element)
{
    uint64_t share = level == ZERO_STATE ? plan_state_elements(b, holders) : plan_shard_elements(b, holders);
    return (b->zero >= level ? share : b->elements) * element;
}

static uint64_t param_bytes(const struct plan_bucket *b, uint32_t holders)
{
    return bucket_bytes(b, holders, ZERO_PARAMS, ir_dtype_size(b->type, b->type));
}

static uint64_t grad_bytes(const struct plan_bucket *b, uint32_t holders)
{
    return b->grad == UINT64_MAX ? 0 : bucket_bytes(b, holders, ZERO_GRADS, 4);
}

static enum status check_pieces(const struct plan *p, uint32_t bucket, struct err *e, uint32_t n_params)
{
    const struct plan_bucket *b = &p->buckets[bucket];
    for (uint32_t k = 0; k < b->n_pieces; k++) {
        const struct plan_piece *c = &p->pieces[b->first_piece + k];
        uint32_t i = b->first_piece + k;
        NEED(c->param < n_params && c->bucket == bucket, e, "piece %u: parameter %u or bucket %u (expected %u)", i,
             c->param, c->bucket, bucket);
        NEED(c->first <= PLAN_MOST && c->count > 0 && inside(c->offset, c->count, b->elements), e,
             "piece %u: %" PRIu64 " elements at %" PRIu64 " of a bucket of %" PRIu64, i, c->count, c->offset,
             b->elements);
        NEED(c->split >= 1 && c->split <= p->h->world, e, "piece %u: split in %u", i, c->split);
        NEED(c->split == 1 ? c->owners == b->holders : c->owners < p->h->count[PLAN_S_GROUPS], e,
             "piece %u: owners are group %u", i, c->owners);
        NEED(c->part_of <= n_params && !c->pad, e, "piece %u: part of parameter %u", i, c->part_of);
        NEED(c->run <= c->stride && c->stride <= PLAN_MOST &&
                 (c->run ? (c->split > 1 || c->part_of) && c->count % c->run == 0 : !c->stride) &&
                 (c->split > 1 || !c->elements),
             e, "piece %u: rows of %" PRIu64 " elements of every %" PRIu64 ", split in %u", i, c->run, c->stride,
             c->split);
    }
    return ST_OK;
}

/* holders: of the bucket, whose elements they divide. */
static enum status check_zero_group(const struct plan *p, uint32_t i, const uint32_t *group_size, uint32_t holders,
                                    struct err *e)
{
    const struct plan_bucket *b = &p->buckets[i];
    const uint64_t groups = p->h->count[PLAN_S_GROUPS];
    if (!b->zero_group) {
        NEED(!b->shard && !b->copies && !b->state_all, e,
             "bucket %u: no zero_group, but groups %u and %u, state_all %u", i, b->shard, b->copies, b->state_all);
        return ST_OK;
    }
    NEED(b->zero && b->zero_group > 1 && b->zero_group < holders && holders % b->zero_group == 0, e,
         "bucket %u: zero %u in groups of %u of %u holders", i, b->zero, b->zero_group, holders);
    NEED(b->shard < groups && b->copies < groups && b->state_all <= 1, e, "bucket %u: groups %u and %u, state_all %u",
         i, b->shard, b->copies, b->state_all);
    NEED(group_size[b->shard] == b->zero_group && group_size[b->copies] == holders / b->zero_group, e,
         "bucket %u: groups %u and %u have %u and %u members, expected %u and %u", i, b->shard, b->copies,
         group_size[b->shard], group_size[b->copies], b->zero_group, holders / b->zero_group);
    return ST_OK;
}

static enum status check_buckets(const struct plan *p, const uint32_t *group_size, uint32_t n_params, struct err *e)
{
    const uint64_t *arena = p->h->arena_bytes;
    uint64_t next = 0, n_pieces = p->h->count[PLAN_S_PIECES];
    for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++) {
        const struct plan_bucket *b = &p->buckets[i];
        NEED(b->first_piece == next && b->n_pieces <= n_pieces - next, e,
             "bucket %u: pieces %u.. (%u), expected %" PRIu64, i, b->first_piece, b->n_pieces, next);
        next += b->n_pieces;
        NEED(b->holders < p->h->count[PLAN_S_GROUPS] && b->zero <= ZERO_PARAMS, e,
             "bucket %u: the replica group is group %u, zero is %u", i, b->holders, b->zero);
        uint32_t h = group_size[b->holders];
        NEED(b->elements <= PLAN_MOST && b->elements % h == 0 && b->n_decay <= b->elements, e,
             "bucket %u: %" PRIu64 " elements, %" PRIu64 " decay, %u in the replica group", i, b->elements, b->n_decay,
             h);
        TRY(check_zero_group(p, i, group_size, h, e));
        NEED(inside(b->param, param_bytes(b, h), arena[ARENA_PARAMS]), e, "bucket %u: parameters beyond their arena",
             i);
        NEED(b->type == IR_F32 || b->type == IR_BF16, e, "bucket %u: type %u, expected float32 or bfloat16", i,
             b->type);
        NEED(b->rule == PLAN_RULE_OPTIMIZER || b->rule == PLAN_RULE_FROZEN ||
                 (b->rule == PLAN_RULE_BALANCE && b->type == IR_F32 && !b->zero),
             e, "bucket %u: rule %u, type %u, zero %u", i, b->rule, b->type, b->zero);
        NEED((b->grad == UINT64_MAX) == (b->rule != PLAN_RULE_OPTIMIZER), e,
             "bucket %u: gradients go with the optimizer", i);
        NEED(b->grad == UINT64_MAX || inside(b->grad, grad_bytes(b, h), arena[ARENA_GRADS]), e,
             "bucket %u: gradients beyond their arena", i);
        const uint64_t state[3] = { b->master, b->m, b->v };
        for (int k = 0; k < 3; k++)
            NEED(state[k] == UINT64_MAX || inside(state[k], bucket_bytes(b, h, ZERO_STATE, 4), arena[ARENA_OPTIM]), e,
                 "bucket %u: optimizer state beyond its arena", i);
        NEED(b->snapshot == UINT64_MAX || inside(b->snapshot, plan_snapshot_bytes(b, h), arena[ARENA_SNAPSHOT]), e,
             "bucket %u: snapshot beyond its arena", i);
        TRY(check_pieces(p, i, e, n_params));
    }
    NEED(next == n_pieces, e, "pieces from %" PRIu64 " on belong to no bucket", next);
    return ST_OK;
}

/* Of the model that the plan belongs to. */
struct model_size {
    uint32_t ops, tensors;
};

static enum status check_kernel(const struct plan *p, const struct plan_program *g, uint32_t i, uint64_t *next_operand,
                                const struct model_size *model, struct err *e)
{
    const struct plan_kernel *k = &p->kernels[i];
    bool ours = k->op >= IR_OP_GRAPH_COUNT;
    NEED(k->op < IR_OP_COUNT, e, "kernel %u: operator %u", i, k->op);
    NEED(ours ? k->graph_op == PLAN_NONE : k->graph_op < model->ops, e, "kernel %u: operator %u of the graph", i,
         k->graph_op);
    NEED(ours ? k->tensor < model->tensors : k->tensor == 0, e, "kernel %u: tensor %u of the graph", i, k->tensor);
    NEED(k->pass < IR_PASS_NONE && k->pass != IR_PASS_B, e, "kernel %u: pass %u, expected F, BI or BW", i, k->pass);
    NEED(k->again <= 1 && (!k->again || k->pass == IR_PASS_F), e, "kernel %u: again is %u, pass %u", i, k->again,
         k->pass);
    NEED(k->type == IR_COMPUTE || (ours && k->type == IR_F32), e, "kernel %u: type %u", i, k->type);
    NEED(k->split < IR_SPLITS && ((!ours && p->h->share) || !k->split) &&
             (k->split ? k->parts > 0 && k->parts <= p->h->world : !k->parts),
         e, "kernel %u: split %u in %u", i, k->split, k->parts);
    NEED(k->mask < (uint64_t)1 << OPERAND_COUNT && k->n <= PLAN_MOST, e, "kernel %u: mask %" PRIx64 ", n %" PRIu64, i,
         k->mask, k->n);
    uint32_t n = (uint32_t)__builtin_popcountll(k->mask);
    NEED(k->first_operand == *next_operand && n <= p->h->count[PLAN_S_OPERANDS] - *next_operand, e,
         "kernel %u: operands %u.. (%u), expected %" PRIu64, i, k->first_operand, n, *next_operand);
    *next_operand += n;
    for (uint32_t o = 0; o < n; o++) {
        const struct plan_operand *operand = &p->operands[k->first_operand + o];
        NEED(operand->slot < g->n_slots && operand->flags <= PLAN_OPERAND_ADD, e,
             "kernel %u: operand %u in slot %u of %u", i, o, operand->slot, g->n_slots);
        NEED(operand->offset <= p->slots[g->first_slot + operand->slot].bytes, e,
             "kernel %u: operand %u starts beyond its slot", i, o);
    }
    return ST_OK;
}

static enum status check_programs(const struct plan *p, const struct model_size *model, struct err *e)
{
    const uint64_t *count = p->h->count;
    uint64_t slot = 0, kernel = 0, operand = 0;
    for (uint32_t i = 0; i < count[PLAN_S_PROGRAMS]; i++) {
        const struct plan_program *g = &p->programs[i];
        NEED(g->first_slot == slot && g->n_slots <= count[PLAN_S_SLOTS] - slot && g->n_slots <= UINT16_MAX, e,
             "program %u: slots %u.. (%u), expected %" PRIu64, i, g->first_slot, g->n_slots, slot);
        NEED(g->first_kernel == kernel && g->n_kernels <= count[PLAN_S_KERNELS] - kernel, e,
             "program %u: kernels %u.. (%u), expected %" PRIu64, i, g->first_kernel, g->n_kernels, kernel);
        NEED(g->pass <= IR_PASS_NONE && g->eval <= 1 && g->ep >= 1, e, "program %u: pass %u, eval %u, ep %u", i,
             g->pass, g->eval, g->ep);
        NEED(g->seconds >= 0 && g->seconds < PLAN_SECONDS_MOST, e, "program %u: the predicted time is not a duration",
             i);
        NEED(p->h->share || (!g->tokens && !g->parts && !g->phases), e,
             "program %u: %u tokens, group %u, phase %u, but no sequences are shared", i, g->tokens, g->parts,
             g->phases);
        NEED(g->tokens < PLAN_NONE && g->phases <= UINT16_MAX && (!g->parts || g->parts < count[PLAN_S_GROUPS]), e,
             "program %u: %u tokens, %u phases, group %u", i, g->tokens, g->phases, g->parts);
        for (uint32_t k = 0; k < g->n_slots; k++) {
            const struct plan_slot *s = &p->slots[slot + k];
            NEED(s->bytes <= PLAN_MOST && s->access <= (PLAN_READ | PLAN_WRITE) && s->kind < SLOT_KINDS, e,
                 "program %u: slot %u has %" PRIu64 " bytes, access %u, kind %u", i, k, s->bytes, s->access, s->kind);
        }
        for (uint32_t k = 0; k < g->n_kernels; k++)
            TRY(check_kernel(p, g, g->first_kernel + k, &operand, model, e));
        slot += g->n_slots;
        kernel += g->n_kernels;
    }
    NEED(slot == count[PLAN_S_SLOTS] && kernel == count[PLAN_S_KERNELS] && operand == count[PLAN_S_OPERANDS], e,
         "slots, kernels or operands that belong to no program");
    return ST_OK;
}

/* One list under check; waits and bases are consumed in order over all lists. */
struct walk {
    const struct plan *p;
    const uint32_t *group_size;
    uint32_t list, n_tensors;
    uint32_t rounds_end; /* the instruction of the list behind what the last ROUNDS repeats */
    uint64_t wait, base;
    struct err *e;
};

/* What an instruction of this kind has: bases (RUN: its program's), and which fields mean something. */
static const struct shape {
    uint8_t bases;
    bool channel, sets, peer, typed;
    uint8_t scale; /* bit i: base i has count*size elements instead of count */
} shapes[PLAN_OP_COUNT] = {
    [PLAN_LOAD] = { .bases = 1, .sets = true },
    [PLAN_SEND] = { .bases = 1, .sets = true, .peer = true, .typed = true },
    [PLAN_RECV] = { .bases = 1, .sets = true, .peer = true, .typed = true },
    [PLAN_EXCHANGE] = { .bases = 2, .sets = true, .peer = true, .typed = true },
    [PLAN_ALL_REDUCE] = { .bases = 1, .channel = true, .typed = true },
    [PLAN_REDUCE_SCATTER] = { .bases = 2, .channel = true, .typed = true, .scale = 1 },
    [PLAN_ALL_GATHER] = { .bases = 2, .channel = true, .typed = true, .scale = 2 },
    [PLAN_ADD] = { .bases = 2, .typed = true },
    [PLAN_ALL_TO_ALL] = { .bases = 2, .channel = true, .typed = true, .scale = 3 },
    [PLAN_ALL_TO_ALL_V] = { .bases = 4, .channel = true, .typed = true }, /* at least a row; how many, the counts say */
    [PLAN_SHIFT] = { .bases = 2, .channel = true, .typed = true },
    [PLAN_ROUNDS] = { .bases = 2, .channel = true }, /* at least */
    [PLAN_TO_EXPERTS] = { .bases = 3, .channel = true, .typed = true },
    [PLAN_FROM_EXPERTS] = { .bases = 3, .channel = true, .typed = true },
    [PLAN_SCALARS] = { .channel = true },
};

/* A base in the arena of a bucket stays inside the bucket's memory there. */
static enum status check_bucket_base(struct walk *w, uint32_t i, uint32_t k, uint64_t bytes)
{
    const struct plan *p = w->p;
    const struct plan_base *b = &p->bases[p->instrs[i].first_base + k];
    const bool own = b->access & PLAN_OWN, part = b->access & PLAN_PART;
    if (b->buffer == PLAN_NONE && !own && !part)
        return ST_OK;
    NEED(b->buffer < p->h->count[PLAN_S_BUCKETS], w->e, "instruction %u: base %u: bucket %u", i, k, b->buffer);
    NEED((!own && !part) || b->arena <= ARENA_GRADS, w->e, "instruction %u: base %u: own part of arena %u", i, k,
         b->arena);
    if (b->arena > ARENA_GRADS)
        return ST_OK;
    const struct plan_bucket *u = &p->buckets[b->buffer];
    uint32_t holders = w->group_size[u->holders];
    uint64_t at = b->arena == ARENA_PARAMS ? u->param : u->grad;
    uint64_t size = b->arena == ARENA_PARAMS ? param_bytes(u, holders) : grad_bytes(u, holders);
    NEED(b->offset >= at && inside(b->offset - at, bytes, size), w->e,
         "instruction %u: base %u: %" PRIu64 " bytes at %" PRIu64 " leave bucket %u", i, k, bytes, b->offset,
         b->buffer);
    const bool whole = b->arena == ARENA_PARAMS ? !zero_shards_params(u->zero) : !zero_shards_grads(u->zero);
    const uint64_t want = part ? u->elements / holders : plan_shard_elements(u, holders);
    const uint32_t element = b->arena == ARENA_PARAMS ? ir_dtype_size(u->type, u->type) : (uint32_t)sizeof(float);
    NEED((!own && !part) || (b->offset == at && bytes == want * element && own == whole && (!part || u->zero_group)),
         w->e, "instruction %u: base %u: %" PRIu64 " bytes are not one member's part of bucket %u", i, k, bytes,
         b->buffer);
    return ST_OK;
}

static enum status check_base(struct walk *w, uint32_t i, uint32_t k, uint64_t bytes)
{
    const struct plan *p = w->p;
    const struct plan_instr *in = &p->instrs[i];
    const struct plan_base *b = &p->bases[in->first_base + k];
    NEED(b->arena < ARENA_COUNT && b->first <= 1 && b->access <= (PLAN_READ | PLAN_WRITE | PLAN_OWN | PLAN_PART), w->e,
         "instruction %u: base %u: arena %u, first %u, access %u", i, k, b->arena, b->first, b->access);
    NEED(inside(b->offset, bytes, p->h->arena_bytes[b->arena]), w->e,
         "instruction %u: base %u: %" PRIu64 " bytes at %" PRIu64 " are not inside arena %u", i, k, bytes, b->offset,
         b->arena);
    if (b->arena != ARENA_WORK)
        return check_bucket_base(w, i, k, bytes);
    const bool numbers = in->op == PLAN_ALL_GATHER && k == 0 && p->h->share; /* of the members, each its own */
    NEED(b->buffer < p->h->count[PLAN_S_BUFFERS] && (numbers || !(b->access & PLAN_OWN)) && !(b->access & PLAN_PART),
         w->e, "instruction %u: base %u: buffer %u, access %u", i, k, b->buffer, b->access);
    const struct plan_buffer *f = &p->buffers[b->buffer];
    NEED(f->list == w->list, w->e, "instruction %u: base %u: buffer %u belongs to list %u", i, k, b->buffer, f->list);
    NEED(b->offset >= f->offset && inside(b->offset - f->offset, bytes, f->bytes), w->e,
         "instruction %u: base %u: %" PRIu64 " bytes at %" PRIu64 " leave buffer %u", i, k, bytes, b->offset,
         b->buffer);
    return ST_OK;
}

static enum status check_bases(struct walk *w, uint32_t i)
{
    const struct plan *p = w->p;
    const struct plan_instr *in = &p->instrs[i];
    const struct shape *shape = &shapes[in->op];
    uint32_t want = in->op == PLAN_RUN ? p->programs[in->program].n_slots : shape->bases;
    if (in->op == PLAN_ROUNDS && in->n_bases > want)
        want = in->n_bases;
    NEED(in->n_bases == want, w->e, "instruction %u: %s with %u bases, expected %u", i, plan_op_name(in->op),
         in->n_bases, want);
    NEED(in->first_base == w->base && want <= p->h->count[PLAN_S_BASES] - w->base, w->e,
         "instruction %u: bases %u.., expected %" PRIu64, i, in->first_base, w->base);
    w->base += want;
    uint32_t size = shape->channel ? w->group_size[p->channels[in->channel].group] : 1;
    uint64_t unit = shape->typed ? in->count * ir_dtype_size(in->type, p->h->compute) : 0;
    for (uint32_t k = 0; k < want; k++) {
        uint64_t bytes = in->op == PLAN_RUN                ? p->slots[p->programs[in->program].first_slot + k].bytes
                         : in->op == PLAN_ROUNDS && k >= 2 ? plan_zeroed_bytes(p, &p->bases[in->first_base + k])
                         : in->op == PLAN_ROUNDS || k >= 2 ? sizeof(int32_t) /* counts */
                                                           : unit * (shape->scale >> k & 1 ? size : 1);
        TRY(check_base(w, i, k, bytes));
    }
    return ST_OK;
}

static enum status check_fields(struct walk *w, uint32_t i)
{
    const struct plan *p = w->p;
    const struct plan_instr *in = &p->instrs[i];
    const uint64_t *count = p->h->count;
    NEED(in->op < PLAN_OP_COUNT && in->pass <= IR_PASS_NONE, w->e, "instruction %u: op %u, pass %u", i, in->op,
         in->pass);
    NEED(in->stream < count[PLAN_S_STREAMS], w->e, "instruction %u: stream %u", i, in->stream);
    NEED(in->mb == UINT16_MAX || in->mb < p->lists[w->list].microbatches, w->e, "instruction %u: microbatch %u of %u",
         i, in->mb, p->lists[w->list].microbatches);
    const struct shape *shape = &shapes[in->op];
    NEED(in->op != PLAN_RUN || in->program < count[PLAN_S_PROGRAMS], w->e, "instruction %u: RUN of program %u", i,
         in->program);
    NEED(in->op != PLAN_LOAD || in->tensor < w->n_tensors, w->e, "instruction %u: LOAD of tensor %u", i, in->tensor);
    NEED((in->op != PLAN_SUMSQ && in->op != PLAN_UPDATE) || in->bucket < count[PLAN_S_BUCKETS], w->e,
         "instruction %u: %s of bucket %u", i, plan_op_name(in->op), in->bucket);
    NEED(!shape->channel || in->channel < count[PLAN_S_CHANNELS], w->e, "instruction %u: communicator %u", i,
         in->channel);
    NEED(!shape->sets || in->my_set < count[PLAN_S_SETS], w->e, "instruction %u: set %u", i, in->my_set);
    NEED(!shape->peer || in->peer_set < count[PLAN_S_SETS], w->e, "instruction %u: peer set %u", i, in->peer_set);
    NEED(in->count <= PLAN_MOST && in->type <= IR_BYTE, w->e, "instruction %u: %" PRIu64 " elements of type %u", i,
         in->count, in->type);
    NEED(in->seconds >= 0 && in->seconds < PLAN_SECONDS_MOST, w->e,
         "instruction %u: the predicted time is not a duration", i);
    NEED(!plan_moves_rows(in) || in->count > 0, w->e, "instruction %u: rows of no elements", i);
    NEED(!shape->typed || (in->type >= IR_F32 && in->type <= IR_F64), w->e,
         "instruction %u: communicates elements of type %u, expected float32, bfloat16, int32 or float64", i, in->type);
    return ST_OK;
}

/* What an instruction of this kind does not have says so. */
static enum status check_unused(struct walk *w, uint32_t i)
{
    const struct plan_instr *in = &w->p->instrs[i];
    const struct shape *shape = &shapes[in->op];
    const bool piece = in->op == PLAN_RUN && in->count <= w->p->programs[in->program].phases;
    const bool counts = shape->typed || in->op == PLAN_LOAD || in->op == PLAN_ROUNDS || piece,
               typed = shape->typed || in->op == PLAN_SCALARS;
    NEED((shape->channel || in->channel == PLAN_NONE) && (shape->sets || in->my_set == PLAN_NONE) &&
             (shape->peer || (in->peer_set == PLAN_NONE && in->tag <= plan_is_extra(in))),
         w->e, "instruction %u: %s with communicator %u, sets %u and %u, tag %u", i, plan_op_name(in->op), in->channel,
         in->my_set, in->peer_set, in->tag);
    NEED((counts || in->count == 0) && (typed || in->type == IR_F32) && (in->op != PLAN_SCALARS || in->what == 0), w->e,
         "instruction %u: %s of %u, %" PRIu64 " elements of type %u", i, plan_op_name(in->op), in->what, in->count,
         in->type);
    return ST_OK;
}

/* What a ROUNDS repeats stands behind it, and says so. */
static enum status check_extra(struct walk *w, uint32_t k)
{
    const struct plan_list *l = &w->p->lists[w->list];
    const uint32_t i = l->first_instr + k;
    const struct plan_instr *in = &w->p->instrs[i];
    NEED(plan_is_extra(in) == (k < w->rounds_end), w->e, "instruction %u: %s with tag %u, but %s repeats it", i,
         plan_op_name(in->op), in->tag, k < w->rounds_end ? "a ROUNDS" : "no ROUNDS");
    if (in->op != PLAN_ROUNDS)
        return ST_OK;
    NEED(in->count > 0 && in->count < l->n_instr - k, w->e,
         "instruction %u: ROUNDS repeats the next %" PRIu64 " instructions, %u follow", i, in->count,
         l->n_instr - k - 1);
    w->rounds_end = k + 1 + (uint32_t)in->count;
    for (uint32_t x = 1; x <= in->count; x++)
        if (in[x].op == PLAN_TO_EXPERTS || in[x].op == PLAN_FROM_EXPERTS)
            return ST_OK;
    return WRONG(w->e, "instruction %u: ROUNDS repeats no exchange of rows", i);
}

static enum status check_list(struct walk *w)
{
    const struct plan *p = w->p;
    const struct plan_list *l = &p->lists[w->list];
    for (uint32_t k = 0; k < l->n_instr; k++) {
        uint32_t i = l->first_instr + k;
        const struct plan_instr *in = &p->instrs[i];
        TRY(check_fields(w, i));
        TRY(check_unused(w, i));
        NEED(in->first_wait == w->wait && in->n_waits <= p->h->count[PLAN_S_WAITS] - w->wait, w->e,
             "instruction %u: waits %u.. (%u), expected %" PRIu64, i, in->first_wait, in->n_waits, w->wait);
        w->wait += in->n_waits;
        for (uint32_t x = 0; x < in->n_waits; x++)
            NEED(p->waits[in->first_wait + x] < k, w->e,
                 "instruction %u: waits for %u, which is not an earlier one of its list", i,
                 p->waits[in->first_wait + x]);
        TRY(check_bases(w, i));
        TRY(check_extra(w, k));
    }
    return ST_OK;
}

static enum status check_lists(const struct plan *p, const uint32_t *group_size, uint32_t n_tensors, struct err *e)
{
    const uint64_t *count = p->h->count;
    for (uint32_t i = 0; i < count[PLAN_S_BUFFERS]; i++) {
        const struct plan_buffer *f = &p->buffers[i];
        NEED(inside(f->offset, f->bytes, p->h->arena_bytes[ARENA_WORK]), e, "buffer %u: %" PRIu64 " bytes at %" PRIu64,
             i, f->bytes, f->offset);
        NEED(f->kind < MEM_KINDS && f->role < SLOT_KINDS && f->list < count[PLAN_S_LISTS] && f->layout < IR_LAYOUTS, e,
             "buffer %u: kind %u, role %u, list %u, layout %u", i, f->kind, f->role, f->list, f->layout);
    }
    for (uint32_t i = 0; i < count[PLAN_S_BUFFERS] && !p->h->share; i++)
        NEED(p->buffers[i].layout == 0, e, "buffer %u: layout %u, but no sequences are shared", i,
             p->buffers[i].layout);
    struct walk w = { .p = p, .group_size = group_size, .n_tensors = n_tensors, .e = e };
    uint64_t next = 0;
    for (uint32_t i = 0; i < count[PLAN_S_LISTS]; i++) {
        const struct plan_list *l = &p->lists[i];
        NEED(l->name < count[PLAN_S_TEXT], e, "list %u: name beyond the text", i);
        NEED(l->first_instr == next && l->n_instr <= count[PLAN_S_INSTRS] - next, e,
             "list %u: instructions %u.. (%u), expected %" PRIu64, i, l->first_instr, l->n_instr, next);
        NEED(l->microbatches > 0 && l->microbatches < UINT16_MAX && l->microbatch_size > 0 && l->replicas > 0, e,
             "list %u: %u microbatches of %u sequences, %u replicas", i, l->microbatches, l->microbatch_size,
             l->replicas);
        next += l->n_instr;
        w.list = i;
        w.rounds_end = 0;
        TRY(check_list(&w));
    }
    NEED(next == count[PLAN_S_INSTRS] && w.wait == count[PLAN_S_WAITS] && w.base == count[PLAN_S_BASES], e,
         "instructions, waits or bases that belong to no list");
    return ST_OK;
}

enum status plan_open(const void *blob, uint64_t bytes, uint32_t n_graph_ops, uint32_t n_params, uint32_t n_tensors,
                      struct plan *p, struct err *e)
{
    struct plan view;
    TRY(open_header(blob, bytes, &view, e));
    TRY(check_header(&view, e));
    TRY(check_sets(&view, e));
    uint32_t *group_size = mem_alloc(sizeof *group_size * (size_t)view.h->count[PLAN_S_GROUPS]);
    enum status st = check_groups(&view, group_size, e);
    if (st == ST_OK)
        st = check_share(&view, group_size, e);
    if (st == ST_OK)
        st = check_buckets(&view, group_size, n_params, e);
    if (st == ST_OK)
        st = check_programs(&view, &(struct model_size){ n_graph_ops, n_tensors }, e);
    if (st == ST_OK)
        st = check_lists(&view, group_size, n_tensors, e);
    mem_free(group_size);
    if (st == ST_OK)
        *p = view;
    return st;
}
