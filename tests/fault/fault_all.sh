#!/bin/sh
# time-limit: 10800
# Every call.
STRIDE=${STRIDE:-1} STRIKES=${STRIKES:-25} exec sh "${top_srcdir:-.}/tests/fault/fault.sh"
