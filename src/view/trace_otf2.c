/* The Open Trace Format 2 of Vampir, Score-P and Scalasca, by its library: a location for each track, messages and
 * collectives as the records of MPI that it has for them. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/dir.h"
#include "base/version.h"
#include "view/trace_otf2.h"

/* ---- events ---------------------------------------------------------------------------------------------------------- */

static void add_tags(struct trace__otf2 *o, OTF2_AttributeList *list, const char *tags)
{
    struct trace_tag_text tag;
    while ((tags = trace_tag_next(tags, &tag))) {
        const uint32_t number = (uint32_t)strtoul(tag.value, NULL, 10);
        if (tag.key_length == 2 && memcmp(tag.key, "MB", 2) == 0)
            DID(OTF2_AttributeList_AddUint32(list, OTF2_OF_MICROBATCH, number));
        else if (tag.key_length == 2 && memcmp(tag.key, "PP", 2) == 0)
            DID(OTF2_AttributeList_AddUint32(list, OTF2_OF_STAGE, number));
        else if (tag.key_length == 4 && memcmp(tag.key, "PASS", 4) == 0)
            DID(OTF2_AttributeList_AddStringRef(list, OTF2_OF_PASS,
                                                text_table_number(&o->strings, tag.value, tag.value_length)));
        else
            DID(OTF2_AttributeList_AddUint32(list, OTF2_OF_TAGS + text_table_number(&o->tags, tag.key, tag.key_length),
                                             number));
    }
}

static void add_attributes(struct trace__otf2 *o, OTF2_AttributeList *list, const struct trace_slice *s,
                           uint32_t region)
{
    const struct trace_event *ev = trace_walk_event(o->w, s);
    const struct trace_instruction *in = trace_walk_instruction(o->w, s);
    DID(OTF2_AttributeList_RemoveAllAttributes(list));
    DID(OTF2_AttributeList_AddUint64(list, OTF2_OF_STEP, ev->step));
    add_tags(o, list, in->tags);
    if (o->regions.at[region].chunk != UINT32_MAX)
        DID(OTF2_AttributeList_AddStringRef(list, OTF2_OF_CHUNK, o->regions.at[region].chunk));
    if (ev->bytes)
        DID(OTF2_AttributeList_AddUint64(list, OTF2_OF_BYTES, ev->bytes));
    if (ev->peer >= 0)
        DID(OTF2_AttributeList_AddUint32(list, OTF2_OF_PEER, (uint32_t)ev->peer));
    if (trace_is_communication(ev))
        DID(OTF2_AttributeList_AddDouble(list, OTF2_OF_WAITED, 1e-9 * (double)(s->met - s->begin)));
    if (in->predicted > 0)
        DID(OTF2_AttributeList_AddDouble(list, OTF2_OF_PREDICTED, in->predicted));
}

/* A message leaves at the begin of its slice and is there at its end. */
static void write_message(struct trace__otf2 *o, OTF2_EvtWriter *to, const struct trace_slice *s, enum trace_kind kind,
                          bool begins)
{
    const struct trace_event *ev = trace_walk_event(o->w, s);
    const uint32_t peer = o->process_of[ev->peer];
    if (begins && kind != TRACE_RECEIVE)
        DID(OTF2_EvtWriter_MpiSend(to, NULL, trace__otf2_tick(o, s->begin), peer, 0, ev->seq, ev->bytes));
    if (!begins && kind != TRACE_SEND)
        DID(OTF2_EvtWriter_MpiRecv(to, NULL, trace__otf2_tick(o, s->end), peer, 0, ev->seq, ev->bytes));
}

static void write_collective(struct trace__otf2 *o, OTF2_EvtWriter *to, const struct trace_slice *s,
                             enum trace_kind kind, uint32_t comm, bool begins)
{
    const struct trace__otf2_kind *k = &trace__otf2_kinds[kind];
    const uint64_t bytes = trace_walk_event(o->w, s)->bytes, all = bytes * o->comms.at[comm].n_members;
    if (begins)
        DID(OTF2_EvtWriter_MpiCollectiveBegin(to, NULL, trace__otf2_tick(o, s->begin)));
    else
        DID(OTF2_EvtWriter_MpiCollectiveEnd(to, NULL, trace__otf2_tick(o, s->end), (OTF2_CollectiveOp)k->collective,
                                            comm, OTF2_COLLECTIVE_ROOT_NONE, k->sends_all ? all : bytes,
                                            k->receives_all ? all : bytes));
}

static void write_slice(struct trace__otf2 *o, OTF2_EvtWriter *to, OTF2_AttributeList *list,
                        const struct trace_slice *s)
{
    const uint32_t region = o->region_of[s->view][trace_walk_event(o->w, s)->instruction];
    const enum trace_kind kind = o->regions.at[region].kind;
    const uint32_t comm = trace__otf2_comm_of(o, s);
    const bool message = comm == 0 && trace__otf2_kinds[kind].role == OTF2_REGION_ROLE_POINT2POINT;
    const bool collective = comm != UINT32_MAX && comm > 0 && trace__otf2_kinds[kind].collective >= 0;
    add_attributes(o, list, s, region);
    DID(OTF2_EvtWriter_Enter(to, list, trace__otf2_tick(o, s->begin), region));
    for (int ends = 0; ends < 2; ends++) {
        if (message)
            write_message(o, to, s, kind, !ends);
        if (collective)
            write_collective(o, to, s, kind, comm, !ends);
    }
    DID(OTF2_EvtWriter_Leave(to, NULL, trace__otf2_tick(o, s->end), region));
}

