#include "io/job.h"

#include <inttypes.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/version.h"
#include "io/file.h"
#include "io/job_train.h"
#include "io/model.h"
#include "ir/freeze.h"
#include "comm/world.h"

enum { VERSION = 1 };
static const char schema[] = "piper-job";
static const uint64_t file_most = UINT64_C(1) << 30;

void job_init(struct job *j)
{
    *j = (struct job){
        .model_file = "", .model_text = "", .strategy_file = "", .strategy_text = "", .strategy_expanded = ""
    };
    j->provenance = (struct job_provenance){ "", "", "", "", "", "" };
    arena_init(&j->texts);
    ir_graph_init(&j->graph);
    train_config_default(&j->train);
}

void job_release(struct job *j)
{
    vec_free(&j->attachments);
    ir_graph_release(&j->graph);
    arena_release(&j->texts);
}

const char *job_text(struct job *j, const char *text)
{
    return arena_strdup(&j->texts, text);
}

const char *job_attachment(const struct job *j, const char *name)
{
    for (uint32_t i = 0; i < j->attachments.n; i++)
        if (strcmp(j->attachments.at[i].name, name) == 0)
            return j->attachments.at[i].text;
    return NULL;
}

/* Attributes hold one line of printable text. */
static const char *printable(struct job *j, const char *text)
{
    char *s = arena_strdup(&j->texts, text);
    for (char *c = s; *c; c++)
        if ((unsigned char)*c < 0x20 || (unsigned char)*c >= 0x7f)
            *c = '?';
    return s;
}

void job_sign(struct job *j, int argc, char *const *argv)
{
    enum { COMMAND_MOST = 16384 };
    char host[256] = "", now[32], *command = mem_alloc(COMMAND_MOST);
    gethostname(host, sizeof host - 1);
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    size_t n = 0;
    *command = '\0';
    for (int i = 0; i < argc && n + strlen(argv[i]) + 2 < COMMAND_MOST; i++)
        n += (size_t)snprintf(command + n, COMMAND_MOST - n, "%s%s", i ? " " : "", argv[i]);
    const struct passwd *who = getpwuid(getuid());
    j->provenance = (struct job_provenance){
        .version = printable(j, piper_version),
        .commit = printable(j, piper_commit),
        .user = printable(j, who ? who->pw_name : ""),
        .host = printable(j, host),
        .time = printable(j, now),
        .command = printable(j, command),
    };
    mem_free(command);
}

static void make_digests(const struct job *j, uint8_t model[SHA256_BYTES], uint8_t all[SHA256_BYTES])
{
    const struct job_provenance *p = &j->provenance;
    const char *texts[] = { j->model_file, j->model_text, j->strategy_file, j->strategy_text, j->strategy_expanded,
                            p->version,    p->commit,     p->user,          p->host,          p->time,
                            p->command };
    struct sha256 s;
    model_digest(&j->graph, (enum ir_dtype)j->train.dtype, model);
    sha256_init(&s);
    sha256_add_text(&s, "piper job 1");
    model_hash_all(&j->graph, &s);
    job__train_hash(&j->train, &s);
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        sha256_add_text(&s, texts[i]);
    sha256_add_u64(&s, j->attachments.n);
    for (uint32_t i = 0; i < j->attachments.n; i++) {
        sha256_add_text(&s, j->attachments.at[i].name);
        sha256_add_text(&s, j->attachments.at[i].text);
    }
    sha256_end(&s, all);
}

enum status job_freeze(struct job *j, const char *where, struct err *e)
{
    for (uint32_t i = 0; i < j->train.n_freeze; i++)
        if (!ir_freeze(&j->graph, j->train.freeze[i]))
            return err_set(e, ST_INPUT, where,
                           "$.freeze[%u]: \"%s\" matches none of the %u parameters of the model, from %s to %s", i,
                           j->train.freeze[i], j->graph.params.n, j->graph.params.at[0].name,
                           j->graph.params.at[j->graph.params.n - 1].name);
    return j->train.n_freeze ? ir_freeze_check(&j->graph, where, e) : ST_OK;
}

