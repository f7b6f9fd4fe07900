/* piper checkpoint: what is in a run folder, is it whole, what differs, and weights from and to safetensors. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/version.h"
#include "command.h"
#include "compile_job.h"
#include "folder.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/safetensors.h"
#include "options.h"

struct checkpoint_options {
    const char *out;
    struct option_list operands; /* the verb first */
};

/* ---- list, verify, diff --------------------------------------------------------------------------------------- */

/* What the name does not say. A file that cannot be read is for `verify`. */
static void list_more(const char *path)
{
    struct checkpoint_info info;
    struct err ignored = { 0 };
    if (checkpoint_look(path, &info, &ignored) != ST_OK)
        return;
    if (checkpoint_has_moments(&info) && info.updates != info.step)
        printf("  %llu updates", (unsigned long long)info.updates);
    for (uint32_t i = 0; i < info.data.n; i++)
        printf("%s%s", i ? ", " : "  data ", info.data.at[i].name);
}

static enum status list(const struct checkpoint_options *o, struct err *e)
{
    struct checkpoint_entries entries = { 0 };
    struct stat dir;
    if (stat(o->operands.at[1], &dir) != 0 || !S_ISDIR(dir.st_mode))
        return err_set(e, ST_MISSING, o->operands.at[1], "there is no such folder, expected a run folder");
    TRY(checkpoint_list(o->operands.at[1], &entries, e));
    for (uint32_t i = 0; i < entries.n; i++) {
        struct stat s;
        char size[32] = "?";
        if (stat(entries.at[i].path, &s) == 0)
            compile_bytes((double)s.st_size, size);
        printf("step %-10llu %10s  %s", (unsigned long long)entries.at[i].step, size, entries.at[i].path);
        list_more(entries.at[i].path);
        printf("\n");
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
    printf("%s: good: step %llu, %llu updates, sample %llu, optimizer %s, written %s by %s\n", path,
           (unsigned long long)info.step, (unsigned long long)info.updates, (unsigned long long)info.sample,
           info.optimizer, info.time, info.build);
    if (*info.beyond)
        printf("%s: %s is beyond this build and was not looked at\n", path, info.beyond);
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

/* ---- weights from and to safetensors -------------------------------------------------------------------------- */

static enum status need_output(const struct checkpoint_options *o, const char *what, struct err *e)
{
    return o->out ? ST_OK : err_set(e, ST_USAGE, "checkpoint", "-o %s is missing", what);
}

/* A run folder with weights and nothing else: piper train begins with them. */
static enum status import_to(const char *dir, const char *from, const struct job *j, struct err *e)
{
    char path[PATH_MAX];
    struct checkpoint_entries there = { 0 };
    TRY(checkpoint_list(dir, &there, e));
    uint32_t n = there.n;
    checkpoint_entries_release(&there);
    if (n)
        return err_set(e, ST_INPUT, dir,
                       "found %u %s, expected a run folder without any: training would go on from them", n,
                       n == 1 ? "checkpoint" : "checkpoints");
    struct stat s;
    bool made = stat(dir, &s) != 0;
    snprintf(path, sizeof path, "%s/checkpoints", dir);
    TRY(folder_make(path, e));
    snprintf(path, sizeof path, "%s/checkpoints/step-%06d.h5", dir, 0);
    struct checkpoint_info info = { .seed = j->train.seed, .optimizer = "none" };
    memcpy(info.job_digest, j->digest, sizeof info.job_digest);
    memcpy(info.model_digest, j->model_digest, sizeof info.model_digest);
    snprintf(info.build, sizeof info.build, "piper %s (%s)", piper_version, piper_commit);
    enum status st = safetensors_import(from, &j->graph, &info, path, e);
    if (st != ST_OK) { /* what was made for it goes; folders that were there are not empty or were empty before */
        *strrchr(path, '/') = '\0';
        rmdir(path);
        if (made)
            rmdir(dir);
        return st;
    }
    printf("%s: %llu parameters from %s\n", path, (unsigned long long)ir_graph_param_count(&j->graph), from);
    return ST_OK;
}

static enum status import(const struct checkpoint_options *o, struct err *e)
{
    struct job j;
    TRY(need_output(o, "RUNDIR", e));
    TRY(job_read(o->operands.at[1], &j, e));
    enum status st = import_to(o->out, o->operands.at[2], &j, e);
    job_release(&j);
    return st;
}

/* A checkpoint, or the newest of a run folder. */
static enum status export(const struct checkpoint_options *o, struct err *e) {
    const char *from = o->operands.at[1]; struct stat s; struct checkpoint_entries entries = { 0 };
    TRY(need_output(o, "model.safetensors", e)); if (stat(from, &s) == 0 && S_ISDIR(s.st_mode)){
        TRY(checkpoint_list(from, &entries, e));
        if (!entries.n) return err_set(e, ST_MISSING, from,
                                       "found no checkpoints, expected a run folder or a checkpoint");
        from = entries.at[entries.n - 1].path; }
enum status st = file_differs(o->out, from, e);
if (st == ST_OK)
    st = safetensors_export(from, o->out, e);
if (st == ST_OK)
    printf("%s: the parameters of %s\n", o->out, from);
checkpoint_entries_release(&entries);
return st;
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
    { "import", import, 2, 2, "job.h5 SAFETENSORS" },
    { "export", export, 1, 1, "RUNDIR or FILE" },
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
    const struct option options[] = {
        { .name = "output",
          .letter = 'o',
          .kind = OPTION_TEXT,
          .to = &o.out,
          .value = "PATH",
          .help = "import: the run folder; export: the safetensors file" },
        { .name = NULL },
    };
    const struct option_usage usage = {
        .command = "checkpoint",
        .synopsis = "list RUNDIR | verify FILE... | diff FILE FILE |\n"
                    "                        import job.h5 SAFETENSORS -o RUNDIR | export RUNDIR|FILE -o FILE",
        .about = "list:   the checkpoints of a run folder\n"
                 "verify: is every block of the files what was written?\n"
                 "diff:   in which tensors do two checkpoints differ? Exit status 65 when they do\n"
                 "import: weights of a safetensors file, or a folder of them, as the start of a run\n"
                 "export: the weights of a checkpoint as one safetensors file, with Hugging Face's names",
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

const struct command command_checkpoint = { "checkpoint", "list, verify, compare; weights from and to safetensors",
                                            checkpoint_command };
