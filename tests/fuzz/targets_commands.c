/* Whole commands, in this process: command lines, the environment, folders of models and of runs. What they print is looked
 * through for control characters; what they write is in the current folder. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/mem.h"
#include "cmd/command.h"
#include "job/build_job.h"
#include "text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

static char run_dir[4200], corpus_dir[4096];

/* Files of the corpus that a command line may name. One that is told to write there does: what was there comes back before the next. */
static struct known {
    const char *word, *name;
    char path[4200];
    struct stat as;
    char *at;
} known[] = {
    { .word = "JOB", .name = "job.h5" },
    { .word = "MODEL", .name = "model-moe.json" },
    { .word = "STRATEGY", .name = "strategy-grid.json" },
    { .word = "TRAIN", .name = "train-all.json" },
    { .word = "LINES", .name = "lines-few.jsonl" },
    { .word = "TOKENIZER", .name = "tokenizer-bytes.json" },
    { .word = "TOKENS", .name = "tokens.h5" },
};
enum { KNOWN = sizeof known / sizeof *known };
static char *const job = known[0].path;

static void give_up(const char *path)
{
    perror(path);
    exit(99);
}

void fuzz_open_commands(const char *corpus)
{
    snprintf(corpus_dir, sizeof corpus_dir, "%s", corpus);
    snprintf(run_dir, sizeof run_dir, "%s/run", corpus);
    for (struct known *k = known; k < known + KNOWN; k++) {
        snprintf(k->path, sizeof k->path, "%s/%s", corpus, k->name);
        FILE *f = fopen(k->path, "rb");
        if (!f || fstat(fileno(f), &k->as) != 0)
            give_up(k->path);
        k->at = mem_alloc((size_t)k->as.st_size + 1);
        if (fread(k->at, 1, (size_t)k->as.st_size, f) != (size_t)k->as.st_size)
            give_up(k->path);
        fclose(f);
    }
}

static void restore_known(void)
{
    for (struct known *k = known; k < known + KNOWN; k++) {
        struct stat is = { 0 };
        if (lstat(k->path, &is) == 0 && is.st_ino == k->as.st_ino && is.st_size == k->as.st_size &&
            is.st_mtim.tv_sec == k->as.st_mtim.tv_sec && is.st_mtim.tv_nsec == k->as.st_mtim.tv_nsec)
            continue;
        FILE *f = fopen(k->path, "wb");
        if (!f || fwrite(k->at, 1, (size_t)k->as.st_size, f) != (size_t)k->as.st_size || fflush(f) != 0 ||
            fstat(fileno(f), &k->as) != 0)
            give_up(k->path);
        fclose(f);
    }
}

int fuzz_run_command(const struct command *c, char **argv)
{
    int argc = 0;
    while (argv[argc])
        argc++;
    struct err e = { 0 };
    fflush(stdout);
    const int kept = dup(STDOUT_FILENO), said = memfd_create("stdout", MFD_CLOEXEC);
    dup2(said, STDOUT_FILENO);
    enum status st = c->run(argc, argv, &e);
    fflush(stdout);
    fuzz_check_said(said);
    dup2(kept, STDOUT_FILENO);
    close(kept);
    close(said);
    return fuzz_answer(st, &e);
}

/* The lines of an input; the last pointer is NULL. Owned by the caller, lines and all in one. */
enum { WORDS = 64 };
static char *lines_of(const struct fuzz_input *in, char *words[WORDS + 1], int *n)
{
    char *text = mem_alloc(in->n + 1);
    memcpy(text, in->at, in->n);
    text[in->n] = 0;
    *n = 0;
    for (char *word = strtok(text, "\n"); word && *n < WORDS; word = strtok(NULL, "\n"))
        words[(*n)++] = word;
    words[*n] = NULL;
    return text;
}

/* A command, then its arguments, a line each. RUN and the words of known[] are those of the corpus; other files are of the current folder,
 * where a '/' leads nowhere. */
