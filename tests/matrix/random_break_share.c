/* Mistakes in strategies whose devices share sequences. */
#include "random_break.h"

bool breaks_share_dim(struct breaker *b)
{
    break_want(b, "\"dim\": found \"heads\"");
    return break_set_dim(b, "sequence", "dim", json_string("heads"));
}

bool breaks_share_order(struct breaker *b)
{
    break_want(b, ".order: found \"random\"");
    return break_set_dim(b, "sequence", "order", json_string("random"));
}

bool breaks_share_keep(struct breaker *b)
{
    static const char *const dims[] = { "head", "ffn", "vocab", "context" };
    break_want(b, ".keep: found \"all\"");
    return break_set_dim(b, dims[rng_below(&b->j->rng, 4)], "keep", json_string("all"));
}

bool breaks_share_exchange(struct breaker *b)
{
    break_want(b, ".exchange: found \"star\"");
    return break_set_dim(b, "context", "exchange", json_string("star"));
}

bool breaks_share_key_of_other(struct breaker *b)
{
    break_want(b, "unknown key \"order\"");
    return break_set_dim(b, rng_chance(&b->j->rng, 50) ? "ffn" : "context", "order", json_string("zigzag"));
}

bool breaks_share_microbatch(struct breaker *b)
{
    break_want(b, "leave MB and PASS out of the filter");
    return break_set_dim(b, "sequence", "filter", json_pack("{s:s}", "PASS", "F"));
}

static void drop_dim(struct random_job *j, const char *dim)
{
    for (size_t i = json_array_size(j->strategy); i-- > 0;) {
        const char *has = json_string_value(json_object_get(json_array_get(j->strategy, i), "dim"));
        if (has && !strcmp(has, dim))
            json_array_remove(j->strategy, i);
    }
}

/* Regions without sequence groups. */
bool breaks_share_alone(struct breaker *b)
{
    if (b->j->macros || b->j->share.n == 1 || !b->j->share.context)
        return false;
    drop_dim(b->j, "sequence");
    break_want(b, "needs a shard with \"dim\":\"sequence\" that covers");
    return true;
}

/* All devices of a set as one list in another order than the set's. */
bool breaks_share_order_of_devices(struct breaker *b)
{
    struct random_job *j = b->j;
    if (j->macros || j->share.n == 1 || j->share.n != j->replicas || j->share.p > 1)
        return false;
    uint32_t chunk = break_some_chunk(j), device[RANDOM_MOST_RANKS];
    memcpy(device, random_set_of(j, chunk, 0)->device, sizeof device);
    for (uint32_t i = 0; i < j->replicas; i++)
        device[i] = random_set_of(j, chunk, 0)->device[j->replicas - 1 - i];
    json_t *d = break_some_dim(b, "sequence");
    if (!d || j->place.n > 1)
        return false;
    json_object_set_new(d, break_devices_key(d), random_devices(j, device, j->replicas));
    break_want(b, "list the groups one after the other");
    return true;
}

bool breaks_share_twice(struct breaker *b)
{
    if (b->j->macros)
        return false;
    json_t *d = break_some_dim(b, "sequence");
    if (!d)
        return false;
    b->n_needles = 0;
    break_append(b, "", json_deep_copy(d));
    break_want(b, "two shard directives with \"dim\":\"sequence\" match");
    return true;
}

bool breaks_share_uneven(struct breaker *b)
{
    if (b->j->macros || b->j->replicas != 4 || b->j->share.n == 1)
        return false;
    json_t *d = break_some_dim(b, "sequence");
    if (!d)
        return false;
    json_object_set_new(d, break_devices_key(d), json_pack("[[i,i],[i]]", 0, 1, 2));
    break_want(b, "a sequence is shared evenly");
    return true;
}

bool breaks_share_tokens(struct breaker *b)
{
    if (b->j->share.n == 1)
        return false;
    b->j->model.seq_len--;
    break_want(b, "sequences of %u tokens do not divide by %u devices", b->j->model.seq_len, b->j->share.n);
    return true;
}

/* Attention on a part of the tokens. */
bool breaks_share_attention_apart(struct breaker *b)
{
    if (b->j->macros || !b->j->share.context || b->j->share.zigzag)
        return false;
    drop_dim(b->j, "context");
    break_want(b, "needs all tokens of its sequences");
    break_want(b, "add \"dim\":\"context\"");
    return true;
}

bool breaks_share_zigzag_of_nothing(struct breaker *b)
{
    if (b->j->macros || b->j->share.n == 1 || b->j->share.c > 1 || b->j->place.n > 1)
        return false;
    break_want(b, "\"order\":\"zigzag\" needs a shard with \"dim\":\"context\"");
    return break_set_dim(b, "sequence", "order", json_string("zigzag"));
}
