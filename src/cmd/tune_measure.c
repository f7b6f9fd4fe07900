/* piper tune --measure: the best strategies, trained here for a few steps each, one after the other. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/dir.h"
#include "cmd/calibrate.h"
#include "cmd/tune.h"
#include "view/run_metrics.h"

enum { STEPS = 6 };

/* mpirun -n RANKS piper train ..., with MPIEXEC and MPIEXEC_FLAGS of the environment in place of mpirun. */
struct command_line {
    VEC(char *); /* owned; NULL at the end */
};

static void word(struct command_line *c, const char *text)
{
    vec_add(c, mem_strdup(text));
}

static void words(struct command_line *c, const char *text)
{
    char *copy = mem_strdup(text), *rest = NULL;
    for (char *w = strtok_r(copy, " ", &rest); w; w = strtok_r(NULL, " ", &rest))
        word(c, w);
    mem_free(copy);
}

static enum status make_line(const struct tune_found *f, const char *strategy, const char *run, struct command_line *c,
                             struct err *e)
{
    char self[4096], number[32];
    const ssize_t n = readlink("/proc/self/exe", self, sizeof self - 1);
    const char *launcher = getenv("MPIEXEC"), *flags = getenv("MPIEXEC_FLAGS");
    if (n < 0)
        return err_set(e, ST_IO, "/proc/self/exe", "cannot be read: %s", strerror(errno));
    self[n] = '\0';
    words(c, launcher && *launcher ? launcher : "mpirun");
    words(c, flags ? flags : "");
    word(c, "-n");
    snprintf(number, sizeof number, "%u", f->search->in.ranks);
    word(c, number);
    const char *const fixed[] = { self,
                                  "train",
                                  "-m",
                                  f->o->from.model,
                                  "-s",
                                  strategy,
                                  "-t",
                                  f->o->from.train,
                                  "-o",
                                  run,
                                  "--no-checkpoint",
                                  "--fresh",
                                  "--device",
                                  f->search->in.target->name,
                                  "--steps" };
    for (size_t i = 0; i < sizeof fixed / sizeof *fixed; i++)
        word(c, fixed[i]);
    snprintf(number, sizeof number, "%d", STEPS);
    word(c, number);
    for (uint32_t i = 0; i < f->o->from.set.n; i++) {
        word(c, "--set");
        word(c, f->o->from.set.at[i]);
    }
    vec_add(c, NULL);
    return ST_OK;
}

static int run(const struct command_line *c, const char *log)
{
    int status = 0;
    const pid_t child = fork();
    if (child == 0) {
        const int fd = open(log, O_WRONLY | O_CREAT | O_TRUNC, 0666);
        if (fd < 0 || dup2(fd, 1) < 0 || dup2(fd, 2) < 0)
            _exit(127);
        execvp(c->at[0], c->at);
        _exit(127);
    }
    while (child > 0 && waitpid(child, &status, 0) < 0 && errno == EINTR) {
    }
    return child < 0 ? 127 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The median step of a run but for its first. */
static enum status median_step(const char *dir, double *seconds, struct err *e)
{
    struct run_metrics m;
    struct dir d;
    double steps[STEPS];
    uint32_t n = 0;
    TRY(dir_open(dir, &d, e));
    run_metrics_open(&m, &d);
    enum status st = run_metrics_read(&m, e);
    const uint32_t column = run_metrics_find(&m, "step_seconds");
    for (uint32_t i = 1; st == ST_OK && i < run_metrics_rows(&m) && n < STEPS; i++)
        if (isfinite(run_metrics_cell(&m, i, column)))
            steps[n++] = run_metrics_cell(&m, i, column);
    run_metrics_release(&m);
    dir_close(&d);
    if (st == ST_OK && !n)
        st = err_set(e, ST_INPUT, dir,
                     "metrics.csv has no second step; train.steps of 3 or more are needed to measure");
    if (st == ST_OK)
        *seconds = calibrate_median(steps, n);
    return st;
}

static enum status measure(const struct tune_found *f, uint32_t i, const char *dir, double *seconds, struct err *e)
{
    char strategy[4096], to[4096], log[4096], name[TUNE_NAME];
    struct command_line c = { .n = 0 };
    snprintf(strategy, sizeof strategy, "%s/%s", dir, tune_file_name(i + 1, name));
    snprintf(to, sizeof to, "%s/measure-%02u", dir, i + 1);
    snprintf(log, sizeof log, "%s/measure-%02u.log", dir, i + 1);
    enum status st = make_line(f, strategy, to, &c, e);
    const int code = st == ST_OK ? run(&c, log) : 0;
    if (st == ST_OK && code)
        st = err_set(e, ST_IO, strategy,
                     code == 127 ? "%s could not be started (%d); set MPIEXEC to the launcher"
                                 : "%s train ended with exit code %d; see measure-NN.log next to it",
                     c.at[0], code);
    for (uint32_t k = 0; k < c.n; k++)
        mem_free(c.at[k]);
    vec_free(&c);
    return st == ST_OK ? median_step(to, seconds, e) : st;
}

enum status tune_measure(const struct tune_found *f, const char *dir, struct err *e)
{
    struct tune_search *s = f->search;
    const uint32_t n = s->n_order < f->o->measure ? s->n_order : (uint32_t)f->o->measure;
    for (uint32_t i = 0; i < n; i++)
        TRY(measure(f, i, dir, &s->results.at[s->order[i]].measured, e));
    for (uint32_t i = 1; i < n; i++) /* few: by insertion, equal ones as they were */
        for (uint32_t k = i; k > 0 && s->results.at[s->order[k]].measured < s->results.at[s->order[k - 1]].measured;
             k--) {
            const uint32_t other = s->order[k];
            s->order[k] = s->order[k - 1];
            s->order[k - 1] = other;
        }
    return ST_OK;
}
