/* EXAONE 4: norms after the sublayers as olmo2, queries and keys normed by head; layers with a window alone have positions, where
 * there is a window at all. */
#include "ir/family/decoder.h"

static const struct hf_key keys[] = {
    DECODER_SIZES(102400, 4096, 16384, 32, 32, 32, 2048),
    SIZE_NONE(head_dim, 0),
    DECODER_USUAL(1e-5),
    SIZE_NONE(sliding_window, 4096),
    OTHER("sliding_window_pattern"),
    OTHER("layer_types"),
    END,
};

/* A number, or as in the published files a word such as "LLLG", of which the length counts; layer_types comes first. */
static enum status read_pattern(const struct hf_model *m, uint32_t *every)
{
    struct js v = hf_get(m, "sliding_window_pattern");
    int64_t n = 4;
    if (v.v && json_is_string(v.v))
        n = (int64_t)strlen(json_string_value(v.v));
    else if (v.v)
        TRY(js_int(&v, 1, INT32_MAX, &n, m->e));
    *every = (uint32_t)n;
    return ST_OK;
}

static enum status read(const struct hf_model *m, struct decoder *d)
{
    uint32_t every;
    d->norm_before = false;
    d->norm_after = true;
    d->qk_norm = QK_HEAD;
    TRY(read_pattern(m, &every));
    TRY(decoder_every_full(m, d, every, d->c->sliding_window));
    for (uint32_t i = 0; i < d->c->num_hidden_layers; i++)
        d->layer[i].rope = !d->c->sliding_window || d->layer[i].sliding;
    return ST_OK;
}

const struct family family_exaone4 = { .model_type = "exaone4", .keys = keys, .read = read };
