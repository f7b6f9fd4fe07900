#!/bin/sh
# time-limit: 3600
# HANG_TRIALS (50) times a random rank is stopped at a random moment: at start, in steps, while checkpoints are written. Prints
# how long it took.
. "${top_srcdir:-.}"/tests/train/lib.sh || exit 99
. "$src/tests/train/hang_lib.sh"

build long gpt2 pp2dp2 train.steps=1000000
build often gpt2 dp4 train.steps=1000000 train.checkpoint_every=1
build experts moe ep4 train.steps=1000000
# shellcheck disable=SC2034 # for stopped(); on a machine that is not loaded beyond this run
within=10
i=0
: >times.txt
while [ $i -lt "${HANG_TRIALS:-50}" ]; do
    case $((i % 5)) in
    0) stopped 4 long start ;;
    1 | 2) stopped 4 often $((1 + $(random 20))) ;;
    3) stopped 4 experts $((1 + $(random 200))) ;;
    4) stopped 4 long $((1 + $(random 500))) ;;
    esac
    result "trial $i"
    echo "$named $took" >>times.txt
    i=$((i + 1))
done
figures() # COLUMN WHAT
{
    cut -d' ' -f"$1" times.txt | sort -n | awk -v what="$2" '{ t[NR] = $1 } END { print "# " what ": median " t[int((NR + 1) / 2)] ", worst " t[NR] }'
}
figures 1 'milliseconds from the signal to the name'
figures 2 'milliseconds from the signal to the end of mpirun'
echo "1..$n"
