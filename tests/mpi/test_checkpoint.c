/* Checkpoints on any number of ranks: written under one partition, read under another, damaged, missing, full of wrong
 * pieces; jobs and traces of several ranks. Check with CK_FORK=no: run by tests/run-mpi. */
#include "io/checkpoint.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "io/checkpoint_private.h"
#include "io/job.h"
#include "io/model.h"
#include "io/trace.h"
#include "comm/world.h"
#include "tests/unit/io_sample.h"

static struct err e;
static struct ir_graph graph;
static char folder[256], path[300];
static struct dir run;
static uint8_t digest[SHA256_BYTES];

/* Collective: a folder that all ranks know. */
static void begin(void)
{
    err_clear(&e);
    if (world_rank() == 0)
        snprintf(folder, sizeof folder, "%s", sample_folder());
    world_broadcast(folder, sizeof folder);
    snprintf(path, sizeof path, "%s/c.h5", folder);
    ASSERT_OK(dir_open(folder, &run, &e));
    sample_graph(&graph);
    model_digest(&graph, IR_F32, digest);
}

static void end(void)
{
    dir_close(&run);
    world_barrier();
    if (world_rank() == 0)
        sample_folder_remove(folder);
    world_barrier();
    ir_graph_release(&graph);
}

/* Elements are known by place. */
static float element(uint32_t param, uint64_t i, int kind)
{
    uint32_t x = (uint32_t)(i * 2654435761u + param * 40503u + (uint32_t)kind * 977u),
             bits = (x & 0x807fffff) | 0x3f000000;
    float f;
    memcpy(&f, &bits, 4);
    return f;
}

struct pieces {
    VEC(struct checkpoint_piece);
};

static void add_piece(struct pieces *v, uint32_t param, uint64_t first, uint64_t count, bool fill)
{
    struct checkpoint_piece p = { .param = param, .first = first, .count = count };
    float **to[3] = { &p.data, &p.m, &p.v };
    for (int k = 0; k < 3; k++) {
        *to[k] = mem_alloc(count * 4);
        for (uint64_t i = 0; fill && i < count; i++)
            (*to[k])[i] = element(param, first + i, k);
    }
    vec_add(v, p);
}

static uint64_t elements(uint32_t param)
{
    return ir_shape_elements(&graph.params.at[param].shape);
}

/* Ways to share out: 0 rank 0 has all; 1 equal cuts, not at block borders; 2 whole tensors round robin; 3 many small
 * cuts dealt out in turn. */
static void share(struct pieces *v, int way, bool fill)
{
    uint64_t rank = world_rank(), size = world_size();
    for (uint32_t p = 0; p < graph.params.n; p++) {
        uint64_t n = elements(p);
        if (way == 0 && rank == 0)
            add_piece(v, p, 0, n, fill);
        if (way == 1)
            add_piece(v, p, n * rank / size, n * (rank + 1) / size - n * rank / size, fill);
        if (way == 2 && p % size == rank)
            add_piece(v, p, 0, n, fill);
        for (uint64_t at = 0, turn = 0; way == 3 && at < n; turn++) {
            uint64_t step = n / 13 + 1 + turn % 3 < n - at ? n / 13 + 1 + turn % 3 : n - at;
            if (turn % size == rank)
                add_piece(v, p, at, step, fill);
            at += step;
        }
    }
}

static void drop(struct pieces *v)
{
    for (uint32_t i = 0; i < v->n; i++) {
        mem_free(v->at[i].data);
        mem_free(v->at[i].m);
        mem_free(v->at[i].v);
    }
    vec_free(v);
}

static void check_pieces(const struct pieces *v, bool moments)
{
    for (uint32_t i = 0; i < v->n; i++) {
        const struct checkpoint_piece *p = &v->at[i];
        const float *data[3] = { p->data, p->m, p->v };
        for (int k = 0; k < 3; k++)
            for (uint64_t j = 0; j < p->count; j++) {
                float want = k && !moments ? 0 : element(p->param, p->first + j, k);
                ck_assert_msg(memcmp(&data[k][j], &want, 4) == 0, "param %u element %lu kind %d: %g, expected %g",
                              p->param, (unsigned long)(p->first + j), k, (double)data[k][j], (double)want);
            }
    }
}

