#!/bin/sh
# time-limit: 600
# Shared sequences (piper-strategy(5), shard with a dimension) against the 1-rank run over 5 AdamW steps: first loss and first norm within
# 1e-5, all losses within 1e-4, all weights within 5e-5, where a step moves them by 1e-3; all copies of every parameter equal at the end. Every shape tp x cp x dp x pp of the list, with every
# value of order, exchange and keep; models, schedules, ZeRO levels and groups, recompute and streams are drawn. The seed is the commit,
# and printed.
# SEED=... draws another; SEEDS=n (default 1) draws n times. Then: the same bits twice, and a checkpoint goes on under other shapes.
steps=5
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
train_options="--check-replicas $steps"
apart=5e-5

# experts: no loss of their own; one, counted over whole sequences; that, and a capacity that drops a third of the choices
sed 's/"router_aux_loss_coef": 0.01/"router_aux_loss_coef": 0/' "$dir/dropless.json" >"$dir/moe.json"
sed 's/"router_aux_loss_coef": 0.01/"router_aux_loss_coef": 0.1/' "$dir/dropless.json" >"$dir/aux.json"
sed 's/"router_aux_loss_coef": 0.01/"router_aux_loss_coef": 0.1/; s/"capacity_factor": 1.25/"capacity_factor": 0.75/' \
    "$dir/qwen3_moe.json" >"$dir/capacity.json"
sed 's/"model_type": "llama"/"model_type": "qwen3", "head_dim": 16/; s/"vocab_size": 256/"vocab_size": 259/' "$dir/llama.json" >"$dir/qwen3.json"
# ends_after OPERATOR BLOCK: the last operators of a graph, a feed-forward part and the head
ends_after()
{
    cat <<EOF
{"op": "linear", "name": "c.up", "in": ["$1"], "out_features": 64, "block": $2},
  {"op": "gelu", "name": "c.act", "in": ["c.up"]},
  {"op": "linear", "name": "c.down", "in": ["c.act"], "out_features": 32},
  {"op": "add", "name": "c.add", "in": ["$1", "c.down"]},
  {"op": "head_loss", "name": "head", "in": ["c.add", "targets"], "block": $(($2 + 1))}
EOF
}
# k and v of one layer are read by the attention of two, and by two operators in one of them
cat >"$dir/graph.json" <<EOF
{"vocab_size": 256, "initializer_range": 0.2, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "linear", "name": "a.q", "in": ["embed"], "out_features": 32, "block": 1},
  {"op": "linear", "name": "a.k", "in": ["embed"], "out_features": 32},
  {"op": "linear", "name": "a.v", "in": ["embed"], "out_features": 32},
  {"op": "attention", "name": "a.att", "in": ["a.q", "a.k", "a.v"], "heads": 4},
  {"op": "add", "name": "a.add", "in": ["embed", "a.att"]},
  {"op": "linear", "name": "b.q", "in": ["a.add"], "out_features": 32, "block": 2},
  {"op": "attention", "name": "b.att", "in": ["b.q", "a.k", "a.v"], "heads": 4},
  {"op": "add", "name": "b.add", "in": ["a.add", "b.att"]},
  {"op": "add", "name": "b.more", "in": ["b.add", "a.v"]},
  $(ends_after b.more 3)
]}
EOF
# latent attention, whose heads share a part of their keys
cat >"$dir/latent.json" <<'EOF'
{"model_type": "deepseek_v2", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 4,
 "q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "intermediate_size": 48,
 "moe_intermediate_size": 16, "n_routed_experts": 4, "num_experts_per_tok": 2, "first_k_dense_replace": 4, "n_shared_experts": 1,
 "aux_loss_alpha": 0, "tie_word_embeddings": false}
