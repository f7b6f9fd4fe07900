#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "io/file.h"
#include "io/sha256.h"
#include "io/trace_private.h"
#include "comm/world.h"

const char trace__schema[] = "piper-trace";
#define AT(field) offsetof(struct trace_event, field)
const struct trace__column trace__columns[TRACE_COLUMNS] = {
    { "t", "seconds", H5_F64, 8, AT(t) },          { "dur", "seconds", H5_F64, 8, AT(dur) },
    { "location", NULL, H5_U32, 4, AT(location) }, { "instruction", NULL, H5_U32, 4, AT(instruction) },
    { "step", "steps", H5_U64, 8, AT(step) },      { "group", NULL, H5_I32, 4, AT(group) },
    { "seq", NULL, H5_U32, 4, AT(seq) },           { "bytes", "bytes", H5_U64, 8, AT(bytes) },
    { "peer", NULL, H5_I32, 4, AT(peer) },
};
#undef AT

enum { HOST_BYTES = 64 };

/* Definitions travel as one block of bytes: the counts, then per stream, instruction and group its numbers and texts.
 */
struct blob {
    VEC(char);
};

struct trace_private {
    const struct dir *dir;
    char *device;
    double (*now)(void);
    struct blob defs;
    uint32_t n_streams, n_instructions, segment;
    double zero; /* rank 0's clock when the trace was opened */
    double offset_start, clock_start;
};

void trace_name(uint32_t segment, char name[TRACE_NAME])
{
    snprintf(name, TRACE_NAME, "trace.%04" PRIu32 ".h5", segment);
}

uint32_t trace_count(const struct dir *run)
{
    char name[TRACE_NAME];
    for (uint32_t n = 0;; n++) {
        trace_name(n, name);
        if (!dir_has(run, name))
            return n;
    }
}

/* ---- definitions as bytes ---- */

static void add_bytes(struct blob *b, const void *p, size_t n)
{
    uint32_t at = vec_grow(b, (uint32_t)n);
    memcpy(b->at + at, p, n);
}

static void add_u32(struct blob *b, uint32_t x)
{
    add_bytes(b, &x, sizeof x);
}

static void add_text(struct blob *b, const char *s)
{
    add_bytes(b, s, strlen(s) + 1);
}

static void pack(const struct trace_setup *s, struct blob *b)
{
    add_u32(b, s->n_streams);
    add_u32(b, s->n_instructions);
    add_u32(b, s->n_groups);
    for (uint32_t i = 0; i < s->n_streams; i++)
        add_text(b, s->streams[i]);
    for (uint32_t i = 0; i < s->n_instructions; i++) {
        const struct trace_instruction *in = &s->instructions[i];
        add_u32(b, in->stream);
        add_bytes(b, &in->predicted, sizeof in->predicted);
        add_bytes(b, &in->predicted_start, sizeof in->predicted_start);
        add_text(b, in->name);
        add_text(b, in->tags);
    }
    for (uint32_t i = 0; i < s->n_groups; i++) {
        add_u32(b, s->groups[i].id);
        add_u32(b, s->groups[i].size);
        add_text(b, s->groups[i].name);
    }
}

static uint32_t take_u32(const char **p)
{
    uint32_t x;
    memcpy(&x, *p, sizeof x);
    *p += sizeof x;
    return x;
}

static const char *take_text(const char **p)
{
    const char *s = *p;
    *p += strlen(s) + 1;
    return s;
}

/* ---- opening ---- */

enum status trace_open(const struct trace_setup *s, struct trace_writer *w, struct err *e)
{
    (void)e;
    struct trace_private *p = mem_alloc(sizeof *p);
    *p = (struct trace_private){ .dir = s->dir, .device = mem_strdup(s->device), .now = s->now };
    p->n_streams = s->n_streams;
    p->n_instructions = s->n_instructions;
    for (uint32_t i = 0; i < s->n_instructions; i++)
        CHECK(s->instructions[i].stream < s->n_streams);
    pack(s, &p->defs);
    p->segment = world_rank() == 0 ? trace_count(s->dir) : 0;
    p->zero = s->now();
    world_broadcast(&p->segment, sizeof p->segment);
    world_broadcast(&p->zero, sizeof p->zero);
    p->offset_start = world_clock_offset(s->now);
    p->clock_start = s->now();
    *w = (struct trace_writer){ .events = mem_alloc(sizeof *w->events * s->max_events), .max = s->max_events, .p = p };
    return ST_OK;
}

/* ---- gathering ---- */

/* What every rank tells of itself. */
struct card {
    char host[HOST_BYTES], device[16];
    uint64_t hash[2]; /* of its definitions */
    uint64_t bytes;   /* of its definitions */
    uint64_t events, dropped;
    double offset_start, offset_end, clock_start, clock_end;
    uint64_t first_instruction, first_location; /* filled in by rank 0 */
};