static void write_step(struct trace__otf2 *o, OTF2_EvtWriter *to, OTF2_AttributeList *list, const struct trace_step *s)
{
    const uint64_t begin = trace__otf2_tick(o, s->begin);
    DID(OTF2_AttributeList_RemoveAllAttributes(list));
    DID(OTF2_AttributeList_AddUint64(list, OTF2_OF_STEP, s->number));
    DID(OTF2_EvtWriter_Enter(to, list, begin, o->regions.n));
    for (uint32_t c = 0; c < TRACE_COUNTERS; c++)
        if (isfinite(s->counters[c]))
            DID(OTF2_EvtWriter_Metric(to, NULL, begin, c, 1, (OTF2_Type[]){ OTF2_TYPE_DOUBLE },
                                      (OTF2_MetricValue[]){ { .floating_point = s->counters[c] } }));
    DID(OTF2_EvtWriter_Leave(to, NULL, trace__otf2_tick(o, s->end), o->regions.n));
}

/* One location after the other, so that one buffer is enough. */
static void write_events(struct trace__otf2 *o)
{
    const struct trace_walk *w = o->w;
    OTF2_AttributeList *list = OTF2_AttributeList_New();
    DID(OTF2_Archive_OpenEvtFiles(o->archive));
    for (uint32_t i = 0; i <= w->tracks.n && o->failed == OTF2_SUCCESS; i++) {
        OTF2_EvtWriter *to = OTF2_Archive_GetEvtWriter(o->archive, i);
        if (!to)
            break; /* the library has said why */
        for (uint32_t k = 0; i < w->tracks.n && k < w->tracks.at[i].n; k++)
            write_slice(o, to, list, &w->slices.at[w->tracks.at[i].first + k]);
        for (uint32_t k = 0; i == w->tracks.n && k < w->steps.n; k++)
            write_step(o, to, list, &w->steps.at[k]);
        DID(OTF2_EvtWriter_GetNumberOfEvents(to, &o->n_events[i]));
        DID(OTF2_Archive_CloseEvtWriter(o->archive, to));
    }
    DID(OTF2_Archive_CloseEvtFiles(o->archive));
    OTF2_AttributeList_Delete(list);
}

/* ---- markers --------------------------------------------------------------------------------------------------------- */

static void write_markers(struct trace__otf2 *o)
{
    OTF2_MarkerWriter *to = OTF2_Archive_GetMarkerWriter(o->archive);
    if (!to)
        return;
    DID(OTF2_MarkerWriter_WriteDefMarker(to, 0, "training", "step", OTF2_SEVERITY_NONE));
    for (uint32_t i = 0; i < o->w->steps.n; i++) {
        const struct trace_step *s = &o->w->steps.at[i];
        char text[128];
        int n = snprintf(text, sizeof text, "step %llu", (unsigned long long)s->number);
        for (uint32_t c = 0; c < TRACE_COUNTERS; c++)
            if (isfinite(s->counters[c]))
                n += snprintf(text + n, sizeof text - (size_t)n, ", %s %.9g", trace_counters[c], s->counters[c]);
        DID(OTF2_MarkerWriter_WriteMarker(to, trace__otf2_tick(o, s->begin), (uint64_t)(s->end - s->begin), 0,
                                          OTF2_MARKER_SCOPE_GLOBAL, 0, text));
    }
    DID(OTF2_Archive_CloseMarkerWriter(o->archive, to));
}

/* ---- the archive ------------------------------------------------------------------------------------------------------- */

static OTF2_FlushType before_flush(void *self, OTF2_FileType type, OTF2_LocationRef location, void *caller, bool final)
{
    (void)self, (void)type, (void)location, (void)caller, (void) final;
    return OTF2_FLUSH;
}

/* In place of what the library would print. It has the parameters of an OTF2_ErrorCallback. */
static OTF2_ErrorCode note_failure(void *self, const char *file, uint64_t line, const char *function,
                                   OTF2_ErrorCode code, const char *format, va_list arguments)
{
    struct trace__otf2 *o = self;
    (void)file, (void)line, (void)function;
    if (o->failed != OTF2_SUCCESS || code == OTF2_SUCCESS)
        return code;
    o->failed = code;
    if (format)
        vsnprintf(o->why, sizeof o->why, format, arguments);
    return code;
}

