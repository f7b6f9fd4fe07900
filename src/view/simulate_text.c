#include "view/simulate_text.h"

#include "base/duration.h"

/* A simulated step with everything that is said of it. */
struct simulated {
    struct timeline t;
    struct simulate_class *classes, mean;
    struct simulate_path path;
    struct simulate_hint hints[SIMULATE_HINTS];
    uint32_t n_hints;
    struct simulate_advice advice;
};

static void simulated_init(struct simulated *s, const struct simulate_input *in, const struct simulate_job *job)
{
    *s = (struct simulated){ .classes = mem_alloc(in->n_classes * sizeof *s->classes) };
    simulate_run(in, NULL, &s->t);
    simulate_account(in, &s->t, s->classes);
    s->mean = simulate_mean(in, s->classes);
    simulate_critical(in, &s->t, &s->path);
    s->n_hints = simulate_hints(in, &s->t, s->hints);
    simulate_alternatives(job, in->list, s->t.step, &s->advice);
}

static void simulated_release(struct simulated *s)
{
    timeline_release(&s->t);
    mem_free(s->classes);
    vec_free(&s->path);
    simulate_advice_release(&s->advice);
}

/* The column of a kind: that of regions only where sequences are shared. */
static bool shown(const struct simulated *s, int kind)
{
    return kind != SIMULATE_REGION || s->mean.total[kind] > 0;
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

static void print_row(const struct simulated *s, const char *label, const struct simulate_class *c, FILE *to)
{
    double step = s->t.step / 100;
    fprintf(to, "%-21s %11.1f", label, c->compute / step);
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS && shown(s, k); k++)
        if (c->total[k] > 0)
            fprintf(to, " %11.1f", c->exposed[k] / step);
        else
            fprintf(to, " %11s", "-");
    fprintf(to, " %11.1f\n", c->idle / step);
}

static void print_classes(const struct simulated *s, const struct simulate_input *in, FILE *to)
{
    fprintf(to, "\n%% of the step             compute");
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS && shown(s, k); k++)
        fprintf(to, " %11s", simulate_kind_name((enum simulate_kind)k));
    fprintf(to, " %11s\n", "idle");
    for (uint32_t c = 0; c < in->n_classes; c++) {
        const struct plan *p = &in->plans[c];
        uint32_t n = p->sets[p->h->devices].size, rank = plan_set_at(p, p->h->devices, 0);
        char label[40];
        if (n == 1)
            snprintf(label, sizeof label, "rank %u", rank);
        else
            snprintf(label, sizeof label, "rank %u (class of %u)", rank, n);
        print_row(s, label, &s->classes[c], to);
    }
    if (in->n_classes > 1)
        print_row(s, "mean", &s->mean, to);
    fputs("Communication counts only where exposed: while its rank is not computing.\n", to);
}

static void print_hidden(const struct simulated *s, FILE *to)
{
    char text[32];
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS; k++)
        if (s->mean.total[k] > 0) {
            fprintf(to, "%-13s %s per rank and step, %.0f%% of it overlapped with computation",
                    simulate_kind_name((enum simulate_kind)k), duration_digits(s->mean.total[k], text),
                    100 * (1 - s->mean.exposed[k] / s->mean.total[k]));
            if (s->mean.steady_total[k] > 0)
                fprintf(to, "; in steady state %.0f%% of %s",
                        100 * (1 - s->mean.steady_exposed[k] / s->mean.steady_total[k]),
                        duration_digits(s->mean.steady_total[k], text));
            fputc('\n', to);
        }
}

static void print_path(const struct simulated *s, FILE *to)
{
    double rest = s->t.step;
    fputs("critical path", to);
    for (uint32_t i = 0; i < s->path.n && i < 6; i++) {
        fprintf(to, "%s %.0f%% %s", i ? "," : "", 100 * s->path.at[i].seconds / s->t.step, s->path.at[i].name);
        rest -= s->path.at[i].seconds;
    }
    if (rest > 0.005 * s->t.step)
        fprintf(to, ", %.0f%% other", 100 * rest / s->t.step);
    fputc('\n', to);
}

