/* train.json, and `--set` of the command line. All keys, with their defaults:
 *
 *   optimizer         {"kind":"adamw","betas":[0.9,0.95],"eps":1e-8,"weight_decay":0.1}; kind adamw or sgd (betas and
 *                     eps are AdamW's and not used by sgd, whose weight_decay is 0 by default)
 *   lr                a number (constant), or {"kind":"constant","peak":3e-4,"min":0,"warmup_steps":0}; kinds constant,
 *                     linear, cosine, wsd: see config_lr(). wsd also has decay_steps: default a tenth of the steps
 *   clip_norm         0: none
 *   batch_size        needed: sequences a step, over all replicas
 *   seq_len           needed
 *   steps             needed, or one of these instead of it:
 *   tokens            so many, rounded up to a step
 *   epochs            so often all sequences of the data, rounded up to a step; may be a fraction
 *   seed              1
 *   dtype             "float32", or "bfloat16"
 *   data              token file, or a list of them; or a blend: a list of [weight, file] or [weight, file, name]; name: the file's,
 *                     without its ending. May be given later on the command line
 *   documents         "join", or "separate": attention and positions stay within a document, whose first token is no target
 *   shuffle           true
 *   eval_data, eval_every       none, a token file or {name: file, ...}; 0: with eval_data, evaluate after the last step
 *   checkpoint_every            0: not by steps
 *   checkpoint_minutes          30: also after so many minutes, which may be a fraction; 0: not
 *   checkpoint_keep             3: the newest ones that stay
 *   checkpoint_keep_every       0: of every so many steps one stays for good
 *   trace_steps                 []: the steps to trace, at most 64
 *
 * An unknown key is an error; null is the same as leaving a key out. */
#ifndef PIPER_CONFIG_H
#define PIPER_CONFIG_H

#include "base/json.h"
#include "ir/notices.h"
#include "ir/train.h"

/* From the JSON object `train` that came from `file`. */
enum status config_parse(json_t *train, const char *file, struct train_config *c, struct err *e);

/* `--set train.lr.peak=1e-4`, `--set model.num_hidden_layers=4`, `--set strategy[1].microbatches=8`: changes a key of one of the
 * documents before they are parsed. The value is JSON, or a text when it is no JSON; objects on the way are made, elements of lists
 * are there. ST_USAGE. */
struct config_documents {
    json_t *model, *strategy, *train;
};
enum status config_set(const struct config_documents *d, const char *assignment, struct err *e);

/* The learning rate of step s, counted from 1, with n = warmup_steps, S = steps, p = peak, q = min:
 *   s <= n     p * s/n, whatever the kind
 *   constant   p
 *   linear     q + (p-q) * (S-s)/(S-n)
 *   cosine     q + (p-q) * (1 + cos(pi * (s-n)/(S-n)))/2
 *   wsd        p until S-d, then q + (p-q) * (S-s)/d; d = decay_steps, at most S-n
 * Beyond S: as at S. */
/* What is allowed and seldom meant. file: name for the notices. */
void config_notes(const struct train_config *c, const char *file, struct notices *n);
double config_lr(const struct train_config *c, uint64_t step);

#endif
