#!/bin/sh
# shellcheck disable=SC2153,SC2154 # variables of the environment
# measure.sh STEP: one step of bench.sh, in its folder "bench": what it finds goes into facts, summary and STEP.trace, which
# table.sh reads. PIPER, top_srcdir, top_builddir: as in make check. LIMIT: seconds after which a TERM comes, or empty: then what was
# measured until then is kept.
set -u
step=$1 src=$top_srcdir build=$top_builddir piper=$PIPER
. "$src/tests/gpu/lib.sh" || exit 1
. "$src/tests/gpu/llmc.sh" || exit 1
cut=
trap 'cut=yes' TERM

# fact KEY VALUE; value KEY: the last one
fact()
{
    printf '%s\t%s\n' "$1" "$2" >>facts
}
value()
{
    sed -n "s/^$1	//p" facts 2>/dev/null | tail -n 1
}
number() # KEY: without its unit
{
    value "$1" | cut -d' ' -f1
}

# ---- the device: data sheet (NVIDIA's, dense bfloat16; HBM), and measured

sheet()
{
    sed -n "s/.*\"$2\": *\([0-9.e]*\).*/\1/p" "$src/src/machines/$1.json" | head -n 1
}
device()
{
    device=$("$piper" info | sed -n 's/.*cuda  *available: *\(.*\); chosen.*/\1/p')
    [ -n "$device" ] || stop "$("$piper" info | sed -n 's/^.*cuda  *\(unavailable\)/cuda \1/p')"
    case $device in
    *H200*) set -- 989e12 4.8e12 ;;
    *H100*PCIe*) set -- 756e12 2.0e12 ;;
    *H100*NVL*) set -- 835e12 3.9e12 ;;
    *"H100 80GB HBM3"*) set -- "$(sheet h100 bfloat16)" "$(sheet h100 bandwidth)" ;;
    *A100*) set -- "$(sheet a100 bfloat16)" "$(sheet a100 bandwidth)" ;;
    *) set -- '' '' ;;
    esac
    fact device "$device"
    fact driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
    fact program "$("$piper" --version | head -n 1)"
    [ -z "${PEAK:-$1}" ] || fact sheet_peak "${PEAK:-$1} flop/s"
    [ -z "${BANDWIDTH:-$2}" ] || fact sheet_bandwidth "${BANDWIDTH:-$2} bytes/s"
    "$piper" info
    echo "$device"
}
peak()
{
    # shellcheck disable=SC2046 # words
    PIPER_CUDA_MODULE=${PIPER_CUDA_MODULE:-$build/.libs/piper_cuda.so} "$build/tests/gpu/peak" \
        $([ -z "${SMALL-}" ] || echo 64 0.01) >peak || stop 'peak and bandwidth were not measured'
    fact peak "$(sed -n 's/^peak //p' peak) flop/s"
    fact bandwidth "$(sed -n 's/^bandwidth //p' peak) bytes/s"
    cat peak
}

# Clock and power while something runs, a line every quarter of a second.
clocks_begin() # NAME
{
    watcher=
    command -v nvidia-smi >/dev/null || return 0
    gpu=${CUDA_VISIBLE_DEVICES:-0}
    nvidia-smi -i "${gpu%%,*}" --query-gpu=clocks.sm,power.draw,utilization.gpu,clocks.mem,temperature.gpu \
        --format=csv,noheader,nounits -lms 250 >"$1.clocks" 2>/dev/null &
    watcher=$!
}
clocks_end()
{
    [ -z "$watcher" ] || { kill "$watcher" && wait "$watcher"; } 2>/dev/null
}
# clock NAME COLUMN: median over the time in which the device was busy
clock()
{
    middle=$(awk -F', *' -v c="$2" '$3 >= 50 { print $c }' "$1.clocks" 2>/dev/null | median)
    printf '%.0f' "${middle:-0}" | sed 's/^0$/-/'
}

# ---- training

# steps 1 to first warm up, to last are measured; then two are traced, in which a captured graph is made anew
batch=64 length=1024 first=10 last=20 lines=40000
[ -z "${SMALL-}" ] || { batch=2 length=16 first=2 last=$((2 + SMALL)) lines=400; }

