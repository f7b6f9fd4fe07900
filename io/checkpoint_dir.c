#include <ctype.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io/checkpoint_private.h"
#include "comm/world.h"

static const char folder_name[] = "checkpoints";

/* RUNDIR/checkpoints/NAME */
static char *path_of(const struct dir *folder, const char *name)
{
    char *s = mem_alloc(strlen(folder->path) + strlen(name) + 2);
    sprintf(s, "%s/%s", folder->path, name);
    return s;
}

/* No other spelling of a number. */
bool checkpoint_step_of(const char *name, uint64_t *step)
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

enum status checkpoint_folder(const struct dir *run, bool make, struct dir *d, struct err *e)
{
    return dir_enter(run, folder_name, DIR_LINK | (make ? DIR_MAKE : 0), d, e);
}

void ckpt__name_of(uint64_t step, char name[DIR_NAME])
{
    snprintf(name, DIR_NAME, "step-%06" PRIu64 ".h5", step);
}

static enum status list_in(const struct dir *folder, struct checkpoint_entries *list, struct err *e)
{
    struct dir_names names;
    uint64_t step;
    TRY(dir_list(folder, &names, e));
    for (uint32_t i = 0; i < names.n; i++)
        if (checkpoint_step_of(names.at[i], &step))
            vec_add(list, ((struct checkpoint_entry){ step, path_of(folder, names.at[i]) }));
    if (list->n)
        qsort(list->at, list->n, sizeof *list->at, by_step);
    dir_names_release(&names);
    return ST_OK;
}

enum status checkpoint_list(const struct dir *run, struct checkpoint_entries *list, struct err *e)
{
    struct dir folder;
    struct err why = { 0 };
    *list = (struct checkpoint_entries){ 0 };
    enum status st = checkpoint_folder(run, false, &folder, &why);
    if (st == ST_OK)
        st = list_in(&folder, list, &why);
    dir_close(&folder);
    return st == ST_OK || st == ST_MISSING ? ST_OK : err_set(e, st, NULL, "%s", why.text);
}

void checkpoint_entries_release(struct checkpoint_entries *list)
{
    for (uint32_t i = 0; i < list->n; i++)
        mem_free(list->at[i].path);
    vec_free(list);
}

static bool is_name(const char *name)
{
    uint64_t step;
    return checkpoint_step_of(name, &step);
}

void ckpt__remove_unfinished(const struct dir *run)
{
    struct dir folder;
    struct err ignored = { 0 };
    if (checkpoint_folder(run, false, &folder, &ignored) == ST_OK)
        dir_remove_unfinished(&folder, is_name);
    dir_close(&folder);
}

/* ---- resuming ---- */

/* Rank 0's list to all: folders need not look the same on all hosts at the same time. */
static enum status list_for_all(const struct dir *run, struct checkpoint_entries *list, struct err *e)
{
    *list = (struct checkpoint_entries){ 0 };
    TRY(world_agree(world_rank() == 0 ? checkpoint_list(run, list, e) : ST_OK, e));
    uint64_t n = list->n;
    world_broadcast(&n, sizeof n);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t head[2] = { 0 };
        if (world_rank() == 0) {
            head[0] = list->at[i].step;
            head[1] = strlen(list->at[i].path) + 1;
        }
        world_broadcast(head, sizeof head);
        if (world_rank() != 0)
            vec_add(list, ((struct checkpoint_entry){ head[0], mem_alloc(head[1]) }));
        world_broadcast(list->at[i].path, head[1]);
    }
    return ST_OK;
}

/* It keeps its bytes under a name that is no checkpoint's. */
static enum status put_aside(const struct dir *folder, const char *path, enum ckpt__why kind,
                             const struct checkpoint_expect *expect, struct err *e)
{
    char name[DIR_NAME], aside[DIR_NAME], text[2 * DIR_NAME + DIR_PATH];
    snprintf(name, sizeof name, "%s", strrchr(path, '/') + 1);
    TRY(dir_put_aside(folder, name, kind == CKPT_MISNAMED ? "misnamed" : "damaged", aside, e));
    snprintf(text, sizeof text, "%s is renamed to %s", path, aside);
    if (expect->warn)
        expect->warn(expect->arg, text);
    return ST_OK;
}

/* Why the one at hand is not passed over for the one before: it is sound, or nobody knows. */
static enum status refuse(enum status why, const struct err *text, struct err *e)
{
    if (why == ST_INPUT || why == ST_BUG)
        return err_set(e, why, NULL, "%s", text->text);
    return err_set(e, ST_IO, NULL,
                   "%s; this need not be damage, so no older checkpoint is used and nothing is changed. Once it can be "
                   "read, the same command resumes",
                   text->text);
}

enum status checkpoint_resume(const struct dir *run, const struct checkpoint_expect *expect,
                              const struct checkpoint_piece *pieces, uint32_t n, bool *found,
                              struct checkpoint_info *info, struct err *e)
{
    struct checkpoint_entries list;
    struct err first = { 0 }; /* of the newest */
    struct dir folder = { .fd = -1 };
    *found = false;
    enum status st = list_for_all(run, &list, e);
    if (st == ST_OK && list.n)
        st = world_agree(checkpoint_folder(run, false, &folder, e), e);
    enum ckpt__why *kinds = mem_alloc(sizeof *kinds * list.n);
    uint32_t i = list.n;
    while (st == ST_OK && i > 0 && !*found) {
        struct err why = { 0 };
        enum ckpt__why *kind = &kinds[--i];
        st = ckpt__load(&(struct ckpt__source){ &folder, list.at[i].path, expect->graph, expect->model_digest }, pieces,
                        n, info, kind, &why);
        *found = st == ST_OK;
        if (st == ST_INPUT && *kind != CKPT_OTHER_MODEL) { /* damaged: the one before */
            err_set(&first, st, NULL, "%s", why.text);
            if (expect->warn && world_rank() == 0 && i > 0)
                expect->warn(expect->arg, why.text);
            st = ST_OK;
        } else if (st != ST_OK) {
            st = refuse(st, &why, e);
        }
    }
    if (st == ST_OK && list.n && !*found)
        st = err_set(e, ST_INPUT, run->path,
                     "none of its %" PRIu32 " checkpoints is usable. The latest: %s. Restore a good copy, or start "
                     "from scratch with piper train --fresh, which moves them to old.N/",
                     list.n, first.text);
    while (st == ST_OK && ++i < list.n) /* what is written from here on would replace them */
        st = world_agree(world_rank() == 0 ? put_aside(&folder, list.at[i].path, kinds[i], expect, e) : ST_OK, e);
    mem_free(kinds);
    checkpoint_entries_release(&list);
    dir_close(&folder);
    return st;
}
