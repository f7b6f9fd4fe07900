#include "job/compile_job.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/json.h"
#include "ir/freeze.h"
#include "job/progress.h"

static const struct sched_text *texts_of(struct job *j)
{
    struct sched_text *texts = arena_array(&j->texts, struct sched_text, j->attachments.n);
    for (uint32_t i = 0; i < j->attachments.n; i++)
        texts[i] = (struct sched_text){ j->attachments.at[i].name, j->attachments.at[i].text };
    return texts;
}

enum status compile_input(struct job *j, const char *device, uint32_t ranks, uint64_t comm_scratch,
                          struct sched_input *in, struct err *e)
{
    const char *name = *j->strategy_file ? j->strategy_file : "strategy";
    const struct ir_target *target = ir_target_by_name(device);
    if (!target)
        return err_set(e, ST_DEVICE, "--device",
                       "this build cannot plan for the back end %s; `piper info` lists its back ends", device);
    json_t *strategy = NULL;
    TRY(js_load_text(j->strategy_text, name, &strategy, e));
    *in = (struct sched_input){
        .graph = &j->graph,
        .strategy = strategy,
        .strategy_name = name,
        .texts = texts_of(j),
        .n_texts = j->attachments.n,
        .ranks = ranks,
        .batch_size = j->train.batch_size,
        .compute = (enum ir_dtype)j->train.dtype,
        .optimizer = j->train.optimizer,
        .clip = j->train.clip_norm > 0,
        .eval = j->train.eval_data.n > 0,
        .snapshot = true,
        .target = target,
        .comm_scratch = comm_scratch,
        .progress = progress_say,
    };
    return ST_OK;
}

const char *compile_bytes(double bytes, char text[32])
{
    static const char *const units[] = { "B", "KiB", "MiB", "GiB", "TiB" };
    size_t u = 0;
    while (bytes >= 1024 && u + 1 < sizeof units / sizeof *units) {
        bytes /= 1024;
        u++;
    }
    snprintf(text, 32, bytes < 10 && u ? "%.2f %s" : bytes < 100 && u ? "%.1f %s" : "%.0f %s", bytes, units[u]);
    return text;
}

const char *compile_parameters(const struct ir_graph *g, char text[80])
{
    const uint64_t frozen = ir_freeze_count(g);
    int n = snprintf(text, 80, "%" PRIu64 " parameters", ir_graph_param_count(g));
    if (frozen)
        snprintf(text + n, 80 - (size_t)n, " (%" PRIu64 " frozen)", frozen);
    return text;
}
