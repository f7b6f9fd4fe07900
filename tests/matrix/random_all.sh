#!/bin/sh
# time-limit: 7200
# 500 random strategies trained: see random.sh.
SEEDS=500 FIRST_SEED=1000 exec sh "${top_srcdir:-.}"/tests/matrix/random.sh
