#include "signals.h"

#include <signal.h>
#include <stddef.h>

static volatile sig_atomic_t stop, save;

static void on_signal(int number)
{
    if (number == SIGUSR2)
        save = 1;
    else
        stop = 1;
}

void signals_install(void)
{
    struct sigaction action = { .sa_handler = on_signal, .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    sigaction(SIGUSR1, &action, NULL);
    sigaction(SIGUSR2, &action, NULL);
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files (ulimit -f) is an error of the write, which is answered */
    action.sa_flags |= (int)SA_RESETHAND; /* the second TERM finds the system's own handling */
    sigaction(SIGTERM, &action, NULL);
}

bool signals_stop(void)
{
    return stop != 0;
}

bool signals_save(void)
{
    bool asked = save != 0;
    save = 0;
    return asked;
}
