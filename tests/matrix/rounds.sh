#!/bin/sh
# time-limit: 240
# Experts with expert_bound and "overflow":"rounds": rows beyond the bound in more rounds, against 1 rank, which has room for all. The router
# sends every token to one expert: its weights are zero and frozen, and ties go to the first. So with as many groups of experts
# as a bound of 1 leaves, every exchange needs a round for each of the group's devices, and the column overflow_rounds is known.
. "${top_srcdir:-.}/tests/matrix/lib.sh"
cd "$dir" || exit 99
steps=3 # what a step leaves in memory of gradients is seen in the loss of the one after the next
# large weights: what experts do is seen in the loss
sed 's/"num_experts_per_tok": 2/"num_experts_per_tok": 1, "initializer_range": 0.2/' dropless.json >top1.json
sed 's/"seq_len": 24/"seq_len": 16/' sgd.json >settings.json

# build NAME STRATEGY [SETTING=VALUE...]
build()
{
    echo "$2" >strategy.json
    job=$1
    shift 2
    for setting; do
        shift
        set -- "$@" --set "$setting"
    done
    "$piper" build -m top1.json -s strategy.json -t settings.json -o "$job.h5" --set train.steps=$steps \
        --set 'train.freeze=["model.layers.*.mlp.gate.weight"]' "$@" >log 2>&1
}

# forced NAME RANKS: a run from the weights in hf
forced()
{
    "$piper" checkpoint import "$1.h5" hf -o "$1" >log 2>&1 && on_ranks 0 "$2" train "$1.h5" -o "$1" --device cpu >log 2>&1
}

# case_rounds NAME RANKS ROUNDS STRATEGY [SETTING...]: so many further rounds in each step, empty: no such column; and the numbers of $base
base=base
case_rounds()
{
    name=$1 ranks=$2 rounds=$3 strategy=$4 w=
    shift 4
    build "$name" "$strategy" "$@" && forced "$name" "$ranks" &&
        [ "$(column "$name" overflow_rounds | tr '\n' ' ')" = "${rounds:+1 $rounds 2 $rounds 3 $rounds }" ] && w=$(worst "$name" "$base") &&
        echo "$w" | awk -v most="${most-1e-6}" '{ exit !($1 <= most && $2 <= most && $3 <= most) }'
    result "$name: $w"
    rm -rf "$name" "$name.h5"
}

# The weights of a run of one step, the routers' zeroed.
zero_gates() # FILE
{
    head=$(od -An -t u8 -N8 "$1" | tr -d ' ') &&
        head -c $((8 + head)) "$1" | tail -c +9 | tr '}' '\n' |
        sed -n 's/.*"[^"]*mlp.gate.weight":.*"data_offsets": *\[\([0-9]*\), *\([0-9]*\)\].*/\1 \2/p' >gates && [ -s gates ] || return 1
    while read -r first end; do
        dd if=/dev/zero of="$1" bs=1 seek=$((8 + head + first)) count=$((end - first)) conv=notrunc 2>>log || return 1
    done <gates
}
weights_of_one()
{
    build one '[]' train.steps=1 && on_ranks 0 1 train one.h5 -o one >log 2>&1 && "$piper" checkpoint export one -o hf/ >log 2>&1 &&
        zero_gates hf/model.safetensors && build base '[]' && forced base 1
}
weights_of_one || { echo "Bail out! the 1-rank run failed"; cat log; exit 1; }

experts='"expert_bound":1,"overflow":"rounds"'
for kind in $schedules; do
    case_rounds "$kind" 4 16 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"placement\":\"$(place_of "$kind")\",$experts},
        {\"op\":\"schedule\",\"kind\":\"$kind\",\"microbatches\":4}]"
done
for kind in 1f1b zb-h1; do
    schedule="{\"op\":\"schedule\",\"kind\":\"$kind\",\"microbatches\":4}"
    case_rounds "$kind, recompute" 4 16 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,$experts},$schedule,{\"op\":\"recompute\",\"filter\":{}}]"
    case_rounds "$kind, received again" 4 16 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,$experts},$schedule,
        {\"op\":\"recompute\",\"filter\":{\"EP\":\"*\"},\"received\":\"again\"}]"
    case_rounds "$kind, zero 3" 4 16 "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"ep\":2,\"zero\":3,$experts},$schedule]"
done
case_rounds "four devices" 4 12 "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"ep\":4,$experts}]"
case_rounds "bound auto" 4 8 '[{"op":"layout","pp":1,"dp":4,"ep":4,"expert_bound":"auto"}]'
case_rounds "two groups of two, zero 2" 4 16 "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"ep\":2,\"zero\":2,$experts},{\"op\":\"split\",\"filter\":{},\"num_microbatches\":2}]"
case_rounds "shared sequences" 4 12 "[{\"op\":\"layout\",\"pp\":1,\"dp\":1,\"tp\":2,\"cp\":2,\"ep\":4,$experts}]"
case_rounds "room for all" 2 '' '[{"op":"layout","pp":1,"dp":2,"ep":2,"expert_bound":2,"overflow":"rounds"}]'

# two regions of one directive beside each other: a capacity bounds the rows of the first
echo "[{\"op\":\"layout\",\"dp\":4,\"ep\":2,$experts},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":2}]" >strategy.json
"$piper" build -m beside.json -s strategy.json -t sgd.json -o beside.h5 >log 2>&1 && "$piper" plan beside.h5 --dump 2>log | grep -q 'op=ROUNDS'
verdict "two regions of one directive, rounds in the second"

# bfloat16: against unbounded buffers, since products of fewer rows round no differently
pair='[{"op":"layout","pp":1,"dp":2,"ep":2'
build half "$pair}]" model.dtype=bfloat16 && forced half 2
result 'bfloat16 without a bound'
base=half most=1e-3 case_rounds "bfloat16" 2 4 "$pair,$experts}]" model.dtype=bfloat16
echo "1..$n"