int fuzz_run_options(const struct fuzz_input *in, const char *path)
{
    static const struct command *const commands[] = { &command_plan,     &command_trace,      &command_report,
                                                      &command_plot,     &command_checkpoint, &command_build,
                                                      &command_tune,     &command_data,       &command_eval,
                                                      &command_generate, &command_info };
    const struct command *c = commands[0];
    char *words[WORDS + 1];
    int n;
    (void)path;
    char *text = lines_of(in, words, &n);
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++)
        if (n && strcmp(words[0], commands[i]->name) == 0)
            c = commands[i];
    for (int i = 0; i < n; i++) {
        for (char *at = words[i]; *at; at++)
            if (*at == '/')
                *at = '_';
        words[i] = strcmp(words[i], "RUN") == 0 ? run_dir : words[i];
        for (struct known *k = known; k < known + KNOWN; k++)
            words[i] = strcmp(words[i], k->word) == 0 ? k->path : words[i];
    }
    restore_known();
    int accepted = n ? fuzz_run_command(c, words) : 0;
    mem_free(text);
    return accepted;
}

/* NAME=VALUE, a line each, of names that piper reads; then what this machine is, and a plan as text. The next input finds none of them. */
int fuzz_run_environment(const struct fuzz_input *in, const char *path)
{
    char *words[WORDS + 1], *info[] = { (char[]){ "info" }, NULL },
                            *plan[] = { (char[]){ "plan" }, job, (char[]){ "--simulate" }, NULL };
    int n;
    (void)path;
    char *text = lines_of(in, words, &n);
    for (int i = 0; i < n; i++) {
        char *value = strchr(words[i], '=');
        if (!value || value == words[i]) {
            words[i] = NULL;
            continue;
        }
        *value = 0;
        for (char *at = words[i]; *at; at++)
            *at = (char)(isalnum((unsigned char)*at) ? toupper((unsigned char)*at) : '_');
        if (strncmp(words[i], "LD_", 3) != 0 && strncmp(words[i], "MALLOC_", 7) != 0)
            setenv(words[i], value + 1, 1);
        else
            words[i] = NULL;
    }
    const int accepted = fuzz_run_command(&command_info, info) & fuzz_run_command(&command_plan, plan);
    for (int i = 0; i < n; i++)
        if (words[i])
            unsetenv(words[i]);
    mem_free(text);
    return accepted;
}

/* ---- folders: the first line of an input names the file that the rest is ---- */

#define TRACE "trace.0000.h5"
static const char *const files[] = { "config.json", "tokenizer_config.json", "metrics.csv", "log.txt",
                                     TRACE,         "tokenizer.json" };

/* Returns the name. */
static const char *store_in(const struct fuzz_input *in, const char *folder, const char *fallback)
{
    char path[4400];
    const unsigned char *end = memchr(in->at, '\n', in->n);
    const size_t head = end ? (size_t)(end - in->at) : 0, from = end ? head + 1 : 0;
    const char *name = fallback;
    for (size_t i = 0; i + 1 < sizeof files / sizeof *files; i++) /* the last is a link into the corpus */
        if (head == strlen(files[i]) && memcmp(in->at, files[i], head) == 0)
            name = files[i];
    mkdir(folder, 0777);
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(in->at + from, 1, in->n - from, f) != in->n - from || fclose(f) != 0)
        give_up(path);
    return name;
}

static int build_model(const char *folder)
{
    char model[4400], strategy[4400], train[4400];
    struct job j;
    struct notices notices;
    struct err e = { 0 };
    snprintf(model, sizeof model, "%s/%s", folder, files[0]);
    snprintf(strategy, sizeof strategy, "%s/strategy-one.json", corpus_dir);
    snprintf(train, sizeof train, "%s/train-all.json", corpus_dir);
    const struct job_sources from = { .model = model, .strategy = strategy, .train = train };
    notices_init(&notices);
    enum status st = job_build(&from, 0, 0, NULL, &j, &notices, &e);
    if (st == ST_OK)
        job_release(&j);
    notices_release(&notices);
    return fuzz_answer(st, &e);
}

