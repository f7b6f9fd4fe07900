/* What an archive is about, before its events: regions, processes, communicators. */
#include <stdio.h>

#include "view/trace_otf2.h"

const struct trace__otf2_kind trace__otf2_kinds[TRACE_KINDS] = {
    [TRACE_OTHER] = { "other", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_F] = { "F", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_B] = { "B", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_BI] = { "BI", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_BW] = { "BW", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_UPDATE] = { "update", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_ADD] = { "other", OTF2_REGION_ROLE_FUNCTION, OTF2_PARADIGM_USER, -1, false, false },
    [TRACE_SEND] = { "messages", OTF2_REGION_ROLE_POINT2POINT, OTF2_PARADIGM_MPI, -1, false, false },
    [TRACE_RECEIVE] = { "messages", OTF2_REGION_ROLE_POINT2POINT, OTF2_PARADIGM_MPI, -1, false, false },
    [TRACE_EXCHANGE] = { "messages", OTF2_REGION_ROLE_POINT2POINT, OTF2_PARADIGM_MPI, -1, false, false },
    [TRACE_SHIFT] = { "collectives", OTF2_REGION_ROLE_COLL_OTHER, OTF2_PARADIGM_MPI, OTF2_COLLECTIVE_OP_ALLTOALLV,
                      false, false },
    [TRACE_ALL_TO_ALL] = { "collectives", OTF2_REGION_ROLE_COLL_ALL2ALL, OTF2_PARADIGM_MPI, OTF2_COLLECTIVE_OP_ALLTOALL,
                           true, true },
    [TRACE_ALL_REDUCE] = { "collectives", OTF2_REGION_ROLE_COLL_ALL2ALL, OTF2_PARADIGM_MPI,
                           OTF2_COLLECTIVE_OP_ALLREDUCE, false, false },
    [TRACE_REDUCE_SCATTER] = { "collectives", OTF2_REGION_ROLE_COLL_OTHER, OTF2_PARADIGM_MPI,
                               OTF2_COLLECTIVE_OP_REDUCE_SCATTER_BLOCK, true, false },
    [TRACE_ALL_GATHER] = { "collectives", OTF2_REGION_ROLE_COLL_ALL2ALL, OTF2_PARADIGM_MPI,
                           OTF2_COLLECTIVE_OP_ALLGATHER, false, true },
};

uint32_t trace__otf2_string(struct trace__otf2 *o, const char *text)
{
    return text_table_number(&o->strings, text, strlen(text));
}

/* ---- regions ------------------------------------------------------------------------------------------------------ */

static bool is_pass(enum trace_kind kind)
{
    return kind == TRACE_F || kind == TRACE_B || kind == TRACE_BI || kind == TRACE_BW;
}

static uint32_t region_of(struct trace__otf2 *o, const struct trace_instruction *in)
{
    const uint32_t number = text_table_number(&o->names, in->name, trace_name_length(in->name));
    if (number == o->regions.n) {
        const enum trace_kind kind = trace_kind_of(in->name);
        const char *part = strchr(o->names.at[number], ' ');
        vec_add(&o->regions, ((struct trace__otf2_region){ kind, is_pass(kind) && part ? trace__otf2_string(o, part + 1)
                                                                                       : UINT32_MAX }));
    }
    return number;
}

static void find_regions(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    o->region_of = mem_alloc((w->n_views + 1) * sizeof *o->region_of);
    for (uint32_t k = 0; k < w->n_views; k++) {
        const struct trace *t = &w->views[k].t;
        o->region_of[k] = mem_alloc((t->n_instructions + 1) * sizeof **o->region_of);
        for (uint64_t i = 0; i < t->n_instructions; i++)
            o->region_of[k][i] = UINT32_MAX;
        for (uint64_t i = 0; i < t->n_events; i++) {
            uint32_t *region = &o->region_of[k][t->events[i].instruction];
            *region = *region == UINT32_MAX ? region_of(o, &t->instructions[t->events[i].instruction]) : *region;
        }
    }
}

/* ---- processes and communicators ----------------------------------------------------------------------------------- */

static void find_processes(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    uint32_t n_ranks = 0;
    for (uint32_t k = 0; k < w->n_views; k++)
        n_ranks = w->views[k].t.n_ranks > n_ranks ? (uint32_t)w->views[k].t.n_ranks : n_ranks;
    o->process_of = mem_alloc((n_ranks + 1) * sizeof *o->process_of);
    o->main_track = mem_alloc((n_ranks + 1) * sizeof *o->main_track);
    o->n_events = mem_alloc((w->tracks.n + 1) * sizeof *o->n_events);
    for (uint32_t r = 0; r <= n_ranks; r++)
        o->process_of[r] = UINT32_MAX;
    for (uint32_t i = 0; i < w->tracks.n; i++) {
        const struct trace_track *t = &w->tracks.at[i];
        o->accelerator |= strcmp(t->device, "cuda") == 0;
        if (o->process_of[t->rank] != UINT32_MAX)
            continue;
        o->process_of[t->rank] = o->n_processes;
        o->main_track[o->n_processes++] = i;
    }
}

