/* The job file: what is written is read, and what is damaged is refused. */
#include "io/job.h"

#include <signal.h>
#include <sys/resource.h>
#include <time.h>

#include "io/file.h"
#include "io/h5.h"
#include "tests/unit/io_sample.h"
#include "tests/unit/suite.h"

static struct err e;
static const char *folder;
static char path[300], other[300];

static void make_folder(void)
{
    folder = sample_folder();
    snprintf(path, sizeof path, "%s/job.h5", folder);
    snprintf(other, sizeof other, "%s/other.h5", folder);
    err_clear(&e);
}

static void drop_folder(void)
{
    sample_folder_remove(folder);
}

static void sample_job(struct job *j)
{
    char *argv[] = { "piper", "build", "-m", "model.json" };
    job_init(j);
    ir_graph_release(&j->graph);
    sample_graph(&j->graph);
    j->train.batch_size = 16;
    j->train.seq_len = SAMPLE_T;
    j->train.steps = 100;
    j->train.lr_kind = LR_COSINE;
    j->train.lr_min = 3e-5;
    j->train.seed = (UINT64_C(1) << 53) - 1;
    j->train.dtype = IR_BF16;
    j->train.data.n = 1;
    strcpy(j->train.data.at[0].path, "tokens.h5");
    j->train.n_trace_steps = 2;
    j->train.trace_steps[0] = 1;
    j->train.trace_steps[1] = 7;
    j->train.sample_every = 5;
    j->train.sample_tokens = 9;
    j->train.n_sample_prompts = 2;
    strcpy(j->train.sample_prompts[0], "one");
    strcpy(j->train.sample_prompts[1], "\xc3\xa9 two");
    j->model_file = "model.json";
    j->model_text = "{\n  \"model_type\": \"qwen3_moe\"\n}\n";
    j->strategy_file = "strategy.json";
    j->strategy_text = "[{\"op\":\"place\",\"filter\":{},\"devices\":[0]}]";
    j->strategy_expanded = "[]";
    vec_add(&j->attachments, ((struct job_attachment){ "a.csv", "rank,0\n1,2\n" }));
    vec_add(&j->attachments, ((struct job_attachment){ "folder/b.csv", "" }));
    job_sign(j, 4, argv);
}

/* Everything but the arena's addresses. */
static bool same_job(const struct job *a, const struct job *b)
{
    char text[256];
    bool same = memcmp(a->digest, b->digest, SHA256_BYTES) == 0 && memcmp(a->model_digest, b->model_digest, 32) == 0 &&
                ir_graph_same(&a->graph, &b->graph, text, sizeof text) && a->graph.n_tags == b->graph.n_tags &&
                strcmp(a->model_text, b->model_text) == 0 && strcmp(a->strategy_text, b->strategy_text) == 0 &&
                strcmp(a->strategy_file, b->strategy_file) == 0 && a->attachments.n == b->attachments.n &&
                memcmp(&a->train, &b->train, sizeof a->train) == 0 &&
                strcmp(a->provenance.command, b->provenance.command) == 0;
    for (uint32_t i = 0; same && i < a->graph.ops.n; i++)
        same = memcmp(a->graph.ops.at[i].tag, b->graph.ops.at[i].tag, sizeof a->graph.ops.at[i].tag) == 0 &&
               a->graph.ops.at[i].block == b->graph.ops.at[i].block;
    for (uint32_t i = 0; same && i < a->graph.params.n; i++)
        same = a->graph.params.at[i].init == b->graph.params.at[i].init &&
               memcmp(&a->graph.params.at[i].std, &b->graph.params.at[i].std, 4) == 0;
    return same;
}

START_TEST(round_trip)
{
    struct job j, k;
    sample_job(&j);
    j.train.n_freeze = 1;
    strcpy(j.train.freeze[0], "*norm.weight");
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert(same_job(&j, &k));
    uint32_t frozen = 0;
    for (uint32_t i = 0; i < k.graph.params.n; i++)
        frozen += k.graph.params.at[i].frozen;
    ck_assert(frozen > 0 && frozen < k.graph.params.n);
    ck_assert_str_eq(job_attachment(&k, "a.csv"), "rank,0\n1,2\n");
    ck_assert_str_eq(job_attachment(&k, "folder/b.csv"), "");
    ck_assert_ptr_null(job_attachment(&k, "b.csv"));
    ck_assert_str_eq(k.provenance.command, "piper build -m model.json");
    ck_assert_int_ne(access(path, F_OK), -1);
    snprintf(other, sizeof other, "%s/job.h5.tmp", folder);
    ck_assert_int_eq(access(other, F_OK), -1);
    job_release(&j);
    job_release(&k);
}
END_TEST