static void fill_card(const struct trace_writer *w, struct card *c)
{
    struct sha256 s;
    uint8_t digest[SHA256_BYTES];
    memset(c, 0, sizeof *c);
    gethostname(c->host, sizeof c->host - 1);
    snprintf(c->device, sizeof c->device, "%s", w->p->device);
    sha256_init(&s);
    sha256_add(&s, w->p->defs.at, w->p->defs.n);
    sha256_end(&s, digest);
    memcpy(c->hash, digest, sizeof c->hash);
    c->bytes = w->p->defs.n;
    c->events = w->n;
    c->dropped = w->dropped;
    c->offset_start = w->p->offset_start;
    c->clock_start = w->p->clock_start;
    c->offset_end = world_clock_offset(w->p->now);
    c->clock_end = w->p->now();
}

/* Tables of the segment, on rank 0. Texts are borrowed from the blobs. */
struct tables {
    struct text_list {
        VEC(const char *);
    } hosts, streams, names, tags, group_names;
    struct u32_list {
        VEC(uint32_t);
    } rank_host, location_rank, location_stream, instr_stream, group_id, group_size;
    struct f64_list {
        VEC(double);
    } predicted, predicted_start;
};

static uint32_t host_row(struct tables *t, const char *host)
{
    for (uint32_t i = 0; i < t->hosts.n; i++)
        if (strcmp(t->hosts.at[i], host) == 0)
            return i;
    vec_add(&t->hosts, host);
    return t->hosts.n - 1;
}

static void add_group(struct tables *t, uint32_t id, uint32_t size, const char *name)
{
    uint32_t at = 0;
    while (at < t->group_id.n && t->group_id.at[at] < id)
        at++;
    if (at < t->group_id.n && t->group_id.at[at] == id)
        return;
    vec_add(&t->group_id, id);
    vec_add(&t->group_size, size);
    vec_add(&t->group_names, name);
    for (uint32_t i = t->group_id.n - 1; i > at; i--) { /* keep the order of ids */
        t->group_id.at[i] = t->group_id.at[i - 1];
        t->group_size.at[i] = t->group_size.at[i - 1];
        t->group_names.at[i] = t->group_names.at[i - 1];
    }
    t->group_id.at[at] = id;
    t->group_size.at[at] = size;
    t->group_names.at[at] = name;
}

static void unpack(struct tables *t, const char *p)
{
    uint32_t n_streams = take_u32(&p), n_instructions = take_u32(&p), n_groups = take_u32(&p), first = t->streams.n;
    for (uint32_t i = 0; i < n_streams; i++)
        vec_add(&t->streams, take_text(&p));
    for (uint32_t i = 0; i < n_instructions; i++) {
        double predicted[2];
        vec_add(&t->instr_stream, first + take_u32(&p));
        memcpy(predicted, p, sizeof predicted);
        p += sizeof predicted;
        vec_add(&t->predicted, predicted[0]);
        vec_add(&t->predicted_start, predicted[1]);
        vec_add(&t->names, take_text(&p));
        vec_add(&t->tags, take_text(&p));
    }
    for (uint32_t i = 0; i < n_groups; i++) {
        uint32_t id = take_u32(&p), size = take_u32(&p);
        add_group(t, id, size, take_text(&p));
    }
}

/* The rank whose definitions rank r uses: the first with the same hash. */
static uint32_t first_like(const struct card *cards, uint32_t r)
{
    uint32_t i = 0;
    while (memcmp(cards[i].hash, cards[r].hash, sizeof cards[i].hash) != 0)
        i++;
    return i;
}

/* Rank 0: tables from the cards and from the definitions of the first rank of each kind. */
static void build_tables(struct tables *t, struct card *cards, uint32_t ranks, char *const *blobs)
{
    uint32_t *first_stream = mem_alloc(sizeof *first_stream * ranks);
    for (uint32_t r = 0; r < ranks; r++) {
        uint32_t like = first_like(cards, r), n_streams;
        if (like == r) {
            first_stream[r] = t->streams.n;
            cards[r].first_instruction = t->names.n;
            unpack(t, blobs[r]);
        }
        cards[r].first_instruction = cards[like].first_instruction;
        cards[r].first_location = t->location_rank.n;
        memcpy(&n_streams, blobs[like], sizeof n_streams);
        for (uint32_t i = 0; i < n_streams; i++) {
            vec_add(&t->location_rank, r);
            vec_add(&t->location_stream, first_stream[like] + i);
        }
        vec_add(&t->rank_host, host_row(t, cards[r].host));
    }
    mem_free(first_stream);
}

