/* The keys that are the same in every family: what is ignored, what trains as 0, and what changes the mathematics of some family
 * (transformers 4.40 to 5) and is refused in those that have it not. */
#include "ir/family/hf.h"

/* clang-format off */
const struct hf_key hf_common_keys[] = {
    OTHER("model_type"), OTHER("annotate"), OTHER("quantization_config"),
    /* where the file comes from, how transformers loads it */
    INFO("architectures"), INFO("_name_or_path"), INFO("name_or_path"), INFO("_commit_hash"), INFO("auto_map"),
    INFO("transformers_version"), INFO("torch_dtype"), INFO("dtype"), INFO("attn_implementation"),
    INFO("_attn_implementation"), INFO("_attn_implementation_autoset"), INFO("experts_implementation"),
    INFO("tokenizer_class"), INFO("torchscript"), INFO("use_bfloat16"), INFO("tf_legacy_loss"), INFO("use_cache"),
    INFO("cache_implementation"), INFO("gradient_checkpointing"), INFO("chunk_size_feed_forward"), INFO("return_dict"),
    INFO("use_return_dict"), INFO("output_attentions"), INFO("output_hidden_states"), INFO("is_decoder"),
    INFO("tie_encoder_decoder"), INFO("cross_attention_hidden_size"), INFO("pretraining_tp"), INFO("ep_size"),
    INFO("is_llama_config"),
    /* tokens with a meaning */
    INFO("bos_token_id"), INFO("eos_token_id"), INFO("pad_token_id"), INFO("sep_token_id"), INFO("unk_token_id"),
    INFO("decoder_start_token_id"), INFO("prefix"),
    /* heads of other tasks */
    INFO("id2label"), INFO("label2id"), INFO("num_labels"), INFO("problem_type"), INFO("finetuning_task"),
    INFO("task_specific_params"), INFO("classifier_dropout"),
    /* generation */
    INFO("max_length"), INFO("min_length"), INFO("do_sample"), INFO("early_stopping"), INFO("num_beams"),
    INFO("num_beam_groups"), INFO("diversity_penalty"), INFO("temperature"), INFO("top_k"), INFO("top_p"),
    INFO("typical_p"), INFO("repetition_penalty"), INFO("length_penalty"), INFO("no_repeat_ngram_size"),
    INFO("encoder_no_repeat_ngram_size"), INFO("bad_words_ids"), INFO("num_return_sequences"), INFO("output_scores"),
    INFO("return_dict_in_generate"), INFO("forced_bos_token_id"), INFO("forced_eos_token_id"),
    INFO("remove_invalid_values"), INFO("exponential_decay_length_penalty"), INFO("suppress_tokens"),
    INFO("begin_suppress_tokens"),
    /* what a run draws at random */
    NOISE("attention_dropout"), NOISE("attn_dropout"), NOISE("hidden_dropout"), NOISE("residual_dropout"), NOISE("embedding_dropout"),
    NOISE("resid_pdrop"), NOISE("embd_pdrop"), NOISE("attn_pdrop"), NOISE("dropout"), NOISE("activation_dropout"), NOISE("layerdrop"),
    NOISE("router_jitter_noise"), NOISE("moe_jitter_eps"), NOISE("input_jitter_noise"),
    END,
};

/* Every key that a table of a family has stands here too, with the value by which a model of another family is as if it were not
 * there: tests/unit/test_family.c looks. */
