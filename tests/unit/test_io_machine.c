/* Machine files: what is written is read again, and damaged ones are refused or read, never a crash. */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "io/machine.h"
#include "tests/unit/suite.h"

static char path[64];

static void sample(struct machine *m)
{
    machine_generic(m);
    m->nodes_per_island = 3;
    m->compute_beside = 0.5;
    m->latency_beside = 3e-4;
    m->spread = 0.25;
    m->noisy = 7;
    m->memory = 80e9;
    m->ring = 0;
    vec_add(&m->points, ((struct machine_point){ IR_OP_LINEAR, IR_PASS_BW, IR_BF16, 64, 1e6, 1e-3 }));
    vec_add(&m->points, ((struct machine_point){ MACHINE_SUMSQ, IR_PASS_NONE, IR_F32, 0, 4096, 1e-6 }));
    vec_add(&m->link_points, ((struct machine_link_point){ LINK_NETWORK, 1024, 1e-5 }));
}

START_TEST(round_trip)
{
    struct machine m, n;
    struct err e = { 0 };
    sample(&m);
    ck_assert_msg(machine_write(&m, path, &e) == ST_OK, "%s", e.text);
    ck_assert_msg(machine_read(path, &n, &e) == ST_OK, "%s", e.text);
    ck_assert_str_eq(m.name, n.name);
    ck_assert_str_eq(m.source, n.source);
    ck_assert(m.flops[1] == n.flops[1] && m.bandwidth == n.bandwidth && m.memory == n.memory && m.launch == n.launch &&
              m.sum == n.sum);
    ck_assert(n.compute_beside == 0.5 && n.transfer_beside == 1 && n.ring == 0);
    ck_assert(n.latency_beside == 3e-4 && n.spread == 0.25 && n.noisy == 7);
    ck_assert(n.ranks_per_node == 8 && n.nodes_per_island == 3);
    ck_assert_int_eq(memcmp(m.links, n.links, sizeof m.links), 0);
    ck_assert_uint_eq(n.points.n, 2);
    for (int i = 0; i < 2; i++) {
        const struct machine_point *p = &m.points.at[i], *q = &n.points.at[i];
        ck_assert(p->kind == q->kind && p->pass == q->pass && p->dtype == q->dtype);
        ck_assert(p->width == q->width && p->work == q->work && p->seconds == q->seconds);
    }
    ck_assert_uint_eq(n.link_points.n, 1);
    ck_assert(n.link_points.at[0].link == LINK_NETWORK && n.link_points.at[0].bytes == 1024);
    ck_assert(n.link_points.at[0].seconds == 1e-5);
    machine_release(&n);
    m.points.at[0].seconds = -1;
    ck_assert_int_eq(machine_write(&m, path, &e), ST_INPUT);
    machine_release(&m);
}
END_TEST

START_TEST(damage)
{
    struct machine m;
    struct err e = { 0 };
    sample(&m);
    ck_assert_msg(machine_write(&m, path, &e) == ST_OK, "%s", e.text);
    machine_release(&m);
    FILE *f = fopen(path, "r+b");
    ck_assert_ptr_nonnull(f);
    fseek(f, 0, SEEK_END);
    long size = ftell(f);
    uint32_t refused = 0;
    for (uint32_t i = 0; i < 300; i++) {
        long at = (long)(i * 2654435761u % (uint32_t)size);
        int old;
        fseek(f, at, SEEK_SET);
        old = fgetc(f);
        fseek(f, at, SEEK_SET);
        fputc(old ^ (1 << i % 8), f);
        fflush(f);
        err_clear(&e);
        if (machine_read(path, &m, &e) == ST_OK)
            machine_release(&m);
        else
            refused++;
        fseek(f, at, SEEK_SET);
        fputc(old, f);
    }
    fclose(f);
    ck_assert_uint_gt(refused, 30);
}
END_TEST

int main(void)
{
    Suite *s = suite_create("machine files");
    TCase *tc = tcase_create("machine files");
    snprintf(path, sizeof path, "test_io_machine.%d.h5", (int)getpid());
    tcase_set_timeout(tc, 60);
    tcase_add_test(tc, round_trip);
    tcase_add_test(tc, damage);
    suite_add_tcase(s, tc);
    const int failed = suite_run(s);
    unlink(path);
    return failed;
}
