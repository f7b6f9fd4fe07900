# shellcheck shell=sh
# shellcheck disable=SC2154 # dir, src: lib.sh's of training
# Shared by the tests of what fails: runs of piper-fault, and what has to come of them. `out` holds what a run said.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
fault=${top_builddir:-.}/tests/fault/piper-fault
case $fault in /*) ;; *) fault=$OLDPWD/$fault ;; esac
cp "$fault" "$dir/piper-fault" || exit 99 # a name that no other process has

cat >tiny.json <<'JSON'
{"model_type": "gpt2", "vocab_size": 256, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 32}
JSON
layout 2 1 1f1b 2 >pp2.json

# Processes of piper-fault that are left.
alive()
{
    # shellcheck disable=SC2010 # links to one name, which has no newline
    ls -l /proc/[0-9]*/exe 2>/dev/null | grep -q "$dir/piper-fault"
}
# strike FAULT JOB RUN [OPTION...]: two ranks, with PIPER_FAULT=FAULT. $status: of mpirun, 124: it did not come back;
# 137: or a rank was killed; $happened: lines of the mark. False: processes are left, or it took longer than $within (20) seconds.
slowest=0
strike()
{
    struck=$1 job=$2 folder=$3
    shift 3
    rm -f mark
    begin=$(date +%s%N)
    PIPER_FAULT=$struck PIPER_FAULT_MARK=$dir/mark sh "$src/tests/run-mpi" -x 199 "$dir/piper-fault" 2 \
        train "$job.h5" -o "$folder" "$@" >out 2>&1
    took=$((($(date +%s%N) - begin) / 1000000))
    [ $took -le $slowest ] || slowest=$took
    status=$(sed -n 's/^run-mpi: .* ranks: exit status \([0-9]*\), expected 199$/\1/p' out)
    [ -n "$status" ] || [ $took -gt 50000 ] || status=137 # run-mpi takes it for an end of its own
    status=${status:-124}
    happened=$(cat mark 2>/dev/null)
    echo "PIPER_FAULT=$struck: exit status $status after $took ms; $happened" >>out
    tries=50
    while alive && [ $tries -gt 0 ]; do
        sleep 0.1
        tries=$((tries - 1))
    done
    [ $tries -gt 0 ] && [ $took -le $((1000 * ${within:-20} * ${TEST_TIME_SCALE:-1})) ]
}
# once PATTERN: the cause is said once, in a sentence with something that fits the pattern, and in the log where the run had begun it
once()
{
    [ "$(grep -c '^piper: ' out)" -eq 1 ] && grep -qE "^piper: .*($1)" out && logged
}
bytes()
{
    if [ -f "$1/log.txt" ]; then wc -c <"$1/log.txt"; else echo 0; fi
}
logged()
{
    case $struck in *log.txt*) return ;; esac # it cannot be written
    [ "$(bytes x)" -le "$(bytes "${base:-.}")" ] ||
        grep -qF "$(sed -n 's/^piper: //p' out)" x/log.txt || { echo 'it is not in the log' >>out; false; }
}
whole_checkpoints()
{
    # shellcheck disable=SC2046 # names without spaces
    "$piper" checkpoint verify $(find "$1/checkpoints" -name 'step-*.h5') >verified 2>&1 || { cat verified >>out; false; }
}
# goes_on JOB RUN: without a fault; the bits of the run that never failed, which is JOB.whole; nothing half done is left
goes_on()
{
    mv out before
    train 2 "$1" "$2" && same_bits "$1.whole" "$2" && ! find "$2" -name '*.tmp' | grep . >>out && return
    cat before >>out
    return 1
}
# walk NAME FAULT FIRST STRIDE WHAT JUDGE [OPTION...]: call number FIRST, FIRST + STRIDE, ... until there are no more; with
# $STRIDE set 1, 1 + STRIDE, ...; STRIDE 0: one call. Each begins with a copy of the folder $base. JUDGE JOB RUN says what has
# to come of it. $job_name: the job
walk()
{
    name=$1 call=$2 number=$3 stride=$4 what=$5 judge=$6
    shift 6
    [ -z "${STRIDE-}" ] || [ "$stride" -eq 0 ] || { number=1 stride=$STRIDE; }
    walked=0 good=0
    while :; do
        rm -rf x
        [ -z "$base" ] || cp -r "$base" x
        strike "$call:$number:$what" "$job_name" x "$@"
        ended=$?
        [ -n "$happened" ] || break
        walked=$((walked + 1))
        if [ $ended -ne 0 ] || ! $judge "$job_name" x; then
            good=1
            break
        fi
        [ "$stride" -gt 0 ] || break
        number=$((number + stride))
    done
    [ $good -eq 0 ] && [ $walked -gt 0 ] && [ "$status" -ne 124 ]
    result "$name: $walked calls"
}
