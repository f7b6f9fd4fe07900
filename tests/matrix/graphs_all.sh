#!/bin/sh
# time-limit: 3600
# 2,400 random graphs that share inputs and parameters, on 1 to 4 ranks: see graphs_test.c. Prints TAP.
n=0
for ranks in 1 2 3 4; do
    n=$((n + 1))
    if out=$(sh "${top_srcdir:-.}"/tests/run-mpi -t 900 "${top_builddir:-.}"/tests/matrix/graphs_test "$ranks" 600 1000 2>&1); then
        echo "ok $n - $out"
    else
        echo "not ok $n - $ranks ranks"
        echo "$out" | sed 's/^/# /'
    fi
done
echo "1..$n"
