#!/bin/sh
# bench.sh: on a machine with a GPU, in an empty folder: builds there, checks, times, and writes RESULTS.md. In the root of the source
# tree it builds in build-gpu. In a folder that tests/gpu/pack.sh made everything is built. From the environment:
#
#     LLMC=FOLDER              a checkout of llm.c, to be built and timed beside us on the same shapes; its attention is cuDNN's
#                              where cudnn-frontend lies in it or in HOME
#     CONFIGURE=OPTIONS        more for configure, as --with-cuda=DIR
#     PEAK=, BANDWIDTH=        of the data sheet, flop/s in bfloat16 and bytes/s, of a device that is not known here
#     PIPER=PROGRAM            one that is built: nothing is built, and checked only what CHECK names
#     CHECK=TESTS              the tests to run, as tests/gpu/test_ops; empty: none
#     MODELS=NAMES             of gpt2-124M, gpt2-1.5B, qwen3-moe-1B
#     SMALL=1                  models of no size, to try this script
#
# Run again in the same folder with the same program it keeps what it does not measure anew, so it can be run in parts.
set -u
src=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
work=$PWD/bench host_libraries=${LD_LIBRARY_PATH-}
stop()
{
    echo "bench.sh: $*" >&2
    exit 1
}
# fact KEY VALUE
fact()
{
    printf '%s\t%s\n' "$1" "$2" >>facts
}
. "$src/tests/gpu/llmc.sh"

# Programs below $build, $piper one of them; CHECK: the tests to run.
build_here()
{
    . "$src/jobscripts/lib.sh"
    [ "$PWD" != "$src" ] || { mkdir -p build-gpu && cd build-gpu; } || exit 1
    build=$PWD work=$PWD/bench
    install_packages
    [ -f "$src/configure" ] || (cd "$src" && autoreconf -i) >autoreconf.log 2>&1 ||
        stop "autoreconf failed, see $PWD/autoreconf.log"
    archs=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | sort -u | tr '\n' ' ')
    [ -z "$archs" ] || export CUDA_ARCHS="${CUDA_ARCHS:-$archs}"
    say "building in $PWD, see build.log"
    # shellcheck disable=SC2086 # options
    { "$src/configure" --with-cuda ${CONFIGURE-} && make -j "$(cores)" gpu-programs; } >build.log 2>&1 || {
        tail -n 20 build.log >&2
        stop "the build failed, see $PWD/build.log"
    }
    CHECK=${CHECK-$(make -s gpu-list)}
}
if [ -n "${PIPER-}" ]; then
    piper=$PIPER build=$(dirname "$PIPER")
elif [ -f "$src/env.sh" ]; then
    export PIPER_PACK="$src"
    # shellcheck source=tests/gpu/env.sh
    . "$src/env.sh"
    build=$src/build piper=$src/build/piper
    CHECK=${CHECK-$(cat "$src/build/list")}
else
    build_here
    piper=$build/piper