/* What ties the parts together. */
static enum status check_whole(const struct job *j, const char *where, struct err *e)
{
    TRY(train_config_validate(&j->train, where, e));
    if (j->train.seq_len != j->graph.seq_len)
        return err_set(e, ST_INPUT, where,
                       "/train/seq_len is %" PRIu32 ", but the model was built for %" PRIu32 " tokens",
                       j->train.seq_len, j->graph.seq_len);
    return ST_OK;
}

/* ---- writing ---- */

static enum status put_strategy(const struct h5_at *at, const struct job *j, struct err *e)
{
    TRY(h5_put_text(at, "file", j->strategy_file, e));
    TRY(h5_put_text(at, "text", j->strategy_text, e));
    TRY(h5_put_text(at, "expanded", j->strategy_expanded, e));
    if (!j->attachments.n)
        return ST_OK;
    if (j->attachments.n > JOB_MAX_ATTACHMENTS)
        return err_set(e, ST_INPUT, at->where, "found %" PRIu32 " attached files, expected at most %d",
                       j->attachments.n, JOB_MAX_ATTACHMENTS);
    const char *names[JOB_MAX_ATTACHMENTS];
    for (uint32_t i = 0; i < j->attachments.n; i++) {
        char name[32];
        names[i] = j->attachments.at[i].name;
        snprintf(name, sizeof name, "attachments/text%" PRIu32, i);
        TRY(h5_put_text(at, name, j->attachments.at[i].text, e));
    }
    return h5_put_strings(at, "attachments/names", names, j->attachments.n, e);
}

static enum status put_provenance(const struct h5_at *at, const struct job *j, struct err *e)
{
    const struct job_provenance *p = &j->provenance;
    TRY(h5_attr_text(at, "piper_version", p->version, e));
    TRY(h5_attr_text(at, "piper_commit", p->commit, e));
    TRY(h5_attr_text(at, "user", p->user, e));
    TRY(h5_attr_text(at, "host", p->host, e));
    TRY(h5_attr_text(at, "time", p->time, e));
    return h5_attr_text(at, "command", p->command, e);
}

static enum status put_train(const struct h5_at *at, const struct job *j, struct err *e)
{
    return job__train_put(at, &j->train, e);
}

static enum status put_group(const struct h5_at *root, const char *name, const struct job *j,
                             enum status (*put)(const struct h5_at *, const struct job *, struct err *), struct err *e)
{
    struct h5_at at;
    enum status st = h5_make_group(root, name, &at, e);
    if (st == ST_OK)
        st = put(&at, j, e);
    h5_close(&at);
    return st;
}

static enum status put_source(const struct h5_at *model, const struct job *j, struct err *e)
{
    TRY(h5_put_text(model, "file", j->model_file, e));
    return h5_put_text(model, "text", j->model_text, e);
}

static enum status put_all(const struct h5_at *root, const struct job *j, struct err *e)
{
    char hex[SHA256_HEX];
    sha256_hex(j->model_digest, hex);
    TRY(h5_attr_text(root, "model_digest", hex, e));
    sha256_hex(j->digest, hex);
    TRY(h5_attr_text(root, "digest", hex, e));
    TRY(model_put(root, &j->graph, e));
    TRY(put_group(root, "model", j, put_source, e));
    TRY(put_group(root, "strategy", j, put_strategy, e));
    TRY(put_group(root, "train", j, put_train, e));
    return put_group(root, "provenance", j, put_provenance, e);
}

static void prepare(struct job *j)
{
    if (j->train.documents == DOCUMENTS_SEPARATE)
        ir_graph_separate(&j->graph);
}

/* Nothing is written that would not be read again. The file has the model's own graph, whatever its documents are, and the compiler has made
 * of it: so has *own, which else is the job. */
static enum status sign(struct job *j, struct job *own, const char *where, struct err *e)
{
    *own = *j;
    ir_graph_borrow(&j->graph, &own->graph);
    enum status st = ir_graph_validate(&own->graph, where, e);
    if (st == ST_OK)
        st = check_whole(own, where, e);
    if (st != ST_OK) {
        ir_graph_release(&own->graph);
        return st;
    }
    make_digests(own, own->model_digest, own->digest);
    memcpy(j->model_digest, own->model_digest, sizeof j->model_digest);
    memcpy(j->digest, own->digest, sizeof j->digest);
    return ST_OK;
}

