/* What a search has found: as text, as JSON, as files. */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "base/duration.h"
#include "cmd/output.h"
#include "cmd/tune.h"
#include "job/compile_job.h"
#include "job/need.h"
#include "view/chart.h"

static const struct tune_result *nth(const struct tune_found *f, uint32_t i)
{
    return &f->search->results.at[f->search->order[i]];
}

static uint32_t shown(const struct tune_found *f)
{
    return f->search->n_order < f->o->best ? f->search->n_order : (uint32_t)f->o->best;
}

/* ---- text -------------------------------------------------------------------------------------------------------------- */

/* Where a rank's time goes in a step, on the mean: computing, exposed communication by kind, idle. */
static double share_of(const struct tune_result *r, int k)
{
    return k == SIMULATE_COMPUTE ? r->mean.compute : k < SIMULATE_KINDS ? r->mean.exposed[k] : r->mean.idle;
}

static const char *share_name(int k)
{
    return k < SIMULATE_KINDS ? simulate_kind_name((enum simulate_kind)k) : "idle";
}

/* "3.2 ms more idle, 1 ms less computing": what made the step longer, the largest first; at most three. */
static void lost_text(const struct tune_result *best, const struct tune_result *r, char *text, size_t size)
{
    bool said[SIMULATE_KINDS + 1] = { false };
    char seconds[32];
    size_t n = 0;
    text[0] = '\0';
    for (int i = 0; i < 3; i++) {
        int most = -1;
        for (int k = 0; k <= SIMULATE_KINDS; k++)
            if (!said[k] &&
                (most < 0 || fabs(share_of(r, k) - share_of(best, k)) > fabs(share_of(r, most) - share_of(best, most))))
                most = k;
        const double more = share_of(r, most) - share_of(best, most);
        said[most] = true;
        if (fabs(more) < 1e-3 * best->step)
            break;
        n += (size_t)snprintf(text + n, size - n, "%s%s %s %s", n ? ", " : "", duration_digits(fabs(more), seconds),
                              more > 0 ? "more" : "less", share_name(most));
    }
    if (!n && r->step == best->step)
        snprintf(text, size, r->need == best->need ? "the same, a later candidate" : "the same step, more memory");
    else if (!n)
        snprintf(text, size, "less than 0.1%% in each of computing, communication and idle time");
}

static void print_rules(const struct tune_found *f, FILE *to)
{
    const struct tune_search *s = f->search;
    char least[32];
    static const char *const said[TUNE_RULES] = {
        [TUNE_COMPILED] = "compiled, verified and simulated, and they fit",
        [TUNE_PLANNED] = "compiled, and need more memory than there is",
        [TUNE_REFUSED] = "refused by the compiler",
        [TUNE_MEMORY] = "dropped: need more memory than there is, by a lower bound",
        [TUNE_COMPUTE] = "dropped: no better, by the computing of the busiest rank",
        [TUNE_ORDER] = "dropped: no better, by the longest path of the schedule",
        [TUNE_LINKS] = "dropped: no better, by the bytes on a link",
        [TUNE_SAVES] = "dropped: save memory only, and fit without recompute or with less of zero",
        [TUNE_LIMIT] = "left over at --limit",
    };
    fprintf(to, "candidates    %u\n", s->space->candidates);
    for (int r = 0; r < TUNE_RULES; r++)
        if (said[r] && s->counts[r])
            fprintf(to, "  %9u   %s\n", s->counts[r], said[r]);
    if (s->counts[TUNE_LIMIT])
        fprintf(to,
                "note: the search ended after %u compilations with candidates left whose bound is better: none of them "
                "takes less than %s; raise --limit, or give values in a starting strategy (-s)\n",
                s->compiled, duration_digits(s->least_left, least));
    if (s->counts[TUNE_REFUSED])
        fprintf(to, "note: the compiler's first refusal: %s\n", s->refusal);
}

static void print_audit(const struct tune_found *f, FILE *to)
{
    char text[32];
    if (!f->audit)
        return;
    fprintf(to,
            "\naudit: %u of the dropped were compiled all the same; %u of them refused, %u beyond the memory, %u "
            "better than "
            "the best",
            f->audit->looked, f->audit->refused, f->audit->beyond, f->audit->better);
    if (f->audit->best > 0)
        fprintf(to, " (their best step: %s)", duration_digits(f->audit->best, text));
    fputc('\n', to);
}

