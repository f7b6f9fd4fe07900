/* Ranks that wait for work: one launch of MPI trains one job after another, as many as a test has.
 *
 * ranks IN DONE CLIENT: two fifos and the process that uses them. IN takes a command: the file that gets what all ranks print on
 * stdout, the one for stderr, `train` and its words, a line each, and a line "." behind them. When it is done DONE gets a line with
 * its exit status; the first one, 0, says that all ranks are there. It ends when the process CLIENT has.
 *
 * `train` is that of piper, which begins and ends MPI: here that is done once (--wrap). Whatever ends a whole job, as MPI_Abort does,
 * ends these ranks, and mpirun has the exit status. */
#include <errno.h>
#include <fcntl.h>
#include <mpi.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/fail.h"
#include "cmd/command.h"
#include "comm/world.h"
#include "exec/module.h"

static bool begun;

enum status __real_world_init(int *argc, char ***argv, struct err *e);
enum status __wrap_world_init(int *argc, char ***argv, struct err *e)
{
    if (begun)
        return ST_OK;
    begun = true;
    return __real_world_init(argc, argv, e);
}

void __real_world_finalize(void);
void __wrap_world_finalize(void)
{
}

/* ---- the fifos, on rank 0 */

static bool is_alive(pid_t client)
{
    return kill(client, 0) == 0 || errno != ESRCH;
}

/* The lines of a command; "": there will be none. */
static void read_command(const char *path, pid_t client, char *text, size_t size)
{
    size_t n = 0;
    int fd = open(path, O_RDWR | O_NONBLOCK); /* for writing too, so that there is always a writer */
    CHECK(fd >= 0);
    while (n < 2 || strncmp(text + n - 2, ".\n", 2) != 0 || (n > 2 && text[n - 3] != '\n')) {
        struct pollfd p = { .fd = fd, .events = POLLIN };
        if (poll(&p, 1, 200) == 0 && !is_alive(client)) {
            n = 0;
            break;
        }
        ssize_t got = read(fd, text + n, size - 1 - n);
        CHECK(n < size - 1);
        n += got > 0 ? (size_t)got : 0;
    }
    text[n > 2 ? n - 2 : 0] = '\0';
    close(fd);
}

static void answer(const char *path, uint64_t status)
{
    int fd = open(path, O_WRONLY | O_NONBLOCK);
    if (fd < 0)
        return; /* the client has left */
    dprintf(fd, "%llu\n", (unsigned long long)status);
    close(fd);
}

/* ---- a command */

/* From now on fd is that file. What it was before. */
static int redirect(int fd, const char *path)
{
    int before = dup(fd), to = open(path, O_WRONLY | O_CREAT | O_APPEND, 0666);
    CHECK(before >= 0 && to >= 0 && dup2(to, fd) == fd);
    close(to);
    return before;
}

static void restore(int fd, int before)
{
    fflush(NULL);
    dup2(before, fd);
    close(before);
}

static uint64_t run(char *text)
{
    enum { MAX_WORDS = 64 };
    char *words[MAX_WORDS + 1] = { NULL }, *save;
    int n = 0;
    for (char *w = strtok_r(text, "\n", &save); w && n < MAX_WORDS; w = strtok_r(NULL, "\n", &save))
        words[n++] = w;
    CHECK(n > 2 && n < MAX_WORDS && strcmp(words[2], command_train.name) == 0);
    int out = redirect(STDOUT_FILENO, words[0]), errors = redirect(STDERR_FILENO, words[1]);
    struct err e = { 0 };
    process_ways.where = NULL; /* as in a process of its own */
    process_ways.log = NULL;
    uint64_t status = (uint64_t)-command_train.run(n - 2, words + 2, &e);
    if (status && world_rank() == 0)
        last_words(e.text);
    restore(STDOUT_FILENO, out);
    restore(STDERR_FILENO, errors);
    world_max_u64(&status, 1);
    return status;
}

/* What rank 0 has read, on all. They nap meanwhile: a script has ranks in several numbers, and those without a job would take the cores
 * from those with one. */
static void share_command(char *text, int size)
{
    MPI_Request request;
    int done = 0;
    CHECK(MPI_Ibcast(text, size, MPI_BYTE, 0, MPI_COMM_WORLD, &request) == MPI_SUCCESS);
    for (;;) {
        CHECK(MPI_Test(&request, &done, MPI_STATUS_IGNORE) == MPI_SUCCESS);
        if (done)
            break;
        nanosleep(&(struct timespec){ .tv_nsec = 2000000 }, NULL);
    }
}

int main(int argc, char **argv)
{
    struct err e = { 0 };
    module_environment();
    if (argc != 4 || __wrap_world_init(&argc, &argv, &e) != ST_OK) {
        fprintf(stderr, "ranks: %s\n", argc != 4 ? "expected IN DONE CLIENT" : e.text);
        return 1;
    }
    pid_t client = (pid_t)atol(argv[3]);
    static char text[1 << 14];
    for (uint64_t status = 0;; status = run(text)) {
        if (world_rank() == 0) {
            answer(argv[2], status);
            read_command(argv[1], client, text, sizeof text);
        }
        share_command(text, sizeof text);
        if (!*text)
            break;
    }
    __real_world_finalize();
    return 0;
}
