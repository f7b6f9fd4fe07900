#!/bin/sh
# time-limit: 3600
# Every cell of again.sh.
CELLS=all exec sh "${top_srcdir:-.}"/tests/matrix/again.sh
