#!/bin/sh
# time-limit: 9600
# All single-field mutants of compiled plans, one launch for each number of ranks: none that the checker accepts changes a result.
run=${top_srcdir:-.}/tests/run-mpi
program=${top_builddir:-.}/tests/mutants/plans
n=0
for ranks in 1 2 4; do
    n=$((n + 1))
    if "$run" -t 3000 "$program" "$ranks" >plans-$ranks.out 2>&1; then
        echo "ok $n - $ranks ranks: $(grep ' mutants, ' plans-$ranks.out)"
    else
        echo "not ok $n - $ranks ranks"
    fi
    sed 's/^/# /' plans-$ranks.out | tail -n 60
    rm -f plans-$ranks.out
done
echo 1..3