void tune_print(const struct tune_found *f, FILE *to)
{
    const struct tune_search *s = f->search;
    char step[32], memory[32], shape[TUNE_TEXT], why[256];
    text_print(to, "machine       %s, %u ranks", s->in.machine->name, s->in.ranks);
    if (s->memory > 0)
        fprintf(to, ", %s per rank", compile_bytes(s->memory, memory));
    fputc('\n', to);
    print_rules(f, to);
    fprintf(to, "\n%4s %11s %11s %9s %7s  %s\n", "", "step", "memory", "exposed", "idle", "strategy");
    for (uint32_t i = 0; i < shown(f); i++) {
        const struct tune_result *r = nth(f, i);
        fprintf(to, "%4u %11s %11s %8.1f%% %6.1f%%  %s\n", i + 1, duration_digits(r->step, step),
                compile_bytes(r->need, memory), 100 * simulate_exposed(&r->mean) / r->step,
                100 * r->mean.idle / r->step, tune_shape_text(&r->shape, shape));
        if (r->measured > 0)
            fprintf(to, "     measured %s\n", duration_digits(r->measured, step));
    }
    fputs("Steps are predicted; exposed: communication while the rank does not compute, on the mean of the ranks.\n",
          to);
    for (uint32_t i = 1; i < shown(f); i++) {
        lost_text(nth(f, 0), nth(f, i), why, sizeof why);
        fprintf(to, "%s %u: %s %+.1f%%: %s\n", i == 1 ? "\nlost to 1:\n " : " ", i + 1,
                duration_digits(nth(f, i)->step, step), 100 * (nth(f, i)->step / nth(f, 0)->step - 1), why);
    }
    print_audit(f, to);
}

/* ---- JSON -------------------------------------------------------------------------------------------------------------- */

static json_t *result_json(const struct tune_found *f, const struct tune_result *r)
{
    char shape[TUNE_TEXT], why[256];
    json_t *peaks = json_object(), *exposed = json_object();
    for (int k = 0; k < MEM_KINDS; k++)
        json_object_set_new(peaks, plan_memory_name((enum plan_kind_of_memory)k),
                            json_integer((json_int_t)r->by_kind[k]));
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS; k++)
        json_object_set_new(exposed, simulate_kind_name((enum simulate_kind)k), json_real(r->mean.exposed[k]));
    lost_text(nth(f, 0), r, why, sizeof why);
    json_t *out = json_pack("{s:s, s:f, s:f, s:o, s:f, s:f, s:o, s:f, s:o}", "text", tune_shape_text(&r->shape, shape),
                            "step_seconds", r->step, "memory_bytes", r->need, "peak_bytes", peaks, "compute_seconds",
                            r->mean.compute, "idle_seconds", r->mean.idle, "exposed_seconds", exposed,
                            "bubble_fraction", r->bubble, "strategy",
                            tune_strategy(f->search->space->start, &r->shape));
    if (r != nth(f, 0))
        json_object_set_new(out, "lost_by", json_string(why));
    if (r->measured > 0)
        json_object_set_new(out, "measured_seconds", json_real(r->measured));
    return out;
}

static int by_memory(const void *a, const void *b)
{
    const struct tune_result *x = *(const struct tune_result *const *)a, *y = *(const struct tune_result *const *)b;
    if (x->need != y->need)
        return x->need < y->need ? -1 : 1;
    return x->step < y->step ? -1 : x->step > y->step;
}

/* All that fit by memory, and of them, first, those that nothing with less memory beats. Owned. */
static const struct tune_result **frontier(const struct tune_found *f, const struct tune_result ***all, uint32_t *n)
{
    const uint32_t total = f->search->n_order;
    const struct tune_result **best = mem_alloc((total + 1) * sizeof(void *));
    *all = mem_alloc((total + 1) * sizeof(void *));
    for (uint32_t i = 0; i < total; i++)
        (*all)[i] = nth(f, i);
    qsort(*all, total, sizeof **all, by_memory);
    *n = 0;
    for (uint32_t i = 0; i < total; i++)
        if (!*n || (*all)[i]->step < best[*n - 1]->step)
            best[(*n)++] = (*all)[i];
    return best;
}