/* Readers look for a file of definitions of each location. */
static void write_local_definitions(struct trace__otf2 *o)
{
    DID(OTF2_Archive_OpenDefFiles(o->archive));
    for (uint32_t i = 0; i <= o->w->tracks.n && o->failed == OTF2_SUCCESS; i++) {
        OTF2_DefWriter *to = OTF2_Archive_GetDefWriter(o->archive, i);
        if (to)
            DID(OTF2_Archive_CloseDefWriter(o->archive, to));
    }
    DID(OTF2_Archive_CloseDefFiles(o->archive));
}

static void write_archive(struct trace__otf2 *o, const char *name, const char *path)
{
    static const OTF2_FlushCallbacks flush = { .otf2_pre_flush = before_flush };
    char creator[128];
    snprintf(creator, sizeof creator, "piper %s (%s)", piper_version, piper_commit);
    o->archive = OTF2_Archive_Open(path, "traces", OTF2_FILEMODE_WRITE, OTF2_CHUNK_SIZE_EVENTS_DEFAULT,
                                   OTF2_CHUNK_SIZE_DEFINITIONS_DEFAULT, OTF2_SUBSTRATE_POSIX, OTF2_COMPRESSION_NONE);
    if (!o->archive)
        return;
    DID(OTF2_Archive_SetFlushCallbacks(o->archive, &flush, NULL));
    DID(OTF2_Archive_SetSerialCollectiveCallbacks(o->archive));
    DID(OTF2_Archive_SetCreator(o->archive, creator));
    DID(OTF2_Archive_SetDescription(o->archive, name));
    write_events(o);
    write_local_definitions(o);
    o->defs = OTF2_Archive_GetGlobalDefWriter(o->archive);
    if (o->defs) {
        trace__otf2_definitions(o, name);
        DID(OTF2_Archive_CloseGlobalDefWriter(o->archive, o->defs));
    }
    write_markers(o);
    DID(OTF2_Archive_Close(o->archive));
}

static enum status write_in(const struct trace_walk *w, const char *name, const char *folder, const char *path,
                            struct err *e)
{
    struct trace__otf2 o = { .w = w };
    OTF2_ErrorCallback before = OTF2_Error_RegisterCallback(note_failure, &o);
    trace__otf2_index(&o);
    write_archive(&o, name, folder);
    OTF2_Error_RegisterCallback(before, NULL);
    enum status st = ST_OK;
    if (o.failed != OTF2_SUCCESS)
        st = err_set(e, ST_IO, path, "the archive cannot be written: %s%s%s", OTF2_Error_GetDescription(o.failed),
                     o.why[0] ? ": " : "", o.why);
    else if (!o.archive || !o.defs)
        st = err_set(e, ST_IO, path, "the archive cannot be written: the OTF2 library does not say why");
    trace__otf2_release(&o);
    return st;
}

/* ---- its directory ------------------------------------------------------------------------------------------------------- */

static void remove_all(const struct dir *in, const char *name)
{
    struct err unread = { 0 };
    struct dir_names names = { 0 };
    struct dir d;
    if (dir_remove(in, name))
        return;
    if (dir_enter(in, name, 0, &d, &unread) == ST_OK && dir_list(&d, &names, &unread) == ST_OK)
        for (uint32_t i = 0; i < names.n; i++)
            remove_all(&d, names.at[i]);
    dir_names_release(&names);
    dir_close(&d);
    dir_remove_folder(in, name);
}

static enum status refuse_existing(const struct dir *in, const char *name, const char *path, struct err *e)
{
    bool there;
    TRY(dir_find(in, name, &there, e));
    if (there)
        return err_set(e, ST_USAGE, path,
                       "exists; expected the name of a new directory; choose another one, or remove it first");
    return ST_OK;
}

static enum status make(const struct trace_walk *w, const char *name, const char *path, const struct dir *in,
                        const char *last, struct err *e)
{
    char word[17], temp[DIR_NAME], whole[DIR_PATH];
    struct dir made;
    TRY(refuse_existing(in, last, path, e));
    dir_random_word(word);
    snprintf(temp, sizeof temp, "%.230s.%s.tmp", last, word);
    if (snprintf(whole, sizeof whole, "%s/%s", in->path, temp) >= (int)sizeof whole)
        return err_set(e, ST_IO, path, "the name is too long");
    TRY(dir_enter(in, temp, DIR_MAKE, &made, e));
    dir_close(&made);
    enum status st = write_in(w, name, whole, path, e);
    if (st == ST_OK)
        st = refuse_existing(in, last, path, e);
    if (st == ST_OK)
        st = dir_rename(in, temp, in, last, e);
    if (st != ST_OK)
        remove_all(in, temp);
    return st;
}

enum status trace_otf2(const struct trace_walk *w, const char *name, const char *path, struct err *e)
{
    char *plain = mem_strdup(path), last[DIR_NAME];
    for (size_t n = strlen(plain); n > 1 && plain[n - 1] == '/'; n--)
        plain[n - 1] = '\0';
    struct dir in;
    enum status st = dir_of_path(plain, &in, last, e);
    if (st == ST_OK)
        st = make(w, name, plain, &in, last, e);
    dir_close(&in);
    mem_free(plain);
    return st;
}
