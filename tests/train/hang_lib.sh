# shellcheck shell=sh
# shellcheck disable=SC2154 # dir, src, piper, launched: lib.sh's
# Shared by the tests of hangs.
# stopped RANKS JOB WHEN [OPTION...]: stops a random rank of a run of JOB for good. WHEN: "start": within half a second of its
# process; N: at a random moment after N steps. Good: the run ends with 76, and one line names that rank in $within (30) seconds.
# $named, $took: milliseconds from the signal to the sentence, and to the end of mpirun
stopped()
{
    ranks=$1 job=$2 when=$3
    shift 3
    rank=$(random "$ranks")
    rm -rf hung
    expect=76 launch "$ranks" "$job" hung "$@"
    tries=$((400 * ${TEST_TIME_SCALE:-1}))
    until [ -s "pid.$rank" ] || [ $tries -eq 0 ]; do
        sleep 0.05
        tries=$((tries - 1))
    done
    [ "$when" = start ] || await "$when" hung || return
    sleep "0.$(printf %03d "$(random 500)")"
    begin=$(date +%s%N)
    kill -STOP "$(cat "pid.$rank")"
    # the log has the sentence at once; mpirun may need long to end on a machine with little time
    while kill -0 "$launched" 2>/dev/null && ! grep -q 'has been stopped for' hung/log.txt 2>/dev/null; do
        sleep 0.1
    done
    named=$((($(date +%s%N) - begin) / 1000000))
    # Open MPI 4.1's mpirun may crash at its end when a rank leaves while MPI starts
    wait "$launched" || { [ "$when" = start ] && grep -q PMIx_server_finalize out; } || return
    took=$((($(date +%s%N) - begin) / 1000000))
    echo "rank $rank was stopped $when, named after $named ms, ended after $took ms" >>out
    [ "$(grep -c '^piper: ' out)" -eq 1 ] && names "$rank" out &&
        [ $named -le $((1000 * ${within:-30} * ${TEST_TIME_SCALE:-1})) ] || return
    if [ "$when" != start ]; then
        names "$rank" hung/log.txt && [ "$(grep -c '  rank [0-9]* (node ' hung/log.txt)" -ge $((ranks + 1)) ]
    fi
}
# names RANK FILE: the sentence there says that this rank, and no other, is stopped
names()
{
    grep -q "rank $1 ([^)]*),* \(which \)*has been stopped for .* was stopped by a signal" "$2"
}
random()
{
    echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}
# A stand-in for the product of the BLAS library, which PIPER_ISA=base uses, that makes a rank misbehave: see spin.c. "$preload" is
# empty where it cannot be had.
# shellcheck disable=SC2034 # for the caller
preload=$dir/spin.so
${CC:-cc} -O1 -fPIC -shared -o spin.so "$src/tests/train/spin.c" -ldl 2>out || preload=
# misbehaves HOW RANK JOB RANKS RUN [OPTION...]: a run of which one rank does so from its 5000th product on, or number $from
misbehaves()
{
    how=$1 culprit=$2 job=$3 ranks=$4 folder=$5
    shift 5
    cat >rank <<SCRIPT
#!/bin/sh
export PIPER_ISA=base SPIN_HOW=$how SPIN_RANK=$culprit SPIN_CALL=${from:-5000} LD_PRELOAD=$preload
exec "$piper" "\$@"
SCRIPT
    chmod +x rank
    sh "$src/tests/run-mpi" -x "${expect:-0}" "$dir/rank" "$ranks" train "$job.h5" -o "$folder" "$@" >out 2>&1
}
