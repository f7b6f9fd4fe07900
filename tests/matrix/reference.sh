#!/bin/sh
# time-limit: 300
# Schedule files of the reference (arXiv 2606.11169) run as they are: the forms that its base schedules and its builders write
# (two stages on [0,2] and [1,3], experts split over both copies, buckets, shard_grads, shard_params, several stages a device,
# V placement, its own orders with an overlapped pair), and the older forms of filters and devices. Written anew here. What
# it refuses, we refuse with a sentence. Prints TAP.
. "${top_srcdir:-.}"/tests/matrix/lib.sh || exit 99
steps=5
base qwen3_moe sgd
base llama sgd

# stages "0 2;1 3" OPTIONS STREAM: place, replicate and shard for each stage's devices, as its scripts write them
stages()
{
    k=0 out=
    for devices in $1; do
        out="$out{\"op\":\"place\",\"filter\":{\"PP\":$k},\"devices\":[$devices],\"stream\":\"pp_stream\"},"
        out="$out{\"op\":\"replicate\",\"filter\":{\"PP\":$k},\"devices\":[$devices],\"reduce_stream\":\"dp_stream\"$2},"
        out="$out{\"op\":\"shard\",\"filter\":{\"PP\":$k,\"EP\":\"*\"},\"devices\":[$devices],\"stream\":\"$3\"},"
        k=$((k + 1))
    done
    echo "$out"
}
split='{"op":"split","filter":{},"dim_name":"MB","num_microbatches":2}'
f() { echo "{\"PP\":$1,\"MB\":$2,\"PASS\":\"$3\"}"; }
row0="{\"op\":\"order\",\"filters\":[[$(f 0 0 F)],[$(f 0 1 F)],[$(f 0 0 B)],[$(f 0 1 B)]]}"
row1="{\"op\":\"order\",\"filters\":[[$(f 1 0 F)],[$(f 1 0 B),$(f 1 1 F)],[$(f 1 1 B)]]}"
zb0="{\"op\":\"order\",\"filters\":[[$(f 0 0 F)],[$(f 0 1 F)],[$(f 0 0 BI)],[$(f 0 0 BW)],[$(f 0 1 BI)],[$(f 0 1 BW)]]}"
zb1="{\"op\":\"order\",\"filters\":[[$(f 1 0 F)],[$(f 1 0 BI)],[$(f 1 1 F)],[$(f 1 1 BI)],[$(f 1 0 BW)],[$(f 1 1 BW)]]}"

case_of "dp2" 2 llama sgd 1e-4 '[{"op":"place","filter":{"PP":0},"devices":[0,1]},
    {"op":"replicate","filter":{"PP":0},"devices":[0,1],"reduce_stream":"dp_stream"}]'
case_of "pp2 dp2 ep2" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3' '' ep_stream)$split]"
case_of "pp2 dp2 ep2, buckets" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3' ',"bucket_size":100' ep_stream)$split]"
case_of "pp2 dp2 ep2, its own order with an overlapped pair" 4 qwen3_moe sgd 1e-4 \
    "[$(stages '0,2 1,3' '' ep_stream)$split,$row0,$row1]"
case_of "pp2 dp2 ep2, shard_grads" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3' ',"shard_grads":true' dp_stream)$split]"
case_of "pp2 dp2 ep2, shard_params, one stream for gathers and reductions" 4 qwen3_moe sgd 1e-4 \
    "[$(stages '0,2 1,3' ',"gather_stream":"dp_stream","shard_grads":true,"shard_params":true,"bucket_size":1000' dp_stream)$split]"
case_of "four stages on two devices each, interleaved" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3 0,2 1,3' '' ep_stream)$split]"
case_of "four stages, V placement" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3 1,3 0,2' '' ep_stream)$split]"
case_of "zero bubble by BI and BW" 4 qwen3_moe sgd 1e-4 "[$(stages '0,2 1,3' '' ep_stream)$split,$zb0,$zb1]"
case_of "older forms: pairs, numeric strings, device, null and -" 4 qwen3_moe sgd 1e-4 \
    "[{\"op\":\"place\",\"filter\":[[\"PP\",\"0\"]],\"device\":[0,2]},{\"op\":\"place\",\"filter\":[[\"PP\",1]],\"device\":[1,3]},
      {\"op\":\"replicate\",\"filter\":{\"PP\":0,\"EP\":null},\"devices\":[0,2]},
      {\"op\":\"replicate\",\"filter\":{\"PP\":0,\"EP\":\"*\"},\"devices\":[0,2]},
      {\"op\":\"replicate\",\"filter\":{\"PP\":\"1\",\"EP\":\"-\"},\"devices\":[1,3]},
      {\"op\":\"replicate\",\"filter\":{\"PP\":\"1\",\"EP\":\"0-9\"},\"devices\":[1,3]},$split]"

# refused NAME TEXT STRATEGY: exit status 65, and the sentence says TEXT
refused()
{
    n=$((n + 1))
    echo "$3" >"$dir/strategy.json"
    status=0
    { "$piper" build -m "$dir/qwen3_moe.json" -s "$dir/strategy.json" -t "$dir/sgd.json" -o "$dir/no.h5" &&
        "$piper" plan "$dir/no.h5"; } >"$dir/log" 2>&1 || status=$?
    if [ $status = 65 ] && grep -q -e "$2" "$dir/log"; then
        echo "ok $n - refused: $1"
    else
        echo "not ok $n - refused: $1: exit status $status, expected 65 and '$2'"
        sed 's/^/# /' "$dir/log"
    fi
}
place='{"op":"place","filter":{"PP":0},"devices":[0]},{"op":"place","filter":{"PP":1},"devices":[1]}'
refused 'a tag that the model lacks' 'no tag "TP"' '[{"op":"place","filter":{"TP":0},"devices":[0]}]'
refused 'stream in replicate' 'stream' '[{"op":"replicate","filter":{},"devices":[0,1],"stream":"a"}]'
refused 'one group in an order' 'at least two groups' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 F)]]}]"
refused 'an empty group' 'at least one filter' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 F)],[]]}]"
refused 'BW before BI' 'precedes its BI' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 BW)],[$(f 0 0 BI)]]}]"
refused 'BI without BW' 'no BW' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 F)],[$(f 0 0 BI)]]}]"
refused 'an order over two device sets' 'device set' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 F)],[$(f 1 0 F)]]}]"
refused 'PASS that is none' '"F", "B", "BI", "BW"' "[$place,$split,{\"op\":\"order\",\"filters\":[[$(f 0 0 FWD)],[$(f 0 1 F)]]}]"
echo "1..$n"
