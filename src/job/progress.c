#include "job/progress.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <time.h>

#include "base/clock.h"
#include "base/thread.h"

static const double silence = 2, between = 0.5; /* seconds */

static struct {
    pthread_t thread;
    bool has_thread;
    pthread_mutex_t lock;
    pthread_cond_t end;
    bool ended;
    double began;
    const char *_Atomic what;
} progress = { .lock = PTHREAD_MUTEX_INITIALIZER };

/* False: it has ended. */
static bool nap(double seconds)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    const double end = (double)until.tv_nsec * 1e-9 + seconds;
    until.tv_sec += (time_t)end;
    until.tv_nsec = (long)((end - (double)(time_t)end) * 1e9);
    pthread_mutex_lock(&progress.lock);
    int code = 0;
    while (!progress.ended && code == 0)
        code = pthread_cond_timedwait(&progress.end, &progress.lock, &until);
    const bool ended = progress.ended;
    pthread_mutex_unlock(&progress.lock);
    return !ended;
}

static void *watch(void *unused)
{
    const char *said = NULL;
    for (bool on = nap(silence); on; on = nap(between)) {
        const char *what = atomic_load(&progress.what);
        if (what != said)
            fprintf(stderr, "compiling for %.0f s: %s\n", clock_now() - progress.began, what);
        said = what;
    }
    return unused;
}

void progress_begin(const char *what)
{
    atomic_store(&progress.what, what);
    progress.began = clock_now();
    progress.ended = false;
    pthread_cond_init(&progress.end, NULL);
    progress.has_thread = thread_start(&progress.thread, watch, NULL) == 0;
}

void progress_say(const char *what)
{
    atomic_store(&progress.what, what);
}

void progress_end(void)
{
    pthread_mutex_lock(&progress.lock);
    progress.ended = true;
    pthread_cond_signal(&progress.end);
    pthread_mutex_unlock(&progress.lock);
    if (progress.has_thread)
        pthread_join(progress.thread, NULL);
    pthread_cond_destroy(&progress.end);
}