static struct checkpoint_info sample_info(const char *optimizer, uint64_t step)
{
    struct checkpoint_info info = { .step = step,
                                    .updates = step - step / 4,
                                    .sample = step * 16,
                                    .seed = 7,
                                    .data = { 2, { { "a", 1000, { 1, 2 } }, { "b \"\\ \xc3\xa4", 3, { 255 } } } } };
    strcpy(info.optimizer, optimizer);
    strcpy(info.build, "piper test");
    memset(info.job_digest, 5, sizeof info.job_digest);
    memcpy(info.model_digest, digest, sizeof digest);
    return info;
}

/* One file of these pieces. */
static enum status write_file(const char *to, const struct checkpoint_info *info, const struct pieces *v)
{
    struct checkpoint_writer *w;
    TRY(checkpoint_begin(to, info, &graph, &w, &e));
    enum status st = ST_OK;
    for (uint32_t i = 0; st == ST_OK && i < v->n; i++)
        st = checkpoint_put(w, &v->at[i], &e);
    enum status synced = checkpoint_sync(w, &e);
    return checkpoint_end(w, st == ST_OK ? synced : st, &e);
}

static struct checkpoint_setup setup_of(const struct pieces *v, struct checkpoint_keep keep)
{
    return (struct checkpoint_setup){ .dir = &run,
                                      .graph = &graph,
                                      .info = sample_info("adamw", 0),
                                      .keep = keep,
                                      .loaded = UINT64_MAX,
                                      .pieces = v->at,
                                      .n_pieces = v->n };
}

static enum status save(struct checkpoint_saver *s, uint64_t step)
{
    bool done = false;
    enum status st = ST_OK;
    checkpoint_save_begin(s, step, step * 16, step - step / 4);
    while (!done)
        st = checkpoint_save_advance(s, &done, &e);
    return st;
}

static void write_sample(const char *to, const char *optimizer, uint64_t step, int way)
{
    struct pieces v = { 0 };
    struct checkpoint_info info = sample_info(optimizer, step);
    share(&v, way, true);
    ASSERT_OK(write_file(to, &info, &v));
    drop(&v);
}

START_TEST(any_partition_to_any_other)
{
    begin();
    for (int from = 0; from < 4; from++) {
        write_sample(path, from == 2 ? "sgd" : "adamw", 100, from);
        for (int to = 0; to < 4; to++) {
            struct pieces v = { 0 };
            struct checkpoint_info info = { 0 };
            share(&v, to, false);
            ASSERT_OK(checkpoint_read(path, &graph, digest, v.at, v.n, &info, &e));
            check_pieces(&v, from != 2);
            ck_assert_uint_eq(info.step, 100);
            ck_assert_uint_eq(info.sample, 1600);
            ck_assert_uint_eq(info.seed, 7);
            ck_assert_str_eq(info.optimizer, from == 2 ? "sgd" : "adamw");
            ck_assert_int_eq(info.job_digest[31], 5);
            drop(&v);
        }
    }
    struct pieces all = { 0 }; /* overlap: every rank reads everything */
    struct checkpoint_info info;
    for (uint32_t p = 0; p < graph.params.n; p++)
        add_piece(&all, p, 0, elements(p), false);
    ASSERT_OK(checkpoint_read(path, &graph, digest, all.at, all.n, &info, &e));
    check_pieces(&all, true);
    drop(&all);
    end();
}
END_TEST

/* Tensors of one block less or more and of several: contents, and hashes that do not depend on how ranks cut them. */
static void check_blocks(uint32_t words)
{
    block_words = words;
    for (int way = 0; way < 4; way++) {
        struct pieces v = { 0 };
        struct checkpoint_info info;
        write_sample(path, "adamw", 3, way);
        share(&v, (way + 1) % 4, false);
        ASSERT_OK(checkpoint_read(path, &graph, digest, v.at, v.n, &info, &e));
        check_pieces(&v, true);
        drop(&v);
        struct ckpt__file f;
        ASSERT_OK(ckpt__open(NULL, path, &f, &e));
        for (uint64_t b = 0; world_rank() == 0 && b < block_count(elements(0)); b++) {
            struct block_hash want = { 0 }, found;
            for (uint64_t i = b * block_words; i < (b + 1) * block_words && i < elements(0); i++) {
                float x = element(0, i, 2);
                block_hash_add(&want, &x, 1, (uint32_t)(i % block_words));
            }
            ck_assert_int_eq(pread(f.fd, &found, sizeof found, (off_t)(f.place[0].hash[2] + b * sizeof found)),
                             sizeof found);
            ck_assert(found.a == want.a && found.b == want.b);
        }
        ckpt__close(&f);
    }
}

