#!/bin/sh
# time-limit: 60
# What is refused of microbatches in filters (piper-strategy(5), place, shard, recompute), with its exact sentence; and what of the memory
# follows from them. Prints TAP: a case a sentence.
. "${top_srcdir:-.}"/tests/cli/lib.sh || exit 99
sed 's/"batch_size": 8/"batch_size": 16/' adamw.json >train.json

m4='{"op":"split","filter":{},"num_microbatches":4}'
all='{"op":"replicate","filter":{},"devices":[0,1]}'
apart='{"op":"replicate","filter":{},"rotate":[[0,1],[2,3]]}'
shard() { echo "{\"op\":\"shard\",\"filter\":{\"EP\":\"*\"${1:+,}$1},\"devices\":$2}"; }

# ---- filters and sets in turn
refused llama '$[0].filter.MB: found "0-6:0", expected a number, a numeric string, a range "8-15" or "0-62:2", "*", "-" or null' \
    '{"op":"place","filter":{"MB":"0-6:0"},"devices":[0]}'
refused llama '$[0].filter.MB: found "2:", expected a number, a numeric string, a range "8-15" or "0-62:2", "*", "-" or null' \
    '{"op":"place","filter":{"MB":"2:"},"devices":[0]}'
refused llama '$[0].rotate: found a list of 2, expected a list of device sets such as [[0],[1]]: microbatch k is on set k modulo their number' \
    '{"op":"place","filter":{},"rotate":[0,1]}'
refused llama '$[0].rotate[1]: found a list of 2, expected 1 device, as in the first set' '{"op":"place","filter":{},"rotate":[[0],[1,2]]}'
refused llama '$[0]: "devices" and "rotate" are mutually exclusive: the one is a device set for all microbatches, the other a list of them in turn' \
    '{"op":"replicate","filter":{},"devices":[0],"rotate":[[0],[1]]}'
refused llama '$[0]: "devices" is missing: the devices of replica 0, 1, ... in order' '{"op":"place","filter":{}}'
refused llama 'device set [1,2] partly overlaps another one; two device sets must be equal or disjoint' \
    '{"op":"replicate","filter":{},"rotate":[[0,1],[1,2]]}' "$m4"
refused llama 'device 1 is used, device 0 is not: devices are numbered from 0 without gaps' '{"op":"place","filter":{},"rotate":[[1]]}'

# ---- experts
refused qwen3_moe '$[1]: experts are sharded in all passes of a microbatch: omit PASS from the filter' "$all" "$(shard '"PASS":"F"' '[0,1]')"
refused qwen3_moe '$[2]: EP=0 is sharded for MB=0 and not for MB=1: a device holds a part of the experts for all microbatches or for none; shard the others too' \
    "$all" "$m4" "$(shard '"MB":0' '[0,1]')"
refused qwen3_moe '$[3]: EP=0 MB=2 is already sharded by an earlier directive' \
    "$all" "$m4" "$(shard '"MB":"0-2"' '[0,1]')" "$(shard '"MB":"2-3"' '[0,1]')"
refused qwen3_moe '$[3]: EP=0 is sharded over groups of 1 devices for MB=1 and of 2 for MB=0; expected the same size for all microbatches' \
    "$all" "$m4" "$(shard '"MB":"0-3:2"' '[0,1]')" "$(shard '"MB":"1-3:2"' '[[0],[1]]')"
refused qwen3_moe '$[3]: device 1 has place 0 in its group for MB=1 of EP=0, and place 1 for an earlier microbatch; it holds one part of the experts, so expected the same place' \
    "$all" "$m4" "$(shard '"MB":"0-3:2"' '[0,1]')" "$(shard '"MB":"1-3:2"' '[1,0]')"
refused qwen3_moe '$[2]: EP=0 MB=1 is placed on [2,3]; the expert groups must cover exactly these devices, each once' \
    "$apart" "$m4" "$(shard '' '[0,1]')"