/* embed -> linear -> packed attention -> linear -> head. */
static void attention_graph(struct ir_graph *g, const struct ir_attrs *a)
{
    enum { V = 11, C = 6, QKV = 2 * 8 + 8 + 16, O = 2 * 16 };
    const struct ir_attrs embed = { .vocab = V, .features = C }, in = { .in_features = C, .out_features = QKV },
                          out = { .in_features = O, .out_features = C };
    const struct ir_shape ids = { IR_I32, 1, { 8 } }, table = { IR_COMPUTE, 2, { V, C } },
                          w = { IR_COMPUTE, 2, { QKV, C } }, wo = { IR_COMPUTE, 2, { C, O } },
                          sinks = { IR_COMPUTE, 1, { 2 } };
    const uint32_t no = IR_NONE;
    ir_graph_init(g);
    g->family = "graph";
    g->seq_len = 8;
    g->vocab = V;
    g->n_blocks = 1;
    const uint32_t tokens = ir_graph_input(g, "tokens", ids), targets = ir_graph_input(g, "targets", ids);
    const uint32_t e = ir_graph_param(g, "e", table, IR_INIT_NORMAL, 1);
    struct ir_op_in x = sample_in(tokens, no, no, e, no, no);
    uint32_t o = ir_graph_op(g, IR_OP_EMBED, "embed", 0, &embed, &x);
    x = sample_in(ir_graph_out(g, o, 0), no, no, ir_graph_param(g, "w", w, IR_INIT_NORMAL, 1), no, no);
    o = ir_graph_op(g, IR_OP_LINEAR, "qkv", 0, &in, &x);
    x = sample_in(ir_graph_out(g, o, 0), no, no, ir_graph_param(g, "s", sinks, IR_INIT_NORMAL, 1), no, no);
    o = ir_graph_op(g, IR_OP_ATTENTION, "a", 0, a, &x);
    x = sample_in(ir_graph_out(g, o, 0), no, no, ir_graph_param(g, "wo", wo, IR_INIT_NORMAL, 1), no, no);
    o = ir_graph_op(g, IR_OP_LINEAR, "out", 0, &out, &x);
    x = sample_in(ir_graph_out(g, o, 0), targets, no, e, no, no);
    ir_graph_op(g, IR_OP_HEAD_LOSS, "head", 0, &embed, &x);
}

/* Attributes that came later: columns of their own where a model uses them, part of the digest; else neither. */
START_TEST(attributes_that_came_later)
{
    struct job j, k;
    uint8_t digest[32];
    void *bytes;
    uint64_t n;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &bytes, &n, &e));
    ck_assert_ptr_null(memmem(bytes, n, "window", 6));
    mem_free(bytes);
    ir_graph_release(&j.graph);
    attention_graph(&j.graph, &(struct ir_attrs){ .heads = 2,
                                                  .kv_heads = 1,
                                                  .head_dim = 8,
                                                  .scale = 0.25f,
                                                  .flags = IR_PACKED | IR_SINKS,
                                                  .v_head_dim = 16,
                                                  .window = 5,
                                                  .score_cap = 30 });
    ASSERT_OK(job_write(path, &j, &e));
    memcpy(digest, j.model_digest, 32);
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert(same_job(&j, &k));
    job_release(&k);
    j.graph.ops.at[2].attrs.window = 6;
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_ne(memcmp(digest, j.model_digest, 32), 0);
    job_release(&j);
}
END_TEST

/* embed -> rope with a list -> rope with another -> head. */
static void rope_graph(struct ir_graph *g, float last)
{
    const struct ir_shape ids = { IR_I32, 1, { 8 } }, table = { IR_COMPUTE, 2, { 11, 6 } };
    const uint32_t no = IR_NONE;
    const float three[] = { 1, 0.1f, last };
    const struct ir_freqs all = { 3, three }, two = { 2, three };
    const struct ir_attrs embed = { .vocab = 11, .features = 6 },
                          whole = { .heads = 1, .head_dim = 6, .inv_freq = &all },
                          part = { .heads = 1, .head_dim = 6, .inv_freq = &two, .rotary_dim = 4, .scale = 1.5f };
    ir_graph_init(g);
    g->family = "graph";
    g->seq_len = 8;
    g->vocab = 11;
    g->n_blocks = 1;
    const uint32_t tokens = ir_graph_input(g, "tokens", ids), targets = ir_graph_input(g, "targets", ids);
    const uint32_t w = ir_graph_param(g, "e", table, IR_INIT_NORMAL, 1);
    struct ir_op_in x = sample_in(tokens, no, no, w, no, no);
    uint32_t o = ir_graph_op(g, IR_OP_EMBED, "embed", 0, &embed, &x);
    x = sample_in(ir_graph_out(g, o, 0), no, no, no, no, no);
    o = ir_graph_op(g, IR_OP_ROPE, "r", 0, &whole, &x);
    x = sample_in(ir_graph_out(g, o, 0), no, no, no, no, no);
    o = ir_graph_op(g, IR_OP_ROPE, "s", 0, &part, &x);
    x = sample_in(ir_graph_out(g, o, 0), targets, no, w, no, no);
    ir_graph_op(g, IR_OP_HEAD_LOSS, "head", 0, &embed, &x);
}