START_TEST(many_blocks)
{
    static const uint32_t words[] = {
        7, 64, 91, 185, 186, 187
    }; /* a tensor of 186 elements: 2B + 4, B + 1, B, B - 1 */
    const uint32_t format = block_words;
    begin();
    ir_graph_release(&graph);
    sample_graph_of(&graph, 31);
    model_digest(&graph, IR_F32, digest);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++)
        check_blocks(words[i]);
    block_words = format;
    ir_graph_release(&graph);
    sample_graph_of(&graph, 3 * block_words / SAMPLE_C + 17);
    model_digest(&graph, IR_F32, digest);
    check_blocks(format);
    end();
}
END_TEST

/* Ranks that do not share the folder: no rank but 0 makes a file, so nothing gets a name that is not whole. */
START_TEST(folders_apart)
{
    char own[280], file[340];
    struct pieces v = { 0 };
    struct checkpoint_saver *s;
    struct dir mine;
    begin();
    share(&v, 1, true);
    snprintf(own, sizeof own, "%s%s", folder, world_rank() ? "/apart" : "");
    snprintf(file, sizeof file, "%s/apart/checkpoints", folder);
    if (world_rank() == 0) {
        snprintf(path, sizeof path, "%s/apart", folder);
        ck_assert(mkdir(path, 0700) == 0 && mkdir(file, 0700) == 0);
    }
    world_barrier();
    struct checkpoint_setup setup = setup_of(&v, (struct checkpoint_keep){ 0 });
    ASSERT_OK(dir_open(own, &mine, &e));
    setup.dir = &mine;
    ASSERT_OK(checkpoint_saver_open(&setup, &s, &e));
    if (world_size() > 1)
        ASSERT_FAILS(save(s, 5), ST_IO, "No such file");
    else
        ASSERT_OK(save(s, 5));
    checkpoint_saver_close(s);
    dir_close(&mine);
    struct checkpoint_entries list;
    ASSERT_OK(checkpoint_list(&run, &list, &e));
    ck_assert_uint_eq(list.n, world_size() == 1);
    checkpoint_entries_release(&list);
    world_barrier();
    ck_assert(world_rank() != 0 || rmdir(file) == 0); /* empty */
    drop(&v);
    end();
}
END_TEST

START_TEST(wrong_pieces_are_a_fault)
{
    begin();
    struct pieces v = { 0 };
    struct checkpoint_saver *s;
    share(&v, 1, true);
    struct checkpoint_setup setup = setup_of(&v, (struct checkpoint_keep){ 0 });
    uint32_t last = v.n - 1;
    if (world_rank() == world_size() - 1)
        v.at[last].count--; /* a hole */
    ASSERT_FAILS(checkpoint_saver_open(&setup, &s, &e), ST_BUG, "model.norm.weight hold 5 elements");
    if (world_rank() == world_size() - 1) {
        v.at[last].count++;
        v.at[last].first--; /* right number, wrong place */
    }
    ASSERT_FAILS(checkpoint_saver_open(&setup, &s, &e), ST_BUG, world_size() > 1 ? "once" : "outside");
    drop(&v);
    end();
}
END_TEST

static void flip_byte(const char *file, long offset)
{
    world_barrier();
    if (world_rank() == 0) {
        FILE *f = fopen(file, "r+b");
        ck_assert_ptr_nonnull(f);
        fseek(f, offset, SEEK_SET);
        int c = fgetc(f);
        fseek(f, offset, SEEK_SET);
        fputc(c ^ 0x10, f);
        fclose(f);
    }
    world_barrier();
}

/* Words at two places. */
static void exchange(const char *file, off_t a, off_t b)
{
    world_barrier();
    if (world_rank() == 0) {
        uint32_t x, y;
        int fd = open(file, O_RDWR);
        ck_assert(pread(fd, &x, 4, a) == 4 && pread(fd, &y, 4, b) == 4 && x != y);
        ck_assert(pwrite(fd, &y, 4, a) == 4 && pwrite(fd, &x, 4, b) == 4);
        close(fd);
    }
    world_barrier();
}

