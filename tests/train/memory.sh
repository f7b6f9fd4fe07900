#!/bin/sh
# time-limit: 300
# What piper plan says of memory is what a run takes: arenas as planned, touched bytes with our own allocations within 5% of the
# total, and no allocation in a step, training and evaluation, under every way to keep parameters.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99

# large enough that page sizes and tables do not count
cat >big.json <<'JSON'
{"model_type": "llama", "vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 4, "num_attention_heads": 4,
 "num_key_value_heads": 2, "intermediate_size": 512, "tie_word_embeddings": true}
JSON
cat >bigmoe.json <<'JSON'
{"model_type": "qwen3_moe", "vocab_size": 2048, "hidden_size": 256, "num_hidden_layers": 2, "num_attention_heads": 4,
 "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 512, "moe_intermediate_size": 256, "num_experts": 8,
 "num_experts_per_tok": 2, "capacity_factor": 1.25, "tie_word_embeddings": false}
JSON
head -c 3000 text >few && "$piper" data text few -o few.h5 >out 2>&1
result 'data'

# case_of NAME RANKS MODEL STRATEGY
case_of()
{
    echo "$4" >case.json
    build case "$3" case train.steps=3 train.seq_len=64 train.eval_data=few.h5 train.eval_every=2 train.checkpoint_every=1
    rm -rf r
    "$piper" plan case.h5 --json >plan.txt 2>out && train "$2" case r &&
        total=$(grep -o '"total": *[0-9]*' plan.txt | awk '$2 > most { most = $2 } END { printf "%.1f", most / 1048576 }') &&
        grep 'peak memory per rank: .* planned.* allocations in steps: [0-9]*$' r/log.txt |
        sed 's/.*peak memory per rank//; s/[^0-9. ]//g' >seen &&
        echo "plan $total MiB; planned, touched, own, resident, allocations: $(cat seen)" >out &&
        awk -v total="$total" '{ used = $2 + $3
            ok = $1 == total && used >= 0.95 * total && used <= 1.05 * total && $4 >= $2 && $5 == 0 }
            END { exit !(NR == 1 && ok) }' seen
    result "$1"
}
case_of 'one rank' 1 big '[]'
case_of 'recompute' 1 big '[{"op":"recompute","filter":{}}]'
case_of 'pp2 dp2 1f1b' 4 big "$(layout 2 2 1f1b 2)"
case_of 'pp4 gpipe' 4 big "$(layout 4 1 gpipe 8)"
case_of 'pp2 zb-v' 2 big '[{"op":"layout","pp":2,"dp":1,"placement":"v"},{"op":"schedule","kind":"zb-v","microbatches":4}]'
for z in 0 1 2 3; do
    case_of "dp2 zero $z" 2 big "[{\"op\":\"replicate\",\"filter\":{},\"devices\":[0,1],\"zero\":$z}]"
done
case_of 'experts over 2' 2 bigmoe "$(experts '[0,1]')"
case_of 'experts over 4' 4 bigmoe "$(experts '[0,1,2,3]')"

# What checkpoints beside training cost: parameters and moments in float32, each once over all ranks; with sync nothing.
echo '[{"op":"replicate","filter":{},"devices":[0,1],"zero":1}]' >case.json
build case big case train.steps=3 train.checkpoint_every=1
rm -rf r
"$piper" plan case.h5 --json >plan.txt 2>out && train 2 case r --checkpoint sync &&
    awk -F': *' '/"params"/ { params = $2 + 0 } /"snapshot"/ { sum += snapshot = $2 } /"total"/ { total = $2 - snapshot }
        END { printf "%.1f\n", total / 1048576; exit !(sum >= 3 * params && sum <= 3.01 * params) }' plan.txt >want &&
    sed -n 's/.*peak memory per rank: \([0-9.]*\) MiB planned.*/\1/p' r/log.txt >got && diff want got >>out
result 'snapshots hold the state once, and there are none with --checkpoint sync'

# ---- a control group of the kernel's own, below the one this test is in: a plan that fits it trains, one that does not is refused before
# the kernel would kill it
own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup 2>/dev/null)
group=/sys/fs/cgroup/memory$own limit=memory.limit_in_bytes
[ -n "$own" ] || group=/sys/fs/cgroup$(sed -n 's/^0:://p' /proc/self/cgroup 2>/dev/null) limit=memory.max
group=$group/piper-test-$$
if mkdir "$group" 2>/dev/null && [ -w "$group/$limit" ]; then
    # the kernel may not be done yet with what has left it
    trap 'for i in 1 2 3 4 5 6 7 8 9 10; do rmdir "$group" 2>/dev/null && break; sleep 0.2; done; rm -rf "$dir"' EXIT
    # within MIB: one rank trains in a group of so much; $got: its exit status
    within()
    {
        got=0
        rm -rf r
        echo $(($1 << 20)) >"$group/$limit" &&
            sh -c 'echo $$ >"$0" && exec "$@"' "$group/cgroup.procs" "$piper" train case.h5 -o r >out 2>&1 || got=$?
        echo "$1 MiB: exit status $got" >>out
    }
    echo '[]' >case.json
    build case big case train.steps=3 train.batch_size=64 train.seq_len=64
    "$piper" plan case.h5 --json >plan.txt 2>out
    total=$(grep -o '"total": *[0-9]*' plan.txt | awk '{ printf "%d", $2 / 1048576 }')
    within $((total + 200)) && [ $got -eq 0 ] && [ "$(last_step r)" -eq 3 ]
    result 'a control group with room for the plan'
    within $((total - 5)) && [ $got -eq 71 ] && [ "$(grep -c '^piper: ' out)" -eq 1 ] &&
        grep -q "^piper: .*limited by the cgroup .*piper-test" out && [ ! -e r/metrics.csv ]
    result 'one without: 71 with a sentence, instead of a kill'
else
    [ ! -d "$group" ] || rmdir "$group"
    for case in 'with room for the plan' without; do
        n=$((n + 1))
        echo "ok $n - a control group $case # SKIP this user cannot make one that limits memory"
    done
fi
echo "1..$n"
