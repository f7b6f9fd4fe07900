#!/bin/sh
# time-limit: 900
# A strategy changes speed, never the mathematics: one job under many strategies against its 1-rank run.
#
# The loss and the norm of step 1 agree within 1e-5 relative, all losses within 1e-4 (SGD) or 1e-3 (AdamW, whose first steps
# hide a wrong gradient scale; so both are run). Prints TAP: a case a strategy, with the worst deviations.
# RUNS names other pairs of model and optimizer than the quick ones.
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99

for pair in ${RUNS:-llama/sgd gpt2/sgd gpt2/adamw qwen3_moe/sgd}; do
    model=${pair%/*} opt=${pair#*/}
    limit=1e-4
    [ "$opt" = adamw ] && limit=1e-3
    base "$model" "$opt"
    tag=$model-$opt
    case_of "$tag 1 rank, 4 microbatches" 1 "$model" "$opt" $limit "$(layout 1 1 1f1b 4)"
    case_of "$tag dp=2" 2 "$model" "$opt" $limit "$(layout 1 2 gpipe 1)"
    case_of "$tag dp=4, 2 microbatches" 4 "$model" "$opt" $limit "$(layout 1 4 gpipe 2)"
    case_of "$tag pp=2 1f1b, 8 microbatches" 2 "$model" "$opt" $limit "$(layout 2 1 1f1b 8)"
    case_of "$tag pp=4 gpipe, 4 microbatches" 4 "$model" "$opt" $limit "$(layout 4 1 gpipe 4)"
    case_of "$tag pp=4 1f1b, 8 microbatches" 4 "$model" "$opt" $limit "$(layout 4 1 1f1b 8)"
    case_of "$tag pp=2 dp=2 1f1b, 4 microbatches" 4 "$model" "$opt" $limit "$(layout 2 2 1f1b 4)"
    case_of "$tag pp=2 dp=2 gpipe, 2 microbatches" 4 "$model" "$opt" $limit "$(layout 2 2 gpipe 2)"
    case_of "$tag pp=4 dp=2 1f1b, 8 microbatches" 8 "$model" "$opt" $limit "$(layout 4 2 1f1b 8)"
done

base llama sgd
# By hand: named streams, small buckets that cut layers, an order that is neither gpipe nor 1f1b, devices in another order.
case_of "primitives, small buckets" 4 llama sgd 1e-4 '[
 {"op":"split","filter":{},"dim_name":"MB","num_microbatches":2},
 {"op":"place","filter":{"PP":0},"devices":[2,0],"stream":"a"}, {"op":"place","filter":{"PP":1},"devices":[1,3],"stream":"b"},
 {"op":"replicate","filter":{"PP":0},"devices":[2,0],"reduce_stream":"dp","bucket_size":0.01},
 {"op":"replicate","filter":{"PP":1},"devices":[1,3],"bucket_size":0.005},
 {"op":"order","filters":[[{"PP":0,"MB":0,"PASS":"F"}],[{"PP":0,"MB":1,"PASS":"F"}],[{"PP":0,"MB":1,"PASS":"B"}],
  [{"PP":0,"MB":0,"PASS":"B"}]]}]'
case_of "backward split into BI and BW" 2 llama sgd 1e-4 '[
 {"op":"split","filter":{},"num_microbatches":2},
 {"op":"place","filter":{"PP":0},"devices":[0]}, {"op":"place","filter":{"PP":1},"devices":[1]},
 {"op":"order","filters":[[{"PP":1,"MB":0,"PASS":"F"}],[{"PP":1,"MB":0,"PASS":"BI"}],[{"PP":1,"MB":1,"PASS":"F"}],
  [{"PP":1,"MB":1,"PASS":"BI"}],[{"PP":1,"MB":0,"PASS":"BW"}],[{"PP":1,"MB":1,"PASS":"BW"}]]}]'

# Every attribute of attention; the keys and values of a layer have a second reader; zb-h1 runs the gradients of sinks apart.
{
    echo '{"vocab_size": 256, "graph": [{"op": "embed", "name": "e", "in": ["tokens"], "features": 32},'
    x=e
    for i in 1 2 3 4; do
        cat <<JSON
 {"op": "rmsnorm", "name": "b$i.norm", "in": ["$x"], "block": $i},
 {"op": "linear", "name": "b$i.q", "in": ["b$i.norm"], "out_features": 32},
 {"op": "linear", "name": "b$i.k", "in": ["b$i.norm"], "out_features": 16},
 {"op": "linear", "name": "b$i.v", "in": ["b$i.norm"], "out_features": 24},
 {"op": "attention", "name": "b$i.a", "in": ["b$i.q", "b$i.k", "b$i.v"], "heads": 4, "kv_heads": 2, "v_head_dim": 12,
  "window": $((3 * i)), "score_cap": 2.5, "scale": 0.4, "sinks": true},
 {"op": "attention", "name": "b$i.c", "in": ["b$i.q", "b$i.k", "b$i.v"], "heads": 4, "kv_heads": 2, "v_head_dim": 12},
 {"op": "add", "name": "b$i.both", "in": ["b$i.a", "b$i.c"]},
 {"op": "linear", "name": "b$i.out", "in": ["b$i.both"], "out_features": 32},
 {"op": "add", "name": "b$i.x", "in": ["$x", "b$i.out"]},
JSON
        x=b$i.x
    done
    echo ' {"op": "head_loss", "name": "head", "in": ["b4.x", "targets"], "block": 5}]}'
} >"$dir/attention.json"
base attention sgd
case_of "attention's attributes, 1 rank, 4 microbatches" 1 attention sgd 1e-4 "$(layout 1 1 1f1b 4)"
case_of "attention's attributes, pp=2 dp=2 zero 2 recomputed" 4 attention sgd 1e-4 '[{"op":"layout","pp":2,"dp":2,"zero":2},
 {"op":"schedule","kind":"1f1b","microbatches":4},{"op":"recompute","filter":{}}]'
case_of "attention's attributes, zb-h1" 2 attention sgd 1e-4 '[{"op":"layout","pp":2,"dp":1},
 {"op":"schedule","kind":"zb-h1","microbatches":4}]'

# The same command twice: the same bits.
train twice-a 4 gpt2 adamw "$(layout 2 2 1f1b 4)" && train twice-b 4 gpt2 adamw "$(layout 2 2 1f1b 4)" &&
    cut -d, -f1-5 "$dir/twice-a/metrics.csv" >"$dir/a" && cut -d, -f1-5 "$dir/twice-b/metrics.csv" >"$dir/b" && cmp -s "$dir/a" "$dir/b" &&
    "$piper" checkpoint diff "$dir"/twice-[ab]/checkpoints/step-000020.h5 >"$dir/log" 2>&1
result 'the same command twice gives the same bits'
echo "1..$n"
