/* The keys of Hugging Face's configuration classes: GPT2Config, LlamaConfig, Qwen3Config, Qwen3MoeConfig, MixtralConfig
 * and what they inherit from PreTrainedConfig (transformers 4.40 to 5). What each kind means: family.h. */
#include "ir/family/family.h"

/* clang-format off */
#define USED(name) { name, HF_USED, NULL, NULL }
#define INFO(name) { name, HF_INFO, NULL, NULL }
#define ALIAS(name, of) { name, HF_ALIAS, of, NULL }
#define DROPOUT(name) { name, HF_DROPOUT, NULL, NULL }
#define NEUTRAL(name, value, why) { name, HF_NEUTRAL, value, why }
#define END { NULL, HF_END, NULL, NULL }

const struct hf_key hf_common_keys[] = {
    USED("model_type"), USED("vocab_size"), USED("initializer_range"), USED("tie_word_embeddings"), USED("annotate"),
    /* where the file comes from, how transformers loads it */
    INFO("architectures"), INFO("_name_or_path"), INFO("name_or_path"), INFO("_commit_hash"), INFO("auto_map"),
    INFO("transformers_version"), INFO("torch_dtype"), INFO("dtype"), INFO("attn_implementation"),
    INFO("_attn_implementation"), INFO("_attn_implementation_autoset"), INFO("experts_implementation"),
    INFO("tokenizer_class"), INFO("torchscript"), INFO("use_bfloat16"), INFO("tf_legacy_loss"), INFO("use_cache"),
    INFO("gradient_checkpointing"), INFO("chunk_size_feed_forward"), INFO("return_dict"), INFO("use_return_dict"),
    INFO("output_attentions"), INFO("output_hidden_states"), INFO("is_decoder"), INFO("tie_encoder_decoder"),
    INFO("cross_attention_hidden_size"),
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
    NEUTRAL("is_encoder_decoder", "false", "only decoders are implemented"),
    NEUTRAL("add_cross_attention", "false", "cross attention is not implemented"),
    NEUTRAL("pruned_heads", "{}", "pruned heads are not implemented"),
    NEUTRAL("quantization_config", "{}", "quantized weights are not implemented: use the config of the unquantized model"),
    NEUTRAL("per_layer_config", "{}", "per-layer settings are not implemented"),
    END,
};

const struct hf_key hf_gpt2_keys[] = {
    USED("n_positions"), USED("n_embd"), USED("n_layer"), USED("n_head"), USED("n_inner"), USED("activation_function"),
    USED("layer_norm_epsilon"),
    ALIAS("max_position_embeddings", "n_positions"), ALIAS("hidden_size", "n_embd"),
    ALIAS("num_hidden_layers", "n_layer"), ALIAS("num_attention_heads", "n_head"),
    INFO("n_ctx"), INFO("reorder_and_upcast_attn"), INFO("summary_type"), INFO("summary_use_proj"),
    INFO("summary_activation"), INFO("summary_proj_to_labels"), INFO("summary_first_dropout"),
    DROPOUT("resid_pdrop"), DROPOUT("embd_pdrop"), DROPOUT("attn_pdrop"),
    NEUTRAL("scale_attn_weights", "true", "unscaled attention is not implemented"),
    NEUTRAL("scale_attn_by_inverse_layer_idx", "false", "attention scaled by the layer index is not implemented"),
    END,
};

/* Of all families with rotary embedding. */
#define LLAMA_LIKE \
    USED("hidden_size"), USED("intermediate_size"), USED("num_hidden_layers"), USED("num_attention_heads"), \
    USED("num_key_value_heads"), USED("head_dim"), USED("hidden_act"), USED("max_position_embeddings"), \
    USED("rms_norm_eps"), USED("rope_theta"), USED("rope_scaling"), USED("rope_parameters"), \
    DROPOUT("attention_dropout"), DROPOUT("hidden_dropout"), \
    NEUTRAL("partial_rotary_factor", "1", "partial rotary embedding is not implemented")

#define MOE_LIKE \
    USED("num_experts_per_tok"), USED("output_router_logits"), USED("router_aux_loss_coef"), USED("capacity_factor")

const struct hf_key hf_llama_keys[] = {
    LLAMA_LIKE, USED("attention_bias"), USED("mlp_bias"), INFO("pretraining_tp"),
    NEUTRAL("rope_interleaved", "false", "rotary embedding of adjacent pairs is not implemented"),
    END,
};

const struct hf_key hf_qwen3_keys[] = {
    LLAMA_LIKE, USED("attention_bias"), USED("use_sliding_window"), USED("sliding_window"), USED("layer_types"),
    INFO("max_window_layers"),
    END,
};

const struct hf_key hf_qwen3_moe_keys[] = {
    LLAMA_LIKE, MOE_LIKE, USED("attention_bias"), USED("use_sliding_window"), USED("sliding_window"),
    USED("layer_types"), USED("num_experts"), ALIAS("num_local_experts", "num_experts"), USED("moe_intermediate_size"),
    USED("norm_topk_prob"), USED("decoder_sparse_step"), USED("mlp_only_layers"), INFO("max_window_layers"),
    END,
};

const struct hf_key hf_mixtral_keys[] = {
    LLAMA_LIKE, MOE_LIKE, USED("sliding_window"), USED("num_local_experts"), ALIAS("num_experts", "num_local_experts"),
    NEUTRAL("router_jitter_noise", "0", "router jitter is not implemented"),
    END,
};
