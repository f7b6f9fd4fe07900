/* flip JOB.h5 DUMP MAPS PID RANK METRICS WHAT SEED: flips one bit in the memory of a running rank, through /proc/PID/mem. WHAT: `kept`, what the
 * rank keeps from update to update (parameters, masters, moments); `params`, of that the parameters alone; `snapshot`, what a checkpoint
 * is written of. DUMP is what `piper plan JOB.h5 --dump` says: where in the rank's memory what lies. MAPS: what flip_maps.c has noted of
 * the process. Prints how many steps METRICS has meanwhile, and what piper should call it: "17 the first moments (m) of layers.0.up.weight". */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/number.h"
#include "exec/bucket_view.h"
#include "io/job.h"

static _Noreturn void fail(const char *why)
{
    fprintf(stderr, "flip: %s\n", why);
    exit(1);
}

static char *read_file(const char *path)
{
    FILE *f = fopen(path, "r");
    size_t n = 0, room = 1 << 16;
    char *text = mem_alloc(room + 1);
    if (!f)
        fail(path);
    for (size_t got; (got = fread(text + n, 1, room - n, f)) > 0;) {
        n += got;
        if (n == room)
            text = mem_realloc(text, 2 * room + 1), room *= 2;
    }
    fclose(f);
    text[n] = 0;
    return text;
}

/* The plan of this rank, of those in a dump. */
static void find_plan(char *dump, const struct ir_graph *g, uint32_t rank, struct plan *p)
{
    static const char head[] = "\nplan ";
    struct err e = { 0 };
    for (char *at = strstr(dump, head), *next; at; at = next) {
        void *blob;
        uint64_t bytes;
        next = strstr(at + 1, head);
        if (next)
            *next = 0;
        if (plan_parse(at + 1, g, &blob, &bytes, &e) != ST_OK ||
            plan_open(blob, bytes, g->ops.n, g->params.n, g->tensors.n, p, &e) != ST_OK)
            fail(e.text);
        if (plan_set_index(p, p->h->devices, rank) != PLAN_NONE)
            return;
        mem_free(blob);
        if (next)
            *next = '\n';
    }
    fail("no plan of this rank in the dump");
}

/* Arenas are mapped one after the other, by their sizes: lines "address bytes". A run without checkpoints has no last one. */
static void find_arenas(const struct plan *p, char *maps, uintptr_t base[ARENA_COUNT])
{
    uint32_t a = 0;
    for (char *line = strtok(maps, "\n"); line && a < ARENA_COUNT; line = strtok(NULL, "\n")) {
        char *end;
        const uintptr_t at = strtoull(line, &end, 16);
        const uint64_t bytes = strtoull(end, NULL, 10);
        while (a < ARENA_COUNT && !p->h->arena_bytes[a])
            a++;
        if (a < ARENA_COUNT && bytes == p->h->arena_bytes[a])
            base[a++] = at;
    }
    while (a < ARENA_COUNT && !p->h->arena_bytes[a])
        a++;
    if (a < ARENA_SNAPSHOT)
        fail("the arenas of the process are not found");
}

/* Bytes that may be flipped. */
struct array {
    const char *name;
    uint32_t bucket, size;       /* bytes of an element */
    uintptr_t at;                /* in the process */
    struct bucket_view_range of; /* elements of the bucket */
};
struct arrays {
    VEC(struct array);
};

static void add(struct arrays *all, struct array a)
{
    if (a.at && a.of.count)
        vec_add(all, a);
}

static void list_kept(const struct plan *p, uint32_t b, uint32_t rank, unsigned char *const base[ARENA_COUNT],
                      bool params, struct arrays *all)
{
    const struct bucket_view s = bucket_view_of(p, b, rank, base);
    const uint32_t size = ir_dtype_size(s.type, s.type);
    /* what no gather brings anew */
    const struct bucket_view_range kept = p->buckets[b].rule == PLAN_RULE_FROZEN ? s.params : s.state;
    add(all,
        (struct array){ "the parameters", b, size, (uintptr_t)s.param + (kept.first - s.params.first) * size, kept });
    if (params)
        return;
    add(all, (struct array){ "the float32 master copy", b, 4, (uintptr_t)s.master, s.state });
    add(all, (struct array){ "the first moments (m)", b, 4, (uintptr_t)s.m, s.state });
    add(all, (struct array){ "the second moments (v)", b, 4, (uintptr_t)s.v, s.state });
}