tokens()
{
    [ ! -f tokens.h5 ] || return 0
    awk -v n=$lines 'BEGIN { for (i = 0; i < n; i++) print "line " i " of a text that is only there to be read" }' >text
    "$piper" data text text -o tokens.h5 >log 2>&1 || { cat log; stop 'no data'; }
}
# gpt2 NAME WIDTH LAYERS HEADS
gpt2()
{
    echo "{\"model_type\": \"gpt2\", \"vocab_size\": 50257, \"n_embd\": $2, \"n_layer\": $3, \"n_head\": $4,
        \"n_positions\": $length}" >"$1.json"
}
# job NAME BATCH MICROBATCHES [--set ...]: NAME.h5 of NAME.json; $parameters
job()
{
    tokens
    cat >train.json <<JSON
{"optimizer": {"kind": "adamw"}, "lr": {"kind": "constant", "peak": 1e-4}, "clip_norm": 1.0, "batch_size": $2,
 "seq_len": $length, "steps": $((last + 2)), "seed": 1, "dtype": "bfloat16", "data": "tokens.h5"}
JSON
    echo "[{\"op\":\"split\",\"filter\":{},\"dim_name\":\"MB\",\"num_microbatches\":$3}]" >split.json
    name=$1
    shift 3
    "$piper" build -m "$name.json" -s split.json -t train.json -o "$name.h5" "$@" >log 2>&1 ||
        { cat log; stop "$name does not build"; }
    parameters=$(sed -n 's/.* \([0-9]*\) parameters.*/\1/p' log)
}
# row NAME BATCH SECONDS PARAMETERS IDLE LAYERS WIDTH: what table.sh prints of a model. IDLE: parameters that a token meets in no product
row()
{
    fact "seconds $1" "$3"
    fact "row $1" "$(awk -v b="$2" -v s="$3" -v n="$4" -v idle="$5" -v l="$6" -v w="$7" -v t="$length" \
        -v clock="$(clock "$1" 1)" -v power="$(clock "$1" 2)" -v peak="$(number sheet_peak)" \
        -v bandwidth="$(number sheet_bandwidth)" -v mpeak="$(number peak)" -v mbandwidth="$(number bandwidth)" '
        function floor(p, m) { return p && m ? sprintf("%.4f", flops / p + bytes / m) : "-" }
        BEGIN { flops = b * t * (6 * (n - idle) + 6 * l * w * t)
                bytes = n * (12 * 2 + 4 * 2 + 2) # masters and moments, gradients in float32; parameters
                printf "%d x %d | %.4f | %s | %s | %s | %.0f | %s | %s", b, t, s,
                    peak ? sprintf("%.1f%%", 100 * flops / s / peak) : "-", clock, power, b * t / s,
                    floor(peak, bandwidth), floor(mpeak, mbandwidth) }')"
}
# seconds FOLDER: median of the measured steps; of those after the third where it ended before them
seconds()
{
    awk -F, -v first=$first -v last=$last 'NR > 1 && $1 <= last { all[++n] = $6; step[n] = $1 }
        END { from = n && step[n] > first + 1 ? first : 3
              for (i = 1; i <= n; i++) if (step[i] > from) print all[i] }' "$1/metrics.csv" | median
}
# model NAME BATCH MICROBATCHES LAYERS WIDTH IDLE: trains
model()
{
    job "$1" "$2" "$3" --set "train.trace_steps=[$((last + 1)),$((last + 2))]"
    rm -rf "$1"
    status=0
    clocks_begin "$1"
    "$piper" train "$1.h5" -o "$1" --device cuda --no-checkpoint >log 2>&1 || status=$?
    clocks_end
    s=$(seconds "$1")
    [ -n "$s" ] || { cat log; stop "$1 does not train"; }
    row "$1" "$2" "$s" "$parameters" "$6" "$4" "$5"
    [ -n "$cut" ] || [ $status -eq 0 ] || { cat log; stop "$1 ends with $status; a step takes $s s"; }
    [ -z "$cut" ] || { echo "$1: ended after step $(tail -n 1 "$1/metrics.csv" | cut -d, -f1): $s s a step"; exit 124; }
    "$piper" trace "$1" --summary >"$1.trace"
    echo "$1: $s s a step"
}
gpt2_124m()
{
    if [ -n "${SMALL-}" ]; then gpt2 gpt2-124M 32 2 2; else gpt2 gpt2-124M 768 12 12; fi
}
gpt2_1_5b()
{
    if [ -n "${SMALL-}" ]; then
        gpt2 gpt2-1.5B 40 3 5
        model gpt2-1.5B $batch 2 3 40 0
    else
        gpt2 gpt2-1.5B 1600 48 25
        model gpt2-1.5B 32 4 48 1600 0
    fi
}
qwen3_moe_1b()
{
    vocabulary=151936 width=1024 layers=16 heads=16 hidden=3584 sequences=32
    [ -z "${SMALL-}" ] || vocabulary=256 width=32 layers=2 heads=4 hidden=24 sequences=$((2 * batch))
    cat >qwen3-moe-1B.json <<JSON
{"model_type": "qwen3_moe", "vocab_size": $vocabulary, "hidden_size": $width, "num_hidden_layers": $layers,
 "num_attention_heads": $heads, "num_key_value_heads": $((heads / 2)), "head_dim": $((width / heads)), "intermediate_size": $hidden,
 "moe_intermediate_size": $hidden, "num_experts": 4, "num_experts_per_tok": 2, "norm_topk_prob": true, "rope_theta": 1e6,
 "tie_word_embeddings": false}
JSON
    # half of the experts, and the embedding, which is looked up
    model qwen3-moe-1B $sequences 4 $layers $width $((layers * 2 * 3 * width * hidden + vocabulary * width))
}
beside() # llm.c
{
    tokens
    ours=$(value 'seconds gpt2-124M')
    llmc_build "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | head -n 1)"
    llmc_data text >llmc.bin
    clocks_begin 'llm.c, gpt2-124M'
    status=0
    llmc_run $batch $length $last || status=$?
    clocks_end
    theirs=$(llmc_seconds $first <llmc.log)
    [ -n "$theirs" ] || { tail -n 20 llmc.log; stop "no measured step in the output of llm.c, which ends with $status"; }
    gpt2_124m
    job gpt2-124M $batch 1
    row 'llm.c, gpt2-124M' $batch "$theirs" "$parameters" 0 12 768
    [ -z "$ours" ] ||
        fact ratio "$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.3f", b / a }') (llm.c $(llmc_version))"
    echo "llm.c: $theirs s a step"
}

