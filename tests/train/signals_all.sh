#!/bin/sh
# time-limit: 900
# The other signals of signals.sh on four ranks.
ALL=1
. "${top_srcdir:-.}"/tests/train/signals.sh