EOF
# packed q, k and v of unequal sizes, which are bounded on their way to attention
cat >"$dir/packed.json" <<EOF
{"vocab_size": 256, "initializer_range": 0.2, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "linear", "name": "a.qkv", "in": ["embed"], "out_features": 68, "bias": true, "block": 1},
  {"op": "clamp", "name": "a.clip", "in": ["a.qkv"], "clamp": 0.5},
  {"op": "attention", "name": "a.core", "in": ["a.clip"], "heads": 4, "kv_heads": 2, "head_dim": 8, "v_head_dim": 10, "packed": true},
  {"op": "linear", "name": "a.o", "in": ["a.core"], "out_features": 32},
  {"op": "add", "name": "a.add", "in": ["embed", "a.o"]},
  $(ends_after a.add 2)
]}
EOF

commit=$(git -C "$src" rev-parse HEAD 2>/dev/null || echo none)
seed=${SEED:-$(echo "$commit" | cksum | cut -d' ' -f1)}
echo "# seed $seed"

# NAME|RANKS|MODEL|STRATEGY of a draw
draw()
{
    awk -v seed="$1" '
    function pick(n) { state = (state * 1103 + 12345) % 2147483; return int(state / 7) % n }
    function one(list,   a) { return a[1 + pick(split(list, a, " "))] }
    BEGIN {
        state = seed % 2147483
        first = pick(3)
        split("gather all-to-all ring", exchanges, " ")
        shapes = split("2,1,1,1 4,1,1,1 1,2,1,1 1,4,1,1 2,2,1,1 2,4,1,1 2,2,2,1 2,1,1,2 1,2,1,2 2,2,1,2 4,2,1,1 1,2,2,2 1,2,2,1", shape, " ")
        for (i = 1; i <= shapes; i++) {
            split(shape[i], s, ",")
            tp = s[1]; cp = s[2]; dp = s[3]; pp = s[4]
            model = one((tp == 1 && pp == 1 ? "graph graph " : "") "llama gpt2 qwen3 olmo2 latent " one("moe aux") " capacity")
            # heads are exchanged where each device gets some
            exchange = cp == 1 ? "" : exchanges[1 + (turn++ + first) % 3]
            if (exchange == "all-to-all" && tp * cp > 4) exchange = "ring"
            if (exchange == "all-to-all" && tp * cp > 2 && model !~ /^(gpt2|latent)$/) model = tp == 1 && pp == 1 ? "graph" : "gpt2"
            schedule = "gpipe"; place = "standard"
            if (pp == 2) {
                schedule = one("gpipe 1f1b interleaved zb-h1 zb-h2 zb-v dualpipev interleaved-zb dualpipe")
                if (schedule == "dualpipe") { dp *= 2; place = "two-way"; if (tp * cp * dp * pp > 8) { dp /= 2; schedule = "1f1b"; place = "standard" } }
                if (schedule ~ /^(zb-v|dualpipev)$/) place = "v"
                if (schedule ~ /^interleaved/) place = "interleaved"
            }
            m = pp == 2 ? 4 : one("1 2 4")
            zero = pick(4)
            group = zero && dp * cp % 2 == 0 && pick(2)
            keep = i % 2 ? "part" : "whole"
            text = sprintf("{\"op\":\"layout\",\"pp\":%d,\"dp\":%d,\"tp\":%d,\"cp\":%d,\"zero\":%d,\"placement\":\"%s\",\"keep\":\"%s\"",
                           pp, dp, tp, cp, zero, place, keep)
            if (group) text = text ",\"zero_group\":2,\"zero_optimizer\":\"" one("group all") "\""
            order = ""
            if (cp > 1) {
                order = exchange == "all-to-all" || pick(3) == 0 ? "contiguous" : "zigzag"
                text = text ",\"exchange\":\"" exchange "\",\"order\":\"" order "\""
            }
            vocab = tp > 1 && i % 2
            if (vocab) text = text ",\"vocab\":true"
            ep = model ~ /^(moe|aux|capacity)$/ ? one("1 2 " (tp * cp * dp < 4 ? tp * cp * dp : 4)) : 1
            text = text ",\"ep\":" ep
            streams = pick(2)
            if (streams && cp > 1) text = text ",\"cp_stream\":\"default_stream\""
            if (streams && tp > 1) text = text ",\"tp_stream\":\"default_stream\""
            text = "[" text "},{\"op\":\"schedule\",\"kind\":\"" schedule "\",\"microbatches\":" m "}"
            again = pick(3) == 0
            if (again) text = text ",{\"op\":\"recompute\",\"filter\":{}}"
            printf "%s tp=%d cp=%d dp=%d pp=%d ep=%d %s mb=%d zero=%d%s keep=%s %s %s%s%s%s|%d|%s|%s]\n", model, tp, cp, dp, pp, ep, schedule, m,
                   zero, group ? " in groups" : "", keep, exchange, order, vocab ? " vocab" : "", again ? " recompute" : "", streams ? " default_stream" : "", tp * cp * dp * pp, model, text
        }
    }'
}

