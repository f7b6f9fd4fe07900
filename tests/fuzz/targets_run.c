/* The readers of what lies in run folders, and of machines. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cuda/matmul.h"
#include "rundir/halt.h"
#include "io/machine.h"
#include "rundir/lock.h"
#include "job/machine_file.h"
#include "base/number.h"
#include "rundir/flight.h"
#include "tests/fuzz/fuzz.h"

/* ---- machines ---- */

void fuzz_make_machine(const char *path)
{
    struct machine m;
    struct err e = { 0 };
    machine_generic(&m);
    vec_add(&m.points, ((struct machine_point){ IR_OP_LINEAR, IR_PASS_BW, IR_BF16, 64, 1e6, 1e-3 }));
    vec_add(&m.points, ((struct machine_point){ MACHINE_SUMSQ, IR_PASS_NONE, IR_F32, 0, 4096, 1e-6 }));
    vec_add(&m.link_points, ((struct machine_link_point){ LINK_NETWORK, 1024, 1e-5 }));
    if (machine_write(&m, path, &e) != ST_OK) {
        fprintf(stderr, "%s\n", e.text);
        exit(99);
    }
    machine_release(&m);
}

static int load(const char *machine, const char *topology)
{
    struct machine m;
    struct err e = { 0 };
    enum status st = machine_load(machine, topology, &m, &e);
    if (st == ST_OK)
        machine_release(&m);
    return fuzz_answer(st, &e);
}

int fuzz_run_machine(const struct fuzz_input *in, const char *path)
{
    (void)in;
    return load(path, NULL) && fuzz_show_machine(path, "--machine");
}

int fuzz_run_topology(const struct fuzz_input *in, const char *path)
{
    (void)in;
    return load(NULL, path) && fuzz_show_machine(path, "--topology");
}

int fuzz_run_products(const struct fuzz_input *in, const char *path)
{
    (void)in;
    struct cuda__choices c = { 0 };
    struct err e = { 0 };
    enum status st = cuda__choices_read(&c, path, 130100, "NVIDIA H100 80GB HBM3", &e);
    vec_free(&c);
    return fuzz_answer(st, &e);
}

/* ---- run folders: PATH.run ---- */

static struct dir store(const struct fuzz_input *in, const char *path, const char *name)
{
    char file[4400], folder[4200];
    struct dir d;
    struct err e = { 0 };
    snprintf(folder, sizeof folder, "%s.run", path);
    mkdir(folder, 0777);
    snprintf(file, sizeof file, "%s/ring", folder);
    mkdir(file, 0777);
    snprintf(file, sizeof file, "%s/%s", folder, name);
    FILE *f = fopen(file, "wb");
    if (!f || fwrite(in->at, 1, in->n, f) != in->n || fclose(f) != 0 || dir_open(folder, &d, &e) != ST_OK) {
        perror(file);
        exit(99);
    }
    return d;
}

void fuzz_remove_run(const char *path)
{
    char folder[4200];
    snprintf(folder, sizeof folder, "%s.run", path);
    fuzz_remove_files(folder);
    static const char *const names[] = { "/ring/0000", "/ring", "/halt", "/lock", "" };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char file[4400];
        snprintf(file, sizeof file, "%s.run%s", path, names[i]);
        remove(file);
    }
}

/* Its checks made right again, so that more than they are tried. */
static void repair_ring(struct fuzz_input *in)
{
    struct flight_header h;
    struct flight_record r;
    if (in->n < sizeof h)
        return;
    memcpy(&h, in->at, sizeof h);
    h.check = number_hash(&h, offsetof(struct flight_header, check), FLIGHT_MAGIC);
    memcpy(in->at, &h, sizeof h);
    for (size_t at = sizeof h; at + sizeof r <= in->n; at += sizeof r) {
        memcpy(&r, in->at + at, sizeof r);
        r.check = number_hash(&r, offsetof(struct flight_record, check), FLIGHT_MAGIC);
        memcpy(in->at + at, &r, sizeof r);
    }
}

static bool first_ranks(void *unused, uint32_t rank)
{
    (void)unused;
    return rank < 2;
}

int fuzz_run_ring(const struct fuzz_input *in, const char *path)
{
    char words[128];
    struct err e = { 0 };
    struct fuzz_input copy = { .at = mem_alloc(in->n + 1), .n = in->n };
    FILE *out = fopen("/dev/null", "w");
    memcpy(copy.at, in->at, in->n);
    if (in->n % 2 == 0 && in->n && in->at[in->n / 2] % 4)
        repair_ring(&copy);
    struct dir folder = store(&copy, path, "ring/0000");
    mem_free(copy.at);
    flight_last(&folder, 0, words, sizeof words);
    enum status st = out ? flight_print(&folder, first_ranks, NULL, out, &e) : ST_BUG;
    if (out)
        fclose(out);
    dir_close(&folder);
    return fuzz_answer(st, &e);
}

int fuzz_run_halt(const struct fuzz_input *in, const char *path)
{
    struct halt_request r;
    struct dir folder = store(in, path, "halt");
    bool taken = halt_take(&folder, "00112233aabbccdd", &r);
    dir_close(&folder);
    return taken && memchr(r.by, 0, sizeof r.by);
}

/* Whatever it says of the owner, it says. */
static int look_for_owner(const struct dir *folder)
{
    struct err e = { 0 };
    struct lock_owner owner;
    bool running;
    memset(&owner, '\b', sizeof owner);
    enum status st = lock_look(folder, &running, &owner, &e);
    const char *texts[] = { owner.run, owner.host, owner.since, owner.job };
    for (size_t i = 0; st == ST_OK && i < sizeof texts / sizeof *texts; i++)
        if (texts[i][0] == '\b')
            abort();
    return fuzz_answer(st, &e);
}

int fuzz_run_lock(const struct fuzz_input *in, const char *path)
{
    char lock[4400];
    struct dir folder = store(in, path, "lock");
    int accepted = look_for_owner(&folder);
    snprintf(lock, sizeof lock, "%s.run/lock", path);
    unlink(lock);
    accepted &= look_for_owner(&folder);
    dir_close(&folder);
    return accepted;
}