/* Frequencies of rope: columns where a model has them, read back, part of the digest; a list of another length is refused. */
START_TEST(lists_of_frequencies)
{
    struct job j, k;
    uint8_t digest[32];
    char text[256];
    sample_job(&j);
    ir_graph_release(&j.graph);
    rope_graph(&j.graph, 0.01f);
    ASSERT_OK(job_write(path, &j, &e));
    memcpy(digest, j.model_digest, 32);
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert(same_job(&j, &k));
    ck_assert(k.graph.ops.at[1].attrs.inv_freq->at[2] == 0.01f && k.graph.ops.at[2].attrs.inv_freq->n == 2);
    ir_graph_release(&k.graph);
    rope_graph(&k.graph, 0.02f);
    ck_assert(!ir_graph_same(&j.graph, &k.graph, text, sizeof text));
    ck_assert_str_eq(text, "operator r has inv_freq[2] 0.00999999978 in one and 0.0199999996 in the other");
    ASSERT_OK(job_write(path, &k, &e));
    ck_assert_int_ne(memcmp(digest, k.model_digest, 32), 0);
    job_release(&k);
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    ck_assert(file >= 0 && H5Ldelete(file, "model/operators/inv_freq_count", H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
    ck_assert_int_eq(job_read(path, &k, &e), ST_INPUT);
    job_release(&j);
}
END_TEST

/* At whatever time: a second later. */
START_TEST(same_contents_same_bytes)
{
    const struct timespec second = { .tv_sec = 1 };
    struct job j;
    void *a, *b;
    uint64_t na, nb;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_eq(nanosleep(&second, NULL), 0);
    ASSERT_OK(job_write(other, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &a, &na, &e));
    ASSERT_OK(file_read_all(other, 1 << 26, &b, &nb, &e));
    ck_assert_uint_eq(na, nb);
    ck_assert_int_eq(memcmp(a, b, na), 0);
    mem_free(a);
    mem_free(b);
    job_release(&j);
}
END_TEST

START_TEST(digests_see_what_counts)
{
    struct job j;
    uint8_t model[32], all[32];
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    memcpy(model, j.model_digest, 32);
    memcpy(all, j.digest, 32);
    j.train.steps++; /* not the model, but the job */
    j.graph.ops.at[0].tag[0] = 1;
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_eq(memcmp(model, j.model_digest, 32), 0);
    ck_assert_int_ne(memcmp(all, j.digest, 32), 0);
    j.train.dtype = IR_F32;
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_ne(memcmp(model, j.model_digest, 32), 0);
    memcpy(model, j.model_digest, 32);
    j.graph.ops.at[1].attrs.eps = 1e-5f;
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_ne(memcmp(model, j.model_digest, 32), 0);
    job_release(&j);
}
END_TEST

/* What files of older programs lack means the default, and then they are the same job. */
START_TEST(settings_that_came_later)
{
    struct job j, k;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    hid_t file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    ck_assert(file >= 0 && H5Ldelete(file, "train/checkpoint_minutes", H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert_double_eq(k.train.checkpoint_minutes, 30);
    ck_assert(same_job(&j, &k));
    job_release(&k);
    j.train.checkpoint_minutes = 0.5;
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert_double_eq(k.train.checkpoint_minutes, 0.5);
    ck_assert_int_ne(memcmp(j.digest, (uint8_t[SHA256_BYTES]){ 0 }, SHA256_BYTES), 0);
    file = H5Fopen(path, H5F_ACC_RDWR, H5P_DEFAULT);
    ck_assert(file >= 0 && H5Ldelete(file, "train/checkpoint_minutes", H5P_DEFAULT) >= 0 && H5Fclose(file) >= 0);
    job_release(&k);
    ck_assert_int_eq(job_read(path, &k, &e), ST_INPUT); /* its digest was of another value */
    err_clear(&e);
    job_release(&j);
}
END_TEST

START_TEST(refusals)
{
    struct job j, k;
    sample_job(&j);
    ASSERT_FAILS(job_read(path, &k, &e), ST_MISSING, "job.h5: cannot be read: No such file");
    ASSERT_FAILS(job_read(folder, &k, &e), ST_MISSING, "not a regular file");
    sample_write_file(path, "", 0);
    ASSERT_FAILS(job_read(path, &k, &e), ST_INPUT, "is empty, expected a job file (piper build writes one)");
    char zeros[100] = { 0 };
    sample_write_file(path, zeros, sizeof zeros);
    ASSERT_FAILS(job_read(path, &k, &e), ST_INPUT, "not an HDF5 file");
    memcpy(zeros, "\x89HDF\r\n\x1a\n", 9); /* superblock version 0 */
    sample_write_file(path, zeros, sizeof zeros);
    ASSERT_FAILS(job_read(path, &k, &e), ST_INPUT, "old HDF5 format");
    ASSERT_FAILS(job_write("/nonexistent-folder/job.h5", &j, &e), ST_IO, "No such file");
    j.train.seq_len = 4;
    ASSERT_FAILS(job_write(path, &j, &e), ST_INPUT, "seq_len");
    job_release(&j);
}
END_TEST

START_TEST(no_permission)
{
    struct job j;
    if (geteuid() == 0 && (setegid(65534) != 0 || seteuid(65534) != 0))
        return; /* root may write anywhere: nothing to see */
    sample_job(&j);
    ASSERT_FAILS(job_write("/job.h5", &j, &e), ST_IO, "Permission denied");
    job_release(&j);
    if (getuid() == 0)
        ck_assert_int_eq(seteuid(0) | setegid(0), 0);
}
END_TEST

START_TEST(full_disk_leaves_the_old_file)
{
    struct job j, k;
    struct rlimit old, small = { 8000, RLIM_INFINITY };
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ck_assert_int_eq(getrlimit(RLIMIT_FSIZE, &old), 0);
    small.rlim_max = old.rlim_max;
    signal(SIGXFSZ, SIG_IGN);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &small), 0);
    enum status st = job_write(path, &j, &e);
    ck_assert_int_eq(setrlimit(RLIMIT_FSIZE, &old), 0);
    ck_assert_int_eq(st, ST_IO);
    ck_assert_msg(strstr(e.text, "File too large") != NULL, "%s", e.text);
    err_clear(&e);
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert(same_job(&j, &k));
    job_release(&j);
    job_release(&k);
}
END_TEST

/* Reads bytes as a file; they must be refused, or be the same job. */
static bool refused_or_equal(const void *bytes, size_t n, const struct job *want)
{
    struct job k;
    sample_write_file(other, bytes, n);
    err_clear(&e);
    enum status st = job_read(other, &k, &e);
    if (st != ST_OK) {
        ck_assert(st == ST_INPUT || st == ST_MISSING);
        ck_assert_uint_gt(strlen(e.text), 10);
        err_clear(&e);
        return true;
    }
    bool same = same_job(want, &k);
    job_release(&k);
    return same;
}

static uint64_t next_random(uint64_t *x)
{
    *x ^= *x << 13;
    *x ^= *x >> 7;
    return *x ^= *x << 17;
}

/* HDF5 identifiers of all kinds that can be left open. */
static uint64_t open_ids(void)
{
    static const H5I_type_t kinds[] = { H5I_FILE,     H5I_GROUP,     H5I_DATASET,     H5I_ATTR,
                                        H5I_DATATYPE, H5I_DATASPACE, H5I_GENPROP_LST, H5I_ERROR_STACK };
    uint64_t all = 0;
    hsize_t n;
    for (size_t i = 0; i < sizeof kinds / sizeof kinds[0]; i++)
        if (H5Inmembers(kinds[i], &n) >= 0)
            all += n;
    return all;
}

START_TEST(nothing_is_left_open)
{
    struct job j, k;
    void *data;
    uint64_t n, before = 0;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &data, &n, &e));
    for (int turn = 0; turn < 40; turn++) {
        uint8_t *b = data;
        ASSERT_OK(job_write(path, &j, &e));
        ASSERT_OK(job_read(path, &k, &e));
        job_release(&k);
        b[n / 41 * (uint64_t)turn + 8] ^= 0x40;
        ck_assert(refused_or_equal(b, n, &j));
        b[n / 41 * (uint64_t)turn + 8] ^= 0x40;
        if (turn == 0)
            before = open_ids();
        ck_assert_uint_eq(open_ids(), before);
    }
    mem_free(data);
    job_release(&j);
}
END_TEST

