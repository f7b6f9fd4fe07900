/* fuzz TARGET CORPUS INPUTS [SEED [FIRST]]: gives INPUTS mutations of the files CORPUS/TARGET* to a reader, in child
 * processes. A crash, an exit, 10 s of silence (times TEST_TIME_SCALE), 4 GiB of memory or a control character in what was said is
 * reported with the number of the input, which is kept as fuzz-TARGET.crash in the current folder; `fuzz TARGET CORPUS 1 SEED NUMBER`
 * makes it again. In a sanitizer build memory that a batch of inputs lost is reported too, with the number of the last of them. Exit
 * status 1 after one.
 * fuzz TARGET CORPUS FILE...: gives these files as they are. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

#include "tests/fuzz/fuzz.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer) && !defined(__SANITIZE_ADDRESS__)
#define __SANITIZE_ADDRESS__ 1 /* clang's word for it */
#endif
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/lsan_interface.h>

/* HDF5 asks for as much as a mutated file says; what is taken is limited. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
    return "allocator_may_return_null=1:hard_rss_limit_mb=4096";
}
#endif

enum { BATCH = 1000, SILENCE = 10, FILES = 256, LOST = 3 };

/* Seen by parent and child. */
struct progress {
    uint64_t done, accepted;
};
static struct progress *progress;
static struct fuzz_input corpus[FILES];
static size_t n_corpus;
static char temp[4096];
static unsigned silence = SILENCE;
static int said; /* what a child writes to stderr, of one input */

static void die(const char *what)
{
    perror(what);
    exit(99);
}

static struct fuzz_input load(const char *path)
{
    struct fuzz_input in = { .at = calloc(1, FUZZ_ROOM + 1) };
    FILE *f = fopen(path, "rb");
    if (!f || !in.at)
        die(path);
    in.n = fread(in.at, 1, FUZZ_ROOM, f);
    fclose(f);
    return in;
}

static int by_name(const void *a, const void *b)
{
    return strcmp(a, b);
}

/* Files named TARGET.something or TARGET-something. */
static void load_corpus(const char *folder, const char *target)
{
    static char names[FILES][256];
    const size_t length = strlen(target);
    DIR *d = opendir(folder);
    if (!d)
        die(folder);
    for (struct dirent *e; (e = readdir(d)) && n_corpus < FILES;)
        if (strncmp(e->d_name, target, length) == 0 && (e->d_name[length] == '.' || e->d_name[length] == '-'))
            if (strcmp(target, "plan") != 0 || strncmp(e->d_name, "plan-text", 9) != 0)
                strcpy(names[n_corpus++], e->d_name);
    closedir(d);
    qsort(names, n_corpus, sizeof *names, by_name);
    for (size_t i = 0; i < n_corpus; i++) {
        char path[4400];
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        corpus[i] = load(path);
    }
    if (!n_corpus) {
        fprintf(stderr, "%s has no file for %s\n", folder, target);
        exit(99);
    }
}

static void store(const char *path, const struct fuzz_input *in)
{
    FILE *f = fopen(path, "wb");
    if (!f || fwrite(in->at, 1, in->n, f) != in->n || fclose(f) != 0)
        die(path);
}

static void make(const struct fuzz_target *t, uint64_t seed, uint64_t number, struct fuzz_input *in)
{
    struct fuzz_random r = { seed * UINT64_C(0x100000001b3) + number };
    fuzz_next(&r);
    const struct fuzz_input *from = &corpus[fuzz_below(&r, n_corpus)];
    memcpy(in->at, from->at, from->n + 1);
    in->n = from->n;
    fuzz_mutate(in, &corpus[fuzz_below(&r, n_corpus)], &r);
    if (t->ends == FUZZ_HDF5 && fuzz_below(&r, 4))
        fuzz_repair_hdf5(in);
}

static int give(const struct fuzz_target *t, const struct fuzz_input *in)
{
    if (t->is_file)
        store(temp, in);
    return t->run(in, temp);
}

static void limit(void)
{
#ifndef __SANITIZE_ADDRESS__
    const struct rlimit most = { (rlim_t)4 << 30, (rlim_t)4 << 30 }; /* a reader that believes a size shows */
    setrlimit(RLIMIT_AS, &most);
#endif
}

static bool lost_memory(void)
{
#ifdef __SANITIZE_ADDRESS__
    return __lsan_do_recoverable_leak_check();
#else
    return false;
#endif
}