i=0
while [ "$i" -lt "${SEEDS:-1}" ]; do
    draw $((seed + i)) >"$dir/jobs"
    while IFS='|' read -r name ranks model strategy; do
        base "$model" adamw
        case_of "$name" "$ranks" "$model" adamw 1e-4 "$strategy"
    done <"$dir/jobs"
    i=$((i + 1))
done

# By hand, in lists; a batch of one sequence with one token a device.
base gpt2 adamw
case_of "gpt2 by directives: 2 sequence groups of 2, head and ffn" 4 gpt2 adamw 1e-4 \
    '[{"op":"shard","dim":"sequence","filter":{},"devices":[[0,1],[2,3]]},{"op":"shard","dim":"head","filter":{}},
      {"op":"shard","dim":"ffn","filter":{},"devices":[[0,1],[2,3]]}]'
# tensor groups of 2 where attention is split by context alone
four='{"op":"shard","dim":"sequence","filter":{},"devices":[0,1,2,3]},{"op":"shard","dim":"ffn","filter":{},"devices":[[0,1],[2,3]]}'
for x in gather all-to-all; do
    case_of "gpt2 by directives: ffn on pairs, context on all four, $x" 4 gpt2 adamw 1e-4 \
        "[$four,{\"op\":\"shard\",\"dim\":\"context\",\"filter\":{},\"exchange\":\"$x\"}]"
done
base llama adamw
for order in contiguous zigzag; do
    case_of "llama, tensor groups of 4 for ffn and vocab, attention by position, $order" 4 llama adamw 1e-4 \
        '[{"op":"shard","dim":"sequence","filter":{},"devices":[0,1,2,3],"order":"'$order'"},{"op":"shard","dim":"context","filter":{}},
          {"op":"shard","dim":"ffn","filter":{},"stream":"tp"},{"op":"shard","dim":"vocab","filter":{}}]'
done
sed 's/"vocab_size": 256/"vocab_size": 257/' "$dir/gpt2.json" >"$dir/odd.json"
base odd adamw
case_of "gpt2 with a tied table of 257 words in 4 blocks" 4 odd adamw 1e-4 \
    '[{"op":"layout","tp":4,"vocab":true,"zero":2},{"op":"schedule","kind":"gpipe","microbatches":2}]'
sed 's/"tie_word_embeddings": false/"tie_word_embeddings": true/' "$dir/llama.json" >"$dir/tied.json"
base tied adamw
case_of "gpt2, the two readers of a tied table of 257 words in two stages" 4 odd adamw 1e-4 \
    '[{"op":"layout","pp":2,"tp":2,"vocab":true,"zero":2},{"op":"schedule","kind":"zb-h1","microbatches":4}]'
case_of "llama, those of a tied table in two stages of both directions, replicated" 8 tied adamw 1e-4 \
    '[{"op":"layout","pp":2,"dp":2,"tp":2,"vocab":true,"zero":3,"placement":"two-way"},{"op":"schedule","kind":"dualpipe","microbatches":4}]'
