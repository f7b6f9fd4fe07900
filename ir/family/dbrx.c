/* DBRX: LayerNorm without biases, q, k and v clamped, experts in all layers; the keys of attention and experts stand in two objects. */
#include "ir/family/decoder.h"
#include "ir/family/files.h"

#define NO_BOUND 1e30 /* of q, k and v: as none */

static const struct hf_key keys[] = {
    SIZE(vocab_size, 32000),
    SIZE_IN("d_model", hidden_size, 2048),
    SIZE_IN("n_layers", num_hidden_layers, 24),
    SIZE_IN("n_heads", num_attention_heads, 16),
    SIZE_IN("max_seq_len", max_position_embeddings, 2048),
    ALIAS("hidden_size", "d_model"),
    ALIAS("num_hidden_layers", "n_layers"),
    ALIAS("num_attention_heads", "n_heads"),
    ALIAS("max_position_embeddings", "max_seq_len"),
    OTHER("num_key_value_heads"),
    OTHER("attn_config"),
    OTHER("ffn_config"),
    DECODER_ROPE,
    STD(0.02),
    OTHER("tie_word_embeddings"),
    FLAG(output_router_logits, false),
    NUMBER(capacity_factor, 0, 0, 1e6),
    DECODER_Z,
    NOISE("emb_pdrop"),
    END,
};

static const struct ir_packing packings[] = {
    { "attn.Wqkv.weight", PACK_ROWS, { "attn.Wq.weight", "attn.Wk.weight", "attn.Wv.weight" } },
    { "ffn.experts.mlp.w1", PACK_STACKED, { "ffn.experts.mlp.w1" } },
    { "ffn.experts.mlp.v1", PACK_STACKED, { "ffn.experts.mlp.v1" } },
    { "ffn.experts.mlp.w2", PACK_STACKED_TRANSPOSED, { "ffn.experts.mlp.w2" } },
    { 0 },
};

/* One of the two objects; .v NULL: not there. */
static enum status find_object(const struct hf_model *m, const char *key, const char *const *known, struct js *out)
{
    const char *name;
    json_t *value;
    *out = hf_get(m, key);
    if (out->v && !json_is_object(out->v))
        return js_expected(out, m->e, "an object");
    /* files have keys of transformers' base class here too */
    json_object_foreach(out->v, name, value)
    {
        bool mine = false;
        for (const char *const *k = known; *k; k++)
            mine = mine || strcmp(*k, name) == 0;
        for (const struct hf_key *k = hf_common_keys; k->kind != HF_END; k++)
            mine = mine || (k->kind == HF_INFO && strcmp(k->name, name) == 0);
        if (!mine && !json_is_null(value))
            notices_add(m->notices, m->js.file, "%s.%s: unknown key, ignored", out->path, name);
    }
    return ST_OK;
}

/* transformers 4 reads rope_theta here, 5 rope_parameters at the top: where both are given they are to be equal. */
static enum status read_attention(const struct hf_model *m, struct decoder *d)
{
    static const char *const known[] = { "attn_pdrop", "clip_qkv",           "kv_n_heads", "rope_theta",
                                         "model_type", "is_encoder_decoder", NULL };
    struct js o, top = hf_get(m, "rope_parameters");
    int64_t kv = 1, listed;
    double clip = 0, theta = 10000, above;
    TRY(find_object(m, "attn_config", known, &o));
    if (o.v) {
        TRY(js_int_or(&o, "kv_n_heads", 1, INT32_MAX, 1, &kv, m->e));
        TRY(js_num_or(&o, "clip_qkv", 1e-30, 1e30, 0, &clip, m->e));
        TRY(js_num_or(&o, "rope_theta", 1e-3, 1e30, 10000, &theta, m->e));
    }
    TRY(js_int_or(&m->js, "num_key_value_heads", 1, INT32_MAX, kv, &listed, m->e));
    if (listed != kv || d->heads % (uint32_t)kv != 0)
        return js_wrong(&m->js, m->e, "attn_config.kv_n_heads is %lld, with num_key_value_heads %lld and n_heads %u",
                        (long long)kv, (long long)listed, d->heads);
    above = theta;
    if (top.v)
        TRY(js_num_or(&top, "rope_theta", 1e-3, 1e30, theta, &above, m->e));
    if (above != theta && o.v && js_has(&o, "rope_theta"))
        return js_wrong(
            &top, m->e,
            "rope_theta is %g, and attn_config.rope_theta %g, of which transformers 5 reads the first alone "
            "and 4 the second: make them equal",
            above, theta);
    d->kv_heads = (uint32_t)kv;
    d->clip = clip < NO_BOUND ? (float)clip : 0;
    d->rope_class.theta = theta;
    return ST_OK;
}

