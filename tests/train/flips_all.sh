#!/bin/sh
# time-limit: 3600
# 200 bits that change in the memory of running ranks, one a run, each found; and 20,000 steps without one.
FLIPS=${FLIPS:-200} CLEAN=${CLEAN:-20000}
export FLIPS CLEAN
exec sh "${top_srcdir:-.}/tests/train/flips.sh"