void tune_print_json(const struct tune_found *f, FILE *to)
{
    const struct tune_search *s = f->search;
    json_t *rules = json_object(), *best = json_array(), *front = json_array();
    const struct tune_result **all;
    uint32_t n;
    for (int r = TUNE_COMPILED; r < TUNE_RULES; r++)
        json_object_set_new(rules, tune_rule_name((enum tune_rule)r), json_integer(s->counts[r]));
    for (uint32_t i = 0; i < shown(f); i++)
        json_array_append_new(best, result_json(f, nth(f, i)));
    const struct tune_result **on = frontier(f, &all, &n);
    for (uint32_t i = 0; i < n; i++)
        json_array_append_new(front, result_json(f, on[i]));
    mem_free(on);
    mem_free(all);
    json_t *out = json_pack("{s:s, s:I, s:f, s:I, s:I, s:o, s:b, s:o, s:o}", "machine", s->in.machine->name, "ranks",
                            (json_int_t)s->in.ranks, "memory_limit_bytes", s->memory, "candidates",
                            (json_int_t)s->space->candidates, "compilations", (json_int_t)s->compiled, "rules", rules,
                            "exact", !s->counts[TUNE_LIMIT], "best", best, "frontier", front);
    if (s->counts[TUNE_LIMIT])
        json_object_set_new(out, "least_bound_seconds", json_real(s->least_left));
    if (f->audit)
        json_object_set_new(out, "audit",
                            json_pack("{s:I, s:I, s:I, s:I, s:f}", "compiled", (json_int_t)f->audit->looked, "refused",
                                      (json_int_t)f->audit->refused, "planned", (json_int_t)f->audit->beyond, "better",
                                      (json_int_t)f->audit->better, "best_step_seconds", f->audit->best));
    json_dumpf(out, to, JSON_INDENT(2) | JSON_REAL_PRECISION(9));
    fputc('\n', to);
    json_decref(out);
}

/* ---- files -------------------------------------------------------------------------------------------------------------- */

static void write_row(const struct tune_search *s, uint32_t family, uint32_t variant, FILE *to)
{
    const struct tune_family *f = &s->space->families.at[family];
    const struct tune_candidate *c = tune_search_at(s, family, variant);
    const struct tune_result *r = c->result == UINT32_MAX ? NULL : &s->results.at[c->result];
    const struct bound_shape shape = r ? r->shape : tune_family_shape(s->space, f, variant);
    char text[TUNE_TEXT];
    fprintf(to, "%u,%s,%s,%.9g,", f->first + variant, tune_rule_name((enum tune_rule)c->rule),
            c->rule == TUNE_MEMORY ? "memory" : tune_rule_name((enum tune_rule)c->bound_rule), c->bound);
    if (r)
        fprintf(to, "%.9g,%.0f", r->step, r->need);
    else
        fputc(',', to);
    fprintf(to, ",\"%s\"\n", tune_shape_text(&shape, text));
}

enum status tune_write_csv(const struct tune_found *f, const char *path, struct err *e)
{
    const struct tune_search *s = f->search;
    FILE *to;
    TRY(output_open(path, &to, e));
    fputs("candidate,rule,bound_of,bound,step_seconds,memory_bytes,strategy\n", to);
    for (uint32_t f = 0; f < s->space->families.n; f++)
        for (uint32_t v = 0; v < tune_family_variants(s->space, &s->space->families.at[f])->n; v++)
            write_row(s, f, v, to);
    return output_close(path, to, ST_OK, e);
}

const char *tune_file_name(uint32_t place, char name[TUNE_NAME])
{
    snprintf(name, TUNE_NAME, "best-%02u.json", place);
    return name;
}

static void write_strategy(const struct tune_found *f, const struct tune_result *r, FILE *to)
{
    json_t *list = tune_strategy(f->search->space->start, &r->shape), *d;
    size_t i;
    json_array_foreach(list, i, d)
    {
        fputs(i ? ",\n " : "[", to);
        json_dumpf(d, to, 0);
    }
    fputs("]\n", to);
    json_decref(list);
}

