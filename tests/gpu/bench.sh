#!/bin/sh
# bench.sh: in an empty folder of a machine with a GPU: builds there, runs make check-gpu, trains, and writes RESULTS.md.
#
# PIPER: a program that is there already, then nothing is built or checked. PEAK, BANDWIDTH: of the device, flop/s in bfloat16 and
# bytes/s (default: the data sheet of an H100 SXM5). SMALL=1: models of no size, to try this script. CONFIGURE: more for configure.
src=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
peak=${PEAK:-989e12} bandwidth=${BANDWIDTH:-3.35e12}
stop()
{
    echo "bench.sh: $*" >&2
    exit 1
}
piper=${PIPER:-}
if [ -z "$piper" ]; then
    # shellcheck disable=SC2086 # options
    { "$src/configure" --with-cuda ${CONFIGURE-} && make -j; } >build.log 2>&1 || stop 'see build.log'
    make check-gpu >check.log 2>&1 || echo 'bench.sh: check-gpu failed, see check.log; going on' >&2
    piper=./piper
fi
device=$("$piper" info | sed -n 's/.*cuda  *runs here: *//p')
[ -n "$device" ] || stop "$("$piper" info | sed -n 's/^ *cuda  *//p')"

batch=64 length=1024 steps=20
[ -z "${SMALL-}" ] || { batch=2 length=16 steps=4; }
i=0
while [ $i -lt 40000 ]; do
    echo "line $i of a text that is only there to be read"
    i=$((i + 1))
done >text
"$piper" data text text -o tokens.h5 >log 2>&1 || { cat log >&2; stop 'no data'; }
echo '[]' >one.json

# gpt2 NAME WIDTH LAYERS HEADS
gpt2()
{
    echo "{\"model_type\": \"gpt2\", \"vocab_size\": 50257, \"n_embd\": $2, \"n_layer\": $3, \"n_head\": $4,
        \"n_positions\": $length}" >"$1.json"
}
# row NAME BATCH MICROBATCHES LAYERS WIDTH IDLE: trains, prints a row. IDLE: parameters that a token does not meet
row()
{
    cat >train.json <<JSON
{"optimizer": {"kind": "adamw"}, "lr": {"kind": "constant", "peak": 1e-4}, "clip_norm": 1.0, "batch_size": $2,
 "seq_len": $length, "steps": $steps, "seed": 1, "dtype": "bfloat16", "data": "tokens.h5"}
JSON
    echo "[{\"op\":\"split\",\"filter\":{},\"dim_name\":\"MB\",\"num_microbatches\":$3}]" >split.json
    rm -rf "$1"
    "$piper" build -m "$1.json" -s split.json -t train.json -o "$1.h5" \
        --set "train.trace_steps=[$((steps - 1)),$steps]" >log 2>&1 || { cat log >&2; stop "$1 does not build"; }
    parameters=$(sed -n 's/.* \([0-9]*\) parameters.*/\1/p' log)
    "$piper" train "$1.h5" -o "$1" --device cuda >log 2>&1 || { cat log >&2; stop "$1 does not train"; }
    "$piper" trace "$1" --summary >"$1.trace"
    # a token: 6 operations a parameter that it meets, and in attention 12 a layer for each number of each position
    awk -F, -v name="$1" -v n="$parameters" -v idle="$6" -v l="$4" -v w="$5" -v t="$length" -v b="$2" -v peak="$peak" \
        -v bandwidth="$bandwidth" -v skip=$((steps / 2)) 'NR > 1 + skip { s += $6; steps++ }
        END { s /= steps; flops = b * t * (6 * (n - idle) + 12 * l * w * t)
              floor = flops / peak + n * (12 * 2 + 4 * 2 + 2) / bandwidth
              printf "| %s | %d x %d | %.0f | %.1f%% | %.4f | %.4f |\n", name, b, t, b * t / s, 100 * flops / s / peak, floor, s }' \
        "$1/metrics.csv"
}

if [ -n "${SMALL-}" ]; then
    gpt2 gpt2-124M 32 2 2
else
    gpt2 gpt2-124M 768 12 12
    gpt2 gpt2-1.5B 1600 48 25
    cat >qwen3-moe-1B.json <<'JSON'
{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
 "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 3584, "moe_intermediate_size": 3584, "num_experts": 4,
 "num_experts_per_tok": 2, "norm_topk_prob": true, "rope_theta": 1e6, "tie_word_embeddings": false}
JSON
fi
{
    echo '# Measured on a GPU'
    echo
    echo "$device; driver $(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1 || :)"
    "$piper" --version 2>/dev/null | head -n 1
    echo "peak $peak flop/s in bfloat16, $bandwidth bytes/s (data sheet unless PEAK and BANDWIDTH were given)"
    echo
    echo '| model | batch x length | tokens/s | MFU | floor, s | step, s |'
    echo '|---|---|---|---|---|---|'
    if [ -n "${SMALL-}" ]; then
        row gpt2-124M $batch 1 2 32 0
    else
        row gpt2-124M $batch 1 12 768 0
        row gpt2-1.5B 32 4 48 1600 0
        row qwen3-moe-1B 32 4 16 1024 $((16 * 2 * 3 * 1024 * 3584))
    fi
    echo
    echo 'Floor: operations over the peak, and bytes of parameters, gradients and optimizer state over the bandwidth. Where the rest'
    echo 'goes: the .trace file beside this, of each model.'
} >RESULTS.md.new || exit 1
mv RESULTS.md.new RESULTS.md
cat RESULTS.md
