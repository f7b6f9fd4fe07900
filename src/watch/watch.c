#include "watch/watch.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "rundir/log.h"
#include "watch/private.h"

enum kind { BEAT = 16, BYE }; /* of messages; those of inquiries have other numbers */

static struct {
    struct watch watch;
    _Atomic(const char *) phase;
    const struct exec *x; /* under lock */
    pthread_mutex_t lock;
    pthread_t guard, recorder;
    bool guarding, recording;
    /* what threads sleep on, so that the end need not wait for them */
    pthread_mutex_t bell_lock;
    pthread_cond_t bell;
    _Atomic uint32_t stop;
    bool expects; /* the rank before has not said goodbye */
} watchdog = { .lock = PTHREAD_MUTEX_INITIALIZER, .bell_lock = PTHREAD_MUTEX_INITIALIZER };

void watch_lock(void)
{
    pthread_mutex_lock(&watchdog.lock);
}

void watch_unlock(void)
{
    pthread_mutex_unlock(&watchdog.lock);
}

/* False: it is time to stop. */
bool watch_sleep(double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    double sum = (double)until.tv_nsec * 1e-9 + seconds;
    until.tv_sec += (time_t)sum;
    until.tv_nsec = (long)((sum - floor(sum)) * 1e9);
    pthread_mutex_lock(&watchdog.bell_lock);
    while (!watchdog.stop && pthread_cond_timedwait(&watchdog.bell, &watchdog.bell_lock, &until) != ETIMEDOUT)
        ;
    pthread_mutex_unlock(&watchdog.bell_lock);
    return !watchdog.stop;
}

/* ---- the end of a job that hangs ------------------------------------------------------------------------------- */

/* The verdict, and where the ranks are. */
static void log_places(const char *text)
{
    enum { MOST = 256 };
    const struct watch_table *t = &watchdog.watch.inquiry.table;
    char deed[512], line[640];
    log_append(watchdog.watch.dir, text);
    for (uint32_t r = 0; r < t->ranks && r < MOST; r++) {
        watch_describe(t, r, deed, sizeof deed);
        snprintf(line, sizeof line, "  rank %u (node %s) %s", r, t->peers[r].host, deed);
        log_append(watchdog.watch.dir, line);
    }
}

/* ---- the guard -------------------------------------------------------------------------------------------------- */

static void take_messages(struct watch *w, double now)
{
    _Alignas(8) unsigned char message[LIVENESS_BYTES];
    uint32_t bytes, from;
    while (w->line && liveness_receive(w->line, message, &bytes, &from)) {
        uint32_t kind = *(const uint32_t *)(const void *)message;
        if (kind == BEAT || kind == BYE)
            w->heard = now;
        if (kind == BYE)
            watchdog.expects = false;
        if (kind < BEAT)
            watch_inquiry_take(w, message, bytes, from, now);
    }
}

static void say(struct watch *w, uint32_t kind)
{
    if (w->line)
        liveness_send(w->line, (w->rank + 1) % w->ranks, &kind, sizeof kind, kind == BEAT);
}

/* Ranks that only wait come later than those that work, and one after the other: so one inquiry serves all. */
static bool is_overdue(struct watch *w, double now)
{
    if (now - w->look.moved <= w->timeout)
        return false;
    struct watch_report r;
    watch_report_fill(w, &r);
    bool works = r.n_tasks && r.tasks[0].task.host;
    double turn = works || !w->rank ? 0 : 1 + fmin(30, 0.05 * w->rank);
    return r.overdue && now - w->look.moved > watch_look_limit(&w->look, w->timeout, r.state) + turn;
}

/* ---- a file system that does not answer ------------------------------------------------------------------------- */

static struct {
    char text[256];
    _Atomic uint32_t writing;
    double told; /* of what stood since then; guard's */
} notice;