const struct hf_key hf_math_keys[] = {
    /* what is no decoder, or no plain file */
    REFUSED("is_encoder_decoder", "false", "only decoders are implemented"),
    REFUSED("add_cross_attention", "false", "cross attention is not implemented"),
    REFUSED("pruned_heads", "{}", "pruned heads are not implemented"),
    REFUSED("per_layer_config", "{}", "per-layer settings are not implemented"),
    REFUSED("use_bidirectional_attention", "false", "a query sees no later key here"),
    /* sizes */
    NEUTRAL("vocab_size", NULL), NEUTRAL("hidden_size", NULL), NEUTRAL("intermediate_size", NULL), NEUTRAL("num_hidden_layers", NULL),
    NEUTRAL("num_attention_heads", NULL), NEUTRAL("num_key_value_heads", NULL), NEUTRAL("head_dim", NULL),
    NEUTRAL("max_position_embeddings", NULL), NEUTRAL("n_positions", NULL), NEUTRAL("n_embd", NULL), NEUTRAL("n_layer", NULL),
    NEUTRAL("n_head", NULL), NEUTRAL("n_inner", NULL), NEUTRAL("rotary_dim", NULL), NEUTRAL("multi_query", "false"),
    NEUTRAL("n_embed", NULL), NEUTRAL("ffn_hidden_size", NULL), NEUTRAL("num_kv_heads", NULL),
    NEUTRAL("num_ln_in_parallel_attn", NULL), NEUTRAL("activation", NULL), NEUTRAL("word_embed_proj_dim", NULL), NEUTRAL("ffn_dim", NULL), NEUTRAL("d_model", NULL),
    NEUTRAL("n_heads", NULL), NEUTRAL("n_layers", NULL), NEUTRAL("max_seq_len", NULL), NEUTRAL("attn_config", NULL), NEUTRAL("ffn_config", NULL),
    /* norms, activations, biases */
    NEUTRAL("rms_norm_eps", NULL), NEUTRAL("layer_norm_epsilon", NULL), NEUTRAL("layer_norm_eps", NULL), NEUTRAL("norm_epsilon", NULL),
    NEUTRAL("initializer_range", NULL), NEUTRAL("init_std", NULL), NEUTRAL("enable_bias", NULL), NEUTRAL("layer_norm_elementwise_affine", "true"),
    NEUTRAL("_remove_final_layer_norm", "false"), NEUTRAL("tie_word_embeddings", NULL), NEUTRAL("hidden_act", NULL),
    NEUTRAL("hidden_activation", NULL), NEUTRAL("activation_function", NULL), NEUTRAL("attention_bias", "false"),
    NEUTRAL("attention_out_bias", "false"), NEUTRAL("mlp_bias", "false"), NEUTRAL("use_bias", "false"), NEUTRAL("qkv_bias", "false"),
    NEUTRAL("bias", "false"), NEUTRAL("use_qk_norm", "false"), NEUTRAL("qk_layernorm", "false"), NEUTRAL("qk_norm", "false"),
    NEUTRAL("parallel_attn", "false"), NEUTRAL("use_parallel_residual", "false"), NEUTRAL("new_decoder_architecture", "false"),
    NEUTRAL("do_layer_norm_before", "true"), NEUTRAL("clip_qkv", NULL), NEUTRAL("norm_after", "false"),
    /* scales and caps */
    NEUTRAL("scale_attn_weights", "true"), NEUTRAL("scale_attn_by_inverse_layer_idx", "false"), NEUTRAL("embedding_multiplier", "1"),
    NEUTRAL("residual_multiplier", "1"), NEUTRAL("logits_scaling", "1"), NEUTRAL("attention_multiplier", NULL), NEUTRAL("logit_scale", "1"),
    NEUTRAL("scale_emb", "1"), NEUTRAL("scale_depth", NULL), NEUTRAL("dim_model_base", NULL), NEUTRAL("query_pre_attn_scalar", NULL),
    NEUTRAL("attn_logit_softcapping", NULL), NEUTRAL("final_logit_softcapping", NULL), NEUTRAL("swiglu_limit", NULL),
    NEUTRAL("swiglu_alpha", NULL), NEUTRAL("lm_head_multiplier", "1"), NEUTRAL("mup_width_multiplier", "1"),
    /* positions */
    NEUTRAL("rope_theta", NULL), NEUTRAL("rope_scaling", NULL), NEUTRAL("rope_parameters", NULL), NEUTRAL("rope_local_base_freq", NULL),
    NEUTRAL("partial_rotary_factor", "1"), NEUTRAL("rotary_pct", "1"), NEUTRAL("rotary_emb_base", NULL),
    NEUTRAL("rope_interleaved", "false"), NEUTRAL("rope_interleave", "false"), NEUTRAL("original_max_position_embeddings", NULL),
    NEUTRAL("no_rope_layers", "1"), NEUTRAL("no_rope_layer_interval", NULL), NEUTRAL("alibi", "false"), NEUTRAL("use_mrope", "false"),
    /* windows */
    NEUTRAL("sliding_window", NULL), NEUTRAL("use_sliding_window", "false"), NEUTRAL("max_window_layers", NULL),
    NEUTRAL("layer_types", "\"full_attention\""), NEUTRAL("sliding_window_pattern", NULL),
    NEUTRAL("attention_chunk_size", NULL),
    /* experts */
    NEUTRAL("num_experts", "0"), NEUTRAL("num_local_experts", "0"), NEUTRAL("n_routed_experts", "0"), NEUTRAL("moe_num_experts", "0"),
    NEUTRAL("num_experts_per_tok", "0"), NEUTRAL("moe_k", NULL), NEUTRAL("moe_intermediate_size", NULL),
    NEUTRAL("shared_expert_intermediate_size", NULL), NEUTRAL("shared_intermediate_size", "0"), NEUTRAL("n_shared_experts", "0"),
    NEUTRAL("moe_num_shared_experts", "0"), NEUTRAL("norm_topk_prob", "false"), NEUTRAL("decoder_sparse_step", NULL),
    NEUTRAL("mlp_only_layers", "[]"), NEUTRAL("first_k_dense_replace", "0"), NEUTRAL("moe_layer_freq", "1"),
    NEUTRAL("moe_layer_start_index", NULL), NEUTRAL("moe_layer_end_index", NULL), NEUTRAL("moe_layer_interval", "1"),
    NEUTRAL("moe_norm_min", NULL), NEUTRAL("routed_scaling_factor", "1"), NEUTRAL("n_group", "1"), NEUTRAL("topk_group", "1"),
    NEUTRAL("scoring_func", NULL), NEUTRAL("topk_method", NULL), NEUTRAL("output_router_logits", "false"),
    NEUTRAL("router_aux_loss_coef", "0"), NEUTRAL("router_z_loss_coef", "0"), NEUTRAL("aux_loss_alpha", "0"), NEUTRAL("seq_aux", "true"),
    NEUTRAL("capacity_factor", "0"),
    NEUTRAL("num_nextn_predict_layers", "0"), NEUTRAL("num_mtp_layers", "0"),
    /* latent attention */
    NEUTRAL("q_lora_rank", NULL), NEUTRAL("kv_lora_rank", NULL), NEUTRAL("qk_rope_head_dim", NULL), NEUTRAL("qk_nope_head_dim", NULL),
    NEUTRAL("v_head_dim", NULL), NEUTRAL("qk_head_dim", NULL),
    END,
};
/* clang-format on */

