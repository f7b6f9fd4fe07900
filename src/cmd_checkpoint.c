/* piper checkpoint: what is in a run folder, is it whole, what differs, and weights from and to safetensors. */
#include <stdio.h>
#include <sys/stat.h>

#include "base/json.h"
#include "command.h"
#include "compile_job.h"
#include "io/checkpoint.h"
#include "options.h"

struct checkpoint_options {
    struct option_list operands; /* the verb first */
};

/* ---- list, verify, diff --------------------------------------------------------------------------------------- */

static enum status list(const struct checkpoint_options *o, struct err *e)
{
    struct checkpoint_entries entries = { 0 };
    TRY(checkpoint_list(o->operands.at[1], &entries, e));
    for (uint32_t i = 0; i < entries.n; i++) {
        struct stat s;
        char size[32] = "?";
        if (stat(entries.at[i].path, &s) == 0)
            compile_bytes((double)s.st_size, size);
        printf("step %-10llu %10s  %s\n", (unsigned long long)entries.at[i].step, size, entries.at[i].path);
    }
    if (!entries.n)
        printf("%s: no checkpoints\n", o->operands.at[1]);
    checkpoint_entries_release(&entries);
    return ST_OK;
}

static enum status verify_file(const char *path, struct err *e)
{
    struct checkpoint_info info;
    TRY(checkpoint_verify(path, &info, e));
    printf("%s: good: step %llu, sample %llu, optimizer %s, written %s by %s\n", path, (unsigned long long)info.step,
           (unsigned long long)info.sample, info.optimizer, info.time, info.build);
    return ST_OK;
}

/* All are looked at; the first that is bad is the answer. */
static enum status verify(const struct checkpoint_options *o, struct err *e)
{
    enum status st = ST_OK;
    for (uint32_t i = 1; i < o->operands.n; i++) {
        struct err one = { 0 };
        if (verify_file(o->operands.at[i], &one) == ST_OK)
            continue;
        printf("%s: BAD\n", o->operands.at[i]);
        if (st == ST_OK) {
            *e = one;
            st = one.status;
        }
    }
    return st;
}

static enum status diff(const struct checkpoint_options *o, struct err *e)
{
    struct checkpoint_differences d = { 0 };
    TRY(checkpoint_diff(o->operands.at[1], o->operands.at[2], &d, e));
    for (uint32_t i = 0; i < d.n; i++)
        printf("%s: %llu of %llu elements differ, by %.9g at most\n", d.at[i].name, (unsigned long long)d.at[i].differ,
               (unsigned long long)d.at[i].elements, d.at[i].most);
    uint32_t n = d.n;
    checkpoint_differences_release(&d);
    if (n)
        return err_set(e, ST_INPUT, NULL, "%s and %s differ in %u %s", o->operands.at[1], o->operands.at[2], n,
                       n == 1 ? "tensor" : "tensors");
    printf("equal to the bit\n");
    return ST_OK;
}

/* ---- the command ---------------------------------------------------------------------------------------------- */

static const struct verb {
    const char *name;
    enum status (*run)(const struct checkpoint_options *o, struct err *e);
    uint32_t least, most; /* operands */
    const char *operands;
} verbs[] = {
    { "list", list, 1, 1, "RUNDIR" },
    { "verify", verify, 1, UINT32_MAX - 1, "FILE..." },
    { "diff", diff, 2, 2, "FILE FILE" },
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static enum status run(const struct checkpoint_options *o, struct err *e)
{
    const char *words[N_VERBS + 1] = { NULL }, *name = o->operands.at[0];
    uint32_t n = o->operands.n - 1;
    for (size_t i = 0; i < N_VERBS; i++) {
        const struct verb *v = &verbs[i];
        words[i] = v->name;
        if (strcmp(name, v->name) != 0)
            continue;
        if (n < v->least || n > v->most)
            return err_set(e, ST_USAGE, "checkpoint", "%s: found %u operands, expected %s", name, n, v->operands);
        return v->run(o, e);
    }
    const char *near = nearest_word(name, words);
    return err_set(e, ST_USAGE, "checkpoint",
                   "there is no \"%s\"%s%s%s (`piper checkpoint --help` lists what there is)", name,
                   near ? ", did you mean " : "", near ? near : "", near ? "?" : "");
}

static enum status checkpoint_command(int argc, char **argv, struct err *e)
{
    struct checkpoint_options o = { 0 };
    const struct option options[] = { { .name = NULL } };
    const struct option_usage usage = {
        .command = "checkpoint",
        .synopsis = "list RUNDIR | verify FILE... | diff FILE FILE",
        .about = "list:   the checkpoints of a run folder\n"
                 "verify: is every block of the files what was written?\n"
                 "diff:   in which tensors do two checkpoints differ? Exit status 65 when they do",
        .options = options,
        .min_operands = 1,
        .max_operands = UINT32_MAX,
    };
    bool help;
    enum status st = options_parse(&usage, argc, argv, &o.operands, &help, e);
    if (st == ST_OK && !help)
        st = run(&o, e);
    vec_free(&o.operands);
    return st;
}

const struct command command_checkpoint = { "checkpoint", "list, verify and compare checkpoints", checkpoint_command };
