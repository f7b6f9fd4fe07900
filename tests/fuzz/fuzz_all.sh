#!/bin/sh
# time-limit: 7200
# 60,000 mutated files for every reader.
FUZZ_INPUTS=60000 exec sh "${top_srcdir:-.}/tests/fuzz/fuzz.sh"