fi
[ -z "${LLMC-}" ] || LLMC=$(cd "$LLMC" && pwd) || stop 'LLMC is to name a checkout of llm.c'
case $piper in /*) ;; *) piper=$PWD/$piper build=$PWD/$build ;; esac
"$piper" --version >/dev/null || stop "$piper does not start: is the C library of this host older than that of the build host?"
device=$("$piper" info | sed -n 's/.*cuda  *runs here: *\(.*\); chosen.*/\1/p')
[ -n "$device" ] || stop "nothing to time: $("$piper" info | sed -n 's/^.*cuda  *\(does not\)/cuda \1/p')"
mkdir -p "$work" && cd "$work" || exit 1
version="$("$piper" --version | head -n 1) on $device"
[ "$(cat version 2>/dev/null)" = "$version" ] || rm -f facts summary ./*.trace
echo "$version" >version

if [ -n "${CHECK-}" ]; then
    export CHECK_LOGS="$work/check-gpu"
    echo "== checking ($CHECK_LOGS)"
    # shellcheck disable=SC2086 # words
    PIPER=$piper top_srcdir=$src top_builddir=$build sh "$src/tests/gpu/check.sh" $CHECK ||
        echo 'bench.sh: tests failed; going on' >&2
    cp "$CHECK_LOGS/summary" summary
    seconds=$(sed -n 's/^ok.*- 64 communicators: //p' "$CHECK_LOGS/nccl.log" 2>/dev/null)
    [ -z "$seconds" ] || fact nccl "$seconds"
fi

# ---- the device: data sheet (NVIDIA's, dense bfloat16; HBM), and measured

sheet()
{
    sed -n "s/.*\"$2\": *\([0-9.e]*\).*/\1/p" "$src/src/machines/$1.json" | head -n 1
}
case $device in
*H200*) set -- 989e12 4.8e12 ;;
*H100*PCIe*) set -- 756e12 2.0e12 ;;
*H100*NVL*) set -- 835e12 3.9e12 ;;
*"H100 80GB HBM3"*) set -- "$(sheet h100 bfloat16)" "$(sheet h100 bandwidth)" ;;
*A100*) set -- "$(sheet a100 bfloat16)" "$(sheet a100 bandwidth)" ;;
*) set -- '' '' ;;
esac
peak=${PEAK:-$1} bandwidth=${BANDWIDTH:-$2}
fact device "$device"
fact driver "$(nvidia-smi --query-gpu=driver_version --format=csv,noheader 2>/dev/null | head -n 1)"
fact program "${version%% on *}"
[ -z "$peak" ] || fact sheet_peak "$peak flop/s"
[ -z "$bandwidth" ] || fact sheet_bandwidth "$bandwidth bytes/s"
measured_peak='' measured_bandwidth=''
echo '== measuring products and copies'
# shellcheck disable=SC2046 # words
if PIPER_CUDA_MODULE=${PIPER_CUDA_MODULE:-$build/.libs/piper_cuda.so} \
    "${PEAK_PROGRAM:-$build/tests/gpu/peak}" $([ -z "${SMALL-}" ] || echo 64 0.01) >peak; then
    measured_peak=$(sed -n 's/^peak //p' peak) measured_bandwidth=$(sed -n 's/^bandwidth //p' peak)
    fact peak "$measured_peak flop/s"
    fact bandwidth "$measured_bandwidth bytes/s"
else
    echo 'bench.sh: peak and bandwidth were not measured; going on' >&2
fi

# ---- training

models=${MODELS-gpt2-124M gpt2-1.5B qwen3-moe-1B}
wanted()
{
    case " $models " in *" $1 "*) ;; *) return 1 ;; esac
}
batch=64 length=1024 steps=20 lines=40000
[ -z "${SMALL-}" ] || { batch=2 length=16 steps=4 lines=400; }
awk -v n=$lines 'BEGIN { for (i = 0; i < n; i++) print "line " i " of a text that is only there to be read" }' >text
"$piper" data text text -o tokens.h5 >log 2>&1 || { cat log >&2; stop 'no data'; }

