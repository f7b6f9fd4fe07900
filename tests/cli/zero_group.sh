#!/bin/sh
# time-limit: 60
# What is refused of groups for ZeRO (piper-strategy(5), replicate, zero_group), with its exact sentence, and what of the ranks follows
# from them. Prints TAP: a case a sentence.
. "${top_srcdir:-.}"/tests/cli/lib.sh || exit 99
sed 's/"batch_size": 8/"batch_size": 12/' adamw.json >train.json

echo '{"vocab_size": 256, "graph": [
  {"op": "embed", "name": "embed", "in": ["tokens"], "features": 32},
  {"op": "linear", "name": "q", "in": ["embed"], "out_features": 32},
  {"op": "linear", "name": "k", "in": ["embed"], "out_features": 32},
  {"op": "linear", "name": "v", "in": ["embed"], "out_features": 32},
  {"op": "attention", "name": "att", "in": ["q", "k", "v"], "heads": 4, "sinks": true},
  {"op": "head_loss", "name": "head", "in": ["att", "targets"]}]}' >sinks.json

layout() { echo "{\"op\":\"layout\",$1}"; }

refused llama '$[0]: zero_group 8 does not divide the 12 holders of PP=0' "$(layout '"dp":12,"zero":3,"zero_group":8')"
refused llama '$[0]: zero_group 2 does not divide the 1 holder of PP=0' "$(layout '"dp":1,"zero":1,"zero_group":2')"
refused llama '$[0]: zero_group 3 does not divide the 4 holders of PP=1' \
    '{"op":"replicate","filter":{"PP":1},"devices":["4-7"],"zero":2,"zero_group":3}' \
    '{"op":"replicate","filter":{"PP":0},"devices":["0-3"]}'
refused llama '$[0]: zero_group 4 does not divide the 2 holders of PP=0' "$(layout '"dp":2,"tp":2,"zero":1,"zero_group":4')"
refused qwen3_moe '$[0]: zero_group 3 is 3 devices, which is neither a multiple nor a divisor of the 2 of an expert group of EP=0 PP=0' \
    "$(layout '"dp":6,"ep":2,"zero":1,"zero_group":3')"
refused sinks '$[0]: zero_group 6 is 6 devices, which is neither a multiple nor a divisor of the 4 that share the heads of PP=0' \
    "$(layout '"cp":4,"dp":3,"exchange":"all-to-all","zero":1,"zero_group":6')"
refused llama '$[0]: "zero_group" has no effect without "zero" 1, 2 or 3' "$(layout '"dp":4,"zero_group":2')"
refused llama '$[0]: "zero_optimizer" has no effect without "zero_group"' "$(layout '"dp":4,"zero":1,"zero_optimizer":"all"')"
refused llama '$[0].zero_optimizer: found "none", expected "group" or "all"' \
    "$(layout '"dp":4,"zero":1,"zero_group":2,"zero_optimizer":"none"')"
refused llama '$[0].zero_group: found 1, expected an integer from 2 to 1048576' "$(layout '"dp":4,"zero":1,"zero_group":1')"
refused llama '$[0].zero_group: found "node", expected an integer from 2 to 1048576' \
    "$(layout '"dp":4,"zero":1,"zero_group":"node"')"
refused llama '$[0]: unknown key "zero_hpz_partition_size"; did you mean "zero_group"?' \
    "$(layout '"dp":4,"zero":3,"zero_hpz_partition_size":2')"
refused llama '$[0].op: unknown directive "hsdp", known: place, replicate, shard, split, order, recompute, stream, layout, schedule, shard_tensor, ring_exchange, fuse_collectives; did you mean "replicate"?' \
    '{"op":"hsdp"}'

# ranks DIRECTIVE N SENTENCE: on N ranks
ranks()
{
    echo "[$1]" >strategy.json
    "$piper" build -m llama.json -s strategy.json -t train.json -o open.h5 >out 2>&1 &&
        "$piper" plan open.h5 -n "$2" >out 2>&1
    code=$?
    cp out "$shown"
    [ $code -eq "$3" ] && grep -q "$4" out
    result "$5"
}
open=$(layout '"pp":2,"zero":2,"zero_group":3')
ranks "$open" 12 0 '6 data-parallel replicas, zero 2 in groups of 3$' "a layout without dp is built for whole groups"
ranks "$open" 8 65 'zero_group 3 does not divide the 4 holders of PP=0' "and refused for ranks that are none"
# plan says where groups would keep gathers inside a node of 8: of 12 ranks fours do, sixes would not
# noted NOTE KEYS OPTION...: of a plan on 12 ranks; NOTE none: there is none
noted()
{
    want=$1
    echo "[$(layout "\"dp\":12,\"zero\":3$2")]" >strategy.json
    shift 2
    "$piper" plan -m llama.json -s strategy.json -t train.json "$@" >out 2>&1
    code=$?
    cp out "$shown"
    if [ "$want" = none ]; then
        [ $code -eq 0 ] && ! grep -q '^note: zero 3' out
    else
        [ $code -eq 0 ] && grep -q "^note: zero 3 gathers parameters over $want" out
    fi
    result "plan $*: $want"
}
more='for .* more per rank, or .* with "zero_optimizer": "all"$'
noted "12 ranks on several nodes of H100; \"zero_group\": 4 keeps that inside a node, $more" '' --machine h100
noted "6 ranks on several nodes of H100; \"zero_group\": 4 keeps that inside a node, $more" ',"zero_group":6' --machine h100
noted none ',"zero_group":4' --machine h100
noted none '' --simulate
# experts on as many devices as a group has are not sharded, but all of their state can be
for optimizer in group all; do
    echo "[$(layout "\"dp\":4,\"ep\":2,\"zero\":3,\"zero_group\":2,\"zero_optimizer\":\"$optimizer\"")]" >strategy.json
    "$piper" build -m qwen3_moe.json -s strategy.json -t train.json -o moe.h5 >out 2>&1 && "$piper" plan moe.h5 --json >$optimizer.json
    cp out "$shown"
    [ -s $optimizer.json ]
    result "experts in groups as large as zero_group, state over $optimizer"
done
bytes() { sed -n "s/^ *\"optimizer\": \([0-9]*\).*/\1/p" "$1" | head -1; }
cat group.json all.json >"$shown"
[ "$(bytes all.json)" -lt "$(bytes group.json)" ]
result "state over all holders takes less"
echo "1..$n"
