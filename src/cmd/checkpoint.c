/* piper checkpoint: what is in a run folder, is it whole, what differs, and weights from and to safetensors. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/words.h"
#include "base/version.h"
#include "cmd/checkpoint.h"
#include "cmd/command.h"
#include "job/compile_job.h"
#include "rundir/folder.h"
#include "io/checkpoint.h"
#include "io/file.h"
#include "io/safetensors.h"

/* ---- list, verify, diff --------------------------------------------------------------------------------------- */

static const char checkpoints[] = "checkpoints";

/* The last component; slashes behind it are cut off. */
static char *last_name(char *path)
{
    size_t n = strlen(path);
    while (n > 1 && path[n - 1] == '/')
        path[--n] = '\0';
    char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* `path` may be the directory of its checkpoints, too. */
enum status listing_open(const char *path, struct listing *l, struct err *e)
{
    char *run = mem_strdup(path);
    char *name = last_name(run);
    if (strcmp(name, checkpoints) == 0) {
        strcpy(name, name == run ? "." : "");
        last_name(run); /* without the slash at its end */
    }
    *l = (struct listing){ .run = { .fd = -1 }, .folder = { .fd = -1 } };
    enum status st = dir_open(run, &l->run, e);
    mem_free(run);
    TRY(st);
    TRY(checkpoint_list(&l->run, &l->entries, e));
    return l->entries.n ? checkpoint_folder(&l->run, false, &l->folder, e) : ST_OK;
}

void listing_close(struct listing *l)
{
    checkpoint_entries_release(&l->entries);
    dir_close(&l->folder);
    dir_close(&l->run);
}

enum status chosen_open(const char *from, struct chosen *s, struct err *e)
{
    *s = (struct chosen){ .path = from, .is_run = dir_is_folder(from) };
    if (!s->is_run)
        return ST_OK;
    TRY(listing_open(from, &s->l, e));
    if (!s->l.entries.n)
        return err_set(e, ST_MISSING, from, "found no checkpoints, expected a run directory or a checkpoint file");
    s->path = s->l.entries.at[s->l.entries.n - 1].path;
    return ST_OK;
}

void chosen_close(struct chosen *s)
{
    if (s->is_run)
        listing_close(&s->l);
}

/* What the name does not say. A file that cannot be read is for `verify`. */
static void list_more(const struct dir *folder, const char *path)
{
    struct checkpoint_info info;
    struct err ignored = { 0 };
    if (checkpoint_look(folder, path, &info, &ignored) != ST_OK)
        return;
    if (checkpoint_moments(&info) && info.updates != info.step)
        printf("  %llu updates", (unsigned long long)info.updates);
    for (uint32_t i = 0; i < info.data.n; i++)
        text_print(stdout, "%s%s", i ? ", " : "  data ", info.data.at[i].name);
}

static void list_one(const struct dir *folder, const struct checkpoint_entry *c)
{
    struct stat s;
    char size[32] = "?";
    if (lstat(c->path, &s) == 0 && S_ISREG(s.st_mode))
        compile_bytes((double)s.st_size, size);
    text_print(stdout, "step %-10llu %10s  %s", (unsigned long long)c->step, size, c->path);
    list_more(folder, c->path);
    printf("\n");
}

static enum status list(const struct checkpoint_options *o, struct err *e)
{
    struct listing l;
    enum status st = listing_open(o->common.operands.at[1], &l, e);
    for (uint32_t i = 0; st == ST_OK && i < l.entries.n; i++)
        list_one(&l.folder, &l.entries.at[i]);
    if (st == ST_OK && !l.entries.n)
        text_print(stdout, "%s: no checkpoints\n", o->common.operands.at[1]);
    listing_close(&l);
    return st;
}

static enum status verify_file(const char *path, struct err *e)
{
    struct checkpoint_info info;
    const char *slash = strrchr(path, '/');
    uint64_t step;
    TRY(checkpoint_verify(path, &info, e));
    if (checkpoint_step_of(slash ? slash + 1 : path, &step) && step != info.step)
        return err_set(e, ST_INPUT, path, "the file name says step %llu, but it contains step %llu",
                       (unsigned long long)step, (unsigned long long)info.step);
    text_print(stdout, "%s: OK: step %llu, %llu updates, sample %llu, optimizer %s, written %s by %s\n", path,
               (unsigned long long)info.step, (unsigned long long)info.updates, (unsigned long long)info.sample,
               info.optimizer, info.time, info.build);
    if (*info.beyond)
        text_print(stdout, "%s: %s is unknown to this build and was not verified\n", path, info.beyond);
    return ST_OK;
}

static void verify_one(const char *path, enum status *st, struct err *e)
{
    struct err one = { 0 };
    if (verify_file(path, &one) == ST_OK)
        return;
    text_print(stdout, "%s: BAD\n", path);
    if (*st == ST_OK) {
        *e = one;
        *st = one.status;
    }
}

static enum status verify_run(const char *path, enum status *st, struct err *e)
{
    struct listing l;
    enum status listed = listing_open(path, &l, e);
    for (uint32_t i = 0; listed == ST_OK && i < l.entries.n; i++)
        verify_one(l.entries.at[i].path, st, e);
    if (listed == ST_OK && !l.entries.n)
        text_print(stdout, "%s: no checkpoints\n", path);
    listing_close(&l);
    return listed;
}

/* All are looked at, files and those of run directories; the first that is bad is the answer. */
static enum status verify(const struct checkpoint_options *o, struct err *e)
{
    enum status st = ST_OK;
    for (uint32_t i = 1; i < o->common.operands.n; i++) {
        struct stat s;
        const char *path = o->common.operands.at[i];
        if (stat(path, &s) == 0 && S_ISDIR(s.st_mode))
            TRY(verify_run(path, &st, e));
        else
            verify_one(path, &st, e);
    }
    return st;
}

static enum status diff(const struct checkpoint_options *o, struct err *e)
{
    struct checkpoint_differences d = { 0 };
    TRY(checkpoint_diff(o->common.operands.at[1], o->common.operands.at[2], &d, e));
    for (uint32_t i = 0; i < d.n; i++)
        text_print(stdout, "%s: %llu of %llu elements differ, by at most %.9g\n", d.at[i].name,
                   (unsigned long long)d.at[i].differ, (unsigned long long)d.at[i].elements, d.at[i].most);
    uint32_t n = d.n;
    checkpoint_differences_release(&d);
    if (n)
        return err_set(e, ST_INPUT, NULL, "%s and %s differ in %u %s", o->common.operands.at[1],
                       o->common.operands.at[2], n, n == 1 ? "tensor" : "tensors");
    printf("bitwise identical\n");
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
    { "import", checkpoint_import, 2, 2, "job.h5 SAFETENSORS" },
    { "export", checkpoint_export, 1, 1, "RUNDIR or FILE" },
};
enum { N_VERBS = sizeof verbs / sizeof *verbs };

static enum status run(const struct checkpoint_options *o, struct err *e)
{
    const char *words[N_VERBS + 1] = { NULL }, *name = o->common.operands.at[0];
    uint32_t n = o->common.operands.n - 1;
    for (size_t i = 0; i < N_VERBS; i++) {
        const struct verb *v = &verbs[i];
        words[i] = v->name;
        if (strcmp(name, v->name) != 0)
            continue;
        if (n < v->least || n > v->most)
            return err_set(e, ST_USAGE, "checkpoint", "%s: found %u operands, expected %s", name, n, v->operands);
        return v->run(o, e);
    }
    char hint[WORDS_HINT];
    return err_set(e, ST_USAGE, "checkpoint", "unknown subcommand \"%s\"%s (see `piper checkpoint --help`)", name,
                   words_hint(name, words, hint));
}

static const struct option options[] = {
    TEXT("output", 'o', offsetof(struct checkpoint_options, out), "PATH",
         "import: run directory; export: safetensors file, or DIR/: a directory that transformers loads"),
    TEXT("job", 'j', offsetof(struct checkpoint_options, job), "JOB",
         "export: write a directory, with the config.json of this job's model (default: RUNDIR/job.h5)"),
    TEXT("tokenizer", 't', offsetof(struct checkpoint_options, tokenizer), "DIR",
         "export: copy tokenizer files from DIR (default: those of the run)"),
    NUMBER("file-bytes", 0, offsetof(struct checkpoint_options, file_bytes), "BYTES", 1,
           "export: split the weights into files of at most BYTES, with an index (default 5000000000)"),
    { .name = NULL },
};
static const struct option_usage usage = {
    .command = "checkpoint",
    .synopsis = "list RUNDIR | verify FILE... | diff FILE FILE |\n"
                "                        import job.h5 SAFETENSORS -o RUNDIR | export RUNDIR|FILE -o FILE |\n"
                "                        export RUNDIR|FILE -o DIR/ [--job job.h5]",
    .about = "list:   list the checkpoints of a run directory\nverify: check every block of the files against its "
             "hash\ndiff:   list the tensors in which two checkpoints differ; exit status 65 if any do\nimport: "
             "initialize a run with the weights of a safetensors file, or of a directory of them\nexport: write the "
             "weights of a checkpoint to one safetensors file, under their Hugging Face names, or to a directory "
             "that transformers loads",
    .options = options,
    .min_operands = 1,
    .max_operands = UINT32_MAX,
};

static enum status checkpoint_command(int argc, char **argv, struct err *e)
{
    struct checkpoint_options o = { .file_bytes = UINT64_C(5000000000) };
    enum status st = options_parse(&usage, argc, argv, &o, e);
    if (st == ST_OK && !o.common.help)
        st = run(&o, e);
    vec_free(&o.common.operands);
    return st;
}

const struct command command_checkpoint = { "checkpoint",
                                            "list, verify, diff checkpoints; import and export safetensors",
                                            checkpoint_command };