/* created: was the file begun? */
static enum status finish(enum status created, struct h5_out *out, struct job *own, struct err *e)
{
    enum status st = created == ST_OK ? put_all(&out->root, own, e) : created;
    ir_graph_release(&own->graph);
    if (st == ST_OK)
        return h5_commit(out, e);
    if (created == ST_OK)
        h5_abandon(out);
    return st;
}

enum status job_write(const char *path, struct job *j, struct err *e)
{
    struct h5_out out;
    struct job own;
    TRY(sign(j, &own, path, e));
    return finish(h5_create(path, schema, VERSION, &out, e), &out, &own, e);
}

enum status job_write_in(const struct dir *in, const char *name, struct job *j, struct err *e)
{
    struct h5_out out;
    struct job own;
    TRY(sign(j, &own, name, e));
    return finish(h5_create_in(in, name, schema, VERSION, &out, e), &out, &own, e);
}

enum status job_encode(const char *where, struct job *j, void **bytes, uint64_t *size, struct err *e)
{
    struct h5_out out;
    struct job own;
    TRY(sign(j, &own, where, e));
    enum status st = h5_create_image(where, schema, VERSION, &out, e);
    if (st == ST_OK) {
        st = put_all(&out.root, &own, e);
        if (st == ST_OK)
            st = h5_close_image(&out, e);
        if (st == ST_OK)
            st = h5_read_image(&out, bytes, size, e);
        h5_abandon(&out);
    }
    ir_graph_release(&own.graph);
    return st;
}

/* ---- reading ---- */

static enum status get_strategy(const struct h5_at *at, struct job *j, struct err *e)
{
    static const char *const known[] = { "file", "text", "expanded", "attachments", NULL };
    TRY(h5_only(at, known, e));
    TRY(h5_get_text(at, "file", &j->texts, &j->strategy_file, e));
    TRY(h5_get_text(at, "text", &j->texts, &j->strategy_text, e));
    return h5_get_text(at, "expanded", &j->texts, &j->strategy_expanded, e);
}

static enum status get_attachments(const struct h5_at *at, struct job *j, struct err *e)
{
    const char **names, *known[JOB_MAX_ATTACHMENTS + 2] = { "names" };
    uint64_t n = H5_ANY;
    TRY(h5_get_strings(at, "names", &n, &j->texts, &names, e));
    if (n > JOB_MAX_ATTACHMENTS)
        return err_set(e, ST_INPUT, at->where, "found %" PRIu64 " names, expected at most %d", n, JOB_MAX_ATTACHMENTS);
    for (uint64_t i = 0; i < n; i++)
        known[i + 1] = arena_printf(&j->texts, "text%" PRIu64, i);
    TRY(h5_only(at, known, e));
    for (uint64_t i = 0; i < n; i++) {
        struct job_attachment a = { .name = names[i] };
        TRY(h5_get_text(at, known[i + 1], &j->texts, &a.text, e));
        vec_add(&j->attachments, a);
    }
    return ST_OK;
}

static enum status get_strategy_all(const struct h5_at *at, struct job *j, struct err *e)
{
    TRY(get_strategy(at, j, e));
    if (!h5_has(at, "attachments"))
        return ST_OK;
    struct h5_at list;
    TRY(h5_group(at, "attachments", &list, e));
    enum status st = get_attachments(&list, j, e);
    h5_close(&list);
    return st;
}

static enum status get_provenance(const struct h5_at *at, struct job *j, struct err *e)
{
    static const char *const known[] = { "piper_version", "piper_commit", "user", "host", "time", "command", NULL };
    static const char *const none[] = { NULL };
    struct job_provenance *p = &j->provenance;
    const char **to[] = { &p->version, &p->commit, &p->user, &p->host, &p->time, &p->command };
    TRY(h5_only(at, none, e));
    TRY(h5_only_attrs(at, known, e));
    for (int i = 0; known[i]; i++)
        TRY(h5_get_attr_text(at, known[i], &j->texts, to[i], e));
    return ST_OK;
}

