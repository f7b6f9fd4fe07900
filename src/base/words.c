#include "base/words.h"

#include <ctype.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

enum { WORD_MAX = 64 };

/* ---- other programs' words ------------------------------------------------------------------------------------- */

#define NOT_OFFERED "it is not offered: piper-train-config(5), NOT HERE"

/* ours: a word that must be in the list, or a key below one of its words. say: where there is no such word in any list, what to do
 * instead. A word may have several rows: the first whose `ours` is known counts. Sources: Megatron-LM's arguments.py, DeepSpeed's
 * configuration JSON, TorchTitan's job_config.py, transformers' TrainingArguments. */
static const struct alias {
    const char *theirs, *ours, *say;
} aliases[] = {
    /* length of a run */
    { "max_steps", "steps", NULL },
    { "train_iters", "steps", NULL },
    { "total_num_steps", "steps", NULL },
    { "num_steps", "steps", NULL },
    { "iterations", "steps", NULL },
    { "num_train_epochs", "epochs", NULL },
    { "max_epochs", "epochs", NULL },
    { "train_tokens", "tokens", NULL },
    { "max_tokens", "tokens", NULL },
    { "train_samples", "tokens", NULL },
    /* batch */
    { "global_batch_size", "batch_size", NULL },
    { "train_batch_size", "batch_size", NULL },
    { "micro_batch_size", NULL, "batch_size counts all ranks; the directive schedule cuts it into \"microbatches\"" },
    { "local_batch_size", NULL, "batch_size counts all ranks; the directive schedule cuts it into \"microbatches\"" },
    { "per_device_train_batch_size", NULL,
      "batch_size counts all ranks; the directive schedule cuts it into \"microbatches\"" },
    { "train_micro_batch_size_per_gpu", NULL,
      "batch_size counts all ranks; the directive schedule cuts it into \"microbatches\"" },
    { "gradient_accumulation_steps", "microbatches", NULL },
    { "gradient_accumulation_steps", NULL, "the directive schedule has it, as \"microbatches\"" },
    { "rampup_batch_size", NULL, "batch_size is constant; another one may be set when a run is resumed" },
    { "num_microbatches", "microbatches", NULL },
    { "micro_batches", "microbatches", NULL },
    { "sequence_length", "seq_len", NULL },
    { "seq_length", "seq_len", NULL },
    { "max_seq_len", "seq_len", NULL },
    { "max_length", "seq_len", NULL },
    { "block_size", "seq_len", NULL },
    { "context_length", "seq_len", NULL },
    /* optimizer and learning rate */
    { "adam", "adamw", NULL },
    { "adamw_torch", "adamw", NULL },
    { "fusedadam", "adamw", NULL },
    { "optim", "optimizer", NULL },
    { "weight_decay", "optimizer.weight_decay", NULL },
    { "betas", "optimizer.betas", NULL },
    { "eps", "optimizer.eps", NULL },
    { "adam_beta1", "optimizer.betas", NULL },
    { "adam_beta2", "optimizer.betas", NULL },
    { "beta1", "optimizer.betas", NULL },
    { "beta2", "optimizer.betas", NULL },
    { "beta1", "betas", NULL },
    { "beta2", "betas", NULL },
    { "adam_beta1", "betas", NULL },
    { "adam_beta2", "betas", NULL },
    { "adam_eps", "optimizer.eps", NULL },
    { "adam_epsilon", "optimizer.eps", NULL },
    { "epsilon", "eps", NULL },
    { "learning_rate", "lr", NULL },
    { "learning_rate", "peak", NULL },
    { "max_lr", "lr.peak", NULL },
    { "max_lr", "peak", NULL },
    { "lr", "lr.peak", NULL },
    { "lr", "peak", NULL },
    { "min_lr", "lr.min", NULL },
    { "min_lr", "min", NULL },
    { "lr_scheduler_type", "lr.kind", NULL },
    { "lr_scheduler", "lr.kind", NULL },
    { "lr_decay_style", "lr.kind", NULL },
    { "lr_decay_iters", "lr.decay_steps", NULL },
    { "lr_decay_iters", "decay_steps", NULL },
    { "warmup", "warmup_steps", NULL },
    { "warmup", "lr.warmup_steps", NULL },
    { "warmup_steps", "lr.warmup_steps", NULL },
    { "warmup_iters", "warmup_steps", NULL },
    { "warmup_num_steps", "warmup_steps", NULL },
    { "lr_warmup_iters", "lr.warmup_steps", NULL },
    { "warmup_ratio", NULL, "lr.warmup_steps counts steps" },
    { "lr_warmup_fraction", NULL, "lr.warmup_steps counts steps" },
    { "lr_wsd_decay_iters", "lr.decay_steps", NULL },
    { "lr_wsd_decay_iters", "decay_steps", NULL },
    { "cos", "cosine", NULL },
    { "linear_with_warmup", "linear", NULL },
    { "warmup_stable_decay", "wsd", NULL },
    { "constant_with_warmup", "constant", NULL },
    { "clip_grad", "clip_norm", NULL },
    { "grad_clip", "clip_norm", NULL },
    { "max_norm", "clip_norm", NULL },
    { "max_grad_norm", "clip_norm", NULL },
    { "gradient_clipping", "clip_norm", NULL },
    { "label_smoothing", NULL, NOT_OFFERED },
    { "label_smoothing_factor", NULL, NOT_OFFERED },
    { "frozen", "freeze", NULL },
    { "freeze_layers", "freeze", NULL },
    { "modules_to_freeze", "freeze", NULL },
    { "ema", NULL, NOT_OFFERED },
    { "use_ema", NULL, NOT_OFFERED },
    { "dropout", NULL, NOT_OFFERED },
    { "attention_dropout", NULL, NOT_OFFERED },
    { "hidden_dropout", NULL, NOT_OFFERED },
    { "lora_rank", NULL, NOT_OFFERED },
    { "peft", NULL, NOT_OFFERED },
    { "adafactor", NULL, NOT_OFFERED },
    { "lion", NULL, NOT_OFFERED },
    { "muon", NULL, NOT_OFFERED },
    { "loss_scale", NULL, "bfloat16 needs none: master weights and gradients are float32" },
    { "initial_loss_scale", NULL, "bfloat16 needs none: master weights and gradients are float32" },
    /* types */
    { "bf16", "bfloat16", NULL },
    { "bf16", "dtype", NULL },
    { "fp32", "float32", NULL },
    { "f32", "float32", NULL },
    { "float", "float32", NULL },
    { "fp16", "bfloat16", NULL },
    { "float16", "bfloat16", NULL },
    { "half", "bfloat16", NULL },
    { "torch_dtype", "dtype", NULL },
    { "precision", "dtype", NULL },
    /* data, evaluation, checkpoints */
    { "data_path", "data", NULL },
    { "dataset", "data", NULL },
    { "dataset_path", "data", NULL },
    { "train_data", "data", NULL },
    { "train_file", "data", NULL },
    { "valid_data", "eval_data", NULL },
    { "validation_file", "eval_data", NULL },
    { "eval_dataset", "eval_data", NULL },
    { "eval_interval", "eval_every", NULL },
    { "eval_steps", "eval_every", NULL },
    { "eval_freq", "eval_every", NULL },
    { "save_interval", "checkpoint_every", NULL },
    { "save_steps", "checkpoint_every", NULL },
    { "save_every", "checkpoint_every", NULL },
    { "checkpoint_interval", "checkpoint_every", NULL },
    { "save_total_limit", "checkpoint_keep", NULL },
    { "keep_latest_k", "checkpoint_keep", NULL },
    { "random_seed", "seed", NULL },
    { "output_dir", "output", NULL },
    { "out_dir", "output", NULL },
    { "dir", "output", NULL },
    { "save", "output", NULL },
    { "resume_from_checkpoint", "resume", NULL },
    { "load", NULL, "the same piper train -o RUNDIR resumes; weights of others come by piper checkpoint import" },
    { "tokenizer_model", "tokenizer", NULL },
    { "tokenizer_name_or_path", "tokenizer", NULL },
    { "num_workers", NULL, "a thread reads the data of the next steps ahead; the log says how long training waited" },
    { "log_interval", NULL, "metrics.csv has every step" },
    { "logging_steps", NULL, "metrics.csv has every step" },
    { "tensorboard_dir", "tensorboard", NULL },
    { "profile_step_start", "trace_steps", NULL },
    { "profile_freq", "trace_steps", NULL },
    { "check_for_nan_in_loss_and_grad", NULL, "a NaN ends the run by itself: --on-nan, --check-numbers" },
    { "moe_expert_capacity_factor", "capacity_factor", NULL },
    { "moe_aux_loss_coeff", "router_aux_loss_coef", NULL },
    { "time_limit", "max-time", NULL },
    { "walltime", "max-time", NULL },
    { "exit_duration_in_mins", "max-time", NULL },
    { "backend", "comm", NULL },
    { "np", "ranks", NULL },
    { "nranks", "ranks", NULL },
    { "gpu", "cuda", NULL },
    { "host", "cpu", NULL },
    { "simulate", "emulate", NULL },
    { "gloo", "mpi", NULL },
    { "dry_run", "plan", NULL },
    { "compile", "plan", NULL },
    { "run", "train", NULL },
    { "start", "train", NULL },
    { "pretrain", "train", NULL },
    { "stop", "halt", NULL },
    { "cancel", "halt", NULL },
    { "kill", "halt", NULL },
    { "inference", "generate", NULL },
    { "infer", "generate", NULL },
    { "sample", "generate", NULL },
    { "complete", "generate", NULL },
    { "chat", "generate", NULL },
    { "evaluate", "eval", NULL },
    { "perplexity", "eval", NULL },
    { "max_new_tokens", "max-tokens", NULL },
    { "num_predict", "max-tokens", NULL },
    { "ignore_eos", "ignore-end", NULL },
    { "do_sample", "temperature", NULL },
    { "profile", "trace", NULL },
    { "tokenize", "data", NULL },
    { "preprocess", "data", NULL },
    { "convert", "checkpoint", NULL },
    { "export", "checkpoint", NULL },
    { "import", "checkpoint", NULL },
    { "inspect", "info", NULL },
    { "env", "info", NULL },
    { "bench", "calibrate", NULL },
    { "ls", "list", NULL },
    { "check", "verify", NULL },
    { "compare", "diff", NULL },
    { "cat", "show", NULL },
    { "json", "jsonl", NULL },
    { "txt", "text", NULL },
    { "convert", "import", NULL },
    { "stat", "info", NULL },
    { "show", "info", NULL },
    /* strategies */
    { "dp", "layout", NULL },
    { "pp", "layout", NULL },
    { "ep", "layout", NULL },
    { "tp", "layout", NULL },
    { "cp", "layout", NULL },
    { "mesh", "layout", NULL },
    { "parallelize", "layout", NULL },
    { "pipeline", "schedule", NULL },
    { "checkpointing", "recompute", NULL },
    { "activation_checkpointing", "recompute", NULL },
    { "gradient_checkpointing", "recompute", NULL },
    { "gradient_checkpointing", NULL, "the directive recompute of the strategy does it" },
    { "activation_checkpoint", NULL, "the directive recompute of the strategy does it" },
    { "recompute_granularity", NULL, "the directive recompute of the strategy does it" },
    { "activation_checkpointing", NULL, "the directive recompute of the strategy does it" },
    { "ddp", "replicate", NULL },
    { "fsdp", "replicate", NULL },
    { "hsdp", "replicate", NULL },
    { "all_to_all", "shard", NULL },
    { "pipeline_model_parallel_size", "pp", NULL },
    { "pipeline_parallel_degree", "pp", NULL },
    { "pipeline_parallel_size", "pp", NULL },
    { "pipeline_model_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"pp\":...}" },
    { "pipeline_parallel_degree", NULL, "the strategy has it: {\"op\":\"layout\",\"pp\":...}" },
    { "num_stages", "pp", NULL },
    { "num_stages", NULL, "the strategy has it: {\"op\":\"layout\",\"pp\":...}" },
    { "pipeline_model_parallel_layout", NULL, "\"annotate\" of model.json cuts stages by hand: piper-model(5)" },
    { "decoder_first_pipeline_num_layers", NULL, "\"annotate\" of model.json cuts stages by hand: piper-model(5)" },
    { "module_fqns_per_model_part", NULL, "\"annotate\" of model.json cuts stages by hand: piper-model(5)" },
    { "tensor_model_parallel_size", "tp", NULL },
    { "tensor_parallel_degree", "tp", NULL },
    { "tensor_parallel_size", "tp", NULL },
    { "autotp_size", "tp", NULL },
    { "context_parallel_size", "cp", NULL },
    { "context_parallel_degree", "cp", NULL },
    { "sequence_parallel_size", "cp", NULL },
    { "sequence_parallel", "tp", NULL },
    { "cp_comm_type", "exchange", NULL },
    { "expert_model_parallel_size", "ep", NULL },
    { "expert_parallel_degree", "ep", NULL },
    { "expert_parallel_size", "ep", NULL },
    { "ep_size", "ep", NULL },
    { "tensor_model_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"tp\":...}" },
    { "tensor_parallel_degree", NULL, "the strategy has it: {\"op\":\"layout\",\"tp\":...}" },
    { "tensor_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"tp\":...}" },
    { "autotp_size", NULL, "the strategy has it: {\"op\":\"layout\",\"tp\":...}" },
    { "context_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"cp\":...}" },
    { "context_parallel_degree", NULL, "the strategy has it: {\"op\":\"layout\",\"cp\":...}" },
    { "sequence_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"cp\":...}" },
    { "expert_model_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"ep\":...}" },
    { "expert_parallel_degree", NULL, "the strategy has it: {\"op\":\"layout\",\"ep\":...}" },
    { "expert_parallel_size", NULL, "the strategy has it: {\"op\":\"layout\",\"ep\":...}" },
    { "ep_size", NULL, "the strategy has it: {\"op\":\"layout\",\"ep\":...}" },
    { "sequence_parallel", NULL, "\"tp\" of layout includes it" },
    { "cp_comm_type", NULL, "the strategy has it: {\"op\":\"layout\",\"exchange\":...}" },
    { "overlap_grad_reduce", NULL, "layout puts reductions on a stream beside computation: \"reduce_stream\"" },
    { "overlap_param_gather", NULL, "layout puts gathers on a stream beside computation: \"gather_stream\"" },
    { "overlap_comm", NULL, "layout puts reductions on a stream beside computation: \"reduce_stream\"" },
    { "data_parallel_size", "dp", NULL },
    { "data_parallel_replicate_degree", "dp", NULL },
    { "data_parallel_shard_degree", "zero", NULL },
    { "zero_hpz_partition_size", "zero_group", NULL },
    { "hpz_partition_size", "zero_group", NULL },
    { "mics_shard_size", "zero_group", NULL },
    { "hybrid_shard", "zero_group", NULL },
    { "hsdp", "zero_group", NULL },
    { "num_distributed_optimizer_instances", "zero_group", NULL },
    { "zero_hpz_partition_size", NULL, "the strategy has it: \"zero_group\" of layout or of replicate" },
    { "mics_shard_size", NULL, "the strategy has it: \"zero_group\" of layout or of replicate" },
    { "data_parallel_shard_degree", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "use_distributed_optimizer", "zero", NULL },
    { "data_parallel_sharding_strategy", "zero", NULL },
    { "use_megatron_fsdp", "zero", NULL },
    { "use_distributed_optimizer", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "data_parallel_sharding_strategy", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "use_megatron_fsdp", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "num_distributed_optimizer_instances", NULL, "the strategy has it: \"zero_group\" of layout or of replicate" },
    { "data_parallel_replicate_degree", NULL, "the strategy has it: \"zero_group\" of layout or of replicate" },
    { "zero_stage", "zero", NULL },
    { "zero_optimization", "zero", NULL },
    { "stage", "zero", NULL },
    { "zero_optimization", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "zero_stage", NULL, "the strategy has it: \"zero\" of layout or of replicate" },
    { "num_layers_per_virtual_pipeline_stage", "chunks", NULL },
    { "num_virtual_stages_per_pipeline_rank", "chunks", NULL },
    { "num_layers_per_virtual_pipeline_stage", NULL, "the strategy has it: \"chunks\" of layout or of schedule" },
    { "num_virtual_stages_per_pipeline_rank", NULL, "the strategy has it: \"chunks\" of layout or of schedule" },
    { "pipeline_parallel_schedule", NULL, "the strategy has it: {\"op\":\"schedule\",\"kind\":...}" },
    { "virtual_pipeline_model_parallel_size", "chunks", NULL },
    { "virtual_stages", "chunks", NULL },
    { "pipeline_parallel_schedule", "kind", NULL },
    { "schedule", "kind", NULL },
    { "name", "kind", NULL },
    { "type", "kind", NULL },
    { "bucket_cap_mb", "bucket_size", NULL },
    { "ddp_bucket_size", "bucket_size", NULL },
    { "ddp_bucket_size", NULL, "the strategy has it: \"bucket_size\" of layout or of replicate, in MiB" },
    { "reduce_bucket_size", NULL, "the strategy has it: \"bucket_size\" of layout or of replicate, in MiB" },
    { "reduce_bucket_size", "bucket_size", NULL },
    { "one_f_one_b", "1f1b", NULL },
    { "pipedream_flush", "1f1b", NULL },
    { "zero_bubble", "zb-h1", NULL },
    { "zbh1", "zb-h1", NULL },
    { "zbv", "zb-v", NULL },
    { "zbvzerobubble", "zb-v", NULL },
    { "interleaved1f1b", "interleaved", NULL },
    { "dual_pipe", "dualpipe", NULL },
    { "dual_pipe_v", "dualpipev", NULL },
};

