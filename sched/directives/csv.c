/* Reading schedules as text. */
#include "sched/directives/csv.h"

#include <stdio.h>

enum { MAX_NUMBER = IR_NO_MB - 1 };

struct reader {
    const char *at, *file;
    uint32_t line, cell;
    struct err *e;
};

static enum status wrong_cell(struct reader *r, const char *expected)
{
    size_t n = strcspn(r->at, ",\n\r;)");
    return err_set(r->e, ST_INPUT, r->file, "line %u, cell %u: found \"%.*s\", expected %s", r->line, r->cell,
                   (int)(n < 40 ? n : 40), r->at, expected);
}

static bool read_number(struct reader *r, uint32_t *x)
{
    const char *start = r->at;
    for (*x = 0; *r->at >= '0' && *r->at <= '9' && *x <= MAX_NUMBER; r->at++)
        *x = *x * 10 + (uint32_t)(*r->at - '0');
    return r->at > start && *x <= MAX_NUMBER;
}

static bool take(struct reader *r, const char *word)
{
    size_t n = strlen(word);
    bool same = !strncmp(r->at, word, n);
    r->at += same ? n : 0;
    return same;
}

/* A cell of communication, as PyTorch's lowered schedules have: stage, what, and for sends and receives the microbatch. */
static bool take_communication(struct reader *r, struct csv *out)
{
    static const char *const words[] = { "UNSHARD", "RESHARD", "REDUCE_GRAD", "SEND_F", "SEND_B", "RECV_F", "RECV_B" };
    const char *start = r->at;
    uint32_t number;
    bool found = false;
    read_number(r, &number); /* (some versions write no stage) */
    for (size_t i = 0; i < sizeof words / sizeof *words && !found; i++)
        found = take(r, words[i]);
    if (found)
        read_number(r, &number);
    if (!found || !strchr(", \t\r\n", *r->at)) { /* (the end of the text too) */
        r->at = start;
        return false;
    }
    if (!out->dropped++)
        snprintf(out->first_dropped, sizeof out->first_dropped, "%.*s", (int)(r->at - start), start);
    return true;
}

static enum status read_pass(struct reader *r, struct cell *c)
{
    static const char letters[] = "FBIW";
    static const enum ir_pass passes[] = { IR_PASS_F, IR_PASS_B, IR_PASS_BI, IR_PASS_BW };
    const char *start = r->at, *letter;
    *c = (struct cell){ .pass = IR_PASS_NONE };
    if (read_number(r, &c->stage) && *r->at && (letter = strchr(letters, *r->at))) {
        r->at++;
        if (read_number(r, &c->mb)) {
            c->pass = passes[letter - letters];
            return ST_OK;
        }
    }
    r->at = start;
    return wrong_cell(r, "stage, one of F, B, I, W, and microbatch, like 3F0 (a schedule has computation only)");
}

static void add_cell(const struct reader *r, struct cells *row, struct cell c)
{
    vec_add(row, c);
    vec_add(&row->columns, r->cell);
}

/* A cell or a pair; of a pair the forward goes first. */
static enum status read_cell(struct reader *r, struct cells *row)
{
    struct cell a, b;
    if (*r->at != '(') {
        TRY(read_pass(r, &a));
        add_cell(r, row, a);
        return ST_OK;
    }
    const char *start = r->at++;
    TRY(read_pass(r, &a));
    bool good = take(r, ";");
    if (good)
        TRY(read_pass(r, &b));
    if (!good || !take(r, ")OVERLAP_F_B") ||
        !((a.pass == IR_PASS_F && b.pass == IR_PASS_B) || (a.pass == IR_PASS_B && b.pass == IR_PASS_F))) {
        r->at = start;
        return err_set(r->e, ST_INPUT, r->file,
                       "line %u, cell %u: found \"%.*s\", expected a forward and a backward like (0F9;7B8)OVERLAP_F_B",
                       r->line, r->cell, (int)strcspn(start, ",\n\r"), start);
    }
    struct cell f = a.pass == IR_PASS_F ? a : b;
    f.with_next = true;
    add_cell(r, row, f);
    add_cell(r, row, a.pass == IR_PASS_F ? b : a);
    return ST_OK;
}

static void skip_blanks(struct reader *r)
{
    while (*r->at == ' ' || *r->at == '\t' || *r->at == '\r')
        r->at++;
}

static enum status read_line(struct reader *r, struct csv *out, struct cells *row)
{
    for (r->cell = 1;; r->cell++) {
        skip_blanks(r);
        if (*r->at != ',' && *r->at != '\n' && *r->at && !take_communication(r, out))
            TRY(read_cell(r, row));
        skip_blanks(r);
        if (*r->at != ',')
            break;
        r->at++;
    }
    return *r->at && *r->at != '\n' ? wrong_cell(r, "a comma or the end of the line") : ST_OK;
}