sed 's/"batch_size": 16, "seq_len": 24/"batch_size": 1, "seq_len": 4/' "$dir/adamw.json" >"$dir/small.json"
base llama small
case_of "one sequence of 4 tokens on 4 devices" 4 llama small 1e-4 \
    '[{"op":"layout","tp":2,"cp":2,"order":"contiguous"},{"op":"split","filter":{},"num_microbatches":1}]'

# What of attention is about single heads or keys: windows and bounded scores, sinks, norms with weights of each head.
heads='"vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "head_dim": 8, "num_attention_heads": 8, "num_key_value_heads": 4'
echo "{\"model_type\": \"gemma2\", $heads, \"intermediate_size\": 48, \"sliding_window\": 5, \"query_pre_attn_scalar\": 7,
      \"attn_logit_softcapping\": 2.0, \"final_logit_softcapping\": 3.0}" >"$dir/gemma2.json"
echo "{\"model_type\": \"gpt_oss\", $heads, \"intermediate_size\": 24, \"num_local_experts\": 4, \"num_experts_per_tok\": 2,
      \"sliding_window\": 5, \"output_router_logits\": false, \"router_aux_loss_coef\": 0}" >"$dir/gpt_oss.json"
echo "{\"model_type\": \"gpt_oss\", $heads, \"intermediate_size\": 24, \"num_local_experts\": 4, \"num_experts_per_tok\": 2,
      \"layer_types\": [\"full_attention\", \"full_attention\"], \"router_aux_loss_coef\": 0}" >"$dir/sinks.json"
echo "{\"model_type\": \"cohere\", $heads, \"intermediate_size\": 48, \"use_qk_norm\": true, \"logit_scale\": 0.3,
      \"tie_word_embeddings\": false}" >"$dir/cohere.json"
# with NAME MODEL RANKS LAYOUT
with()
{
    base "$2" adamw
    case_of "$1" "$3" "$2" adamw 1e-4 "[{\"op\":\"layout\",$4},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}]"
}
with "packed q, k and v of unequal sizes, a head of keys on two devices" packed 4 '"tp":4,"zero":1'
with "packed q, k and v of unequal sizes, keys gathered" packed 4 '"tp":2,"cp":2,"zero":3'
with "packed q, k and v of unequal sizes, a ring" packed 2 '"cp":2,"exchange":"ring"'
base llama adamw
case_of "a loss over split words in a chunk that is recomputed" 4 llama adamw 1e-4 \
    '[{"op":"layout","pp":2,"tp":2,"vocab":true,"zero":3},{"op":"schedule","kind":"zb-h1","microbatches":4},{"op":"recompute","filter":{}}]'
with "latent attention, keys gathered" latent 4 '"tp":2,"cp":2,"zero":2'
with "latent attention, keep whole" latent 4 '"tp":4,"keep":"whole"'
with "latent attention, heads exchanged" latent 4 '"tp":2,"cp":2,"exchange":"all-to-all"'
with "windows and bounded scores, keys gathered" gemma2 4 '"tp":2,"cp":2,"order":"zigzag"'
with "windows and bounded scores, heads exchanged" gemma2 4 '"tp":2,"cp":2,"exchange":"all-to-all"'
with "windows and sinks, keys gathered" gpt_oss 4 '"cp":4,"zero":1,"ep":2'
with "windows and sinks, heads exchanged" gpt_oss 4 '"tp":2,"cp":2,"exchange":"all-to-all","zero":3'
with "sinks, a ring" sinks 4 '"tp":2,"cp":2,"exchange":"ring","zero":2'
with "norms with weights of each head, keys gathered" cohere 4 '"tp":2,"cp":2'
with "norms with weights of each head, heads exchanged" cohere 2 '"cp":2,"exchange":"all-to-all"'
with "norms with weights of each head, a ring" cohere 4 '"cp":4,"exchange":"ring"'

