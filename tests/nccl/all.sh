#!/bin/sh
# time-limit: 1800
# The calls of NCCL for every schedule x ZeRO x experts, on a stand-in: test_nccl.c. Prints TAP.
n=0
for ranks in 4 8; do
    n=$((n + 1))
    if out=$(sh "${top_srcdir:-.}"/tests/run-mpi -t 800 "${top_builddir:-.}"/tests/nccl/test_nccl "$ranks" all 2>&1); then
        echo "ok $n - $ranks ranks: $out"
    else
        echo "not ok $n - $ranks ranks"
        echo "$out" | sed 's/^/# /'
    fi
done
echo "1..$n"
