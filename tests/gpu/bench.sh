#!/bin/sh
# bench.sh [SECONDS]: on a machine with a GPU, in an empty folder: builds there, then checks and measures step by step, and writes
# RESULTS.md after every step. In the root of the source tree it builds in build-gpu. In a folder that tests/gpu/pack.sh made
# everything is built. With SECONDS no step begins that cannot end in time, and each has a limit of its own. From the environment:
#
#     STEPS=NAMES              only these of the list below, and device
#     LLMC=FOLDER              a checkout of llm.c, to be built and timed beside us on the same shapes; its attention is cuDNN's
#                              where cudnn-frontend lies in it or in HOME
#     CONFIGURE=OPTIONS        more for configure, as --with-cuda=DIR
#     PEAK=, BANDWIDTH=        of the data sheet, flop/s in bfloat16 and bytes/s, of a device that is not known here
#     PIPER=PROGRAM            one that is built: nothing is built
#     OUT=FOLDER               also gets RESULTS.md, report.txt, machine.txt and logs.tar.gz, after every step
#     SMALL=N                  models of no size and N measured steps, to try this script
#
# Run again in the same folder with the same program it keeps what it does not measure anew, so it can be run in parts.
set -u
begin=$(date +%s)
src=$(cd "$(dirname "$0")/../.." && pwd) || exit 1
. "$src/tests/gpu/lib.sh" || exit 1
total=${1-}
[ -z "${OUT-}" ] || { mkdir -p "$OUT" && OUT=$(cd "$OUT" && pwd); } || exit 1
case $total in *[!0-9]*) stop "found '$total', expected seconds" ;; esac

# STEP NEEDS LIMIT, in seconds and in the order of what tells most. With less than it needs left a step is not begun; these are
# estimates for an H100 or H200, to be set right by report.txt of the first run there.
steps()
{
    cat <<'TABLE'
device 5 60
test_products 15 45
test_update 10 30
test_parts 10 30
test_ops 30 60
test_members 15 45
gradients 45 110
peak 15 40
gpt2-124M 35 90
llm.c 35 60
qwen3-moe-1B 60 110
train 100 180
memcheck 30 60
gpt2-1.5B 60 120
start 45 90
nccl 250 400
sanitize 1800 7200
TABLE
}
spare=8 # seconds for the end of a step that is cut, and for what is written after it

# The program, in $piper, below $build.
build_here()
{
    . "$src/jobscripts/lib.sh"
    [ "$PWD" != "$src" ] || { mkdir -p build-gpu && cd build-gpu; } || exit 1
    build=$PWD
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
}
if [ -n "${PIPER-}" ]; then
    piper=$PIPER build=$(dirname "$PIPER")
elif [ -f "$src/env.sh" ]; then
    export PIPER_PACK="$src"
    # shellcheck source=tests/gpu/env.sh
    . "$src/env.sh" || exit 1
    build=$src/build piper=$src/build/piper
    [ -n "${LLMC-}" ] || [ ! -d "$src/llm.c" ] || LLMC=$src/llm.c
else
    build_here
    piper=$build/piper
fi
[ -z "${LLMC-}" ] || LLMC=$(cd "$LLMC" && pwd) || stop 'LLMC is to name a checkout of llm.c'
case $piper in /*) ;; *) piper=$PWD/$piper build=$PWD/$build ;; esac
"$piper" --version >/dev/null || stop "$piper does not start: is the C library of this host older than that of the build host?"
export PIPER="$piper" top_srcdir="$src" top_builddir="$build" LLMC="${LLMC-}"

# what a reader of the results, or of the reason why there are none, asks for
{
    nvidia-smi
    nvidia-smi -q -d CLOCK,PERFORMANCE,POWER
    uname -a
    ldd --version | head -n 1
    nproc
    free -g
    df -h . /dev/shm
    echo "LD_LIBRARY_PATH=${LD_LIBRARY_PATH-}"
    env | grep -E '^(CUDA|NVIDIA|NCCL|CUDNN)[A-Z_]*='
    ldd "$build/.libs/piper_cuda.so"
    python3 --version
} >machine.txt 2>&1
[ -z "${OUT-}" ] || cp machine.txt "$OUT/"
info=$(${total:+timeout 120} "$piper" info)
device=$(echo "$info" | sed -n 's/.*cuda  *available: *\(.*\); chosen.*/\1/p')
[ -n "$device" ] || stop "nothing to time: $(echo "$info" | sed -n 's/^.*cuda  *\(unavailable\)/cuda \1/p')"
version="$("$piper" --version | head -n 1) on $device"
[ "$(cat bench/version 2>/dev/null)" = "$version" ] || rm -rf report.txt bench
mkdir -p bench/logs && echo "$version" >bench/version || exit 1

# What there is so far. Big files stay here.
publish()
{
    sh "$src/tests/gpu/table.sh" bench >RESULTS.md.new && mv RESULTS.md.new RESULTS.md
    [ -n "${OUT-}" ] || return 0
    cp RESULTS.md report.txt "$OUT/"
    tar cf - --exclude=tokens.h5 --exclude=checkpoints --exclude=text --exclude='*.bin' bench 2>/dev/null |
        gzip >"$OUT/logs.new" && mv "$OUT/logs.new" "$OUT/logs.tar.gz"
}
report()
{
    echo "$*" | cut -c1-240 | tee -a report.txt
}
left()
{
    echo $((total - $(date +%s) + begin))
}
# step NAME NEEDS LIMIT
step()
{
    limit=
    if [ -n "$total" ]; then
        most=$(($(left) - spare)) limit=$3
        [ "$2" -le $most ] || { report "$1: not begun: it needs $2 s, and $most are left"; return; }
        [ "$limit" -le $most ] || limit=$most
    fi
    from=$(date +%s) rc=0
    (cd bench && LIMIT=$limit exec ${limit:+timeout -k 3 "$limit"} sh "$src/tests/gpu/measure.sh" "$1") \
        >"bench/logs/$1.log" 2>&1 </dev/null || rc=$?
    case $rc in
    0) how='done' ;;
    124 | 137) how='cut' ;;
    *) how="FAILED ($rc)" ;;
    esac
    report "$1: $how after $(($(date +%s) - from)) s: $(grep -v '^$' "bench/logs/$1.log" | tail -n 1)"
    publish
}
wanted()
{
    case " device ${STEPS-$1} " in *" $1 "*) ;; *) return 1 ;; esac
    case $1 in
    llm.c) [ -n "$LLMC" ] ;;
    memcheck) [ -n "$total" ] || [ -n "${STEPS-}" ] ;; # sanitize has it too
    esac
}
steps | while read -r name needs limit; do
    ! wanted "$name" || step "$name" "$needs" "$limit"
done
publish
if [ -n "${OUT-}" ]; then
    echo "bench.sh: $OUT has report.txt, RESULTS.md, machine.txt and logs.tar.gz"
else
    cat RESULTS.md
fi
