#!/bin/sh
# time-limit: 900
# The other signals of signals.sh at every phase, on one rank and on four.
ALL=1
. "${top_srcdir:-.}"/tests/train/signals.sh
