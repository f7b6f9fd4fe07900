/* The definitions of an archive. All that refers to another one stands behind it. */
#include <math.h>
#include <stdio.h>

#include "view/trace_otf2.h"

static OTF2_StringRef string(struct trace__otf2 *o, const char *text)
{
    const uint32_t number = trace__otf2_string(o, text);
    for (; o->written < o->strings.n; o->written++)
        DID(OTF2_GlobalDefWriter_WriteString(o->defs, o->written, o->strings.at[o->written]));
    return number;
}

static void write_clock(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    DID(OTF2_GlobalDefWriter_WriteClockProperties(
        o->defs, 1000000000, 0, trace__otf2_tick(o, w->end) + 1,
        w->epoch < 0 || w->epoch + w->begin < 0 ? OTF2_UNDEFINED_TIMESTAMP : (uint64_t)(w->epoch + w->begin)));
}

static void write_paradigms(struct trace__otf2 *o)
{
    DID(OTF2_GlobalDefWriter_WriteParadigm(o->defs, OTF2_PARADIGM_USER, string(o, "piper"),
                                           OTF2_PARADIGM_CLASS_PROCESS));
    DID(OTF2_GlobalDefWriter_WriteParadigm(o->defs, OTF2_PARADIGM_MPI, string(o, "MPI"), OTF2_PARADIGM_CLASS_PROCESS));
    if (o->accelerator)
        DID(OTF2_GlobalDefWriter_WriteParadigm(o->defs, OTF2_PARADIGM_CUDA, string(o, "CUDA"),
                                               OTF2_PARADIGM_CLASS_ACCELERATOR));
}

static void write_attributes(struct trace__otf2 *o)
{
    static const struct {
        const char *name, *about;
        OTF2_Type type;
    } attributes[OTF2_OF_TAGS] = {
        [OTF2_OF_STEP] = { "step", "training step, from 1", OTF2_TYPE_UINT64 },
        [OTF2_OF_MICROBATCH] = { "microbatch", "of the step, from 0", OTF2_TYPE_UINT32 },
        [OTF2_OF_PASS] = { "pass", "F, B, BI or BW", OTF2_TYPE_STRING },
        [OTF2_OF_STAGE] = { "stage", "of the pipeline, from 0", OTF2_TYPE_UINT32 },
        [OTF2_OF_CHUNK] = { "chunk", "part of the model", OTF2_TYPE_STRING },
        [OTF2_OF_BYTES] = { "bytes", "moved", OTF2_TYPE_UINT64 },
        [OTF2_OF_PEER] = { "peer", "rank at the other end", OTF2_TYPE_UINT32 },
        [OTF2_OF_WAITED] = { "waited", "seconds until the last participant was there", OTF2_TYPE_DOUBLE },
        [OTF2_OF_PREDICTED] = { "predicted", "duration in seconds", OTF2_TYPE_DOUBLE },
    };
    for (uint32_t i = 0; i < OTF2_OF_TAGS; i++)
        DID(OTF2_GlobalDefWriter_WriteAttribute(o->defs, i, string(o, attributes[i].name),
                                                string(o, attributes[i].about), attributes[i].type));
    for (uint32_t i = 0; i < o->tags.n; i++)
        DID(OTF2_GlobalDefWriter_WriteAttribute(o->defs, OTF2_OF_TAGS + i, string(o, o->tags.at[i]),
                                                string(o, "tag of the strategy"), OTF2_TYPE_UINT32));
}

/* ---- regions ------------------------------------------------------------------------------------------------------ */

static void write_regions(struct trace__otf2 *o)
{
    const OTF2_StringRef none = string(o, "");
    for (uint32_t i = 0; i < o->regions.n; i++) {
        const struct trace__otf2_kind *k = &trace__otf2_kinds[o->regions.at[i].kind];
        const OTF2_StringRef name = string(o, o->names.at[i]);
        DID(OTF2_GlobalDefWriter_WriteRegion(o->defs, i, name, name, none, k->role,
                                             k->paradigm == OTF2_PARADIGM_USER && o->accelerator ? OTF2_PARADIGM_CUDA
                                                                                                 : k->paradigm,
                                             OTF2_REGION_FLAG_NONE, none, 0, 0));
    }
    const OTF2_StringRef step = string(o, "step");
    DID(OTF2_GlobalDefWriter_WriteRegion(o->defs, o->regions.n, step, step, none, OTF2_REGION_ROLE_CODE,
                                         OTF2_PARADIGM_USER, OTF2_REGION_FLAG_PHASE, none, 0, 0));
}

/* Groups first, first+1, ...: regions by kind. */
static void write_region_groups(struct trace__otf2 *o, uint32_t first)
{
    uint64_t *members = mem_alloc((o->regions.n + 1) * sizeof *members);
    for (uint32_t kind = 0; kind < TRACE_KINDS; kind++) {
        const char *name = trace__otf2_kinds[kind].group;
        uint32_t n = 0, same = 0;
        while (strcmp(trace__otf2_kinds[same].group, name) != 0)
            same++;
        for (uint32_t i = 0; same == kind && i < o->regions.n; i++)
            if (strcmp(trace__otf2_kinds[o->regions.at[i].kind].group, name) == 0)
                members[n++] = i;
        if (n)
            DID(OTF2_GlobalDefWriter_WriteGroup(o->defs, first++, string(o, name), OTF2_GROUP_TYPE_REGIONS,
                                                OTF2_PARADIGM_UNKNOWN, OTF2_GROUP_FLAG_NONE, n, members));
    }
    mem_free(members);
}

/* ---- where events are ------------------------------------------------------------------------------------------------ */