/* Several groups that share no rank may have one number: they differ in their first member. */
static uint32_t key_of(struct trace__otf2 *o, const struct trace_slice *s)
{
    char key[48];
    const uint32_t match = o->w->views[s->view].match[s->event];
    const int n = snprintf(key, sizeof key, "%u:%d:%u", o->w->launch[s->view], trace_walk_event(o->w, s)->group,
                           o->first[s->view][match]);
    return 1 + text_table_number(&o->keys, key, (size_t)n);
}

static const char *name_of(const struct trace *t, uint32_t id)
{
    for (uint64_t i = 0; i < t->n_groups; i++)
        if (t->groups[i].id == id)
            return t->groups[i].name;
    return "";
}

static void join(struct trace__otf2 *o, uint32_t number, uint32_t process)
{
    struct trace__otf2_comm *c = &o->comms.at[number];
    c->n_members += !c->members[process];
    c->members[process] = true;
}

static void find_members(struct trace__otf2 *o, uint32_t process, const struct trace_slice *s)
{
    const struct trace_event *ev = trace_walk_event(o->w, s);
    if (ev->group < 0 || !o->w->views[s->view].match[s->event])
        return;
    const uint32_t number = key_of(o, s), id = (uint32_t)ev->group;
    if (number == o->comms.n)
        vec_add(&o->comms, ((struct trace__otf2_comm){ id, 0, name_of(&o->w->views[s->view].t, id),
                                                       mem_alloc(o->n_processes * sizeof(bool)) }));
    join(o, number, process);
}

static void count_ends(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    o->ends = mem_alloc((w->n_views + 1) * sizeof *o->ends);
    o->first = mem_alloc((w->n_views + 1) * sizeof *o->first);
    for (uint32_t k = 0; k < w->n_views; k++) {
        const struct trace_view *v = &w->views[k];
        uint32_t most = 0;
        for (uint64_t i = 0; i < v->t.n_events; i++)
            most = v->match[i] > most ? v->match[i] : most;
        o->ends[k] = mem_alloc((most + 1) * sizeof **o->ends);
        o->first[k] = mem_alloc((most + 1) * sizeof **o->first);
        for (uint64_t i = 0; i < v->t.n_events; i++) {
            const uint32_t rank = trace_rank_of(&v->t, &v->t.events[i]);
            uint32_t *first = &o->first[k][v->match[i]];
            *first = o->ends[k][v->match[i]]++ == 0 || rank < *first ? rank : *first;
        }
    }
}

void trace__otf2_index(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    find_regions(o);
    find_processes(o);
    count_ends(o);
    vec_add(&o->comms, ((struct trace__otf2_comm){ 0, 0, "all ranks", mem_alloc(o->n_processes * sizeof(bool)) }));
    for (uint32_t p = 0; p < o->n_processes; p++)
        join(o, 0, p);
    for (uint32_t i = 0; i < w->tracks.n; i++)
        for (uint32_t k = 0; k < w->tracks.at[i].n; k++)
            find_members(o, o->process_of[w->tracks.at[i].rank], &w->slices.at[w->tracks.at[i].first + k]);
}

uint32_t trace__otf2_comm_of(struct trace__otf2 *o, const struct trace_slice *s)
{
    const struct trace_event *ev = trace_walk_event(o->w, s);
    const uint32_t match = o->w->views[s->view].match[s->event];
    if (!match)
        return UINT32_MAX;
    if (ev->group >= 0) {
        const uint32_t number = key_of(o, s);
        return o->ends[s->view][match] == o->comms.at[number].n_members ? number : UINT32_MAX;
    }
    return ev->peer >= 0 && o->process_of[ev->peer] != UINT32_MAX && o->ends[s->view][match] == 2 ? 0 : UINT32_MAX;
}

void trace__otf2_release(struct trace__otf2 *o)
{
    for (uint32_t k = 0; o->ends && k < o->w->n_views; k++) {
        mem_free(o->region_of[k]);
        mem_free(o->ends[k]);
        mem_free(o->first[k]);
    }
    for (uint32_t i = 0; i < o->comms.n; i++)
        mem_free(o->comms.at[i].members);
    mem_free(o->region_of);
    mem_free(o->ends);
    mem_free(o->first);
    mem_free(o->process_of);
    mem_free(o->main_track);
    mem_free(o->n_events);
    vec_free(&o->comms);
    vec_free(&o->regions);
    text_table_release(&o->strings);
    text_table_release(&o->names);
    text_table_release(&o->tags);
    text_table_release(&o->keys);
}
