/* What the mistakes are made with (random_break.c), and their list. Private to random_break*.c. */
#ifndef TESTS_MATRIX_RANDOM_BREAK_H
#define TESTS_MATRIX_RANDOM_BREAK_H

#include "random.h"

/* Every row has a function: breaks_NAME() makes the mistake and says what the answer must hold; false where the job gives no
 * opportunity. */
/* clang-format off */
#define BREAK_ROWS(ROW) \
    ROW(not_a_list) ROW(not_an_object) ROW(unknown_directive) ROW(unknown_key) ROW(no_op) ROW(no_filter) \
    ROW(stream_is_number) ROW(unknown_tag) ROW(old_microbatch_tag) ROW(matches_nothing) ROW(bad_index) ROW(bad_pass) \
    ROW(too_many_stages) ROW(no_devices) ROW(device_twice) ROW(device_negative) ROW(device_range) \
    ROW(device_none) ROW(device_no_list) ROW(device_beyond) ROW(device_gap) ROW(sets_overlap) ROW(sets_differ) \
    ROW(no_place) ROW(passes_apart) ROW(wrong_ranks) ROW(wrong_ranks_default) ROW(no_replicate) ROW(bad_zero) \
    ROW(bad_shard_grads) ROW(bad_reduce) ROW(bad_bucket) ROW(bad_prefetch) ROW(stream_on_replicate) \
    ROW(shard_dense) ROW(shard_uneven) ROW(shard_elsewhere) ROW(shard_half) ROW(shard_device_in_two_groups) \
    ROW(shard_unequal) ROW(shard_twice) ROW(shard_of_some) ROW(bad_bound) ROW(region_away) ROW(split_not_whole) \
    ROW(split_disagrees) ROW(split_part) ROW(split_takes_tag) ROW(split_zero) ROW(order_one_group) ROW(order_empty_group) \
    ROW(order_no_list) ROW(order_no_such_microbatch) ROW(order_against_data) ROW(order_stages_backwards) \
    ROW(order_rows_deadlock) ROW(order_across_sets) ROW(order_not_convex) ROW(order_not_convex_both) ROW(order_bi_alone) \
    ROW(order_bw_first) ROW(order_bw_alone) ROW(order_twice) ROW(order_pair_and_b) ROW(order_pair_twice) \
    ROW(order_pass_twice) ROW(recompute_pass) ROW(stream_unused) ROW(stream_priority) \
    ROW(share_dim) ROW(share_order) ROW(share_keep) ROW(share_exchange) ROW(share_key_of_other) ROW(share_microbatch) \
    ROW(share_alone) ROW(share_order_of_devices) ROW(share_twice) ROW(share_uneven) ROW(share_tokens) \
    ROW(share_attention_apart) ROW(share_zigzag_of_nothing) \
    ROW(layout_placement) ROW(layout_ep) ROW(layout_stages) ROW(schedule_kind) ROW(schedule_microbatches) \
    ROW(schedule_placement)
/* clang-format on */

struct breaker {
    struct random_job *j;
    struct random_break *out;
    uint32_t n_needles;
};
#define DECLARE(name) bool breaks_##name(struct breaker *b);
BREAK_ROWS(DECLARE)
#undef DECLARE

/* The answer must hold this. */
void break_want(struct breaker *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A random directive whose name is a word of `ops` ("place replicate"); NULL: none. Borrowed; its path, followed by `below`, is
 * wanted in the answer. */
json_t *break_some(struct breaker *b, const char *ops, const char *below);
/* Appends a directive (and takes it); its path is wanted. */
void break_append(struct breaker *b, const char *below, json_t *d);
/* Sets a key of a directive; its path, the key and `found` are wanted. Takes value. */
bool break_set_key(struct breaker *b, const char *ops, const char *key, json_t *value, const char *found);
/* A random shard with this dim (NULL: of experts), its path wanted; NULL: none. With a key set (takes value): false where there is none. */
json_t *break_some_dim(struct breaker *b, const char *dim);
bool break_set_dim(struct breaker *b, const char *dim, const char *key, json_t *value);
/* Takes away all directives with these names. */
void break_drop(struct random_job *j, const char *ops);

const char *break_op_of(const json_t *d);
bool break_has(const struct random_job *j, const char *op);
const char *break_devices_key(const json_t *d);
uint32_t break_tag_bit(const struct random_job *j, const char *name); /* 0: the model has no such tag */
uint32_t break_some_chunk(struct random_job *j);
uint32_t break_some_expert_chunk(struct random_job *j);         /* IR_NONE: none */
uint32_t break_elsewhere(struct random_job *j, uint32_t chunk); /* a chunk on another class, microbatch 0; IR_NONE */
/* Do filters by the tags of placement match what an order may name? */
bool break_orderly(const struct random_job *j);
/* The chunk and those like it under the tags of placement. */
json_t *break_pass_filter(struct random_job *j, uint32_t chunk, uint32_t mb, const char *pass);
/* An order directive of one chunk and microbatch: a group a pass, until NULL. */
json_t *break_order_of(struct random_job *j, uint32_t chunk, uint32_t mb, const char *const *passes);

#endif