static void write_node(struct trace__otf2 *o, uint32_t node, const char *name, const char *class, uint32_t parent,
                       OTF2_SystemTreeDomain domain)
{
    DID(OTF2_GlobalDefWriter_WriteSystemTreeNode(o->defs, node, string(o, name), string(o, class), parent));
    DID(OTF2_GlobalDefWriter_WriteSystemTreeNodeDomain(o->defs, node, domain));
}

static void write_location(struct trace__otf2 *o, uint32_t location, const char *name, bool accelerator,
                           uint32_t process)
{
    DID(OTF2_GlobalDefWriter_WriteLocation(o->defs, location, string(o, name),
                                           accelerator ? OTF2_LOCATION_TYPE_ACCELERATOR_STREAM
                                                       : OTF2_LOCATION_TYPE_CPU_THREAD,
                                           o->n_events[location], process));
}

static void write_process(struct trace__otf2 *o, uint32_t process, const char *name, uint32_t node)
{
    DID(OTF2_GlobalDefWriter_WriteLocationGroup(o->defs, process, string(o, name), OTF2_LOCATION_GROUP_TYPE_PROCESS,
                                                node, OTF2_UNDEFINED_LOCATION_GROUP));
}

/* The run, its hosts, a process for each rank and one for the steps; the tracks in them. */
static void write_system(struct trace__otf2 *o, const char *run)
{
    const struct trace_walk *w = o->w;
    struct text_table hosts = { 0 };
    write_node(o, 0, run, "machine", OTF2_UNDEFINED_SYSTEM_TREE_NODE, OTF2_SYSTEM_TREE_DOMAIN_MACHINE);
    for (uint32_t p = 0; p < o->n_processes; p++) {
        const struct trace_track *t = &w->tracks.at[o->main_track[p]];
        const uint32_t before = hosts.n, host = text_table_number(&hosts, t->host, strlen(t->host));
        char name[32];
        snprintf(name, sizeof name, "rank %u", t->rank);
        if (hosts.n > before)
            write_node(o, 1 + host, t->host, "node", 0, OTF2_SYSTEM_TREE_DOMAIN_SHARED_MEMORY);
        write_process(o, p, name, 1 + host);
        DID(OTF2_GlobalDefWriter_WriteLocationGroupProperty(
            o->defs, p, string(o, "device"), OTF2_TYPE_STRING,
            (OTF2_AttributeValue){ .stringRef = string(o, t->device) }));
    }
    write_process(o, o->n_processes, "training", 0);
    for (uint32_t i = 0; i < w->tracks.n; i++) {
        const struct trace_track *t = &w->tracks.at[i];
        char name[TRACE_TRACK_NAME];
        trace_track_name(t, name);
        write_location(o, i, name, o->accelerator, o->process_of[t->rank]);
    }
    write_location(o, w->tracks.n, "steps", false, o->n_processes);
    text_table_release(&hosts);
}

/* Group 0: the ranks; groups 1 and up those of the communicators. */
static void write_communicators(struct trace__otf2 *o)
{
    uint64_t *members = mem_alloc((o->n_processes + 1) * sizeof *members);
    for (uint32_t p = 0; p < o->n_processes; p++)
        members[p] = o->main_track[p];
    DID(OTF2_GlobalDefWriter_WriteGroup(o->defs, 0, string(o, "ranks"), OTF2_GROUP_TYPE_COMM_LOCATIONS,
                                        OTF2_PARADIGM_MPI, OTF2_GROUP_FLAG_NONE, o->n_processes, members));
    for (uint32_t i = 0; i < o->comms.n; i++) {
        const struct trace__otf2_comm *c = &o->comms.at[i];
        uint32_t n = 0;
        for (uint32_t p = 0; p < o->n_processes; p++)
            if (c->members[p])
                members[n++] = p;
        char name[300];
        if (i)
            snprintf(name, sizeof name, "group %u: %.250s", c->id, c->name);
        else
            snprintf(name, sizeof name, "%s", c->name);
        DID(OTF2_GlobalDefWriter_WriteGroup(o->defs, 1 + i, string(o, name), OTF2_GROUP_TYPE_COMM_GROUP,
                                            OTF2_PARADIGM_MPI, OTF2_GROUP_FLAG_NONE, n, members));
        DID(OTF2_GlobalDefWriter_WriteComm(o->defs, i, string(o, name), 1 + i, i ? 0 : OTF2_UNDEFINED_COMM,
                                           OTF2_COMM_FLAG_NONE));
    }
    mem_free(members);
}

static void write_metrics(struct trace__otf2 *o)
{
    static const char *const units[TRACE_COUNTERS] = { "nats", "tokens/s" };
    for (uint32_t c = 0; c < TRACE_COUNTERS; c++) {
        DID(OTF2_GlobalDefWriter_WriteMetricMember(o->defs, c, string(o, trace_counters[c]),
                                                   string(o, "of the step, as in metrics.csv"), OTF2_METRIC_TYPE_USER,
                                                   OTF2_METRIC_ABSOLUTE_NEXT, OTF2_TYPE_DOUBLE, OTF2_BASE_DECIMAL, 0,
                                                   string(o, units[c])));
        DID(OTF2_GlobalDefWriter_WriteMetricClass(o->defs, c, 1, (OTF2_MetricMemberRef[]){ c },
                                                  OTF2_METRIC_ASYNCHRONOUS, OTF2_RECORDER_KIND_ABSTRACT));
    }
}

void trace__otf2_definitions(struct trace__otf2 *o, const char *name)
{
    write_clock(o);
    write_paradigms(o);
    write_attributes(o);
    write_regions(o);
    write_system(o, name);
    write_communicators(o);
    write_region_groups(o, 1 + o->comms.n);
    write_metrics(o);
}
