#!/bin/sh
# time-limit: 400
# Every call that can fail does: what is said, how it ends, what is left, and that the same command then goes on. A sample;
# STRIDE=1 (tests/fault/fault_all.sh) takes every call.
. "${top_srcdir:-.}"/tests/fault/lib.sh || exit 99
if nm "$piper" 2>/dev/null | grep -E '__wrap_| fault$' >out || grep -c PIPER_FAULT "$piper" >>out; then false; fi
result 'the program that is installed has nothing of this'

job_name=pp2
build pp2 tiny pp2 train.steps=4 train.checkpoint_every=1 train.checkpoint_keep=2 'train.trace_steps=[4]'
if ! train 2 pp2 pp2.whole || ! train 2 pp2 begun --steps 3; then
    echo 'Bail out! training failed'
    cat out
    exit 1
fi

# ---- checkpoints: the old ones stay, and it goes on; or nothing was lost by the failure
saves()
{
    case $status in
    0) ;;
    74) once "$2/checkpoints" ;;
    *) false ;;
    esac && whole_checkpoints "$2" && [ "$(checkpoints "$2")" -ge 2 ] && goes_on "$1" "$2"
}
finishes()
{
    [ "$status" -eq 0 ] && same_bits "$1.whole" "$2"
}
reads()
{
    case $status in
    0) ;;
    65 | 66 | 74) once '/' ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
# what cannot be read now is not damaged: nothing is thrown away, nothing is done again
resumes()
{
    case $status in
    0) same_bits "$1.whole" "$2" ;; # it was not needed
    74) once 'Stale file handle|Permission denied|Too many open files' && diff -r begun/checkpoints "$2/checkpoints" >>out &&
        diff begun/metrics.csv "$2/metrics.csv" >>out ;;
    *) false ;;
    esac && goes_on "$1" "$2" && grep -q 'resuming from the checkpoint of step 3,' "$2/log.txt"
}
base=begun
walk 'a stale handle of a checkpoint at rank 0' 0:read@checkpoints 1 84 ESTALE resumes
walk 'a checkpoint that rank 1 may not read' 1:read@checkpoints 1 43 EACCES resumes
walk 'too many open files at rank 0' 0:read@checkpoints 2 111 EMFILE resumes
walk 'metrics.csv cannot be looked for' 0:fstatat@metrics.csv 1 1 ESTALE resumes
walk 'async: rank 0, a full disk' 0:file@checkpoints 60 900 ENOSPC+ saves
walk 'sync: rank 1, a full disk' 1:file@checkpoints 20 900 ENOSPC+ saves --checkpoint sync
walk 'fsync fails on rank 0' 0:fsync@checkpoints 3 100 EIO saves
walk 'a rename fails on rank 0' 0:renameat@checkpoints 1 100 EIO saves
walk 'a write that takes one byte' 1:pwrite@checkpoints 20 900 short finishes
walk 'a checkpoint that cannot be made' 0:openat@step-000004 1 0 ENOSPC saves
if [ "${STRIDE-}" ]; then
    walk 'sync: rank 0, a full disk' 0:file@checkpoints 1 1 ENOSPC+ saves --checkpoint sync
    walk 'async: rank 1, a full disk' 1:file@checkpoints 1 1 ENOSPC+ saves
    walk 'one call fails on rank 0' 0:file@checkpoints 1 1 EIO saves
    walk 'one call fails on rank 1' 1:file@checkpoints 1 1 EIO saves --checkpoint sync
    walk 'a file cannot be read' 0:read 1 1 EIO reads
    walk 'a write that a signal ends' 0:pwrite@checkpoints 1 1 EINTR finishes
fi

# ---- data: the state before the step that needs them is good, and is kept
keeps()
{
    [ "$status" -eq 74 ] && once 'tokens.h5: cannot be read at byte .* the checkpoint of step .* is kept' && whole_checkpoints "$2" &&
        [ -f "$2/checkpoints/step-$(printf %06d "$(last_step "$2")").h5" ] && goes_on "$1" "$2"
}
waits()
{
    [ "$status" -eq 0 ] && same_bits "$1.whole" "$2" &&
        grep -q 'rank 1 (node .*) has been waiting for a file system for 1[2-5] s, in load data' "$2/log.txt"
}
build data tiny pp2 train.steps=40
train 2 data data.whole
base='' job_name=data
walk 'data that rank 0 cannot read' 0:pread@tokens.h5 100 200 EIO keeps
walk 'data that rank 1 cannot read' 1:pread@tokens.h5 101 200 EIO keeps
export PIPER_FAULT_LATE=15
within=60
walk 'data that come after 15 s' 1:pread@tokens.h5 100 0 late waits --hang-timeout 1
within=20 base=begun job_name=pp2