refused qwen3_moe '$[2]: no experts that the filter matches are on [4,5]' "$apart" "$m4" "$(shard '' '[[0,1],[2,3],[4,5]]')"
refused qwen3_moe '$[2]: EP=0 MB=0 is placed on [0,1]; the expert groups must cover exactly these devices, each once' \
    "$apart" "$m4" "$(shard '' '[[0,2],[1,3]]')"
refused qwen3_moe '$[3]: EP=0 has another "expert_bound" for MB=1 than for MB=0; expected the same for all microbatches' \
    "$apart" "$m4" "$(shard '"MB":"0-3:2"' '[0,1],"expert_bound":2')" "$(shard '"MB":"1-3:2"' '[2,3]')"
refused qwen3_moe '$[3]: EP=0 has another "overflow" for MB=1 than for MB=0; expected the same for all microbatches' \
    "$apart" "$m4" "$(shard '"MB":"0-3:2"' '[0,1],"expert_bound":1.5,"overflow":"rounds"')" "$(shard '"MB":"1-3:2"' '[2,3],"expert_bound":1.5')"
refused qwen3_moe '$[1].expert_bound: found 0.5, expected a number from 1 to 1000000' "$all" "$(shard '' '[0,1],"expert_bound":0.5')"
refused qwen3_moe '$[1].expert_bound: found "much", expected a number >= 1, or "auto": 1.5 with "overflow": "rounds"' \
    "$all" "$(shard '' '[0,1],"expert_bound":"much"')"
refused qwen3_moe '$[1].overflow: is about rows beyond "expert_bound", which is not set: memory is planned for the worst case; set it, e.g. to 1.5, or omit "overflow"' \
    "$all" "$(shard '' '[0,1],"overflow":"rounds"')"
refused qwen3_moe '$[0].overflow: is about rows beyond "expert_bound", which is not set: memory is planned for the worst case; set it, e.g. to 1.5, or omit "overflow"' \
    '{"op":"layout","pp":1,"dp":2,"ep":2,"overflow":"stop"}'
refused qwen3_moe '$[1].overflow: found "drop", expected "stop" or "rounds"; did you mean "stop"?' "$all" "$(shard '' '[0,1],"expert_bound":2,"overflow":"drop"')"
refused qwen3_moe '$[1].overflow: conflicts with "expert_bound": "auto", which is 1.5 with "overflow": "rounds"; set "expert_bound" to 1.5' \
    "$all" "$(shard '' '[0,1],"expert_bound":"auto","overflow":"stop"')"

# ---- recomputation
refused llama '$[0]: recompute acts on chunks and microbatches: omit PASS from the filter' '{"op":"recompute","filter":{"PASS":"B"}}'
refused llama '$[1]: this filter matches nothing; the model'"'"'s chunks are: chunk 0 (embed ..); microbatches 0 to 3, a backward is B, or BI and BW where an order splits it' \
    "$m4" '{"op":"recompute","filter":{"MB":4}}'

refused qwen3_moe '$[0].received: found "twice", expected "keep" or "again"' '{"op":"recompute","filter":{},"received":"twice"}'
refused qwen3_moe '$[0]: "received": "again": the filter matches no experts, which alone receive rows that can be sent again; add "EP":"*" to the filter' \
    '{"op":"recompute","filter":{"EP":"-"},"received":"again"}'

# ---- ends of the model that go in turn to all ranks; what of a layout a sentence is about
f1b='{"op":"schedule","kind":"1f1b","microbatches":4}'
refused llama '$[0].head: found "spred", expected "stage" or "spread"; did you mean "spread"?' '{"op":"layout","pp":2,"dp":1,"head":"spred"}'
refused llama '$[0]: "head": "spread" has no effect without "pp" > 1' '{"op":"layout","pp":1,"dp":1,"head":"spread"}'
refused llama '$[0]: "encoder": "spread" conflicts with "placement":"v"; it requires "standard": the other stages are one per rank' \
    '{"op":"layout","pp":2,"dp":1,"placement":"v","encoder":"spread"}'
