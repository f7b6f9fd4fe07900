/* Plans that are changed, for the tests of what must refuse them: instructions as records that own their waits and bases, so that
 * they may go, move and come twice. */
#ifndef TESTS_UNIT_PLAN_EDIT_H
#define TESTS_UNIT_PLAN_EDIT_H

#include <string.h>

#include "base/mem.h"
#include "ir/plan.h"

struct plan_record {
    struct plan_instr in;
    uint32_t id, n_waits;    /* id: place in its list, when it was taken apart */
    const uint32_t *waits;   /* ids */
    struct plan_base *bases; /* [in.n_bases] */
};
struct plan_records {
    VEC(struct plan_record);
};
struct plan_edit {
    struct plan_builder *b;
    struct plan_records *lists; /* [b->lists.n] */
    uint32_t *waits, n_bases;
    struct plan_base *bases; /* [n_bases], those of all records */
};

/* All sections of a plan, in a builder that is empty. */
static inline void plan_unpack(const struct plan *p, struct plan_builder *b)
{
    *b = (struct plan_builder){ .h = *p->h };
#define UNPACK(id, record, field)                                                                \
    if (p->h->count[PLAN_S_##id])                                                                \
        memcpy((vec_grow(&b->field, (uint32_t)p->h->count[PLAN_S_##id]), b->field.at), p->field, \
               p->h->count[PLAN_S_##id] * sizeof(record));
    PLAN_SECTION_LIST(UNPACK)
#undef UNPACK
}

/* Takes the lists of b apart; plan_edit_end() writes them back. */
static inline void plan_edit_begin(struct plan_builder *b, struct plan_edit *e)
{
    *e = (struct plan_edit){ .b = b, .n_bases = b->bases.n };
    e->lists = mem_alloc(b->lists.n * sizeof *e->lists);
    e->waits = mem_alloc((b->waits.n + 1) * sizeof *e->waits);
    e->bases = mem_alloc((b->bases.n + 1) * sizeof *e->bases);
    if (b->waits.n)
        memcpy(e->waits, b->waits.at, b->waits.n * sizeof *e->waits);
    if (b->bases.n)
        memcpy(e->bases, b->bases.at, b->bases.n * sizeof *e->bases);
    for (uint32_t l = 0; l < b->lists.n; l++)
        for (uint32_t i = 0; i < b->lists.at[l].n_instr; i++) {
            const struct plan_instr *x = &b->instrs.at[b->lists.at[l].first_instr + i];
            vec_add(&e->lists[l],
                    ((struct plan_record){ *x, i, x->n_waits, e->waits + x->first_wait, e->bases + x->first_base }));
        }
}

/* Waits for what is gone, comes later or stands on the same stream are left out. */
static inline void plan_edit_put(struct plan_builder *b, const struct plan_records *r, uint32_t at)
{
    struct plan_record x = r->at[at];
    x.in.first_wait = b->waits.n;
    x.in.first_base = b->bases.n;
    for (uint32_t w = 0; w < x.n_waits; w++)
        for (uint32_t k = 0; k < at; k++)
            if (r->at[k].id == x.waits[w] && r->at[k].in.stream != x.in.stream) {
                vec_add(&b->waits, k);
                break;
            }
    x.in.n_waits = (uint16_t)(b->waits.n - x.in.first_wait);
    for (uint32_t k = 0; k < x.in.n_bases; k++)
        vec_add(&b->bases, x.bases[k]);
    vec_add(&b->instrs, x.in);
}

static inline void plan_edit_end(struct plan_edit *e)
{
    struct plan_builder *b = e->b;
    b->instrs.n = b->waits.n = b->bases.n = 0;
    for (uint32_t l = 0; l < b->lists.n; l++) {
        b->lists.at[l].first_instr = b->instrs.n;
        b->lists.at[l].n_instr = e->lists[l].n;
        for (uint32_t i = 0; i < e->lists[l].n; i++)
            plan_edit_put(b, &e->lists[l], i);
        vec_free(&e->lists[l]);
    }
    mem_free(e->lists);
    mem_free(e->waits);
    mem_free(e->bases);
}

/* The record number i goes; a copy of x comes before number i. */
static inline void plan_edit_drop(struct plan_records *r, uint32_t i)
{
    memmove(&r->at[i], &r->at[i + 1], (r->n - 1 - i) * sizeof *r->at);
    r->n--;
}
static inline void plan_edit_insert(struct plan_records *r, uint32_t i, struct plan_record x)
{
    vec_push(r);
    memmove(&r->at[i + 1], &r->at[i], (r->n - 1 - i) * sizeof x);
    r->at[i] = x;
}

#endif