# ---- the other files of a run
# writer FILE SENTENCE FIRST
writer()
{
    said=$2
    walk "$1: a full disk" "0:file@$1" "$3" 100 ENOSPC+ writes
}
writes()
{
    case $status in
    0) same_bits "$1.whole" "$2" ;;
    74) once "$said" ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
writer metrics.csv metrics.csv 6
writer trace.0 trace.0000.h5 5
writer log.txt log.txt 5
writer job.h5 job.h5 1
if [ "${STRIDE-}" ]; then
    writer ring ring 1
    writer lock lock 2
fi

# ---- memory and threads
base=
memory()
{
    [ "$status" -eq 71 ] && once 'out of host memory|cannot allocate .* MiB' &&
        { [ -z "$(find "$2" -name 'step-*.h5' 2>/dev/null)" ] || whole_checkpoints "$2"; } # it may be in the first one
}
walk 'memory of rank 0' 0:mem 200 900 ENOMEM memory
walk 'memory of rank 1' 1:mem 7 900 ENOMEM memory
walk 'mapped memory of rank 1' 1:mmap 1 900 ENOMEM memory
threads()
{
    case $status in
    0) same_bits "$1.whole" "$2" ;; # it is done without
    71) once 'thread|cannot start' ;;
    *) false ;;
    esac
}
walk 'a thread of rank 0' 0:pthread_create 5 900 ENOMEM threads

# ---- MPI
base=begun
lost()
{
    case $status in
    0) ;; # at the very end
    76 | 71) once 'MPI' ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
# everything is done; mpirun minds that a rank left without a farewell
over()
{
    [ "$status" -le 1 ] && whole_checkpoints "$2" && [ "$(last_step "$2")" -eq 4 ] && goes_on "$1" "$2"
}
walk 'MPI_Iallreduce fails on rank 1' 1:MPI_Iallreduce 10 900 ERR lost
if [ "${STRIDE-}" ]; then
    walk 'MPI_Ibcast fails on rank 0' 0:MPI_Ibcast 1 1 ERR lost
    for name in Init_thread Comm_dup Comm_split Ibcast Ibarrier Iallgather Isend Irecv Send Recv; do
        walk "MPI_$name fails on rank 1" 1:MPI_$name 1 1 ERR lost
    done
    walk 'MPI_Finalize fails on rank 1' 1:MPI_Finalize 1 1 ERR over
fi

# ---- a rank that stops, leaves or computes without end, at some call of MPI, in whichever thread
random()
{
    echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}
# The watch may have no time to say why when mpirun ends all at once.
gone()
{
    case $status in
    76) once "$blamed" ;;
    1 | 137) [ "$may_be_silent" -eq 1 ] && { ! grep -q '^piper: ' out || once 'rank 1'; } ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
# strikes WHAT CALL FIRST: at one of 1000 calls from FIRST on
strikes()
{
    within=60
    walk "rank 1: $1" "1:$2" $(($3 + $(random 1000))) 0 "$1" gone --hang-timeout 1
}
build long tiny pp2 train.steps=60 train.checkpoint_every=1 train.checkpoint_keep=2
train 2 long long.whole && cp -r begun long.begun
job_name=long base=long.begun
k=0
while [ $k -lt "${STRIKES:-1}" ]; do
    may_be_silent=0 blamed='rank 1'
    strikes stop mpi 1
    # within steps: outside of them a long time is no fault. Who is in the same collective as the others is not told from them
    blamed='rank 1|Every rank waits and none computes: .* the MPI library'
    [ -z "${STRIDE-}" ] || strikes spin MPI_Testall 1000
    may_be_silent=1 blamed='rank 1'
    strikes kill mpi 1
    [ -z "${STRIDE-}" ] || strikes exit mpi 1
    k=$((k + 1))
done
echo "# the slowest run took $slowest ms"
echo "1..$n"