/* In a thread of its own: the log may lie on that file system. */
static void *write_notice(void *unused)
{
    (void)unused;
    log_append(watchdog.watch.dir, notice.text);
    atomic_store(&notice.writing, 0);
    return NULL;
}

/* Phases in which nothing but a file is waited for; elsewhere the state of the main thread tells. */
static bool is_of_files(const char *phase)
{
    return phase && (strcmp(phase, "load data") == 0 || strcmp(phase, "check data") == 0);
}

static void tell_of_files(struct watch *w, double now)
{
    enum { LONG = 12 }; /* times the timeout */
    double since = w->look.moved;
    pthread_t thread;
    if (now - since < LONG * w->timeout || notice.told == since || atomic_load(&notice.writing))
        return;
    bool outside = !w->look.x || !w->look.place.inside || is_of_files(w->look.phase);
    char state = watch_thread_state(w->main_thread);
    if (state != 'D' && !is_of_files(w->look.phase))
        return;
    notice.told = since;
    snprintf(notice.text, sizeof notice.text, "rank %u (node %s) has been waiting for a file system for %.0f s, in %s",
             w->rank, w->peers[w->rank].host, now - since, outside ? w->look.phase : "a step");
    atomic_store(&notice.writing, 1);
    if (thread_start(&thread, write_notice, NULL) != 0)
        atomic_store(&notice.writing, 0);
    else
        pthread_detach(thread);
}

static void guard_once(struct watch *w, double now)
{
    struct watch_verdict v;
    watch_lock();
    take_messages(w, now);
    watch_look_at(&w->look, atomic_load(&watchdog.phase), now);
    watch_look_in_vain(w, now);
    tell_of_files(w, now);
    if (w->inquiry.active) {
        if (watch_inquiry_step(w, now, &v)) {
            if (v.guilty) {
                process_ways.log = process_ways.log ? log_places : NULL;
                process_end(ST_HANG, v.text, world_abort);
            }
            watch_inquiry_end(&w->inquiry);
            w->asked = now;
        }
    } else if (now - w->asked > w->timeout) {
        if (watchdog.expects && now - w->heard > w->timeout)
            watch_inquire(w, now, (w->rank + w->ranks - 1) % w->ranks);
        else if (is_overdue(w, now))
            watch_inquire(w, now, w->rank);
    }
    watch_unlock();
}

static void *guard(void *arg)
{
    struct watch *w = arg;
    const double tick = fmin(0.1, w->timeout / 20), beat = fmin(0.5, w->timeout / 8);
    double last = clock_now(), beaten = 0;
    bool stopping = false;
    while (!stopping || watchdog.expects) {
        double now = clock_now();
        if (now - last > tick + w->timeout / 4) { /* stopped or starved: what others did meanwhile is not known */
            watch_lock();
            w->heard = w->inquiry.begun = now;
            watch_look_forgive(&w->look, now);
            watch_unlock();
        }
        last = now;
        guard_once(w, now);
        if (!stopping && now - beaten > beat) {
            say(w, BEAT);
            beaten = now;
        }
        bool hurry = w->inquiry.active || now - w->asked < 1;
        if (stopping)
            clock_nap(0.001);
        else if (!watch_sleep(hurry ? tick / 20 : tick)) {
            stopping = true;
            say(w, BYE);
        }
    }
    return NULL;
}

/* ---- from outside ------------------------------------------------------------------------------------------------ */

void watch_phase(const char *phase)
{
    atomic_store(&watchdog.phase, phase);
}

const char *watch_phase_now(void)
{
    return atomic_load(&watchdog.phase);
}

void watch_attach(const struct exec *x)
{
    watch_lock();
    watchdog.x = x;
    watch_look_end(&watchdog.watch.look);
    watch_look_begin(&watchdog.watch.look, x, true);
    watch_look_at(&watchdog.watch.look, watch_phase_now(), clock_now());
    watch_record_attach(x);
    watch_unlock();
}

