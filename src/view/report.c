#include "view/report.h"

#include <math.h>
#include <stdarg.h>
#include <time.h>

#include "base/version.h"
#include "view/curves.h"
#include "view/escape.h"

static const char style[] =
    ":root{--bg:#fff;--fg:#1c1e21;--dim:#5f6670;--line:#e1e4e8;--c0:#2563b0;--c1:#c2410c;--c2:#0f766e;--c3:#7e22ce;--"
    "c4:#a16207;"
    "--c5:#be123c}\n"
    "@media screen and "
    "(prefers-color-scheme:dark){:root{--bg:#15171b;--fg:#e5e7ea;--dim:#9aa1ab;--line:#31353c;--c0:#7db1f5;"
    "--c1:#fb923c;--c2:#4fd1c0;--c3:#c084fc;--c4:#e0b94a;--c5:#fb7185}}\n"
    "body{margin:0 auto;max-width:1200px;padding:1rem;background:var(--bg);color:var(--fg);"
    "font:15px/1.5 system-ui,'DejaVu Sans',Arial,sans-serif}\n"
    "h1{font-size:1.5rem;margin:.3rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem;border-bottom:1px solid var(--line)}"
    "h3{font-size:1rem;margin:1.2rem 0 .3rem;overflow-wrap:anywhere}\n"
    ".dim{color:var(--dim)}.wide{overflow-x:auto}\n"
    "table{border-collapse:collapse}th,td{padding:.2rem .9rem .2rem 0;text-align:left;vertical-align:top;"
    "border-bottom:1px solid var(--line)}th{font-weight:600;white-space:nowrap}.facts td,.facts "
    "th+th{overflow-wrap:anywhere;"
    "white-space:normal;min-width:13rem}.name{white-space:nowrap}"
    ".n{text-align:right;white-space:nowrap;font-variant-numeric:tabular-nums}\n"
    ".charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,500px),1fr));gap:1rem 2rem}\n"
    "figure,section{margin:0;min-width:0}figcaption{font-weight:600}.chart{width:100%;height:auto}"
    ".chart "
    "text{font-size:11px;fill:var(--dim)}.grid{stroke:var(--line)}.curve{fill:none;stroke-width:1.6}.band{opacity:.22}"
    "\n"
    ".bar{display:flex;height:1.4rem;margin:.4rem 0}.bar i{display:block;min-width:0}"
    ".chip{display:inline-block;width:.8rem;height:.8rem;margin-right:.4rem}\n"
    ".trace{max-width:100%;background:#fff}ul{margin:.3rem 0;padding-left:1.2rem}li{overflow-wrap:anywhere}\n"
    "@media "
    "print{body{max-width:none;padding:0;font-size:11px}figure,tr,.bar{break-inside:avoid}h2,h3{break-after:avoid}"
    "*{-webkit-print-color-adjust:exact;print-color-adjust:exact}}\n";

/* ---- cells ------------------------------------------------------------------------------------------------------ */

static void put(FILE *to, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* Text of the run, which is no HTML. */
static void put(FILE *to, const char *fmt, ...)
{
    char text[2048];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof text, fmt, ap);
    va_end(ap);
    escape_text(to, text);
}

/* A number in the column of numbers; NAN: an empty cell. */
static void put_number(FILE *to, const char *fmt, double x)
{
    fputs("<td class=\"n\">", to);
    if (isfinite(x)) {
        char text[64];
        snprintf(text, sizeof text, fmt, x);
        escape_text(to, text);
    }
    fputs("</td>", to);
}

static double last_of(const struct run_metrics *m, const char *name)
{
    const uint32_t n = run_metrics_rows(m);
    return n ? run_metrics_cell(m, n - 1, run_metrics_find(m, name)) : (double)NAN;
}

static double mean_of(const struct run_metrics *m, const char *name)
{
    const uint32_t column = run_metrics_find(m, name);
    double sum = 0, n = 0;
    for (uint32_t i = 0; i < run_metrics_rows(m); i++)
        if (isfinite(run_metrics_cell(m, i, column))) {
            sum += run_metrics_cell(m, i, column);
            n++;
        }
    return n > 0 ? sum / n : (double)NAN;
}

static const struct run_part *newest(const struct report_run *r)
{
    static const struct run_part none;
    return r->log.parts.n ? &r->log.parts.at[r->log.parts.n - 1] : &none;
}

/* A text of the newest start that said it. */
static const char *said(const struct report_run *r, size_t at)
{
    for (uint32_t i = r->log.parts.n; i-- > 0;) {
        const char *text = *(const char *const *)(const void *)((const char *)&r->log.parts.at[i] + at);
        if (text)
            return text;
    }
    return "";
}

/* ---- the table at the top --------------------------------------------------------------------------------------- */

