#include "cmd/plan_memory.h"

#include "job/compile_job.h"
#include "job/need.h"

enum { LABEL = 40 };
/* "ranks 0-3", of a class. */
static const char *ranks_of(const struct plan *p, char label[LABEL])
{
    char ranks[24];
    const struct plan_set *s = &p->sets[p->h->devices];
    plan_ranges_text(&p->ranges[s->first_range], s->n_ranges, ranks, sizeof ranks);
    snprintf(label, LABEL, "%s %s", s->size == 1 ? "rank" : "ranks", ranks);
    return label;
}

void plan_print_memory(const struct sched_output *out, const struct plan *plans, const struct ir_target *target)
{
    char text[32];
    printf("\nmemory per rank      ");
    for (uint32_t k = 0; k < MEM_KINDS; k++)
        printf(" %11s", plan_memory_name((enum plan_kind_of_memory)k));
    if (target->device)
        printf(" %11s %11s", "device", "host");
    printf(" %11s %11s\n", "total", "libraries");
    for (uint32_t c = 0; c < out->n_classes; c++) {
        const struct plan_header *h = plans[c].h;
        char label[LABEL];
        printf("%-21s", ranks_of(&plans[c], label));
        for (uint32_t k = 0; k < MEM_KINDS; k++)
            printf(" %11s", h->peak_bytes[k] ? compile_bytes((double)h->peak_bytes[k], text) : "-");
        const struct plan_places at = plan_places(&plans[c], target->device);
        if (target->device) {
            printf(" %11s", compile_bytes((double)at.device, text));
            printf(" %11s", compile_bytes((double)at.host, text));
        }
        printf(" %11s", compile_bytes((double)h->total_bytes, text));
        printf(" %11s\n", compile_bytes((double)need_outside(&plans[c], target), text));
    }
}

/* ---- more than a rank has ----------------------------------------------------------------------------------------- */

static void print_kinds(const struct plan *p, const struct ir_target *target, double need, double limit, FILE *to)
{
    enum plan_kind_of_memory kinds[MEM_KINDS];
    double peaks[MEM_KINDS];
    char text[32];
    for (uint32_t k = 0; k < MEM_KINDS; k++)
        peaks[k] = (double)p->h->peak_bytes[k];
    const uint32_t n = need_in_the_way(peaks, target, need, limit, kinds);
    for (uint32_t i = 0; i < n; i++)
        fprintf(to, "  %-11s %11s  %s\n", plan_memory_name(kinds[i]), compile_bytes(peaks[kinds[i]], text),
                need_remedy(kinds[i]));
}

void plan_note_memory(const struct sched_output *out, const struct plan *plans, const struct ir_target *target,
                      const struct machine *m, FILE *to)
{
    uint32_t over = 0, worst = 0;
    char label[LABEL], need[32], have[32];
    if (!(m->memory > 0))
        return;
    for (uint32_t c = 0; c < out->n_classes; c++) {
        over += need_bytes(&plans[c], target) > m->memory;
        if (need_bytes(&plans[c], target) > need_bytes(&plans[worst], target))
            worst = c;
    }
    if (!over)
        return;
    const double bytes = need_bytes(&plans[worst], target);
    fprintf(to,
            "\nnote: %s need %s%s with the libraries, %s has %s per rank; %u of %u rank %s not fit. In the way, with "
            "what makes less of it:\n",
            ranks_of(&plans[worst], label), compile_bytes(bytes, need), target->device ? " of device memory" : "",
            m->name, compile_bytes(m->memory, have), over, out->n_classes,
            out->n_classes == 1 ? "class does" : "classes do");
    print_kinds(&plans[worst], target, bytes, m->memory, to);
}