/* ---- what cannot be described here ---------------------------------------------------------------------------- */

static const char recurrent[] = "layers with a linear or recurrent state",
                  sparse[] = "sparse attention with an indexer",
                  encoder[] = "an encoder, not a decoder that predicts the next token", alibi[] = "ALiBi positions",
                  vision[] = "a part for images or sound beside the decoder: take the config of its text model alone";

static const struct {
    const char *model_type, *why;
} why_not[] = {
    { "qwen3_next", recurrent },
    { "qwen3_5", recurrent },
    { "qwen3_5_moe", recurrent },
    { "kimi_linear", recurrent },
    { "nemotron_h", recurrent },
    { "falcon_h1", recurrent },
    { "falcon_mamba", recurrent },
    { "lfm2", recurrent },
    { "lfm2_moe", recurrent },
    { "jamba", recurrent },
    { "bamba", recurrent },
    { "zamba", recurrent },
    { "zamba2", recurrent },
    { "mamba", recurrent },
    { "mamba2", recurrent },
    { "granitemoehybrid", recurrent },
    { "recurrent_gemma", recurrent },
    { "rwkv", recurrent },
    { "minimax", recurrent },
    { "deepseek_v32", sparse },
    { "deepseek_v4", sparse },
    { "llama4", "attention in chunks, and router scores on the experts' input" },
    { "llama4_text", "attention in chunks, and router scores on the experts' input" },
    { "bloom", alibi },
    { "mpt", alibi },
    { "phimoe", "a router that draws random numbers in training" },
    { "bert", encoder },
    { "roberta", encoder },
    { "distilbert", encoder },
    { "modernbert", encoder },
    { "t5", encoder },
    { "vit", encoder },
    { "gemma3", vision },
    { "gemma3n", vision },
    { "mistral3", vision },
    { "qwen2_vl", vision },
    { "qwen2_5_vl", vision },
    { "qwen3_vl", vision },
    { "mllama", vision },
    { "phi4_multimodal", vision },
};

const char *hf_why_not(const char *model_type)
{
    for (size_t i = 0; i < sizeof why_not / sizeof *why_not; i++)
        if (strcmp(why_not[i].model_type, model_type) == 0)
            return why_not[i].why;
    return NULL;
}