/* A child works through inputs [first, end). */
static pid_t start(const struct fuzz_target *t, uint64_t seed, uint64_t first, uint64_t end)
{
    fflush(NULL);
    pid_t pid = fork();
    if (pid < 0)
        die("fork");
    if (pid)
        return pid;
    limit();
    dup2(said, STDERR_FILENO);
    close(STDIN_FILENO);
    open("/dev/null", O_RDONLY);
    struct fuzz_input in = { .at = malloc(FUZZ_ROOM + 1) };
    for (uint64_t i = first; i < end; i++) {
        make(t, seed, i, &in);
        fuzz_quiet(said);
        alarm(silence);
        const int accepted = give(t, &in);
        fuzz_check_said(said);
        progress->accepted += (uint64_t)accepted;
        progress->done = i + 1;
    }
    alarm(0);
    fuzz_quiet(said);
    free(in.at);
    _exit(lost_memory() ? LOST : 0);
}

static void report(const struct fuzz_target *t, uint64_t seed, uint64_t number, int status)
{
    const char *what = WIFSIGNALED(status)           ? "signal"
                       : WEXITSTATUS(status) == LOST ? "memory lost by it or those before it, exit status"
                                                     : "exit status";
    char name[64], line[4096];
    struct fuzz_input in = { .at = malloc(FUZZ_ROOM + 1) };
    make(t, seed, number, &in);
    snprintf(name, sizeof name, "fuzz-%s.crash", t->name);
    store(name, &in);
    free(in.at);
    printf("%s: input %llu of seed %llu: %s %d\n", t->name, (unsigned long long)number, (unsigned long long)seed,
           WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM ? "silence, signal" : what,
           WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
    for (ssize_t n, at = 0; (n = pread(said, line, sizeof line, at)) > 0; at += n)
        fwrite(line, 1, (size_t)n, stdout);
}

static int fuzz(const struct fuzz_target *t, uint64_t seed, uint64_t first, uint64_t inputs)
{
    const time_t began = time(NULL);
    int failures = 0, ended = 0;
    uint64_t i = first;
    while (i < first + inputs) {
        const uint64_t left = first + inputs - i;
        int status;
        progress->done = i;
        pid_t pid = start(t, seed, i, i + (left < BATCH ? left : BATCH));
        if (waitpid(pid, &status, 0) != pid)
            die("waitpid");
        i = progress->done;
        if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
            continue;
        if (t->ends && WIFEXITED(status) && WEXITSTATUS(status) == t->ends && lseek(said, 0, SEEK_END) > 0) {
            fuzz_check_said(said);
            ended++;
            i++;
            continue;
        }
        const bool lost = WIFEXITED(status) && WEXITSTATUS(status) == LOST;
        report(t, seed, lost ? i - 1 : i, status);
        i += !lost;
        if (++failures == 5)
            break;
    }
    printf("%s: %llu inputs, %llu accepted, %d ended with a sentence, %d failures, %ld s\n", t->name,
           (unsigned long long)(i - first), (unsigned long long)progress->accepted, ended, failures,
           (long)(time(NULL) - began));
    return failures != 0;
}

int main(int argc, char **argv)
{
    const struct fuzz_target *t = fuzz_targets;
    while (argc > 3 && t->name && strcmp(t->name, argv[1]) != 0)
        t++;
    if (argc < 4 || !t->name) {
        fprintf(stderr, "usage: fuzz TARGET CORPUS INPUTS [SEED [FIRST]] | fuzz TARGET CORPUS FILE...\ntargets:");
        for (t = fuzz_targets; t->name; t++)
            fprintf(stderr, " %s", t->name);
        fprintf(stderr, "\n");
        return 99;
    }
    const char *folder = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    snprintf(temp, sizeof temp, "%s/piper-fuzz-%ld", folder, (long)getpid());
    progress = mmap(NULL, sizeof *progress, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (progress == MAP_FAILED)
        die("mmap");
    if ((said = memfd_create("said", MFD_CLOEXEC)) < 0)
        die("memfd_create");
    const char *scale = getenv("TEST_TIME_SCALE");
    if (scale && atoi(scale) > 1)
        silence *= (unsigned)atoi(scale);
    fuzz_targets_open(argv[2]);
    char *end;
    const uint64_t inputs = strtoull(argv[3], &end, 10);
    int failed = 0;
    if (*end) {
        for (int i = 3; i < argc; i++) {
            struct fuzz_input in = load(argv[i]);
            printf("%s: %s\n", argv[i], give(t, &in) ? "accepted" : "refused");
            free(in.at);
        }
    } else {
        load_corpus(argv[2], t->name);
        failed = fuzz(t, argc > 4 ? strtoull(argv[4], NULL, 10) : 1, argc > 5 ? strtoull(argv[5], NULL, 10) : 0,
                      inputs);
    }
    unlink(temp);
    fuzz_remove_run(temp);
    return failed;
}