/* Every byte (every 61st by default; CHECKPOINT_FLIP_STEP) of a checkpoint turned over: refused, or the same contents.
 */
START_TEST(damage_is_found)
{
    begin();
    write_sample(path, "adamw", 9, 1);
    FILE *f = fopen(path, "rb");
    fseek(f, 0, SEEK_END);
    long size = ftell(f), step = getenv("CHECKPOINT_FLIP_STEP") ? atol(getenv("CHECKPOINT_FLIP_STEP")) : 61,
         refused = 0;
    fclose(f);
    struct checkpoint_info whole;
    ASSERT_OK(checkpoint_verify(path, &whole, &e));
    for (long at = 0; at < size; at += step) {
        struct pieces v = { 0 };
        struct checkpoint_info info = { 0 };
        share(&v, 2, false);
        flip_byte(path, at);
        enum status st = checkpoint_read(path, &graph, digest, v.at, v.n, &info, &e);
        flip_byte(path, at);
        if (st == ST_OK) {
            check_pieces(&v, true);
            ck_assert_mem_eq(&info, &whole, sizeof info);
        } else
            ck_assert_msg(st == ST_INPUT && e.text[0], "byte %ld: status %d: %s", at, st, e.text);
        refused += st != ST_OK;
        err_clear(&e);
        drop(&v);
    }
    ck_assert_int_gt(refused * step, (long)elements(0) * 12);
    world_barrier();
    if (world_rank() == 0)
        ck_assert_int_eq(truncate(path, size - 1), 0);
    world_barrier();
    struct checkpoint_info info;
    ASSERT_FAILS(checkpoint_verify(path, &info, &e), ST_INPUT, "c.h5");
    end();
}
END_TEST

/* Two words of a block that change places, next to each other and far apart, in the parts of one rank and of two. */
START_TEST(order_of_words)
{
    const uint64_t apart[] = { 1, 31, 64 };
    struct checkpoint_info info;
    struct ckpt__file f;
    begin();
    write_sample(path, "adamw", 9, 1);
    for (size_t i = 0; i < sizeof apart / sizeof *apart; i++)
        for (uint32_t kind = 0; kind < CKPT_KINDS; kind++) {
            ASSERT_OK(ckpt__open(NULL, path, &f, &e));
            const off_t at = (off_t)f.place[0].data[kind];
            ckpt__close(&f);
            exchange(path, at, at + (off_t)apart[i] * 4);
            ASSERT_FAILS(checkpoint_verify(path, &info, &e), ST_INPUT, "the file is damaged");
            exchange(path, at, at + (off_t)apart[i] * 4);
            ASSERT_OK(checkpoint_verify(path, &info, &e));
        }
    end();
}
END_TEST

START_TEST(other_models_are_refused)
{
    begin();
    write_sample(path, "adamw", 9, 1);
    struct pieces v = { 0 };
    struct checkpoint_info info;
    uint8_t wrong[SHA256_BYTES] = { 0 };
    share(&v, 0, false);
    ASSERT_FAILS(checkpoint_read(path, &graph, wrong, v.at, v.n, &info, &e), ST_INPUT, "dtype");
    graph.ops.at[1].attrs.eps = 1;
    ASSERT_FAILS(checkpoint_read(path, &graph, digest, v.at, v.n, &info, &e), ST_INPUT, "another model");
    drop(&v);
    snprintf(path, sizeof path, "%s/none.h5", folder);
    ASSERT_FAILS(checkpoint_verify(path, &info, &e), ST_MISSING, "No such file");
    snprintf(path, sizeof path, "%s/none/c.h5", folder);
    struct checkpoint_info w = sample_info("sgd", 1);
    share(&v, 1, true);
    ASSERT_FAILS(write_file(path, &w, &v), ST_IO, "No such file");
    drop(&v);
    end();
}
END_TEST

static char warned[1024];
static void take_warning(void *arg, const char *text)
{
    (void)arg;
    snprintf(warned, sizeof warned, "%s", text);
}

