#!/bin/sh
# time-limit: 3600
# 200 random moments.
KILLS=200 exec sh "${top_srcdir:-.}/tests/train/kill.sh"
