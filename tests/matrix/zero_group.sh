#!/bin/sh
# time-limit: 300
# ZeRO within groups of neighbouring replicas (piper-strategy(5), replicate, zero_group) against the 1-rank run over 5 AdamW steps: first
# loss and first norm within 1e-5, all losses within 1e-4; all copies of every parameter and of its state equal at the end. Every level with
# state over the group and over all, in float32 and bfloat16, with experts and shared sequences. Then beside zero 3 over all: the same
# losses. And checkpoints: any group resumes any other, one and none. CELLS=all: every schedule with every level.
steps=5
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
train_options="--check-replicas $steps"
sed 's/"router_aux_loss_coef": 0.01/"router_aux_loss_coef": 0/' "$dir/dropless.json" >"$dir/moe.json"
echo '{"model_type": "gpt_oss", "vocab_size": 256, "hidden_size": 32, "num_hidden_layers": 2, "head_dim": 8, "num_attention_heads": 8,
  "num_key_value_heads": 4, "intermediate_size": 24, "num_local_experts": 4, "num_experts_per_tok": 2, "router_aux_loss_coef": 0}' >"$dir/sinks.json"
base llama adamw
base gpt2 adamw
base qwen3_moe adamw
base moe adamw
base sinks adamw

# cell MODEL RANKS KEYS SCHEDULE MICROBATCHES [MORE]
cell()
{
    case_of "$1 $3 $4" "$2" "$1" adamw 1e-4 "[{\"op\":\"layout\",$3},{\"op\":\"schedule\",\"kind\":\"$4\",\"microbatches\":$5}${6-}]"
}
again=',{"op":"recompute","filter":{}}'
cell llama 4 '"dp":4,"zero":1,"zero_group":2' gpipe 2
cell llama 8 '"pp":2,"dp":4,"zero":3,"zero_group":2' 1f1b 4
cell gpt2 8 '"pp":2,"dp":4,"zero":2,"zero_group":2,"zero_optimizer":"all"' zb-h1 4
cell llama 8 '"dp":8,"zero":3,"zero_group":4,"zero_optimizer":"all","prefetch":2' gpipe 2 "$again"
cell qwen3_moe 8 '"dp":8,"ep":2,"zero":3,"zero_group":4' gpipe 2
cell qwen3_moe 4 '"dp":4,"ep":4,"zero":2,"zero_group":2,"zero_optimizer":"all"' gpipe 2
cell moe 8 '"tp":2,"cp":2,"dp":2,"ep":2,"zero":3,"zero_group":2' gpipe 2
cell llama 8 '"tp":2,"cp":2,"dp":2,"zero":1,"zero_group":2,"zero_optimizer":"all","reduce":"each"' gpipe 2
cell sinks 4 '"cp":2,"dp":2,"exchange":"all-to-all","zero":2,"zero_group":2,"zero_optimizer":"all"' gpipe 2
case_of "devices in another order, zero 2" 4 gpt2 adamw 1e-4 \
    '[{"op":"replicate","filter":{},"devices":[2,0,3,1],"zero":2,"zero_group":2,"reduce_stream":"dp"},{"op":"split","filter":{},"num_microbatches":2}]'
if [ "${CELLS-}" = all ]; then
    for schedule in $schedules; do
        for zero in 1 2 3; do
            for optimizer in group all; do
                place=$(place_of "$schedule")
                cell llama 8 "\"pp\":2,\"dp\":4,\"placement\":\"$place\",\"zero\":$zero,\"zero_group\":2,\"zero_optimizer\":\"$optimizer\"" "$schedule" 4
                cell qwen3_moe 8 "\"pp\":2,\"dp\":4,\"ep\":2,\"placement\":\"$place\",\"zero\":$zero,\"zero_group\":2,\"zero_optimizer\":\"$optimizer\"" "$schedule" 4
            done
        done
    done
fi

# bfloat16, where parameters are gathered in it and masters are sharded: as zero 3 over all, whose sums are in another order.
sed '1s/{/{"dtype": "bfloat16", /' "$dir/adamw.json" >"$dir/half.json"
w='' a=''
train flat 4 llama half '[{"op":"layout","dp":4,"zero":3}]' &&
    train group 4 llama half '[{"op":"layout","dp":4,"zero":3,"zero_group":2}]' &&
    train all 4 llama half '[{"op":"layout","dp":4,"zero":1,"zero_group":2,"zero_optimizer":"all"}]' &&
    w=$(worst group flat) && a=$(worst all flat) &&
    echo "$w $a" | awk '{ exit !($1 <= 1e-6 && $2 <= 1e-5 && $3 <= 1e-3 && $4 <= 1e-6 && $5 <= 1e-5 && $6 <= 1e-3) }'
result "bfloat16 beside zero 3 over all: $w; $a"

# A run goes on in other groups, in none and on one rank, as if it had always run there: weights, and both moments of each.
sed 's/"kind": "cosine", "peak": 1e-3, "min": 1e-4, "warmup_steps": 3/"kind": "constant", "peak": 1e-3/' "$dir/adamw.json" >"$dir/steady.json"
base llama steady
w=''
steps=1 && train on 4 llama steady '[{"op":"layout","dp":4,"zero":3,"zero_group":2,"zero_optimizer":"all"}]' &&
    steps=2 && train on 8 llama steady '[{"op":"layout","dp":8,"zero":2,"zero_group":4}]' &&
    steps=3 && train on 8 llama steady '[{"op":"layout","dp":8,"zero":1,"zero_group":2,"zero_optimizer":"all"}]' &&
    steps=4 && train on 2 llama steady '[{"op":"layout","dp":2,"zero":3}]' &&
    steps=5 && train on 1 llama steady '[]' && w=$(worst on base-llama-steady) &&
    echo "$w" | awk '{ exit !($1 <= 1e-5 && $2 <= 1e-5 && $3 <= 1e-4) }'
result "a step each under zero 3 in twos, 2 in fours, 1 in twos, 3 over all, and on one rank: $w"
echo "1..$n"