START_TEST(folders)
{
    begin();
    struct checkpoint_keep keep = { .last = 2, .every = 40 };
    struct checkpoint_expect expect = { &graph, digest, take_warning, NULL };
    struct checkpoint_entries list;
    struct checkpoint_info info;
    struct pieces v = { 0 };
    bool found = true;
    share(&v, 1, true);
    ASSERT_OK(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e));
    ck_assert(!found);
    char orphan[400], stranger[400];
    snprintf(orphan, sizeof orphan, "%s/checkpoints/step-000033.h5.0123456789abcdef.tmp", folder);
    snprintf(stranger, sizeof stranger, "%s/checkpoints/notes.tmp", folder);
    struct checkpoint_setup setup = setup_of(&v, keep);
    struct checkpoint_saver *s;
    for (int run = 0; run < 2; run++) {
        ASSERT_OK(checkpoint_saver_open(&setup, &s, &e));
        ck_assert_int_ne(access(orphan, F_OK), 0);
        for (uint64_t step = run ? 50 : 10; step <= (run ? 70 : 40); step += 10) {
            ck_assert(checkpoint_save_idle(s));
            ASSERT_OK(save(s, step));
        }
        if (world_rank() == 0 && run == 0) {
            sample_write_file(orphan, "x", 1);
            sample_write_file(stranger, "x", 1);
        }
        world_barrier();
        checkpoint_saver_close(s);
    }
    world_barrier();
    ASSERT_OK(checkpoint_list(&run, &list, &e));
    const uint64_t stay[] = { 40, 60, 70 };
    ck_assert_uint_eq(list.n, 3);
    ck_assert_int_ne(access(orphan, F_OK), 0);
    ck_assert_int_eq(access(stranger, F_OK), 0);
    for (uint32_t i = 0; i < 3; i++)
        ck_assert_uint_eq(list.at[i].step, stay[i]);
    ck_assert_ptr_nonnull(strstr(list.at[2].path, "/checkpoints/step-000070.h5"));
    ASSERT_OK(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e));
    ck_assert(found && info.step == 70 && info.updates == 53 && !warned[0]);
    ck_assert_mem_eq(&info.data, &setup.info.data, sizeof info.data);
    check_pieces(&v, true);
    flip_byte(list.at[2].path, 1);
    ASSERT_OK(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e));
    ck_assert(found && info.step == 60);
    if (world_rank() == 0)
        ck_assert_ptr_nonnull(strstr(warned, "step-000070.h5"));
    graph.ops.at[1].attrs.eps = 1;
    ASSERT_FAILS(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e), ST_INPUT, "another model");
    graph.ops.at[1].attrs.eps = 1e-6f;
    if (world_rank() == 0) {
        struct checkpoint_differences d;
        ASSERT_OK(checkpoint_diff(list.at[0].path, list.at[1].path, &d, &e));
        ck_assert_uint_eq(d.n, 1); /* they are alike but for the count */
        ck_assert_str_eq(d.at[0].name, "optimizer/updates");
        ck_assert_double_eq(d.at[0].most, 45 - 30);
        checkpoint_differences_release(&d);
    }
    checkpoint_entries_release(&list);
    drop(&v);
    end();
}
END_TEST

START_TEST(differences_are_named)
{
    begin();
    char second[300];
    snprintf(second, sizeof second, "%s/d.h5", folder);
    write_sample(path, "adamw", 9, 1);
    struct pieces v = { 0 };
    struct checkpoint_info info = sample_info("adamw", 9);
    share(&v, 0, true);
    if (world_rank() == 0) {
        v.at[2].data[3] += 0.25f;
        v.at[4].v[5] += 2.0f;
    }
    ASSERT_OK(write_file(second, &info, &v));
    if (world_rank() == 0) {
        struct checkpoint_differences d;
        ASSERT_OK(checkpoint_diff(path, second, &d, &e));
        ck_assert_uint_eq(d.n, 2);
        ck_assert_str_eq(d.at[0].name, "params/model.layers.0.mlp.gate.weight");
        ck_assert_double_eq_tol(d.at[0].most, 0.25, 1e-6);
        ck_assert_uint_eq(d.at[0].differ, 1);
        ck_assert_str_eq(d.at[1].name, "optimizer/v/model.layers.0.mlp.experts.*.up_proj.weight");
        ck_assert_double_eq_tol(d.at[1].most, 2.0, 1e-6);
        checkpoint_differences_release(&d);
    }
    drop(&v);
    end();
}
END_TEST

