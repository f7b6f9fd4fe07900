#!/bin/sh
# time-limit: 7200
# Every call.
STRIDE=1 exec sh "${top_srcdir:-.}/tests/fault/fault.sh"
