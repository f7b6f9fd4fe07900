/* A sentencepiece model as a tokenizer. Text never holds a control token: what a template or --bos puts there has its id. */
#include "text/tokenizer.h"

static uint32_t control(const struct sentencepiece *s, int32_t id)
{
    const bool is = id >= 0 && (uint32_t)id < s->n && s->kind[id] == PIECE_CONTROL;
    return is ? (uint32_t)id : VOCABULARY_NONE;
}

enum status tokenizer__read_pieces(struct tokenizer *t, struct err *e)
{
    TRY(sentencepiece_read(t->file, t->file_bytes, t->path, &t->bpe, &t->pieces, e));
    t->bos = control(t->pieces, t->pieces->bos);
    t->eos = control(t->pieces, t->pieces->eos);
    return ST_OK;
}