static enum status get_train(const struct h5_at *at, struct job *j, struct err *e)
{
    return job__train_get(at, &j->train, e);
}

static enum status get_source(const struct h5_at *at, struct job *j, struct err *e)
{
    TRY(h5_get_text(at, "file", &j->texts, &j->model_file, e));
    return h5_get_text(at, "text", &j->texts, &j->model_text, e);
}

static enum status get_group(const struct h5_at *root, const char *name, struct job *j,
                             enum status (*get)(const struct h5_at *, struct job *, struct err *), struct err *e)
{
    struct h5_at at;
    enum status st = h5_group(root, name, &at, e);
    if (st == ST_OK)
        st = get(&at, j, e);
    h5_close(&at);
    return st;
}

/* A job that another program wrote need not carry digests; one that is there must agree. */
static enum status check_digest(const struct h5_at *root, const char *name, struct job *j,
                                const uint8_t found[SHA256_BYTES], struct err *e)
{
    const char *text;
    char hex[SHA256_HEX];
    if (!h5_has_attr(root, name))
        return ST_OK;
    TRY(h5_get_attr_text(root, name, &j->texts, &text, e));
    sha256_hex(found, hex);
    if (strcmp(text, hex) != 0)
        return err_set(e, ST_INPUT, root->where,
                       "the contents do not match attribute %s: the file is damaged or was edited (a tool that edits "
                       "job files removes that attribute)",
                       name);
    return ST_OK;
}

static enum status get_all(const struct h5_at *root, struct job *j, struct err *e)
{
    static const char *const known[] = { "model", "strategy", "train", "provenance", NULL };
    static const char *const attrs[] = { "schema", "schema_version", "model_digest", "digest", NULL };
    static const char *const source[] = { "file", "text", NULL };
    TRY(h5_only(root, known, e));
    TRY(h5_only_attrs(root, attrs, e));
    TRY(model_get(root, source, &j->graph, e));
    TRY(get_group(root, "model", j, get_source, e));
    TRY(get_group(root, "strategy", j, get_strategy_all, e));
    TRY(get_group(root, "train", j, get_train, e));
    TRY(get_group(root, "provenance", j, get_provenance, e));
    TRY(check_whole(j, root->where, e));
    make_digests(j, j->model_digest, j->digest);
    TRY(check_digest(root, "model_digest", j, j->model_digest, e));
    TRY(check_digest(root, "digest", j, j->digest, e));
    prepare(j);
    return job_freeze(j, root->where, e);
}

enum status job_decode(const char *path, const void *bytes, uint64_t size, struct job *j, struct err *e)
{
    struct h5_at root;
    job_init(j);
    enum status st = h5_open_bytes(bytes, size, path, schema, VERSION, &root, e);
    if (st == ST_OK)
        st = get_all(&root, j, e);
    h5_close(&root);
    if (st != ST_OK)
        job_release(j);
    return st;
}

enum status job_receive(const char *where, const void *bytes, uint64_t size, struct job *j, struct err *e)
{
    void *mine = NULL;
    world_broadcast(&size, sizeof size);
    if (world_rank() != 0)
        bytes = mine = mem_alloc(size);
    world_broadcast((void *)(uintptr_t)bytes, size); /* rank 0's are only read */
    const enum status decoded = job_decode(where, bytes, size, j, e), st = world_agree(decoded, e);
    if (st != ST_OK && decoded == ST_OK)
        job_release(j);
    mem_free(mine);
    return st;
}

enum status job_read(const char *path, struct job *j, struct err *e)
{
    void *bytes = NULL;
    uint64_t size = 0;
    TRY(world_agree(world_rank() == 0 ? file_read_all(path, file_most, &bytes, &size, e) : ST_OK, e));
    enum status st = job_receive(path, bytes, size, j, e);
    mem_free(bytes);
    return st;
}