refused llama '$[0]: "head": "spread" conflicts with tp=2 and cp=1: devices that share sequences have one place for all microbatches' \
    '{"op":"layout","pp":2,"dp":1,"tp":2,"head":"spread"}'
refused llama '$[0]: "zb-v" has several stages per rank, the layout in this list a "head" that is "spread": that takes a schedule with the placement "standard", such as 1f1b' \
    '{"op":"schedule","kind":"zb-v","microbatches":4}' '{"op":"layout","pp":2,"dp":1,"placement":"v","head":"spread"}'
refused llama 'the strategy has 5 pipeline stages, but the model has 4 layers: use at most 4 stages, or annotate the model'"'"'s regions with PP' \
    '{"op":"layout","pp":5,"dp":1,"encoder":"spread","head":"spread"}' "$f1b"
cp "$src/tests/zoo/model-head.json" head.json
refused head '$[0]: pp=3 with the head spread needs 4 stages, the model is annotated with 3: annotate what is spread as a stage of its own' \
    '{"op":"layout","pp":3,"dp":1,"head":"spread"}' "$f1b"
cp train.json usual.json
sed 's/"seq_len": 16/"seq_len": 24/' usual.json >train.json
refused llama '$[0].tp: layers.0.attn.core has 4 heads, which do not split over 3 devices; use 2 or 4, or "cp" in place of it' '{"op":"layout","tp":3,"dp":1}'
mv usual.json train.json
refused qwen3_moe '$[0].ep: EP=0 PP=0 has 4 experts, which do not split evenly over 8 devices' '{"op":"layout","dp":8,"ep":8}'

# kept DIRECTIVE...: bytes of activations that all microbatches of gpipe keep, in KiB
kept()
{
    echo "[{\"op\":\"layout\",\"pp\":1,\"dp\":1},{\"op\":\"schedule\",\"kind\":\"gpipe\",\"microbatches\":4}${1:+,}$1]" >strategy.json
    "$piper" build -m llama.json -s strategy.json -t train.json -o kept.h5 >out 2>&1 &&
        "$piper" plan kept.h5 --json >plan.json 2>>out && sed -n 's/.*"activations": *\([0-9]*\).*/\1/p' plan.json | head -n 1
}
none=$(kept '') half=$(kept '{"op":"recompute","filter":{"MB":"0-3:2"}}') whole=$(kept '{"op":"recompute","filter":{}}')
echo "activations: none recomputed $none, every second microbatch $half, all $whole" >"$shown"
[ "${whole:-0}" -gt 0 ] && [ "$half" -gt $((whole + (none - whole) / 3)) ] && [ "$half" -lt $((whole + 2 * (none - whole) / 3)) ]
result "every second microbatch recomputed keeps half: $none, $half, $whole"

# gradients CLIP: bytes of them, of a job whose layers are reduced on a stream of their own
gradients()
{
    echo '[{"op":"replicate","filter":{},"devices":[0,1],"bucket_size":"layer","reduce_stream":"dp"}]' >strategy.json
    "$piper" build -m llama.json -s strategy.json -t train.json -o grads.h5 --set train.clip_norm="$1" >out 2>&1 &&
        "$piper" plan grads.h5 --dump >dump 2>>out && "$piper" plan grads.h5 --json >plan.json 2>>out &&
        sed -n 's/.*"grads": *\([0-9]*\).*/\1/p' plan.json | head -n 1
}
clipped=$(gradients 1)
grep 'op=UPDATE\|op=RUN' dump | sed -n '/op=UPDATE/,$p' | grep -q op=RUN && order=early || order=late
[ "$order" = late ]
result 'with clipping all updates stand behind the last backward'
early=$(gradients 0)
grep 'op=UPDATE\|op=RUN' dump | sed -n '/op=UPDATE/,$p' | grep -q op=RUN
result 'without clipping updates stand behind the reduction of their bucket'
echo "gradients: with clipping $clipped, without $early" >"$shown"
[ "${early:-0}" -gt 0 ] && [ $((4 * early)) -lt $((3 * clipped)) ]
result "and layers share memory of gradients: $clipped bytes, $early"
echo "1..$n"