const char *watch_note(void)
{
    if (watchdog.guarding)
        return NULL;
    return watchdog.watch.timeout > 0 ? "no watchdog: this MPI has no MPI_THREAD_MULTIPLE"
                                      : "no watchdog: --hang-timeout 0";
}

void watch_where(char *text, size_t size)
{
    size_t n = (size_t)snprintf(text, size, "rank %u", world_rank());
    if (n >= size || pthread_mutex_trylock(&watchdog.lock) != 0)
        return;
    uint32_t streams = watchdog.x ? exec_streams(watchdog.x) : 1, first[streams];
    struct exec_place p = { 0 };
    if (watchdog.x)
        p = exec_look(watchdog.x, first);
    if (p.inside && p.at < exec_list_length(watchdog.x, p.list)) {
        struct exec_instruction what;
        exec_describe(watchdog.x, p.list, p.at, &what);
        snprintf(text + n, size - n, ", step %llu, %s", (unsigned long long)p.step, what.name);
    } else if (watch_phase_now()) {
        snprintf(text + n, size - n, ", %s", watch_phase_now());
    }
    watch_unlock();
}

enum status watch_open(const struct watch_setup *setup, struct err *e)
{
    struct watch *w = &watchdog.watch;
    *w = (struct watch){ .dir = setup->dir, .timeout = setup->timeout, .rank = world_rank(), .ranks = world_size() };
    w->main_thread = gettid();
    w->peers = mem_alloc(w->ranks * sizeof *w->peers);
    liveness_peers(w->peers);
    watch_record_begin(&w->peers[w->rank]);
    pthread_condattr_t monotonic;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&watchdog.bell, &monotonic);
    pthread_condattr_destroy(&monotonic);
    atomic_store(&watchdog.stop, 0);
    if (w->timeout <= 0)
        return ST_OK;
    w->line = liveness_open();
    if (!w->line && w->ranks > 1)
        return ST_OK;
    watchdog.expects = w->ranks > 1;
    w->heard = clock_now();
    watch_look_at(&w->look, watch_phase_now(), w->heard);
    int code = thread_start(&watchdog.guard, guard, w);
    watchdog.guarding = code == 0;
    watch_beside_end(); /* from here on the guard does it */
    enum status st = code ? err_set(e, ST_DEVICE, "watchdog", "rank %u cannot start its thread: %s", w->rank,
                                    strerror(code))
                          : ST_OK;
    return world_agree(st, e);
}

enum status watch_record(struct err *e)
{
    TRY(watch_record_open(watchdog.watch.dir, e));
    int code = thread_start(&watchdog.recorder, watch_recorder, NULL);
    watchdog.recording = code == 0;
    return code ? err_set(e, ST_DEVICE, "watchdog", "the recorder of rank %u cannot start: %s", world_rank(),
                          strerror(code))
                : ST_OK;
}

void watch_close(void)
{
    watch_phase("end");
    watch_attach(NULL);
    world_barrier(); /* the watch goes on until all are here */
    pthread_mutex_lock(&watchdog.bell_lock);
    atomic_store(&watchdog.stop, 1);
    pthread_cond_broadcast(&watchdog.bell);
    pthread_mutex_unlock(&watchdog.bell_lock);
    if (watchdog.guarding)
        pthread_join(watchdog.guard, NULL);
    if (watchdog.recording)
        pthread_join(watchdog.recorder, NULL);
    watchdog.guarding = watchdog.recording = false;
    watch_record_close();
    liveness_close(watchdog.watch.line);
    if (watchdog.watch.inquiry.active)
        watch_inquiry_end(&watchdog.watch.inquiry);
    watch_look_end(&watchdog.watch.look);
    mem_free(watchdog.watch.peers);
    watch_beside_begin(watchdog.watch.timeout);
    pthread_cond_destroy(&watchdog.bell);
    watchdog.watch = (struct watch){ 0 };
}
