#!/bin/sh
# piper plan --device cuda, on a machine that has none: a bfloat16 job's parameters take 2 bytes, its gradients and masters 4,
# whatever is sharded; what cannot run is refused. Prints TAP.
piper=${PIPER:-./piper}
dir=$(mktemp -d) || exit 99
trap 'rm -rf "$dir"' EXIT
. "${top_srcdir:-.}/tests/tap.sh" || exit 99

# bytes KIND PLAN: of rank 0.
bytes()
{
    sed -n "s/.*\"$1\": *\([0-9]*\).*/\1/p" "$2" | head -n 1
}

# near A B: A within 2% of B.
near()
{
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a > 0.98 * b && a < 1.02 * b) }'
}

cat >"$dir/model.json" <<'EOS'
{"model_type": "gpt2", "vocab_size": 5021, "n_embd": 256, "n_layer": 4, "n_head": 4, "n_positions": 128}
EOS
cat >"$dir/train.json" <<'EOS'
{"optimizer": {"kind": "adamw"}, "lr": {"kind": "constant", "peak": 0.001}, "batch_size": 8, "seq_len": 128, "steps": 1,
 "seed": 1, "dtype": "bfloat16", "data": "tokens.h5"}
EOS

# plan NAME STRATEGY RANKS [SET]: compiles for cuda, into NAME.plan.
plan()
{
    echo "$2" >"$dir/strategy.json"
    if ! "$piper" build -m "$dir/model.json" -s "$dir/strategy.json" -t "$dir/train.json" -o "$dir/$1.h5" ${4:+--set "$4"} \
        >"$dir/out" 2>&1 || ! "$piper" plan "$dir/$1.h5" -n "$3" --device cuda --json >"$dir/$1.plan" 2>>"$dir/out"; then
        sed 's/^/# /' "$dir/out"
        return 1
    fi
}

plan wide '[]' 1 train.dtype=float32
result "float32"
p=$(bytes params "$dir/wide.plan")
plan narrow '[]' 1
result "bfloat16"
near "$(bytes params "$dir/narrow.plan")" $((p / 2))
result "parameters: half of float32's"
near "$(bytes grads "$dir/narrow.plan")" "$(bytes grads "$dir/wide.plan")"
result "gradients: float32"
near "$(bytes optimizer "$dir/narrow.plan")" $((3 * p))
result "optimizer: masters and two moments, float32"
near "$(bytes optimizer "$dir/wide.plan")" $((2 * p))
result "optimizer of a float32 job: two moments"
for zero in 0 1 2 3; do
    plan "zero$zero" "[{\"op\":\"layout\",\"pp\":1,\"dp\":4,\"zero\":$zero}]" 4
    result "level $zero"
    share=$((zero > 0 ? 4 : 1))
    near "$(bytes optimizer "$dir/zero$zero.plan")" $((3 * p / share))
    result "level $zero: optimizer with masters over $share"
done
[ "$(bytes params "$dir/zero3.plan")" -lt "$(bytes params "$dir/zero2.plan")" ]
result "level 3: fewer parameters in memory at a time"
plan pipeline '[{"op":"layout","pp":2,"dp":2,"zero":1},{"op":"schedule","kind":"1f1b","microbatches":2},
                {"op":"recompute","filter":{}}]' 4
result "pipeline, shards and recomputation"
"$piper" plan "$dir/narrow.h5" --device cuda >"$dir/text"
grep -q 'for cuda with 108 multiprocessors$' "$dir/text"
result "said to be for cuda"

# Memory of the device is all but snapshots and the communication's own; on a CPU all is the host's.
sum()
{
    [ $(($(bytes device "$1") + $(bytes host "$1"))) -eq "$(bytes total "$1")" ]
}
split=$dir/zero1.plan
sum "$split" && [ "$(bytes host "$split")" -ge "$(bytes snapshot "$split")" ] && [ "$(bytes snapshot "$split")" -gt 0 ] &&
    [ "$(bytes device "$split")" -ge $(($(bytes params "$split") + $(bytes grads "$split") + $(bytes optimizer "$split"))) ]
result "total is the device's and the host's; snapshots are the host's"
"$piper" plan "$dir/zero1.h5" -n 4 --json >"$dir/cpu.plan" && sum "$dir/cpu.plan" && [ "$(bytes device "$dir/cpu.plan")" -eq 0 ]
result "a CPU's is all the host's"
"$piper" plan "$dir/zero1.h5" -n 4 --device cuda >"$dir/text" && grep -q ' device  *host  *total  *libraries$' "$dir/text" &&
    "$piper" plan "$dir/zero1.h5" -n 4 >"$dir/text" && ! grep -q ' device  *host ' "$dir/text"
result "the table has both where there is a device"