# gpt2 NAME WIDTH LAYERS HEADS
gpt2()
{
    echo "{\"model_type\": \"gpt2\", \"vocab_size\": 50257, \"n_embd\": $2, \"n_layer\": $3, \"n_head\": $4,
        \"n_positions\": $length}" >"$1.json"
}
# row NAME BATCH SECONDS PARAMETERS IDLE LAYERS WIDTH: what table.sh prints of a model. IDLE: parameters that a token meets in no product
row()
{
    fact "row $1" "$(awk -v b="$2" -v s="$3" -v n="$4" -v idle="$5" -v l="$6" -v w="$7" -v t="$length" -v peak="$peak" \
        -v bandwidth="$bandwidth" -v mpeak="$measured_peak" -v mbandwidth="$measured_bandwidth" '
        function floor(p, m) { return p && m ? sprintf("%.4f", flops / p + bytes / m) : "-" }
        BEGIN { flops = b * t * (6 * (n - idle) + 6 * l * w * t)
                bytes = n * (12 * 2 + 4 * 2 + 2) # masters and moments, gradients in float32; parameters
                printf "%d x %d | %.0f | %s | %.4f | %s | %s", b, t, b * t / s,
                    peak ? sprintf("%.1f%%", 100 * flops / s / peak) : "-", s, floor(peak, bandwidth), floor(mpeak, mbandwidth) }')"
}
# seconds FOLDER: of a step, of the second half of the steps
seconds()
{
    awk -F, -v skip=$((steps / 2)) 'NR > 1 + skip { s += $6; n++ } END { printf "%.6f", s / n }' "$1/metrics.csv"
}
# model NAME BATCH MICROBATCHES LAYERS WIDTH IDLE: trains
model()
{
    echo "== $1"
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
    s=$(seconds "$1")
    row "$1" "$2" "$s" "$parameters" "$6" "$4" "$5"
}
# starts STEPS: seconds of a run of one step more, less the step and its checkpoint
starts()
{
    begin=$(date +%s.%N)
    "$piper" train gpt2-124M.h5 -o start --device cuda --steps "$1" >log 2>&1 || { cat log >&2; stop 'no start'; }
    awk -F, -v from="$begin" -v to="$(date +%s.%N)" -v wrote="$(written start 'written in')" \
        'END { printf "%.2f", to - from - $6 - wrote }' start/metrics.csv
}
# written FOLDER WORDS: the seconds behind them in the last line about a checkpoint
written()
{
    sed -n "s/.*checkpoint of step.*$2 \([0-9.]*\) s.*/\1/p" "$1/log.txt" | tail -n 1
}

first() # the model that llm.c trains too
{
    if [ -n "${SMALL-}" ]; then
        gpt2 gpt2-124M 32 2 2
        model gpt2-124M $batch 1 2 32 0
    else
        gpt2 gpt2-124M 768 12 12
        model gpt2-124M $batch 1 12 768 0
    fi
    fact checkpoint "$(written gpt2-124M 'written in')"
    fact waited "$(written gpt2-124M 'training waited')"
    rm -rf start
    fact start_new "$(starts 1)"
    fact start_again "$(starts 2)"
    rm -rf start gpt2-124M/checkpoints
}
beside() # llm.c
{
    ours=$s
    echo '== llm.c'
    llmc_build "$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2>/dev/null | tr -d . | head -n 1)"
    llmc_data text >llmc.bin
    llmc_run $batch $length $steps || { tail -n 20 llmc.log >&2; stop "llm.c does not train, see $work/llmc.log"; }
    theirs=$(llmc_seconds $((steps / 2)) <llmc.log)
    [ -n "$theirs" ] || stop "no step in the output of llm.c, $work/llmc.log"
    row 'llm.c, gpt2-124M' $batch "$theirs" "$parameters" 0 12 768
    fact ratio "$(awk -v a="$ours" -v b="$theirs" 'BEGIN { printf "%.3f", b / a }') (llm.c $(llmc_version))"
}
if wanted gpt2-124M; then
    first
    [ -z "${LLMC-}" ] || beside
fi
if wanted gpt2-1.5B && [ -z "${SMALL-}" ]; then
    gpt2 gpt2-1.5B 1600 48 25
    model gpt2-1.5B 32 4 48 1600 0
    rm -rf gpt2-1.5B/checkpoints
fi
if wanted qwen3-moe-1B && [ -z "${SMALL-}" ]; then
    cat >qwen3-moe-1B.json <<'JSON'
{"model_type": "qwen3_moe", "vocab_size": 151936, "hidden_size": 1024, "num_hidden_layers": 16, "num_attention_heads": 16,
 "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 3584, "moe_intermediate_size": 3584, "num_experts": 4,
 "num_experts_per_tok": 2, "norm_topk_prob": true, "rope_theta": 1e6, "tie_word_embeddings": false}
JSON
    # half of the experts, and the embedding, which is looked up
    model qwen3-moe-1B 32 4 16 1024 $((16 * 2 * 3 * 1024 * 3584 + 151936 * 1024))
    rm -rf qwen3-moe-1B/checkpoints
fi
sh "$src/tests/gpu/table.sh" . >../RESULTS.md.new && mv ../RESULTS.md.new ../RESULTS.md || exit 1
cat ../RESULTS.md