static enum status read_experts(const struct hf_model *m, struct decoder *d)
{
    static const char *const known[] = { "ffn_act_fn",
                                         "ffn_hidden_size",
                                         "hidden_size",
                                         "moe_num_experts",
                                         "moe_top_k",
                                         "moe_jitter_eps",
                                         "moe_loss_weight",
                                         "moe_normalize_expert_weights",
                                         "model_type",
                                         "is_encoder_decoder",
                                         NULL };
    struct js o, v;
    int64_t ffn = 3584, experts = 4, top_k = 1;
    double norm = 1, loss = 0.01, jitter = 0;
    TRY(find_object(m, "ffn_config", known, &o));
    if (o.v) {
        TRY(js_int_or(&o, "ffn_hidden_size", 1, INT32_MAX, ffn, &ffn, m->e));
        TRY(js_int_or(&o, "moe_num_experts", 1, INT32_MAX, experts, &experts, m->e));
        TRY(js_int_or(&o, "moe_top_k", 1, INT32_MAX, top_k, &top_k, m->e));
        TRY(js_num_or(&o, "moe_loss_weight", 0, 1e6, loss, &loss, m->e));
        TRY(js_num_or(&o, "moe_jitter_eps", 0, 1, 0, &jitter, m->e));
        TRY(js_num_or(&o, "moe_normalize_expert_weights", 0, 1e30, 1, &norm, m->e));
        if (json_is_null(json_object_get(o.v, "moe_normalize_expert_weights")))
            norm = 0;
        TRY(js_opt(&o, "ffn_act_fn", &v, m->e));
        const char *act = "silu";
        if (v.v)
            TRY(js_str_or(&v, "name", "silu", &act, m->e));
        TRY(decoder_activation(m, &v, act, d));
        TRY(js_opt(&o, "moe_normalize_expert_weights", &v, m->e));
        if (norm != 0 && norm != 1)
            return js_expected(&v, m->e, "1 or null: norms other than the sum are not implemented");
    }
    if (jitter != 0)
        notices_add(m->notices, m->js.file, "$.ffn_config.moe_jitter_eps: noise %g is not applied: it trains as 0",
                    jitter);
    if (experts * ffn > INT32_MAX)
        return js_wrong(&o, m->e, "moe_num_experts %lld times ffn_hidden_size %lld is above 2^31 - 1",
                        (long long)experts, (long long)ffn);
    if (top_k > experts)
        return js_wrong(&o, m->e, "moe_top_k is %lld, but there are %lld experts", (long long)top_k,
                        (long long)experts);
    const struct decoder_routed routed = { .experts = (uint32_t)experts,
                                           .top_k = (uint32_t)top_k,
                                           .ffn = (uint32_t)ffn,
                                           .aux_coef = loss,
                                           .norm_topk = norm == 1 };
    decoder_routed(m, d, &routed);
    return ST_OK;
}

static enum status read(const struct hf_model *m, struct decoder *d)
{
    TRY(decoder_only_value(m, "tie_word_embeddings", "false"));
    d->norm = IR_OP_LAYERNORM;
    d->norm_flags = IR_NO_BIAS;
    d->eps = 1e-5f;
    d->names = (struct decoder_names){ .embed = "transformer.wte",
                                       .layers = "transformer.blocks.",
                                       .norm = "transformer.norm_f",
                                       .head = "lm_head",
                                       .attn_norm = "norm_attn_norm.norm_1",
                                       .mlp_norm = "norm_attn_norm.norm_2",
                                       .q = "norm_attn_norm.attn.Wq",
                                       .k = "norm_attn_norm.attn.Wk",
                                       .v = "norm_attn_norm.attn.Wv",
                                       .o = "norm_attn_norm.attn.out_proj" };
    d->moe.router = "ffn.router.layer.weight";
    d->moe.expert[0] = "ffn.experts.mlp.w1";
    d->moe.expert[1] = "ffn.experts.mlp.v1";
    d->moe.expert[2] = "ffn.experts.mlp.w2";
    decoder_sparse_from(d, 0);
    TRY(read_attention(m, d));
    return read_experts(m, d);
}

/* transformers 5 reads the base of the rotation at the top alone, and cannot do without a bound of q, k and v, nor without the key in
 * attn_config. */
static void complete(json_t *config)
{
    json_t *attention = json_object_get(config, "attn_config"), *theta;
    if (!json_is_object(attention)) {
        attention = json_object();
        json_object_set_new(config, "attn_config", attention);
    }
    theta = json_object_get(attention, "rope_theta");
    if (!theta)
        theta = json_object_get(json_object_get(config, "rope_parameters"), "rope_theta");
    theta = theta ? json_incref(theta) : json_real(10000);
    json_object_set(attention, "rope_theta", theta);
    if (!json_is_number(json_object_get(attention, "clip_qkv")))
        json_object_set_new(attention, "clip_qkv", json_real(NO_BOUND));
    if (!json_is_object(json_object_get(config, "rope_parameters")))
        json_object_set_new(config, "rope_parameters",
                            json_pack("{s:s, s:O}", "rope_type", "default", "rope_theta", theta));
    json_decref(theta);
}

const struct family family_dbrx = {
    .model_type = "dbrx", .keys = keys, .read = read, .packings = packings, .complete = complete
};
