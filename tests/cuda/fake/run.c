/* Pieces of work, and who runs next. */
#include "fake.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct fake_piece {
    struct fake_work work;
    uint32_t references, before; /* before: pieces that must be done first */
    bool done;
    struct fake_pieces after; /* pieces that wait for this one */
};

static struct fake_pieces ready; /* nothing is before them, in the order in which that came to be */
static uint64_t unfinished, state;
static pthread_mutex_t lock;
static pthread_t opener; /* the thread that came first */

static void make_lock(void)
{
    pthread_mutexattr_t a;
    pthread_mutexattr_init(&a);
    pthread_mutexattr_settype(&a, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&lock, &a);
    pthread_mutexattr_destroy(&a);
    opener = pthread_self();
}

int *fake_lock(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, make_lock);
    pthread_mutex_lock(&lock);
    return NULL;
}

void fake_unlock(int **unused)
{
    (void)unused;
    pthread_mutex_unlock(&lock);
}

uint64_t fake_setting(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text ? (uint64_t)strtoll(text, NULL, 10) : otherwise;
}

/* xorshift64 (Marsaglia 2003) */
static uint64_t next_random(void)
{
    if (!state)
        state = fake_setting("FAKE_CUDA_SEED", 1) * UINT64_C(0x9e3779b97f4a7c15) + 1;
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return state;
}

struct fake_piece *fake_piece_hold(struct fake_piece *p)
{
    if (p)
        p->references++;
    return p;
}

void fake_piece_drop(struct fake_piece *p)
{
    if (!p || --p->references)
        return;
    mem_free(p->work.arg);
    vec_free(&p->after);
    mem_free(p);
}

struct fake_piece *fake_piece_new(const struct fake_work *work, struct fake_piece *const *after, uint32_t n)
{
    struct fake_piece *p = mem_alloc(sizeof *p);
    p->work = *work;
    p->work.arg = memcpy(mem_alloc(work->bytes), work->bytes ? work->arg : "", work->bytes);
    p->references = 2; /* the caller's, and until it is done */
    for (uint32_t i = 0; i < n; i++)
        if (after[i] && !after[i]->done) {
            vec_add(&after[i]->after, p);
            p->before++;
        }
    unfinished++;
    if (!p->before)
        vec_add(&ready, p);
    return p;
}

static void run_piece(uint32_t at)
{
    struct fake_piece *p = ready.at[at];
    memmove(&ready.at[at], &ready.at[at + 1], (ready.n - at - 1) * sizeof *ready.at);
    ready.n--;
    if (p->work.run)
        p->work.run(p->work.arg);
    p->done = true;
    unfinished--;
    for (uint32_t i = 0; i < p->after.n; i++)
        if (--p->after.at[i]->before == 0)
            vec_add(&ready, p->after.at[i]);
    fake_piece_drop(p);
}

/* Is this wait for an event left out? */
bool fake_is_deaf(void)
{
    uint64_t n = fake_setting("FAKE_CUDA_DEAF", 0);
    return n && next_random() % n == 0;
}

/* From a random place among the ready ones, mostly the newest, downwards: the first that may run. */
static bool run_one(void)
{
    uint64_t r = next_random();
    bool newest = r % 4 || !fake_setting("FAKE_CUDA_SEED", 1);
    for (uint32_t i = 0; i < ready.n; i++) {
        uint32_t first = newest ? ready.n - 1 : (uint32_t)(r / 4 % ready.n), at = (first + ready.n - i) % ready.n;
        const struct fake_work *w = &ready.at[at]->work;
        if (w->may_run && !w->may_run(w->arg))
            continue;
        run_piece(at);
        return true;
    }
    return false;
}

void fake_run_until(const struct fake_piece *p)
{
    uint64_t idle = 0;
    while (p ? !p->done : unfinished > 0) {
        if (run_one()) {
            idle = 0;
            continue;
        }
        CHECK(ready.n); /* else pieces wait for each other */
        usleep(50);     /* another thread will write the word that a piece waits for */
        CHECK(++idle < (fake_setting("FAKE_CUDA_DEAF", 0) ? 20000 : 2000000)); /* or it never will */
    }
}

bool fake_is_other_thread(void)
{
    FAKE_LOCKED;
    return !pthread_equal(opener, pthread_self());
}

void fake_leave_to_others(const struct fake_piece *p)
{
    for (int i = 0; i < 100 && !pthread_equal(opener, pthread_self()); i++) {
        {
            FAKE_LOCKED;
            if (p->done)
                return;
        }
        usleep(1000);
    }
}