# Attention on tensor cores takes any length; without them, for other head sizes and in float32, 4096 tokens.
heads() # N WIDTH [SET]: 8192 tokens
{
    echo "{\"model_type\": \"gpt2\", \"vocab_size\": 512, \"n_embd\": $2, \"n_layer\": 1, \"n_head\": $1, \"n_positions\": 8192}" \
        >"$dir/long.json"
    "$piper" build -m "$dir/long.json" -s "$dir/strategy.json" -t "$dir/train.json" -o "$dir/long.h5" --set train.seq_len=8192 \
        ${3:+--set "$3"} >"$dir/out" 2>&1 && "$piper" plan "$dir/long.h5" -n 1 --device cuda --json >"$dir/out" 2>&1
}
echo '[]' >"$dir/strategy.json"
heads 32 256 && heads 3 240 && heads 2 384 && heads 1 256
result "heads of 8, 80, 192 and 256 take 8192 tokens"
! heads 1 264 && grep -q 'above 256 or not a multiple of 8' "$dir/out" && ! heads 2 40 && grep -q 'above 256 or not a multiple of 8' "$dir/out" &&
    ! heads 4 256 train.dtype=float32 && grep -q 'attention in float32' "$dir/out"
result "heads of 264, of 20 and float32 do not"
# Long contexts: attention has no matrix of T x T in memory, forward or backward. What is on the device fits into 131 GiB.
device_gib() # PLAN
{
    echo $(($(bytes device "$1") / 1073741824))
}
llama() # NAME HIDDEN LAYERS FFN TIED STRATEGY RANKS TOKENS
{
    cat >"$dir/model.json" <<EOS
{"model_type": "llama", "hidden_size": $2, "num_hidden_layers": $3, "num_attention_heads": 32, "num_key_value_heads": 8,
 "intermediate_size": $4, "vocab_size": 128256, "tie_word_embeddings": $5, "max_position_embeddings": 131072}
EOS
    sed -i "s/\"batch_size\": [0-9]*, \"seq_len\": [0-9]*/\"batch_size\": $7, \"seq_len\": $8/" "$dir/train.json"
    plan "$1" "$6" "$7"
}
cp "$dir/train.json" "$dir/short.json"
cp "$dir/model.json" "$dir/small.json"
one='[{"op":"layout","pp":1,"dp":1},{"op":"recompute","filter":{}}]'
llama long 2048 16 8192 true "$one" 1 131072 && [ "$(device_gib "$dir/long.plan")" -lt 131 ]
result 'Llama 3.2 1B, 131,072 tokens on one device, GiB:' device_gib "$dir/long.plan"
llama long8 4096 32 14336 false '[{"op":"layout","pp":1,"dp":8,"zero":2},{"op":"recompute","filter":{}}]' 8 131072 &&
    [ "$(device_gib "$dir/long8.plan")" -lt 131 ]
result 'Llama 8B, 131,072 tokens a device, dp 8, zero 2, GiB:' device_gib "$dir/long8.plan"
llama half 2048 16 8192 true "$one" 1 65536 && near "$(bytes workspace "$dir/long.plan")" $((2 * $(bytes workspace "$dir/half.plan")))
result "twice the tokens, twice the workspace"
mv "$dir/short.json" "$dir/train.json"
mv "$dir/small.json" "$dir/model.json"

# Communications in flight together: 4 streams of 40 thread blocks are too many for 108 multiprocessors, 20 are not.
fits() # MAX_CTAS
{
    plan "fit$1" "[{\"op\":\"layout\",\"pp\":2,\"dp\":2,\"zero\":1},{\"op\":\"schedule\",\"kind\":\"1f1b\",\"microbatches\":2},
        {\"op\":\"stream\",\"name\":\"dp\",\"max_ctas\":$1},{\"op\":\"stream\",\"name\":\"ag\",\"max_ctas\":$1}]" 4
    "$piper" plan "$dir/fit$1.h5" --device cuda --dump >"$dir/text" 2>&1
}
# Does the pass add edges to the DAG?
edges()
{
    awk '/^after use:/ { at = 1 } /^after fit:/ { at = 2 } /^plan / { at = 0 } /^edge / { n[at]++ } END { exit !(n[2] > n[1]) }' \
        "$dir/text"
}
fits 60 && edges && [ "$(grep -c '^fit: train, rank class .* request .* the device fits 108: .* take turns$' "$dir/text")" -ge 2 ]
result "streams that do not fit take turns"
fits 20 && ! edges && ! grep -q '^fit:' "$dir/text"
result "streams that fit do not"
"$piper" plan "$dir/fit60.h5" --device cpu --dump >"$dir/text" 2>&1 && ! grep -q '^fit:' "$dir/text"
result "nor those of a CPU"
# These want 120: too many for an A100, not for an H100.
fits 48 && edges
result "they do not fit onto the smallest device"
"$piper" plan "$dir/fit48.h5" --device cuda --machine h100 --dump >"$dir/text" 2>&1 && ! edges && ! grep -q '^fit:' "$dir/text"
result "but onto the machine that is named"
fits 109
grep -q 'max_ctas 109: .* runs 108 thread blocks' "$dir/text"
result "a stream that fits no device is refused"
"$piper" plan "$dir/fit109.h5" --device cuda --machine h100 --dump >"$dir/text" 2>&1 && grep -q 'the device fits 132' "$dir/text"
result "and runs on a larger one"
echo "1..$n"