/* On rank 0, in HDF5's own words: gives an attribute of the root another number, or makes a group. */
static void edit(const char *file, const char *attribute, uint64_t value, const char *group)
{
    world_barrier();
    if (world_rank() == 0) {
        hid_t f = H5Fopen(file, H5F_ACC_RDWR, H5P_DEFAULT);
        ck_assert(f >= 0);
        if (attribute) {
            hid_t a = H5Aopen(f, attribute, H5P_DEFAULT);
            ck_assert(a >= 0 && H5Awrite(a, H5T_NATIVE_UINT64, &value) >= 0);
            H5Aclose(a);
        }
        if (group)
            H5Gclose(H5Gcreate2(f, group, H5P_DEFAULT, H5P_DEFAULT, H5P_DEFAULT));
        H5Fclose(f);
    }
    world_barrier();
}

/* A version to come is refused with both numbers, and no older checkpoint is taken for it; so is what this build only has a
 * name for, whose weights can be read all the same. */
START_TEST(what_is_newer)
{
    static const char *const groups[] = { "/router", "/outer", "/optimizer/updates" };
    begin();
    struct checkpoint_info info;
    struct checkpoint_expect expect = { &graph, digest, take_warning, NULL };
    struct pieces v = { 0 };
    bool found;
    char last[400];
    warned[0] = '\0';
    share(&v, 1, true);
    snprintf(last, sizeof last, "%s/checkpoints", folder);
    if (world_rank() == 0)
        mkdir(last, 0777);
    for (int i = 0; i < 2; i++) {
        world_barrier();
        snprintf(last, sizeof last, "%s/checkpoints/step-%06d.h5", folder, 20 + i);
        write_sample(last, "adamw", 20 + (uint64_t)i, 1);
    }
    edit(last, "schema_version", 3, NULL);
    ASSERT_FAILS(checkpoint_verify(last, &info, &e), ST_INPUT, "found 3, this version of piper reads versions up to 2");
    ASSERT_FAILS(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e), ST_INPUT, "found 3");
    ck_assert(!found && !warned[0]);
    edit(last, "schema_version", 0, NULL);
    ASSERT_FAILS(checkpoint_verify(last, &info, &e), ST_INPUT, "found 0, expected 1 to 2");
    edit(last, "schema_version", 2, NULL);
    edit(last, "updates", 22, NULL);
    ASSERT_FAILS(checkpoint_verify(last, &info, &e), ST_INPUT, "updates: found 22, expected at most 21");
    for (size_t i = 0; i < sizeof groups / sizeof *groups; i++) {
        world_barrier();
        write_sample(last, "adamw", 21, 1);
        edit(last, NULL, 0, groups[i]);
        ASSERT_OK(checkpoint_verify(last, &info, &e));
        ck_assert_str_eq(info.beyond, groups[i]);
        ASSERT_FAILS(checkpoint_resume(&run, &expect, v.at, v.n, &found, &info, &e), ST_INPUT, groups[i]);
        ck_assert(!found && !warned[0]);
    }
    drop(&v);
    end();
}
END_TEST

/* All ranks decode the same job; a missing one fails on all. */
START_TEST(jobs_are_read_by_all)
{
    begin();
    struct job j, k;
    job_init(&j);
    ir_graph_release(&j.graph);
    sample_graph(&j.graph);
    j.train.batch_size = 4;
    j.train.seq_len = SAMPLE_T;
    j.train.steps = 5;
    if (world_rank() == 0)
        ASSERT_OK(job_write(path, &j, &e));
    world_barrier();
    ASSERT_OK(job_read(path, &k, &e));
    ck_assert_uint_eq(k.train.steps, 5);
    ck_assert_uint_eq(k.graph.ops.n, j.graph.ops.n);
    job_release(&k);
    job_release(&j);
    flip_byte(path, 200);
    ASSERT_FAILS(job_read(path, &k, &e), ST_INPUT, "c.h5");
    snprintf(path, sizeof path, "%s/none.h5", folder);
    ASSERT_FAILS(job_read(path, &k, &e), ST_MISSING, "No such file");
    end();
}
END_TEST

static double skewed_clock(void)
{
    return clock_now() + 1000.0 * world_rank();
}

