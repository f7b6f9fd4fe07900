/* Which checkpoints stay. Structures are read by the main thread, since HDF5 has one; the blocks by a thread of its own. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/thread.h"
#include "io/checkpoint_private.h"

struct known {
    uint64_t step;
    struct dir_identity file;
};
struct audit {
    struct known what;
    struct ckpt__file file;
    char *path;
    _Atomic bool good;
};

struct ckpt__keeper {
    struct checkpoint_keep keep;
    struct {
        VEC(struct known);
    } good;
    struct audit *audits;
    uint32_t n_audits;
    float *block;
    pthread_t thread;
    bool has_thread;
    _Atomic bool stop;
};

/* ---- verifying ------------------------------------------------------------------------------------------------ */

/* Its structure; false: it is no checkpoint, or damaged. */
static bool audit_begin(struct audit *a, const struct dir *folder, const struct checkpoint_entry *entry)
{
    struct err ignored = { 0 };
    char name[DIR_NAME];
    ckpt__name_of(entry->step, name);
    if (!dir_identify(folder, name, &a->what.file))
        return false;
    a->what.step = entry->step;
    a->path = mem_strdup(entry->path);
    if (ckpt__open_here(folder, a->path, &a->file, &ignored) == ST_OK)
        return true;
    ckpt__close(&a->file);
    mem_free(a->path);
    return false;
}

static void *verify(void *self)
{
    struct ckpt__keeper *k = self;
    for (uint32_t i = 0; i < k->n_audits && !atomic_load(&k->stop); i++)
        if (ckpt__verify_here(&k->audits[i].file, k->block, &k->stop))
            atomic_store(&k->audits[i].good, true);
    return NULL;
}

/* Where there is no thread to be had, nothing is verified, and more stays. */
static void start(struct ckpt__keeper *k)
{
    k->has_thread = thread_start(&k->thread, verify, k) == 0;
}

/* Beside the one that was loaded, as many older ones as may have to stay. */
static void begin_audits(struct ckpt__keeper *k, const struct dir *folder, const struct checkpoint_entries *list,
                         uint64_t loaded)
{
    uint32_t most = k->keep.last - 1, i = list->n;
    k->audits = mem_alloc(sizeof *k->audits * most);
    while (i > 0 && list->at[i - 1].step >= loaded)
        i--;
    for (uint32_t tried = 0; i-- > 0 && tried < most; tried++)
        k->n_audits += audit_begin(&k->audits[k->n_audits], folder, &list->at[i]);
    if (!k->n_audits)
        return;
    k->block = mem_alloc(block_bytes());
    start(k);
}

struct ckpt__keeper *ckpt__keeper_open(const struct dir *run, const struct checkpoint_keep *keep, uint64_t loaded)
{
    struct ckpt__keeper *k = mem_alloc(sizeof *k);
    struct checkpoint_entries list = { 0 };
    struct dir folder;
    struct err ignored = { 0 };
    *k = (struct ckpt__keeper){ .keep = *keep };
    if (loaded == UINT64_MAX || checkpoint_folder(run, false, &folder, &ignored) != ST_OK)
        return k;
    ckpt__keeper_written(k, &folder, loaded);
    if (keep->last > 1 && checkpoint_list(run, &list, &ignored) == ST_OK)
        begin_audits(k, &folder, &list, loaded);
    checkpoint_entries_release(&list);
    dir_close(&folder);
    return k;
}

void ckpt__keeper_close(struct ckpt__keeper *k)
{
    if (!k)
        return;
    atomic_store(&k->stop, true);
    if (k->has_thread)
        pthread_join(k->thread, NULL);
    for (uint32_t i = 0; i < k->n_audits; i++) {
        ckpt__close(&k->audits[i].file);
        mem_free(k->audits[i].path);
    }
    mem_free(k->audits);
    mem_free(k->block);
    vec_free(&k->good);
    mem_free(k);
}

/* ---- what is known -------------------------------------------------------------------------------------------- */

void ckpt__keeper_written(struct ckpt__keeper *k, const struct dir *folder, uint64_t step)
{
    struct known new = { .step = step };
    char name[DIR_NAME];
    ckpt__name_of(step, name);
    if (dir_identify(folder, name, &new.file))
        vec_add(&k->good, new);
}

static bool is_good(const struct ckpt__keeper *k, const struct dir *folder, uint64_t step)
{
    struct dir_identity now;
    char name[DIR_NAME];
    ckpt__name_of(step, name);
    if (!dir_identify(folder, name, &now))
        return false;
    for (uint32_t i = 0; i < k->good.n; i++)
        if (k->good.at[i].step == step && memcmp(&k->good.at[i].file, &now, sizeof now) == 0)
            return true;
    for (uint32_t i = 0; i < k->n_audits; i++)
        if (k->audits[i].what.step == step && atomic_load(&k->audits[i].good) &&
            memcmp(&k->audits[i].what.file, &now, sizeof now) == 0)
            return true;
    return false;
}

void ckpt__keeper_choose(struct ckpt__keeper *k, const struct dir *run, uint64_t step, struct checkpoint_entries *old)
{
    struct checkpoint_entries list;
    struct dir folder;
    struct err ignored = { 0 };
    uint32_t older = 0, to_stay = k->keep.last - 1;
    if (!k->keep.last || checkpoint_list(run, &list, &ignored) != ST_OK)
        return;
    if (checkpoint_folder(run, false, &folder, &ignored) == ST_OK) {
        while (older < list.n && list.at[older].step < step)
            older++;
        while (older-- > 0) {
            struct checkpoint_entry *c = &list.at[older];
            bool stays = to_stay > 0 || (k->keep.every && c->step % k->keep.every == 0);
            to_stay -= to_stay > 0 && is_good(k, &folder, c->step);
            if (stays)
                continue;
            vec_add(old, *c);
            c->path = NULL; /* is the caller's */
        }
    }
    dir_close(&folder);
    checkpoint_entries_release(&list);
}
