#include "metrics.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io/file.h"

static const char header[] =
    "step,loss,grad_norm,lr,tokens,step_seconds,tokens_per_second,eval_loss,aux_loss,dropped_tokens,mfu\n";

static enum status cannot(const char *path, struct err *e)
{
    return err_set(e, ST_IO, path, "cannot be written: %s", strerror(errno));
}

/* Copies the rows of steps up to `last` from the old file, if there is one. Columns that an older program did not write
 * stay away from its rows: rows are copied as they are. False: they cannot be read. */
static bool keep_rows(const char *path, uint64_t last, FILE *to)
{
    FILE *from = last ? fopen(path, "r") : NULL;
    char line[1024];
    if (!from)
        return !last || errno == ENOENT;
    bool header_is_there = fgets(line, sizeof line, from) != NULL;
    while (header_is_there && fgets(line, sizeof line, from)) {
        char *end;
        unsigned long long step = strtoull(line, &end, 10);
        size_t n = strlen(line);
        if (end != line && *end == ',' && step >= 1 && step <= last && line[n - 1] == '\n')
            fputs(line, to);
    }
    bool good = !ferror(from);
    fclose(from);
    return good;
}

enum status metrics_has_rows(const char *dir, bool *rows, struct err *e)
{
    char path[sizeof((struct metrics *)0)->path], line[1024];
    snprintf(path, sizeof path, "%s/metrics.csv", dir);
    *rows = false;
    FILE *f = fopen(path, "r");
    if (!f && errno == ENOENT)
        return ST_OK;
    bool good = f != NULL;
    if (good) {
        *rows = fgets(line, sizeof line, f) && fgets(line, sizeof line, f);
        good = !ferror(f);
    }
    enum status st = good ? ST_OK : err_set(e, ST_IO, path, "cannot be read: %s", strerror(errno));
    if (f)
        fclose(f);
    return st;
}

enum status metrics_open(struct metrics *m, const char *dir, uint64_t last, struct err *e)
{
    char temp[sizeof m->path + 8];
    snprintf(m->path, sizeof m->path, "%s/metrics.csv", dir);
    snprintf(temp, sizeof temp, "%s.tmp", m->path);
    FILE *f = fopen(temp, "w");
    if (!f)
        return cannot(temp, e);
    fputs(header, f);
    if (!keep_rows(m->path, last, f)) {
        err_set(e, ST_IO, m->path, "cannot be read: %s", strerror(errno));
        fclose(f);
        return ST_IO;
    }
    bool good = fflush(f) == 0 && !ferror(f);
    if (fclose(f) != 0 || !good)
        return cannot(temp, e);
    TRY(file_publish(temp, m->path, e));
    m->file = fopen(m->path, "a");
    return m->file ? ST_OK : cannot(m->path, e);
}

/* "nan", not "-nan": the sign of a NaN means nothing. */
static double unsigned_nan(double x)
{
    return isnan(x) ? (double)NAN : x;
}

enum status metrics_write(struct metrics *m, const struct metrics_row *r, struct err *e)
{
    if (!m->file)
        return ST_OK;
    fprintf(m->file, "%llu,%.9g,%.9g,%.9g,%llu,%.9g,%.9g,", (unsigned long long)r->step, unsigned_nan(r->loss),
            unsigned_nan(r->grad_norm), r->lr, (unsigned long long)r->tokens, r->step_seconds, r->tokens_per_second);
    if (!isnan(r->eval_loss))
        fprintf(m->file, "%.9g", r->eval_loss);
    fprintf(m->file, ",%.9g,%llu,", unsigned_nan(r->aux_loss), (unsigned long long)r->dropped_tokens);
    if (!isnan(r->mfu))
        fprintf(m->file, "%.9g", r->mfu);
    fputc('\n', m->file);
    return fflush(m->file) == 0 ? ST_OK : cannot(m->path, e);
}

enum status metrics_sync(const struct metrics *m, struct err *e)
{
    return !m->file || fsync(fileno(m->file)) == 0 ? ST_OK : cannot(m->path, e);
}

enum status metrics_close(struct metrics *m, struct err *e)
{
    if (!m->file)
        return ST_OK;
    bool good = fflush(m->file) == 0 && fsync(fileno(m->file)) == 0;
    good = fclose(m->file) == 0 && good;
    m->file = NULL;
    return good ? ST_OK : cannot(m->path, e);
}
