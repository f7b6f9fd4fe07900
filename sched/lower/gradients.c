/* Lowering: gradients that do not live at the same time share memory.
 *
 * Without clipping an update stands behind the reduction of its bucket (sched/sequence.c), not behind the norm. So where a step has one
 * microbatch, or runs all of them through one stage before the next, the gradients of a layer are dead before those of another are
 * made. Two buckets share if all of the one's life in the list, from its first gradients to its update, comes before the other's: it ends on
 * the stream of compute, and the other begins there, with a backward, or with a reduction that waits for one behind that end; and if
 * they are laid out alike, as layers are: so what lies between parameters, which nobody writes, is zero for each.
 * That pass_sequence puts an update behind all reductions that are ready with it is not relied on: waits are what the checker counts, too. */
#include "sched/lower/lower.h"

#include <stdlib.h>

/* Instructions of the list that touch a bucket's gradients, counted from 1: 0, none. */
struct life {
    uint32_t bucket, first, last; /* last: UINT32_MAX where that is not on the stream of compute */
    uint32_t behind;              /* what is on the stream of compute before this one is done when the life begins */
};

/* The same of an instruction, by what its stream has waited for so far: known[stream]. */
static uint32_t waited_for(const struct plan_builder *pb, const struct plan_list *list, uint32_t i, uint32_t *known)
{
    const struct plan_instr *in = &pb->instrs.at[list->first_instr + i];
    uint32_t *of = &known[in->stream];
    for (uint32_t w = in->first_wait; w < in->first_wait + in->n_waits; w++) {
        const uint32_t on = pb->waits.at[w];
        if (!pb->instrs.at[list->first_instr + on].stream && on + 2 > *of)
            *of = on + 2;
    }
    return in->stream ? *of : i + 1;
}

static struct life *find_lives(const struct class_lowering *c)
{
    const uint32_t n = c->pb.buckets.n;
    const struct plan_list *list = &c->pb.lists.at[0];
    struct life *lives = mem_alloc((n + 1) * sizeof *lives);
    uint32_t *known = mem_alloc((c->pb.streams.n + 1) * sizeof *known);
    for (uint32_t i = 0; i < n; i++)
        lives[i].bucket = i;
    for (uint32_t i = 0; i < list->n_instr; i++) {
        const struct plan_instr *in = &c->pb.instrs.at[list->first_instr + i];
        const uint32_t behind = waited_for(&c->pb, list, i, known), at = in->stream ? UINT32_MAX : i + 1;
        for (uint32_t k = 0; k < in->n_bases; k++) {
            const struct plan_base *b = &c->pb.bases.at[in->first_base + k];
            if (b->arena != ARENA_GRADS)
                continue;
            struct life *life = &lives[b->buffer];
            life->behind = life->first ? life->behind : behind;
            life->first = life->first ? life->first : i + 1;
            life->last = at;
        }
        if (in->op == PLAN_SUMSQ || in->op == PLAN_UPDATE)
            lives[in->bucket].last = at;
    }
    mem_free(known);
    return lives;
}

static int by_first(const void *a, const void *b)
{
    const struct life *x = a, *y = b;
    return x->first != y->first ? (x->first > y->first) - (x->first < y->first)
                                : (x->bucket > y->bucket) - (x->bucket < y->bucket);
}

static bool laid_out_alike(const struct plan_builder *pb, const struct plan_bucket *a, const struct plan_bucket *b)
{
    if (a->elements != b->elements || a->n_pieces != b->n_pieces || a->zero != b->zero || a->holders != b->holders ||
        a->zero_group != b->zero_group)
        return false;
    for (uint32_t i = 0; i < a->n_pieces; i++) {
        const struct plan_piece *x = &pb->pieces.at[a->first_piece + i], *y = &pb->pieces.at[b->first_piece + i];
        if (x->offset != y->offset || x->count != y->count)
            return false;
    }
    return true;
}

/* Where a bucket's gradients go: by bucket; UINT64_MAX: it has none. Returns the bytes of all. */
static uint64_t place_gradients(const struct class_lowering *c, struct life *lives, uint64_t *to)
{
    uint64_t *bytes = mem_alloc((c->pb.buckets.n + 1) * sizeof *bytes);
    for (uint32_t i = 0; i < c->x->s->buckets.n; i++)
        if (c->bucket_of[i] != IR_NONE)
            bytes[c->bucket_of[i]] = lower_grad_bytes(&c->x->s->buckets.at[i]);
    const struct plan_bucket *buckets = c->pb.buckets.at;
    const uint32_t n = c->pb.buckets.n;
    uint64_t end = 0;
    struct {
        VEC(struct life); /* the last one in each place */
    } places = { 0 };
    qsort(lives, n, sizeof *lives, by_first);
    for (uint32_t i = 0; i < n; i++) {
        const struct life life = lives[i];
        uint32_t k = 0;
        to[life.bucket] = UINT64_MAX;
        if (buckets[life.bucket].grad == UINT64_MAX)
            continue;
        while (k < places.n && (places.at[k].last >= life.behind ||
                                !laid_out_alike(&c->pb, &buckets[places.at[k].bucket], &buckets[life.bucket])))
            k++;
        if (k < places.n) {
            to[life.bucket] = to[places.at[k].bucket];
            places.at[k] = life;
            continue;
        }
        vec_add(&places, life);
        to[life.bucket] = end;
        end = round_up(end + bytes[life.bucket], c->x->s->in->target->alignment);
    }
    vec_free(&places);
    mem_free(bytes);
    return end;
}

void lower_share_gradients(struct class_lowering *c)
{
    if (c->x->s->in->clip) /* all wait for the norm */
        return;
    const struct plan_list *list = &c->pb.lists.at[0];
    struct life *lives = find_lives(c);
    uint64_t *to = mem_alloc((c->pb.buckets.n + 1) * sizeof *to);
    uint64_t *bytes = &c->pb.h.arena_bytes[ARENA_GRADS];
    const uint64_t shared = place_gradients(c, lives, to);
    const bool less = shared < *bytes;
    *bytes = less ? shared : *bytes;
    for (uint32_t i = list->first_instr; less && i < list->first_instr + list->n_instr; i++) {
        const struct plan_instr *in = &c->pb.instrs.at[i];
        for (uint32_t k = in->first_base; k < in->first_base + in->n_bases; k++) {
            struct plan_base *b = &c->pb.bases.at[k];
            if (b->arena == ARENA_GRADS)
                b->offset += to[b->buffer] - c->pb.buckets.at[b->buffer].grad;
        }
    }
    for (uint32_t i = 0; less && i < c->pb.buckets.n; i++)
        c->pb.buckets.at[i].grad = to[i];
    mem_free(lives);
    mem_free(to);
}
