#!/bin/sh
# All problems of tests/tune.sh.
# time-limit: 3600
PROBLEMS=20 exec sh "${top_srcdir:-.}/tests/tune.sh"
