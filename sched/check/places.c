/* Where memory starts: everything that a back end computes with or sums in begins where the target asks for it, and what reductions sum
 * in is theirs alone and large enough. */
#include "sched/check/check.h"

#include <inttypes.h>

static enum status misplaced(const struct check *c, uint32_t cls, const char *what, uint32_t number, uint64_t at)
{
    return check_wrong(c, RULE_ALIGN, (struct check_place){ .cls = cls },
                       "%s %u starts at byte %" PRIu64 ", which is not a multiple of %u", what, number, at,
                       c->target->alignment);
}

static enum status check_bucket(const struct check *c, uint32_t cls, uint32_t i)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_bucket *b = &p->buckets[i];
    const uint32_t align = c->target->alignment, size = ir_dtype_size((enum ir_dtype)b->type, IR_F32);
    const struct {
        const char *name;
        uint64_t at;
    } arrays[] = { { "the parameters of bucket", b->param },
                   { "the gradients of bucket", b->grad },
                   { "the master of bucket", b->master },
                   { "m of bucket", b->m },
                   { "v of bucket", b->v },
                   { "the snapshot of bucket", b->snapshot } };
    for (size_t k = 0; k < sizeof arrays / sizeof *arrays; k++)
        if (arrays[k].at != UINT64_MAX && arrays[k].at % align)
            return misplaced(c, cls, arrays[k].name, i, arrays[k].at);
    for (uint32_t k = b->first_piece; k < b->first_piece + b->n_pieces; k++)
        if (p->pieces[k].offset * size % align)
            return misplaced(c, cls, "piece", k, p->pieces[k].offset * size);
    return ST_OK;
}

/* Scratch of two streams has no byte in common: both may reduce at once. */
static enum status check_stream(const struct check *c, uint32_t cls, uint32_t i)
{
    const struct plan *p = c->classes[cls].p;
    const struct plan_stream *s = &p->streams[i];
    if (s->scratch_bytes && s->scratch % c->target->alignment)
        return misplaced(c, cls, "scratch of stream", i, s->scratch);
    for (uint32_t k = 0; k < i && s->scratch_bytes; k++) {
        const struct plan_stream *o = &p->streams[k];
        if (s->scratch < o->scratch + o->scratch_bytes && o->scratch < s->scratch + s->scratch_bytes)
            return check_wrong(c, RULE_SCRATCH, (struct check_place){ .cls = cls },
                               "the scratch of streams %u and %u overlaps at byte %" PRIu64, k, i,
                               s->scratch > o->scratch ? s->scratch : o->scratch);
    }
    return ST_OK;
}

enum status check_places(struct check *c)
{
    for (uint32_t cls = 0; cls < c->n; cls++) {
        const struct plan *p = c->classes[cls].p;
        for (uint32_t i = 0; i < p->h->count[PLAN_S_BUCKETS]; i++)
            TRY(check_bucket(c, cls, i));
        for (uint32_t i = 0; i < p->h->count[PLAN_S_BUFFERS]; i++)
            if (p->buffers[i].offset % c->target->alignment)
                return misplaced(c, cls, "buffer", i, p->buffers[i].offset);
        for (uint32_t i = 0; i < p->h->count[PLAN_S_STREAMS]; i++)
            TRY(check_stream(c, cls, i));
    }
    return ST_OK;
}

enum status check_scratch(const struct check *c, struct check_place at, const struct plan_instr *in)
{
    const struct plan *p = c->classes[at.cls].p;
    const bool reduces = in->op == PLAN_ALL_REDUCE || in->op == PLAN_REDUCE_SCATTER || in->op == PLAN_SCALARS;
    if (!reduces || p->h->arena_bytes[ARENA_COMM] == 0) /* the back end has scratch of its own */
        return ST_OK;
    const uint64_t members = check_group_size(c, at.cls, p->channels[in->channel].group);
    const uint64_t least = members * ir_dtype_size((enum ir_dtype)in->type, p->h->compute);
    if (members > 1 && p->streams[in->stream].scratch_bytes < least)
        return check_wrong(c, RULE_SCRATCH, at,
                           "%" PRIu64 " members reduce in %" PRIu64 " bytes of scratch, %" PRIu64 " are the least",
                           members, p->streams[in->stream].scratch_bytes, least);
    return ST_OK;
}