static void list_snapshot(const struct plan *p, uint32_t b, uint32_t rank, unsigned char *const base[ARENA_COUNT],
                          struct arrays *all)
{
    const struct bucket_view s = bucket_view_of(p, b, rank, base);
    uintptr_t at = (uintptr_t)s.snapshot;
    const uint64_t bytes = s.own.count * sizeof(float);
    add(all, (struct array){ s.master ? "the float32 master copy" : "the parameters", b, 4, at, s.own });
    if (s.m)
        add(all, (struct array){ "the first moments (m)", b, 4, at + bytes, s.own });
    if (s.v)
        add(all, (struct array){ "the second moments (v)", b, 4, at + 2 * bytes, s.own });
}

static uint64_t steps_in(const char *metrics)
{
    char *text = read_file(metrics);
    uint64_t lines = 0;
    for (const char *at = text; (at = strchr(at, '\n')); at++)
        lines++;
    mem_free(text);
    return lines - 1;
}

/* Stops the process, so that nothing is read or written meanwhile, and the other ranks soon wait for it. Returns the steps so far. */
static uint64_t flip_at(pid_t pid, uintptr_t at, unsigned bit, const char *metrics)
{
    char path[64], state = 0;
    unsigned char byte;
    snprintf(path, sizeof path, "/proc/%d/mem", (int)pid);
    int mem = open(path, O_RDWR | O_CLOEXEC);
    if (mem < 0 || kill(pid, SIGSTOP) != 0)
        fail(path);
    for (int i = 0; state != 'T' && i < 1000; i++) {
        char stat[64];
        snprintf(stat, sizeof stat, "/proc/%d/stat", (int)pid);
        FILE *f = fopen(stat, "r");
        if (!f || fscanf(f, "%*d (%*[^)]) %c", &state) != 1)
            fail(stat);
        fclose(f);
        clock_nap(1e-3);
    }
    if (pread(mem, &byte, 1, (off_t)at) != 1)
        fail(strerror(errno));
    byte ^= (unsigned char)(1u << bit);
    if (pwrite(mem, &byte, 1, (off_t)at) != 1)
        fail(strerror(errno));
    clock_nap(0.05);
    const uint64_t steps = steps_in(metrics);
    kill(pid, SIGCONT);
    close(mem);
    return steps;
}

static const char *param_at(const struct plan *p, const struct ir_graph *g, uint32_t bucket, uint64_t element)
{
    const struct plan_bucket *b = &p->buckets[bucket];
    for (uint32_t i = b->first_piece; i < b->first_piece + b->n_pieces; i++)
        if (element >= p->pieces[i].offset && element < p->pieces[i].offset + p->pieces[i].count)
            return g->params.at[p->pieces[i].param].name;
    return NULL;
}

static void flip(const struct plan *p, const struct ir_graph *g, const struct arrays *all, pid_t pid,
                 const char *metrics, uint64_t random)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < all->n; i++)
        bytes += all->at[i].of.count * all->at[i].size;
    if (!bytes)
        fail("there is nothing of that kind");
    uint64_t byte = number_mix(random) % bytes;
    const struct array *a = all->at;
    for (; byte >= a->of.count * a->size; a++)
        byte -= a->of.count * a->size;
    printf("%llu ", (unsigned long long)flip_at(pid, a->at + byte, (unsigned)(number_mix(random + 1) % 8), metrics));
    const char *param = param_at(p, g, a->bucket, a->of.first + byte / a->size);
    if (param)
        printf("%s of %s\n", a->name, param);
    else
        printf("%s in the padding of bucket %u\n", a->name, a->bucket);
}

int main(int argc, char **argv)
{
    struct job job;
    struct plan p;
    struct err e = { 0 };
    struct arrays all = { 0 };
    uintptr_t base[ARENA_COUNT] = { 0 };
    unsigned char *arenas[ARENA_COUNT];
    if (argc != 9)
        fail("flip JOB.h5 DUMP MAPS PID RANK METRICS kept|params|snapshot SEED");
    const pid_t pid = (pid_t)strtol(argv[4], NULL, 10);
    const uint32_t rank = (uint32_t)strtoul(argv[5], NULL, 10);
    if (job_read(argv[1], &job, &e) != ST_OK)
        fail(e.text);
    char *dump = read_file(argv[2]), *maps = read_file(argv[3]);
    find_plan(dump, &job.graph, rank, &p);
    find_arenas(&p, maps, base);
    for (uint32_t a = 0; a < ARENA_COUNT; a++)
        arenas[a] = (unsigned char *)base[a]; /* NOLINT: addresses of the other process, to count with */
    for (uint32_t b = 0; b < p.h->count[PLAN_S_BUCKETS]; b++)
        if (strcmp(argv[7], "snapshot") == 0)
            list_snapshot(&p, b, rank, arenas, &all);
        else
            list_kept(&p, b, rank, arenas, strcmp(argv[7], "params") == 0, &all);
    flip(&p, &job.graph, &all, pid, argv[6], strtoull(argv[8], NULL, 10));
    return 0;
}
