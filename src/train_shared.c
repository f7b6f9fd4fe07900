/* Do all ranks see one run folder? On a local disk, or where a node has not mounted the file system, each would write its share of
 * a checkpoint into a file of its own. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "train_private.h"

enum { WORD = 16, TRIES = 50, PAUSE = 100000000 }; /* characters; nanoseconds */

/* What rank 0 has made. */
struct token {
    char word[WORD + 1], host[64];
};

static void name_file(const char *dir, const struct token *k, char path[PATH_MAX])
{
    snprintf(path, PATH_MAX, "%s/.shared-%s", dir, k->word);
}

static enum status make_token(const char *dir, struct token *k, struct err *e)
{
    uint64_t word = 0;
    char path[PATH_MAX];
    if (getrandom(&word, sizeof word, 0) != sizeof word)
        return err_set(e, ST_IO, dir, "there are no random numbers to be had: %s", strerror(errno));
    snprintf(k->word, sizeof k->word, "%016llx", (unsigned long long)word);
    gethostname(k->host, sizeof k->host - 1);
    name_file(dir, k, path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool good = fd >= 0 && write(fd, k->word, WORD) == WORD;
    int why = errno;
    if (fd >= 0 && close(fd) != 0 && good) {
        good = false;
        why = errno;
    }
    return good ? ST_OK : err_set(e, ST_IO, path, "cannot be written: %s", strerror(why));
}

static bool read_token(const char *path, const struct token *k)
{
    char found[WORD];
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    bool same = fd >= 0 && read(fd, found, WORD) == WORD && memcmp(found, k->word, WORD) == 0;
    if (fd >= 0)
        close(fd);
    return same;
}

/* A network file system may remember for a while that a name was not there; opening the folder makes it look again. */
static bool find_token(const char *dir, const struct token *k)
{
    char path[PATH_MAX];
    name_file(dir, k, path);
    for (int i = 0; i < TRIES; i++) {
        if (read_token(path, k))
            return true;
        int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd >= 0)
            close(fd);
        nanosleep(&(struct timespec){ .tv_nsec = PAUSE }, NULL);
    }
    return false;
}

enum status train__check_shared(const struct train *t, struct err *e)
{
    struct token mine = { 0 }, *k = &mine;
    uint64_t bytes = sizeof mine;
    if (ctl_size() == 1)
        return ST_OK;
    enum status st = ctl_agree(ctl_rank() == 0 ? make_token(t->o->dir, k, e) : ST_OK, e);
    if (st == ST_OK) {
        char host[sizeof k->host] = "";
        gethostname(host, sizeof host - 1);
        ctl_broadcast((void **)&k, &bytes);
        if (!find_token(t->o->dir, k))
            st = err_set(
                e, ST_IO, NULL,
                "rank %u (node %s) sees another folder %s than rank 0 (node %s): expected one folder that all "
                "nodes share. Is its file system mounted on that node? Local disks cannot hold a run of several "
                "nodes",
                ctl_rank(), host, t->o->dir, k->host);
        st = ctl_agree(st, e);
    }
    if (ctl_rank() == 0 && *k->word) {
        char path[PATH_MAX];
        name_file(t->o->dir, k, path);
        unlink(path);
    }
    if (k != &mine)
        mem_free(k);
    return st;
}
