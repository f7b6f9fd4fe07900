#!/bin/sh
# time-limit: 10800
# The whole matrix, as a printed table: see matrix.sh.
CELLS=all exec sh "${top_srcdir:-.}"/tests/matrix/matrix.sh
