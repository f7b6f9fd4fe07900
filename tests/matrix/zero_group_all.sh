#!/bin/sh
# time-limit: 3600
# Groups for ZeRO under every schedule, level and place of the optimizer's state: see zero_group.sh.
CELLS=all exec sh "${top_srcdir:-.}"/tests/matrix/zero_group.sh
