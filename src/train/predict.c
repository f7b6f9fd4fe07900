#include "train/predict.h"

#include "sched/cost/simulate.h"

/* Views of the plans; owned by the caller (mem_free). */
static struct plan *open_plans(const struct sched_output *out, const struct ir_graph *g)
{
    struct plan *plans = mem_alloc(out->n_classes * sizeof *plans);
    struct err e = { 0 };
    for (uint32_t i = 0; i < out->n_classes; i++)
        CHECK(plan_open(out->classes[i].blob, out->classes[i].bytes, g->ops.n, g->params.n, g->tensors.n, &plans[i],
                        &e) == ST_OK);
    return plans;
}

void predict_unit_times(struct sched_output *out, const struct ir_graph *g, double unit)
{
    struct plan *plans = open_plans(out, g);
    struct timeline_units u = { 0 };
    timeline_units_init(&u, plans, out->n_classes, g);
    for (uint32_t i = 0; i < out->n_classes; i++) {
        unsigned char *blob = out->classes[i].blob;
        struct plan_program *programs = (void *)(blob + plans[i].h->first[PLAN_S_PROGRAMS]);
        for (uint64_t k = 0; k < plans[i].h->count[PLAN_S_PROGRAMS]; k++)
            programs[k].seconds = (float)(unit * u.program[i][k]);
    }
    timeline_units_release(&u);
    mem_free(plans);
}

static double planned_time(void *self, uint32_t cls, const struct plan_instr *in, double start)
{
    const struct plan *plans = self;
    (void)start;
    return plan_seconds(plans[cls].programs, in);
}

void predict_starts(const struct sched_output *out, const struct ir_graph *g, const struct machine *m, void **starts,
                    uint64_t *bytes)
{
    struct plan *plans = open_plans(out, g);
    struct timeline t;
    if (m)
        simulate_run(&(struct simulate_input){ m, plans, out->n_classes, g, "train" }, NULL, &t);
    else
        timeline_run(plans, out->n_classes, "train", &(struct timeline_cost){ .time = planned_time, .self = plans },
                     &t);
    for (uint32_t i = 0; i < out->n_classes; i++) {
        bytes[i] = t.classes[i].n * sizeof(double);
        double *s = mem_alloc(bytes[i]);
        for (uint32_t k = 0; k < t.classes[i].n; k++)
            s[k] = t.classes[i].spans[k].start;
        starts[i] = s;
    }
    timeline_release(&t);
    mem_free(plans);
}
