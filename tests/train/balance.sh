#!/bin/sh
# Balance without an auxiliary loss: the selection bias of a router is state that a rule moves, equal to the bit under every strategy,
# in checkpoints and in export; what metrics.csv and log.txt say of the load of experts. The rule itself: tests/parity.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

cat >v3.json <<'JSON'
{"model_type": "deepseek_v3", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 5, "num_attention_heads": 4,
 "num_key_value_heads": 4, "q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8,
 "intermediate_size": 48, "moe_intermediate_size": 16, "num_experts_per_tok": 3, "n_shared_experts": 1, "n_routed_experts": 16,
 "n_group": 4, "topk_group": 2, "routed_scaling_factor": 1.7, "first_k_dense_replace": 3, "norm_topk_prob": true,
 "num_nextn_predict_layers": 0, "initializer_range": 0.2}
JSON
short="train.batch_size=32 train.steps=4 train.lr=1e-4 train.checkpoint_every=2"
moved="$short train.moe_router_bias_update_rate=0.001"
place() # PP DP EP ZERO PLACEMENT KIND MICROBATCHES [DIRECTIVE]
{
    echo "[{\"op\":\"layout\",\"pp\":$1,\"dp\":$2,\"ep\":$3,\"zero\":$4,\"placement\":\"$5\"},
        {\"op\":\"schedule\",\"kind\":\"$6\",\"microbatches\":$7}${8-}]"
}
# biases RUN STEP RUN STEP: the selection biases are bitwise identical, moments too, and are compared at all
biases()
{
    "$piper" checkpoint diff "$1/checkpoints/step-00000$2.h5" "$3/checkpoints/step-00000$4.h5" >differences 2>&1
    cat differences >>out
    ! grep -q e_score_correction_bias differences
}
# shellcheck disable=SC2086 # settings are words
build base v3 one $moved && train 1 base base
result "1 rank"

place 2 4 4 1 two-way dualpipe 8 >dualpipe.json
place 2 2 2 2 v dualpipev 4 >dualpipev.json
place 2 4 2 3 standard zb-h1 4 ',{"op":"recompute","filter":{"PP":1}}' >zero3.json
place 1 4 1 0 standard 1f1b 2 >dp4.json
place 2 2 1 3 standard gpipe 1 ',{"op":"recompute","filter":{}}' >gpipe.json
for s in dualpipe:8 dualpipev:4 zero3:8 dp4:4 gpipe:4; do
    ranks=${s#*:} s=${s%:*}
    # shellcheck disable=SC2086
    build "$s" v3 "$s" $moved && train "$ranks" "$s" "$s" --check-replicas 1 && biases base 4 "$s" 4 &&
        column "$s" expert_load >got && column base expert_load >want && cmp want got >>out
    result "$s: biases and loads as on 1 rank, bit by bit"
done
! biases base 2 base 4 && ! grep '^optimizer/./.*e_score_correction_bias' differences >>out
result "they move, and have no moments"

rm -rf hop && train 1 base hop --steps 2 && train 8 zero3 hop --steps 3 --check-replicas 1 && train 4 dp4 hop && biases base 4 hop 4
result "resumed by 8 ranks, then by 4: the same bits"
rm -rf half && train 8 zero3 half --steps 2 && train 8 zero3 half && same_bits zero3 half
result "2 steps and 2 are 4"

# shellcheck disable=SC2086
build still v3 one $short && train 1 still still && numbers still | sed -n 2p >want && numbers base | sed -n 2p >got &&
    cmp want got && ! biases base 4 still 4 && biases still 2 still 4
result "without the key they stay; the first loss and norm are the same with it"
# shellcheck disable=SC2086
build free v3 one $moved train.clip_norm=0 && build held v3 one $moved train.clip_norm=1e9 && train 1 free free && train 1 held held &&
    biases free 4 held 4
result "the same where no update waits for the norm"

# bfloat16: bias and router weights are float32 all the same
# shellcheck disable=SC2086
build bf v3 one $moved train.dtype=bfloat16 && build bf8 v3 zero3 $moved train.dtype=bfloat16 && train 1 bf bf &&
    train 8 bf8 bf8 --check-replicas 1 && biases bf 4 bf8 4
result "bfloat16: 8 ranks as 1"
"$piper" plan bf8.h5 --dump >plan.txt && [ "$(grep -c '^bucket .* type=float32 rule=optimizer ' plan.txt)" -eq 2 ] &&
    [ "$(grep -c '^bucket .* type=float32 rule=balance ' plan.txt)" -eq 2 ] && grep -q '^bucket .* type=bfloat16 ' plan.txt
result "bfloat16: the weights of routers are float32"

"$piper" checkpoint export bf -o weights.safetensors >>out 2>&1 && [ -s weights.safetensors ] && {
    head=$(($(od -An -N8 -tu8 weights.safetensors) + 8))
    at=$(head -c $head weights.safetensors | tr -d '\0' | grep -aoE '"model.layers.3.mlp.gate.e_score_correction_bias":\{[^}]*\}' |
        sed 's/.*"data_offsets":\[\([0-9]*\).*/\1/')
    tail -c +$((head + at + 1)) weights.safetensors | head -c 64 | od -An -v -tf4 -w4 |
        awk '{ x = $1 / 0.001; r = int(x + (x < 0 ? -0.5 : 0.5)); d = x - r; if (d < 0) d = -d
               bad += d > 1e-4 || r < -4 || r > 4; some += r != 0 } END { print some, bad; exit bad || !some || NR != 16 }' >>out
}
result "exported: multiples of the rate, four at most"

# The load of experts
build loads qwen3_moe one train.batch_size=1 train.steps=4 train.checkpoint_every=2 model.num_experts=16 model.num_experts_per_tok=1 &&
    train 1 loads loads
column loads expert_load | awk '{ bad += $2 < 1 || $2 > 16 } END { exit bad || NR != 4 }' &&
    [ "$(grep -c 'expert load, largest over mean, in steps 1 to 2: layers.0 [0-9.]*, layers.1 .*, layers.3 [0-9.]*$' loads/log.txt)" = 1 ] &&
    grep -q 'experts that no token chose in steps 3 to 4: layers.0 [0-9].*([0-9]* of 16)' loads/log.txt
result "metrics.csv: largest over mean; log.txt: layers and dead experts at each checkpoint"
build dense llama one train.steps=2 && train 1 dense dense && [ -z "$(column dense expert_load)" ] && ! grep -q 'expert' dense/log.txt
result "a model without experts has none"

echo "1..$n"