/* The tokenizer itself is one of the corpus, and stays. */
static int open_tokenizer(const char *folder)
{
    char from[4400], to[4400];
    struct tokenizer *t;
    struct err e = { 0 };
    snprintf(from, sizeof from, "%s/tokenizer-bytes.json", corpus_dir);
    snprintf(to, sizeof to, "%s/tokenizer.json", folder);
    char *path = realpath(from, NULL);
    if (!path || (symlink(path, to) != 0 && access(to, R_OK) != 0))
        give_up(to);
    free(path);
    enum status st = tokenizer_open(folder, NULL, &t, &e);
    if (st == ST_OK)
        tokenizer_free(t);
    return fuzz_answer(st, &e);
}

/* A folder of transformers: its model is built into a job, or its tokenizer opened. */
int fuzz_run_folder(const struct fuzz_input *in, const char *path)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%s.run", path);
    return store_in(in, folder, files[0]) == files[0] ? build_model(folder) : open_tokenizer(folder);
}

/* A run directory, of which a report and a picture are made. */
int fuzz_run_run(const struct fuzz_input *in, const char *path)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%s.run", path);
    store_in(in, folder, files[2]);
    char *report[] = { (char[]){ "report" }, folder, (char[]){ "-o" }, (char[]){ "-" }, NULL };
    char *plot[] = { (char[]){ "plot" }, folder, (char[]){ "-o" }, (char[]){ "-" }, NULL };
    char *watch[] = { (char[]){ "watch" }, folder, (char[]){ "--once" }, NULL };
    return fuzz_run_command(&command_report, report) & fuzz_run_command(&command_plot, plot) &
           fuzz_run_command(&command_watch, watch);
}

/* ---- what an accepted file says ---- */

int fuzz_show_job(const char *path)
{
    char *plan[] = { (char[]){ "plan" }, (char *)path, (char[]){ "--dump" }, NULL };
    return fuzz_run_command(&command_plan, plan);
}

int fuzz_show_checkpoint(const char *path)
{
    char *verify[] = { (char[]){ "checkpoint" }, (char[]){ "verify" }, (char *)path, NULL };
    return fuzz_run_command(&command_checkpoint, verify);
}

int fuzz_show_tokens(const char *path)
{
    char *data[] = { (char[]){ "data" }, (char[]){ "info" }, (char *)path, NULL };
    return fuzz_run_command(&command_data, data);
}

/* As rank 0's of a run directory. */
int fuzz_show_trace(const char *path)
{
    char folder[4200], trace[4400];
    snprintf(folder, sizeof folder, "%s.run", path);
    snprintf(trace, sizeof trace, "%s/%s", folder, TRACE);
    char *summary[] = { (char[]){ "trace" }, folder, (char[]){ "--summary" }, NULL };
    char *svg[] = { (char[]){ "trace" }, folder, (char[]){ "--svg" }, (char[]){ "-" }, NULL };
    char *perfetto[] = { (char[]){ "trace" }, folder, (char[]){ "--perfetto" }, (char[]){ "-" }, NULL };
    mkdir(folder, 0777);
    unlink(trace);
    if (link(path, trace) != 0)
        give_up(trace);
    return fuzz_run_command(&command_trace, summary) & fuzz_run_command(&command_trace, svg) &
           fuzz_run_command(&command_trace, perfetto);
}

int fuzz_show_machine(const char *path, const char *option)
{
    char *plan[] = { (char[]){ "plan" }, job, (char[]){ "--simulate" }, (char *)option, (char *)path, NULL };
    return fuzz_run_command(&command_plan, plan);
}

void fuzz_remove_files(const char *folder)
{
    for (size_t i = 0; i < sizeof files / sizeof *files; i++) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", folder, files[i]);
        remove(path);
    }
}
