#include "speak/speaker.h"

#include <stdio.h>

#include "host/memory_room.h"
#include "speak/walk.h"

enum { CHUNK = 256 /* tokens of a prompt that are computed at once */ };

struct speaker {
    struct walk walk;
    float *logits;
    int32_t tokens[CHUNK];
};

static enum status check_model(const struct ir_graph *g, uint32_t room, struct err *e)
{
    const uint32_t positions = speak_positions(g);
    uint32_t heads = 0;
    for (uint32_t k = 0; k < g->ops.n; k++)
        heads += g->ops.at[k].op == IR_OP_HEAD_LOSS;
    if (room > positions)
        return err_set(e, ST_INPUT, "model",
                       "its table has %u positions, prompt and new tokens are up to %u: shorten the prompt, or ask for "
                       "fewer tokens",
                       positions, room);
    return heads == 1 ? ST_OK
                      : err_set(e, ST_INPUT, "model",
                                "has %u operators head_loss, expected one that says the next token", heads);
}

/* Of keys and values, for all tokens. */
static double kept_bytes(const struct ir_graph *g, uint32_t room)
{
    double n = 0;
    for (uint32_t k = 0; k < g->ops.n; k++) {
        const struct ir_attrs *a = &g->ops.at[k].attrs;
        if (g->ops.at[k].op == IR_OP_ATTENTION)
            n += 4.0 * room *
                 ((a->flags & IR_PACKED ? (double)a->heads * a->head_dim : 0) +
                  (double)a->kv_heads * (a->head_dim + ir_op_v_dim(a)));
    }
    return n;
}

enum status speaker_open(const struct speak_model *m, uint32_t room, struct speaker **out, struct err *e)
{
    char what[64];
    TRY(check_model(&m->graph, room, e));
    snprintf(what, sizeof what, "the keys and values of %u tokens", room);
    TRY(memory_room_for(kept_bytes(&m->graph, room), "model", what, "shorten the prompt, or ask for fewer tokens", e));
    struct speaker *s = mem_alloc(sizeof *s);
    walk_open(m, room < CHUNK ? room : CHUNK, room, &s->walk);
    s->logits = mem_alloc(m->graph.vocab * sizeof *s->logits);
    *out = s;
    return ST_OK;
}

void speaker_close(struct speaker *s)
{
    if (!s)
        return;
    walk_close(&s->walk);
    mem_free(s->logits);
    mem_free(s);
}

const float *speaker_add(struct speaker *s, const uint32_t *ids, uint32_t n)
{
    CHECK(n > 0 && n <= s->walk.room - s->walk.past);
    for (uint32_t at = 0, some; at < n; at += some) {
        some = n - at < s->walk.most ? n - at : s->walk.most;
        for (uint32_t i = 0; i < some; i++)
            s->tokens[i] = (int32_t)ids[at + i];
        s->walk.tokens = s->tokens;
        s->walk.logits = at + some == n ? s->logits : NULL;
        walk_run(&s->walk, some);
    }
    return s->logits;
}