static bool same_letter(char a, char b)
{
    if (a == '-')
        a = '_';
    if (b == '-')
        b = '_';
    return tolower((unsigned char)a) == tolower((unsigned char)b);
}

static bool same_word(const char *a, const char *b, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!a[i] || !b[i] || !same_letter(a[i], b[i]))
            return false;
    return true;
}

/* Whether word, or what it begins with up to a dot, is in the list: the entry itself where it is, so that the spelling is the list's. */
static const char *known(const char *word, const char *const *words)
{
    const size_t n = strcspn(word, ".");
    for (; *words; words++)
        if (strlen(*words) == n && same_word(word, *words, n))
            return word[n] ? word : *words;
    return NULL;
}

/* The next row about s from `row` on; NULL: no more. */
static const struct alias *find_alias(const char *s, const struct alias *row)
{
    const size_t n = strlen(s);
    for (; row < aliases + sizeof aliases / sizeof *aliases; row++)
        if (strlen(row->theirs) == n && same_word(s, row->theirs, n))
            return row;
    return NULL;
}

/* ---- nearest word ----------------------------------------------------------------------------------------------- */

static uint32_t min_u32(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

/* Insertions, deletions, replacements and swaps of neighbours that turn a (n letters) into b (m letters), both at most
 * WORD_MAX long; case does not count. Optimal string alignment, three rows of its table. */
static uint32_t edit_distance(const char *a, uint32_t n, const char *b, uint32_t m)
{
    uint32_t rows[3][WORD_MAX + 1];
    uint32_t *before = rows[0], *last = rows[1], *row = rows[2];
    for (uint32_t j = 0; j <= m; j++)
        last[j] = before[j] = j;
    for (uint32_t i = 1; i <= n; i++) {
        row[0] = i;
        for (uint32_t j = 1; j <= m; j++) {
            uint32_t d = last[j - 1] + !same_letter(a[i - 1], b[j - 1]);
            d = min_u32(d, min_u32(last[j], row[j - 1]) + 1);
            if (i > 1 && j > 1 && same_letter(a[i - 1], b[j - 2]) && same_letter(a[i - 2], b[j - 1]))
                d = min_u32(d, before[j - 2] + 1);
            row[j] = d;
        }
        uint32_t *free_row = before;
        before = last;
        last = row;
        row = free_row;
    }
    return last[m];
}

static const char *nearest(const char *s, const char *const *words)
{
    size_t n = strlen(s);
    if (n > WORD_MAX)
        return NULL;
    const char *best = NULL;
    uint32_t best_d = UINT32_MAX;
    for (; *words; words++) {
        size_t m = strlen(*words);
        if (m > WORD_MAX)
            continue;
        uint32_t d = edit_distance(s, (uint32_t)n, *words, (uint32_t)m);
        /* near: at most one letter in three is wrong, and some letter is right */
        bool near = d <= ((n > m ? n : m) + 2) / 3 && d < n && d < m;
        if (near && d < best_d) {
            best = *words;
            best_d = d;
        }
    }
    return best;
}

/* ---- answers ------------------------------------------------------------------------------------------------------ */

/* The entry that s is but for case and dashes, or by the table; NULL: none. */
static const char *same(const char *s, const char *const *words)
{
    const char *ours = known(s, words);
    for (const struct alias *a = aliases; !ours && (a = find_alias(s, a)); a++)
        ours = a->ours ? known(a->ours, words) : NULL;
    return ours;
}

const char *words_meant(const char *s, const char *const *words)
{
    const char *ours = same(s, words);
    return ours ? ours : nearest(s, words);
}

const char *words_hint(const char *s, const char *const *words, char text[WORDS_HINT])
{
    const struct alias *a = aliases;
    while ((a = find_alias(s, a)) && !a->say)
        a++;
    const char *ours = same(s, words);
    if (a && !ours) /* a word of another program, and the list has not its like */
        snprintf(text, WORDS_HINT, "; %s", a->say);
    else if (ours || (ours = nearest(s, words)))
        snprintf(text, WORDS_HINT, "; did you mean \"%s\"?", ours);
    else
        *text = '\0';
    return text;
}

bool words_here(const char *s, char text[WORDS_HINT])
{
    const struct alias *a = aliases, *said = NULL;
    size_t n = 0;
    s += strspn(s, "-");
    const char *dot = strrchr(s, '.');
    if (dot && !find_alias(s, aliases))
        s = dot + 1; /* of a section of settings */
    *text = '\0';
    for (; (a = find_alias(s, a)); a++) {
        said = a->say && !said ? a : said;
        char word[WORD_MAX + 3], below[WORD_MAX + 3];
        snprintf(word, sizeof word, "\"%s\"", a->ours ? a->ours : "");
        snprintf(below, sizeof below, ".%s\"", a->ours ? a->ours : "");
        if (a->ours && !strstr(text, word) && !strstr(text, below) && n < WORDS_HINT)
            n += (size_t)snprintf(text + n, WORDS_HINT - n, "%s%s", n ? " or " : "", word);
    }
    if (said)
        snprintf(text, WORDS_HINT, "%s", said->say);
    return *text;
}

const char *words_list(const char *const *words, char *text, size_t size)
{
    size_t n = 0;
    *text = '\0';
    for (uint32_t i = 0; words[i] && n < size; i++)
        n += (size_t)snprintf(text + n, size - n, "%s\"%s\"", !i ? "" : words[i + 1] ? ", " : " or ", words[i]);
    if (n >= size)
        memcpy(text + size - 4, "...", 4);
    return text;
}

bool words_elsewhere(const char *s, const char *const *words, char text[WORDS_HINT])
{
    return !same(s, words) && words_here(s, text);
}
