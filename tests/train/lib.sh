# shellcheck shell=sh
# Shared by the tests of training: models, settings, runs and what is read from run folders. Works in a folder of its own.
# Every case ends with result(); the caller prints the plan.
piper=${PIPER:-./piper}
src=${top_srcdir:-.}
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
shown=out
case $piper in /*) ;; *) piper=$PWD/$piper ;; esac
case $src in /*) ;; *) src=$PWD/$src ;; esac
dir=$(mktemp -d) || exit 99
trap 'ranks_end; rm -rf "$dir"' EXIT
cd "$dir" || exit 99
. "$src/tests/jobs/lib.sh"
export OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1

command -v "${MPIEXEC:-mpirun}" >/dev/null 2>&1 || { echo "no MPI launcher on this machine"; exit 77; }

cp "$src"/tests/jobs/*.json . # gpt2, llama, moe, qwen3_moe, tiny; adamw, sgd
awk -v bytes=100000 -f "$src/tests/jobs/text.awk" >text
"$piper" data text text -o tokens.h5 >out 2>&1 || { echo "Bail out! piper data text failed"; exit 1; }

# strategies; each word is used as a file name too
layout()
{
    echo "[{\"op\":\"layout\",\"pp\":$1,\"dp\":$2},{\"op\":\"schedule\",\"kind\":\"$3\",\"microbatches\":$4}]"
}
echo '[]' >one.json
layout 2 2 1f1b 2 >pp2dp2.json
layout 1 4 gpipe 1 >dp4.json
echo '[{"op":"replicate","filter":{},"devices":[0,1],"zero":3}]' >zero3.json
experts() # DEVICES
{
    echo "[{\"op\":\"replicate\",\"filter\":{},\"devices\":$1,\"zero\":1},
        {\"op\":\"shard\",\"filter\":{\"EP\":\"*\"},\"devices\":$1}]"
}
experts '[0,1]' >ep2.json
experts '[0,1,2,3]' >ep4.json

# build JOB MODEL STRATEGY [KEY=VALUE...]: JOB.h5 from the files of those names and adamw.json
build()
{
    job=$1 model=$2 strategy=$3
    shift 3
    for setting; do
        shift
        set -- "$@" --set "$setting"
    done
    "$piper" build -m "$model.json" -s "$strategy.json" -t adamw.json -o "$job.h5" "$@" >out 2>&1 ||
        { echo "Bail out! piper build $job failed"; cat out; exit 1; }
}
# train RANKS JOB RUN [OPTION...]: to its end, by ranks that wait for jobs. `out` holds what was said
train()
{
    ends 0 "$@"
}
# ends STATUS RANKS JOB RUN [OPTION...]: the same, of a run that ends so
ends()
{
    status=$1 ranks=$2 job=$3 folder=$4
    shift 4
    on_ranks "$status" "$ranks" train "$job.h5" -o "$folder" "$@" >out 2>&1
}
# start RANKS JOB RUN [OPTION...]: as train, by a launch of its own
start()
{
    ranks=$1 job=$2 folder=$3
    shift 3
    sh "$src/tests/run-mpi" "$piper" "$ranks" train "$job.h5" -o "$folder" "$@" >out 2>&1
}
# launch RANKS JOB RUN [OPTION...]: start in the background. $launched: what to wait for; pid.launcher and pid.N, of rank N
launch()
{
    ranks=$1 job=$2 folder=$3
    shift 3
    rm -f pid.*
    cat >rank <<SCRIPT
#!/bin/sh
echo \$PPID >pid.launcher
echo \$\$ >pid.\${OMPI_COMM_WORLD_RANK:-\${PMI_RANK:-0}}
exec "$piper" "\$@"
SCRIPT
    chmod +x rank
    sh "$src/tests/run-mpi" -x "${expect:-0}" "$dir/rank" "$ranks" train "$job.h5" -o "$folder" "$@" >out 2>&1 &
    # shellcheck disable=SC2034 # for the caller
    launched=$!
}
# await ROWS RUN: metrics.csv has so many steps at least
await()
{
    tries=$((400 * ${TEST_TIME_SCALE:-1}))
    while [ $tries -gt 0 ]; do
        [ -f "$2/metrics.csv" ] && [ "$(wc -l <"$2/metrics.csv")" -gt "$1" ] && return
        sleep 0.1
        tries=$((tries - 1))
    done
    echo "await: no $1 steps in $2" >>out
    return 1
}
last_step()
{
    tail -n 1 "$1/metrics.csv" | cut -d, -f1
}
# how many checkpoints a run folder has
checkpoints()
{
    find "$1/checkpoints" -name 'step-*.h5' | wc -l
}
# all columns but the times
numbers()
{
    cut -d, -f1-5,8- "$1/metrics.csv"
}
# same_bits RUN RUN: metrics, and the checkpoints of their last step; the steps are 1, 2, 3, ...
same_bits()
{
    numbers "$1" >bits.1 && numbers "$2" >bits.2 && diff bits.1 bits.2 >>out 2>&1 &&
        awk -F, 'NR > 1 && $1 != NR - 1 { print "step " $1 " in row " NR - 1; exit 1 }' "$1/metrics.csv" >>out &&
        file=checkpoints/step-$(printf %06d "$(last_step "$1")").h5 &&
        "$piper" checkpoint diff "$1/$file" "$2/$file" >>out 2>&1
}
# moved FILE FILE: by how much a weight differs at most
moved()
{
    "$piper" checkpoint diff "$1" "$2" >differences 2>>out
    awk '/^params/ { sub(".*differ, by at most ", ""); x = $1 + 0; if (x > most) most = x } END { printf "1 %.9g\n", most }' differences
    cat differences >>out
}
# near FILE FILE LIMIT: two lists of "step value", equal but for a relative deviation; prints the worst
near()
{
    awk -v limit="$3" 'NR == FNR { a[$1] = $2; rows++; next }
        { d = $2 - a[$1]; d = d < 0 ? -d : d; m = a[$1] < 0 ? -a[$1] : a[$1]; d = m > 0 ? d / m : d
          if (!(d <= worst)) worst = d
          seen += $1 in a }
        END { printf "worst deviation %.2e, limit %g, %d of %d rows\n", worst, limit, seen, rows
              exit !(worst <= limit && seen == rows && FNR == rows && rows > 0) }' "$1" "$2" >>out
}