/* IO_FLIP_STEP=1 turns over every byte; the default tries some of them, at another place in each bit. */
START_TEST(every_byte_flipped)
{
    struct job j;
    void *data;
    uint64_t n;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &data, &n, &e));
    uint8_t *b = data;
    uint64_t step = getenv("IO_FLIP_STEP") ? strtoull(getenv("IO_FLIP_STEP"), NULL, 10) : 37;
    for (uint64_t i = 0; i < n; i += step) {
        uint8_t flip = step == 1 ? 0xff : (uint8_t)(1u << i % 8);
        b[i] ^= flip;
        ck_assert_msg(refused_or_equal(b, n, &j), "byte %lu of %lu flipped: another job was read", (unsigned long)i,
                      (unsigned long)n);
        b[i] ^= flip;
    }
    mem_free(data);
    job_release(&j);
}
END_TEST

START_TEST(every_length)
{
    struct job j;
    void *data;
    uint64_t n;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &data, &n, &e));
    for (uint64_t i = 0; i < n; i += n / 100 + 1)
        ck_assert(refused_or_equal(data, i, &j));
    mem_free(data);
    job_release(&j);
}
END_TEST

/* IO_MUTATIONS: how many; several bytes each, runs copied, moved and filled. */
START_TEST(random_mutations)
{
    struct job j;
    void *data;
    uint64_t n, x = 88172645463325252u;
    sample_job(&j);
    ASSERT_OK(job_write(path, &j, &e));
    ASSERT_OK(file_read_all(path, 1 << 26, &data, &n, &e));
    uint8_t *b = mem_alloc(n);
    int turns = getenv("IO_MUTATIONS") ? atoi(getenv("IO_MUTATIONS")) : 300;
    for (int t = 0; t < turns; t++) {
        memcpy(b, data, n);
        for (uint64_t k = next_random(&x) % 4 + 1; k; k--) {
            uint64_t at = next_random(&x) % n, len = next_random(&x) % 40 + 1, from = next_random(&x) % n;
            len = at + len > n ? n - at : len;
            len = from + len > n ? n - from : len;
            switch (next_random(&x) % 3) {
            case 0:
                b[at] = (uint8_t)next_random(&x);
                break;
            case 1:
                memmove(b + at, b + from, len);
                break;
            default:
                memset(b + at, next_random(&x) % 2 ? 0 : 0xff, len);
            }
        }
        ck_assert_msg(refused_or_equal(b, n, &j), "mutation %d: another job was read", t);
    }
    mem_free(b);
    mem_free(data);
    job_release(&j);
}
END_TEST