# ---- start-up and checkpoints, in memory

# of the checkpoint of a step, the seconds behind the words
written() # FOLDER STEP WORDS
{
    sed -n "s/.*checkpoint of step $2 .*$3 \([0-9.]*\) s.*/\1/p" "$1/log.txt" | tail -n 1
}
# trains FOLDER STEP: up to the step
trains()
{
    "$piper" train start.h5 -o "$1" --device cuda --steps "$2" >log 2>&1 || { cat log; rm -rf "$1"; stop "no start up to step $2"; }
}
# starts KEY FOLDER STEP: the fact: seconds of a run of one step more, less the step and its checkpoint
starts()
{
    from=$(date +%s.%N)
    trains "$2" "$3"
    fact "$1" "$(awk -F, -v from="$from" -v to="$(date +%s.%N)" -v wrote="$(written "$2" "$3" 'written in')" \
        'END { printf "%.2f", to - from - $6 - wrote }' "$2/metrics.csv")"
}
start()
{
    gpt2_124m
    cp gpt2-124M.json start.json
    job start $batch 1 --set train.checkpoint_every=$first --set train.checkpoint_keep=1
    run=$(mktemp -d "$(in_memory 6)/piper-start.XXXXXX") || exit 1
    starts start_new "$run" 1
    starts start_again "$run" 2
    trains "$run" $last
    fact checkpoint "$(written "$run" $first 'written in')"
    fact waited "$(written "$run" $first 'training waited')"
    rm -rf "$run"
    echo "start $(value start_new) s, again $(value start_again) s"
}

# ---- tests

# one TEST [NAME]: as `make check-gpu` runs it; its line in the summary, under another name, is the last one's
one()
{
    name=${2:-$1}
    [ -z "${LIMIT-}" ] || export TEST_LIMIT=$((LIMIT > 6 ? LIMIT - 4 : 2))
    CHECK_LOGS=$PWD/check-gpu sh "$src/tests/gpu/check.sh" "$1"
    status=$?
    { grep -v " $name " summary; sed "s| $1 | $name |" check-gpu/summary; } >summary.new 2>/dev/null
    mv summary.new summary
    cat check-gpu/summary
    return $status
}
# found KEY LOG TEXT: the fact behind the text in a line of a test
found()
{
    words=$(sed -n "s/^\(not \)*ok.* - $3/\1/p" "check-gpu/$2.log")
    [ -z "$words" ] || fact "$1" "$words"
}
gradients()
{
    one tests/gpu/gradients.sh
    for type in bfloat16 float32; do
        found "gradients $type" gradients "$type, "
    done
    return $status
}
nccl()
{
    one tests/gpu/nccl.sh
    found nccl nccl '64 communicators: '
    return $status
}

case $step in
device) device ;;
peak) peak ;;
gpt2-124M)
    gpt2_124m
    if [ -n "${SMALL-}" ]; then model gpt2-124M $batch 1 2 32 0; else model gpt2-124M $batch 1 12 768 0; fi
    ;;
llm.c) beside ;;
qwen3-moe-1B) qwen3_moe_1b ;;
gpt2-1.5B) gpt2_1_5b ;;
start) start ;;
memcheck) SANITIZE_TOOLS=memcheck SANITIZE_TESTS=test_parts one tests/gpu/sanitize.sh memcheck ;;
gradients) gradients ;;
nccl) nccl ;;
test_*) one "tests/gpu/$step" ;;
*) one "tests/gpu/$step.sh" ;;
esac
