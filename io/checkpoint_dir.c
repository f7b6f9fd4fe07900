#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io/checkpoint_private.h"
#include "io/world.h"

static const char folder_name[] = "checkpoints";

static char *join(const char *a, const char *b)
{
    char *s = mem_alloc(strlen(a) + strlen(b) + 2);
    sprintf(s, "%s/%s", a, b);
    return s;
}

/* "step-000100.h5": at least six digits, no other spelling of a number. */
static bool parse_name(const char *name, uint64_t *step)
{
    if (strncmp(name, "step-", 5) != 0)
        return false;
    size_t digits = strspn(name + 5, "0123456789");
    if (digits < 6 || digits > 19 || (digits > 6 && name[5] == '0') || strcmp(name + 5 + digits, ".h5") != 0)
        return false;
    *step = strtoull(name + 5, NULL, 10);
    return true;
}

static int by_step(const void *a, const void *b)
{
    uint64_t x = ((const struct checkpoint_entry *)a)->step, y = ((const struct checkpoint_entry *)b)->step;
    return (x > y) - (x < y);
}

char *ckpt__folder(const char *rundir)
{
    return join(rundir, folder_name);
}

char *ckpt__path(const char *rundir, uint64_t step)
{
    char name[64];
    snprintf(name, sizeof name, "%s/step-%06" PRIu64 ".h5", folder_name, step);
    return join(rundir, name);
}

enum status checkpoint_list(const char *rundir, struct checkpoint_entries *list, struct err *e)
{
    *list = (struct checkpoint_entries){ 0 };
    char *folder = ckpt__folder(rundir);
    DIR *d = opendir(folder);
    enum status st = ST_OK;
    struct stat s;
    if (!d && errno != ENOENT)
        st = err_set(e, ST_IO, folder, "cannot be listed: %s", strerror(errno));
    else if (!d && lstat(folder, &s) == 0)
        st = err_set(e, ST_IO, folder,
                     "is a link to a folder that is not there: is its file system mounted on this node?");
    struct dirent *entry;
    uint64_t step;
    while (d && (errno = 0, entry = readdir(d)))
        if (parse_name(entry->d_name, &step))
            vec_add(list, ((struct checkpoint_entry){ step, join(folder, entry->d_name) }));
    if (d && errno) /* a list that ends early looks like one without the newest */
        st = err_set(e, ST_IO, folder, "cannot be listed: %s", strerror(errno));
    if (d)
        closedir(d);
    if (st != ST_OK)
        checkpoint_entries_release(list);
    if (list->n)
        qsort(list->at, list->n, sizeof *list->at, by_step);
    mem_free(folder);
    return st;
}

void checkpoint_entries_release(struct checkpoint_entries *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        mem_free(list->at[i].path);
    vec_free(list);
}

void ckpt__remove_unfinished(const char *rundir)
{
    char *folder = ckpt__folder(rundir);
    DIR *d = opendir(folder);
    struct dirent *entry;
    while (d && (entry = readdir(d))) {
        size_t n = strlen(entry->d_name);
        uint64_t step;
        if (n <= 4 || strcmp(entry->d_name + n - 4, ".tmp") != 0)
            continue;
        char *path = join(folder, entry->d_name), *name = mem_strdup(entry->d_name);
        name[n - 4] = '\0';
        if (parse_name(name, &step))
            unlink(path);
        mem_free(name);
        mem_free(path);
    }
    if (d)
        closedir(d);
    mem_free(folder);
}

/* ---- resuming ---- */

/* Rank 0's list to all: folders need not look the same on all hosts at the same time. */
static enum status list_for_all(const char *rundir, struct checkpoint_entries *list, struct err *e)
{
    *list = (struct checkpoint_entries){ 0 };
    TRY(io_agree_root(io_rank() == 0 ? checkpoint_list(rundir, list, e) : ST_OK, e));
    uint64_t n = list->n;
    io_broadcast(&n, sizeof n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t head[2] = { 0 };
        if (io_rank() == 0) {
            head[0] = list->at[i].step;
            head[1] = strlen(list->at[i].path) + 1;
        }
        io_broadcast(head, sizeof head);
        if (io_rank() != 0)
            vec_add(list, ((struct checkpoint_entry){ head[0], mem_alloc(head[1]) }));
        io_broadcast(list->at[i].path, head[1]);
    }
    return ST_OK;
}

/* A damaged checkpoint keeps its bytes under a name that is no checkpoint's. */
static enum status put_aside(const char *path, const struct checkpoint_expect *expect, struct err *e)
{
    char *to = mem_alloc(strlen(path) + 32), *text = mem_alloc(2 * strlen(path) + 96);
    struct stat s;
    sprintf(to, "%s.damaged", path);
    for (unsigned n = 2; lstat(to, &s) == 0; n++)
        sprintf(to, "%s.damaged.%u", path, n);
    enum status st = ST_OK;
    if (rename(path, to) != 0)
        st = err_set(e, ST_IO, path, "is damaged and cannot be put aside: %s", strerror(errno));
    sprintf(text, "%s is put aside as %s", path, to);
    if (st == ST_OK && expect->warn)
        expect->warn(expect->arg, text);
    mem_free(to);
    mem_free(text);
    return st;
}

/* Why the one at hand is not passed over for the one before: it is sound, or nobody knows. */
static enum status refuse(enum status why, const struct err *text, struct err *e)
{
    if (why == ST_INPUT || why == ST_BUG)
        return err_set(e, why, NULL, "%s", text->text);
    return err_set(
        e, ST_IO, NULL,
        "%s; that is no sign of damage, so no older checkpoint is taken and nothing is changed. Where it can be "
        "read, the same command resumes",
        text->text);
}

enum status checkpoint_resume(const char *rundir, const struct ir_graph *g, const struct checkpoint_expect *expect,
                              const struct checkpoint_piece *pieces, uint32_t n, bool *found,
                              struct checkpoint_info *info, struct err *e)
{
    struct checkpoint_entries list;
    struct err first = { 0 }; /* of the newest */
    *found = false;
    enum status st = list_for_all(rundir, &list, e);
    uint32_t i = list.n;
    while (st == ST_OK && i > 0 && !*found) {
        struct err why = { 0 };
        bool other_model;
        st = ckpt__load(&(struct ckpt__source){ list.at[--i].path, g, expect->model_digest }, pieces, n, info,
                        &other_model, &why);
        *found = st == ST_OK;
        if (st == ST_INPUT && !other_model) { /* damaged: the one before */
            err_set(&first, st, NULL, "%s", why.text);
            if (expect->warn && io_rank() == 0 && i > 0)
                expect->warn(expect->arg, why.text);
            st = ST_OK;
        } else if (st != ST_OK) {
            st = refuse(st, &why, e);
        }
    }
    if (st == ST_OK && list.n && !*found)
        st = err_set(e, ST_INPUT, rundir,
                     "none of its %" PRIu32
                     " checkpoints can be used. The newest: %s. Put a good copy in its place, or begin "
                     "anew with piper train --fresh, which puts them aside",
                     list.n, first.text);
    while (st == ST_OK && ++i < list.n) /* what is written from here on would replace them */
        st = io_agree_root(io_rank() == 0 ? put_aside(list.at[i].path, expect, e) : ST_OK, e);
    checkpoint_entries_release(&list);
    return st;
}
