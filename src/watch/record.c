/* The thread that keeps the ring of this rank's last places: apart from the guard, because a file system may hang. */
#include <math.h>
#include <stdatomic.h>
#include <stdio.h>

#include "rundir/flight.h"
#include "watch/private.h"

enum { TASKS = 8 };

static struct {
    struct flight flight;
    struct flight_header header;
    struct watch_look look; /* under watch_lock() */
    uint64_t *recorded;     /* [streams] epoch and instruction last recorded */
    const char *phase;
    const struct dir *dir;
    _Atomic bool again; /* its folder is a new one */
} recorder = { .flight = { .file = -1 } };

void watch_record_begin(const struct liveness_peer *me)
{
    double began = floor(clock_of(CLOCK_REALTIME));
    world_broadcast(&began, sizeof began);
    recorder.header =
        (struct flight_header){ .rank = world_rank(), .ranks = world_size(), .pid = me->pid, .began = began };
    snprintf(recorder.header.host, sizeof recorder.header.host, "%s", me->host);
    recorder.phase = NULL;
}

/* The phase in which it is opened is the first record: a rank that dies soon has one. */
enum status watch_record_open(const struct dir *dir, struct err *e)
{
    struct flight_record first = { .instr = UINT32_MAX };
    TRY(flight_open(&recorder.flight, dir, &recorder.header, e));
    recorder.dir = dir;
    recorder.phase = watch_phase_now();
    snprintf(first.name, sizeof first.name, "%s", recorder.phase);
    flight_add(&recorder.flight, &first);
    return ST_OK;
}

void watch_record_attach(const struct exec *x)
{
    watch_look_end(&recorder.look);
    watch_look_begin(&recorder.look, x, false);
    mem_free(recorder.recorded);
    recorder.recorded = x ? mem_alloc(exec_streams(x) * sizeof *recorder.recorded) : NULL;
}

void watch_record_again(void)
{
    atomic_store(&recorder.again, true);
}

/* By its own thread. Where it cannot be made the ring is not kept: no reason to end a run. */
static void open_again(void)
{
    struct err ignored = { 0 };
    flight_close(&recorder.flight);
    flight_open(&recorder.flight, recorder.dir, &recorder.header, &ignored);
}

void watch_record_close(void)
{
    watch_record_attach(NULL);
    flight_close(&recorder.flight);
}

/* What is to be recorded now: records[TASKS], the most telling one last. */
static uint32_t look(struct flight_record *records)
{
    struct watch_look *l = &recorder.look;
    const char *phase = watch_phase_now();
    watch_look_at(l, phase, clock_now());
    if (!l->x || !l->place.inside) {
        if (phase == recorder.phase)
            return 0;
        recorder.phase = phase;
        records[0] = (struct flight_record){ .instr = UINT32_MAX };
        snprintf(records[0].name, sizeof records[0].name, "%s", phase);
        return 1;
    }
    recorder.phase = NULL;
    struct exec_task tasks[TASKS];
    uint32_t n = 0;
    for (uint32_t i = exec_tasks(l->x, &l->place, l->first, tasks, TASKS); i-- > 0;) {
        uint64_t *last = &recorder.recorded[tasks[i].stream];
        uint64_t now = (uint64_t)l->place.epoch << 32 | tasks[i].instr;
        struct exec_instruction what;
        if (*last == now)
            continue;
        *last = now;
        exec_describe(l->x, l->place.list, tasks[i].instr, &what);
        records[n] = (struct flight_record){ .step = l->place.step, .instr = tasks[i].instr, .waits = !tasks[i].host };
        snprintf(records[n].name, sizeof records[n].name, "%.*s", (int)sizeof records[n].name - 1, what.name);
        n++;
    }
    return n;
}

void *watch_recorder(void *unused)
{
    const double often = 0.1, alive = 1; /* seconds */
    double last = 0;
    (void)unused;
    for (bool on = true; on;) {
        struct flight_record records[TASKS];
        on = watch_sleep(often);
        watch_lock();
        uint32_t n = look(records);
        watch_unlock();
        if (atomic_exchange(&recorder.again, false))
            open_again();
        for (uint32_t i = 0; i < n; i++)
            flight_add(&recorder.flight, &records[i]);
        if (!on || clock_now() - last > alive) {
            last = clock_now();
            flight_alive(&recorder.flight);
        }
    }
    return NULL;
}