typedef void (*put_fact)(const struct report_run *r, FILE *to);

static void put_step(const struct report_run *r, FILE *to)
{
    if (run_metrics_rows(&r->metrics))
        put(to, "%.0f, %.0f tokens", last_of(&r->metrics, "step"), last_of(&r->metrics, "tokens"));
}

static void put_loss(const struct report_run *r, FILE *to)
{
    if (run_metrics_rows(&r->metrics))
        put(to, "%.4f", last_of(&r->metrics, "loss"));
}

static void put_evaluation(const struct report_run *r, FILE *to)
{
    const uint32_t column = run_metrics_find(&r->metrics, "eval_loss"), step = run_metrics_find(&r->metrics, "step");
    uint32_t best = UINT32_MAX, last = UINT32_MAX;
    for (uint32_t i = 0; i < run_metrics_rows(&r->metrics); i++) {
        const double x = run_metrics_cell(&r->metrics, i, column);
        if (!isfinite(x))
            continue;
        last = i;
        if (best == UINT32_MAX || x < run_metrics_cell(&r->metrics, best, column))
            best = i;
    }
    if (best != UINT32_MAX)
        put(to, "%.4f at step %.0f; best %.4f at step %.0f", run_metrics_cell(&r->metrics, last, column),
            run_metrics_cell(&r->metrics, last, step), run_metrics_cell(&r->metrics, best, column),
            run_metrics_cell(&r->metrics, best, step));
}

static void put_speed(const struct report_run *r, FILE *to)
{
    const double mfu = mean_of(&r->metrics, "mfu");
    if (!run_metrics_rows(&r->metrics))
        return;
    put(to, "%.0f tokens/s, %.4g s a step, means of all steps", mean_of(&r->metrics, "tokens_per_second"),
        mean_of(&r->metrics, "step_seconds"));
    if (isfinite(mfu))
        put(to, ", mfu %.1f%%", 100 * mfu);
}

static void put_starts(const struct report_run *r, FILE *to)
{
    if (r->log.parts.n)
        put(to, "%u, the first %s, the last %s", r->log.parts.n, r->log.parts.at[0].when, newest(r)->when);
}

static void put_state(const struct report_run *r, FILE *to)
{
    put(to, "%s", r->state);
}

#define SAID(member, skip)                                             \
    static void put_##member(const struct report_run *r, FILE *to)     \
    {                                                                  \
        const char *text = said(r, offsetof(struct run_part, member)); \
        put(to, "%s", strlen(text) > (skip) ? text + (skip) : text);   \
    }
SAID(job, 4)
SAID(hosts, 7)
SAID(device, 8)
SAID(memory, 22)
SAID(program, 0)
SAID(command, 9)

static void put_facts(const struct report_run *runs, uint32_t n, FILE *to)
{
    static const struct {
        const char *name;
        put_fact put;
    } facts[] = {
        { "state", put_state },
        { "job", put_job },
        { "step", put_step },
        { "loss", put_loss },
        { "evaluation", put_evaluation },
        { "speed", put_speed },
        { "hosts", put_hosts },
        { "device", put_device },
        { "memory per rank", put_memory },
        { "starts", put_starts },
        { "program", put_program },
        { "command", put_command },
    };
    fputs("<div class=\"wide\"><table class=\"facts\">\n<tr><th></th>", to);
    for (uint32_t i = 0; i < n; i++) {
        fprintf(to, "<th><span class=\"chip\" style=\"background:var(--c%u)\"></span>", i % CHART_COLOURS);
        put(to, "%s", runs[i].name);
        fputs("</th>", to);
    }
    for (size_t k = 0; k < sizeof facts / sizeof *facts; k++) {
        fprintf(to, "</tr>\n<tr><th>%s</th>", facts[k].name);
        for (uint32_t i = 0; i < n; i++) {
            fputs("<td>", to);
            facts[k].put(&runs[i], to);
            fputs("</td>", to);
        }
    }
    fputs("</tr>\n</table></div>\n", to);
}

/* ---- curves ----------------------------------------------------------------------------------------------------- */

static void put_curve(const struct curves *c, const char *title, const char *name, bool from_zero, FILE *to)
{
    struct curve_chart one;
    curve_make(c, title, name, from_zero, &one);
    if (chart_has_numbers(&one.chart)) {
        fputs("<figure><figcaption>", to);
        put(to, "%s", title);
        fputs("</figcaption>", to);
        chart_svg(&one.chart, to);
        fputs("</figure>\n", to);
    }
    curve_release(&one);
}

