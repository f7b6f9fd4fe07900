#include "rundir/signals.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

enum how {
    ENDS,     /* stop, and a later second one ends the process */
    IF_ASKED, /* the same, unless it is ignored */
    STOPS,
    SAVES,
};
static const struct {
    int number;
    enum how how;
    const char *farewell; /* of ENDS and IF_ASKED */
} signals[] = {
    { SIGTERM, ENDS, "piper: TERM again: ending at once\n" },
    { SIGINT, IF_ASKED, "piper: INT again: ending at once\n" },
    { SIGHUP, IF_ASKED, "piper: HUP again: ending at once\n" },
    { SIGUSR1, STOPS, NULL },
    { SIGUSR2, SAVES, NULL },
};
enum { N_SIGNALS = sizeof signals / sizeof *signals };

static volatile sig_atomic_t stop, save;
static int64_t
    first_ms; /* of those that end; 0: none yet. Handlers alone use it, and they do not interrupt each other */

static void on_signal(int number)
{
    stop = 1;
    (void)number;
}

static void on_save(int number)
{
    save = 1;
    (void)number;
}

/* timeout(1) signals the process and then its group, a terminal's end comes with more than one signal, batch systems signal a
 * process and its launcher, which passes it on: those are one wish. */
static void on_end(int number)
{
    enum { ONE_WISH_MS = 1000 };
    int saved = errno;
    stop = 1;
    int64_t now = (int64_t)(1e3 * clock_now());
    if (!first_ms)
        first_ms = now;
    if (now - first_ms > ONE_WISH_MS) {
        for (int i = 0; i < N_SIGNALS; i++)
            if (signals[i].number == number &&
                write(STDERR_FILENO, signals[i].farewell, strlen(signals[i].farewell)) < 0)
                break; /* nobody to tell */
        signal(number, SIG_DFL);
        raise(number); /* when this returns */
    }
    errno = saved;
}

static bool is_ignored(int number)
{
    struct sigaction now;
    return sigaction(number, NULL, &now) == 0 && now.sa_handler == SIG_IGN;
}

void signals_install(void)
{
    static void (*const handlers[])(
        int) = { [ENDS] = on_end, [IF_ASKED] = on_end, [STOPS] = on_signal, [SAVES] = on_save };
    struct sigaction action = { .sa_flags = SA_RESTART };
    sigemptyset(&action.sa_mask);
    for (int i = 0; i < N_SIGNALS; i++)
        sigaddset(&action.sa_mask, signals[i].number);
    for (int i = 0; i < N_SIGNALS; i++) {
        action.sa_handler = handlers[signals[i].how];
        if (signals[i].how != IF_ASKED || !is_ignored(signals[i].number))
            sigaction(signals[i].number, &action, NULL);
    }
    signal(SIGXFSZ, SIG_IGN); /* a limit on the size of files (ulimit -f) is an error of the write, which is answered */
    signal(SIGPIPE, SIG_IGN); /* so is a reader that has left */
    sigprocmask(SIG_UNBLOCK, &action.sa_mask, NULL);
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
