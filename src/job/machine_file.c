#include "job/machine_file.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/json.h"
#include "rundir/folder.h"
#include "io/machine.h"

#ifndef PIPER_MACHINES
#define PIPER_MACHINES "."
#endif

/* ---- topology ------------------------------------------------------------------------------------------------------ */

static enum status count_or(const struct js *o, const char *key, int64_t lo, uint32_t *x, struct err *e)
{
    int64_t found;
    TRY(js_int_or(o, key, lo, INT32_MAX, *x, &found, e));
    *x = (uint32_t)found;
    return ST_OK;
}

static enum status read_link(const struct js *links, const char *name, double efficiency, struct machine_links *l,
                             struct err *e)
{
    static const char *const keys[] = { "latency", "bandwidth", "shared", NULL };
    struct js o;
    TRY(js_opt(links, name, &o, e));
    if (!o.v)
        return ST_OK;
    TRY(js_only(&o, keys, e));
    double bandwidth = l->bandwidth / efficiency, shared = l->shared / efficiency;
    TRY(js_num_or(&o, "latency", 0, 1, l->latency, &l->latency, e));
    TRY(js_num_or(&o, "bandwidth", 1, 1e18, bandwidth, &bandwidth, e));
    TRY(js_num_or(&o, "shared", 0, 1e18, shared, &shared, e));
    l->bandwidth = bandwidth * efficiency;
    l->shared = shared * efficiency;
    return ST_OK;
}

/* ranks_per_node, nodes_per_island and links, of a topology file or a data sheet. Bandwidths of a sheet are what it says
 * times what is reached of it. */
static enum status read_topology(const struct js *o, double efficiency, struct machine *m, struct err *e)
{
    static const char *const keys[] = { "node", "network", "islands", NULL };
    struct js links;
    TRY(count_or(o, "ranks_per_node", 1, &m->ranks_per_node, e));
    TRY(count_or(o, "nodes_per_island", 0, &m->nodes_per_island, e));
    TRY(js_opt(o, "links", &links, e));
    if (!links.v)
        return ST_OK;
    TRY(js_only(&links, keys, e));
    for (int i = 0; i < LINK_COUNT; i++)
        TRY(read_link(&links, machine_link_name((enum machine_link)i), efficiency, &m->links[i], e));
    uint32_t kept = 0; /* what a file says of a link replaces what was measured on it */
    for (uint32_t i = 0; i < m->link_points.n; i++)
        if (!js_has(&links, machine_link_name((enum machine_link)m->link_points.at[i].link)))
            m->link_points.at[kept++] = m->link_points.at[i];
    m->link_points.n = kept;
    return ST_OK;
}

static enum status load_topology(const char *path, struct machine *m, struct err *e)
{
    static const char *const keys[] = { "ranks_per_node", "nodes_per_island", "links", NULL };
    json_t *doc;
    TRY(js_load_file(path, &doc, e));
    struct js root = js_root(doc, path);
    enum status st = js_only(&root, keys, e);
    if (st == ST_OK)
        st = read_topology(&root, 1, m, e);
    json_decref(doc);
    return st;
}

/* ---- data sheets --------------------------------------------------------------------------------------------------- */

static enum status read_compute(const struct js *root, struct machine *m, double *links, struct err *e)
{
    static const char *const dtypes[] = { "float32", "bfloat16", NULL };
    static const char *const shares[] = { "flops", "bandwidth", "links", NULL };
    struct js o;
    double flops = 1, bandwidth = 1;
    *links = 1;
    TRY(js_opt(root, "efficiency", &o, e));
    if (o.v) {
        TRY(js_only(&o, shares, e));
        TRY(js_num_or(&o, "flops", 0.01, 1, 1, &flops, e));
        TRY(js_num_or(&o, "bandwidth", 0.01, 1, 1, &bandwidth, e));
        TRY(js_num_or(&o, "links", 0.01, 1, 1, links, e));
    }
    TRY(js_need(root, "flops", &o, e));
    TRY(js_only(&o, dtypes, e));
    for (int i = 0; i < 2; i++) {
        struct js v;
        TRY(js_need(&o, dtypes[i], &v, e));
        TRY(js_num(&v, 1, 1e20, &m->peak[i], e));
        m->flops[i] = m->peak[i] * flops;
    }
    TRY(js_need(root, "bandwidth", &o, e));
    TRY(js_num(&o, 1, 1e18, &m->bandwidth, e));
    m->bandwidth *= bandwidth;
    TRY(js_num_or(root, "memory", 0, 1e18, 0, &m->memory, e));
    m->sum = 1 / m->bandwidth;
    TRY(js_num_or(root, "launch", 0, 1, 0, &m->launch, e));
    TRY(count_or(root, "units", 0, &m->units, e));
    return count_or(root, "comm_units", 0, &m->comm_units, e);
}