/* Columns of sets of evaluation data, by name: of one run, or of those that have it. */
static void put_named(const struct curves *c, FILE *to)
{
    for (uint32_t run = 0; run < c->n; run++)
        for (uint32_t k = 0; k < c->runs[run].metrics->columns; k++) {
            const char *name = run_metrics_name(c->runs[run].metrics, k);
            bool before = false;
            for (uint32_t i = 0; i < run; i++)
                before = before || run_metrics_find(c->runs[i].metrics, name) != UINT32_MAX;
            if (strncmp(name, "eval_loss.", 10) == 0 && !before)
                put_curve(c, name, name, false, to);
        }
}

static void put_curves(const struct report_run *runs, uint32_t n, FILE *to)
{
    struct curves_run *of = mem_alloc(n * sizeof *of);
    for (uint32_t i = 0; i < n; i++)
        of[i] = (struct curves_run){ runs[i].name, &runs[i].metrics };
    const struct curves c = { of, n };
    fputs("<h2>Curves</h2>\n<div class=\"charts\">\n", to);
    put_curve(&c, "loss", "loss", false, to);
    put_named(&c, to);
    put_curve(&c, "learning rate", "lr", true, to);
    put_curve(&c, "gradient norm", "grad_norm", true, to);
    put_curve(&c, "tokens per second", "tokens_per_second", true, to);
    put_curve(&c, "model flops utilization", "mfu", true, to);
    put_curve(&c, "load of experts: the most over the mean", "expert_load", false, to);
    fputs("</div>\n", to);
    mem_free(of);
}

/* ---- where the time went ---------------------------------------------------------------------------------------- */

static bool begins(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

/* Computing blue, waiting for others orange, the rest grey; shades within. */
static void put_shade(const char *name, uint32_t i, FILE *to)
{
    const bool exposed = begins(name, "exposed"), computes = begins(name, "forward") || begins(name, "backward") ||
                                                             begins(name, "norm") || begins(name, "steps");
    fprintf(to, "background:var(--%s);opacity:%.2f", computes ? "c0" : exposed ? "c1" : "dim", 1 - 0.13 * (i % 5));
}

static void put_spent(const struct report_run *r, FILE *to)
{
    const struct run_part *part = newest(r);
    fputs(part->spent.n ? "<div class=\"bar\">" : "<p class=\"dim\">the run tells that when it ends</p>\n", to);
    if (!part->spent.n)
        return;
    for (uint32_t i = 0; i + 1 < part->spent.n; i++) {
        const struct run_spent *s = &part->spent.at[i];
        fprintf(to, "<i title=\"%s: %.3f s\" style=\"width:%.2f%%;", s->name, s->mean, fmax(s->percent, 0));
        put_shade(s->name, i, to);
        fputs("\"></i>", to);
    }
    fputs(
        "</div>\n<div class=\"wide\"><table><tr><th>seconds per rank</th><th class=\"n\">mean</th><th "
        "class=\"n\">%</th>"
        "<th class=\"n\">least</th><th class=\"n\">rank</th><th class=\"n\">most</th><th class=\"n\">rank</th></tr>\n",
        to);
    for (uint32_t i = 0; i < part->spent.n; i++) {
        const struct run_spent *s = &part->spent.at[i];
        fputs("<tr><td class=\"name\"><span class=\"chip\" style=\"", to);
        if (i + 1 < part->spent.n)
            put_shade(s->name, i, to);
        fputs("\"></span>", to);
        put(to, "%s", s->name);
        fputs("</td>", to);
        put_number(to, "%.3f", s->mean);
        put_number(to, "%.1f", s->percent);
        put_number(to, "%.3f", s->least);
        put_number(to, "%.0f", s->least_rank);
        put_number(to, "%.3f", s->most);
        put_number(to, "%.0f", s->most_rank);
        fputs("</tr>\n", to);
    }
    fputs("</table></div>\n<p>", to);
    put(to, "%s%s%s", part->slowest ? part->slowest : "", part->slowest && part->mean ? "; " : "",
        part->mean ? part->mean : "");
    fputs("</p>\n", to);
}

/* ---- a traced step ---------------------------------------------------------------------------------------------- */

static void put_base64(const char *bytes, size_t n, FILE *to)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < n; i += 3) {
        uint32_t three = 0;
        for (size_t k = 0; k < 3; k++)
            three = three << 8 | (i + k < n ? (unsigned char)bytes[i + k] : 0);
        for (size_t k = 0; k < 4; k++)
            fputc(k <= n - i ? digits[three >> (18 - 6 * k) & 63] : '=', to);
    }
}

/* As an image, so that its style stays its own. */
static void put_trace(const struct report_run *r, FILE *to)
{
    if (!r->trace) {
        fputs("<p class=\"dim\">", to);
        put(to, "%s", r->no_trace);
        fputs("</p>\n", to);
        return;
    }
    fputs("<img class=\"trace\" alt=\"ranks over time in a traced step\" src=\"data:image/svg+xml;base64,", to);
    put_base64(r->trace, r->trace_bytes, to);
    fputs("\">\n", to);
}