# Norms of q and k over all heads, which the members of a tensor group have parts of.
echo "{\"model_type\": \"olmo2\", $heads, \"intermediate_size\": 48, \"tie_word_embeddings\": false}" >"$dir/olmo8.json"
with "norms over all heads, a head of keys on two devices" olmo2 4 '"tp":4,"keep":"whole","zero":2'
with "norms over all heads, heads exchanged" olmo8 4 '"tp":2,"cp":2,"exchange":"all-to-all"'
base olmo2 adamw
case_of "norms over all heads, keys gathered, computed again" 4 olmo2 adamw 1e-4 \
    '[{"op":"layout","tp":2,"cp":2,"zero":3},{"op":"schedule","kind":"gpipe","microbatches":2},{"op":"recompute","filter":{}}]'
case_of "norms over all heads, what the last stage gave is gathered" 4 olmo2 adamw 1e-4 \
    '[{"op":"layout","pp":2,"tp":2},{"op":"schedule","kind":"zb-h1","microbatches":4}]'

# Documents apart: none of a length that divides a part of a sequence.
awk 'BEGIN { for (i = 0; i < 4000; i++) { t = ""; for (k = 0; k < 2 + i * 7 % 13; k++) t = t sprintf("%c", 97 + (i * k + k * k) % 26); printf "{\"text\": \"%s\"}\n", t } }' >"$dir/text.jsonl"
"$piper" data jsonl "$dir/text.jsonl" -o "$dir/documents.h5" >"$dir/log" 2>&1 || { cat "$dir/log"; echo "Bail out! piper data jsonl failed"; exit 1; }
data=documents.h5
sed 's/"data": "tokens.h5"/"data": "documents.h5", "documents": "separate"/' "$dir/adamw.json" >"$dir/apart.json"
for m in llama gpt2; do
    base "$m" apart
    case_of "$m, documents apart, keys gathered" 4 "$m" apart 1e-4 '[{"op":"layout","tp":2,"cp":2,"zero":1},{"op":"split","filter":{},"num_microbatches":2}]'
    case_of "$m, documents apart, heads exchanged" 2 "$m" apart 1e-4 '[{"op":"layout","cp":2,"exchange":"all-to-all"},{"op":"split","filter":{},"num_microbatches":2}]'
done
case_of "gpt2, documents apart, stages" 4 gpt2 apart 1e-4 \
    '[{"op":"layout","pp":2,"cp":2,"order":"contiguous"},{"op":"schedule","kind":"zb-h1","microbatches":4},{"op":"recompute","filter":{}}]'
data=tokens.h5

# As the reference's branches spell it.
base llama adamw
case_of "shard_tensor" 4 llama adamw 1e-4 \
    '[{"op":"place","filter":{"PP":0},"devices":[0,2]},{"op":"place","filter":{"PP":1},"devices":[1,3]},
      {"op":"shard_tensor","filter":{"PP":0,"TP":"*"},"devices":[0,2],"stream":"tp_stream","params":{"q_proj":"colwise","down_proj":"rowwise"}},
      {"op":"shard_tensor","filter":{"PP":1,"TP":"*"},"devices":[1,3],"stream":"tp_stream"},{"op":"fuse_collectives","filter":{}},
      {"op":"split","filter":{},"dim_name":"MB","num_microbatches":2}]'
case_of "ring_exchange" 2 llama adamw 1e-4 \
    '[{"op":"place","filter":{},"devices":[0,1]},{"op":"replicate","filter":{},"devices":[0,1]},
      {"op":"ring_exchange","filter":{"CP":"*"},"devices":[0,1],"tensors":["k","v"],"stream":"cp_stream","hoist":true,"distance":1}]'
case_of "ring_exchange by gathers" 2 llama adamw 1e-4 \
    '[{"op":"place","filter":{},"devices":[0,1]},
      {"op":"ring_exchange","filter":{"CP":"*"},"devices":[0,1],"tensors":["k","v"],"decompose":"gather"}]'
