#!/bin/sh
# time-limit: 600
# Every call that can fail does: what is said, how it ends, what is left, and that the same command then goes on. A sample
# with strides; STRIDE=1 (tests/fault/fault_all.sh) takes every call.
. "${top_srcdir:-.}"/tests/fault/lib.sh || exit 99
# stride N: N, or less where all are asked for
stride()
{
    echo $((${STRIDE:-$1} < $1 ? STRIDE : $1))
}

job_name=pp2
build pp2 tiny pp2 train.steps=4 train.checkpoint_every=1 train.checkpoint_keep=2 'train.trace_steps=[4]'
train 2 pp2 pp2.whole && train 2 pp2 begun --steps 3 || { echo "Bail out! training failed"; cat out; exit 1; }

# ---- checkpoints: the old ones stay, and it goes on; or nothing was lost by the failure
saves()
{
    case $status in
    0) ;;
    74) once "$2/checkpoints" ;;
    *) false ;;
    esac && whole_checkpoints "$2" && [ "$(checkpoints "$2")" -ge 2 ] && goes_on "$1" "$2"
}
base=begun
for how in async sync; do
    walk "$how: rank 0, a full disk" 0:file@checkpoints 9 "$(stride 67)" ENOSPC+ saves --checkpoint $how
    walk "$how: rank 1, a full disk" 1:file@checkpoints 5 "$(stride 47)" ENOSPC+ saves --checkpoint $how
done
walk 'fsync fails on rank 0' 0:fsync@checkpoints 1 "$(stride 2)" EIO saves
walk 'fsync fails on rank 1' 1:fsync@checkpoints 1 1 EIO saves
walk 'rename fails' 0:rename@checkpoints 1 1 EIO saves
walk 'open fails on rank 1' 1:open@checkpoints 1 "$(stride 2)" EIO saves
finishes()
{
    [ "$status" -eq 0 ] && same_bits "$1.whole" "$2"
}
walk 'a write that takes one byte' 1:pwrite@checkpoints 1 "$(stride 29)" short finishes
walk 'a write that a signal ends' 0:pwrite@checkpoints 1 "$(stride 67)" EINTR finishes

# ---- the other files of a run
# writer FILE SENTENCE
writer()
{
    said=$2
    walk "$1: a full disk" "0:file@$1" 1 "$(stride 2)" ENOSPC+ writes
}
writes()
{
    case $status in
    0) [ -z "$said" ] || same_bits "$1.whole" "$2" ;;
    74) once "$said" ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
writer metrics.csv metrics.csv
writer trace.0 trace.0000.h5
writer ring ring
writer lock lock
writer log.txt log.txt

# ---- memory and threads
base=
memory()
{
    [ "$status" -eq 71 ] && once 'out of host memory|the system does not give .* MiB of memory' &&
        { [ ! -d "$2/checkpoints" ] || whole_checkpoints "$2"; }
}
walk 'memory of rank 0' 0:mem 1 "$(stride 397)" ENOMEM memory
walk 'memory of rank 1' 1:mem 7 "$(stride 97)" ENOMEM memory
walk 'mapped memory of rank 1' 1:mmap 1 "$(stride 3)" ENOMEM memory
threads()
{
    case $status in
    0) same_bits "$1.whole" "$2" ;; # it is done without
    71) once 'thread' ;;
    *) false ;;
    esac
}
walk 'a thread of rank 0' 0:pthread_create 1 "$(stride 4)" ENOMEM threads

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
for name in Init_thread Comm_dup Ibcast Iallreduce Allreduce Bcast Barrier Isend Irecv Reduce; do
    walk "MPI_$name fails on rank 1" 1:MPI_$name 1 "$(stride 60)" ERR lost
done

# ---- a rank that stops, leaves or computes without end, at some call of MPI, in whichever thread
random()
{
    echo $(($(od -An -N4 -tu4 /dev/urandom) % $1))
}
gone()
{
    case $status in
    76) once "rank 1" ;;
    *) false ;;
    esac && whole_checkpoints "$2" && goes_on "$1" "$2"
}
build long tiny pp2 train.steps=40 train.checkpoint_every=1 train.checkpoint_keep=2
train 2 long long.whole && cp -r begun long.begun
job_name=long base=long.begun
for what in stop exit kill spin; do
    k=0
    while [ $k -lt $((STRIDE ? 25 : 1)) ]; do
        walk "rank 1: $what" 1:mpi $((1 + $(random 2000))) 1000000 $what gone --hang-timeout 2
        k=$((k + 1))
    done
done
echo "# the slowest run took $slowest ms"
echo "1..$n"