static enum status read_lines(struct reader *r, struct csv *out)
{
    while (*r->at) {
        struct cells *row = vec_push(&out->rows);
        *row = (struct cells){ .line = ++r->line };
        TRY(read_line(r, out, row));
        r->at += *r->at == '\n';
    }
    while (out->rows.n && !out->rows.at[out->rows.n - 1].n) { /* empty lines at the end */
        vec_free(&out->rows.at[out->rows.n - 1]);
        out->rows.n--;
    }
    return out->rows.n
               ? ST_OK
               : err_set(r->e, ST_INPUT, r->file, "line 1: found nothing, expected a line of cells for each rank");
}

/* ---- checks ---- */

static char letter(enum ir_pass p)
{
    return p == IR_PASS_F ? 'F' : p == IR_PASS_B ? 'B' : p == IR_PASS_BI ? 'I' : 'W';
}

static enum status wrong(const struct csv *c, uint32_t line, uint32_t i, const char *file, const char *why,
                         struct err *e)
{
    const struct cell *cell = &c->rows.at[line].at[i];
    return err_set(e, ST_INPUT, file, "line %u, cell %u: %u%c%u %s", line + 1, c->rows.at[line].columns.at[i],
                   cell->stage, letter(cell->pass), cell->mb, why);
}

/* How many stages and microbatches; a file far too short for them is refused here, so that what follows may have tables of
 * them. */
static enum status measure(struct csv *c, const char *file, struct err *e)
{
    struct {
        uint32_t line, i;
    } stage = { 0 }, mb = { 0 }; /* the cells with the highest numbers */
    uint64_t cells = 0;
    for (uint32_t l = 0; l < c->rows.n; l++)
        for (uint32_t i = 0; i < c->rows.at[l].n; i++, cells++) {
            const struct cell *cell = &c->rows.at[l].at[i];
            if (cell->stage >= c->stages) {
                c->stages = cell->stage + 1;
                stage.line = l;
                stage.i = i;
            }
            if (cell->mb >= c->microbatches) {
                c->microbatches = cell->mb + 1;
                mb.line = l;
                mb.i = i;
            }
        }
    uint64_t need = 2 * (uint64_t)c->stages * c->microbatches;
    if (need <= 4 * cells + 1024)
        return ST_OK;
    char why[200];
    snprintf(why, sizeof why,
             "implies %u stages and %u microbatches, which need at least %llu cells; the file has %llu", c->stages,
             c->microbatches, (unsigned long long)need, (unsigned long long)cells);
    return c->microbatches > c->stages ? wrong(c, mb.line, mb.i, file, why, e)
                                       : wrong(c, stage.line, stage.i, file, why, e);
}

/* What must stand before a pass, on the same line, and what excludes it. */
static const char *refuse_pass(uint8_t seen, enum ir_pass p)
{
    enum { F = 1 << IR_PASS_F, B = 1 << IR_PASS_B, I = 1 << IR_PASS_BI };
    if (seen & 1 << p)
        return "appears twice";
    if (p != IR_PASS_F && !(seen & F))
        return "precedes its forward";
    if (p == IR_PASS_BW && !(seen & (I | B)))
        return "precedes its I";
    if ((p == IR_PASS_B && seen & I) || (p != IR_PASS_F && p != IR_PASS_B && seen & B))
        return "duplicates a B or an I of the same backward; a backward is one B, or one I and one W";
    return NULL;
}

/* The line of an earlier cell that must be this one's: of the microbatch, or without `apart` of the stage. */
static uint32_t line_before(const struct csv *c, const struct cell *cell, bool apart)
{
    const uint32_t *rows = c->row_of + (size_t)cell->stage * c->microbatches;
    for (uint32_t mb = apart ? cell->mb : 0; mb < (apart ? cell->mb + 1 : c->microbatches); mb++)
        if (rows[mb] != IR_NONE)
            return rows[mb];
    return IR_NONE;
}

