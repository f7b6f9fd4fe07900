/* What of a picture is drawn: ranks, a window of time, rows of streams; and what of communication is exposed. */
#include <stdlib.h>

#include "view/draw.h"
#include "view/number_list.h"

enum { FEW_RANKS = 8 }; /* whose streams have rows of their own unless otherwise asked for */

static bool is_rank(const struct draw_row *r)
{
    return !r->stream && !r->predicted && !r->curve;
}

static int by_row_and_start(const void *a, const void *b)
{
    const struct draw_box *x = a, *y = b;
    return x->row != y->row ? (x->row < y->row ? -1 : 1) : (x->start > y->start) - (x->start < y->start);
}

static void sort_boxes(struct draw_picture *p)
{
    if (p->boxes.n)
        qsort(p->boxes.at, p->boxes.n, sizeof *p->boxes.at, by_row_and_start);
}

/* ---- what is exposed -------------------------------------------------------------------------------------------------- */

struct time_span {
    double start, end;
};
struct times {
    VEC(struct time_span);
};

static int by_start(const void *a, const void *b)
{
    const struct time_span *x = a, *y = b;
    return (x->start > y->start) - (x->start < y->start);
}

/* Joined where they overlap, in their order. */
static void join(struct times *t)
{
    uint32_t n = 0;
    if (t->n)
        qsort(t->at, t->n, sizeof *t->at, by_start);
    for (uint32_t i = 0; i < t->n; i++)
        if (n && t->at[i].start <= t->at[n - 1].end)
            t->at[n - 1].end = t->at[i].end > t->at[n - 1].end ? t->at[i].end : t->at[n - 1].end;
        else
            t->at[n++] = t->at[i];
    t->n = n;
}

/* Of the communications of a rank what lies beside all that it computes. */
static void mark_rank(struct draw_picture *p, uint32_t row, struct times *computes, struct times *communicates)
{
    uint32_t c = 0;
    join(computes);
    join(communicates);
    for (uint32_t i = 0; i < communicates->n; i++) {
        double at = communicates->at[i].start;
        const double end = communicates->at[i].end;
        while (c < computes->n && computes->at[c].end <= at)
            c++;
        for (uint32_t k = c; at < end; k++) {
            const double until = k < computes->n && computes->at[k].start < end ? computes->at[k].start : end;
            if (until > at)
                vec_add(&p->boxes,
                        ((struct draw_box){
                            .start = at, .end = until, .row = row, .number = DRAW_NO_NUMBER, .kind = DRAW_EXPOSED }));
            at = k < computes->n && computes->at[k].start < end ? computes->at[k].end : end;
        }
    }
}

static bool is_communication(enum draw_kind k)
{
    return k == DRAW_MOVE || k == DRAW_ALL_TO_ALL || k == DRAW_REDUCE || k == DRAW_GATHER;
}

static void mark_exposed(struct draw_picture *p)
{
    struct times computes = { 0 }, communicates = { 0 };
    const uint32_t n = p->boxes.n;
    for (uint32_t row = 0, at = 0; row < p->rows.n;) {
        const uint32_t first = row, rank = p->rows.at[row].rank;
        computes.n = communicates.n = 0;
        for (; row < p->rows.n && p->rows.at[row].rank == rank; row++)
            for (; at < n && p->boxes.at[at].row == row; at++) {
                const struct draw_box *b = &p->boxes.at[at];
                if (p->rows.at[row].predicted)
                    continue;
                struct time_span span = { b->start, b->end };
                if (is_communication((enum draw_kind)b->kind))
                    vec_add(&communicates, span);
                else if (!p->rows.at[row].stream)
                    vec_add(&computes, span);
            }
        if (is_rank(&p->rows.at[first]))
            mark_rank(p, first, &computes, &communicates);
    }
    vec_free(&computes);
    vec_free(&communicates);
    sort_boxes(p);
}

/* ---- what stays ------------------------------------------------------------------------------------------------------- */

/* to[row]: its new number; UINT32_MAX: it goes. */
static void renumber(struct draw_picture *p, const struct draw_view *v, enum draw_lanes lanes, uint32_t *to)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->rows.n; i++) {
        struct draw_row row = p->rows.at[i];
        const bool merges = row.stream && lanes == DRAW_LANES_MERGED;
        to[i] = UINT32_MAX;
        if (!number_list_has(v->ranks, row.rank) || (row.stream && lanes == DRAW_LANES_NONE))
            continue;
        if (merges && n && p->rows.at[n - 1].stream && p->rows.at[n - 1].rank == row.rank) {
            to[i] = n - 1;
            continue;
        }
        if (merges)
            row.label = "streams";
        to[i] = n;
        p->rows.at[n++] = row;
    }
    p->rows.n = n;
}

static void clip(struct draw_picture *p, const uint32_t *to)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->boxes.n; i++) {
        struct draw_box b = p->boxes.at[i];
        b.start = b.start > p->start ? b.start : p->start;
        b.end = b.end < p->end ? b.end : p->end;
        if (to[b.row] == UINT32_MAX || b.end <= b.start)
            continue;
        b.row = to[b.row];
        p->boxes.at[n++] = b;
    }
    p->boxes.n = n;
    n = 0;
    for (uint32_t i = 0; i < p->points.n; i++) {
        struct draw_point at = p->points.at[i];
        if (to[at.row] == UINT32_MAX || at.t >= p->end)
            continue;
        at.row = to[at.row];
        at.t = at.t > p->start ? at.t : p->start;
        if (n && p->points.at[n - 1].row == at.row && p->points.at[n - 1].t == at.t)
            n--; /* before the window, or at the same time */
        p->points.at[n++] = at;
    }
    p->points.n = n;
    sort_boxes(p);
}

void draw_select(struct draw_picture *p, const struct draw_view *v)
{
    uint32_t ranks = 0, *to = mem_alloc((p->rows.n + 1) * sizeof *to);
    mark_exposed(p);
    for (uint32_t i = 0; i < p->rows.n; i++)
        ranks += is_rank(&p->rows.at[i]) && number_list_has(v->ranks, p->rows.at[i].rank);
    renumber(p, v,
             v->lanes != DRAW_LANES_CHOSEN ? v->lanes
             : ranks > FEW_RANKS           ? DRAW_LANES_MERGED
                                           : DRAW_LANES_ALL,
             to);
    if (v->to > v->from) {
        p->start = v->from;
        p->end = v->to < p->end ? v->to : p->end;
        p->end = p->end > p->start ? p->end : v->to;
    }
    p->width = v->width;
    clip(p, to);
    mem_free(to);
}
