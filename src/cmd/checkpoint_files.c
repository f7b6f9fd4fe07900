/* piper checkpoint import and export: weights from and to safetensors, and the files next to them. */
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/json.h"
#include "base/version.h"
#include "cmd/checkpoint.h"
#include "io/file.h"
#include "io/job.h"
#include "io/safetensors.h"
#include "ir/family/export.h"
#include "job/data_path.h"
#include "job/keep_job.h"
#include "rundir/folder.h"

/* ---- tokenizer and generation settings -------------------------------------------------------------------------- */

static const char *const beside[] = { "generation_config.json",
                                      "tokenizer.json",
                                      "tokenizer_config.json",
                                      "special_tokens_map.json",
                                      "added_tokens.json",
                                      "vocab.json",
                                      "merges.txt",
                                      "vocab.txt",
                                      "tokenizer.model",
                                      "spiece.model",
                                      "chat_template.jinja",
                                      "chat_template.json" };
enum { N_BESIDE = sizeof beside / sizeof *beside };
enum { COPY_BYTES = 1 << 20 };

/* All of an open file into a new one. */
static enum status copy_bytes(int fd, const char *path, uint64_t bytes, const struct dir *to, const char *name,
                              struct err *e)
{
    struct dir_new file;
    char *block = mem_alloc(COPY_BYTES);
    enum status st = dir_new_begin(to, name, &file, e);
    for (uint64_t at = 0; st == ST_OK && at < bytes; at += COPY_BYTES) {
        const uint64_t n = bytes - at < COPY_BYTES ? bytes - at : COPY_BYTES;
        st = file_pread(fd, path, block, n, at, e);
        if (st == ST_OK)
            st = file_pwrite(file.fd, file.path, block, n, at, e);
    }
    if (st == ST_OK)
        st = dir_new_publish(&file, e);
    dir_new_drop(&file);
    mem_free(block);
    return st;
}

/* Those that are in `from`: a folder of a run, or with in NULL a path of the user's own, whose links are followed. */
static enum status copy_beside(const struct dir *in, const char *from, const struct dir *to, uint32_t *n, struct err *e)
{
    for (int i = 0; i < N_BESIDE; i++) {
        char path[PATH_MAX];
        uint64_t bytes;
        int fd;
        snprintf(path, sizeof path, "%s%s%s", in ? "" : from, in ? "" : "/", beside[i]);
        if (in ? !dir_has(in, path) : access(path, F_OK) != 0)
            continue;
        TRY(dir_read(in, path, &fd, &bytes, e));
        enum status st = copy_bytes(fd, path, bytes, to, beside[i], e);
        close(fd);
        TRY(st);
        ++*n;
    }
    return ST_OK;
}

static bool has_beside(const char *folder)
{
    char path[PATH_MAX];
    for (int i = 0; i < N_BESIDE; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, beside[i]);
        if (access(path, F_OK) == 0)
            return true;
    }
    return false;
}

static void remove_beside(const struct dir *run)
{
    struct dir folder;
    struct err ignored = { 0 };
    if (dir_enter(run, KEEP_TOKENIZER, 0, &folder, &ignored) != ST_OK)
        return;
    for (int i = 0; i < N_BESIDE; i++)
        if (dir_has(&folder, beside[i]))
            dir_remove(&folder, beside[i]);
    dir_close(&folder);
    dir_remove_folder(run, KEEP_TOKENIZER);
}

/* ---- import ----------------------------------------------------------------------------------------------------- */

static enum status import_beside(const struct dir *run, const char *from, struct err *e)
{
    struct dir folder;
    uint32_t n = 0;
    if (!dir_is_folder(from) || !has_beside(from))
        return ST_OK;
    TRY(dir_enter(run, KEEP_TOKENIZER, DIR_MAKE, &folder, e));
    enum status st = copy_beside(NULL, from, &folder, &n, e);
    dir_close(&folder);
    return st;
}

