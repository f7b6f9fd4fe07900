/* Operands of piper data: files, folders, patterns of names. */
#include <glob.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "base/dir.h"
#include "cmd/data.h"

void data_files_free(struct data_files *files)
{
    for (uint32_t i = 0; i < files->n; i++)
        mem_free(files->at[i]);
    vec_free(files);
}

/* Digits in a row are one number; everything else goes by bytes. */
static int natural(const char *a, const char *b)
{
    while (*a && *b) {
        const size_t na = strspn(a, "0123456789"), nb = strspn(b, "0123456789");
        if (!na || !nb) {
            if (*a != *b)
                return (unsigned char)*a < (unsigned char)*b ? -1 : 1;
            a++, b++;
            continue;
        }
        const size_t za = strspn(a, "0") < na ? strspn(a, "0") : na - 1,
                     zb = strspn(b, "0") < nb ? strspn(b, "0") : nb - 1;
        if (na - za != nb - zb)
            return na - za < nb - zb ? -1 : 1;
        const int order = memcmp(a + za, b + zb, na - za);
        if (order)
            return order;
        a += na, b += nb;
    }
    return *a ? 1 : *b ? -1 : 0;
}

static int by_nature(const void *a, const void *b)
{
    const char *x = *(char *const *)a, *y = *(char *const *)b;
    const int order = natural(x, y);
    return order ? order : strcmp(x, y);
}

/* Names in a folder that a verb takes: endings, also behind one of .gz and .zst. */
static bool fits(const char *name, const char *verb)
{
    static const struct {
        const char *verb, *ending[4];
    } kinds[] = { { "jsonl", { ".jsonl", ".ndjson", ".json" } },
                  { "chat", { ".jsonl", ".ndjson", ".json" } },
                  { "import", { ".bin", ".npy", ".h5" } } };
    size_t n = strlen(name);
    if (name[0] == '.')
        return false;
    n -= n > 3 && strcmp(name + n - 3, ".gz") == 0 ? 3 : n > 4 && strcmp(name + n - 4, ".zst") == 0 ? 4 : 0;
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++) {
        if (strcmp(kinds[k].verb, verb) != 0)
            continue;
        for (int i = 0; kinds[k].ending[i]; i++) {
            const size_t m = strlen(kinds[k].ending[i]);
            if (n > m && memcmp(name + n - m, kinds[k].ending[i], m) == 0)
                return true;
        }
        return false;
    }
    return true; /* text has any name */
}

static bool is_folder(const char *path)
{
    struct stat about;
    return stat(path, &about) == 0 && S_ISDIR(about.st_mode);
}

static void add(struct data_files *files, const char *folder, const char *name)
{
    char path[DIR_PATH];
    snprintf(path, sizeof path, "%s%s%s", folder, *folder && folder[strlen(folder) - 1] != '/' ? "/" : "", name);
    vec_add(files, mem_strdup(path));
}

static enum status add_folder(const char *path, const char *verb, struct data_files *files, struct err *e)
{
    struct dir d;
    struct dir_names names = { 0 };
    const uint32_t first = files->n;
    TRY(dir_open(path, &d, e));
    enum status st = dir_list(&d, &names, e);
    for (uint32_t i = 0; st == ST_OK && i < names.n; i++)
        if (fits(names.at[i], verb)) {
            add(files, path, names.at[i]);
            if (is_folder(files->at[files->n - 1]))
                mem_free(files->at[--files->n]);
        }
    dir_names_release(&names);
    dir_close(&d);
    TRY(st);
    if (files->n == first)
        return err_set(e, ST_MISSING, path, "is a folder without files for %s%s", verb,
                       strcmp(verb, "import") == 0 ? " (.bin, .npy, .h5)"
                       : strcmp(verb, "text") == 0 ? ""
                                                   : " (.jsonl, .ndjson, .json, also with .gz or .zst)");
    qsort(files->at + first, files->n - first, sizeof *files->at, by_nature);
    return ST_OK;
}

static enum status add_pattern(const char *pattern, struct data_files *files, struct err *e)
{
    glob_t g;
    const uint32_t first = files->n;
    if (glob(pattern, GLOB_NOSORT, NULL, &g) != 0)
        return err_set(e, ST_MISSING, pattern, "fits no file");
    for (size_t i = 0; i < g.gl_pathc; i++)
        if (!is_folder(g.gl_pathv[i]))
            add(files, "", g.gl_pathv[i]);
    globfree(&g);
    if (files->n == first)
        return err_set(e, ST_MISSING, pattern, "fits no file");
    qsort(files->at + first, files->n - first, sizeof *files->at, by_nature);
    return ST_OK;
}

enum status data_expand(const struct option_list *operands, const char *verb, struct data_files *files, struct err *e)
{
    for (uint32_t i = 1; i < operands->n; i++) {
        struct stat about;
        const char *path = operands->at[i];
        if (is_folder(path))
            TRY(add_folder(path, verb, files, e));
        else if (strpbrk(path, "*?[") && stat(path, &about) != 0)
            TRY(add_pattern(path, files, e));
        else
            add(files, "", path);
    }
    return ST_OK;
}
