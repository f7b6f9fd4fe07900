#include "text/vocabulary.h"

#include <string.h>

#include "base/number.h"

static uint32_t *slot_of(const struct vocabulary *v, const char *bytes, size_t length)
{
    uint64_t h = number_hash(bytes, length, 0);
    for (;; h++) {
        uint32_t *slot = &v->slot[h & (v->n_slots - 1)];
        if (*slot == 0)
            return slot;
        const struct vocabulary_token *t = &v->token[*slot - 1];
        if (t->length == length && memcmp(v->bytes.at + t->at, bytes, length) == 0)
            return slot;
    }
}

static void grow_slots(struct vocabulary *v)
{
    const uint32_t old = v->n_slots;
    uint32_t *slots = v->slot;
    v->n_slots = old ? 2 * old : 1024;
    v->slot = mem_alloc(v->n_slots * sizeof *v->slot);
    for (uint32_t i = 0; i < old; i++)
        if (slots[i]) {
            const struct vocabulary_token *t = &v->token[slots[i] - 1];
            *slot_of(v, v->bytes.at + t->at, t->length) = slots[i];
        }
    mem_free(slots);
}

static void grow_ids(struct vocabulary *v, uint32_t id)
{
    if (id >= v->room) {
        const uint32_t room = id + 1 > 2 * v->room ? id + 1 : 2 * v->room;
        v->token = mem_realloc(v->token, room * sizeof *v->token);
        memset(v->token + v->room, 0, (room - v->room) * sizeof *v->token);
        v->room = room;
    }
    v->n = id >= v->n ? id + 1 : v->n;
}

bool vocabulary_add_hidden(struct vocabulary *v, const char *bytes, uint32_t length, uint32_t id)
{
    if (id < v->n && v->token[id].known)
        return false;
    grow_ids(v, id);
    v->token[id] = (struct vocabulary_token){ v->bytes.n, length, true };
    text_bytes_add(&v->bytes, bytes, length);
    return true;
}

bool vocabulary_add(struct vocabulary *v, const char *bytes, uint32_t length, uint32_t id)
{
    if (2 * (v->used + 1) > v->n_slots)
        grow_slots(v);
    if (*slot_of(v, bytes, length) || !vocabulary_add_hidden(v, bytes, length, id))
        return false;
    *slot_of(v, bytes, length) = id + 1; /* the bytes are there now: the slot is the same empty one */
    v->used++;
    return true;
}

uint32_t vocabulary_find(const struct vocabulary *v, const char *bytes, size_t length)
{
    return v->n_slots ? *slot_of(v, bytes, length) - 1 : VOCABULARY_NONE;
}

const char *vocabulary_bytes(const struct vocabulary *v, uint32_t id, uint32_t *length)
{
    if (id >= v->n || !v->token[id].known)
        return NULL;
    *length = v->token[id].length;
    return v->bytes.at + v->token[id].at;
}

void vocabulary_free(struct vocabulary *v)
{
    text_bytes_free(&v->bytes);
    mem_free(v->token);
    mem_free(v->slot);
    *v = (struct vocabulary){ 0 };
}