# What is counted over whole sequences: the same losses, and the same tokens dropped. Expert groups within a sequence group, all of it, across
# two. The loss of deepseek_v3 counts the best by score, its capacity what groups and a bias have chosen.
cat >"$dir/groups.json" <<'EOF'
{"model_type": "deepseek_v3", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 4,
 "q_lora_rank": 16, "kv_lora_rank": 12, "qk_nope_head_dim": 8, "qk_rope_head_dim": 4, "v_head_dim": 6, "intermediate_size": 48,
 "moe_intermediate_size": 16, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
 "first_k_dense_replace": 1, "n_shared_experts": 1, "aux_loss_alpha": 0.1, "seq_aux": true, "capacity_factor": 0.75,
 "tie_word_embeddings": false}
EOF
# counts MODEL SHAPE [DIRECTIVE]
counts()
{
    w=''
    train counts 4 "$1" adamw "[{\"op\":\"layout\",$2},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":2}${3-}]" &&
        w=$(awk -F, 'FNR == 1 { for (i = 1; i <= NF; i++) col[$i] = i; next }
                     { a = $col["aux_loss"]; d = $col["dropped_tokens"] }
                     NR == FNR { aux[$1] = a; dropped[$1] = d; next }
                     { e = a / aux[$1] - 1; e = e < 0 ? -e : e; if (e > worst) worst = e; if (d != dropped[$1] || d == 0) bad++; rows++ }
                     END { printf "%.1e, %d rows with other drops", worst, bad; exit !(rows == 5 && !bad && worst <= 1e-5) }' \
            "$dir/base-$1-adamw/metrics.csv" "$dir/counts/metrics.csv")
    result "counts of $1 over whole sequences, $2${3:+, recompute}: auxiliary loss $w"
    rm -rf "$dir/counts" "$dir/counts.h5"
}
base capacity adamw
for shape in '"cp":4,"ep":2,"dp":1' '"tp":2,"cp":2,"ep":4,"dp":1' '"tp":2,"dp":2,"ep":4' '"cp":2,"dp":2,"ep":4,"order":"contiguous"'; do
    counts capacity "$shape"
done
base groups adamw
counts groups '"cp":4,"ep":2,"dp":1'
counts groups '"tp":2,"cp":2,"ep":4,"dp":1' ',{"op":"recompute","filter":{}}'

# The same bits twice.
zigzag='[{"op":"layout","tp":2,"cp":2},{"op":"schedule","kind":"gpipe","microbatches":2}]'
train once 4 llama adamw "$zigzag" && train twice 4 llama adamw "$zigzag" &&
    cut -d, -f1-5 "$dir/once/metrics.csv" >"$dir/a" && cut -d, -f1-5 "$dir/twice/metrics.csv" | cmp -s - "$dir/a"
result "the same command, the same bits"
beside='[{"op":"layout","tp":2,"cp":2,"tp_stream":"default_stream","cp_stream":"default_stream"},{"op":"schedule","kind":"gpipe","microbatches":2}]'
train beside 4 llama adamw "$beside" && cut -d, -f1-5 "$dir/beside/metrics.csv" | cmp -s - "$dir/a"
result "a B that runs as BI and BW under its communication, and one that does not: the same bits"

# A run goes on under another shape, and under none, as if it had always run there.
base llama sgd
steps=2 && train on 4 llama sgd "$zigzag" && steps=4 && train on 2 llama sgd '[{"op":"layout","tp":2,"zero":2}]' &&
    steps=5 && train on 1 llama sgd '[]' && w=$(worst on base-llama-sgd) &&
    echo "$w" | awk '{ exit !($1 <= 1e-5 && $2 <= 1e-5 && $3 <= 1e-4) }'
result "2 steps under tp=2 cp=2, 2 under tp=2 zero=2, 1 on 1 rank: $w"
echo "1..$n"