static void release_tables(struct tables *t)
{
    vec_free(&t->hosts);
    vec_free(&t->streams);
    vec_free(&t->names);
    vec_free(&t->tags);
    vec_free(&t->group_names);
    vec_free(&t->rank_host);
    vec_free(&t->location_rank);
    vec_free(&t->location_stream);
    vec_free(&t->instr_stream);
    vec_free(&t->group_id);
    vec_free(&t->group_size);
    vec_free(&t->predicted);
    vec_free(&t->predicted_start);
}

/* ---- the file ---- */

struct segment {
    const struct tables *t;
    const struct card *cards;
    uint32_t ranks;
    uint64_t events;
    uint64_t offset[TRACE_COLUMNS];
    struct h5_out out;
    struct err *e;
};

static enum status put_column(struct segment *s, const char *name, const char *units, enum h5_type type, uint64_t n,
                              const void *data)
{
    return h5_put(&s->out.root, &(struct h5_data){ .name = name, .units = units, .rank = 1, .dim = { n } }, type, data,
                  s->e);
}

/* A column of /ranks: field at `offset` of each card, 8 bytes. */
static enum status put_card_column(struct segment *s, const char *name, const char *units, enum h5_type type,
                                   size_t offset)
{
    char *data = mem_alloc(8 * (size_t)s->ranks);
    for (uint32_t r = 0; r < s->ranks; r++)
        memcpy(data + 8 * (size_t)r, (const char *)&s->cards[r] + offset, 8);
    enum status st = put_column(s, name, units, type, s->ranks, data);
    mem_free(data);
    return st;
}

static enum status put_ranks(struct segment *s)
{
    const char **devices = mem_alloc(sizeof *devices * s->ranks);
    for (uint32_t r = 0; r < s->ranks; r++)
        devices[r] = s->cards[r].device;
    enum status st = h5_put_strings(&s->out.root, "ranks/device", devices, s->ranks, s->e);
    mem_free(devices);
    TRY(st);
    TRY(put_column(s, "ranks/host", NULL, H5_U32, s->ranks, s->t->rank_host.at));
    TRY(put_card_column(s, "ranks/clock_offset_start", "seconds", H5_F64, offsetof(struct card, offset_start)));
    TRY(put_card_column(s, "ranks/clock_offset_end", "seconds", H5_F64, offsetof(struct card, offset_end)));
    TRY(put_card_column(s, "ranks/clock_start", "seconds", H5_F64, offsetof(struct card, clock_start)));
    TRY(put_card_column(s, "ranks/clock_end", "seconds", H5_F64, offsetof(struct card, clock_end)));
    return put_card_column(s, "ranks/dropped", "events", H5_U64, offsetof(struct card, dropped));
}

static enum status put_definitions(struct segment *s)
{
    const struct tables *t = s->t;
    const struct h5_at *root = &s->out.root;
    TRY(h5_put_strings(root, "hosts/name", t->hosts.at, t->hosts.n, s->e));
    TRY(put_ranks(s));
    TRY(h5_put_strings(root, "streams/name", t->streams.at, t->streams.n, s->e));
    TRY(put_column(s, "locations/rank", NULL, H5_U32, t->location_rank.n, t->location_rank.at));
    TRY(put_column(s, "locations/stream", NULL, H5_U32, t->location_stream.n, t->location_stream.at));
    TRY(h5_put_strings(root, "instructions/name", t->names.at, t->names.n, s->e));
    TRY(h5_put_strings(root, "instructions/tags", t->tags.at, t->tags.n, s->e));
    TRY(put_column(s, "instructions/stream", NULL, H5_U32, t->instr_stream.n, t->instr_stream.at));
    TRY(put_column(s, "instructions/predicted", "seconds", H5_F64, t->predicted.n, t->predicted.at));
    TRY(put_column(s, "instructions/predicted_start", "seconds", H5_F64, t->predicted_start.n, t->predicted_start.at));
    TRY(put_column(s, "groups/id", NULL, H5_U32, t->group_id.n, t->group_id.at));
    TRY(put_column(s, "groups/size", "ranks", H5_U32, t->group_size.n, t->group_size.at));
    return h5_put_strings(root, "groups/name", t->group_names.at, t->group_names.n, s->e);
}

static enum status make_segment(struct segment *s, const struct trace_private *p)
{
    char now[32], name[TRACE_NAME];
    time_t t = time(NULL);
    struct tm tm;
    gmtime_r(&t, &tm);
    strftime(now, sizeof now, "%Y-%m-%dT%H:%M:%SZ", &tm);
    trace_name(p->segment, name);
    TRY(h5_create_in(p->dir, name, trace__schema, TRACE_VERSION, &s->out, s->e));
    TRY(h5_attr_u64(&s->out.root, "segment", p->segment, s->e));
    TRY(h5_attr_f64(&s->out.root, "zero", p->zero, s->e));
    TRY(h5_attr_text(&s->out.root, "time", now, s->e));
    TRY(put_definitions(s));
    for (int c = 0; c < TRACE_COLUMNS; c++) {
        char name[32];
        snprintf(name, sizeof name, "events/%s", trace__columns[c].name);
        struct h5_data d = { .name = name, .units = trace__columns[c].units, .rank = 1, .dim = { s->events } };
        TRY(h5_reserve(&s->out.root, &d, trace__columns[c].type, &s->offset[c], s->e));
    }
    return h5_finish(&s->out, s->e);
}

