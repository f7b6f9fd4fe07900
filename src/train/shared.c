/* Do all ranks see one run folder? On a local disk, or where a node has not mounted the file system, each would write its share of
 * a checkpoint into a file of its own. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "train/private.h"

enum { WORD = 16, TRIES = 50 }; /* characters */

/* What rank 0 has made. */
struct token {
    char word[WORD + 1], host[64];
};

static void name_file(const struct token *k, char name[DIR_NAME])
{
    snprintf(name, DIR_NAME, ".shared-%s", k->word);
}

static enum status make_token(const struct dir *run, struct token *k, struct err *e)
{
    char name[DIR_NAME];
    int fd;
    dir_random_word(k->word);
    gethostname(k->host, sizeof k->host - 1);
    name_file(k, name);
    TRY(dir_make(run, name, &fd, e));
    bool good = write(fd, k->word, WORD) == WORD;
    int why = errno;
    if (close(fd) != 0 && good) {
        good = false;
        why = errno;
    }
    return good ? ST_OK : err_set(e, ST_IO, run->path, "%s cannot be written: %s", name, strerror(why));
}

/* The folder is opened anew each time: a network file system may remember for a while that a name was not there. */
static bool read_token(const char *path, const struct token *k)
{
    char found[WORD], name[DIR_NAME];
    struct dir run;
    struct err ignored = { 0 };
    uint64_t bytes;
    int fd = -1;
    name_file(k, name);
    if (dir_open(path, &run, &ignored) == ST_OK)
        dir_read(&run, name, &fd, &bytes, &ignored);
    bool same = fd >= 0 && read(fd, found, WORD) == WORD && memcmp(found, k->word, WORD) == 0;
    if (fd >= 0)
        close(fd);
    dir_close(&run);
    return same;
}

static bool find_token(const char *path, const struct token *k)
{
    for (int i = 0; i < TRIES; i++) {
        if (read_token(path, k))
            return true;
        clock_nap(0.1);
    }
    return false;
}

enum status train__check_shared(const struct train *t, struct err *e)
{
    struct token k = { 0 };
    if (world_size() == 1)
        return ST_OK;
    enum status st = world_agree(world_rank() == 0 ? make_token(t->dir, &k, e) : ST_OK, e);
    if (st == ST_OK) {
        char host[sizeof k.host] = "";
        gethostname(host, sizeof host - 1);
        world_broadcast(&k, sizeof k);
        if (!find_token(t->o->dir, &k))
            st = err_set(
                e, ST_IO, NULL,
                "rank %u (node %s) sees another directory %s than rank 0 (node %s): expected one directory shared by "
                "all nodes. Is its file system mounted on that node? A run on several nodes cannot be on local disks",
                world_rank(), host, t->o->dir, k.host);
        st = world_agree(st, e);
    }
    if (world_rank() == 0 && *k.word) {
        char name[DIR_NAME];
        name_file(&k, name);
        dir_remove(t->dir, name);
    }
    return st;
}