/* A run folder with weights, and the job they are of: piper train begins with them. */
static enum status import_to(const char *dir, const char *from, struct job *j, struct err *e)
{
    char path[PATH_MAX];
    struct listing there;
    struct dir run, folder = { .fd = -1 };
    struct stat s;
    bool made = stat(dir, &s) != 0;
    uint32_t n = 0;
    if (!made) {
        enum status st = listing_open(dir, &there, e);
        n = there.entries.n;
        listing_close(&there);
        TRY(st);
    }
    if (n)
        return err_set(e, ST_INPUT, dir,
                       "found %u %s, expected a run directory without any: training would resume from them; choose "
                       "another directory",
                       n, n == 1 ? "checkpoint" : "checkpoints");
    TRY(folder_make(dir, e));
    TRY(dir_open(dir, &run, e));
    snprintf(path, sizeof path, "%s/checkpoints/step-%06d.h5", dir, 0);
    struct checkpoint_info info = { .seed = j->train.seed, .optimizer = "none" };
    memcpy(info.model_digest, j->model_digest, sizeof info.model_digest);
    snprintf(info.build, sizeof info.build, "piper %s (%s)", piper_version, piper_commit);
    uint32_t extra = 0;
    enum status st = checkpoint_folder(&run, true, &folder, e);
    if (st == ST_OK)
        st = import_beside(&run, from, e);
    if (st == ST_OK)
        st = keep_job(&run, j, e);
    memcpy(info.job_digest, j->digest, sizeof info.job_digest); /* of the one that is kept */
    if (st == ST_OK)
        st = safetensors_import(from, &j->graph, &info, path, &extra, e);
    if (st != ST_OK) { /* what was made for it goes; folders that were there are not empty or were empty before */
        remove_beside(&run);
        dir_remove(&run, KEEP_JOB);
        dir_remove_folder(&run, "checkpoints");
    }
    if (st != ST_OK && made)
        rmdir(dir);
    dir_close(&folder);
    dir_close(&run);
    if (st == ST_OK)
        text_print(stdout, "%s: %llu parameters from %s\n", path, (unsigned long long)ir_graph_param_count(&j->graph),
                   from);
    if (st == ST_OK && extra)
        text_print(stdout, "%s: %u %s of layers of multi-token prediction left out\n", from, extra,
                   extra == 1 ? "tensor" : "tensors");
    return st;
}

static enum status need_output(const struct checkpoint_options *o, const char *what, struct err *e)
{
    return o->out ? ST_OK : err_set(e, ST_USAGE, "checkpoint", "missing required option -o %s", what);
}

enum status checkpoint_import(const struct checkpoint_options *o, struct err *e)
{
    struct job j;
    TRY(need_output(o, "RUNDIR", e));
    TRY(job_read(o->common.operands.at[1], &j, e));
    data_paths_beside(o->common.operands.at[1], &j.train.data);
    data_paths_beside(o->common.operands.at[1], &j.train.eval_data);
    enum status st = import_to(o->out, o->common.operands.at[2], &j, e);
    job_release(&j);
    return st;
}

/* ---- export ----------------------------------------------------------------------------------------------------- */

static enum status export_file(const struct chosen *s, const char *to, struct err *e)
{
    TRY(file_differs(to, s->path, e));
    TRY(safetensors_export(chosen_folder(s), s->path, to, e));
    text_print(stdout, "%s: parameters of %s\n", to, s->path);
    return ST_OK;
}