static enum status read_sheet(const struct js *root, struct machine *m, struct err *e)
{
    static const char *const keys[] = {
        "name",       "source",         "sources",          "flops", "bandwidth", "efficiency", "launch", "units",
        "comm_units", "ranks_per_node", "nodes_per_island", "links", "device",    "memory",     NULL
    };
    const char *name, *source, *device;
    struct js v;
    double efficiency;
    machine_generic(m);
    TRY(js_only(root, keys, e));
    TRY(js_need(root, "name", &v, e));
    TRY(js_str(&v, &name, e));
    TRY(js_str_or(root, "source", "a data sheet", &source, e));
    TRY(js_str_or(root, "device", "", &device, e));
    snprintf(m->device, sizeof m->device, "%s", device);
    snprintf(m->name, sizeof m->name, "%s", name);
    snprintf(m->source, sizeof m->source, "%s", source);
    TRY(read_compute(root, m, &efficiency, e));
    for (int i = 0; i < LINK_COUNT; i++)
        m->links[i] = (struct machine_links){ 0 };
    TRY(js_need(root, "links", &v, e));
    TRY(read_topology(root, efficiency, m, e));
    if (!js_has(&v, "islands"))
        m->links[LINK_ISLANDS] = m->links[LINK_NETWORK];
    return machine_validate(m, root->file, e);
}

static enum status load_sheet(const char *path, struct machine *m, struct err *e)
{
    json_t *doc;
    TRY(js_load_file(path, &doc, e));
    struct js root = js_root(doc, path);
    enum status st = read_sheet(&root, m, e);
    json_decref(doc);
    return st;
}

/* ---- which ---------------------------------------------------------------------------------------------------------- */

static bool is_json(const char *path)
{
    FILE *f = fopen(path, "r");
    int c = f ? fgetc(f) : EOF;
    while (f && (c == ' ' || c == '\n' || c == '\t' || c == '\r'))
        c = fgetc(f);
    if (f)
        fclose(f);
    return c == '{';
}

enum { PATH_BYTES = FOLDER_BYTES + 300 };

/* The data sheet of that name: where the variable says, else beside the program (sources above or around a build tree, an
 * installation that was moved), else where it was to be installed. */
static bool find_sheet(const char *name, char sheet[PATH_BYTES])
{
    static const char *const beside[] = { "src/machines", "../src/machines", "../share/piper/machines" };
    char dir[FOLDER_BYTES];
    const char *folder = getenv("PIPER_MACHINES");
    if (folder) {
        snprintf(sheet, PATH_BYTES, "%.4000s/%.200s.json", folder, name);
        return access(sheet, R_OK) == 0;
    }
    folder_of_program(dir);
    for (size_t i = 0; i < sizeof beside / sizeof *beside; i++) {
        snprintf(sheet, PATH_BYTES, "%s/%s/%.200s.json", dir, beside[i], name);
        if (access(sheet, R_OK) == 0)
            return true;
    }
    snprintf(sheet, PATH_BYTES, "%s/%.200s.json", PIPER_MACHINES, name);
    return access(sheet, R_OK) == 0;
}

static enum status load(const char *path, struct machine *m, struct err *e)
{
    char sheet[PATH_BYTES];
    if (!strpbrk(path, "./") && access(path, F_OK) != 0) {
        if (!find_sheet(path, sheet))
            return err_set(e, ST_MISSING, path,
                           "no such file, and no data sheet of that name: piper has a100 and h100, in the directory "
                           "named by PIPER_MACHINES or in %s",
                           PIPER_MACHINES);
        path = sheet;
    }
    return is_json(path) ? load_sheet(path, m, e) : machine_read(path, m, e);
}

enum status machine_load(const char *path, const char *topology, struct machine *m, struct err *e)
{
    if (path)
        TRY(load(path, m, e));
    else
        machine_generic(m);
    enum status st = topology ? load_topology(topology, m, e) : ST_OK;
    if (st == ST_OK && topology)
        st = machine_validate(m, topology, e);
    if (st != ST_OK)
        machine_release(m);
    return st;
}

/* The sheet is looked for by every word of the device's name, in small letters. */
bool machine_of_device(const char *device, struct machine *m)
{
    char word[MACHINE_NAME], sheet[PATH_BYTES];
    struct err e = { 0 };
    for (const char *at = device; *at; at += *at != '\0') {
        size_t n = 0;
        for (; isalnum((unsigned char)*at) && n + 1 < sizeof word; at++)
            word[n++] = (char)tolower((unsigned char)*at);
        word[n] = '\0';
        if (!n || !find_sheet(word, sheet) || load_sheet(sheet, m, &e) != ST_OK)
            continue;
        if (*m->device && strstr(device, m->device))
            return true;
        machine_release(m);
    }
    return false;
}