static void print_hints(const struct simulated *s, FILE *to)
{
    fputs(s->n_hints ? "what would help (each simulated alone):\n" : "none of the changes tried saves 1%\n", to);
    for (uint32_t i = 0; i < s->n_hints; i++)
        fprintf(to, "  %4.0f%% less time  %s\n", 100 * (1 - s->hints[i].step / s->t.step), s->hints[i].what);
    for (uint32_t i = 0; i < s->advice.n; i++)
        fprintf(to, "%s\n", s->advice.at[i]);
}

void simulate_print(const struct simulate_input *in, const struct simulate_job *job, FILE *to)
{
    struct simulated s;
    char text[32];
    simulated_init(&s, in, job);
    text_print(to, "machine       %s (%s)\n", in->machine->name, in->machine->source);
    fprintf(to, "step          %s predicted, %.4g tokens/s\n", duration_digits(s.t.step, text),
            s.t.step > 0 ? job->tokens / s.t.step : 0);
    fprintf(to, "bubble        %.1f%% of rank time; exposed communication %.1f%%\n", 100 * s.t.bubble,
            s.t.step > 0 ? 100 * simulate_exposed(&s.mean) / s.t.step : 0);
    print_classes(&s, in, to);
    fputc('\n', to);
    print_hidden(&s, to);
    print_path(&s, to);
    print_hints(&s, to);
    simulated_release(&s);
}

/* ---- JSON ----------------------------------------------------------------------------------------------------------- */

static json_t *class_json(const struct simulate_class *c)
{
    json_t *exposed = json_object(), *total = json_object(), *steady_exposed = json_object(),
           *steady_total = json_object();
    for (int k = SIMULATE_COMPUTE + 1; k < SIMULATE_KINDS; k++) {
        json_object_set_new(exposed, simulate_kind_name((enum simulate_kind)k), json_real(c->exposed[k]));
        json_object_set_new(total, simulate_kind_name((enum simulate_kind)k), json_real(c->total[k]));
        json_object_set_new(steady_exposed, simulate_kind_name((enum simulate_kind)k), json_real(c->steady_exposed[k]));
        json_object_set_new(steady_total, simulate_kind_name((enum simulate_kind)k), json_real(c->steady_total[k]));
    }
    return json_pack("{s:f, s:f, s:o, s:o, s:{s:o, s:o}}", "compute_seconds", c->compute, "idle_seconds", c->idle,
                     "exposed_seconds", exposed, "communication_seconds", total, "steady_state", "exposed_seconds",
                     steady_exposed, "communication_seconds", steady_total);
}

void simulate_json(const struct simulate_input *in, const struct simulate_job *job, json_t *to)
{
    struct simulated s;
    json_t *classes = json_array(), *path = json_array(), *hints = json_array(), *advice = json_array();
    simulated_init(&s, in, job);
    for (uint32_t c = 0; c < in->n_classes; c++) {
        json_t *one = class_json(&s.classes[c]);
        const struct plan *p = &in->plans[c];
        json_object_set_new(one, "first_rank", json_integer(plan_set_at(p, p->h->devices, 0)));
        json_object_set_new(one, "ranks", json_integer(p->sets[p->h->devices].size));
        json_array_append_new(classes, one);
    }
    for (uint32_t i = 0; i < s.path.n; i++)
        json_array_append_new(path,
                              json_pack("{s:s, s:f}", "name", s.path.at[i].name, "seconds", s.path.at[i].seconds));
    for (uint32_t i = 0; i < s.n_hints; i++)
        json_array_append_new(hints, json_pack("{s:s, s:f}", "what", s.hints[i].what, "step_seconds", s.hints[i].step));
    for (uint32_t i = 0; i < s.advice.n; i++)
        json_array_append_new(advice, json_string(s.advice.at[i]));
    json_object_set_new(to, "machine", json_string(in->machine->name));
    json_object_set_new(to, "step_seconds", json_real(s.t.step));
    json_object_set_new(to, "bubble_fraction", json_real(s.t.bubble));
    json_object_set_new(to, "tokens_per_second", json_real(s.t.step > 0 ? job->tokens / s.t.step : 0));
    json_object_set_new(to, "mean", class_json(&s.mean));
    json_object_set_new(to, "classes", classes);
    json_object_set_new(to, "critical_path", path);
    json_object_set_new(to, "what_if", hints);
    json_object_set_new(to, "advice", advice);
    simulated_release(&s);
}
