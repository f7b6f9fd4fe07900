/* The HDF5 library trusts metadata whose checksums are right. A file that was made to harm can have right checksums and make the
 * library crash; that must end as any bad input does, with the file's name and exit code 65. While a file is open for
 * reading, a fatal signal in the reading thread is answered so. Nothing can be saved at that point: the library's memory may
 * be torn. Damage by accident does not get here: checksums find it. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "io/h5_private.h"

static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT };
enum { N_FATAL = sizeof fatal / sizeof *fatal, STACK = 1 << 16 };

static struct {
    unsigned depth; /* files open for reading */
    pthread_t thread;
    char text[700];
    struct sigaction before[N_FATAL];
} guard;

static void answer(int signal_number)
{
    if (guard.depth && pthread_equal(pthread_self(), guard.thread)) {
        size_t n = strlen(guard.text);
        while (n && write(STDERR_FILENO, guard.text, n) < 0)
            n = 0;
        _exit(-ST_INPUT);
    }
    signal(signal_number, SIG_DFL);
    raise(signal_number);
}

void h5__guard(const char *path)
{
    snprintf(guard.text, sizeof guard.text,
             "piper: %.500s: the HDF5 library crashed while reading it: the file is damaged or malicious. Use another "
             "copy\n",
             path);
    guard.thread = pthread_self();
    if (guard.depth++)
        return;
    static _Alignas(16) unsigned char memory[STACK]; /* a stack that overflows cannot carry its own signal */
    const stack_t stack = { .ss_sp = memory, .ss_size = sizeof memory };
    sigaltstack(&stack, NULL);
    struct sigaction action = { .sa_handler = answer, .sa_flags = SA_ONSTACK };
    for (int i = 0; i < N_FATAL; i++)
        sigaction(fatal[i], &action, &guard.before[i]);
}

void h5__unguard(void)
{
    if (!guard.depth || --guard.depth)
        return;
    for (int i = 0; i < N_FATAL; i++)
        sigaction(fatal[i], &guard.before[i], NULL);
    const stack_t none = { .ss_flags = SS_DISABLE };
    sigaltstack(&none, NULL);
}
