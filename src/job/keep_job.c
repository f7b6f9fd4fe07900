#include "job/keep_job.h"

#include <stdio.h>
#include <unistd.h>

#include "io/file.h"
#include "io/tokens.h"
#include "job/data_path.h"

static void path_in(const struct dir *run, char path[DIR_PATH])
{
    snprintf(path, DIR_PATH, "%.4000s/%s", run->path, KEEP_JOB);
}

enum status keep_job(const struct dir *run, struct job *j, struct err *e)
{
    char path[DIR_PATH];
    path_in(run, path);
    data_paths_for(path, &j->train.data);
    data_paths_for(path, &j->train.eval_data);
    return job_write_in(run, KEEP_JOB, j, e);
}

/* All of a file in a run directory; NULL: it cannot be read. */
static char *read_all(const struct dir *in, const char *name, uint64_t *bytes)
{
    int fd;
    struct err ignored = { 0 };
    if (dir_read(in, name, &fd, bytes, &ignored) != ST_OK)
        return NULL;
    char *all = mem_alloc(*bytes + 1);
    if (file_pread(fd, name, all, *bytes, 0, &ignored) != ST_OK) {
        mem_free(all);
        all = NULL;
    }
    close(fd);
    return all;
}

enum status keep_move(const struct dir *run, const struct dir *to, struct err *e)
{
    char path[DIR_PATH];
    struct job j;
    uint64_t bytes;
    struct err ignored = { 0 };
    char *image = read_all(run, KEEP_JOB, &bytes);
    path_in(run, path);
    const bool read = image && job_decode(path, image, bytes, &j, &ignored) == ST_OK;
    mem_free(image);
    if (!read)
        return dir_rename(run, KEEP_JOB, to, KEEP_JOB, e);
    data_paths_beside(path, &j.train.data);
    data_paths_beside(path, &j.train.eval_data);
    enum status st = keep_job(to, &j, e);
    job_release(&j);
    if (st == ST_OK)
        dir_remove(run, KEEP_JOB);
    return st;
}

/* ---- the tokenizer ------------------------------------------------------------------------------------------------ */

/* Under which name transformers looks for it. A rank file of tiktoken has that of a sentencepiece model, as Llama 3's. */
static const char *name_for(const struct tokens_about *about)
{
    return about->tokenizer_bytes && *(const char *)about->tokenizer_file == '{' ? "tokenizer.json" : "tokenizer.model";
}

static bool is_same(const struct dir *folder, const char *name, const struct tokens_about *about)
{
    uint64_t bytes;
    char *has = read_all(folder, name, &bytes);
    const bool same = has && bytes == about->tokenizer_bytes && memcmp(has, about->tokenizer_file, bytes) == 0;
    mem_free(has);
    return same;
}

static enum status write_file(const struct dir *folder, const char *name, const struct tokens_about *about,
                              struct err *e)
{
    struct dir_new file;
    enum status st = dir_new_begin(folder, name, &file, e);
    if (st == ST_OK)
        st = file_pwrite(file.fd, file.path, about->tokenizer_file, about->tokenizer_bytes, 0, e);
    if (st == ST_OK)
        st = dir_new_publish(&file, e);
    dir_new_drop(&file);
    return st;
}

static bool is_tokenizer(const char *name)
{
    return strcmp(name, "tokenizer.json") == 0 || strcmp(name, "tokenizer.model") == 0;
}

static enum status keep_in(const struct dir *folder, const struct tokens_about *about, bool *differs, struct err *e)
{
    const char *name = name_for(about);
    struct dir_names there = { 0 };
    dir_remove_unfinished(folder, is_tokenizer);
    TRY(dir_list(folder, &there, e));
    const bool alone = there.n == 0 || (there.n == 1 && is_tokenizer(there.at[0]));
    const char *other = there.n == 1 && strcmp(there.at[0], name) != 0 ? there.at[0] : NULL;
    enum status st = ST_OK;
    if (!is_same(folder, name, about)) {
        *differs = !alone && dir_has(folder, name);
        if (alone)
            st = write_file(folder, name, about, e);
        if (st == ST_OK && alone && other)
            dir_remove(folder, other);
    }
    dir_names_release(&there);
    return st;
}

enum status keep_tokenizer(const struct dir *run, const char *tokens, bool *differs, struct err *e)
{
    struct tokens_about about;
    struct arena arena;
    struct dir folder;
    struct err ignored = { 0 };
    const bool there = dir_has(run, KEEP_TOKENIZER);
    *differs = false;
    arena_init(&arena);
    enum status st = ST_OK;
    if (tokens_describe(tokens, &arena, &about, &ignored) == ST_OK && about.tokenizer) {
        st = dir_enter(run, KEEP_TOKENIZER, DIR_MAKE, &folder, e);
        if (st == ST_OK) {
            st = keep_in(&folder, &about, differs, e);
            dir_close(&folder);
        } else if (there) { /* a link, or a file: the user's own */
            err_clear(e);
            st = ST_OK;
        }
    }
    arena_release(&arena);
    return st;
}
