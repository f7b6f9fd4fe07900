#include "view/run_log.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "view/follow.h"

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* ---- parts ------------------------------------------------------------------------------------------------------ */

/* A start begins with the head, or, in logs of programs that wrote none, with the compiler's line. */
static bool is_start(const struct run_log *l, const char *text)
{
    const struct run_part *part = l->parts.n ? &l->parts.at[l->parts.n - 1] : NULL;
    if (begins(text, "piper ") && strstr(text, "; HDF5 "))
        return true;
    return begins(text, "compiled in ") && (!part || part->job);
}

/* Lines that a part has one of: how they begin, and what must be in them. */
static const struct {
    const char *begin, *in;
    size_t at;
} single[] = {
    { "piper ", "; HDF5 ", offsetof(struct run_part, program) },
    { "command: ", "", offsetof(struct run_part, command) },
    { "hosts: ", "", offsetof(struct run_part, hosts) },
    { "job ", ", steps to ", offsetof(struct run_part, job) },
    { "device: ", "", offsetof(struct run_part, device) },
    { "no checkpoint in ", "", offsetof(struct run_part, begins) },
    { "resuming from ", "", offsetof(struct run_part, begins) },
    { "peak memory per rank: ", "", offsetof(struct run_part, memory) },
    { "mean step: ", "", offsetof(struct run_part, mean) },
    { "slowest rank: ", "", offsetof(struct run_part, slowest) },
};
static const char *const data_lines[] = { "data ", "evaluation data ", "documents are ", "the loss is the mean", NULL };
static const char *const note_lines[] = {
    "note: ",         "warning: ", "piper halt ", "time: ",           "the evaluation after ",
    "existing files", "step ",     "stopped ",    "training waited ", NULL
};

static bool is_one_of(const char *text, const char *const *list)
{
    while (*list && !begins(text, *list))
        list++;
    return *list != NULL;
}

static void take_spent(struct run_log *l, struct run_part *part, char *text)
{
    struct run_spent s;
    char *numbers = strstr(text + 2, "  "); /* names have single spaces */
    if (!numbers || sscanf(numbers, "%lf %lf %lf %u %lf %u", &s.mean, &s.percent, &s.least, &s.least_rank, &s.most,
                           &s.most_rank) != 6)
        return;
    *numbers = '\0';
    s.name = arena_strdup(&l->memory, text + 2);
    vec_add(&part->spent, s);
}

static void take_checkpoint(struct run_log *l, const char *when, const char *text)
{
    struct run_checkpoint c = { .when = when };
    unsigned long long step;
    const char *waited = strstr(text, "training waited ");
    if (sscanf(text, "checkpoint of step %llu written in %lf", &step, &c.seconds) != 2)
        return;
    c.step = step;
    c.waited = waited ? strtod(waited + strlen("training waited "), NULL) : 0;
    vec_add(&l->checkpoints, c);
}

static void take(struct run_log *l, const char *when, char *text)
{
    if (is_start(l, text))
        *vec_push(&l->parts) = (struct run_part){ .when = when };
    if (!l->parts.n)
        return;
    struct run_part *part = &l->parts.at[l->parts.n - 1];
    part->last = when;
    if (begins(text, "  "))
        take_spent(l, part, text);
    if (begins(text, "checkpoint of step "))
        take_checkpoint(l, when, text);
    for (size_t i = 0; i < sizeof single / sizeof *single; i++)
        if (begins(text, single[i].begin) && strstr(text, single[i].in))
            *(const char **)(void *)((char *)part + single[i].at) = arena_strdup(&l->memory, text);
    const bool progress = begins(text, "step ") && (strstr(text, "  loss ") || strstr(text, "eval_loss"));
    if (is_one_of(text, data_lines))
        vec_add(&part->data, arena_strdup(&l->memory, text));
    else if (is_one_of(text, note_lines) && !progress)
        vec_add(&part->notes, arena_strdup(&l->memory, text));
}

/* ---- the file --------------------------------------------------------------------------------------------------- */

static void nothing(void *self)
{
    (void)self; /* it is read once, from its beginning */
}

static void take_line(void *self, uint64_t at, char *line)
{
    struct run_log *l = self;
    (void)at;
    text_printable(line);
    const size_t text = follow_time(line);
    l->lines++;
    if (!text)
        return;
    line[text - 2] = '\0';
    take(l, arena_strdup(&l->memory, line), line + text);
}

enum status run_log_read(const struct dir *dir, struct run_log *l, struct err *e)
{
    struct follow file = { .dir = dir, .name = "log.txt" };
    *l = (struct run_log){ .lines = 0 };
    arena_init(&l->memory);
    const enum status st = follow_read(&file, nothing, take_line, l, e);
    follow_release(&file);
    if (st != ST_OK)
        run_log_release(l);
    return st;
}

void run_log_release(struct run_log *l)
{
    for (uint32_t i = 0; i < l->parts.n; i++) {
        vec_free(&l->parts.at[i].data);
        vec_free(&l->parts.at[i].notes);
        vec_free(&l->parts.at[i].spent);
    }
    vec_free(&l->parts);
    vec_free(&l->checkpoints);
    arena_release(&l->memory);
}
