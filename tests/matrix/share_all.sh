#!/bin/sh
# time-limit: 7200
# Shared sequences, drawn 25 times: see share.sh.
SEEDS=25 exec sh "${top_srcdir:-.}"/tests/matrix/share.sh
