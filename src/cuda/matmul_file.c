/* The file of chosen algorithms: text, so that a person can compare two of them.
 *
 *     piper products 2
 *     library 130100
 *     device NVIDIA H100 80GB HBM3
 *     products 12
 *     <20 numbers of the shape> : <8 words of the algorithm, hexadecimal>      (12 times)
 *     end */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/dir.h"
#include "base/mem.h"
#include "cuda/matmul.h"

static uint64_t word_of(const struct cuda__shape *s, uint32_t i)
{
    const uint64_t words[CUDA__SHAPE_WORDS] = { s->m,
                                                s->n,
                                                s->k,
                                                s->lda,
                                                s->ldb,
                                                s->ldc,
                                                s->stride_a,
                                                s->stride_b,
                                                s->stride_c,
                                                s->aligned,
                                                s->batch,
                                                s->turned_a,
                                                s->turned_b,
                                                s->type,
                                                s->out,
                                                s->epilogue,
                                                s->bias,
                                                s->start,
                                                s->multiprocessors,
                                                s->work };
    return words[i];
}

static void shape_of(struct cuda__shape *s, const uint64_t w[CUDA__SHAPE_WORDS])
{
    *s = (struct cuda__shape){ .m = w[0],
                               .n = w[1],
                               .k = w[2],
                               .lda = w[3],
                               .ldb = w[4],
                               .ldc = w[5],
                               .stride_a = w[6],
                               .stride_b = w[7],
                               .stride_c = w[8],
                               .aligned = (uint32_t)w[9],
                               .batch = (uint32_t)w[10],
                               .turned_a = (uint32_t)w[11],
                               .turned_b = (uint32_t)w[12],
                               .type = (uint32_t)w[13],
                               .out = (uint32_t)w[14],
                               .epilogue = (uint32_t)w[15],
                               .bias = (uint32_t)w[16],
                               .start = (uint32_t)w[17],
                               .multiprocessors = (uint32_t)w[18],
                               .work = w[19] };
}

struct cuda__choice *cuda__choices_find(const struct cuda__choices *c, const struct cuda__shape *s)
{
    for (uint32_t i = 0; i < c->n; i++)
        if (memcmp(&c->at[i].shape, s, sizeof *s) == 0)
            return &c->at[i];
    return NULL;
}

static uint32_t timed(const struct cuda__choices *c)
{
    uint32_t n = 0;
    for (uint32_t i = 0; i < c->n; i++)
        n += c->at[i].timed;
    return n;
}

void cuda__choices_print(const struct cuda__choices *c, FILE *f, uint64_t version, const char *device)
{
    fprintf(f, "piper products 2\nlibrary %" PRIu64 "\ndevice %s\nproducts %" PRIu32 "\n", version, device, timed(c));
    for (uint32_t i = 0; i < c->n; i++) {
        if (!c->at[i].timed)
            continue;
        for (uint32_t k = 0; k < CUDA__SHAPE_WORDS; k++)
            fprintf(f, "%" PRIu64 " ", word_of(&c->at[i].shape, k));
        fputc(':', f);
        for (uint32_t k = 0; k < CUDA__ALGORITHM_WORDS; k++)
            fprintf(f, " %" PRIx64, c->at[i].algorithm[k]);
        fputc('\n', f);
    }
    fputs("end\n", f);
}

/* The run folder, and the name in it. */
static enum status folder_of(const char *path, struct dir *folder, const char **name, struct err *e)
{
    char text[DIR_PATH];
    const char *slash = strrchr(path, '/');
    *name = slash ? slash + 1 : path;
    snprintf(text, sizeof text, "%.*s", slash ? (int)(slash - path) + 1 : 1, slash ? path : ".");
    return dir_open(text, folder, e);
}

