/* Event files for TensorBoard: records as they are specified, read back by a reader of its own. */
#include <check.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "rundir/events.h"
#include "tests/unit/suite.h"

/* CRC-32C by its table, which the writer has not. */
static uint32_t crc_of(const unsigned char *p, size_t n)
{
    uint32_t table[256], crc = ~0u;
    for (uint32_t i = 0; i < 256; i++) {
        table[i] = i;
        for (int k = 0; k < 8; k++)
            table[i] = table[i] & 1 ? table[i] >> 1 ^ 0x82f63b78u : table[i] >> 1;
    }
    for (size_t i = 0; i < n; i++)
        crc = table[(crc ^ p[i]) & 255] ^ crc >> 8;
    return ~crc;
}

static uint32_t masked(const unsigned char *p, size_t n)
{
    const uint32_t crc = crc_of(p, n);
    return ((crc >> 15) | (crc << 17)) + 0xa282ead8u;
}

static struct dir run;
static char folder[] = "/tmp/piper-events-XXXXXX";

static size_t read_file(unsigned char *to, size_t room)
{
    struct dir in = { .fd = -1 };
    struct dir_names names = { 0 };
    struct err e = { 0 };
    uint64_t bytes;
    int fd;
    ck_assert_int_eq(dir_enter(&run, "tensorboard", 0, &in, &e), ST_OK);
    ck_assert_int_eq(dir_list(&in, &names, &e), ST_OK);
    ck_assert_uint_ge(names.n, 1);
    ck_assert_int_eq(strncmp(names.at[0], "events.out.tfevents.", 20), 0);
    ck_assert_int_eq(dir_read(&in, names.at[0], &fd, &bytes, &e), ST_OK);
    const ssize_t n = read(fd, to, room);
    close(fd);
    dir_names_release(&names);
    dir_close(&in);
    return (size_t)n;
}

START_TEST(records)
{
    unsigned char file[4096];
    struct events ev;
    struct err e = { 0 };
    const struct events_value values[] = { { "train/loss", 2.5 }, { "speed/mfu", NAN }, { "train/lr", 1e-3 } };
    ck_assert_uint_eq(crc_of((const unsigned char *)"123456789", 9), 0xe3069283u); /* the catalogue's check value */
    ck_assert_int_eq(events_open(&ev, &run, &e), ST_OK);
    ck_assert(events_write(&ev, 300, values, 3));
    events_close(&ev);
    const size_t n = read_file(file, sizeof file);
    size_t at = 0;
    uint64_t length[2];
    for (int i = 0; i < 2; i++) {
        uint32_t crc[2];
        memcpy(&length[i], file + at, 8);
        memcpy(&crc[0], file + at + 8, 4);
        memcpy(&crc[1], file + at + 12 + length[i], 4);
        ck_assert_uint_eq(crc[0], masked(file + at, 8));
        ck_assert_uint_eq(crc[1], masked(file + at + 12, length[i]));
        at += 16 + length[i];
    }
    ck_assert_uint_eq(at, n);
    /* the second one: time, step 300 as two bytes of a varint, a summary of two values */
    const unsigned char *event = file + 16 + length[0] + 12;
    static const unsigned char step[] = { 0x10, 0xac, 0x02 },
                               first[] = "\012\021\012\012train/loss\025\000\000\040\100";
    ck_assert_uint_eq(event[0], 0x09);
    ck_assert_mem_eq(event + 9, step, sizeof step);
    ck_assert_uint_eq(event[12], 0x2a);
    ck_assert_mem_eq(event + 14, first, sizeof first - 1);
    ck_assert_uint_eq(event[13], 19 + 2 + 2 + 8 + 5);
}
END_TEST

START_TEST(nothing_without_a_file)
{
    struct events ev = { .file = NULL };
    const struct events_value one = { "train/loss", 1 };
    ck_assert(events_write(&ev, 1, &one, 1));
    events_close(&ev);
}
END_TEST

START_TEST(a_full_disk)
{
    struct events ev = { .file = fopen("/dev/full", "w") };
    const struct events_value one = { "train/loss", 1 };
    ck_assert_ptr_nonnull(ev.file);
    ck_assert(!events_write(&ev, 1, &one, 1));
    ck_assert_ptr_null(ev.file);
    ck_assert(events_write(&ev, 2, &one, 1)); /* it was told once */
}
END_TEST

static void open_folder(void)
{
    struct err e = { 0 };
    ck_assert_ptr_nonnull(mkdtemp(folder));
    ck_assert_int_eq(dir_open(folder, &run, &e), ST_OK);
}

static void remove_folder(void)
{
    char command[128];
    dir_close(&run);
    snprintf(command, sizeof command, "rm -rf %s", folder);
    ck_assert_int_eq(system(command), 0);
    strcpy(folder + strlen(folder) - 6, "XXXXXX");
}

int main(void)
{
    Suite *s = suite_create("events");
    TCase *t = tcase_create("events");
    tcase_add_checked_fixture(t, open_folder, remove_folder);
    tcase_add_test(t, records);
    tcase_add_test(t, nothing_without_a_file);
    tcase_add_test(t, a_full_disk);
    suite_add_tcase(s, t);
    return suite_run(s);
}
