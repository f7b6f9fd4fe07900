#ifndef PIPER_BASE_THREAD_H
#define PIPER_BASE_THREAD_H

#include <pthread.h>
#include <signal.h>

/* A thread that no signal interrupts: they are the main thread's. 0, or an error number. */
static inline int thread_start(pthread_t *thread, void *(*run)(void *), void *arg)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int code = pthread_create(thread, NULL, run, arg);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return code;
}

#endif
