#!/bin/sh
# What compiling, verifying and memory planning cost at thousands of ranks: the Qwen3-MoE 9B shape, dualpipev, 8 stages by 8 expert
# ranks, on one core. Prints a table with the growth per doubling, and TAP: at 16,384 ranks with 64 microbatches the goal is a
# second and a GiB; LIMIT seconds of processor time (default 5: the machine may be slow or shared) and 1 GiB fail. Then a llama of
# 64 stages and 128 to 1,024 microbatches: the time of the compiler grows as nodes x log(nodes), with GROWTH (default 1.25) to spare; and as the layers of a model on one rank.
# Last, sequences shared: a llama of 70 billion parameters on 16,384 ranks with tp 8 and cp 2, beside the same without; and one of 8 billion
# with sequences of 1,048,576 tokens on groups of 512, of which every rank fits 80 GB. And plans of a million ranks.
piper=$(realpath "${PIPER:-./piper}")
limit=${LIMIT:-5}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99
cat >model.json <<'END'
{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 32,
 "num_key_value_heads": 8, "head_dim": 64, "num_experts": 8, "num_experts_per_tok": 2, "moe_intermediate_size": 7168,
 "rope_theta": 1000000.0, "tie_word_embeddings": false}
END
# field NAME: of the JSON that piper plan printed
field()
{
    sed -n "s/^ *\"$1\": \([0-9.e+-]*\),*\$/\1/p" plan.json
}
n=0
last=
printf '# %7s %4s %9s %8s %8s %8s %10s %8s %7s %s\n' ranks mb nodes 'compile' 'verify' 'cpu s' 'plan bytes' 'a rank' 'MiB' \
    'growth per doubling of ranks'
for mb in 64 256; do
    last=
    for dp in 8 128 512 2048; do
        ranks=$((8 * dp))
        echo "[{\"op\": \"layout\", \"pp\": 8, \"dp\": $dp, \"ep\": 8, \"zero\": 1, \"placement\": \"v\"},
            {\"op\": \"schedule\", \"kind\": \"dualpipev\", \"microbatches\": $mb}]" >strategy.json
        echo "{\"batch_size\": $((dp * mb)), \"seq_len\": 4096, \"steps\": 1, \"dtype\": \"bfloat16\"}" >train.json
        "$piper" build -m model.json -s strategy.json -t train.json -o job.h5 >log 2>&1 || { cat log; exit 99; }
        bash -c "TIMEFORMAT='%U %S'; time '$piper' plan job.h5 --json >plan.json" 2>cpu || { cat cpu; exit 99; }
        bash -c "ulimit -v 1048576 && exec '$piper' plan job.h5 --json" >/dev/null 2>&1
        fits=$?
        cpu=$(awk '{ print $1 + $2 }' cpu)
        kib=$(command -v /usr/bin/time >/dev/null && /usr/bin/time -f %M "$piper" plan job.h5 --json 2>&1 >/dev/null)
        growth=$(awk -v a="$last" -v b="$cpu" -v k="$ranks" 'BEGIN { if (a > 0) printf "%.2f", (b / a) ^ (1 / (k == 1024 ? 4 : 2)) }')
        printf '# %7d %4d %9d %8.3f %8.3f %8.2f %10d %8d %7s %s\n' $ranks $mb "$(field nodes)" "$(field compile_seconds)" \
            "$(field verify_seconds)" "$cpu" "$(field plan_bytes)" $(($(field plan_bytes) / 8)) "$((${kib:-0} / 1024))" "$growth"
        last=$cpu
        n=$((n + 1))
        [ $fits -eq 0 ] && awk -v c="$cpu" -v l="$limit" -v m=$mb 'BEGIN { exit !(c < l * m / 64) }' || printf 'not '
        echo "ok $n - $ranks ranks, $mb microbatches: within a GiB and $((limit * mb / 64)) s"
    done
done
echo '{"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 64,
 "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}' >model.json
# measure [OPTION...]: the best of three plans, in seconds of processor time: cpu; its nodes: nodes.
measure()
{
    cpu=999999
    for _ in 1 2 3; do
        bash -c "TIMEFORMAT='%U %S'; time '$piper' plan job.h5 --json $* >plan.json" 2>took || { cat took; exit 99; }
        cpu=$(awk -v best="$cpu" '{ s = $1 + $2 } END { print s < best ? s : best }' took)
    done
    nodes=$(field nodes)
}
last=
for mb in 128 256 512 1024; do
    echo "[{\"op\": \"layout\", \"pp\": 64, \"dp\": 4}, {\"op\": \"schedule\", \"kind\": \"1f1b\", \"microbatches\": $mb}]" >strategy.json
    echo "{\"batch_size\": $((4 * mb)), \"seq_len\": 16, \"steps\": 1}" >train.json
    "$piper" build -m model.json -s strategy.json -t train.json -o job.h5 >log 2>&1 || { cat log; exit 99; }
    measure
    printf '# 64 stages, %4d microbatches: %7d nodes, %6.2f s, verify %s s of it\n' $mb "$nodes" "$cpu" "$(field verify_seconds)"
    [ -n "$last" ] || last="$nodes $cpu"
done
n=$((n + 1))
awk -v a="$last" -v b="$nodes $cpu" -v spare="${GROWTH:-1.25}" 'BEGIN { split(a, x); split(b, y)
    exit !(y[2] / x[2] <= spare * y[1] * log(y[1]) / (x[1] * log(x[1]))) }' || printf 'not '
