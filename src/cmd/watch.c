/* piper watch: a run, live, from any host that sees its folder. */
#include <errno.h>
#include <inttypes.h>
#include <langinfo.h>
#include <locale.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <termios.h>
#include <time.h>
#include <unistd.h>

#include "cmd/command.h"
#include "cmd/options.h"
#include "cmd/run_state.h"
#include "view/live.h"

struct watch_options {
    struct option_common common;
    uint64_t interval;
    bool once;
};

/* ---- what the folder says ------------------------------------------------------------------------------------------- */

/* Seconds since a file changed; < 0: not known. */
static double age(const struct dir *d, const char *name)
{
    struct dir_identity id;
    struct timespec now;
    if (!dir_identify(d, name, &id))
        return -1;
    clock_gettime(CLOCK_REALTIME, &now);
    return (double)(now.tv_sec - id.seconds) + 1e-9 * (double)(now.tv_nsec - id.nanoseconds);
}

static void find_checkpoint(const struct dir *run, struct live *l)
{
    struct dir in = { .fd = -1 };
    struct dir_names names = { 0 };
    struct err ignored = { 0 };
    l->checkpoint = UINT64_MAX;
    if (dir_enter(run, "checkpoints", DIR_LINK, &in, &ignored) == ST_OK && dir_list(&in, &names, &ignored) == ST_OK)
        for (uint32_t i = 0; i < names.n; i++) {
            uint64_t step;
            int end = 0;
            if (sscanf(names.at[i], "step-%" SCNu64 ".h5%n", &step, &end) == 1 && end && !names.at[i][end] &&
                (l->checkpoint == UINT64_MAX || step > l->checkpoint)) {
                l->checkpoint = step;
                l->checkpoint_age = age(&in, names.at[i]);
            }
        }
    dir_names_release(&names);
    dir_close(&in);
}

static enum status look(struct dir *run, struct live *l, struct err *e)
{
    struct run_state state;
    struct err gone = { 0 };
    if (dir_is_removed(run) && dir_reopen(run, &gone) != ST_OK) {
        snprintf(l->state, sizeof l->state, "the directory was removed");
        l->running = false;
        l->failed = true;
        return ST_OK;
    }
    TRY(live_read(l, e));
    const uint32_t rows = run_metrics_rows(&l->metrics);
    const double step = rows ? run_metrics_cell(&l->metrics, rows - 1, run_metrics_find(&l->metrics, "step")) : 0;
    TRY(run_state_of(run, l->n_lines > 0, l->steps && step >= (double)l->steps, &state, e));
    find_checkpoint(run, l);
    l->silent = age(run, "metrics.csv");
    l->running = state.running;
    l->failed = state.killed;
    snprintf(l->state, sizeof l->state, "%s", state.text);
    return ST_OK;
}

/* ---- the terminal --------------------------------------------------------------------------------------------------- */

static volatile sig_atomic_t ending;
static struct termios before;
static bool cooked; /* `before` is what the terminal was */

/* SIGWINCH only ends the wait for a key: the next screen has the new size. */
static void on_signal(int signal)
{
    if (signal != SIGWINCH)
        ending = signal;
}

static void write_all(const char *text, size_t n)
{
    while (n) {
        const ssize_t done = write(STDOUT_FILENO, text, n);
        if (done < 0 && errno == EINTR)
            continue;
        if (done <= 0) {
            ending = SIGPIPE;
            return;
        }
        text += done;
        n -= (size_t)done;
    }
}

/* Another screen, so that what stood there comes back; no cursor; keys come at once and are not shown. */
static void take_terminal(void)
{
    static const char text[] = "\033[?1049h\033[?25l\033[2J";
    struct sigaction act = { .sa_handler = on_signal };
    const int signals[] = { SIGWINCH, SIGINT, SIGTERM, SIGHUP, SIGPIPE };
    for (size_t i = 0; i < sizeof signals / sizeof *signals; i++)
        sigaction(signals[i], &act, NULL);
    cooked = tcgetattr(STDIN_FILENO, &before) == 0;
    if (cooked) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        tcsetattr(STDIN_FILENO, TCSANOW, &raw);
    }
    write_all(text, sizeof text - 1);
}

