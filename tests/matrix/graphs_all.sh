#!/bin/sh
# time-limit: 3600
# 2,400 random graphs that share inputs and parameters, on 1 to 4 ranks: see graphs_test.c.
n=0
for ranks in 1 2 3 4; do
    n=$((n + 1))
    if sh "${top_srcdir:-.}/tests/run-mpi" -t 900 tests/matrix/graphs_test $ranks 600 1000 >graphs.out 2>&1; then
        echo "ok $n - $(cat graphs.out)"
    else
        echo "not ok $n - $ranks ranks"
        sed 's/^/# /' graphs.out
    fi
done
rm -f graphs.out
echo "1..$n"