static void digest_text(const char *text, size_t repeat, const char *want)
{
    struct sha256 s;
    uint8_t d[32], back[32];
    char hex[SHA256_HEX];
    sha256_init(&s);
    for (size_t i = 0; i < repeat; i++)
        sha256_add(&s, text, strlen(text));
    sha256_end(&s, d);
    sha256_hex(d, hex);
    ck_assert_str_eq(hex, want);
    ck_assert(sha256_unhex(hex, back));
    ck_assert_int_eq(memcmp(d, back, 32), 0);
}

START_TEST(sha256_vectors) /* FIPS 180-4 examples and the NIST example of a million a */
{
    digest_text("", 1, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    digest_text("abc", 1, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    digest_text("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq", 1,
                "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
    digest_text("a", 1000000, "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
    uint8_t d[32];
    ck_assert(!sha256_unhex("abc", d));
}
END_TEST

int main(void)
{
    Suite *s = suite_create("io_job");
    TCase *t = tcase_create("job");
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, make_folder, drop_folder);
    tcase_add_test(t, round_trip);
    tcase_add_test(t, attributes_that_came_later);
    tcase_add_test(t, lists_of_frequencies);
    tcase_add_test(t, same_contents_same_bytes);
    tcase_add_test(t, digests_see_what_counts);
    tcase_add_test(t, settings_that_came_later);
    tcase_add_test(t, refusals);
    tcase_add_test(t, no_permission);
    tcase_add_test(t, sha256_vectors);
    suite_add_tcase(s, t);
    t = tcase_create("damage"); /* HDF5 itself leaks here: not for leak checkers */
    tcase_set_timeout(t, 600);
    tcase_add_checked_fixture(t, make_folder, drop_folder);
    tcase_add_test(t, nothing_is_left_open);
    tcase_add_test(t, every_byte_flipped);
    tcase_add_test(t, every_length);
    tcase_add_test(t, random_mutations);
    tcase_add_test(t, full_disk_leaves_the_old_file);
    suite_add_tcase(s, t);
    return suite_run(s);
}
