/* From boxes to passes: parts of one pass belong together, also where they alternate with those of one other pass. */
#include "view/draw.h"

const char *const draw_names[DRAW_KINDS] = { [DRAW_F] = "forward",
                                             [DRAW_B] = "backward",
                                             [DRAW_BI] = "BI (dgrad)",
                                             [DRAW_BW] = "BW (wgrad)",
                                             [DRAW_UPDATE] = "update",
                                             [DRAW_MOVE] = "send/recv",
                                             [DRAW_ALL_TO_ALL] = "all-to-all",
                                             [DRAW_REDUCE] = "reduction",
                                             [DRAW_GATHER] = "gather",
                                             [DRAW_OTHER] = "other",
                                             [DRAW_EXPOSED] = "exposed communication" };

static bool same_pass(const struct draw_box *a, const struct draw_box *b)
{
    return a->kind == b->kind && a->stage == b->stage && a->number == b->number;
}

/* Drops boxes without duration, and makes one box of the parts of a pass that follow each other without a break. */
static void join_boxes(struct draw_picture *p)
{
    double least = 1e-9 * (p->end - p->start), slack = p->slack > least ? p->slack : least;
    uint32_t n = 0;
    for (uint32_t i = 0; i < p->boxes.n; i++) {
        const struct draw_box *b = &p->boxes.at[i];
        struct draw_box *last = n ? &p->boxes.at[n - 1] : NULL;
        if (b->end - b->start <= least)
            continue;
        if (last && last->row == b->row && draw_is_pass((enum draw_kind)b->kind) && same_pass(last, b) &&
            b->start <= last->end + slack)
            last->end = b->end;
        else
            p->boxes.at[n++] = *b;
    }
    p->boxes.n = n;
}

static void extend(struct draw_picture *p, uint32_t span, uint32_t box)
{
    struct draw_span *s = &p->spans.at[span];
    struct draw_box *b = &p->boxes.at[box], *l = &p->boxes.at[s->longest];
    b->span = span;
    s->last = box;
    s->end = b->end;
    if (b->end - b->start > l->end - l->start)
        s->longest = box;
}

/* One row. The boxes of a pass, of one other, and of the first again are an alternation; a third pass in between ends it. So
 * when a span begins, one at most is open. */
static uint32_t find_in_row(struct draw_picture *p, uint32_t first)
{
    uint32_t now = UINT32_MAX, before = UINT32_MAX, i = first, row = p->boxes.at[first].row;
    for (; i < p->boxes.n && p->boxes.at[i].row == row; i++) {
        struct draw_box *b = &p->boxes.at[i];
        if (!draw_is_pass((enum draw_kind)b->kind))
            continue;
        if (now != UINT32_MAX && same_pass(b, &p->boxes.at[p->spans.at[now].last])) {
            extend(p, now, i);
            continue;
        }
        uint32_t was = before;
        before = now;
        if (was != UINT32_MAX && same_pass(b, &p->boxes.at[p->spans.at[was].last])) {
            now = was;
            extend(p, now, i);
            continue;
        }
        now = p->spans.n;
        b->span = now;
        vec_add(&p->spans, ((struct draw_span){ b->start, b->end, i, i, i, DRAW_WHOLE }));
    }
    return i;
}

/* Halves for those that overlap: a forward above, what comes beside it in the other. */
static void find_places(struct draw_picture *p)
{
    for (uint32_t i = 1; i < p->spans.n; i++) {
        struct draw_span *a = &p->spans.at[i - 1], *b = &p->spans.at[i];
        const struct draw_box *ab = &p->boxes.at[a->first], *bb = &p->boxes.at[b->first];
        if (ab->row != bb->row)
            continue;
        if (i >= 2 && p->spans.at[i - 2].end > b->start + p->slack &&
            p->boxes.at[p->spans.at[i - 2].first].row == bb->row)
            a = &p->spans.at[i - 2]; /* a pass that goes on after a short one beside it */
        if (a->end <= b->start + p->slack)
            continue;
        if (a->place == DRAW_WHOLE)
            a->place = ab->kind == DRAW_F || bb->kind != DRAW_F ? DRAW_UPPER : DRAW_LOWER;
        b->place = a->place == DRAW_UPPER ? DRAW_LOWER : DRAW_UPPER;
    }
}

void draw_find_spans(struct draw_picture *p)
{
    join_boxes(p);
    for (uint32_t i = 0; i < p->boxes.n;)
        i = find_in_row(p, i);
    find_places(p);
}

void draw_release(struct draw_picture *p)
{
    arena_release(&p->text);
    vec_free(&p->rows);
    vec_free(&p->boxes);
    vec_free(&p->points);
    vec_free(&p->spans);
}
