/* What a rank does and for how long, from samples. */
#include <string.h>

#include "watch_private.h"

void watch_look_begin(struct watch_look *l, const struct exec *x, bool worst)
{
    *l = (struct watch_look){ .x = x };
    if (!x)
        return;
    uint32_t n = exec_streams(x), lists = exec_lists(x);
    l->first = mem_alloc(n * sizeof *l->first);
    l->since = mem_alloc(n * sizeof *l->since);
    if (!worst)
        return;
    l->runs = mem_alloc(lists * sizeof *l->runs);
    l->worst = mem_alloc(lists * sizeof *l->worst);
    for (uint32_t i = 0; i < lists; i++)
        l->worst[i] = mem_alloc((exec_list_length(x, i) + 1) * sizeof **l->worst);
}

void watch_look_end(struct watch_look *l)
{
    for (uint32_t i = 0; l->worst && i < exec_lists(l->x); i++)
        mem_free(l->worst[i]);
    mem_free(l->worst);
    mem_free(l->runs);
    mem_free(l->first);
    mem_free(l->since);
    *l = (struct watch_look){ 0 };
}

/* The loop has left the instruction where it stood at the last sample. */
static void measure(struct watch_look *l, const struct exec_place *before, double stood)
{
    if (!l->worst || !before->inside)
        return;
    double *worst = &l->worst[before->list][before->at];
    if (stood > *worst)
        *worst = stood;
}

static bool look_inside(struct watch_look *l)
{
    struct exec_place before = l->place;
    uint32_t n = exec_streams(l->x), old[n];
    double stood = l->now - l->since[0];
    memcpy(old, l->first, n * sizeof *old);
    l->place = exec_look(l->x, l->first);
    const struct exec_place *p = &l->place;
    bool run = p->epoch != before.epoch || p->inside != before.inside;
    for (uint32_t s = 0; s < n; s++)
        if (run || l->first[s] != old[s] || !l->known)
            l->since[s] = l->now;
    if (run || p->at != before.at)
        measure(l, &before, stood);
    if (l->runs && run) /* lists that ended between the samples: short steps are many of them */
        l->runs[p->list] += p->epoch - p->inside - (before.epoch - before.inside);
    return run || p->mark != before.mark;
}

bool watch_look_at(struct watch_look *l, const char *phase, double now)
{
    l->now = now;
    bool moved = !l->known || phase != l->phase;
    l->phase = phase;
    if (l->x && look_inside(l))
        moved = true;
    l->known = true;
    if (moved)
        l->moved = now;
    return moved;
}

void watch_look_forgive(struct watch_look *l, double now)
{
    l->moved = now;
    for (uint32_t s = 0; l->x && s < exec_streams(l->x); s++)
        l->since[s] = now;
}

double watch_look_limit(const struct watch_look *l, double timeout, char state)
{
    const struct exec_place *p = &l->place;
    struct watch_stand stand = { .inside = l->x && p->inside, .state = state };
    struct exec_task t;
    if (stand.inside) {
        stand.works = exec_tasks(l->x, p, l->first, &t, 1) && t.host;
        stand.loads = stand.works && exec_is_load(l->x, p->list, t.instr);
        stand.worst = l->worst[p->list][p->at];
        stand.runs = l->runs[p->list];
    }
    return watch_limit(&stand, timeout);
}