static void give_terminal_back(void)
{
    static const char text[] = "\033[?25h\033[?1049l";
    write_all(text, sizeof text - 1);
    if (cooked)
        tcsetattr(STDIN_FILENO, TCSANOW, &before);
}

static struct live_screen screen_of(bool terminal)
{
    struct winsize size = { 0 };
    const char *kind = getenv("TERM");
    struct live_screen s = { .columns = 80, .braille = strcmp(nl_langinfo(CODESET), "UTF-8") == 0 };
    if (!terminal)
        return s;
    s.rows = 24;
    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col && size.ws_row) {
        s.columns = size.ws_col;
        s.rows = size.ws_row;
    }
    s.colour = !getenv("NO_COLOR") && kind && strcmp(kind, "dumb") != 0;
    return s;
}

/* One write, so that nothing flickers: each line over the one that stood there. */
static void show(const struct live *l)
{
    struct live_screen s = screen_of(true);
    char *text = NULL;
    size_t n = 0;
    FILE *to = open_memstream(&text, &n);
    if (!to)
        return;
    s.rows -= s.rows > 1; /* the cursor's */
    fputs("\033[H", to);
    live_draw(l, &s, "\033[K\r\n", to);
    fputs("\033[J", to);
    fclose(to);
    write_all(text, n);
    free(text);
}

/* Until a key, a signal, or so many seconds. False: the user wants to leave. */
static bool wait_for_key(uint64_t seconds)
{
    enum { LONGEST = 86400 };
    const int ms = 1000 * (int)(seconds < LONGEST ? seconds : LONGEST);
    struct pollfd keys = { .fd = STDIN_FILENO, .events = POLLIN };
    char key = 0;
    if (poll(&keys, 1, ms) > 0 && read(STDIN_FILENO, &key, 1) <= 0)
        poll(NULL, 0, ms); /* no keyboard: only time passes */
    return key != 'q' && key != 'Q' && !ending;
}

static enum status show_live(struct dir *run, struct live *l, uint64_t seconds, struct err *e)
{
    enum status st;
    take_terminal();
    do {
        st = look(run, l, e);
        if (st == ST_OK)
            show(l);
    } while (st == ST_OK && wait_for_key(seconds));
    give_terminal_back();
    return st;
}

static enum status watch(const struct watch_options *o, struct err *e)
{
    struct dir run = { .fd = -1 };
    struct live live;
    const bool terminal = isatty(STDOUT_FILENO) && !o->once;
    TRY(dir_open(o->common.operands.at[0], &run, e));
    setlocale(LC_CTYPE, "");
    live_open(&live, &run);
    snprintf(live.name, sizeof live.name, "%.200s", o->common.operands.at[0]);
    text_printable(live.name);
    enum status st;
    if (terminal) {
        st = show_live(&run, &live, o->interval, e);
    } else {
        st = look(&run, &live, e);
        const struct live_screen s = screen_of(false);
        if (st == ST_OK)
            live_draw(&live, &s, "\n", stdout);
    }
    live_release(&live);
    dir_close(&run);
    return st;
}

#define AT(member) offsetof(struct watch_options, member)
static const struct option options[] = {
    NUMBER("interval", 0, AT(interval), "S", 1, "look again every S seconds (1)"),
    FLAG("once", 0, AT(once), "print the state once and end"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "watch",
    .synopsis = "RUNDIR [--interval S] [--once]",
    .about = "Shows a run as it goes: step, curve of the loss, speed, time left, checkpoints, last lines of its log. q "
             "ends it.",
    .options = options,
    .min_operands = 1,
    .max_operands = 1,
};

static enum status watch_command(int argc, char **argv, struct err *e)
{
    struct watch_options o = { .interval = 1 };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = watch(&o, e);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_watch = { "watch", "show a run as it goes", watch_command };
