#!/bin/sh
# time-limit: 300
# bfloat16 beside PyTorch's, every model (tests/parity/README); a few of them: tests/mpi/testlist.
. "${top_srcdir:-.}/tests/tap.sh" || exit 99
# shellcheck disable=SC2034 # of tap.sh
shown=$(mktemp) || exit 99
trap 'rm -f "$shown"' EXIT
sh "${top_srcdir:-.}/tests/run-mpi" -t 300 "${top_builddir:-.}/tests/parity/parity" 1 --bfloat16 >"$shown" 2>&1
result 'losses and gradients of every model: no farther from float32 than 1.2 times PyTorch'"'"'s'
echo "1..$n"