/* Odd ranks run another program; every rank's clock is off by a thousand seconds more. */
START_TEST(traces_of_all)
{
    begin();
    bool odd = world_rank() % 2;
    const char *const names[] = { "default_stream", odd ? "odd_stream" : "even_stream" };
    const struct trace_instruction in[] = { { "F", "PASS=F", 0, 0, -1 }, { odd ? "odd" : "even", "", 1, 0, -1 } };
    const struct trace_group groups[] = { { 3, world_size(), "all" }, { odd ? 1u : 2u, 1, odd ? "odd" : "even" } };
    struct trace_setup s = { .dir = &run,
                             .device = "cpu",
                             .now = skewed_clock,
                             .streams = names,
                             .instructions = in,
                             .groups = groups,
                             .n_streams = 2,
                             .n_instructions = 2,
                             .n_groups = 2,
                             .max_events = 100 };
    struct trace_writer w;
    ASSERT_OK(trace_open(&s, &w, &e));
    world_barrier();
    double start = skewed_clock();
    for (uint32_t i = 0; world_rank() != 1 && i < 10 + world_rank(); i++) /* rank 1 has nothing to tell */
        trace_add(&w, &(struct trace_event){ .t = start + i,
                                             .dur = 0.5,
                                             .step = i,
                                             .bytes = world_rank(),
                                             .location = i % 2,
                                             .instruction = i % 2,
                                             .group = 3,
                                             .seq = i,
                                             .peer = -1 });
    ASSERT_OK(trace_flush(&w, &e));
    ASSERT_OK(trace_close(&w, &e));
    ck_assert_uint_eq(trace_count(&run), 1);
    if (world_rank() == 0) {
        struct trace t;
        uint64_t events = 0;
        ASSERT_OK(trace_read_segment(&run, 0, &t, &e));
        for (uint32_t r = 0; r < world_size(); r++)
            events += r == 1 ? 0 : 10 + r;
        ck_assert_uint_eq(t.n_events, events);
        ck_assert_uint_eq(t.n_ranks, world_size());
        ck_assert_uint_eq(t.n_hosts, 1);
        ck_assert_uint_eq(t.n_instructions, world_size() > 1 ? 4 : 2);
        ck_assert_uint_eq(t.n_groups, world_size() > 1 ? 3 : 2);
        ck_assert_uint_eq(t.n_locations, 2 * world_size());
        uint32_t *next = mem_alloc(sizeof *next * world_size());
        for (uint64_t i = 0; i < t.n_events; i++) {
            const struct trace_event *v = &t.events[i];
            uint32_t rank = t.locations[v->location].rank;
            ck_assert_uint_eq(rank, v->bytes);
            ck_assert_uint_eq(v->step, v->seq);
            ck_assert_uint_eq(v->seq, next[rank]++);
            const char *want = v->seq % 2 == 0 ? "F" : rank % 2 ? "odd" : "even";
            ck_assert_str_eq(t.instructions[v->instruction].name, want);
            ck_assert_uint_eq(t.instructions[v->instruction].stream, t.locations[v->location].stream);
            /* all began together: half a second is far more than a barrier takes, far less than the skew */
            ck_assert_double_eq_tol(v->t, t.events[0].t + v->seq, 0.5);
        }
        trace_release(&t);
        mem_free(next);
    }
    end();
}
END_TEST

int main(int argc, char **argv)
{
    if (world_init(&argc, &argv, NULL) != ST_OK)
        return 1;
    Suite *s = suite_create("checkpoint");
    TCase *t = tcase_create("checkpoint");
    tcase_add_test(t, any_partition_to_any_other);
    tcase_add_test(t, many_blocks);
    tcase_add_test(t, folders_apart);
    tcase_add_test(t, wrong_pieces_are_a_fault);
    tcase_add_test(t, damage_is_found);
    tcase_add_test(t, order_of_words);
    tcase_add_test(t, other_models_are_refused);
    tcase_add_test(t, folders);
    tcase_add_test(t, differences_are_named);
    tcase_add_test(t, what_is_newer);
    tcase_add_test(t, jobs_are_read_by_all);
    tcase_add_test(t, traces_of_all);
    suite_add_tcase(s, t);
    SRunner *r = srunner_create(s);
    srunner_set_fork_status(r, CK_NOFORK);
    srunner_run_all(r, world_rank() == 0 ? CK_NORMAL : CK_SILENT);
    int failed = srunner_ntests_failed(r);
    srunner_free(r);
    if (failed) /* a rank that failed alone has left the others waiting */
        world_abort(1);
    world_finalize();
    return 0;
}