enum status cuda__choices_write(const struct cuda__choices *c, const char *path, uint64_t version, const char *device,
                                struct err *e)
{
    struct dir folder;
    struct dir_new file;
    const char *name;
    struct err why = { 0 };
    if (timed(c) == 0)
        return ST_OK;
    if (folder_of(path, &folder, &name, &why) != ST_OK)
        return err_set(e, ST_IO, NULL, "%s", why.text);
    enum status st = dir_new_begin(&folder, name, &file, e);
    if (st == ST_OK) {
        int fd = fcntl(file.fd, F_DUPFD_CLOEXEC, 0);
        FILE *f = fd >= 0 ? fdopen(fd, "w") : NULL;
        if (f)
            cuda__choices_print(c, f, version, device);
        bool good = f && fflush(f) == 0 && !ferror(f);
        if (!f || fclose(f) != 0 || !good)
            st = err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
    }
    if (st == ST_OK)
        st = dir_new_publish(&file, e);
    dir_new_drop(&file);
    dir_close(&folder);
    return st;
}

static bool read_choice(FILE *f, struct cuda__choice *out)
{
    uint64_t words[CUDA__SHAPE_WORDS];
    char colon;
    *out = (struct cuda__choice){ .timed = true };
    for (uint32_t k = 0; k < CUDA__SHAPE_WORDS; k++)
        if (fscanf(f, "%" SCNu64, &words[k]) != 1)
            return false;
    shape_of(&out->shape, words);
    if (fscanf(f, " %c", &colon) != 1 || colon != ':')
        return false;
    for (uint32_t k = 0; k < CUDA__ALGORITHM_WORDS; k++)
        if (fscanf(f, "%" SCNx64, &out->algorithm[k]) != 1)
            return false;
    return true;
}

/* All after the line of the device. */
static bool read_choices(FILE *f, struct cuda__choices *c)
{
    struct cuda__choice one;
    char end[4] = "";
    uint32_t n;
    if (fscanf(f, "products %" SCNu32, &n) != 1)
        return false;
    for (uint32_t i = 0; i < n; i++) {
        if (!read_choice(f, &one))
            return false;
        struct cuda__choice *known = cuda__choices_find(c, &one.shape);
        if (known)
            *known = one;
        else
            vec_add(c, one);
    }
    return fscanf(f, " %3s", end) == 1 && strcmp(end, "end") == 0;
}

enum status cuda__choices_scan(struct cuda__choices *c, FILE *f, const char *path, uint64_t version, const char *device,
                               struct err *e)
{
    char line[512], head[512];
    bool good = fgets(line, sizeof line, f) && strcmp(line, "piper products 2\n") == 0, same = good;
    snprintf(head, sizeof head, "library %" PRIu64 "\n", version);
    good = good && fgets(line, sizeof line, f) && strncmp(line, "library ", 8) == 0;
    same = same && good && strcmp(line, head) == 0;
    snprintf(head, sizeof head, "device %s\n", device);
    good = good && fgets(line, sizeof line, f) && strncmp(line, "device ", 7) == 0;
    same = same && good && strcmp(line, head) == 0;
    if (good && same)
        good = read_choices(f, c);
    return good ? ST_OK
                : err_set(e, ST_INPUT, path,
                          "not a complete file of selected matrix products; remove it, and they are selected again "
                          "(sums may then be rounded differently)");
}

enum status cuda__choices_read(struct cuda__choices *c, const char *path, uint64_t version, const char *device,
                               struct err *e)
{
    struct dir folder;
    struct err why = { 0 };
    const char *name;
    uint64_t bytes;
    int fd;
    enum status st = folder_of(path, &folder, &name, &why);
    if (st == ST_OK && dir_has(&folder, name) && dir_read(&folder, name, &fd, &bytes, &why) != ST_OK)
        st = err_set(e, ST_IO, NULL, "%s", why.text);
    else if (st == ST_OK && !dir_has(&folder, name))
        st = ST_MISSING;
    dir_close(&folder);
    if (st != ST_OK) /* without a folder there is no file either */
        return st == ST_MISSING ? ST_OK : err_set(e, st, NULL, "%s", why.text);
    FILE *f = fdopen(fd, "r");
    CHECK(f);
    st = cuda__choices_scan(c, f, path, version, device, e);
    fclose(f);
    return st;
}
