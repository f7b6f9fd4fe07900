#!/bin/sh
# time-limit: 14400
# 100,000 mutated files for every reader.
FUZZ_INPUTS=100000 exec sh "${top_srcdir:-.}/tests/fuzz/fuzz.sh"