/* Of --tokenizer, or what import has put into the run directory. */
static enum status export_beside(const struct checkpoint_options *o, const struct chosen *s, const struct dir *to,
                                 uint32_t *n, struct err *e)
{
    struct dir folder;
    if (o->tokenizer) {
        TRY(copy_beside(NULL, o->tokenizer, to, n, e));
        return *n ? ST_OK
                  : err_set(e, ST_MISSING, o->tokenizer,
                            "found no tokenizer files, expected a directory with "
                            "tokenizer.json, tokenizer.model or vocab.json");
    }
    if (!s->is_run || !dir_has(&s->l.run, KEEP_TOKENIZER))
        return ST_OK;
    TRY(dir_enter(&s->l.run, KEEP_TOKENIZER, 0, &folder, e));
    enum status st = copy_beside(&folder, "", to, n, e);
    dir_close(&folder);
    return st;
}

/* config.json last: a directory that has one is whole. */
static enum status fill_folder(const struct checkpoint_options *o, const struct chosen *s, const struct job *j,
                               const json_t *config, const struct dir *to, struct err *e)
{
    const struct safetensors_folder f = { .folder = to, .graph = &j->graph, .file_bytes = o->file_bytes };
    uint32_t n = 0;
    TRY(safetensors_export_folder(chosen_folder(s), s->path, &f, e));
    TRY(export_beside(o, s, to, &n, e));
    TRY(safetensors_write_json(to, "config.json", config, e));
    const char *type = json_string_value(json_object_get(config, "model_type"));
    text_print(stdout, "%s: parameters of %s, config.json of a %s, %u tokenizer and generation files\n", o->out,
               s->path, type, n);
    if (!ir_family_in_transformers(type))
        text_print(stdout,
                   "%s: transformers has no class for %s: it needs the code of the model's authors in the directory\n",
                   o->out, type);
    return ST_OK;
}

static enum status export_folder(const struct checkpoint_options *o, const struct chosen *s, const struct job *j,
                                 struct err *e)
{
    json_t *model = NULL, *config = NULL;
    struct dir to;
    TRY(js_load_text(j->model_text, j->model_file, &model, e));
    enum status st = ir_family_config(model, j->model_file, &j->graph, &config, e);
    json_decref(model);
    if (st == ST_OK)
        st = folder_make(o->out, e);
    if (st == ST_OK && (st = dir_open(o->out, &to, e)) == ST_OK) {
        st = fill_folder(o, s, j, config, &to, e);
        dir_close(&to);
    }
    json_decref(config);
    return st;
}

/* DIR/, or a directory that is there; with --job any name. */
static bool is_directory(const struct checkpoint_options *o)
{
    const size_t n = strlen(o->out);
    return o->job || (n && o->out[n - 1] == '/') || dir_is_folder(o->out);
}

/* That of --job, else of the run. */
static enum status export_job(const struct checkpoint_options *o, const struct chosen *s, struct job *j, struct err *e)
{
    char path[DIR_PATH];
    if (o->job)
        return job_read(o->job, j, e);
    if (s->is_run && dir_has_path(s->l.run.path, KEEP_JOB, path))
        return job_read(path, j, e);
    return err_set(e, ST_USAGE, o->out,
                   "is a directory: its config.json comes from the job, and %s has no " KEEP_JOB
                   "; name it with --job JOB, or a file to export the weights alone",
                   s->path);
}

enum status checkpoint_export(const struct checkpoint_options *o, struct err *e)
{
    struct chosen s;
    struct job j;
    TRY(need_output(o, "model.safetensors, or DIR/", e));
    const bool directory = is_directory(o);
    if (o->tokenizer && !directory)
        return err_set(e, ST_USAGE, "--tokenizer", "requires a directory: -o DIR/");
    enum status st = chosen_open(o->common.operands.at[1], &s, e);
    if (st == ST_OK && !s.is_run && access(s.path, R_OK) != 0)
        st = err_set(e, ST_MISSING, s.path, "cannot be read: no such file, or no permission");
    if (st == ST_OK && !directory)
        st = export_file(&s, o->out, e);
    if (st == ST_OK && directory && (st = export_job(o, &s, &j, e)) == ST_OK) {
        st = export_folder(o, &s, &j, e);
        job_release(&j);
    }
    chosen_close(&s);
    return st;
}