echo "ok $n - eight times the microbatches: time grows no faster than nodes x log(nodes)"
# One chunk as long as the model: nothing in it may be looked for operator by operator.
echo '[]' >strategy.json
echo '{"batch_size": 4, "seq_len": 16, "steps": 1}' >train.json
last=
for layers in 500 1000 2000 4000; do
    sed -i "s/\"num_hidden_layers\": [0-9]*/\"num_hidden_layers\": $layers/" model.json
    "$piper" build -m model.json -s strategy.json -t train.json -o job.h5 >log 2>&1 || { cat log; exit 99; }
    measure
    printf '# one rank, %4d layers: %6.2f s\n' $layers "$cpu"
    [ -n "$last" ] || last=$cpu
done
n=$((n + 1))
awk -v a="$last" -v b="$cpu" -v spare="${GROWTH:-1.25}" 'BEGIN { exit !(b / a <= spare * 8 * log(4000) / log(500)) }' || printf 'not '
echo "ok $n - eight times the layers in one chunk: time grows no faster than layers x log(layers)"
# shared LAYOUT MICROBATCHES BATCH TOKENS: as a plan for cuda, the best of three
shared()
{
    echo "[{\"op\": \"layout\", $1, \"zero\": 1}, {\"op\": \"schedule\", \"kind\": \"1f1b\", \"microbatches\": $2}]" >strategy.json
    echo "{\"batch_size\": $3, \"seq_len\": $4, \"steps\": 1, \"dtype\": \"bfloat16\"}" >train.json
    "$piper" build -m model.json -s strategy.json -t train.json -o job.h5 >log 2>&1 || { cat log; exit 99; }
    measure --device cuda
    printf '# %-40s %7d nodes, compile %s s, verify %s s, %6.2f s of a processor\n' "$1" "$nodes" "$(field compile_seconds)" \
        "$(field verify_seconds)" "$cpu"
}
# llama WIDTH FFN LAYERS HEADS TOKENS
llama()
{
    echo "{\"model_type\": \"llama\", \"vocab_size\": 128256, \"hidden_size\": $1, \"intermediate_size\": $2,
        \"num_hidden_layers\": $3, \"num_attention_heads\": $4, \"num_key_value_heads\": 8, \"tie_word_embeddings\": false,
        \"max_position_embeddings\": $5, \"rope_theta\": 500000.0}" >model.json
}
llama 8192 28672 80 64 8192
for mb in 64 256; do
    shared '"pp": 16, "dp": 1024' $mb $((1024 * mb)) 8192
    shared '"pp": 16, "dp": 64, "tp": 8, "cp": 2' $mb $((64 * mb)) 8192
    n=$((n + 1))
    awk -v c="$cpu" -v l="$limit" -v m=$mb 'BEGIN { exit !(c < l * m / 256) }' || printf 'not '
    echo "ok $n - 16,384 ranks, tp 8, cp 2, $mb microbatches: within $((limit * mb / 256)) s"
done
llama 4096 14336 32 32 1048576
shared '"pp": 1, "dp": 2, "tp": 8, "cp": 64, "vocab": true' 2 4 1048576
device=$(sed -n 's/^ *"device": \([0-9]*\),*$/\1/p' plan.json | sort -n | tail -n 1)
n=$((n + 1))
awk -v c="$cpu" -v d="$device" 'BEGIN { exit !(c < 3 && d > 1e9 && d < 80e9) }' || printf 'not '
echo "ok $n - 1,048,576 tokens, tp 8, cp 64: within 3 s, and $((device / 1000000)) MB of a device with 80 GB"
# The goals of large plans, a job each: LAYOUT MICROBATCHES RANKS SECONDS, with --json=classes; LIMIT scales them.
echo '{"model_type": "llama", "vocab_size": 512, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 64,
 "num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}' >model.json
while read -r pp dp mb goal; do
    echo "[{\"op\": \"layout\", \"pp\": $pp, \"dp\": $dp}, {\"op\": \"schedule\", \"kind\": \"1f1b\", \"microbatches\": $mb}]" >strategy.json
    echo "{\"batch_size\": $((dp * mb)), \"seq_len\": 16, \"steps\": 1}" >train.json
    "$piper" build -m model.json -s strategy.json -t train.json -o job.h5 >log 2>&1 || { cat log; exit 99; }
    measure --json=classes
    printf '# %d ranks, %d stages, %d microbatches: %6.2f s\n' $((pp * dp)) "$pp" "$mb" "$cpu"
    n=$((n + 1))
    awk -v c="$cpu" -v g="$goal" -v l="$limit" 'BEGIN { exit !(c < g * l / 5) }' || printf 'not '
    echo "ok $n - $((pp * dp)) ranks, $pp stages, $mb microbatches: within $goal s"
done <<'END'
16 8192 64 0.5
16 65536 64 2
64 512 4096 6
END
echo "1..$n"