/* ---- data, checkpoints, starts ----------------------------------------------------------------------------------- */

static void put_list(const struct run_texts *texts, FILE *to)
{
    enum { MOST = 40 };
    const uint32_t first = texts->n > MOST ? texts->n - MOST : 0;
    if (!texts->n)
        return;
    fputs("<ul>\n", to);
    if (first)
        fprintf(to, "<li class=\"dim\">%u earlier lines are in log.txt</li>\n", first);
    for (uint32_t i = first; i < texts->n; i++) {
        fputs("<li>", to);
        put(to, "%s", texts->at[i]);
        fputs("</li>\n", to);
    }
    fputs("</ul>\n", to);
}

static void put_data(const struct report_run *r, FILE *to)
{
    put_list(&newest(r)->data, to);
}

static void put_checkpoints(const struct report_run *r, FILE *to)
{
    enum { MOST = 20 };
    const uint32_t n = r->log.checkpoints.n, first = n > MOST ? n - MOST : 0;
    double seconds = 0, waited = 0;
    for (uint32_t i = 0; i < n; i++) {
        seconds += r->log.checkpoints.at[i].seconds;
        waited += r->log.checkpoints.at[i].waited;
    }
    fputs("<p>", to);
    if (n)
        put(to, "%u written, in %.3g s on average; training waited %.3g s for all of them", n, seconds / n, waited);
    else
        put(to, "none was written");
    fputs("</p>\n", to);
    if (!n)
        return;
    fputs("<div class=\"wide\"><table><tr><th class=\"n\">step</th><th>written</th><th class=\"n\">seconds</th>"
          "<th class=\"n\">training waited</th></tr>\n",
          to);
    for (uint32_t i = first; i < n; i++) {
        const struct run_checkpoint *c = &r->log.checkpoints.at[i];
        fputs("<tr>", to);
        put_number(to, "%.0f", (double)c->step);
        fputs("<td class=\"name\">", to);
        put(to, "%s", c->when);
        fputs("</td>", to);
        put_number(to, "%.2f", c->seconds);
        put_number(to, "%.4f", c->waited);
        fputs("</tr>\n", to);
    }
    fputs("</table></div>\n", to);
}

static void put_history(const struct report_run *r, FILE *to)
{
    enum { MOST = 50 };
    const uint32_t first = r->log.parts.n > MOST ? r->log.parts.n - MOST : 0;
    for (uint32_t i = first; i < r->log.parts.n; i++) {
        const struct run_part *part = &r->log.parts.at[i];
        fputs("<p><b>", to);
        put(to, "%s", part->when);
        fputs("</b> ", to);
        put(to, "to %s: %s", part->last, part->begins ? part->begins : "");
        fputs("</p>\n", to);
        put_list(&part->notes, to);
    }
}

/* ---- the page --------------------------------------------------------------------------------------------------- */

static void for_each(const char *title, const struct report_run *runs, uint32_t n, put_fact one, FILE *to)
{
    fprintf(to, "<h2>%s</h2>\n<div class=\"%s\">\n", title, n > 1 ? "charts" : "");
    for (uint32_t i = 0; i < n; i++) {
        fputs("<section>", to);
        if (n > 1) {
            fputs("<h3>", to);
            put(to, "%s", runs[i].name);
            fputs("</h3>\n", to);
        }
        one(&runs[i], to);
        fputs("</section>\n", to);
    }
    fputs("</div>\n", to);
}

void report_write(const struct report_run *runs, uint32_t n, FILE *to)
{
    char when[32];
    time_t now = time(NULL);
    struct tm tm;
    localtime_r(&now, &tm);
    strftime(when, sizeof when, "%Y-%m-%d %H:%M:%S", &tm);
    fputs("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\n"
          "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; "
          "img-src data:\">\n<title>",
          to);
    for (uint32_t i = 0; i < n; i++)
        put(to, "%s%s", i ? ", " : "", runs[i].name);
    fprintf(to, "</title>\n<style>\n%s</style></head>\n<body>\n<h1>", style);
    for (uint32_t i = 0; i < n; i++)
        put(to, "%s%s", i ? ", " : "", runs[i].name);
    fputs("</h1>\n<p class=\"dim\">", to);
    put(to, "piper report, %s, by piper %s (%s)", when, piper_version, piper_commit);
    fputs("</p>\n", to);
    put_facts(runs, n, to);
    put_curves(runs, n, to);
    for_each("Where the time went", runs, n, put_spent, to);
    for_each("A traced step", runs, n, put_trace, to);
    for_each("Data", runs, n, put_data, to);
    for_each("Checkpoints", runs, n, put_checkpoints, to);
    for_each("Starts, notes and warnings", runs, n, put_history, to);
    fputs("</body></html>\n", to);
}