static enum status check_cells(struct csv *c, bool apart, uint8_t *seen, const char *file, struct err *e)
{
    for (uint32_t l = 0; l < c->rows.n; l++) {
        if (!c->rows.at[l].n)
            return err_set(e, ST_INPUT, file, "line %u, cell 1: found nothing, expected the passes of a rank", l + 1);
        for (uint32_t i = 0; i < c->rows.at[l].n; i++) {
            const struct cell *cell = &c->rows.at[l].at[i];
            const size_t at = (size_t)cell->stage * c->microbatches + cell->mb;
            const uint32_t before = line_before(c, cell, apart);
            uint8_t *bits = &seen[at];
            if (before != IR_NONE && before != l) {
                char why[120];
                snprintf(why, sizeof why, "is on another line than earlier passes of its %s, line %u",
                         apart ? "stage and microbatch" : "stage", before + 1);
                return wrong(c, l, i, file, why, e);
            }
            c->row_of[at] = l;
            const char *why = refuse_pass(*bits, cell->pass);
            if (why)
                return wrong(c, l, i, file, why, e);
            *bits |= (uint8_t)(1 << cell->pass);
        }
    }
    return ST_OK;
}

static enum status check_complete(const struct csv *c, const uint8_t *seen, const char *file, struct err *e)
{
    for (uint32_t s = 0; s < c->stages; s++)
        for (uint32_t mb = 0; mb < c->microbatches; mb++) {
            uint8_t bits = seen[(size_t)s * c->microbatches + mb];
            const char *want = !(bits & 1 << IR_PASS_F)   ? "F"
                               : bits & 1 << IR_PASS_BI   ? (bits & 1 << IR_PASS_BW ? NULL : "W")
                               : !(bits & 1 << IR_PASS_B) ? "B"
                                                          : NULL;
            const struct cell any = { .stage = s, .mb = mb };
            uint32_t line = want ? line_before(c, &any, true) : 0;
            line = line == IR_NONE ? line_before(c, &any, false) : line;
            if (line == IR_NONE)
                return err_set(e, ST_INPUT, file, "no line has stage %u; stages are numbered from 0 to %u without gaps",
                               s, c->stages - 1);
            if (want)
                return err_set(e, ST_INPUT, file, "line %u, which ends with cell %u: there is no %u%s%u%s", line + 1,
                               c->rows.at[line].columns.at[c->rows.at[line].n - 1], s, want, mb,
                               *want == 'B' ? ", nor I and W in its place" : "");
        }
    return ST_OK;
}

enum status csv_read(const char *text, const char *file, bool apart, struct csv *out, struct err *e)
{
    struct reader r = { .at = text, .file = file, .e = e };
    *out = (struct csv){ 0 };
    TRY(read_lines(&r, out));
    TRY(measure(out, file, e));
    const size_t n = (size_t)out->stages * out->microbatches;
    out->row_of = mem_alloc(n * sizeof *out->row_of);
    memset(out->row_of, 0xff, n * sizeof *out->row_of);
    uint8_t *seen = mem_alloc(n);
    enum status st = check_cells(out, apart, seen, file, e);
    if (st == ST_OK)
        st = check_complete(out, seen, file, e);
    mem_free(seen);
    return st;
}

void cells_release(struct cells *c)
{
    vec_free(c);
    vec_free(&c->columns);
}

void csv_release(struct csv *c)
{
    for (uint32_t i = 0; i < c->rows.n; i++)
        cells_release(&c->rows.at[i]);
    vec_free(&c->rows);
    mem_free(c->row_of);
    *c = (struct csv){ 0 };
}

enum status csv_fold(struct csv *c, uint32_t stages, const char *file, struct err *e)
{
    CHECK(c->stages == 2 * stages);
    for (uint32_t l = 0; l < c->rows.n; l++) {
        struct cells *row = &c->rows.at[l];
        if (!row->n)
            continue;
        uint32_t mirror =
            c->row_of[(size_t)((row->at[0].stage + stages) % c->stages) * c->microbatches + row->at[0].mb];
        const struct cells *other = &c->rows.at[mirror];
        if (mirror == l)
            return wrong(c, l, 0, file, "is on the line of the same stage in the other direction", e);
        for (uint32_t i = 0; i < row->n; i++) {
            const struct cell *a = &row->at[i], *b = i < other->n ? &other->at[i] : NULL;
            if (b && b->stage == (a->stage + stages) % c->stages && b->mb == a->mb && b->pass == a->pass &&
                b->with_next == a->with_next)
                continue;
            char why[240];
            snprintf(why, sizeof why,
                     "differs from line %u, which has %u%c%u there for the other direction; mirrored ranks run in the "
                     "same order. Directions with orders of their own: place microbatches, not two-way",
                     mirror + 1, (a->stage + stages) % c->stages, letter(a->pass), a->mb);
            return wrong(c, l, i, file, why, e);
        }
        if (other->n > row->n)
            return wrong(c, mirror, row->n, file, "has no counterpart on the mirrored line", e);
        vec_free(&c->rows.at[mirror]);
    }
    return ST_OK;
}