/* Step against memory: all that fit as dots, the frontier as a line. */
static void draw_frontier(const struct tune_found *f, FILE *to)
{
    const double gib = 1 << 30;
    const struct tune_result **all;
    uint32_t n, total = f->search->n_order;
    const struct tune_result **on = frontier(f, &all, &n);
    double *x = mem_alloc(2 * (size_t)(total + 1) * sizeof *x), *y = mem_alloc(2 * (size_t)(total + 1) * sizeof *y);
    for (uint32_t i = 0; i < total; i++) {
        x[i] = all[i]->need / gib;
        y[i] = all[i]->step * 1e3;
    }
    for (uint32_t i = 0; i < n; i++) {
        x[total + i] = on[i]->need / gib;
        y[total + i] = on[i]->step * 1e3;
    }
    const struct chart_series series[] = { { "compiled", 1, x, y, total, 1 },
                                           { "best for its memory", 0, x + total, y + total, n, 0 } };
    const struct chart chart = {
        .title = "predicted step, ms", .x_label = "memory per rank, GiB", .series = series, .n = 2
    };
    chart_file(&chart, 1, to);
    mem_free(x);
    mem_free(y);
    mem_free(on);
    mem_free(all);
}

enum status tune_write_files(const struct tune_found *f, const char *dir, struct err *e)
{
    char path[4096], name[TUNE_NAME];
    FILE *to;
    if (mkdir(dir, 0777) && errno != EEXIST)
        return err_set(e, ST_IO, dir, "cannot create directory: %s", strerror(errno));
    for (uint32_t i = 0; i < shown(f); i++) {
        snprintf(path, sizeof path, "%s/%s", dir, tune_file_name(i + 1, name));
        TRY(output_open(path, &to, e));
        write_strategy(f, nth(f, i), to);
        TRY(output_close(path, to, ST_OK, e));
    }
    snprintf(path, sizeof path, "%s/frontier.svg", dir);
    TRY(output_open(path, &to, e));
    draw_frontier(f, to);
    TRY(output_close(path, to, ST_OK, e));
    snprintf(path, sizeof path, "%s/tune.json", dir);
    TRY(output_open(path, &to, e));
    tune_print_json(f, to);
    return output_close(path, to, ST_OK, e);
}

/* ---- nothing fits -------------------------------------------------------------------------------------------------------- */

enum status tune_nothing(const struct tune_found *f, struct err *e)
{
    const struct tune_search *s = f->search;
    char have[32], need[32], over[32], shape[TUNE_TEXT], kinds[512] = "", one[32];
    enum plan_kind_of_memory way[MEM_KINDS];
    if (!(s->least > 0))
        return err_set(e, ST_INPUT, "tune", "none of %u strategies compiles; the first refusal: %s",
                       s->counts[TUNE_REFUSED], s->refusal);
    if (s->counts[TUNE_LIMIT])
        return err_set(
            e, ST_INPUT, "tune",
            "none of the %u strategies that were compiled fits into %s per rank, and %u are left over: raise --limit, "
            "or give values in a starting strategy (-s)",
            s->compiled, compile_bytes(s->memory, have), s->counts[TUNE_LIMIT]);
    const uint32_t n_way = need_in_the_way(s->least_by_kind, s->in.target, s->least, s->memory, way);
    for (uint32_t i = 0, n = 0; i < n_way && n < sizeof kinds; i++)
        n += (uint32_t)snprintf(kinds + n, sizeof kinds - n, "%s%s %s (less with %s)", n ? "; " : "",
                                plan_memory_name(way[i]), compile_bytes(s->least_by_kind[way[i]], one),
                                need_remedy(way[i]));
    return err_set(e, ST_INPUT, "tune",
                   "none of %u strategies fits into %s per rank: the one that needs least, %s, needs %s, %s too much. "
                   "In the way: %s. "
                   "More ranks, a smaller batch_size or seq_len, or more --memory would help",
                   s->space->candidates, compile_bytes(s->memory, have), tune_shape_text(&s->least_shape, shape),
                   compile_bytes(s->least, need), compile_bytes(s->least - s->memory, over), kinds);
}