/* This rank's rows, `first` on, of every column. */
static enum status write_rows(const struct trace_writer *w, const char *temp, const uint64_t *offset, uint64_t first,
                              struct err *e)
{
    int fd;
    TRY(dir_change(w->p->dir, temp, &fd, e));
    char *column = mem_alloc(8 * (size_t)w->n);
    enum status st = ST_OK;
    for (int c = 0; st == ST_OK && c < TRACE_COLUMNS; c++) {
        const struct trace__column *col = &trace__columns[c];
        for (uint32_t i = 0; i < w->n; i++)
            memcpy(column + (size_t)i * col->width, (const char *)&w->events[i] + col->offset, col->width);
        st = file_pwrite(fd, temp, column, (uint64_t)w->n * col->width, offset[c] + first * col->width, e);
    }
    mem_free(column);
    enum status closed = file_sync_close(fd, temp, e);
    return st == ST_OK ? closed : st;
}

/* From the numbers of this rank to the rows of the tables. */
static void renumber(struct trace_writer *w, const struct card *mine)
{
    for (uint32_t i = 0; i < w->n; i++) {
        CHECK(w->events[i].location < w->p->n_streams && w->events[i].instruction < w->p->n_instructions);
        w->events[i].location += (uint32_t)mine->first_location;
        w->events[i].instruction += (uint32_t)mine->first_instruction;
    }
}

static enum status write_segment(struct trace_writer *w, struct card *cards, char *const *blobs, struct err *e)
{
    uint32_t ranks = world_size();
    struct tables t = { 0 };
    struct segment s = { .t = &t, .cards = cards, .ranks = ranks, .e = e };
    uint64_t first = 0;
    char temp[DIR_NAME];
    for (uint32_t r = 0; r < ranks; r++) {
        first += r < world_rank() ? cards[r].events : 0;
        s.events += cards[r].events;
    }
    enum status st = ST_OK;
    if (world_rank() == 0) {
        build_tables(&t, cards, ranks, blobs);
        st = make_segment(&s, w->p);
    }
    st = world_agree(st, e);
    if (st == ST_OK) {
        memcpy(temp, s.out.file.temp, sizeof temp);
        world_broadcast(temp, sizeof temp);
        world_broadcast(s.offset, sizeof s.offset);
        world_broadcast(cards, sizeof *cards * ranks);
        renumber(w, &cards[world_rank()]);
        st = world_agree(write_rows(w, temp, s.offset, first, e), e);
    }
    if (world_rank() == 0) {
        if (st == ST_OK)
            st = h5_commit(&s.out, e);
        else if (s.out.path)
            h5_abandon(&s.out);
    }
    release_tables(&t);
    return world_agree(st, e);
}

enum status trace_flush(struct trace_writer *w, struct err *e)
{
    uint32_t ranks = world_size();
    uint64_t any = w->n;
    world_max_u64(&any, 1);
    if (!any)
        return ST_OK;
    struct card mine, *cards = mem_alloc(sizeof *cards * ranks);
    fill_card(w, &mine);
    world_all_gather(&mine, sizeof mine, cards);
    uint64_t *bytes = mem_alloc(sizeof *bytes * ranks); /* what each rank sends to rank 0: 0, or its definitions */
    for (uint32_t r = 0; r < ranks; r++)
        bytes[r] = first_like(cards, r) == r ? cards[r].bytes : 0;
    char **blobs = mem_alloc(sizeof *blobs * ranks);
    world_collect(w->p->defs.at, bytes, (void **)blobs);
    enum status st = write_segment(w, cards, blobs, e);
    for (uint32_t r = 0; r < ranks; r++)
        mem_free(blobs[r]);
    mem_free(blobs);
    mem_free(bytes);
    w->p->segment += st == ST_OK;
    w->p->offset_start = mine.offset_end;
    w->p->clock_start = mine.clock_end;
    w->n = 0;
    w->dropped = 0;
    mem_free(cards);
    return st;
}

enum status trace_close(struct trace_writer *w, struct err *e)
{
    if (!w->p)
        return ST_OK;
    enum status st = trace_flush(w, e);
    vec_free(&w->p->defs);
    mem_free(w->p->device);
    mem_free(w->p);
    mem_free(w->events);
    *w = (struct trace_writer){ 0 };
    return st;
}
