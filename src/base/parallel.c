#include "base/parallel.h"

#include <sched.h>
#include <stdatomic.h>

#include "base/thread.h"

enum { MOST = 64 };

struct pieces {
    uint32_t n;
    void (*work)(void *of, uint32_t i, uint32_t thread);
    void *of;
    atomic_uint_fast32_t next;
};
struct worker {
    struct pieces *pieces;
    uint32_t number;
    pthread_t thread;
};

uint32_t parallel_threads(uint32_t n)
{
    cpu_set_t cores;
    uint32_t have = sched_getaffinity(0, sizeof cores, &cores) == 0 ? (uint32_t)CPU_COUNT(&cores) : 1;
    have = have < MOST ? have : MOST;
    return n < have ? n : have;
}

static void *run(void *arg)
{
    const struct worker *w = arg;
    struct pieces *p = w->pieces;
    for (;;) {
        uint_fast32_t i = atomic_fetch_add(&p->next, 1);
        if (i >= p->n)
            return NULL;
        p->work(p->of, (uint32_t)i, w->number);
    }
}

void parallel_each(uint32_t n, void (*work)(void *of, uint32_t i, uint32_t thread), void *of)
{
    struct pieces p = { .n = n, .work = work, .of = of };
    struct worker workers[MOST];
    uint32_t threads = parallel_threads(n), started = 1;
    atomic_init(&p.next, 0);
    workers[0] = (struct worker){ .pieces = &p };
    for (; started < threads; started++) { /* those that the system does not give are done without */
        workers[started] = (struct worker){ .pieces = &p, .number = started };
        if (thread_start(&workers[started].thread, run, &workers[started]) != 0)
            break;
    }
    run(&workers[0]);
    for (uint32_t i = 1; i < started; i++)
        pthread_join(workers[i].thread, NULL);
}
