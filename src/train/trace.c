/* The job's traced steps. */
#include <string.h>

#include "train/private.h"

bool train__is_traced(const struct train *t, uint64_t step)
{
    for (uint32_t i = 0; i < t->config->n_trace_steps; i++)
        if (t->config->trace_steps[i] == step)
            return true;
    return false;
}

static uint32_t traced_steps_left(const struct train *t)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < t->config->n_trace_steps; i++)
        n += t->config->trace_steps[i] > t->step && t->config->trace_steps[i] <= t->last_step;
    return n;
}

/* By number of a channel: where its calls are counted from, in steps of the number of ranks. Groups that share the number of their
 * channel, but no rank, so count differently. */
static uint32_t *first_members(const struct train *t, struct arena *a)
{
    const struct plan *p = &t->plan;
    uint32_t *first = arena_array(a, uint32_t, p->h->n_channels_world);
    for (uint32_t i = 0; i < p->h->count[PLAN_S_CHANNELS]; i++)
        first[p->channels[i].id] = plan_group_at(p, p->channels[i].group, world_rank(), 0);
    return first;
}

/* Fills in what does not change from step to step of every event, and the names of the instructions. */
static void describe(struct train *t, struct trace_instruction *names, struct arena *a)
{
    const struct plan_list *l = &t->plan.lists[t->train_list];
    const uint32_t ranks = world_size();
    uint32_t *calls = first_members(t, a);
    for (uint32_t i = 0; i < l->n_instr; i++) {
        struct exec_instruction in;
        exec_describe(t->exec, t->train_list, i, &in);
        names[i] = (struct trace_instruction){ arena_strdup(a, in.name), arena_strdup(a, in.tags), in.stream,
                                               in.predicted, t->predicted ? t->predicted[i] : -1 };
        t->events[i] = (struct trace_event){
            .bytes = in.bytes,
            .location = in.stream,
            .instruction = i,
            .group = in.group,
            .seq = in.group >= 0 ? calls[in.group] : in.tag,
            .peer = in.peer,
        };
        if (in.group >= 0)
            calls[in.group] += ranks;
    }
}

static void list_groups(const struct train *t, struct trace_group *groups, struct arena *a)
{
    const struct plan *p = &t->plan;
    for (uint32_t i = 0; i < p->h->count[PLAN_S_CHANNELS]; i++) {
        const struct plan_channel *c = &p->channels[i];
        uint32_t size = plan_group_size(p, c->group, world_rank());
        groups[i] = (struct trace_group){ c->id, size,
                                          arena_printf(a, "%s, %u ranks", p->text + p->streams[c->stream].name, size) };
    }
}

enum status train__trace_open(struct train *t, struct err *e)
{
    const struct plan *p = &t->plan;
    uint32_t n = p->lists[t->train_list].n_instr, steps = traced_steps_left(t);
    if (!steps)
        return ST_OK;
    struct arena a;
    arena_init(&a);
    struct trace_instruction *names = arena_array(&a, struct trace_instruction, n);
    struct trace_setup setup = {
        .dir = t->dir,
        .device = t->compute->name,
        .now = clock_now,
        .instructions = names,
        .n_streams = (uint32_t)p->h->count[PLAN_S_STREAMS],
        .n_instructions = n,
        .n_groups = (uint32_t)p->h->count[PLAN_S_CHANNELS],
        .max_events = n * steps,
    };
    const char **streams = arena_array(&a, const char *, setup.n_streams);
    struct trace_group *groups = arena_array(&a, struct trace_group, setup.n_groups);
    for (uint32_t i = 0; i < setup.n_streams; i++)
        streams[i] = p->text + p->streams[i].name;
    t->events = mem_alloc(n * sizeof *t->events);
    describe(t, names, &a);
    list_groups(t, groups, &a);
    setup.streams = streams;
    setup.groups = groups;
    enum status st = trace_open(&setup, &t->trace, e);
    t->tracing = st == ST_OK;
    arena_release(&a);
    return st;
}

enum status train__trace_step(struct train *t, struct err *e)
{
    const double *times = exec_times(t->exec);
    for (uint32_t i = 0; i < t->plan.lists[t->train_list].n_instr; i++) {
        struct trace_event ev = t->events[i];
        ev.t = times[2 * (size_t)i];
        ev.dur = times[2 * (size_t)i + 1] - ev.t;
        ev.step = t->step;
        trace_add(&t->trace, &ev);
    }
    return train__is_traced(t, t->step + 1) ? ST_OK : trace_flush(&t->trace, e);
}

enum status train__trace_close(struct train *t, struct err *e)
{
    mem_free(t->events);
    return t->tracing ? trace_close(&t->trace, e) : ST_OK;
}
